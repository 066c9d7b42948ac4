"""Who is examined: this interpreter, another one, the one of a running job, or one behind a command."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envdoctor.cli import streams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envdoctor.plan import Planned
    from envdoctor.target import Patient

    Asked = tuple[Patient, tuple[Planned, ...]]

ALONE = "examines one machine at a time: name one --via"


def one(given: Mapping[str, Any], planned: tuple[Planned, ...]) -> Asked:
    """Say who is examined, and what may be asked there; several are a usage error of a command that knows one."""
    found = each(given, planned)
    if len(found) > 1:
        raise click.UsageError(f"{click.get_current_context().command_path} {ALONE}")
    return found[0]


def each(given: Mapping[str, Any], planned: tuple[Planned, ...]) -> tuple[Asked, ...]:
    """Say who is examined, and what may be asked of each.

    A plug-in's probe is asked elsewhere only if it declares that it may travel.
    """
    found = _behind(given) if given.get("via") else (_here(given),)
    return tuple(_asked(patient, planned) for patient in found)


def _asked(patient: Patient, planned: tuple[Planned, ...]) -> Asked:
    if patient.is_ours:  # a plug-in is found here as any module is, and with it what it imports
        return patient, planned
    travelling = tuple(each for each in planned if each.travels)
    payload = {re.split("[.:]", each.where)[0]: each.location for each in travelling if each.location}
    return replace(patient, payload=payload), travelling


def _here(given: Mapping[str, Any]) -> Patient:
    from envdoctor.probe import Roots
    from envdoctor.target import Patient

    options: dict[str, Any] = {}
    if given.get("python"):
        options["python"] = interpreter(given["python"])
    if given.get("pid"):
        options |= of_process(given)
    if given.get("root"):
        options["roots"] = Roots.under(os.path.abspath(given["root"]))  # noqa: PTH100 - links are part of a recording
    return Patient(**options)


def _behind(given: Mapping[str, Any]) -> tuple[Patient, ...]:
    """Give the patients behind the commands of ``--via``, each under a name of its own."""
    from envdoctor.far import PYTHON, FarPatient, NoCommand, split

    if given.get("root"):
        raise click.UsageError("--root reads a recorded machine's tree, and --via asks a live one: use one")
    found, times = [], Counter[str]()
    pid = given.get("pid")
    for via in given["via"]:
        try:
            split(via)
        except NoCommand as error:
            raise click.UsageError(f"--via: {error}") from None
        times[via] += 1
        key = f"{via} ({times[via]})" if times[via] > 1 else via
        options = {"pid": pid, "job_python": None, "job_python_why": "its Python was not looked for"} if pid else {}
        key = f"{key} process {pid}" if pid else key
        found.append(FarPatient(python=given.get("python") or PYTHON, via=via, key=key, options=options))
    return tuple(found)


def of_process(given: Mapping[str, Any]) -> dict[str, Any]:
    """Say who is examined for ``--pid``: the Python that the process runs, as it was started, where that may be."""
    from envdoctor.running import NoProcess, look

    pid, named = given["pid"], interpreter(given["python"]) if given.get("python") else None
    if given.get("root"):  # what runs there cannot be started here
        return {"key": f"process {pid}", "options": {"pid": pid}}
    try:
        found = look(pid)
    except NoProcess as error:
        raise click.UsageError(f"--pid: {error}") from None
    if found.why:
        streams.notice(
            f"envdoctor: process {pid}: {found.why}; torch and packages are those of {named or 'this Python'}"
        )
    same = found.python is not None and named in {None, found.python}
    asked = {"python": named or found.python, "environ": found.environ, "cwd": found.cwd}
    options = {"pid": pid, "job_python": same, "job_python_why": "" if named else found.why}
    return {"key": f"process {pid}", "options": options, **{k: v for k, v in asked.items() if v is not None}}


def interpreter(path: str) -> str:
    """Give the absolute path of the Python that ``--python`` names; one that cannot be run is a usage error."""
    import shutil

    found = shutil.which(path)
    if found is None:
        why = "is not executable" if Path(path).exists() else "is not there"
        raise click.UsageError(f"--python: {path!r} {why}, expected the path of a Python interpreter")
    return os.path.abspath(found)  # noqa: PTH100 - a virtual environment's link to its Python must not be resolved
