"""What a check compares a machine with: a baseline, a snapshot, a report, a benchmark's result, or a lock file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from envdoctor.cli import keeping, saved

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from envdoctor.cli.catalogue import Catalogue
    from envdoctor.facts.drift import Drift
    from envdoctor.lock import Lock
    from envdoctor.snapshot import Snapshot

OWN = "own"  # the baseline of whoever is examined: which one that is, is known when it is


@dataclass(frozen=True)
class Against:
    """One thing to compare with, read and valid. Neither given: the baseline of whoever is examined."""

    catalogue: Catalogue
    snapshot: Snapshot | None = None
    lock: Lock | None = None
    source: str = ""
    strict: bool = False

    def drift(self, now: Snapshot) -> Drift:
        """Say how far a machine is from it."""
        from envdoctor import drift

        if self.lock:
            return drift.from_lock(self.lock, now, strict=self.strict)
        then, source = (self.snapshot, self.source) if self.snapshot else keeping.current(now, self.catalogue)
        return drift.from_baseline(then, now, source, strict=self.strict, speeds=_speeds(then, now))


def read(given: Mapping[str, Any], catalogue: Catalogue) -> Against | None:
    """Read what ``--against`` names, before anything is collected; None when nothing is named."""
    file, strict = given.get("against"), bool(given.get("strict"))
    if not file:
        if strict:
            raise click.UsageError("--strict says how to compare: name what to compare with, --against FILE")
        return None
    if file is OWN:
        keeping.check_any()
        return Against(catalogue, strict=strict)
    from envdoctor import lock

    text = saved.content(file, "--against")
    if not lock.is_lock(text):
        return Against(catalogue, saved.parse(text, file, catalogue, "--against"), source=file, strict=strict)
    try:
        return Against(catalogue, lock=lock.parse(text, file), source=file, strict=strict)
    except lock.LockError as error:
        raise click.UsageError(f"--against: {error}") from None


def _speeds(then: Snapshot, now: Snapshot) -> Any:
    """Compare what both have measured; None when one of them has measured nothing."""
    if not all(any(key.startswith("bench_") for key in each.facts) for each in (then, now)):
        return None
    from envdoctor.bench.compare import compare
    from envdoctor.bench.result import result_of
    from envdoctor.diagnose import examine

    return compare(*(result_of(examine(each, ())) for each in (then, now)))
