"""Stand-ins for the driver's libraries, compiled with gcc; a private /dev for what must see real device nodes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def build_libcuda(folder: Path) -> Path:
    """Compile the fake libcuda into ``folder``; put that on LD_LIBRARY_PATH and describe the driver in FAKE_CUDA_*."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "libcuda.so.1"
    options = ["-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
    source = HERE / "fake_cuda" / "fake_cuda.c"
    subprocess.run(["gcc", *options, "-Wl,-soname,libcuda.so.1", "-o", out, source, "-ldl"], check=True)
    return out


def may_unshare() -> bool:
    """Tell whether this user may make a mount namespace with device nodes in it."""
    if os.geteuid():
        return False
    try:
        done = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def private_dev(command: list[str], *, gpus: int = 0, mode: str = "666") -> list[str]:
    """Give the command that runs ``command`` with a /dev of its own, in which the NVIDIA driver's nodes may stand.

    As root, the real NVML and libcuda create /dev/nvidiactl even without a driver; here it is gone afterwards.
    """
    return ["unshare", "-m", "sh", str(HERE / "private_dev.sh"), str(gpus), mode, *command]
