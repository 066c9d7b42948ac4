"""The JSON report: the documented keys, strict JSON whatever the facts hold, and the schema for every report."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from envdoctor import demo, snapshot
from envdoctor.diagnose import examine
from envdoctor.facts.torch import TorchImport
from envdoctor.finding import Evidence, Finding, Report, Verdict
from envdoctor.render import FORMATS, load
from envdoctor.render.json import render
from envdoctor.snapshot import Snapshot
from tests import canonical_reports as canonical
from tests.command import valid

REPORTS = {
    "findings": canonical.FINDINGS,
    "findings and unknown": canonical.FINDINGS_AND_UNKNOWN,
    "none": canonical.NONE,
    "undetermined": canonical.UNDETERMINED,
    "nothing at all": Report(snapshot.of(), (), (), None, Verdict.UNDETERMINED),
}


def with_evidence(value: object) -> Report:
    """Make a report whose one finding rests on ``value``."""
    finding = Finding("x", evidence=(Evidence("a.b", value, "/proc", "file"),), id="x")
    return Report(snapshot.of(), (finding,), (), None, Verdict.OK)


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_fits_its_schema(name: str) -> None:
    """Reports with and without findings are valid documents of envdoctor.report/1."""
    report = REPORTS[name]
    checks = tuple(replace(each, id=each.id.lower()) for each in report.checks)  # made-up ids hold group names
    document = valid(render(replace(report, checks=checks)))
    assert (report.verdict.value, report.primary) == (document["verdict"], document["primary"])


@pytest.mark.parametrize("name", demo.ABOUT)
def test_every_recorded_machine_fits_the_schema(name: str) -> None:
    """The report of each machine that ships is a valid document, and its snapshot is the one that was examined."""
    recorded = demo.load(name)
    document = valid(render(examine(recorded)))
    assert recorded == snapshot.from_plain(document["facts"])


def test_keys_are_those_that_are_promised() -> None:
    """A report has the documented keys; a key may be added, none is ever renamed."""
    document = json.loads(render(canonical.FINDINGS))
    promised = (
        "schema tool created target level elapsed_seconds overhead_seconds verdict primary findings checks probes facts"
    )
    assert set() == set(promised.split()) - set(document)
    finding = "key id subject severity title detail confidence evidence affects caused_by links fixes ignored"
    assert set() == set(finding.split()) - set(document["findings"][0])
    fix = "title commands safety changes needs_root needs_reboot verify"
    assert set() == set(fix.split()) - set(document["findings"][0]["fixes"][0])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (float("inf"), None),
        ("caf\udce9", "caf\\udce9"),
        (("a", "b"), ["a", "b"]),
        ({"/a": 1}, {"/a": 1}),
        (object, "<class 'object'>"),
        (b"\xff", "/w=="),
        ("https://u:p@h/", "https://***@h/"),
    ],
    ids=str,
)
def test_any_value_becomes_strict_json(value: object, expected: object) -> None:
    """Not a number, a lone surrogate, bytes or a foreign object in evidence: the document stays valid."""
    text = render(with_evidence(value))
    assert expected == valid(text)["findings"][0]["evidence"][0]["value"]


def test_url_credentials_are_gone_from_facts_too() -> None:
    """A password in the words of a failed import does not reach the document."""
    made = snapshot.of(TorchImport(imported=False, error="pip install https://u:hunter2@host/torch.whl"))
    text = render(examine(made))
    assert "hunter2" not in text
    assert "https://***@host/torch.whl" in text


def test_interrupted_and_notes_are_told() -> None:
    """A run that Ctrl-C ended says so, and notes about the run are in the document."""
    report = replace(canonical.NONE, interrupted=True, notes=("an ignore ended",))
    document = json.loads(render(report))
    assert (True, ["an ignore ended"]) == (document["interrupted"], document["notes"])


def test_every_format_has_the_same_signature() -> None:
    """Each format's function takes the same view, so that a caller need not know which it has."""
    for name in FORMATS:
        text = load(name)(canonical.NONE, show="all", width=40, color=False, unicode=False)
        assert text.endswith("\n")


def test_report_of_a_report_is_the_same() -> None:
    """What was written can be read and examined again with the same result."""
    first: Snapshot = demo.load()
    text = render(examine(first))
    assert text == render(examine(snapshot.load(text)))
