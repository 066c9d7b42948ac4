"""Where this process stands among others: its place in a launched job, and whether torch has made a group of them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from envdoctor.ranks.launched import launched

if TYPE_CHECKING:
    from envdoctor.ranks.launched import Place


def place() -> Place | None:
    """Give this process's place in its job; None when no launcher started it."""
    return launched(os.environ)


def in_a_group() -> bool:
    """Tell whether this process is in a process group of torch's; nothing is imported for it."""
    dist = sys.modules.get("torch.distributed")
    ask = getattr(dist, "is_initialized", None)
    return bool(ask and dist is not None and dist.is_available() and ask())
