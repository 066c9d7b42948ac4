"""Rules about MIG, vGPU, GPUs that cannot be brought up, mixed models, and GPUs too old or too new for a build."""

from __future__ import annotations

import pytest

from envdoctor.facts import Fact
from envdoctor.facts.driver import CudaDevice, CudaDriver, KernelModule, NvidiaSmi, SmiGpu
from envdoctor.facts.host import Environment, Host, Variable
from envdoctor.facts.libraries import Copy, LedgerRow, Libraries
from envdoctor.facts.nvml import Gpu, GpuState, KernelLog, MigDevice, XidEvent
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Severity, Status
from envdoctor.rules.arch import mixed_gpu_models
from envdoctor.rules.arch_horizon import gpu_newer_than_bundled_nvrtc, torch_cuda_no_longer_built
from envdoctor.rules.gpu_kinds import bf16_emulated, gpu_hardware_fault, mig_limitation, vgpu_limitation
from envdoctor.testing import check
from tests.rule_facts import CPU_BUILD, NO_GPU, NO_NODES, ONE_GPU, answers, build, libcudart

LINUX = Host(system="Linux", machine="x86_64")


def gpus(**models: str) -> NvidiaSmi:
    """Make nvidia-smi's list: name by compute capability, underscores for blanks."""
    rows = [SmiGpu(n, name.replace("_", " "), 24000, cc) for n, (name, cc) in enumerate(models.items())]
    return NvidiaSmi(gpus=tuple(rows), driver_version="580.95.05", cuda_version="13.0")


def card(**values: object) -> GpuState:
    """Make what NVML reports of one card."""
    return GpuState(init_code=0, count=1, gpus=(Gpu(index=0, name="NVIDIA A100-SXM4-80GB", **values),))  # type: ignore[arg-type]


SLICED = card(mig_enabled=True, mig_devices=(MigDevice("1g.10gb"), MigDevice("2g.20gb")))


def test_divided_card_is_info() -> None:
    """MIG with instances is worth knowing, with their names, and no more."""
    finding = check(mig_limitation, SLICED).finding
    assert (Severity.INFO, "1g.10gb, 2g.20gb") == (finding.severity, finding.evidence[1].value)


def test_mig_without_an_instance_stops_cuda() -> None:
    """MIG on, no instance and "no device" from CUDA is an error, with the command that makes an instance."""
    finding = check(mig_limitation, card(mig_enabled=True), answers(100)).finding
    assert Severity.ERROR == finding.severity
    assert "-cgi 0 -C" in finding.fixes[0].commands[1].shell


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((card(mig_enabled=False),), Status.PASSED),
        ((card(mig_enabled=None, unknown={"mig_enabled": "Not Supported"}),), Status.NOT_APPLICABLE),
        ((GpuState(init_code=9, init_words="Driver Not Loaded"),), Status.UNKNOWN),
        ((answers(0, "12.2", "NVIDIA A100-SXM4-80GB MIG 1g.10gb"),), Status.FIRED),
        ((answers(0, "12.2", "NVIDIA A100-SXM4-80GB"),), Status.PASSED),
        ((), Status.UNKNOWN),
    ],
)
def test_mig_boundaries(facts: tuple[Fact, ...], status: Status) -> None:
    """A card without MIG passes; the device name alone shows a slice in a container."""
    assert status == check(mig_limitation, *facts).status


@pytest.mark.parametrize(
    ("facts", "severity"),
    [
        ((card(virtualization="vgpu"),), Severity.INFO),
        ((gpus(NVIDIA_A10__24Q="8.6"),), None),
        ((NvidiaSmi(gpus=(SmiGpu(0, "NVIDIA A10-24Q"),)),), Severity.INFO),
        ((NvidiaSmi(gpus=(SmiGpu(0, "GRID T4-2B"),)), libcudart(999)), Severity.ERROR),
        ((NvidiaSmi(gpus=(SmiGpu(0, "GRID T4-16Q"),)), libcudart(35)), Severity.INFO),
        ((NvidiaSmi(gpus=(SmiGpu(0, "Tesla V100-PCIE-16GB"),)),), None),
        ((NvidiaSmi(gpus=(SmiGpu(0, "GRID K520"),)),), None),
        ((card(virtualization="passthrough"),), None),
        ((card(virtualization="none"),), None),
    ],
)
def test_virtual_gpu(facts: tuple[Fact, ...], severity: Severity | None) -> None:
    """A vGPU is info; an error only where its profile has no CUDA and CUDA was refused; a whole card is neither."""
    findings = check(vgpu_limitation, *facts).findings
    assert ([severity] if severity else []) == [each.severity for each in findings]


RM_INIT = "NVRM: GPU 0000:3b:00.0: RmInitAdapter failed! (0x26:0x56:1463)"
SICK_LOG = KernelLog(readable=True, nvrm_lines=("NVRM: loading NVIDIA UNIX x86_64 Kernel Module  535.183.01", RM_INIT))


def test_adapter_that_fails_to_initialise() -> None:
    """The driver's own words in the kernel log are an error that shows the line."""
    finding = check(gpu_hardware_fault, SICK_LOG).finding
    assert (Severity.ERROR, RM_INIT) == (finding.severity, finding.evidence[0].value)


def test_error_999_with_a_hardware_xid() -> None:
    """Error 999 together with a fresh Xid that blames the card is a hardware fault."""
    log = KernelLog(readable=True, xids=(XidEvent(79, "0000:3b:00", "GPU has fallen off the bus.", 60.0),))
    assert check(gpu_hardware_fault, log, answers(999)).fired


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((KernelLog(readable=True),), Status.PASSED),
        ((SICK_LOG, card(pci_address="00000000:3B:00.0")), Status.PASSED),
        ((SICK_LOG, card(pci_address="00000000:3B:00.0", lost=True)), Status.FIRED),
        ((SICK_LOG, card(pci_address="00000000:5E:00.0")), Status.FIRED),
        ((KernelLog(readable=True, nvrm_lines=("NVRM: RmInitAdapter failed!",)), answers(0, "12", "A")), Status.PASSED),
        ((KernelLog(readable=True, xids=(XidEvent(13, "0:3b:00", "x", 9.0),)), answers(999)), Status.PASSED),
        ((KernelLog(readable=True, xids=(XidEvent(79, "0:3b:00", "x", 9.0),)), answers(100)), Status.PASSED),
        ((KernelLog(readable=False, unknown={"xids": "denied"}),), Status.UNKNOWN),
        ((KernelLog(readable=False), NO_GPU, NO_NODES, KernelModule(loaded=False)), Status.NOT_APPLICABLE),
    ],
)
def test_hardware_fault_boundaries(facts: tuple[Fact, ...], status: Status) -> None:
    """A card that answers has recovered; an application's Xid, another error and a closed log prove nothing."""
    assert status == check(gpu_hardware_fault, *facts).status


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        ((build("12.8"), gpus(Tesla_T4="7.5")), ["Tesla T4"]),
        ((build("12.8"), gpus(Tesla_V100="7.0", NVIDIA_A100="8.0")), ["Tesla V100"]),
        ((build("12.8"), gpus(NVIDIA_A100="8.0")), []),
        ((CPU_BUILD, gpus(Tesla_T4="7.5")), []),
    ],
)
def test_emulated_bf16(facts: tuple[Fact, ...], names: list[str]) -> None:
    """Below compute capability 8.0 bf16 is emulated: info for each such model of a CUDA build."""
    findings = check(bf16_emulated, *facts).findings
    assert names == [name for each, name in zip(findings, names, strict=True) if name in each.title]
    assert {Severity.INFO} >= {each.severity for each in findings}


CU126 = TorchBuild(version="2.7.0+cu126", cuda="12.6", arch_list=("sm_50", "sm_80", "sm_86", "sm_90"))


def test_mixed_models_of_which_one_runs() -> None:
    """A 5090 beside a 4090 under a cu126 build: only the 4090 runs, and both are named."""
    finding = check(mixed_gpu_models, CU126, gpus(RTX_5090="12.0", RTX_4090="8.9"), ONE_GPU).finding
    title = "Only some of the GPUs run this PyTorch: the RTX 4090, not the RTX 5090"
    assert (Severity.WARNING, title) == (finding.severity, finding.title)
    assert "export CUDA_DEVICE_ORDER=PCI_BUS_ID" == finding.fixes[1].commands[0].shell


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((CU126, gpus(RTX_4090="8.9", RTX_3090="8.6"), ONE_GPU), Status.PASSED),
        ((CU126, gpus(RTX_5090="12.0", B200="10.0"), ONE_GPU), Status.PASSED),
        ((CU126, gpus(RTX_4090="8.9"), ONE_GPU), Status.PASSED),
        ((CU126, ONE_GPU), Status.UNKNOWN),
        ((CU126, NO_GPU, NO_NODES), Status.NOT_APPLICABLE),
        ((CPU_BUILD, gpus(RTX_5090="12.0", RTX_4090="8.9"), ONE_GPU), Status.NOT_APPLICABLE),
    ],
)
def test_mixed_models_boundaries(facts: tuple[Fact, ...], status: Status) -> None:
    """Models that all run, or that all fail, are not this finding."""
    assert status == check(mixed_gpu_models, *facts).status


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((build("11.3", "1.10.0"), gpus(RTX_4090="8.9")), Status.FIRED),
        ((build("11.0", "1.7.0"), gpus(RTX_3090="8.6")), Status.FIRED),
        ((build("11.8", "2.0.0"), gpus(RTX_4090="8.9")), Status.PASSED),
        ((build("12.8"), gpus(RTX_5090="12.0")), Status.PASSED),
        ((build("12.6"), gpus(Tesla_P100="6.0")), Status.PASSED),
        ((build("12.6"), CudaDriver(devices=(CudaDevice(0, "New Thing"),))), Status.UNKNOWN),
        ((build("99.9"), gpus(RTX_4090="8.9")), Status.UNKNOWN),
        ((CPU_BUILD, gpus(RTX_4090="8.9")), Status.NOT_APPLICABLE),
    ],
)
def test_nvrtc_that_does_not_know_the_gpu(facts: tuple[Fact, ...], status: Status) -> None:
    """A GPU beyond the compiler of the build's CUDA is info, until a program fails by it."""
    checked = check(gpu_newer_than_bundled_nvrtc, *facts)
    assert status == checked.status
    assert {Severity.INFO} >= {each.severity for each in checked.findings}


def test_newer_nvrtc_that_would_be_loaded_counts() -> None:
    """The NVRTC that the loader finds is judged, not the one of the build."""
    row = LedgerRow("nvrtc", "libnvrtc.so.12", first=Copy("/x/libnvrtc.so.12", version="12.8.93"))
    facts = (build("12.6"), gpus(RTX_5090="12.0"), Libraries(rows=(row,)))
    assert Status.PASSED == check(gpu_newer_than_bundled_nvrtc, *facts).status


@pytest.mark.parametrize(
    ("capability", "title"),
    [
        ("6.0", "torch 2.14 for CUDA 12.6 is the last build"),
        ("7.0", "torch 2.14 for CUDA 12.6 is the last build"),
        ("3.7", "torch 2.6 for CUDA 11.8 is the last build"),
        ("7.5", None),
        ("8.9", None),
        ("12.0", None),
        ("15.0", None),
    ],
)
def test_last_build_for_an_old_gpu(capability: str, title: str | None) -> None:
    """An old GPU is told its last release by the table; one that is still served, or newer than all, is not."""
    findings = check(torch_cuda_no_longer_built, build("12.6", "2.7.0"), gpus(Some_GPU=capability), LINUX).findings
    assert [title] if title else [] == [each.title.partition(" for the")[0] for each in findings]
    assert bool(title) == any(title in each.title for each in findings if title)


@pytest.mark.parametrize(("capability", "fires"), [("6.1", True), ("7.0", True), ("8.9", False)])
def test_last_build_for_an_old_gpu_of_windows(capability: str, fires: bool) -> None:
    """Windows has the variants of x86-64 Linux: the newest release, read on Linux alone, has none for it there too."""
    windows = Host(system="Windows", machine="AMD64")
    checked = check(torch_cuda_no_longer_built, build("12.6", "2.7.0"), gpus(Some_GPU=capability), windows)
    assert fires is checked.fired
    if fires:
        assert checked.finding.title.startswith("torch 2.14 for CUDA 12.6 is the last build")


def test_a_slice_is_known_by_the_variable_that_names_it() -> None:
    """A process whose CUDA_VISIBLE_DEVICES holds a MIG UUID gets that slice; an index says nothing of MIG."""
    name = "MIG-7b3c1f40-0000-5000-8000-000000000000"
    finding = check(mig_limitation, _visible(name)).finding
    assert (Severity.INFO, name) == (finding.severity, finding.evidence[0].value)
    assert not check(mig_limitation, _visible("0,1")).fired


def _visible(value: str) -> Environment:
    return Environment(variables=(Variable("CUDA_VISIBLE_DEVICES", value),))


def test_slices_alone_are_information() -> None:
    """Where only the list of slices is known, as from ``nvidia-smi -L``, nothing is said of a missing instance."""
    finding = check(mig_limitation, card(mig_devices=(MigDevice("3g.20gb"),))).finding
    assert (Severity.INFO, ["3g.20gb"]) == (finding.severity, [each.value for each in finding.evidence])
