"""From "needs another torch" to the commands that work in this environment, with wheels that exist for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from envdoctor.finding import Command, Fix, Safety
from envdoctor.knowledge.cuda import branch_to_install
from envdoctor.knowledge.torch import companions_for, cuda_of, release, releases
from envdoctor.remedy.driver import install_driver
from envdoctor.remedy.installer import NEW_VENV, Installer, belongs_to_the_system, from_conda, installer_for, quoted
from envdoctor.remedy.wheels import INDEX, Wheel, torch_wheel
from envdoctor.remedy.written import take_python

if TYPE_CHECKING:
    from envdoctor.facts.host import Host
    from envdoctor.facts.packages import Packages
    from envdoctor.remedy.machine import Machine

__all__ = [
    "Wheel",
    "another_python",
    "change_torch",
    "install",
    "install_plain",
    "torch_specs",
    "torch_wheel",
    "ways_to_cuda",
]


def install(
    packages: Packages,
    specs: tuple[str, ...],
    index_variant: str = "",
    *,
    title: str = "",
    again: str = "",
    alone: bool = False,
) -> Fix:
    """Install ``specs`` into the environment that ``packages`` describes.

    ``index_variant`` (``cu126``, ``cpu``) names the PyTorch index to take them from; ``again``: even what is there,
    ``alone``: without dependencies. A new environment, where this one must not be touched, gets the whole torch.
    """
    installer = installer_for(packages)
    index = f"{INDEX}/{index_variant}" if index_variant else ""
    if installer.elsewhere:
        specs, again, alone = _with_torch(packages, specs), "", False
    commands = (*_before(installer), installer.install(specs, index, again=again, alone=alone))
    return Fix(title or f"Install {', '.join(specs)}", commands, _safety(packages), _changes(packages))


def _with_torch(packages: Packages, specs: tuple[str, ...]) -> tuple[str, ...]:
    have = packages.version("torch")
    if have is None or any(each.startswith("torch==") for each in specs):
        return specs
    return (f"torch=={have.partition('+')[0]}", *specs)


def torch_specs(packages: Packages, wheel: Wheel, installed: str | None = None) -> tuple[str, ...]:
    """Name torch and those of its companions that are installed, as they were published together.

    Over another build of the same release the variant is part of the version, or nothing would be installed.
    ``installed``: torch's own word for its version, where no list of packages was given.
    """
    again = _same_release(packages.version("torch") or installed, wheel.torch)
    tag = f"+{wheel.variant}" if again or packages.planned_in else ""
    pairs = companions_for(wheel.torch)
    beside = tuple(f"{name}=={pairs[name]}{tag}" for name in pairs if packages.find(name))
    return (f"torch=={wheel.torch}{tag}", *beside)


def _same_release(have: str | None, wanted: Version) -> bool:
    try:
        return have is not None and Version(Version(have).base_version) == wanted
    except InvalidVersion:
        return False


def change_torch(
    packages: Packages, wheel: Wheel | None, *, title: str = "", installed: str | None = None
) -> tuple[Fix, ...]:
    """Give the ways to put this wheel in: pip's or uv's, and conda's own where conda brought torch. None: no wheel."""
    if from_conda(packages) and not packages.planned_in:
        return (_by_conda(packages, wheel), *((_in_a_new_environment(packages, wheel),) if wheel else ()))
    if wheel is None:
        return ()
    words = title or f"Install torch {wheel.torch} for {_spoken(wheel)}"
    return (install(packages, torch_specs(packages, wheel, installed), wheel.variant, title=words),)


def ways_to_cuda(packages: Packages, host: Host | None, fit: Machine, installed: str | None = None) -> tuple[Fix, ...]:
    """Give the wheel with CUDA that fits this machine; where only a newer driver makes one fit, that driver."""
    wheel = fit.cuda_wheel(installed)
    if wheel:
        return change_torch(packages, wheel, installed=installed)
    later = replace(fit, driver_cuda=None).cuda_wheel(installed)
    if later is None:
        return ()
    branch = branch_to_install(cuda_of(later.variant))
    raised = install_driver(host, branch, verb="Raise", open_modules=fit.open_modules)
    return (replace(raised, title=f"{raised.title}: this one starts no torch that has wheels for Python {fit.python}"),)


def another_python(packages: Packages, torch: str | None = None) -> Fix:
    """Make an environment with a Python that torch (this release, or the newest) has wheels for."""
    row = (release(Version(torch)) if torch else None) or releases()[0]
    low, high = row.python_min, row.python_max
    python = f"{high[0]}.{max(low[1], high[1] - 2)}"  # companions are slow to follow the newest Python
    title = f"Take a Python that torch supports, such as {python}, in an environment of its own"
    if packages.planned_in:
        command = take_python(packages.planned_in, packages.planned_kind or "", python)
        return Fix(title, (command,), Safety.DISRUPTIVE, _name_of(packages))
    if packages.environment_kind == "conda":
        command = quoted(("conda", "create", "--name", "torch"), (f"python={python}",))
    else:
        command = quoted(("uv", "venv", "--python", python, NEW_VENV))
    return Fix(title, (command,), Safety.DISRUPTIVE, "a new environment; this one stays as it is")


def jetson_wheels() -> tuple[Fix, ...]:
    """Name NVIDIA's wheels for Jetson, which depend on its JetPack; which there are is not in our tables."""
    title = (
        "Install NVIDIA's own torch for this JetPack: "
        "https://docs.nvidia.com/deeplearning/frameworks/install-pytorch-jetson-platform/"
    )
    return (Fix(title, (Command(None, "cat /etc/nv_tegra_release"),), Safety.SAFE, "nothing: it only looks"),)


def rocm_wheels() -> Fix:
    """Ask ROCm which GPU it serves; which ROCm wheels there are is not in our tables."""
    command = Command(None, "rocminfo | grep -i gfx")
    title = (
        "If it is the one to use: see that ROCm serves it, then choose ROCm at https://pytorch.org/get-started/locally/"
    )
    return Fix(title, (command,), Safety.SAFE, "nothing")


def _spoken(wheel: Wheel) -> str:
    return f"CUDA {wheel.cuda}" if wheel.cuda else "the CPU"


def _by_conda(packages: Packages, wheel: Wheel | None) -> Fix:
    where = ("--prefix", packages.prefix) if packages.prefix else ()
    name = "pytorch-cpu" if wheel and wheel.variant == "cpu" else "pytorch-gpu"
    return Fix(
        "Let conda change its own torch (PyTorch's channel ended with 2.5: conda-forge builds it now)",
        (quoted(("conda", "install", *where, "--channel", "conda-forge", "--override-channels"), (name,)),),
        Safety.SAFE,
        "this conda environment only",
    )


def _in_a_new_environment(packages: Packages, wheel: Wheel) -> Fix:
    python = f"{NEW_VENV}/bin/python"
    pairs = companions_for(wheel.torch)
    specs = (f"torch=={wheel.torch}", *(f"{name}=={pairs[name]}" for name in pairs if packages.find(name)))
    create = quoted((packages.executable or "python3", "-m", "venv", NEW_VENV))
    return Fix(
        f"Or install torch {wheel.torch} for {_spoken(wheel)} by pip into a new environment",
        (create, Installer("pip", python).install(specs, wheel.index)),
        Safety.DISRUPTIVE,
        f"a new virtual environment in {NEW_VENV}; conda's stays as it is",
    )


def install_plain(packages: Packages, spec: str, *, title: str = "") -> Fix:
    """Install one package that is not PyTorch's, by conda where conda brought the one that is there."""
    name = spec.rstrip("0123456789.,*<>=!~ ")
    have = packages.find(name)
    if have is None or have.source != "conda" or packages.planned_in:
        return install(packages, (spec,), title=title)
    where = ("--prefix", packages.prefix) if packages.prefix else ()
    command = quoted(("conda", "install", *where), (spec,))
    return Fix(title or f"Install {spec}", (command,), Safety.SAFE, "this conda environment only")


def _before(installer: Installer) -> tuple[Command, ...]:
    return tuple(quoted(argv) for argv in installer.before)


def _name_of(packages: Packages) -> str:
    """Name the file that would be changed, where nothing is installed yet."""
    return (packages.planned_in or "").replace("\\", "/").rpartition("/")[2]


def _safety(packages: Packages) -> Safety:
    if packages.planned_in:
        return Safety.DISRUPTIVE
    return Safety.SAFE if packages.environment_kind in {"venv", "conda"} else Safety.DISRUPTIVE


def _changes(packages: Packages) -> str:
    if packages.planned_in:
        return f"{_name_of(packages)}; nothing that is installed"
    if belongs_to_the_system(packages):
        return f"a new virtual environment in {NEW_VENV}; the system's Python stays as it is"
    where = "this environment only, undoable" if _safety(packages) is Safety.SAFE else "this Python's own packages"
    lock = (packages.lock_file or "").rpartition("/")[2]
    return f"{where}; {lock} still names the old build: change it there too, or it comes back" if lock else where
