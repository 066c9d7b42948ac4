"""Several reports in one document: what differs between the targets, whom one could not compare, which findings."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from envdoctor import demo
from envdoctor.cli import exits
from envdoctor.compare.groups import apart, side_by_side
from envdoctor.compare.traits import alike
from envdoctor.diagnose import examine
from envdoctor.finding import Report
from envdoctor.outcome import Failed
from envdoctor.render import several
from envdoctor.render.json import write
from envdoctor.snapshot import ProbeResult, Target, of, with_target
from tests.command import here, valid


def report(key: str, **facts: object) -> Report:
    """Give a healthy machine under a name of its own, with other values in some facts."""
    machine = demo.load("h100x8-healthy")
    changed = {name: replace(machine.facts[name], **values) for name, values in facts.items()}  # type: ignore[arg-type]
    return examine(
        with_target(replace(machine, facts={**machine.facts, **changed}), Target(key, "command", "python3", key))
    )


NO_ROUTE = Failed("python3 behind ssh did not begin: exit code 255: no route")
UNREACHED = examine(
    with_target(
        of(probes=tuple(ProbeResult(f"p{n}", f"p{n}", NO_ROUTE) for n in range(4))),
        Target("ssh n9", "command", "python3", "ssh n9"),
    )
)
REPORTS = (report("ssh n1"), report("ssh n2"), report("ssh n3", kernel_module={"version": "470.57.02"}), UNREACHED)


def test_the_document_is_valid_and_names_who_differs() -> None:
    """The majority first; a target that was not reached is left out of the comparison, with the reason."""
    told = valid(write(several.plain(REPORTS, side_by_side(REPORTS))))
    apart = {each["key"]: each["groups"] for each in told["compare"]["differs"]}
    assert [["ssh n1", "ssh n2"], ["ssh n3"]] == [each["targets"] for each in apart["kernel_module.version"]]
    assert ["ssh n9"] == [each["target"] for each in told["compare"]["not_compared"]]
    where = {each["key"]: each["targets"] for each in told["compare"]["findings"]}
    assert (["ssh n9"], ["ssh n3"]) == (where["snapshot-partial"], where["driver-branch-eol"])


def test_machines_that_are_alike_differ_in_nothing() -> None:
    """Their own names, serial numbers and temperatures are no difference."""
    compared = side_by_side(REPORTS[:2])
    assert ((), ()) == (compared.apart, compared.left_out)
    assert "Nothing that should be the same differs" in several.terminal(REPORTS[:2], compared)


def test_one_that_answered_has_nothing_to_be_compared_with() -> None:
    """And the terminal says so."""
    reports = (REPORTS[0], UNREACHED)
    assert "There is nothing to compare" in several.terminal(reports, side_by_side(reports))


@pytest.mark.parametrize("show", ["problems", "all"])
def test_the_terminal_names_each_target_and_the_odd_one(show: str) -> None:
    """Each in short or whole, then the differences."""
    text = several.terminal(REPORTS, side_by_side(REPORTS), show=show, width=100)
    assert {True} == {each.snapshot.target.key in text for each in REPORTS}
    assert "What differs between them" in text
    assert "470.57.02" in text
    assert "Not compared: ssh n9" in text


def test_a_fact_that_one_did_not_collect_is_no_difference() -> None:
    """Only those count that looked."""
    flats = {"a": {"package.numpy": "1", "host.kernel": "6"}, "b": {"host.kernel": "6"}}
    assert () == apart(flats, {"a": {"packages", "host"}, "b": {"host"}})  # type: ignore[arg-type]
    (found,) = apart(flats, {"a": {"packages", "host"}, "b": {"packages", "host"}})  # type: ignore[arg-type]
    assert [("1", ("a",)), (None, ("b",))] == [(each.value, each.targets) for each in found.groups]


def test_numbers_may_have_slack() -> None:
    """Only numbers, and only where the key has any."""
    assert [True, True, False, False] == [
        alike(1, 1, 0),
        alike(100, 101, 0.02),
        alike(100, 103, 0.02),
        alike("1", "2", 1),
    ]


def test_the_worst_exit_code_counts() -> None:
    """In the documented order: Ctrl-C, usage, our own failure, findings, undetermined."""
    assert [0, 1, 3, 1, 130] == [exits.worst(each) for each in ([], [0, 1], [0, 3], [3, 1, 0], [0, 130, 1])]


def test_formats_of_one_report_are_refused_for_several() -> None:
    """Before anything is collected, with the way that leads to that format."""
    done = here("check", "--via", "env", "--via", "env", "--format", "junit")
    assert (2, "", True) == (done.code, done.out, "'junit' holds one report" in done.err)
    assert "envdoctor fleet DIR --format junit" in done.err


@pytest.mark.parametrize("command", ["check", "snapshot", "diff", "baseline save", "bench"])
def test_two_interpreters_are_refused_and_the_same_one_twice_is_one(command: str) -> None:
    """Taking the last one in silence would judge another environment than somebody thinks."""
    done = here(*command.split(), "--python", "/a/python", "--python", "/b/python")
    assert (2, True) == (done.code, "--python names '/a/python' and '/b/python', expected one" in done.err)
    again = here(*command.split(), "--python", "/a/python", "--python", "/a/python")
    assert "expected one interpreter" not in again.err
    assert json.loads(write(several.plain(REPORTS[:1], side_by_side(REPORTS[:1]))))
