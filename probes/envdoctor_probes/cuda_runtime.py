"""[payload] cuda-runtime: the verdict of the very libcudart that torch would load, asked without importing torch."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from envdoctor.facts.driver import CudaRuntime
from envdoctor.probe import Context, NotThere, probe
from envdoctor_probes.cuda_driver import cuda_version, mapped
from envdoctor_probes.devices import require_cuda
from envdoctor_probes.elf import Elf, ElfError

__all__ = ["cuda_runtime", "find_cudart", "needed_cudart"]

# In the order in which torch loads them; the last is what libtorch_cuda was called before torch 1.5.
_USERS = ("libtorch_global_deps.so", "libc10_cuda.so", "libtorch_cuda.so", "libcaffe2_gpu.so")


@probe(child="cudart")
def cuda_runtime(context: Context) -> CudaRuntime:
    """Find the libcudart that torch would load, load it, and ask it for versions and devices."""
    require_cuda(context)
    library, how = find_cudart(_torch(context), context.path, context.environ)
    if library is None:
        return _not_asked(how)
    fact = CudaRuntime(library=library, linked_statically=False, sources={"library": how})
    with context.calling(f"load {os.path.basename(library)}"):
        import ctypes

        runtime = ctypes.CDLL(library)
    fact = replace(fact, library=mapped("libcudart") or library)
    context.so_far(fact)
    fact = _with_versions(context, fact, runtime)
    context.so_far(fact)
    return _with_devices(context, fact, runtime)


def _torch(context: Context) -> str:
    """Give the folder of the torch that an import would take."""
    from envdoctor_probes.metadata import listings
    from envdoctor_probes.modules import find_everywhere

    found = find_everywhere("torch", listings(context))
    if not found or not os.path.isdir(os.path.join(found[0].path, "lib")):
        raise NotThere("no torch with libraries is on the path")
    return found[0].path


def needed_cudart(torch_dir: str) -> Tuple[Optional[str], str]:
    """Say under which name torch's libraries ask for libcudart, and which one asks; None when none of them does."""
    asked = ""
    for name in _USERS:
        path = os.path.join(torch_dir, "lib", name)
        if not os.path.exists(path):
            continue
        asked = path if name != _USERS[0] else asked
        try:
            with Elf(path) as elf:
                wanted = next((each for each in elf.needed if each.startswith("libcudart")), None)
        except ElfError:
            continue
        if wanted:
            return wanted, path
    return None, asked


def find_cudart(
    torch_dir: str, path: Sequence[str], environ: Optional[Mapping[str, str]] = None
) -> Tuple[Optional[str], str]:
    """Give the libcudart that ``import torch`` would load and how it is found; None with the reason.

    An empty reason means that torch has CUDA code and asks for no libcudart: it is linked in statically.
    """
    from envdoctor_probes.loader import Loader, LoaderError
    from envdoctor_probes.torch_load_order import play_torch

    wanted, asker = needed_cudart(torch_dir)
    if wanted is None:
        if not asker:
            raise NotThere("this torch is built without CUDA")
        return None, ""
    try:
        loader = Loader(sys.executable, os.environ if environ is None else environ)
        complaints = play_torch(loader, torch_dir, path)
    except (OSError, LoaderError) as error:
        return None, f"the loader's search cannot be played: {error}"
    found = loader.find(wanted)
    if found is None:
        return None, f"{wanted}, which {asker} needs, is not found: {next(iter(complaints), 'no complaint')}"
    return found.path, f"{found.via}, asked for by {os.path.basename(found.loader.path if found.loader else asker)}"


def _not_asked(how: str) -> CudaRuntime:
    fields = ("runtime_version", "driver_version", "code", "name", "words", "device_count", "seconds")
    if how:
        return CudaRuntime(linked_statically=False, unknown=dict.fromkeys(("library", *fields), how))
    reason = "torch has libcudart linked in statically: only torch itself can be asked (level standard)"
    return CudaRuntime(linked_statically=True, unknown=dict.fromkeys(("library", *fields), reason))


def _with_versions(context: Context, fact: CudaRuntime, runtime: Any) -> CudaRuntime:
    """Ask for both versions; the second question already loads libcuda, and some runtimes start it then."""
    unknown = dict(fact.unknown)
    versions: Dict[str, Any] = {}
    started = time.monotonic()
    for field, function in (("runtime_version", "cudaRuntimeGetVersion"), ("driver_version", "cudaDriverGetVersion")):
        with context.calling(function):
            code, number = _integer(runtime, function)
        if code or number <= 0:  # 0: no driver is installed
            unknown[field] = f"{function} answers {code}, version {number}"
        else:
            versions[field] = cuda_version(number)
    return replace(fact, unknown=unknown, seconds=time.monotonic() - started, **versions)


def _with_devices(context: Context, fact: CudaRuntime, runtime: Any) -> CudaRuntime:
    """Count the devices, which starts the driver, and keep the runtime's own code, name and words."""
    import ctypes

    started = time.monotonic()
    with context.calling("cudaGetDeviceCount"):
        code, count = _integer(runtime, "cudaGetDeviceCount")
    seconds = round((fact.seconds or 0.0) + time.monotonic() - started, 6)
    words = []
    for function in ("cudaGetErrorName", "cudaGetErrorString"):
        describe = runtime[function]
        describe.restype = ctypes.c_char_p
        describe.argtypes = [ctypes.c_int]
        words.append((describe(code) or b"").decode("utf-8", "replace") or None)
    unknown = dict(fact.unknown)
    if code:
        unknown["device_count"] = f"cudaGetDeviceCount answers {code} {words[0] or ''}".strip()
    return replace(
        fact, code=code, name=words[0], words=words[1], device_count=None if code else count, seconds=seconds,
        unknown=unknown,
    )  # fmt: skip


def _integer(runtime: Any, function: str) -> Tuple[int, int]:
    import ctypes

    value = ctypes.c_int(-1)
    code = int(runtime[function](ctypes.byref(value)))
    return code, value.value
