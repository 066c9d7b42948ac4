"""A program that calls preflight(), run in a process of its own: it prints one JSON value, which is given back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.command import environment

# What a process has that it could leave behind: descriptors, threads, children, mapped driver libraries.
HAVING = """
import os, re
def having():
    tasks = os.listdir("/proc/self/task")
    children = [c for t in tasks for c in open(f"/proc/self/task/{t}/children").read().split()]
    fds = sorted(int(n) for n in os.listdir("/proc/self/fd"))[:-1]
    links = []
    for fd in fds:
        try:
            links.append((fd, os.readlink(f"/proc/self/fd/{fd}")))
        except OSError:
            pass
    maps = open("/proc/self/maps").read()
    driver = sorted(set(re.findall(r"\\S*/(?:libcuda|libnvidia-ml|libcudart)\\.so\\S*", maps)))
    return {"tasks": len(tasks), "children": children, "fds": links, "driver": driver}
"""


def finished(
    source: str,
    *arguments: str,
    cwd: Path | None = None,
    around: Callable[[list[str]], list[str]] = list,
    seconds: float = 120,
    **environ: str,
) -> str:
    """Run the source and give what it printed; it must end well."""
    done = subprocess.run(
        around([sys.executable, "-c", HAVING + source, *arguments]),
        cwd=cwd, env=environment(**environ), capture_output=True, text=True, timeout=seconds, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr[-4000:]
    return done.stdout


def program(source: str, *arguments: str, **how: Any) -> Any:
    """Run the source and give the one JSON value that it printed."""
    return json.loads(finished(source, *arguments, **how))
