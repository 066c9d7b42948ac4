"""The cuda-driver and cuda-runtime probes on a fake libcuda, the second with a real libcudart in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from envdoctor_probes.cuda_driver import cuda_version, parse_maps
from envdoctor_probes.cuda_runtime import find_cudart, needed_cudart

from envdoctor.probe import NotThere
from tests.stands.small_elf import Library, Needed, build

ASK = Path(__file__).parent / "stands" / "ask.py"
DRIVER, RUNTIME = "envdoctor_probes.cuda_driver:cuda_driver", "envdoctor_probes.cuda_runtime:cuda_runtime"
CONTEXTS = {"cuCtxCreate_v2", "cuDevicePrimaryCtxRetain", "cuMemAlloc_v2"}

pytestmark = [
    pytest.mark.gcc,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="the stands are made with gcc"),
]


class Asked:
    """What a probe said in a process of its own."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        self.exit_code, self.words = done.returncode, done.stderr
        self.called = [line["value"] for line in lines if line["event"] == "enter"]
        self.partial: list[dict[str, Any]] = [line["value"] for line in lines if line["event"] == "partial"]
        self.fact: dict[str, Any] = next((line["value"] for line in lines if line["event"] == "fact"), {})
        self.absent = next((line["value"] for line in lines if line["event"] == "absent"), None)

    def get(self, *fields: str) -> tuple[Any, ...]:
        """Give some of the fact's values."""
        return tuple(self.fact[field] for field in fields)


Ask = Callable[..., Asked]


@pytest.fixture
def ask(tmp_path: Path, fake_cuda: Path) -> Ask:
    """Ask a probe on a machine whose nodes are there: ``ask(DRIVER, FAKE_CUDA_INIT="802")``."""
    for node in ("nvidiactl", "nvidia-uvm"):
        (tmp_path / node).touch()

    def run(probe: str, *path: Path, dev: Path = tmp_path, seconds: float = 60.0, **environ: str) -> Asked:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "LD_"))}
        inherited |= {"PYTHONPATH": os.pathsep.join(sys.path), "LD_LIBRARY_PATH": str(fake_cuda), **environ}
        command = [sys.executable, str(ASK), probe, str(dev), *map(str, path)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=inherited
        ) as process:
            try:
                out, words = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                out, words = process.communicate()
        return Asked(subprocess.CompletedProcess(command, process.returncode, out, words))

    return run


@pytest.fixture
def torch_on_cudart(stand: Callable[[str], Path], real_cudart: Path, tmp_path: Path) -> Path:
    """Give a site directory with a small CUDA torch and the real libcudart where the wheel has it."""
    site = tmp_path / "site"
    shutil.copytree(stand("healthy_cu124"), site)
    shutil.copy(real_cudart, site / "nvidia" / "cuda_runtime" / "lib" / "libcudart.so.12")
    return site


def test_driver_that_starts_tells_its_devices(ask: Ask, fake_cuda: Path, tmp_path: Path) -> None:
    """Level, names, capabilities and memory; the mapped file is named, and no context is created."""
    log = tmp_path / "log"
    many = {"FAKE_CUDA_COUNT": "2", "FAKE_CUDA_CC": "8.0,12.0", "FAKE_CUDA_MEM_MIB": "40960"}
    asked = ask(DRIVER, FAKE_CUDA_VERSION="12020", FAKE_CUDA_LOG=str(log), **many)
    library = str(fake_cuda / "libcuda.so.1")
    assert (library, "12.2", 0, "CUDA_SUCCESS", 2) == asked.get(
        "libcuda", "cuda_version", "init_code", "init_name", "device_count"
    )
    assert [("Fake H100", "8.0", 40960), ("Fake H100", "12.0", 40960)] == [
        (each["name"], each["compute_capability"], each["memory_total_mib"]) for each in asked.fact["devices"]
    ]
    assert set() == CONTEXTS & set(log.read_text().split())


def test_answers_come_after_each_step(ask: Ask) -> None:
    """The version is known before cuInit is called, so that it survives a crash there."""
    asked = ask(DRIVER)
    assert ["load libcuda.so.1", "cuDriverGetVersion", "cuInit", "cuDeviceGet"] == asked.called
    assert [(None, "12.8"), (0, "12.8")] == [(each["init_code"], each["cuda_version"]) for each in asked.partial]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (34, "CUDA_ERROR_STUB_LIBRARY"),
        (100, "CUDA_ERROR_NO_DEVICE"),
        (802, "CUDA_ERROR_SYSTEM_NOT_READY"),
        (803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
        (804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE"),
        (999, "CUDA_ERROR_UNKNOWN"),
        (4711, None),
    ],
)
def test_driver_that_does_not_start_says_why(ask: Ask, code: int, name: str | None) -> None:
    """The code, the driver's own name and words; the devices are unknown, not none."""
    asked = ask(DRIVER, FAKE_CUDA_INIT=str(code))
    assert (code, name, None) == asked.get("init_code", "init_name", "device_count")
    assert str(code) in asked.fact["unknown"]["devices"]


@pytest.mark.parametrize(
    ("how", "signalled"), [("segv", signal.SIGSEGV), ("abort", signal.SIGABRT), ("hang", signal.SIGKILL)]
)
def test_crash_and_hang_leave_the_culprit_and_what_was_known(ask: Ask, how: str, signalled: int) -> None:
    """The process dies inside cuInit: the last call says so, and the driver's level was told before."""
    asked = ask(DRIVER, FAKE_CUDA_INIT=how, seconds=3.0)
    assert (-signalled, "cuInit", ["12.8"]) == (
        asked.exit_code, asked.called[-1], [each["cuda_version"] for each in asked.partial],
    )  # fmt: skip


def test_hidden_devices_are_the_drivers_own_answer(ask: Ask) -> None:
    """CUDA_VISIBLE_DEVICES is honoured by the driver, not by the probe."""
    assert (100,) == ask(DRIVER, CUDA_VISIBLE_DEVICES="").get("init_code")
    assert (1,) == ask(DRIVER, CUDA_VISIBLE_DEVICES="1,7", FAKE_CUDA_COUNT="2").get("device_count")


def test_library_without_libcuda_is_absent(ask: Ask, tmp_path: Path) -> None:
    """The loader's words are the reason."""
    asked = ask(DRIVER, LD_LIBRARY_PATH=str(tmp_path))
    assert "libcuda.so.1: cannot open shared object file: No such file or directory" == asked.absent


def test_damaged_libcuda_is_a_failure_with_the_loaders_words(ask: Ask, tmp_path: Path) -> None:
    """A file that is there but cannot be loaded is no absence."""
    (tmp_path / "libcuda.so.1").write_bytes(b"not a library")
    asked = ask(DRIVER, LD_LIBRARY_PATH=str(tmp_path))
    assert (1, None) == (asked.exit_code, asked.absent)
    assert "OSError" in asked.words


def test_closed_gate_loads_nothing(ask: Ask, fake_cuda: Path, tmp_path: Path) -> None:
    """Without the nodes neither library is touched: the log stays empty."""
    empty, log = tmp_path / "empty", tmp_path / "log"
    empty.mkdir()
    for probe in (DRIVER, RUNTIME):
        asked = ask(probe, dev=empty, FAKE_CUDA_LOG=str(log))
        assert "no NVIDIA device node" in (asked.absent or "")
    assert not log.exists()


@pytest.mark.network
@pytest.mark.parametrize(
    ("init", "version", "code", "name"),
    [
        ("100", "12080", 100, "cudaErrorNoDevice"),
        ("802", "12080", 802, "cudaErrorSystemNotReady"),
        ("803", "12080", 803, "cudaErrorSystemDriverMismatch"),
        ("804", "12080", 804, "cudaErrorCompatNotSupportedOnDevice"),
        ("999", "12080", 999, "cudaErrorUnknown"),
        ("34", "12080", 34, "cudaErrorStubLibrary"),
        ("0", "11040", 35, "cudaErrorInsufficientDriver"),
    ],
)
def test_real_runtime_gives_its_verdict(
    ask: Ask, torch_on_cudart: Path, init: str, version: str, code: int, name: str
) -> None:
    """The libcudart beside torch is asked, and its code, name and words are kept; torch is not imported."""
    asked = ask(RUNTIME, torch_on_cudart, FAKE_CUDA_INIT=init, FAKE_CUDA_VERSION=version)
    assert (code, name, "12.8", False) == asked.get("code", "name", "runtime_version", "linked_statically")
    level = cuda_version(int(version))
    assert (level, str(torch_on_cudart / "nvidia/cuda_runtime/lib/libcudart.so.12")) == asked.get(
        "driver_version", "library"
    )
    assert str(code) in asked.fact["unknown"]["device_count"]
    assert asked.fact["words"]


@pytest.mark.network
def test_real_runtime_without_a_driver_says_insufficient(ask: Ask, torch_on_cudart: Path, tmp_path: Path) -> None:
    """Where there is no libcuda at all the runtime answers 35, and its driver version 0 is "unknown"."""
    asked = ask(RUNTIME, torch_on_cudart, LD_LIBRARY_PATH=str(tmp_path))
    assert (35, None) == asked.get("code", "driver_version")
    assert "version 0" in asked.fact["unknown"]["driver_version"]


@pytest.mark.network
def test_real_runtime_on_a_driver_that_starts_reaches_the_driver(ask: Ask, torch_on_cudart: Path) -> None:
    """After a cuInit that succeeds it wants private tables, which the fake does not imitate: 801, not a crash."""
    assert (801, "12.8") == ask(RUNTIME, torch_on_cudart).get("code", "driver_version")


@pytest.mark.network
def test_hang_in_the_runtime_names_the_call(ask: Ask, torch_on_cudart: Path) -> None:
    """This runtime starts the driver when asked for its version; that call is named, and its own version is kept."""
    asked = ask(RUNTIME, torch_on_cudart, FAKE_CUDA_INIT="hang", seconds=3.0)
    assert ("cudaDriverGetVersion", -signal.SIGKILL) == (asked.called[-1], asked.exit_code)
    assert asked.partial[-1]["library"].endswith("libcudart.so.12")


def test_torch_that_is_not_there_or_has_no_cuda_is_absent(
    ask: Ask, stand: Callable[[str], Path], tmp_path: Path
) -> None:
    """No torch, and a CPU torch, are two different reasons."""
    assert "no torch" in (ask(RUNTIME, tmp_path).absent or "")
    site = tmp_path / "site"
    shutil.copytree(stand("healthy_cu124"), site)
    (site / "torch" / "lib" / "libtorch_cuda.so").unlink()
    assert "built without CUDA" in (ask(RUNTIME, site).absent or "")


def torch_lib(tmp_path: Path, **libraries: Library) -> Path:
    """Make a torch folder whose lib/ holds these libraries (``libc10_cuda`` for libc10_cuda.so)."""
    torch = tmp_path / "torch"
    (torch / "lib").mkdir(parents=True)
    for name, library in libraries.items():
        (torch / "lib" / f"{name}.so").write_bytes(build(library))
    return torch


def test_hashed_runtime_inside_torch_is_found(tmp_path: Path) -> None:
    """Older wheels carry libcudart under a name with a hash in torch/lib."""
    hashed = "libcudart-d0da41ae.so.11.0"
    user = Library("libc10_cuda.so", needed=(Needed(hashed),), rpath="$ORIGIN")
    torch = torch_lib(tmp_path, libtorch_cuda=user, libc10_cuda=user)
    (torch / "lib" / hashed).write_bytes(build(Library(hashed)))
    (torch / "lib" / "libtorch_python.so").write_bytes(
        build(Library("libtorch_python.so", needed=(Needed("libc10_cuda.so"),), rpath="$ORIGIN"))
    )
    assert (hashed, str(torch / "lib" / "libc10_cuda.so")) == needed_cudart(str(torch))
    library, how = find_cudart(str(torch), [str(tmp_path)], {})
    assert (str(torch / "lib" / hashed), True) == (library, how.startswith("rpath"))


def test_static_runtime_is_said_so(tmp_path: Path) -> None:
    """Torch with CUDA code that asks for no libcudart has it inside: only torch can be asked."""
    torch = torch_lib(tmp_path, libtorch_cuda=Library("libtorch_cuda.so", needed=(Needed("libcublas.so.12"),)))
    assert (None, "") == find_cudart(str(torch), [], {})


def test_runtime_that_is_missing_has_its_reason(tmp_path: Path) -> None:
    """The wheel that brings it was removed: who needs it is named."""
    user = Library("libtorch_cuda.so", needed=(Needed("libcudart.so.12"),), rpath="$ORIGIN")
    python = Library("libtorch_python.so", needed=(Needed("libtorch_cuda.so"),), rpath="$ORIGIN")
    torch = torch_lib(tmp_path, libtorch_cuda=user, libtorch_python=python)
    library, how = find_cudart(str(torch), [], {})
    assert library is None
    assert "libcudart.so.12" in how
    assert "libtorch_cuda.so" in how


def test_rpath_beats_the_library_path_and_runpath_does_not(tmp_path: Path) -> None:
    """The same foreign libcudart on LD_LIBRARY_PATH wins only against a RUNPATH."""
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "libcudart.so.12").write_bytes(build(Library("libcudart.so.12")))
    found = {}
    for kind in ("rpath", "runpath"):
        user = Library("libtorch_cuda.so", needed=(Needed("libcudart.so.12"),), **{kind: "$ORIGIN"})  # type: ignore[arg-type]
        python = Library("libtorch_python.so", needed=(Needed("libtorch_cuda.so"),), rpath="$ORIGIN")
        torch = torch_lib(tmp_path / kind, libtorch_cuda=user, libtorch_python=python)
        (torch / "lib" / "libcudart.so.12").write_bytes(build(Library("libcudart.so.12")))
        found[kind], _ = find_cudart(str(torch), [], {"LD_LIBRARY_PATH": str(foreign)})
    expected = {
        "rpath": str(tmp_path / "rpath" / "torch" / "lib" / "libcudart.so.12"),
        "runpath": str(foreign / "libcudart.so.12"),
    }
    assert expected == found


def test_cpu_torch_has_no_runtime_to_find(tmp_path: Path) -> None:
    """A torch without a CUDA library is no torch to ask."""
    with pytest.raises(NotThere, match="without CUDA"):
        find_cudart(str(torch_lib(tmp_path, libtorch_cpu=Library("libtorch_cpu.so"))), [], {})


def test_versions_and_maps_are_read() -> None:
    """12020 is 12.2, 13000 is 13.0; the mapped file is found by the start of its name, deleted or not."""
    assert ("12.2", "13.0", "11.4") == (cuda_version(12020), cuda_version(13000), cuda_version(11040))
    text = (
        "7f00-7f01 r--p 00000000 08:01 1 /usr/lib/libcudart.so.12\n"
        "7f02-7f03 r-xp 00000000 08:01 2 /opt/my driver/libcuda.so.535.183.01\n7f04-7f05 rw-p 0 00:00 0\n"
    )
    assert "/opt/my driver/libcuda.so.535.183.01" == parse_maps(text, "libcuda.so")
    assert parse_maps(text, "libnvidia-ml") is None
