"""Several texts and a snapshot about one machine, made one: what was said first stays, the others fill its gaps."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.text import ErrorText, Pasted, Wanted
from envdoctor.facts.torch import TorchBuild
from envdoctor.readers.versions import cuda_of_tag, number, rocm_of_tag

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envdoctor.facts import Fact

EMPTY = (None, "", (), 0)
GATHERED = (ErrorText, Pasted, Wanted)  # facts whose lists are put one after the other


def merged(facts: Iterable[Fact]) -> dict[type[Fact], Fact]:
    """Give one fact of each type; the first to say something is believed."""
    found: dict[type[Fact], Fact] = {}
    for fact in facts:
        kind = type(fact)
        found[kind] = _both(found[kind], fact) if kind in found else fact
    return _completed(found)


def _both(first: Any, second: Any) -> Any:
    changes: dict[str, Any] = {}
    for each in fields(first):
        mine, other = getattr(first, each.name), getattr(second, each.name)
        if each.name in {"sources", "unknown"}:
            continue
        if isinstance(first, GATHERED) and isinstance(mine, tuple):
            changes[each.name] = (*mine, *(one for one in other if one not in mine))
        elif isinstance(first, Packages) and each.name == "distributions":
            changes[each.name] = _united(mine, other)
        elif mine in EMPTY and mine is not False and other not in EMPTY:
            changes[each.name] = other
    sources = {**second.sources, **first.sources}
    sources |= {
        name: second.sources[name] for name in changes if name in second.sources and getattr(first, name) in EMPTY
    }
    unknown = {name: why for name, why in {**second.unknown, **first.unknown}.items() if changes.get(name) in EMPTY}
    return replace(first, **changes, sources=sources, unknown=unknown)


def _united(first: tuple[Distribution, ...], second: tuple[Distribution, ...]) -> tuple[Distribution, ...]:
    """Add the distributions that the first list does not name."""
    known = {each.name for each in first}
    return (*first, *(each for each in second if each.name not in known))


def disagreements(facts: Iterable[Fact]) -> tuple[str, ...]:
    """Say where two texts name different versions of torch, or different Pythons: they may be two environments."""
    said: dict[str, list[str]] = {}
    for fact in facts:
        if isinstance(fact, TorchBuild) and fact.version:
            said.setdefault("torch", []).append(fact.version.partition("+")[0])
        if isinstance(fact, Packages):
            if fact.python_version:
                said.setdefault("Python", []).append(_minor(fact.python_version))
            version = fact.version("torch") if all(each.source != "conda" for each in fact.distributions) else None
            said.setdefault("torch", []).extend([version.partition("+")[0]] if version else [])
        if isinstance(fact, ErrorText):
            said.setdefault("Python", []).extend(map(_minor, fact.python_versions))
    return tuple(
        f"the texts speak of {name} {' and '.join(dict.fromkeys(versions))}: they may come from different environments"
        for name, versions in said.items()
        if len(set(versions)) > 1
    )


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _completed(found: dict[type[Fact], Fact]) -> dict[type[Fact], Fact]:
    """Read the build of torch from the packages where no report tells it."""
    packages = found.get(Packages)
    if not isinstance(packages, Packages):
        return found
    build = found.get(TorchBuild)
    told = build_of(packages)
    if told is not None:
        found[TorchBuild] = told if build is None else _filled(build, told)
    return found


def _filled(build: Any, told: TorchBuild) -> Any:
    """Take what the packages say of the same version: conda's build string, and the CUDA where the report has none."""
    if number(build.version) != number(told.version):
        return build
    build = replace(build, conda_build=build.conda_build or told.conda_build)
    if build.cuda or build.hip or build.is_cpu_only is not None:
        return build
    return replace(
        build, cuda=told.cuda, hip=told.hip, is_cpu_only=told.is_cpu_only, sources={**told.sources, **build.sources}
    )


def build_of(packages: Packages) -> TorchBuild | None:
    """Give what a list of packages says of torch: version, and by tag, build string or runtime wheel its CUDA."""
    of_conda = next((d for d in packages.distributions if d.name == "pytorch" and d.source == "conda"), None)
    torch = packages.find("torch") or of_conda
    if torch is None:
        return None
    cuda, where = _cuda(torch, packages)
    hip = rocm_of_tag(torch.version)
    cpu = True if "+cpu" in torch.version or _is_conda_cpu(torch) else (False if cuda or hip else None)
    source = packages.sources.get("distributions", "the package list")
    unknown = {} if cuda or hip or cpu else {"cuda": f"{source} does not say which CUDA torch was built with"}
    return TorchBuild(
        version=torch.version, metadata_version=torch.version, cuda=cuda, hip=hip, is_cpu_only=cpu,
        conda_build=_build_string(torch, of_conda),
        sources={"version": source, "cuda": f"{source}: {where}"}, unknown=unknown,
    )  # fmt: skip


def _build_string(torch: Distribution, of_conda: Distribution | None) -> str | None:
    """Give conda's build string; a torch that conda brought has Python's metadata too, under its own name."""
    same = of_conda is not None and number(of_conda.version) == number(torch.version)
    return torch.build or (of_conda.build if of_conda and same else "") or None


def _is_conda_cpu(torch: Distribution) -> bool:
    return bool(torch.build) and any(part == "cpu" or part.startswith("cpu") for part in torch.build.split("_"))


def _cuda(torch: Distribution, packages: Packages) -> tuple[str | None, str]:
    """Ask the version's tag first, then conda's build string, then the runtime that pip installed for torch."""
    if tag := cuda_of_tag(torch.version):
        return tag, f"torch {torch.version}"
    for part in torch.build.split("_"):
        if part.startswith("cuda") and part[4:]:
            digits = part[4:]
            return (
                digits if "." in digits else f"{digits[:-1]}.{digits[-1]}"
            ), f"pytorch {torch.version} {torch.build}"
    runtimes = [d for d in packages.distributions if d.name.startswith("nvidia-cuda-runtime") and d.source != "conda"]
    if torch.source != "conda" and "+" not in torch.version and len(runtimes) == 1:
        return number(".".join(runtimes[0].version.split(".")[:2])), f"{runtimes[0].name} {runtimes[0].version}"
    return None, "torch"
