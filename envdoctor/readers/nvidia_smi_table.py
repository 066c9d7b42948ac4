"""``nvidia-smi``'s table: the driver, the CUDA that it supports, and each card's name, memory, mode and processes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from envdoctor.facts.driver import KernelModule, NvidiaSmi, SmiGpu
from envdoctor.facts.nvml import Gpu, GpuProcess, GpuState, MigDevice
from envdoctor.readers.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.facts import Fact

NAME = "nvidia-smi"
SOURCE = "the pasted nvidia-smi"
# Up to R595 "Driver Version" and "CUDA Version", from R610 "KMD Version" and "CUDA UMD Version".
# ``nvidia-smi --version`` writes the words in other cases, and points from the old ones to the new ones.
_DRIVER = re.compile(r"(?:KMD|Driver) version\s{0,40}: ?(\d{2,4}(?:\.\d{1,4}){0,2})", re.IGNORECASE)
_SMI = re.compile(r"NVIDIA-SMI(?: version)?\s{0,40}:? {0,4}(\d{2,4}(?:\.\d{1,4}){1,2})")
_CUDA = re.compile(r"CUDA (?:UMD )?version\s{0,40}: ?(\d{1,2}\.\d{1,2}|N/A|ERR!)", re.IGNORECASE)
_FIRST = re.compile(
    r"^\s{0,8}\|\s{1,4}(\d{1,3})\s{1,4}(\S.{1,60}?)\s{1,20}(On|Off|N/A|WDDM|TCC|ERR!)(?:\s{1,4}(?:WDDM|TCC|MCDM))?\s{0,10}\|\s{0,8}([0-9A-Fa-f:.]{8,20}|N/A|ERR!)\s{1,6}(?:On|Off|N/A)\s{0,4}\|\s{0,24}(\S{1,12})\s*\|"
)
_SECOND = re.compile(
    r"^\s{0,8}\|[^|]{0,80}\|\s{0,20}(\d{1,8}) ?MiB\s?/\s{0,8}(\d{1,8}) ?MiB[^|]{0,24}\|"
    r"\s{0,12}(\d{1,3})%\s{1,6}([A-Za-z. ]{1,16}?)\s{0,8}\|"
)
_THIRD = re.compile(r"^\s{0,8}\|[^|]{0,80}\|[^|]{0,40}\|\s{0,30}(Enabled|Disabled)\*?\s{0,8}\|")
_READINGS = re.compile(
    r"^\s{0,8}\|[^|]{0,16}\s(\d{1,3})C\s{1,8}P\d{1,2}\s{1,20}(\d{1,4}|N/A)W? ?/ {0,4}(\d{1,4}|N/A)W?"
)
_PROCESS = re.compile(
    r"^\s{0,8}\|\s{1,6}(\d{1,3})\s{1,6}(?:N/A|\d{1,3})?\s{1,6}(?:N/A|\d{1,3})?\s{1,10}(\d{1,9})\s{1,10}([CG+M]{1,4})\s{1,6}(\S.{0,100}?)\s{1,60}(\d{1,8})MiB\s{0,4}\|"
)
_LIST = re.compile(r"^\s{0,4}GPU (\d{1,3}): (\S.{1,80}?) \(UUID: (GPU-[0-9a-fA-F-]{4,40})\)")
_MODES = {
    "default": "default",
    "e. process": "exclusive-process",
    "prohibited": "prohibited",
    "e. thread": "exclusive-process",
}
_FRAME = re.compile(
    r"^\s{0,8}[|+][-=+ |]{8,}|^\s{0,8}\|.{20,}\|\s*$|^\w{3} \w{3} {1,2}\d{1,2} [\d:]{8} \d{4}\s*$|NVIDIA-SMI"
    r"|^\s{0,4}GPU \d{1,3}: .{1,80}UUID|^\s{0,4}MIG \d\S{1,20}\s{1,8}Device"
)
_OF_VERSION = re.compile(r"^\s{0,8}(?:NVIDIA-SMI|NVML|DRIVER|CUDA|KMD|CUDA UMD) version\s{0,40}: ", re.IGNORECASE)
_FRAME_LINE = re.compile(r"\s{0,8}[|+][-=+]")
_STROKES = 4  # of a card's row; those of the header and of the processes have two
CLOSED = 4  # lines from a card's first row to what comes after its frame
MOST_LINES, MOST_ROW = 1200, 200
_MIG = re.compile(r"^\s{0,4}MIG (\d\S{1,20})\s{1,8}Device")


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether the table's header, or the list of ``nvidia-smi -L``, is in the text."""
    return any(("NVIDIA-SMI" in line and ("|" in line or _SMI.search(line))) or _LIST.match(line) for line in lines)


def read(lines: tuple[str, ...]) -> Reading:
    """Give what the table says: NVIDIA-SMI's own answer, the loaded module, and the state of each card."""
    heads = [n for n, line in enumerate(lines) if "NVIDIA-SMI" in line]
    head, second = (*heads[:2], *(0, len(lines))[len(heads[:2]) :])
    own = whole_rows([line for line in lines[head : min(second, head + MOST_LINES)] if line.strip()])
    text = "\n".join(own[:6])
    driver, smi, cuda = (pattern.search(text) for pattern in (_DRIVER, _SMI, _CUDA))
    gpus = tuple(_gpus(own))
    version = driver.group(1) if driver else None
    facts: list[Fact] = [_answer(version, cuda.group(1) if cuda else None, gpus)]
    if version:
        facts.append(KernelModule(loaded=True, version=version, sources={"version": SOURCE}))
    if gpus:
        facts.append(_state(version, smi.group(1) if smi else None, gpus, whole=_is_whole(own)))
    used = {n for n, line in enumerate(lines) if _FRAME.search(line) or _OF_VERSION.match(line)}
    failed = {n for n in used if "has failed" in lines[n] or "couldn't" in lines[n]}
    remarks = ("a second nvidia-smi in the same text was left out",) if len(heads) > 1 else ()
    return Reading(NAME, tuple(facts), frozenset(used - failed), remarks)


def whole_rows(lines: list[str]) -> tuple[str, ...]:
    """Put rows of the table together that were broken at a fixed width; a frame is one word and never broken."""
    rows: list[str] = []
    for line in lines:
        if rows and _is_broken(rows[-1]) and not _FRAME_LINE.match(line):
            rows[-1] += f" {line.strip()}"
        else:
            rows.append(line)
    return tuple(rows)


def _is_broken(row: str) -> bool:
    bare = row.strip()
    return bare.startswith("| ") and len(bare) < MOST_ROW and (bare[-1] != "|" or bare.count("|") == _STROKES - 1)


def _answer(version: str | None, cuda: str | None, gpus: tuple[Gpu, ...]) -> NvidiaSmi:
    level = cuda if cuda and cuda[0].isdigit() else None
    unknown = {"cuda_version": f"nvidia-smi printed {cuda}: libcuda does not answer it"} if cuda and not level else {}
    cards = tuple(SmiGpu(g.index, g.name or "", g.memory_total_mib) for g in gpus)
    return NvidiaSmi(
        exit_code=0 if version or gpus else None, driver_version=version, cuda_version=level, gpus=cards,
        sources=dict.fromkeys(("driver_version", "cuda_version", "gpus"), SOURCE), unknown=unknown,
    )  # fmt: skip


def _is_whole(rows: tuple[str, ...]) -> bool:
    """Tell a table that goes on to its end from one that was cut: after the last card there is its frame."""
    last = max(n for n, row in enumerate(rows) if _FIRST.match(row) or _LIST.match(row))
    return any(row.lstrip().startswith("+") for row in rows[last:]) and len(rows) > last + CLOSED


def _state(version: str | None, nvml: str | None, gpus: tuple[Gpu, ...], *, whole: bool) -> GpuState:
    count = len(gpus) if whole else None
    sources = dict.fromkeys(("driver_version", "nvml_version", "gpus", "count"), SOURCE)
    return GpuState(driver_version=version, nvml_version=nvml, init_code=0, count=count, gpus=gpus, sources=sources)


def _gpus(lines: tuple[str, ...]) -> Iterator[Gpu]:
    """Give each card: three lines in the table, or one in the list."""
    processes = list(_processes(lines))
    for number, line in enumerate(lines):
        if first := _FIRST.match(line):
            index = int(first.group(1))
            mine = tuple(process for gpu, process in processes if gpu == index)
            yield Gpu(
                **{
                    "index": index,
                    "name": _whole(first.group(2)),
                    "processes": mine,
                    **_rest(first, lines[number + 1 : number + 4]),
                }
            )
        elif listed := _LIST.match(line):
            yield Gpu(
                index=int(listed.group(1)),
                name=listed.group(2),
                uuid=listed.group(3),
                mig_devices=tuple(_slices(lines[number + 1 : number + 9])),
            )


def _slices(below: tuple[str, ...]) -> Iterator[MigDevice]:
    for line in below:
        if not (match := _MIG.match(line)):
            return
        yield MigDevice(match.group(1))


def _whole(name: str) -> str | None:
    """Keep a name that was cut to the column's width (``NVIDIA A100-SXM...``) as far as it goes."""
    return name.rstrip(" .") or None


def _rest(first: re.Match[str], below: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {"pci_address": first.group(4).lower() if ":" in first.group(4) else None}
    found["persistence"] = {"On": True, "Off": False}.get(first.group(3))
    if first.group(5).isdigit():
        found["ecc_uncorrected_volatile"] = int(first.group(5))
    for line in below:
        if memory := _SECOND.match(line):
            used, total, utilization = map(int, memory.groups()[:3])
            found |= {"memory_used_mib": used, "memory_total_mib": total, "utilization_percent": utilization}
            found["compute_mode"] = _MODES.get(memory.group(4).strip().lower())
        if readings := _READINGS.match(line):
            found["temperature_celsius"] = int(readings.group(1))
            found |= {
                k: float(v)
                for k, v in zip(("power_watts", "power_limit_watts"), readings.groups()[1:], strict=True)
                if v.isdigit()
            }
        if mig := _THIRD.match(line):
            found["mig_enabled"] = mig.group(1) == "Enabled"
    return found


def _processes(lines: tuple[str, ...]) -> Iterator[tuple[int, GpuProcess]]:
    for line in lines:
        if match := _PROCESS.match(line):
            gpu, pid, kind, name, memory = match.groups()
            yield int(gpu), GpuProcess(int(pid), int(memory), "compute" if "C" in kind else "graphics", name)
