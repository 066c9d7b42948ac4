"""[payload] nvidia-smi: a second source beside NVML and libcuda; its exit code and its own words are kept."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import List, Optional, Tuple

from envdoctor.facts.driver import NvidiaSmi, SmiGpu
from envdoctor.probe import Context, NotThere, Ran, probe
from envdoctor_probes.devices import require_driver
from envdoctor_probes.driver_files import find_program
from envdoctor_probes.tree import Tree

__all__ = ["nvidia_smi", "parse_header", "parse_query"]

_FIELDS = ("index", "name", "driver_version", "memory.total", "compute_cap")
_SECONDS = 60.0  # beyond the probe's own deadline: a hang is the supervisor's to tell, no answer of ours
_WORDS = 2000


@probe(child="nvidia-smi")
def nvidia_smi(context: Context) -> NvidiaSmi:
    """Run nvidia-smi twice: its query for the GPUs, its plain table for the CUDA level in the header."""
    require_driver(context)
    path = find_program(Tree(context.roots), "nvidia-smi", context.environ)
    if path is None:
        raise NotThere("no nvidia-smi on PATH")
    fact = _queried(context, path)
    context.so_far(fact)
    return _with_header(context, fact) if fact.exit_code == 0 else fact


def _queried(context: Context, path: str) -> NvidiaSmi:
    ran = _run(context, _query(path, _FIELDS))
    if ran.exit_code not in (0, None) and "compute_cap" in ran.stdout + ran.stderr:
        ran = _run(context, _query(path, _FIELDS[:-1]))  # drivers before 510 do not know that field
    words = (ran.stdout + ran.stderr)[:_WORDS]
    fact = NvidiaSmi(path=path, exit_code=ran.exit_code, words=words)
    if ran.exit_code != 0:
        return replace(fact, unknown=_nothing(_how_it_ended(ran)))
    try:
        driver, gpus = parse_query(ran.stdout)
    except ValueError as error:  # its words are kept; that they are no answer is a failure
        context.so_far(replace(fact, unknown=_nothing(str(error))))
        raise
    return replace(fact, driver_version=driver, gpus=gpus)


def _query(path: str, fields: Tuple[str, ...]) -> List[str]:
    return [path, "--query-gpu=" + ",".join(fields), "--format=csv,noheader,nounits"]


def _run(context: Context, argv: List[str]) -> Ran:
    with context.calling("nvidia-smi"):
        return context.run(argv, _SECONDS)


def _how_it_ended(ran: Ran) -> str:
    if ran.exit_code is None:
        return f"nvidia-smi did not answer within {ran.seconds:.0f} s"
    return f"nvidia-smi ended with {ran.exit_code}: {_first_line(ran.stdout + ran.stderr)}"


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no words")[:300]


def _nothing(reason: str) -> "dict[str, str]":
    return dict.fromkeys(("driver_version", "cuda_version", "gpus"), reason)


def parse_query(text: str) -> Tuple[Optional[str], Tuple[SmiGpu, ...]]:
    """Read the rows ``0, NVIDIA A100-SXM4-80GB, 535.183.01, 81920, 8.0``; raises ``ValueError`` on anything else.

    What nvidia-smi writes in brackets (``[N/A]``) is not known. The driver's version is the first row's.
    """
    if text.strip() == "No devices were found":
        return None, ()
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line.strip()]
    driver: Optional[str] = None
    gpus: List[SmiGpu] = []
    for row in rows:
        if len(row) not in (len(_FIELDS), len(_FIELDS) - 1) or not row[0].isdigit():
            raise ValueError(f"nvidia-smi gave no row of the query: {','.join(row)[:100]!r}")
        _, name, version, memory = row[:4]
        driver = driver or _said(version)
        size = _said(memory)
        gpus.append(SmiGpu(int(row[0]), name, int(size) if size else None, _said(row[4]) if row[4:] else None))
    return driver, tuple(gpus)


def _said(cell: str) -> Optional[str]:
    return None if not cell or cell.startswith("[") else cell


def _with_header(context: Context, fact: NvidiaSmi) -> NvidiaSmi:
    ran = _run(context, [fact.path or "nvidia-smi"])
    driver, cuda = parse_header(ran.stdout) if ran.exit_code == 0 else (None, None)
    unknown = dict(fact.unknown)
    if cuda is None:
        unknown["cuda_version"] = _how_it_ended(ran) if ran.exit_code != 0 else "its header names no CUDA version"
    if fact.driver_version is None and driver is None:
        unknown["driver_version"] = "neither its query nor its header names one"
    return replace(
        fact,
        exit_code=ran.exit_code or fact.exit_code,
        cuda_version=cuda,
        driver_version=fact.driver_version or driver,
        words=(ran.stdout + ran.stderr)[:_WORDS] or fact.words,
        unknown=unknown,
    )


def parse_header(text: str) -> Tuple[Optional[str], Optional[str]]:
    """Read the driver's and the CUDA version out of the table's header; since R610 it says KMD and CUDA UMD."""
    driver = re.search(r"\b(?:Driver|KMD) Version:\s*([0-9]+(?:\.[0-9]+)+)", text)
    cuda = re.search(r"\bCUDA (?:UMD )?Version:\s*([0-9]+\.[0-9]+)", text)
    return driver.group(1) if driver else None, cuda.group(1) if cuda else None
