"""Private values made comparable: a keyed hash tells whether two are the same, and nothing else.

The key is made anew for each run and known to its ranks alone. Neither it nor a hash is ever part of a snapshot or
report: what is reported is which ranks have the same value.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from envdoctor.facts.host import Environment
from envdoctor.facts.secret_names import SECRET_WORDS
from envdoctor.redact.urls import without_credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envdoctor.snapshot import Snapshot

SHOWN_BYTES = 8  # of the hash: of a million values no two look the same by chance, but once in 37 million runs
# Names that speak of a secret, of values that belong to one login: each machine has another.
SESSIONS_OWN = frozenset(("SSH_AUTH_SOCK", "XAUTHORITY", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_AUTHOR_DATE"))


def new_key() -> str:
    """Give a key for one run: 256 random bits in hexadecimal."""
    return secrets.token_hex(32)


def keyed_variables(environ: Mapping[str, str], snapshot: Snapshot, key: str) -> dict[str, str]:
    """Give the keyed hash of every variable with a private value, by name.

    Private is what its name or a URL in it marks as a secret, and what was taken out of the snapshot's variables.
    """
    found = snapshot.get(Environment)
    redacted = {each.name for each in found.variables if each.redacted} if found else set()
    return {
        name: _hash(key, name, value)
        for name, value in environ.items()
        if name not in SESSIONS_OWN and (name in redacted or is_private(name, value))
    }


def is_private(name: str, value: str) -> bool:
    """Tell whether a variable's value is not to be shown: by its name, or for credentials in a URL."""
    return any(word in name.upper() for word in SECRET_WORDS) or without_credentials(value) != value


def _hash(key: str, name: str, value: str) -> str:
    """Hash name and value together, so that the same value of two variables does not show as the same."""
    told = f"{name}\0{value}".encode("utf-8", "surrogateescape")
    return hmac.new(bytes.fromhex(key), told, hashlib.sha256).hexdigest()[: 2 * SHOWN_BYTES]
