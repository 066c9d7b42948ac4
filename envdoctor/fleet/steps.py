"""What ranks tell each other of the staged tests: a step, as the one who conducts announces it, and a rank's answer."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from envdoctor.fleet.board import Board

ORDER = ("compute", "p2p", "loopback", "pairs", "all")
READY, END = "ready", "end"  # the first step, in which torch is imported, and the word that there are no more
TOGETHER = frozenset({"loopback", "pairs", "all"})


class Place(msgspec.Struct, frozen=True):
    """Where a rank runs. ``node``: the launcher's number of it, which tells machines of one name apart."""

    host: str = ""
    local_rank: int = 0
    node: int | None = None


class Row(msgspec.Struct, omit_defaults=True):
    """One line that a step has said in the patient; which fields are there depends on the step."""

    kind: str = ""  # of the device: cpu, cuda
    name: str = ""
    why: str = ""
    index: int = 0
    count: int = 0
    card: str = ""
    torch: str = ""
    gloo: bool = False
    nccl: bool = False
    flop: float = 0.0
    shown: str = ""
    bytes: float = 0.0
    seconds: list[float] | float = []
    at: list[int] = []
    copied: list[int] = []
    failed: list[int] = []
    reason: str = ""
    direct: bool | None = None


class Answer(msgspec.Struct):
    """How a step ended on one rank, and what it had said by then."""

    state: str = "failed"  # done, failed, timed-out
    reason: str = ""
    said: list[Row] = []
    place: Place | None = None

    @property
    def done(self) -> bool:
        """Tell whether it ended well."""
        return self.state == "done"

    def row(self, field: str) -> Row:
        """Give the last row in which a field is set, or an empty one."""
        return next((each for each in reversed(self.said) if getattr(each, field)), Row())


class Step(msgspec.Struct):
    """One step: who takes part with whom, and within which time.

    ``told`` is for all of them and ``each`` for one (by its number, as text). A step without groups was not asked;
    ``state`` and ``reason`` say why. ``left_out``: groups that would have been asked, and why not.
    """

    stage: str
    seconds: float = 0.0
    groups: list[list[int]] = []
    told: dict[str, Any] = {}
    each: dict[str, dict[str, Any]] = {}
    config: str = ""
    state: str = "done"
    reason: str = ""
    left_out: list[tuple[list[int], str]] = []

    @property
    def members(self) -> list[int]:
        """Name all who take part."""
        return [rank for group in self.groups for rank in group]

    def part_of(self, rank: int, prefix: str) -> dict[str, Any] | None:
        """Give what the patient of this rank is told; None when it takes no part."""
        for number, group in enumerate(self.groups):
            if rank in group:
                place = {"rank": group.index(rank), "size": len(group), "prefix": f"{prefix}/{number}"}
                return {**self.told, **place, **self.each.get(str(rank), {}), "seconds": self.seconds}
        return None


class Played(msgspec.Struct):
    """A step and what the ranks answered: None where there was no answer. ``seconds``: what it took."""

    step: Step
    answers: dict[int, Answer | None] = {}
    seconds: float = 0.0


def answer_of(data: bytes | None) -> Answer | None:
    """Read a rank's answer; one that cannot be read is a failure, and says so."""
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Answer)
    except msgspec.DecodeError as error:
        return Answer("failed", f"its answer cannot be read: {error}")


def step_of(data: bytes | dict[str, Any]) -> Step | None:
    """Read a step; None where it is none of ours."""
    try:
        if isinstance(data, dict):
            return msgspec.convert(data, Step)
        return msgspec.json.decode(data, type=Step)
    except msgspec.ValidationError:
        return None


def announced(board: Board, number: int) -> Step | None:
    """Look whether this step was announced. Raises ``BoardError``."""
    found = board.look([key_of(number)])
    return step_of(found[key_of(number)]) if found else None


def key_of(number: int) -> str:
    """Name the place on the board where a step is announced."""
    return f"step/{number}"


def kind_of(number: int) -> str:
    """Name what the ranks bring as their answers to a step."""
    return f"did-{number}"


def median(row: Row) -> float | None:
    """Give the median of a row's seconds, or None where there are none above zero."""
    found = [each for each in (row.seconds if isinstance(row.seconds, list) else [row.seconds]) if each > 0]
    return statistics.median(found) if found else None
