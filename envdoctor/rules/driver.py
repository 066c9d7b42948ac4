"""Do the parts of the driver belong together: kernel module, user-space libraries, and the fabric manager."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, CudaRuntime, DriverFiles, DriverLibrary, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Host
from envdoctor.facts.nvml import GpuFabric, GpuState
from envdoctor.facts.torch import TorchCuda
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.knowledge.cuda import numbers
from envdoctor.remedy import driver as ways
from envdoctor.remedy.variables import administer
from envdoctor.rule import Missing, NotApplicable, Unknown, known, rule
from envdoctor.rules.answers import NOT_READY, SYSTEM_DRIVER_MISMATCH, answered, evidence_of
from envdoctor.rules.presence import in_container, need_gpu, need_native_driver, seen_working

WAITING = frozenset({"not-started", "in-progress"})  # NVML's words for a fabric that nobody has set up yet
NVML_VERSION_MISMATCH = 18  # NVML_ERROR_LIB_RM_VERSION_MISMATCH, which nvidia-smi gives as its exit code
MISMATCH_WORDS = re.compile(r"driver/library version mismatch", re.IGNORECASE)
LIBRARY_VERSION = re.compile(r"NVML library version:\s*([\d.]+)")


@rule(severity=Severity.ERROR, group="driver", essential=True)
def driver_library_mismatch(
    module: KernelModule | None,
    files: DriverFiles | None,
    smi: NvidiaSmi | None,
    state: GpuState | None,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    cuda: TorchCuda | None,
    host: Host | None,
) -> Iterator[Finding]:
    """The NVIDIA kernel module and the driver's user-space libraries have different versions.

    ## What it means
    The loaded kernel module and libcuda come from two different drivers. Mostly the packages were upgraded while the
    old module stayed loaded. In a container, driver libraries of the image hide the host's.

    ## Why it matters
    Every new program that uses the GPU fails, while programs that already run go on. nvidia-smi says "Driver/library
    version mismatch", CUDA says 803.

    ## How it is detected
    /proc/driver/nvidia/version against the version in the file name of the first libcuda that the loader finds; error
    803 of cuInit or libcudart when no cuda-compat library is first; error 18 of NVML's nvmlInit; exit code 18 or the
    words of nvidia-smi.
    Where CUDA was seen to start, nothing is reported.

    ## What to do
    Restart the machine, or unload and load the modules when nothing uses the GPUs. In a container remove the driver
    packages from the image: the container toolkit brings the host's libraries.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceEnumvs.html
    https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TYPES.html
    """
    need_native_driver(host)
    if seen_working(cuda, runtime, driver):
        return
    said = (*_smi_says(smi), *_nvml_says(state), *_cuda_says(driver, runtime, cuda, files))
    if module is None and not said:
        raise Missing(KernelModule)
    module, library = module or KernelModule(), _library(files)
    if not said and not _differ(module, library):
        _need_versions(module, library, files, asked=answered(driver, runtime))
        return
    yield Finding(
        "The driver's kernel module and its libraries have different versions",
        _where_from(module, files, host),
        evidence=(*_versions(module, files, library, smi), *said),
        fixes=_mismatch_fixes(library, host),
        confidence=Confidence.CERTAIN if said else Confidence.LIKELY,
    )


def _smi_says(smi: NvidiaSmi | None) -> tuple[Evidence, ...]:
    if smi is None or not (smi.exit_code == NVML_VERSION_MISMATCH or MISMATCH_WORDS.search(smi.words)):
        return ()
    words = next((line for line in smi.words.splitlines() if MISMATCH_WORDS.search(line)), "") or "exit code 18"
    return (see(smi, "words", "nvidia-smi says", words.strip()),)


def _nvml_says(state: GpuState | None) -> tuple[Evidence, ...]:
    if state is None or state.init_code != NVML_VERSION_MISMATCH:
        return ()
    return (see(state, "init_words", "NVML says", f"error {state.init_code}: {state.init_words}"),)


def _cuda_says(
    driver: CudaDriver | None, runtime: CudaRuntime | None, cuda: TorchCuda | None, files: DriverFiles | None
) -> tuple[Evidence, ...]:
    if files and files.first_libcuda and files.first_libcuda.compat:
        return ()  # then it is the compatibility library that does not fit: forward-compat-unsupported
    return evidence_of(SYSTEM_DRIVER_MISMATCH, driver, runtime, cuda)


def _library(files: DriverFiles | None) -> DriverLibrary | None:
    """Give the library to compare: the first libcuda unless it is a compat or stub one, else the first NVML."""
    if files is None:
        return None
    first = files.first_libcuda
    if first and (first.compat or first.stub):
        return None
    return first if first and first.version else next((each for each in files.nvml if each.version), first)


def _versions(
    module: KernelModule, files: DriverFiles | None, library: DriverLibrary | None, smi: NvidiaSmi | None
) -> tuple[Evidence, ...]:
    told = LIBRARY_VERSION.search(smi.words) if smi else None
    found = [see(module, "version", "kernel module")] if module.version else []
    if files and library and library.version:
        found.append(see(files, "first_libcuda", "library", f"{library.version} ({library.path})"))
    elif smi and told:
        found.append(see(smi, "words", "NVML library", told[1]))
    return tuple(found)


def _differ(module: KernelModule, library: DriverLibrary | None) -> bool:
    return bool(module.version and library and library.version and module.version != library.version)


def _need_versions(
    module: KernelModule, library: DriverLibrary | None, files: DriverFiles | None, *, asked: bool
) -> None:
    """End the rule where neither both versions nor an answer of CUDA could be compared."""
    if module.loaded is False:
        raise NotApplicable("no NVIDIA kernel module is loaded")
    if files and not files.libcuda and not files.nvml:
        raise NotApplicable("no driver library is found, so there is none to compare")
    if asked or (library and library.version and module.version):
        return
    if not module.version:
        raise Unknown(module.unknown.get("version", "the version of the loaded kernel module is not known"))
    raise Unknown((files and files.unknown.get("first_libcuda")) or "the version of the first libcuda is not known")


def _where_from(module: KernelModule, files: DriverFiles | None, host: Host | None) -> str:
    fitting = [each for each in (files.libcuda if files else ()) if each.version and each.version == module.version]
    if fitting:
        return f"A libcuda that fits the kernel module lies at {fitting[0].path}, but it is found later."
    if in_container(host):
        return "The image brings driver libraries of its own, which hide those of the host."
    return "Most likely the driver was upgraded and the machine was not restarted since."


def _mismatch_fixes(library: DriverLibrary | None, host: Host | None) -> tuple[Fix, ...]:
    if in_container(host):
        branch = ((library and library.version) or "").partition(".")[0]
        name = f"libnvidia-compute-{branch}" if branch else "'libnvidia-compute-*'"
        remove = Fix(
            "Remove the driver libraries from the image: the container toolkit brings the host's",
            (Command(None, f"apt-get purge -y {name}"),),
            Safety.ADMIN,
            "packages of this container",
            needs_root=True,
        )
        return (remove, ways.reboot("If the host was upgraded: restart the host"))
    return (ways.reboot("Restart the machine, so that the new module is loaded"), ways.reload_modules())


@rule(severity=Severity.ERROR, group="driver", essential=True)
def fabric_manager_missing(
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    cuda: TorchCuda | None,
    host: Host | None,
    links: GpuFabric | None,
) -> Iterator[Finding]:
    """The GPUs are joined by NVSwitch, and no fitting fabric manager has set the switches up.

    ## What it means
    On HGX and DGX machines the fabric manager must program the NVSwitches before CUDA starts. It is not installed, not
    running, of another version than the driver, or still at work just after boot.

    ## Why it matters
    CUDA refuses to start with error 802, "system not yet initialized", although nvidia-smi works.

    ## How it is detected
    Error 802 of cuInit or libcudart. Without such an answer: NVSwitch devices on the PCI bus of a host, with no fabric
    manager among the processes or one of another version than the module; or NVML says of a GPU that its fabric has not
    been set up, which newer machines tell inside containers too. Where CUDA was seen to start, nothing is
    reported: in a virtual machine the fabric manager may run outside.

    ## What to do
    Install the fabric manager of exactly the driver's version and start it. Just after boot, wait a minute and check
    again. On a GPU in confidential-computing mode 802 means that the GPU was not set ready.

    ## Sources
    https://docs.nvidia.com/datacenter/tesla/fabric-manager-user-guide/
    https://github.com/pytorch/pytorch/issues/35710
    """
    need_gpu(bus, nodes, module, None, driver)
    if seen_working(cuda, runtime, driver):
        return
    said = evidence_of(NOT_READY, driver, runtime, cuda)
    derived = (*_not_running(bus, module, host), *_fabric_waits(links))
    if not said and not derived:
        if not answered(driver, runtime) and not (bus and bus.readable):
            raise Missing(CudaDriver)
        return
    version = module.version if module else None
    yield Finding(
        _fabric_title(module),
        "" if (bus and bus.nvswitches) else "No NVSwitch is visible here; newer machines and containers hide them.",
        evidence=(*said, *derived),
        fixes=ways.start_fabric_manager(host, version),
        confidence=Confidence.CERTAIN if said and derived else Confidence.LIKELY,
    )


def _not_running(bus: PciBus | None, module: KernelModule | None, host: Host | None) -> tuple[Evidence, ...]:
    """Give what shows a missing or unfit fabric manager; a container cannot see the host's processes."""
    if not (bus and bus.nvswitches and module and module.loaded) or in_container(host):
        return ()
    switches = see(bus, "nvswitches", "NVSwitches on the PCI bus", len(bus.nvswitches))
    if module.fabric_manager_running is False:
        return (switches, see(module, "fabric_manager_running", "fabric manager", "not running"))
    if _versions_differ(module):
        fabric = see(module, "fabric_manager_version", "fabric manager")
        return (switches, fabric, see(module, "version", "kernel module"))
    return ()


def _fabric_waits(links: GpuFabric | None) -> tuple[Evidence, ...]:
    """Give what NVML says of GPUs whose fabric is not set up; GPUs without one say not-supported, or nothing."""
    states = links.fabric_states if links else ()
    waiting = [f"GPU {number}: {state}" for number, state in enumerate(states) if state in WAITING]
    return (see(links, "fabric_states", "NVLink fabric", ", ".join(waiting)),) if links and waiting else ()


def _versions_differ(module: KernelModule) -> bool:
    ours, theirs = module.version, module.fabric_manager_version
    return bool(ours and theirs and ours != theirs.partition("-")[0])


def _fabric_title(module: KernelModule | None) -> str:
    if module and module.fabric_manager_running is not False and _versions_differ(module):
        return "CUDA waits for the NVSwitch fabric: the fabric manager is of another version than the driver"
    return "CUDA waits for the NVSwitch fabric: the fabric manager is not running"


@rule(severity=Severity.WARNING, group="driver")
def driver_upgrade_pending(
    module: KernelModule, files: DriverFiles | None, smi: NvidiaSmi | None, host: Host | None
) -> Iterator[Finding]:
    """A newer NVIDIA kernel module lies on disk than the one that is loaded.

    ## What it means
    The driver was upgraded half way: the next boot loads another module than the one that runs now, while the
    libraries of user space still belong to the old one.

    ## Why it matters
    Everything works until the next upgrade step or the next boot. Then module and libraries differ, and no CUDA
    program starts.

    ## How it is detected
    The version of nvidia.ko on disk for the running kernel (its own record, or what DKMS built) is newer than
    /proc/driver/nvidia/version, and the libraries still have the loaded version. Where they do not,
    driver-library-mismatch reports it.

    ## What to do
    Finish the upgrade, so that module and libraries have one version, and restart when the job allows. To keep driver
    packages from being upgraded by themselves, hold them.

    ## Sources
    https://docs.nvidia.com/datacenter/tesla/driver-installation-guide/
    """
    need_native_driver(host)
    if in_container(host):
        raise NotApplicable("a container does not boot from the modules on its disk")
    if module.loaded is False:
        raise NotApplicable("no NVIDIA kernel module is loaded")
    loaded, on_disk = numbers(known(module, "version")), numbers(known(module, "on_disk_version"))
    if loaded is None or on_disk is None or on_disk <= loaded or _smi_says(smi):
        return
    library = _library(files)
    if library is None or library.version is None:
        raise Unknown("the version of the driver's libraries is not known")
    if _differ(module, library):
        return
    yield Finding(
        f"Driver {module.on_disk_version} waits on disk for the next boot, while {module.version} runs",
        evidence=(*_versions(module, files, library, smi), see(module, "on_disk_version", "kernel module on disk")),
        fixes=_finish_upgrade(host),
        confidence=Confidence.LIKELY,
    )


def _finish_upgrade(host: Host | None) -> tuple[Fix, ...]:
    apt = host is None or host.os_id in {"ubuntu", *ways.DEBIAN_LIKE}
    upgrade = "sudo apt-get install --only-upgrade '*nvidia*'" if apt else "sudo dnf upgrade '*nvidia*'"
    finish = Fix(
        "Finish the upgrade and restart, when no job runs",
        ways.shell(upgrade, "sudo reboot"),
        Safety.DISRUPTIVE,
        "the driver; every program ends",
        needs_root=True,
        needs_reboot=True,
    )
    if not apt:
        return (finish,)
    hold = "sudo apt-mark hold $(dpkg-query -W -f '${Package}\\n' '*nvidia*')"
    return (finish, administer("Afterwards, keep the driver from being upgraded by itself", "apt's holds", hold))


RULES = (driver_library_mismatch, fabric_manager_missing, driver_upgrade_pending)
