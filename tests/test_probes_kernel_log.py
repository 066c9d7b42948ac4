"""The kernel-log probe: records, Xid lines, and what happens without permission."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from envdoctor_probes.kernel_log import kernel_log, parse_age, parse_lines, parse_record

from envdoctor.facts.nvml import KernelLog, XidEvent
from envdoctor.probe import Context, Roots
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


NOW = time.mktime((2027, 1, 2, 12, 0, 0, 0, 0, -1))


@pytest.mark.parametrize(
    ("stamp", "age"),
    [
        ("Jan  2 11:59:00", 60.0),
        ("Jan  2 12:00:03", 0.0),
        ("Dec 31 12:00:00", 172_800.0),
        ("Foo 31 12:00:00", None),
        ("[  12.345678]", None),
    ],
)
def test_age_of_a_line_of_a_log_file(stamp: str, age: float | None) -> None:
    """The stamp without a year belongs to the last such day."""
    assert age == parse_age(f"{stamp} node1 kernel: {LINE}", NOW)


@pytest.mark.parametrize("zone", ["Z", "+00:00", "+05:30", "-08:00"])
def test_age_of_a_full_stamp(zone: str) -> None:
    """The stamp of newer distributions carries the zone."""
    hours = {"+05:30": 5.5, "-08:00": -8.0}.get(zone, 0.0)
    utc = time.gmtime(NOW - 60 + hours * 3600)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.123456", utc) + zone
    assert parse_age(f"{stamp} node1 kernel: {LINE}", NOW) == 60.0
    assert parse_age(f"2026-13-41T25:00:00{zone} kernel: {LINE}", NOW) is None


def test_old_line_of_a_log_file_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of last week in kern.log keeps its age, which reaches back beyond the boot."""
    log = tmp_path / "kern.log"
    old = time.strftime("%b %d %H:%M:%S", time.localtime(time.time() - 6 * 86_400))
    log.write_text(f"{old} node1 kernel: [ 9.1] {LINE}\n")
    monkeypatch.setattr("envdoctor_probes.kernel_log._FILES", (str(log),))
    live = Roots()
    monkeypatch.setattr("envdoctor_probes.kernel_log._read_ring", lambda path: iter(Path(f"{path}.none").read_text()))
    (event,) = kernel_log.collect(Context(roots=live)).xids
    assert event.seconds_ago == pytest.approx(6 * 86_400, abs=3700)


def test_without_any_log_the_reasons_are_kept() -> None:
    """Nothing readable is unknown: every place that was tried is named, and what root can type."""
    fact = collect(kernel_log, {"proc/uptime": "1 1"})
    assert isinstance(fact, KernelLog)
    assert fact.readable is False
    assert "kmsg: No such file" in fact.unknown["xids"]
    assert "dmesg | grep NVRM" in fact.unknown["xids"]
