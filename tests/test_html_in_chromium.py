"""The HTML report in a real browser: nothing is fetched, nothing fails, filters and copy buttons do what they say."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envdoctor import demo
from envdoctor.diagnose import examine
from envdoctor.finding import Report
from envdoctor.render.html import render
from tests import canonical_reports as canonical

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::ResourceWarning")]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SIZES = {"wide": (1280, 900), "narrow": (400, 800)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start Debian's Chromium once."""
    if CHROMIUM is None:
        pytest.skip("no chromium here: scripts/get-test-tools installs it where apt-get may")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield started
        started.close()


class Opened:
    """A page in a window, with everything that it asked for and complained of."""

    def __init__(
        self, browser: Any, report: Report, folder: Path, *, size: str = "wide", scheme: str = "light"
    ) -> None:
        width, height = SIZES[size]
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        file = folder / "report.html"
        file.write_text(render(report), "utf-8")
        self.page.goto(file.as_uri())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("report", [examine(demo.load()), canonical.hostile()], ids=["demo", "hostile"])
def test_page_opens_quietly(browser: Any, report: Report, scheme: str, size: str, tmp_path: Path) -> None:
    """In both themes and widths: one request, the file itself; no complaint; nothing wider than the window."""
    opened = Opened(browser, report, tmp_path, size=size, scheme=scheme)
    assert ([], 1) == (opened.complaints, len([url for url in opened.asked if not url.startswith("data:")]))
    wide = opened.page.evaluate("document.documentElement.scrollWidth")
    assert SIZES[size][0] >= wide
    background = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme] == background
    opened.context.close()


def test_copy_buttons_copy_the_command(browser: Any, tmp_path: Path) -> None:
    """A click puts the command, character for character, into the clipboard and says so."""
    opened = Opened(browser, canonical.FINDINGS, tmp_path)
    button = opened.page.locator("#primary button[data-copy]").nth(1)
    button.click()
    opened.page.wait_for_function("document.getElementById('said').textContent === 'Copied'")
    copied = opened.page.evaluate("navigator.clipboard.readText()")
    assert "sudo apt-get install nvidia-driver-580-server" == copied
    opened.context.close()


def test_checks_are_filtered_by_state_and_words(browser: Any, tmp_path: Path) -> None:
    """Pressed states show their checks alone; words narrow them further; released, all are back."""
    opened = Opened(browser, canonical.FINDINGS_AND_UNKNOWN, tmp_path)
    rows = opened.page.locator("#check-table tbody tr:visible")
    many = rows.count()
    button = opened.page.locator("button[data-state='unknown']")
    button.click()
    assert (5, "true") == (rows.count(), button.get_attribute("aria-pressed"))
    opened.page.get_by_label("Search the checks").fill("Fabric-unknown TIMED-OUT")
    assert 3 == rows.count()
    assert "3 of" in opened.page.locator("[data-for='check-table'] output").inner_text()
    opened.page.get_by_label("Search the checks").fill("")
    button.click()
    assert many == rows.count()
    opened.context.close()


def test_facts_are_searched(browser: Any, tmp_path: Path) -> None:
    """The table of facts opens and shows the rows that hold every word."""
    opened = Opened(browser, examine(demo.load()), tmp_path)
    opened.page.locator("#facts + details > summary").click()
    opened.page.get_by_label("Search the facts").fill("torch_build cuda")
    names = opened.page.locator("#fact-table tbody tr:visible td:first-child").all_inner_texts()
    assert "torch_build.cuda" in names
    assert [] == [each for each in names if not each.startswith("torch_build")]
    opened.context.close()


def test_theme_is_switched_by_keyboard(browser: Any, tmp_path: Path) -> None:
    """The switch is reached with Tab, pressed with Enter, and turns light into dark."""
    opened = Opened(browser, canonical.NONE, tmp_path)
    for _ in range(2):
        opened.page.keyboard.press("Tab")
    assert "theme" == opened.page.evaluate("document.activeElement.id")
    opened.page.keyboard.press("Enter")
    assert "dark" == opened.page.evaluate("document.documentElement.dataset.theme")
    opened.context.close()


def test_page_reads_without_scripts(browser: Any, tmp_path: Path) -> None:
    """As in an e-mail: without scripts everything is there, and no button that would do nothing is shown."""
    file = tmp_path / "report.html"
    file.write_text(render(canonical.FINDINGS), "utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert 0 == page.locator("button:visible").count()
    assert "sudo apt-get install nvidia-driver-580-server" in page.locator("#primary").inner_text()
    assert len(canonical.FINDINGS.checks) == page.locator("#check-table tbody tr:visible").count()
    context.close()


def test_names_and_roles_for_screen_readers(browser: Any, tmp_path: Path) -> None:
    """Every control has a name, every table head a scope, the page a language and one main heading."""
    opened = Opened(browser, examine(demo.load()), tmp_path)
    nameless = opened.page.evaluate(
        "[...document.querySelectorAll('button, input')].filter(e => !(e.textContent.trim() || e.ariaLabel)).length"
    )
    scopeless = opened.page.evaluate("document.querySelectorAll('th:not([scope])').length")
    told = opened.page.evaluate("[document.documentElement.lang, document.querySelectorAll('h1').length]")
    assert (0, 0, ["en", 1]) == (nameless, scopeless, told)
    opened.context.close()
