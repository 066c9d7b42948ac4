"""What several test files start from. Anything that one file alone needs stands in that file."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
# Long tests of what is the same code in the source and in the wheel: they run once, from the source.
ONCE = frozenset((
    "test_bench_collectives", "test_bench_engine", "test_bench_loader", "test_bench_models", "test_bench_pretended_gpu",
    "test_bench_suites", "test_docs", "test_examples", "test_fix_commands", "test_fleet_deep", "test_fleet_network",
    "test_fleet_ranks", "test_fleet_torchrun", "test_html_in_chromium", "test_preflight_ranks", "test_readers_damage",
    "test_readers_untrusted", "test_recorded_cases", "test_refresh_knowledge", "test_remedy_install",
    "test_shell_completion", "test_via_ssh",
))  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs once: against the wheel it is left out with ``-m "not once"``."""
    for item in items:
        if item.path.stem in ONCE:
            item.add_marker("once")


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes that tests start: a shell that runs the tests in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the wheel: the one that ``ENVDOCTOR_WHEEL`` names, else one built now from the source."""
    if given := os.environ.get("ENVDOCTOR_WHEEL"):
        return Path(given)
    if not (REPOSITORY / "envdoctor").is_dir():
        pytest.skip("neither the source nor ENVDOCTOR_WHEEL is there")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(REPOSITORY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert 0 == done.returncode, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give a maker of broken site directories by name (``tests/stands/broken_stacks.py``); each is made once.

    They are shared: a test that changes one copies it first.
    """
    if shutil.which("gcc") is None:
        pytest.skip("the stands' libraries are made with gcc, which is not here")
    from tests.stands.broken_stacks import build_stand

    folder = tmp_path_factory.mktemp("stands")
    return lambda name: build_stand(folder, name)


@pytest.fixture(scope="session")
def fake_cuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a fake libcuda: put it on LD_LIBRARY_PATH and describe the driver in FAKE_CUDA_*."""
    if shutil.which("gcc") is None:
        pytest.skip("the fake libcuda is made with gcc, which is not here")
    from tests.stands.fakes import build_libcuda

    return build_libcuda(tmp_path_factory.mktemp("fake_cuda")).parent


@pytest.fixture(scope="session")
def real_cudart(request: pytest.FixtureRequest) -> Path:
    """Give a real libcudart.so.12, from a wheel that pip fetches once and pytest's cache keeps (1 MB)."""
    folder = request.config.cache.mkdir("cudart-12.8.90") if request.config.cache else None
    if folder is None:
        pytest.skip("pytest's cache is switched off")
    library = folder / "nvidia" / "cuda_runtime" / "lib" / "libcudart.so.12"
    if not library.exists():
        options = ["--no-deps", "--no-compile", "--only-binary", ":all:", "--quiet", "--target", str(folder)]
        command = [sys.executable, "-m", "pip", "install", *options, "nvidia-cuda-runtime-cu12==12.8.90"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            pytest.skip(f"pip cannot fetch it here: {done.stderr.strip()[-300:]}")
    return library


@pytest.fixture(scope="session")
def fake_nvml(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give a maker of folders with a fake NVML of a driver series (``fake_nvml("535")``); each is made once."""
    if shutil.which("gcc") is None:
        pytest.skip("the fake NVML is made with gcc, which is not here")
    from tests.stands.fakes import build_libnvml

    top = tmp_path_factory.mktemp("fake_nvml")

    def make(series: str) -> Path:
        folder = top / series
        if not folder.exists():
            build_libnvml(folder, series)
        return folder

    return make
