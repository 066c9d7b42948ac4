"""[payload] cuda-driver: libcuda's own answer, asked in a process of its own. No context is ever created."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, List, Optional, Tuple

from envdoctor.facts.driver import CudaDevice, CudaDriver
from envdoctor.probe import Context, NotThere, probe
from envdoctor_probes.devices import require_cuda

if TYPE_CHECKING:
    import ctypes

__all__ = ["cuda_driver", "cuda_version", "load", "mapped", "parse_maps"]

_LIBCUDA = "libcuda.so.1"
_NAME_BYTES = 256


@probe(child="libcuda")
def cuda_driver(context: Context) -> CudaDriver:
    """Ask libcuda for its CUDA level, start it, and list its devices; answers after each step."""
    require_cuda(context)
    with context.calling(f"load {_LIBCUDA}"):
        library = load(_LIBCUDA)
    fact = CudaDriver(libcuda=mapped("libcuda.so"))
    with context.calling("cuDriverGetVersion"):
        fact = _with_version(fact, library)
    context.so_far(fact)
    fact = _started(context, fact, library)
    context.so_far(fact)
    if fact.init_code == 0:
        with context.calling("cuDeviceGet"):
            fact = _with_devices(fact, library)
    return fact


def load(name: str) -> ctypes.CDLL:
    """Load a library as a program would; raises ``NotThere`` when the loader finds none of that name."""
    import ctypes

    try:
        return ctypes.CDLL(name)
    except OSError as error:
        if str(error).startswith(f"{name}: cannot open shared object file: No such file"):
            raise NotThere(str(error)) from error
        raise


def cuda_version(number: int) -> str:
    """Turn 12020 into ``12.2``."""
    return f"{number // 1000}.{number % 1000 // 10}"


def mapped(name: str) -> Optional[str]:
    """Say which file of that name this process has mapped."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            return parse_maps(file.read(), name)
    except OSError:
        return None


def parse_maps(text: str, name: str) -> Optional[str]:
    """Find the mapped file whose name starts with ``name`` in the text of /proc/PID/maps."""
    for line in text.splitlines():
        parts = line.split(None, 5)
        if len(parts) == 6 and parts[5].rpartition("/")[2].startswith(name):
            return parts[5]
    return None


def _integer(library: Any, function: str, *arguments: Any) -> Tuple[int, int]:
    """Call ``function(&integer, arguments…)``: its code and the integer."""
    import ctypes

    value = ctypes.c_int(-1)
    code = int(library[function](ctypes.byref(value), *arguments))
    return code, value.value


def _words(library: Any, code: int) -> Tuple[Optional[str], Optional[str]]:
    """Give libcuda's name and words for a code; None for one that it does not know."""
    import ctypes

    found: List[Optional[str]] = []
    for function in ("cuGetErrorName", "cuGetErrorString"):
        text = ctypes.c_char_p()
        failed = library[function](ctypes.c_int(code), ctypes.byref(text))
        found.append(None if failed or text.value is None else text.value.decode("utf-8", "replace"))
    return found[0], found[1]


def _with_version(fact: CudaDriver, library: Any) -> CudaDriver:
    code, number = _integer(library, "cuDriverGetVersion")
    if code or number <= 0:
        return replace(fact, unknown={**fact.unknown, "cuda_version": f"cuDriverGetVersion answers {code}"})
    return replace(fact, cuda_version=cuda_version(number))


def _started(context: Context, fact: CudaDriver, library: Any) -> CudaDriver:
    """Call cuInit, and keep its code, name, words and time."""
    import ctypes

    started = time.monotonic()
    with context.calling("cuInit"):
        code = int(library.cuInit(ctypes.c_uint(0)))
    seconds = time.monotonic() - started
    name, words = _words(library, code)
    unknown = dict(fact.unknown)
    if code:
        unknown["device_count"] = unknown["devices"] = f"cuInit answers {code} {name or ''}".strip()
    return replace(
        fact, init_code=code, init_name=name, init_words=words, init_seconds=round(seconds, 6), unknown=unknown
    )


def _with_devices(fact: CudaDriver, library: Any) -> CudaDriver:
    code, count = _integer(library, "cuDeviceGetCount")
    if code:
        reason = f"cuDeviceGetCount answers {code}"
        return replace(fact, unknown={**fact.unknown, "device_count": reason, "devices": reason})
    return replace(fact, device_count=count, devices=tuple(_device(library, index) for index in range(count)))


def _device(library: Any, index: int) -> CudaDevice:
    import ctypes

    code, device = _integer(library, "cuDeviceGet", ctypes.c_int(index))
    if code:
        return CudaDevice(index, f"cuDeviceGet answers {code}")
    name = ctypes.create_string_buffer(_NAME_BYTES)
    library.cuDeviceGetName(name, ctypes.c_int(_NAME_BYTES), ctypes.c_int(device))
    size = ctypes.c_size_t()
    no_size = library.cuDeviceTotalMem_v2(ctypes.byref(size), ctypes.c_int(device))
    return CudaDevice(
        index,
        name.value.decode("utf-8", "replace"),
        _capability(library, device),
        None if no_size else size.value >> 20,
    )


def _capability(library: Any, device: int) -> Optional[str]:
    """Ask for the two attributes; the one call for both is deprecated."""
    import ctypes

    numbers = [
        _integer(library, "cuDeviceGetAttribute", ctypes.c_int(attribute), ctypes.c_int(device))
        for attribute in (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
    ]
    return None if any(code for code, _ in numbers) else ".".join(str(number) for _, number in numbers)
