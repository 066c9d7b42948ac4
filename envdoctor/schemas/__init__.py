"""The JSON Schemas (draft 2020-12) of everything that envdoctor writes as JSON. They ship with the package.

A schema that refers to another one carries it: ``load`` gives a document that can be validated against as it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILES = {
    "envdoctor.bench-diff/1": "bench-diff-1.json",
    "envdoctor.bench/1": "bench-1.json",
    "envdoctor.diff/1": "diff-1.json",
    "envdoctor.event/1": "event-1.json",
    "envdoctor.fix/1": "fix-1.json",
    "envdoctor.fleet/1": "fleet-1.json",
    "envdoctor.list/1": "list-1.json",
    "envdoctor.report/1": "report-1.json",
    "envdoctor.reports/1": "reports-1.json",
    "envdoctor.snapshot/1": "snapshot-1.json",
}
PARTS = {
    "envdoctor.bench-diff/1": ("envdoctor.snapshot/1",),
    "envdoctor.bench/1": ("envdoctor.bench-diff/1", "envdoctor.report/1", "envdoctor.snapshot/1"),
    "envdoctor.diff/1": ("envdoctor.snapshot/1",),
    "envdoctor.fleet/1": ("envdoctor.report/1", "envdoctor.snapshot/1"),
    "envdoctor.event/1": ("envdoctor.report/1", "envdoctor.snapshot/1"),
    "envdoctor.report/1": ("envdoctor.snapshot/1",),
    "envdoctor.reports/1": ("envdoctor.report/1", "envdoctor.snapshot/1"),
}


def load(name: str) -> dict[str, Any]:
    """Give the schema of a document by what its ``schema`` key says; raises KeyError for one that is not ours."""
    schema = _read(name)
    for part in PARTS.get(name, ()):
        schema["$defs"][part] = _read(part)
    return schema


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(__file__).with_name(FILES[name]).read_text(encoding="utf-8"))
    return found
