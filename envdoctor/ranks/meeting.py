"""A place where the ranks of one job leave each other a few small things: the store that torch keeps for them.

It is the store of the process group where there is one, else that of the launcher; ours lies below a prefix of its own.
Nothing blocks: a key is looked for again and again until the deadline, so that Ctrl-C comes through.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envdoctor.ranks.launched import Place

FIRST_NAP, LONGEST_NAP = 0.002, 0.1
PREFIX = "envdoctor"
# A counter beside each key tells that it is there: torch shows a store's check() to Python only since 2.3.
THERE = "/there"


class Lost(Exception):  # noqa: N818 - what happened, in words
    """The store does not answer any more, or cannot do what is needed."""


class NowhereToMeet(Exception):  # noqa: N818 - what is missing, in words
    """The ranks have nothing in common to speak through."""


@dataclass
class Meeting:
    """One round of words between ``world_size`` ranks. ``deadline`` is on the monotonic clock."""

    store: Any
    rank: int
    world_size: int
    deadline: float

    def put(self, key: str, value: bytes) -> None:
        """Leave something for the others."""
        self._ask("set", key, value)
        self.count(key + THERE)

    def get(self, key: str, until: float | None = None) -> bytes | None:
        """Wait for a key until the deadline, or ``until`` if that is sooner; None when it did not come."""
        end, nap = self.deadline if until is None else min(self.deadline, until), FIRST_NAP
        while not self.has(key):
            left = end - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(nap, left))
            nap = min(nap * 1.5, LONGEST_NAP)
        value: bytes = self._ask("get", key)
        return value

    def has(self, key: str) -> bool:
        """Tell whether a key is there."""
        return bool(self._ask("check", [key])) if hasattr(self.store, "check") else self.count(key + THERE, 0) > 0

    def count(self, key: str, more: int = 1) -> int:
        """Add to a counter and give its new value; 0 only reads it."""
        return int(self._ask("add", key, more))

    def settle(self, key: str, value: bytes) -> bytes:
        """Decide something once for all: give what was decided first, be it this or another rank's word."""
        settled = bytes(self._ask("compare_set", key, "", value.decode()))
        self.count(key + THERE)
        return settled

    def wait_for_all(self, key: str) -> bool:
        """Wait until every rank has counted itself under this key; False when the time is over before that."""
        nap = FIRST_NAP
        while self.count(key, 0) < self.world_size:
            left = self.deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(nap, left))
            nap = min(nap * 1.5, LONGEST_NAP)
        return True

    def forget(self, keys: Iterable[str]) -> None:
        """Take keys away again; a store that cannot keeps them."""
        for key in keys:
            try:
                self.store.delete_key(key + THERE)
                self.store.delete_key(key)
            except (RuntimeError, NotImplementedError, AttributeError):  # noqa: PERF203 - a FileStore, an old torch
                return

    def _ask(self, what: str, *arguments: Any) -> Any:
        try:
            return getattr(self.store, what)(*arguments)
        except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
            raise Lost(f"{type(error).__name__} in {what}: {str(error).strip().splitlines()[0][:200]}") from error


def meet(torch: Any, place: Place | None, seconds: float, name: str) -> Meeting:
    """Open a round under ``name``. Raises ``NowhereToMeet`` with what is missing, or ``Lost``.

    ``torch`` is the module as this process has imported it; None when it has not. No process group is made.
    """
    deadline = time.monotonic() + seconds
    dist = getattr(torch, "distributed", None)
    if dist is None or not dist.is_available():
        raise NowhereToMeet("torch is not imported here" if torch is None else "this torch has no torch.distributed")
    attempt = place.attempt if place else 0
    if dist.is_initialized() and dist.get_backend() == "fake":
        raise NowhereToMeet("the process group is a fake one")
    if dist.is_initialized():
        store, rank, size = _of_group(dist), int(dist.get_rank()), int(dist.get_world_size())
    elif place and place.launchers_store and place.address and place.port:
        store, rank, size = _of_launcher(dist, place, seconds), place.rank, place.world_size
    else:
        raise NowhereToMeet("there is no process group yet, and the launcher keeps no store")
    return Meeting(dist.PrefixStore(f"{PREFIX}/{attempt}/{name}", store), rank, size, deadline)


def _of_group(dist: Any) -> Any:
    """Give the store through which the ranks of the default group have met."""
    ask = getattr(getattr(dist, "distributed_c10d", None), "_get_default_store", None)
    if ask is None:
        raise NowhereToMeet("this torch does not show the store of its process group")
    try:
        return ask()
    except (RuntimeError, ValueError) as error:
        raise NowhereToMeet(f"the process group has no store: {error}") from error


def _of_launcher(dist: Any, place: Place, seconds: float) -> Any:
    """Join the launcher's own store as one more reader."""
    timeout = dt.timedelta(seconds=max(seconds, 1.0))
    try:
        return dist.TCPStore(place.address, place.port, is_master=False, timeout=timeout, wait_for_workers=False)
    except (RuntimeError, ValueError, TypeError) as error:
        said = str(error).strip().splitlines()[0][:200]
        raise Lost(f"the launcher's store at {place.address}:{place.port} cannot be joined: {said}") from error
