"""The tables of torch releases, wheels and companions: every row loads, and what the loaders answer."""

from __future__ import annotations

import pytest
from packaging.version import Version

from envdoctor.knowledge import rows
from envdoctor.knowledge.torch import (
    code_of,
    companions_for,
    cuda_of,
    pairing,
    release,
    releases,
    variant_of,
    wheel_code,
)


def test_every_release_loads_with_its_source() -> None:
    """Each row is a release with Pythons, a default build that is among its variants, and a source."""
    assert len(rows("torch_releases.csv")) == len(releases())
    wrong = [
        str(each.version)
        for each in releases()
        if not (each.source and each.python_min <= each.python_max and variant_of(each.default_cuda) in each.variants)
    ]
    assert [] == wrong


def test_releases_are_in_order() -> None:
    """The newest comes first, by version and not by text: 2.10 is newer than 2.9."""
    versions = [each.version for each in releases()]
    assert (sorted(versions, reverse=True), True) == (versions, Version("2.10.0") > Version("2.9.1"))


def test_every_wheels_code_loads_with_its_source() -> None:
    """Each row names cubins and a source, and a variant that its releases have."""
    assert len(rows("torch_arch.csv")) == len(wheel_code())
    offered = {
        (each.version.release[:2], variant) for each in releases() for variant in (*each.variants, *each.extra_variants)
    }
    assert [] == [each for each in wheel_code() if not (each.code.cubins and each.source)]
    assert [] == [each for each in wheel_code() if (each.torch, each.variant) not in offered]


def test_every_companion_row_has_a_source() -> None:
    """No row without a source ships."""
    assert [] == [row for row in rows("ecosystem.csv") if not row["source"] or "unsourced" in row["source"]]


@pytest.mark.parametrize(("variant", "cuda"), [("cu126", (12, 6)), ("cu92", (9, 2)), ("cu130", (13, 0)), ("cpu", ())])
def test_variant_names_its_cuda(variant: str, cuda: tuple[int, ...]) -> None:
    """A variant is the CUDA version without its dot."""
    assert cuda == cuda_of(variant)
    assert variant == variant_of(".".join(str(part) for part in cuda))


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.9.0", "2.9.0"),
        ("2.9.0+cu130", "2.9.0"),
        ("2.9.0.dev20250901", None),
        ("2.1.0a0+32f93b1", None),
        ("1.4", None),
    ],
)
def test_only_final_releases_have_a_row(version: str, expected: str | None) -> None:
    """A local tag does not matter; nightlies and source builds are not the release they are named after."""
    found = release(Version(version))
    assert expected == (str(found.version) if found else None)


@pytest.mark.parametrize(
    ("package", "version", "expected"),
    [
        ("torchvision", "0.20.1+cu124", "==2.5.1"),
        ("torchvision", "0.29.1", ">=2.14.0"),
        ("torchvision", "0.14.0", "==1.13.0"),
        ("torchvision", "0.10.1", "==1.9.*"),
        ("torchaudio", "2.0.1", "==2.0.0"),
        ("torchaudio", "2.3.0", "==2.3.0"),
        ("torchaudio", "0.9.1", "==1.9.*"),
        ("torchaudio", "2.11.0", None),
        ("xformers", "0.0.28.post3", "==2.5.1"),
    ],
)
def test_companion_is_paired(package: str, version: str, expected: str | None) -> None:
    """The metadata's own word first, then the release it was published with, then the project's table of minors."""
    found = pairing(package, Version(version))
    assert expected == (found and found.torch and str(found.torch))
    assert found
    assert found.source


@pytest.mark.parametrize("version", ["0.15.2a0+fa99a53", "0.20.0.dev20241008", "99.0"])
def test_companion_that_no_row_names(version: str) -> None:
    """Source builds, nightlies and what is newer than the tables have no pairing."""
    assert pairing("torchvision", Version(version)) is None


def test_code_follows_the_platform() -> None:
    """The same variant has other code on another platform, and none where no wheel was read."""
    x86, arm = (code_of(Version("2.13.0"), "cu130", f"linux-{each}") for each in ("x86_64", "aarch64"))
    assert x86
    assert arm
    assert ([True, False], [False, True]) == (
        [x86.runs_on("7.5"), x86.runs_on("11.0")],
        [arm.runs_on("7.5"), arm.runs_on("11.0")],
    )
    assert code_of(Version("2.5.0"), "cu124", "linux-aarch64") is None


def test_lower_minor_serves_but_a_higher_major_does_not() -> None:
    """Machine code runs on a GPU of its major with the same or a higher minor."""
    code = code_of(Version("2.9.0"), "cu126", "linux-x86_64")
    assert code
    assert [True, True, False, False] == [code.runs_on(each) for each in ("8.9", "6.1", "12.0", "nonsense")]


def test_companions_of_a_release() -> None:
    """What was published together; nothing is made up where the table is silent."""
    assert {"torchvision": "0.24.0", "torchaudio": "2.9.0"} == companions_for(Version("2.9.0+cu130"))
    assert ({"torchvision": "0.28.0"}, {}) == (companions_for(Version("2.13.0")), companions_for(Version("1.4.0")))
