"""What must be true of a machine so that a setting does harm: NVLinks, several GPUs or machines, one OpenMP runtime.

The table of variables names these circumstances; each is a function of the facts at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment
from envdoctor.facts.libraries import Libraries
from envdoctor.facts.nvml import GpuFabric, GpuState
from envdoctor.facts.surroundings import Fabric
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Evidence, see
from envdoctor.rules.launch import WORLD, number, several_machines
from envdoctor.rules.presence import has_gpu
from envdoctor.rules.rdma import is_active, is_verbs, name_ports
from envdoctor.rules.visibility import visible_gpus


class Around(msgspec.Struct, frozen=True):
    """The facts that tell what surrounds a setting, each of which may be missing."""

    environment: Environment | None = None
    build: TorchBuild | None = None
    libraries: Libraries | None = None
    bus: PciBus | None = None
    nodes: DeviceNodes | None = None
    module: KernelModule | None = None
    smi: NvidiaSmi | None = None
    driver: CudaDriver | None = None
    state: GpuState | None = None
    links: GpuFabric | None = None
    fabric: Fabric | None = None


# What shows the circumstance; an empty tuple: it does not hold; None: not known.
Shown = tuple[Evidence, ...] | None


def _gpu(around: Around) -> Shown:
    found = has_gpu(around.bus, around.nodes, around.module, around.smi, around.driver)
    if not found:
        return None if found is None else ()
    bus = around.bus
    return (see(bus, "gpus", "NVIDIA GPUs on the PCI bus", len(bus.gpus)),) if bus and bus.gpus else _several(around, 1)


def _several_gpus(around: Around) -> Shown:
    if has_gpu(around.bus, around.nodes, around.module, around.smi, around.driver) is False:
        return ()
    return _several(around, 2)


def _several(around: Around, least: int) -> Shown:
    found = visible_gpus(around.driver, around.smi, around.state, around.environment)
    return None if found is None else (found[1],) if found[0] >= least else ()


def _nvlink(around: Around) -> Shown:
    links = around.links
    if links is None or (not links.nvlinks and "nvlinks" in links.unknown):
        return () if _several_gpus(around) == () else None
    active = sum(bool(link.active) for each in links.nvlinks for link in each)
    return (see(links, "nvlinks", "NVLinks that are up", active),) if active else ()


def _rdma(around: Around) -> Shown:
    fabric = around.fabric
    if fabric is None or (not fabric.infiniband and "infiniband" in fabric.unknown):
        return None
    ports = [each for each in fabric.infiniband if is_active(each) and is_verbs(each)]
    return (see(fabric, "infiniband", "RDMA ports that are up", name_ports(ports)),) if ports else ()


def _machines(around: Around) -> Shown:
    found = several_machines(around.environment)
    return (found,) if found else ()


def _several_processes(around: Around) -> Shown:
    world = number(around.environment, *WORLD)
    if around.environment and world:
        return (see(around.environment, "variables", world[1], world[0]),) if world[0] > 1 else ()
    return _several_gpus(around)


def _no_peermem(around: Around) -> Shown:
    fabric = around.fabric
    if fabric is None or fabric.peermem_loaded is None:
        return None
    return () if fabric.peermem_loaded else (see(fabric, "peermem_loaded", "nvidia-peermem", "not loaded"),)


def _no_ptx(around: Around) -> Shown:
    build = around.build
    if build is None or not build.arch_list:
        return None
    if any(each.startswith("compute_") for each in build.arch_list):
        return ()
    return (see(build, "arch_list", "torch has machine code alone", ", ".join(build.arch_list)),)


def _ptx(around: Around) -> Shown:
    build = around.build
    if build is None or not build.arch_list:
        return None
    found = [each for each in build.arch_list if each.startswith("compute_")]
    return (see(build, "arch_list", "torch has PTX", ", ".join(found)),) if found else ()


def _openmp(around: Around) -> tuple[tuple[str, ...], Libraries] | None:
    """Name the OpenMP runtimes that torch brings in, by their files."""
    libraries = around.libraries
    if libraries is None or "rows" in libraries.unknown or not libraries.openmp:
        return None
    return tuple(dict.fromkeys(each.real_path or each.path for each in libraries.openmp)), libraries


def _two_openmp(around: Around) -> Shown:
    found = _openmp(around)
    if found is None:
        return None
    return (see(found[1], "openmp", "OpenMP runtimes", ", ".join(found[0])),) if len(found[0]) > 1 else ()


def _only_libgomp(around: Around) -> Shown:
    found = _openmp(around)
    if found is None:
        return None
    alone = all("libgomp" in path.rpartition("/")[2] for path in found[0])
    return (see(found[1], "openmp", "OpenMP runtime", ", ".join(found[0])),) if alone else ()


CIRCUMSTANCES: dict[str, tuple[str, Callable[[Around], Shown]]] = {
    "gpu": ("whether there is an NVIDIA GPU", _gpu),
    "several-gpus": ("how many GPUs a program here sees", _several_gpus),
    "nvlink": ("whether NVLinks join the GPUs", _nvlink),
    "rdma": ("whether RDMA ports are up", _rdma),
    "machines": ("on how many machines the job runs", _machines),
    "several-processes": ("how many processes the job has", _several_processes),
    "no-peermem": ("whether nvidia-peermem is loaded", _no_peermem),
    "ptx": ("whether this torch has PTX", _ptx),
    "no-ptx": ("whether this torch has PTX", _no_ptx),
    "two-openmp": ("which OpenMP runtimes torch brings in", _two_openmp),
    "only-libgomp": ("which OpenMP runtimes torch brings in", _only_libgomp),
}


def holds(names: tuple[str, ...], around: Around) -> tuple[tuple[Evidence, ...] | Literal[False] | None, str]:
    """Give what shows that all of these circumstances hold, or False; None with what is not known.

    One that does not hold decides, whatever is not known of the others.
    """
    shown = {name: CIRCUMSTANCES[name][1](around) for name in names}
    if () in shown.values():
        return False, ""
    unknown = next((name for name, each in shown.items() if each is None), None)
    if unknown is not None:
        return None, f"{CIRCUMSTANCES[unknown][0]} is not known"
    return tuple(evidence for each in shown.values() for evidence in each or ()), ""
