"""How long envdoctor takes, as ratios to what everybody already runs, measured side by side in one sitting.

Each pair is run alternately, so that a busy machine slows both; the ratio of each round is taken, and the median of
the rounds is given with a 95 % bootstrap interval. Nothing here is a test: numbers depend on the machine.

    .venv/bin/python benchmarks/pairs.py [--rounds 15] [--only NAME] [--cold]
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PYTHON = sys.executable
ENVDOCTOR = str(Path(sysconfig.get_path("scripts"), "envdoctor"))
TORCH = [PYTHON, "-c", "import torch; torch.cuda.is_available()"]
COLLECT_ENV = [PYTHON, "-m", "torch.utils.collect_env"]
CLICK = [PYTHON, "-c", "import click"]
# pip compiles what it installs. An editable installation is compiled by the warm-up, unless that is switched off.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Pair:
    """Ours against theirs; ``target`` is the ratio to stay below, ``seconds`` an absolute limit or None."""

    name: str
    ours: Sequence[str]
    theirs: Sequence[str]
    target: float
    seconds: float | None = None


PAIRS = (
    Pair("check --level quick / collect_env", [ENVDOCTOR, "check", "--level", "quick"], COLLECT_ENV, 1 / 8, 0.4),
    Pair("check / import torch, is_available", [ENVDOCTOR, "check"], TORCH, 1.15),
    Pair("--help / import click", [ENVDOCTOR, "--help"], CLICK, 2.0),
    Pair("explain / import click", [ENVDOCTOR, "explain", "torch-missing"], CLICK, 2.0),
)


@dataclass(frozen=True)
class Measured:
    """One pair's rounds: seconds of ours and of theirs, in the order they were run."""

    pair: Pair
    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """The ratio of each round."""
        return tuple(a / b for a, b in zip(self.ours, self.theirs, strict=True))

    @property
    def holds(self) -> bool:
        """Tell whether the medians stay within the targets."""
        limit = self.pair.seconds
        fast = limit is None or statistics.median(self.ours) <= limit
        return fast and statistics.median(self.ratios) <= self.pair.target


def seconds_of(command: Sequence[str]) -> float:
    """Run a command to its end and give its wall time; a crash or a usage error is no measurement."""
    start = time.perf_counter()
    done = subprocess.run(
        command,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    took = time.perf_counter() - start
    if done.returncode not in {0, 1, 3}:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr.decode()}")
    return took


def measure(pair: Pair, rounds: int, prepare: Callable[[], None] = lambda: None) -> Measured:
    """Run both sides ``rounds`` times, taking turns in who goes first. ``prepare`` runs before each command."""
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(rounds):
        sides = [(pair.ours, ours), (pair.theirs, theirs)]
        for command, times in sides if number % 2 else reversed(sides):
            prepare()
            times.append(seconds_of(command))
    return Measured(pair, tuple(ours), tuple(theirs))


def interval(values: Sequence[float], resamples: int = 4000) -> tuple[float, float]:
    """Give the 95 % bootstrap interval of the median; the seed is fixed, so that it can be recomputed."""
    draw = random.Random(20260101)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(resamples))
    return medians[int(0.025 * resamples)], medians[int(0.975 * resamples) - 1]


def row(measured: Measured, *, judged: bool = True) -> str:
    """Write one line of the table. The targets are for warm runs; a cold one is stated and not ``judged``."""
    pair, (low, high) = measured.pair, interval(measured.ratios)
    limit = f"≤ {pair.target:.3g}" + (f" and ≤ {pair.seconds:g} s" if pair.seconds else "")
    verdict = f"{limit} | {'yes' if measured.holds else 'NO'}" if judged else "none | "
    return (
        f"| {pair.name} | {statistics.median(measured.ours):.3f} s | {statistics.median(measured.theirs):.3f} s "
        f"| {statistics.median(measured.ratios):.3f} [{low:.3f}, {high:.3f}] | {verdict} | {len(measured.ours)} |"
    )


def table(title: str, rows: Sequence[str]) -> str:
    """Put a title and a heading over the lines."""
    heading = "| ours / theirs | ours | theirs | ratio, median [95 %] | target | holds | rounds |"
    return "\n".join((f"### {title}", "", heading, "| --- | --- | --- | --- | --- | --- | --- |", *rows, ""))


def rules_row(rounds: int) -> str:
    """Time all rules over one snapshot of this machine, in this process."""
    from envdoctor import snapshot
    from envdoctor.diagnose import examine

    command = [ENVDOCTOR, "snapshot"]
    taken = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
    one = snapshot.load(taken)
    examine(one)  # imports the rules and resolves their inputs
    times = []
    for _ in range(max(rounds, 20)):
        start = time.perf_counter()
        report = examine(one)
        times.append(time.perf_counter() - start)
    middle = 1000 * statistics.median(times)
    holds = "yes" if middle <= 20 else "NO"
    return (
        f"| all {len(report.checks)} rules over one snapshot | {middle:.2f} ms | | | ≤ 20 ms | {holds} | {len(times)} |"
    )


class Cold:
    """Puts the files of Python, torch and envdoctor out of the page cache: as root all of it, else file by file."""

    def __init__(self) -> None:
        places = {sys.prefix, sys.base_prefix, str(Path(__file__).parent.parent / "envdoctor")}
        self.files = [os.path.join(d, f) for top in places for d, _, names in os.walk(top) for f in names]
        self.how = "drop_caches" if self._dropped() else f"posix_fadvise(DONTNEED) on {len(self.files)} files"

    def __call__(self) -> None:
        """Empty the cache once."""
        if not self._dropped():
            for file in self.files:
                self._evict(file)

    @staticmethod
    def _dropped() -> bool:
        os.sync()
        try:
            Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
        except OSError:
            return False
        return True

    @staticmethod
    def _evict(file: str) -> None:
        try:
            handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:  # a link or a file that is gone: nothing to evict
            return
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def main() -> None:
    """Measure, and print the table that README.md keeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="measure the pairs whose name contains this")
    parser.add_argument("--cold", action="store_true", help="measure with an emptied page cache as well (slow)")
    given = parser.parse_args()
    chosen = [pair for pair in PAIRS if given.only in pair.name]
    machine = f"{os.cpu_count()} CPUs, {platform.platform()}, Python {platform.python_version()}"
    print(f"{time.strftime('%Y-%m-%d')}, {machine}\n")
    for pair in chosen:
        measure(pair, 1)  # to warm up
    rows = [row(measure(pair, given.rounds)) for pair in chosen]
    print(table("Warm", [*rows, *([] if given.only else [rules_row(given.rounds)])]))
    if given.cold:
        cold = Cold()
        rows = [row(measure(pair, max(5, given.rounds // 2), cold), judged=False) for pair in chosen]
        print(table(f"Cold ({cold.how})", rows))


if __name__ == "__main__":
    main()
