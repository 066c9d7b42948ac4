"""Which rank a process is, and how ranks leave each other a word: against variables, and a store in memory."""

from __future__ import annotations

import threading
import time
import types
from typing import Any

import pytest

from envdoctor.ranks.launched import Place, launched
from envdoctor.ranks.meeting import Lost, Meeting, NowhereToMeet, meet
from tests.stands.store import OldStore, Store

TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "node0", "MASTER_PORT": "29400",
    "TORCHELASTIC_RUN_ID": "x", "TORCHELASTIC_RESTART_COUNT": "2", "TORCHELASTIC_USE_AGENT_STORE": "True",
}  # fmt: skip
AT_NODE0 = Place("torchrun", 5, 8, 1, "node0", 29400, 2, launchers_store=True)
NO_STORE = "there is no process group yet, and the launcher keeps no store"
SLURM = {"SLURM_PROCID": "3", "SLURM_NTASKS": "16", "SLURM_LOCALID": "3", "SLURM_JOB_ID": "7"}

SALLOC_SHELL = {
    "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        (TORCHRUN, AT_NODE0),
        ({"RANK": "0", "WORLD_SIZE": "2"}, Place("environment", 0, 2)),
        ({**SLURM, "SLURM_STEP_ID": "0"}, Place("srun", 3, 16, 3)),
        (
            {**SLURM, "SLURM_STEP_ID": "0", **TORCHRUN},
            Place("torchrun", 5, 8, 1, "node0", 29400, 2, launchers_store=True),
        ),
        ({**SLURM, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8"}, Place("srun", 3, 8, 3)),
        ({**SALLOC_SHELL, "SLURM_NTASKS": "16"}, Place("srun", 0, 1, 0)),
        (SLURM, None),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, Place("mpirun", 1, 2)),
        ({"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "0"}, Place("mpirun", 1, 2, 0)),
        ({"RANK": "2", "WORLD_SIZE": "2"}, None),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, None),
        ({"RANK": "one", "WORLD_SIZE": "2"}, None),
        ({"RANK": "1"}, None),
        ({}, None),
    ],
)
def test_place_in_a_job(environ: dict[str, str], place: Place | None) -> None:
    """Each launcher's variables are read; what contradicts itself, or a shell of an allocation, is no place."""
    assert place == launched(environ)


def meeting(store: Any, rank: int = 0, size: int = 2, seconds: float = 30.0) -> Meeting:
    """Open a round on a store in memory."""
    return Meeting(store, rank, size, time.monotonic() + seconds)


def test_words_are_left_and_found() -> None:
    """What one rank leaves another finds, also when it looks before it is there."""
    store = Store()
    later = threading.Timer(0.05, lambda: meeting(store, 1).put("word", b"\x00\xff"))
    later.start()
    assert b"\x00\xff" == meeting(store).get("word")
    later.join()


def test_a_store_without_check_will_do() -> None:
    """Before torch 2.3 nothing but a counter tells whether a key is there: a get of one that is not waits."""
    store = OldStore()
    first, second = meeting(store), meeting(store, 1, seconds=0.01)
    assert (False, None) == (first.has("word"), second.get("word"))
    first.put("word", b"x")
    assert (b"y", b"x", b"y") == (first.settle("outcome", b"y"), second.get("word"), second.get("outcome"))
    first.forget(["word", "outcome"])
    assert {} == store.keys
    assert not second.has("word")


def test_what_does_not_come_is_none() -> None:
    """The deadline holds, and so does a sooner one; a count that is never full is no more than that."""
    store = Store()
    assert (None, None) == (meeting(store, seconds=0.01).get("word"), meeting(store).get("word", 0.0))
    assert (1, False) == (meeting(store).count("arrived"), meeting(store, seconds=0.01).wait_for_all("arrived"))
    assert (2, True) == (meeting(store).count("arrived"), meeting(store).wait_for_all("arrived"))


def test_an_outcome_is_settled_once() -> None:
    """The first word holds for whoever comes later; keys go where the store can let them go."""
    store = Store()
    assert (b"first", b"first") == (meeting(store).settle("o", b"first"), meeting(store, 1).settle("o", b"second"))
    meeting(store).forget(["o"])
    assert {} == store.keys
    store.keys["o"] = b""
    store.broken.add("delete_key")
    meeting(store).forget(["o"])
    assert {"o": b""} == store.keys


@pytest.mark.parametrize("call", ["set", "get", "check", "add", "compare_set"])
def test_a_store_that_fails_is_lost(call: str) -> None:
    """Whatever call fails, the words say which and why, in one line."""
    store = Store(call)
    store.keys["k"] = b"1"
    here = meeting(store)
    steps = {
        "set": lambda: here.put("k", b""), "get": lambda: here.get("k"), "check": lambda: here.has("k"),
        "add": lambda: here.count("k"), "compare_set": lambda: here.settle("k", b""),
    }  # fmt: skip
    with pytest.raises(Lost, match=f"^RuntimeError in {call}: Connection reset by peer$"):
        steps[call]()


def fake_torch(*, initialized: bool = False, backend: str = "gloo", **more: Any) -> Any:
    """Make a torch whose torch.distributed answers as told."""
    dist = types.SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: initialized, get_backend=lambda: backend,
        get_rank=lambda: 1, get_world_size=lambda: 4, PrefixStore=lambda prefix, store: (prefix, store), **more,
    )  # fmt: skip
    return types.SimpleNamespace(distributed=dist)


def test_the_groups_store_comes_before_the_launchers() -> None:
    """Where a process group is, its store and its numbers are taken, below a prefix of our own."""
    group = types.SimpleNamespace(_get_default_store=lambda: "the group's")
    found = meet(fake_torch(initialized=True, distributed_c10d=group), launched(TORCHRUN), 5.0, "round/1")
    assert (("envdoctor/2/round/1", "the group's"), 1, 4) == (found.store, found.rank, found.world_size)


def test_the_launchers_store_is_joined() -> None:
    """Before there is a group, the launcher's own store is joined as one more client."""
    seen: dict[str, Any] = {}

    def joined(host: str, port: int, **how: Any) -> str:
        seen.update(how, host=host, port=port)
        return "the launcher's"

    found = meet(fake_torch(TCPStore=joined), launched(TORCHRUN), 5.0, "round/1")
    assert (("envdoctor/2/round/1", "the launcher's"), 5, 8) == (found.store, found.rank, found.world_size)
    assert ("node0", 29400, False, False) == (seen["host"], seen["port"], seen["is_master"], seen["wait_for_workers"])


def raising(error: Exception) -> Any:
    """Make a call that raises."""

    def call(*_: object, **__: object) -> None:
        raise error

    return call


@pytest.mark.parametrize(
    ("torch", "environ", "said"),
    [
        (None, TORCHRUN, "torch is not imported here"),
        (types.SimpleNamespace(), TORCHRUN, "this torch has no torch.distributed"),
        (
            fake_torch(),
            {"RANK": "0", "WORLD_SIZE": "2"},
            "there is no process group yet, and the launcher keeps no store",
        ),
        (fake_torch(initialized=True, backend="fake"), {}, "the process group is a fake one"),
        (fake_torch(initialized=True), {}, "this torch does not show the store of its process group"),
        (
            fake_torch(
                initialized=True,
                distributed_c10d=types.SimpleNamespace(_get_default_store=raising(ValueError("no group"))),
            ),
            {},
            "the process group has no store: no group",
        ),
    ],
)
def test_nowhere_to_meet_is_said(torch: Any, environ: dict[str, str], said: str) -> None:
    """What is missing is named; nothing is made in its place."""
    with pytest.raises(NowhereToMeet, match=f"^{said}$"):
        meet(torch, launched(environ), 5.0, "x")


def test_a_launchers_store_that_is_gone_is_lost() -> None:
    """A store that cannot be joined says where it was to be, and the first line of torch's own words."""
    torch = fake_torch(TCPStore=raising(RuntimeError("The client socket has timed out\nframe #0")))
    with pytest.raises(Lost, match=r"store at node0:29400 cannot be joined: The client socket has timed out$"):
        meet(torch, launched(TORCHRUN), 5.0, "x")
