"""What happens to a text between the terminal and a bug report: each kind of damage as a function from text to text."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable

Damage = Callable[[str], str]
BOILERPLATE = """## Describe the bug
A clear and concise description of what the bug is.

<!-- Please paste the output of collect_env below, and do not remove this comment. -->

- [x] I have read the documentation
- PyTorch Version (e.g., 1.0):
- OS (e.g., Linux):

### Versions

"""
AFTER = """
cc @someone

**Additional context**
Add any other context about the problem here.
"""


def _each_line(change: Callable[[str], str]) -> Damage:
    return lambda text: "\n".join(map(change, text.split("\n")))


def fenced(text: str) -> str:
    """Put it into a Markdown fence."""
    return f"```text\n{text}\n```\n"


def unclosed(text: str) -> str:
    """Put it into a fence that begins on the first line and has no end."""
    return f"```{text}"


def folded(text: str) -> str:
    """Fold it away as GitHub's issues do."""
    return f"<details>\n<summary>The output of `python collect_env.py`</summary>\n\n{fenced(text)}\n</details>\n"


def entities(text: str) -> str:
    """Escape it twice over for a web page."""
    return html.escape(text)


def broken(text: str) -> str:
    """Give each line a tag of HTML as its end."""
    return text.replace("\n", "<br />\n")


def windows(text: str) -> str:
    """Give it the line ends of Windows."""
    return text.replace("\n", "\r\n")


def coloured(text: str) -> str:
    """Print it in colours."""
    return "\n".join(f"\x1b[1;32m{line[:7]}\x1b[0m{line[7:]}\x1b[K" for line in text.split("\n"))


def hard_spaces(text: str) -> str:
    """Copy it from a web page that keeps its spaces hard."""
    return text.replace(" ", "\xa0")


def in_a_template(text: str) -> str:
    """Paste it into a bug template whose own words were left in place."""
    return f"{BOILERPLATE}{text}{AFTER}"


def twice(text: str) -> str:
    """Paste it a second time."""
    return f"{text}\n{text}"


def noisy(text: str) -> str:
    """Let a library warn before it."""
    warning = "/opt/venv/lib/python3.11/site-packages/torch/cuda/__init__.py:129: UserWarning: something is odd"
    return f"$ python collect_env.py 2>&1\n{warning}\n  return torch._C._cuda_getDeviceCount() > 0\n{text}"


def wrapped(width: int) -> Damage:
    """Break the lines at words, as a mail program does."""

    def change(line: str) -> str:
        return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) if len(line) > width else line

    return _each_line(change)


WHOLE: dict[str, Damage] = {
    "quoted": _each_line(lambda line: f"> {line}"),
    "quoted twice": _each_line(lambda line: f"> > {line}"),
    "fenced": fenced,
    "unclosed": unclosed,
    "folded": folded,
    "entities": entities,
    "line breaks": broken,
    "windows": windows,
    "coloured": coloured,
    "hard spaces": hard_spaces,
    "indented": _each_line(lambda line: f"    {line}" if line else line),
    "stamped": _each_line(lambda line: f"2026-11-20T10:11:12.123456789Z {line}"),
    "of a service": _each_line(lambda line: f"trainer-1  | {line}"),
    "of a rank": _each_line(lambda line: f"[rank0]: {line}"),
    "in a template": in_a_template,
    "twice": twice,
    "noisy": noisy,
}
