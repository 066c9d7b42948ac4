"""render(result) -> the benchmark that a person reads in a terminal: the answer first, then what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envdoctor.bench import ladder
from envdoctor.finding import Severity
from envdoctor.render.bench_words import is_of_speed, of_speed, verdict
from envdoctor.render.machine_words import machine
from envdoctor.render.terminal import findings
from envdoctor.render.terminal.bench_tables import tables
from envdoctor.render.terminal.layout import flow, paragraph
from envdoctor.render.terminal.look import NARROWEST, Line, Look
from envdoctor.render.terminal.numbers import number as speed
from envdoctor.render.verdict_words import many

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.bench.projection import Course, Projection
    from envdoctor.bench.result import Result
    from envdoctor.finding import Finding, Report

MINUTE = 60.0
NAMED = 3


def render(
    result: Result, *, show: str = "problems", width: int = 80, color: bool = False, unicode: bool = True, **_view: Any
) -> str:
    """Give the result as text for a terminal of ``width`` columns, ending with a newline.

    ``show``: ``problems``, or ``all`` for every shape, backend and worker count as well.
    """
    look = Look(max(width, NARROWEST), color, unicode)
    lines = [look.paint(line) for line in _sections(result, look, everything=show == "all")]
    return "\n".join(line for n, line in enumerate(lines) if line or lines[n - 1]) + "\n"


def _sections(result: Result, look: Look, *, everything: bool) -> Iterator[Line]:
    yield from _header(result, look)
    yield from _told(result, look)
    yield ()
    yield from _answer(result, look)
    yield from findings.findings(of_speed(result.report), look, everything=everything)
    yield from tables(result, look, everything=everything)
    yield from _allocator(result, look)
    yield from _ceilings(result, look)
    yield from _projection(result.projection, look)
    yield from _verdict(result, look)
    yield from _more(result, look, everything=everything)


# Who was measured


def _header(result: Result, look: Look) -> Iterator[Line]:
    snapshot = result.report.snapshot
    elsewhere = () if snapshot.target.key in {"", "this"} else (snapshot.target.key,)
    first = (f"envdoctor {snapshot.tool_version} bench", *elsewhere, duration(snapshot.elapsed_seconds))
    spans: list[Line] = [((look.clean(each), "head" if not n else ""),) for n, each in enumerate(first)]
    yield from flow(spans, look.width, between="   ")
    words: list[Line] = [((look.clean(each, 80), ""),) for each in machine(snapshot)]
    yield from flow(words, look.width, between=f" {look.dot} ")
    yield from paragraph(look.clean(measured_device(result)), look.width)


def duration(seconds: float) -> str:
    """Put a duration in words."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds // MINUTE:.0f} min {seconds % MINUTE:.0f} s"


def measured_device(result: Result) -> str:
    """Say what was measured, and what that allows to say of it."""
    if result.run is None:
        return "Nothing was measured: the device was not found."
    device, found = result.run.device, result.run.machine
    if found.is_cpu:
        cores = f"{many(device.cpus or 0, 'CPU')}, {many(device.threads or 0, 'thread')}"
        model = device.cpu_model or "of unknown make"
        return f"Measured: the CPU, {model} ({cores}). There are no references for CPUs: it is not judged."
    known = f"held against {found.spec.gpu}" if found.spec else f"not held against references: {found.why_no_spec}"
    alone = {True: "ours alone", False: "shared", None: "not known who else uses it"}[device.exclusive]
    return f"Measured: cuda:{device.index or 0} {device.name or ''}, {alone}; {known}"


def _told(result: Result, look: Look) -> Iterator[Line]:
    told = ["Interrupted: this is what was measured by then."] if result.report.interrupted else []
    told += [*result.report.notes, *broken_suites(result)]
    for each in told:
        first = ((look.glyph("warning"), "warning"), (" ", ""))
        yield from paragraph(look.clean(each), look.width, first=first, indent=2)


def broken_suites(result: Result) -> list[str]:
    """Say which suites ended without an answer, and why: a crash, a deadline, a GPU that was lost."""
    ended = {"failed", "crashed", "timed-out"}
    return [
        f"{each.name.removeprefix('bench-')} {each.outcome.name}: {each.outcome.reason}"
        for each in result.report.snapshot.probes
        if each.name.startswith("bench-") and each.outcome.name in ended and not result.report.interrupted
    ]


# The answer


def _answer(result: Result, look: Look) -> Iterator[Line]:
    said = answer(result)
    if said:
        yield from paragraph(look.clean(said), look.width, style="strong")
        yield ()


def answer(result: Result) -> str:
    """Say in one breath how fast training is here, untuned and tuned, and which change brings most."""
    rungs = result.run.rungs if result.run else ()
    bare, top, most = ladder.first(rungs), ladder.fastest(rungs), ladder.worth_most(rungs)
    if bare is None or top is None or result.run is None or result.run.ladder is None:
        return ""
    name = result.run.ladder.model or "the model"
    slow, fast = bare.images_per_second or 0.0, top.images_per_second or 0.0
    begin = f"{name} trains at {speed(slow)} {unit(result)} untuned ({bare.step})"
    if top is bare or not slow:
        return f"{begin}. No change was measured to make it faster here."
    worth = f" Worth most: {most.step}, {most.speedup:.2f} times." if most else ""
    return f"{begin} and at {speed(fast)} at its best ({top.step}): {fast / slow:.2f} times as fast.{worth}"


def unit(result: Result) -> str:
    """Name what is counted a second: images, or sequences."""
    return f"{result.sample}s/s"


# Findings


def _allocator(result: Result, look: Look) -> Iterator[Line]:
    """Say what the caching allocator holds after training with changing batches, and how much of that lies idle."""
    found = result.run.host if result.run else None
    if found is None or not found.reserved_mib or found.allocated_mib is None:
        return
    said = f"The allocator after steps of changing batch holds {found.reserved_mib:,.0f} MiB"
    if found.peak_allocated_mib:
        said += f" for a peak of {found.peak_allocated_mib:,.0f} MiB in use"
    if found.inactive_split_mib is not None:
        segments = many(found.segments, "segment") if found.segments else "its segments"
        said += f"; {found.inactive_split_mib:,.0f} MiB are free inside {segments} and cannot be given back"
    if found.allocation_retries:
        said += f"; it ran out and began anew {many(found.allocation_retries, 'time')}"
    yield from paragraph(look.clean(f"{said} ({found.allocator_settings or 'no allocator setting'})."), look.width)
    yield ()


# Ceilings and projection


def _ceilings(result: Result, look: Look) -> Iterator[Line]:
    found = result.ceilings
    known = [(name, getattr(found, name)) for name in ("compute", "loader", "copy", "communication")]
    told = [f"{name} {speed(value)}" for name, value in known if value is not None]
    if not told:
        return
    binds = f"; {found.binds} binds" if len(told) > 1 else ""
    on = f" on {result.gpus} GPUs" if result.gpus > 1 else ""
    said = f"Ceilings in {unit(result)}{on}: {f' {look.dot} '.join(told)}{binds}"
    yield from paragraph(look.clean(said), look.width)


def _projection(found: Projection | None, look: Look) -> Iterator[Line]:
    if found is None:
        return
    plan = found.plan
    many_gpus = f"{plan.gpus} GPU{'s' if plan.gpus > 1 else ''}"
    said = f"{plan.epochs} epochs of {plan.images:,} images on {many_gpus}: {course(found.best)}"
    if found.untuned and found.gap_hours and found.gap_hours > 0:
        said += f"; as a bare script {course(found.untuned)}"
    if found.gap_cost is not None and found.gap_cost > 0:
        said += f". The gap costs {found.gap_cost:,.0f} at {plan.price_per_gpu_hour:g} a GPU hour"
    yield ()
    yield from paragraph(look.clean(f"{said}."), look.width)
    for each in found.assumptions:
        first = (("  ", ""), (look.glyph("quiet"), "quiet"), (" ", ""))
        yield from paragraph(look.clean(each), look.width, style="quiet", first=first, indent=4)


def course(found: Course) -> str:
    """Put hours and minutes an epoch in words."""
    hours = f"{found.hours:,.0f} h" if found.hours >= 10 else f"{found.hours:.1f} h"
    return f"{hours} ({found.epoch_minutes:,.1f} min an epoch, {found.binds} binds)"


# The end


def _verdict(result: Result, look: Look) -> Iterator[Line]:
    yield ()
    kind, said = verdict(result)
    yield from paragraph(
        look.clean(said), look.width, style="strong", first=((look.glyph(kind), kind), (" ", "")), indent=2
    )
    other = _besides(result.report)
    if other:
        ids = list(dict.fromkeys(each.id for each in other))
        named = ", ".join(ids[:NAMED]) + (", …" if len(ids) > NAMED else "")
        yield from paragraph(
            look.clean(f"Apart from speed: {many(len(other), 'finding')} ({named})."), look.width, indent=2
        )


def _besides(report: Report) -> list[Finding]:
    """Give what is wrong besides; after Ctrl-C without the probes that it ended."""
    groups = {check.id: check.group for check in report.checks}
    left_out = {"doctor"} if report.interrupted else set()
    found = [each for each in report.active if each.severity is not Severity.INFO and not is_of_speed(each, report)]
    return [each for each in found if groups.get(each.id) not in left_out]


def _more(result: Result, look: Look, *, everything: bool) -> Iterator[Line]:
    hints = [] if everything else ["--show all"]
    hints += ["--format json -o before.json", "envdoctor diff before.json after.json"]
    if result.report.active and not everything:
        hints.append("envdoctor check")
    items: list[Line] = [((look.clean(each), "quiet"),) for each in hints]
    items[0] = ((f"More: {items[0][0][0]}", "quiet"),)
    yield from flow(items, look.width, between=f" {look.dot} ")
