"""What of a snapshot can be compared, as data: what a list's rows are called, and what changes without meaning.

A key is dotted: ``torch_build.version``, ``package.numpy``, ``gpu.0.name``. Its pattern has ``*`` where a row's name
stands (``gpu.*.name``). Every field that is not named here is settled: it is compared everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

SETTLED = "settled"  # the same on machines that are set up alike, and from one day to the next
OWN = "own"  # one machine's or one user's: names, addresses, serial numbers, paths, counters that only grow
VOLATILE = "volatile"  # another value at each look: free memory, temperatures, clocks, times
LEFT_OUT = "left-out"  # follows from other fields, or words for a person


@dataclass(frozen=True, slots=True)
class Rows:
    """A list of rows: under which name they go, what names one row, and what one row is.

    ``by``: the fields that name a row; none: its place. ``value``: the one field that is compared, when a row is one
    value. ``file_name``: of a path that names a row only the last part counts. ``unless``: the field that, when it is
    true, leaves a row out.
    """

    name: str
    by: tuple[str, ...] = ()
    value: str = ""
    file_name: bool = False
    unless: str = ""


ROWS: dict[str, Rows] = {
    "packages.distributions": Rows("package", ("name",), "version"),
    "packages.shared_files": Rows("shared_file", ("path",), "owners"),
    "environment.variables": Rows("variable", ("name",), "value"),
    "gpu_state.gpus": Rows("gpu", ("index",)),
    "gpu.*.mig_devices": Rows("mig"),
    "nvidia_smi.gpus": Rows("smi_gpu", ("index",)),
    "cuda_driver.devices": Rows("cuda_device", ("index",)),
    "pci_bus.gpus": Rows("pci_gpu"),
    "pci_bus.nvswitches": Rows("pci_nvswitch"),
    "pci_bus.other_gpus": Rows("pci_other_gpu"),
    "fabric.infiniband": Rows("infiniband", ("device", "port")),
    "fabric.nics": Rows("nic", ("name",), unless="virtual"),
    "storage.mounts": Rows("mount", ("purpose",)),
    "device_nodes.gpus": Rows("node", ("path",), file_name=True),
    "device_nodes.nvswitches": Rows("node", ("path",), file_name=True),
    "device_nodes.tegra": Rows("node", ("path",), file_name=True),
    "driver_files.libcuda": Rows("libcuda", ("path",), "version"),
    "driver_files.nvml": Rows("libnvidia_ml", ("path",), "version"),
    "libraries.rows": Rows("library", ("name",)),
    "extensions.extensions": Rows("extension", ("distribution", "path"), file_name=True),
    "toolkit.nvcc": Rows("nvcc", ("path",), "version"),
    "toolkit.cudnn_headers": Rows("cudnn_header", ("path",), "version"),
    "torch_path.shadows": Rows("shadow", ("name",), "path"),
    "kernel_answers.attention": Rows("attention"),
    "kernel_answers.checks": Rows("kernel", ("name", "precision")),
    "torch_files.damaged": Rows("damaged_file", ("path",), "problem", file_name=True),
}
# Lists of pairs, each a name and its value.
PAIRS = {"container.image_versions": "image", "toolkit.nccl_conf": "nccl_conf"}
# Lists whose order means nothing.
SETS = frozenset(("mapped_libraries.paths", "device_nodes.caps", "device_nodes.groups", "fabric.acs_enabled_bridges"))

_OWN = """
    host.hostname host.is_root resources.processes_soft
    packages.executable packages.prefix packages.path packages.lock_file
    torch_build.location torch_import.file torch_path.found torch_path.namespaces shadow.*
    library.*.first.path library.*.first.real_path libraries.complaints
    library.*.mapped cuda_runtime.library
    gpu.*.uuid gpu.*.serial gpu.*.pci_address gpu.*.mig.*.uuid
    gpu.*.ecc_uncorrected_aggregate gpu.*.remapped_rows_correctable gpu.*.remapped_rows_uncorrectable
    pci_gpu.*.address pci_nvswitch.*.address pci_other_gpu.*.address infiniband.*.pci_address nic.*.pci_address
    mount.*.path mount.*.options node.*.major node.*.minor device_nodes.nvidiactl.major device_nodes.nvidiactl.minor
    device_nodes.uvm.major device_nodes.uvm.minor device_nodes.dxg.major device_nodes.dxg.minor device_nodes.groups
    driver_files.first_libcuda.size_bytes container.toolkit_mounts
"""
_VOLATILE = """
    resources.memory_available_mib resources.memory_cgroup_used_mib resources.shm_free_mib
    environment.names_not_collected torch_import.seconds torch_cuda.seconds cuda_driver.init_seconds
    cuda_runtime.seconds gpu_state.seconds
    gpu.*.memory_used_mib gpu.*.memory_free_mib gpu.*.memory_reserved_mib gpu.*.utilization_percent
    gpu.*.sm_clock_mhz gpu.*.memory_clock_mhz gpu.*.event_reasons gpu.*.temperature_celsius gpu.*.power_watts
    gpu.*.power_limit_enforced_watts gpu.*.ecc_corrected_volatile gpu.*.ecc_uncorrected_volatile
    gpu.*.pcie_generation gpu.*.pcie_replays mount.*.free_mib mount.*.free_inodes
    mapped_libraries.paths kernel.*.seconds kernel.*.rms_error kernel_answers.fingerprint.rms_error
    job.pid job.command job.executable job.same_python job.libraries job.deleted_libraries job.cgroup
    job.open_files_soft job.locked_memory_soft_kib job.threads job.user_id job.state job.resident_mib
    job.other_mount_namespace job.ended
"""
_LEFT_OUT = """
    nvidia_smi.words cuda_driver.init_words cuda_runtime.words gpu_state.init_words torch_import.printed
    torch_import.where torch_import.warnings torch_import.earlier_errors torch_cuda.warnings
    kernel_log.xids kernel_log.nvrm_lines gpu.*.processes gpu.*.index cuda_device.*.index smi_gpu.*.index
    torch_build.pins torch_build.metadata_version torch_files.checked_files torch_files.dist_infos
    library.*.name library.*.declared library.*.bundled library.*.driver_limit
    library.*.needed_versions library.*.first.requested_by library.*.first.owner libraries.openmp
    driver_files.first_libcuda.soname extension.*.distribution extension.*.path extension.*.unresolved
    infiniband.*.device infiniband.*.port nic.*.name nic.*.virtual mount.*.purpose
    node.*.path device_nodes.nvidiactl.path device_nodes.uvm.path device_nodes.dxg.path
    attention.*.config attention.*.refused attention.*.reason kernel.*.config kernel.*.reason kernel.*.name
    kernel_answers.fingerprint.reason kernel_answers.fingerprint.size kernel_answers.fingerprint.setting
    error_text.lines error_text.python_versions error_text.left_out
    packages.may_write
    wanted.requirements wanted.indexes wanted.channels wanted.images wanted.python wanted.variables wanted.locked
    pasted.formats pasted.remarks required.needs drift.rows drift.slower drift.not_compared drift.source drift.kind
    drift.saved drift.strict drift.compared drift.measured drift.ambiguous
"""
TRAITS: dict[str, str] = {
    pattern: trait
    for words, trait in ((_OWN, OWN), (_VOLATILE, VOLATILE), (_LEFT_OUT, LEFT_OUT))
    for pattern in words.split()
}
MEASURED = "bench_"  # how the keys of measurements begin: those are compared with statistics, not here
# By how much a number may differ and still be the same, as a fraction of the larger one. Firmware and kernels keep
# different parts of the same memory for themselves.
SLACK = {
    "resources.memory_total_mib": 0.02,
    "resources.shm_total_mib": 0.02,
    "resources.swap_total_mib": 0.02,
    "gpu.*.memory_total_mib": 0.01,
    "cuda_device.*.memory_total_mib": 0.01,
    "smi_gpu.*.memory_total_mib": 0.01,
    "mount.*.total_mib": 0.02,
}


def slack_of(key: str) -> float:
    """Give the fraction by which the number under this key may differ and still be the same."""
    top, _, rest = key.partition(".")
    return SLACK.get(key) or SLACK.get(f"{top}.*.{rest.rpartition('.')[2]}", 0.0)


def alike(first: object, second: object, slack: float) -> bool:
    """Tell whether two values are the same, or numbers no further apart than this fraction of the larger one."""
    if first == second:
        return True
    if isinstance(first, (int, float)) and isinstance(second, (int, float)) and slack:
        return abs(first - second) <= slack * max(abs(first), abs(second))
    return False
