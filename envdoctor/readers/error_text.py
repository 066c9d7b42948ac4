"""What is left of a text when its reports are read: a traceback, a log, or somebody's own words."""

from __future__ import annotations

import re

from envdoctor.facts.text import ErrorText, Words
from envdoctor.knowledge.errors import messages
from envdoctor.readers import quoted
from envdoctor.readers.reading import Reading

NAME = "error text"
MOST_LINES = 400
_TELLING = re.compile(
    r"error|exception|traceback|warn|fail|fatal|cannot|could ?n.t|unable"
    r"|not (?:found|supported|compatible|available|defined|used|work)"
    r"|undefined symbol|no such file|denied|killed|segfault|segmentation|core dumped|abort|hang|stuck|freez|timed? ?out"
    r"|mismatch|invalid|unsupported|xid|nvrm|io_page_fault|\becc\b|incompatible|too old|is_available|missing|assert"
    r"|panic|refused|corrupt|inaccurate|explodes|differences",
    re.IGNORECASE,
)
_PATH = re.compile(r"python(\d\.\d{1,2})[/\\](?:site|dist)-packages")
_FOREIGN = re.compile(r"^\s{0,20}(?:\[pip3?\]|\[conda\]|Flags:|Vulnerability )")


def recognises(lines: tuple[str, ...]) -> bool:
    """Tell whether a line sounds like trouble, or is a message that is known."""
    return any(map(_TELLING.search, lines)) or any(each.pattern.search(line) for line in lines for each in messages())


def read(lines: tuple[str, ...], source: str = "the pasted text") -> Reading:
    """Give the lines that tell something, at most four hundred: of more, the first and last that sound like trouble."""
    said = [line.strip() for line in lines if line.strip() and not _FOREIGN.match(line)]
    kept = said
    if len(said) > MOST_LINES:
        telling = [line for line in said if _TELLING.search(line)]
        half = MOST_LINES // 2
        kept = telling if len(telling) <= MOST_LINES else [*telling[:half], *telling[-half:]]
    words = tuple(Words(line[:1000], source) for line in kept)
    versions = tuple(dict.fromkeys(found for line in kept for found in _PATH.findall(line)))[:8]
    fact = ErrorText(lines=words, python_versions=versions, left_out=len(said) - len(kept))
    return Reading(NAME, (fact, *quoted.facts(tuple(kept))) if words else ())
