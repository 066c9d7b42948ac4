"""What this very process tells of itself, read in place: its environment, torch's settings, the mapped libraries.

Nothing here calls a driver, starts a thread or imports torch: what is not imported yet is not looked at. The probes
are found by name, as the child finds them: here the patient is this process.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from envdoctor.facts import key_of
from envdoctor.facts.torch import TorchCuda, TorchImport
from envdoctor.ledger import complete
from envdoctor.outcome import Absent, Failed, Got, Outcome
from envdoctor.plan import BUILT_IN, Planned
from envdoctor.probe import Context, NotThere, Probe
from envdoctor.snapshot import ProbeResult, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.facts import Fact

LIVE = "live"
ALWAYS = ("environment",)
OF_TORCH = ("torch-settings", "mapped-libraries")
HERE = "this process imported it before envdoctor was asked"


def torch_here() -> Any | None:
    """Give torch as this process has imported it; None when it has not, or is still at it."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and hasattr(torch, "backends") and hasattr(torch, "__version__") else None


def names(planned: tuple[Planned, ...] = BUILT_IN) -> frozenset[str]:
    """Name the probes whose questions this process answers itself, so that no child needs to be asked."""
    wanted = {*ALWAYS, *(OF_TORCH if torch_here() is not None else ())}
    return frozenset(each.name for each in planned if each.name in wanted)


def with_live(snapshot: Snapshot) -> Snapshot:
    """Give the snapshot with what this process tells of itself in the place of what a child told."""
    found = {result.name: (result, fact) for result, fact in _answers(snapshot)}
    kept = tuple(each for each in snapshot.probes if each.name not in found)
    facts = {**snapshot.facts, **{key_of(type(fact)): fact for _, fact in found.values() if fact is not None}}
    return complete(replace(snapshot, facts=facts, probes=(*kept, *(result for result, _ in found.values()))))


def _answers(snapshot: Snapshot) -> Iterator[tuple[ProbeResult, Fact | None]]:
    here = names()
    yield from (_asked(each) for each in BUILT_IN if each.name in here)
    torch = torch_here()
    if torch is None:
        return
    if snapshot.get(TorchImport) is None:
        yield _told("torch-import", _import(torch))
    if _cuda_runs(torch):
        yield _told("torch-cuda", TorchCuda(available=True, sources={"available": "torch.cuda.is_initialized()"}))


def _asked(planned: Planned) -> tuple[ProbeResult, Fact | None]:
    """Ask one probe here, as a child would; whatever it raises is its answer."""
    module, _, attribute = planned.where.partition(":")
    outcome: Outcome = Got(LIVE)
    fact = None
    try:
        probe: Probe = getattr(importlib.import_module(module), attribute)
        fact = probe.collect(_context())
    except NotThere as gone:
        outcome = Absent(str(gone))
    except Exception as error:  # noqa: BLE001 - a torch that somebody replaced may raise anything
        outcome = Failed(f"{type(error).__name__}: {error}")
    return ProbeResult(planned.name, planned.fact, outcome), fact


def _context() -> Context:
    try:
        cwd = os.getcwd()  # noqa: PTH109 - as the child does
    except OSError:
        cwd = ""
    return Context(path=path(), environ=dict(os.environ), cwd=cwd)


def path() -> tuple[str, ...]:
    """Give this process's module search path as it is now; what is no string there finds nothing."""
    entries: list[object] = list(sys.path)
    return tuple(each for each in entries if isinstance(each, str))


def interpreter() -> str:
    """Give the Python that this process runs; where it is embedded in another program, the one it belongs to."""
    own: str | None = sys.executable
    return own or os.path.join(sys.exec_prefix, "bin", "python3")  # noqa: PTH118 - exec_prefix may be empty


def _told(name: str, fact: Fact) -> tuple[ProbeResult, Fact]:
    return ProbeResult(name, key_of(type(fact)), Got(LIVE)), fact


def _import(torch: Any) -> TorchImport:
    file = getattr(torch, "__file__", None)
    unknown = dict.fromkeys(("seconds", "started_threads"), HERE)
    return TorchImport(
        imported=True, version=str(torch.__version__), file=None if file is None else str(file),
        sources={"imported": "sys.modules", "version": "torch.__version__", "file": "torch.__file__"}, unknown=unknown,
    )  # fmt: skip


def _cuda_runs(torch: Any) -> bool:
    """Tell whether this process has started CUDA already; a flag is read, nothing is started."""
    ask = getattr(getattr(torch, "cuda", None), "is_initialized", None)
    return bool(ask and ask())
