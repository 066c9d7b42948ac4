"""Which rank, pair or link is slow, from what staged tests measured: each against its peers, none against a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from envdoctor.facts.fleet import FleetStages, Stage, StageResult
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity
from envdoctor.remedy.variables import look

SLOW = 0.75  # of what the peers give; NVIDIA's own straggler detection draws the line there too
NOISE = 5.0  # times the spread among the peers (median absolute deviation) that a gap must exceed
MANY = 64  # peers of one kind
PLAIN = 100  # from here on a rate is said without decimals
FEW = 2  # peers that are needed to say who is the odd one
WHAT = {
    "compute": "computes",
    "p2p": "copies between the GPUs of its node",
    "loopback": "talks inside its node",
    "pairs": "talks to other ranks",
    "all": "takes part in an all-reduce",
}
WHAT_MANY = {"loopback": "talk inside their node", "all": "take part in an all-reduce"}
BAD = frozenset({"failed", "timed-out"})
IN_PAIRS = frozenset({"pairs", "p2p"})
Blame = tuple[Finding, set[str]]  # and the pairs that it explains


def slow(stages: FleetStages) -> Iterator[Finding]:
    """Give who is slow or failed, stage by stage."""
    said: set[str] = set()
    for stage in stages.stages:
        for each in _of(stage):
            # A rank that is named at two stages is two findings.
            yield replace(each, subject=f"{stage.name}-{each.subject}") if each.subject in said else each
            said.add(each.subject)


def _of(stage: Stage) -> Iterator[Finding]:
    if stage.state == "failed" and not any(each.state != "done" for each in stage.results):
        yield _whole(stage)
    elif stage.name in IN_PAIRS:
        yield from _pairs(stage)
    else:
        yield from _ranks(stage)


def _whole(stage: Stage) -> Finding:
    shown = Evidence("fleet_stages.stages", stage.reason, f"stage {stage.name}", "live", stage.name)
    return Finding(
        f"The test {stage.name} failed: {stage.reason}", "", (shown,), (_again(),), stage.name, Severity.ERROR
    )


def _ranks(stage: Stage) -> Iterator[Finding]:
    """Give ranks or groups that failed, and those that are slow against others with the same device."""
    done = [each for each in stage.results if each.state == "done" and each.value]
    for each in stage.results:
        if each.state in BAD:
            yield _failed(stage, each)
    behind = _behind(done, lambda each: each.on)
    for each in done:
        if each.ranks in behind:
            yield _slow(stage, each, behind[each.ranks])


def _behind(done: Sequence[StageResult], kind: Callable[[StageResult], object]) -> dict[str, float]:
    """Give what others of its kind give for each that is slow against it, when the gap is no noise; by their names."""
    kinds: dict[object, list[float]] = defaultdict(list)
    for each in done:
        kinds[kind(each)].append(each.value or 0.0)
    # Among many one more or less moves no median: it is not worth a time that grows with the square.
    known = {key: _middle_and_spread(values) for key, values in kinds.items() if len(values) > MANY}
    found = {}
    for each in done:
        own, values = each.value or 0.0, kinds[kind(each)]
        if len(values) <= FEW:
            continue
        usual, spread = known.get(kind(each)) or _middle_and_spread(_without(values, own))
        if own < SLOW * usual and usual - own > NOISE * spread:
            found[each.ranks] = usual
    return found


def _without(values: Sequence[float], one: float) -> list[float]:
    left = [*values]
    left.remove(one)
    return left


def _middle_and_spread(values: Sequence[float]) -> tuple[float, float]:
    import statistics

    usual = statistics.median(values)
    return usual, statistics.median(abs(each - usual) for each in values)


def _pairs(stage: Stage) -> Iterator[Finding]:
    """Name what explains most bad pairs: a node, a rank, the way between two nodes; and then the pairs that are left.

    A rank that gave no answer at all is no half of a pair: it is named itself.
    """
    bad = {each.ranks: each for each in _bad_pairs(stage)}
    for each in stage.results:
        if each.state in BAD and "+" not in each.ranks:
            yield _failed(stage, each)
    for blame in (_odd_nodes, _odd_ranks, _bad_ways):
        for finding, explained in list(blame(stage, bad)):
            yield finding
            bad = {name: each for name, each in bad.items() if name not in explained}
    for each in bad.values():
        yield _link(stage, each)


def _tried(stage: Stage) -> list[StageResult]:
    return [each for each in stage.results if "+" in each.ranks and each.state != "skipped"]


def _bad_pairs(stage: Stage) -> Iterator[StageResult]:
    """Give pairs that failed, and those that are slow against others of their kind: inside a node or between two."""
    tried = _tried(stage)
    done = [each for each in tried if each.state == "done" and each.value]
    behind = _behind(done, lambda each: "+" in each.nodes)
    yield from (each for each in tried if each.state in BAD or each.ranks in behind)


def _odd_nodes(stage: Stage, bad: Mapping[str, StageResult]) -> Iterator[Blame]:
    """Blame a node with several ranks, when most of its pairs with several other nodes are bad."""
    of_node: dict[str, list[StageResult]] = defaultdict(list)
    for each in _tried(stage):
        for node in each.nodes.split("+") if "+" in each.nodes else ():
            of_node[node].append(each)
    odd = [node for node, pairs in of_node.items() if _mostly(pairs, bad) and _many_sided(node, pairs)]
    for node in odd if len(odd) < len(of_node) else ():
        pairs = of_node[node]
        found = [each for each in pairs if each.ranks in bad]
        who = f"The ranks of {node}"
        yield _blamed(stage, who, "are", node, found, f"{len(pairs)} pairs with other nodes"), _names(found)


def _many_sided(node: str, pairs: Sequence[StageResult]) -> bool:
    """Tell whether several ranks of this node were tried with several other nodes."""
    own = {each.ranks.split("+")[each.nodes.split("+").index(node)] for each in pairs}
    return len(own) > 1 and len({each.nodes for each in pairs}) > 1


def _odd_ranks(stage: Stage, bad: Mapping[str, StageResult]) -> Iterator[Blame]:
    """Blame a rank that is bad in most of its pairs."""
    of_rank: dict[str, list[StageResult]] = defaultdict(list)
    for each in _tried(stage):
        for rank in each.ranks.split("+"):
            of_rank[rank].append(each)
    odd = [rank for rank, pairs in of_rank.items() if len(pairs) >= FEW and _mostly(pairs, bad)]
    for rank in odd if len(odd) < len(of_rank) else ():
        found = [each for each in of_rank[rank] if each.ranks in bad]
        who, others = (
            (f"The GPU of rank {rank}", "GPUs") if stage.name == "p2p" else (f"Rank {rank}", "ranks")
        )  # fmt: skip
        count = f"{len(of_rank[rank])} {others} it was paired with"
        blamed, ways = _blamed(stage, who, "is", rank, found, count), {each.nodes for each in found}
        if len(ways) == 1 and "+" in found[0].nodes and len(found) < len(of_rank[rank]):
            # It works inside its node: the way may as well be at fault, and chance have spared the others.
            way = f"All of them go between {found[0].nodes.replace('+', ' and ')}: it may be that way as well."
            blamed = replace(blamed, detail=" ".join(filter(None, (way, blamed.detail))), confidence=Confidence.LIKELY)
        yield blamed, _names(found)


def _bad_ways(stage: Stage, bad: Mapping[str, StageResult]) -> Iterator[Blame]:
    """Blame the way between two nodes, when all pairs that were tried over it are bad."""
    over: dict[str, list[StageResult]] = defaultdict(list)
    for each in _tried(stage):
        if "+" in each.nodes:
            over[each.nodes].append(each)
    for nodes, pairs in over.items():
        if len(pairs) >= FEW and all(each.ranks in bad for each in pairs):
            who = f"The ranks of {nodes.replace('+', ' and those of ')}"
            yield _blamed(stage, who, "are", nodes, pairs, f"{len(pairs)} pairs between them"), _names(pairs)


def _names(pairs: Iterable[StageResult]) -> set[str]:
    return {each.ranks for each in pairs}


def _mostly(pairs: Sequence[StageResult], bad: Mapping[str, StageResult]) -> bool:
    return sum(each.ranks in bad for each in pairs) > len(pairs) / 2


def _blamed(
    stage: Stage, who: str, verb: str, subject: str, bad: Sequence[StageResult], count: str
) -> Finding:  # fmt: skip
    failed = [each for each in bad if each.state in BAD]
    mostly = len(failed) > len(bad) / 2
    cannot = "cannot copy to" if stage.name == "p2p" else "cannot talk to"
    how = (
        (cannot if verb == "is" else "cannot talk in") if mostly else f"{verb} slow {'with' if verb == 'is' else 'in'}"
    )
    title = f"{who} {how} {len(bad)} of the {count}"
    if not mostly:
        title = f"{title}: {_rate(_middle(bad), stage)}, elsewhere {_rate(_elsewhere(stage, bad), stage)}"
    severity = Severity.ERROR if mostly else None
    return Finding(
        title, _words(failed), _seen(stage, bad), (_way(stage), _again()), _subject(stage, subject), severity
    )


def _subject(stage: Stage, who: str) -> str:
    return who if stage.name in {"compute", "pairs"} else f"{stage.name}-{who}"


def _middle(results: Sequence[StageResult]) -> float | None:
    import statistics

    return statistics.median(found) if (found := [each.value for each in results if each.value]) else None


def _elsewhere(stage: Stage, bad: Sequence[StageResult]) -> float | None:
    return _middle([each for each in _tried(stage) if each not in bad and ("+" in each.nodes) is ("+" in bad[0].nodes)])


def _link(stage: Stage, result: StageResult) -> Finding:
    ranks = f"ranks {result.ranks.replace('+', ' and ')}"
    who, cannot = ranks, "cannot talk to each other"
    if stage.name == "p2p":
        who, cannot = f"the GPUs of {ranks}", "cannot copy to each other"
    subject, fixes = _subject(stage, result.ranks), (_way(stage), _again())
    if result.state != "done":
        title = f"{who[0].upper()}{who[1:]} {cannot}: {_how(result)}"
        return Finding(title, result.reason, _seen(stage, [result]), fixes, subject, Severity.ERROR)
    title = f"Between {who} only {_rate(result.value, stage)}, elsewhere {_rate(_elsewhere(stage, [result]), stage)}"
    return Finding(title, result.reason, _seen(stage, [result]), fixes, subject, confidence=Confidence.LIKELY)


def _slow(stage: Stage, result: StageResult, usual: float) -> Finding:
    gives = f"{_rate(result.value, stage)}, its peers {_rate(usual, stage)}"
    who, what = _who(stage, result)
    is_slow = "are slow when they" if what in WHAT_MANY.values() else "is slow when it"
    return Finding(
        f"{who} {is_slow} {what}: {gives}",
        ", ".join(filter(None, (stage.config, result.on))),
        (Evidence("fleet_stages.stages", gives, f"stage {stage.name}", "live", who.lower()),),
        (_who_else(), _again()),
        _subject(stage, result.ranks),
        confidence=Confidence.LIKELY,
    )


def _failed(stage: Stage, result: StageResult) -> Finding:
    who, what = _who(stage, result)
    fails = "fail when they" if what in WHAT_MANY.values() else "fails when it"
    title = f"{who} {fails} {what}: {_how(result)}"
    subject = result.ranks if stage.name == "compute" else f"{stage.name}-{result.ranks}"
    return Finding(title, result.reason, _seen(stage, [result]), (_who_else(), _again()), subject, Severity.ERROR)


def _who(stage: Stage, result: StageResult) -> tuple[str, str]:
    """Give a rank or a group of ranks in words, and what it does at this stage."""
    many = not result.ranks.isdecimal()
    where = f" ({result.nodes})" if result.nodes and "+" not in result.nodes and many else ""
    who = f"Rank{'s' if many else ''} {result.ranks}{where}"
    return who, (WHAT_MANY if many else WHAT).get(stage.name, stage.name)


def _how(result: StageResult) -> str:
    return (
        "no answer in time" if result.state == "timed-out" else result.reason.partition("\n")[0][:120] or result.state
    )


def _rate(value: float | None, stage: Stage) -> str:
    if value is None:
        return "nothing"
    return f"{value:.0f} {stage.unit}" if value >= PLAIN else f"{value:.3g} {stage.unit}"


def _words(failed: Sequence[StageResult]) -> str:
    return "; ".join(dict.fromkeys(each.reason.partition("\n")[0] for each in failed if each.reason))


def _seen(stage: Stage, results: Sequence[StageResult]) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            "fleet_stages.stages",
            _rate(each.value, stage) if each.state == "done" else _how(each),
            f"stage {stage.name}",
            "live",
            each.ranks.replace("+", " and "),
        )
        for each in results[:8]
    )


def _again() -> Fix:
    return look("See whether it stays", "envdoctor fleet --deep  # under the same launcher")


def _who_else() -> Fix:
    return look("See there what slows it", "envdoctor check --level deep", "uptime; nproc; nvidia-smi")


def _way(stage: Stage) -> Fix:
    if stage.name == "p2p":
        return look("See there how the GPUs are joined", "nvidia-smi topo -m", "nvidia-smi topo -p2p r")
    return look("See there how the interface is", "ip -s link; ss -tin")
