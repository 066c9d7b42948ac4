"""The kernel-log probe: records, Xid lines, and what happens without permission."""

from __future__ import annotations

from envdoctor_probes.kernel_log import kernel_log, parse_lines, parse_record

from envdoctor.facts.nvml import KernelLog, XidEvent
from envdoctor.testing import collect

LINE = "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def test_record_of_the_ring_buffer_is_split() -> None:
    """A /dev/kmsg record gives seconds since boot and its first line."""
    assert (5140.0009, "NVRM: loading") == parse_record("6,339,5140000900,-;NVRM: loading\n SUBSYSTEM=pci\n")


def test_record_without_a_time_is_kept() -> None:
    """A damaged head loses the time, not the text."""
    assert (None, "text") == parse_record("x;text")


def test_xid_line_gives_code_card_words_and_age() -> None:
    """Both forms of the card's address are read, and the age comes from the uptime."""
    xids, lines = parse_lines(
        [(100.0, LINE), (None, "NVRM: Xid (0000:3B:00): 13, Graphics Exception"), (1.0, "usb")], 160.0
    )
    words = "pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
    assert (XidEvent(79, "0000:3b:00", words, 60.0), XidEvent(13, "0000:3b:00", "Graphics Exception", None)) == xids
    assert 2 == len(lines)


def test_log_file_is_read_where_the_ring_is_not() -> None:
    """Without /dev/kmsg the distribution's log file answers and is named as the source."""
    fact = collect(kernel_log, {"var/log/kern.log": f"Nov 24 kernel: {LINE}\n", "proc/uptime": "160.0 1.0\n"})
    assert isinstance(fact, KernelLog)
    assert (True, [79]) == (fact.readable, [each.code for each in fact.xids])
    assert fact.sources["xids"].endswith("var/log/kern.log")


def test_without_any_log_the_reasons_are_kept() -> None:
    """Nothing readable is unknown: every place that was tried is named, and what root can type."""
    fact = collect(kernel_log, {"proc/uptime": "1 1"})
    assert isinstance(fact, KernelLog)
    assert fact.readable is False
    assert "kmsg: No such file" in fact.unknown["xids"]
    assert "dmesg | grep NVRM" in fact.unknown["xids"]
