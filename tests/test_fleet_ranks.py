"""``envdoctor fleet`` as ranks started by hand: one report, the odd rank named, nobody waits for ever."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from envdoctor.plan import MACHINE_WIDE
from tests.fleet_ranks import (
    Ended,
    by_hand,
    dumped,
    free_port,
    group,
    on,
    plug_in,
    wait_for_notices,
)

QUICK = ("--level", "quick", "--timeout", "60", "--sync-timeout", "120")
real_torch = pytest.mark.real_torch


def differences(ended: Ended) -> dict[str, list[tuple[str, str]]]:
    """Give what differs: values and who has them."""
    return {each["name"]: [(s["value"], s["ranks"]) for s in each["shares"]] for each in ended.report["differences"]}


def test_machine_wide_questions_are_asked_once(tmp_path: Path) -> None:
    """The first rank of a node asks for the machine, all take its answers; each asks for its own environment."""
    with group() as made:
        by_hand(
            made, 3, free_port(), tmp_path, *QUICK, own=lambda rank: {"EDF": str(rank), "OMP_NUM_THREADS": str(rank)}
        )
        ended = made.end()
    report = ended[0].report
    assert [0, 0, 0] == [ended[rank].code for rank in range(3)]
    assert ["", ""] == [ended[rank].out for rank in (1, 2)]
    assert [("0", "0"), ("1", "1"), ("2", "2")] == differences(ended[0])["OMP_NUM_THREADS"]
    unknown = [check["id"] for check in report["checks"] if check["status"] == "unknown" and " of 3" in check["reason"]]
    assert [] == unknown
    assert "host" in report["facts"]["facts"]
    assert MACHINE_WIDE


def test_a_rank_that_never_starts_is_named(tmp_path: Path) -> None:
    """The world size is never reached: the others report within their time, and fail."""
    with group() as made:
        by_hand(made, 4, free_port(), tmp_path, "--level", "quick", "--sync-timeout", "8", ranks=(0, 1, 3))
        ended = made.end()
    silent = ended[0].report["ranks"]["silent"]
    assert [("2", "never-seen")] == [(each["ranks"], each["state"]) for each in silent]
    assert [1, 1, 1] == [each.code for each in ended.values()]
    assert "Rank 2 never arrived" in ended[0].titles


def test_a_rank_that_hangs_in_its_probes_is_named_with_what_it_does(tmp_path: Path) -> None:
    """Rank 1 hangs longer than the others wait: they say at what."""
    path = plug_in(tmp_path / "sick", "time.sleep(3600)", seconds=200)
    with group() as made:
        options = ("--level", "quick", "--timeout", "90", "--sync-timeout", "12")
        by_hand(made, 2, free_port(), tmp_path, *options, own=lambda rank: {"PYTHONPATH": path} if rank else {})
        ended = {0: made.processes[0].communicate(timeout=240)}
        out = Ended(made.processes[0].returncode, *ended[0])
    silent = out.report["ranks"]["silent"]
    assert ["1"] == [each["ranks"] for each in silent]
    assert "probe sick" in silent[0]["last"], dumped(silent)


def test_a_rank_whose_probe_crashes_reports_that(tmp_path: Path) -> None:
    """A crash is a result: rank 1 reports it, and the whole says who."""
    path = plug_in(tmp_path / "sick", "os.abort()")
    with group() as made:
        by_hand(made, 2, free_port(), tmp_path, *QUICK, own=lambda rank: {"PYTHONPATH": path} if rank else {})
        ended = made.end()
    assert {"sick": "1"} == on(ended[0].report, "probe-crashed")


def test_when_rank_0_dies_the_next_rank_reports(tmp_path: Path) -> None:
    """Rank 0 held the board: rank 1 says that it is gone, and all fail."""
    path, port = plug_in(tmp_path / "sick", "time.sleep(3600)", seconds=200), free_port()
    with group() as made:
        options = ("--level", "quick", "--timeout", "180", "--sync-timeout", "15")
        by_hand(made, 3, port, tmp_path, *options, own=lambda rank: {"PYTHONPATH": path} if not rank else {})
        wait_for_notices(made, port, "hello/0", "snapshot/1", "snapshot/2")
        os.killpg(made.processes[0].pid, signal.SIGKILL)
        ended = made.end()
    assert [1, 1] == [ended[rank].code for rank in (1, 2)]
    assert ["rank-unreachable"] == [f["id"] for f in ended[1].report["findings"] if f["severity"] == "error"]
    assert "" == ended[2].out
    assert "rank 2:" in ended[2].err


def test_another_version_of_envdoctor_is_named(tmp_path: Path) -> None:
    """Version skew of the doctor itself is the first difference."""
    skewed = tmp_path / "skewed"
    skewed.mkdir()
    (skewed / "sitecustomize.py").write_text("import envdoctor\nenvdoctor.__version__ = '0.0.9'\n")
    with group() as made:
        by_hand(
            made, 3, free_port(), tmp_path, *QUICK, own=lambda rank: {"PYTHONPATH": str(skewed)} if rank == 1 else {}
        )
        ended = made.end()
    assert [("0.0.9", "1"), ("0.1.0", "0,2")] == differences(ended[0])["envdoctor"]


def test_ctrl_c_ends_the_waiting_with_a_report(tmp_path: Path) -> None:
    """Ctrl-C on rank 0 while it waits shows what is known, and ends with 130."""
    port = free_port()
    with group() as made:
        by_hand(made, 2, port, tmp_path, "--level", "quick", "--sync-timeout", "600", ranks=(0,))
        wait_for_notices(made, port, "snapshot/0")
        os.kill(made.processes[0].pid, signal.SIGINT)
        ended = made.end()[0]
    assert (130, True) == (ended.code, ended.report["interrupted"])


@pytest.mark.parametrize(
    ("options", "environ", "words"),
    [
        ((), {"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 is no rank of WORLD_SIZE=2"),
        ((), {"ACCELERATE_MIXED_PRECISION": "no"}, "accelerate launch --multi_gpu --num_processes 2"),
        (("--nnodes", "2"), {}, "--node-rank is None, expected 0 to 1"),
        (("--nnodes", "2", "--node-rank", "0"), {}, "--master-addr is missing"),
        (("--sync-timeout", "-1"), {}, "'-1' is not a number of seconds above 0"),
        (("--stage-timeout", "9"), {}, "--stage-timeout is for the tests of --deep: use both"),
        (("--deep", "."), {}, "--deep says how to collect, and saved snapshots were collected: use one"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    tmp_path: Path, options: tuple[str, ...], environ: dict[str, str], words: str
) -> None:
    """A place that is none is refused before anything is collected."""
    from tests.fleet_ranks import ENVDOCTOR, clean, start

    with group() as made:
        made.add(0, start([*ENVDOCTOR, "fleet", *options], clean(**environ), tmp_path))
        ended = made.end()[0]
    assert (2, "") == (ended.code, ended.out)
    assert words in ended.err
