"""A rule's page as text for a terminal: headings, paragraphs and lists wrapped, indented examples as they are."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.rule import Rule

WIDEST = 100  # longer lines are hard to read
BULLETS = ("- ", "* ")


def page(rule: Rule, *, width: int, color: bool) -> str:
    """Give the page, ending with a newline."""
    width = max(20, min(width, WIDEST))
    lines = [_strong(rule.id, color), *_wrapped(rule.summary, width), "", *_about(rule, width)]
    body = rule.page.partition("\n")[2].strip("\n")
    for block in filter(None, body.split("\n\n")):
        lines += ["", *_block(block.strip("\n"), width, color)]
    return "\n".join(lines) + "\n"


def _strong(text: str, color: bool) -> str:
    return click.style(text, bold=True) if color else text


def _about(rule: Rule, width: int) -> list[str]:
    from envdoctor.cli.levels import from_level

    said = [rule.severity.value, f"from level {from_level(rule)}", f"group {rule.group}"]
    if rule.essential:
        said.append("essential: while it cannot be judged, the verdict is never ok")
    lines = _wrapped("; ".join(said), width)
    return lines + (_wrapped(f"may follow from: {', '.join(rule.explained_by)}", width) if rule.explained_by else [])


def _block(block: str, width: int, color: bool) -> Iterator[str]:
    """Give the lines of one block; a heading may stand right on top of its text."""
    heading, _, rest = block.partition("\n")
    if heading.startswith("#"):
        yield _strong(heading.lstrip("# "), color)
        block = rest
    if block.startswith(("    ", "```")):
        yield from (f"  {line}" for line in block.splitlines() if not line.startswith("```"))
    elif block:
        yield from (f"  {line}" for item in _items(block) for line in _item(item, width - 2))


def _items(block: str) -> list[str]:
    """Join the lines of each paragraph or list item; a source's URL keeps a line of its own."""
    items: list[str] = []
    for line in block.splitlines():
        alone = line.startswith((*BULLETS, "http")) or not items
        if alone:
            items.append(line.strip())
        else:
            items[-1] += f" {line.strip()}"
    return items


def _item(text: str, width: int) -> list[str]:
    return _wrapped(text, width, indent="  " if text.startswith(BULLETS) else "")


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    text = text.replace("``", "`")
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
