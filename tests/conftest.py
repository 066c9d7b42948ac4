"""What several test files start from. Anything that one file alone needs stands in that file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


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
