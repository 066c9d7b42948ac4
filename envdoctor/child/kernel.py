"""[payload] What a process asks of the kernel for itself. Each answers whether it was granted; none is necessary."""

from __future__ import annotations

import contextlib

_PDEATHSIG = 1
_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> bool:
    """Call prctl; False where there is no ctypes, no prctl or no such option."""
    try:
        import ctypes

        arguments = [ctypes.c_ulong(each) for each in (value, 0, 0, 0)]
        return bool(ctypes.CDLL(None).prctl(option, *arguments) == 0)
    except Exception:  # a Python built without ctypes, another kernel: what depends on it is told
        return False


def die_with_parent(signal_number: int) -> bool:
    """Have the kernel send us this signal when our parent ends."""
    return _prctl(_PDEATHSIG, signal_number)


def adopt_orphans(wanted: bool = True) -> bool:
    """Become (or stop being) the parent of descendants whose own parent ends, so that none is lost."""
    return _prctl(_CHILD_SUBREAPER, int(wanted))


def write_no_core() -> None:
    """Keep a crash from writing a core file or starting a crash reporter.

    A soft limit of one byte does both: it is too small for a file, and the kernel takes it as "no pipe handler
    either", which a limit of zero does not say.
    """
    import resource

    with contextlib.suppress(OSError, ValueError):
        _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0 if hard == 0 else 1, hard))
