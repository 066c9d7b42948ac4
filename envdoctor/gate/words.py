"""What each rank says of itself to the others, and the outcome that is settled once for all of them."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from envdoctor.redact.keyed import new_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envdoctor.ranks.meeting import Meeting

MOST = 6000  # characters of one rank's words
ARRIVED, OUTCOME, KEY = "arrived", "outcome", "key"


@dataclass(frozen=True)
class Word:
    """What one rank says of itself. It cannot begin when there are ``keys``, something ``unjudged`` or ``failed``.

    ``words``: why, as a person reads it. ``view``: whose facts it shares. ``own``: its own facts and probes, as JSON
    has them, to be put over the shared ones. ``private``: keyed hashes of values that are not shown, by variable.
    """

    rank: int
    host: str = ""
    keys: tuple[str, ...] = ()
    unjudged: str = ""
    failed: str = ""
    words: str = ""
    view: str = ""
    own: Mapping[str, Any] = field(default_factory=dict)
    private: Mapping[str, str] | None = None

    @property
    def objects(self) -> bool:
        """Tell whether this rank cannot begin."""
        return bool(self.keys or self.unjudged or self.failed)

    @property
    def reason(self) -> str:
        """Give the shortest that can be said of why it cannot begin."""
        return ", ".join(self.keys) or self.failed or "what is required could not be found out"


@dataclass(frozen=True)
class Outcome:
    """What holds for all ranks. ``by``: who settled it; ``words`` says it in full, ``short`` in one line."""

    refused: bool
    by: int
    words: str = ""
    short: str = ""
    told: tuple[str, ...] = ()


def say(meeting: Meeting, word: Word) -> None:
    """Leave this rank's word. What many say alike is left once."""
    told = asdict(word)
    if word.words:
        text = word.words[:MOST].encode("utf-8", "backslashreplace")
        told["words"] = hashlib.sha256(text).hexdigest()[:16]
        meeting.settle(f"words/{told['words']}", text)
    meeting.put(f"said/{word.rank}", zlib.compress(json.dumps(told).encode(), 1))
    meeting.count(ARRIVED)


def heard(meeting: Meeting) -> dict[int, Word]:
    """Read the words that are there, by rank."""
    found = {}
    texts: dict[str, str] = {}
    for rank in range(meeting.world_size):
        raw = meeting.get(f"said/{rank}", 0.0)
        if raw is not None:
            told: dict[str, Any] = json.loads(zlib.decompress(raw))
            if told["words"]:
                texts[told["words"]] = texts.get(told["words"]) or _text(meeting, told["words"])
                told["words"] = texts[told["words"]]
            found[rank] = Word(**_known(Word, {**told, "keys": tuple(told["keys"])}))
    return found


def _known(kind: type, told: dict[str, Any]) -> dict[str, Any]:
    """Leave out what another version of envdoctor says beside what this one knows."""
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in told.items() if name in names}


def _text(meeting: Meeting, digest: str) -> str:
    return (meeting.get(f"words/{digest}", 0.0) or b"").decode("utf-8", "replace")


def common_key(meeting: Meeting) -> str:
    """Give the key under which all ranks hash what is private: the first rank that asks makes it."""
    return meeting.settle(KEY, new_key().encode()).decode()


def settle(meeting: Meeting, mine: Outcome) -> Outcome:
    """Settle the outcome; give the one that holds, which may be another rank's."""
    return _outcome(meeting.settle(OUTCOME, json.dumps(asdict(mine)).encode()))


def cleared_away(meeting: Meeting, words: Mapping[int, Word]) -> None:
    """Take away what was only to be read once: facts and words. The outcome stays, for a rank that comes late."""
    keys = {f"said/{rank}" for rank in words} | {f"facts/{each.view}" for each in words.values() if each.view}
    meeting.forget(sorted(keys | {KEY}))


def settled(meeting: Meeting) -> Outcome | None:
    """Wait for the outcome; None when nobody has settled it in time."""
    raw = meeting.get(OUTCOME)
    return None if raw is None else _outcome(raw)


def _outcome(raw: bytes) -> Outcome:
    told: dict[str, Any] = json.loads(raw)
    return Outcome(**_known(Outcome, {**told, "told": tuple(told["told"])}))
