"""``python -m envdoctor``: the same program, whatever lies in the working directory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_module_survives_a_file_that_hides_the_standard_library(tmp_path: Path) -> None:
    """A random.py in the working directory is reported, and does not end the doctor."""
    (tmp_path / "random.py").write_text("raise SystemExit('hidden')\n")
    command = [sys.executable, "-m", "envdoctor", "check", "--level", "quick", "--format", "json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    keys = [each["key"] for each in json.loads(done.stdout)["findings"]]
    assert "torch-shadowed-by-local-file@random" in keys
