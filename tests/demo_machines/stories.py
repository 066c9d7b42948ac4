"""The machines themselves: each a whole snapshot of an invented machine with one story to tell."""

from __future__ import annotations

from dataclasses import replace

from envdoctor.facts import Fact, key_of
from envdoctor.facts.driver import CudaRuntime, DriverFiles, KernelModule
from envdoctor.facts.gpu import PciBus
from envdoctor.facts.nvml import GpuState, XidEvent
from envdoctor.facts.torch import DamagedFile
from envdoctor.ledger import complete
from envdoctor.outcome import Absent, Got, Outcome
from envdoctor.plan import BUILT_IN
from envdoctor.snapshot import ProbeResult, Snapshot, Target
from tests.demo_machines import around, cards, stacks
from tests.demo_machines import hardware as hw
from tests.demo_machines.ledger import ledger

NOT_ASKED = "no NVIDIA device node: the driver is not asked"
NVML_NOT_ASKED = "no NVIDIA device node: asking NVML could create one"
CREATED = "2026-03-30T08:14:22+00:00"
LIVE = {"nvidia_smi", "cuda_driver", "cuda_runtime", "torch_import", "torch_cuda", "torch_settings",
        "mapped_libraries"}  # fmt: skip
SECONDS = {
    "packages": 0.031, "torch_files": 0.044, "torch_build": 0.012, "driver_files": 0.006, "nvidia_smi": 0.38,
    "libraries": 0.118, "extensions": 0.034, "gpu_state": 0.062, "gpu_fabric": 0.094, "kernel_log": 0.005,
    "cuda_driver": 0.71, "cuda_runtime": 0.74, "torch_import": 1.62, "torch_cuda": 0.66, "torch_settings": 0.05,
}  # fmt: skip


def record(*facts: Fact, absent: dict[str, str] | None = None, seconds: float = 2.4, python: str = "") -> Snapshot:
    """Give the snapshot of a machine: every planned probe answered, or was absent for the reason given."""
    own = {key_of(type(each)): each for each in facts}
    by_key = {key_of(type(each)): each for each in around.everything(own)} | own
    absent = {"job": around.NO_JOB, **(absent or {})}
    probes = tuple(
        ProbeResult(each.name, each.fact, _outcome(each.fact, absent), 0.0 if each.fact in absent else
                    SECONDS.get(each.fact, 0.002))
        for each in BUILT_IN if each.fact in by_key or each.fact in absent
    )  # fmt: skip
    target = Target(python=python)
    snapshot = Snapshot(target, "standard", CREATED, by_key, probes, elapsed_seconds=seconds, overhead_seconds=0.3)
    return complete(snapshot)


def _outcome(fact: str, absent: dict[str, str]) -> Outcome:
    return Absent(absent[fact]) if fact in absent else Got("fresh-process" if fact in LIVE else "file")


def h100x8_healthy() -> Snapshot:
    """Eight H100 behind four NVSwitches, driver 580, fabric manager running, torch 2.9 for CUDA 12.8."""
    driver, prefix, python = "580.95.05", "/opt/venvs/train", "3.12.3"
    site, name = f"{prefix}/lib/python3.12/site-packages", "NVIDIA H100 80GB HBM3"
    slots = ("18", "2a", "3a", "5d", "9a", "ab", "ba", "db")
    installed = {**stacks.PLAIN, **stacks.CU128, "torch": "2.9.0+cu128", "torchvision": "0.24.0+cu128"}
    runtime = f"{site}/nvidia/cuda_runtime/lib/libcudart.so.12"
    return record(
        hw.ubuntu("hgx-03", "24.04.3", "6.8.0-79-generic", "2.39"),
        hw.resources("Intel(R) Xeon(R) Platinum 8480C", 224, 2_063_812),
        hw.environment(CUDA_DEVICE_ORDER="PCI_BUS_ID", OMP_NUM_THREADS="14"),
        hw.bus("2330", slots, nvswitches=("07", "08", "09", "0a")), cards.state(cards.H100, slots, driver, "13.0"),
        cards.fabric(8, links=18, switch=True), cards.QUIET_LOG,
        around.fabric(rails=8, numa_nodes=2, dmabuf=True),
        hw.nodes(8, nvswitches=4), hw.module(driver, flavor="open", fabric_manager=True), hw.driver_files(driver),
        hw.smi(driver, "13.0", name, 8, 81559, "9.0"), hw.libcuda(driver, "13.0", name, 8, 81079, "9.0"),
        hw.cudart(runtime, "12.8", "13.0", 8), stacks.packages(prefix, python, installed), stacks.path(site),
        stacks.build(site, "2.9.0+cu128", "12.8", stacks.CU128, "3.12"), stacks.files("2.9.0+cu128", 12411),
        ledger(site, stacks.CU128, installed, glibc="2.39", glibcxx="3.4.33"),
        stacks.imported(site, "2.9.0+cu128", 1.58), stacks.sees(name, 8, "9.0", "12.8"),
        stacks.settings(91002, "2.27.5", 14), stacks.tools("3.5.0", "3.12"),
        seconds=2.9, python=f"{prefix}/bin/python",
    )  # fmt: skip


def sick_gpu() -> Snapshot:
    """The same eight H100, but card 5 had an uncorrectable memory error and waits for a reset."""
    healthy = h100x8_healthy()
    state, address = healthy.facts["gpu_state"], "0000:ab:00"
    assert isinstance(state, GpuState)
    sick = replace(
        state.gpus[5], ecc_uncorrected_volatile=2, ecc_uncorrected_aggregate=2, remapped_rows_uncorrectable=1,
        remap_pending=True, recovery_action="gpu-reset",
    )  # fmt: skip
    words = "pid=48213, name=python, Contained: SM (0x1). RST: No, D-RST: No"
    events = (XidEvent(94, address, words, 5_412.0), XidEvent(63, address, "Row remapping pending", 5_411.6))
    gpus = (*state.gpus[:5], sick, *state.gpus[6:])
    lines = tuple(f"NVRM: Xid (PCI:{address}): {each.code}, {each.words}" for each in events)
    changed = {
        "host": replace(healthy.facts["host"], hostname="hgx-11"),  # type: ignore[call-arg]
        "gpu_state": replace(state, gpus=gpus),
        "kernel_log": replace(cards.QUIET_LOG, xids=events, nvrm_lines=lines),
    }
    return replace(healthy, facts={**healthy.facts, **changed})


def driver_470_under_cu130() -> Snapshot:
    """Four A100 under the last 470 driver; pip installed the newest torch, which is built with CUDA 13.0."""
    driver, prefix, python = "470.256.02", "/home/mira/venvs/vit", "3.11.9"
    site, name, version = f"{prefix}/lib/python3.11/site-packages", "NVIDIA A100-SXM4-80GB", "2.11.0+cu130"
    slots = ("01", "41", "81", "c1")
    installed = {**stacks.PLAIN, **stacks.CU130, "cuda-toolkit": "13.0.2", "cuda-bindings": "13.0.3",
                 "torch": version, "torchvision": "0.26.0+cu130"}  # fmt: skip
    words = (
        "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by "
        "downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx "
        "Alternatively, go to: https://pytorch.org to install a PyTorch version that has been compiled with your "
        "version of the CUDA driver."
    )
    refused = CudaRuntime(
        library=f"{site}/nvidia/cu13/lib/libcudart.so.13", linked_statically=False, runtime_version="13.0",
        driver_version="11.4", code=35, name="cudaErrorInsufficientDriver", seconds=0.03,
        words="CUDA driver version is insufficient for CUDA runtime version",
        unknown={"device_count": "cudaGetDeviceCount failed with 35 cudaErrorInsufficientDriver"},
    )  # fmt: skip
    return record(
        hw.ubuntu("lab-a100-2", "20.04.6", "5.15.0-139-generic", "2.31"),
        hw.resources("AMD EPYC 7543 32-Core Processor", 64, 515_638),
        hw.environment(), hw.bus("20b2", slots), hw.nodes(4), hw.module(driver), hw.driver_files(driver),
        cards.state(cards.A100, slots, driver, "11.4"), cards.fabric(4, links=12, version=3, old_driver=True),
        cards.QUIET_LOG, hw.smi(driver, "11.4", name, 4, 81251, "8.0"),
        hw.libcuda(driver, "11.4", name, 4, 81251, "8.0"),
        refused, stacks.packages(prefix, python, installed), stacks.path(site),
        stacks.build(site, version, "13.0", stacks.CU130, "3.11"), stacks.files(version, 12908),
        ledger(site, stacks.CU130, installed, glibc="2.31", glibcxx="3.4.28"),
        stacks.imported(site, version, 1.71),
        stacks.sees_nothing(words, warnings=(f"CUDA initialization: {words}",)),
        stacks.settings(91900, "2.28.9", 32), stacks.tools("3.6.0", "3.11"),
        seconds=2.3, python=f"{prefix}/bin/python",
    )  # fmt: skip


def cpu_only() -> Snapshot:
    """A laptop without an NVIDIA GPU and the CPU build of torch: healthy."""
    prefix, python, version = "/home/jo/thesis/.venv", "3.12.3", "2.13.0+cpu"
    site, gone, nvml = f"{prefix}/lib/python3.12/site-packages", NOT_ASKED, NVML_NOT_ASKED
    installed = {**stacks.PLAIN, "torch": version, "torchvision": "0.28.0+cpu"}
    return record(
        hw.ubuntu("thinkpad-jo", "24.04.3", "6.14.0-29-generic", "2.39"),
        hw.resources("AMD Ryzen 7 PRO 7840U w/ Radeon 780M Graphics", 16, 31_310, open_files_soft=1024),
        hw.environment(), PciBus(readable=True), replace(hw.NO_NODES, groups=(1000,)),
        KernelModule(loaded=False, uvm_loaded=False, nouveau_loaded=False, peermem_loaded=False),
        DriverFiles(unknown={"nvidia_smi": "not on PATH", "first_libcuda": "no libcuda.so.1 in the search order"}),
        stacks.packages(prefix, python, installed), stacks.path(site), stacks.build(site, version, None, {}, "3.12"),
        stacks.files(version, 11980),
        ledger(site, {}, installed, glibc="2.39", glibcxx="3.4.33"), stacks.imported(site, version, 1.37),
        stacks.sees_nothing("Torch not compiled with CUDA enabled", "AssertionError"),
        stacks.settings(None, None, 8), stacks.tools(None, "3.12"),
        cards.CLOSED_LOG,
        absent={"nvidia_smi": gone, "cuda_driver": gone, "gpu_state": nvml, "gpu_fabric": nvml,
                "cuda_runtime": "this torch has no CUDA in it"},
        seconds=1.8, python=f"{prefix}/bin/python",
    )  # fmt: skip


def broken_import() -> Snapshot:
    """A cloud machine with one L4; the disk was full while pip unpacked cuDNN, and the file is empty."""
    driver, prefix, python = "570.172.08", "/home/ubuntu/env", "3.10.12"
    site, name, version = f"{prefix}/lib/python3.10/site-packages", "NVIDIA L4", "2.9.0+cu128"
    installed = {**stacks.PLAIN, "networkx": "3.4.2", "numpy": "2.2.6", **stacks.CU128, "torch": version}
    library = "nvidia/cudnn/lib/libcudnn.so.9"
    damaged = DamagedFile(library, "nvidia-cudnn-cu12", "empty", "104664 bytes", "0 bytes")
    failed = f"{site}/{library}: file too short"
    runtime = f"{site}/nvidia/cuda_runtime/lib/libcudart.so.12"
    return record(
        hw.ubuntu("vm-l4-train", "22.04.5", "6.8.0-1031-gcp", "2.35", virtualization="kvm"),
        hw.resources("Intel(R) Xeon(R) CPU @ 2.20GHz", 8, 32_089, swap_total_mib=0),
        hw.environment(), hw.bus("27b8", ("00",)), cards.state(cards.L4, ("00",), driver, "12.8"), cards.fabric(1),
        cards.QUIET_LOG, hw.nodes(1), hw.module(driver, flavor="open"),
        hw.driver_files(driver), hw.smi(driver, "12.8", name, 1, 23034, "8.9"),
        hw.libcuda(driver, "12.8", name, 1, 22564, "8.9"), hw.cudart(runtime, "12.8", "12.8", 1),
        stacks.packages(prefix, python, installed), stacks.path(site),
        stacks.build(site, version, "12.8", stacks.CU128, "3.10"),
        replace(stacks.files(version, 12397), damaged=(damaged,)),
        ledger(site, stacks.CU128, installed, glibc="2.35", glibcxx="3.4.30"),
        stacks.import_error(failed, f"{site}/torch/__init__.py, line 442, in <module>", 0.41),
        stacks.tools("3.5.0", "3.10"),
        absent=dict.fromkeys(("torch_cuda", "torch_settings", "mapped_libraries"), "torch was not imported"),
        seconds=1.4, python=f"{prefix}/bin/python",
    )  # fmt: skip


def container_without_gpus() -> Snapshot:
    """A container on a machine with four L40S, started without them: the bus shows cards, /dev does not."""
    driver, prefix, python = "570.172.08", "/usr/local", "3.11.13"
    site, version = "/usr/local/lib/python3.11/site-packages", "2.9.0+cu128"
    installed = {**stacks.PLAIN, **stacks.CU128, "torch": version, "torchvision": "0.24.0+cu128"}
    gone, nvml = NOT_ASKED, NVML_NOT_ASKED
    words = (
        "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver "
        "from http://www.nvidia.com/Download/index.aspx"
    )
    host = hw.ubuntu("9f2c61d0a7be", "22.04.5", "6.8.0-71-generic", "2.36", container="docker", is_root=True)
    environment_of_root = replace(stacks.packages(prefix, python, installed), environment_kind="system")
    return record(
        replace(host, os_id="debian", os_version="12", os_name="Debian GNU/Linux 12 (bookworm)"),
        hw.resources("AMD EPYC 9354 32-Core Processor", 128, 773_452, shm_total_mib=64, shm_free_mib=64,
                     locked_memory_soft_kib=8192, locked_memory_hard_kib=8192),
        hw.environment(), hw.bus("26b9", ("21", "41", "a1", "c1")), hw.NO_NODES,
        replace(hw.module(driver, flavor="open"), on_disk_version=None,
                unknown={"on_disk_version": "no /lib/modules here", "fabric_manager_version": "not visible here"}),
        DriverFiles(unknown={"nvidia_smi": "not on PATH", "first_libcuda": "no libcuda.so.1 in the search order"}),
        environment_of_root, stacks.path(site), stacks.build(site, version, "12.8", stacks.CU128, "3.11"),
        stacks.files(version, 12411),
        ledger(site, stacks.CU128, installed, glibc="2.36", glibcxx="3.4.30"),
        stacks.imported(site, version, 1.49), stacks.sees_nothing(words),
        stacks.settings(91002, "2.27.5", 64), replace(stacks.tools("3.5.0", "3.11"), python_headers=None),
        replace(cards.QUIET_LOG, readable=False, sources={}, unknown={"xids": "/dev/kmsg: Operation not permitted"}),
        absent={"nvidia_smi": gone, "cuda_driver": gone, "cuda_runtime": gone, "gpu_state": nvml, "gpu_fabric": nvml},
        seconds=2.0, python=f"{prefix}/bin/python",
    )  # fmt: skip


def wheel_drift() -> Snapshot:
    """A workstation whose packages went separate ways: torch was upgraded alone, cuDNN and NCCL were moved."""
    driver, prefix, python = "575.64.03", "/home/sam/envs/diffusion", "3.11.9"
    site, name, version = f"{prefix}/lib/python3.11/site-packages", "NVIDIA GeForce RTX 4090", "2.7.1+cu126"
    drifted = {"nvidia-cudnn-cu12": "9.1.0.70", "nvidia-nccl-cu12": "2.27.5"}
    installed = {**stacks.PLAIN, **stacks.CU126, **drifted, "torch": version,
                 "torchvision": "0.21.0+cu124", "torchaudio": "2.6.0+cu124"}  # fmt: skip
    runtime = f"{site}/nvidia/cuda_runtime/lib/libcudart.so.12"
    return record(
        hw.ubuntu("sam-desk", "22.04.5", "6.8.0-64-generic", "2.35"),
        hw.resources("AMD Ryzen 9 7950X 16-Core Processor", 32, 128_703), hw.environment(),
        hw.bus("2684", ("01", "02"), class_code="030000"),
        cards.state(cards.RTX_4090, ("01", "02"), driver, "12.9"), cards.fabric(2), cards.QUIET_LOG,
        hw.nodes(2), hw.module(driver, flavor="open"),
        hw.driver_files(driver), hw.smi(driver, "12.9", name, 2, 24564, "8.9"),
        hw.libcuda(driver, "12.9", name, 2, 24082, "8.9"), hw.cudart(runtime, "12.6", "12.9", 2),
        stacks.packages(prefix, python, installed), stacks.path(site),
        stacks.build(site, version, "12.6", stacks.CU126, "3.11"), stacks.files(version, 12051), around.old_abi(site),
        ledger(site, stacks.CU126, installed, glibc="2.35", glibcxx="3.4.30"),
        stacks.imported(site, version, 1.44), stacks.sees(name, 2, "8.9", "12.6"),
        stacks.settings(90100, "2.27.5", 16), stacks.tools("3.3.1", "3.11"),
        seconds=2.2, python=f"{prefix}/bin/python",
    )  # fmt: skip
