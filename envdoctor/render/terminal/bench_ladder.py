"""Where the speed goes, stage by stage, and the ladder: what each change to a training step is worth here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.render.terminal.bars import bars
from envdoctor.render.terminal.grid import Column, grid
from envdoctor.render.terminal.layout import paragraph
from envdoctor.render.terminal.numbers import number, percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from envdoctor.bench.ladder import Rung
    from envdoctor.bench.result import Result
    from envdoctor.facts.bench import LargestBatch
    from envdoctor.render.terminal.look import Line, Look, Span

MILLI = 1e-3
GIGA = 1000.0
STAGES = (Column("", number=False), Column("TFLOPS"), Column("of the former"))
SLOW_STAGES = (Column("", number=False), Column("GFLOPS"), Column("of the former"))
LADDER = (
    Column("", number=False), Column("per s"), Column("ms/step"), Column("times"), Column("MiB"),
    Column("against the row before", number=False),
)  # fmt: skip
STYLES = {"faster": "ok", "slower": "warning", "ambiguous": "unknown"}


def stages(result: Result, look: Look) -> Iterator[Line]:
    """Give each stage from the data sheet's peak to the whole step, as share of the one before."""
    found = result.stages
    if len(found) < 2:
        return
    slow = max(each.tflops for each in found) < 1
    yield from paragraph("Where the speed goes", look.width, style="strong")
    rows: list[tuple[Span, ...]] = [
        (
            (look.clean(each.name), ""),
            (number(each.tflops * (GIGA if slow else 1.0)), "strong"),
            (percent(100 * each.share) if each.share else "", ""),
        )
        for each in found
    ]
    yield from grid(SLOW_STAGES if slow else STAGES, rows, look)
    yield ()


def ladder(result: Result, look: Look, *, everything: bool) -> Iterator[Line]:
    """Give the climb, what stands beside it, what was not measured, and the largest batch."""
    if result.run is None or result.run.ladder is None:
        return
    found, rungs = result.run.ladder, result.run.rungs
    title = f"The ladder: {found.model}, batch {found.batch}, one change a row"
    for words, beside in ((title, False), ("Beside it", True)):
        rows = [each for each in rungs if each.row.beside is beside and each.images_per_second]
        if rows:
            yield from paragraph(look.clean(words), look.width, style="strong")
            above = ("", *(each.step for each in rows))
            yield from grid(LADDER, [_rung(each, step, look) for each, step in zip(rows, above, strict=False)], look)
            yield ()
    drawn = [
        (each.step, each.images_per_second, number(each.images_per_second)) for each in rungs if each.images_per_second
    ]
    if len(drawn) > 1:
        yield from bars(drawn, look)
        yield ()
    yield from _missing(rungs, look, everything=everything)
    largest = [each for each in found.largest if each.batch]
    if largest:
        said = ", ".join(f"{each.batch} with {each.step}" for each in largest)
        yield from paragraph(look.clean(f"Largest batch that fits: {said}"), look.width)
        yield ()
    yield from _no_largest(found.largest, look, everything=everything)


def _no_largest(found: Sequence[LargestBatch], look: Look, *, everything: bool) -> Iterator[Line]:
    """Say why no largest batch is known; what this device cannot have is left for those who want to read all."""
    from envdoctor.render.terminal.bench_tables import not_measured

    rows = [each for each in found if not each.batch and (everything or each.state != "not-applicable")]
    if rows:
        said = ((f"largest batch with {each.step}", f"{each.state.replace('-', ' ')}: {each.reason}") for each in rows)
        yield from not_measured(said, look)
        yield ()


def _missing(rungs: tuple[Rung, ...], look: Look, *, everything: bool) -> Iterator[Line]:
    from envdoctor.render.terminal.bench_tables import not_measured

    rows = [each for each in rungs if not each.images_per_second]
    shown = [each for each in rows if everything or each.row.measured.state != "not-applicable"]
    if shown:
        yield from not_measured(((each.step, each.reason) for each in shown), look)
        yield ()


def _rung(rung: Rung, above: str, look: Look) -> tuple[Span, ...]:
    memory, cold = rung.row.measured.peak_memory_mib, rung.row.cold_start_seconds
    said = f"{rung.verdict}: {rung.reason}" if rung.verdict == "ambiguous" else rung.verdict
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
        (look.clean(said), STYLES.get(rung.verdict, "quiet")),
    )
