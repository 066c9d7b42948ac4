"""Which probes exist, where they are found in the patient, and which process runs them. Names only: nothing loads.

The doctor never imports the probes. What a probe says of itself must agree with this table; a test compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.facts.dataclass import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVELS = ("quick", "standard", "deep")
BENCH = "bench"  # no level of a check: the command whose facts these are
DEPTHS = (*LEVELS, BENCH)


@dataclass(frozen=True)
class Planned:
    """One probe as the doctor knows it.

    ``where`` is ``module:attribute`` in the patient, ``fact`` the key of the fact it answers with, ``child`` the
    process it shares. ``gated``: started only when the device nodes show that asking the driver changes nothing.
    ``after_import``: asked in a fork of the process that has imported torch. ``alone``: runs while nothing else of
    the run computes, in the order of the plan. ``beside``: watches what runs alone, and is told when that has ended.
    ``travels``: whether another patient may
    be asked too. ``location``: the directory that a plug-in's module is imported from; empty for the payload's own.
    """

    name: str
    where: str
    fact: str
    level: str = "quick"
    child: str = "static"
    seconds: float = 10.0
    gated: bool = False
    after_import: bool = False
    alone: bool = False
    beside: bool = False
    travels: bool = True
    location: str = ""


def _static(name: str, module: str) -> Planned:
    function = name.replace("-", "_")
    return Planned(name, f"envdoctor_probes.{module}:{function}", function)


BUILT_IN: tuple[Planned, ...] = (
    _static("device-nodes", "devices"),
    _static("host", "host"),
    _static("resources", "resources"),
    _static("environment", "environment"),
    _static("pci-bus", "pci"),
    _static("kernel-module", "kernel_module"),
    _static("driver-files", "driver_files"),
    _static("packages", "packages"),
    _static("torch-path", "torch_path"),
    _static("torch-build", "torch_build"),
    Planned("torch-files", "envdoctor_probes.torch_files:torch_files", "torch_files", child="ledger"),
    _static("compile-tools", "compile_tools"),
    Planned("libraries", "envdoctor_probes.libraries:libraries", "libraries", child="ledger"),
    Planned("extensions", "envdoctor_probes.extensions:extensions", "extensions", child="extensions"),
    Planned("toolkit", "envdoctor_probes.toolkit:toolkit", "toolkit", child="ledger", seconds=12.0),
    _static("kernel-log", "kernel_log"),
    _static("container", "nvidia_container"),
    _static("fabric", "fabric"),
    _static("job", "job"),
    Planned("storage", "envdoctor_probes.storage:storage", "storage", child="storage", seconds=5.0),
    Planned("gpu-state", "envdoctor_probes.nvml:gpu_state", "gpu_state", child="nvml", seconds=13.0, gated=True),
    Planned(
        "gpu-fabric", "envdoctor_probes.nvml_fabric:gpu_fabric", "gpu_fabric", child="nvml-fabric",
        seconds=14.0, gated=True,
    ),
    Planned("cuda-driver", "envdoctor_probes.cuda_driver:cuda_driver", "cuda_driver", child="libcuda", gated=True),
    Planned("cuda-runtime", "envdoctor_probes.cuda_runtime:cuda_runtime", "cuda_runtime", child="cudart", gated=True),
    Planned("nvidia-smi", "envdoctor_probes.nvidia_smi:nvidia_smi", "nvidia_smi", child="nvidia-smi", gated=True),
    Planned(
        "torch-import", "envdoctor_probes.torch_import:torch_import", "torch_import", "standard", "torch", seconds=90.0
    ),
    Planned(
        "torch-settings", "envdoctor_probes.torch_settings:torch_settings", "torch_settings", "standard", "torch",
        seconds=20.0, after_import=True,
    ),
    Planned(
        "torch-cuda", "envdoctor_probes.torch_cuda:torch_cuda", "torch_cuda", "standard", "torch",
        seconds=30.0, after_import=True,
    ),
    Planned(
        "mapped-libraries", "envdoctor_probes.mapped:mapped_libraries", "mapped_libraries", "standard", "torch",
        seconds=10.0, after_import=True,
    ),
    Planned(
        "kernel-answers", "envdoctor_probes.kernels:kernel_answers", "kernel_answers", "deep", "torch",
        seconds=60.0, after_import=True,
    ),
)  # fmt: skip


# Asked by ``envdoctor fleet`` alone, which is allowed to open connections.
RENDEZVOUS = Planned(
    "rendezvous", "envdoctor_probes.rendezvous:rendezvous", "rendezvous", child="rendezvous", seconds=25.0
)
# What is the same for all processes of one machine: one rank of each node asks it for all of them.
MACHINE_WIDE = frozenset((
    "host", "pci-bus", "device-nodes", "kernel-module", "driver-files", "packages", "torch-files", "compile-tools",
    "extensions", "toolkit", "kernel-log", "container", "storage", "gpu-state", "gpu-fabric", "nvidia-smi",
))  # fmt: skip


def for_rank(planned: Sequence[Planned], *, leads: bool) -> tuple[Planned, ...]:
    """Give the probes that one of several ranks of a machine asks; ``leads``: the one that asks for all of them."""
    return tuple(each for each in planned if leads or each.name not in MACHINE_WIDE)


def for_level(level: str, probes: tuple[Planned, ...] = BUILT_IN) -> tuple[Planned, ...]:
    """Give the probes that ``level`` runs, the lower levels' included."""
    return tuple(p for p in probes if LEVELS.index(p.level) <= LEVELS.index(level))


def level_of(fact: str, probes: tuple[Planned, ...] = BUILT_IN) -> str:
    """Give the lowest level at which ``fact`` (a key) is collected; facts of no probe are there from the start.

    What only a benchmark collects is of "level" ``bench``.
    """
    if fact.startswith(f"{BENCH}_"):
        return BENCH
    return next((p.level for p in probes if p.fact == fact), "quick")


def with_prerequisites(planned: Sequence[Planned], known: Sequence[Planned] = BUILT_IN) -> tuple[Planned, ...]:
    """Add what the planned probes cannot do without: the look at the device nodes, and the import of torch."""
    names = {each.name for each in planned}
    wanted = set()
    if any(each.gated for each in planned):
        wanted.add("device-nodes")
    if any(each.after_import for each in planned):
        wanted.add("torch-import")
    missing = tuple(each for each in known if each.name in wanted - names)
    return (*missing, *planned)


MODELS = {
    "vit_b16": "ViT-B/16 at 224: 86,567,656 parameters",
    "vit_s16": "ViT-S/16 at 224",
    "vit_l16": "ViT-L/16 at 224",
    "vit_ti16": "ViT-Ti/16 at 224",
    "bert_base": "BERT base with its masked-word head, 512 tokens (128 on a CPU)",
    "llama_block": "one block of a Llama 3 8B, 2048 tokens (128 on a CPU)",
    "resnet50": "ResNet-50, from the target's torchvision or timm",
    "swin_t": "Swin-T, from the target's torchvision or timm",
    "convnext_t": "ConvNeXt-T, from the target's torchvision or timm",
}
SUITES = ("gemm", "memory", "copies", "attention", "model", "ladder", "loader", "collectives", "host")
DEFAULT_SUITES = ("gemm", "memory", "copies", "attention", "model", "ladder")
# Seconds of measuring for all suites together; importing, starting CUDA and making models come on top.
BUDGETS = {"quick": 40.0, "default": 190.0, "full": 780.0}
_WEIGHTS = {
    "gemm": 4.0, "memory": 1.0, "copies": 1.0, "attention": 2.0, "model": 4.0, "ladder": 8.0, "loader": 3.0,
    "collectives": 3.0, "host": 1.0,
}  # fmt: skip
# A CPU has no copies to a device, its products are soon told, and a training step takes seconds.
CPU_BUDGETS = {"quick": 40.0, "default": 195.0, "full": 780.0}
_CPU_WEIGHTS = {**_WEIGHTS, "gemm": 1.5, "memory": 0.5, "copies": 0.1, "attention": 1.2, "model": 3.5, "ladder": 14.0}
_DEVICE_SECONDS = 60.0  # the first question to a device may have to wait for the driver
_SLACK = 45.0  # what a suite may take beyond its share: an operation that has begun is finished


def shares(suites: Sequence[str], budget: str = "default", *, on_cpu: bool = False) -> dict[str, float]:
    """Give the seconds that each suite may measure for; no new measurement is begun after them."""
    weights, budgets = (_CPU_WEIGHTS, CPU_BUDGETS) if on_cpu else (_WEIGHTS, BUDGETS)
    total = sum(weights[each] for each in suites)
    return {each: budgets[budget] * weights[each] / total for each in suites}


def bench(suites: Sequence[str] = DEFAULT_SUITES, seconds: dict[str, float] | None = None) -> tuple[Planned, ...]:
    """Give the probes of a benchmark: the device, the clocks beside it all, and one suite after the other.

    What is to be measured reaches them as ``Patient.options["bench"]``, all of it optional:

    * ``model``: ``vit_b16`` (default), another name of ``envdoctor list models``, or ``module:callable``
    * ``device``: ``cuda``, ``cuda:1``, ``cpu``; default: the first GPU that torch can use, else the CPU
    * ``batch``: samples in a step; default: chosen by the device's memory, 1 or 2 on a CPU
    * ``budget``: ``quick``, ``default`` or ``full``: how long the pre-heat is and how many shapes there are
    * ``seconds``: by suite, the time to measure for, as ``shares()`` gives it. The deadline after which a suite is
      killed lies ``_SLACK`` seconds behind that
    * ``images``: a folder of images for the loader; default: JPEGs made on the spot
    * ``memory_fraction``: how much of the free memory may be used; default 0.8
    * ``threads``: on a CPU, how many threads torch may compute with; default: as many as it has
    * ``ranks``: processes for the collectives when nobody launched us; default: one a GPU, two on a CPU
    """
    given = shares(suites) if seconds is None else seconds
    total = sum(given.values()) + _SLACK * len(given) + _DEVICE_SECONDS
    clocks = Planned(
        "bench-clocks", "envdoctor_probes.bench.clocks:bench_clocks", "bench_clocks", "deep", "bench-clocks",
        seconds=total, gated=True, beside=True,
    )  # fmt: skip
    measured = (_measuring("device", _DEVICE_SECONDS), *(_measuring(each, given[each] + _SLACK) for each in suites))
    return (clocks, *measured)


def _measuring(suite: str, seconds: float) -> Planned:
    return Planned(
        f"bench-{suite}", f"envdoctor_probes.bench.{suite}:bench_{suite}", f"bench_{suite}", "deep", "torch",
        seconds=seconds, after_import=True, alone=True,
    )  # fmt: skip
