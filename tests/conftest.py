"""What several test files start from. Anything that one file alone needs stands in that file."""

from __future__ import annotations

import os
import subprocess
import sys
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
