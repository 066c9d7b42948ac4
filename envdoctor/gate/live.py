"""What this very process tells of itself, read in place: its environment, torch's settings, the mapped libraries.

Nothing here calls a driver, starts a thread or imports torch: what is not imported yet is not looked at. The probes
are found by name, as the child finds them: here the patient is this process.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from envdoctor.facts import key_of
from envdoctor.facts.torch import TorchCuda, TorchImport
from envdoctor.gate.standing import names, path, torch_here
from envdoctor.ledger import complete
from envdoctor.outcome import Absent, Failed, Got, Outcome
from envdoctor.plan import BUILT_IN, Planned
from envdoctor.probe import Context, NotThere, Probe
from envdoctor.snapshot import ProbeResult, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.facts import Fact

LIVE = "live"
HERE = "this process imported it before envdoctor was asked"


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
