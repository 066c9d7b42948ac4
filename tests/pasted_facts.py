"""The whole texts that tests of the readers start from, and what a reading of one says, value by value."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from envdoctor import readers
from envdoctor.facts import fact_fields
from envdoctor.facts.text import ErrorText, Pasted
from envdoctor.snapshot import Snapshot

FOLDER = Path(__file__).parent / "pastes"
NAMES = tuple(sorted(each.stem for each in FOLDER.glob("*.txt")))
EMPTY: tuple[object, ...] = (None, (), "", {})


def paste(name: str) -> str:
    """Give a recorded text by name."""
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


def told(text: str | bytes) -> dict[str, object]:
    """Read a text, and give every value in its facts by where it stands; the words of errors are left out."""
    try:
        return flat(readers.read(text, source="a text"))
    except readers.NotRecognised:
        return {}


def flat(snapshot: Snapshot) -> dict[str, object]:
    """Give every value in the facts of a snapshot by where it stands: ``nvidia_smi.gpus[0].name``."""
    found: dict[str, object] = {}
    for key, fact in snapshot.facts.items():
        if not isinstance(fact, (ErrorText, Pasted)):
            for name in fact_fields(type(fact)):
                found.update(_leaves(f"{key}.{name}", getattr(fact, name)))
    return found


def _leaves(where: str, value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, tuple):
        for number, each in enumerate(value):
            yield from _leaves(f"{where}[{_name(each) or number}]", each)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from _leaves(f"{where}.{name}", getattr(value, name))
    elif value not in EMPTY:
        yield where, value


def _name(each: Any) -> str:
    """Name a thing in a list so that it keeps its name when one before it is lost."""
    match {name: getattr(each, name) for name in getattr(each, "__dataclass_fields__", {})}:
        case {"name": name, "source": source, "built_for": _}:
            return f"{source} {name}"
        case {"pci_address": str(address)}:
            return address
        case {"index": int(index)}:
            return f"#{index}"
        case {"first": first, "second": second, "path": _}:
            return f"{first}-{second}"
        case {"path": str(path), "version": _} if path:
            return path
        case {"name": str(name), "value": _}:
            return name
        case _:
            return ""
