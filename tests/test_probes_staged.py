"""What a rank of the staged tests says of its device: by that the ranks know whether two of them share a card."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from envdoctor_probes import staged, torch_cuda


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
