"""Rules about this machine's own normal, and about what a team agreed on: what is no longer as it was kept."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace

from envdoctor.facts.drift import Drift, Drifted, Slowed
from envdoctor.finding import Command, Evidence, Finding, Fix, Safety, Severity
from envdoctor.rule import NotApplicable, Rule, Unknown, rule

NONE_NAMED = "nothing to compare with was named: envdoctor check --against FILE, or envdoctor baseline check"
NOT_THERE = "not there"
# What decides whether training works and how fast; the rest of what differs is worth knowing.
MATTERS = ("driver", "CUDA", "torch", "Python", "kernel", "GPU", "library", "NVLinks", "container", "question")
SLOWED_BY = (
    "power-limit-lowered", "clocks-locked-low", "gpu-throttled-thermal", "gpu-throttled-power", "pcie-link-degraded",
    "gpu-in-use", "differs-from-baseline",
)  # fmt: skip
MOST_IN_TITLE, MOST_EVIDENCE = 4, 12


@rule(severity=Severity.WARNING, group="environment")
def differs_from_baseline(drift: Drift | None) -> Iterator[Finding]:
    """This machine is not as its baseline, or as the lock file of the team, says.

    ## What it means
    A fact has another value than when the baseline was saved, or a value that envdoctor.lock does not allow.

    ## Why it matters
    "It worked yesterday" and "it works on my machine" mostly have one line of this list as their reason.

    ## How it is detected
    Fact by fact. What changes by itself (free memory, temperatures, times) is left out, and so is what one of the two
    did not collect. Against a baseline, facts that tell one story (a driver and its libraries) are one finding;
    drivers, versions of torch and CUDA, GPUs and libraries are warnings, the rest is info. Against a lock file only
    what it names is compared, each value by its tolerance, and every difference is an error. With --strict, values
    must be exactly the same, nothing may be there beyond what the lock file names, and every difference is an error.

    ## What to do
    Go back to what was, or, when the change was meant, save the baseline or the lock file anew.

    ## Sources
    https://packaging.python.org/en/latest/specifications/version-specifiers/
    """
    if drift is None:
        raise NotApplicable(NONE_NAMED)
    if not drift.compared:
        raise Unknown(f"{drift.source} and this machine have no fact in common")
    packages = [each for each in drift.rows if each.key.startswith("package.")]
    for each in drift.rows:
        if len(packages) < 2 or each not in packages:
            yield _differs(drift, (each,), each.key, _title(each, drift))
    if len(packages) > 1:
        names = [each.key.removeprefix("package.") for each in packages]
        more = f" and {len(names) - MOST_IN_TITLE} more" if len(names) > MOST_IN_TITLE else ""
        title = f"{len(names)} packages are not those of {_what(drift)}: {', '.join(names[:MOST_IN_TITLE])}{more}"
        yield _differs(drift, tuple(packages), "packages", title)


def _differs(drift: Drift, rows: tuple[Drifted, ...], subject: str, title: str) -> Finding:
    firm = drift.kind == "lock" or drift.strict
    matters = any(each.about.startswith(MATTERS) for each in rows)
    also = [key for each in rows for key in each.also]
    return Finding(
        title,
        f"With it: {', '.join(also[:MOST_EVIDENCE])}{' …' if len(also) > MOST_EVIDENCE else ''}." if also else "",
        evidence=tuple(_seen(drift, each) for each in rows[:MOST_EVIDENCE]),
        fixes=tuple(replace(each, verify=_proof(drift, "differs-from-baseline")) for each in _ways(drift, rows)),
        subject=subject,
        severity=Severity.ERROR if firm else Severity.WARNING if matters else Severity.INFO,
    )


def _title(row: Drifted, drift: Drift) -> str:
    words = row.about if row.also or row.key.count(".") < 2 else f"{row.about} ({row.key.rpartition('.')[2]})"
    if row.expected is None:
        return f"{words}: {_shown(row.found)}, which is not in {_what(drift)}"
    how = {"at-least": "at least ", "same-minor": "the series of "}.get(row.tolerance, "")
    return f"{words}: {_shown(row.found)}, but {how}{_shown(row.expected)} in {_what(drift)}"


def _shown(value: str | None) -> str:
    text = NOT_THERE if value is None else value or "(empty)"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _what(drift: Drift) -> str:
    if drift.kind == "lock":
        return drift.source.rpartition("/")[2] or "the lock file"
    return f"the baseline of {drift.saved[:10]}" if drift.saved else "the baseline"


def _seen(drift: Drift, row: Drifted) -> Evidence:
    value = (
        f"{_shown(row.found)} (was {_shown(row.expected)})"
        if drift.kind == "baseline"
        else (f"{_shown(row.found)} (wanted {_shown(row.expected)}, {row.tolerance})")
    )
    return Evidence(f"drift.rows[{row.key}]", value, drift.source, "file", row.about)


def _ways(drift: Drift, rows: tuple[Drifted, ...]) -> Iterator[Fix]:
    pinned = [f"{each.key.removeprefix('package.')}=={each.expected}" for each in rows if _is_package(each)]
    if pinned:
        command = Command(None, f"python -m pip install {' '.join(map(shlex.quote, pinned))}")
        yield Fix("Install what was there", (command,), Safety.SAFE, "this Python's own packages")
    unwanted = [each for each in rows if each.key.startswith("variable.") and each.expected is None]
    if unwanted:
        names = " ".join(each.key.removeprefix("variable.") for each in unwanted)
        yield Fix("Unset it for this shell", (Command(None, f"unset {names}"),), Safety.SAFE, "this shell")
    for each in rows:
        if each.key.startswith("variable.") and each.expected is not None:
            told = f"export {each.key.removeprefix('variable.')}={shlex.quote(each.expected)}"
            yield Fix("Set it as it was", (Command(None, told),), Safety.SAFE, "this shell")
    if drift.kind == "lock":
        again = "envdoctor baseline save --lock"
        yield Fix("Write the lock file anew, if the change is meant", (Command(None, again),), Safety.SAFE, "that file")
    else:
        look = f"envdoctor diff {shlex.quote(drift.source)}"
        yield Fix("See everything that changed, and what that explains", (Command(None, look),), Safety.SAFE, "nothing")
        again = "envdoctor baseline save"
        yield Fix(
            "Save it as the new normal, if the change is meant", (Command(None, again),), Safety.SAFE, "the baseline"
        )


def _proof(drift: Drift, rule_id: str) -> str:
    strict = " --strict" if drift.strict else ""
    return f"envdoctor check --only {rule_id} --against {shlex.quote(drift.source)}{strict}"


def _is_package(row: Drifted) -> bool:
    return row.key.startswith("package.") and row.expected is not None and "+" not in row.expected


@rule(severity=Severity.WARNING, group="measured", explained_by=SLOWED_BY)
def slower_than_baseline(drift: Drift | None) -> Iterator[Finding]:
    """A measurement is slower than when the baseline was saved.

    ## What it means
    The same operation, with the same configuration, takes longer on this machine than it did.

    ## Why it matters
    Nothing else needs to have failed: a lowered power limit, a card in another slot, a new library or a warm room each
    cost a part of the speed without a word.

    ## How it is detected
    The samples of then and now are compared by their intervals, not by their medians alone. It fires only where the
    intervals part; where they overlap too much the answer is ambiguous and no finding. What a lower clock explains is
    one from 5 % on, and named: below that, clocks wander with the temperature.

    ## What to do
    Look at what else differs from the baseline. Measure again when the machine is idle.

    ## Sources
    https://github.com/NVIDIA/nvbench
    """
    if drift is None or not drift.measured:
        raise NotApplicable(NONE_NAMED if drift is None else "the two hold no measurement of the same kind")
    if drift.ambiguous == drift.measured:
        raise Unknown(f"all {drift.measured} measurements are ambiguous: their samples overlap too much")
    for each in drift.slower:
        yield Finding(
            f"{each.name} gives {_rate(each.after, each.unit)}, it gave {_rate(each.before, each.unit)}{_by(each)}",
            f"{each.why[0].upper()}{each.why[1:]}." if each.why else "",
            evidence=(
                Evidence("drift.slower", _rate(each.before, each.unit), drift.source, "file", f"on {drift.saved[:10]}"),
                Evidence("drift.slower", _rate(each.after, each.unit), "this measurement", "fresh-process", "now"),
                Evidence("drift.slower", _interval(each), "intervals of the samples", "fresh-process", "times as fast"),
            ),
            fixes=(
                Fix(
                    "See what else changed since",
                    (Command(None, f"envdoctor diff {shlex.quote(drift.source)}"),),
                    Safety.SAFE,
                    "nothing: it only compares",
                    verify=_proof(drift, "slower-than-baseline"),
                ),
            ),
            subject=" ".join(filter(None, (each.name, each.conditions))),
        )


def _rate(value: float | None, unit: str) -> str:
    return "unknown" if value is None else f"{value:.4g} {unit}"


def _by(each: Slowed) -> str:
    return f" ({1 - each.speedup:.0%} less)" if each.speedup and each.speedup < 1 else ""


def _interval(each: Slowed) -> str:
    if each.lowest is None or each.highest is None or each.speedup is None:
        return f"{each.speedup:.3g}" if each.speedup else "unknown"
    return f"{each.speedup:.3g} ({each.lowest:.3g} to {each.highest:.3g})"


RULES: tuple[Rule, ...] = (differs_from_baseline, slower_than_baseline)
