"""``envdoctor fleet`` under a real torchrun, and 64 ranks in one process group."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fleet_ranks import (
    Ended,
    codes,
    dumped,
    group,
    left_running,
    on,
    torchrun,
)

QUICK = ("--level", "quick", "--timeout", "60", "--sync-timeout", "120")
real_torch = pytest.mark.real_torch


def differences(ended: Ended) -> dict[str, list[tuple[str, str]]]:
    """Give what differs: values and who has them."""
    return {each["name"]: [(s["value"], s["ranks"]) for s in each["shares"]] for each in ended.report["differences"]}


@real_torch
def test_four_ranks_under_torchrun_make_one_report(tmp_path: Path) -> None:
    """The launcher's store carries the facts; rank 2 is named; the worst exit code is that of all ranks."""
    mark = f"EDF_MARK_{os.getpid()}"
    each = "[ $RANK = 2 ] && export NCCL_ALGO=Tree\n[ $RANK = 1 ] && export MY_TOKEN=unseen"
    done = torchrun(tmp_path, *QUICK, "--fail-on", "warning", each=each, **{mark: "1"})
    report = done.report
    ranks = report["ranks"]
    assert (4, 4, 1, "torchrun") == (report["members"], ranks["arrived"], ranks["nodes"], ranks["launcher"])
    assert [("Tree", "2"), ("not set", "0-1,3")] == differences(done)["NCCL_ALGO"], dumped(report["differences"])
    assert [("a private value", "1"), ("not set", "0,2-3")] == differences(done)["MY_TOKEN"]
    assert "unseen" not in done.out + done.err
    assert {"0": "1", "1": "1", "2": "1", "3": "1"} == codes(tmp_path)
    assert [] == left_running(mark)


@real_torch
def test_a_rank_whose_torch_does_not_import_reports_beside_the_store(tmp_path: Path) -> None:
    """The store needs torch; who has none leaves its report on rank 0's own board, and is named with the cause."""
    broken = tmp_path / "broken" / "torch"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('libcudnn.so.9: cannot open shared object file')\n")
    each = f"[ $RANK = 1 ] && export PYTHONPATH={broken.parent}"
    done = torchrun(tmp_path, "--timeout", "120", "--sync-timeout", "120", ranks=2, each=each)
    assert {"": "1"} == on(done.report, "torch-import-fails")
    assert {"0": "1", "1": "1"} == codes(tmp_path)


@real_torch
def test_when_a_rank_dies_under_torchrun_the_others_say_which(tmp_path: Path) -> None:
    """Torchrun ends all ranks as soon as one dies; the report comes out before that."""
    each = "[ $RANK = 1 ] && { sleep 5; kill -9 $$; }"
    done = torchrun(tmp_path, *QUICK, ranks=3, each=each)
    assert "SIGTERM" == done.report["ranks"]["ended_by"]
    assert [("1", "never-seen")] == [(each["ranks"], each["state"]) for each in done.report["ranks"]["silent"]]
    assert ["Rank 1 never arrived"] == done.titles


@real_torch
def test_sixty_four_ranks_in_one_process_group(tmp_path: Path) -> None:
    """64 forked ranks of one gloo group: its store carries the facts, one report names the odd rank and its node."""
    import sys

    from tests.fleet_ranks import clean, start

    stand = Path(__file__).parent / "stands" / "forked_ranks.py"
    environ = clean(PYTHONPATH=str(stand.parent.parent.parent), GLOO_SOCKET_IFNAME="lo", OMP_NUM_THREADS="1")
    with group() as made:
        made.add(0, start([sys.executable, str(stand), "64", "37"], environ, tmp_path))
        done = made.end(290)[0]
    report = done.report
    assert (64, 8, 0) == (report["members"], report["ranks"]["nodes"], done.code), done.err[-2000:]
    assert [("2.21.5", "37"), ("2.27.5", "0-36,38-63")] == differences(done)["nccl"]
    assert "node4" == report["differences"][0]["shares"][0]["nodes"]
    assert report["elapsed_seconds"] > 0
