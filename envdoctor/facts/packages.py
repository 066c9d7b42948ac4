"""[payload] Every distribution on the patient's path."""

from __future__ import annotations

from typing import Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass


@dataclass(frozen=True)
class Distribution:
    """One installed distribution; ``name`` is normalised (PEP 503), ``location`` the directory that holds it.

    ``requires`` is kept only for the packages that ours and the rules look at (torch and its companions).
    """

    name: str = ""
    version: str = ""
    location: str = ""
    installer: str = ""
    editable: bool = False
    source: str = ""  # pip, conda, system (the operating system's own package)
    built_for: str = ""  # a local tag or built-for record: "+cu121", "torch 2.4.1+cu121"
    requires: Tuple[str, ...] = ()
    wheel_tag: str = ""
    build: str = ""  # conda's build string, "py3.11_cuda12.1_cudnn8.9.2_0"
    channel: str = ""  # conda's channel, by name


@dataclass(frozen=True)
class SharedFile:
    """One file that two distributions say is theirs; ``same_content``: their records name one hash."""

    path: str = ""
    owners: Tuple[str, ...] = ()
    same_content: bool = False


@dataclass(frozen=True)
class Packages(Fact):
    """The distributions on the path, in path order: of two with one name the first is imported."""

    distributions: Tuple[Distribution, ...] = read_from("dist-info and egg-info on the module search path", ())
    shared_files: Tuple[SharedFile, ...] = read_from("RECORD of torch, triton, nvidia-* and their neighbours", ())
    python_version: Optional[str] = read_from("sys.version_info")
    python_implementation: Optional[str] = read_from("sys.implementation")
    executable: Optional[str] = read_from("sys.executable", private=True)
    environment_kind: Optional[str] = read_from("pyvenv.cfg, conda-meta")  # venv, conda, system
    prefix: Optional[str] = read_from("sys.prefix", private=True)
    may_write: Optional[bool] = read_from("access(2) on the environment's site-packages")  # by this user
    has_pip: Optional[bool] = read_from("pip on the module search path")
    has_uv: Optional[bool] = read_from("pyvenv.cfg uv, PATH")
    path: Tuple[str, ...] = read_from("sys.path", (), private=True)
    externally_managed: Optional[bool] = read_from("EXTERNALLY-MANAGED beside the standard library")
    # Not installed yet: the file that asks for them, and how that file is changed (requirements, uv, poetry, conda, …).
    planned_in: Optional[str] = read_from("the given file")
    planned_kind: Optional[str] = read_from("the given file")
    lock_file: Optional[str] = read_from("poetry.lock, uv.lock or pdm.lock in the working directory", private=True)

    def find(self, name: str) -> Optional[Distribution]:
        """Give the distribution that an import would use, or None."""
        for each in self.distributions:
            if each.name == name:
                return each
        return None

    def version(self, name: str) -> Optional[str]:
        """Give the version of ``name`` that an import would use, or None when it is not installed."""
        found = self.find(name)
        return found.version if found else None
