"""From the ranks' answers to the fact: what each stage gave, rank by rank, pair by pair, group by group."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import TYPE_CHECKING

from envdoctor.facts.fleet import FleetStages, Stage, StageResult
from envdoctor.fleet.ranges import numbers_in_words
from envdoctor.fleet.steps import ORDER, READY, TOGETHER, Answer, Played, Row, median

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

RATES = {"TFLOP/s": 1e12, "GFLOP/s": 1e9, "GB/s": 1e9, "MB/s": 1e6}
MIB = 1 << 20
FEWEST = 5  # samples of a product


def stages_of(played: Sequence[Played], nodes: Mapping[int, str]) -> FleetStages:
    """Give the fact. ``nodes``: the name of each rank's machine."""
    return FleetStages(stages=tuple(_stage(name, played, nodes) for name in ORDER if _asked(name, played)))


def _asked(name: str, played: Iterable[Played]) -> list[Played]:
    return [each for each in played if each.step.stage == name]


def _stage(name: str, played: Sequence[Played], nodes: Mapping[int, str]) -> Stage:
    steps = _asked(name, played)
    last, unit = steps[-1].step, unit_of(steps)
    found = [each for step in steps for each in results_of(step, nodes, unit)]
    if name == "compute":
        found += _never_ready(played, nodes)
    results = tuple(_best(found))
    state, reason = last.state, last.reason
    if results and not any(each.state == "done" for each in results):
        state = "failed" if any(each.state != "skipped" for each in results) else "skipped"
        reason = reason or next((each.reason for each in results if each.reason), "")
    took = round(sum(each.seconds for each in steps), 1)
    return Stage(name, state, unit, next((s.step.config for s in steps if s.step.config), ""), reason, took, results)


def unit_of(steps: Sequence[Played]) -> str:
    """Give the unit of a stage: that of GPUs only if all its devices are."""
    stage = steps[0].step.stage
    if stage == "p2p":
        return "GB/s"
    if stage in TOGETHER:
        return "GB/s" if any(each.step.told.get("backend") == "nccl" for each in steps) else "MB/s"
    kinds = {each.row("kind").kind for step in steps for each in step.answers.values() if each}
    return "TFLOP/s" if kinds == {"cuda"} else "GFLOP/s"


def results_of(played: Played, nodes: Mapping[int, str], unit: str) -> Iterator[StageResult]:
    """Give what one step gave, in this unit."""
    stage = played.step.stage
    for group, why in played.step.left_out:
        yield StageResult(named(stage, group), "skipped", reason=why, nodes=_nodes(group, nodes))
    for group in played.step.groups:
        if stage == "compute":
            yield _computed(group[0], played.answers.get(group[0]), nodes, unit)
        elif stage == "p2p":
            yield from _copied(group[0], played, nodes, unit)
        else:
            yield from _reduced(stage, group, played, nodes, unit)


def named(stage: str, group: Sequence[int]) -> str:
    """Name a group: a pair as ``3+7``, others as a range."""
    return "+".join(map(str, sorted(group))) if stage in {"pairs", "p2p"} else numbers_in_words(group)


def _nodes(group: Iterable[int], nodes: Mapping[int, str]) -> str:
    return "+".join(dict.fromkeys(nodes[each] for each in sorted(group) if nodes.get(each)))


def _no_answer(rank: int, played: Played, nodes: Mapping[int, str]) -> StageResult:
    why = f"rank {rank} gave no answer within {played.step.seconds:g} s"
    return StageResult(str(rank), "timed-out", reason=why, nodes=nodes.get(rank, ""))


def _never_ready(played: Iterable[Played], nodes: Mapping[int, str]) -> Iterator[StageResult]:
    """Give the ranks that could not even import torch."""
    for step in _asked(READY, played):
        for rank, answer in step.answers.items():
            if answer is None:
                yield _no_answer(rank, step, nodes)
            elif not answer.done:
                yield StageResult(str(rank), answer.state, reason=answer.reason, nodes=nodes.get(rank, ""))


def _computed(rank: int, answer: Answer | None, nodes: Mapping[int, str], unit: str) -> StageResult:
    node = nodes.get(rank, "")
    if answer is None:
        return StageResult(str(rank), "timed-out", reason=f"rank {rank} gave no answer", nodes=node)
    device, flop = answer.row("kind"), answer.row("flop").flop
    seconds = tuple(s for row in answer.said if (s := median(row)) is not None)
    if not answer.done and len(seconds) < FEWEST:
        return StageResult(str(rank), answer.state, reason=answer.reason, nodes=node, on=device.name)
    value = flop / statistics.median(seconds) / RATES[unit] if seconds else None
    return StageResult(str(rank), "done", value, seconds, device.why, node, device.name)


def _copied(leader: int, played: Played, nodes: Mapping[int, str], unit: str) -> Iterator[StageResult]:
    """Give each pair of GPUs by the ranks whose own they are; the one that it hung at, and those not come to."""
    answer, part = played.answers.get(leader), played.step.each.get(str(leader), {})
    whose = {int(index): rank for index, rank in part.get("ranks", {}).items()}
    if answer is None:
        yield _no_answer(leader, played, nodes)
        return
    known = {tuple(row.copied or row.failed): row for row in answer.said if row.copied or row.failed}
    at, node = tuple(answer.row("at").at), nodes.get(leader, "")
    for pair in [(a, b) for a in whose for b in whose if a < b]:
        name, row = f"{whose[pair[0]]}+{whose[pair[1]]}", known.get(pair)
        if row is None:
            here = pair == at and not answer.done
            why = answer.reason if here else "no time was left for it" if answer.done else "one before it hung"
            yield StageResult(name, answer.state if here else "skipped", reason=why, nodes=node)
        elif row.failed:
            yield StageResult(name, "failed", reason=row.reason, nodes=node)
        else:
            took, how = median(row), "" if row.direct else "no peer-to-peer access: through the host"
            value = row.bytes / took / RATES[unit] if took else None
            yield StageResult(name, "done", value, _samples(row), how, node)


def _samples(row: Row) -> tuple[float, ...]:
    return tuple(row.seconds) if isinstance(row.seconds, list) else (row.seconds,)


def _reduced(
    stage: str, group: Sequence[int], played: Played, nodes: Mapping[int, str], unit: str
) -> Iterator[StageResult]:
    """Give what a collective gave its group, and name those of it that gave no answer."""
    name, where = named(stage, group), _nodes(group, nodes)
    missing = [each for each in group if played.answers.get(each) is None]
    for rank in missing:
        yield _no_answer(rank, played, nodes)
    if missing:
        why = f"{'ranks' if len(missing) > 1 else 'rank'} {numbers_in_words(missing)} gave no answer"
        yield StageResult(name, "skipped", reason=why, nodes=where)
        return
    answers = {rank: answer for rank in group if (answer := played.answers[rank])}
    rows = [answer.row("bytes") for answer in answers.values()]
    bad = {rank: answer for rank, answer in answers.items() if not answer.done}
    if not all(row.bytes for row in rows):
        yield _failed(name, where, bad or answers)
        return
    least = min(rows, key=lambda row: row.bytes)
    took = max(median(row) or 0.0 for row in rows if row.bytes == least.bytes)
    share = 2 * (len(group) - 1) / len(group)
    why = f"more than {_size(least.bytes)} at once did not end in time" if bad else ""
    value = least.bytes / took * share / RATES[unit] if took else None
    yield StageResult(name, "done", value, _samples(least), why, where)


def _failed(name: str, where: str, bad: Mapping[int, Answer]) -> StageResult:
    """Give a group's failure in the words of the rank that says most: one that waits for others says the least."""
    said = [(rank, each) for rank, each in bad.items() if each.state == "failed"]
    rank, first = (said or list(bad.items()))[0]
    state = "failed" if said else "timed-out"
    return StageResult(name, state, reason=f"rank {rank}: {first.reason}", nodes=where)


def _size(size: float) -> str:
    return f"{size / MIB:g} MiB" if size >= MIB else f"{size / 1024:g} KiB"


def _best(found: Iterable[StageResult]) -> list[StageResult]:
    """Of what was tried twice, keep the better: what one look has shown to be possible is no fault."""
    kept: dict[str, StageResult] = {}
    for each in found:
        known = kept.get(each.ranks)
        if known is None or _rank_of(each) >= _rank_of(known):
            kept[each.ranks] = replace(each, nodes=each.nodes or (known.nodes if known else ""))
    return list(kept.values())


def _rank_of(result: StageResult) -> tuple[int, float]:
    return ("skipped", "timed-out", "failed", "done").index(result.state), result.value or 0.0
