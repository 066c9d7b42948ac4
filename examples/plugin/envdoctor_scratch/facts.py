"""The scratch file system, as facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from envdoctor.facts import Fact, read_from


@dataclass(frozen=True)
class ScratchMount(Fact):
    """Whether ``/scratch`` is a mount of its own, and of what."""

    mounted: Optional[bool] = read_from("/proc/mounts")  # noqa: UP045 - facts are read on Python 3.8 too
    device: str = read_from("/proc/mounts", "")
    filesystem: str = read_from("/proc/mounts", "")  # "lustre", "nfs4"
