"""One rank's own facts and what the first rank of its node found for the whole machine, put together."""

from __future__ import annotations

import msgspec


class _Named(msgspec.Struct):
    name: str = ""


class _Parts(msgspec.Struct):
    facts: dict[str, msgspec.Raw] = {}
    probes: list[msgspec.Raw] = []


_PARTS = msgspec.json.Decoder(_Parts)
_WHOLE = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NAMED = msgspec.json.Decoder(_Named)


def merged(own: bytes, leader: bytes | None) -> bytes:
    """Give a rank's snapshot with what it did not ask itself taken from the first rank of its node.

    Text that is no snapshot is given back as it is: whoever reads it will say so.
    """
    if leader is None:
        return own
    try:
        mine, theirs, whole = _PARTS.decode(own), _PARTS.decode(leader), _WHOLE.decode(own)
        asked = {_NAMED.decode(each).name for each in mine.probes}
        more = [each for each in theirs.probes if _NAMED.decode(each).name not in asked]
    except msgspec.DecodeError:
        return own
    facts = {key: each for key, each in theirs.facts.items() if key not in mine.facts}
    whole["facts"] = msgspec.Raw(msgspec.json.encode({**mine.facts, **facts}))
    whole["probes"] = msgspec.Raw(msgspec.json.encode([*mine.probes, *more]))
    return msgspec.json.encode(whole)
