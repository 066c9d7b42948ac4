"""Put the same packages in again: what was damaged, what is there twice, what drifted from torch's pins."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from envdoctor.finding import Command, Fix, Safety
from envdoctor.knowledge.torch import early_minor, numbers, release
from envdoctor.remedy.install import install
from envdoctor.remedy.installer import AGAIN, OVER, from_conda, installer_for, quoted

if TYPE_CHECKING:
    from envdoctor.facts.packages import Packages

CONDA_NAMES = {"torch": "pytorch"}


def again(packages: Packages, names: tuple[str, ...], *, record: bool = True) -> tuple[Fix, ...]:
    """Install exactly the versions that are there once more, files and all; ``record`` False: RECORD is lost."""
    if "torch" in names and from_conda(packages):
        return (_conda_again(packages, names),)
    specs = _specs(packages, names)
    if not specs:
        return (_from_its_source(packages, names),)
    title = f"Install {', '.join(names[:3])}{' and others' if len(names) > 3 else ''} again, the same version"
    how = AGAIN if record else OVER
    return (install(packages, specs, _variant(packages, names), title=title, again=how, alone=True),)


def whole_torch(packages: Packages) -> tuple[Fix, ...]:
    """Install torch's own version once more with what it asks for: libraries and Triton are wheels of their own."""
    specs = _specs(packages, ("torch",))
    if not specs or from_conda(packages):
        return again(packages, ("torch",))
    title = "Install what this torch asks for and is missing, or is there in another version"
    return (install(packages, specs, _variant(packages, ("torch",)), title=title),)


def replace_all(packages: Packages, copies: int, version: str | None) -> tuple[Fix, ...]:
    """Remove every copy of torch, then install one: the one whose files are there (``version``), else the first."""
    found = [each for each in packages.distributions if each.name == "torch"]
    meant = [each for each in found if version and each.version.partition("+")[0] == version.partition("+")[0]]
    kept = replace(packages, distributions=(*meant, *found)[:1])
    if not _specs(kept, ("torch",)):
        return (_from_its_source(packages, ("torch",)),)
    then = install(packages, _specs(kept, ("torch",)), _variant(kept, ("torch",)))
    title = f"Remove torch {copies} times over, then install it once"
    return (_after_removal(packages, ("torch",), then, title, times=copies),)


def _after_removal(packages: Packages, names: tuple[str, ...], then: Fix, title: str, *, times: int = 1) -> Fix:
    """Remove, then install; a new environment needs no removal."""
    installer = installer_for(packages)
    if installer.elsewhere:
        return then
    return Fix(title, (*(installer.uninstall(names),) * times, *then.commands), then.safety, then.changes)


def to_pins(packages: Packages, specs: tuple[str, ...], *, there: bool = False) -> tuple[Fix, ...]:
    """Install the versions that torch asks for, and nothing beside them; ``there``: by their names they are there."""
    title = f"Install the version that torch asks for: {', '.join(specs[:3])}{', ...' if len(specs) > 3 else ''}"
    return (install(packages, specs, title=title, again=AGAIN * there, alone=True),)


def _specs(packages: Packages, names: tuple[str, ...]) -> tuple[str, ...]:
    """Name the versions to ask an index for; none when one of them was built by somebody, not published."""
    versions = {name: packages.version(name) for name in names}
    if any(text is None or not _published(text) for text in versions.values()):
        return ()
    if "torch" in versions and not _has_wheel(Version(versions["torch"] or ""), packages.python_version):
        return ()
    return tuple(f"{name}=={text}" for name, text in versions.items())


def _published(text: str) -> bool:
    try:
        version = Version(text)
    except InvalidVersion:
        return False
    return not version.is_prerelease and (version.local is None or version.local.startswith(("cu", "cpu", "rocm")))


def _has_wheel(torch: Version, python: str | None) -> bool:
    """Whether an index has this torch for this Python; of early releases only PyPI's own, without a tag, are sure."""
    row = release(torch)
    if row is None:
        return torch.local is None or early_minor(torch.release) is None
    return python is None or row.supports(numbers(python))


def _variant(packages: Packages, names: tuple[str, ...]) -> str:
    """Name the PyTorch index that served torch: its local tag says so, and a wheel without one came by default."""
    text = packages.version("torch") or ""
    return text.partition("+")[2] if "torch" in names else ""


def _conda_again(packages: Packages, names: tuple[str, ...]) -> Fix:
    where = ("--prefix", packages.prefix) if packages.prefix else ()
    wanted = tuple(CONDA_NAMES.get(each, each) for each in names)
    return Fix(
        "Let conda put its files back",
        (quoted(("conda", "install", *where, "--force-reinstall"), wanted),),
        Safety.SAFE,
        "this conda environment only",
    )


def _from_its_source(packages: Packages, names: tuple[str, ...]) -> Fix:
    python = packages.executable or "python"
    shown = quoted((python, "-m", "pip", "show", "--verbose"), names)
    return Fix(
        "Install it again from where it came (this shows who installed it): no index is known to have this build",
        (Command(None, shown.shell),),
        Safety.DISRUPTIVE,
        "this Python's torch",
    )


def only(packages: Packages, names: tuple[str, ...], spec: str) -> tuple[Fix, ...]:
    """Remove the distributions that share a directory, then install the one that is meant."""
    then = install(packages, (spec,), alone=True)
    return (_after_removal(packages, names, then, f"Remove {' and '.join(names)}, then install {spec}"),)


def library_again(packages: Packages, specs: tuple[str, ...]) -> tuple[Fix, ...]:
    """Install the wheels that carry a library, whatever of them is there."""
    return (install(packages, specs, title=f"Install {', '.join(specs)}, which carries it", again=AGAIN, alone=True),)


def compiled_again(packages: Packages, name: str, version: str, *, arches: str = "") -> tuple[Fix, ...]:
    """Compile a package against the torch that is there; ``arches`` (``9.0;12.0``): for these GPUs.

    Not from the cache: pip and uv keep what they compiled before, for whichever torch, and would install that again.
    """
    installer = installer_for(packages)
    if installer.elsewhere:
        return ()
    spec = f"{name}=={version.partition('+')[0]}"
    flags = ("--no-cache-dir", "--no-build-isolation", "--no-binary", name)
    command = installer.install((spec,), again=AGAIN, alone=True, flags=flags)
    if arches and command.argv:
        setting = f"TORCH_CUDA_ARCH_LIST={arches}"
        command = Command(("env", setting, *command.argv), f"TORCH_CUDA_ARCH_LIST='{arches}' {command.shell}")
    goal = f"for compute capability {arches.replace(';', ' and ')}" if arches else "against this torch"
    title = f"Compile {name} {goal} (needs nvcc of torch's CUDA, and time)"
    return (Fix(title, (command,), Safety.SAFE, "this environment only"),)


def fresh_environment(packages: Packages) -> tuple[Fix, ...]:
    """Make a conda environment in which pip alone brings torch."""
    torch, python = packages.version("torch") or "", ".".join((packages.python_version or "3.12").split(".")[:2])
    spec = f"torch=={torch.partition('+')[0]}" if _published(torch) else "torch"
    create = quoted(("conda", "create", "--name", "torch-by-pip"), (f"python={python}", "pip"))
    fill = quoted(("conda", "run", "--name", "torch-by-pip", "python", "-m", "pip", "install"), (spec,))
    changes = "a new conda environment; this one stays as it is"
    return (Fix("Make a fresh environment with torch from pip alone", (create, fill), Safety.DISRUPTIVE, changes),)


def without(packages: Packages, names: tuple[str, ...], back: tuple[str, ...]) -> tuple[Fix, ...]:
    """Remove distributions, then put back the files that they shared with those that stay."""
    installer = installer_for(packages)
    if installer.elsewhere:
        return (install(packages, () if packages.version("torch") else ("torch",), title="Install torch alone"),)
    gone = installer.uninstall(names)
    again_ = (installer.install(back, again=AGAIN, alone=True),) if back else ()
    title = f"Remove {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}"
    return (Fix(title, (gone, *again_), Safety.SAFE, "this environment only, undoable"),)
