"""The rule about facts that are not complete: whom a run could not reach, what cut it short, what a file lacks."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath

from envdoctor.facts.job import ANOTHER_ASKED_FOR, Job
from envdoctor.facts.run import INTERRUPTED, ProbeEnd, ProbeRun
from envdoctor.finding import Command, Evidence, Finding, Fix, Safety, Severity, headline, see
from envdoctor.rule import rule

ANSWERED = frozenset({"got", "absent"})
SEVERAL = 3  # questions; two may well meet the same error by themselves
LONGEST_WORDS = 600
_NEEDS_PERSON = re.compile(
    r"permission denied|host key verification|password|passphrase|terminal is required|not a tty|authentication",
    re.IGNORECASE,
)
_NO_PYTHON = re.compile(
    r"exit code 12[67]:|not found|no such file|is not recognized|needed$|too old to be examined", re.IGNORECASE
)
_NOTHING_SAID = "exit code 0: it said nothing"
_NO_TIME = re.compile(r"^(not started|interrupted)|did not begin within")


@rule(severity=Severity.WARNING, group="doctor")
def snapshot_partial(run: ProbeRun, job: Job | None) -> Iterator[Finding]:
    """The facts are not complete: somebody was not reached, the run was cut short, or a file holds less than it should.

    ## What it means
    The patient was not reached, its Python did not start, the link to it ended, or the run was interrupted or out of
    time. Or the Python of a running job could not be asked, and torch and packages are those of another one. Or a saved
    file does not hold what its probes answered, or holds facts that only another version of envdoctor knows.

    ## Why it matters
    Rules that need what is missing say unknown. Half of the facts are no clean bill of health, and two machines must
    not be compared by them.

    ## How it is detected
    Three or more questions that ended without an answer, for the same reason: the words are those of the program that
    was to lead there. The run's own mark with the questions that it left open, and the keys of the file against the
    outcomes of its probes and the facts that this version knows. Facts of another version alone are info. Of a job
    (--pid): its executable, its owner and its mount namespace; a Python that --python names is taken as it is.

    ## What to do
    Run the command by hand that leads there. It gets no terminal and no password from envdoctor: what asks for one
    must be given a key or an agent. "python3" is what is started there unless --python names another one. Of a file
    that is not complete, take the snapshot again, or read it with the version that wrote it. Of a job, start envdoctor
    as its user and in its container, or name its Python.

    ## Sources
    https://man.openbsd.org/ssh_config#BatchMode
    https://docs.docker.com/reference/cli/docker/container/exec/
    """
    ends = sum(each.reason.startswith(INTERRUPTED) for each in run.probes)
    if run.interrupted and ends:
        left = f"{ends} question{'s' if ends > 1 else ''} without an answer"
        shown = Evidence("probe_run.interrupted", left, "this run", "", "interrupted")
        yield Finding("The run was interrupted before all was known", "", (shown,), (_again(),), "interrupted")
    for reason, ends_alike in cut_short(run).items():
        if not (run.interrupted and reason.startswith(INTERRUPTED)):
            yield _unanswered(run, reason, ends_alike)
    if job is not None and not job.ended and job.another_python not in {"", ANOTHER_ASKED_FOR}:
        yield _of_another_python(run, job)
    for field, names in (("lost", run.lost), ("left_out", run.left_out)):
        if names:
            yield _incomplete(run, field, names)


def _unanswered(run: ProbeRun, reason: str, ends: list[ProbeEnd]) -> Finding:
    names = ", ".join(end.name for end in ends)
    nobody = len(ends) == len(run.probes)
    what = "This patient could not be examined" if nobody else f"{len(ends)} questions were not answered"
    words = ends[0].detail.strip()[-LONGEST_WORDS:]
    return Finding(
        f"{what}: {headline(reason)}",
        "" if words in reason else words,
        evidence=(
            Evidence("probe_run.probes", reason, run.via or run.python or "this run", "fresh-process", "reason"),
            *(() if nobody else (Evidence("probe_run.probes", names, "this run", "fresh-process", "not answered"),)),
        ),
        fixes=_ways_out(reason, run) or (_again(),),
        subject="" if nobody else ends[0].name,
    )


def _of_another_python(run: ProbeRun, job: Job) -> Finding:
    inside = f"sudo -n nsenter --target {job.pid} --all"
    named = f"envdoctor check --pid {job.pid} --python /path/of/its/python"
    looks = [replace(_look("Name the Python that it runs", named), verify=f"{named} --only snapshot-partial")]
    if job.other_mount_namespace:
        there = f"envdoctor check --via {shlex.quote(inside)}"
        looks.insert(0, replace(_look("Examine the python3 that it sees", there), verify=there))
    return Finding(
        f"Torch and packages are not those of process {job.pid}: {headline(job.another_python)}",
        evidence=(
            see(job, "executable", "the job runs"),
            Evidence("probe_run.python", run.python, "this run", "fresh-process", "asked was"),
        ),
        fixes=tuple(looks),
        subject="job",
    )


def _incomplete(run: ProbeRun, field: str, names: tuple[str, ...]) -> Finding:
    listed = ", ".join(names[:6]) + (" …" if len(names) > 6 else "")
    lost = field == "lost"
    shown = Evidence(f"probe_run.{field}", listed, f"the file, written by envdoctor {run.made_by}", "file", "facts")
    other = Command(None, f"python -m pip install torch-envdoctor=={shlex.quote(run.made_by)}")
    with_theirs = Fix("Read it with the version that wrote it", (other,), Safety.SAFE, "envdoctor itself")
    return Finding(
        f"The file does not hold {listed}, which its probes answered"
        if lost
        else f"The file holds facts that this envdoctor does not know: {listed}",
        evidence=(shown,),
        fixes=(_again(),) if lost or not run.made_by else (with_theirs, _again()),
        subject="lost" if lost else "other-version",
        severity=None if lost else Severity.INFO,
    )


def _again() -> Fix:
    command = Command(None, "envdoctor snapshot -o snapshot.json")
    return Fix("Take the snapshot again, on that machine", (command,), Safety.SAFE, "nothing: it only asks")


def cut_short(run: ProbeRun) -> dict[str, list[ProbeEnd]]:
    """Give what ended without an answer by the reason that it shares with others."""
    found: dict[str, list[ProbeEnd]] = defaultdict(list)
    for end in run.probes:
        if end.outcome not in ANSWERED and end.was_asked and not end.unkillable:
            found[end.reason].append(end)
    return {reason: ends for reason, ends in found.items() if len(ends) >= SEVERAL}


def _ways_out(reason: str, run: ProbeRun) -> tuple[Fix, ...]:
    if _NO_TIME.search(reason):
        return (_look("Ask again with more time", f"envdoctor check{_there(run)} --timeout 600"), *_by_hand(run))
    if not run.via:
        return _by_hand(run)
    if _NEEDS_PERSON.search(reason):
        return (_look("Give it a key or an agent; this must work without a question", _without_questions(run.via)),)
    if _NOTHING_SAID in reason:
        return (_look("Pass its input on: docker, podman and kubectl need -i", f"{run.via} cat </dev/null"),)
    if _NO_PYTHON.search(reason):
        other = f"envdoctor check --via {shlex.quote(run.via)} --python /opt/conda/bin/python3"
        return (_look("Name a Python that is there, 3.8 or newer", other), *_by_hand(run))
    return _by_hand(run)


def _by_hand(run: ProbeRun) -> tuple[Fix, ...]:
    command = " ".join(filter(None, (run.via, shlex.quote(run.python) if run.python else "", "-V")))
    return (_look("See by hand what happens", command),) if run.python else ()


def _without_questions(via: str) -> str:
    """Give a command that ends at once when it has a question."""
    first, _, rest = via.partition(" ")
    told = {"ssh": "ssh -o BatchMode=yes", "sudo": "sudo -n"}.get(PurePath(first).name, first)
    return f"{told} {rest} true".replace("  ", " ")


def _there(run: ProbeRun) -> str:
    if run.via:
        return f" --via {shlex.quote(run.via)}"
    return f" --python {shlex.quote(run.python)}" if run.python and not run.ours else ""


def _look(title: str, shell: str) -> Fix:
    return Fix(title, (Command(None, shell),), Safety.SAFE, "nothing: it only asks again")


RULES = (snapshot_partial,)
