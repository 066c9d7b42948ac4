"""Rules about the run itself: questions that died, took too long or cannot be ended, and plug-ins that broke."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from envdoctor.facts.run import ProbeEnd, ProbeRun
from envdoctor.finding import Command, Evidence, Finding, Fix, Safety, Severity, headline
from envdoctor.rule import rule
from envdoctor.rules.partial import cut_short

# Questions asked in a process that imports torch: a finding about the import says what happened there, and why.
ASKED_OF_TORCH = frozenset({"torch-import", "torch-cuda", "torch-settings"})
IMPORT_FINDINGS = ("torch-import-crashes", "torch-import-hangs", "torch-import-fails", "torch-install-damaged")
DRIVER_FINDINGS = ("driver-library-mismatch", "gpu-lost", "xid-errors", "gpu-hardware-fault")
ASKED_OF_DRIVER = frozenset({"cuda-driver", "cuda-runtime", "nvidia-smi", "gpu-state", "gpu-fabric"})
LONGEST_WORDS = 600


@rule(severity=Severity.WARNING, group="doctor")
def probe_crashed(run: ProbeRun) -> Iterator[Finding]:
    """A question to this machine ended the process that asked it.

    ## What it means
    envdoctor asks in processes of its own. One of them died before it answered: by a signal, by an exit in the middle,
    or by an exception that nobody expected.

    ## Why it matters
    What that question would have told is unknown, and the rules that need it say so. What kills it here will most
    likely kill a training program too.

    ## How it is detected
    The process ended without an answer. The signal, the exit code, the Python stack and the last words are kept.

    ## What to do
    Read the words. Where another finding names the cause, begin there. An exception inside envdoctor itself is a
    defect: please report it.

    ## Sources
    https://docs.python.org/3/library/faulthandler.html
    """
    cut = cut_short(run)
    for end in run.probes:
        if end.outcome in {"crashed", "failed"} and end.was_asked and end.reason not in cut:
            how = "died" if end.outcome == "crashed" else "stopped with an error"
            yield Finding(
                f"The question {end.name} {how}: {headline(end.reason)}",
                _last_words(end),
                evidence=(_outcome(end),),
                fixes=(_ask_again(end),),
                subject=end.name,
                caused_by=_explained_by(end),
            )


@rule(severity=Severity.WARNING, group="doctor")
def probe_timed_out(run: ProbeRun) -> Iterator[Finding]:
    """A question to this machine was not answered in time.

    ## What it means
    The process that asked was still at work, or stood still, at its deadline, and was ended.

    ## Why it matters
    What it would have told is unknown. A first import of torch from a cold or shared disk can take a minute: slow is
    not broken. A driver that does not answer is.

    ## How it is detected
    The deadline of the question, or of the whole run. It is called hung only when two samples show the same stack and
    no progress of CPU time, input, output or page faults between them.

    ## What to do
    Ask again with more time. If it is slow again, the stack in the report shows where.

    ## Sources
    https://docs.python.org/3/library/faulthandler.html
    """
    cut = cut_short(run)
    for end in run.probes:
        if end.outcome == "timed-out" and not end.unkillable and end.reason not in cut:
            how = "hangs" if end.hung else f"gave no answer in {end.seconds:.0f} s"
            yield Finding(
                f"The question {end.name} {how}",
                _last_words(end),
                evidence=(_outcome(end),),
                fixes=(_more_time(),),
                subject=end.name,
                caused_by=_explained_by(end),
            )


@rule(severity=Severity.WARNING, group="doctor")
def probe_unkillable(run: ProbeRun) -> Iterator[Finding]:
    """A process that asked this machine something cannot be ended, even by SIGKILL.

    ## What it means
    It is stuck inside the kernel, mostly in a call into the GPU driver (state D). It stays until that call returns.

    ## Why it matters
    Every program that makes the same call is likely to get stuck as well, and to hold its memory and its GPU.

    ## How it is detected
    SIGKILL was sent, and the process was still there after a wait with a limit. envdoctor went on without it.

    ## What to do
    Read the kernel's log. A restart ends such a process; often nothing else does.

    ## Sources
    https://docs.kernel.org/filesystems/proc.html
    """
    for end in run.probes:
        if end.outcome == "timed-out" and end.unkillable:
            yield Finding(
                f"The process that asked {end.name} cannot be ended",
                _last_words(end),
                evidence=(_outcome(end),),
                fixes=(_kernel_log(),),
                subject=end.name,
                caused_by=DRIVER_FINDINGS,
            )


@rule(severity=Severity.WARNING, group="doctor")
def plugin_broken(run: ProbeRun) -> Iterator[Finding]:
    """A plug-in for envdoctor is installed and cannot be used.

    ## What it means
    A distribution declares probes or rules for envdoctor, and its declaration cannot be read or its module not
    imported.

    ## Why it matters
    What it would have checked was not checked. Everything else was.

    ## How it is detected
    Entry points are read one distribution at a time, so that one broken plug-in spoils no other.

    ## What to do
    Install the plug-in again in a version that fits this envdoctor, or remove it.

    ## Sources
    https://packaging.python.org/en/latest/specifications/entry-points/
    """
    names = dict.fromkeys(_distribution(each) for each in run.plugin_errors)
    for name in names:
        told = [each for each in run.plugin_errors if _distribution(each) == name]
        shown = (Evidence("probe_run.plugin_errors", each, "entry points", "fresh-process", name) for each in told)
        title = f"The plug-in {name} is broken"
        yield Finding(title, "\n".join(told), evidence=tuple(shown), fixes=(_remove(name),), subject=name)


def _distribution(error: str) -> str:
    """Give the distribution that an error is about: ``some-plugin 1.0: …`` -> ``some-plugin``."""
    return (error.partition(":")[0].split() or ["plug-in"])[0]


def _explained_by(end: ProbeEnd) -> tuple[str, ...]:
    """Name the findings that, if they fired, explain this end."""
    if end.name in ASKED_OF_TORCH:
        return IMPORT_FINDINGS
    return DRIVER_FINDINGS if end.name in ASKED_OF_DRIVER else ()


def _outcome(end: ProbeEnd) -> Evidence:
    words = f"{end.outcome}: {end.reason}" if end.reason else end.outcome
    return Evidence("probe_run.probes", words, f"probe {end.name}", "fresh-process", end.name)


def _last_words(end: ProbeEnd) -> str:
    """Give the end of what the process printed, where the reason for its end mostly stands."""
    return end.detail.strip()[-LONGEST_WORDS:]


def _ask_again(end: ProbeEnd) -> Fix:
    shell = (
        "python -X faulthandler -c 'import torch'" if end.name in ASKED_OF_TORCH else "envdoctor check --format json"
    )
    return Fix("See it in full", (Command(None, shell),), Safety.SAFE, "nothing: it only asks again")


def _more_time() -> Fix:
    again = Command(None, "envdoctor check --timeout 600")
    return Fix("Ask again with more time", (again,), Safety.SAFE, "nothing: it only asks again")


def _kernel_log() -> Fix:
    look = Command(None, "sudo dmesg | grep -i -E 'nvrm|xid|blocked for more than' | tail -n 30")
    return Fix(
        "Read the kernel's log, then restart the machine",
        (look,),
        Safety.ADMIN,
        "nothing: it only reads",
        needs_root=True,
    )


def _remove(name: str) -> Fix:
    command = Command(None, f"python -m pip uninstall {shlex.quote(name)}")
    return Fix("Remove the plug-in, or install a version that fits", (command,), Safety.SAFE, "this environment only")


RULES = (probe_crashed, probe_timed_out, probe_unkillable, plugin_broken)
