"""[payload] bench-device: what is measured, and who else uses it. Asked before this process holds anything there."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional, Tuple

from envdoctor.facts.bench import BenchDevice, OtherProcess
from envdoctor.probe import Context, NotThere, probe
from envdoctor_probes.bench.memory import cache_bytes
from envdoctor_probes.bench.place import Place, choose
from envdoctor_probes.bench.precision import read_fp32
from envdoctor_probes.bench.suite import words
from envdoctor_probes.bench.wanted import Wanted
from envdoctor_probes.resources import resources

__all__ = ["bench_device", "parse_apps", "parse_cards", "pci_address"]

MIB = 1 << 20
_CARD = ("uuid", "pci.bus_id", "utilization.gpu", "mig.mode.current")
_APP = ("gpu_uuid", "pid", "used_memory")
_SECONDS = 15.0


@probe(level="deep", child="torch", seconds=60.0)
def bench_device(context: Context) -> BenchDevice:
    """Describe the device that the other suites will measure."""
    import torch

    wanted = Wanted.of(context.options)
    users = Users(context)
    values: Dict[str, Any] = {"torch_version": str(torch.__version__), "cuda_version": torch.version.cuda}
    unknown: Dict[str, str] = {}
    if wanted.device != "cpu" and torch.version.cuda is not None:
        users.look()  # before CUDA starts here: then whoever is listed is somebody else
    fp32 = read_fp32(torch)
    place = choose(context, wanted)
    values.update(kind=place.kind, fp32_precision=fp32, memory_allowed_mib=place.allowed_bytes // MIB)
    values.update(_host(context, torch))
    if place.is_cuda:
        _describe_gpu(place, users, values, unknown)
    else:
        _describe_cpu(place, values, unknown)
        values["threads_left"] = wanted.threads
    return BenchDevice(unknown=unknown, **values)


def _host(context: Context, torch: Any) -> Dict[str, Any]:
    found = resources.collect(context)
    limits = [found.cpus_affinity, found.cpus_cgroup_limit]
    cpus = [each for each in limits if each]
    try:
        load: Optional[float] = os.getloadavg()[0]
    except OSError:
        load = None
    return {
        "cpu_model": found.cpu_model,
        "cpus": max(1, int(min(cpus))) if cpus else None,
        "threads": torch.get_num_threads(),
        "load_average": load,
    }


def _describe_cpu(place: Place, values: Dict[str, Any], unknown: Dict[str, str]) -> None:
    values.update(name=values["cpu_model"], l2_bytes=cache_bytes(place))
    why = "it is a CPU: other processes share it as they please"
    unknown.update(dict.fromkeys(("exclusive", "other_processes", "utilization_percent"), why))


def _describe_gpu(place: Place, users: Users, values: Dict[str, Any], unknown: Dict[str, str]) -> None:
    torch = place.torch
    properties = torch.cuda.get_device_properties(place.device)
    free, total = torch.cuda.mem_get_info(place.device)
    uuid = getattr(properties, "uuid", None)
    values.update(
        index=place.device.index, name=str(properties.name), capability=f"{properties.major}.{properties.minor}",
        sm_count=properties.multi_processor_count, l2_bytes=cache_bytes(place), memory_mib=total // MIB,
        memory_free_mib=free // MIB, device_count=torch.cuda.device_count(), pci_address=pci_address(properties),
        uuid=None if uuid is None else str(uuid), mps=bool(os.environ.get("CUDA_MPS_PIPE_DIRECTORY")),
        memory_bus_bits=getattr(properties, "memory_bus_width", None),
        memory_clock_khz=getattr(properties, "memory_clock_rate", None),
        sm_clock_khz=getattr(properties, "clock_rate", None), is_integrated=bool(properties.is_integrated),
    )  # fmt: skip
    try:
        values["cudnn_version"] = torch.backends.cudnn.version()
    except RuntimeError as error:
        unknown["cudnn_version"] = words(error)
    older = ("pci_address", "uuid", "l2_bytes", "memory_bus_bits", "memory_clock_khz", "sm_clock_khz")
    unknown.update({name: f"torch {torch.__version__} does not tell" for name in older if values[name] is None})
    users.describe(values, unknown)


def pci_address(properties: Any) -> Optional[str]:
    """Give the address as NVML writes it; None where this torch does not tell."""
    parts = [getattr(properties, name, None) for name in ("pci_domain_id", "pci_bus_id", "pci_device_id")]
    if None in parts:
        return None
    domain, bus, device = (int(each or 0) for each in parts)
    return f"{domain:08x}:{bus:02x}:{device:02x}.0"


class Users:
    """Who uses the GPUs, as nvidia-smi tells it: this Python need not have a binding of NVML."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cards: Tuple[Dict[str, str], ...] = ()
        self._apps: Tuple[Tuple[str, OtherProcess], ...] = ()
        self._why = "nvidia-smi was not asked"

    def look(self) -> None:
        """Ask for cards and processes, where asking changes nothing."""
        from envdoctor_probes.devices import require_driver

        try:
            require_driver(self._context)
            self._cards = parse_cards(self._query("--query-gpu=", _CARD))
            self._apps = parse_apps(self._query("--query-compute-apps=", _APP))
            self._why = ""
        except (NotThere, OSError, ValueError) as error:
            self._why = str(error)

    def _query(self, what: str, fields: Tuple[str, ...]) -> str:
        ran = self._context.run(["nvidia-smi", what + ",".join(fields), "--format=csv,noheader,nounits"], _SECONDS)
        if ran.exit_code != 0:
            said = (ran.stdout + ran.stderr).strip()[:200]
            raise ValueError(f"nvidia-smi ended with {ran.exit_code}: {said}")
        return ran.stdout

    def describe(self, values: Dict[str, Any], unknown: Dict[str, str]) -> None:
        """Say of the card in ``values`` who else is on it, or why that is not known."""
        card = next((each for each in self._cards if _is(each, values)), None)
        if card is None:
            why = self._why or "nvidia-smi lists no such card"
            unknown.update(dict.fromkeys(("exclusive", "other_processes", "utilization_percent", "mig"), why))
            return
        others = tuple(each for uuid, each in self._apps if uuid == card["uuid"])
        busy = card["utilization.gpu"]
        values["other_processes"] = others
        values["utilization_percent"] = int(busy) if busy.isdigit() else None
        values["mig"] = {"Enabled": True, "Disabled": False}.get(card["mig.mode.current"])
        values["exclusive"] = not others and not int(busy) if busy.isdigit() else None
        if values["exclusive"] is None:
            unknown["exclusive"] = "nvidia-smi does not tell how busy the card is"


def _is(card: Dict[str, str], values: Dict[str, Any]) -> bool:
    uuid, address = values["uuid"], values["pci_address"]
    if uuid and card["uuid"].endswith(uuid):
        return True
    return bool(address) and card["pci.bus_id"].lower() == address


def parse_cards(text: str) -> Tuple[Dict[str, str], ...]:
    """Read one row a card, by the fields asked for; raises ``ValueError`` on anything else."""
    found: List[Dict[str, str]] = []
    for line in filter(str.strip, text.splitlines()):
        cells = [each.strip() for each in line.split(",")]
        if len(cells) != len(_CARD):
            raise ValueError(f"nvidia-smi gave no row of the query: {line[:100]!r}")
        found.append(dict(zip(_CARD, cells)))  # noqa: B905 - strict= is newer than 3.8
    return tuple(found)


def parse_apps(text: str) -> Tuple[Tuple[str, OtherProcess], ...]:
    """Read one row a process: the card's uuid and the process; raises ``ValueError`` on anything else."""
    found: List[Tuple[str, OtherProcess]] = []
    for line in filter(str.strip, text.splitlines()):
        cells = [each.strip() for each in line.split(",")]
        if len(cells) != len(_APP) or not cells[1].isdigit():
            raise ValueError(f"nvidia-smi gave no row of the query: {line[:100]!r}")
        used = int(cells[2]) if cells[2].isdigit() else None
        found.append((cells[0], OtherProcess(int(cells[1]), used)))
    return tuple(found)
