"""Look for the scratch file system in the mount table."""

from __future__ import annotations

from pathlib import Path

from envdoctor.probe import Context, probe
from envdoctor_scratch.facts import ScratchMount


@probe(level="quick", seconds=5.0)
def scratch_mount(context: Context) -> ScratchMount:
    """Say what is mounted on ``/scratch``."""
    mounts = Path(context.roots.proc, "mounts")
    try:
        return parse_mounts(mounts.read_text(errors="replace"))
    except OSError as error:
        return ScratchMount(unknown={"mounted": f"{mounts}: {error.strerror}"})


def parse_mounts(text: str) -> ScratchMount:
    """Find ``/scratch`` in the text of ``/proc/mounts``."""
    for line in text.splitlines():
        device, where, filesystem = [*line.split(), "", "", ""][:3]
        if where == "/scratch":
            return ScratchMount(mounted=True, device=device, filesystem=filesystem)
    return ScratchMount(mounted=False)
