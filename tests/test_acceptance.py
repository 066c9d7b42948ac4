"""The promise of the whole: whatever a broken stack does, a valid report with its own words comes, in time.

Each case is one real ``envdoctor check`` in a process of its own, beside a torch, an nvidia-smi or a libcuda that
misbehaves. How the engine does it is held by ``test_child_outcomes`` and ``test_runner``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.command import environment, valid
from tests.stands.cuda_wheels import nvidia
from tests.stands.engine import nothing_left
from tests.stands.fakes import may_unshare, nvml_scenario, private_dev
from tests.stands.wheels import Wheel, install

pytestmark = pytest.mark.usefixtures("nothing_left")
__all__ = ["nothing_left"]

TIMEOUT = 6.0
GRACE = 5.0
MOST_KIB = 100_000
CODES = {"ok": 0, "warnings": 0, "errors": 1, "undetermined": 3}
# ``python -m envdoctor`` that writes down how much memory this process, and no child of it, had at most.
DOCTOR = """
import os, re, runpy
try:
    runpy.run_module("envdoctor", run_name="__main__", alter_sys=True)
finally:
    with open("/proc/self/status") as status, open(os.environ["STAND_PEAK"], "w") as peak:
        peak.write(re.search(r"VmHWM:\\s+(\\d+)", status.read())[1])
"""


@dataclass(frozen=True)
class Checked:
    """One check: its report, which is valid, and how the run ended."""

    report: Any
    code: int

    def fired(self) -> dict[str, Any]:
        """Map the keys of what was found and is not ignored to the findings."""
        return {each["key"]: each for each in self.report["findings"] if each["ignored"] is None}

    def words(self, key: str) -> str:
        """Give everything that a finding says."""
        return json.dumps(self.fired()[key], ensure_ascii=False)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an empty folder that is neither the working directory nor the one for temporary files."""
    return tmp_path_factory.mktemp("case")


def check(
    folder: Path,
    *arguments: str,
    seconds: float = TIMEOUT,
    around: Callable[[list[str]], list[str]] = list,
    **environ: str,
) -> Checked:
    """Run one check; hold it to its time, its memory, its schema and its exit code, and to leaving no file behind."""
    peak, cwd = folder / "peak", folder / "cwd"
    cwd.mkdir()
    command = [sys.executable, "-c", DOCTOR, "check", "--format", "json", "--timeout", str(seconds), *arguments]
    began = time.monotonic()
    done = subprocess.run(
        around(command),
        cwd=cwd,
        env=environment(STAND_PEAK=str(peak), **environ),
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.monotonic() - began
    report = valid(done.stdout)
    assert ("", CODES[report["verdict"]]) == (done.stderr, done.returncode)
    assert took < seconds + GRACE
    assert int(peak.read_text()) < MOST_KIB
    assert [] == list(cwd.iterdir())
    return Checked(report, done.returncode)


# This machine


@pytest.mark.real_torch
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no torch in this environment")
@pytest.mark.skipif(Path("/proc/driver/nvidia").exists() or Path("/dev/dxg").exists(), reason="a GPU may be here")
def test_cpu_torch_without_a_gpu_is_healthy(folder: Path) -> None:
    """A machine without an NVIDIA GPU and with the CPU build of torch: exit 0, no error, no warning."""
    checked = check(folder, seconds=120)
    assert (0, "ok", None) == (checked.code, checked.report["verdict"], checked.report["primary"])
    assert set() == {"error", "warning"} & {each["severity"] for each in checked.report["findings"]}


# torch

FLOOD = "import os\nfor _ in range(150):\n    os.write(1, b'x' * (1 << 20))\n    os.write(2, b'y' * (1 << 20))\n"
TRUNCATED = """import mmap, tempfile
with tempfile.TemporaryFile() as file:
    file.truncate(4096)
    mapped = mmap.mmap(file.fileno(), 4096)
    file.truncate(0)
    mapped[0]
"""
ORPHAN = """import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)
os.wait()
"""
CXX = "terminate called after throwing an instance of 'c10::Error'"
CUDNN = "libcudnn.so.9: cannot open shared object file: No such file or directory"
FAILS, CRASHES, HANGS = "torch-import-fails", "torch-import-crashes", "torch-import-hangs"

BROKEN_TORCH = {
    "segfaults": ("import ctypes\nctypes.string_at(8)", CRASHES, "SIGSEGV in import torch"),
    "SIGBUS": (TRUNCATED, CRASHES, "SIGBUS in import torch"),
    "aborts": (f'import os\nos.write(2, b"{CXX}\\n")\nos.abort()', CRASHES, CXX),
    "exits with 0": ("import os\nos._exit(0)", CRASHES, "exit code 0 without an answer in import torch"),
    "stops itself": ("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", HANGS, "stopped by SIGSTOP"),
    "hangs": ("import time\ntime.sleep(60)", HANGS, 'torch/__init__.py\\", line 3'),
    "hangs with the GIL": ("import ctypes\nctypes.PyDLL(None).sleep(60)", HANGS, 'torch/__init__.py\\", line 3'),
    "floods, then aborts": (FLOOD + "os.write(2, b'\\nlast words\\n')\nos.abort()", CRASHES, "last words"),
    "floods, then raises": (FLOOD + f"raise OSError('{CUDNN}')", FAILS, f"OSError: {CUDNN}"),
    "prints no UTF-8": (
        r"import os; os.write(2, b'\xff libcublas \x80 broken\n'); os._exit(3)", CRASHES,
        "\N{REPLACEMENT CHARACTER} libcublas \N{REPLACEMENT CHARACTER} broken",
    ),
    "raises no UTF-8": (r"raise ImportError('lib\udcff.so: no')", FAILS, r"lib\\xff.so: no"),
    "leaves an orphan": (ORPHAN + "os.abort()", CRASHES, "SIGABRT in import torch"),
    "SystemExit": ("raise SystemExit('no licence')", FAILS, "SystemExit: no licence"),
    "RecursionError": ("def f(): f()\nf()", FAILS, "RecursionError: maximum recursion depth exceeded"),
    "OSError": (f"raise OSError('{CUDNN}')", FAILS, f"OSError: {CUDNN}"),
}  # fmt: skip


def check_torch(folder: Path, source: str) -> Checked:
    """Check with a torch of this source, which PYTHONPATH puts before any other."""
    site = folder / "site"
    files = {
        "torch/version.py": "__version__ = '2.13.0+cpu'\ncuda = None\nhip = None\n",
        "torch/__init__.py": f"from .version import __version__\n{source}\n",
    }
    install(site, Wheel("torch", "2.13.0", files))
    ignored = "duplicate-torch-installs=the stand lies before the torch of the environment that runs the tests"
    return check(folder, "--ignore", ignored, PYTHONPATH=str(site))


@pytest.mark.parametrize("name", BROKEN_TORCH)
def test_broken_torch_is_named_with_its_own_words(name: str, folder: Path) -> None:
    """Whatever importing torch does, the finding about the import leads, with the words of what happened."""
    source, id_, words = BROKEN_TORCH[name]
    checked = check_torch(folder, source)
    assert (1, id_) == (checked.code, checked.report["primary"])
    assert words in checked.words(id_)


WORKING_TORCH = {
    "slow": "import time\ntime.sleep(1.5)",
    "floods": FLOOD,
    "leaves an orphan": ORPHAN,
    "prints no UTF-8": r"import os; os.write(2, b'\xff\n')",
}


@pytest.mark.parametrize("name", WORKING_TORCH)
def test_odd_torch_that_imports_is_no_finding(name: str, folder: Path) -> None:
    """A torch that is slow, noisy or untidy, and imports, is not called broken."""
    checked = check_torch(folder, WORKING_TORCH[name])
    ends = {each["name"]: each["outcome"] for each in checked.report["probes"]}
    assert "got" == ends["torch-import"]
    assert set() == {FAILS, CRASHES, HANGS, "probe-timed-out@torch-import"} & set(checked.fired())


def test_import_still_at_work_is_not_called_hung(folder: Path) -> None:
    """A first import may be slow: at the deadline it is unknown, and nothing is claimed of it."""
    checked = check_torch(folder, "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass")
    assert (3, "undetermined") == (checked.code, checked.report["verdict"])
    assert {"probe-timed-out@torch-import"} == {FAILS, CRASHES, HANGS, "probe-timed-out@torch-import"} & set(
        checked.fired()
    )
    assert "it was not seen to hang" in checked.words("probe-timed-out@torch-import")


# The driver


def on_a_gpu_machine(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs device nodes in a private /dev, and fakes for the driver's libraries."""
    needs = (
        pytest.mark.root,
        pytest.mark.gcc,
        pytest.mark.network,
        pytest.mark.skipif(not may_unshare(), reason="making device nodes needs root"),
        pytest.mark.skipif(shutil.which("gcc") is None, reason="the fakes are made with gcc"),
    )
    for mark in needs:
        test = mark(test)
    return test


@pytest.fixture
def check_driver(
    folder: Path, fake_cuda: Path, fake_nvml: Callable[[str], Path], stand: Callable[[str], Path], real_cudart: Path
) -> Callable[..., Checked]:
    """Give a check of a machine with two GPUs, driver 570, a small cu124 torch and a real libcudart.

    It is a quick one, which imports no torch, unless it is told what to do in torch's place.
    """
    site, programs = folder / "site", folder / "bin"
    shutil.copytree(stand("healthy_cu124"), site)
    cudart = "nvidia/cuda_runtime/lib/libcudart.so.12"
    wheel = nvidia("nvidia-cuda-runtime-cu12")
    install(site, Wheel(wheel.name, wheel.version, {**wheel.files, cudart: real_cudart.read_bytes()}))
    programs.mkdir()

    def run(
        smi: str = "", torch: str = "", nvml: tuple[str, ...] = (), seconds: float = TIMEOUT, **environ: str
    ) -> Checked:
        if torch:
            (site / "torch" / "__init__.py").write_text(torch)
        if smi:
            (programs / "nvidia-smi").write_text(f"#!/bin/sh\n{smi}\n")
            (programs / "nvidia-smi").chmod(0o755)
        around = {
            "PYTHONPATH": str(site),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "LD_LIBRARY_PATH": os.pathsep.join(map(str, (fake_cuda, fake_nvml("570")))),
            "FAKE_NVML_SCENARIO": str(nvml_scenario(folder, "h100x8", *nvml)),
        }
        level = "standard" if torch else "quick"
        ignored = "duplicate-torch-installs=the stand lies before another"
        on = {"around": lambda command: private_dev(command, gpus=2), **around, **environ}
        return check(folder, "--level", level, "--ignore", ignored, seconds=seconds, **on)

    return run


SMI = "probe-timed-out@nvidia-smi", "probe-crashed@nvidia-smi"
BROKEN_SMI = {
    "hangs": ("sleep 60", SMI[0], "in nvidia-smi; it hung: no CPU, I/O or page faults"),
    "hangs in a grandchild": ("setsid sleep 60 & wait", SMI[0], "in nvidia-smi; it hung"),
    "prints garbage": (r"printf '\377\376 no table\n'", SMI[1], "\N{REPLACEMENT CHARACTER} no table"),
    "prints 300 MB": ("echo GPU is lost; head -c 300000000 /dev/zero", SMI[1], "GPU is lost"),
}


@on_a_gpu_machine
@pytest.mark.parametrize("name", BROKEN_SMI)
def test_broken_nvidia_smi_costs_its_own_answer_alone(name: str, check_driver: Callable[..., Checked]) -> None:
    """An nvidia-smi that hangs or babbles is a finding of its own; NVML and libcuda are asked all the same."""
    smi, key, words = BROKEN_SMI[name]
    checked = check_driver(smi)
    assert words in checked.words(key)
    ends = {each["name"]: each["outcome"] for each in checked.report["probes"]}
    assert {"got"} == {ends[each] for each in ("gpu-state", "cuda-driver", "cuda-runtime")}


BROKEN_LIBCUDA = {
    "hang": (3, "probe-timed-out@cuda-driver", "in cuInit; it hung"),
    "segv": (3, "probe-crashed@cuda-driver", "SIGSEGV in cuInit"),
    "abort": (3, "probe-crashed@cuda-driver", "SIGABRT in cuInit"),
    "100": (1, "cuda-unavailable", "100 cudaErrorNoDevice: no CUDA-capable device is detected"),
    "802": (1, "fabric-manager-missing", "802 CUDA_ERROR_SYSTEM_NOT_READY: system not yet initialized"),
    "803": (1, "driver-library-mismatch", "system has unsupported display driver / cuda driver combination"),
    "804": (1, "forward-compat-unsupported", "forward compatibility was attempted on non supported HW"),
    "999": (1, "cuda-unavailable", "999 cudaErrorUnknown: unknown error"),
    "too old": (1, "driver-too-old-for-cuda-build", "35 cudaErrorInsufficientDriver: CUDA driver version is insuff"),
}
HOW = {"too old": {"FAKE_CUDA_VERSION": "11040"}}


@on_a_gpu_machine
@pytest.mark.parametrize("how", BROKEN_LIBCUDA)
def test_broken_libcuda_is_named_with_its_own_words(how: str, check_driver: Callable[..., Checked]) -> None:
    """A cuInit that dies, hangs or refuses leads to the finding that its answer means, with the driver's words."""
    code, key, words = BROKEN_LIBCUDA[how]
    checked = check_driver(**HOW.get(how, {"FAKE_CUDA_INIT": how}))
    assert (code, key) == (checked.code, checked.report["primary"])
    assert words in checked.words(key)


@on_a_gpu_machine
def test_everything_may_hang_at_once(check_driver: Callable[..., Checked]) -> None:
    """NVML, libcuda, libcudart, nvidia-smi and torch hang together: each is named, and the run ends in time."""
    hung = "sleep 60", "import time; time.sleep(60)", ("nvmlInit_v2 = hang",)
    hanging = check_driver(*hung, seconds=2 * TIMEOUT, FAKE_CUDA_INIT="hang")  # five hang, and the rest has to be done
    probes = ("gpu-state", "cuda-driver", "cuda-runtime", "nvidia-smi", "torch-import")
    assert {f"probe-timed-out@{each}" for each in probes} <= set(hanging.fired())
    assert "got" == {each["name"]: each["outcome"] for each in hanging.report["probes"]}["libraries"]
