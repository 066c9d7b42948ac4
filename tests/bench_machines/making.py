"""Make benchmark facts from rates: seconds that scatter as real ones do, and clocks beside them.

CONSTRUCTED. Nothing here was measured by us: rates of products, memory and links are those that
``reference_results.csv`` holds with their sources; what nobody published is marked where it stands.
"""

from __future__ import annotations

import random
import zlib
from typing import Any

from envdoctor.facts.bench import BenchClocks, BenchDevice, ClockTrack, Measured

SCALE = {"flop": 1e12, "byte": 1e9, "image": 1.0}
STEP = 2.0  # seconds that each measurement takes
LOOKS = 20  # of the sampler, in each measurement


def measured(
    suite: str, name: str, rate: float, work: float, unit: str, precision: str = "", *, at: int = 0, n: int = 30,
    scatter: float = 0.002, **more: Any,
) -> Measured:  # fmt: skip
    """Make a measurement of so many TFLOPS, GB/s or images/s; ``at``: its place among the others."""
    dice = random.Random(zlib.crc32(f"{suite}{name}{precision}{rate}".encode()))
    middle = work / (rate * SCALE[unit])
    seconds = tuple(middle * (1 + dice.gauss(0, scatter)) for _ in range(n))
    return Measured(
        name=name, suite=suite, precision=precision, seconds=seconds, work=work, work_unit=unit,
        stopped_because="steady", clock="cuda-events", began=at * STEP, ended=(at + 1) * STEP, **more,
    )  # fmt: skip


def product(precision: str, tflops: float, at: int, shape: str = "8192x8192x8192", **more: Any) -> Measured:
    """Make a matrix product."""
    m, n, k = map(int, shape.split("x"))
    given = {"correct": True, "rms_error": {"fp64": 1e-16, "fp32": 2.5e-7, "tf32": 2.9e-4}.get(precision, 2.3e-3)}
    config = {"shape": shape, **more.pop("config", {})}
    return measured("gemm", "gemm", tflops, 2.0 * m * n * k, "flop", precision, at=at, config=config, **(given | more))


def track(
    seconds: float = 80.0, *, mhz: int = 1410, most: int = 1410, watts: float = 390.0, limit: float = 400.0,
    default: float = 400.0, celsius: int = 60, reasons: int = 0x4, generation: int = 4, width: int = 16,
    name: str = "NVIDIA A100-SXM4-80GB",
) -> ClockTrack:  # fmt: skip
    """Make the sampler's columns of one GPU: one look every tenth of a second, all alike."""
    n = int(seconds * 10)
    return ClockTrack(
        0, name, None, "00000000:3b:00.0", tuple(i / 10 for i in range(n)), (mhz,) * n, (1593,) * n, (watts,) * n,
        (celsius,) * n, (reasons,) * n, (generation,) * n, (width,) * n, (100,) * n, most, 1593, generation, width,
        limit, default,
    )  # fmt: skip


def clocks(**more: Any) -> BenchClocks:
    """Make the sampler's fact of one GPU."""
    return BenchClocks(gpus=(track(**more),), period_seconds=0.1)


def gpu(name: str, capability: str, sms: int, memory_mib: int, **more: Any) -> BenchDevice:
    """Make the device that was measured: ours alone, fp32 as torch has it by default."""
    given = {
        "kind": "cuda", "index": 0, "name": name, "pci_address": "00000000:3b:00.0", "capability": capability,
        "sm_count": sms, "memory_mib": memory_mib, "memory_free_mib": memory_mib - 500, "device_count": 1,
        "cpus": 64, "torch_version": "2.13.0+cu130", "cuda_version": "13.0", "fp32_precision": "ieee",
        "exclusive": True, "other_processes": (), "utilization_percent": 0, "mig": False,
    }  # fmt: skip
    return BenchDevice(**(given | more))
