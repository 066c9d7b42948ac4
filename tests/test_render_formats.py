"""Formats for machines and for strangers: read back by other people's parsers, whatever the facts hold."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import junitparser
import pytest
from jsonschema import Draft4Validator
from markdown_it import MarkdownIt
from markdown_it.token import Token
from prometheus_client.parser import text_string_to_metric_families

from envdoctor import demo
from envdoctor.diagnose import examine
from envdoctor.finding import Finding, Ignored, Report, Severity, Status, Verdict
from envdoctor.render import FORMATS, SHARED, load
from envdoctor.rules import RULES
from tests import canonical_reports as canonical
from tests.command import environment, here, valid

PAGES = {rule.id: rule.page for rule in RULES}
REPORTS = {
    "findings": canonical.FINDINGS,
    "findings and unknown": canonical.FINDINGS_AND_UNKNOWN,
    "none": canonical.NONE,
    "undetermined": canonical.UNDETERMINED,
    "hostile": canonical.hostile(),
    "a megabyte each": canonical.hostile("a'\"<&\n" * 170_000),
}
OURS = [name for name in FORMATS if name not in {"terminal", "json", "jsonl"}]


@pytest.fixture(params=REPORTS)
def report(request: pytest.FixtureRequest) -> Report:
    """Give one of the canonical reports."""
    return REPORTS[request.param]


def written(name: str, report: Report) -> str:
    """Write a report as the command line does, but for the redaction."""
    return load(name)(report, explain=lambda each: PAGES.get(each, ""))


@cache
def sarif_schema() -> Any:
    """Read the official schema, as @microsoft/jest-sarif 1.0.0-beta.0 ships it (MIT)."""
    return json.loads((Path(__file__).parent / "data" / "sarif-2.1.0-rtm.5.json").read_text("utf-8"))


def sarif(report: Report) -> Any:
    """Write SARIF, hold it to the schema, and give its one run."""
    document = json.loads(written("sarif", report))
    errors = Draft4Validator(sarif_schema()).iter_errors(document)
    assert [] == [f"{each.json_path}: {each.message[:200]}" for each in errors]
    (run,) = document["runs"]
    return run


def junit(report: Report) -> junitparser.TestSuite:
    """Write JUnit XML and read it with junitparser."""
    (suite,) = junitparser.JUnitXml.fromstring(written("junit", report).encode())
    return suite


def metrics(report: Report) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Write metrics and read them with Prometheus' own parser."""
    families = text_string_to_metric_families(written("prometheus", report))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def tokens(report: Report) -> list[Token]:
    """Write Markdown and give the tokens of a renderer that allows HTML and links addresses, as GitHub does."""
    parser = MarkdownIt("commonmark", {"html": True, "linkify": True}).enable(["table", "linkify", "strikethrough"])
    found: list[Token] = []
    for token in parser.parse(written("markdown", report)):
        found += [token, *(token.children or ())]
    return found


@pytest.mark.parametrize("name", OURS)
def test_every_format_ends_with_a_newline_and_is_utf8(name: str, report: Report) -> None:
    """Each format is text that can be written, without a character that moves a cursor or hides."""
    text = written(name, report)
    assert text.endswith("\n")
    assert text.encode("utf-8")
    assert [] == [c for c in text if (ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u200b"]


def test_junit_has_one_case_a_check(report: Report) -> None:
    """Every check is a case under its group; the counts that CI shows are those of the cases."""
    suite = junit(report)
    assert [check.id for check in report.checks] == [case.name for case in suite]
    failed = {case.name for case in suite if any(isinstance(r, junitparser.Failure) for r in case.result)}
    errors = {f.id for f in report.active if f.severity is Severity.ERROR}
    assert errors & {check.id for check in report.checks} == failed
    skipped = [case for case in suite if any(isinstance(r, junitparser.Skipped) for r in case.result)]
    ran = {Status.PASSED, Status.FIRED}
    assert sum(check.status not in ran for check in report.checks) == len(skipped) == suite.skipped
    assert (len(report.checks), len(failed)) == (suite.tests, suite.failures)
    assert {"verdict": report.verdict.value}.items() <= {p.name: p.value for p in suite.properties()}.items()


def test_junit_says_why_a_check_was_skipped() -> None:
    """Unknown and not applicable keep their names and reasons."""
    cases = {case.name: case for case in junit(canonical.UNDETERMINED)}
    (skipped,) = cases["torch-import-hangs"].result
    assert f"unknown: {canonical.HUNG}" == skipped.message


def test_junit_failure_holds_the_fix() -> None:
    """The words of a failed case are enough to repair the machine."""
    (case,) = [each for each in junit(canonical.FINDINGS) if each.name == "driver-too-old-for-cuda-build"]
    text = case.result[0].text
    assert "sudo apt-get install nvidia-driver-580-server" in text
    assert "driver 535 supports: CUDA 12.2 (cuDriverGetVersion)" in text


def test_sarif_is_valid_and_complete(report: Report) -> None:
    """Every check is a rule, every finding a result that points to its rule; ignored ones are suppressed."""
    run = sarif(report)
    rules = run["tool"]["driver"]["rules"]
    assert {check.id for check in report.checks} <= {rule["id"] for rule in rules}
    assert len(report.findings) == len(run["results"])
    for found, result in zip(report.findings, run["results"], strict=True):
        assert found.id == result["ruleId"] == rules[result["ruleIndex"]]["id"]
        assert (found.ignored is not None) == ("suppressions" in result)
    assert report.verdict.value == run["properties"]["verdict"]
    primary = [result for result in run["results"] if result["properties"]["primary"]]
    assert [bool(report.primary)] == [len(primary) == 1]


def test_sarif_rules_carry_their_pages() -> None:
    """The help of a rule is its page, as ``explain`` shows it."""
    run = sarif(examine(demo.load()))
    pages = {rule["id"]: rule["help"]["text"] for rule in run["tool"]["driver"]["rules"]}
    assert PAGES == pages


def test_sarif_tells_what_could_not_be_judged() -> None:
    """Unknown essential checks and lost probes are notifications of the run, not results."""
    run = sarif(canonical.UNDETERMINED)
    told = [each["message"]["text"] for each in run["invocations"][0]["toolExecutionNotifications"]]
    assert [] == run["results"]
    assert any("torch-import-hangs could not be judged" in each for each in told)
    assert any("probe torch-import timed-out" in each for each in told)


def test_github_annotates_each_finding_on_one_line(report: Report) -> None:
    """One workflow command a finding and an undecided essential check; nothing of a fact starts another."""
    lines = written("github", report).splitlines()
    commands = [line for line in lines if line.startswith("::")]
    undecided = sum(check.essential and check.status is Status.UNKNOWN for check in report.checks)
    assert len(report.active) + undecided == len(commands)
    shape = re.compile(r"::(error|warning|notice) title=[^,:]*::.*")
    assert [] == [line for line in commands if not shape.fullmatch(line)]
    errors = sum(line.startswith("::error ") for line in commands)
    own = [f for f in report.active if f.severity is Severity.ERROR and not f.caused_by]
    assert len(own) == errors


def test_github_message_reads_as_lines() -> None:
    """Decoded as GitHub does, the message shows evidence and commands on lines of their own."""
    line = next(each for each in written("github", canonical.FINDINGS).splitlines() if each.startswith("::error"))
    message = line.split("::", 2)[2].replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%")
    assert "\n    sudo apt-get install nvidia-driver-580-server\n" in message


def test_markdown_shows_facts_as_text(report: Report) -> None:
    """Of the facts nothing becomes HTML, a link, an image or a heading; our own HTML is only the folds."""
    found = tokens(report)
    html = {re.sub(r">.*", ">", token.content.strip(), flags=re.DOTALL) for token in found if "html" in token.type}
    assert set() == html - {"<details>", "</details>", "<code>", "</code>"}
    assert [] == [token.type for token in found if token.type in {"link_open", "image", "s_open", "em_open"}]
    headings = [token for token in found if token.type == "heading_open"]
    assert len(headings) <= 2


def test_markdown_mentions_nobody() -> None:
    """An at-sign or a number sign of a fact notifies and links nobody on GitHub."""
    text = re.sub(r"```.*?```|`[^`]*`", "", written("markdown", canonical.hostile()), flags=re.DOTALL)
    assert "@" not in text
    assert [] == re.findall(r"(?<!&)#(?=\w)", text)


def test_markdown_commands_can_be_copied() -> None:
    """A fix is a block of its own, character for character."""
    blocks = [token.content for token in tokens(canonical.FINDINGS) if token.type == "fence"]
    assert "sudo apt-get install nvidia-driver-580-server\nsudo reboot\n" in blocks


def test_markdown_is_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line takes people out of a format that is made for strangers."""
    monkeypatch.setenv("USER", "mira")
    assert "markdown" in SHARED
    done = here("demo", "--format", "markdown")
    assert "mira" not in done.out
    assert "/home/user-1/" in done.out


def test_prometheus_counts_what_the_report_counts(report: Report) -> None:
    """The parser of Prometheus reads every line; verdict, findings and checks are the report's."""
    told = metrics(report)
    verdicts = {labels[0][1]: value for (name, labels), value in told.items() if name == "envdoctor_verdict"}
    assert {each.value: float(each is report.verdict) for each in Verdict} == verdicts
    for status in Status:
        assert report.count(status) == told["envdoctor_checks", (("status", status.value),)]
    errors = sum(each.severity is Severity.ERROR for each in report.active)
    assert errors == told["envdoctor_findings", (("severity", "error"),)]


def test_prometheus_labels_are_bounded(report: Report) -> None:
    """No label is longer than it may be, and no finding's subject becomes one."""
    told = metrics(report)
    assert 120 >= max(len(value) for _, labels in told for _, value in labels)
    assert {"id", "severity"} >= {key for name, labels in told if name == "envdoctor_finding" for key, _ in labels}


@pytest.mark.parametrize("name", FORMATS)
def test_exit_code_is_the_same_in_every_format(name: str) -> None:
    """The verdict does not depend on how it is written."""
    codes = {machine: here("demo", machine).code for machine in demo.ABOUT}
    assert codes == {machine: here("demo", machine, "--format", name).code for machine in demo.ABOUT}


def test_step_summary_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In GitHub Actions the Markdown report is added to the step's summary, behind what is there."""
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    done = here("demo", "--format", "github")
    assert file.read_text("utf-8").startswith("before\n### envdoctor: ")
    assert "::error title=" in done.out


def test_step_summary_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A summary on a full disk changes neither the annotations nor the exit code."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    done = here("demo", "--format", "github")
    assert (1, True) == (done.code, "the step summary cannot be written" in done.err)
    assert "::error title=" in done.out


def test_ignored_findings_are_counted_with_their_reasons() -> None:
    """Every format shows that something is ignored, and why."""
    ignored = Finding("t", id="shm-too-small", severity=Severity.ERROR, ignored=Ignored("a small model", "option"))
    checks = tuple(replace(c, status=Status.IGNORED, reason="a small model") for c in canonical.NONE.checks[:1])
    report = replace(canonical.NONE, findings=(ignored,), checks=checks)
    for name in ("github", "markdown", "junit", "sarif"):
        assert "a small model" in written(name, report), name
    assert 1.0 == metrics(report)["envdoctor_findings", (("severity", "ignored"),)]


def test_xml_is_well_formed_for_strict_parsers(report: Report) -> None:
    """No character that XML 1.0 forbids gets in."""
    assert "testsuites" == ET.fromstring(written("junit", report).encode()).tag


def events(text: str) -> list[Any]:
    """Read JSON lines, each of them held to the schema."""
    return [valid(line) for line in text.splitlines()]


def test_events_tell_the_whole_report(report: Report) -> None:
    """Begin, every probe, check and finding, and the verdict at the end, each a valid event."""
    report = replace(report, checks=tuple(replace(each, id=each.id.lower()) for each in report.checks))
    told = events(written("jsonl", report))
    kinds = [each["event"] for each in told]
    many = {kind: kinds.count(kind) for kind in ("begin", "probe", "check", "finding", "end")}
    expected = {"probe": len(report.snapshot.probes), "check": len(report.checks), "finding": len(report.findings)}
    assert {"begin": 1, **expected, "end": 1} == many
    assert ("begin", "end", report.verdict.value) == (kinds[0], kinds[-1], told[-1]["verdict"])


def test_events_come_while_the_run_goes_on(tmp_path: Path) -> None:
    """A probe that has ended is told before one that has not; each is told once."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("import time\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "envdoctor", "check", "--format", "jsonl", "--timeout", "40"]
    environ = environment(PYTHONPATH=str(tmp_path))
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        first = [run.stdout.readline() for _ in range(6)]
        still_running = run.poll() is None
        run.send_signal(signal.SIGINT)
        rest = run.stdout.read()
    told = events("".join(first) + rest)
    assert still_running
    assert ["begin", *["probe"] * 5] == [each["event"] for each in told[:6]]
    names = [each["name"] for each in told if each["event"] == "probe"]
    assert sorted(set(names)) == sorted(names)
    assert "torch-import" in names
    assert (130, True) == (run.returncode, told[-1]["interrupted"])
