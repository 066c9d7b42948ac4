"""Published measurements and vendors' floors of GPUs, with their conditions: what a healthy one is known to give.

Only runs that measure the same thing are compared with ours: no zeros as input, no test that loads one pipe only, no
wall clock around each call, no row that its own source marks as an outlier. No row means no reference: never a guess.
"""

from __future__ import annotations

import functools
import re

import msgspec

from envdoctor.knowledge import rows

MEASURED, THRESHOLD, MODEL = "measured", "threshold", "model"
NO_FLOOR = "not used as a floor"
# Conditions under which a row says nothing about a torch program of today, by what its configuration or notes say.
NOT_COMPARABLE = re.compile(
    r"all-zero inputs|dcgmproftester -t 100[78]|uniform 10\*rand|outlier|unpinned|no autocast",
    re.IGNORECASE,
)
PRECISIONS = {"amp_fp16": ("amp_fp16",), "amp_bf16": ("amp_bf16", "bf16_amp"), "fp64": ("fp64_tc", "fp64")}
# Bandwidth of one NVLink in one direction (GB/s) as NCCL's topology model takes it, by compute capability.
NVLINK_GBS: dict[tuple[int, ...], float] = {
    (6, 0): 18.0, (7, 0): 20.0, (8, 0): 20.0, (8, 6): 12.0, (9, 0): 20.6, (10, 0): 40.1, (10, 3): 40.1,
}  # fmt: skip
NVLINK_SOURCE = "NVIDIA/nccl@5067397 src/graph/topo.h: bandwidth of one link x links"
PCIE_GBS = {3: 12.4, 4: 25.9, 5: 55.1}  # x16, pinned, one direction: healthy machines
PCIE_SOURCE = (
    "microsoft/superbench-results@5e77aa7 (Gen3 12.4, Gen4 25.9: mean of 729 nodes), "
    "stas00/ml-engineering@744d01e (Gen5 55.1)"
)
FULL_WIDTH = 16


class Row(msgspec.Struct, frozen=True):
    """One published figure: ``kind`` is measured, threshold (what a vendor's test fails below) or model."""

    gpu: str
    measurement: str
    config: str
    precision: str
    value: float
    unit: str
    software: str
    source: str
    kind: str
    statistic: str
    gpus: int
    percent_of_peak: float | None
    notes: str

    @property
    def comparable(self) -> bool:
        """Tell whether it was measured so that a torch program of today can be held against it."""
        return self.kind == MEASURED and not NOT_COMPARABLE.search(f"{self.config} {self.software} {self.notes}")

    @property
    def is_floor(self) -> bool:
        """Tell whether a vendor's test fails below it; a row above what the hardware can do is kept, and marked."""
        return self.kind == THRESHOLD and NO_FLOOR not in self.notes


class Typical(msgspec.Struct, frozen=True):
    """What comparable rows agree on: their median, from how many, and where the nearest to it was published."""

    value: float
    unit: str
    count: int
    lowest: float
    highest: float
    source: str
    conditions: str


@functools.cache
def table() -> tuple[Row, ...]:
    """Give every row of reference_results.csv."""
    return tuple(
        Row(
            each["gpu"],
            each["measurement"],
            each["config"],
            each["precision"],
            float(each["value"]),
            each["unit"],
            each["software"],
            each["source"],
            each["kind"],
            each["statistic"],
            int(each["n_gpus"]),
            float(each["pct_of_dense_peak"]) if each["pct_of_dense_peak"] else None,
            each["notes"],
        )
        for each in rows("reference_results.csv")
    )


@functools.cache
def _of(gpu: str, measurement: str) -> tuple[Row, ...]:
    return tuple(each for each in table() if (each.gpu, each.measurement) == (gpu, measurement))


def _chosen(gpu: str, measurement: str, precision: str, words: str, gpus: int) -> list[Row]:
    for name in PRECISIONS.get(precision, (precision,)):
        found = [
            each
            for each in _of(gpu, measurement)
            if each.gpus == gpus and name in {each.precision, ""} | {"bytes"} & {each.precision}
        ]
        found = [each for each in found if re.search(words, each.config, re.IGNORECASE)]
        if found:
            return found
    return []


def typical(gpu: str, measurement: str, precision: str = "", *, words: str = "", gpus: int = 1) -> Typical | None:
    """Give the median of the comparable rows of a GPU, or None when nobody published any.

    ``words``: a pattern that the row's configuration must match (a model's name, a size, ``default``).
    """
    import statistics

    found = [each for each in _chosen(gpu, measurement, precision, words, gpus) if each.comparable]
    if not found:
        return None
    values = [each.value for each in found]
    middle = statistics.median(values)
    nearest = min(found, key=lambda each: abs(each.value - middle))
    said = "; ".join(filter(None, (nearest.config, nearest.statistic, nearest.software)))
    return Typical(middle, nearest.unit, len(found), min(values), max(values), nearest.source, said)


def floor(gpu: str, measurement: str, *, gpus: int = 1) -> Row | None:
    """Give the value below which a vendor's own acceptance test fails this GPU, or None."""
    found = [each for each in _of(gpu, measurement) if each.is_floor and each.gpus == gpus]
    return max(found, key=lambda each: each.value, default=None)


def over_pcie(generation: int, width: int) -> float | None:
    """Give what a pinned copy in one direction reaches over a healthy link (GB/s); None where that is not known."""
    full = PCIE_GBS.get(generation)
    return None if full is None else full * width / FULL_WIDTH


def over_nvlink(capability: tuple[int, ...], links: int) -> float | None:
    """Give what a ring all-reduce reaches over so many active links (GB/s, busbw); None for a GPU NCCL knows not."""
    each = NVLINK_GBS.get(capability[:2])
    return None if each is None else each * links
