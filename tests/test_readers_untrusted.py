"""Texts are untrusted: bounded, matched in bounded time, never executed, opened or printed as they are."""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envdoctor import diagnose, readers, render, whatif
from envdoctor.readers import cleaning
from tests.damage import WHOLE
from tests.pasted_facts import NAMES, paste, told

MODULES = [importlib.import_module(f"envdoctor.readers.{each.name}") for each in pkgutil.iter_modules(readers.__path__)]
FUNCTIONS = {"compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer"}
# What runs away in the patterns of careless readers: runs of one character, and of what several parts can match.
RUNS = (
    " ", "\t", "a", "0", "-", "=", "|", ".", ":", "<", "&", "[", "(", "/", ">", "`", "_", "a ", "a.", "0.", "a: ", " :",
    "| ", "-=", "> ", "a-b_", "GPU 0: ", "[pip3] a", "[conda] a 1 ", "OS: ", "\x1b[", "<!--", "<br", "https://a", '"',
    "' ", "a==1;", "CUDA Version: ", "NVIDIA-SMI ", "sm_80 ", "+cu", "pip install ", "FROM a ", "\\ ", "A=", "name = ",
    "\u00e9", "\u200b", "a.", "[a.", "{a=", "[[a]]\n", "a=1\n", "['", '"""',
)  # fmt: skip


def patterns() -> list[str]:
    """Give every pattern that a reader uses, compiled or not."""
    found: dict[str, None] = {}
    for module in MODULES:
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in FUNCTIONS:
                first = node.args[0] if node.args else None
                if ast.unparse(node.func.value) == "re" and isinstance(first, ast.Constant):
                    found[str(first.value)] = None
        compiled = (each for each in vars(module).values() if isinstance(each, re.Pattern))
        found.update(dict.fromkeys(each.pattern for each in compiled))
    return list(found)


def endless(tree: object, *, inside: bool = False) -> bool:
    """Tell whether something without an upper limit is repeated by something else, which can take for ever."""
    parts = tree if isinstance(tree, (list, tuple)) else getattr(tree, "data", ())
    for part in parts:
        if isinstance(part, tuple) and str(part[0]) in {"MAX_REPEAT", "MIN_REPEAT"}:
            _, (_, most, body) = part
            unlimited = most == sre_constants().MAXREPEAT
            if (unlimited and inside) or endless(body, inside=unlimited or most > 1 or inside):
                return True
        elif (isinstance(part, (list, tuple)) or hasattr(part, "data")) and endless(part, inside=inside):
            return True
    return False


def sre_constants() -> object:
    """Give the module that has the marks of parsed patterns, by its name in this Python."""
    return importlib.import_module("re._constants" if sys.version_info >= (3, 11) else "sre_constants")


def parsed(pattern: str) -> object:
    """Parse a pattern as ``re`` does."""
    return importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse").parse(pattern)


def test_the_detector_of_endless_patterns_detects() -> None:
    """The test below can fail."""
    assert [True, True, False, False] == [
        endless(parsed(each)) for each in ("(a+)+$", "(?:a*b?){3}", "a+b+", "(?:ab){9}")
    ]


def test_no_pattern_repeats_what_has_no_limit() -> None:
    """No reader's pattern has a repetition without a limit inside another repetition."""
    assert len(patterns()) > len(MODULES)
    assert [] == [each for each in patterns() if endless(parsed(each))]


@pytest.mark.parametrize("what", ["patterns", "texts"])
def test_a_hundred_kilobytes_of_malice_are_read(what: str) -> None:
    """Every pattern ends on the longest line, and every reader on 100 kB, of whatever runs away in careless ones."""
    done = subprocess.run(
        [sys.executable, "-c", f"from tests.test_readers_untrusted import {what}_end; {what}_end()"],
        cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert (0, "ended\n") == (done.returncode, done.stdout), done.stderr[-2000:]


def patterns_end() -> None:
    """Search with every pattern in lines of the greatest length."""
    for pattern in map(re.compile, patterns()):
        for run in RUNS:
            for text in (run * cleaning.MOST_LINE, f"{run * cleaning.MOST_LINE}!\n"):
                pattern.search(text[: cleaning.MOST_LINE])
    print("ended")


def texts_end() -> None:
    """Read 100 kB of every run: in one line, in many, and after the first lines of a real report."""
    for run in RUNS:
        text = (run * 100_000)[:100_000]
        lines = "\n".join(text[n : n + 1900] for n in range(0, len(text), 1900))
        begun = (paste("collect_env-2.3")[:600], '[[package]]\nname = "a"', "[project]", "FROM a\nRUN b")
        begun = (*begun, "channels:\ndependencies:\n- a")
        for each in (text, lines, *(f"{first}\n{lines[:20_000]}" for first in begun), run.join(["\n"] * 20_000)):
            readers.parse(each, source="a text")
    print("ended")


def test_more_than_the_limit_is_not_read() -> None:
    """Of a text beyond two million characters the beginning and the end are read; a line has its limit too."""
    text = f"{paste('collect_env-2.3')}\n{'x' * 5_000_000}\n{paste('pip-freeze')}"
    lines = cleaning.cleaned(text)
    assert sum(map(len, lines)) <= cleaning.MOST_CHARACTERS
    assert max(map(len, lines)) <= cleaning.MOST_LINE
    assert "2.3.1+cu121" == told(text)["torch_build.version"]


TEXT = st.text(st.characters(codec="utf-8"), max_size=400)
WISHES = sorted((Path(__file__).parent / "wanted").iterdir())
WHOLES = [*(paste(name) for name in NAMES), *(file.read_text(encoding="utf-8") for file in WISHES)]
LINES = [line for whole in WHOLES for line in whole.split("\n")]
PIECE = st.one_of(TEXT, st.sampled_from(WHOLES), st.sampled_from(LINES))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(pieces=st.lists(PIECE, max_size=5), kind=st.sampled_from(sorted(WHOLE)), cut=st.integers(0, 4000))
def test_whatever_is_pasted_is_read_and_judged(pieces: list[str], kind: str, cut: int) -> None:
    """Any mixture of reports, pieces of them and other characters becomes facts that rules can judge, or is refused."""
    text = WHOLE[kind]("\n".join(pieces))[cut:]
    try:
        found = readers.read(text, source="a text")
    except readers.NotRecognised:
        return
    report = whatif.reworded(diagnose.examine(whatif.project(found)))
    assert [] == [f"{each.id}: {each.reason}" for each in report.checks if "the rule itself failed" in each.reason]


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=3000))
def test_whatever_bytes_are_given_are_read(data: bytes) -> None:
    """Bytes that are no text do not stop a reader."""
    assert isinstance(readers.parse(data, source="bytes").formats, tuple)


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e$(touch /tmp/owned)`id`"


@pytest.mark.parametrize("name", NAMES)
def test_what_a_text_says_is_never_printed_as_it_is(name: str) -> None:
    """Signs that move a cursor or turn the direction of writing reach no terminal, wherever they stood in a text."""
    text = "\n".join(
        line + HOSTILE if number % 3 else f"{HOSTILE} {line}" for number, line in enumerate(paste(name).split("\n"))
    )
    try:
        report = diagnose.examine(readers.read(text, source="a text"))
    except readers.NotRecognised:
        return
    shown = render.load("terminal")(report, show="all", color=False)
    assert set() == {sign for sign in "\x1b\x07\x9b\u202e" if sign in shown}
    assert json.loads(render.load("json")(report))["schema"]


def test_nothing_that_a_text_names_is_opened_or_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths and commands in a text stay words."""
    marker = tmp_path / "secret"
    marker.write_text("x")
    texts = [
        f"FROM x\nRUN cat {marker} && pip install -r {marker}\nENV A={marker}",
        f"-r {marker}\n-f {marker}\ntorch>=2",
    ]
    texts += [paste(name).replace("/usr/lib", str(tmp_path)) for name in NAMES]

    def refuse(*arguments: object, **_options: object) -> None:
        raise AssertionError(f"opened or run: {arguments[:1]}")

    for module, function in ((builtins, "open"), (os, "open"), (os, "stat"), (os, "listdir"), (subprocess, "Popen")):
        monkeypatch.setattr(module, function, refuse)
    assert all(readers.parse(text, source="a text").formats for text in texts)
