"""[payload] What may be a secret in the value of a variable, in a file's setting or on a command line, taken out."""

from __future__ import annotations

import re
from typing import Tuple

from envdoctor.facts.secret_names import SECRET_WORDS

__all__ = ["LONGEST_VALUE", "without_secrets", "without_secrets_in_command"]

LONGEST_VALUE = 4096

_SECRET_NAME = re.compile("|".join(SECRET_WORDS))
# Up to the last @: a password may hold anything, and hiding a path too much is better than a word too little.
_URL_USER = re.compile(r"(?<=://)\S*@")
_PLAIN_USER = re.compile(r"[^\s:/@,;='\"]+:(?!//)\S*@(?=[\w.\[-])")
_QUERY_SECRET = re.compile(r"(?i)([?&;][\w.-]*(?:token|secret|password|key|credential|auth|sig)[\w.-]*=)[^&\s]+")
_OPTION_NAME = re.compile(  # but not --tokenizer and --max-tokens
    r"(?i)-{1,2}[\w.-]*(?:token(?!iz|s)|secret|passw|key|credential|auth|jwt)[\w.-]*$"
    r"|[\w.+~]*(?:token|secret|passw(?:or)?d|key|credentials?|auth|jwt)$"
)


def without_secrets(name: str, value: str) -> Tuple[str, bool]:
    """Take out what can be a secret: all of it by the variable's name, else the credentials inside it."""
    if _SECRET_NAME.search(name.upper()):
        return "***", True
    cleaned = _QUERY_SECRET.sub(r"\1***", _PLAIN_USER.sub("***@", _URL_USER.sub("***@", value)))
    redacted = cleaned != value
    if len(cleaned) > LONGEST_VALUE:
        cleaned = f"{cleaned[:LONGEST_VALUE]}… ({len(cleaned) - LONGEST_VALUE} more characters)"
    return cleaned, redacted


def without_secrets_in_command(words: Tuple[str, ...]) -> str:
    """Give a command line as one line; the value of an option whose name speaks of a secret is left out."""
    shown = []
    hide_next = False
    for word in words:
        option, equals, _ = word.partition("=")
        speaks = _OPTION_NAME.match(option) is not None
        shown.append("***" if hide_next else f"{option}=***" if speaks and equals else without_secrets("", word)[0])
        hide_next = speaks and not equals and word.startswith("-")
    return without_secrets("", " ".join(shown))[0]
