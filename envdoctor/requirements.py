"""Requirements as a person writes them, checked and made one kind of text: ``{"gpus": 8}`` -> ``gpus`` ``>=8``.

A misspelt name is refused with the nearest valid one, a value of the wrong type with what was expected instead.
"""

from __future__ import annotations

import contextlib
import math
import re
from typing import TYPE_CHECKING, Any

from envdoctor.facts.required import Need, Required
from envdoctor.nearest import unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Reader = Callable[[str, Any, str], str]

NATIVE, ANY = "native", "any"
_CONDITION = re.compile(r"\s*(>=|<=|==|!=|<|>)\s*(\d+(?:\.\d+)?)\s*")
_PACKAGE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
_OPTION = re.compile(r"\s*([\w.-]+?)\s*(=(?!=)|(?=[=<>!~]))\s*(.*)$", re.DOTALL)


class RequirementError(ValueError):
    """A requirement that cannot be meant: the words name it, what was expected and the nearest valid name."""


def parse(table: Mapping[str, Any], where: str) -> Required:
    """Check every requirement of a table. ``where`` names the source in errors and in the evidence of findings.

    Raises ``RequirementError``.
    """
    needs: list[Need] = []
    for name, value in table.items():
        if name not in READERS:
            raise RequirementError(f"{where}: {unknown('requirement', str(name), READERS)}")
        if name == "packages":
            needs += _packages(value, where)
        else:
            needs.append(Need(name, READERS[name](name, value, where)))
    return Required(sources={"needs": where}, needs=tuple(needs))


def merged(first: Required, second: Required) -> Required:
    """Give both; where both speak of one thing, the second is taken."""
    if not first.needs or not second.needs:
        return first if first.needs else second
    needs = {each.name: each for each in (*first.needs, *second.needs)}
    sources = (each.sources.get("needs", "") for each in (second, first))
    return Required(sources={"needs": ", ".join(filter(None, sources))}, needs=tuple(needs.values()))


def from_words(words: Iterable[str], option: str) -> Required:
    """Read ``gpus=8``, ``torch>=2.9``, ``bf16=native``, ``packages.numpy>=1.26``. Raises ``RequirementError``."""
    table: dict[str, Any] = {}
    packages: dict[str, Any] = {}
    for word in words:
        match = _OPTION.match(word)
        if match is None:
            raise RequirementError(f"{option}: {word!r} is no requirement, expected one such as gpus=8 or 'torch>=2.9'")
        name, value = match[1], _typed(match[3])
        if name.startswith("packages."):
            packages[name.partition(".")[2]] = value
        else:
            table[name] = value
    return parse({**table, **({"packages": packages} if packages else {})}, option)


def _typed(text: str) -> Any:
    """Give a word of the command line the type that it has in a configuration file."""
    if text in {"true", "false"}:
        return text == "true"
    with contextlib.suppress(ValueError):
        return int(text)
    with contextlib.suppress(ValueError):
        return float(text)
    return text.strip()


def _refuse(name: str, value: Any, expected: str, where: str) -> RequirementError:
    shown = str(value).lower() if isinstance(value, bool) else repr(value)
    return RequirementError(f"{where}: require.{name} is {shown[:60]}, expected {expected}")


def _version(name: str, value: Any, where: str) -> str:
    """Accept a version specifier; a bare version is refused, because it says neither "exactly" nor "at least"."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    example = value if isinstance(value, (str, float, int)) and _is_version(str(value)) else EXAMPLES.get(name, "2.0")
    expected = f'a version specifier in quotes, such as ">={example}" or "=={example}.*"'
    if not isinstance(value, str) or not value.strip():
        raise _refuse(name, value, expected, where)
    try:
        return str(SpecifierSet(value))
    except InvalidSpecifier:
        raise _refuse(name, value, expected, where) from None


def _is_version(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)*", text) is not None


def _at_least(name: str, value: Any, where: str) -> str:
    """Accept a number, which means at least so many, or conditions such as ``">=4,<=8"``."""
    whole = name == "gpus"
    kind = "a whole number" if whole else "a number"
    expected = f'{kind}, which means at least so many, or conditions such as ">=4,<=8"'
    if isinstance(value, str) and conditions(value):
        return value.replace(" ", "")
    allowed = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or not math.isfinite(value) or value < 0:
        raise _refuse(name, value, expected, where)
    return f">={value}"


def _capability(name: str, value: Any, where: str) -> str:
    """Accept 8.0, which means at least 8.0, or a specifier such as ``">=8.0,<10"``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value < 100:
        return f">={float(value)}"
    if isinstance(value, str) and not _is_version(value):
        return _version(name, value, where)
    raise _refuse(name, value, 'a number, which means at least, such as 8.0, or a specifier such as ">=8.0,<10"', where)


def _form(*forms: str) -> Reader:
    def read(name: str, value: Any, where: str) -> str:
        if value is True or value in forms:
            return NATIVE if value is True else str(value)
        raise _refuse(name, value, f"{' or '.join(repr(each) for each in forms)}, or true for {NATIVE!r}", where)

    return read


def _image(name: str, value: Any, where: str) -> str:
    return "*" if value is True or value == "*" else _version(name, value, where)


def _packages(value: Any, where: str) -> list[Need]:
    """Accept a table of distributions: a specifier each, or ``"*"`` for any version."""
    if not hasattr(value, "items"):
        raise _refuse("packages", value, 'a table such as {numpy = ">=1.26", timm = "*"}', where)
    needs = []
    for package, wanted in value.items():
        if not _PACKAGE.match(str(package)):
            raise RequirementError(f"{where}: require.packages: {package!r} is no distribution's name")
        name = f"packages.{re.sub('[-_.]+', '-', str(package)).lower()}"
        needs.append(Need(name, "*" if wanted is True or wanted in ("", "*") else _version(name, wanted, where)))
    return needs


EXAMPLES = {
    "torch": "2.9", "cuda": "12.8", "cudnn": "9.10", "nccl": "2.27", "driver": "580", "python": "3.10", "ngc": "25.01",
    "compute_capability": "8.0",
}  # fmt: skip
READERS: dict[str, Reader] = {
    "torch": _version,
    "cuda": _version,
    "cudnn": _version,
    "nccl": _version,
    "driver": _version,
    "gpus": _at_least,
    "gpu_memory_gib": _at_least,
    "compute_capability": _capability,
    "bf16": _form(NATIVE, ANY),
    "fp8": _form(NATIVE),
    "shm_gib": _at_least,
    "python": _version,
    "packages": lambda name, value, where: "",  # noqa: ARG005 - a table of its own
    "ngc": _image,
}


def conditions(text: str) -> tuple[tuple[str, float], ...]:
    """Read ``>=4,<=8`` into operators and numbers; empty when it is anything else."""
    found = [_CONDITION.fullmatch(each) for each in text.split(",")]
    return tuple((each[1], float(each[2])) for each in found if each) if all(found) else ()


def holds(number: float, wanted: str) -> bool:
    """Tell whether a number fulfils conditions such as ``>=4,<=8``."""
    compare: dict[str, Callable[[float, float], bool]] = {
        ">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b, "==": lambda a, b: a == b,
        "!=": lambda a, b: a != b, ">": lambda a, b: a > b, "<": lambda a, b: a < b,
    }  # fmt: skip
    return all(compare[sign](number, limit) for sign, limit in conditions(wanted))
