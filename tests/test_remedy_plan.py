"""The plan of fixes and its script: what comes first, what is left to the person, and that no text is run."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from envdoctor import demo
from envdoctor.diagnose import examine
from envdoctor.finding import Command, Fix, Ignored, Safety, Severity
from envdoctor.remedy.plan_of_fixes import Plan, plan, waits_for, why_not_run
from envdoctor.remedy.script import script
from envdoctor.render.untrusted import one_line
from tests.fix_stand import command, finding, packages, way

SAFE = way("Change the wheel", command("pip", "install", "x"))
ADMIN = way("Ask root", command("sudo", "x"), safety=Safety.ADMIN, needs_root=True)
DRIVER = way(
    "Renew the driver", command("sudo", "apt", "y"), Command(None, "sudo reboot"), safety=Safety.DISRUPTIVE,
    needs_root=True, needs_reboot=True,
)  # fmt: skip


def titles(planned: Plan) -> list[str]:
    """Name the steps in order."""
    return [each.fix.title for each in planned.steps]


def write(planned: Plan) -> str:
    """Write the script, and hold it to the shell's grammar."""
    text = script(planned, "a machine", one_line)
    done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    return text


def live(text: str) -> list[str]:
    """Give the lines that a shell would run."""
    return [line for line in text.splitlines() if line and not line.startswith("#") and line != "set -e"]


def test_safe_before_admin_before_disruptive() -> None:
    """Among findings that do not depend on each other the safest fix comes first; equals keep the reading order."""
    other = way("Another wheel", command("pip", "install", "z"))
    planned = plan([finding("a", DRIVER), finding("b", ADMIN), finding("c", SAFE), finding("d", other)])
    assert ["Change the wheel", "Another wheel", "Ask root", "Renew the driver"] == titles(planned)


def test_causes_before_consequences() -> None:
    """A cause comes before what follows from it, however disruptive its fix is."""
    planned = plan([finding("a", SAFE, caused_by=("b",)), finding("b", DRIVER)])
    assert ["Renew the driver", "Change the wheel"] == titles(planned)
    assert [(), ("b",)] == [each.after for each in planned.steps]


def test_causes_in_a_circle_hold_nobody_up() -> None:
    """Findings that name each other as cause are both planned."""
    first, second = finding("a", ADMIN, caused_by=("b",)), finding("b", SAFE, caused_by=("a",))
    assert ["Change the wheel", "Ask root"] == titles(plan([first, second]))


def test_the_first_way_is_taken_and_the_others_are_kept() -> None:
    """One way a finding: its first; the others stay as alternatives."""
    (step,) = plan([finding("a", SAFE, DRIVER)]).steps
    assert (SAFE, (DRIVER,)) == (step.fix, step.alternatives)


def test_same_commands_are_one_step() -> None:
    """Two findings with the same commands share a step, and their other ways are put together, each once."""
    (step,) = plan([finding("a", SAFE, DRIVER), finding("b", SAFE, DRIVER, ADMIN)]).steps
    assert (("a", "b"), (DRIVER, ADMIN)) == (step.keys, step.alternatives)


def test_a_shared_step_stands_alone_when_one_finding_has_no_cause() -> None:
    """A step that one finding needs for itself does not wait for another finding's cause."""
    planned = plan([finding("a", SAFE, caused_by=("c",)), finding("b", SAFE), finding("c", ADMIN)])
    assert [(("a", "b"), ()), (("c",), ())] == [(each.keys, each.after) for each in planned.steps]


def test_notes_and_ignored_findings_ask_for_nothing() -> None:
    """Severity info is left out unless it is named; ignored findings always are."""
    note = finding("a", SAFE, severity=Severity.INFO)
    ignored = replace(finding("b", ADMIN), ignored=Ignored("one worker", "--ignore"))
    assert (0, 1) == (len(plan([note, ignored]).steps), len(plan([note, ignored]).notes))
    assert ["Change the wheel"] == titles(plan([note, ignored], frozenset({"a"})))


def test_named_findings_alone_are_planned() -> None:
    """An id names all findings of a rule, a key one of them."""
    several = [finding("a@0", SAFE), finding("a@1", ADMIN), finding("b", DRIVER)]
    assert 2 == len(plan(several, frozenset({"a"})).steps)
    assert ["Ask root"] == titles(plan(several, frozenset({"a@1"})))


def test_a_finding_without_a_way_is_told() -> None:
    """What has no fix is not lost."""
    assert ["a"] == [each.key for each in plan([finding("a")]).unfixable]
    assert "#    a: a is so   (envdoctor explain a)" in write(plan([finding("a")]))


@pytest.mark.parametrize(
    ("fix", "kind", "words"),
    [
        (SAFE, "venv", ""),
        (SAFE, "conda", ""),
        (SAFE, "system", "this Python is no virtual environment (system)"),
        (ADMIN, "venv", "admin: this environment only"),
        (DRIVER, "venv", "disruptive: this environment only"),
        (way("x", Command(None, "unset X")), "venv", "it is for your own shell to type"),
        (way("x"), "venv", "there is no command for it"),
    ],
)
def test_what_may_be_run(fix: Fix, kind: str, words: str) -> None:
    """Run are safe steps with argument lists in a virtual environment; anything else says why not."""
    (step,) = plan([finding("a", fix)]).steps
    assert words == why_not_run(step, packages(kind=kind))


def test_nothing_is_run_where_the_environment_is_not_known() -> None:
    """Without the facts of the packages there is no list to go back to."""
    (step,) = plan([finding("a", SAFE)]).steps
    assert "this Python is no virtual environment (its kind is not known)" == why_not_run(step, None)


def test_a_consequence_waits_for_its_cause() -> None:
    """While the cause is there, what follows from it is not touched."""
    both = (finding("a", SAFE, caused_by=("b",)), finding("b", ADMIN))
    step = plan(both).steps[1]
    assert ("b", "") == (waits_for(step, both), waits_for(step, both[:1]))


def test_script_runs_safe_and_admin_and_leaves_the_rest_asleep() -> None:
    """Disruptive steps, consequences, alternatives and the restart stand in comments; the restart once, at the end."""
    text = write(plan([
        finding("a", DRIVER), finding("b", SAFE, ADMIN), finding("c", ADMIN),
        finding("d", way("Later", command("pip", "later")), caused_by=("a",)),
    ]))  # fmt: skip
    assert ["pip install x", "sudo x"] == live(text)
    assert (1, text.splitlines()[-1]) == (text.count("sudo reboot"), "# sudo reboot")
    assert "# pip later\n" in text
    assert "#    Or: Ask root (admin; needs root)\n#      sudo x\n" in text


def test_script_of_a_healthy_machine_says_so() -> None:
    """Nothing to do is a script too."""
    assert "#!/bin/sh\n# envdoctor fix: a machine\n# Nothing to do.\n" == write(plan([]))


def test_no_text_of_a_finding_becomes_a_command() -> None:
    """Line ends and escapes in titles, keys and commands stay inside their comment."""
    bad = "x\nrm -rf /\r\x1b[2J\u2028ls"
    evil = Fix(bad, (Command((bad,), f"echo '{bad}'"),), Safety.SAFE, bad, verify=bad)
    text = write(plan([finding(f"a@{bad}", evil, evil, title=bad, caused_by=(bad,)), finding("b", title=bad)]))
    assert [] == live(text)
    assert "\x1b" not in text


@pytest.mark.parametrize("name", demo.ABOUT)
def test_scripts_of_the_demo_machines(name: str) -> None:
    """Each recorded machine's script is valid shell, and holds the commands of each first fix."""
    report = examine(demo.load(name))
    planned = plan(report.active)
    text = write(planned)
    wanted = [c.shell for step in planned.steps for c in step.commands]
    assert [] == [each for each in wanted if each not in text]


def test_a_line_for_a_file_is_a_comment_once() -> None:
    """What is to be written into a file by hand is shown as it is, and run by no shell."""
    wish = way("Ask for it", Command(None, "# requirements.txt: torch==2.9.0+cu126"), safety=Safety.DISRUPTIVE)
    text = write(plan([finding("a", wish)]))
    assert ("\n# requirements.txt: torch==2.9.0+cu126\n" in text, []) == (True, live(text))
