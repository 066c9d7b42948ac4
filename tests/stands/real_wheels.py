"""Real wheels that pip fetches once and pytest's cache keeps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def fetch(config: pytest.Config, spec: str, *options: str) -> Path:
    """Give a folder with this wheel (``name==version``) unpacked as pip installs it; skip where pip cannot fetch it."""
    if config.cache is None:
        pytest.skip("pytest's cache is switched off")
    folder = config.cache.mkdir("wheels") / spec
    if not any(folder.glob("*.dist-info")):
        fixed = ["--no-deps", "--no-compile", "--only-binary", ":all:", "--quiet", "--target", str(folder)]
        command = [sys.executable, "-m", "pip", "install", *fixed, *options, spec]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            pytest.skip(f"pip cannot fetch it here: {done.stderr.strip()[-300:]}")
    return folder
