"""What rank 0 finds when it lays the ranks side by side: who is missing, what differs, who cannot begin and why."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from envdoctor.diagnose import examine, in_reading_order, verdict_of
from envdoctor.facts.fleet import RankDifferences, Ranks, SilentRanks
from envdoctor.finding import Severity
from envdoctor.fleet.differences import compare
from envdoctor.fleet.member import Members
from envdoctor.fleet.pool import Pool
from envdoctor.fleet.ranges import numbers_in_words
from envdoctor.rules.fleet import differs_across_ranks, rank_unreachable
from envdoctor.selection import Selection
from envdoctor.snapshot import BY_KEY, SCHEMA, Snapshot, SnapshotError, to_plain, with_fact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from envdoctor.facts import Fact
    from envdoctor.finding import Ignored
    from envdoctor.fleet.member import Member
    from envdoctor.gate.cleared import Cleared
    from envdoctor.gate.words import Word
    from envdoctor.ranks.launched import Place
    from envdoctor.ranks.meeting import Meeting

Raw = dict[str, Any]
HEAD = ("level", "tool", "target", "created")


def own_of(snapshot: Snapshot, shared: frozenset[str]) -> Raw:
    """Give what a rank adds to the facts that it shares with others: its own facts, and how its probes ended."""
    whole = to_plain(snapshot)
    facts = {key: fact for key, fact in whole["facts"].items() if key not in shared}
    probes = [{key: value for key, value in each.items() if key != "seconds"} for each in whole["probes"]]
    own = {**{key: whole[key] for key in HEAD}, "facts": facts, "probes": probes}
    plain: Raw = msgspec.json.decode(msgspec.json.encode(own, enc_hook=str))
    return plain


def roll_call(meeting: Meeting, words: Mapping[int, Word], place: Place | None, waited: float) -> Ranks:
    """Give who was to come and who did."""
    missing = tuple(rank for rank in range(meeting.world_size) if rank not in words)
    silent = SilentRanks(numbers_in_words(missing), len(missing))
    address = f"{place.address}:{place.port}" if place and place.address else ""
    return Ranks(
        world_size=meeting.world_size, arrived=len(words), nodes=len({each.host for each in words.values()}),
        launcher=place.launcher if place else "", address=address, silent=(silent,) if missing else (),
        waited_seconds=waited if missing else None, sources={"waited_seconds": "sync_timeout_seconds"},
    )  # fmt: skip


def differences(meeting: Meeting, words: Mapping[int, Word]) -> tuple[RankDifferences, int]:
    """Give what the ranks that told their facts differ in, and how many those are."""
    reader, members = Members(Pool(BY_KEY)), []
    shared: dict[str, Raw] = {"": {}}
    for _, word in sorted(words.items()):
        if word.view not in shared:
            shared[word.view] = _facts(meeting.get(f"facts/{word.view}", 0.0))
        if word.own and (shared[word.view] or not word.view):
            facts = {**shared[word.view], **word.own["facts"]}
            document = msgspec.json.encode({**word.own, "schema": SCHEMA, "facts": facts})
            members += _members(reader, document, word)
    return compare(members)[0], len(members)


def _members(reader: Members, document: bytes, word: Word) -> list[Member]:
    try:
        return [replace(each, private=word.private) for each in reader.read(document, str(word.rank), word.host)]
    except SnapshotError:  # a version of envdoctor that writes its facts otherwise: it is counted as not compared
        return []


def _facts(packed: bytes | None) -> Raw:
    """Give the facts of a shared snapshot; empty where the look that was to give it failed."""
    text = zlib.decompress(packed) if packed else b""
    return dict(msgspec.json.decode(text)["facts"]) if text else {}


def judged(report: Cleared, facts: tuple[Fact, ...], ignore: Mapping[str, Ignored]) -> Cleared:
    """Add to a report what the facts about all ranks mean."""
    snapshot = report.snapshot
    for each in facts:
        snapshot = with_fact(snapshot, each)
    more = examine(snapshot, (differs_across_ranks, rank_unreachable), Selection(ignore=ignore))
    new = {each.id: each for each in more.checks}
    checks = tuple(new.get(each.id, each) for each in report.checks)
    findings = in_reading_order((*report.findings, *more.findings))
    primary = next((each.key for each in findings if each.ignored is None and each.severity is not Severity.INFO), None)
    return replace(
        report, snapshot=snapshot, findings=findings, checks=checks, primary=primary,
        verdict=verdict_of(findings, checks),
    )  # fmt: skip


def in_full(words: Sequence[Word], size: int) -> str:
    """Say why ranks cannot begin: each reason once, under the ranks and machines that have it."""
    parts = []
    for text, having in _alike(words, full=True).items():
        hosts = ", ".join(dict.fromkeys(each.host for each in having if each.host))
        who = in_words([each.rank for each in having], size)
        parts.append(f"{who}{f' of {size}' if len(having) < size else ''}{f' ({hosts})' if hosts else ''}: {text}")
    return "\n\n".join(parts)


def in_short(words: Sequence[Word], size: int) -> str:
    """Say in one line who cannot begin, and by which findings."""
    alike = _alike(words, full=False).items()
    return "; ".join(f"{in_words([each.rank for each in having], size)}: {reason}" for reason, having in alike)


def _alike(words: Sequence[Word], *, full: bool) -> dict[str, list[Word]]:
    found: dict[str, list[Word]] = {}
    for each in words:
        found.setdefault((each.words if full else "") or each.reason, []).append(each)
    return found


def in_words(ranks: Sequence[int], size: int) -> str:
    """Put rank numbers in words: ``Rank 3``, ``Ranks 0-2,7``, ``All 8 ranks``."""
    if len(ranks) == size:
        return f"All {size} ranks"
    return f"Rank{'s' if len(ranks) > 1 else ''} {numbers_in_words(ranks)}"
