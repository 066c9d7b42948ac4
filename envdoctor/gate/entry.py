"""preflight(): the one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envdoctor.gate.collector import without_collections
from envdoctor.gate.standing import in_a_group, place

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from envdoctor.gate.cleared import Cleared
    from envdoctor.gate.memory import Memory
    from envdoctor.ranks.launched import Place


def preflight(
    require: Mapping[str, Any] | None = None,
    *,
    level: str = "quick",
    budget_seconds: float = 2.0,
    fail_on: str = "error",
    ignore: Iterable[str] | Mapping[str, str] = (),
    cache: bool | str | os.PathLike[str] = False,
    sync_timeout_seconds: float = 60.0,
) -> Cleared:
    """Check this machine from inside the program that is about to train on it.

    torch's settings, the environment and the mapped libraries are read in this process and marked ``live``. All that
    touches a driver is asked in a child. The process is left as it was: no CUDA context, thread, file or process.

    Args:
        require: what the program needs, by name: ``torch``, ``cuda``, ``cudnn``, ``nccl``, ``driver``, ``python``,
            ``ngc`` (version specifiers such as ``">=2.9"``), ``gpus``, ``gpu_memory_gib``, ``shm_gib``,
            ``compute_capability`` (numbers: at least so many), ``bf16``, ``fp8`` (``"native"``), ``packages`` (a
            mapping from distributions to specifiers). It is put over the configuration file's.
        level: ``quick``, ``standard`` (a child imports torch, which takes seconds) or ``deep``.
        budget_seconds: limit for the work on this machine; what there was no time for is named in ``report.notes``.
        fail_on: the severity from which on a finding stops the run: ``error``, ``warning`` or ``never``.
        ignore: ids of findings that do not count, or a mapping from ids to reasons.
        cache: take an earlier verdict of an unchanged machine; True for the user's cache directory, or a directory.
        sync_timeout_seconds: under a launcher, the limit for waiting for the other ranks.

    Returns the report. Raises ``NotReady`` with the report when a finding counts, or when something is required and
    could not be found out; ``ValueError`` for an argument that cannot be meant; ``ConfigError`` for a configuration
    file that cannot be used.
    """
    with without_collections():
        how = {
            "require": require, "level": level, "budget_seconds": budget_seconds, "ignore": ignore,
            "sync_timeout_seconds": sync_timeout_seconds,
        }  # fmt: skip
        memory, kept = (None, None) if cache is False else _kept(cache, fail_on, how)
        here = place()
        if kept is not None and here is None and not in_a_group():
            return kept
        return _verdict({**how, "fail_on": fail_on, "cache": cache}, memory, kept, here)


def _verdict(how: dict[str, Any], memory: Memory | None, kept: Cleared | None, here: Place | None) -> Cleared:
    from envdoctor.gate.looking import started

    ready = None if kept is not None else started()  # its interpreter loads meanwhile
    try:
        from envdoctor.gate.asked import checked
        from envdoctor.gate.call import Call

        return Call(checked(**how), memory, kept, here, ready).verdict()
    finally:
        if ready:
            ready.dismiss()


def _kept(cache: Any, fail_on: Any, how: dict[str, Any]) -> tuple[Memory | None, Cleared | None]:
    """Give the memory of this question, and an earlier verdict that lets the run begin.

    A refusal is never taken from memory.
    """
    from envdoctor.gate.memory import Memory, is_place
    from envdoctor.gate.memory import place as placed
    from envdoctor.gate.refusal import COUNTED, objection

    if not is_place(cache):
        return None, None
    memory = Memory(placed(cache), **how)
    report = memory.recall() if isinstance(fail_on, str) and fail_on in COUNTED else None
    return memory, None if report is None or objection(report, fail_on) else report
