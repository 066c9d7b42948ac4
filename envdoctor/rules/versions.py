"""Versions as rules need them: parsed, never compared as text, and "unknown" with the words when they are none."""

from __future__ import annotations

import re

from packaging.specifiers import InvalidSpecifier, Specifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild
from envdoctor.rule import NotApplicable, Unknown

PUBLISHED_TAG = re.compile(r"(cu\d{2,3}|cpu|rocm[\d.]+|xpu)(\.\w+)*$")


def parsed(text: str, whose: str) -> Version:
    """Read a version, or end the rule as unknown with the words that are none."""
    try:
        return Version(text)
    except InvalidVersion:
        raise Unknown(f"{whose} calls itself {text!r}, which is no version") from None


def torch_version(build: TorchBuild | None, packages: Packages | None) -> Version:
    """Give torch's version: what its files say, else its metadata; ends the rule where there is no torch."""
    text = (build.version if build else None) or (packages.version("torch") if packages else None)
    if text is None:
        raise NotApplicable("torch is not installed")
    return parsed(text, "torch")


def is_source_build(version: Version) -> bool:
    """Tell whether somebody compiled this themselves: ``2.1.0a0+32f93b1``, ``0.15.2a0+fa99a53``, ``2.6.0+gitabc``."""
    if version.local is None:
        return version.pre is not None
    return PUBLISHED_TAG.match(version.local) is None


def requirement(distribution: Distribution, name: str) -> SpecifierSet | None:
    """Give what a distribution's own metadata says of ``name``, extras left out; None when it says nothing."""
    from packaging.requirements import InvalidRequirement, Requirement

    for text in distribution.requires:
        try:
            found = Requirement(text)
        except InvalidRequirement:
            continue
        if found.name.lower().replace("_", "-") == name and "extra" not in str(found.marker or ""):
            return found.specifier if len(found.specifier) else None
    return None


def satisfies(version: Version, wanted: SpecifierSet) -> bool:
    """Tell whether a version is of the release that is wanted; local tags and pre-release marks do not count.

    ``2.4.1+cu121`` satisfies ``==2.4.1``, and ``2.1.0a0+32f93b1`` satisfies ``==2.1.0``.
    """
    return all(_one(version, each) for each in wanted)


def _one(version: Version, wanted: Specifier) -> bool:
    base = Version(version.base_version)
    try:
        asked = Version(wanted.version)
    except InvalidVersion:  # a wildcard, ``==2.4.*``
        return wanted.contains(base)
    if wanted.operator in {"==", "==="}:
        return Version(asked.base_version) == base
    return Specifier(f"{wanted.operator}{asked.public}").contains(base, prereleases=True)


def specifiers(text: str, whose: str) -> SpecifierSet:
    """Read a specifier such as ``~=3.8.0``, or end the rule as unknown with the words that are none."""
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        raise Unknown(f"{whose} asks for {text!r}, which is no specifier") from None


MAJORS = {"10", "11", "12", "13", "14"}  # "+cu12torch2.6" names a major; there was a CUDA 9.2, but none of 1.2


def told_cuda(built_for: str) -> str | None:
    """Read which CUDA a companion was built for: ``"12.1"``, ``"12"``, ``"cpu"``; None when nothing says it."""
    found = re.search(r"CUDA (\d+(?:\.\d+)?)", built_for)
    if found:
        return found[1]
    tag = re.search(r"\+(?:pt\d+)?cu(\d{2,3})(?!\d)", built_for)
    if tag:
        return tag[1] if tag[1] in MAJORS else f"{tag[1][:-1]}.{tag[1][-1]}"
    return "cpu" if re.search(r"\+(?:pt\d+)?cpu\b", built_for) else None


def is_rocm(distribution: Distribution) -> bool:
    """Tell whether a distribution names ROCm in its local tag."""
    return bool(re.search(r"\+rocm\d", f"{distribution.version} {distribution.built_for}"))


def cuda_of_distribution(distribution: Distribution) -> str | None:
    """Give the CUDA that a distribution was built for, by its record, its local tag or conda's build string."""
    said = told_cuda(distribution.built_for) or told_cuda(distribution.version)
    if said is not None or distribution.source != "conda":
        return said
    digits = re.search(r"(?:^|_)cu(?:da)?_?(\d{2,3})(?=_|py|$)", distribution.build)
    if digits:
        return f"{digits[1][:-1]}.{digits[1][-1]}"
    return "cpu" if re.search(r"(?:^|_)cpu(?:_|$)", distribution.build) else None
