"""How many recorded faults are found, how many healthy machines stay without alarm, and how long judging takes.

Each case is one real environment: a block of text as it was pasted (or, where only single facts were known, those facts
written as such a block), the words of its error, and the ids that hold. Both go through ``envdoctor check --from``.

    .venv/bin/python benchmarks/score_cases.py [CASES] [--case ID] [--list]

CASES is ``shared/cases/cases.jsonl`` beside the repository unless it is named.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envdoctor import cli
from envdoctor.diagnose import examine
from envdoctor.readers import parse, together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases" / "cases.jsonl"
LABELS = {
    "torch": "PyTorch version", "build_cuda": "CUDA used to build PyTorch", "build_rocm": "ROCM used to build PyTorch",
    "os": "OS", "gcc": "GCC version", "libc": "Libc version", "python": "Python version",
    "python_platform": "Python platform", "cuda_available": "Is CUDA available", "cuda_runtime": "CUDA runtime version",
    "driver": "Nvidia driver version", "cpu_cores": "CPU(s)",
    "cudnn": "cuDNN version", "driver_cuda_level": "Driver CUDA version",
}  # fmt: skip
NOT_RECOGNISED, BROKEN = 2, 4  # exit codes
ALARMS = frozenset({"error", "warning"})


@dataclass(frozen=True)
class Case:
    """One recorded environment and what is known to be true of it."""

    id: str
    source: str
    block: str
    error: str
    expected: tuple[str, ...]
    allowed: frozenset[str]
    healthy: bool
    by_block: bool
    by_error: bool


@dataclass(frozen=True)
class Judged:
    """What the command line said of one case: findings in reading order, the exit code, and the seconds it took."""

    findings: tuple[dict[str, Any], ...]
    primary: str | None
    code: int
    seconds: float

    @property
    def ids(self) -> tuple[str, ...]:
        """Every id, in reading order, each once."""
        return tuple(dict.fromkeys(each["id"] for each in self.findings))

    @property
    def alarms(self) -> frozenset[str]:
        """The ids of errors and warnings."""
        return frozenset(each["id"] for each in self.findings if each["severity"] in ALARMS)


@dataclass(frozen=True)
class Scored:
    """A case, judged by its environment alone and with the words of its error."""

    case: Case
    alone: Judged
    told: Judged

    @property
    def found_alone(self) -> bool:
        """Tell whether the environment alone leads to an expected id."""
        return bool(set(self.case.expected) & set(self.alone.ids))

    @property
    def found_told(self) -> bool:
        """Tell whether environment and error text lead to an expected id."""
        return bool(set(self.case.expected) & set(self.told.ids))

    @property
    def primary(self) -> bool:
        """Tell whether the finding to read first is an expected one."""
        return (self.told.primary or "").partition("@")[0] in self.case.expected

    @property
    def false_alarms(self) -> tuple[str, ...]:
        """What a healthy environment is accused of, by whichever text."""
        return tuple(sorted((self.alone.alarms | self.told.alarms) - self.case.allowed))


def load(file: Path) -> list[Case]:
    """Read the cases."""
    return [_case(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def _case(row: dict[str, Any]) -> Case:
    facts = row["facts"]
    return Case(
        row["id"], row["source"], row.get("collect_env") or written(facts), facts.get("error_text") or "",
        tuple(row["expected"]), frozenset(row["true_but_not_cause"]), row["healthy"],
        row["detectable_from_collect_env"], row["detectable_with_error_text"],
    )  # fmt: skip


def written(facts: dict[str, Any]) -> str:
    """Write single facts as the block that would have carried them, in the report's own words where it has some."""
    told = {**facts, **{key: words for key, words in facts.get("as_stated", {}).items() if key in LABELS}}
    lines = [f"{label}: {told[key]}" for key, label in LABELS.items() if told.get(key) is not None]
    lines += [f"GPU {index}: {name}" for index, name in enumerate(facts["gpus"])]
    lines += [f"[pip3] {name}=={version}" for name, version in facts["pip_packages"].items()]
    lines += [f"[conda] {name} {version}" for name, version in facts["conda_packages"].items()]
    lines += [f"{name}={value}" for name, value in facts["env"].items()]
    if facts.get("ulimit_memlock_kb") is not None:
        lines.append(f"max locked memory       (kbytes, -l) {facts['ulimit_memlock_kb']}")
    return "\n".join([*lines, ""])


def judge(*texts: str) -> Judged:
    """Have the command line judge texts, each a file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{number}.txt") for number, text in enumerate(texts) if text.strip()]
        for file in files:
            file.write_text(texts[int(file.stem)], encoding="utf-8")
        options = [word for file in files for word in ("--from", str(file))]
        return _run(("check", *options, "--format", "json")) if files else Judged((), None, 3, 0.0)


def _run(arguments: Sequence[str]) -> Judged:
    out, start = io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = cli.run(arguments)
    seconds = time.perf_counter() - start
    if code == BROKEN:
        raise RuntimeError(f"envdoctor itself failed on {' '.join(arguments)}")
    if code == NOT_RECOGNISED:  # nothing in it could be judged: that is an answer, and a miss
        return Judged((), None, code, seconds)
    report = json.loads(out.getvalue())
    failed = [each for each in report["checks"] if "the rule itself failed" in each["reason"]]
    if failed:
        raise RuntimeError(f"{failed[0]['id']}: {failed[0]['reason']}")
    return Judged(tuple(report["findings"]), report["primary"], code, seconds)


def score(case: Case) -> Scored:
    """Judge one case both ways."""
    return Scored(case, judge(case.block), judge(case.block, case.error))


def shares(scored: Sequence[Scored]) -> Iterator[tuple[str, list[Scored], Callable[[Scored], bool]]]:
    """Give each measure: its name, the cases that it is about, and what makes one good."""
    faults = [each for each in scored if not each.case.healthy]
    yield "found from the environment alone", [x for x in faults if x.case.by_block], lambda x: x.found_alone
    yield "found with the error text", [x for x in faults if x.case.by_error], lambda x: x.found_told
    yield "primary is an expected id", [x for x in faults if x.case.by_error], lambda x: x.primary
    yield "healthy stays clean", [x for x in scored if x.case.healthy], lambda x: not x.false_alarms


def table(scored: Sequence[Scored]) -> Iterator[str]:
    """Give the lines of the summary."""
    for name, about, good in shares(scored):
        hits = sum(map(good, about))
        yield f"{name:<34} {hits:>4} of {len(about):>4}   {hits / max(len(about), 1):7.1%}"
    seconds = [each.seconds for pair in scored for each in (pair.alone, pair.told)]
    yield _line("a whole check --from, in process", seconds, "wall time")


def times(cases: Sequence[Case]) -> Iterator[str]:
    """Measure reading and judging apart, in CPU time, each case as its fastest of three."""
    texts = [[parse(text, source="a case") for text in (each.block, each.error) if text.strip()] for each in cases]
    examine(together(texts[0]))
    read = [_seconds(partial(parse, each.block, source="a case")) for each in cases]
    yield _line("reading one file", read, "target 5 ms")
    judged = [_seconds(partial(examine, together(each))) for each in texts]
    yield _line("all rules over one snapshot", judged, "target 20 ms")


def _seconds(call: Callable[[], object]) -> float:
    return min(_once(call) for _ in range(3))


def _once(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _line(name: str, seconds: Sequence[float], more: str) -> str:
    middle, worst = statistics.median(seconds) * 1e3, max(seconds) * 1e3
    return (
        f"{name:<34} median {middle:.1f} ms, worst {worst:.1f} ms, all {len(seconds)} in {sum(seconds):.1f} s; {more}"
    )


def misses(scored: Sequence[Scored]) -> Iterator[str]:
    """Name each miss and each false alarm, with what was said instead."""
    for name, about, good in shares(scored):
        for each in about:
            if not good(each):
                said = each.alone if "alone" in name else each.told
                wanted = ", ".join(each.false_alarms if each.case.healthy else each.case.expected)
                yield f"  not {name}: {each.case.id} {each.case.source}: {wanted}; said {', '.join(said.ids) or '-'}"


def show(each: Scored) -> Iterator[str]:
    """Show one case whole."""
    yield f"{each.case.id} {each.case.source}   expected {', '.join(each.case.expected) or 'nothing'}"
    yield f"{each.case.block}\n--- error text\n{each.case.error}"
    for name, judged in (("environment alone", each.alone), ("with the error text", each.told)):
        yield f"\n--- {name}: exit {judged.code}, primary {judged.primary}"
        yield from (f"{x['severity']:<8}{x['confidence']:<9}{x['key']}: {x['title']}" for x in judged.findings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Score the cases; 0 when they were scored or are not there."""
    parser = argparse.ArgumentParser(description="Score the recorded cases.")
    parser.add_argument("cases", nargs="?", type=Path, default=CASES, help="a cases.jsonl")
    parser.add_argument("--case", action="append", default=[], metavar="ID", help="show this case whole; repeatable")
    parser.add_argument("--list", action="store_true", help="list every miss and false alarm")
    given = parser.parse_args(arguments)
    if not given.cases.is_file():
        print(f"skipped: there are no recorded cases at {given.cases}")
        return 0
    cases = [each for each in load(given.cases) if not given.case or each.id in given.case]
    scored = [score(each) for each in cases]
    lines = [x for each in scored for x in show(each)] if given.case else [*table(scored), *times(cases)]
    print("\n".join([*lines, *(misses(scored) if given.list else ())]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
