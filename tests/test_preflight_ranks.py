"""preflight() on the ranks of one job: asked once on each machine, one outcome for all, one print."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import envdoctor
from envdoctor.diagnose import examine
from envdoctor.facts.host import Environment, Resources, Variable
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Verdict
from envdoctor.gate import views
from envdoctor.gate.cleared import Cleared
from envdoctor.gate.together import Round, round_of
from envdoctor.ranks.launched import Place
from envdoctor.ranks.meeting import Lost, Meeting
from envdoctor.requirements import parse
from envdoctor.snapshot import Snapshot, of, with_fact
from tests.command import environment
from tests.stands.store import Store

REQUIRED = parse({"torch": ">=99"}, "here")


def machine(torch: str = "2.9.0+cu130", **variables: str) -> Snapshot:
    """Make what one rank has found."""
    told = tuple(Variable(name, value) for name, value in variables.items())
    return of(TorchBuild(version=torch), Environment(variables=told), Resources(shm_total_mib=65536))


def cleared(snapshot: Snapshot) -> Cleared:
    """Make a rank's report."""
    found = examine(snapshot)
    return Cleared(snapshot, found.findings, found.checks, found.primary, found.verdict)


def agree(
    ranks: dict[int, Snapshot],
    store: Store | None = None,
    *,
    size: int = 0,
    seconds: float = 60.0,
    fail_on: str = "error",
) -> dict[int, Cleared | Exception]:
    """Let each rank, which is a thread, say its word; give what each of them got."""
    store, size, got = store or Store(), size or len(ranks), {}

    def one(rank: int) -> None:
        meeting = Meeting(store, rank, size, time.monotonic() + seconds)
        try:
            got[rank] = Round(meeting, Place("torchrun", rank, size)).agree(cleared(ranks[rank]), fail_on, {})
        except (envdoctor.NotReady, Lost) as error:
            got[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in ranks]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return got


def report(value: Cleared | Exception) -> Cleared:
    """Give what must be a report."""
    assert isinstance(value, Cleared), value
    return value


def test_all_that_agree_begin() -> None:
    """Ranks that find nothing all get their report, which says how many have checked; rank 0 has compared them."""
    got = agree({rank: machine() for rank in range(3)})
    assert {("3 of 3 ranks on 1 machine have checked",)} == {report(each).notes for each in got.values()}
    checks = {each.id: each.status.value for each in report(got[0]).checks}
    assert ("passed", "passed") == (checks["differs-across-ranks"], checks["rank-unreachable"])


def test_nothing_is_left_in_the_store_but_the_outcome() -> None:
    """Facts and words are taken away once they were read; who comes late still finds the outcome."""
    store = Store()
    agree({rank: machine() for rank in range(2)}, store)
    assert {"arrived", "outcome", "outcome/there"} == set(store.keys)


def test_one_that_cannot_begin_stops_all() -> None:
    """One rank's objection is every rank's: rank 0 says it in full with who and where, the others in one line."""
    got = agree({0: machine(), 1: machine(), 2: with_fact(machine(), REQUIRED)})
    said = {rank: str(error) for rank, error in got.items()}
    assert {True} == {isinstance(each, envdoctor.NotReady) for each in got.values()}
    assert said[0].startswith("Rank 2 of 3 (")
    assert "torch is 2.9.0+cu130, >=99 is required" in said[0]
    expected = "stops with all others: Rank 2: requirement-not-met@torch (rank 0 says it in full)"
    assert (f"rank 1 {expected}", f"rank 2 {expected}") == (said[1], said[2])


def test_what_all_say_alike_is_said_once() -> None:
    """The same objection of every rank stands there once."""
    got = agree({rank: with_fact(machine(), REQUIRED) for rank in range(3)})
    assert (1, True) == (str(got[0]).count(">=99 is required"), str(got[0]).startswith("All 3 ranks ("))


def test_what_differs_is_found_and_counted_as_any_finding() -> None:
    """An odd rank is a warning of rank 0's report; where warnings count it stops all, named with its rank."""
    ranks = {0: machine(), 1: machine(), 2: machine("2.8.0+cu128", NCCL_DEBUG="INFO")}
    lead = report(agree(ranks)[0])
    assert "warning" == {each.key: each.severity for each in lead.findings}["differs-across-ranks@torch"]
    got = agree(ranks, fail_on="warning")
    assert {True} == {isinstance(each, envdoctor.NotReady) for each in got.values()}
    assert "2.8.0+cu128 on 2" in str(got[0])


def test_a_rank_that_never_comes_stops_all_in_time() -> None:
    """The missing rank is named on all others, with the likeliest reason."""
    got = agree({0: machine(), 2: machine()}, size=3, seconds=0.2)
    assert {True} == {isinstance(each, envdoctor.NotReady) for each in got.values()}
    assert ("rank-unreachable@1" in str(got[0]), "Every rank has to call preflight()" in str(got[0])) == (True, True)
    report_of_0 = got[0].report  # type: ignore[union-attr]
    (finding,) = (each for each in report_of_0.findings if each.id == "rank-unreachable")
    assert "sync_timeout_seconds" in [each.source for each in finding.evidence]
    assert "--sync-timeout" not in repr(finding)
    assert str(got[2]).startswith("rank 2 stops with all others: rank-unreachable@1")


def test_without_rank_0_another_rank_settles_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """When rank 0 is the one that is missing, the others still end alike, and in time."""
    monkeypatch.setattr("envdoctor.gate.together.SETTLING", 0.1)
    got = agree({1: machine(), 2: machine()}, size=3, seconds=0.1)
    said = sorted(str(each) for each in got.values())
    assert {True} == {isinstance(each, envdoctor.NotReady) for each in got.values()}
    assert (1, 1) == (
        sum(each.startswith("Rank 0 did not answer in time. Every rank") for each in said),
        sum("stops with all others: Rank 0 did not answer in time" in each for each in said),
    )


def test_who_comes_late_finds_it_settled() -> None:
    """A rank that comes after the outcome takes it, also when it has nothing to object."""
    store = Store()
    agree({0: machine(), 1: machine()}, store, size=3, seconds=0.1)
    (late,) = agree({2: machine()}, store, size=3).values()
    assert str(late).startswith("rank 2 stops with all others: rank-unreachable@2")


def test_never_refuses_nothing_together() -> None:
    """With fail_on="never" all ranks get their report, whatever one of them lacks."""
    got = agree({0: machine(), 1: with_fact(machine(), REQUIRED)}, fail_on="never")
    assert [Verdict.ERRORS] == [report(each).verdict for rank, each in got.items() if rank == 1]


def test_a_rank_that_fails_in_its_look_says_so() -> None:
    """A rank that ends with an exception tells the others, so that they need not wait for it."""
    store = Store()
    Round(Meeting(store, 1, 2, time.monotonic() + 60), None).failed(KeyboardInterrupt())
    (lead,) = agree({0: machine()}, store, size=2).values()
    assert (True, True) == (isinstance(lead, envdoctor.NotReady), "KeyboardInterrupt" in str(lead))


def test_a_rank_of_another_version_is_understood() -> None:
    """Who says more than this version knows, or less, is heard all the same."""
    store = Store()
    other = Meeting(store, 1, 2, time.monotonic() + 60)
    told = {"rank": 1, "host": "h", "keys": ["x@y"], "words": "", "mood": "new"}
    other.put("said/1", zlib.compress(json.dumps(told).encode()))
    other.count("arrived")
    (lead,) = agree({0: machine()}, store, size=2).values()
    assert "x@y" in str(lead)


def test_a_store_that_fails_on_the_way_is_lost() -> None:
    """The caller hears that the others cannot be reached; it takes its own verdict then."""
    (got,) = agree({0: machine()}, Store("add"), size=2).values()
    assert isinstance(got, Lost)


# Looking once on each machine


class Looks:
    """Stands for a look: gives a machine, and counts how often it was asked for all of it."""

    def __init__(self, snapshot: Snapshot | Exception) -> None:
        self.given, self.only, self.began, self.whole = snapshot, frozenset[str](), 0.0, 0
        self.asked = type("Asked", (), {"level": "quick", "budget_seconds": 30.0})

    def snapshot(self) -> Snapshot:
        """Look."""
        self.whole += not self.only
        if isinstance(self.given, Exception):
            raise self.given
        if not self.only:
            return self.given
        return replace(self.given, facts={"resources": self.given.facts["resources"]}, probes=())


def look(store: Store, rank: int, looks: Looks, seconds: float = 60.0) -> Snapshot:
    """Let one rank look."""
    found: Callable[[Any], Snapshot] = Round(Meeting(store, rank, 2, time.monotonic() + seconds), None).look
    return found(looks)


def test_what_ranks_see_alike_is_asked_once() -> None:
    """The second rank of a machine takes the first one's facts, and adds what is its own."""
    store = Store()
    first, second = Looks(machine()), Looks(with_fact(machine("another"), Resources(shm_total_mib=1)))
    look(store, 0, first)
    found = look(store, 1, second)
    build, resources = found.get(TorchBuild), found.get(Resources)
    assert (1, 0) == (first.whole, second.whole)
    assert build is not None
    assert resources is not None
    assert ("2.9.0+cu130", 1) == (build.version, resources.shm_total_mib)


def test_ranks_that_see_something_else_look_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another environment is another view; the number of a rank on its machine is not."""
    before = views.view("quick")
    monkeypatch.setenv("LOCAL_RANK", "7")
    monkeypatch.setenv("RANK", "7")
    assert before == views.view("quick")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert (True, True) == (before != views.view("quick"), views.view("deep") != views.view("quick"))


def test_a_first_look_that_fails_keeps_nobody_waiting() -> None:
    """When the rank that looks for all fails, the others look for themselves at once."""
    store, second = Store(), Looks(machine())
    with pytest.raises(OSError, match="no more processes"):
        look(store, 0, Looks(OSError("no more processes")))
    look(store, 1, second)
    assert 1 == second.whole


def test_a_first_look_that_cannot_be_read_is_not_taken() -> None:
    """What another version of envdoctor has left is not understood, and not needed."""
    store, second = Store(), Looks(machine())
    seen = views.view("quick")
    views.is_first(Meeting(store, 0, 2, time.monotonic() + 60), seen)
    views.share(Meeting(store, 0, 2, time.monotonic() + 60), seen, '{"schema": "envdoctor.snapshot/9"}')
    look(store, 1, second)
    assert 1 == second.whole


def test_alone_there_is_no_round() -> None:
    """One process alone needs no store; one of several without any says why its verdict is its own."""
    assert "" == round_of(None, None, 1.0)
    assert "" == round_of(None, Place("torchrun", 0, 1), 1.0)
    assert "this verdict is rank 1's alone: torch is not imported here" == round_of(None, Place("srun", 1, 2), 1.0)


# Under real torchrun

JOB = """
import json, os, sys, time, torch, torch.distributed as dist, envdoctor
rank, told = int(os.environ["RANK"]), []
how = {"budget_seconds": 60, "ignore": {"torch-missing": "x"}}
def call(sync=90.0, **more):
    began = time.monotonic()
    try:
        report = envdoctor.preflight(**how, sync_timeout_seconds=sync, **more)
        found = [f.key for f in report.findings if f.severity.value != "info" or "MY_TOKEN" in f.key]
        told.append(["ok", list(report.notes), sorted(found)])
    except envdoctor.NotReady as error:
        told.append(["refused", str(error), []])
def having():
    return [len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))]
call()                                                  # the launcher's store
before = having()
call(require={"python": ">=99"} if rank == 3 else {})   # one objects
after = having()
dist.init_process_group("gloo")
if rank == 2:
    os.environ["NCCL_DEBUG"] = "WARN"
os.environ["MY_TOKEN"] = "secret" if rank else "another secret"
call()                                                  # the group's store; one is odd
while rank == 1 and not os.path.exists("settled"):
    time.sleep(0.1)
call(sync=3.0)                                          # one is late
open("settled", "w").close()
total = torch.ones(1)
dist.all_reduce(total)
dist.destroy_process_group()
json.dump([told, before, after, total.item()], open(f"rank-{rank}.json", "w"))
"""


@pytest.mark.real_torch
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no torch in this environment")
def test_four_ranks_under_torchrun(tmp_path: Path) -> None:
    """Four real ranks agree over the launcher's store and the group's, stop together, and wait no longer than told.

    After each call the process has no thread and no connection more than before, and the group still works.
    """
    (tmp_path / "job.py").write_text(JOB)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4", "job.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(OMP_NUM_THREADS="1"), capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL, timeout=240,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr[-4000:]
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(4)]
    for told, before, after, total in ranks:
        assert ["ok", "refused", "ok", "refused"] == [kind for kind, _, _ in told]
        assert told[0][1] == ["4 of 4 ranks on 1 machine have checked"]
        assert (before, 4.0) == (after, total)
    first = [told for told, *_ in ranks]
    assert first[0][1][1].startswith("Rank 3 of 4 (")
    assert all("stops with all others: Rank 3: requirement-not-met@python" in told[1][1] for told in first[1:])
    odd = ["differs-across-ranks@MY_TOKEN", "differs-across-ranks@NCCL_DEBUG"]
    assert odd == [each for each in first[0][2][2] if "across" in each]
    assert all("rank-unreachable@1" in told[3][1] for told in first)
    assert 1 == done.stderr.count("envdoctor: 1 warning. Start with differs-across-ranks@NCCL_DEBUG.")
