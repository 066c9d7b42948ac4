"""``envdoctor check``: selection, ignoring, thresholds, files, and exit codes that are the same for every format."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envdoctor import demo
from envdoctor.cli import catalogue, collecting, exits
from envdoctor.cli import check as check_command
from envdoctor.cli.settings import Settings
from envdoctor.config import FAIL_ON
from envdoctor.diagnose import Selection
from envdoctor.facts import key_of
from envdoctor.finding import Check, Finding, Ignored, Report, Severity, Status, Verdict
from envdoctor.plan import BUILT_IN, for_level
from envdoctor.render.json import write
from envdoctor.rule import Rule
from envdoctor.rules import RULES
from envdoctor.snapshot import of, to_plain
from tests.command import Done, fresh, here, valid

FORMATS = ("terminal", "json")
BROKEN = "driver-470-under-cu130"
OLD_DRIVER = "driver-too-old-for-cuda-build"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Give the file of a recorded machine that has an error."""
    return recorded(tmp_path, BROKEN)


def recorded(folder: Path, name: str) -> Path:
    """Write a recorded machine's snapshot to a file."""
    file = folder / f"{name}.json"
    file.write_text(write(to_plain(demo.load(name))), encoding="utf-8")
    return file


def judged(file: Path, *arguments: str) -> Done:
    """Check a saved machine, away from any configuration, and give the JSON report."""
    return fresh("check", "--from", str(file), "--format", "json", *arguments, cwd=file.parent)


def statuses(document: Any) -> dict[str, str]:
    """Map each rule's id to what became of it."""
    return {each["id"]: each["status"] for each in document["checks"]}


# Exit codes


def report(*, fired: str = "", essential: Status = Status.PASSED, interrupted: bool = False) -> Report:
    """Make a report with one finding of a severity and one essential rule with a status."""
    findings = (Finding("x", id="x", severity=Severity(fired)),) if fired else ()
    checks = (Check("x", "a", False, Status.FIRED if fired else Status.PASSED), Check("y", "a", True, essential, "why"))
    return Report(of(), findings, checks, None, Verdict.OK, interrupted)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (report(), {"error": 0, "warning": 0, "never": 0}),
        (report(fired="info"), {"error": 0, "warning": 0, "never": 0}),
        (report(fired="warning"), {"error": 0, "warning": 1, "never": 0}),
        (report(fired="error"), {"error": 1, "warning": 1, "never": 0}),
        (report(essential=Status.UNKNOWN), {"error": 3, "warning": 3, "never": 3}),
        (report(fired="warning", essential=Status.UNKNOWN), {"error": 3, "warning": 1, "never": 3}),
        (report(fired="error", essential=Status.UNKNOWN), {"error": 1, "warning": 1, "never": 3}),
        (report(essential=Status.NOT_APPLICABLE), {"error": 0, "warning": 0, "never": 0}),
        (report(fired="error", interrupted=True), {"error": 130, "warning": 130, "never": 130}),
        (Report(of(), (), (), None, Verdict.UNDETERMINED), {"error": 3, "warning": 3, "never": 3}),
    ],
)
def test_exit_code_follows_findings_then_what_is_open(made: Report, expected: dict[str, int]) -> None:
    """Findings at or above the threshold come before undetermined, and Ctrl-C before both."""
    assert expected == {fail_on: exits.code_for(made, fail_on) for fail_on in FAIL_ON}


def test_ignored_findings_do_not_fail() -> None:
    """An ignored error is shown and does not count."""
    made = report(fired="error")
    findings = tuple(replace(each, ignored=Ignored("known", "--ignore")) for each in made.findings)
    assert 0 == exits.code_for(replace(made, findings=findings), "warning")


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", demo.ABOUT)
def test_exit_code_is_the_same_for_every_format(name: str, format_: str, tmp_path: Path) -> None:
    """Each recorded machine ends every format with the code that its verdict means."""
    codes = {"ok": 0, "warnings": 0, "errors": 1, "undetermined": 3}
    file = recorded(tmp_path, name)
    expected = codes[judged(file).json["verdict"]]
    assert expected == fresh("check", "--from", str(file), "--format", format_, cwd=tmp_path).code


def test_fail_on_moves_the_threshold(tmp_path: Path) -> None:
    """--fail-on warning fails on warnings, --fail-on never on nothing."""
    broken = recorded(tmp_path, BROKEN)
    assert (1, 0) == (judged(broken).code, judged(broken, "--fail-on", "never").code)


# This machine


@pytest.mark.parametrize("format_", FORMATS)
def test_a_real_check_runs(format_: str, tmp_path: Path) -> None:
    """The default command examines this machine: stdout holds the report, stderr nothing, the code fits the verdict."""
    done = fresh("--level", "quick", "--format", format_, cwd=tmp_path)
    assert "" == done.err
    if format_ == "json":
        assert (done.json["level"], done.json["target"]["key"]) == ("quick", "this")
        assert {rule.id for rule in RULES} <= set(statuses(done.json))


def test_a_recorded_tree_is_read_instead_of_this_machine(tmp_path: Path) -> None:
    """--root points every probe at a recorded machine's own trees."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "os-release").write_text('ID=mars\nPRETTY_NAME="Mars 1"\n')
    done = fresh("check", "--level", "quick", "--root", str(tmp_path), "--format", "json", cwd=tmp_path)
    assert "Mars 1" == done.json["facts"]["facts"]["host"]["os_name"]


def test_only_starts_what_the_rules_need(tmp_path: Path) -> None:
    """A selection leaves out the processes whose facts no selected rule asks for: torch is not imported."""
    document = fresh("check", "--only", "shm-too-small", "--format", "json", cwd=tmp_path).json
    assert "torch-import" not in {each["name"] for each in document["probes"]}
    assert {"skipped"} == {status for id_, status in statuses(document).items() if id_ != "shm-too-small"}


@pytest.mark.parametrize(
    ("id_", "asked"), [("torch-import-crashes", True), ("probe-crashed", True), ("tf32-off", True)]
)
def test_only_starts_all_that_the_rules_judge(id_: str, asked: bool) -> None:
    """A rule about the run itself has the whole run, so that its proof of repair cannot pass for want of a probe."""
    known = catalogue.load()
    settled = Settings(selection=Selection(only=frozenset({id_})))
    names = {each.name for each in collecting.wanted(for_level("standard"), settled, known)}
    assert asked == bool(names & {"torch-import", "torch-settings"})


@pytest.mark.parametrize("rule", RULES, ids=lambda each: each.id)
def test_only_collects_every_fact_of_the_rule(rule: Rule) -> None:
    """Whatever a rule takes, needed or optional, is collected when it is selected alone."""
    settled = Settings(selection=Selection(only=frozenset({rule.id})))
    collected = {each.fact for each in collecting.wanted(BUILT_IN, settled, catalogue.load())}
    assert set() == {key_of(each.fact) for each in rule.inputs} & {each.fact for each in BUILT_IN} - collected


# Selection


def test_only_and_skip_take_ids_and_groups(machine: Path) -> None:
    """Groups are accepted in any case; what is left out says why."""
    document = judged(machine, "--only", "DRIVER", "--skip", OLD_DRIVER).json
    ran = {rule.id for rule in RULES if rule.group == "driver"} - {OLD_DRIVER}
    assert ran == {id_ for id_, status in statuses(document).items() if status != "skipped"}
    reasons = {each["id"]: each["reason"] for each in document["checks"]}
    assert f"left out by --skip {OLD_DRIVER}" == reasons[OLD_DRIVER]


@pytest.mark.parametrize("format_", FORMATS)
def test_selecting_nothing_is_undetermined_and_said(machine: Path, format_: str) -> None:
    """A selection that leaves no rule ends with 3 in every format, and says so."""
    arguments = ("--only", OLD_DRIVER, "--skip", "driver", "--format", format_)
    done = fresh("check", "--from", str(machine), *arguments, cwd=machine.parent)
    assert 3 == done.code
    assert "the selection is empty" in done.out
    assert ("the selection is empty" in done.err) == (format_ == "json")


def test_ignore_keeps_the_finding_and_its_reason(machine: Path) -> None:
    """An ignored finding is in the report with the reason and who gave it, and does not fail the run."""
    ids = sorted({each["id"] for each in judged(machine).json["findings"] if each["severity"] == "error"})
    ignores = [word for id_ in ids for word in ("--ignore", f"{id_}=known since May")]
    done = judged(machine, *ignores)
    assert 0 == done.code
    ignored = [each["ignored"] for each in done.json["findings"] if each["id"] in ids]
    assert [{"reason": "known since May", "by": "--ignore"}] * len(ignored) == ignored
    assert {"ignored"} == {statuses(done.json)[id_] for id_ in ids}


# Configuration


def test_configuration_is_found_and_the_command_line_beats_it(machine: Path) -> None:
    """A file beside the working directory applies; an option of the same name wins."""
    (machine.parent / "envdoctor.toml").write_text('fail-on = "never"\n')
    assert (0, 1) == (judged(machine).code, judged(machine, "--fail-on", "error").code)


def test_configured_level_and_timeout_apply(tmp_path: Path) -> None:
    """Level and timeout of the file are those of the run."""
    (tmp_path / "pyproject.toml").write_text('[tool.envdoctor]\nlevel = "quick"\n')
    assert "quick" == fresh("check", "--only", "system", "--format", "json", cwd=tmp_path).json["level"]


def test_ignore_in_the_file_names_the_file(machine: Path) -> None:
    """A finding that the file ignores says which file."""
    file = machine.parent / "envdoctor.toml"
    file.write_text(f'ignore = {{{OLD_DRIVER} = "new driver on Monday"}}\n')
    found = next(each for each in judged(machine).json["findings"] if each["id"] == OLD_DRIVER)
    assert {"reason": "new driver on Monday", "by": str(file)} == found["ignored"]


def test_expired_ignore_counts_again_and_is_said(machine: Path) -> None:
    """After its last day an ignore no longer holds; report and stderr say so."""
    file = machine.parent / "envdoctor.toml"
    file.write_text(f'ignore = {{{OLD_DRIVER} = {{reason = "soon", until = 2020-01-31}}}}\n')
    done = judged(machine)
    assert 1 == done.code
    expected = f"{file}: ignore of {OLD_DRIVER} ended on 2020-01-31, so it counts again (soon)"
    assert [expected] == done.json["notes"]
    assert f"envdoctor: {expected}\n" == done.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("levle = 1", "unknown key 'levle': did you mean 'level'?"),
        ('ignore = {driver-too-old = "x"}', f"ignore: unknown finding 'driver-too-old': did you mean '{OLD_DRIVER}'?"),
        ("level = ", "is not valid TOML"),
    ],
)
def test_wrong_configuration_is_a_usage_error(machine: Path, text: str, expected: str) -> None:
    """A mistake in the file names the file, the word and what was meant; exit 2."""
    file = machine.parent / "envdoctor.toml"
    file.write_text(text)
    done = judged(machine)
    assert (2, "") == (done.code, done.out)
    assert done.err.startswith(f"envdoctor: {file}: ")
    assert expected in done.err


def test_named_configuration_replaces_the_nearest(machine: Path) -> None:
    """--config reads that file and no other."""
    (machine.parent / "envdoctor.toml").write_text("nonsense")
    (machine.parent / "mine.toml").write_text('fail-on = "never"')
    assert 0 == judged(machine, "--config", "mine.toml").code


# Bad input


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--levl", "quick"], "unknown option '--levl': did you mean '--level'?"),
        (["--level", "quik"], "unknown level 'quik': did you mean 'quick'? expected one of quick, standard, deep"),
        (["--fail-on", "warn"], "unknown severity 'warn': did you mean 'warning'?"),
        (["--format", "jsom"], "unknown format 'jsom': did you mean 'json'?"),
        (["--show", "everything"], "unknown view 'everything': expected one of problems, all"),
        (["--only", "shm-to-small"], "--only: unknown finding or group 'shm-to-small': did you mean 'shm-too-small'?"),
        (["--skip", "drivers"], "--skip: unknown finding or group 'drivers': did you mean 'driver'?"),
        (["--only", "zzz"], "--only: unknown finding or group 'zzz': the nearest is "),
        (["--ignore", "shm-too-small"], "'shm-too-small' has no reason, expected ID=reason"),
        (["--ignore", "shm-too-small= "], "has no reason"),
        (["--ignore", "=x"], "--ignore: '=x' has no id, expected ID=reason"),
        (["--ignore", "shm-too-smal=x"], "--ignore: unknown finding 'shm-too-smal': did you mean 'shm-too-small'?"),
        (["--timeout", "0"], "'0' is not a number of seconds above 0"),
        (["--timeout", "nan"], "'nan' is not a number of seconds above 0"),
        (["--timeout", "3s"], "'3s' is not a number of seconds above 0"),
        (["--also", "report.json"], "'report.json' is not FORMAT:FILE, such as json:report.json"),
        (["--also", "jsn:x"], "unknown format 'jsn': did you mean 'json'?"),
        (["--also", "json:"], "'json:' is not FORMAT:FILE"),
        (["--also", "json:/nowhere/x"], "--also: '/nowhere/x' cannot be written: there is no directory /nowhere"),
        (["--also", "json:/tmp"], "--also: '/tmp' cannot be written: is a directory"),
        (["--config", "/nowhere.toml"], "/nowhere.toml: cannot be read: No such file or directory"),
        (["--python", "/nowhere"], "--python: '/nowhere' is not there, expected the path of a Python interpreter"),
        (["--python", "/etc/passwd"], "--python: '/etc/passwd' is not executable"),
        (["--root", "/nowhere"], "--root: '/nowhere' is no directory"),
        (["--from", "/nowhere"], "--from: cannot read /nowhere: No such file or directory"),
        (["--from", "/tmp"], "--from: cannot read /tmp: Is a directory"),
        (["--from", "x", "--level", "quick"], "--level says how to collect, and --from reads what was collected"),
        (["stray"], "unexpected extra argument (stray)"),
        (["--only"], "requires an argument"),
    ],
    ids=str,
)
def test_bad_input_names_the_value_and_what_was_meant(arguments: list[str], expected: str) -> None:
    """A wrong option, word, id or file is named with what was expected; nothing is collected; exit 2."""
    done = here("check", *arguments)
    assert (2, "") == (done.code, done.out)
    assert expected in done.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "nothing in it is of a known kind"),
        ("A text that says nothing of a machine.", "nothing in it is of a known kind"),
        ("[]", "nothing in it is of a known kind"),
        ("null", "nothing in it is of a known kind"),
        ('{"schema": "envdoctor.snapshot/2"}', "not a snapshot"),
        ('{"schema": "envdoctor.report/1"}', "not a snapshot"),
        ('{"schema": "envdoctor.snapshot/1", "facts": {"host": {"hostname": 3}}}', "fact host: "),
        ('{"schema": "envdoctor.snapshot/1", "facts": []}', "expected an envdoctor"),
        ('{"schema": "envdoctor.snapshot/1", "probes": [3]}', "expected an envdoctor"),
        ('{"schema": "envdoctor.snapshot/1", "probes": [{"outcome": "got"}]}', "no 'name'"),
        ('{"schema": "envdoctor.snapshot/1", "level": "low"}', "level is 'low'"),
        ("[" * 100_000, "nothing in it is of a known kind"),
        ('{"schema": "envdoctor.snapshot/1"' + "[" * 100_000, "not JSON"),
        ("\x00\x01", "nothing in it is of a known kind"),
    ],
    ids=lambda text: text[:40],
)
def test_from_refuses_what_is_no_snapshot(text: str, expected: str, tmp_path: Path) -> None:
    """A file that is not ours, or broken, is a usage error that names it and what was expected."""
    file = tmp_path / "x.json"
    file.write_text(text)
    done = here("check", "--from", str(file))
    assert (2, "") == (done.code, done.out)
    assert f"--from: {file}: " in done.err
    assert expected in done.err
    assert "expected an envdoctor snapshot or report" in done.err


def test_from_reads_reports_and_stdin(machine: Path) -> None:
    """A report is read as the snapshot inside it, and - is stdin; the result is the same."""
    first = judged(machine).out
    again = fresh("check", "--from", "-", "--format", "json", stdin=first, cwd=machine.parent)
    assert (first, 1) == (again.out, again.code)


# Files and streams


def test_also_writes_a_second_format(machine: Path) -> None:
    """Stdout has one format, the file the other; both from the same report."""
    file = machine.parent / "report.json"
    done = fresh(
        "check", "--from", str(machine), "--also", f"json:{file}", "--also", "terminal:report.txt", cwd=machine.parent
    )
    assert judged(machine).out == file.read_text()
    assert done.out == (machine.parent / "report.txt").read_text()


def test_written_files_follow_umask_and_leave_no_parts(machine: Path) -> None:
    """A file is put in place whole, with the permissions that the mask asks for; nothing is left beside it."""
    mask = os.umask(0o027)
    try:
        judged(machine, "--also", "json:r.json")
    finally:
        os.umask(mask)
    assert 0o640 == stat.S_IMODE((machine.parent / "r.json").stat().st_mode)
    assert {"r.json", machine.name} == {each.name for each in machine.parent.iterdir()}


def test_links_are_followed_and_devices_kept(machine: Path) -> None:
    """A link's target is written, not the link replaced; /dev/null stays a device."""
    real, link = machine.parent / "real.json", machine.parent / "link.json"
    link.symlink_to(real)
    judged(machine, "--also", f"json:{link}", "--also", "json:/dev/null")
    assert (True, "errors") == (link.is_symlink(), valid(real.read_text())["verdict"])
    assert Path("/dev/null").is_char_device()


def test_internal_failure_is_one_line(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of envdoctor itself ends with 4 and one line that says how to report it."""

    def fails(*_: Any) -> Any:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(check_command, "judge", fails)
    done = here("check", "--from", str(machine))
    assert (4, "") == (done.code, done.out)
    assert ["envdoctor: this is a fault of envdoctor itself: ZeroDivisionError: two lines."] == [
        done.err.partition(" Run it again")[0]
    ]
    assert (1, True) == (done.err.count("\n"), "https://" in done.err)


@pytest.mark.parametrize("how", ["--debug", "ENVDOCTOR_TRACEBACK"])
def test_traceback_is_shown_when_asked(machine: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """--debug and ENVDOCTOR_TRACEBACK=1 show where envdoctor failed."""
    monkeypatch.setattr(check_command, "judge", None)
    if how != "--debug":
        monkeypatch.setenv(how, "1")
    done = here("check", "--from", str(machine), *([how] if how == "--debug" else []))
    assert (4, True) == (done.code, "Traceback (most recent call last)" in done.err)


def test_broken_plugins_are_in_the_report(tmp_path: Path) -> None:
    """A plug-in that cannot be read is named in the report's facts and stops nothing."""
    folder = tmp_path / "broken_plugin-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: broken-plugin\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[envdoctor.rules]\nx = nowhere_at_all:rule\n")
    done = fresh("check", "--level", "quick", "--format", "json", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    (error,) = done.json["facts"]["plugin_errors"]
    assert "nowhere_at_all" in error


def test_snapshot_of_the_report_is_the_one_examined(machine: Path) -> None:
    """The facts in the report are those of the file, field for field."""
    facts = judged(machine).json["facts"]["facts"]
    assert json.loads(machine.read_text())["facts"] == facts


# Requirements


def unmet(done: Done) -> list[str]:
    """Name the requirements that are not met, and hold the exit code to them."""
    return [each["subject"] for each in done.json["findings"] if each["id"] == "requirement-not-met"]


def test_required_by_option_and_by_configuration(machine: Path) -> None:
    """A requirement counts wherever it is written; the option is put over the configuration."""
    config = machine.parent / "envdoctor.toml"
    config.write_text('[require]\ngpus = 64\npython = ">=3.99"\n', encoding="utf-8")
    only = ("--only", "requirement-not-met")
    assert (["gpus", "python"], exits.FINDINGS) == (unmet(done := judged(machine, *only)), done.code)
    over = judged(machine, *only, "--require", "gpus=0", "--require", "python>=3")
    assert ([], exits.OK) == (unmet(over), over.code)


def test_a_requirement_that_nobody_can_judge_is_undetermined(tmp_path: Path) -> None:
    """What is required and not known is no success."""
    file = tmp_path / "bare.json"
    file.write_text(write(to_plain(of())), encoding="utf-8")
    done = judged(file, "--only", "requirement-not-met", "--require", "driver>=1")
    assert ("undetermined", exits.UNDETERMINED) == (done.json["verdict"], done.code)


@pytest.mark.parametrize(
    ("word", "said"), [("gpu=8", "did you mean 'gpus'?"), ("torch=2.9", 'such as ">=2.9"'), ("torch", "gpus=8")]
)
def test_a_wrong_requirement_is_a_usage_error(machine: Path, word: str, said: str) -> None:
    """A misspelt or wrong requirement is refused before anything is collected."""
    done = judged(machine, "--require", word)
    assert (exits.USAGE, "", True) == (done.code, done.out, said in done.err)
