"""[payload] gpu-state: what NVML reports of each card. A card that hangs or is lost does not cost the rest."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any, Callable, Dict, List, Optional, Tuple

from envdoctor.facts.nvml import Gpu, GpuProcess, GpuState
from envdoctor.probe import Context, NotThere, probe
from envdoctor_probes.devices import require_driver
from envdoctor_probes.nvml_questions import Card, words
from envdoctor_probes.own_processes import own_processes
from envdoctor_probes.tree import Tree

__all__ = ["gpu_state", "open_nvml"]

_MPS = "nvidia-cuda-mps"  # the kernel keeps 15 characters of nvidia-cuda-mps-server
SECONDS = 13.0
PER_CARD, SHARE = 2.5, 0.3  # a card that hangs costs this long, and never more than this share of what is left


def open_nvml(context: Context) -> Any:
    """Import pynvml where asking NVML changes nothing; raises ``NotThere`` with the reason elsewhere."""
    require_driver(context)
    import pynvml

    if not hasattr(pynvml, "nvmlDeviceGetHandleByIndex"):
        raise NotThere(f"{getattr(pynvml, '__file__', 'pynvml')} is not nvidia-ml-py's pynvml")
    return pynvml


@probe(child="nvml", seconds=SECONDS)
def gpu_state(context: Context) -> GpuState:
    """Ask NVML about the driver and every card; answers after each card."""
    nv = open_nvml(context)
    started = time.monotonic()
    with context.calling("NVML"):
        refused = _start(nv)
        if refused is not None:
            return refused
        values = _system(nv)
        asked: List[Asked] = []
        named = _naming(context)
        gpus: List[Gpu] = []
        for index in range(values["count"] or 0):
            left = started + SECONDS - 1.0 - time.monotonic()
            asked.append(Asked(nv, index, named))
            gpus.append(asked[-1].gpu(max(0.1, min(PER_CARD, SHARE * left))))
            context.so_far(GpuState(gpus=tuple(gpus), **values))
        for each in (one for one in asked if gpus[one.card.index].starting):
            gpus[each.card.index] = each.gpu(max(0.0, started + SECONDS - 1.5 - time.monotonic()))
            context.so_far(GpuState(gpus=tuple(gpus), **values))
    return GpuState(gpus=tuple(gpus), seconds=time.monotonic() - started, **values)


def _start(nv: Any) -> Optional[GpuState]:
    try:
        nv.nvmlInit()
    except Exception as error:
        code = getattr(error, "value", None)
        return GpuState(init_code=code, init_words=words(error), library=_mapped("libnvidia-ml"))
    return None


def _system(nv: Any) -> Dict[str, Any]:
    unknown: Dict[str, str] = {}

    def ask(name: str, *functions: str) -> Any:
        for function in functions:
            try:
                return getattr(nv, function)()
            except Exception as error:  # noqa: PERF203 - an old driver lacks the newer name
                unknown[name] = words(error)
        return None

    cuda = ask("cuda_version", "nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion")
    return {
        "init_code": 0,
        "driver_version": _text(ask("driver_version", "nvmlSystemGetDriverVersion")),
        "nvml_version": _text(ask("nvml_version", "nvmlSystemGetNVMLVersion")),
        "cuda_version": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        "count": ask("count", "nvmlDeviceGetCount"),
        "library": _mapped("libnvidia-ml"),
        "unknown": unknown,
    }


class Asked:
    """One card that is asked in a thread, which is left behind when the card does not answer in time."""

    def __init__(self, nv: Any, index: int, named: Callable[[GpuProcess], GpuProcess]) -> None:
        self.card = Card(index)
        self._named = named
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self.card.ask, args=(nv,), daemon=True)
        self._thread.start()

    def gpu(self, seconds: float) -> Gpu:
        """Wait so long, and give what is known then."""
        self._thread.join(seconds)
        gpu = self.card.gpu(time.monotonic() - self._began)
        return replace(gpu, processes=tuple(map(self._named, gpu.processes)))


def _naming(context: Context) -> Callable[[GpuProcess], GpuProcess]:
    """Give what adds to a process whether it is our own, or NVIDIA's service that lets several share a card."""
    is_own, tree = own_processes(context), Tree(context.roots)

    def named(process: GpuProcess) -> GpuProcess:
        serves = tree.text_or(f"/proc/{process.pid}/comm").strip() == _MPS
        return replace(process, own=is_own(process.pid), name=_MPS + "-server" if serves else process.name)

    return named


def _text(value: Any) -> Optional[str]:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _mapped(name: str) -> Optional[str]:
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            return parse_mapped(file.read(), name)
    except OSError:
        return None


def parse_mapped(maps: str, name: str) -> Optional[str]:
    """Give the path of the first mapped file whose name starts with ``name``, from the text of /proc/PID/maps."""
    for line in maps.splitlines():
        path: Tuple[str, str, str] = line.partition("/")
        if path[2].rpartition("/")[2].startswith(name):
            return "/" + path[2]
    return None
