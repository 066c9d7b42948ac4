"""Is torch installed once?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from envdoctor.facts.host import Environment
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild, TorchImport, TorchPath
from envdoctor.finding import Command, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.remedy import repair
from envdoctor.remedy.installer import quoted
from envdoctor.rule import rule
from envdoctor.rules.versions import parsed


@rule(severity=Severity.ERROR, group="packages", explained_by=("conda-pip-mix", "conda-channel-mix"))
def duplicate_torch_installs(
    packages: Packages,
    path: TorchPath | None,
    build: TorchBuild | None,
    torch: TorchImport | None,
    environment: Environment | None,
) -> Iterator[Finding]:
    """Two torch installations are on the path.

    ## What it means
    The search path leads to more than one torch, or one directory holds files or metadata of two: a leftover of an
    older version, a copy under ~/.local or on PYTHONPATH (an HPC module's, say) before the environment's own, pip's
    torch over conda's.

    ## Why it matters
    One of them is imported, companions were built for the other, and pip reports whichever it reads first. Files of
    two versions in one directory end in undefined symbols.

    ## How it is detected
    Every torch package and every torch metadata on the search path, conda's records, and the version in
    torch/version.py against the one in the metadata. The same version in two places is info. Where torch was seen to
    import, the finding is a warning.

    ## What to do
    Remove torch until none is left, then install it once. Where PYTHONPATH brings the first one, nothing need be
    removed: leave the variable, or the module that sets it, out.

    ## Sources
    https://packaging.python.org/en/latest/specifications/recording-installed-packages/
    """
    found = tuple(each for each in packages.distributions if each.name == "torch")
    evidence, differ = _duplicates(packages, path, build, found)
    if not evidence:
        return
    soft = Severity.WARNING if torch and torch.imported else Severity.ERROR
    variable = _put_first(environment, path, found)
    yield Finding(
        "Several torch installations are on the path" if differ else "The same torch is on the path twice",
        evidence=(*evidence, *variable),
        fixes=_without_the_variable(packages)
        if variable
        else repair.replace_all(packages, max(2, len(found)), build.version if build else None),
        severity=soft if differ else Severity.INFO,
    )


def _duplicates(
    packages: Packages, path: TorchPath | None, build: TorchBuild | None, found: tuple[Distribution, ...]
) -> tuple[tuple[Evidence, ...], bool]:
    """Give what shows a second torch, and whether the two differ."""
    if len(found) > 1:
        shown = tuple(
            see(packages, "distributions", f"torch {each.version}", each.location or "listed") for each in found
        )
        return shown, len({each.version for each in found}) > 1 or bool(twice_in_one_place(packages))
    places = _places(path)
    if len(places) > 1 and path:
        return tuple(see(path, "found", "torch", each) for each in places), True
    behind = _conda_record(packages, found)
    if behind:
        pair = (behind, found[0])
        return tuple(
            see(packages, "distributions", f"{each.source}'s {each.name}", each.version) for each in pair
        ), True
    said = build and (build.metadata_version or (found[0].version if found else None))
    if build and build.version and said and _release(build.version) != _release(said):
        return (see(build, "version", "torch/version.py"), see(build, "metadata_version", "metadata", said)), True
    return (), False


def _places(path: TorchPath | None) -> tuple[str, ...]:
    """Give the torch packages that an import could take; a local file in front of one is another rule's matter."""
    if path is None:
        return ()
    left_out = {*path.namespaces, *(each.path for each in path.shadows if each.name == "torch")}
    return tuple(each for each in dict.fromkeys(path.found) if each not in left_out)


def _put_first(
    environment: Environment | None, path: TorchPath | None, found: tuple[Distribution, ...]
) -> tuple[Evidence, ...]:
    """Give PYTHONPATH, where it alone puts the first torch before another one."""
    value = environment.get("PYTHONPATH") if environment else None
    named = {PurePath(each) for each in (value or "").split(":") if each}
    places = [PurePath(each).parent for each in _places(path)] or [PurePath(each.location) for each in found]
    brought = [each in named for each in dict.fromkeys(places)]
    if environment is None or not brought or not brought[0] or all(brought):
        return ()
    return (see(environment, "variables", "PYTHONPATH", value),)


def _without_the_variable(packages: Packages) -> tuple[Fix, ...]:
    """Leave PYTHONPATH out for one command, which shows the torch that is then found, and then for this shell."""
    python = packages.executable or "python"
    look = quoted(("env", "-u", "PYTHONPATH", python, "-c", "import torch; print(torch.__file__)"))
    leave = Command(None, "unset PYTHONPATH")
    return (
        Fix("See which torch is found without PYTHONPATH", (look,), Safety.SAFE, "nothing: it only looks"),
        Fix(
            "If that is the one you mean: take PYTHONPATH back, and the module that sets it",
            (leave,),
            Safety.SAFE,
            "this shell only",
        ),
    )


def _conda_record(packages: Packages, found: tuple[Distribution, ...]) -> Distribution | None:
    """Give conda's record of a torch that pip replaced behind its back."""
    if not found or found[0].source != "pip":
        return None
    records = (each for each in packages.distributions if each.source == "conda" and each.name == "pytorch")
    return next((each for each in records if _release(each.version) != _release(found[0].version)), None)


def _release(text: str) -> str:
    return parsed(text, "torch").base_version


def twice_in_one_place(packages: Packages | None) -> tuple[Distribution, ...]:
    """Give the torch distributions that share one directory, where there are several."""
    found = tuple(each for each in (packages.distributions if packages else ()) if each.name == "torch")
    for one in found:
        together = tuple(each for each in found if each.location == one.location)
        if len(together) > 1:
            return together
    return ()


RULES = (duplicate_torch_installs,)
