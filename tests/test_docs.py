"""The documentation: commands and code in it work, what it links to is there, and what can be generated is."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest

from envdoctor.cli.group import group

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"))
    if "plugin/tests" not in str(path)
)  # fmt: skip
FENCE = re.compile(r"^(```+)(\w*)[^\n]*\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (envdoctor .*)$", re.MULTILINE)
INLINE = re.compile(r"`(envdoctor [^`\n]+)`")
STANDS_FOR = {"N": "1", "ID": "shm-too-small", "ID=reason": "shm-too-small=reason"}
NOT_A_COMMAND = ("envdoctor.", "envdoctor:", "envdoctor COMMAND", "envdoctor 0.")


def fences(text: str, *languages: str) -> Iterator[str]:
    """Give the code blocks of a page in these languages."""
    yield from (code for _, language, code in FENCE.findall(text) if language in languages)


def commands(page: Path) -> Iterator[str]:
    """Give every command of ours that a page shows."""
    text = page.read_text("utf-8")
    for code in fences(text, "sh", "console", "bash"):
        yield from (line.removeprefix("$ ") for line in code.splitlines() if re.match(r"(\$ )?envdoctor\b", line))
    bare = FENCE.sub("", text)
    yield from INDENTED.findall(bare)
    yield from INLINE.findall(bare)


def shown() -> Iterator[tuple[str, str]]:
    """Give every command with the page that shows it."""
    for page in PAGES:
        for command in dict.fromkeys(commands(page)):
            if not command.startswith(NOT_A_COMMAND):
                yield str(page.relative_to(ROOT)), command


def parse(arguments: list[str]) -> None:
    """Let click read a command line to its end, down to the types of its values, and run nothing."""
    context = group.make_context("envdoctor", list(arguments))
    name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
    assert command
    command.make_context(name, rest, parent=context)


def test_commands_of_the_documentation_are_understood() -> None:
    """Every command that a page shows has only commands, options and words that exist."""
    wrong = []
    for page, command in shown():
        words = [STANDS_FOR.get(word, word) for word in shlex.split(re.split(r"\s[|>&#·]|\s2>", command)[0])[1:]]
        try:
            parse(words or ["check"])
        except (click.exceptions.Exit, click.MissingParameter):
            pass  # --help leaves so; prose names a command without what follows it
        except click.ClickException as error:
            if "requires an argument" not in str(error) and type(error).__name__ != "NoArgsIsHelpError":
                wrong.append(f"{page}: {command}: {error}")
    assert "" == "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_of_the_documentation_compiles(page: Path) -> None:
    """A Python block is Python."""
    for number, code in enumerate(fences(page.read_text("utf-8"), "python")):
        compile(code, f"{page.name} block {number}", "exec")


class Links(HTMLParser):
    """Collects where a page leads, and the names that lead into it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.to: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an address and an id."""
        told = dict(attrs)
        self.names |= {value for value in (told.get("id"), told.get("name")) if value}
        self.to += [value for value in (told.get("href"), told.get("src")) if value and tag in {"a", "img"}]


def test_site_is_built_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    """Sphinx finds no fault, every local link and anchor exists, and every finding has its page."""
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_parser")
    extra, site = tmp_path / "extra", tmp_path / "site"
    for command in (
        [sys.executable, str(ROOT / "scripts" / "site-extra"), str(extra)],
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(tmp_path / "trees"),
         "-D", f"html_extra_path={extra}", str(ROOT / "docs"), str(site)],
    ):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (0, "") == (done.returncode, done.stderr)
    pages = {path: Links(path.read_text("utf-8")) for path in site.rglob("*.html") if "examples" not in path.parts}
    wrong = [
        f"{page.relative_to(site)} -> {to}"
        for page, links in pages.items()
        for to in links.to
        if not leads(page, to, pages)
    ]
    assert [] == wrong
    from envdoctor.rules import RULES

    assert [] == [rule.id for rule in RULES if not (site / "findings" / f"{rule.id}.html").exists()]


def leads(page: Path, to: str, pages: dict[Path, Links]) -> bool:
    """Tell whether a link leads to something that is there; addresses elsewhere are not followed."""
    parts = urlsplit(to)
    if parts.scheme or parts.netloc:
        return True
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.exists():
        return False
    return not parts.fragment or target not in pages or parts.fragment in pages[target].names
