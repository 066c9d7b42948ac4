"""A benchmark through the real engine: one suite after the other in processes of their own, whatever a model does."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from envdoctor.child import vitals
from envdoctor.facts.bench import BenchAttention, BenchGemm, BenchLadder, BenchModel
from envdoctor.facts.kernels import KernelAnswers
from envdoctor.outcome import Absent, Crashed, Got, TimedOut
from envdoctor.plan import for_level
from envdoctor.runner.collection import collect
from envdoctor.snapshot import Snapshot, load, save, with_bench
from envdoctor.target import Patient
from tests.bench_stand import NEEDS_TORCH, through_the_engine

pytestmark = NEEDS_TORCH

OWN = """
import os, signal, time
import torch

class Small(torch.nn.Module):
    calls = 0
    fatal = None
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 2, 56, 56)
    def forward(self, images):
        Small.calls += 1
        if Small.fatal and Small.calls > 8:
            Small.fatal()
        return self.layer(images)

def fine():
    return Small()

def crashes():
    Small.fatal = lambda: os.kill(os.getpid(), signal.SIGSEGV)
    return Small()

def hangs():
    Small.fatal = lambda: time.sleep(600)
    return Small()

def leaves():
    os._exit(3)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a working directory that holds users' models; nothing may be left in its folder for temporary files."""
    (tmp_path / "own_models.py").write_text(OWN)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return tmp_path


def outcome(found: Snapshot, fact: str) -> Any:
    """Give what became of a probe."""
    result = found.probe_for(fact)
    assert result is not None
    return result.outcome


def bench(folder: Path, *suites: str, **options: Any) -> Snapshot:
    """Run suites with the users' models at hand."""
    options.setdefault("seconds", dict.fromkeys(suites, 2.0))
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    return through_the_engine(*suites, patient={"cwd": str(folder), "environ": environ}, **options)


def test_suites_follow_each_other_and_are_kept(folder: Path) -> None:
    """Each has its answer, none overlaps another, and all of it is saved and loaded again as it is."""
    found = bench(folder, "gemm", "attention", "model", model="own_models:fine", batch=2)
    assert [Got("fresh-process")] * 4 == [
        outcome(found, f"bench_{each}") for each in ("device", "gemm", "attention", "model")
    ]
    spans = []
    for kind in (BenchGemm, BenchAttention, BenchModel):
        fact = found.get(kind)
        assert fact is not None
        spans += [(each.began, each.ended) for each in fact.measured]
    assert sorted(spans) == spans
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
    assert found.facts == load(save(found), kinds=with_bench()).facts


def test_a_crash_keeps_what_was_measured(folder: Path) -> None:
    """SIGSEGV inside the user's model: the suite crashed, what it had measured stands, and the next suite ran."""
    found = bench(folder, "model", "gemm", model="own_models:crashes", batch=1)
    crashed, fact = outcome(found, "bench_model"), found.get(BenchModel)
    assert isinstance(crashed, Crashed)
    assert ("SIGSEGV", True) == (crashed.signal, crashed.reason.startswith("SIGSEGV in model: "))
    assert fact is not None
    assert ("own_models:crashes", 3 * 56 * 56 * 2 + 2) == (fact.model, fact.parameters)
    assert Got("fresh-process") == outcome(found, "bench_gemm")


def test_a_hang_ends_at_the_suites_deadline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that never returns is timed out, with what it was doing; what was measured stands."""
    monkeypatch.setattr("envdoctor.plan._SLACK", 14.0)
    found = bench(folder, "model", model="own_models:hangs", batch=1, seconds={"model": 2.0})
    late = outcome(found, "bench_model")
    assert isinstance(late, TimedOut)
    assert " in model: " in late.reason
    assert found.get(BenchModel) is not None


@pytest.mark.parametrize(
    ("model", "kind", "words"),
    [
        ("own_models:leaves", Crashed, "exit code 3 without an answer in making own_models:leaves"),
        ("vit_b17", Absent, "no model is called 'vit_b17', expected one of vit_b16"),
    ],
)
def test_a_model_that_cannot_be_had_is_an_outcome(folder: Path, model: str, kind: type, words: str) -> None:
    """Whatever making it does, it is said in the suites that need it; nothing else suffers."""
    found = bench(folder, "model", model=model, seconds={"model": 2.0})
    gone = outcome(found, "bench_model")
    assert isinstance(gone, kind)
    assert gone.reason.startswith(words)
    assert Got("fresh-process") == outcome(found, "bench_device")


def test_ctrl_c_keeps_what_was_measured(folder: Path) -> None:
    """An interrupt in the middle of a suite: its measurements so far are there, and no process is left."""
    mark = f"ENVDOCTOR_TEST={folder}"
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "ENVDOCTOR_TEST": str(folder)}

    def press(event: dict[str, Any]) -> None:
        if event.get("note", "").startswith("gemm fp64"):
            raise KeyboardInterrupt

    found = through_the_engine(
        "gemm", "memory", seconds={"gemm": 5.0, "memory": 1.0}, progress=press, patient={"environ": environ}
    )
    fact = found.get(BenchGemm)
    assert found.interrupted
    assert fact is not None
    assert ["fp32", "fp64"] == [each.precision for each in fact.measured]
    assert "interrupted" in outcome(found, "bench_memory").reason
    assert [] == [pid for pid in vitals.marked(mark) if vitals.state(pid) not in ("", "Z")]


def test_memory_has_a_limit_of_its_own(folder: Path) -> None:
    """A thousandth of the free memory: what does not fit is refused or out of memory, and nothing is killed."""
    found = bench(folder, "model", "ladder", model="vit_b16", batch=1, memory_fraction=0.001)
    model, ladder = found.get(BenchModel), found.get(BenchLadder)
    assert model is not None
    assert {"out-of-memory"} >= {each.state for each in model.measured if each.name == "train-step"}
    assert ladder is not None
    assert {"out-of-memory", "not-applicable", "skipped"} >= {each.measured.state for each in ladder.rows}
    assert "out-of-memory" == ladder.rows[0].measured.state


def test_a_device_that_is_not_there_is_absent_everywhere(folder: Path) -> None:
    """--device cuda:7 on a machine without it: each suite says why, none is measured somewhere else instead."""
    found = bench(folder, "gemm", device="cuda:7", seconds={"gemm": 2.0})
    for each in ("device", "gemm"):
        gone = outcome(found, f"bench_{each}")
        assert isinstance(gone, Absent)
        assert gone.reason.startswith("cuda:7 ")


def test_whoever_watches_hears_what_is_measured_and_how_it_went(folder: Path) -> None:
    """Each measurement is announced by name, and its state follows."""
    heard: list[dict[str, Any]] = []
    bench(folder, "gemm", progress=heard.append, seconds={"gemm": 3.0})
    assert any(str(each.get("what", "")).startswith("gemm: gemm fp32 ") for each in heard)
    assert any(str(each.get("note", "")).startswith("gemm fp32 ") for each in heard)
    assert not any("fact" in each for each in heard)


def test_level_deep_asks_small_kernels() -> None:
    """Check --level deep: fp32 is what it says, kernels of each sort work or do not apply on a CPU."""
    wanted = [each for each in for_level("deep") if each.name in ("device-nodes", "torch-import", "kernel-answers")]
    patient = Patient(environ={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""})
    found = collect(patient, wanted, timeout=120.0, level="deep")
    fact = found.get(KernelAnswers)
    assert fact is not None, found.probes
    assert fact.fingerprint is not None
    assert ("cpu", "ieee") == (fact.kind, fact.fingerprint.says)
    assert {"works", "not-applicable"} >= {each.state for each in fact.checks}
    assert {"allocate", "gemm", "attention", "copy-to-device", "copy-to-host"} == {each.name for each in fact.checks}
    assert ["flash"] == [each.picked for each in fact.attention]
