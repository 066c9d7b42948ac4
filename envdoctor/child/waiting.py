"""[payload] What is still to be started: groups whose gate is not known yet, and questions without a process."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

from envdoctor.child.jobs import Job

GATE = "device-nodes"
_NO_NODE = "no NVIDIA device node in /dev: asking the driver could create one"
_NO_UVM = "no /dev/nvidia-uvm: starting CUDA could create it"
_ASKS_DRIVER_ONLY = ("nvidia-smi", "nvml", "nvml-fabric")  # children that start no CUDA


class Waiting:
    """The jobs of a run that have no process yet."""

    def __init__(self, probes: List[Dict[str, Any]]) -> None:
        self.groups = groups(probes)
        self.fresh: List[Job] = []
        self._gate: Optional[Mapping[str, Any]] = None
        if not any(probe["name"] == GATE for probe in probes):
            self._gate = {"outcome": "failed", "reason": "they were not looked at"}

    def __bool__(self) -> bool:
        return bool(self.groups or self.fresh)

    def jobs(self) -> List[Job]:
        """Name everything that waits."""
        return [*self.fresh, *(job for jobs in self.groups.values() for job in jobs)]

    def learn(self, name: str, result: Mapping[str, Any]) -> None:
        """Take note of an answer: the one about the device nodes opens or closes the gate."""
        if name == GATE:
            self._gate = result

    def ready(self) -> List[List[Job]]:
        """Give the groups that may start now, or be refused."""
        found = [key for key, jobs in self.groups.items() if self._gate or not any(job.gated for job in jobs)]
        return [self.groups.pop(key) for key in found]

    def refusal(self, job: Job) -> Optional[Dict[str, str]]:
        """Give the outcome of a job that must not run: asking the driver could change the machine."""
        if not job.gated or not self._gate:
            return None
        if self._gate["outcome"] != "got":
            why = f"not asked: the device nodes could not be looked at: {self._gate.get('reason', '')}"
            return {"outcome": "failed", "reason": why}
        allows = self._gate.get("gate", {})
        if not allows.get("may_ask_driver"):
            return {"outcome": "absent", "reason": _NO_NODE}
        if job.child not in _ASKS_DRIVER_ONLY and not allows.get("may_start_cuda"):
            return {"outcome": "absent", "reason": _NO_UVM}
        return None


def groups(probes: List[Dict[str, Any]]) -> Dict[Tuple[str, bool], List[Job]]:
    """Sort the requested probes by the process they share; the one that opens the gate comes first.

    A plug-in's probe that names one of our processes gets one beside it: what it imports must not reach ours.
    """
    found: Dict[Tuple[str, bool], List[Job]] = {}
    for each in sorted(probes, key=lambda probe: bool(probe["name"] != GATE)):
        job = Job(**each)
        found.setdefault((job.child, job.as_patient), []).append(job)
    return found
