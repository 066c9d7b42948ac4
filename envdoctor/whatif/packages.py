"""The packages that would be there: pinned ones as they are pinned, torch's companions as they belong to it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.text import Unresolved
from envdoctor.knowledge.prebuilt import prebuilt
from envdoctor.knowledge.torch import companions_for, numbers

if TYPE_CHECKING:
    from envdoctor.facts.text import Requirement, Wanted
    from envdoctor.whatif.place import Place
    from envdoctor.whatif.torch_choice import Choice, Chosen

NUMPY_2 = "2.2.6"  # one that a range without an upper end allows
FIRST_PYTHON_OF_NUMPY_2 = (3, 9)


def packages_of(
    rows: tuple[Requirement, ...], chosen: Chosen | None, wanted: Wanted, place: Place, over: Packages | None
) -> Packages:
    """Give what would be installed; over what is there already where that stays."""
    found = {each.name: each for row in rows if (each := _distribution(row, chosen, place))}
    if chosen:
        conda = next((row.name for row in rows if row.kind == "conda" and row.name.startswith("pytorch")), "")
        name, source = ("pytorch", "conda") if conda and "torch" not in found else ("torch", "pip")
        tag = f"+{chosen.version.partition('+')[2]}" if "+" in chosen.version else ""
        found[name] = Distribution(name, chosen.version, source=source, built_for=tag)
    old = tuple(each for each in (over.distributions if over else ()) if each.name not in found)
    file = wanted.files[0] if wanted.files else "the given file"
    why = {} if place.python else {"python_version": place.why}
    kind = "conda" if "conda" in wanted.kinds else "venv"
    made = over or Packages(executable="python", environment_kind=None if place.container else kind, has_pip=True)
    return replace(
        made, distributions=(*found.values(), *old), python_version=place.python, shared_files=(),
        sources={**made.sources, "distributions": file}, unknown={**made.unknown, **why},
        planned_in=file, planned_kind=_kind(wanted),
    )  # fmt: skip


def _kind(wanted: Wanted) -> str:
    """Say how the file is changed: by whose tool, or by hand."""
    tool = next((each for each in ("uv", "poetry") if each in wanted.tools), "")
    return tool if tool and {"lock", "pyproject"} & {*wanted.kinds} else (wanted.kinds or ("requirements",))[0]


def _distribution(row: Requirement, chosen: Chosen | None, place: Place) -> Distribution | None:
    """Make the distribution that a requirement comes to, where that is known."""
    version = _pinned(row.specifier) or _implied(row, chosen, place)
    if version is None or row.name == "torch":
        return None
    tag = "+" + version.partition("+")[2] if "+" in version else ""
    channel = row.marker.removeprefix("channel ").partition(" ")[0] if row.marker.startswith("channel ") else ""
    build = row.marker.partition("build ")[2] if row.kind == "conda" else ""
    return Distribution(row.name, version, source=row.kind, built_for=tag, build=build, channel=channel)


def _pinned(specifier: str) -> str | None:
    text = specifier.removeprefix("===").removeprefix("==")
    if text == specifier or "," in text or text.endswith("*"):
        return None
    try:
        return str(Version(text))
    except InvalidVersion:
        return None


def _implied(row: Requirement, chosen: Chosen | None, place: Place) -> str | None:
    """Give the version that a range comes to where torch, or time, leaves no other choice."""
    if row.name in {"torchvision", "torchaudio"} and chosen and row.kind == "pip":
        pair = companions_for(Version(chosen.version)).get(row.name) if _is_version(chosen.version) else None
        return pair if pair and _allows(row.specifier, pair) else None
    newer = row.name == "numpy" and _allows(row.specifier, NUMPY_2) and not _allows(row.specifier, "1.0")
    open_end = row.name == "numpy" and _allows(row.specifier, NUMPY_2)
    old_python = place.minor is not None and place.minor < FIRST_PYTHON_OF_NUMPY_2
    return "2" if (newer or open_end) and not old_python else None


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _allows(specifier: str, version: str) -> bool:
    try:
        return SpecifierSet(specifier).contains(version)
    except InvalidSpecifier:
        return False


def unresolved(rows: tuple[Requirement, ...], choice: Choice, place: Place) -> tuple[Unresolved, ...]:
    """Name what does not exist here: torch itself, wheels that a lock does not have, kernels without a wheel."""
    found = [choice.lacking] if choice.lacking else []
    found += [lack for row in rows if (lack := _no_wheel_in_lock(row, place))]
    found += [lack for row in rows if (lack := _not_prebuilt(row, choice.chosen, place))]
    return tuple(found)


def _no_wheel_in_lock(row: Requirement, place: Place) -> Unresolved | None:
    """Hold the wheels that a lock names against this Python and system."""
    if not row.wheels or row.has_sdist or place.minor is None or any(_fits(tag, place) for tag in row.wheels):
        return None
    here = f"Python {place.python} on {place.system} {place.machine}"
    pythons = sorted({tag.partition("-")[0] for tag in row.wheels})
    return Unresolved(
        row.name, row.specifier, "platform", f"the lock names no wheel of {row.name} {row.specifier} for {here}",
        f"it names wheels for {', '.join(pythons[:8])}", row.source, "the wheels that the lock file names",
    )  # fmt: skip


def _fits(tag: str, place: Place) -> bool:
    pythons, abi, platforms = tag.rsplit("-", 2)
    minor = (place.minor or (3, 12))[1]
    system = {"Windows": "win", "Darwin": "macosx"}.get(place.system, "linux")
    machine = {"Windows": "amd64"}.get(place.system, "arm64" if place.system == "Darwin" else place.machine)
    if platforms != "any" and not (system in platforms and machine in platforms):
        return False
    if abi == "abi3":
        return any(
            each.startswith("cp3") and each[3:].isdigit() and int(each[3:]) <= minor for each in pythons.split(".")
        )
    return any(each in {"py3", "py2.py3", f"cp3{minor}", f"py3{minor}"} for each in pythons.split("."))


def _not_prebuilt(row: Requirement, chosen: Chosen | None, place: Place) -> Unresolved | None:
    """Say where a package that is compiled against torch has no wheel for this one, so that it would be compiled."""
    known = prebuilt(row.name)
    if not known or chosen is None or row.kind != "pip" or row.url or not _is_version(chosen.version):
        return None
    version = _pinned(row.specifier)
    same = next((each for each in known if version and each.version == Version(version)), None)
    asked = same or (known[0] if version is None and _allows(row.specifier, str(known[0].version)) else None)
    cuda = numbers(chosen.cuda)[0] if chosen.cuda else None
    if asked is None or asked.fits(numbers(chosen.version), cuda, place.minor):
        return None
    torch = ", ".join(f"{major}.{minor}" for major, minor in sorted(asked.torch))
    majors = " and ".join(map(str, sorted(asked.cuda)))
    return Unresolved(
        row.name, row.specifier, "prebuilt",
        f"{row.name} {asked.version} has no wheel for torch {chosen.version}"
        f"{f' with CUDA {chosen.cuda}' if chosen.cuda else ''}{f' and Python {place.python}' if place.python else ''}",
        f"it has wheels for torch {torch} with CUDA {majors}", row.source, asked.source,
    )  # fmt: skip
