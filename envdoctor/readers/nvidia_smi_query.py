"""``nvidia-smi -q``: an indented tree of keys and values, one branch for each card."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from envdoctor.facts.driver import KernelModule, NvidiaSmi, SmiGpu
from envdoctor.facts.nvml import Gpu, GpuFabric, GpuState
from envdoctor.readers.reading import Reading
from envdoctor.readers.versions import whole_or_number

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "nvidia-smi -q"
MOST_LINES = 40_000
_ABOVE = 8
SOURCE = "the pasted nvidia-smi -q"
_PAIR = re.compile(r"^(\s{0,60})(\S[^:]{0,60}?)\s{1,60}: ?(.*)$")
_BRANCH = re.compile(r"^(\s{4,60})(\S[\w ./()-]{1,60}?)\s*$")
_GPU = re.compile(r"^\s{0,12}GPU ([0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.\d)\s*$")
_WORDS = {
    "product name": "name", "product architecture": "architecture",
    "virtualization mode/virtualization mode": "virtualization",
    "gpu virtualization mode/virtualization mode": "virtualization", "gpu recovery action": "recovery_action",
}  # fmt: skip
# From R535 the SRAM's are told apart by what found them: "SRAM Uncorrectable Parity", "SRAM Uncorrectable SEC-DED".
_UNCORRECTED = ("dram uncorrectable", "sram uncorrectable")
_FABRIC = ("fabric/state", "fabric/status")
_MODES = {
    "default": "default",
    "exclusive_process": "exclusive-process",
    "prohibited": "prohibited",
    "exclusive_thread": "exclusive-process",
}
_NUMBERS = {
    "fb memory usage/total": "memory_total_mib", "fb memory usage/used": "memory_used_mib",
    "fb memory usage/free": "memory_free_mib", "utilization/gpu": "utilization_percent",
    "temperature/gpu current temp": "temperature_celsius", "temperature/gpu slowdown temp": "slowdown_celsius",
    "temperature/gpu shutdown temp": "shutdown_celsius", "clocks/sm": "sm_clock_mhz",
    "max clocks/sm": "sm_clock_max_mhz",
    "clocks/memory": "memory_clock_mhz", "max clocks/memory": "memory_clock_max_mhz",
    "remapped rows/correctable error": "remapped_rows_correctable",
    "remapped rows/uncorrectable error": "remapped_rows_uncorrectable",
}  # fmt: skip
_WATTS = {
    "power draw": "power_watts", "average power draw": "power_watts", "power limit": "power_limit_watts",
    "current power limit": "power_limit_watts", "enforced power limit": "power_limit_enforced_watts",
    "default power limit": "power_limit_default_watts", "requested power limit": "power_limit_watts",
    "max power limit": "power_limit_max_watts",
}  # fmt: skip
_TRUTHS = {
    "persistence mode": "persistence", "mig mode/current": "mig_enabled", "mig mode/pending": "mig_enabled_after_reset",
    "ecc mode/current": "ecc_enabled", "ecc mode/pending": "ecc_enabled_after_reboot",
    "remapped rows/pending": "remap_pending",
    "remapped rows/remapping failure occurred": "remap_failed",
    "retired pages/pending page blacklist": "retired_pages_pending",
    "retired pages/pending": "retired_pages_pending",
}  # fmt: skip


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether the log's header is in the text, or a card's branch with its product name."""
    return any("NVSMI LOG" in line or _GPU.match(line) for line in lines)


def read(lines: tuple[str, ...]) -> Reading:
    """Give the driver, and each card as far as its branch tells."""
    logs = [n for n, line in enumerate(lines) if "NVSMI LOG" in line]
    first = next((n for n, line in enumerate(lines) if _GPU.match(line)), len(lines))
    # Cut at its top the log still has the driver in the lines above the first card.
    start = logs[0] if logs and logs[0] < first else max(0, first - _ABOVE)
    end = next((n for n in logs if n > start), len(lines))
    head: dict[str, str] = {}
    cards: list[dict[str, Any]] = []
    used, last = set(logs), ""
    for number, key, value in _pairs(lines[:end], start):
        used.add(number)
        if key == "gpu":
            cards.append({"index": len(cards), "pci_address": value.lower()})
        elif cards:
            _take(cards[-1], key, value)
        else:
            head.setdefault(key, value)
        last = key
    if cards and last.startswith(("volatile/", "aggregate/")):  # a sum that was cut in the middle is none
        cards[-1].pop(_count_name(last), None)
    driver = whole_or_number(head.get("driver version") or head.get("kmd version"))
    level = whole_or_number(head.get("cuda version") or head.get("cuda umd version"))
    fabric = _fabric(cards)
    gpus = tuple(Gpu(**{name: value for name, value in each.items() if name not in _FABRIC}) for each in cards)
    names = tuple(SmiGpu(g.index, g.name or "", g.memory_total_mib) for g in gpus)
    sources = dict.fromkeys(("driver_version", "cuda_version", "gpus"), SOURCE)
    count = _count_of(head)
    facts = [
        NvidiaSmi(exit_code=0, driver_version=driver, cuda_version=level, gpus=names, sources=sources),
        KernelModule(loaded=True, version=driver, sources={"version": SOURCE}) if driver else None,
        GpuState(driver_version=driver, init_code=0, count=count, gpus=gpus, sources=sources) if gpus else None,
        fabric,
    ]
    used |= {number for number, _, _ in _pairs(lines, end)}
    remarks = () if end == len(lines) else ("a second nvidia-smi -q in the same text was left out",)
    return Reading(NAME, tuple(each for each in facts if each), frozenset(used), remarks)


def _count_of(head: dict[str, str]) -> int | None:
    """Give the number of cards that the log names itself: it may have been cut before the last of them."""
    said = head.get("attached gpus", "")
    return int(said) if said.isdigit() and len(said) < len("1000") else None


def _fabric(cards: list[dict[str, Any]]) -> GpuFabric | None:
    """Give the state of each card in its NVLink fabric, where any card is in one."""
    states, statuses = (tuple(each.get(key) for each in cards) for key in _FABRIC)
    if not any(states):
        return None
    sources = dict.fromkeys(("fabric_states", "fabric_statuses"), SOURCE)
    return GpuFabric(fabric_states=states, fabric_statuses=statuses, sources=sources)


def _pairs(lines: tuple[str, ...], start: int) -> Iterator[tuple[int, str, str]]:
    """Give each value under the name of its branch and its own: ``fb memory usage/total``."""
    branch: list[tuple[int, str]] = []
    for number in range(start, min(len(lines), start + MOST_LINES)):
        line = lines[number]
        if found := _GPU.match(line):
            branch = []
            yield number, "gpu", found.group(1)
        elif pair := _PAIR.match(line):
            indent = len(pair.group(1))
            branch = [each for each in branch if each[0] < indent]
            above = f"{branch[-1][1]}/" if branch else ""
            yield number, f"{above}{pair.group(2)}".lower(), pair.group(3).strip()
        elif above_ := _BRANCH.match(line):
            indent = len(above_.group(1))
            branch = [*(each for each in branch if each[0] < indent), (indent, above_.group(2).strip())]
            yield number, "branch", ""


def _take(card: dict[str, Any], key: str, value: str) -> None:
    last = key.rpartition("/")[2]
    number = re.match(r"\d{1,9}(?:\.\d{1,4})?", value)
    if key in _WORDS and value not in {"N/A", ""}:
        card.setdefault(_WORDS[key], value if _WORDS[key] == "name" else value.lower().replace(" ", "-"))
    elif key in _FABRIC and value not in {"N/A", ""}:
        card.setdefault(key, value.lower().replace(" ", "-"))
    elif key in _NUMBERS and number:
        card.setdefault(_NUMBERS[key], int(float(number.group())))
    elif last in _WATTS and number:
        card.setdefault(_WATTS[last], float(number.group()))
    elif key in _TRUTHS and value in {"Enabled", "Disabled", "Yes", "No"}:
        card.setdefault(_TRUTHS[key], value in {"Enabled", "Yes"})
    elif key == "compute mode":
        card.setdefault("compute_mode", _MODES.get(value.lower()))
    elif _counts(key):
        _count(card, key, number)


def _count(card: dict[str, Any], key: str, number: re.Match[str] | None) -> None:
    """Add up what the memory could not correct since the driver was loaded, or ever."""
    if number is None:
        return
    card[_count_name(key)] = card.get(_count_name(key), 0) + int(float(number.group()))


def _counts(key: str) -> bool:
    last = key.rpartition("/")[2]
    return last.startswith(_UNCORRECTED) or (last == "total" and "double" in key)


def _count_name(key: str) -> str:
    return "ecc_uncorrected_aggregate" if "aggregate" in key else "ecc_uncorrected_volatile"
