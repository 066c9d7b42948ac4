"""What torch says of CUDA, and when it is not asked."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
from envdoctor_probes.torch_cuda import ask_torch

from envdoctor.facts.gpu import DeviceNode, DeviceNodes
from envdoctor.facts.torch import TorchCuda
from envdoctor.probe import Context

NVIDIACTL = DeviceNode("/dev/nvidiactl", exists=True)
UVM = DeviceNode("/dev/nvidia-uvm", exists=True)
OPEN = DeviceNodes(nvidiactl=NVIDIACTL, uvm=UVM)
FLAGS = SimpleNamespace(_cuda_getArchFlags=lambda: "sm_80 sm_90 compute_90")


def a_torch(cuda: str | None = "13.0", count: int = 0, **over: Any) -> Any:
    """Give a torch whose CUDA answers with ``count`` devices; ``over`` replaces functions of torch.cuda."""

    def init() -> None:
        raise AssertionError("Torch not compiled with CUDA enabled")

    functions: dict[str, Any] = {
        "is_available": lambda: count > 0,
        "device_count": lambda: count,
        "init": init,
        "get_device_capability": lambda _index: (8, 0),
        "get_device_name": lambda _index: "NVIDIA A100-SXM4-80GB",
    }
    return SimpleNamespace(version=SimpleNamespace(cuda=cuda), cuda=SimpleNamespace(**functions | over), _C=FLAGS)


def ask(torch: Any, nodes: DeviceNodes = OPEN) -> TorchCuda:
    """Ask this torch on a machine with these device nodes."""
    return ask_torch(torch, Context(facts={"device_nodes": nodes}))


def test_working_devices_are_described() -> None:
    """Names and capabilities of all devices, and the build's architectures."""
    fact = ask(a_torch(count=2))
    arches = ("sm_80", "sm_90", "compute_90")
    expected: tuple[object, ...] = (True, 2, ("8.0", "8.0"), ("NVIDIA A100-SXM4-80GB",) * 2, arches, None, {})
    assert expected == (
        fact.available, fact.device_count, fact.capabilities, fact.device_names, fact.arch_list, fact.error,
        fact.unknown,
    )  # fmt: skip


def test_the_reason_comes_from_init() -> None:
    """is_available() only says no; init() says why, and the warnings are kept."""

    def says_no() -> bool:
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old", stacklevel=1)
        return False

    def init() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 12020).")

    fact = ask(a_torch(is_available=says_no, init=init))
    assert (False, "RuntimeError", True) == (fact.available, fact.error_type, "too old" in str(fact.error))
    assert ("UserWarning: CUDA initialization: The NVIDIA driver on your system is too old",) == fact.warnings


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        (DeviceNodes(), "no NVIDIA device node, and asking could create one"),
        (DeviceNodes(nvidiactl=NVIDIACTL), "no /dev/nvidia-uvm, and asking could create it"),
    ],
)
def test_a_cuda_build_is_not_asked_where_that_creates_nodes(nodes: DeviceNodes, words: str) -> None:
    """Without device nodes the answer is no, the reason is told, and nothing was called."""

    def never() -> bool:
        pytest.fail("asked")

    fact = ask(a_torch(is_available=never, device_count=never, init=never), nodes)
    assert (False, f"not asked: {words}", None) == (fact.available, fact.unknown["error"], fact.error)
    assert (f"not asked: {words}", ("sm_80", "sm_90", "compute_90")) == (fact.sources["available"], fact.arch_list)


@pytest.mark.parametrize("nodes", [DeviceNodes(dxg=DeviceNode("/dev/dxg", exists=True)), OPEN])
def test_wsl_and_native_machines_are_asked(nodes: DeviceNodes) -> None:
    """Where the driver's nodes are there, asking changes nothing."""
    assert ask(a_torch(count=1), nodes).available


def test_a_cpu_build_may_always_be_asked() -> None:
    """It calls no driver, and says that it was compiled without CUDA."""
    fact = ask(a_torch(cuda=None), DeviceNodes())
    assert (False, "Torch not compiled with CUDA enabled") == (fact.available, fact.error)


def test_a_card_that_fails_ends_the_list() -> None:
    """One bad card of four leaves the others' names, and its own words."""

    def capability(index: int) -> tuple[int, int]:
        if index == 1:
            raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
        return 9, 0

    fact = ask(a_torch(count=4, get_device_capability=capability))
    assert (("9.0",), "CUDA error: uncorrectable ECC error encountered") == (fact.capabilities, fact.error)
    assert fact.unknown["capabilities"].startswith("device 1: RuntimeError")


def test_a_question_that_raises_is_an_answer() -> None:
    """is_available() of a damaged build raises; that is told, and init() may say more."""

    def broken() -> bool:
        raise OSError("libcuda.so.1: invalid ELF header")

    def init() -> None:
        raise RuntimeError("Found no NVIDIA driver on your system.")

    fact = ask(a_torch(is_available=broken, device_count=broken, init=init))
    assert (False, "RuntimeError") == (fact.available, fact.error_type)
    assert "OSError: libcuda.so.1: invalid ELF header" == fact.unknown["device_count"]
