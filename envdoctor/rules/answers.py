"""What libcuda, libcudart and torch answered when CUDA was asked to start, and the codes that mean one thing only."""

from __future__ import annotations

import re

from envdoctor.facts.driver import CudaDriver, CudaRuntime
from envdoctor.facts.torch import TorchCuda
from envdoctor.finding import Evidence, see

STUB_LIBRARY = 34
INSUFFICIENT_DRIVER = 35
NO_DEVICE = 100
NOT_READY = 802
SYSTEM_DRIVER_MISMATCH = 803
COMPAT_NOT_SUPPORTED = 804


def answered(driver: CudaDriver | None, runtime: CudaRuntime | None) -> bool:
    """Tell whether CUDA was asked at all."""
    return (driver is not None and driver.init_code is not None) or (runtime is not None and runtime.code is not None)


def evidence_of(
    code: int, driver: CudaDriver | None, runtime: CudaRuntime | None, cuda: TorchCuda | None = None
) -> tuple[Evidence, ...]:
    """Give the answers that carry this code: libcuda's, then libcudart's, then the one in torch's words."""
    found = []
    if driver and driver.init_code == code:
        found.append(cu_init(driver))
    if runtime and runtime.code == code:
        found.append(cudart(runtime))
    if cuda and torch_code(cuda) == code:
        found.append(torch_says(cuda))
    return tuple(found)


def torch_code(cuda: TorchCuda) -> int | None:
    """Read the CUDA error code out of torch's words: ``… Error 802: system not yet initialized`` -> 802.

    Older ones say ``cuda runtime error (802) :``, NCCL says ``Cuda failure 802``.
    """
    match = re.search(r"\b(?:error|failure) ?\(?(\d+)\)?\s*[:']", _words(cuda), re.IGNORECASE)
    return int(match[1]) if match else None


def torch_level(cuda: TorchCuda | None) -> str | None:
    """Read the driver's CUDA level out of torch's words: ``(found version 11040)`` -> ``11.4``."""
    match = re.search(r"driver on your system is too old \(found version (\d+)\)", _words(cuda)) if cuda else None
    return f"{int(match[1]) // 1000}.{int(match[1]) % 1000 // 10}" if match else None


def cu_init(driver: CudaDriver) -> Evidence:
    """Give cuInit's answer with its name and words."""
    return see(driver, "init_code", "cuInit answers", _spoken(driver.init_code, driver.init_name, driver.init_words))


def cudart(runtime: CudaRuntime) -> Evidence:
    """Give libcudart's answer with its name and words."""
    library = (runtime.library or "libcudart").rpartition("/")[2]
    return see(runtime, "code", f"{library} answers", _spoken(runtime.code, runtime.name, runtime.words))


def torch_says(cuda: TorchCuda) -> Evidence:
    """Give torch's own verdict, with its words where it gave any."""
    words = cuda.error or next(iter(cuda.warnings), "")
    return see(cuda, "available", "torch.cuda.is_available()", f"{cuda.available}: {words}" if words else None)


def _words(cuda: TorchCuda) -> str:
    return " ".join((cuda.error or "", *cuda.warnings))


def _spoken(code: int | None, name: str | None, words: str | None) -> str:
    head = f"{code} {name}" if name else str(code)
    return f"{head}: {words}" if words else head
