"""envdoctor: a doctor for machines that train with PyTorch on NVIDIA GPUs.

Importing this package costs nothing: each public name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from envdoctor.diagnose import examine as examine
    from envdoctor.finding import Finding as Finding
    from envdoctor.finding import Report as Report
    from envdoctor.gate.entry import preflight as preflight
    from envdoctor.gate.refusal import NotReady as NotReady
    from envdoctor.rule import rule as rule
    from envdoctor.snapshot import Snapshot as Snapshot

_HOMES = {
    "Finding": "envdoctor.finding",
    "NotReady": "envdoctor.gate.refusal",
    "Report": "envdoctor.finding",
    "Snapshot": "envdoctor.snapshot",
    "examine": "envdoctor.diagnose",
    "preflight": "envdoctor.gate.entry",
    "rule": "envdoctor.rule",
}
__all__ = ["Finding", "NotReady", "Report", "Snapshot", "__version__", "examine", "preflight", "rule"]


def __getattr__(name: str) -> object:
    """Load a public name from its home on first use (PEP 562)."""
    import importlib

    if name not in _HOMES:
        msg = f"module 'envdoctor' has no attribute {name!r}"
        raise AttributeError(msg)
    module = importlib.import_module(_HOMES[name])
    # NOTE: importing a submodule binds its own name here; bind the object last, so that it wins every time.
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
