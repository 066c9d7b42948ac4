"""The stands themselves: what they imitate must behave as the real thing does."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stands.broken_stacks import STANDS
from tests.stands.cuda_wheels import torch
from tests.stands.probe_process import ask
from tests.stands.stub_libraries import stub
from tests.stands.wheels import install

pytestmark = pytest.mark.gcc
IMPORTABLE = {
    "healthy_cu124", "cpu_only", "toolkit_extras", "numpy1_build", "cudnn_newer_minor", "cudnn_older_minor",
    "torchvision_mismatch", "xformers_mismatch", "flash_attn_abi", "cu11_and_cu12", "two_tritons", "two_dist_infos",
    "record_missing", "metadata_empty", "leftover_tilde", "no_metadata", "local_shadow", "healthy_later",
    "ptxas_missing",
}  # fmt: skip
CRASHES = {"lib_truncated"}  # the loader maps what is no longer in the file: SIGBUS


@pytest.mark.parametrize("name", sorted(set(STANDS) - CRASHES))
def test_a_stand_imports_or_fails_as_the_real_stack_does(stand: Callable[[str], Path], name: str) -> None:
    """Only the faults that break the real import break the stand's."""
    answer = ask("torch_import", path=[stand(name)])["torch_import"]
    assert (name in IMPORTABLE) == answer.get("imported", False)


def test_stubs_stand_in_for_the_cuda_libraries(tmp_path: Path) -> None:
    """With stubs where the search path looks, a CUDA build imports without the nvidia-* wheels."""
    install(tmp_path, torch())
    made = stub(tmp_path, skip=(), answers={"cudnnGetVersion": 90100})
    assert tmp_path / "nvidia/cudnn/lib/libcudnn.so.9" in made
    assert 90100 == ctypes.CDLL(str(tmp_path / "nvidia/cudnn/lib/libcudnn.so.9")).cudnnGetVersion()
    assert ask("torch_import", path=[tmp_path])["torch_import"]["imported"]


def test_skipped_libraries_are_left_to_the_caller(tmp_path: Path) -> None:
    """Libcudart must be real: without one the loader says so."""
    install(tmp_path, torch())
    stub(tmp_path)
    assert "libcudart.so.12: cannot open" in ask("torch_import", path=[tmp_path])["torch_import"]["error"]
