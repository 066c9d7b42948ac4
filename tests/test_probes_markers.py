"""Requirements and environment markers, read without the packaging library and held against it."""

from __future__ import annotations

import pytest
from envdoctor_probes.markers import MarkerError, Requirement, environment, holds, parse_requirement
from packaging.markers import Marker, default_environment

MARKERS = (
    'platform_system == "Linux" and platform_machine == "x86_64"',
    'platform_system == "Windows" or platform_machine == "x86_64" and python_version < "3.9"',
    '(platform_system == "Windows" or platform_machine == "x86_64") and python_version < "3.99"',
    "(sys_platform == 'linux' or sys_platform == 'win32') and extra == 'cublas'",
    'python_version >= "3.9"',
    'python_version < "3.10"',
    'python_version != "3.11"',
    'python_version ~= "3.8"',
    'python_version == "3.*"',
    'python_version in "3.8, 3.9, 3.11"',
    'python_version not in "2.7, 3.11"',
    'python_full_version > "3.0.0"',
    "os_name == 'posix' and implementation_name == 'cpython'",
    "platform_python_implementation != 'PyPy'",
    "'linux' in sys_platform",
    'extra == "opt_einsum"',
)


@pytest.mark.parametrize("marker", MARKERS)
@pytest.mark.parametrize("extra", ["", "cublas", "opt-einsum"])
def test_a_marker_means_what_packaging_says(marker: str, extra: str) -> None:
    """Every form of marker that wheels use is answered as the packaging library answers it."""
    values = dict(environment(), extra=extra)
    expected = Marker(marker).evaluate({"extra": extra})
    assert expected == holds(marker, values)


def test_the_environment_is_that_of_packaging() -> None:
    """The marker variables of this interpreter are the ones that packaging computes."""
    values = environment()
    assert {name: values[name] for name in default_environment()} == dict(default_environment())


@pytest.mark.parametrize(
    "marker", ["os_name", "os_name ==", "colour == 'red'", "os_name = 'a'", "(os_name == 'a'", "os_name < 'b'"]
)
def test_a_marker_that_is_not_understood_is_said_not_guessed(marker: str) -> None:
    """Half a marker, an unknown variable or operator raises instead of counting as true or false."""
    with pytest.raises(MarkerError):
        holds(marker, environment())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("filelock", Requirement("filelock")),
        ("nvidia-cublas-cu11 (==11.10.3.66) ; platform_system == 'Linux'",
         Requirement("nvidia-cublas-cu11", (), "==11.10.3.66", "platform_system == 'Linux'")),
        ("cuda-toolkit[cublas,cudart]==13.0.2; os_name == 'posix'",
         Requirement("cuda-toolkit", ("cublas", "cudart"), "==13.0.2", "os_name == 'posix'")),
        ("Typing_Extensions >= 4.8, < 5", Requirement("typing-extensions", (), ">=4.8,<5")),
        ("torch @ https://example.org/t-2.4.1.whl ; os_name == 'nt'", Requirement("torch", (), "", "os_name == 'nt'")),
        ("=nonsense=", None),
    ],
)  # fmt: skip
def test_a_requirement_is_taken_apart(text: str, expected: Requirement | None) -> None:
    """Name, extras, specifier and marker come out of both the old and the new way of writing."""
    assert expected == parse_requirement(text)
