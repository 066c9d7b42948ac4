"""GPUs by name and by compute capability: typed rows, and which code runs on which GPU.

A capability is looked up by the whole name, never read out of the digits in it: "Quadro RTX 5000" is Turing (7.5).
"""

from __future__ import annotations

import functools
import re

import msgspec

from envdoctor.knowledge import cells, rows
from envdoctor.knowledge.cuda import Version, numbers

Capability = tuple[int, ...]

# Long patterns are compiled when they are first asked for: most checks never do.
# What follows a model's name without changing its architecture: form factor, memory, mobile, vGPU profile (48C).
VARIANT = (
    r"[\s-]+(?:sxm\d?|pcie|nvl|hbm\d\w?|\d+\s?gb?|laptop gpu|mobile|with max-q design|max-q|\(per gpu\)|\d+[abcq]"
    r"|mig \d+g\.\d+gb(?:\+\w+)?)"
    r"(?=$|[\s-])"
)
CONSUMER = ("geforce", "titan")

# Cubins of a lower minor do not serve these, although they are of the same major: torch/cuda/__init__.py.
ALONE: frozenset[Capability] = frozenset({(5, 3), (6, 2), (7, 2), (10, 1)})
ORIN, ORIN_JOINS_AMPERE = (8, 7), (13, 2)
RENAMED: dict[Capability, Capability] = {(10, 1): (11, 0)}  # Thor: 10.1 until CUDA 12.9, 11.0 since 13.0

# The last driver branch that serves an architecture, by major: NVIDIA's Unix driver deprecation schedule.
LAST_BRANCH = {1: 340, 2: 390, 3: 470, 5: 580, 6: 580}
VOLTA, LAST_BRANCH_OF_VOLTA = (7, 0), 580


class Code(msgspec.Struct, frozen=True):
    """Device code of a build: cubins (SASS) by capability, PTX by capability, and cubins bound to one GPU (sm_90a)."""

    cubins: tuple[Capability, ...] = ()
    ptx: tuple[Capability, ...] = ()
    exact: tuple[Capability, ...] = ()

    @property
    def empty(self) -> bool:
        """Tell whether nothing is known of it."""
        return not (self.cubins or self.ptx or self.exact)


def capability(text: str | None) -> Capability | None:
    """Read ``"8.6"`` as ``(8, 6)``; None when it is no capability."""
    found = numbers(text)
    return found[:2] if found and len(found) >= 2 else None


def code_of(arch_list: tuple[str, ...]) -> Code:
    """Read an architecture list as torch writes it: ``("sm_80", "sm_90a", "compute_90")``."""
    found: dict[str, list[Capability]] = {"sm": [], "compute": [], "exact": []}
    for text in arch_list:
        match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", text)
        if match:
            kind = "exact" if match[4] == "a" else match[1]
            found[kind].append((int(match[2]), int(match[3])))
    return Code(tuple(found["sm"]), tuple(found["compute"]), tuple(found["exact"]))


def has_cubin(code: Code, gpu: Capability, cuda: Version | None = None) -> bool:
    """Tell whether a build has machine code that this GPU runs."""
    same = {gpu, RENAMED.get(gpu, gpu), *(old for old, new in RENAMED.items() if new == gpu)}
    if same & {*code.cubins, *code.exact}:
        return True
    if gpu in ALONE or (gpu == ORIN and (cuda is None or cuda < ORIN_JOINS_AMPERE)):
        return False
    return any(each[0] == gpu[0] and each[1] <= gpu[1] for each in code.cubins)


def has_ptx(code: Code, gpu: Capability) -> bool:
    """Tell whether a build has PTX that the driver can compile for this GPU."""
    return any(each <= gpu for each in code.ptx)


class Compiler(msgspec.Struct, frozen=True):
    """One release of CUDA's compiler: the oldest and the newest GPU that it makes code for."""

    cuda: Version
    oldest: Capability
    newest: Capability
    source: str


class Family(msgspec.Struct, frozen=True):
    """GPUs of one compute capability, by their full names."""

    compute_capability: str
    line: str
    names: tuple[str, ...]
    source: str


@functools.cache
def compilers() -> tuple[Compiler, ...]:
    """Give the compiler releases, in the order of the table."""
    return tuple(
        Compiler(
            numbers(row["cuda"]) or (), capability(row["min_cc"]) or (), capability(row["max_cc"]) or (), row["source"]
        )
        for row in rows("cuda_arch.csv")
    )


@functools.cache
def families() -> tuple[Family, ...]:
    """Give the families of GPUs, the newest first."""
    return tuple(
        Family(row["compute_capability"], row["family"], cells(row["names"]), row["source"])
        for row in rows("gpu_names.csv")
    )


def compiler_range(cuda: Version) -> tuple[Capability, Capability] | None:
    """Give the oldest and newest GPU that a CUDA version's compiler makes code for; None where it is not known."""
    return next(((each.oldest, each.newest) for each in compilers() if each.cuda == cuda[:2]), None)


def beyond_compiler(gpu: Capability, cuda: Version) -> bool | None:
    """Tell whether no code for this GPU can come from this CUDA version; None where that is not known.

    A GPU newer than the compiler still runs code of an older GPU of its own major.
    """
    known = compiler_range(cuda)
    if known is None:
        return None
    oldest, newest = known
    return gpu < oldest or gpu[0] > newest[0]


@functools.cache
def _by_name() -> dict[str, str]:
    found: dict[str, str] = {}
    for row in rows("gpu_specs.csv"):
        found[_plain(row["gpu"])] = row["compute_capability"]
    for family in families():
        for name in family.names:
            found[_plain(name)] = family.compute_capability
    for name, cc in list(found.items()):
        # People leave out "GeForce" and "Tesla"; "Quadro" they must not: RTX 5000 and Quadro RTX 5000 differ.
        for line in ("geforce ", "tesla "):
            if name.startswith(line):
                found.setdefault(name.removeprefix(line), cc)
    return found


def _plain(name: str) -> str:
    text = re.sub(r"\s+", " ", name.lower().replace("(r)", "").replace("(tm)", "")).strip()
    text = text.removeprefix("nvidia ")
    while (shorter := re.sub(VARIANT, "", text)) != text:
        text = shorter
    return text


def capability_of(name: str) -> str | None:
    """Look up the compute capability of a GPU by its full name; None when the tables do not hold it."""
    return _by_name().get(_plain(name))


def is_consumer(name: str) -> bool:
    """Tell whether the name is of a consumer line, which forward compatibility leaves out."""
    plain = _plain(name)
    return plain.startswith(CONSUMER) or f"geforce {plain}" in _by_name()


def last_driver_branch(text: str) -> int | None:
    """Give the last driver branch that serves GPUs of a capability; None while they are still served."""
    found = capability(text)
    if found is None:
        return None
    return LAST_BRANCH_OF_VOLTA if found == VOLTA else LAST_BRANCH.get(found[0])


@functools.cache
def tf32_gain(name: str) -> float | None:
    """Give how many times the TF32 peak exceeds the FP32 peak, by the vendor's data sheet; None when not listed."""
    for row in rows("gpu_specs.csv"):
        if _plain(row["gpu"]) == _plain(name) and row["tf32"] and row["fp32"]:
            return float(row["tf32"]) / float(row["fp32"])
    return None
