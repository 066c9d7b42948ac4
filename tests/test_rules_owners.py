"""Whose code a line speaks of, and which foreign directories a path names."""

from __future__ import annotations

import pytest

from envdoctor.facts.torch import TorchBuild
from envdoctor.rules.foreign_paths import older_than, stubs_in, toolkits_in
from envdoctor.rules.owners import is_built_for_torch, owner

SITE = "/opt/venv/lib/python3.10/site-packages"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (f"ImportError: {SITE}/flash_attn_2_cuda.cpython-310-x86_64-linux-gnu.so: undefined symbol: x", "flash-attn"),
        (f"ImportError: {SITE}/mmcv/_ext.cpython-38-x86_64-linux-gnu.so: undefined symbol", "mmcv"),
        (f"OSError: {SITE}/torchaudio/lib/libtorchaudio.so: undefined symbol: x", "torchaudio"),
        ('File "/src/vllm/attention/ops.py", line 3', "vllm"),
        ("fused_layer_norm_cuda.cpython-310-x86_64-linux-gnu.so: undefined symbol: x", "apex"),
        ("common_ops.abi3.so: undefined symbol: x", "sgl-kernel"),
        ("no kernel image is available (flashinfer)", "flashinfer-python"),
        (f"{SITE}\\xformers\\_C.pyd", "xformers"),
        (f"OSError: {SITE}/torch/lib/libtorch_cpu.so: undefined symbol: x", None),
        (f"{SITE}/nvidia/cublas/lib/libcublas.so.11: undefined symbol: x", None),
        ("_ext.so: undefined symbol: x", None),
        ("libgomp.so.1: cannot open shared object file", None),
        ("my model is slow", None),
    ],
)
def test_who_a_line_speaks_of(line: str, name: str | None) -> None:
    """By place, by the file's name, by mention; never torch itself, NVIDIA's wheels or a library of the system."""
    assert name == owner(line)


@pytest.mark.parametrize(
    ("name", "known"), [("mmcv", True), ("flash-attn", True), ("rasterio", False), ("numpy", False), (None, False)]
)
def test_which_packages_are_compiled_against_torch(name: str | None, known: bool) -> None:
    """Those of the tables; another package's missing symbol is no matter of torch."""
    assert known is is_built_for_torch(name)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/usr/local/cuda-11.8/lib64:/opt/app/lib", ["the CUDA toolkit 11.8"]),
        ("/usr/local/cuda/lib64", ["the CUDA toolkit in /usr/local/cuda/lib64"]),
        ("/opt/cudnn-8.9/lib", ["cuDNN 8.9"]),
        (f"{SITE}/nvidia/cudnn/lib:/usr/local/nvidia/lib64", []),
        ("/usr/local/cuda/compat:/usr/local/cuda/lib64/stubs", []),
        ("/home/me/barracuda/lib:::", []),
        ("", []),
    ],
)
def test_toolkits_that_a_path_names(path: str, expected: list[str]) -> None:
    """Toolkits and cuDNN by their directories; not what lies beside torch, not the driver's, not compat."""
    assert expected == [each.words for each in toolkits_in(path)]


def test_stubs_that_a_path_names() -> None:
    """Directories of stubs, with or without a last slash."""
    assert ("/a/stubs", "/b/lib64/stubs/") == stubs_in("/a/stubs:/b/lib64/stubs/:/c/stubsy")


@pytest.mark.parametrize(
    ("path", "cuda", "older"),
    [
        ("/usr/local/cuda-12.0/lib64", "12.4", True),
        ("/usr/local/cuda-12.4/lib64", "12.4", False),
        ("/usr/local/cuda-12.8/lib64", "12.4", False),
        ("/usr/local/cuda-11.8/lib64", "12.4", False),
        ("/usr/local/cuda/lib64", "12.4", False),
        ("/usr/local/cuda-12.0/lib64", None, False),
    ],
)
def test_only_an_older_toolkit_of_the_same_major_is_in_the_way(path: str, cuda: str | None, older: bool) -> None:
    """Libraries of another major have other names; a newer one of the same major works."""
    assert older is bool(older_than(path, TorchBuild(version="2.5.1", cuda=cuda)))
