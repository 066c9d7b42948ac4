"""render(difference) -> two benchmarks side by side, as a person reads them in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envdoctor.bench.statistics import Change
from envdoctor.render.terminal.grid import Column, grid
from envdoctor.render.terminal.layout import paragraph
from envdoctor.render.terminal.look import NARROWEST, Line, Look
from envdoctor.render.terminal.numbers import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.bench.compare import Difference, Differing, Pair
    from envdoctor.render.terminal.look import Span

SHOWN = 12
CHANGED = (
    Column("", number=False), Column("before"), Column("after"), Column("times"), Column("", number=False),
)  # fmt: skip
FACTS = (Column("fact", number=False), Column("before", number=False), Column("after", number=False),
         Column("worth", number=False))  # fmt: skip
STYLES = {Change.FASTER: "ok", Change.SLOWER: "error", Change.SAME: "quiet", Change.AMBIGUOUS: "unknown"}
LONGEST = 24


def render(
    found: Difference,
    *,
    show: str = "problems",
    width: int = 80,
    color: bool = False,
    unicode: bool = True,
    **_view: Any,
) -> str:
    """Give the comparison as text, ending with a newline. ``show``: ``problems``, or ``all`` for every pair."""
    look = Look(max(width, NARROWEST), color, unicode)
    lines = _sections(found, look, everything=show == "all")
    return "\n".join(look.paint(line) for line in lines) + "\n"


def _sections(found: Difference, look: Look, *, everything: bool) -> Iterator[Line]:
    begin = f"Compared with the result of {found.before.report.snapshot.created}"
    yield from paragraph(look.clean(begin), look.width, style="head")
    yield from paragraph(look.clean(sentence(found)), look.width, style="strong")
    yield ()
    pairs = found.pairs if everything else found.changed
    shown = pairs if everything else pairs[:SHOWN]
    yield from grid(CHANGED, [_pair(each, look) for each in shown], look)
    yield from _rest(len(pairs) - len(shown), look)
    if found.facts:
        yield ()
        yield from paragraph(
            "Facts that differ, by what the ladder measured them to be worth", look.width, style="strong"
        )
        facts = found.facts if everything else found.facts[:SHOWN]
        yield from grid(FACTS, [_fact(each, look) for each in facts], look)
        yield from _rest(len(found.facts) - len(facts), look)


def sentence(found: Difference) -> str:
    """Say the one thing to take home."""
    if not found.pairs:
        return "The two results have no measurement in common."
    counts = {each: found.count(each) for each in Change}
    told = ", ".join(f"{n} {each.value}" for each, n in counts.items() if n)
    most = found.changed[0] if found.changed else None
    lead = f" Most: {_named(most)}, {most.found.speedup:.2f} times as fast." if most and most.found.speedup else ""
    return f"Of {len(found.pairs)} measurements in both: {told}.{lead}"


def _named(each: Pair) -> str:
    begin = "ladder: " if each.kind == "ladder" else ""
    own = "" if each.kind == "ladder" else each.precision
    return begin + " ".join(filter(None, (each.name, own, each.config.get("shape", ""))))


def _pair(each: Pair, look: Look) -> tuple[Span, ...]:
    change = each.found.change
    said = change.value if not each.found.reason else f"{change.value}: {each.found.reason}"
    return (
        (look.clean(_named(each)), ""),
        (number(each.before), ""),
        (number(each.after), "strong"),
        (f"{each.found.speedup:.2f}" if each.found.speedup else "", ""),
        (look.clean(said), STYLES[change]),
    )


def _fact(each: Differing, look: Look) -> tuple[Span, ...]:
    worth = f"{each.worth.factor:.2f} times ({each.worth.step})" if each.worth else "not measured"
    values = [look.clean(_value(each_value, look)) for each_value in (each.before, each.after)]
    return ((look.clean(each.key), ""), (values[0], ""), (values[1], "strong"), (look.clean(worth), "quiet"))


def _value(value: Any, look: Look) -> str:
    if value is None:
        return "-"
    text = look.value(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _rest(more: int, look: Look) -> Iterator[Line]:
    if more > 0:
        yield from paragraph(f"and {more} more (--show all)", look.width, style="quiet", indent=2)
