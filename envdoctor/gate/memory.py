"""Taking an earlier verdict of an unchanged machine, and keeping one for the next call."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from envdoctor.gate.fingerprint import fingerprint
from envdoctor.gate.kept import shelf

if TYPE_CHECKING:
    from envdoctor.finding import Report
    from envdoctor.gate.recalled import Recalled
    from envdoctor.rule import Rule


class Memory:
    """What is known of one question about this machine as it is now. ``notes`` says what went wrong with keeping it."""

    def __init__(self, cache: bool | str, **asked: Any) -> None:
        self._shelf = shelf(cache)
        self._key = fingerprint(json.dumps(asked, default=repr, sort_keys=True)) if self._shelf.folder else ""
        if self._shelf.why:
            self._shelf.notes.append(self._shelf.why)

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what could not be read or kept, and why."""
        return tuple(self._shelf.notes)

    def recall(self) -> Recalled | None:
        """Give the verdict that was kept for this question, if nothing that it rests on has changed."""
        found = self._shelf.find(self._key) if self._key else None
        if found is None:
            return None
        from envdoctor.gate.recalled import recalled

        try:
            return recalled(*found, notes=self.notes)
        except (KeyError, TypeError, ValueError) as error:
            self._shelf.notes.append(f"a kept verdict is ignored: it is not whole ({type(error).__name__}: {error})")
            return None

    def remember(self, report: Report, rules: tuple[Rule, ...]) -> None:
        """Keep this verdict for later calls, if it may speak for them."""
        from envdoctor.gate.fingerprint import libraries_of
        from envdoctor.gate.recalled import as_kept, worth_keeping

        if self._key and worth_keeping(report):
            self._shelf.keep(self._key, *as_kept(report, rules), libraries_of(report.snapshot))


def is_place(cache: object) -> bool:
    """Tell whether ``cache`` is True or names a directory."""
    return cache is True or (isinstance(cache, (str, os.PathLike)) and bool(os.fspath(cache)))


def place(cache: Any) -> bool | str:
    """Give what ``cache`` names in the form that is kept: True, or an absolute path."""
    return True if cache is True else os.path.abspath(os.fsdecode(os.fspath(cache)))
