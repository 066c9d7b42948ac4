"""[payload] The run itself, as rules about the doctor see it: what became of each probe, and which plug-ins broke."""

from __future__ import annotations

from typing import Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass

# How the engine begins the reason of a question that was never put, because torch was not there to be asked.
NOT_ASKED = "torch could not be imported"
# And of one that Ctrl-C, or the launcher's own signal, cut short: that is nobody's fault.
INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class ProbeEnd:
    """How one probe ended. ``outcome`` is got, absent, failed, crashed or timed-out; the rest belongs to it."""

    name: str = ""
    fact: str = ""
    outcome: str = ""
    reason: str = ""
    detail: str = ""
    signal: str = ""
    exit_code: int = 0
    seconds: float = 0.0
    hung: bool = False
    unkillable: bool = False

    @property
    def was_asked(self) -> bool:
        """Tell whether the question could have been answered: not without torch, and not when Ctrl-C ended the run."""
        return not self.reason.startswith((NOT_ASKED, INTERRUPTED))


@dataclass(frozen=True)
class ProbeRun(Fact):
    """Every probe of this run, and whom it asked. No probe collects it: it is put together from the snapshot."""

    probes: Tuple[ProbeEnd, ...] = read_from("this run", ())
    plugin_errors: Tuple[str, ...] = read_from("entry points", ())
    interrupted: bool = read_from("this run", False)
    made_by: str = read_from("tool in the saved file", "")  # the version of envdoctor that asked
    left_out: Tuple[str, ...] = read_from("facts in the saved file", ())  # keys that this version does not know
    lost: Tuple[str, ...] = read_from("facts in the saved file", ())  # keys that a probe answered and that are gone
    python: str = read_from("this run", "")  # the interpreter that was asked
    via: str = read_from("--via", "")  # the command that leads to it
    ours: bool = read_from("this run", True)  # it is the interpreter that runs envdoctor

    def end_of(self, name: str) -> ProbeEnd:
        """Give how the named probe ended; one without an outcome when it was not in this run."""
        for each in self.probes:
            if each.name == name:
                return each
        return ProbeEnd(name)
