"""[payload] What a probe is, and what it is given: roots to read under, and a way to answer step by step."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import field
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Mapping, Optional, Sequence, Tuple

from envdoctor.facts.dataclass import dataclass

if TYPE_CHECKING:
    from envdoctor.facts import Fact

__all__ = ["Context", "NotThere", "Probe", "Ran", "Roots", "probe"]


@dataclass(frozen=True)
class Roots:
    """Where the machine's own trees lie. Recorded trees are read by pointing these at them; no root needed."""

    root: str = "/"
    proc: str = "/proc"
    sys: str = "/sys"
    dev: str = "/dev"
    etc: str = "/etc"
    run: str = "/run"

    @classmethod
    def under(cls, top: str) -> Roots:
        """Give the roots of a machine recorded under ``top`` (``top/proc``, ``top/sys``, …)."""
        return cls(top, *(os.path.join(top, name) for name in ("proc", "sys", "dev", "etc", "run")))

    @property
    def live(self) -> bool:
        """Tell whether these are this machine's own trees, so that calling into its libraries means something."""
        return self == Roots()


class NotThere(Exception):  # noqa: N818 - not an error: the subject is absent, and that is an answer
    """Raised by a probe whose subject is not there; the words become the ``Absent`` outcome's reason."""


@dataclass(frozen=True)
class Ran:
    """What a command printed and how it ended; ``exit_code`` is negative for a signal, None at the deadline.

    ``stdout`` and ``stderr`` keep head and tail only; ``dropped_bytes`` counts the rest.
    """

    exit_code: Optional[int]
    stdout: str = ""
    stderr: str = ""
    dropped_bytes: int = 0
    seconds: float = 0.0


def _cannot_run(argv: Sequence[str], seconds: float) -> Ran:
    """Refuse to start a command: the default outside a supervised child."""
    msg = f"{argv[0]} is not run here (limit {seconds:g} s)"
    raise NotThere(msg)


def _ignore(_event: Dict[str, Any]) -> None:
    """Drop an event: the default when nobody listens."""


def _over_at_once(_seconds: float) -> bool:
    """Say that nothing is left to be watched: the default outside a supervised child."""
    return True


@dataclass(frozen=True)
class Context:
    """What a probe may know of where it runs.

    ``path``: the patient's module search path, as a script started in ``cwd`` would have it.
    ``environ``: the patient's environment. ``options``: settings of this run (deadlines, for instance).
    ``facts``: what earlier probes of the same child found, by fact key. ``run`` starts a command with a deadline
    and an output limit; it is the only way in which a probe may start one. ``over`` waits so many seconds, for a probe
    that watches what others measure, and tells whether they have ended.
    """

    roots: Roots = field(default_factory=Roots)
    path: Tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    cwd: str = field(default_factory=os.getcwd)
    options: Mapping[str, Any] = field(default_factory=dict)
    facts: Dict[str, Any] = field(default_factory=dict)
    emit: Callable[[Dict[str, Any]], None] = _ignore
    run: Callable[[Sequence[str], float], Ran] = _cannot_run
    over: Callable[[float], bool] = _over_at_once

    @contextlib.contextmanager
    def calling(self, what: str) -> Iterator[None]:
        """Mark a call into the patient's own code (``cuInit``, ``import torch``).

        Its time is not ours, and if the process dies or hangs inside, this names the culprit.
        """
        self.emit({"event": "enter", "what": what, "at": time.monotonic()})
        try:
            yield
        finally:
            self.emit({"event": "leave", "what": what, "at": time.monotonic()})

    def so_far(self, fact: Fact, note: str = "") -> None:
        """Answer with what is known up to now; it is kept if the process dies before the probe returns.

        ``note`` is for whoever watches the run: a few words on how it stands.
        """
        self.emit({"event": "partial", "fact": fact, "note": note})


Collect = Callable[[Context], Any]


@dataclass(frozen=True)
class Probe:
    """A function that returns a fact, and how it wants to be run.

    ``level``: the lowest level that runs it. ``child``: the process it shares (``static``, ``torch``, or a name of
    its own). ``seconds``: its own deadline. ``travels``: whether it may be sent to another patient.
    """

    name: str
    collect: Collect
    level: str = "quick"
    child: str = "static"
    seconds: float = 10.0
    travels: bool = True

    @property
    def fact(self) -> str:
        """Name the fact type that the function's return annotation promises."""
        return str(self.collect.__annotations__.get("return", "")).strip("'\"").rpartition(".")[2]


def probe(
    *, level: str = "quick", child: str = "static", seconds: float = 10.0, travels: bool = True
) -> Callable[[Collect], Probe]:
    """Turn ``def subject(context: Context) -> SomeFact`` into a probe; the function's name is the probe's."""

    def wrap(collect: Collect) -> Probe:
        return Probe(collect.__name__.replace("_", "-"), collect, level, child, seconds, travels)

    return wrap
