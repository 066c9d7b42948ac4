"""[payload] What torch itself says of CUDA, asked in a fork of the process that imported it."""

from __future__ import annotations

import time
import warnings
from typing import Any, Dict, List, Optional, Tuple

from envdoctor.facts.gpu import DeviceNodes
from envdoctor.facts.torch import TorchCuda
from envdoctor.probe import Context, NotThere, probe

MOST_WARNINGS = 20


@probe(level="standard", child="torch", seconds=30.0)
def torch_cuda(context: Context) -> TorchCuda:
    """Ask ``is_available()``, and when it says no, for the reason that only ``init()`` gives."""
    import torch

    if not hasattr(torch, "cuda"):
        raise NotThere("the module called torch has no torch.cuda: a bare folder, or another package")
    return ask_torch(torch, context)


def ask_torch(torch: Any, context: Context) -> TorchCuda:
    """Ask this torch module; a CUDA build is asked only where that cannot create a device node."""
    arches = _arch_list(torch)
    closed = why_not_asked(torch, context)
    if closed:
        why = f"not asked: {closed}"
        unasked = dict.fromkeys(("device_count", "error", "device_names", "capabilities", "seconds"), why)
        return TorchCuda(available=False, arch_list=arches, sources={"available": why}, unknown=unasked)
    unknown: Dict[str, str] = {}
    values: Dict[str, Any] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _ask_available(torch, context, values, unknown)
        if values["available"]:
            _ask_devices(torch, context, values, unknown)
        else:
            _ask_why(torch, context, values)
    told = tuple(f"{each.category.__name__}: {each.message}" for each in caught[:MOST_WARNINGS])
    return TorchCuda(arch_list=arches, warnings=told, unknown=unknown, **values)


def why_not_asked(torch: Any, context: Context) -> Optional[str]:
    """Say why torch must not be asked: started as root, libcuda and NVML create device nodes that are not there."""
    if getattr(torch.version, "cuda", None) is None:
        return None
    nodes = context.facts.get("device_nodes")
    if not isinstance(nodes, DeviceNodes):
        from envdoctor_probes.devices import device_nodes

        nodes = device_nodes.collect(context)
    if not nodes.may_ask_driver:
        return "no NVIDIA device node, and asking could create one"
    return None if nodes.may_start_cuda else "no /dev/nvidia-uvm, and asking could create it"


def _ask_available(torch: Any, context: Context, values: Dict[str, Any], unknown: Dict[str, str]) -> None:
    started = time.perf_counter()
    try:
        with context.calling("torch.cuda.is_available()"):
            values["available"] = bool(torch.cuda.is_available())
    except Exception as error:
        values["available"] = False
        values["error_type"], values["error"] = type(error).__name__, str(error)
    values["seconds"] = time.perf_counter() - started
    try:
        with context.calling("torch.cuda.device_count()"):
            values["device_count"] = int(torch.cuda.device_count())
    except Exception as error:
        unknown["device_count"] = f"{type(error).__name__}: {error}"


def _ask_why(torch: Any, context: Context, values: Dict[str, Any]) -> None:
    """Let torch say why CUDA is not available: ``is_available()`` swallows the error, ``init()`` raises it."""
    try:
        with context.calling("torch.cuda.init()"):
            torch.cuda.init()
    except Exception as error:
        values["error_type"], values["error"] = type(error).__name__, str(error)


def _ask_devices(torch: Any, context: Context, values: Dict[str, Any], unknown: Dict[str, str]) -> None:
    """Read names and capabilities; a card that fails ends the list, and the words say which it was."""
    names: List[str] = []
    capabilities: List[str] = []
    for index in range(values.get("device_count", 0)):
        try:
            with context.calling(f"torch.cuda.get_device_properties({index})"):
                major, minor = torch.cuda.get_device_capability(index)
                names.append(str(torch.cuda.get_device_name(index)))
        except Exception as error:
            unknown["capabilities"] = f"device {index}: {type(error).__name__}: {error}"
            values.setdefault("error_type", type(error).__name__)
            values.setdefault("error", str(error))
            break
        capabilities.append(f"{major}.{minor}")
    values["device_names"], values["capabilities"] = tuple(names), tuple(capabilities)


def _arch_list(torch: Any) -> Tuple[str, ...]:
    """Read the architectures from the build itself: ``get_arch_list()`` answers with none where CUDA does not start."""
    flags = getattr(torch._C, "_cuda_getArchFlags", None)  # noqa: SLF001 - see above
    return tuple((flags() or "").split()) if flags else ()
