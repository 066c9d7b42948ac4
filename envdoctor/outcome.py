"""[payload] What became of a question put to the machine: five answers that are never confused.

Absent is not Failed, and neither is healthy. Each carries its reason, and all of them are shown.
"""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Dict, Union

from envdoctor.facts.dataclass import dataclass


@dataclass(frozen=True)
class Got:
    """The probe answered. ``freshness`` is ``file``, ``fresh-process`` or ``live``."""

    freshness: str = "file"
    name: ClassVar[str] = "got"
    reason: ClassVar[str] = ""


@dataclass(frozen=True)
class Absent:
    """What the probe asks about is not there, for a reason that is no fault ("no torch on the path")."""

    reason: str
    name: ClassVar[str] = "absent"


@dataclass(frozen=True)
class Failed:
    """The probe ended with an exception: ``reason`` is its type and words, ``detail`` the traceback."""

    reason: str
    detail: str = ""
    name: ClassVar[str] = "failed"


@dataclass(frozen=True)
class Crashed:
    """The process died before it answered.

    ``reason`` says how (``SIGSEGV in import torch``, ``exit code 0 without an answer``), ``signal`` is the
    signal's name or empty, ``detail`` holds the Python stack and what the process printed (head and tail).
    """

    reason: str
    signal: str = ""
    exit_code: int = 0
    detail: str = ""
    name: ClassVar[str] = "crashed"


@dataclass(frozen=True)
class TimedOut:
    """No answer within the deadline.

    ``hung`` is true only for a process that a signal has stopped, or with two samples of the same stack and no
    CPU, I/O or page-fault progress between them; a slow process that still works is not hung. ``unkillable``:
    SIGKILL did not end it.
    """

    reason: str
    after_seconds: float = 0.0
    hung: bool = False
    unkillable: bool = False
    detail: str = ""
    evidence: Dict[str, str] = field(default_factory=dict)
    name: ClassVar[str] = "timed-out"


Outcome = Union[Got, Absent, Failed, Crashed, TimedOut]
