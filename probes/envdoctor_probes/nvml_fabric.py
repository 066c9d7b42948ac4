"""[payload] gpu-fabric: topology, peer access, NVLinks and fabric state. Slow on NVSwitch machines: asked apart."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from envdoctor.facts.nvml import GpuFabric, NvLink, PeerLink
from envdoctor.probe import Context, NotThere, probe
from envdoctor_probes.nvml import open_nvml
from envdoctor_probes.nvml_questions import words

__all__ = ["FABRIC", "PEER", "TOPOLOGY", "gpu_fabric"]

TOPOLOGY = {0: "internal", 10: "pix", 20: "pxb", 30: "phb", 40: "node", 50: "sys"}
PEER = ("ok", "chipset-not-supported", "gpu-not-supported", "topology-not-supported", "disabled-by-regkey",
         "not-supported", "unknown")  # fmt: skip
FABRIC = ("not-supported", "not-started", "in-progress", "completed")
_MOST_LINKS = 18  # where pynvml does not say; newer cards have twice as many


@probe(child="nvml-fabric", seconds=14.0)
def gpu_fabric(context: Context) -> GpuFabric:
    """Ask how the cards are connected; answers after each kind of question, and after each card's NVLinks."""
    nv = open_nvml(context)
    unknown: Dict[str, str] = {}
    with context.calling("NVML fabric questions"):
        try:
            nv.nvmlInit()
            count = nv.nvmlDeviceGetCount()
        except Exception as error:
            raise NotThere(f"NVML does not start: {words(error)}") from error
        # A lost card refuses its handle: its place stays, and the others are asked.
        handles = [_ask(unknown, "links", lambda n=number: nv.nvmlDeviceGetHandleByIndex(n)) for number in range(count)]
        pairs = [(a, b) for a in range(count) for b in range(a + 1, count) if handles[a] and handles[b]]
        links = tuple(_pair(nv, handles, a, b, unknown) for a, b in pairs)
        context.so_far(GpuFabric(links=links, unknown=dict(unknown)))
        nvlinks: Tuple[Tuple[NvLink, ...], ...] = ()
        for each in handles:
            nvlinks += (_nvlinks(nv, each, unknown) if each else (),)
            context.so_far(GpuFabric(links=links, nvlinks=nvlinks, unknown=dict(unknown)))
        fabric = [_fabric(nv, each, unknown) if each else (None, None) for each in handles]
    states = tuple(state for state, _ in fabric)
    return GpuFabric(
        links=links, nvlinks=nvlinks, fabric_states=states, fabric_statuses=tuple(s for _, s in fabric), unknown=unknown
    )


def _pair(nv: Any, handles: List[Any], first: int, second: int, unknown: Dict[str, str]) -> PeerLink:
    path = _ask(unknown, "links", lambda: nv.nvmlDeviceGetTopologyCommonAncestor(handles[first], handles[second]))
    read = _ask(unknown, "links", lambda: nv.nvmlDeviceGetP2PStatus(handles[first], handles[second], 0))
    peer = None if read is None else PEER[read] if read < len(PEER) else str(read)
    return PeerLink(first, second, None if path is None else TOPOLOGY.get(path, str(path)), peer)


def _nvlinks(nv: Any, gpu: Any, unknown: Dict[str, str]) -> Tuple[NvLink, ...]:
    found = []
    for number in range(getattr(nv, "NVML_NVLINK_MAX_LINKS", _MOST_LINKS)):
        state = _ask(unknown, "nvlinks", lambda link=number: nv.nvmlDeviceGetNvLinkState(gpu, link))
        if state is None:  # no such link on this board, or no NVLink at all
            break
        version = _ask(unknown, "nvlinks", lambda link=number: nv.nvmlDeviceGetNvLinkVersion(gpu, link))
        counters = {
            field: _ask(
                unknown, "nvlinks", lambda link=number, k=kind: nv.nvmlDeviceGetNvLinkErrorCounter(gpu, link, k)
            )
            for field, kind in (("replay_errors", 0), ("recovery_errors", 1), ("crc_errors", 2))
        }
        found.append(NvLink(number, bool(state), version, _remote(nv, gpu, number, unknown), **counters))
    return tuple(found)


def _remote(nv: Any, gpu: Any, link: int, unknown: Dict[str, str]) -> Optional[str]:
    pci = _ask(unknown, "nvlinks", lambda: nv.nvmlDeviceGetNvLinkRemotePciInfo(gpu, link))
    if pci is None:
        return None
    text = pci.busId
    return (text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)).lower()


def _fabric(nv: Any, gpu: Any, unknown: Dict[str, str]) -> Tuple[Optional[str], Optional[str]]:
    import ctypes

    info = nv.c_nvmlGpuFabricInfoV_t() if hasattr(nv, "c_nvmlGpuFabricInfoV_t") else None
    if info is None:
        unknown["fabric_states"] = "this pynvml does not know nvmlDeviceGetGpuFabricInfoV"
        return None, None
    if _ask(unknown, "fabric_states", lambda: nv.nvmlDeviceGetGpuFabricInfoV(gpu, ctypes.byref(info)) or True) is None:
        return None, None
    state = FABRIC[info.state] if info.state < len(FABRIC) else str(info.state)
    return state, "success" if info.status == 0 else f"error {info.status}"


def _ask(unknown: Dict[str, str], field: str, ask: Any) -> Any:
    try:
        return ask()
    except Exception as error:
        unknown[field] = words(error)
        return None
