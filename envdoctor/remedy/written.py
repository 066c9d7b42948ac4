"""What to write into a file that asks for packages, so that it asks for the right ones: by its tool, or by hand."""

from __future__ import annotations

import shlex

from envdoctor.finding import Command

TOOLS = ("uv", "poetry")


def write(file: str, kind: str, specs: tuple[str, ...], index: str = "") -> Command:
    """Ask for ``specs``, from ``index`` where one is named; a comment where a person must edit the file."""
    quoted = " ".join(f"'{each}'" for each in specs)
    variant = index.rstrip("/").rpartition("/")[2]
    if kind == "uv":
        return Command(None, f"uv add {f'--index pytorch-{variant}={index} ' if index else ''}{quoted}")
    if kind == "poetry":
        place = f"poetry source add --priority explicit pytorch-{variant} {index} && " if index else ""
        return Command(None, f"{place}poetry add {f'--source pytorch-{variant} ' if index else ''}{quoted}")
    return _by_hand(file, kind, specs, index)


def _by_hand(file: str, kind: str, specs: tuple[str, ...], index: str) -> Command:
    name = _name(file)
    if kind == "dockerfile":
        command = shlex.join(("pip", "install", *specs, *(("--index-url", index) if index else ())))
        return Command(None, f"# {name}: RUN {command}")
    beside = f"--extra-index-url {index} and " if index else ""
    where = ", below pip in place of conda's" if kind == "conda" else ""
    return Command(None, f"# {name}{where}: {beside}{' '.join(specs)}")


def leave_out(file: str, kind: str, names: tuple[str, ...]) -> Command:
    """Ask for ``names`` no more."""
    if kind == "uv":
        return Command(None, f"uv remove {shlex.join(names)}")
    if kind == "poetry":
        return Command(None, f"poetry remove {shlex.join(names)}")
    return Command(None, f"# {_name(file)}: leave out {' and '.join(names)}")


def take_python(file: str, kind: str, python: str) -> Command:
    """Ask for another Python."""
    if kind == "uv":
        return Command(None, f"uv python pin {python}")
    if kind == "poetry":
        return Command(None, f"poetry env use {python}")
    if kind == "conda":
        return Command(None, f"# {_name(file)}: python={python}")
    if kind == "dockerfile":
        return Command(None, f"# {_name(file)}: FROM python:{python}-slim")
    return Command(None, f"uv venv --python {python} .venv")


def _name(file: str) -> str:
    """Name the file on one line of a comment, whatever signs its name has."""
    name = file.replace("\\", "/").rpartition("/")[2] or "the file"
    return "".join(each if each.isprintable() else "?" for each in name)
