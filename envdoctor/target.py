"""Where the patient is: which interpreter is asked, with what around it, and the request that is sent to it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from envdoctor.child import TOKEN
from envdoctor.child.bootstrap import TEXT
from envdoctor.payload import homes
from envdoctor.probe import Roots

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from envdoctor.plan import Planned
    from envdoctor.snapshot import Target


@dataclass(frozen=True)
class Patient:
    """An interpreter on this machine and what surrounds it. Without arguments: our own, as we are ourselves.

    ``payload`` maps further top-level names to the directories in which the patient finds them: they need not be
    installed there. ``options`` reach every probe as ``Context.options``. ``key`` is its name in a report, where it
    has one of its own. ``path``: the module search path of a running program that is examined; empty: the one that a
    script started in ``cwd`` would have.
    """

    python: str = field(default_factory=lambda: sys.executable)
    roots: Roots = field(default_factory=Roots)
    environ: Mapping[str, str] | None = None
    cwd: str | None = None
    payload: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""
    path: tuple[str, ...] = ()

    answers_on_stdout: ClassVar[bool] = False  # on a descriptor of its own: probes may print what they like
    most_starts: ClassVar[int] = 1000  # how often it is started again for what a dying supervisor left unasked

    @property
    def name(self) -> str:
        """Name it for a person."""
        return self.python or "no interpreter"

    @property
    def is_ours(self) -> bool:
        """Tell whether this is the interpreter that runs the doctor: only there may plug-ins' own probes run."""
        return self.python == sys.executable

    def target(self) -> Target:
        """Give the name under which a report shows this patient."""
        from envdoctor.snapshot import Target

        return Target(self.key or ("this" if self.is_ours else self.python), "interpreter", self.python)

    def argv(self) -> list[str]:
        """Give the command line: it writes no bytecode into the patient, and tells where it crashed."""
        return [self.python, "-B", "-X", "faulthandler", "-c", TEXT]

    def environment(self, token: str) -> dict[str, str]:
        """Give the patient's environment, unchanged but for the mark by which we know our own processes."""
        return {**(os.environ if self.environ is None else self.environ), TOKEN: token}

    def where(self) -> bytes:
        """Give the first line that the interpreter is told: where it finds the modules of ours that it needs."""
        return json.dumps({**homes(), **self.payload}).encode() + b"\n"

    def opening(self) -> bytes:
        """Give what is sent before the request, where that waits until the patient is ready for it."""
        return b""

    def request(self, planned: Sequence[Planned], *, answer_fd: int, began: float, seconds: float) -> dict[str, Any]:
        """Give what the supervisor is told: what to ask, under which roots, and within which time."""
        return {
            "answer_fd": answer_fd,
            "began": began,
            "seconds": seconds,
            "parent": os.getpid(),
            "roots": asdict(self.roots),
            "options": dict(self.options),
            "path": list(self.path),
            "probes": [job_of(each) for each in planned],
        }


def job_of(planned: Planned) -> dict[str, Any]:
    """Give a probe as the supervisor knows it. Only those that import the patient's code get the patient's path."""
    own = planned.where.startswith("envdoctor_probes.") and planned.child != "torch"
    return {
        "name": planned.name,
        "where": planned.where,
        "fact": planned.fact,
        "child": planned.child,
        "seconds": planned.seconds,
        "gated": planned.gated,
        "after_import": planned.after_import,
        "as_patient": not own,
        "alone": planned.alone,
        "beside": planned.beside,
    }
