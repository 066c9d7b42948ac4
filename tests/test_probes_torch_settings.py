"""torch's settings, as torches from 1.8 to 2.13 let them be read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from envdoctor_probes.torch_settings import parse_nccl_version, read_settings


class Refuses:
    """Settings of which some raise, as torch's do once the other API was used."""

    def __init__(self, **values: object) -> None:
        self.__dict__["_values"] = values

    def __getattr__(self, name: str) -> Any:
        if name not in self._values:
            raise AttributeError(f"no attribute {name!r}")
        value = self._values[name]
        if isinstance(value, Exception):
            raise value
        return value


def a_torch(version: str = "2.13", **over: Any) -> Any:
    """Give a module shaped like this version of torch, in its defaults."""
    new = version == "2.13"
    matmul: dict[str, Any] = {"allow_tf32": False} | ({"fp32_precision": "none"} if new else {})
    cudnn: dict[str, Any] = {
        "enabled": True, "benchmark": False, "deterministic": False, "allow_tf32": True,
        "is_available": lambda: False, "version": lambda: None,
    }  # fmt: skip
    sdp = {f"{name}_sdp_enabled": (lambda: True) for name in ("flash", "mem_efficient", "math", "cudnn")}
    conv = {"conv": Refuses(fp32_precision="tf32")} if new else {}
    cuda_backend = Refuses(matmul=Refuses(**matmul | over.get("matmul", {})), **(sdp if version != "1.8" else {}))
    backends = {"cuda": cuda_backend, "cudnn": Refuses(**cudnn | conv | over.get("cudnn", {}))}
    functions = {"get_float32_matmul_precision": lambda: "highest"} if version != "1.8" else {}
    return Refuses(
        backends=Refuses(**backends | ({"fp32_precision": "none"} if new else {})),
        **functions | over.get("functions", {}),
        are_deterministic_algorithms_enabled=lambda: False,
        get_default_dtype=lambda: "torch.float32",
        is_anomaly_enabled=lambda: False,
        get_num_threads=lambda: 8,
        _C=over.get("C", SimpleNamespace()),
        distributed=over.get("distributed", SimpleNamespace(is_available=lambda: False)),
    )


def test_a_new_torch_tells_everything() -> None:
    """All settings of a default torch 2.13 are read; what was not built in is said."""
    fact = read_settings(a_torch())
    assert {"cudnn_version", "nccl_version", "distributed_backends"} == set(fact.unknown)
    expected = ("none", "none", "tf32", "highest", False, True, True, 8)
    assert expected == (
        fact.fp32_precision, fact.matmul_fp32_precision, fact.cudnn_fp32_precision, fact.float32_matmul_precision,
        fact.allow_tf32_matmul, fact.allow_tf32_cudnn, fact.cudnn_sdp, fact.num_threads,
    )  # fmt: skip


def test_an_old_torch_has_fewer_settings() -> None:
    """What torch 1.8 does not have is unknown, what it has is read."""
    fact = read_settings(a_torch("1.8"))
    assert (False, True, None) == (fact.allow_tf32_matmul, fact.allow_tf32_cudnn, fact.float32_matmul_precision)
    missing = {"fp32_precision", "matmul_fp32_precision", "cudnn_fp32_precision", "flash_sdp"}
    assert set() == missing - set(fact.unknown)
    assert fact.unknown["flash_sdp"].startswith("this torch does not have it")


def test_a_refusal_is_kept_in_its_own_words() -> None:
    """After the new API was used, reading the old raises; the rest is read all the same."""
    words = "PyTorch is checking whether allow_tf32_new is enabled for cuBlas matmul,Current status indicate a mix"
    over = {"fp32_precision": "tf32", "allow_tf32": RuntimeError(words)}
    fact = read_settings(a_torch(matmul=over))
    assert ("tf32", None, f"RuntimeError: {words}") == (
        fact.matmul_fp32_precision,
        fact.allow_tf32_matmul,
        fact.unknown["allow_tf32_matmul"],
    )
    assert "highest" == fact.float32_matmul_precision


def test_cudnn_is_asked_only_where_it_was_built_in() -> None:
    """The question for cuDNN's version loads it: a build without it is not asked."""

    def never() -> int:
        pytest.fail("asked")

    assert "torch was built without cuDNN" == read_settings(a_torch(cudnn={"version": never})).unknown["cudnn_version"]
    built = read_settings(a_torch(cudnn={"is_available": lambda: True, "version": lambda: 90100}))
    assert 90100 == built.cudnn_version


def test_a_cudnn_mismatch_is_told_in_torchs_words() -> None:
    """Torch refuses a cuDNN older than the one that it was compiled against."""

    def refuse() -> int:
        raise RuntimeError("cuDNN version incompatibility: PyTorch was compiled against (9, 1, 0)")

    fact = read_settings(a_torch(cudnn={"is_available": lambda: True, "version": refuse}))
    assert fact.unknown["cudnn_version"].startswith("RuntimeError: cuDNN version incompatibility")


def test_the_backends_of_distributed_are_listed() -> None:
    """Each backend that this build answers for is named; one that it cannot be asked for is not."""
    answers = {"is_available": lambda: True, "is_nccl_available": lambda: True, "is_mpi_available": lambda: False}
    distributed = SimpleNamespace(**answers, ProcessGroupGloo=object)
    assert ("nccl", "gloo") == read_settings(a_torch(distributed=distributed)).distributed_backends


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((2, 21, 5), "2.21.5"),
        ((2, 21, 5, ""), "2.21.5"),
        (2708, "2.7.8"),
        (21003, "2.10.3"),
        ((2 << 32) + (27 << 16) + 3, "2.27.3"),
    ],
)
def test_every_form_of_nccl_version_is_read(answer: Any, expected: str) -> None:
    """Torch has answered with tuples, with NCCL's own number and with a packed one."""
    assert expected == parse_nccl_version(answer)


def test_nccl_is_asked_where_it_was_built_in() -> None:
    """The answer of the compiled module is used without torch.cuda."""
    packed = (2 << 32) + (21 << 16) + 5
    assert "2.21.5" == read_settings(a_torch(C=SimpleNamespace(_nccl_version=lambda: packed))).nccl_version
