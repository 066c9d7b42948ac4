"""[payload] Requirements and their environment markers (PEP 508), as far as wheels use them.

The patient may be without ``packaging``. What this reader does not understand it says, and never guesses.
"""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from envdoctor_probes.metadata import normalise

_REQUIREMENT = re.compile(
    r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?\s*(?:@\s*\S+|\(?([^;()]*)\)?)\s*(?:;(.*))?$"
)
_TOKEN = re.compile(r"""\s*(\(|\)|<=|>=|===|==|~=|!=|<|>|'[^']*'|"[^"]*"|[A-Za-z_.]+)""")
_VERSION = re.compile(r"\s*v?\d+(\.\d+)*")
_VERSION_NAMES = {"python_version", "python_full_version", "implementation_version", "platform_release"}


class MarkerError(ValueError):
    """A marker that this reader does not understand."""


class Requirement(NamedTuple):
    """``torch[extra]>=2 ; marker`` in its parts; ``name`` is normalised."""

    name: str
    extras: Tuple[str, ...] = ()
    specifier: str = ""
    marker: str = ""


def parse_requirement(text: str) -> Optional[Requirement]:
    """Read one Requires-Dist value, the old form with parentheses too; None when it is none."""
    match = _REQUIREMENT.match(text)
    if match is None:
        return None
    name, extras, specifier, marker = (part or "" for part in match.groups())
    named = tuple(normalise(extra.strip()) for extra in extras.split(",") if extra.strip())
    return Requirement(normalise(name), named, re.sub(r"\s+", "", specifier), marker.strip())


def environment() -> Dict[str, str]:
    """Give the marker variables of this interpreter."""
    import os
    import sys

    here = os.uname()
    implementation = sys.implementation
    version = ".".join(str(part) for part in sys.version_info[:3])
    return {
        "os_name": os.name,
        "sys_platform": sys.platform,
        "platform_machine": here.machine,
        "platform_system": here.sysname,
        "platform_release": here.release,
        "platform_version": here.version,
        "python_version": "{}.{}".format(*sys.version_info[:2]),
        "python_full_version": version,
        "implementation_name": implementation.name,
        "implementation_version": ".".join(str(part) for part in implementation.version[:3]),
        "platform_python_implementation": {"cpython": "CPython", "pypy": "PyPy"}.get(implementation.name, ""),
        "extra": "",
    }


def holds(marker: str, values: Dict[str, str]) -> bool:
    """Evaluate a marker; an empty one holds. Raises ``MarkerError`` for what is not understood."""
    if not marker:
        return True
    tokens = _tokens(marker)
    result = _either(tokens, values)
    if tokens:
        raise MarkerError(f"{marker!r}: {tokens[0]!r} is not understood")
    return result


def _tokens(marker: str) -> List[str]:
    tokens: List[str] = []
    at = 0
    while marker[at:].strip():
        match = _TOKEN.match(marker, at)
        if match is None:
            raise MarkerError(f"{marker!r}: {marker[at:].strip()!r} is not understood")
        tokens.append(match.group(1))
        at = match.end()
    return tokens


def _either(tokens: List[str], values: Dict[str, str]) -> bool:
    result = _both(tokens, values)
    while tokens and tokens[0] == "or":
        tokens.pop(0)
        result = _both(tokens, values) or result  # the right side is read even when the left decides
    return result


def _both(tokens: List[str], values: Dict[str, str]) -> bool:
    result = _single(tokens, values)
    while tokens and tokens[0] == "and":
        tokens.pop(0)
        result = _single(tokens, values) and result
    return result


def _single(tokens: List[str], values: Dict[str, str]) -> bool:
    if tokens and tokens[0] == "(":
        tokens.pop(0)
        result = _either(tokens, values)
        if not tokens or tokens.pop(0) != ")":
            raise MarkerError("a parenthesis is not closed")
        return result
    if len(tokens) < 3:
        raise MarkerError(f"{' '.join(tokens)!r} is not a comparison")
    left, operator = tokens.pop(0), tokens.pop(0)
    if operator == "not" and tokens[0] == "in":
        operator = "not " + tokens.pop(0)
    if not tokens:
        raise MarkerError(f"nothing follows {operator!r}")
    return _compare(left, operator, tokens.pop(0), values)


def _compare(left: str, operator: str, right: str, values: Dict[str, str]) -> bool:
    a, b = _value(left, values), _value(right, values)
    if "extra" in (left, right):
        a, b = normalise(a), normalise(b)
    if operator in ("in", "not in"):
        return (a in b) == (operator == "in")
    if {left, right} & _VERSION_NAMES and _VERSION.match(a) and _VERSION.match(b):
        return _compare_versions(a, operator, b)
    if operator in ("==", "===", "!="):
        return (a == b) == (operator != "!=")
    raise MarkerError(f"{left} {operator} {right} is no comparison of versions")


def _compare_versions(a: str, operator: str, b: str) -> bool:
    if b.endswith(".*") and operator in ("==", "!="):
        return (a + ".").startswith(b[:-1]) == (operator == "==")
    x, y = _numbers(a), _numbers(b)
    if operator == "~=":
        return x >= y and (a + ".").startswith(b.rpartition(".")[0] + ".")
    answers = {"<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y, "==": x == y, "===": a == b, "!=": x != y}
    if operator not in answers:
        raise MarkerError(f"{operator!r} is no comparison")
    return answers[operator]


def _value(token: str, values: Dict[str, str]) -> str:
    if token[0] in "'\"":
        return token[1:-1]
    if token not in values:
        raise MarkerError(f"{token!r} is no marker variable")
    return values[token]


def _numbers(version: str) -> Tuple[int, ...]:
    """Give a version's leading numbers without trailing zeros, so that 3.10 equals 3.10.0 and beats 3.9."""
    match = _VERSION.match(version)
    numbers = [int(part) for part in match.group(0).strip().lstrip("v").split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
