"""[payload] Facts: what probes found, as plain frozen data. One module a subject; nothing here judges.

Every field has a default: ``None`` (or an empty tuple) means that it is not known, and ``Fact.unknown`` says why.
Units are in the names (``memory_mib``, ``seconds``). Versions are kept as the raw strings that were read.
``read_from`` puts the usual source of a field beside it; ``Fact.sources`` overrides it with the place really read.
"""

from __future__ import annotations

import re
from dataclasses import field, fields
from typing import Any, Dict, List, Optional

from envdoctor.facts.dataclass import dataclass


@dataclass(frozen=True)
class Fact:
    """What one probe found out about one subject.

    ``sources`` names, by field, the file or call that was really read; ``unknown`` says, by field, why a value
    could not be had. Both may be empty: then the field's declared source holds.
    """

    sources: Dict[str, str] = field(default_factory=dict)
    unknown: Dict[str, str] = field(default_factory=dict)


def read_from(source: str, default: Any = None, *, private: bool = False) -> Any:
    """Declare a fact's field: where it is usually read, its default, and whether it names a person or a machine.

    A ``private`` field (host name, user, home, serial, UUID) is replaced by a label wherever a report is shared.
    """
    return field(default=default, metadata={"source": source, "private": private})


_KEYS: Dict[type, str] = {}  # it is asked for with every look at a fact
_DECLARED: Dict[type, Dict[str, str]] = {}  # likewise where each field is usually read


def key_of(fact: type) -> str:
    """Give the key that a fact type has in a snapshot: ``TorchBuild`` -> ``torch_build``."""
    known = _KEYS.get(fact)
    if known is None:
        known = _KEYS[fact] = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", fact.__name__).lower()
    return known


def fact_fields(fact: type) -> List[str]:
    """Name the fields of a fact type that hold what was found (not ``sources`` and ``unknown``)."""
    return [each.name for each in fields(fact) if each.name not in ("sources", "unknown")]


def source_of(fact: Fact, name: str) -> str:
    """Say where ``name`` of this fact was read: the place really read, else the declared one."""
    if name in fact.sources:
        return fact.sources[name]
    kind = type(fact)
    if kind not in _DECLARED:
        _DECLARED[kind] = {each.name: str(each.metadata.get("source", "")) for each in fields(kind)}
    if name not in _DECLARED[kind]:
        msg = f"{kind.__name__} has no field {name!r}"
        raise AttributeError(msg)
    return _DECLARED[kind][name]


def why_unknown(fact: Fact, name: str) -> Optional[str]:
    """Say why ``name`` has no value, or None when no reason was recorded."""
    return fact.unknown.get(name)
