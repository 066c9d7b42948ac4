"""No rule stumbles over facts that nobody has seen together, and each finding names what it rests on."""

from __future__ import annotations

import dataclasses
import random
import typing

import pytest

from envdoctor.diagnose import examine
from envdoctor.facts import Fact
from envdoctor.facts.bench import FACTS as BENCH_FACTS
from envdoctor.facts.host import Variable
from envdoctor.rules import RULES
from envdoctor.snapshot import FACTS, of

WORDS = (
    "", "1", "0", "x", "é", "12.8", "8.0", "7.5", "12.0", "9..9", "2.9.0+cu130", "535.183.01", "6.8.0-1", "25.01",
    "NVIDIA H100 80GB HBM3", "Tesla T4", "GRID T4-2B", "docker", "none", "Linux", "Windows", "PyTorch", "bind:0-1",
    "vgpu", "ok", "not-supported", "pix", "4: ACTIVE", "InfiniBand", "0000:3b:00.0", "/usr/bin/gcc", "a,b;c",
    "cuda", "cpu", "gemm", "fp32", "bf16", "flop", "image", "byte", "measured", "train-step", "nccl", "NET/Socket/0",
    "/usr/lib/wsl/lib/libcuda.so.1", "NVRM: GPU 0000:3b:00.0: RmInitAdapter failed!",
)  # fmt: skip
VALUES = (*WORDS, "64", "lo", "=eth0", "^lo", "8.0;9.0+PTX", "expandable_segments:True", "[", "0,1", "GPU-1", ":4096:8")
NAMES = (
    "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "LOCAL_WORLD_SIZE", "WORLD_SIZE", "SLURM_NNODES", "LOCAL_RANK",
    "NCCL_SOCKET_IFNAME", "NCCL_IB_HCA", "NCCL_DEBUG", "NCCL_P2P_DISABLE", "GLOO_SOCKET_IFNAME", "TRITON_INTERPRET",
    "TORCH_CUDA_ARCH_LIST", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "CUDA_LAUNCH_BLOCKING",
    "NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG",
)  # fmt: skip
KEYS = ("shape", "bytes", "ranks", "op", "device", "backend", "workers", "batch", "without", "m", "numa_node")
PLAIN: dict[object, tuple[object, ...]] = {
    str: WORDS,
    int: (0, 1, 2, 8, 18, 35, 100, 802, 804, 999, -1, 1024, 81559),
    float: (0.0, 1.5, 8.0, 300.0),
    bool: (True, False),
}


def any_value(dice: random.Random, kind: object) -> object:
    """Make some value of a field's type."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind in PLAIN:
        return dice.choice(PLAIN[kind])
    if origin is typing.Union:
        return None if dice.random() < 0.3 else any_value(dice, inner[0])
    if origin is dict and inner == (str, str):
        return {dice.choice(KEYS): dice.choice(VALUES) for _ in range(dice.choice((0, 1, 3)))}
    if origin is tuple and inner[1:] == (...,):
        return tuple(any_value(dice, inner[0]) for _ in range(dice.choice((0, 0, 1, 2, 3))))
    if origin is tuple:
        return tuple(any_value(dice, each) for each in inner)
    return any_of(dice, kind) if isinstance(kind, type) and dataclasses.is_dataclass(kind) else {}


def any_of(dice: random.Random, kind: type) -> object:
    """Make some instance of a dataclass, a third of its fields left at their defaults."""
    if kind is Variable:
        return Variable(dice.choice(NAMES), dice.choice(VALUES))
    hints = typing.get_type_hints(kind)
    names = [each.name for each in dataclasses.fields(kind) if each.name not in {"sources", "unknown"}]
    return kind(**{name: any_value(dice, hints[name]) for name in names if dice.random() > 0.35})


@pytest.mark.parametrize("seed", range(40))
def test_rules_hold_on_any_facts(seed: int) -> None:
    """Each rule ends with a judgement or a reason, never with an exception; no finding is without evidence."""
    dice = random.Random(seed)
    facts = [typing.cast("Fact", any_of(dice, kind)) for kind in (*FACTS, *BENCH_FACTS) if dice.random() < 0.8]
    report = examine(of(*facts, level="standard"))
    assert len(RULES) == len(report.checks)
    assert [] == [(each.id, each.reason) for each in report.checks if each.reason.startswith("the rule itself failed")]
    assert [] == [each.key for each in report.findings if not each.evidence]
