"""URLs lose their credentials in every output, on one's own machine as well."""

from __future__ import annotations

import re

# user:password@ and token@ between // and the host. A password may hold an unescaped "@" or, badly written, a "/".
# Lengths are bounded, so that a hostile text of many "://" takes linear time.
_USERINFO = re.compile(r"(?<=://)(?:[^\s/@\"'<>]{0,256}:(?!\d+(?:/|$))[^\s\"'<>]{0,2048}@|[^\s/\"'<>]{0,2048}@)")
_SECRET_KEY = r"[\w.-]{0,64}(?:token|secret|passw(?:or)?d|api[-_]?key|signature|credential|sig)[\w.-]{0,64}"  # noqa: S105
_QUERY = re.compile(rf"(?<=[?&;])({_SECRET_KEY})=[^&\s\"'#;]+", re.IGNORECASE)


def without_credentials(text: str) -> str:
    """Take user names, passwords and tokens out of the URLs in a text."""
    if "://" not in text:
        return text
    return _QUERY.sub(r"\1=***", _USERINFO.sub("***@", text))
