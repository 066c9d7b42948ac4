"""One probe in a process of its own, without the engine: for imports that a test's process must not make."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import envdoctor_probes

import envdoctor

HOMES = [str(Path(each.__file__).parent.parent) for each in (envdoctor, envdoctor_probes)]  # of the source or the wheel
SCRIPT = """
import importlib, json, sys
from dataclasses import asdict
ours, order = json.loads(sys.argv[1]), json.loads(sys.argv[2])
standard = list(sys.path)
sys.path[:0] = ours
import envdoctor.probe as probe
found = {name: getattr(importlib.import_module('envdoctor_probes.' + name), name) for name in order['probes']}
sys.path[:] = order['path'] + standard
context = probe.Context(path=tuple(sys.path), cwd=order['cwd'])
answers = {}
for name, each in found.items():
    try:
        answers[name] = asdict(each.collect(context))
    except probe.NotThere as error:
        answers[name] = {'not there': str(error)}
print('\\n' + json.dumps(answers))
"""


def ask(
    *probes: str,
    path: Sequence[Path | str] = (),
    cwd: Path | str = "/",
    python: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Run these probes in one fresh interpreter that has ``path`` before its own, and give their facts as plain data.

    The interpreter runs without site-packages of its own, so that the stand is all it sees.
    """
    order = {"probes": probes, "path": [str(each) for each in path], "cwd": str(cwd)}
    command = [python or sys.executable, "-S", "-c", SCRIPT, json.dumps(HOMES), json.dumps(order)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=120,
        env={**os.environ, **(environ or {})},
    )
    assert 0 == done.returncode, done.stderr
    answers: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return answers
