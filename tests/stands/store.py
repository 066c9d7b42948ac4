"""A store as torch keeps one for its ranks, in memory: what ``envdoctor.ranks.meeting`` asks of it, and no more."""

from __future__ import annotations

import threading
from collections.abc import Sequence


class Store:
    """Holds keys for ranks that are threads. ``broken`` names calls that fail."""

    def __init__(self, *broken: str) -> None:
        self.keys: dict[str, bytes] = {}
        self.broken = set(broken)
        self._lock = threading.Lock()

    def _may(self, call: str) -> None:
        if call in self.broken:
            raise RuntimeError(f"Connection reset by peer\nin {call}")

    def set(self, key: str, value: bytes) -> None:
        """Keep a value."""
        self._may("set")
        self.keys[key] = value

    def get(self, key: str) -> bytes:
        """Give a value that is there."""
        self._may("get")
        return self.keys[key]

    def check(self, keys: Sequence[str]) -> bool:
        """Tell whether all keys are there."""
        self._may("check")
        return all(each in self.keys for each in keys)

    def add(self, key: str, more: int) -> int:
        """Count."""
        self._may("add")
        with self._lock:
            total = int(self.keys.get(key, b"0")) + more
            self.keys[key] = str(total).encode()
            return total

    def compare_set(self, key: str, expected: str, desired: str) -> bytes:
        """Keep a value where the key is not there yet, and give what is there then."""
        self._may("compare_set")
        assert "" == expected
        with self._lock:
            return self.keys.setdefault(key, desired.encode())

    def delete_key(self, key: str) -> bool:
        """Take a key away."""
        self._may("delete_key")
        return self.keys.pop(key, None) is not None


class OldStore:
    """The store of a torch before 2.3, which has no ``check``."""

    def __init__(self) -> None:
        whole = Store()
        self.set, self.get, self.add = whole.set, whole.get, whole.add
        self.compare_set, self.delete_key, self.keys = whole.compare_set, whole.delete_key, whole.keys
