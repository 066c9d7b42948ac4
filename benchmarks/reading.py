"""How long reading takes: every recorded paste and wish of the tests, whole; the target is 5 ms a file.

    .venv/bin/python benchmarks/reading.py [--rounds 20] [FILE ...]

The least of the rounds is given: what else ran on the machine does not count.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from envdoctor import readers

TESTS = Path(__file__).resolve().parents[1] / "tests"
TARGET_MS = 5.0


def seconds(data: bytes, source: str, rounds: int) -> float:
    """Give the least time of ``rounds`` readings."""
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        readers.parse(data, source=source)
        found.append(time.perf_counter() - began)
    return min(found)


def main() -> int:
    """Print one row a file, the slowest first; exit 1 where the target is missed."""
    parser = argparse.ArgumentParser(description="Time the readers.")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    files = given.files or sorted(each for folder in ("pastes", "wanted") for each in (TESTS / folder).iterdir())
    rows = [(seconds(file.read_bytes(), file.name, given.rounds) * 1e3, file) for file in files]
    print("| file | KiB | ms | target |\n| --- | --- | --- | --- |")
    for took, file in sorted(rows, reverse=True):
        print(f"| {file.name} | {file.stat().st_size / 1024:.1f} | {took:.2f} | ≤ {TARGET_MS:g} ms |")
    missed = sum(took > TARGET_MS for took, _ in rows)
    print(
        f"\n{len(rows)} files, {sum(took for took, _ in rows) / len(rows):.2f} ms on average, {missed} above the target"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
