"""The HTML report: one self-contained page in which everything of a report is text."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import html5lib
import pytest

from envdoctor import demo, snapshot
from envdoctor import render as render_formats
from envdoctor.diagnose import examine
from envdoctor.facts.libraries import Copy, LedgerRow, Libraries
from envdoctor.finding import Report
from envdoctor.render.html import render
from envdoctor.render.html.facts import MOST_ROWS, ledger, listed
from tests import canonical_reports as canonical
from tests.command import here

REPORTS = {
    "findings": canonical.FINDINGS,
    "findings and unknown": canonical.FINDINGS_AND_UNKNOWN,
    "none": canonical.NONE,
    "undetermined": canonical.UNDETERMINED,
    "hostile": canonical.hostile(),
    "a megabyte each": canonical.hostile("a'\"<&\n" * 170_000),
}
ELSEWHERE = {"src", "href", "action", "data", "poster", "srcset", "background", "formaction", "ping"}


class Page(HTMLParser):
    """Collects what a page would fetch or run, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.handlers: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag, its addresses and its event handlers."""
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ELSEWHERE]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        """Note the text."""
        self.words.append(data)


@pytest.fixture(params=REPORTS)
def report(request: pytest.FixtureRequest) -> Report:
    """Give one of the canonical reports."""
    return REPORTS[request.param]


def test_page_fetches_nothing_and_runs_only_our_script(report: Report) -> None:
    """No address leads out of the page, no fact becomes a tag, a handler or a script."""
    page = Page(render(report))
    assert {"#main", "data:,"} == set(page.fetched)
    assert [] == page.handlers
    assert 1 == page.tags.count("script")
    assert [] == [each for each in page.tags if each in {"img", "iframe", "object", "embed", "form", "red", "bold"}]


@pytest.mark.parametrize("name", ["findings and unknown", "hostile"])
def test_page_is_valid_html(name: str) -> None:
    """A parser that follows the standard finds no error."""
    parser = html5lib.HTMLParser()
    parser.parse(render(REPORTS[name]))
    assert [] == [each for _, each, _ in parser.errors]


def test_page_says_what_the_report_says() -> None:
    """Title, evidence, commands, consequences, every check and ignored findings are in the text."""
    words = re.sub(r"\s+", " ", " ".join(Page(render(canonical.FINDINGS)).words))
    assert "PyTorch cannot use the GPUs: the driver is too old for this build" in words
    assert "35 cudaErrorInsufficientDriver" in words
    assert "sudo apt-get install nvidia-driver-580-server" in words
    assert "Also follows from it: 1" in words
    assert [] == [check.id for check in canonical.FINDINGS.checks if check.id not in words]
    assert "chosen for this model" in " ".join(Page(render(canonical.FINDINGS_AND_UNKNOWN)).words)


def test_what_hides_is_spelled_out() -> None:
    """Control characters, bidi marks and surrogates are shown as their codes."""
    text = render(canonical.hostile())
    assert text.encode("utf-8")
    assert [] == [c for c in text if (ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u200b"]
    assert "\\u202e" in text


@pytest.mark.parametrize("name", demo.ABOUT)
def test_every_recorded_machine_is_a_page(name: str) -> None:
    """Each machine that ships becomes a page of moderate size, its findings by name."""
    report = examine(demo.load(name))
    text = render(report)
    words = " ".join(Page(text).words)
    assert [] == [each.key for each in report.findings if each.key not in words]
    assert 1_000_000 > len(text.encode())


def test_ledger_marks_what_differs() -> None:
    """A library whose places name different versions is marked, one whose places agree is not."""
    top = "/venv/lib/python3.11/site-packages/"
    drifted = LedgerRow(soname="libcudnn.so.9", declared_version="9.5.1.17", first=Copy(f"{top}c", "9.1.0"),
                        bundled=(Copy(f"{top}c", "9.1.0"),))  # fmt: skip
    agreed = LedgerRow(soname="libnccl.so.2", declared_version="2.27.5", first=Copy(f"{top}n", "2.27.5"))
    shown = ledger(snapshot.of(Libraries(rows=(drifted, agreed))))
    assert (top, [False, True]) == (shown.top, [each.agree for each in shown.entries])
    assert "9.1.0 at c" == shown.entries[0].first


def test_facts_are_listed_with_their_sources() -> None:
    """Every value stands with its place and where it was read, what is unknown with the reason."""
    rows = {each.name: each for each in listed(demo.load())}
    assert "CUDA" not in rows["torch_build.cuda"].value
    assert rows["torch_build.cuda"].source
    assert len(rows) <= MOST_ROWS + 1


def test_too_many_facts_are_counted() -> None:
    """A page holds a bounded number of rows and says how many it leaves out."""
    rows = tuple(LedgerRow(name=f"x{number}", soname=f"libx{number}.so") for number in range(MOST_ROWS))
    shown = listed(snapshot.of(Libraries(rows=rows)))
    assert MOST_ROWS + 1 == len(shown)
    assert shown[-1].value.endswith("more values are in the JSON report")


def test_without_jinja2_the_format_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line names the extra, exits 2, and shows no traceback."""
    monkeypatch.setitem(render_formats.NEEDS, "html", "a_module_that_is_not_here")
    done = here("demo", "--format", "html")
    assert (2, "") == (done.code, done.out)
    assert "python -m pip install 'torch-envdoctor[html]'" in done.err


def test_no_findings_is_said() -> None:
    """A healthy machine's page says so and has nothing to do."""
    words = " ".join(Page(render(replace(canonical.NONE, findings=()))).words)
    assert "Everything that could be checked is healthy." in words
    assert "What to do" not in words
