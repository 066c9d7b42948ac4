"""What a GPU can do by its vendor's figures: dense peaks at FP32 accumulate, memory, links, power.

A device is matched by the driver's whole name, and then held against its own SM count and memory: a MIG slice, a
laptop part and a card of the same name with other memory are not the card in the table.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

import msgspec

from envdoctor.knowledge import rows
from envdoctor.knowledge.gpus import capability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envdoctor.knowledge.gpus import Capability

# Column of gpu_specs.csv by precision, as measured with torch: a product accumulates in FP32 (int8: in int32), and an
# fp64 product runs on the Tensor Cores where there are fp64 ones.
PEAK_COLUMNS = {
    "fp64": ("fp64_tensor", "fp64"),
    "fp32": ("fp32",),
    "tf32": ("tf32",),
    "fp16": ("fp16_tensor",),
    "bf16": ("bf16_tensor",),
    "fp8": ("fp8",),
    "int8": ("int8",),
}
# FP32 lanes x 2 (a fused multiply-add is two operations), by compute capability: CUDA C++ Programming Guide, table of
# arithmetic instructions. Tensor Core rates of fp64 likewise.
FP32_FLOP_PER_CLOCK: dict[Capability, int] = {
    (6, 0): 128, (6, 1): 256, (7, 0): 128, (7, 5): 128, (8, 0): 128, (8, 6): 256, (8, 9): 256, (9, 0): 256,
    (10, 0): 256, (10, 3): 256, (12, 0): 256,
}  # fmt: skip
FP64_TENSOR_FLOP_PER_CLOCK: dict[Capability, int] = {(8, 0): 128, (9, 0): 256}
# Tensor rates against fp16, where they are the same for all chips of an architecture.
AGAINST_FP16 = {"fp16": 1.0, "bf16": 1.0, "tf32": 0.5}
AMPERE: Capability = (8, 0)
SMALLEST_SHARE, LARGEST_SHARE = 0.84, 1.06  # of the nominal memory: ECC takes 1/16, the driver some more
MIB_PER_GB = 1024.0


class Spec(msgspec.Struct, frozen=True):
    """One GPU model. Peaks in TFLOPS by precision, dense, at FP32 accumulate; bandwidths in GB/s; None: not found.

    ``nvlink_gbs`` counts both directions, as data sheets do. ``basis``: vendor, computed (SMs x clock x rate) or
    secondary.
    """

    gpu: str
    capability: Capability
    sms: int | None
    boost_mhz: int | None
    memory_gb: float | None
    bandwidth_gbs: float | None
    peaks: Mapping[str, float]
    fp16_flop_per_clock: int | None
    l2_mb: float | None
    nvlink_gbs: float | None
    pcie_generation: int | None
    pcie_lanes: int | None
    tdp_watts: float | None
    power_limited: bool
    basis: str
    source: str
    fp16_accumulate_peaks: Mapping[str, float] = msgspec.field(default_factory=dict)

    def flop_per_clock(self, precision: str) -> float | None:
        """Give the operations that one SM does in one clock; None where it is not known.

        Headline peaks are at a clock of the vendor's choice (H100 SXM: 1.83 GHz), so they are not divided by the
        boost clock.
        """
        if precision == "fp32":
            return FP32_FLOP_PER_CLOCK.get(self.capability)
        if precision == "fp64":
            return FP64_TENSOR_FLOP_PER_CLOCK.get(self.capability)
        if self.fp16_flop_per_clock is None or (precision != "fp16" and self.capability < AMPERE):
            return None
        if precision in AGAINST_FP16:
            return self.fp16_flop_per_clock * AGAINST_FP16[precision]
        fp16, wanted = self.peaks.get("fp16"), self.peaks.get(precision)
        return self.fp16_flop_per_clock * round(wanted / fp16) if fp16 and wanted else None


class Match(msgspec.Struct, frozen=True):
    """The row for a device, or why there is none."""

    spec: Spec | None
    reason: str = ""


@functools.cache
def specs() -> tuple[Spec, ...]:
    """Give every row of gpu_specs.csv."""
    return tuple(_spec(row) for row in rows("gpu_specs.csv"))


def _spec(row: Mapping[str, str]) -> Spec:
    peaks = {name: value for name, columns in PEAK_COLUMNS.items() if (value := _first(row, columns)) is not None}
    fp16_accumulate = {"fp16": _number(row["fp16_tensor_fp16acc"]), "fp8": _number(row["fp8_fp16acc"])}
    return Spec(
        gpu=row["gpu"],
        capability=capability(row["compute_capability"]) or (0, 0),
        sms=_whole(row["sms"]),
        boost_mhz=_whole(row["boost_mhz"]),
        memory_gb=_number(row["memory_gb"]),
        bandwidth_gbs=_number(row["mem_bw_gbs"]),
        peaks=peaks,
        fp16_flop_per_clock=_whole(row["fp16_flop_per_clk_per_sm"]),
        l2_mb=_number(row["l2_mb"]),
        nvlink_gbs=_number(row["nvlink_gbs"]),
        pcie_generation=_whole(row["pcie_gen"]),
        pcie_lanes=_whole(row["pcie_lanes"]),
        tdp_watts=_number(row["tdp_w"]),
        power_limited=row["power_limited_gemm"] == "yes",
        basis=row["basis"],
        source=row["source"],
        fp16_accumulate_peaks={name: value for name, value in fp16_accumulate.items() if value is not None},
    )


def _first(row: Mapping[str, str], columns: tuple[str, ...]) -> float | None:
    return next((value for name in columns if (value := _number(row[name])) is not None), None)


def _number(text: str) -> float | None:
    return float(text) if text.strip() else None


def _whole(text: str) -> int | None:
    return int(text) if text.strip() else None


@functools.cache
def _by_driver_name() -> dict[str, Spec]:
    found = {_folded(each.gpu): each for each in specs()}
    for row in rows("gpu_driver_names.csv"):
        found[_folded(row["driver_name"])] = found[_folded(row["gpu"])]
    return found


def _folded(name: str) -> str:
    text = re.sub(r"\s+", " ", name.lower().replace("(r)", "").replace("(tm)", "")).strip()
    return text.removeprefix("nvidia ")


def match(name: str, *, memory_mib: float | None = None, sms: int | None = None) -> Match:
    """Find the row of a device by the name that its driver gives, held against its own memory and SM count.

    ``memory_mib`` and ``sms`` as the device reports them; None when they are not known, and then they do not decide.
    """
    spec = _by_driver_name().get(_folded(name))
    if spec is None:
        return Match(None, f"the tables do not hold {name!r}")
    if sms is not None and spec.sms is not None and sms != spec.sms:
        return Match(None, f"this {name} has {sms} SMs, the one in the tables has {spec.sms}: MIG, or another variant")
    if memory_mib is not None and spec.memory_gb is not None:
        share = memory_mib / (spec.memory_gb * MIB_PER_GB)
        if not SMALLEST_SHARE <= share <= LARGEST_SHARE:
            has = memory_mib / MIB_PER_GB
            return Match(None, f"this {name} has {has:.0f} GiB, the one in the tables has {spec.memory_gb:g} GB")
    return Match(spec)
