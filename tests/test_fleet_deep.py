"""``envdoctor fleet --deep`` with real ranks and gloo: one really slowed, one node really cut off in the middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fleet_ranks import ENVDOCTOR, clean, codes, dumped, group, torchrun
from tests.stands.network import PYTHON, Network, network

pytestmark = pytest.mark.real_torch
OPTIONS = ("--deep", "--level", "quick", "--timeout", "60", "--sync-timeout", "100")
FLEET = [*ENVDOCTOR, "fleet", "--format", "json", *OPTIONS]
PORT = "29610"
# In the interpreter of one rank every product is made eight times, from the import of torch on.
SLOWED = """
import importlib.abc, importlib.util, sys

class Slowing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            once = module.mm
            module.mm = lambda *given, **named: [once(*given, **named) for _ in range(8)][-1]

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Slowing())
"""


def stages(report: Any) -> dict[str, Any]:
    """Give the stages by name."""
    return {each["name"]: each for each in report["stages"]}


def done(stage: Any) -> list[Any]:
    """Give the results of a stage that were measured."""
    return [each for each in stage["results"] if each["state"] == "done"]


def stragglers(report: Any) -> dict[str, Any]:
    """Give what the rule says, by subject."""
    return {each["subject"]: each for each in report["findings"] if each["id"] == "straggler"}


@pytest.mark.root
def test_a_slow_rank_and_a_node_that_is_cut_off_between_two_stages(tmp_path: Path) -> None:
    """Two nodes of two ranks. One rank computes slowly; later, while pairs are asked, the link of a node goes down.

    The slow rank is named beside its peers and the lost ones by the stage that they did not answer, and both sides end
    in time with a report.
    """
    (tmp_path / "sitecustomize.py").write_text(SLOWED)
    with network(2) as hosts, group() as made:
        for rank in range(4):
            made.add(
                rank, hosts.start(1 + rank // 2, [*FLEET, "--stage-timeout", "8"], _environ(rank, tmp_path), tmp_path)
            )
        _wait_for_second_round(hosts, tmp_path)
        hosts.cut(2)
        ended = made.end()
    report = ended[0].report
    found, named = stages(report), stragglers(report)
    assert ["compute", "p2p", "loopback", "pairs", "all"] == list(found), dumped(report["stages"])

    assert named["1"]["title"].startswith("Rank 1 is slow when it computes: "), dumped(found["compute"])
    assert named["1"]["fixes"][0]["verify"].endswith("fleet --deep --only straggler")
    computed = {each["ranks"]: each["value"] for each in found["compute"]["results"]}
    assert computed["1"] < 0.5 * min(computed[rank] for rank in "023")
    assert all(len(each["seconds"]) >= 5 for each in found["compute"]["results"])

    assert {"0-1": "node1", "2-3": "node2"} == {e["ranks"]: e["nodes"] for e in done(found["loopback"])}
    assert {"0+1", "2+3"} == {each["ranks"] for each in done(found["pairs"])}, dumped(found["pairs"])
    assert {"2", "3"} == {each["ranks"] for each in found["pairs"]["results"] if each["state"] == "timed-out"}
    assert ["error", "error"] == [named[each]["severity"] for each in ("pairs-2", "pairs-3")]
    assert ["0-1"] == [each["ranks"] for each in done(found["all"])]
    assert "without 2-3" in found["all"]["config"]
    assert [1, 1] == [ended[rank].code for rank in (0, 1)]

    alone = ended[2].report
    assert (1, []) == (alone["members"], alone["stages"])
    assert "rank-unreachable" in {each["id"] for each in alone["findings"]}


def _environ(rank: int, slowed: Path) -> dict[str, str]:
    """Give the environment of one of four ranks on two nodes, as set by hand; rank 1 is the slow one."""
    more = {"PYTHONPATH": str(slowed)} if rank == 1 else {}
    return clean(
        RANK=str(rank), LOCAL_RANK=str(rank % 2), WORLD_SIZE="4", LOCAL_WORLD_SIZE="2", MASTER_ADDR="node1",
        MASTER_PORT=PORT, GLOO_SOCKET_IFNAME="eth0", OMP_NUM_THREADS="1", **more,
    )  # fmt: skip


def _wait_for_second_round(hosts: Network, cwd: Path) -> None:
    """Read rank 0's board, as a rank does, until pairs are asked for the second time."""
    code = f"""
import json, time, urllib.error, urllib.request
number, rounds, until = 0, 0, time.monotonic() + 200
while rounds < 2 and time.monotonic() < until:
    try:
        url = f"http://node1:{PORT}/envdoctor-fleet/environment/step/{{number}}"
        rounds += json.load(urllib.request.urlopen(url, timeout=5))["stage"] == "pairs"
        number += 1
    except (urllib.error.URLError, OSError):
        time.sleep(0.05)
if rounds < 2:
    raise SystemExit("it never came")
"""
    out, err = (waiting := hosts.start(1, [PYTHON, "-c", code], clean(), cwd)).communicate(timeout=240)
    assert 0 == waiting.returncode, out + err


def test_ranks_of_torchrun_meet_in_its_own_store(tmp_path: Path) -> None:
    """Healthy ranks go through all stages; nobody is blamed for what one alone or two cannot be told from."""
    ended = torchrun(tmp_path, *OPTIONS, ranks=2, OMP_NUM_THREADS="1")
    found = stages(ended.report)
    states = {name: each["state"] for name, each in found.items()}
    expected = {"compute": "done", "p2p": "not-applicable", "loopback": "done", "pairs": "done", "all": "done"}
    assert expected == states, dumped(ended.report["stages"])
    assert all(each["value"] > 0 for name in ("compute", "loopback", "pairs", "all") for each in done(found[name]))
    assert "gloo (no GPU), 4 MiB, 1 of 1 pairs in 1 round" == found["pairs"]["config"]
    assert {} == stragglers(ended.report)
    assert {"0": "0", "1": "0"} == codes(tmp_path)
