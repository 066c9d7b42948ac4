"""[payload] kernel-log: NVIDIA's lines in the kernel log (Xid errors first), where this user may read it."""

from __future__ import annotations

import os
import re
from typing import Iterator, List, Optional, Tuple

from envdoctor.facts.nvml import KernelLog, XidEvent
from envdoctor.probe import Context, probe

__all__ = ["kernel_log", "parse_lines"]

_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\): (\d+),? ?(.{0,300})")
_KEEP_BYTES, _KEEP_EVENTS, _KEEP_LINES = 1 << 20, 200, 40
_FILES = ("var/log/kern.log", "var/log/messages", "var/log/syslog")


@probe()
def kernel_log(context: Context) -> KernelLog:
    """Read the kernel's ring buffer, else the end of the log file that the distribution keeps."""
    refused: List[str] = []
    for path, read in (
        (os.path.join(context.roots.dev, "kmsg"), _read_ring),
        *((os.path.join(context.roots.root, name), _read_end) for name in _FILES),
    ):
        try:
            lines = list(read(path))
        except OSError as error:
            refused.append(f"{path}: {error.strerror}")
            continue
        xids, nvrm = parse_lines(lines, _uptime(context))
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


def _read_ring(path: str) -> Iterator[Tuple[Optional[float], str]]:
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


def _read_end(path: str) -> Iterator[Tuple[Optional[float], str]]:
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _KEEP_BYTES))
        for line in file.read(_KEEP_BYTES).decode("utf-8", "replace").splitlines():
            yield None, line


def _uptime(context: Context) -> Optional[float]:
    try:
        with open(os.path.join(context.roots.proc, "uptime"), encoding="ascii") as file:
            return float(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return None
