"""render(report) -> metrics in Prometheus' text format, for node_exporter's textfile collector.

Labels are few and bounded: ids, severities, statuses, and the versions that name a machine's stack. Write the file
with ``--also prometheus:FILE``: it is replaced whole, so that a scrape never reads a part.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import TYPE_CHECKING, Any

from envdoctor.finding import Severity, Status, Verdict
from envdoctor.render import machine_words
from envdoctor.render.written import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from envdoctor.finding import Report

LONGEST_LABEL = 120
OUTCOMES = ("got", "absent", "failed", "crashed", "timed-out")
Sample = tuple[dict[str, str], float]


def render(report: Report, **_view: Any) -> str:
    """Give the report as metrics; it does not depend on the terminal."""
    return "".join(_metrics(report))


def _metrics(report: Report) -> Iterator[str]:
    snapshot = report.snapshot
    about = {"version": snapshot.tool_version, "level": snapshot.level, "target": snapshot.target.key}
    yield gauge("envdoctor_info", "The doctor that looked, and how closely.", [(about, 1)])
    yield gauge("envdoctor_stack_info", "What was looked at, in words.", [(_stack(report), 1)])
    verdicts = [({"verdict": each.value}, report.verdict is each) for each in Verdict]
    yield gauge("envdoctor_verdict", "1 for the verdict of the last run, 0 for the others.", verdicts)
    primary = [({"key": report.primary}, 1.0)] if report.primary else []
    yield gauge("envdoctor_primary_info", "The finding to read first, where there is one.", primary)
    yield gauge("envdoctor_findings", "Findings that count, by severity.", _findings(report))
    yield gauge("envdoctor_finding", "How often a finding holds, by its id.", _by_id(report))
    yield gauge("envdoctor_checks", "Checks by what became of them.", _checks(report))
    yield gauge("envdoctor_probes", "Probes by what became of them.", _probes(report))
    yield gauge("envdoctor_run_seconds", "Length of the last run.", [({}, snapshot.elapsed_seconds)])
    yield gauge("envdoctor_overhead_seconds", "The part that was not the machine's.", [({}, snapshot.overhead_seconds)])
    yield gauge("envdoctor_created_timestamp_seconds", "When the last run was.", _created(report))


def gauge(name: str, about: str, samples: Iterable[Sample]) -> str:
    """Give one metric with its help and type; nothing where it has no sample."""
    lines = [f"{name}{_labels(labels)} {float(value):.10g}" for labels, value in samples]
    return "\n".join([f"# HELP {name} {about}", f"# TYPE {name} gauge", *lines]) + "\n" if lines else ""


def _labels(labels: dict[str, str]) -> str:
    told = ",".join(f'{name}="{_value(value)}"' for name, value in labels.items())
    return f"{{{told}}}" if told else ""


def _value(text: str) -> str:
    """Give a label's value: one bounded line; the format escapes backslash, quote and line end."""
    return clean(text, LONGEST_LABEL).replace("\\", "\\\\").replace('"', '\\"')


def _stack(report: Report) -> dict[str, str]:
    snapshot = report.snapshot
    names = ("system", "python", "torch", "gpus", "driver")
    return {name: getattr(machine_words, name)(snapshot) for name in names}


def _findings(report: Report) -> list[Sample]:
    found = Counter(each.severity or Severity.INFO for each in report.active)
    ignored = len(report.findings) - len(report.active)
    return [*(({"severity": each.value}, float(found[each])) for each in Severity), ({"severity": "ignored"}, ignored)]


def _by_id(report: Report) -> list[Sample]:
    found = Counter((each.id, (each.severity or Severity.INFO).value) for each in report.active)
    return [({"id": id_, "severity": severity}, float(n)) for (id_, severity), n in sorted(found.items())]


def _checks(report: Report) -> list[Sample]:
    return [({"status": each.value}, float(report.count(each))) for each in Status]


def _probes(report: Report) -> list[Sample]:
    found = Counter(each.outcome.name for each in report.snapshot.probes)
    return [({"outcome": each}, float(found[each])) for each in OUTCOMES]


def _created(report: Report) -> list[Sample]:
    try:
        return [({}, dt.datetime.fromisoformat(report.snapshot.created).timestamp())]
    except ValueError:  # a snapshot of somebody else's making
        return []
