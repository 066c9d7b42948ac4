"""Ways that touch this shell or program alone: a variable or a line that is set, and commands that only look."""

from __future__ import annotations

from envdoctor.finding import Command, Fix, Safety

SHELL = "this shell only"


def unset(*names: str, title: str = "") -> Fix:
    """Take variables out of this shell; what sets them at login is for the person to find."""
    command = Command(None, f"unset {' '.join(names)}")
    return Fix(title or f"Take {' and '.join(names)} back", (command,), Safety.SAFE, SHELL)


def export(title: str, *assignments: str) -> Fix:
    """Set variables in this shell: each assignment as ``NAME=value``."""
    return Fix(title, tuple(Command(None, f"export {each}") for each in assignments), Safety.SAFE, SHELL)


def look(title: str, *commands: str, root: bool = False) -> Fix:
    """Give commands that only look."""
    found = tuple(Command(None, each) for each in commands)
    return Fix(title, found, Safety.ADMIN if root else Safety.SAFE, "nothing: it only looks", needs_root=root)


def in_program(title: str, line: str) -> Fix:
    """Give a line that belongs into the person's own program, where alone it has an effect."""
    return Fix(title, (Command(None, f"# in your program:  {line}"),), Safety.SAFE, "your program")


def administer(title: str, changes: str, *commands: str) -> Fix:
    """Give commands that need root."""
    return Fix(title, tuple(Command(None, each) for each in commands), Safety.ADMIN, changes, needs_root=True)


def start_anew(title: str, *commands: str) -> Fix:
    """Give commands after which the container or job is another one."""
    found = tuple(Command(None, each) for each in commands)
    return Fix(title, found, Safety.DISRUPTIVE, "the container or job is started anew")
