"""``envdoctor.lock``: what the machines of a team have in common, in a file that people read, merge and commit.

TOML, one value a line, sorted. A key is that of a flattened snapshot: the table is what stands before its first dot.
``[tolerance]`` says how near a value must be, for a table (``package``), a key, or a pattern (``package.nvidia-*``).
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from packaging.version import InvalidVersion, Version

from envdoctor.compare.subjects import fact_of
from envdoctor.compare.traits import PAIRS, ROWS, alike, slack_of
from envdoctor.facts import fact_fields
from envdoctor.nearest import unknown
from envdoctor.snapshot import BY_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from envdoctor.compare.flat import Flat, Value

SCHEMA = "envdoctor.lock/1"
FILE = "envdoctor.lock"
EXACT, SAME_MINOR, AT_LEAST, ANY = "exact", "same-minor", "at-least", "any"
TOLERANCES = (EXACT, SAME_MINOR, AT_LEAST, ANY)
HEAD = """\
# What the machines of this project have in common. Commit it; edit it as you like.
# Check a machine against it:  envdoctor check --against envdoctor.lock
# Write it anew:               envdoctor baseline save --lock
#
# [tolerance] says how near a value must be: exact (the default), same-minor, at-least or any, for a table such as
# package, a key such as "package.torch", or a pattern such as "package.nvidia-*". The longest that fits counts.
"""
# What is locked unless somebody says otherwise: what decides whether training works and gives the same results.
LOCKED = (
    "packages.python_version", "torch_build.version", "torch_build.cuda", "kernel_module.version",
    "library.cudnn.api_version", "library.nccl.api_version", "package.torch*", "package.nvidia-*", "package.triton",
    "package.pytorch-triton", "package.numpy", "package.xformers", "package.flash-attn*", "package.flashinfer*",
    "package.transformers", "package.accelerate", "package.deepspeed", "package.lightning", "package.pytorch-lightning",
    "package.bitsandbytes", "package.apex", "package.transformer-engine*", "package.vllm", "package.sglang",
    "package.peft", "package.trl", "package.timm", "package.datasets", "package.megatron-core", "package.safetensors",
    "variable.NCCL_*", "variable.PYTORCH_*", "variable.TORCH_*", "variable.CUDA_*", "variable.NVIDIA_TF32_OVERRIDE",
    "image.*", "container.nvidia_image_tag",
)  # fmt: skip
NEVER = ("package.torch-envdoctor", "package.nvidia-ml-py", "variable.CUDA_VISIBLE_DEVICES", "variable.CUDA_HOME")
USUAL = {"kernel_module.version": AT_LEAST, "packages.python_version": SAME_MINOR}
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ALIASES = frozenset((*(each.name for each in ROWS.values()), *PAIRS.values(), "nvlink", "link", "probe"))


class LockError(Exception):
    """A lock file that cannot be used; the words name the file, the key and what was expected."""


@dataclass(frozen=True)
class Lock:
    """What is locked: values by key, tolerances by table, key or pattern, and where it is written."""

    values: Mapping[str, Value]
    tolerance: Mapping[str, str] = field(default_factory=dict)
    source: str = FILE

    def tolerance_of(self, key: str) -> str:
        """Give how near the value of a key must be: what the longest name that fits says."""
        fitting = [
            name for name in self.tolerance if key == name or key.startswith(f"{name}.") or fnmatchcase(key, name)
        ]
        return self.tolerance[max(fitting, key=len)] if fitting else EXACT


def of_flat(flat: Flat, patterns: tuple[str, ...] = ()) -> Lock:
    """Lock what of a flattened snapshot is usually locked, or what the patterns name."""
    wanted = patterns or LOCKED
    values = {
        key: value
        for key, value in sorted(flat.items())
        if any(fnmatchcase(key, each) for each in wanted)
        and (patterns or not (key in NEVER or (key.startswith("variable.") and "/" in str(value))))
    }
    return Lock(values, {key: each for key, each in USUAL.items() if key in values})


def render(lock: Lock) -> str:
    """Write a lock file."""
    tables: dict[str, dict[str, Any]] = {}
    for key, value in sorted(lock.values.items()):
        table, _, rest = key.partition(".")
        tables.setdefault(table, {})[rest] = value
    lines = [HEAD, f"schema = {_value(SCHEMA)}", "", "[tolerance]"]
    lines += [f"{_key(name)} = {_value(each)}" for name, each in sorted(lock.tolerance.items())]
    for table in sorted(tables):
        lines += ["", f"[{_key(table)}]"]
        lines += [f"{_key(name)} = {_value(each)}" for name, each in sorted(tables[table].items())]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    """Write a value: a JSON string is a TOML string, but for one sign."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def is_lock(text: bytes) -> bool:
    """Tell a lock file from JSON of ours."""
    return not text.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def parse(text: bytes, source: str) -> Lock:
    """Read a lock file. Raises ``LockError``."""
    table = _toml(text, source)
    schema = table.pop("schema", None)
    if schema != SCHEMA:
        raise LockError(
            f"{source}: schema is {schema!r}, expected {SCHEMA!r}; 'envdoctor baseline save --lock' writes it"
        )
    tolerance = table.pop("tolerance", {})
    values = dict(_flattened(table, ""))
    for key, value in values.items():
        _check_key(key, source)
        if not isinstance(value, (str, int, float, bool, tuple)):
            raise LockError(f"{source}: {key} is {value!r}, expected a string, a number, a boolean or a list of these")
    return Lock(values, _tolerances(tolerance, source), source)


def _toml(text: bytes, source: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LockError(f"{source}: is not valid TOML: {error}") from None


def _flattened(table: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        key = f"{above}.{name}" if above else name
        if isinstance(value, dict):
            yield from _flattened(value, key)
        else:
            yield key, tuple(value) if isinstance(value, list) else value


def _check_key(key: str, source: str) -> None:
    """Refuse a table or a field that no fact has, naming the nearest."""
    table, _, name = key.partition(".")
    if table in _ALIASES:
        return
    fact = BY_KEY.get(fact_of(key))
    if fact is None or not name:
        raise LockError(f"{source}: {unknown('table', table, {*_ALIASES, *BY_KEY}, see='see envdoctor snapshot')}")
    first = name.partition(".")[0]
    if first not in fact_fields(fact):
        raise LockError(f"{source}: {unknown(f'key of [{table}]', first, fact_fields(fact))}")


def _tolerances(table: Any, source: str) -> dict[str, str]:
    if not isinstance(table, dict):
        raise LockError(f"{source}: tolerance is {table!r}, expected a table such as {{package = 'same-minor'}}")
    found = dict(_flattened(table, ""))
    for name, value in found.items():
        if value not in TOLERANCES:
            raise LockError(f"{source}: tolerance of {name}: {unknown('tolerance', str(value), TOLERANCES)}")
    return found


def fits(key: str, expected: Value, found: Value | None, tolerance: str) -> bool:
    """Tell whether a value is near enough to the one that is expected."""
    if tolerance == ANY:
        return True
    if found is None:
        return False
    if tolerance == EXACT or alike(expected, found, 0.0):
        return alike(expected, found, slack_of(key))
    if isinstance(expected, (int, float)) and isinstance(found, (int, float)) and tolerance == AT_LEAST:
        return found >= expected
    return _version_fits(str(expected), str(found), tolerance)


def _version_fits(expected: str, found: str, tolerance: str) -> bool:
    """Compare what are versions; local tags (+cu130) are left out."""
    try:
        one, other = Version(expected), Version(found)
    except InvalidVersion:
        return False
    if tolerance == SAME_MINOR:
        return (one.epoch, *_release(one)) == (other.epoch, *_release(other))
    return Version(other.public) >= Version(one.public)


def _release(version: Version) -> tuple[int, int]:
    return version.major, version.minor
