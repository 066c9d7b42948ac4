"""A snapshot as one flat mapping from dotted keys to plain values, so that two or ten thousand can be compared.

It walks plain data, not fact types: facts of plug-ins, of other versions and of files from elsewhere go the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from envdoctor.compare.traits import MEASURED, PAIRS, ROWS, SETS, SETTLED, TRAITS, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from envdoctor.snapshot import Snapshot

    Value = str | int | float | bool | tuple[Any, ...]
    Flat = dict[str, Value]

_SCALARS = frozenset((str, int, float, bool))
_WORDS = frozenset(("sources", "unknown"))  # where a field was read, and why it could not be


def flatten(snapshot: Snapshot, traits: Collection[str] = (SETTLED,)) -> Flat:
    """Give what can be compared of a snapshot: values by dotted key, and how each probe ended as ``probe.NAME``.

    ``traits`` says of which kinds (``SETTLED``, ``OWN``, ``VOLATILE``). What is not known has no key. Values are
    strings, numbers, booleans and tuples of these.
    """
    flat = flatten_facts({key: msgspec.to_builtins(fact) for key, fact in snapshot.facts.items()}, traits)
    if SETTLED in traits:
        flat |= {f"probe.{each.name}": each.outcome.name for each in snapshot.probes}
    return flat


def flatten_facts(facts: Mapping[str, Any], traits: Collection[str] = (SETTLED,)) -> Flat:
    """Do the same for facts as JSON holds them (``document["facts"]``), without making objects of them.

    Plain data of any shape is taken; what has no place in it is left out. Each fact is flattened for itself, so that
    one that many snapshots share needs it once. Snapshots share the strings of their keys.
    """
    wanted = frozenset(traits)
    walk = _WALKS.get(wanted) or _WALKS.setdefault(wanted, _Walk(wanted))
    flat: Flat = {}
    for key, fact in facts.items():
        if fact.__class__ is dict and not key.startswith(MEASURED):
            walk.fields(flat, fact, key, key)
    return flat


class _Step(NamedTuple):
    """What to do with one field: the key and pattern it has, and what kind of list it is, if it is one."""

    key: str = ""
    pattern: str = ""
    wanted: bool = True  # as a value
    closed: bool = False  # nothing in it is compared
    rows: Rows | None = None
    pairs: str = ""
    whole: Callable[[Flat, Any], None] | None = None
    unordered: bool = False


class _Walk:
    """Goes through plain data. What to do with a field is looked up once for all snapshots."""

    def __init__(self, traits: frozenset[str]) -> None:
        self._traits = traits
        self._steps: dict[str, dict[str, _Step]] = {}
        self._keys: dict[str, dict[str, str]] = {}  # of fields that hold one value; empty: it is not wanted

    def fields(self, flat: Flat, values: dict[str, Any], key: str, pattern: str) -> None:
        """Add the fields of one fact, row or part."""
        keys = self._keys.get(key)
        if keys is None:
            keys = self._keys[key] = {}
        for name, value in values.items():
            kind = value.__class__
            if kind in _SCALARS:
                known = keys.get(name)
                if known is None:
                    step = self._step(name, key, pattern)
                    known = keys[name] = step.key if step.wanted and not step.closed else ""
                if known:
                    flat[known] = value
            elif value is not None:
                self._inside(flat, value, self._step(name, key, pattern))

    def _inside(self, flat: Flat, value: Any, step: _Step) -> None:
        if step.closed:
            return
        if value.__class__ is dict:
            self.fields(flat, value, step.key, step.pattern)
        else:
            self._list(flat, value, step)

    def _step(self, name: str, key: str, pattern: str) -> _Step:
        steps = self._steps.setdefault(key, {})
        step = steps.get(name)
        if step is None:
            step = steps[name] = self._new_step(name, key, pattern)
        return step

    def _new_step(self, name: str, key: str, pattern: str) -> _Step:
        pattern = f"{pattern}.{name}"
        rows, pairs, whole = ROWS.get(pattern), PAIRS.get(pattern, ""), _WHOLE.get(pattern)
        trait = TRAITS.get(pattern, SETTLED)
        wanted = trait in self._traits
        closed = name in _WORDS or (pattern in TRAITS and not wanted) or (bool(pairs or whole) and not wanted)
        if rows:
            pattern = f"{pattern.rpartition('*')[0]}*.{rows.name}" if "*" in pattern else rows.name
            wanted = TRAITS.get(f"{pattern}.*", SETTLED) in self._traits
            return _Step(f"{key}.{rows.name}" if "*" in pattern else rows.name, pattern, wanted, closed, rows)
        return _Step(f"{key}.{name}", pattern, wanted, closed, None, pairs, whole, pattern in SETS)

    def _list(self, flat: Flat, values: Sequence[Any], step: _Step) -> None:
        if step.rows:
            self._rows(flat, values, step, step.rows)
        elif step.whole:
            step.whole(flat, values)
        elif step.pairs:
            flat |= {f"{step.pairs}.{each[0]}": str(each[1]) for each in values if _is_pair(each)}
        elif values and values[0].__class__ is dict:
            for place, each in enumerate(values):
                if each.__class__ is dict:
                    self.fields(flat, each, f"{step.key}.{place}", f"{step.pattern}.*")
        elif step.wanted:
            told = tuple(each if each.__class__ in _SCALARS else str(each) for each in values)
            flat[step.key] = tuple(sorted(set(map(str, told)))) if step.unordered else told

    def _rows(self, flat: Flat, values: Sequence[Any], step: _Step, rows: Rows) -> None:
        named = self._steps.setdefault(f"{step.key}.*", {})
        for place, row in enumerate(values):
            if row.__class__ is not dict or (rows.unless and row.get(rows.unless) is True):
                continue
            name = _name(row, rows, place)
            key = (named.get(name) or named.setdefault(name, _Step(f"{step.key}.{name}"))).key
            if not rows.value:
                self.fields(flat, row, key, f"{step.pattern}.*")
            elif step.wanted and key not in flat:  # of two with one name the first is the one that is used
                value = row.get(rows.value)
                if value is not None:
                    flat[key] = value if value.__class__ in _SCALARS else tuple(map(str, value))  # type: ignore[assignment]


def _name(row: dict[str, Any], rows: Rows, place: int) -> str:
    if not rows.by:
        return str(place)
    told = [str(row.get(each, place)) for each in rows.by]
    return "-".join(each.rpartition("/")[2] for each in told) if rows.file_name else "-".join(told)


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2


def _nvlinks(flat: Flat, values: Sequence[Any]) -> None:
    """Put the links of each GPU in one value: their counters change, and which link is where says nothing."""
    for gpu, links in enumerate(values):
        told = [each for each in links if each.__class__ is dict] if isinstance(links, (list, tuple)) else []
        if told:
            versions = sorted({str(each.get("version")) for each in told})
            active = [each.get("active") for each in told].count(True)
            flat[f"nvlink.{gpu}"] = f"{active} of {len(told)} active, version {'/'.join(versions)}"


def _links(flat: Flat, values: Sequence[Any]) -> None:
    """Put the way between two GPUs, and whether they may use it, in one value."""
    for each in values:
        if each.__class__ is dict:
            way, peer = each.get("path"), each.get("peer_to_peer_read")
            flat[f"link.{each.get('first')}-{each.get('second')}"] = f"{way}, peer to peer {peer}"


_WHOLE: dict[str, Callable[[Flat, Any], None]] = {"gpu_fabric.nvlinks": _nvlinks, "gpu_fabric.links": _links}
_WALKS: dict[frozenset[str], _Walk] = {}
