"""Which rank, pair or link is slow, from what staged tests measured: each against its peers, none against a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from envdoctor.facts.fleet import FleetStages, Stage, StageResult
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity
from envdoctor.remedy.variables import look

SLOW = 0.75  # of what the peers give; NVIDIA's own straggler detection draws the line there too
NOISE = 5.0  # times the spread among the peers (median absolute deviation) that a gap must exceed
FEW = 2  # peers that are needed to say who is the odd one
WHAT = {
    "compute": "computes",
    "p2p": "copies between its GPUs",
    "loopback": "talks inside its node",
    "pairs": "talks to other ranks",
    "all": "takes part in an all-reduce",
}


def slow(stages: FleetStages) -> Iterator[Finding]:
    """Give who is slow or failed, stage by stage."""
    for stage in stages.stages:
        if stage.name == "pairs":
            yield from _pairs(stage)
        elif stage.state == "failed" and not any(each.state != "done" for each in stage.results):
            yield _whole(stage)
        else:
            yield from _ranks(stage)


def _whole(stage: Stage) -> Finding:
    shown = Evidence("fleet_stages.stages", stage.reason, f"stage {stage.name}", "live", stage.name)
    return Finding(
        f"The test {stage.name} failed: {stage.reason}", "", (shown,), (_again(),), stage.name, Severity.ERROR
    )


def _ranks(stage: Stage) -> Iterator[Finding]:
    """Give ranks that failed, and those that are slow against the others."""
    done = {each.ranks: each.value for each in stage.results if each.state == "done" and each.value}
    for each in stage.results:
        if each.state in {"failed", "timed-out"}:
            yield _failed(stage, each, f"Rank {each.ranks}", each.ranks)
    for ranks, value in done.items():
        usual = _usual(value, [other for name, other in done.items() if name != ranks])
        if usual:
            yield _slow(stage, f"Rank {ranks}", ranks, value, usual)


def _usual(value: float, others: Sequence[float]) -> float | None:
    """Give what the others give, when this is slow against it and the gap is no noise; else None."""
    import statistics

    if len(others) < FEW:
        return None
    usual = statistics.median(others)
    spread = statistics.median(abs(other - usual) for other in others)
    return usual if value < SLOW * usual and usual - value > NOISE * spread else None


def _pairs(stage: Stage) -> Iterator[Finding]:
    """Name a rank that is bad in most of its pairs, and else the pairs that are bad."""
    bad = {each.ranks: each for each in _bad_pairs(stage)}
    of_rank: dict[str, list[str]] = defaultdict(list)
    for each in stage.results:
        for rank in each.ranks.split("+"):
            of_rank[rank].append(each.ranks)
    odd = [rank for rank, pairs in of_rank.items() if len(pairs) >= FEW and _mostly(pairs, bad)]
    if len(odd) == len(of_rank):
        odd = []
    explained = {pair for rank in odd for pair in of_rank[rank]}
    for rank in odd:
        yield _odd(stage, rank, [bad[pair] for pair in of_rank[rank] if pair in bad], of_rank[rank])
    for pair, each in bad.items():
        if pair not in explained:
            yield _link(stage, each)


def _mostly(pairs: Sequence[str], bad: dict[str, StageResult]) -> bool:
    return sum(pair in bad for pair in pairs) > len(pairs) / 2


def _bad_pairs(stage: Stage) -> Iterator[StageResult]:
    done = {each.ranks: each.value for each in stage.results if each.state == "done" and each.value}
    for each in stage.results:
        others = [value for name, value in done.items() if name != each.ranks]
        if each.state in {"failed", "timed-out"} or (each.value and _usual(each.value, others)):
            yield each


def _odd(stage: Stage, rank: str, bad: Sequence[StageResult], pairs: Sequence[str]) -> Finding:
    failed = [each for each in bad if each.state != "done"]
    how = "cannot talk to" if len(failed) > len(bad) / 2 else "is slow with"
    title = f"Rank {rank} {how} {len(bad)} of the {len(pairs)} ranks it was paired with"
    severity = Severity.ERROR if len(failed) > len(bad) / 2 else None
    return Finding(title, _words(failed), _seen(stage, bad), (_network(), _again()), rank, severity)


def _link(stage: Stage, result: StageResult) -> Finding:
    import statistics

    first, second = result.ranks.split("+")
    if result.state != "done":
        title = f"Ranks {first} and {second} cannot talk to each other: {_how(result)}"
        return Finding(
            title, result.reason, _seen(stage, [result]), (_network(), _again()), result.ranks, Severity.ERROR
        )
    others = statistics.median(each.value for each in stage.results if each.value and each.ranks != result.ranks)
    title = f"Between ranks {first} and {second} only {_rate(result.value, stage)}, elsewhere {_rate(others, stage)}"
    return Finding(
        title, "", _seen(stage, [result]), (_network(), _again()), result.ranks, confidence=Confidence.LIKELY
    )


def _slow(stage: Stage, who: str, subject: str, value: float, usual: float) -> Finding:
    gives = f"{_rate(value, stage)}, its peers {_rate(usual, stage)}"
    subject = subject if stage.name == "compute" else f"{stage.name}-{subject}"
    return Finding(
        f"{who} is slow when it {WHAT.get(stage.name, stage.name)}: {gives}",
        stage.config,
        (Evidence("fleet_stages.stages", gives, f"stage {stage.name}", "live", who.lower()),),
        (_who_else(), _again()),
        subject,
        confidence=Confidence.LIKELY,
    )


def _failed(stage: Stage, result: StageResult, who: str, subject: str) -> Finding:
    title = f"{who} fails when it {WHAT.get(stage.name, stage.name)}: {_how(result)}"
    subject = subject if stage.name == "compute" else f"{stage.name}-{subject}"
    return Finding(title, result.reason, _seen(stage, [result]), (_who_else(), _again()), subject, Severity.ERROR)


def _how(result: StageResult) -> str:
    return (
        "no answer in time" if result.state == "timed-out" else result.reason.partition("\n")[0][:120] or result.state
    )


def _rate(value: float | None, stage: Stage) -> str:
    return f"{value:.3g} {stage.unit}" if value is not None else "nothing"


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
    return look("See what else differs there", "envdoctor fleet  # under the same launcher")


def _who_else() -> Fix:
    return look("See there what slows it", "envdoctor check --level deep", "uptime; nproc; nvidia-smi")


def _network() -> Fix:
    return look("See there how the interface is", "ip -s link; ss -tin")
