"""Pasted text -> facts, one file a format. Everything in such a text is untrusted: bounded, matched, never executed.

A reader is asked whether a text is its own (``recognises``) and then for the facts in it (``read``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.facts import key_of
from envdoctor.outcome import Got
from envdoctor.readers import collect_env, sglang_env
from envdoctor.readers.cleaning import cleaned
from envdoctor.snapshot import ProbeResult, Snapshot, Target, now

if TYPE_CHECKING:
    from envdoctor.facts import Fact

READERS = (collect_env, sglang_env)


class NotRecognised(Exception):  # noqa: N818 - an answer, and the caller's to word
    """No reader knows this text."""


def read(text: str, *, source: str) -> Snapshot:
    """Turn a pasted text into a snapshot of what it says; raises ``NotRecognised``.

    What the text does not carry is not there: rules that need it are skipped, never passed.
    """
    lines = cleaned(text)
    for reader in READERS:
        if reader.recognises(lines):
            return _snapshot(reader.read(lines), source)
    raise NotRecognised(source)


def _snapshot(facts: tuple[Fact, ...], source: str) -> Snapshot:
    told = tuple(ProbeResult(f"text-{key_of(type(f)).replace('_', '-')}", key_of(type(f)), Got()) for f in facts)
    return Snapshot(Target(source, "text"), created=now(), facts={key_of(type(f)): f for f in facts}, probes=told)
