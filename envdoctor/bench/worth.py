"""What a fact that differs between two environments is worth here: the ladder's own measurement of that one thing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envdoctor.bench.ladder import named
from envdoctor.bench.statistics import Change

if TYPE_CHECKING:
    from envdoctor.bench.ladder import Rung

# Facts by dotted key, and the words in the name of the ladder's row that measures what they change.
MEASURED_BY: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (
            r"torch_settings\.(matmul_fp32_precision|float32_matmul_precision|fp32_precision|allow_tf32_matmul)",
            ("tf32",),
        ),
        (r"variable\.(NVIDIA_TF32_OVERRIDE|TORCH_ALLOW_TF32_CUBLAS_OVERRIDE)", ("tf32",)),
        (r"bench_device\.fp32_precision", ("tf32",)),
        (r"torch_settings\.(flash_sdp|mem_efficient_sdp|cudnn_sdp|math_sdp)", ("math-attention", "math attention")),
        (r"variable\.TORCH_CUDNN_SDPA", ("math-attention", "math attention")),
        (r"torch_settings\.(deterministic_algorithms|cudnn_deterministic)", ("deterministic",)),
        (r"variable\.CUBLAS_WORKSPACE_CONFIG", ("deterministic",)),
        (r"torch_settings\.cudnn_benchmark", ("cudnn",)),
        (r"compile_tools\.|package\.(triton|pytorch-triton)", ("compile",)),
    )
)


@dataclass(frozen=True, slots=True)
class Worth:
    """A factor in speed, and which row of which ladder measured it."""

    factor: float
    step: str

    @property
    def size(self) -> float:
        """Give how far from nothing it is, whichever way round."""
        return max(self.factor, 1 / self.factor) if self.factor > 0 else 1.0


def worth(key: str, *ladders: tuple[Rung, ...]) -> Worth | None:
    """Give what a fact's difference was measured to be worth, or None where no row measured it."""
    words = next((words for pattern, words in MEASURED_BY if pattern.match(key)), ())
    for rungs in ladders if words else ():
        rung = named(rungs, *words)
        if rung and rung.speedup and rung.verdict in {Change.FASTER.value, Change.SLOWER.value}:
            return Worth(rung.speedup, rung.step)
    return None
