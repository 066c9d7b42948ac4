"""Where this process stands: its Python, its torch, its place in a launched job. Nothing is imported for it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from envdoctor.ranks.launched import launched

if TYPE_CHECKING:
    from envdoctor.plan import Planned
    from envdoctor.ranks.launched import Place

ALWAYS = ("environment",)
OF_TORCH = ("torch-settings", "mapped-libraries")


def place() -> Place | None:
    """Give this process's place in its job; None when no launcher started it."""
    return launched(os.environ)


def in_a_group() -> bool:
    """Tell whether this process is in a process group of torch's; nothing is imported for it."""
    dist = sys.modules.get("torch.distributed")
    ask = getattr(dist, "is_initialized", None)
    return bool(ask and dist is not None and dist.is_available() and ask())


def torch_here() -> Any | None:
    """Give torch as this process has imported it; None when it has not, or is still at it."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and hasattr(torch, "backends") and hasattr(torch, "__version__") else None


def names(planned: tuple[Planned, ...] | None = None) -> frozenset[str]:
    """Name the probes, of the built-in ones unless given, that this process answers itself: no child is asked."""
    from envdoctor.plan import BUILT_IN

    wanted = {*ALWAYS, *(OF_TORCH if torch_here() is not None else ())}
    return frozenset(each.name for each in (BUILT_IN if planned is None else planned) if each.name in wanted)


def path() -> tuple[str, ...]:
    """Give this process's module search path as it is now; what is no string there finds nothing."""
    entries: list[object] = list(sys.path)
    return tuple(each for each in entries if isinstance(each, str))


def interpreter() -> str:
    """Give the Python that this process runs; where it is embedded in another program, the one it belongs to."""
    own: str | None = sys.executable
    return own or os.path.join(sys.exec_prefix, "bin", "python3")  # noqa: PTH118 - exec_prefix may be empty
