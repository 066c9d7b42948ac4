"""[payload] What is to be asked, and of which process: the request as objects."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

if TYPE_CHECKING:
    from envdoctor.probe import Roots

GATE = "device-nodes"


@dataclass(frozen=True)
class Job:
    """One probe to run. ``before``: probes to run first in the same process, whose own answers are not wanted."""

    name: str
    where: str
    fact: str
    child: str
    seconds: float
    gated: bool = False
    after_import: bool = False
    as_patient: bool = False
    before: Tuple[Job, ...] = ()

    def after(self, first: Sequence[Job]) -> Job:
        """Give the same question for a fresh process, which has to do ``first`` on its own."""
        return replace(self, before=tuple(first), seconds=self.seconds + sum(each.seconds for each in first))


@dataclass(frozen=True)
class Setting:
    """What all forks share: the machine's roots, this run's options, and when the whole run must be over."""

    roots: Roots
    options: Mapping[str, Any]
    deadline: float


@dataclass(frozen=True)
class Gate:
    """Whether the driver may be asked: open, or closed with the outcome that gated probes get instead."""

    closed: Optional[Dict[str, str]] = None

    @classmethod
    def from_result(cls, result: Mapping[str, Any], child: str) -> Gate:
        """Read the gate for one child off the answer about the device nodes."""
        if result["outcome"] != "got":
            why = f"not asked: the device nodes could not be looked at ({result.get('reason', '')})"
            return cls({"outcome": "failed", "reason": why})
        allows = result.get("gate", {})
        if not allows.get("may_ask_driver"):
            why = "no NVIDIA device node in /dev: asking the driver could create one"
            return cls({"outcome": "absent", "reason": why})
        if child != "nvidia-smi" and not allows.get("may_start_cuda"):
            why = "no /dev/nvidia-uvm: starting CUDA could create it"
            return cls({"outcome": "absent", "reason": why})
        return cls()


def groups(probes: List[Dict[str, Any]]) -> Dict[str, List[Job]]:
    """Sort the requested probes by the process they share; the one that opens the gate comes first."""
    found: Dict[str, List[Job]] = {}
    for each in sorted(probes, key=lambda probe: bool(probe["name"] != GATE)):
        job = Job(**each)
        found.setdefault(job.child, []).append(job)
    return found
