"""render(difference) -> what differs between two snapshots: JSON of schema ``envdoctor.diff/1``, and terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envdoctor.compare.subjects import row_of, subject_of, title_of, title_of_rows
from envdoctor.finding import Severity
from envdoctor.render.terminal.findings import headline
from envdoctor.render.terminal.grid import Column, grid
from envdoctor.render.terminal.layout import paragraph
from envdoctor.render.terminal.look import NARROWEST, Look
from envdoctor.render.verdict_words import many
from envdoctor.render.words import words
from envdoctor.snapshot import now, to_plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from envdoctor.compare.pair import Change, Difference, Explained
    from envdoctor.finding import Report
    from envdoctor.render.terminal.look import Line

SCHEMA = "envdoctor.diff/1"
MOST = 40  # differences that the terminal lists; --show all has every one
ALIKE = frozenset(("probe", "nvlink", "link"))  # rows of one value that often change together
LEAST = 12  # columns of a value at least
BLANK: Line = ()


def plain(found: Difference, sources: Sequence[str]) -> dict[str, Any]:
    """Give the difference as JSON-ready data. ``sources`` says where the two came from."""
    return {
        "schema": SCHEMA,
        "tool": to_plain(found.after.snapshot)["tool"],
        "created": now(),
        "before": _side(found.before, sources[0]),
        "after": _side(found.after, sources[1]),
        "same_machine": found.same_machine,
        "headlines": [_headline(each) for each in found.stories],
        "changes": [_change(each) for each in found.changes],
        "volatile": [_change(each) for each in found.volatile],
        "not_compared": list(found.one_sided),
        "findings": {"new": [_finding(each) for each in found.new], "gone": [_finding(each) for each in found.gone]},
    }


def _side(report: Report, source: str) -> dict[str, Any]:
    facts = to_plain(report.snapshot)
    kept = {key: facts[key] for key in ("created", "tool", "target", "level")}
    return {"source": source, **kept, "verdict": report.verdict.value}


def _change(each: Change) -> dict[str, Any]:
    return {"key": each.key, "about": each.about, "before": each.before, "after": each.after, "trait": each.trait}


def _finding(each: Explained) -> dict[str, Any]:
    severity = each.finding.severity or Severity.INFO
    told = {"key": each.finding.key, "id": each.finding.id, "severity": severity.value, "title": each.finding.title}
    return {**told, "because": list(each.because)}


def _headline(story: Sequence[Change]) -> str:
    lead = story[0]
    before, after = _values(lead.before, lead.after)
    return f"{title_of(lead.key)} {before} -> {after}"


def _value(value: Any) -> str:
    return "not there" if value is None else words(value)


def terminal(
    found: Difference,
    sources: Sequence[str],
    *,
    show: str = "problems",
    width: int = 80,
    color: bool = False,
    unicode: bool = True,
    **_view: Any,
) -> str:
    """Give the difference as text. ``show``: ``problems``, or ``all`` for every key and what changes by itself."""
    look = Look(max(width, NARROWEST), color, unicode)
    lines = _sections(found, sources, look, everything=show == "all")
    return "\n".join(look.paint(line) for line in lines) + "\n"


def _sections(found: Difference, sources: Sequence[str], look: Look, *, everything: bool) -> Iterator[Line]:
    yield from _who(found, sources, look)
    yield BLANK
    if found.is_empty:
        yield from paragraph("Nothing differs but what changes by itself.", look.width, style="strong")
    if found.changes:
        yield from _changes(found, look, everything=everything)
        yield BLANK
    yield from _findings("New", found.new, look)
    yield from _findings("Gone", found.gone, look)
    yield from _set_apart(found, look, everything=everything)


def _who(found: Difference, sources: Sequence[str], look: Look) -> Iterator[Line]:
    sides = zip(("before", "after"), (found.before, found.after), sources, strict=True)
    rows = [
        ((name, "head"), (look.clean(source), ""), (look.clean(report.snapshot.created), "quiet"),
         (look.clean(_machine(report)), "quiet"))
        for name, report, source in sides
    ]  # fmt: skip
    yield from grid(tuple(Column("", number=False) for _ in range(4)), rows, look)


def _machine(report: Report) -> str:
    name = getattr(report.snapshot.facts.get("host"), "hostname", None)
    key = report.snapshot.target.key
    return " ".join(filter(None, (name, f"({key})" if key not in {"", "this"} else "", report.snapshot.level)))


def _changes(found: Difference, look: Look, *, everything: bool) -> Iterator[Line]:
    stories = [(each,) for each in found.changes] if everything else list(found.stories)
    listed, packages = (stories, []) if everything else _fold(stories)
    titled = list(_merged(listed))
    shown = titled if everything else titled[:MOST]
    columns = tuple(Column(name, number=False) for name in ("what differs", "before", "after"))
    yield from grid(columns, [_row(title, each, look) for title, each in shown], look)
    if len(titled) > len(shown):
        yield from paragraph(f"and {len(titled) - len(shown)} more: --show all", look.width, style="quiet", indent=2)
    for title, names in packages:
        said = f"{title}: {many(len(names), 'package')}: {', '.join(names)}"
        yield from paragraph(look.clean(said), look.width, indent=2)


def _fold(stories: Sequence[tuple[Change, ...]]) -> tuple[list[tuple[Change, ...]], list[tuple[str, list[str]]]]:
    """Part what differs from packages that came or went: an environment has hundreds of these."""
    listed = []
    came: dict[str, list[str]] = {"Only before": [], "Only after": []}
    for story in stories:
        lead = story[0]
        if lead.key.startswith("package.") and None in {lead.before, lead.after}:
            came["Only after" if lead.before is None else "Only before"].append(lead.key.removeprefix("package."))
        else:
            listed.append(story)
    return listed, [(title, names) for title, names in came.items() if names]


def _row(title: str, story: Sequence[Change], look: Look) -> tuple[tuple[str, str], ...]:
    """Give title, before and after in a third of the width each, a little more for the title."""
    room = max(LEAST, (look.width - 6) // 4)
    more = f" (+{len(story) - 1})" if len(story) > 1 else ""
    values = (look.clean(each, room) for each in _values(story[0].before, story[0].after))
    wide = max(LEAST, look.width - 6 - 2 * room - len(more))
    return ((look.clean(title, wide) + more, ""), *((each, "") for each in values))


def _values(before: Any, after: Any) -> tuple[str, str]:
    """Put two values in words; of two lists, what each has beyond the other."""
    if isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)) and before and after:
        before, after = ([x for x in one if x not in other] for one, other in ((before, after), (after, before)))
        before, after = before or ["(nothing more)"], after or ["(nothing more)"]
    return _value(before), _value(after)


def _merged(stories: Sequence[tuple[Change, ...]]) -> Iterator[tuple[str, tuple[Change, ...]]]:
    """Give each story with its title; the same change of several rows (eight GPUs) is one."""
    found: dict[Any, list[tuple[Change, ...]]] = {}
    for story in stories:
        lead = story[0]
        top, row = lead.key.partition(".")[0], row_of(lead.key)
        many_alike = row or top in ALIKE
        same = (top, lead.key[len(row) :] if row else "", str(lead.before), str(lead.after)) if many_alike else lead.key
        found.setdefault(same, []).append(story)
    for alike in found.values():
        first = alike[0]
        if len(alike) == 1:
            yield title_of(first[0].key), first
            continue
        rows = [row_of(each[0].key) or each[0].key for each in alike]
        names = [each.partition(".")[2] for each in rows]
        yield title_of_rows(rows[0].partition(".")[0], names, first[0].key[len(rows[0]) + 1 :]), first


def _findings(word: str, found: Iterable[Explained], look: Look) -> Iterator[Line]:
    told = list(found)
    for each in told:
        style = (each.finding.severity or Severity.INFO).value if word == "New" else "ok"
        yield from headline(
            look.clean(f"{word}: {each.finding.title}"), look.clean(each.finding.key), style, style, look
        )
        if each.because:
            because = ", ".join(
                dict.fromkeys(subject_of(key) if row_of(key) else title_of(key) for key in each.because)
            )
            yield from paragraph(look.clean(f"because of {because}"), look.width, style="quiet", indent=4)
    if told:
        yield BLANK


def _set_apart(found: Difference, look: Look, *, everything: bool) -> Iterator[Line]:
    if found.one_sided:
        said = f"Not compared, because one of the two lacks it: {', '.join(found.one_sided)}"
        yield from paragraph(look.clean(said), look.width, style="quiet")
    if found.volatile and not everything:
        said = f"Set apart: {many(len(found.volatile), 'value')} that change by themselves (--show all)."
        yield from paragraph(said, look.width, style="quiet")
    elif found.volatile:
        yield (("Changes by itself", "strong"),)
        columns = tuple(Column("", number=False) for _ in range(3))
        yield from grid(columns, [_row(title_of(each.key), (each,), look) for each in found.volatile], look)
