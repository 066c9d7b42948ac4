"""What kind of GPU a program gets: a MIG slice, a virtual GPU, one that the driver could not bring up."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, CudaRuntime, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment
from envdoctor.facts.nvml import Gpu, GpuState, KernelLog
from envdoctor.facts.required import Required
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.knowledge.gpus import capability
from envdoctor.knowledge.xid import xids
from envdoctor.remedy.variables import administer, look
from envdoctor.rule import Missing, NotApplicable, Rule, Unknown, rule
from envdoctor.rules.answers import NO_DEVICE, cu_init, cudart
from envdoctor.rules.builds import need_cuda_build
from envdoctor.rules.cards import cards
from envdoctor.rules.presence import need_gpu, seen_working

MIG_NAME = re.compile(r"\bMIG \d+\w*\.\d+gb", re.IGNORECASE)
VGPU_NAME = re.compile(r"^(?:NVIDIA )?(?:GRID )?\S.*-\d+([ABCQ])$", re.IGNORECASE)
WITHOUT_CUDA = frozenset("AB")  # vApps and vPC profiles: NVIDIA supports CUDA on C and Q profiles
UNKNOWN_ERROR = 999
FAULT_WORDS = re.compile(
    r"RmInitAdapter failed|rm_init_adapter failed|fallen off the bus|GPU is lost|failed to copy vbios|"
    r"BAR\d is 0M|RmInitAdapter: osInitNvMapping|GPU has fallen|uncorrectable",
    re.IGNORECASE,
)
ADDRESS = re.compile(r"\b(?:[0-9a-f]{4,8}:)?([0-9a-f]{2}:[0-9a-f]{2})(?:\.0)?\b", re.IGNORECASE)


def _of(gpu: Gpu, field: str, label: str, value: object = None) -> Evidence:
    """Make a field of one card evidence."""
    shown = getattr(gpu, field) if value is None else value
    return Evidence(f"gpu_state.gpus[{gpu.index}].{field}", shown, f"NVML, GPU {gpu.index}", "", label)


def _refused(driver: CudaDriver | None, runtime: CudaRuntime | None) -> tuple[Evidence, ...]:
    """Give the answers by which CUDA was seen not to start."""
    found = [cu_init(driver)] if driver and driver.init_code else []
    return (*found, *([cudart(runtime)] if runtime and runtime.code else []))


@rule(severity=Severity.INFO, group="GPUs")
def mig_limitation(
    state: GpuState | None,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    smi: NvidiaSmi | None,
    cuda: TorchCuda | None,
    environment: Environment | None,
) -> Iterator[Finding]:
    """A GPU is divided by MIG: a process gets one slice of it.

    ## What it means
    In MIG mode the card is split into instances with memory and multiprocessors of their own. A CUDA process sees one
    instance only, the first unless CUDA_VISIBLE_DEVICES names another by its MIG UUID.

    ## Why it matters
    Peer-to-peer and NCCL between instances of one card do not work, and torch counts one device. With MIG on and no
    instance made, CUDA finds no device at all: that is an error.

    ## How it is detected
    nvmlDeviceGetMigMode and the MIG devices that NVML lists, the device name that CUDA or nvidia-smi gives, or a MIG
    UUID in CUDA_VISIBLE_DEVICES. Error
    only where MIG is on, no instance is there, and CUDA answered "no device".

    ## What to do
    Name the instance by its UUID, one process an instance. For a job over whole cards, switch MIG off.

    ## Sources
    https://docs.nvidia.com/datacenter/tesla/mig-user-guide/
    """
    split = [gpu for gpu in (state.gpus if state else ()) if gpu.mig_enabled or gpu.mig_devices]
    chosen = (environment.get("CUDA_VISIBLE_DEVICES") if environment else None) or ""
    if not split and environment and chosen.startswith("MIG-"):
        shown = see(environment, "variables", "CUDA_VISIBLE_DEVICES", chosen)
        yield Finding("This process gets a MIG slice, named by its UUID", evidence=(shown,), fixes=(_slices(),))
        return
    if not split:
        named = [each for each in cards(driver, smi, cuda) if MIG_NAME.search(each.name)]
        if not named and (state is None or all(gpu.mig_enabled is None for gpu in state.gpus)):
            _why_mig_is_unknown(state, any_card=bool(cards(driver, smi, cuda)))
        for card in named:
            yield Finding(f"This process gets a MIG slice: {card.name}", evidence=(card.evidence,), fixes=(_slices(),))
        return
    working = seen_working(cuda, runtime, driver)
    for gpu in split:
        empty = bool(gpu.mig_enabled) and not gpu.mig_devices and not working and _no_device(driver, runtime)
        names = ", ".join(each.name for each in gpu.mig_devices) or "none"
        said = _refused(driver, runtime) if empty else ()
        title = f"GPU {gpu.index} is in MIG mode without an instance: CUDA finds no device"
        if not empty:
            title = f"GPU {gpu.index} is divided by MIG: a process gets one slice of it"
        mode = (_of(gpu, "mig_enabled", "MIG mode"),) if gpu.mig_enabled else ()
        evidence = (*mode, _of(gpu, "mig_devices", "instances", names), *said)
        fixes = (_make_instance(gpu), _mig_off(gpu)) if empty else (_slices(), _mig_off(gpu))
        yield Finding(title, "", evidence, fixes, str(gpu.index), Severity.ERROR if empty else None)


def _why_mig_is_unknown(state: GpuState | None, *, any_card: bool) -> None:
    if state is None:
        if any_card:
            return  # CUDA's own names show no slice
        raise Missing(GpuState)
    if state.init_code:
        raise Unknown(f"NVML does not start: {state.init_words}")
    words = next((gpu.unknown["mig_enabled"] for gpu in state.gpus if "mig_enabled" in gpu.unknown), "not asked")
    raise NotApplicable(f"MIG: {words}")


def _no_device(driver: CudaDriver | None, runtime: CudaRuntime | None) -> bool:
    return (driver is not None and driver.init_code == NO_DEVICE) or (runtime is not None and runtime.code == NO_DEVICE)


def _slices() -> Fix:
    return look("List the instances, then name one: CUDA_VISIBLE_DEVICES=MIG-…", "nvidia-smi -L")


def _mig_off(gpu: Gpu) -> Fix:
    command = Command(None, f"sudo nvidia-smi -i {gpu.index} -mig 0")
    title = "For a job over whole cards: switch MIG off, when nothing uses the card"
    return Fix(title, (command,), Safety.DISRUPTIVE, "the card's instances are destroyed", needs_root=True)


def _make_instance(gpu: Gpu) -> Fix:
    commands = (f"sudo nvidia-smi mig -i {gpu.index} -lgip", f"sudo nvidia-smi mig -i {gpu.index} -cgi 0 -C")
    return administer("Make an instance: the list names the profiles, 0 is the whole card", "the card", *commands)


@rule(severity=Severity.INFO, group="GPUs")
def vgpu_limitation(
    state: GpuState | None,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    smi: NvidiaSmi | None,
    cuda: TorchCuda | None,
) -> Iterator[Finding]:
    """The GPU is a virtual one: its profile and its licence decide what works.

    ## What it means
    A vGPU is a share of a card that the hypervisor hands out. Its profile fixes the memory; without a licence the
    driver slows it down after some minutes.

    ## Why it matters
    Unified memory, peer-to-peer and profilers are off on many profiles. CUDA is supported on C and Q profiles only.

    ## How it is detected
    nvmlDeviceGetVirtualizationMode, or a name that ends in a profile (A10-24Q). Error only where CUDA was seen not to
    start on an A or B profile.

    ## What to do
    Ask for a C or Q profile, and look whether the licence was granted.

    ## Sources
    https://docs.nvidia.com/vgpu/latest/grid-vgpu-user-guide/
    https://docs.nvidia.com/vgpu/latest/grid-licensing-user-guide/
    """
    found = _virtual(state, driver, smi, cuda)
    refused = () if seen_working(cuda, runtime, driver) else _refused(driver, runtime)
    for name, shown in found:
        profile = VGPU_NAME.match(name)
        bad = bool(refused and profile and profile[1].upper() in WITHOUT_CUDA)
        title = f"{name} is a virtual GPU" + (" whose profile has no CUDA" if bad else "")
        yield Finding(
            title,
            evidence=(shown, *(refused if bad else ())),
            fixes=(
                look("See whether its licence was granted", "nvidia-smi -q | grep -A 2 -i 'vgpu software licensed'"),
            ),
            subject=name if len(found) > 1 else "",
            severity=Severity.ERROR if bad else None,
        )


def _virtual(
    state: GpuState | None, driver: CudaDriver | None, smi: NvidiaSmi | None, cuda: TorchCuda | None
) -> list[tuple[str, Evidence]]:
    """Give the virtual GPUs by name, each model once."""
    told = [gpu for gpu in (state.gpus if state else ()) if gpu.virtualization == "vgpu"]
    found = {gpu.name or f"GPU {gpu.index}": _of(gpu, "virtualization", "virtualisation mode") for gpu in told}
    named = cards(driver, smi, cuda)
    found |= {
        card.name: card.evidence for card in named if VGPU_NAME.match(card.name) and not MIG_NAME.search(card.name)
    }
    if not found and state is None and not named:
        raise Missing(GpuState)
    return list(found.items())


@rule(severity=Severity.ERROR, group="GPUs", explained_by=("gpu-lost", "xid-errors"))
def gpu_hardware_fault(
    log: KernelLog,
    state: GpuState | None,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    cuda: TorchCuda | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
) -> Iterator[Finding]:
    """The kernel log says that a GPU could not be brought up, or that its hardware failed.

    ## What it means
    The driver wrote that it could not initialise the card, or that the card left the bus. Such lines name power,
    seating, the slot, the BIOS or the card itself, seldom software.

    ## Why it matters
    The card cannot be used, and CUDA may start on none of them.

    ## How it is detected
    NVRM lines of the kernel log with the driver's own words for it, and Xid codes that do not blame the application
    together with error 999 of CUDA. A card that answers NVML has recovered: its lines are left out. So are lines
    without an address where CUDA was seen to start.

    ## What to do
    Drain the machine, take its power away for a minute, and look at seating, power cables and risers. If it comes back,
    try the card in another slot and contact the vendor.

    ## Sources
    https://docs.nvidia.com/deploy/xid-errors/
    https://docs.nvidia.com/deploy/gpu-debug-guidelines/
    """
    need_gpu(bus, nodes, module, None, driver)
    if log.readable is not True:
        raise Unknown(log.unknown.get("xids", "the kernel log cannot be read"))
    working = seen_working(cuda, runtime, driver) is not None
    lines = _fault_lines(log, state, working=working)
    refused = () if working else _unknown_errors(driver, runtime)
    xid = _hardware_xid(log) if refused else None
    if not lines and not xid:
        return
    evidence = [see(log, "nvrm_lines", "kernel log", line) for line in lines[-3:]]
    evidence += [see(log, "xids", f"Xid {xid[0]}", xid[1]), *refused] if xid else []
    yield Finding(
        "A GPU could not be brought up: the kernel log names a hardware fault",
        evidence=tuple(evidence),
        fixes=(
            look("Read all that the driver wrote", "sudo dmesg --ctime | grep -i -E 'nvrm|nvidia|xid'", root=True),
            look("Collect what the vendor asks for", "sudo nvidia-bug-report.sh", root=True),
        ),
        confidence=Confidence.LIKELY,
    )


def _unknown_errors(driver: CudaDriver | None, runtime: CudaRuntime | None) -> tuple[Evidence, ...]:
    found = [cu_init(driver)] if driver and driver.init_code == UNKNOWN_ERROR else []
    return (*found, *([cudart(runtime)] if runtime and runtime.code == UNKNOWN_ERROR else []))


def _fault_lines(log: KernelLog, state: GpuState | None, *, working: bool) -> list[str]:
    """Give the lines that name a fault of a card which has not answered since; Xid lines are another rule's."""
    healthy = {_place(gpu.pci_address or "") for gpu in (state.gpus if state else ()) if not (gpu.lost or gpu.hung)}
    wanted = []
    for line in log.nvrm_lines:
        if not FAULT_WORDS.search(line) or "Xid (" in line:
            continue
        place = _place(line)
        if (place in healthy) if place and healthy else working:
            continue
        wanted.append(line)
    return wanted


def _place(text: str) -> str:
    """Read bus and device out of any way to write a PCI address: ``00000000:3B:00.0`` -> ``3b:00``."""
    match = ADDRESS.search(text)
    return match[1].lower() if match else ""


def _hardware_xid(log: KernelLog) -> tuple[int, str] | None:
    for event in reversed(log.xids):
        found = xids().get(event.code)
        if found and not found.harmless and (event.seconds_ago is None or event.seconds_ago < 86_400):
            return event.code, f"{event.pci_address}: {event.words}"
    return None


@rule(severity=Severity.INFO, group="precision")
def bf16_emulated(
    build: TorchBuild,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    cuda: TorchCuda | None,
    required: Required | None,
) -> Iterator[Finding]:
    """bfloat16 works on this GPU, but without Tensor Cores.

    ## What it means
    Tensor Cores take bf16 from compute capability 8.0 on. On older GPUs torch.cuda.is_bf16_supported() answers True,
    because bf16 is emulated.

    ## Why it matters
    A T4 computes a bf16 matrix product at a twentieth of its fp16 speed, a V100 at a tenth.

    ## How it is detected
    The compute capability that libcuda, nvidia-smi or torch names, or that belongs to the full model name. It is info,
    and an error where native bf16 is required.

    ## What to do
    Use fp16 with a gradient scaler on these GPUs.

    ## Sources
    https://github.com/pytorch/pytorch/issues/124996
    https://docs.pytorch.org/docs/stable/amp.html
    """
    need_cuda_build(build)
    found = cards(driver, smi, cuda)
    if not found:
        raise Missing(CudaDriver)
    judged = [(card, capability(card.capability)) for card in found]
    if all(each is None for _, each in judged):
        raise Unknown(f"the compute capability of {found[0].name or 'the GPU'} is not known")
    severity = Severity.ERROR if required and required.wanted("bf16") == "native" else None
    for card, gpu in judged:
        if gpu is not None and gpu < (8, 0):
            fix = look("Ask torch without the emulation", _native_bf16())
            title = f"bf16 is emulated on the {card.name or 'GPU'} (compute capability {card.capability})"
            subject = card.name if len(found) > 1 else ""
            yield Finding(title, "", (card.evidence,), (fix,), subject, severity)


def _native_bf16() -> str:
    return 'python3 -c "import torch; print(torch.cuda.is_bf16_supported(including_emulation=False))"'


RULES: tuple[Rule, ...] = (mig_limitation, vgpu_limitation, gpu_hardware_fault, bf16_emulated)
