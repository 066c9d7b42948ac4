"""Where this rank stands in its job and where the ranks meet: all that the launchers' variables say, and what follows.

torchrun and accelerate keep a store at MASTER_ADDR:MASTER_PORT from before the ranks start. srun, mpirun and people who
set RANK by hand keep none: rank 0 opens one there.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envdoctor.ranks.launched import launched

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOPBACK = "127.0.0.1"
PORTS = range(29400, 29900)  # where ranks meet when nobody has said it: torch's own habit is 29500
RANK_NAMES = (("RANK", "WORLD_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"))


class LaunchError(Exception):
    """What the launcher or the command line says cannot be meant: the words name the variable and its value."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One rank's place. ``leads``: the first of its node, which asks what is the same for the whole machine.

    ``node`` tells the nodes apart where the launcher numbers them. ``keeps_store``: the launcher has a store at
    ``address``:``port``. ``run`` is the same on all ranks of one run and no other one.
    """

    launcher: str
    rank: int
    world_size: int
    address: str
    port: int
    local_rank: int = 0
    node: int | None = None
    nodes: int | None = None
    keeps_store: bool = False
    run: str = ""

    @property
    def leads(self) -> bool:
        """Tell whether this is the first rank of its node."""
        return self.local_rank == 0

    @property
    def several_nodes(self) -> bool | None:
        """Tell whether the job has more than one node; None where the launcher does not say."""
        return None if self.nodes is None else self.nodes > 1

    @property
    def port_beside(self) -> int:
        """The port of a board beside the launcher's store, for ranks that cannot speak to the store."""
        return _port_of(self.run)

    @property
    def hosts(self) -> bool:
        """Tell whether this rank has to open the place where the ranks meet."""
        return self.rank == 0 and not self.keeps_store


def read(environ: Mapping[str, str]) -> Launch | None:
    """Give this rank's place by the variables of its launcher; None when none started it.

    Raises ``LaunchError`` for values that contradict each other, and where nothing tells the meeting point.
    """
    _refuse_contradictions(environ)
    place = launched(environ)
    if place is None:
        return None
    launcher = "accelerate" if place.launcher == "torchrun" and _by_accelerate(environ) else place.launcher
    nodes, node = _nodes(environ, launcher, place.world_size), _number(environ, "GROUP_RANK", "SLURM_NODEID")
    run = _run(environ, launcher) + (f"-{place.port}" if place.launchers_store else "")
    address = place.address or (LOOPBACK if nodes == 1 else _host_of_rank_0(environ, launcher))
    return Launch(
        launcher, place.rank, place.world_size, address, place.port or _port_of(run),
        place.local_rank or 0, node, nodes, place.launchers_store, run,
    )  # fmt: skip


def _port_of(run: str) -> int:
    """Give a port that all ranks of one run come to by themselves, and other runs mostly do not."""
    return PORTS[zlib.crc32(run.encode()) % len(PORTS)]


def by_hand(nodes: int, rank: int | None, address: str | None, port: int | None) -> Launch:
    """Give one rank a node, as torchrun's own options of these names say it. Raises ``LaunchError``."""
    if rank is None or not 0 <= rank < nodes:
        raise LaunchError(f"--node-rank is {rank}, expected 0 to {nodes - 1}, another on each node")
    if not address:
        raise LaunchError("--master-addr is missing, expected the host of node 0")
    return Launch("environment", rank, nodes, address, port or 29500, 0, rank, nodes, run="by-hand")


def _refuse_contradictions(environ: Mapping[str, str]) -> None:
    for rank_name, size_name in RANK_NAMES:
        rank, size = environ.get(rank_name), environ.get(size_name)
        if rank is None or size is None:
            continue
        if not rank.strip().isdecimal() or not size.strip().isdecimal():
            raise LaunchError(f"{rank_name}={rank!r} and {size_name}={size!r}: expected two numbers")
        if int(rank) >= int(size):
            raise LaunchError(f"{rank_name}={rank} is no rank of {size_name}={size}: expected 0 to {int(size) - 1}")
        return
    port = environ.get("MASTER_PORT")
    if port is not None and not (port.strip().isdecimal() and 0 < int(port) < 65536):
        raise LaunchError(f"MASTER_PORT={port!r} is no port, expected a number up to 65535")


def _by_accelerate(environ: Mapping[str, str]) -> bool:
    return any(name.startswith("ACCELERATE_") for name in environ)


def _number(environ: Mapping[str, str], *names: str) -> int | None:
    return next((int(environ[each]) for each in names if environ.get(each, "").strip().isdecimal()), None)


def _nodes(environ: Mapping[str, str], launcher: str, world: int) -> int | None:
    """Count the nodes: as the launcher says, or by how many of the ranks are here."""
    told = _number(environ, "GROUP_WORLD_SIZE", "SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES")
    if told is not None and launcher in {"torchrun", "accelerate", "srun"}:
        return told
    here = _number(environ, "LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
    if world in {1, here}:
        return 1
    return -(-world // here) if here else None


def _run(environ: Mapping[str, str], launcher: str) -> str:
    """Name the run: what launchers count up. Two runs at one time on one host must not meet."""
    names = {
        "srun": ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_STEPID", "SLURM_RESTART_COUNT"),
        "mpirun": ("OMPI_MCA_ess_base_jobid", "PMIX_NAMESPACE", "OMPI_MCA_orte_hnp_uri", "PMI_KVS", "SLURM_JOB_ID"),
    }.get(launcher, ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"))
    told = [environ[each].partition(";")[0] for each in names if environ.get(each)]
    return re.sub(r"[^\w.-]", "-", "-".join((launcher, *told)))[:100]


def _host_of_rank_0(environ: Mapping[str, str], launcher: str) -> str:
    if launcher == "srun":
        nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "")
        if first := first_host(nodes):
            return first
    if launcher == "mpirun" and (match := re.search(r"tcp4?://([^:,;]+)", environ.get("OMPI_MCA_orte_hnp_uri", ""))):
        return match[1]
    how = "mpirun -x MASTER_ADDR=HOST_OF_RANK_0 envdoctor fleet" if launcher == "mpirun" else "export MASTER_ADDR=HOST"
    raise LaunchError(f"nothing says where the ranks meet (MASTER_ADDR is not set): {how}")


def first_host(hosts: str) -> str:
    """Give the first of Slurm's list of hosts: ``gpu[007-009,12]-ib,login1`` -> ``gpu007-ib``."""
    match = re.match(r"([^,\[\]]+)(?:\[([^\]]*)\])?([^,\[]*)", hosts.strip())
    if match is None:
        return ""
    before, inside, after = match.groups()
    return before + (re.split(r"[-,]", inside)[0] if inside else "") + after
