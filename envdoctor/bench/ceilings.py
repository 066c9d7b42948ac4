"""Ceilings side by side, in images a second: compute, loader, copy, communication; and which of them binds."""

from __future__ import annotations

from dataclasses import dataclass

GIGA = 1e9
NAMES = ("compute", "loader", "copy", "communication")


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What each part alone would allow for all GPUs together, in images a second; None: it was not measured.

    ``loader`` is one host's; a job on several hosts has one on each.
    """

    compute: float | None = None
    loader: float | None = None
    copy: float | None = None
    communication: float | None = None

    @property
    def binds(self) -> str | None:
        """Name the lowest of those that were measured; None when fewer than one was."""
        known = {name: value for name in NAMES if (value := getattr(self, name)) is not None}
        return min(known, key=lambda name: known[name]) if known else None

    @property
    def lowest(self) -> float | None:
        """Give the images a second that the lowest one allows."""
        return getattr(self, self.binds) if self.binds else None

    @property
    def unmeasured(self) -> tuple[str, ...]:
        """Name those that were not measured, and so are not counted."""
        return tuple(name for name in NAMES if getattr(self, name) is None)


@dataclass(frozen=True, slots=True)
class Parts:
    """What was measured on one GPU or host: images a second, GB/s, and bytes.

    ``gradient_bytes``: what one step's all-reduce carries; ``busbw_gbs``: as nccl-tests define it, over ``ranks``.
    """

    step_images: float | None = None
    step_batch: int | None = None
    loader_images: float | None = None
    copy_gbs: float | None = None
    image_bytes: float | None = None
    busbw_gbs: float | None = None
    gradient_bytes: float | None = None


def ceilings(parts: Parts, gpus: int = 1) -> Ceilings:
    """Put the parts of one GPU side by side for a job of ``gpus`` on one host."""
    copy = parts.copy_gbs * GIGA / parts.image_bytes * gpus if parts.copy_gbs and parts.image_bytes else None
    return Ceilings(
        compute=parts.step_images * gpus if parts.step_images else None,
        loader=parts.loader_images,
        copy=copy,
        communication=_communication(parts, gpus),
    )


def all_reduce_seconds(gradient_bytes: float, busbw_gbs: float, ranks: int) -> float:
    """Give the time of one all-reduce: bytes x 2(n-1)/n over the bus bandwidth (nccl-tests, PERFORMANCE.md)."""
    return gradient_bytes * 2 * (ranks - 1) / ranks / (busbw_gbs * GIGA)


def _communication(parts: Parts, gpus: int) -> float | None:
    """Give what communication alone would allow: each step's images over the time of its all-reduce."""
    if gpus < 2 or not (parts.busbw_gbs and parts.gradient_bytes and parts.step_batch):
        return None
    return parts.step_batch * gpus / all_reduce_seconds(parts.gradient_bytes, parts.busbw_gbs, gpus)
