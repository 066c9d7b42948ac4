"""A patient behind a command: ssh, docker exec, kubectl exec, srun, chroot: what runs a program with our stdin.

Nothing is copied there and nothing needs to be installed there but Python. The modules that ask travel over stdin and
stay in memory; the answer comes on stdout.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar

from envdoctor.child import TOKEN
from envdoctor.child.bootstrap import FIRST, sent
from envdoctor.payload import archive
from envdoctor.target import Patient, job_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envdoctor.plan import Planned
    from envdoctor.snapshot import Target

PYTHON = "python3"
_REMOTE_SHELLS = frozenset(("ssh", "slogin", "autossh"))  # they hand their words to a shell on the other side


class NoCommand(Exception):  # noqa: N818 - a usage error for the command line to word
    """The words of ``--via`` are no command line."""


@dataclass(frozen=True)
class FarPatient(Patient):
    """An interpreter that ``via`` starts. ``python`` is its name or path there."""

    python: str = PYTHON
    via: str = ""

    answers_on_stdout: ClassVar[bool] = True
    most_starts: ClassVar[int] = 2  # a link that breaks twice breaks again

    @property
    def is_ours(self) -> bool:
        """No interpreter behind a command is ours: plug-ins' probes are asked there only if they may travel."""
        return False

    @property
    def name(self) -> str:
        """Name it for a person: the command itself may be long."""
        return f"{self.python} behind {PurePath(split(self.via)[0]).name}"

    def target(self) -> Target:
        """Give the name under which a report shows this patient."""
        from envdoctor.snapshot import Target

        return Target(self.key or self.via, "command", self.python, self.via)

    def argv(self) -> list[str]:
        """Give the command line. Python's words survive a shell on the way, and the lack of one."""
        words = split(self.via)
        shells = _shells(words)
        told = [_one_word(self.python) if shells else self.python, "-B", "-c", FIRST]
        for _ in range(shells - 1):  # ssh to a host and from there to another: one shell more each time
            told = [shlex.quote(each) for each in told]
        return [*words, *told]

    def environment(self, token: str) -> dict[str, str]:
        """Give the command's environment. It has nobody to ask: neither a terminal nor a window for a password."""
        ours = {name: value for name, value in os.environ.items() if name != "SSH_ASKPASS"}
        return {**ours, "SSH_ASKPASS_REQUIRE": "never", TOKEN: token}

    def opening(self) -> bytes:
        """Give what is sent at once: the modules, and the text that takes them in."""
        return sent(archive(tuple(sorted(self.payload.items()))))

    def request(self, planned: Sequence[Planned], *, answer_fd: int, began: float, seconds: float) -> dict[str, Any]:
        """Give what the supervisor is told, as one that cannot know our clock or our processes."""
        del answer_fd, began
        return {
            "answer_fd": 1,
            "lifeline": True,
            "seconds": seconds,
            "roots": asdict(self.roots),
            "options": dict(self.options),
            "probes": [job_of(each) for each in planned],
        }


def split(via: str) -> list[str]:
    """Split a command into words as a shell does; raises ``NoCommand``."""
    try:
        words = shlex.split(via)
    except ValueError as error:
        raise NoCommand(f"{via!r} is no command line: {error}") from None
    if not words or not words[0]:
        raise NoCommand(f"{via!r} is empty, expected a command such as 'ssh node7' or 'docker exec -i job'")
    return words


def _one_word(path: str) -> str:
    """Keep a path with blanks one word for the shell that reads it; one that is quoted already says so itself."""
    return path if re.search(r"""['"\\]""", path) else re.sub(r"([\s()&;|<>*?])", r"\\\1", path)


def _shells(words: Sequence[str]) -> int:
    return sum(PurePath(each).name in _REMOTE_SHELLS for each in words)
