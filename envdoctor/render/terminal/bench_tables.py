"""The tables of a benchmark: products, memory, copies, attention, stages, the ladder, the loader and collectives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.bench.verdict import Verdict
from envdoctor.render.terminal.grid import Column, grid
from envdoctor.render.terminal.layout import paragraph

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from envdoctor.bench.judgement import Judgement
    from envdoctor.bench.ladder import Rung
    from envdoctor.bench.result import Result
    from envdoctor.render.terminal.look import Line, Look, Span

MILLI = 1e-3
SIGNS = {
    Verdict.OK: "ok", Verdict.LOW: "warning", Verdict.BAD: "error", Verdict.IMPOSSIBLE: "error",
    Verdict.UNKNOWN: "", Verdict.AMBIGUOUS: "unknown",
}  # fmt: skip
JUDGED = (
    Column("", number=False), Column("median"), Column("spread"), Column("of peak"), Column("at clock"),
    Column("reference"), Column("verdict", number=False),
)  # fmt: skip
TITLES = {
    "gemm": "Matrix products, {unit}: the best of several shapes",
    "memory": "The device's own memory, {unit}",
    "copies": "Copies between host and device, {unit}",
    "attention": "Attention, {unit}",
    "model": "The model, {unit}",
    "loader": "The loader, {unit}",
    "collectives": "Collectives, {unit} of bus bandwidth",
    "host": "The host, microseconds",
}


def tables(result: Result, look: Look, *, everything: bool) -> Iterator[Line]:
    """Give one table a suite; ``everything`` adds each shape and what was not measured."""
    for suite, title in TITLES.items():
        found = [each for each in result.judgements if each.measured.suite == suite]
        rows = [each for each in found if everything or _is_short(each)]
        if rows:
            unit = next((each.rate.unit for each in rows if each.value), rows[0].rate.unit)
            shared = _shared(rows)
            told = ", ".join([title.format(unit=unit), *_told(shared)])
            yield from _titled(told, look)
            yield from grid(JUDGED, [_row(each, look, unit, shared) for each in rows], look)
            yield ()
        if suite == "model":
            yield from _stages(result, look)
            yield from _ladder(result, look, everything=everything)


SAID = {
    "shape": "",
    "batch": "batch ",
    "workers": "workers ",
    "decoder": "",
    "numa_node": "NUMA node ",
    "ranks": "ranks ",
}


def _shared(rows: Sequence[Judgement]) -> dict[str, str]:
    """Give what all rows have in common, which is then said once."""
    first = rows[0].config
    return {
        k: first[k] for k in SAID if k in first and len(rows) > 1 and all(e.config.get(k) == first[k] for e in rows)
    }


def _told(config: dict[str, str]) -> list[str]:
    return [f"{SAID[key]}{config[key]}" for key in SAID if key in config]


def _titled(title: str, look: Look) -> Iterator[Line]:
    yield from paragraph(look.clean(title), look.width, style="strong")


def _is_short(each: Judgement) -> bool:
    """Tell whether a row belongs into the short form: of products the best ones, of attention the forward pass."""
    if each.value is None:
        return each.measured.state not in {"skipped", "not-applicable"}
    if each.measured.suite == "gemm":
        return each.name == "gemm-best" or each.verdict is Verdict.IMPOSSIBLE
    return not (each.measured.suite == "attention" and "backward" in each.name)


def _row(each: Judgement, look: Look, unit: str, shared: dict[str, str]) -> tuple[Span, ...]:
    summary, limit = each.rate.summary, each.limit
    other = f" {each.rate.unit}" if each.value and each.rate.unit != unit else ""
    style = SIGNS[each.verdict]
    return (
        (look.clean(label(each, shared)), ""),
        (f"{number(each.value)}{other}", "strong"),
        (percent(100 * summary.spread, 1) if summary else "", "quiet"),
        (percent(limit.percent_of_peak(each.value)), ""),
        (percent(limit.percent_of_clock_peak(each.value)), ""),
        (number(each.expected.value) if each.expected else "", ""),
        (look.clean(_said(each, look)), style or "quiet"),
    )


def _said(each: Judgement, look: Look) -> str:
    """Put the verdict in words; what could not be measured or believed says why."""
    style = SIGNS[each.verdict]
    if not style:
        return "" if each.value else each.judged.reason
    why = f": {each.judged.reason}" if each.verdict in {Verdict.AMBIGUOUS, Verdict.IMPOSSIBLE} else ""
    return f"{look.glyph(style)} {each.verdict.value}{why}"


def label(each: Judgement, shared: dict[str, str]) -> str:
    """Name a measurement by what tells it apart from its neighbours in the table."""
    own = {key: value for key, value in each.config.items() if key not in shared}
    suite = each.measured.suite
    name = (
        ""
        if suite == "gemm"
        else each.name.removeprefix("sdpa-").removesuffix("-forward")
        if suite == "attention"
        else each.name
    )
    precision = "" if suite in {"memory", "copies"} else each.measured.precision
    return " ".join(filter(None, (name, precision, *_told(own))))


def number(value: float | None) -> str:
    """Put a value in words with as many digits as it deserves."""
    if value is None:
        return "-"
    if abs(value) < 1:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def percent(value: float | None, digits: int = 0) -> str:
    """Put a share in words."""
    return f"{value:.{digits}f}%" if value is not None else ""


def _stages(result: Result, look: Look) -> Iterator[Line]:
    if len(result.stages) < 2:
        return
    columns = (Column("", number=False), Column("TFLOPS"), Column("of the former"))
    yield from _titled("Where the speed goes", look)
    rows: list[tuple[Span, ...]] = [
        ((look.clean(each.name), ""), (number(each.tflops), "strong"),
         (percent(100 * each.share) if each.share else "", ""))
        for each in result.stages
    ]  # fmt: skip
    yield from grid(columns, rows, look)
    yield ()


LADDER = (
    Column("", number=False), Column("per s"), Column("ms/step"), Column("times"), Column("MiB"),
    Column("against the row before", number=False),
)  # fmt: skip


def _ladder(result: Result, look: Look, *, everything: bool) -> Iterator[Line]:
    if result.run is None or result.run.ladder is None:
        return
    found, batch = result.run.ladder, result.run.ladder.batch
    shown = [each for each in result.run.rungs if everything or each.row.measured.state != "not-applicable"]
    climb, beside = ([each for each in shown if each.row.beside is side] for side in (False, True))
    for title, rungs in ((f"The ladder: {found.model}, batch {batch}, one change a row", climb), ("Beside it", beside)):
        if rungs:
            yield from _titled(title, look)
            above = ("", *(each.step for each in rungs))
            yield from grid(LADDER, [_rung(each, step, look) for each, step in zip(rungs, above, strict=False)], look)
            yield ()
    largest = [each for each in found.largest if each.batch]
    if largest:
        said = ", ".join(f"{each.batch} with {each.step}" for each in largest)
        yield from paragraph(look.clean(f"Largest batch that fits: {said}"), look.width)
        yield ()


def _rung(rung: Rung, above: str, look: Look) -> tuple[Span, ...]:
    style = {"faster": "ok", "slower": "warning", "ambiguous": "unknown"}.get(rung.verdict, "quiet")
    memory, cold = rung.row.measured.peak_memory_mib, rung.row.cold_start_seconds
    said = f"{rung.verdict}: {rung.reason}" if rung.verdict == "ambiguous" else rung.verdict
    said = rung.reason if rung.verdict == "unknown" else said
    if rung.row.previous not in {"", above} and rung.verdict in {"faster", "slower"}:
        said += f" than {rung.row.previous}"
    if cold:
        said += f", after {cold:.0f} s once"
    return (
        (look.clean(rung.step), ""),
        (number(rung.images_per_second), "strong"),
        (number(rung.step_seconds / MILLI) if rung.step_seconds else "", ""),
        (f"{rung.speedup:.2f}" if rung.speedup else "", ""),
        (f"{memory:,.0f}" if memory else "", "quiet"),
        (look.clean(said), style),
    )
