"""Runs the misbehaving probes of this folder through the real engine, and looks for what they leave behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from envdoctor.child import vitals
from envdoctor.facts import Fact
from envdoctor.plan import Planned
from envdoctor.runner.collection import collect
from envdoctor.snapshot import ProbeResult, Snapshot
from envdoctor.target import Patient
from tests.stands.misbehaving import Nodes, Thing

HERE = str(Path(__file__).parent)
PATIENCE = 10.0
KINDS: dict[str, type[Fact]] = {"device_nodes": Nodes}


def plan(function: str, name: str = "", **how: Any) -> Planned:
    """Plan one of the misbehaving probes; by default each has a process and a fact of its own."""
    name = name or function.replace("_", "-")
    fact = how.pop("fact", name.replace("-", "_"))
    return Planned(name, f"misbehaving:{function}", fact, **{"child": name, "seconds": 5.0, **how})


def collect_from(
    planned: list[Planned], *, timeout: float = 10.0, progress: Callable[[dict[str, Any]], None] | None = None,
    **patient: Any,
) -> Snapshot:  # fmt: skip
    """Collect what is planned from a patient that has the misbehaving probes on board."""
    kinds = {each.fact: KINDS.get(each.fact, Thing) for each in planned}
    patient.setdefault("payload", {"misbehaving": HERE})
    return collect(Patient(**patient), planned, timeout=timeout, kinds=kinds, progress=progress)


def ask(function: str, *, timeout: float = 10.0, seconds: float = 5.0, **patient: Any) -> tuple[ProbeResult, Thing]:
    """Run one misbehaving probe; give its result and what is known of its fact."""
    snapshot = collect_from([plan(function, seconds=seconds)], timeout=timeout, **patient)
    (result,) = snapshot.probes
    fact = snapshot.facts.get(result.fact, Thing())
    assert isinstance(fact, Thing)
    return result, fact


SLOW = """
import importlib, sys, time

class Slow:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "envdoctor.child.supervisor":
            sys.meta_path.remove(cls)
            owner = importlib.import_module({module!r})
            *within, last = {function!r}.split(".")
            for each in within:
                owner = getattr(owner, each)
            real = getattr(owner, last)
            setattr(owner, last, lambda *given: (time.sleep({seconds}), real(*given))[1])

sys.meta_path.insert(0, Slow)
"""


def slowed(folder: Path, module: str, function: str, seconds: float) -> dict[str, str]:
    """Give an environment in which a function of the supervisor's takes its time first, as on a busy machine."""
    (folder / "sitecustomize.py").write_text(SLOW.format(module=module, function=function, seconds=seconds))
    return {**os.environ, "PYTHONPATH": str(folder)}


def by_name(snapshot: Snapshot) -> dict[str, ProbeResult]:
    """Give the results of a snapshot by the probes' names."""
    return {each.name: each for each in snapshot.probes}


@pytest.fixture
def nothing_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Fail a test whose probes leave a process or a temporary file."""
    mark = f"{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv("STAND_MARK", mark)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = set(Path("/dev/shm").iterdir())
    yield
    assert [] == [pid for pid in vitals.marked(f"STAND_MARK={mark}") if vitals.state(pid) not in ("", "Z")]
    assert [] == list(tmp_path.iterdir())
    end = time.monotonic() + PATIENCE
    while set(Path("/dev/shm").iterdir()) - before and time.monotonic() < end:  # those of other programs come and go
        time.sleep(0.1)
    assert before >= set(Path("/dev/shm").iterdir())


def wait_for_the_end_of_all(seconds: float = 20.0) -> None:
    """Wait until no process of this test is left, at most so long: a killed one needs a moment."""
    mark, end = f"STAND_MARK={os.environ['STAND_MARK']}", time.monotonic() + seconds
    while vitals.marked(mark) and time.monotonic() < end:
        time.sleep(0.05)
