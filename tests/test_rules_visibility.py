"""CUDA_VISIBLE_DEVICES: how CUDA reads it, and when that is worth saying."""

from __future__ import annotations

import pytest

from envdoctor.facts.driver import NvidiaSmi, SmiGpu
from envdoctor.facts.host import Environment, Variable
from envdoctor.facts.torch import TorchCuda
from envdoctor.finding import Severity, Status
from envdoctor.rules.visibility import Mask, cuda_visible_devices_wrong, read_mask
from envdoctor.testing import check
from tests.rule_facts import CPU_BUILD, CU130, NO_GPU, NO_NODES, NODES, ONE_GPU, libcudart, module

TWO = NvidiaSmi(exit_code=0, gpus=(SmiGpu(0, "A100"), SmiGpu(1, "A100")))


def shell(value: str) -> Environment:
    """Make an environment with the variable set."""
    return Environment(variables=(Variable("CUDA_VISIBLE_DEVICES", value),))


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("0,1", ("0", "1")),
        ("1, 0", ("1", "0")),
        ("0,1,", ("0", "1")),
        ("0,-1", ("0",)),
        ("1gpu", ("1",)),
        ("GPU-8932f937-d72c,GPU-1111aaaa", ("GPU-8932f937-d72c", "GPU-1111aaaa")),
        ("GPU-8932", ("GPU-8932",)),
        ("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", ("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f",)),
        ("MIG-<redacted>", ("MIG-<redacted>",)),
        ("MIG-GPU-8932f937-d72c/1/0", ("MIG-GPU-8932f937-d72c/1/0",)),
    ],
)
def test_forms_that_cuda_takes(value: str, taken: tuple[str, ...]) -> None:
    """Indices, prefixes of names, MIG names, spaces, and a final -1 are in order."""
    assert Mask(taken) == read_mask(value, 2)


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        ("2", ()),
        ("0,2,1", ("0",)),
        ("0,0", ()),
        ("all", ()),
        ('"0,1"', ()),
        ("-1,0", ()),
        ("GPU-8932f937,1", ("GPU-8932f937",)),
        ("0,GPU-8932f937", ("0",)),
        ("gpu-8932f937", ()),
    ],
)
def test_forms_that_hide_gpus(value: str, taken: tuple[str, ...]) -> None:
    """The first wrong entry hides what follows, and a repeated one hides everything."""
    mask = read_mask(value, 2)
    assert (taken, True) == (mask.taken, bool(mask.problem))


def test_index_beyond_the_last_gpu() -> None:
    """An index that does not exist is a warning that names it and the number of GPUs."""
    finding = check(cuda_visible_devices_wrong, shell("2"), TWO).finding
    assert Severity.WARNING == finding.severity
    assert "beyond the last GPU, 1" in finding.title
    assert "unset CUDA_VISIBLE_DEVICES" == finding.fixes[0].commands[0].shell


def test_hidden_on_purpose_is_info_until_it_harms() -> None:
    """Hiding every GPU is a choice; a warning only where a CUDA build then finds none."""
    refused = TorchCuda(available=False)
    severities = [
        check(cuda_visible_devices_wrong, shell(""), TWO).finding.severity,
        check(cuda_visible_devices_wrong, shell("-1"), TWO, CU130, refused).finding.severity,
        check(cuda_visible_devices_wrong, shell("-1"), TWO, CU130, libcudart(100), level="quick").finding.severity,
        check(cuda_visible_devices_wrong, shell("-1"), TWO, CPU_BUILD, refused).finding.severity,
    ]
    assert [Severity.INFO, Severity.WARNING, Severity.WARNING, Severity.INFO] == severities


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((Environment(), TWO), Status.PASSED),
        ((shell("0,1"), TWO), Status.PASSED),
        ((shell("0"), NODES, ONE_GPU, module()), Status.PASSED),
        ((shell("GPU-8932f937"), module()), Status.PASSED),
        ((shell("1"), module()), Status.UNKNOWN),
        ((shell("0"), NO_GPU, NO_NODES), Status.NOT_APPLICABLE),
    ],
)
def test_visibility_in_order(facts: tuple[object, ...], status: Status) -> None:
    """Not set and existing GPUs pass; an index without a known count is unknown; no GPU does not apply."""
    assert status == check(cuda_visible_devices_wrong, *facts).status  # type: ignore[arg-type]
