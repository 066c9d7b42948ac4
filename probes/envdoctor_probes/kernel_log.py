"""[payload] kernel-log: NVIDIA's lines in the kernel log (Xid errors first), where this user may read it."""

from __future__ import annotations

import os
import re
import time
from typing import Callable, Iterator, List, Optional, Tuple

from envdoctor.facts.nvml import KernelLog, XidEvent
from envdoctor.probe import Context, probe

__all__ = ["kernel_log", "parse_age", "parse_lines"]

Lines = Iterator[Tuple[Optional[float], str]]

_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\): (\d+),? ?(.{0,300})")
_ISO = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)")
_PLAIN = re.compile(r"([A-Z][a-z]{2}) +(\d{1,2}) (\d\d):(\d\d):(\d\d) ")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_KEEP_BYTES, _KEEP_EVENTS, _KEEP_LINES = 1 << 20, 200, 40
_FILES = ("var/log/kern.log", "var/log/messages", "var/log/syslog")


@probe()
def kernel_log(context: Context) -> KernelLog:
    """Read the kernel's ring buffer, else the end of the log file that the distribution keeps."""
    refused: List[str] = []
    uptime = _uptime(context)

    def read_file(path: str) -> Lines:
        now = time.time() if context.roots.live else None
        for line in _read_end(path):
            age = parse_age(line, now) if now is not None and "NVRM" in line else None
            yield None if age is None or uptime is None else uptime - age, line

    places: Tuple[Tuple[str, Callable[[str], Lines]], ...] = (
        (os.path.join(context.roots.dev, "kmsg"), _read_ring),
        *((os.path.join(context.roots.root, name), read_file) for name in _FILES),
    )
    for path, read in places:
        try:
            lines = list(read(path))
        except OSError as error:
            refused.append(f"{path}: {error.strerror}")
            continue
        xids, nvrm = parse_lines(lines, uptime)
        return KernelLog(readable=True, xids=xids, nvrm_lines=nvrm, sources={"xids": path, "nvrm_lines": path})
    return KernelLog(readable=False, unknown={"xids": "; ".join(refused) + " (as root: dmesg | grep NVRM)"})


def parse_lines(
    lines: List[Tuple[Optional[float], str]], uptime: Optional[float]
) -> Tuple[Tuple[XidEvent, ...], Tuple[str, ...]]:
    """Pick the Xid events and NVRM lines out of ``(seconds since boot or None, text)`` pairs; the newest are kept."""
    xids, nvrm = [], []
    for at, text in lines:
        if "NVRM" not in text:
            continue
        nvrm.append(text[:400])
        match = _XID.search(text)
        if match:
            ago = None if at is None or uptime is None else max(0.0, uptime - at)
            xids.append(XidEvent(int(match.group(2)), match.group(1).lower(), match.group(3).strip(), ago))
    return tuple(xids[-_KEEP_EVENTS:]), tuple(nvrm[-_KEEP_LINES:])


def _read_ring(path: str) -> Lines:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        for _ in range(100_000):  # the ring is bounded; so is this
            try:
                record = os.read(descriptor, 8192)
            except BlockingIOError:
                return
            except BrokenPipeError:  # overwritten while it was read: the next read goes on
                continue
            if not record:
                return
            yield parse_record(record.decode("utf-8", "replace"))
    finally:
        os.close(descriptor)


def parse_record(record: str) -> Tuple[Optional[float], str]:
    """Split one /dev/kmsg record, ``priority,sequence,microseconds,flags;text``, into seconds since boot and text."""
    head, _, text = record.partition(";")
    fields = head.split(",")
    at = int(fields[2]) / 1e6 if len(fields) > 2 and fields[2].isdigit() else None
    return at, text.partition("\n")[0]


def _read_end(path: str) -> List[str]:
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _KEEP_BYTES))
        return file.read(_KEEP_BYTES).decode("utf-8", "replace").splitlines()


def parse_age(line: str, now: float) -> Optional[float]:
    """Tell how many seconds before ``now`` a line of a log file was written; the older stamp names no year."""
    full, plain = _ISO.match(line), _PLAIN.match(line)
    try:
        if full:
            from datetime import datetime

            zone = full.group(2).replace("Z", "+00:00")
            return max(0.0, now - datetime.fromisoformat(full.group(1) + zone).timestamp())
        if plain:
            month, (day, hour, minute, second) = _MONTHS.index(plain.group(1)) + 1, map(int, plain.groups()[1:])
            year = time.localtime(now).tm_year
            written = [time.mktime((each, month, day, hour, minute, second, 0, 0, -1)) for each in (year, year - 1)]
            return max(0.0, now - next(each for each in written if each <= now + 86_400))
    except (ValueError, OverflowError):
        return None
    return None


def _uptime(context: Context) -> Optional[float]:
    try:
        with open(os.path.join(context.roots.proc, "uptime"), encoding="ascii") as file:
            return float(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return None
