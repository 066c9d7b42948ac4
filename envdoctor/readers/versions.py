"""Numbers in words: the first version of a text, the CUDA of a wheel's tag, a name as the index spells it."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,9}){1,3}")
_LIBRARIES = re.compile(
    r"(\d{3}\.\d{1,3}(?:\.\d{1,2})?) ?\(?(?:user[- ]?space|librar(?:y|ies)|nvml|client)", re.IGNORECASE
)
_MODULE = re.compile(r"(\d{3}\.\d{1,3}(?:\.\d{1,2})?) ?\(?(?:kernel|module|nvrm|kmd)", re.IGNORECASE)
_TAG = re.compile(r"\+(?:.{0,40}[.+])?cu(1\d\d|[6-9]\d)(?!\d)")


def number(text: str | None) -> str | None:
    """Give the first version number in a text."""
    match = _NUMBER.search(text or "")
    return match.group() if match else None


def whole_or_number(text: str | None) -> str | None:
    """Give the first version number in a text, or the whole number that it begins with: a driver may be called 390."""
    match = re.match(r"\s{0,20}(\d{1,6})(?![\d.])", text or "")
    return number(text) or (match.group(1) if match else None)


def cuda_of_tag(version: str) -> str | None:
    """Give the CUDA of a local version tag: ``2.5.1+cu124`` -> 12.4."""
    match = _TAG.search(version)
    return f"{match.group(1)[:-1]}.{match.group(1)[-1]}" if match else None


def rocm_of_tag(version: str) -> str | None:
    """Give the ROCm of a local version tag: ``2.9.0+rocm6.4`` -> 6.4."""
    return number(version.partition("+rocm")[2])


def normal(name: str) -> str:
    """Give a distribution's name as PEP 503 spells it."""
    return re.sub(r"[-_.]{1,10}", "-", name).lower()


def before(version: str | None, limit: tuple[int, ...]) -> bool:
    """Tell whether a version is known to be lower than ``limit``."""
    found = re.match(r"\d{1,6}(?:\.\d{1,6}){0,3}", (version or "").strip())
    return found is not None and tuple(map(int, found.group().split("."))) < limit


def both_halves(text: str) -> tuple[str, str] | None:
    """Give a driver's libraries and kernel module of ``570.124.04 user space / 570.124.06 kernel module``."""
    library, module = (pattern.search(text) for pattern in (_LIBRARIES, _MODULE))
    return (library.group(1), module.group(1)) if library and module else None
