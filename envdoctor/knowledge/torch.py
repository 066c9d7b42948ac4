"""torch releases, the wheels they were published as, and the companions that pair with them: typed rows.

A wheel's own requirements come before any row here; the rows answer where the metadata is silent.
"""

from __future__ import annotations

import functools

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from envdoctor.knowledge import cells, rows
from envdoctor.knowledge.cuda import cuda_minor
from envdoctor.knowledge.ecosystem import Statement, stated, statements
from envdoctor.knowledge.gpus import Capability, Code, capability, has_cubin

Python = tuple[int, ...]

PAIRING_KINDS = frozenset({"exact_pin", "range", "compatible_release", "documented_pair", "none"})


class TorchRelease(msgspec.Struct, frozen=True):
    """One release: the Pythons it has wheels for, its CUDA variants, and what it was published with.

    ``variants`` is the official matrix, ``extra_variants`` lie on the index outside of it, ``triton`` is a specifier.
    """

    version: Version
    python_min: Python
    python_max: Python
    default_cuda: str
    variants: tuple[str, ...]
    extra_variants: tuple[str, ...]
    torchvision: str
    torchaudio: str
    triton: str
    source: str

    def supports(self, python: Python) -> bool:
        """Tell whether the release has a wheel for this Python."""
        return self.python_min <= python[:2] <= self.python_max


class TorchWheelCode(msgspec.Struct, frozen=True):
    """The device code of the wheels of one minor, CUDA variant and set of platforms."""

    torch: tuple[int, ...]
    variant: str
    platforms: tuple[str, ...]
    code: Code
    source: str
    text: str = ""

    def runs_on(self, gpu: str) -> bool:
        """Tell whether a GPU of this compute capability has machine code in the wheel (PTX needs a compiler first)."""
        found = capability(gpu)
        return found is not None and has_cubin(self.code, found, cuda_of(self.variant))


class Pairing(msgspec.Struct, frozen=True):
    """Which torch one version of a companion wants; ``torch`` None: it declares none and runs with any."""

    package: str
    version: str
    torch: SpecifierSet | None
    kind: str
    source: str


def numbers(text: str) -> tuple[int, ...]:
    """Turn ``"3.11"`` into ``(3, 11)``; the first two parts that are digits."""
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def specifier(text: str) -> str:
    """Give a requirement cell as a specifier: a bare version means exactly that one."""
    return text if not text or text[0] in "=<>~!" else f"=={text}"


def cuda_of(variant: str) -> tuple[int, ...]:
    """Give the CUDA version that a variant names: ``"cu126"`` -> ``(12, 6)``; ``"cpu"`` -> ``()``."""
    digits = variant.removeprefix("cu")
    return (int(digits[:-1]), int(digits[-1])) if digits.isdigit() and len(digits) > 1 else ()


def variant_of(cuda: str) -> str:
    """Give the variant that a CUDA version is published as: ``"12.6"`` -> ``"cu126"``."""
    found = cuda_minor(cuda)
    return f"cu{found[0]}{found[1]}" if found else "cpu"


@functools.cache
def releases() -> tuple[TorchRelease, ...]:
    """Give the releases of the table, the newest first."""
    found = [
        TorchRelease(
            Version(row["torch"]), numbers(row["python_min"]), numbers(row["python_max"]), row["default_pypi_cuda"],
            cells(row["cuda_variants"]), cells(row["cuda_variants_extra"]), row["torchvision"], row["torchaudio"],
            specifier(row["triton"]), row["source"],
        )
        for row in rows("torch_releases.csv")
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda each: each.version, reverse=True))


def release(version: Version) -> TorchRelease | None:
    """Give the row of a final release; None for a pre-release, a source build, and what the table does not hold."""
    if version.is_prerelease:
        return None
    wanted = Version(version.base_version)
    return next((each for each in releases() if each.version == wanted), None)


class EarlyMinor(msgspec.Struct, frozen=True):
    """A minor of torch (or one release of it) before the table of releases: its CUDAs, and the GPUs it has code for.

    ``least``: the lowest compute capability; ``without``: those above it that the binaries leave out.
    """

    torch: tuple[int, ...]
    cuda: tuple[tuple[int, ...], ...]
    least: Capability
    without: tuple[Capability, ...]
    source: str

    def leaves_out(self, gpu: Capability) -> bool:
        """Tell whether the published binaries have no code for this GPU, whatever their CUDA."""
        return gpu < self.least or gpu in self.without


@functools.cache
def early_minors() -> tuple[EarlyMinor, ...]:
    """Give the minors before the table of releases, the oldest first."""
    return tuple(
        EarlyMinor(
            tuple(map(int, row["torch"].split("."))), tuple(map(numbers, cells(row["cuda_variants"]))),
            numbers(row["min_cc"]), tuple(map(numbers, cells(row["without_cc"]))), row["source"],
        )
        for row in rows("torch_early.csv")
    )  # fmt: skip


def early_minor(version: tuple[int, ...]) -> EarlyMinor | None:
    """Give the row that speaks of a release; None where there is none."""
    return next((each for each in early_minors() if each.torch == version[: len(each.torch)]), None)


@functools.cache
def every_cuda(version: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Give every CUDA that the minor of a release was published for; empty where that is not known."""
    if early := early_minor(version):
        return early.cuda
    of_minor = [each for each in releases() if each.version.release[:2] == version[:2]]
    found = [cuda_of(variant) for each in of_minor for variant in (*each.variants, *each.extra_variants)]
    return tuple(sorted({each for each in found if each}))


@functools.cache
def wheel_code() -> tuple[TorchWheelCode, ...]:
    """Give the device code of every published wheel that was read."""
    return tuple(
        TorchWheelCode(
            numbers(row["torch"]), row["cuda_variant"], tuple(row["platform"].split("+")),
            Code(_capabilities(row["sm_list"]), _capabilities(row["ptx"])), row["source"], row["sm_list"],
        )
        for row in rows("torch_arch.csv")
    )  # fmt: skip


def _capabilities(cell: str) -> tuple[Capability, ...]:
    return tuple(found for each in cells(cell) if (found := capability(each)))


def code_of(version: Version, variant: str, platform: str) -> TorchWheelCode | None:
    """Give the device code of one wheel; None where it is not known."""
    return next(
        (
            each
            for each in wheel_code()
            if each.torch == version.release[:2] and each.variant == variant and platform in each.platforms
        ),
        None,
    )


@functools.cache
def _pairings(package: str) -> tuple[Pairing, ...]:
    told = [
        Pairing(package, row.releases, _torch_of(row), row.kind, row.source)
        for row in statements()
        if row.package == package and row.kind in PAIRING_KINDS
    ]
    # Where the companion's own metadata was not gathered, the release it was published with says the same.
    return (*told, *_published_with(package))


def _torch_of(row: Statement) -> SpecifierSet | None:
    return None if row.kind == "none" or not row.torch else SpecifierSet(row.torch)


def _published_with(package: str) -> tuple[Pairing, ...]:
    if package not in {"torchvision", "torchaudio"}:
        return ()
    return tuple(
        Pairing(package, text, SpecifierSet(f"=={each.version}"), "exact_pin", each.source)
        for each in releases()
        if (text := each.torchvision if package == "torchvision" else each.torchaudio)
    )


def pairing(package: str, version: Version) -> Pairing | None:
    """Say which torch a final release of a companion wants; None for source builds and what no row names."""
    if version.is_prerelease:
        return None
    public = Version(version.public)
    return next((each for each in _pairings(package) if _names(each.version, public)), None)


def _names(cell: str, version: Version) -> bool:
    if cell.endswith(".*"):
        return version in SpecifierSet(f"=={cell}")
    try:
        return Version(cell) == version
    except InvalidVersion:
        return False


def companions_for(version: Version) -> dict[str, str]:
    """Give the torchvision and torchaudio that were published with a torch release, where the table names them."""
    found = release(version)
    pairs = {"torchvision": found.torchvision, "torchaudio": found.torchaudio} if found else {}
    return {name: text for name, text in pairs.items() if text}


def made_for(package: str, torch: Version) -> str | None:
    """Give the newest version of a companion that pins exactly this torch; None when the table names none."""
    exact = [each for each in _pairings(package) if each.kind == "exact_pin" and each.torch and torch in each.torch]
    return max((each.version for each in exact), key=Version, default=None)


def made_for_many(package: str, torch: Version) -> str | None:
    """Give the newest version of a companion that works with a range of releases, this torch among them."""
    found = [each for each in _pairings(package) if each.kind == "range" and each.torch and torch in each.torch]
    return max((each.version for each in found), key=Version, default=None)


def python_support(python: str) -> Pairing | None:
    """Say from which torch on a Python minor is supported without reserve; None where no row says it."""
    minor = ".".join(python.split(".")[:2])
    for row in stated("python", "python_support"):
        if row.releases == minor and row.torch.startswith(">="):
            return Pairing("python", minor, SpecifierSet(row.torch), row.kind, row.source)
    return None
