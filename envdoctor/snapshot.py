"""A snapshot: the facts of one target at one time, and what became of each probe. Saved, loaded, merged here."""

from __future__ import annotations

import datetime as dt
from dataclasses import field, replace
from typing import Any, TypeVar

import msgspec

from envdoctor import __version__
from envdoctor.facts import Fact, key_of
from envdoctor.facts.dataclass import dataclass
from envdoctor.facts.drift import Drift
from envdoctor.facts.driver import CudaDriver, CudaRuntime, DriverFiles, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment, Host, Resources
from envdoctor.facts.job import Job
from envdoctor.facts.kernels import KernelAnswers
from envdoctor.facts.libraries import Extensions, Libraries, MappedLibraries, Toolkit
from envdoctor.facts.nvml import GpuFabric, GpuState, KernelLog
from envdoctor.facts.packages import Packages
from envdoctor.facts.required import Required
from envdoctor.facts.storage import Storage
from envdoctor.facts.surroundings import Container, Fabric
from envdoctor.facts.text import ErrorText, Pasted, Wanted
from envdoctor.facts.torch import (
    CompileTools,
    TorchBuild,
    TorchCuda,
    TorchFiles,
    TorchImport,
    TorchPath,
    TorchSettings,
)
from envdoctor.outcome import Absent, Crashed, Failed, Got, Outcome, TimedOut
from envdoctor.plan import LEVELS

SCHEMA = "envdoctor.snapshot/1"
HOLD_ONE = ("envdoctor.report/", "envdoctor.bench/")  # documents whose ``facts`` are a snapshot

FACTS: tuple[type[Fact], ...] = (
    Host, Resources, Environment, PciBus, DeviceNodes, KernelModule, DriverFiles, NvidiaSmi, CudaDriver, CudaRuntime,
    GpuState, GpuFabric, KernelLog, Packages, TorchPath, TorchBuild, TorchFiles, TorchImport, TorchCuda, TorchSettings,
    CompileTools, KernelAnswers, Libraries, Extensions, Container, Fabric, Job, Storage, Toolkit, MappedLibraries,
    ErrorText, Wanted, Pasted, Required, Drift,
)  # fmt: skip
BY_KEY: dict[str, type[Fact]] = {key_of(each): each for each in FACTS}
F = TypeVar("F", bound=Fact)


def with_bench() -> dict[str, type[Fact]]:
    """Give every kind of fact by its key, the benchmark's included: those are imported only where they are wanted."""
    from envdoctor.facts import bench

    return BY_KEY | {key_of(each): each for each in bench.FACTS}


class SnapshotError(Exception):
    """A file that is no snapshot of ours, or one with a fact of the wrong shape: says file, probe and field."""


@dataclass(frozen=True)
class Target:
    """Who was examined: ``key`` is the name in reports, ``kind`` is interpreter, command or text."""

    key: str = "this"
    kind: str = "interpreter"
    python: str = ""
    via: str = ""


@dataclass(frozen=True)
class ProbeResult:
    """What became of one probe, which fact it was to give, and how long it took."""

    name: str
    fact: str
    outcome: Outcome
    seconds: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """All facts of one target. ``facts`` may hold a partial fact of a probe that crashed or timed out.

    ``left_out`` and ``lost`` are of a loaded file: facts that this version does not know, and facts that its probes
    answered and that it does not hold.
    """

    target: Target = field(default_factory=Target)
    level: str = "standard"
    created: str = ""
    facts: dict[str, Fact] = field(default_factory=dict)
    probes: tuple[ProbeResult, ...] = ()
    elapsed_seconds: float = 0.0
    overhead_seconds: float = 0.0
    plugin_errors: tuple[str, ...] = ()
    tool_version: str = __version__
    interrupted: bool = False
    left_out: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def get(self, kind: type[F]) -> F | None:
        """Give the fact of this type, or None."""
        found = self.facts.get(key_of(kind))
        return found if isinstance(found, kind) else None

    def probe_for(self, fact: str) -> ProbeResult | None:
        """Give the result of the probe that was to answer ``fact`` (a key), or None when none ran."""
        return next((each for each in self.probes if each.fact == fact), None)

    def freshness(self, fact: str) -> str:
        """Say how fresh ``fact`` is: file, fresh-process or live."""
        result = self.probe_for(fact)
        return result.outcome.freshness if result and isinstance(result.outcome, Got) else "file"


def of(*facts: Fact, level: str = "standard", probes: tuple[ProbeResult, ...] = ()) -> Snapshot:
    """Make a snapshot from facts at hand: what tests and text readers start from."""
    told = tuple(ProbeResult(key_of(type(f)).replace("_", "-"), key_of(type(f)), Got()) for f in facts)
    return Snapshot(level=level, created=now(), facts={key_of(type(f)): f for f in facts}, probes=(*told, *probes))


def now() -> str:
    """Give the time in UTC, ISO 8601, to the second."""
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")


def decode_fact(key: str, raw: Any, *, kinds: dict[str, type[Fact]] = BY_KEY) -> Fact:
    """Turn plain data into the fact that ``key`` names; unknown keys are ignored, missing ones take defaults.

    Raises ``SnapshotError`` with the fact's and the field's name when a value has the wrong type.
    """
    if key not in kinds:
        raise SnapshotError(f"unknown fact {key!r}")
    try:
        return msgspec.convert(raw, kinds[key], strict=True)
    except msgspec.ValidationError as error:
        raise SnapshotError(f"fact {key}: {error}") from None


def to_plain(snapshot: Snapshot) -> dict[str, Any]:
    """Give the snapshot as JSON-ready data in the layout of ``envdoctor.snapshot/1``."""
    target = snapshot.target
    return {
        "schema": SCHEMA,
        "tool": {"name": "envdoctor", "version": snapshot.tool_version},
        "created": snapshot.created,
        "target": {"key": target.key, "kind": target.kind, "python": target.python, "via": target.via},
        "level": snapshot.level,
        "elapsed_seconds": round(snapshot.elapsed_seconds, 3),
        "overhead_seconds": round(snapshot.overhead_seconds, 3),
        "probes": [_plain_probe(each) for each in snapshot.probes],
        "plugin_errors": list(snapshot.plugin_errors),
        "interrupted": snapshot.interrupted,
        "facts": {key: msgspec.to_builtins(fact) for key, fact in snapshot.facts.items()},
    }


def _plain_probe(result: ProbeResult) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": result.name, "fact": result.fact, "outcome": result.outcome.name}
    plain |= {"seconds": round(result.seconds, 4), "reason": result.outcome.reason}
    return plain | {k: v for k, v in msgspec.to_builtins(result.outcome).items() if k != "reason"}


GOT = Got.name  # as it is written: the probe answered
OUTCOMES: dict[str, type[Outcome]] = {each.name: each for each in (Got, Absent, Failed, Crashed, TimedOut)}


def from_plain(plain: Any, *, source: str = "snapshot", kinds: dict[str, type[Fact]] = BY_KEY) -> Snapshot:
    """Read the layout of ``envdoctor.snapshot/1`` back; facts this version does not know are left out.

    Raises ``SnapshotError`` naming ``source`` and what is wrong.
    """
    if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
        raise SnapshotError(f"{source}: not a snapshot (expected schema {SCHEMA!r})")
    try:
        return _from_plain(plain, kinds)
    except (SnapshotError, msgspec.ValidationError, TypeError, ValueError, KeyError, AttributeError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise SnapshotError(f"{source}: {said}") from None


def _from_plain(plain: dict[str, Any], kinds: dict[str, type[Fact]]) -> Snapshot:
    if not isinstance(plain.get("facts", {}), dict):
        raise SnapshotError("facts: expected an object")
    if any(str(key).startswith("bench_") for key in plain.get("facts", {})):
        kinds = with_bench() | kinds
    facts = {k: decode_fact(k, v, kinds=kinds) for k, v in plain.get("facts", {}).items() if k in kinds}
    probes = tuple(probe_from(each) for each in plain.get("probes", ()))
    target = msgspec.convert(plain.get("target", {}), Target)
    given = plain.get("facts", {})
    answered = [each.fact for each in probes if isinstance(each.outcome, Got)]
    level = plain.get("level", "standard")
    if level not in LEVELS:
        raise SnapshotError(f"level is {level!r}, expected one of {', '.join(LEVELS)}")
    return Snapshot(
        target, level, str(plain.get("created", "")), facts, probes,
        float(plain.get("elapsed_seconds", 0.0)), float(plain.get("overhead_seconds", 0.0)),
        tuple(map(str, plain.get("plugin_errors", ()))), str(plain.get("tool", {}).get("version", "")),
        plain.get("interrupted") is True, tuple(sorted(set(map(str, given)) - set(kinds))),
        tuple(each for each in answered if each and each not in given),
    )  # fmt: skip


def probe_from(raw: dict[str, Any]) -> ProbeResult:
    """Read what became of one probe. Raises ``SnapshotError`` for no outcome, msgspec's error for a wrong type."""
    kind = OUTCOMES.get(raw.get("outcome", ""))
    if kind is None:
        raise SnapshotError(
            f"probe {raw.get('name')!r}: outcome {raw.get('outcome')!r} is none of {', '.join(OUTCOMES)}"
        )
    outcome = msgspec.convert({k: v for k, v in raw.items() if k not in {"name", "fact", "outcome", "seconds"}}, kind)
    return ProbeResult(str(raw["name"]), str(raw.get("fact", "")), outcome, float(raw.get("seconds", 0.0)))


def load(text: bytes | str, *, source: str = "snapshot", kinds: dict[str, type[Fact]] = BY_KEY) -> Snapshot:
    """Read a snapshot, or that inside a report or a benchmark's result, from JSON text; raises ``SnapshotError``.

    ``kinds`` are the facts to read: the built-in ones, or those of plug-ins as well.
    """
    try:
        plain = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise SnapshotError(f"{source}: not JSON: {error}") from None
    if isinstance(plain, dict) and str(plain.get("schema", "")).startswith(HOLD_ONE):
        plain = plain.get("facts")
    return from_plain(plain, source=source, kinds=kinds)


def save(snapshot: Snapshot) -> bytes:
    """Give the snapshot as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(to_plain(snapshot)), indent=1)


def with_target(snapshot: Snapshot, target: Target) -> Snapshot:
    """Give the same facts under another target's name."""
    return replace(snapshot, target=target)


def with_fact(snapshot: Snapshot, fact: Fact) -> Snapshot:
    """Give the same snapshot with one more fact, or with this one in the place of another of its kind."""
    return replace(snapshot, facts={**snapshot.facts, key_of(type(fact)): fact})
