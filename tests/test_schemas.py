"""The JSON Schemas that ship: valid, closed enough to notice a mistake, open enough for a later key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from envdoctor import finding, outcome, plan, schemas, snapshot
from envdoctor.facts.host import Host
from envdoctor.outcome import Absent, Crashed, Failed, Got, TimedOut
from envdoctor.render.json import plain, write
from envdoctor.snapshot import ProbeResult
from tests import canonical_reports as canonical


def errors(document: Any) -> list[str]:
    """Give what the document's schema has against it."""
    return [each.message for each in Draft202012Validator(schemas.load(document["schema"])).iter_errors(document)]


def report() -> Any:
    """Give a valid report as plain data."""
    return json.loads(write(plain(canonical.FINDINGS)))


@pytest.mark.parametrize("name", schemas.FILES)
def test_every_schema_is_valid_and_complete(name: str) -> None:
    """A schema is one of draft 2020-12, says which document it is of, and every key it needs is described."""
    schema = schemas.load(name)
    Draft202012Validator.check_schema(schema)
    assert {"const": name} == schema["properties"]["schema"]
    assert set() == set(schema["required"]) - set(schema["properties"])


def test_every_file_is_listed() -> None:
    """No schema file ships without a name to load it by."""
    files = {each.name for each in Path(schemas.__file__).parent.glob("*.json")}
    assert files == set(schemas.FILES.values())


def test_unknown_name_is_refused() -> None:
    """A document that is not ours has no schema here."""
    with pytest.raises(KeyError):
        schemas.load("somebody.else/1")


def test_later_keys_are_accepted() -> None:
    """A reader with this schema can read what a later version adds."""
    document = report()
    document["later"] = document["findings"][0]["later"] = document["facts"]["facts"]["later"] = {
        "sources": {},
        "unknown": {},
    }
    assert [] == errors(document)


@pytest.mark.parametrize(
    ("key", "value"),
    [("verdict", "fine"), ("primary", 3), ("findings", {}), ("level", "slow"), ("created", "today"), ("facts", {})],
)
def test_wrong_values_are_noticed(key: str, value: Any) -> None:
    """A wrong value in a documented key makes the document invalid."""
    document = report()
    document[key] = value
    assert [] != errors(document)


@pytest.mark.parametrize("key", schemas.load("envdoctor.report/1")["required"])
def test_missing_keys_are_noticed(key: str) -> None:
    """A report without one of the promised keys is invalid."""
    document = report()
    if key != "schema":
        document.pop(key)
        assert [] != errors(document)


def test_reason_is_needed_where_something_was_not_judged() -> None:
    """A check that did not pass or fire, and a probe that did not answer, say why."""
    document = report()
    document["checks"].append({"id": "a", "group": "b", "essential": False, "status": "unknown", "reason": ""})
    assert [] != errors(document)


def test_every_outcome_fits() -> None:
    """Each of the five outcomes of a probe is a valid entry of a snapshot."""
    told = (Got("live"), Absent("x"), Failed("x", "y"), Crashed("x", "SIGSEGV", -11), TimedOut("x", 3.0, hung=True))
    probes = tuple(ProbeResult(each.name, "host", each, 0.1) for each in told)
    assert [] == errors(json.loads(write(snapshot.to_plain(snapshot.of(Host(), probes=probes)))))


def test_words_are_those_of_the_code() -> None:
    """The schema's lists of words are the ones that the code can write."""
    parts = schemas.load("envdoctor.report/1")["$defs"]
    inner = parts["envdoctor.snapshot/1"]["$defs"]
    assert list(plan.LEVELS) == inner["level"]["enum"]
    assert [each.value for each in finding.Verdict] == schemas.load("envdoctor.report/1")["properties"]["verdict"][
        "enum"
    ]
    assert [each.value for each in finding.Severity] == parts["finding"]["properties"]["severity"]["enum"]
    assert [each.value for each in finding.Status] == parts["check"]["properties"]["status"]["enum"]
    assert [each.value for each in finding.Confidence] == parts["finding"]["properties"]["confidence"]["enum"]
    assert [each.value for each in finding.Safety] == parts["fix"]["properties"]["safety"]["enum"]
    assert [each.name for each in outcome.Outcome.__args__] == parts["probe"]["properties"]["outcome"]["enum"]  # type: ignore[attr-defined]
