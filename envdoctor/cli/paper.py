"""A page as text for a terminal: headings, paragraphs and lists wrapped, indented examples as they are."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.cli.page import Page

WIDEST = 100  # longer lines are hard to read
BULLETS = ("- ", "* ")


def layout(page: Page, *, width: int, color: bool) -> str:
    """Give the page as text, ending with a newline."""
    width = max(20, min(width, WIDEST))
    summary, _, body = page.text.partition("\n")
    lines = [_strong(page.id, color=color), *_wrapped(summary, width), "", *_about(page, width)]
    for block in filter(None, body.strip("\n").split("\n\n")):
        lines += ["", *_block(block.strip("\n"), width, color=color)]
    return "\n".join(lines) + "\n"


def _strong(text: str, *, color: bool) -> str:
    return click.style(text, bold=True) if color else text


def _about(page: Page, width: int) -> list[str]:
    said = [page.severity, f"from level {page.level}", f"group {page.group}"]
    if page.essential:
        said.append("essential: while it cannot be judged, the verdict is never ok")
    causes = _wrapped(f"may follow from: {', '.join(page.explained_by)}", width) if page.explained_by else []
    return [*_wrapped("; ".join(said), width), *causes]


def _block(block: str, width: int, *, color: bool) -> Iterator[str]:
    """Give the lines of one block; a heading may stand right on top of its text."""
    heading, _, rest = block.partition("\n")
    if heading.startswith("#"):
        yield _strong(heading.lstrip("# "), color=color)
        block = rest
    if block.startswith(("    ", "```")):
        yield from (f"  {line}" for line in block.splitlines() if not line.startswith("```"))
    elif block:
        yield from (f"  {line}" for item in _items(block) for line in _item(item, width - 2))


def _items(block: str) -> list[str]:
    """Join the lines of each paragraph or list item; a source's URL keeps a line of its own."""
    items: list[str] = []
    for line in block.splitlines():
        if not items or line.startswith((*BULLETS, "http")):
            items.append(line.strip())
        else:
            items[-1] += f" {line.strip()}"
    return items


def _item(text: str, width: int) -> list[str]:
    return _wrapped(text, width, indent="  " if text.startswith(BULLETS) else "")


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    text = text.replace("``", "`")
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
