"""What preflight() costs inside a training script, as ratios to the ``import torch`` of the same process.

Each round is a fresh process that imports torch, then envdoctor, then calls preflight() once: without a kept verdict,
and in another process with one. A busy machine slows both sides of a ratio. The driver's own time is left out.

    .venv/bin/python benchmarks/preflight.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[:0] = [str(Path(__file__).parent)]
from pairs import ENVIRONMENT, interval  # noqa: E402 - found beside this script

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = """
import json, sys, time
took = {}
def timed(name, step):
    began = time.perf_counter()
    result = step()
    took[name] = time.perf_counter() - began
    return result
timed("torch", lambda: __import__("torch"))
envdoctor = timed("envdoctor", lambda: __import__("envdoctor"))
how = {"fail_on": "never", "budget_seconds": 60, **({"cache": sys.argv[1]} if sys.argv[1:] else {})}
report = timed("preflight", lambda: envdoctor.preflight(**how))
theirs = 0.0 if report.cached else report.snapshot.elapsed_seconds - report.snapshot.overhead_seconds
again = timed("again", lambda: envdoctor.preflight(**how))
print(json.dumps({**took, "theirs": theirs, "cached": report.cached}))
"""


@dataclass(frozen=True)
class Line:
    """One line of the table: what was timed, and the milliseconds and the ratio to stay below."""

    name: str
    milliseconds: float
    ratio: float


LINES = {
    "envdoctor": Line("import envdoctor / import torch", 10, 0.01),
    "preflight": Line("preflight(), first call / import torch", 200, 0.2),
    "kept": Line("preflight(cache=...), kept verdict, first call / import torch", 20, 0.02),
}


def once(*arguments: str) -> dict[str, float]:
    """Run the program once and give its times in seconds."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def rounds(number: int) -> dict[str, list[tuple[float, float]]]:
    """Give, by line, the seconds of ours and of ``import torch`` in each round."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in LINES}
    with tempfile.TemporaryDirectory() as folder:
        once(folder)  # to warm up, and to keep a verdict
        for _ in range(number):
            fresh, kept = once(), once(folder)
            if not kept["cached"]:
                continue  # something on this machine has changed meanwhile: the next round keeps it
            found["envdoctor"].append((fresh["envdoctor"], fresh["torch"]))
            found["preflight"].append((fresh["preflight"] - fresh["theirs"], fresh["torch"]))
            found["kept"].append((kept["preflight"], kept["torch"]))
    return found


def row(line: Line, pairs: Sequence[tuple[float, float]]) -> str:
    """Write one line of the table."""
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = [a / b for a, b in pairs]
    middle, (low, high) = statistics.median(ratios), interval(ratios)
    holds = "yes" if middle <= line.ratio and 1000 * ours <= line.milliseconds else "NO"
    target = f"≤ {line.milliseconds:g} ms and ≤ {line.ratio:g}"
    return (
        f"| {line.name} | {1000 * ours:.1f} ms | {theirs:.3f} s | {middle:.4f} [{low:.4f}, {high:.4f}] "
        f"| {target} | {holds} | {len(pairs)} |"
    )


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    load = os.getloadavg()[0]
    machine = f"{os.cpu_count()} CPUs, {platform.platform()}, Python {platform.python_version()}, load {load:.1f}"
    print(f"{time.strftime('%Y-%m-%d')}, {machine}\n")
    print("| ours / theirs | ours | theirs | ratio, median [95 %] | target | holds | rounds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, pairs in rounds(given.rounds).items():
        print(row(LINES[name], pairs))


if __name__ == "__main__":
    main()
