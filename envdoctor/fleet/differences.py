"""What members differ in. Keys that part them in the same way are one difference, named by the most telling of them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from envdoctor.compare.traits import alike, slack_of
from envdoctor.facts.fleet import Difference, RankDifferences, Share
from envdoctor.fleet.headlines import is_headline, name_of, place
from envdoctor.fleet.private import private_differences
from envdoctor.fleet.ranges import in_words, names_in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from envdoctor.compare.flat import Value
    from envdoctor.fleet.member import Member
    from envdoctor.fleet.pool import Content

MOST_SHARES = 8  # values that are shown of one difference; all further ones are counted together
MOST_ALIKE = 200  # keys that are named beside the first
NODES_NAMED = 3

NOT_COMPARED = frozenset({"rendezvous"})  # each rank has its own view of it
# Rows of which not being there is a value as well.
ABSENT = ("variable.", "package.", "nccl_conf.")
# A difference before it has words: for each value, the members that have it, as a set of bits.
Parted = dict["Value", int]


@dataclass(frozen=True, slots=True)
class _Group:
    """Keys that part the members in the same way, the most telling first, and how."""

    keys: tuple[str, ...]
    parted: tuple[Parted, ...]  # by key

    @property
    def told(self) -> dict[str, Parted]:
        """Give the keys that a person has names for, the first one left out."""
        first = name_of(self.keys[0])
        pairs = zip(self.keys[1:], self.parted[1:], strict=True)
        found = {name_of(key): parted for key, parted in reversed([*pairs]) if is_headline(key)}
        return {name: parted for name, parted in reversed(found.items()) if name != first}


def compare(members: Sequence[Member], noun: str = "rank") -> tuple[RankDifferences, list[Member]]:
    """Give what differs between the members, and those that have of everything what most have.

    It takes time in proportion to their number.
    """
    groups = sorted(_alike(_differing(members)), key=lambda each: (place(each.keys[0]), each.keys[0]))
    differences = tuple(_difference(each, members) for each in groups)
    usual = (1 << len(members)) - 1
    for each in groups:
        sizes = sorted(bits.bit_count() for bits in each.parted[0].values())
        if sizes[-1] > sizes[-2]:
            usual &= max(each.parted[0].values(), key=int.bit_count)
    alike = [members[number] for number in _numbers(usual)]
    return RankDifferences(members=len(members), noun=noun, differences=differences), alike


def _differing(members: Sequence[Member]) -> Iterator[tuple[str, Parted]]:
    """Give each key with more than one value. A fact that all have alike is never looked into."""
    having: dict[str, dict[int, int]] = defaultdict(dict)
    found: dict[int, Content] = {}
    for number, member in enumerate(members):
        bit = 1 << number
        for key, content in member.contents.items():
            if key in NOT_COMPARED:
                continue
            bits = having[key]
            bits[content.number] = bits.get(content.number, 0) | bit
            found[content.number] = content
    for contents in having.values():
        if len(contents) > 1:
            yield from _within({number: (bits, found[number].flat) for number, bits in contents.items()})
    yield from _runs(members)
    yield from private_differences(members)


def _within(contents: Mapping[int, tuple[int, Mapping[str, Value]]]) -> Iterator[tuple[str, Parted]]:
    """Give the keys of one fact that differ between its contents."""
    values: dict[str, Parted] = defaultdict(dict)
    for bits, flat in contents.values():
        for key, value in flat.items():
            parted = values[key]
            parted[value] = parted.get(value, 0) | bits
    for key, parted in values.items():
        if key.startswith(ABSENT):
            _add_absent(key, parted, contents)
        if len(parted) > 1:
            joined = _with_slack(parted, slack_of(key))
            if len(joined) > 1:
                yield key, joined


def _add_absent(key: str, parted: Parted, contents: Mapping[int, tuple[int, Mapping[str, Value]]]) -> None:
    """Count those whose fact was read and does not have this row: a variable that is not set is set otherwise."""
    lacking = sum(bits for bits, flat in contents.values() if key not in flat)
    if lacking:
        parted["not installed" if key.startswith("package.") else "not set"] = lacking


def _with_slack(parted: Parted, slack: float) -> Parted:
    """Take numbers that are nearly the same for the one that most members have."""
    if not slack:
        return parted
    kept: Parted = {}
    for value, bits in sorted(parted.items(), key=lambda each: -each[1].bit_count()):
        same = next((each for each in kept if alike(each, value, slack)), value)
        kept[same] = kept.get(same, 0) | bits
    return kept


def _runs(members: Sequence[Member]) -> Iterator[tuple[str, Parted]]:
    """Give how members were collected, where that differs: the doctor's own version, and how each probe ended."""
    having: dict[int, int] = {}
    runs = {}
    for number, member in enumerate(members):
        having[member.run.number] = having.get(member.run.number, 0) | 1 << number
        runs[member.run.number] = member.run
    contents = {}
    for number, bits in having.items():
        flat: dict[str, Value] = {f"probe.{each.name}": each.outcome.name for each in runs[number].probes}
        contents[number] = bits, flat | {"tool.version": runs[number].tool_version, "level": runs[number].level}
    yield from _within(contents)


def _alike(differing: Iterable[tuple[str, Parted]]) -> list[_Group]:
    found: dict[frozenset[int], list[tuple[str, Parted]]] = defaultdict(list)
    for key, parted in differing:
        found[frozenset(parted.values())].append((key, parted))
    groups = []
    for each in found.values():
        each.sort(key=lambda pair: (place(pair[0]), pair[0]))
        groups.append(_Group(tuple(key for key, _ in each), tuple(parted for _, parted in each)))
    return groups


def _difference(group: _Group, members: Sequence[Member]) -> Difference:
    first, parted = group.keys[0], group.parted[0]
    rarest_first = sorted(((bits, value) for value, bits in parted.items()), key=lambda each: each[0].bit_count())
    sizes = [bits.bit_count() for bits, _ in rarest_first]
    majority = rarest_first[-1][0] if sizes[-1] > sizes[-2] else 0
    shown = rarest_first if len(rarest_first) <= MOST_SHARES else rarest_first[1 - MOST_SHARES :]
    also = {name: {bits: value for value, bits in each.items()} for name, each in group.told.items()}
    shares = [_rest(rarest_first[: 1 - MOST_SHARES], members)] if len(shown) < len(rarest_first) else []
    for bits, value in shown:
        told = tuple((name, _words(values[bits])) for name, values in also.items())
        shares.append(replace(_share(_words(value), bits, members), majority=bits == majority, also=told))
    keys, unknown = group.keys[1:], len(members) - sum(sizes)
    return Difference(name_of(first), first, tuple(shares), keys[:MOST_ALIKE], len(keys), max(0, unknown))


def _rest(parts: Sequence[tuple[int, Value]], members: Sequence[Member]) -> Share:
    together = 0
    for bits, _ in parts:
        together |= bits
    return _share(f"{len(parts)} other values", together, members)


def _share(value: str, bits: int, members: Sequence[Member]) -> Share:
    having = [members[number] for number in _numbers(bits)]
    nodes = list(dict.fromkeys(each.node for each in having if each.node))
    return Share(value, in_words([each.name for each in having]), len(having), names_in_words(nodes, NODES_NAMED))


def _numbers(bits: int) -> Iterator[int]:
    """Give the places of the bits that are set."""
    start = 0
    for byte in bits.to_bytes((bits.bit_length() + 7) // 8, "little"):
        if byte:
            yield from (start + number for number in range(8) if byte >> number & 1)
        start += 8


def _words(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)
