"""The tables of a benchmark's measurements, a suite each: median, spread, shares of the limits, reference, verdict."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from envdoctor.bench.verdict import Verdict
from envdoctor.render.terminal import bench_ladder
from envdoctor.render.terminal.grid import Column, grid
from envdoctor.render.terminal.layout import paragraph
from envdoctor.render.terminal.numbers import number, percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from envdoctor.bench.judgement import Judgement
    from envdoctor.bench.result import Result
    from envdoctor.render.terminal.look import Line, Look, Span

SIGNS = {
    Verdict.OK: "ok", Verdict.LOW: "warning", Verdict.BAD: "error", Verdict.IMPOSSIBLE: "error",
    Verdict.UNKNOWN: "", Verdict.AMBIGUOUS: "unknown",
}  # fmt: skip
JUDGED = (
    Column("", number=False), Column("median"), Column("spread"), Column("of peak"), Column("at clock"),
    Column("reference"), Column("verdict", number=False),
)  # fmt: skip
PEER_COPY = "peer-copy"
TITLES = {
    "gemm": "Matrix products, {unit}: the best of several shapes",
    "memory": "The device's own memory, {unit}",
    "copies": "Copies between host and device, {unit}",
    "attention": "Attention, {unit}",
    "model": "The model, {unit}",
    "loader": "The loader, {unit}",
    PEER_COPY: "Copies between GPUs, {unit}",
    "collectives": "Collectives, {unit} of bus bandwidth",
    "host": "The host, {unit}",
}
# What of a configuration tells measurements apart, and the word before it.
SAID = {
    "device": "", "shape": "", "batch": "batch ", "inputs": "", "workers": "workers ", "decoder": "",
    "numa_node": "NUMA node ", "from": "from ", "to": "to ", "ranks": "ranks ", "bytes": "",
}  # fmt: skip
QUIET = frozenset({"skipped", "not-applicable"})
FEWEST = 5  # samples: with fewer there is no spread to speak of
MIB = 1 << 20
SMALLER = {"TFLOPS": "GFLOPS", "TOPS": "GOPS"}


def tables(result: Result, look: Look, *, everything: bool) -> Iterator[Line]:
    """Give one table a suite; ``everything`` adds each shape, each direction, and what does not apply here."""
    for suite, title in TITLES.items():
        found = [each for each in result.judgements if _table_of(each) == suite]
        rows = [each for each in found if each.value and (everything or _is_short(each))]
        if rows:
            yield from _table(title, rows, look)
        missing = [each for each in found if not each.value and (everything or each.measured.state not in QUIET)]
        yield from not_measured(((label(each, {}), each.judged.reason) for each in missing), look)
        if rows or missing:
            yield ()
        if suite == "model":
            yield from bench_ladder.stages(result, look)
            yield from bench_ladder.ladder(result, look, everything=everything)


def _table_of(each: Judgement) -> str:
    return PEER_COPY if each.name == PEER_COPY else each.measured.suite


def _table(title: str, rows: Sequence[Judgement], look: Look) -> Iterator[Line]:
    unit, scale = _unit(rows)
    shared = _shared(rows)
    told = ", ".join([title.format(unit=unit), *_told(shared)])
    yield from paragraph(look.clean(told), look.width, style="strong")
    yield from grid(JUDGED, [_row(each, look, unit, scale, shared) for each in rows], look)


def _unit(rows: Sequence[Judgement]) -> tuple[str, float]:
    """Give the unit of most rows, and by what to multiply: a CPU's products are a fraction of a TFLOPS."""
    unit = rows[0].rate.unit
    most = max(each.value or 0.0 for each in rows if each.rate.unit == unit)
    return (SMALLER[unit], 1000.0) if unit in SMALLER and most < 1 else (unit, 1.0)


def _shared(rows: Sequence[Judgement]) -> dict[str, str]:
    """Give what all rows have in common, which is then said once."""
    first = rows[0].config
    same = {key for key in SAID if key in first and all(each.config.get(key) == first[key] for each in rows)}
    return {key: first[key] for key in SAID if key in same and len(rows) > 1}


def _told(config: dict[str, str]) -> list[str]:
    return [f"{SAID[key]}{_size(key, config[key])}" for key in SAID if config.get(key)]


def _size(key: str, text: str) -> str:
    if key != "bytes" or not text.isdecimal():
        return text
    return f"{int(text) / MIB:g} MiB"


def _is_short(each: Judgement) -> bool:
    """Tell whether a row belongs into the short form: of products the best ones, of attention the forward pass.

    Copies between GPUs are as many as there are pairs: only those that cannot be believed do.
    """
    if each.name == PEER_COPY:
        return each.verdict is Verdict.IMPOSSIBLE
    if each.measured.suite == "gemm":
        return each.name == "gemm-best" or each.verdict is Verdict.IMPOSSIBLE or "device" in each.config
    return not (each.measured.suite == "attention" and "backward" in each.name)


def _row(each: Judgement, look: Look, unit: str, scale: float, shared: dict[str, str]) -> tuple[Span, ...]:
    limit = each.limit
    own = each.rate.unit if scale == 1 else SMALLER.get(each.rate.unit, each.rate.unit)
    other = f" {own}" if own != unit else ""
    value = (each.value or 0.0) * (1.0 if own == each.rate.unit else scale)
    style = SIGNS[each.verdict]
    return (
        (look.clean(label(each, shared)), ""),
        (f"{number(value)}{other}", "strong"),
        (_spread(each), "quiet"),
        (percent(limit.percent_of_peak(each.value)), ""),
        (percent(limit.percent_of_clock_peak(each.value)), ""),
        (number(each.expected.value) if each.expected else "", ""),
        (look.clean(_said(each, look)), style or "quiet"),
    )


def _spread(each: Judgement) -> str:
    summary = each.rate.summary
    if summary is None:
        return ""
    return percent(100 * summary.spread, 1) if summary.n >= FEWEST else f"n {summary.n}"


def _said(each: Judgement, look: Look) -> str:
    """Put the verdict in words; what cannot be believed or judged says why."""
    style = SIGNS[each.verdict]
    why = f": {each.judged.reason}" if each.verdict in {Verdict.AMBIGUOUS, Verdict.IMPOSSIBLE} else ""
    return f"{look.glyph(style)} {each.verdict.value}{why}" if style else ""


def label(each: Judgement, shared: dict[str, str]) -> str:
    """Name a measurement by what tells it apart from its neighbours in the table."""
    suite, name = each.measured.suite, each.name
    if suite == "gemm":
        name = ""
    if suite == "attention":
        name = name.removeprefix("sdpa-").removesuffix("-forward")
    precision = "" if suite in {"memory", "copies", "collectives"} else each.measured.precision
    hidden = {*shared, *({"bytes"} if suite != "collectives" else ())}
    own = {key: value for key, value in each.config.items() if key not in hidden}
    return " ".join(filter(None, (name, precision, *_told(own))))


def not_measured(found: Iterable[tuple[str, str]], look: Look) -> Iterator[Line]:
    """Name what was not measured, those with the same reason together."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name, reason in found:
        by_reason[reason].append(name)
    for reason, names in by_reason.items():
        first = (("  ", ""), (look.glyph("quiet"), "quiet"), (" ", ""))
        said = f"{', '.join(dict.fromkeys(names))}: {reason}"
        yield from paragraph(look.clean(said), look.width, style="quiet", first=first, indent=4)
