"""envdoctor.testing: what plug-in authors test with behaves as a run does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from envdoctor.facts import Fact, read_from
from envdoctor.finding import Finding, Severity, Status
from envdoctor.probe import Context, NotThere, Ran, probe
from envdoctor.rule import known, rule
from envdoctor.testing import check, collect


@dataclass(frozen=True)
class Disk(Fact):
    """A fact with a nested tuple."""

    full: bool | None = read_from("the disk")
    names: tuple[str, ...] = read_from("the disk", ())


@dataclass(frozen=True)
class Odd(Fact):
    """A fact that JSON cannot carry."""

    thing: object = field(default=None)


@rule(severity=Severity.ERROR, group="storage")
def disk_full(disk: Disk) -> Iterator[Finding]:
    """The disk is full."""
    if known(disk, "full"):
        for name in disk.names or ("",):
            yield Finding("full", subject=name)


@probe()
def disk(context: Context) -> Disk:
    """Read whatever the context offers."""
    lines = Path(context.roots.proc, "disks").read_text().split()
    return Disk(full=context.environ.get("FULL") == "1", names=(*lines, *(Path(each).name for each in context.path)))


@probe()
def asked(context: Context) -> Disk:
    """Ask a command."""
    return Disk(names=(context.run(["df", "-h"], 1.0).stdout,))


@probe()
def earlier(context: Context) -> Disk:
    """Repeat what an earlier probe found."""
    return Disk(names=context.facts["disk"].names)


@probe()
def odd(context: Context) -> Odd:
    """Give what cannot be sent."""
    return Odd(thing=object())


def test_check_gives_status_reason_and_findings() -> None:
    """One line runs one rule: fired, passed or unknown with the reason."""
    assert ("disk-full", Severity.ERROR) == (check(disk_full, Disk(full=True)).finding.id, disk_full.severity)
    assert (Status.PASSED, False) == (
        check(disk_full, Disk(full=False)).status,
        check(disk_full, Disk(full=False)).fired,
    )
    assert (Status.UNKNOWN, "disk.full is not known") == (
        check(disk_full, Disk()).status,
        check(disk_full, Disk()).reason,
    )


def test_check_without_the_fact_is_unknown() -> None:
    """A fact that is not given was not collected."""
    assert (Status.UNKNOWN, "disk was not collected") == (check(disk_full).status, check(disk_full).reason)


def test_finding_wants_exactly_one() -> None:
    """Asking for the only finding fails with the count when there are none or several."""
    with pytest.raises(AssertionError, match=r"expected one finding, got 0 \(passed: \)"):
        _ = check(disk_full, Disk(full=False)).finding
    with pytest.raises(AssertionError, match="expected one finding, got 2"):
        _ = check(disk_full, Disk(full=True, names=("a", "b"))).finding


def test_collect_runs_a_probe_on_literal_files() -> None:
    """Files, environment and path of the recorded machine reach the probe."""
    found = collect(disk, {"proc/disks": "sda sdb"}, environ={"FULL": "1"}, path=["site"])
    assert Disk(full=True, names=("sda", "sdb", "site")) == found


def test_collect_runs_a_probe_on_a_recorded_directory(tmp_path: Path) -> None:
    """A tree on disk serves as well, and is left as it was."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "disks").write_bytes(b"nvme0")
    assert Disk(full=False, names=("nvme0",)) == collect(disk, tmp_path)
    assert ["proc", "proc/disks"] == sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))


def test_collect_answers_commands_from_the_record() -> None:
    """A recorded command line is answered; any other is absent."""
    assert Disk(names=("9%",)) == collect(asked, {}, commands={"df -h": Ran(0, "9%")})
    with pytest.raises(NotThere, match="df is not on this recorded machine"):
        collect(asked, {})


def test_collect_hands_over_earlier_facts() -> None:
    """A probe sees what earlier ones of its process found."""
    assert Disk(names=("x",)) == collect(earlier, {}, facts={"disk": Disk(names=("x",))})


def test_collect_refuses_a_fact_that_json_cannot_carry() -> None:
    """A fact that a run could not send is an error in the author's test already."""
    with pytest.raises(TypeError, match="type object is unsupported"):
        collect(odd, {})
