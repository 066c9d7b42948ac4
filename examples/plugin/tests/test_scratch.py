"""The example plug-in, tested as a third party would test it."""

from __future__ import annotations

from envdoctor_scratch.facts import ScratchMount
from envdoctor_scratch.probes import scratch_mount
from envdoctor_scratch.rules import scratch_not_mounted

from envdoctor.finding import Status
from envdoctor.testing import check, collect


def test_probe_finds_the_mount() -> None:
    """The probe reads device and type of /scratch from a recorded mount table."""
    tree = {"proc/mounts": "proc /proc proc rw 0 0\nmds@tcp:/fs /scratch lustre rw 0 0\n"}
    assert ScratchMount(mounted=True, device="mds@tcp:/fs", filesystem="lustre") == collect(scratch_mount, tree)


def test_rule_fires_without_a_mount() -> None:
    """A node without /scratch is warned about."""
    assert check(scratch_not_mounted, ScratchMount(mounted=False)).fired


def test_rule_is_silent_with_a_mount() -> None:
    """A node with /scratch passes."""
    assert Status.PASSED is check(scratch_not_mounted, ScratchMount(mounted=True)).status


def test_unreadable_mount_table_is_unknown() -> None:
    """A mount table that cannot be read is unknown, not healthy."""
    assert Status.UNKNOWN is check(scratch_not_mounted, collect(scratch_mount, {})).status
