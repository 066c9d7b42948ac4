"""How ranks make one report: each leaves what it found, one reads all of it, and all hear the verdict.

The one is rank 0. When it does not speak in time the lowest rank that is there takes its place, so that there is a
report while anybody is alive. Nobody waits without an end, and nobody ends before the report is out: a launcher kills
the others as soon as one rank fails.
"""

from __future__ import annotations

import json
import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from envdoctor.facts.fleet import SilentRanks
from envdoctor.fleet.board import BoardError, StuckError
from envdoctor.fleet.ranges import names_in_words, numbers_in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from envdoctor.fleet.board import Board

NAP = 0.15
HANDOVER = 5.0  # seconds that a rank gives those before it to speak, beyond the deadline
FAREWELL = 4.0  # seconds that the one who spoke waits for all to have heard
LAST_CHANCE = 0.5  # seconds: some launchers kill after one what has not ended
QUIET = 8.0  # seconds without a sign after which a rank is not at work any more; a sign comes every second or two
LARGEST = 256 << 20  # of one unpacked snapshot


@dataclass(frozen=True, slots=True)
class Hello:
    """What a rank says of itself when it comes."""

    node: str = ""
    leads: bool = True
    version: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of one rank: its hello, what it said last of its own doing, and its snapshot as JSON."""

    rank: int
    hello: Hello | None = None
    at: str = ""
    cannot: str = ""
    snapshot: bytes | None = None
    quiet_seconds: float | None = None  # since its last sign


@dataclass(slots=True)
class Meeting:
    """One rank's part in it. ``stopped``: whether the launcher or Ctrl-C has ended the run; waits are short then."""

    board: Board
    rank: int
    world_size: int
    stopped: Callable[[], bool] = lambda: False
    last_chance: float = LAST_CHANCE
    lost: str = ""
    stuck: bool = False
    _known: dict[str, bytes] = field(default_factory=dict)
    _signs: dict[int, tuple[bytes, float]] = field(default_factory=dict)

    def say(self, kind: str, data: bytes) -> bool:
        """Leave something under this rank's number; tell whether it arrived. Why not is remembered, not raised."""
        try:
            self.board.put(f"{kind}/{self.rank}", data)
        except BoardError as error:
            self.lost = str(error)
            self.stuck |= isinstance(error, StuckError)
            return False
        return True

    def hello(self, hello: Hello) -> None:
        """Say who is here."""
        self.say("hello", json.dumps({"node": hello.node, "leads": hello.leads, "version": hello.version}).encode())

    def at(self, what: str) -> None:
        """Say what this rank is doing: the last sign of it, should it never finish."""
        self.say("at", what.encode("utf-8", "backslashreplace")[:2000])

    def cannot(self, why: str) -> None:
        """Say that this rank will not report, and why."""
        self.say("cannot", why.encode("utf-8", "backslashreplace")[:2000])

    def bring(self, document: bytes, kind: str = "snapshot") -> bool:
        """Leave what this rank found; tell whether it arrived."""
        return self.say(kind, zlib.compress(document, 3))

    def gather(self, until: float, kind: str = "snapshot", ranks: Iterable[int] | None = None) -> list[Heard]:
        """Wait for what all ranks bring, until the time is over; give what is known of each."""
        asked = list(range(self.world_size)) if ranks is None else list(ranks)
        missing = waited_for = self._fetch(kind, asked)
        while waited_for and time.monotonic() < until and not self.stopped():
            time.sleep(NAP)
            missing = self._fetch(kind, missing)
            waited_for = sorted(set(missing) & set(self._fetch("cannot", missing)))
            self._signs_of(missing)
        if self.stopped():
            self._last_chance(kind, missing)
        self._fetch("hello", asked)
        self._signs_of(missing)
        return [self._heard(each, kind) for each in asked]

    def _signs_of(self, ranks: Iterable[int]) -> None:
        """Note when each of these ranks has last said something new of its own doing."""
        asked = list(ranks)
        self._fetch("at", asked)
        for each in asked:
            said = self._known.get(f"at/{each}")
            if said is not None and self._signs.get(each, (b"", 0.0))[0] != said:
                self._signs[each] = said, time.monotonic()

    def _last_chance(self, kind: str, missing: list[int]) -> None:
        """Give ranks that the launcher has ended as well a moment to leave what they have."""
        end = time.monotonic() + self.last_chance
        while missing and time.monotonic() < end:
            time.sleep(NAP)
            missing = self._fetch(kind, missing)

    def _fetch(self, kind: str, ranks: Iterable[int]) -> list[int]:
        """Look for what these ranks leave; give those that have not left it."""
        keys = {f"{kind}/{rank}": rank for rank in ranks}
        try:
            self._known |= self.board.look([key for key in keys if kind == "at" or key not in self._known])
        except BoardError as error:
            self.lost = self.lost or str(error)
        return [rank for key, rank in keys.items() if key not in self._known]

    def _heard(self, rank: int, kind: str) -> Heard:
        packed = self._known.get(f"{kind}/{rank}")
        return Heard(
            rank, _hello(self._known.get(f"hello/{rank}")), _text(self._known.get(f"at/{rank}")),
            _text(self._known.get(f"cannot/{rank}")), unpacked(packed) if packed is not None else None,
            time.monotonic() - self._signs[rank][1] if rank in self._signs else None,
        )  # fmt: skip

    def announce(self, verdict: dict[str, Any], name: str = "verdict") -> None:
        """Tell all ranks."""
        try:
            self.board.put(name, json.dumps(verdict).encode())
        except BoardError as error:
            self.lost = self.lost or str(error)

    def hear(self, until: float, *names: str) -> dict[str, Any] | None:
        """Wait for what one rank tells all, the first of ``names``; None when it did not come, or the board is gone."""
        fails = 0
        while True:
            try:
                found = self.board.look(names)
                fails, self.lost = 0, ""
            except BoardError as error:
                found, fails = {}, fails + 1
                self.lost = str(error)
            if found:
                return _plain(next(found[name] for name in names if name in found))
            if time.monotonic() >= until or fails >= 3 or (self.stopped() and fails):
                return None
            time.sleep(NAP)

    def first_alive(self, *silent: int) -> int:
        """Give the lowest rank that has brought something: the one to speak when rank 0 does not.

        ``silent``: ranks that have, and are known to speak no more.
        """
        missing = {*self._fetch("snapshot", range(self.rank + 1)), *silent}
        return min((each for each in range(self.rank + 1) if each not in missing), default=self.rank)

    def leave(self) -> None:
        """Say that this rank has heard the verdict, and is about to end."""
        self.say("left", b"1")

    def see_all_off(self, ranks: Iterable[int]) -> None:
        """Wait a while until the others have heard."""
        until, missing = time.monotonic() + FAREWELL, [each for each in ranks if each != self.rank]
        while missing and time.monotonic() < until:
            missing = self._fetch("left", missing)
            time.sleep(NAP / 3)


def unpacked(data: bytes) -> bytes:
    """Unpack a document; one that is damaged or too large becomes one that is no snapshot."""
    unpacking = zlib.decompressobj()
    try:
        text = unpacking.decompress(data, LARGEST)
    except zlib.error:
        return b""
    return b"" if unpacking.unconsumed_tail else text


def _plain(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _hello(data: bytes | None) -> Hello | None:
    if data is None:
        return None
    told = _plain(data)
    return Hello(str(told.get("node", "")), told.get("leads") is not False, str(told.get("version", "")))


def _text(data: bytes | None) -> str:
    return data.decode("utf-8", "replace") if data else ""


def silent(heard: Iterable[Heard], ended_by: str = "") -> tuple[SilentRanks, ...]:
    """Give the ranks that brought nothing, those alike in what is known of them together."""
    groups: dict[tuple[str, str], list[Heard]] = {}
    for each in heard:
        if each.snapshot is None:
            groups.setdefault(_state(each, ended_by), []).append(each)
    return tuple(_silent(state, last, members) for (state, last), members in groups.items())


def _state(heard: Heard, ended_by: str) -> tuple[str, str]:
    if heard.cannot:
        return "cannot-join", heard.cannot
    if heard.hello is None:
        return "never-seen", ""
    # Where the launcher ended the run because a rank died, the one that left no last word is the one that died.
    quiet = heard.quiet_seconds is None or heard.quiet_seconds > QUIET
    return ("ended" if ended_by or quiet else "working"), heard.at


def _silent(state: str, last: str, members: list[Heard]) -> SilentRanks:
    nodes = names_in_words([each.hello.node for each in members if each.hello and each.hello.node], 3)
    return SilentRanks(numbers_in_words(each.rank for each in members), len(members), nodes, state, last)
