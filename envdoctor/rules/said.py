"""What witnesses share: to find words in a text, to quote them, and to say how far they are to be believed here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from envdoctor.facts.packages import Packages
from envdoctor.facts.text import ErrorText
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity
from envdoctor.knowledge.errors import message

QUOTED = 300
MESSAGE = re.compile(r"[a-z]+[a-z0-9]*(?:-[a-z0-9]+)*")


@dataclass(frozen=True)
class Heard:
    """A line that says something: the match, and the line as evidence."""

    match: re.Match[str]
    evidence: Evidence

    @property
    def words(self) -> str:
        """The whole line."""
        return self.match.string


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def hear(words: ErrorText | None, *patterns: str) -> Heard | None:
    """Find the first line in which one of the patterns is, whatever its case; the order of the patterns counts."""
    for pattern in map(_compiled, patterns):
        if found := _first(words, pattern):
            return found
    return None


def hear_message(words: ErrorText | None, *ids: str) -> Heard | None:
    """Find the first line that is one of these messages of the table."""
    for each in ids:
        if found := _first(words, message(each).pattern):
            return found
    return None


def _first(words: ErrorText | None, pattern: re.Pattern[str]) -> Heard | None:
    for line in words.lines if words else ():
        if match := pattern.search(line.text):
            return Heard(match, Evidence("error_text.lines", line.text[:QUOTED], line.source, "file", "the text says"))
    return None


def sure(words: ErrorText | None, packages: Packages | None) -> Confidence:
    """Say how far the words count for this environment: less when another Python printed them."""
    ours = (packages.python_version or "") if packages else ""
    minor = ".".join(ours.split(".")[:2])
    if words and words.python_versions and minor and minor not in words.python_versions:
        return Confidence.POSSIBLE
    return Confidence.LIKELY


def lead(
    heard: Heard,
    title: str,
    *fixes: Fix,
    detail: str = "",
    also: tuple[Evidence, ...] = (),
    confidence: Confidence = Confidence.LIKELY,
    severity: Severity | None = None,
    subject: str = "",
) -> Finding:
    """Make a finding of words: the line first, then the facts that speak for it."""
    return Finding(
        title, detail, (heard.evidence, *also), fixes, subject=subject, severity=severity, confidence=confidence
    )
