"""[payload] Which processes belong to whoever asks: a job's own are no strangers on its cards."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Callable, Dict, FrozenSet, Mapping, Set, Tuple

from envdoctor_probes.running import parse_environ, pid_of
from envdoctor_probes.tree import Tree

if TYPE_CHECKING:
    from envdoctor.probe import Context

__all__ = ["marks_of", "own_processes", "parse_parent"]

_MOST_ANCESTORS = 64


def own_processes(context: Context) -> Callable[[int], bool]:
    """Give what tells own processes: the job that is asked about, those that started us, and ranks of the same job."""
    tree, asked = Tree(context.roots), pid_of(context)
    ancestors, marks = _ancestors(tree), marks_of(context.environ)
    known: Dict[int, bool] = {}

    def is_own(pid: int) -> bool:
        if pid not in known:
            known[pid] = pid == asked or pid in ancestors or bool(marks & _marks_of_process(tree, pid, marks))
        return known[pid]

    return is_own


def _ancestors(tree: Tree) -> FrozenSet[int]:
    found: Set[int] = set()
    pid = os.getpid()
    while pid and len(found) < _MOST_ANCESTORS:
        found.add(pid)
        pid = parse_parent(tree.text_or(f"/proc/{pid}/stat"))
    return frozenset(found)


def parse_parent(stat: str) -> int:
    """Read the parent's number out of /proc/PID/stat; 0 where it is not there."""
    parts = stat.rpartition(")")[2].split()
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0


def _marks_of_process(tree: Tree, pid: int, wanted: FrozenSet[Tuple[str, ...]]) -> FrozenSet[Tuple[str, ...]]:
    return marks_of(parse_environ(tree.text_or(f"/proc/{pid}/environ"))) if wanted else frozenset()


def marks_of(environ: Mapping[str, str]) -> FrozenSet[Tuple[str, ...]]:
    """Give what all ranks of one job on a machine share, and nothing else there does; empty outside a launcher."""
    found: Set[Tuple[str, ...]] = set()
    if environ.get("RANK") and environ.get("MASTER_PORT"):
        found.add(("torch", environ.get("MASTER_ADDR", ""), environ["MASTER_PORT"]))
    if environ.get("SLURM_STEP_ID") and environ.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        found.add(("slurm", environ.get("SLURM_JOB_ID", ""), environ["SLURM_STEP_ID"]))
    if environ.get("PMIX_NAMESPACE"):
        found.add(("pmix", environ["PMIX_NAMESPACE"]))
    return frozenset(found)
