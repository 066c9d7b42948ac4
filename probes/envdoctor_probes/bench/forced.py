"""[payload] What forces NCCL's protocol, algorithm or transport, and how ranks are started without it.

NCCL reads its variables once a process: taking one out needs new processes, not another communicator.
"""

from __future__ import annotations

import contextlib
import os
from typing import Dict, Iterator, Mapping, Tuple

from envdoctor.facts.bench import FORCES_NCCL

__all__ = ["FORCES", "forced", "joined", "taken_out", "takings"]

# By backend: nothing forces gloo's choice.
FORCES: Dict[str, Tuple[str, ...]] = {"nccl": FORCES_NCCL}


def forced(backend: str, environ: Mapping[str, str]) -> Tuple[str, ...]:
    """Name the variables that force something here; an empty one forces nothing."""
    return tuple(name for name in FORCES.get(backend, ()) if environ.get(name))


def takings(names: Tuple[str, ...]) -> Tuple[Tuple[str, ...], ...]:
    """Give what is taken out at a time: all of them first, then, where there are several, each alone."""
    if not names:
        return ()
    return (names,) if len(names) == 1 else (names, *((name,) for name in names))


def joined(names: Tuple[str, ...]) -> str:
    """Name variables that were taken out together, as ``Measured.config["without"]`` has them."""
    return "+".join(names)


@contextlib.contextmanager
def taken_out(names: Tuple[str, ...]) -> Iterator[None]:
    """Have an environment without them, for the processes that are started meanwhile."""
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)
