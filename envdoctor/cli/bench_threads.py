"""How many threads a benchmark of a CPU gets where other programs compute as well.

Threads of one product wait for each other. Where another program keeps one of them from running, all of them wait: a
step then takes many times as long, and no two steps take the same time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOK_SECONDS = 0.5
CHOSEN_BY = "OMP_NUM_THREADS"


def threads_left(environ: Mapping[str, str] = os.environ) -> int | None:
    """Look for a moment at what other programs leave; None where they leave everything, or the user has chosen."""
    import psutil

    if environ.get(CHOSEN_BY):
        return None
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cpus = psutil.cpu_count() or usable
    return left_of(usable, cpus, psutil.cpu_percent(LOOK_SECONDS), psutil.getloadavg()[0])


def left_of(usable: int, cpus: int, busy_percent: float, load: float) -> int | None:
    """Give how many of the usable CPUs are idle, one at the least; None when all are. ``cpus``: of the machine.

    The moment may have been a quiet one. A load average beyond one a CPU tells that: a benchmark that has just ended
    leaves no more than that behind.
    """
    idle = cpus * (1.0 - busy_percent / 100.0)
    if load > cpus:
        idle = min(idle, 2 * cpus - load)
    left = max(1, min(usable, round(idle)))
    return left if left < usable else None
