"""Recorded machines that ship with the package: the whole report can be seen without a GPU.

The snapshots are written by ``scripts/make-demo`` from ``tests/demo_machines``; they are never edited by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envdoctor.snapshot import Snapshot

ABOUT = {
    "driver-470-under-cu130": "4 x A100 under driver 470; pip installed a torch built with CUDA 13.0",
    "broken-import": "L4 in the cloud; the disk was full while cuDNN was unpacked",
    "container-without-gpus": "a container on a machine with 4 x L40S, started without them",
    "wheel-drift": "2 x RTX 4090; torch was upgraded alone, its companions were not",
    "sick-gpu": "8 x H100, one of which had a memory error and waits for a reset",
    "h100x8-healthy": "8 x H100 with NVSwitch, everything in order",
    "cpu-only": "a laptop without an NVIDIA GPU, CPU build of torch",
}
FIRST = "driver-470-under-cu130"


def load(name: str = FIRST) -> Snapshot:
    """Give a recorded machine; raises ``KeyError`` for a name that is not in ``ABOUT``."""
    from envdoctor import snapshot

    if name not in ABOUT:
        raise KeyError(name)
    file = Path(__file__).with_name(f"{name}.json")
    return snapshot.load(file.read_bytes(), source=f"demo {name}")
