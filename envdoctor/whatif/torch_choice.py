"""Which torch an installer would choose, and which build: by the pins, the Python, the index and the companions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from envdoctor.facts.text import Unresolved
from envdoctor.knowledge.torch import cuda_of, pairing, release, releases
from envdoctor.whatif.sources import VARIANT, Index, default_cuda, index_of

if TYPE_CHECKING:
    from envdoctor.facts.text import Requirement, Wanted
    from envdoctor.knowledge.torch import TorchRelease
    from envdoctor.whatif.place import Place

# They do not work without torch and name it in their metadata, so that pip brings it along.
BRING_TORCH = frozenset({
    "torchvision", "torchaudio", "xformers", "vllm", "lightning", "pytorch-lightning", "accelerate", "flash-attn",
    "deepspeed", "timm", "torchmetrics", "sentence-transformers", "peft", "trl", "bitsandbytes", "torchao", "kornia",
    "ultralytics", "diffusers", "open-clip-torch", "triton", "sglang", "fairscale", "torchtext",
}) - {"triton", "diffusers"}  # fmt: skip
_OF_WHEEL = re.compile(r"/torch-(\d[\w.]{0,40}(?:(?:%2B|\+)[\w.]{1,40})?)-cp")


class Chosen(msgspec.Struct, frozen=True):
    """A torch that would be there. ``version`` carries its tag where one is known; ``told``: where each was read."""

    version: str
    cuda: str | None = None
    hip: str | None = None
    is_cpu_only: bool | None = None
    source: str = ""
    told: str = ""
    remarks: tuple[str, ...] = ()


class Choice(msgspec.Struct, frozen=True):
    """What became of the question: a torch, or what lacks; both None where torch is not asked for."""

    chosen: Chosen | None = None
    lacking: Unresolved | None = None


class _Asked(msgspec.Struct, frozen=True):
    """What is asked for, put together from all rows."""

    specifier: SpecifierSet
    words: str
    source: str
    row: Requirement
    remarks: tuple[str, ...] = ()


def choose(rows: tuple[Requirement, ...], wanted: Wanted, place: Place) -> Choice:
    """Choose as pip does: the newest that every pin, this Python and the index allow."""
    asked = _asked(rows, wanted)
    if asked is None:
        return Choice()
    index = index_of(asked.row, wanted)
    if asked.row.url:
        return _of_address(asked, place)
    exact = _exact(asked.specifier)
    if exact is not None:
        return _of_exact(exact, asked, index, place)
    allowed = [each for each in releases() if asked.specifier.contains(each.version)]
    if not allowed:
        return Choice()
    fit = [each for each in allowed if place.minor is None or each.supports(place.minor)]
    if not fit:
        return Choice(lacking=_no_python(asked, place, allowed))
    return _of_newest(fit, asked, index, place)


def replaces(rows: tuple[Requirement, ...], there: str) -> bool:
    """Tell whether pip would put another torch in the place of one that is there: only if it does not satisfy."""
    mine = [each for each in rows if each.name == "torch" and each.kind == "pip"]
    return any(each.url or not _specifier(each.specifier).contains(there, prereleases=True) for each in mine)


def _asked(rows: tuple[Requirement, ...], wanted: Wanted) -> _Asked | None:
    """Put the rows about torch together; where none is, one that would bring it along stands for it."""
    mine = [each for each in rows if each.name == "torch" and each.kind == "pip"]
    brought = [each for each in rows if each.name in BRING_TORCH and each.kind == "pip"]
    if not mine and (not brought or "lock" in wanted.kinds):
        return None
    row = (mine or brought)[0]
    words = ",".join(filter(None, (each.specifier for each in mine)))
    specifier = _specifier(words)
    remarks = [] if mine else [f"{row.name} brings torch along ({row.source})"]
    for each in rows:
        pinned = _pinned_by(each) if _exact(specifier) is None else None
        if pinned is not None:
            specifier &= pinned
            remarks.append(f"{each.name}{each.specifier} asks for torch{pinned}")
    return _Asked(specifier, words or "any version", row.source, row, tuple(remarks))


def _specifier(text: str) -> SpecifierSet:
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        return SpecifierSet()


def _pinned_by(row: Requirement) -> SpecifierSet | None:
    """Give what an exactly pinned companion asks of torch."""
    exact = _exact(_specifier(row.specifier)) if row.name != "torch" and row.kind == "pip" else None
    told = pairing(row.name, exact) if exact else None
    return told.torch if told else None


def _exact(specifier: SpecifierSet) -> Version | None:
    for each in specifier:
        if each.operator in {"==", "==="} and not each.version.endswith("*"):
            try:
                return Version(each.version)
            except InvalidVersion:
                return None
    return None


def _no_python(asked: _Asked, place: Place, allowed: list[TorchRelease]) -> Unresolved:
    newest = allowed[0]
    low, high = (".".join(map(str, each)) for each in (newest.python_min, newest.python_max))
    return Unresolved(
        "torch", asked.words, "python", f"no wheel of torch{asked.words} is for Python {place.python}",
        f"torch {newest.version} has wheels for Python {low} to {high}", asked.source, newest.source,
    )  # fmt: skip


def _of_address(asked: _Asked, place: Place) -> Choice:
    match = _OF_WHEEL.search(asked.row.url)
    if match is None:
        return Choice()
    version = Version(match.group(1).replace("%2B", "+"))
    return Choice(_built(version, version.local or "", asked, place, "the address of the wheel"))


def _of_exact(version: Version, asked: _Asked, index: Index, place: Place) -> Choice:
    known = release(version)
    if known and place.minor and not known.supports(place.minor):
        return Choice(lacking=_no_python(asked, place, [known]))
    variant = version.local or ("" if index.instead or not index.variant else _better(known, index, place)) or ""
    if version.local is None and index.instead:
        variant = index.variant
    if known and (lack := _not_there(known, variant, asked, place)):
        return Choice(lacking=lack)
    where = f"{index.words}" if not version.local else "its own tag"
    if index.instead and not index.known and not variant:
        return Choice(Chosen(str(version), source=asked.source, told=f"what {index.words} has is not known"))
    return Choice(_built(version, variant, asked, place, where))


def _better(known: TorchRelease | None, index: Index, place: Place) -> str:
    """Give the variant when an index beside PyPI has this release: a tagged version is newer than one without a tag."""
    return index.variant if known is None or _publishes(known, index.variant, place) else ""


def _publishes(known: TorchRelease, variant: str, place: Place) -> bool:
    cuda = variant.startswith("cu")
    return not cuda or place.machine != "x86_64" or variant in (*known.variants, *known.extra_variants)


def _not_there(known: TorchRelease, variant: str, asked: _Asked, place: Place) -> Unresolved | None:
    if not VARIANT.fullmatch(variant) or _publishes(known, variant, place) or place.system != "Linux":
        return None
    there = ", ".join((*known.variants, *known.extra_variants))
    return Unresolved(
        "torch", asked.words, "variant", f"torch {known.version} was not published for {variant}",
        f"it was published for {there}", asked.source, known.source,
    )  # fmt: skip


def _of_newest(fit: list[TorchRelease], asked: _Asked, index: Index, place: Place) -> Choice:
    """Take the newest release; of PyPI and an index beside it the one that has the newer."""
    there = [each for each in fit if index.variant and _publishes(each, index.variant, place)]
    if index.instead and index.variant and not there:
        return Choice(lacking=_not_there(fit[0], index.variant, asked, place))
    if index.instead and not index.known:
        return Choice(Chosen(f"{fit[0].version}", source=asked.source, told=f"what {index.words} has is not known"))
    newest = there[0] if index.instead and there else fit[0]
    tagged = bool(there) and (index.instead or there[0].version >= newest.version)
    variant = index.variant if tagged else ""
    open_end = fit[0] is releases()[0] and not tagged
    remark = f"torch is not pinned: {newest.version} is the newest in the tables that the file allows"
    later = ", and a later one may be out" if open_end else ""
    words = index.words if tagged or not index.variant else f"PyPI, which has a newer one than {index.words}"
    return Choice(_built(newest.version, variant, asked, place, words, remarks=(f"{remark}{later}",)))


def _built(
    version: Version, variant: str, asked: _Asked, place: Place, where: str, *, remarks: tuple[str, ...] = ()
) -> Chosen:
    """Say with what a torch was built: by its variant, else as PyPI's own."""
    remarks = (*asked.remarks, *remarks)
    text = version.public if not variant else f"{version.public}+{variant}"
    if variant.startswith("cu") and cuda_of(variant):
        cuda = ".".join(map(str, cuda_of(variant)))
        return Chosen(text, cuda, None, False, asked.source, f"from {where}", remarks)
    if variant.startswith("rocm"):
        return Chosen(text, None, variant.removeprefix("rocm"), False, asked.source, f"from {where}", remarks)
    if variant in {"cpu", "xpu"}:
        return Chosen(text, None, None, variant == "cpu", asked.source, f"from {where}", remarks)
    if variant:
        return Chosen(str(version), None, None, None, asked.source, "its tag names no published build", remarks)
    cuda_, cpu, told = default_cuda(release(version), version, place)
    return Chosen(text, cuda_, None, cpu, asked.source, f"from {where}, {told}", remarks)
