"""How packages get into this environment: by uv, by pip, by conda, or not at all into a system's own Python."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envdoctor.finding import Command
from envdoctor.remedy.written import leave_out, write

if TYPE_CHECKING:
    from envdoctor.facts.packages import Packages

NEW_VENV = ".venv"
AGAIN = "--force-reinstall"
OVER = "--ignore-installed"  # without RECORD pip cannot remove what is there, and refuses to reinstall it


@dataclass(frozen=True, slots=True)
class Installer:
    """``kind`` is uv or pip; ``python`` the interpreter it installs into; ``before`` what must run first.

    ``elsewhere``: not this environment but a new one, because this one belongs to the operating system.
    ``planned``: the file that asks for the packages, where none is installed yet; ``kind`` says how it is changed.
    """

    kind: str
    python: str
    before: tuple[tuple[str, ...], ...] = ()
    elsewhere: bool = False
    planned: str = ""

    def install(
        self,
        specs: tuple[str, ...],
        index: str = "",
        *,
        again: str = "",
        alone: bool = False,
        flags: tuple[str, ...] = (),
    ) -> Command:
        """Install ``specs``; ``again`` (``AGAIN`` or ``OVER``) even what is there, ``alone`` without dependencies."""
        if self.planned:
            return write(self.planned, self.kind, specs, index)
        if self.kind == "uv":
            start = ("uv", "pip", "install", "--python", self.python, *(("--reinstall",) if again else ()))
        else:
            start = (self.python, "-m", "pip", "install", *((again,) if again else ()))
        more = (*(("--no-deps",) if alone else ()), *flags)
        return quoted((*start, *more), specs, ("--index-url", index) if index else ())

    def uninstall(self, names: tuple[str, ...]) -> Command:
        """Remove distributions by name."""
        if self.planned:
            return leave_out(self.planned, self.kind, names)
        if self.kind == "uv":
            return quoted(("uv", "pip", "uninstall", "--python", self.python), names)
        return quoted((self.python, "-m", "pip", "uninstall", "-y"), names)


def quoted(start: tuple[str, ...], specs: tuple[str, ...] = (), end: tuple[str, ...] = ()) -> Command:
    """Make a command with every specifier in quotes, so that no shell reads its signs."""
    shell = " ".join((shlex.join(start), *(_in_quotes(each) for each in specs), *((shlex.join(end),) if end else ())))
    return Command((*start, *specs, *end), shell)


def _in_quotes(text: str) -> str:
    quoted_already = shlex.quote(text)
    return quoted_already if quoted_already.startswith("'") else f"'{text}'"


def installer_for(packages: Packages) -> Installer:
    """Choose the installer that works in this environment."""
    python = packages.executable or "python"
    if packages.planned_in:
        return Installer(packages.planned_kind or "requirements", python, planned=packages.planned_in)
    if belongs_to_the_system(packages):
        create = (packages.executable or "python3", "-m", "venv", NEW_VENV)
        return Installer("pip", f"{NEW_VENV}/bin/python", (create,), elsewhere=True)
    if _prefers_uv(packages):
        return Installer("uv", python)
    before = () if packages.has_pip is not False else ((python, "-m", "ensurepip", "--upgrade"),)
    return Installer("pip", python, before)


def belongs_to_the_system(packages: Packages) -> bool:
    """Tell whether pip refuses this Python: one that the operating system manages (EXTERNALLY-MANAGED)."""
    return packages.environment_kind == "system" and bool(packages.externally_managed)


def _prefers_uv(packages: Packages) -> bool:
    if not packages.has_uv:
        return False
    torch = packages.find("torch")
    return packages.has_pip is False or (torch is not None and torch.installer == "uv")


def from_conda(packages: Packages) -> bool:
    """Tell whether conda, not pip, brought this environment's torch."""
    torch = packages.find("torch")
    if torch is not None:
        return torch.source == "conda"
    return any(each.source == "conda" and each.name in {"pytorch", "libtorch"} for each in packages.distributions)
