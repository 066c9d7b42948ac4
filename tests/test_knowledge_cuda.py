"""The driver tables: versions compare by component, floors and levels come out as the vendor publishes them."""

from __future__ import annotations

import pytest

from envdoctor.knowledge.cuda import (
    at_least,
    branch_to_install,
    compat_status,
    cuda_minor,
    floor_of,
    level_of,
    level_suffices,
    numbers,
    releases,
    starts,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("535.183.01", (535, 183, 1)), ("390", (390,)), ("v12.2", (12, 2)), ("N/A", None), (None, None), ("", None)],
)
def test_versions_are_read_as_integers(text: str | None, expected: tuple[int, ...] | None) -> None:
    """A version is its leading dotted number, and what has none is None."""
    assert expected == numbers(text)


def test_components_compare_as_numbers() -> None:
    """440.100 is newer than 440.33, which a comparison of text gets wrong."""
    assert starts((440, 100), (10, 2)) is True
    assert starts((440, 32), (10, 2)) is False


def test_a_branch_alone_does_not_decide_its_own_floor() -> None:
    """The bare branch 525 may lie on either side of 525.60.13."""
    assert at_least((525,), (525, 60, 13)) is None
    assert at_least((535,), (525, 60, 13)) is True


@pytest.mark.parametrize(
    ("driver", "build", "expected"),
    [
        ("535.183.01", "12.8", True),
        ("525.60.13", "12.8", True),
        ("525.60.12", "12.8", False),
        ("525", "12.8", None),
        ("470.182.03", "12.1", False),
        ("470.182.03", "11.8", True),
        ("450.80.02", "11.8", True),
        ("450.51.06", "11.8", False),
        ("450.51.06", "11.0", True),
        ("575.57.08", "13.0", False),
        ("580.65.06", "13.2", True),
        ("410.48", "10.1.243", False),
        ("418.39", "10.1", True),
        ("440.33.01", "10.2", True),
        ("435.21", "10.2", False),
        ("384.111", "9.1", False),
        ("342.01", "10.0", False),
        ("615.65.02", "14.0", False),
        ("700.10", "14.0", None),
    ],
)
def test_which_driver_starts_which_build(driver: str, build: str, expected: bool | None) -> None:
    """Minor-version compatibility from CUDA 11 on, exact floors before, and no guess beyond the tables."""
    assert expected is starts(numbers(driver) or (), cuda_minor(build) or ())


@pytest.mark.parametrize(
    ("driver", "build", "expected"), [("576.52", "13.0", False), ("581.15", "13.0", True), ("527.41", "12.6", True)]
)
def test_windows_drivers_have_their_own_numbers(driver: str, build: str, expected: bool) -> None:
    """Windows versions run on inside a branch and have their own floors."""
    assert expected is starts(numbers(driver) or (), cuda_minor(build) or (), "windows")


@pytest.mark.parametrize(
    ("driver", "level"), [("535.183.01", (12, 2)), ("470.256.02", (11, 4)), ("435.21", (10, 1)), ("390.157", (9, 1))]
)
def test_level_of_a_driver(driver: str, level: tuple[int, ...]) -> None:
    """A driver's CUDA level comes from its branch, or from the toolkits whose driver it reaches."""
    assert level == level_of(numbers(driver) or ())


def test_level_rules() -> None:
    """From CUDA 11 on the major decides; before, the minor does."""
    assert level_suffices((12, 2), (12, 8))
    assert not level_suffices((11, 4), (12, 1))
    assert not level_suffices((10, 1), (10, 2))


def test_no_driver_is_no_level() -> None:
    """The runtime says 0 when there is no driver; that is no CUDA level."""
    assert cuda_minor("0") is None
    assert cuda_minor("0.0") is None


def test_branch_to_advise_is_long_term_and_supported() -> None:
    """R580 is the long-term branch that runs CUDA 12 and 13; nothing is advised for a CUDA no branch is known for."""
    assert (580, 580, None) == tuple(branch_to_install(build) for build in ((12, 8), (13, 0), (99, 0)))


def test_forward_compatibility_table() -> None:
    """cuda-compat 13.0 runs on 535 and is refused on 590."""
    assert ("compatible", "not_compatible", None) == tuple(
        compat_status((13, 0), (branch, 1)) for branch in (535, 590, 470)
    )


def test_every_release_has_a_source_and_families_have_a_floor() -> None:
    """Each row names its source, and every CUDA version in the table has a Linux floor."""
    assert all(each.source and each.cuda for each in releases())
    assert all(floor_of(each.cuda) for each in releases())
