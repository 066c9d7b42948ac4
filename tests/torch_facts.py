"""Facts about torch and the packages beside it that the rule tests start from."""

from __future__ import annotations

import subprocess

from envdoctor.facts.host import Host
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import Pin, TorchBuild
from envdoctor.finding import Finding

LINUX = Host(system="Linux", machine="x86_64", libc="glibc 2.35", container="none", wsl=False, jetson=False)
SITE = "/opt/venv/lib/python3.11/site-packages"
INDEX = "https://download.pytorch.org/whl"


def dist(name: str, version: str, **more: object) -> Distribution:
    """Make a distribution that pip installed into the one site directory."""
    said = {"location": SITE, "installer": "pip", "source": "pip", **more}
    return Distribution(name, version, **said)  # type: ignore[arg-type]


def conda(name: str, version: str, build: str = "", **more: object) -> Distribution:
    """Make a distribution that conda installed."""
    return dist(name, version, installer="conda", source="conda", build=build, **more)


def venv(*distributions: Distribution, python: str = "3.11.7", **more: object) -> Packages:
    """Make the packages of a virtual environment that has pip."""
    said = {"environment_kind": "venv", "executable": "/opt/venv/bin/python", "has_pip": True, **more}
    return Packages(distributions=distributions, python_version=python, **said)  # type: ignore[arg-type]


def cuda_build(version: str = "2.5.1+cu124", cuda: str = "12.4", *pins: str, **more: object) -> TorchBuild:
    """Make a CUDA build whose metadata pins ``name==version`` texts."""
    split = tuple(Pin(name, f"=={pin}") for name, _, pin in (each.partition("==") for each in pins))
    said = {"metadata_version": version.partition("+")[0], "is_cpu_only": False, **more}
    return TorchBuild(version=version, cuda=cuda, pins=split, **said)  # type: ignore[arg-type]


def cpu_build(version: str = "2.9.0+cpu") -> TorchBuild:
    """Make a CPU build."""
    return TorchBuild(version=version, metadata_version=version, is_cpu_only=True)


def commands(finding: Finding) -> list[str]:
    """Give every line that a person would paste, and hold each to being a command a shell can read."""
    lines = [command.shell for fix in finding.fixes for command in fix.commands]
    for line in lines:
        done = subprocess.run(["sh", "-n"], input=line, capture_output=True, text=True, check=False)
        assert (0, "") == (done.returncode, done.stderr), line
    return lines
