"""How long each format takes to write one report, beside the plain json module on the same data, turn by turn.

    .venv/bin/python benchmarks/rendering.py [--rounds 30]

Modules are loaded before: what is measured is the rendering of the largest recorded machine that ships.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

from envdoctor import demo
from envdoctor.diagnose import examine
from envdoctor.render import FORMATS, load
from envdoctor.render.json import plain
from envdoctor.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable

TARGETS = {"terminal": 50.0, "json": 50.0, "html": 500.0}
MACHINE = "h100x8-healthy"


def once(work: Callable[[], object]) -> float:
    """Give the milliseconds of one call."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    report, pages = examine(demo.load(MACHINE)), {rule.id: rule.page for rule in RULES}
    data = plain(report)
    print(f"{MACHINE}, {rounds} rounds; beside it json.dumps of the same report\n")
    print("| format | ms, median | json.dumps, ms | ratio | size, kB | target, ms | holds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in FORMATS:
        render = partial(load(name), report, explain=pages.__getitem__)
        size = len(render()) / 1000
        pairs = [(once(render), once(partial(json.dumps, data, default=str))) for _ in range(rounds)]
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        target = TARGETS.get(name)
        holds = "" if target is None else "yes" if ours <= target else "NO"
        cells = (name, f"{ours:.1f}", f"{theirs:.1f}", f"{ratio:.1f}", f"{size:.0f}", f"{target or ''}", holds)
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
