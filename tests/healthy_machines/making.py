"""From a few words to a whole machine: one kind of card, one driver, one torch, and every probe's answer to them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from envdoctor.facts import Fact, key_of
from envdoctor.facts.host import Variable
from envdoctor.facts.libraries import Libraries
from envdoctor.facts.nvml import KernelLog
from envdoctor.facts.packages import Packages
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.ledger import complete
from envdoctor.outcome import Absent, Got
from envdoctor.plan import BUILT_IN, level_of
from envdoctor.snapshot import ProbeResult, Snapshot
from tests.demo_machines import cards, stacks
from tests.demo_machines import hardware as hw
from tests.demo_machines.ledger import ledger
from tests.demo_machines.stories import LIVE, record

SLOTS = ("01", "25", "41", "61", "81", "a1", "c1", "e1")
CUDA_OF_BRANCH = {525: "12.0", 535: "12.2", 550: "12.4", 560: "12.6", 570: "12.8", 575: "12.9", 580: "13.0"}


@dataclass(frozen=True)
class Torch:
    """One published torch: version with its tag, CUDA, the wheels that it pins, cuDNN and NCCL as torch names them."""

    version: str
    cuda: str
    pins: dict[str, str]
    cudnn: int
    nccl: str
    arches: tuple[str, ...]

    @property
    def triton(self) -> str:
        """Give the Triton that it pins."""
        return self.pins["triton"]


def _cu121(cudnn: str, nccl: str, triton: str) -> dict[str, str]:
    return {
        "nvidia-cublas-cu12": "12.1.3.1", "nvidia-cuda-cupti-cu12": "12.1.105", "nvidia-cuda-nvrtc-cu12": "12.1.105",
        "nvidia-cuda-runtime-cu12": "12.1.105", "nvidia-cudnn-cu12": cudnn, "nvidia-cufft-cu12": "11.0.2.54",
        "nvidia-curand-cu12": "10.3.2.106", "nvidia-cusolver-cu12": "11.4.5.107",
        "nvidia-cusparse-cu12": "12.1.0.106", "nvidia-nccl-cu12": nccl, "nvidia-nvtx-cu12": "12.1.105",
        "triton": triton,
    }  # fmt: skip


PASCAL_ON = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
VOLTA_ON = ("sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
TURING_ON = VOLTA_ON[1:]
TORCH_24 = Torch("2.4.1+cu121", "12.1", _cu121("9.1.0.70", "2.20.5", "3.0.0"), 90100, "2.20.5", PASCAL_ON)
TORCH_25 = Torch("2.5.1+cu121", "12.1", _cu121("9.1.0.70", "2.21.5", "3.1.0"), 90100, "2.21.5", PASCAL_ON)
TORCH_27_CU126 = Torch("2.7.1+cu126", "12.6", stacks.CU126, 90501, "2.26.2", PASCAL_ON)
TORCH_27_CU128 = Torch(
    "2.7.1+cu128", "12.8",
    {**stacks.CU128, "nvidia-cudnn-cu12": "9.7.1.26", "nvidia-nccl-cu12": "2.26.2", "triton": "3.3.1"},
    90701, "2.26.2", (*TURING_ON, "compute_120"),
)  # fmt: skip
TORCH_29 = Torch("2.9.0+cu128", "12.8", stacks.CU128, 91002, "2.27.5", VOLTA_ON)
TORCH_211 = Torch("2.11.0+cu130", "13.0", stacks.CU130, 91900, "2.28.9", TURING_ON)

RTX_4060_LAPTOP = cards.Kind(
    "NVIDIA GeForce RTX 4060 Laptop GPU", "8.9", "Ada", 8188, (3.1, 80.0), (210, 3105), (405, 8001), 4, ecc=False
)
RTX_3090 = cards.Kind("NVIDIA GeForce RTX 3090", "8.6", "Ampere", 24576, (22.0, 350.0), (210, 2100), (405, 9751), 4,
                      ecc=False)  # fmt: skip
RTX_5090 = cards.Kind("NVIDIA GeForce RTX 5090", "12.0", "Blackwell", 32607, (14.0, 575.0), (180, 3090), (405, 14001),
                      5, ecc=False)  # fmt: skip
GTX_1080_TI = cards.Kind("NVIDIA GeForce GTX 1080 Ti", "6.1", "Pascal", 11264, (9.0, 250.0), (139, 1911), (405, 5505),
                         3, ecc=False)  # fmt: skip
T4 = cards.Kind("Tesla T4", "7.5", "Turing", 15360, (9.6, 70.0), (300, 1590), (405, 5001), 3)
V100 = cards.Kind("Tesla V100-SXM2-16GB", "7.0", "Volta", 16384, (38.0, 300.0), (135, 1530), (877, 877), 3)
A10G = cards.Kind("NVIDIA A10G", "8.6", "Ampere", 23028, (16.0, 300.0), (210, 1710), (405, 6251), 4)
H100_PCIE = cards.Kind("NVIDIA H100 PCIe", "9.0", "Hopper", 81559, (47.0, 350.0), (345, 1755), (1593, 1593), 5)
GH200 = cards.Kind("NVIDIA GH200 480GB", "9.0", "Hopper", 97871, (85.0, 900.0), (345, 1980), (2619, 2619), 5)
PCI_ID = {
    "RTX 4060 Laptop": "28e0", "RTX 3090": "2204", "RTX 4090": "2684", "RTX 5090": "2b85", "GTX 1080 Ti": "1b06",
    "Tesla T4": "1eb8", "Tesla V100": "1db1", "A10G": "2237", "A10-8Q": "2236", "H100 PCIe": "2331",
    "H100 80GB": "2330", "GH200": "2342", "A100": "20b2", "L4": "27b8", "Orin": "0000",
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """What is said of a machine; all else follows from it, or is as on an ordinary one."""

    kind: cards.Kind
    driver: str
    torch: Torch
    python: str = "3.11.9"
    count: int = 1
    prefix: str = "/home/kim/venvs/train"
    ubuntu: tuple[str, str, str] = ("22.04.5", "6.8.0-64-generic", "2.35")
    host: dict[str, Any] = field(default_factory=dict)
    resources: dict[str, Any] = field(default_factory=dict)
    packages: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    beside: dict[str, str] = field(default_factory=dict)
    flavor: str = "open"
    nvlinks: int = 0


def level_of_driver(driver: str) -> str:
    """Give the CUDA level that a driver of this branch names."""
    return CUDA_OF_BRANCH[int(driver.partition(".")[0])]


def machine(asked: Asked) -> Snapshot:
    """Give an ordinary machine: a virtual environment that pip filled, nothing in its way."""
    kind, torch, driver, count = asked.kind, asked.torch, asked.driver, asked.count
    level, minor = level_of_driver(driver), asked.python.rpartition(".")[0]
    site, slots = f"{asked.prefix}/lib/python{minor}/site-packages", SLOTS[:count]
    installed = {**stacks.PLAIN, **torch.pins, "torch": torch.version, **asked.beside}
    older = torch.cuda.startswith("12")
    runtime = f"{site}/nvidia/{'cuda_runtime' if older else 'cu13'}/lib/libcudart.so.{12 if older else 13}"
    class_code = "030000" if not kind.ecc else "030200"
    device = next(each for name, each in PCI_ID.items() if name in kind.name)
    libc = asked.ubuntu[2]
    return record(
        hw.ubuntu("node-1", asked.ubuntu[0], asked.ubuntu[1], libc, **asked.host),
        hw.resources("AMD EPYC 7543 32-Core Processor", 32, 257_000, **asked.resources),
        hw.environment(**asked.variables), hw.bus(device, slots, class_code=class_code), hw.nodes(count),
        hw.module(driver, flavor=asked.flavor), hw.driver_files(driver),
        hw.smi(driver, level, kind.name, count, kind.memory_mib, kind.capability),
        hw.libcuda(driver, level, kind.name, count, kind.memory_mib - 480, kind.capability),
        hw.cudart(runtime, torch.cuda, level, count), cards.state(kind, slots, driver, level),
        cards.fabric(count, links=asked.nvlinks, version=3), cards.CLOSED_LOG,
        replace(stacks.packages(asked.prefix, asked.python, installed), **asked.packages), stacks.path(site),
        replace(stacks.build(site, torch.version, "12.8", torch.pins, minor), cuda=torch.cuda, arch_list=torch.arches),
        stacks.files(torch.version, 12_411), ledger(site, torch.pins, installed, glibc=libc, glibcxx="3.4.30"),
        stacks.imported(site, torch.version, 1.6), seen(kind, count, torch),
        stacks.settings(torch.cudnn, torch.nccl, 16), stacks.tools(torch.triton, minor),
        python=f"{asked.prefix}/bin/python",
    )  # fmt: skip


def seen(kind: cards.Kind, count: int, torch: Torch) -> TorchCuda:
    """Give a torch that uses every card."""
    return replace(stacks.sees(kind.name, count, kind.capability, "12.8"), arch_list=torch.arches)


def changed(machine: Snapshot, *facts: Fact, absent: dict[str, str] | None = None) -> Snapshot:
    """Give the machine with these facts in place of its own, and without those that are absent for a reason."""
    new = {key_of(type(each)): each for each in facts}
    gone = absent or {}
    kept = {key: each for key, each in {**machine.facts, **new}.items() if key not in gone}
    probes = tuple(
        ProbeResult(each.name, each.fact, Absent(gone[each.fact]))
        if each.fact in gone
        else replace(
            _probe(machine, each.fact) or ProbeResult(each.name, each.fact, Got()),
            outcome=Got("fresh-process" if each.fact in LIVE else "file"),
        )
        for each in BUILT_IN
        if each.fact in kept or each.fact in gone
    ) + tuple(each for each in machine.probes if each.fact not in kept and each.fact not in gone)
    return complete(replace(machine, facts=kept, probes=probes))


def _probe(machine: Snapshot, fact: str) -> ProbeResult | None:
    return next((each for each in machine.probes if each.fact == fact), None)


def edit(machine: Snapshot, key: str, **values: Any) -> Snapshot:
    """Give the machine with some fields of one fact replaced."""
    return changed(machine, replace(machine.facts[key], **values))


def at_quick(machine: Snapshot) -> Snapshot:
    """Give what level quick would have seen of the machine: torch is not imported."""
    facts = {key: each for key, each in machine.facts.items() if level_of(key) == "quick"}
    probes = tuple(each for each in machine.probes if level_of(each.fact) == "quick")
    return replace(machine, level="quick", facts=facts, probes=probes)


def gpus(machine: Snapshot, **values: Any) -> Snapshot:
    """Give the machine with some fields of every card as NVML reports it replaced."""
    state = machine.facts["gpu_state"]
    return edit(machine, "gpu_state", gpus=tuple(replace(each, **values) for each in state.gpus))  # type: ignore[attr-defined]


def refused(machine: Snapshot, *fields: str, words: str = "Not Supported") -> Snapshot:
    """Give the machine whose NVML does not tell these fields."""
    state = machine.facts["gpu_state"]
    told = tuple(
        replace(each, unknown={**each.unknown, **dict.fromkeys(fields, words)}, **dict.fromkeys(fields, None))
        for each in state.gpus  # type: ignore[attr-defined]
    )
    return edit(machine, "gpu_state", gpus=told)


def variables(machine: Snapshot, **values: str) -> Snapshot:
    """Give the machine with these variables set as well."""
    have = machine.facts["environment"]
    more = tuple(Variable(name, value) for name, value in values.items())
    return edit(machine, "environment", variables=(*have.variables, *more))  # type: ignore[attr-defined]


def by_system_libraries(machine: Snapshot, folder: str, versions: dict[str, str]) -> Snapshot:
    """Give the machine whose CUDA libraries come from the system: no wheel, no pin, found in ld.so.cache."""
    libraries, packages, build = (machine.facts[key] for key in ("libraries", "packages", "torch_build"))
    assert isinstance(libraries, Libraries)
    assert isinstance(packages, Packages)
    assert isinstance(build, TorchBuild)
    rows = tuple(
        replace(
            row, declared=None, declared_version=None, installed_version=None, bundled=(), mapped=(),
            first=replace(row.first, path=f"{folder}/{row.soname}", version=versions.get(row.name), owner=None,
                          via="ld.so.cache", real_path="") if row.first else None,
        )
        for row in libraries.rows
    )  # fmt: skip
    left = tuple(each for each in packages.distributions if not each.name.startswith("nvidia-"))
    return changed(
        machine, replace(libraries, rows=rows), replace(packages, distributions=left), replace(build, pins=()),
        absent={"mapped_libraries": "not asked"},
    )  # fmt: skip


READ_LOG = KernelLog(readable=True, sources={"xids": "/dev/kmsg"})
