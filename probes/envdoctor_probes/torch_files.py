"""[payload] RECORD against the files of torch, triton and the nvidia-* wheels: sizes and ELF headers, no hashes."""

from __future__ import annotations

import functools
import os
import re
import struct
import sys
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from envdoctor.facts.torch import DamagedFile, TorchFiles
from envdoctor.probe import Context, NotThere, probe
from envdoctor_probes.metadata import Installed, Listing, first, headers, installed, installer, listings
from envdoctor_probes.records import Entry, parse_record, read_record
from envdoctor_probes.torch_build import torch_folder, torch_metadata

CHECKED = ("torch", "triton", "pytorch-triton", "cuda-toolkit")
MOST_DAMAGED = 200
_WHOLE = ("torch", "functorch", "torchgen", "triton", "nvidia", "torchvision", "torchaudio")
_MACHINES = {3: "x86 (32 bit)", 21: "ppc64", 40: "arm (32 bit)", 62: "x86_64", 183: "aarch64", 243: "riscv"}


class Checked(NamedTuple):
    """What became of one distribution's files."""

    files: int = 0
    damaged: Tuple[DamagedFile, ...] = ()
    unknown: str = ""


@probe(child="ledger")
def torch_files(context: Context) -> TorchFiles:
    """Compare sizes with RECORD, look at the first bytes of each library, and name what a broken install left."""
    listed = listings(context)
    found = tuple(installed(listed))
    location = torch_folder(listed)
    metadata = torch_metadata(found, location)
    left = tuple(leftovers(listed))
    if location is None and metadata is None and not left:
        raise NotThere("no torch on the module search path")
    checked = [check(each) for each in _to_check(found, metadata)]
    damaged = tuple(each for one in checked for each in one.damaged)
    unknown = {"damaged": "; ".join(one.unknown for one in checked if one.unknown)}
    empty, unknown["metadata_empty"] = _metadata_empty(metadata)
    return TorchFiles(
        checked_files=sum(one.files for one in checked),
        damaged=damaged[:MOST_DAMAGED],
        leftovers=left,
        dist_infos=tuple(os.path.basename(each.info) for each in found if each.name == "torch"),
        metadata_empty=empty,
        record_missing=_record_missing(metadata),
        package_missing=location is None,
        metadata_missing=metadata is None,
        unknown={name: why for name, why in unknown.items() if why},
    )


def _metadata_empty(metadata: Optional[Installed]) -> Tuple[Optional[bool], str]:
    """Tell whether METADATA says no version, or why that is not known: a file that may not be read is not empty."""
    if metadata is None:
        return None, "torch has no metadata"
    path = os.path.join(metadata.info, "METADATA")
    if os.path.exists(path) and not os.access(path, os.R_OK):
        return None, f"{path} may not be read"
    return not first(headers(metadata.info), "version"), ""


def _record_missing(metadata: Optional[Installed]) -> Optional[bool]:
    """Tell whether RECORD is gone; only a wheel's dist-info has one, conda's and Debian's egg-info never."""
    if metadata is None or metadata.kind != "dist-info":
        return None
    return not os.path.exists(os.path.join(metadata.info, "RECORD"))


def _to_check(found: Sequence[Installed], metadata: Optional[Installed]) -> Iterator[Installed]:
    """Give torch's chosen metadata, and of each other distribution the first on the path."""
    seen = {"torch"}
    if metadata is not None:
        yield metadata
    for each in found:
        if each.name not in seen and (each.name in CHECKED or each.name.startswith("nvidia-")):
            seen.add(each.name)
            yield each


def leftovers(listed: Sequence[Listing]) -> Iterator[str]:
    """Give what an interrupted pip left behind: it renames ``torch`` to ``~orch`` (then ``~-rch``) before removal."""
    for each in listed:
        for name in sorted(each.names):
            stem = re.split(r"[-_.]\d|\.", name.lstrip("~-"))[0] if name[:1] in ("~", "-") else ""
            part = re.split(r"[-_]", stem)[0]
            if len(part) > 1 and any(whole.endswith(part) and whole != part for whole in _WHOLE):
                yield name


def check(each: Installed) -> Checked:
    """Check one distribution's modules and libraries against its RECORD."""
    text = read_record(each.info) if each.kind == "dist-info" else None
    if text is None:
        return Checked(unknown=f"{each.name} has no RECORD that can be read")
    by_conda = installer(each.info) == "conda"  # conda-build rewrites libraries after RECORD was written
    wanted = [entry for entry in parse_record(text, _matters) if entry.size is not None]
    damaged: List[DamagedFile] = []
    for entry in wanted:
        problem = _look(each, entry, compare_size=not by_conda)
        if problem is not None:
            damaged.append(problem)
    return Checked(len(wanted), tuple(damaged), f"{each.name}: sizes are not compared, conda changes them" * by_conda)


def _matters(path: str) -> bool:
    """Tell whether a running program needs the file: headers and licences are two thirds of torch's RECORD."""
    return path.endswith((".py", ".so", "/bin/ptxas")) or ".so." in path


def _look(each: Installed, entry: Entry, *, compare_size: bool) -> Optional[DamagedFile]:
    path = each.home + "/" + entry.path
    expected = f"{entry.size} bytes"
    try:
        size = os.stat(path).st_size
    except FileNotFoundError:
        return DamagedFile(entry.path, each.name, "missing", expected, "nothing")
    except OSError as error:
        return DamagedFile(entry.path, each.name, "missing", expected, error.strerror or str(error))
    if size == 0 and entry.size:
        return DamagedFile(entry.path, each.name, "empty", expected, "0 bytes")
    if entry.size and not entry.path.endswith(".py"):
        problem = _look_inside(path)
        if problem is not None:
            return DamagedFile(entry.path, each.name, problem[0], problem[1], problem[2])
    if compare_size and size != entry.size:
        return DamagedFile(entry.path, each.name, "size", expected, f"{size} bytes")
    return None


def _look_inside(path: str) -> Optional[Tuple[str, str, str]]:
    """Say what is wrong with a library's first bytes: problem, expected, found. A linker script is text, and right."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError as error:
        return "unreadable", "a library", error.strerror or str(error)
    if head.startswith(b"version https://git-lfs"):
        return "lfs-pointer", "a library", "a git-lfs pointer"
    if not head.startswith(b"\x7fELF"):
        text = head.decode("ascii", "replace").strip()
        is_script = any(word in text for word in ("GROUP", "INPUT", "GNU ld"))
        return None if is_script else ("not-elf", "a library", repr(text[:40]))
    machine, here = parse_machine(head), interpreter_machine()
    if machine is not None and here is not None and machine != here:
        return "other-machine", _machine_name(here), _machine_name(machine)
    return None


def parse_machine(head: bytes) -> Optional[int]:
    """Give e_machine of an ELF header, None when the bytes are too few."""
    return struct.unpack_from(">H" if head[5:6] == b"\x02" else "<H", head, 18)[0] if len(head) >= 20 else None


def _machine_name(machine: int) -> str:
    return _MACHINES.get(machine, f"ELF machine {machine}")


@functools.lru_cache(maxsize=None)
def interpreter_machine() -> Optional[int]:
    """Give e_machine of this interpreter, which must be its libraries' too."""
    try:
        with open(os.path.realpath(sys.executable), "rb") as file:
            head = file.read(64)
    except OSError:
        return None
    return parse_machine(head) if head.startswith(b"\x7fELF") else None
