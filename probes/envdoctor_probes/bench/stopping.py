"""[payload] When enough has been measured: pure arithmetic over samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

__all__ = ["CPU_RULE", "GPU_RULE", "QUICK_GPU_RULE", "Rule", "quartiles", "spread"]

MOST_SAMPLES = 2000
FEWEST_SAMPLES = 5


@dataclass(frozen=True)
class Rule:
    """Stop when ``least`` samples took ``seconds`` together and their spread (IQR / median) is at most ``spread``.

    Without a ``spread`` the first two decide. After ``most_seconds`` it is given up, and called noisy.
    """

    least: int = 20
    seconds: float = 0.5
    spread: Optional[float] = 0.01
    most_seconds: float = 10.0

    def verdict(self, samples: Sequence[float], elapsed: float, left: float, *, exhausted: bool) -> str:
        """Say why to stop now (steady, noisy, budget, fixed-count), or nothing.

        ``elapsed``: since the first sample; ``left``: of this measurement's share of the time, which some samples may
        overdraw until it is ``exhausted``.
        """
        enough = len(samples) >= self.least and sum(samples) >= self.seconds
        if enough and self.spread is None:
            return "fixed-count"
        if enough and self.spread is not None and spread(samples) <= self.spread:
            return "steady"
        over = left <= 0 and (exhausted or len(samples) >= FEWEST_SAMPLES)
        if over:
            return "noisy" if enough else "budget"
        if elapsed >= self.most_seconds or len(samples) >= MOST_SAMPLES:
            return "noisy" if self.spread is not None else "fixed-count"
        return ""


GPU_RULE = Rule()
QUICK_GPU_RULE = Rule(seconds=0.2, most_seconds=2.0)
CPU_RULE = Rule(least=5, seconds=0.2, spread=None, most_seconds=30.0)


def quartiles(samples: Sequence[float]) -> Tuple[float, float, float]:
    """Give q1, median and q3, interpolated between neighbours; raises ``ValueError`` without samples."""
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)

    def at(part: float) -> float:
        place = part * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

    return at(0.25), at(0.5), at(0.75)


def spread(samples: Sequence[float]) -> float:
    """Give IQR / median: how far the middle half of the samples lies apart."""
    low, middle, high = quartiles(samples)
    return (high - low) / middle if middle > 0 else 0.0
