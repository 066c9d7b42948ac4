"""What of a fact is settled: without what changes at each look or names the machine. As JSON in, as JSON out.

The fields to keep are told to msgspec as types, so that 75 KB of a snapshot are gone through in C.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import TYPE_CHECKING, Any

import msgspec

from envdoctor.compare.traits import ROWS, TRAITS, VOLATILE
from envdoctor.snapshot import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Callable

    from envdoctor.facts import Fact

# Fields that differ even between two machines that are set up alike and idle, beside the volatile ones.
NAMES_THE_MACHINE = ("host.hostname", "gpu.*.uuid", "gpu.*.serial", "nvidia_smi.words")
# Volatile fields that are mostly the same on idle machines, and that rules about hardware read.
MOSTLY_ALIKE = frozenset((
    "gpu.*.event_reasons", "gpu.*.ecc_corrected_volatile", "gpu.*.ecc_uncorrected_volatile", "gpu.*.pcie_generation",
    "gpu.*.power_limit_enforced_watts",
))  # fmt: skip
# Variables that a launcher sets for each rank or node anew.
RANKS_OWN = frozenset((
    "RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "ROLE_RANK", "CUDA_VISIBLE_DEVICES", "TMPDIR", "MASTER_PORT",
    "GPU_DEVICE_ORDINAL",
))  # fmt: skip
LAUNCHERS = ("SLURM_", "OMPI_", "TORCHELASTIC_", "PMI")
ENVIRONMENT = "environment"


def is_ranks_own(variable: str) -> bool:
    """Tell whether a launcher sets this variable for each rank or node anew, so that a difference means nothing."""
    return variable in RANKS_OWN or variable.startswith(LAUNCHERS)


def _momentary() -> dict[str, frozenset[str]]:
    """Name, by fact, the fields that are left out of its settled content."""
    facts = {rows.name: pattern.partition(".")[0] for pattern, rows in ROWS.items()}
    volatile = (key for key, trait in TRAITS.items() if trait == VOLATILE and key not in MOSTLY_ALIKE)
    found: dict[str, set[str]] = {}
    for pattern in (*volatile, *NAMES_THE_MACHINE):
        head, _, rest = pattern.partition(".")
        found.setdefault(facts.get(head, head), set()).add(rest.rpartition(".")[2])
    return {key: frozenset(names) for key, names in found.items()}


MOMENTARY = _momentary()
Settle = typing.Callable[[bytes], bytes]


def settler(key: str, kind: type[Fact]) -> Callable[[bytes], bytes] | None:
    """Give the function that takes what is momentary out of this fact; None for a fact that is settled as a whole."""
    if key == ENVIRONMENT:
        return _settled_environment
    if key not in MOMENTARY:
        return None
    decoder = msgspec.json.Decoder(_view(kind, MOMENTARY[key]))

    def settle(raw: bytes) -> bytes:
        try:
            return msgspec.json.encode(decoder.decode(raw))
        except msgspec.DecodeError as error:
            raise SnapshotError(f"fact {key}: {error}") from None

    return settle


def _view(kind: type, leave_out: frozenset[str]) -> type[msgspec.Struct]:
    """Make a type with the fields of ``kind`` that stay; whatever is in them is passed on unread."""
    hints = typing.get_type_hints(kind)
    fields: list[tuple[str, Any, Any]] = []
    for each in dataclasses.fields(kind):
        if each.name in leave_out:
            continue
        rows = _rows(hints[each.name])
        if rows and leave_out & {part.name for part in dataclasses.fields(rows)}:
            fields.append((each.name, list[_view(rows, leave_out)], msgspec.field(default_factory=list)))  # type: ignore[misc]
        else:
            fields.append((each.name, msgspec.Raw, msgspec.Raw(b"null")))
    return msgspec.defstruct(f"Settled{kind.__name__}", fields)


def _rows(hint: Any) -> type | None:
    """Give the dataclass that a list is made of, or None."""
    found = [each for each in typing.get_args(hint) if dataclasses.is_dataclass(each)]
    return found[0] if found and typing.get_origin(hint) is tuple else None  # type: ignore[return-value]


class _Variable(msgspec.Struct):
    name: str = ""
    value: str = ""
    redacted: bool = False


class _Environment(msgspec.Struct):
    variables: list[_Variable] = []
    unknown: msgspec.Raw = msgspec.Raw(b"null")


_ENVIRONMENT = msgspec.json.Decoder(_Environment)


def _settled_environment(raw: bytes) -> bytes:
    """Keep of a rank's own variables that they are set, not what to."""
    try:
        plain = _ENVIRONMENT.decode(raw)
    except msgspec.DecodeError as error:
        raise SnapshotError(f"fact {ENVIRONMENT}: {error}") from None
    for each in plain.variables:
        if is_ranks_own(each.name):
            each.value = ""
    return msgspec.json.encode(plain)
