"""A rank's own GPU: what tells it from those of others, and which one it is where a launcher hands out one to each."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from envdoctor_probes import staged, torch_cuda
from envdoctor_probes.bench import exchange, place
from envdoctor_probes.bench.wanted import Wanted

from envdoctor.probe import NotThere


def a_torch(count: int = 1, **properties: Any) -> Any:
    """Give a torch that sees so many GPUs, whose properties have these besides the name."""
    cuda = SimpleNamespace(
        is_available=lambda: True, device_count=lambda: count, set_device=lambda _device: None,
        get_device_properties=lambda _device: SimpleNamespace(name="NVIDIA A100", **properties),
    )  # fmt: skip
    made = SimpleNamespace(version=SimpleNamespace(cuda="11.7"), cuda=cuda)
    made.device = lambda kind, index=None: SimpleNamespace(type=kind, index=index)
    return made


@pytest.fixture(autouse=True)
def _may_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_cuda, "why_not_asked", lambda *_: None)


def libcuda(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Have libcuda know cards at these addresses, or not be there at all."""

    def get(place: Any, index: Any) -> int:
        place._obj.value = index.value
        return int(index.value >= len(addresses))

    def address(text: Any, _size: Any, device: Any) -> int:
        text.value = addresses[device.value].encode()
        return 0

    def load(_name: str) -> Any:
        if not addresses:
            raise OSError("libcuda.so.1: cannot open shared object file")
        return SimpleNamespace(cuDeviceGet=get, cuDeviceGetPCIBusId=address)

    monkeypatch.setattr("ctypes.CDLL", load)


def test_a_rank_that_sees_one_gpu_names_it_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under Slurm each rank calls its own GPU 0, and an older torch knows no uuid: they are two cards all the same."""
    cards = []
    for each in ("0000:3B:00.0", "0000:86:00.0"):
        libcuda(monkeypatch, each)
        cards.append(staged.own_device(a_torch(), 3)[1])
    assert [("0000:3B:00.0", 0, 1), ("0000:86:00.0", 0, 1)] == [(c["card"], c["index"], c["count"]) for c in cards]


def test_of_several_gpus_each_rank_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The local rank says which."""
    libcuda(monkeypatch, "0000:3B:00.0", "0000:86:00.0")
    assert ["0000:3B:00.0", "0000:86:00.0"] == [staged.own_device(a_torch(2), rank)[1]["card"] for rank in (0, 1)]


def test_without_libcuda_the_uuid_or_the_number_must_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch itself knows is better than nothing."""
    libcuda(monkeypatch)
    assert "GPU-7" == staged.own_device(a_torch(uuid="GPU-7"), 0)[1]["card"]
    assert "1" == staged.own_device(a_torch(2), 1)[1]["card"]


@pytest.mark.parametrize(("count", "index"), [(1, 0), (8, 3)])
def test_a_rank_measures_its_own_gpu(monkeypatch: pytest.MonkeyPatch, count: int, index: int) -> None:
    """The third of a node that sees one GPU alone calls it 0."""
    torch = a_torch(count)
    torch.cuda.mem_get_info = lambda _device: (3 << 30, 4 << 30)
    torch.cuda.set_per_process_memory_fraction = lambda _share, _device: None
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert index == place._cuda(torch, Wanted()).device.index
    assert index == exchange.local_device(torch, "nccl", 3).index


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it was asked for or is the rank's own."""
    monkeypatch.setenv("LOCAL_RANK", "5")
    for wanted, named in ((Wanted(), 5), (Wanted(device="cuda:2"), 2)):
        with pytest.raises(NotThere, match=f"^cuda:{named} is not there: torch sees cuda:0 to cuda:1"):
            place._cuda(a_torch(2), wanted)


def test_copies_end_before_their_time_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are many GPUs the last pairs are left out: a pair that was not come to is none that hangs."""
    torch, said = a_torch(16), list[dict[str, Any]]()
    torch.cuda.can_device_access_peer = lambda _first, _second: True
    clock = iter(range(1000))
    monkeypatch.setattr(staged, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    monkeypatch.setattr(staged, "_there_and_back", lambda *_: [0.01])
    monkeypatch.setitem(sys.modules, "torch", torch)
    staged.run({"do": "p2p", "gpus": [*range(16)], "seconds": 20.0}, said.append)
    assert 15 == len([each for each in said if "copied" in each])
