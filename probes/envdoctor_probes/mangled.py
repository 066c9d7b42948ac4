"""[payload] Names of C++ symbols (Itanium ABI): whose they are, and which std::string they speak of. No demangler.

A mangled name is a row of tokens: ``17parseSchemaOrName`` is an identifier with its length, ``Ss`` the old std::string,
``S1_`` a repetition, ``B5cxx11`` the mark of a function that returns the new std::string.
"""

from __future__ import annotations

import re
from typing import Iterator, Optional, Tuple

__all__ = ["is_torchs", "name_start", "std_string", "tokens"]

# c10::, at::, torch:: and caffe2::, their tables and constants too; the C names that torch exports for extensions.
_TORCHS = re.compile(
    r"_Z(?:T[VTISCW]|GV|Th?n?\d+_)?(?:N[VKr]*[RO]?)?(?:3c10|2at|5torch|6caffe2)(?=[\dA-Z])"
    r"|_Z\d+THP|THP[A-Z]|aoti_torch_|torch_(?:library|dispatcher|call|stable|list|string|get|set|new|delete|from)_"
)
_NESTED = re.compile(r"_Z(?:T[VTISCW]|GV)?N[VKr]*[RO]?")
_LENGTH = re.compile(r"\d+")
_PART = re.compile(r"St|S[0-9A-Z]*_|[CD][0-3]|[a-z]{2}")
_TOKEN = re.compile(r"L[a-z]n?\d+E|S[tabsiod]|S[0-9A-Z]*_|T\d*_|B?(\d+)|.")


def is_torchs(symbol: str) -> bool:
    """Tell whether only torch can be meant to define this."""
    return _TORCHS.match(symbol) is not None


def tokens(symbol: str) -> Iterator[Tuple[str, str]]:
    """Give the tokens of a mangled name, each with its identifier (else an empty text)."""
    at = 2
    while at < len(symbol):
        match = _TOKEN.match(symbol, at)
        if match is None:
            return
        at = match.end()
        length = int(match.group(1) or 0)
        identifier = symbol[at : at + length] if length < 1000 else ""
        if not identifier.isidentifier():  # a number inside a constant, not a length
            yield match.group(0), ""
            continue
        at += length
        yield match.group(0), identifier


def std_string(symbol: str) -> Optional[bool]:
    """Tell which std::string a name speaks of: True the new one (``__cxx11``), False the old one, None neither."""
    if not symbol.startswith("_Z"):
        return None
    found = list(tokens(symbol))
    if any(identifier in ("__cxx11", "cxx11") for _, identifier in found):
        return True
    return False if any(token == "Ss" for token, _ in found) else None  # noqa: S105 - a token of a symbol's name


def name_start(symbol: str) -> Tuple[str, Tuple[str, ...]]:
    """Give the symbol up to the end of the function's name, without its arguments, and the parts of that name.

    ``_ZN5torch3jit17parseSchemaOrNameERKSsb`` -> ``_ZN5torch3jit17parseSchemaOrName``. Template arguments end it.
    """
    nested = _NESTED.match(symbol)
    at = nested.end() if nested else 2
    parts = []
    while at < len(symbol):
        number = _LENGTH.match(symbol, at)
        part = None if number else _PART.match(symbol, at)
        if number:
            end = number.end() + int(number.group(0))
            parts.append(symbol[number.end() : end])
        elif part and nested:
            end = part.end()
        else:
            break
        at = end
        if not nested:
            break
    return symbol[:at], tuple(parts)
