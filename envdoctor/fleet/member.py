"""One member of a fleet: a rank that reported, or a saved snapshot. What it shares with others is kept once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from envdoctor.compare.traits import MEASURED
from envdoctor.plan import LEVELS
from envdoctor.snapshot import GOT, SCHEMA, ProbeResult, Snapshot, SnapshotError, Target, probe_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from envdoctor.facts import Fact
    from envdoctor.fleet.pool import Content, Pool


class _Tool(msgspec.Struct):
    version: str = ""


class _Document(msgspec.Struct):
    """As much of a snapshot or report as is looked at before its facts are."""

    schema: str = ""
    facts: dict[str, msgspec.Raw] = {}
    probes: msgspec.Raw = msgspec.Raw(b"[]")
    plugin_errors: tuple[str, ...] = ()
    target: Target = msgspec.field(default_factory=Target)
    tool: _Tool = msgspec.field(default_factory=_Tool)
    level: str = "standard"
    created: str = ""
    interrupted: bool = False
    reports: tuple[msgspec.Raw, ...] = ()


class _Host(msgspec.Struct):
    hostname: str | None = None


class _Probe(msgspec.Struct, omit_defaults=True):
    """What became of a probe, but for its seconds: no two members would have been collected alike."""

    name: str = ""
    fact: str = ""
    outcome: str = ""
    reason: str = ""
    freshness: str = ""
    detail: str = ""
    signal: str = ""
    exit_code: int = 0
    after_seconds: float = 0.0
    hung: bool = False
    unkillable: bool = False
    evidence: dict[str, str] = {}


_PROBES = msgspec.json.Decoder(list[_Probe])
_DOCUMENT = msgspec.json.Decoder(_Document)
_DECODERS: dict[type[Fact], msgspec.json.Decoder[Fact]] = {}
_HOST = msgspec.json.Decoder(_Host)


@dataclass(frozen=True, slots=True)
class Run:
    """What is known of how a member was collected, shared by all that were collected alike."""

    number: int
    level: str
    target: Target
    probes: tuple[ProbeResult, ...]
    plugin_errors: tuple[str, ...]
    tool_version: str
    interrupted: bool
    left_out: tuple[str, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """One rank or snapshot. ``own`` holds, as JSON, the facts that have values beside their settled content.

    ``private``: keyed hashes of values that are not shown, by variable; None where nobody told them.
    """

    name: str
    node: str
    run: Run
    contents: dict[str, Content]
    own: dict[str, bytes]
    private: Mapping[str, str] | None = None

    @property
    def sameness(self) -> tuple[int, ...]:
        """Two members with the same one differ in nothing but values of the moment."""
        return (self.run.number, *(each.number for each in self.contents.values()))

    def snapshot(self, own: frozenset[str] = frozenset()) -> Snapshot:
        """Give it as a snapshot: the facts named in ``own`` with its own values of the moment, others with any's."""
        facts = {key: content.fact for key, content in self.contents.items()}
        for key in own & self.own.keys():
            facts[key] = _fact(key, self.own[key], facts[key])
        run = self.run
        return Snapshot(
            run.target, run.level, "", facts, run.probes, plugin_errors=run.plugin_errors,
            tool_version=run.tool_version, interrupted=run.interrupted, left_out=run.left_out, lost=run.lost,
        )  # fmt: skip


def _fact(key: str, raw: bytes, like: Fact) -> Fact:
    """Decode a fact whose settled part is known to be well formed; raises ``SnapshotError`` for the rest."""
    kind = type(like)
    if kind not in _DECODERS:
        _DECODERS[kind] = msgspec.json.Decoder(kind)
    try:
        return _DECODERS[kind].decode(raw)
    except msgspec.DecodeError as error:
        raise SnapshotError(f"fact {key}: {error}") from None


class Members:
    """Makes members of documents. Raises ``SnapshotError`` for what is no snapshot, and keeps nothing of it.

    ``together``: they are ranks of one run, and what ended that is said of the run, not of each of them.
    """

    def __init__(self, pool: Pool, *, together: bool = False) -> None:
        self._pool, self._together = pool, together
        self._runs: dict[tuple[bytes, ...], Run] = {}

    def read(self, data: bytes, name: str, node: str = "") -> Iterator[Member]:
        """Give the member that a document holds; one with several reports gives one for each."""
        document = _decoded(_DOCUMENT, data)
        if document.schema.startswith("envdoctor.reports/"):
            for each in document.reports:
                report = _decoded(_DOCUMENT, bytes(each))
                yield self._member(_inner(report), f"{name}#{report.target.key}", node)
            return
        yield self._member(_inner(document), name, node)

    def _member(self, document: _Document, name: str, node: str) -> Member:
        contents: dict[str, Content] = {}
        own: dict[str, bytes] = {}
        for key, raw in document.facts.items():
            if key in self._pool.kinds:
                data = bytes(raw)
                contents[key], has_own = self._pool.take(key, data)
                if has_own:
                    own[key] = data
        return Member(name, node or _node(contents, own), self._run(document), contents, own)

    def _run(self, document: _Document) -> Run:
        document.interrupted &= not self._together
        ends = _decoded(_PROBES, bytes(document.probes))
        facts = document.facts.keys()
        left_out = sorted(each for each in facts - self._pool.kinds.keys() if not each.startswith(MEASURED))
        lost = [each.fact for each in ends if each.outcome == GOT and each.fact and each.fact not in facts]
        told = (document.plugin_errors, document.level, document.target, document.tool.version)
        probes = msgspec.json.encode(ends)
        key = (probes, msgspec.json.encode((*told, document.interrupted, left_out, lost)))
        run = self._runs.get(key)
        if run is None:
            missing = tuple(left_out), tuple(lost)
            run = self._runs[key] = _run(len(self._runs), document, msgspec.json.decode(probes), missing)
        return run


def _run(
    number: int, document: _Document, probes: list[dict[str, Any]], missing: tuple[tuple[str, ...], tuple[str, ...]]
) -> Run:
    if document.level not in LEVELS:
        raise SnapshotError(f"level is {document.level!r}, expected one of {', '.join(LEVELS)}")
    try:
        results = tuple(map(probe_from, probes))
    except msgspec.ValidationError as error:
        raise SnapshotError(f"probes: {error}") from None
    return Run(
        number, document.level, document.target, results, document.plugin_errors, document.tool.version,
        document.interrupted, *missing,
    )  # fmt: skip


def _decoded(decoder: msgspec.json.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise SnapshotError(f"not JSON of ours: {error}") from None


def _inner(document: _Document) -> _Document:
    """Give the snapshot inside a report, or the snapshot itself."""
    if document.schema.startswith("envdoctor.report/"):
        document = _of_report(document.facts)
    if document.schema != SCHEMA:
        raise SnapshotError(f"not a snapshot: its schema is {document.schema!r}, expected {SCHEMA!r}")
    return document


def _of_report(snapshot: dict[str, msgspec.Raw]) -> _Document:
    """Give the snapshot whose members these are."""
    packed = msgspec.json.encode({key: snapshot[key] for key in _Document.__struct_fields__ if key in snapshot})
    found: _Document = _decoded(_DOCUMENT, packed)
    return found


def _node(contents: dict[str, Content], own: dict[str, bytes]) -> str:
    """Name the machine: the host name of this member, not of the one it shares its content with."""
    if "host" not in contents:
        return ""
    return _decoded(_HOST, own["host"]).hostname or ""
