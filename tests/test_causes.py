"""One cause, not twelve symptoms: whatever keeps CUDA away, one finding leads and what follows from it is folded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envdoctor.diagnose import examine
from envdoctor.facts import Fact
from envdoctor.facts.driver import (
    CudaDevice,
    CudaDriver,
    CudaRuntime,
    DriverFiles,
    DriverLibrary,
    KernelModule,
    NvidiaSmi,
    SmiGpu,
)
from envdoctor.facts.gpu import DeviceNode, DeviceNodes, PciBus, PciDevice
from envdoctor.facts.host import Environment, Variable
from envdoctor.facts.nvml import Gpu, GpuProcess, GpuState, KernelLog, XidEvent
from envdoctor.facts.surroundings import Container
from envdoctor.facts.torch import TorchCuda
from envdoctor.finding import Finding, Report, Severity
from envdoctor.rule import Rule
from envdoctor.rules import RULES
from envdoctor.snapshot import of
from tests.rule_facts import (
    CARD,
    CPU_BUILD,
    CU130,
    DOCKER,
    NO_NODES,
    NODES,
    ONE_GPU,
    UBUNTU,
    WSL,
    build,
    libcuda,
    module,
    node,
)  # fmt: skip

A100 = NvidiaSmi(
    exit_code=0, driver_version="535.183.01", cuda_version="12.2", gpus=(SmiGpu(0, "NVIDIA A100-SXM4-80GB"),)
)
GEFORCE = replace(A100, gpus=(SmiGpu(0, "NVIDIA GeForce RTX 4090"),))
NVML_MISMATCH = NvidiaSmi(exit_code=18, words="Failed to initialize NVML: Driver/library version mismatch")
NVML_LOST = NvidiaSmi(exit_code=255, words="Failed to initialize NVML: Unknown Error")
SWITCHES = replace(ONE_GPU, nvswitches=(PciDevice("0000:90:00.0", "10de", "22a3", "068000"),))
XID_79 = KernelLog(
    readable=True, xids=(XidEvent(pci_address="0000:17:00", code=79, words="fallen off the bus", seconds_ago=60),)
)
TAKEN = GpuState(
    init_code=0, count=1, gpus=(Gpu(0, compute_mode="exclusive-process", processes=(GpuProcess(1),)),)
)  # fmt: skip
LOST = GpuState(init_code=0, count=1, gpus=(Gpu(0, lost=True),))
FULL = GpuState(init_code=0, count=1, gpus=(Gpu(0, memory_total_mib=80000, memory_free_mib=10),))
NO = TorchCuda(available=False)
STUB = DriverFiles(
    libcuda=(DriverLibrary("/usr/local/cuda/lib64/stubs/libcuda.so", "libcuda.so.1", stub=True),),
    first_libcuda=DriverLibrary("/usr/local/cuda/lib64/stubs/libcuda.so", "libcuda.so.1", stub=True),
)
IMAGE = Container(
    kind="docker", nvidia_image="PyTorch", nvidia_image_tag="25.12", image_versions=(("CUDA_VERSION", "13.1.0"),)
)


def refused(code: int, level: str = "12.2") -> CudaDriver:
    """Make libcuda's refusal."""
    return CudaDriver(init_code=code, cuda_version=level)


def hidden(value: str) -> Environment:
    """Make an environment with this CUDA_VISIBLE_DEVICES."""
    return Environment(variables=(Variable("CUDA_VISIBLE_DEVICES", value),))


LIVE: tuple[Fact, ...] = (UBUNTU, ONE_GPU, NODES, module(), A100, NO)
OTHER = libcuda("550.54.14")

# Machines as they are, each with the one finding that must lead.
MACHINES: dict[str, tuple[str, tuple[Fact, ...]]] = {
    "no driver": ("nvidia-driver-missing", (UBUNTU, ONE_GPU, NO_NODES, KernelModule(loaded=False), CU130, NO)),
    "nouveau": (
        "nvidia-driver-missing",
        (UBUNTU, ONE_GPU, NO_NODES, KernelModule(loaded=False, nouveau_loaded=True), CU130, NO),
    ),
    "not passed in": (
        "container-gpu-not-passed", (DOCKER, ONE_GPU, NO_NODES, module(), DriverFiles(), build("12.8"), NO),
    ),
    "closed nodes": (
        "device-nodes-no-permission",
        (UBUNTU, ONE_GPU, replace(NODES, nvidiactl=node("/dev/nvidiactl", open_to_us=False)), module(), refused(100),
         build("12.8"), NO),
    ),
    "half upgrade": (
        "driver-library-mismatch",
        (UBUNTU, ONE_GPU, NODES, module(), OTHER, NVML_MISMATCH, refused(803), build("12.8"), NO),
    ),
    "compat on GeForce": (
        "forward-compat-unsupported",
        (UBUNTU, ONE_GPU, NODES, module(), libcuda("580.65.06", compat=True), GEFORCE,
         refused(804, "13.0"), build("12.8"), NO),
    ),
    "old driver": (
        "driver-too-old-for-cuda-build",
        (*LIVE, CudaDriver(init_code=0, cuda_version="12.2", device_count=1, devices=(CudaDevice(0, "A100", "8.0"),)),
         CudaRuntime(code=35, driver_version="12.2"), CU130),
    ),
    "no fabric manager": (
        "fabric-manager-missing",
        (UBUNTU, SWITCHES, NODES, module(fabric_manager_running=False), A100, refused(802), build("12.8"), NO),
    ),
    "after suspend": ("uvm-broken-after-suspend", (*LIVE, refused(999), build("12.8"))),
    "hidden on purpose": ("cuda-visible-devices-wrong", (*LIVE, hidden(""), refused(100), build("12.8"))),
    "no such index": ("cuda-visible-devices-wrong", (*LIVE, hidden("7"), refused(100), build("12.8"))),
    "stub": ("libcuda-stub-or-stale-on-path", (*LIVE, STUB, CudaRuntime(code=34), build("12.8"))),
    "WSL without a driver": (
        "wsl-driver-missing",
        (WSL, PciBus(readable=True), DeviceNodes(dxg=node("/dev/dxg")), DriverFiles(unknown={"first_libcuda": "none"}),
         build("12.8"), TorchCuda(available=False, error="Found no NVIDIA driver on your system.")),
    ),
    "off the bus": ("xid-errors", (UBUNTU, ONE_GPU, NODES, module(), LOST, XID_79, refused(999), build("12.8"), NO)),
    "taken": ("exclusive-compute-mode", (*LIVE, TAKEN, refused(46), build("12.8"))),
    "memory full": ("gpu-memory-low", (*LIVE, FULL, refused(2), build("12.8"))),
    "detached": (
        "container-gpu-detached", (DOCKER, ONE_GPU, NODES, module(), NVML_LOST, refused(999), build("12.8"), NO),
    ),
    "image too new": (
        "ngc-image-needs-newer-driver",
        (DOCKER, ONE_GPU, NODES, module(), A100, IMAGE, refused(0), CudaRuntime(code=35, driver_version="12.2"),
         CU130, NO),
    ),
    "nothing else known": ("cuda-unavailable", (UBUNTU, ONE_GPU, build("12.8"), NO)),
}  # fmt: skip


def unavailable(report: Report) -> Finding | None:
    """Give the finding that CUDA cannot be used."""
    return next((f for f in report.findings if f.id == "cuda-unavailable"), None)


def chain(report: Report, finding: Finding) -> Iterator[Finding]:
    """Follow first causes up to the one that nothing explains; a circle fails."""
    seen: list[str] = []
    while True:
        assert finding.key not in seen, seen
        seen.append(finding.key)
        yield finding
        if not finding.caused_by:
            return
        found = report.finding(finding.caused_by[0])
        assert found is not None
        finding = found


@pytest.mark.parametrize("name", MACHINES)
def test_real_machine_has_one_cause(name: str) -> None:
    """On each machine the one cause leads, CUDA's absence follows from it, and no other error stands beside it."""
    cause, facts = MACHINES[name]
    report = examine(of(*facts))
    found = unavailable(report)
    assert found is not None
    assert (cause, cause) == (str(report.primary).partition("@")[0], list(chain(report, found))[-1].id)
    alone = [f.key for f in report.findings if f.severity is Severity.ERROR and not f.caused_by]
    assert set(alone) <= {report.primary}


FACTS: dict[str, tuple[Fact | None, ...]] = {
    "host": (UBUNTU, DOCKER, WSL, None),
    "bus": (ONE_GPU, SWITCHES, PciBus(readable=False), None),
    "nodes": (
        NODES, NO_NODES, replace(NODES, uvm=DeviceNode()), DeviceNodes(dxg=node("/dev/dxg")),
        replace(NODES, nvidiactl=node("/dev/nvidiactl", open_to_us=False)), None,
    ),
    "module": (
        module(), module("470.82.01"), KernelModule(loaded=False, on_disk_version="550.54"), module(uvm_loaded=False),
        module(fabric_manager_running=False), None,
    ),
    "files": (libcuda("535.183.01"), OTHER, libcuda("550.54.14", compat=True), STUB, DriverFiles(), None),
    "smi": (A100, GEFORCE, NVML_MISMATCH, NVML_LOST, None),
    "driver": (None, *(refused(code) for code in (0, 2, 3, 34, 35, 46, 100, 101, 304, 802, 803, 804, 999))),
    "runtime": (None, *(CudaRuntime(code=code, driver_version="12.2") for code in (2, 34, 35, 46, 100, 802, 803, 999))),
    "torch": (
        NO, TorchCuda(available=False, error="Found no NVIDIA driver on your system."), None,
        TorchCuda(available=False, error="The NVIDIA driver on your system is too old (found version 11040)."),
        TorchCuda(available=False, error="Unexpected error. Error 802: system not yet initialized"),
    ),
    "environment": (Environment(), hidden(""), hidden("7"), hidden("0"), None),
    "state": (TAKEN, LOST, FULL, GpuState(init_code=18, init_words="mismatch"), GpuState(init_code=999), None),
    "log": (XID_79, KernelLog(readable=True, nvrm_lines=("NVRM: RmInitAdapter failed! 0000:17:00.0",)), None),
    "build": (CU130, build("12.8"), build("11.8"), CPU_BUILD),
    "container": (IMAGE, Container(kind="docker"), None),
}  # fmt: skip
DECLARED: dict[str, Rule] = {rule.id: rule for rule in RULES}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries({name: st.sampled_from(facts) for name, facts in FACTS.items()}))
def test_any_facts_end_in_one_ranked_cause(facts: dict[str, Fact | None]) -> None:
    """For any facts under which CUDA is away: one finding leads, it is what the first causes of CUDA's absence end in,
    and nothing that something else explains stands on its own or is read before its cause.
    """
    report = examine(of(*(fact for fact in facts.values() if fact is not None)))
    found = unavailable(report)
    if found is None:
        return
    root = list(chain(report, found))[-1]
    assert root.key == report.primary
    told = {f.id for f in report.findings if f.severity is not Severity.INFO}
    order = [f.key for f in report.findings]
    for each in report.findings:
        explained = told & set(DECLARED[each.id].explained_by) - {each.id}
        assert bool(explained) <= bool(each.caused_by), (each.key, explained)
        assert len(list(chain(report, each))) >= 1
        assert not each.caused_by or order.index(list(chain(report, each))[-1].key) < order.index(each.key)
    # CUDA's absence follows from every other root that may explain it, so none of them leads.
    assert sum(f.key == report.primary for f in report.findings) == 1


def test_no_rule_explains_itself_in_a_circle() -> None:
    """The declared causes of all rules have no circle: following them always ends."""
    graph = {rule.id: set(rule.explained_by) & set(DECLARED) for rule in RULES}
    while leaves := [each for each, causes in graph.items() if not causes]:
        for leaf in leaves:
            del graph[leaf]
        for causes in graph.values():
            causes.difference_update(leaves)
    assert {} == graph


def test_code_of_cuda_outranks_what_else_fired() -> None:
    """Error 802 means the fabric manager, whatever else is wrong with the machine."""
    facts = (
        UBUNTU,
        replace(SWITCHES, gpus=(CARD,)),
        NODES,
        module(),
        OTHER,
        A100,
        refused(802),
        TAKEN,
        build("12.8"),
        NO,
    )
    found = unavailable(examine(of(*facts)))
    assert found is not None
    assert "fabric-manager-missing" == found.caused_by[0]
    assert "driver-library-mismatch" in found.caused_by
