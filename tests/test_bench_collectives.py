"""Collectives with gloo: ranks that we start, ranks that the user launched, and what NCCL's log says."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from envdoctor_probes.bench import collectives, forced
from envdoctor_probes.bench.collectives import Collectives, measured_of
from envdoctor_probes.bench.exchange import OPS
from envdoctor_probes.bench.nccl_log import parse_nccl_log
from envdoctor_probes.bench.place import Cpu
from envdoctor_probes.bench.wanted import Wanted

from envdoctor.facts.bench import FORCES_NCCL, BenchCollectives
from envdoctor.outcome import Got
from envdoctor.probe import NotThere, Ran
from tests.bench_stand import NEEDS_TORCH, context, no_limit, pretended_gpu, through_the_engine

pytestmark = [*NEEDS_TORCH, pytest.mark.usefixtures("no_limit")]
__all__ = ["no_limit"]

# Lines as NCCL 2.21 and 2.27 write them.
LOG = """\
node1:4242:4300 [0] NCCL INFO NCCL version 2.21.5+cuda12.4
node1:4242:4300 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [1]mlx5_1:1/IB [RO]; OOB eth0:10.0.0.1<0>
node1:4242:4300 [0] NCCL INFO Using network IB
node1:4242:4300 [0] NCCL INFO NVLS multicast support is available on dev 0
node1:4242:4300 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM/read
node1:4242:4300 [0] NCCL INFO Channel 01/0 : 0[0] -> 1[1] via P2P/CUMEM/read
node1:4242:4300 [0] NCCL INFO Channel 00/0 : 1[1] -> 8[0] [send] via NET/IB/0/GDRDMA
node1:4242:4300 [0] NCCL INFO Channel 00 : 0[0] -> 1[1] via SHM/direct/direct
node1:4242:4300 [0] NCCL INFO Channel 00/0 : 8[0] -> 0[0] [receive] via NET/Socket/0
node1:4242:4300 [0] NCCL INFO Connected all rings
node1:4242:4300 [0] NCCL INFO Connected all trees
node1:4242:4300 [0] NCCL WARN Missing "iommu=pt" from kernel command line
node1:4242:4300 [0] NCCL INFO Using network IB
"""


def test_nccls_log_is_read() -> None:
    """Version, networks, transports and algorithms, each once and in order; warnings as they are."""
    found = parse_nccl_log(LOG)
    assert ("2.21.5", ("IB",), ("Ring", "Tree", "NVLS")) == (found.version, found.networks, found.algorithms)
    assert ("P2P/CUMEM/read", "NET/IB/0/GDRDMA", "SHM/direct/direct", "NET/Socket/0") == found.transports
    assert ('Missing "iommu=pt" from kernel command line',) == found.warnings


@pytest.mark.parametrize("text", ["", "via nothing at all\n", "Using network"])
def test_a_log_that_says_nothing_is_empty(text: str) -> None:
    """No word is made up."""
    found = parse_nccl_log(text)
    assert ("", (), (), ()) == (found.version, found.networks, found.transports, found.algorithms)


def test_ranks_that_we_start_exchange_what_is_right(tmp_path: Path) -> None:
    """Two ranks with gloo: each operation at each size, checked, the slowest rank's time of each, nothing left."""
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    snapshot = through_the_engine(
        "collectives", model="vit_ti16", seconds={"collectives": 26.0}, patient={"environ": environ}
    )
    fact, result = snapshot.get(BenchCollectives), snapshot.probe_for("bench_collectives")
    assert result is not None
    assert Got("fresh-process") == result.outcome
    assert fact is not None
    assert ("gloo", 2, 2, 0, "envdoctor") == (
        fact.backend, fact.ranks, fact.ranks_here, fact.rank, fact.launched_by,
    )  # fmt: skip
    assert set(OPS) == {each.name for each in fact.measured}, fact.measured
    assert {"measured", "skipped"} >= {each.state for each in fact.measured}
    done = [each for each in fact.measured if each.seconds]
    assert done
    assert all(each.correct and len(each.seconds) >= 5 and each.work_unit == "byte" for each in done)
    assert {"32768", str(4 * 5_717_416)} <= {each.config["bytes"] for each in fact.measured}
    assert 4 * 5_717_416 == fact.gradient_bytes
    assert [] == list(tmp_path.iterdir())


LAUNCHED = """
import json, os, sys
sys.path[:0] = json.loads(os.environ["OUR_PATHS"])
from envdoctor_probes.bench import collectives, forced
from envdoctor.probe import Context
import msgspec
collectives.CPU_SIZES = (4096,)
options = {"bench": {"device": "cpu", "model": "vit_ti16", "seconds": {"collectives": 23.0}}}
collectives.Collectives._gradient_bytes = lambda self: None
fact = collectives.bench_collectives.collect(Context(options=options))
with open(os.environ["OUT"] + os.environ["RANK"], "wb") as file:
    file.write(msgspec.json.encode(fact))
"""


def test_ranks_that_the_user_launched_measure_together(tmp_path: Path) -> None:
    """Under torchrun each rank joins the others, and all report the slowest rank's times."""
    script = tmp_path / "job.py"
    script.write_text(LAUNCHED)
    environ = {
        **os.environ, "OMP_NUM_THREADS": "1", "OUT": str(tmp_path / "out"), "GLOO_SOCKET_IFNAME": "lo",
        "OUR_PATHS": json.dumps([each for each in sys.path if each]),
    }  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    done = subprocess.run(
        [*command, "--nproc-per-node=2", str(script)], env=environ, capture_output=True, text=True, check=False,
        timeout=200,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"out{rank}").read_text()) for rank in (0, 1))
    assert ("torchrun", 2, 0, 1) == (first["launched_by"], first["ranks"], first["rank"], second["rank"])
    assert [each["seconds"] for each in first["measured"]] == [each["seconds"] for each in second["measured"]]
    assert {(op, "measured", True) for op in OPS} == {
        (each["name"], each["state"], each["correct"]) for each in first["measured"]
    }


class Launches:
    """Stands in for torchrun: notes each environment, and writes the first rank's rows at a given speed."""

    def __init__(self, seconds: Callable[[Mapping[str, str]], float]) -> None:
        self.environs: list[dict[str, str]] = []
        self.steps: list[list[Any]] = []
        self._seconds = seconds

    def __call__(self, _argv: Any, _limit: float) -> Ran:
        """Run one launch."""
        orders = json.loads(os.environ["ENVDOCTOR_RANKS"])
        self.environs.append(dict(os.environ))
        self.steps.append(orders["steps"])
        with Path(orders["out"]).open("a", encoding="ascii") as file:
            for op, size in orders["steps"]:
                row = {"op": op, "bytes": size, "state": "measured", "reason": "", "correct": True}
                file.write(json.dumps({**row, "seconds": [self._seconds(os.environ)] * 5}) + "\n")
        return Ran(0)


FORCED = {"NCCL_PROTO": "LL", "NCCL_ALGO": "Tree", "NCCL_SHM_DISABLE": ""}


def launched(monkeypatch: pytest.MonkeyPatch, folder: Path, launches: Launches, **more: str) -> Collectives:
    """Measure on the CPU, as if NCCL's variables meant something to gloo."""
    monkeypatch.setitem(forced.FORCES, "gloo", FORCES_NCCL)
    for name, value in {**FORCED, **more}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NCCL_DEBUG_FILE", "")  # taken back afterwards, and so is what follows
    monkeypatch.setenv("ENVDOCTOR_RANKS", "")
    given = dataclasses.replace(context(), run=launches, environ=dict(os.environ))
    found = Collectives(given, Cpu(torch_here(), "cpu", 1 << 30), Wanted(model="vit_ti16"), str(folder))
    found.measure()
    return found


def torch_here() -> Any:
    """Give torch, imported no earlier than a test needs it."""
    import torch

    return torch


def test_the_all_reduce_is_measured_again_without_what_forces_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All variables out at once, and, since that helped, each alone: only the all-reduce, in ranks started anew."""
    launches = Launches(lambda environ: 0.02 if "NCCL_PROTO" in environ else 0.01)
    fact: BenchCollectives = launched(monkeypatch, tmp_path, launches).suite.fact
    seen = [sorted(name for name in FORCED if each.get(name)) for each in launches.environs]
    assert [["NCCL_ALGO", "NCCL_PROTO"], [], ["NCCL_ALGO"], ["NCCL_PROTO"]] == seen
    assert [["all-reduce", 16 << 20], ["all-reduce", 4 * 5_717_416]] == launches.steps[1]
    assert not [each for each in launches.environs[1:] if each["NCCL_DEBUG_FILE"].endswith("nccl.%h.%p")]
    medians = {(each.config.get("without"), each.seconds[0]) for each in fact.measured if each.name == "all-reduce"}
    assert {
        (None, 0.02), ("NCCL_PROTO+NCCL_ALGO", 0.01), ("NCCL_PROTO", 0.01), ("NCCL_ALGO", 0.02),
    } == medians  # fmt: skip
    assert "LL" == os.environ["NCCL_PROTO"]


def test_variables_that_change_nothing_are_not_tried_singly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One launch without all of them has said enough."""
    launches = Launches(lambda _environ: 0.02)
    launched(monkeypatch, tmp_path, launches)
    assert 2 == len(launches.environs)


def test_without_time_the_all_reduce_is_not_measured_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A row says so."""
    monkeypatch.setattr(collectives, "_AGAIN", 1e6)
    launches = Launches(lambda _environ: 0.02)
    last = launched(monkeypatch, tmp_path, launches).suite.measured[-1]
    assert 1 == len(launches.environs)
    assert ("skipped", "NCCL_PROTO+NCCL_ALGO", "the time for this suite was over") == (
        last.state, last.config["without"], last.reason,
    )  # fmt: skip


def test_ranks_that_the_user_launched_keep_their_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is started beside them: a row says what to do instead."""
    monkeypatch.setattr(Collectives, "_join", lambda _self: None)
    launches = Launches(lambda _environ: 0.02)
    (only,) = launched(monkeypatch, tmp_path, launches, RANK="0", WORLD_SIZE="2").suite.measured
    assert [] == launches.environs
    assert "not-applicable" == only.state
    assert "without a launcher" in only.reason


def test_the_cards_are_left_to_the_ranks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In exclusive mode a card takes one process: what was there for the copies must be gone when ranks start."""
    launches, left = Launches(lambda _environ: 0.02), list[int]()
    monkeypatch.setattr(Cpu, "leave", lambda _self: left.append(len(launches.environs)))
    launched(monkeypatch, tmp_path, launches)
    assert [0] == left


def test_leaving_destroys_each_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every card that torch sees; where there is no libcuda there is nothing to leave."""
    reset: list[int] = []

    def get(place: Any, index: Any) -> int:
        place._obj.value = 10 + index.value
        return int(index.value == 1)

    driver = SimpleNamespace(cuDeviceGet=get, cuDevicePrimaryCtxReset_v2=lambda device: reset.append(device.value))
    monkeypatch.setattr("ctypes.CDLL", lambda _name: driver)
    with pretended_gpu(monkeypatch) as place:
        monkeypatch.setattr(place.torch.cuda, "device_count", lambda: 3)
        place.leave()
    assert [10, 12] == reset


def suite(**options: Any) -> Collectives:
    """Make the suite on the CPU."""
    import torch

    wanted = Wanted(model="vit_ti16", **options)
    return Collectives(context(), Cpu(torch, torch.device("cpu"), 1 << 30), wanted, "/nowhere")


def test_ranks_that_fail_leave_their_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured before stands, and a row says how the ranks ended."""
    under_way = suite()
    rows = ({"op": "all-reduce", "bytes": 4096, "state": "measured", "reason": "", "seconds": [0.1], "correct": True},)
    monkeypatch.setattr(collectives, "_rows", lambda _path: rows)
    monkeypatch.setattr(
        under_way, "_context", context().__class__(run=lambda *_: Ran(1, "", "NCCL error: unhandled system error"))
    )
    under_way.measure()
    first, last = under_way.suite.measured
    assert ("measured", (0.1,)) == (first.state, first.seconds)
    assert ("failed", "the ranks ended with 1: NCCL error: unhandled system error") == (last.state, last.reason)


def test_rows_that_were_cut_off_are_left_out(tmp_path: Path) -> None:
    """A rank that was killed in the middle of a line has written no row; one that never began has no file."""
    file = tmp_path / "rows"
    assert () == collectives._rows(str(file))
    file.write_text('{"op": "all-reduce"}\n{"op": "all-')
    assert ({"op": "all-reduce"},) == collectives._rows(str(file))


def test_one_gpu_has_nobody_to_exchange_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collectives need several GPUs, or a launch over several machines."""
    with pretended_gpu(monkeypatch) as place, pytest.raises(NotThere, match="there is one GPU here"):
        Collectives(context(), place, Wanted(), "/nowhere")


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rank has a GPU of its own."""
    with pretended_gpu(monkeypatch) as place, pytest.raises(NotThere, match="4 ranks need 4 GPUs, torch sees 1"):
        Collectives(context(), place, Wanted(ranks=4), "/nowhere")


def test_a_row_is_a_measurement() -> None:
    """Its work is S, the whole buffer, as nccl-tests counts it."""
    row = {"op": "all-gather", "bytes": 1 << 20, "state": "measured", "reason": "", "seconds": [0.5, 0.25]}
    found = measured_of(row, 4, suite()._place)
    assert (float(1 << 20), "byte", (0.5, 0.25), "4") == (
        found.work, found.work_unit, found.seconds, found.config["ranks"],
    )  # fmt: skip
