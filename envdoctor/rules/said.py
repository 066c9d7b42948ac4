"""What witnesses share: to find messages in a text, to quote them, and to say how far they are to be believed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from envdoctor.facts.packages import Packages
from envdoctor.facts.text import ErrorText, Words
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.errors import WORDS, Message, messages

BEFORE, QUOTED = 80, 300
NO_PACKAGES = Packages()  # what a fix is built from where a text names none: pip, and a Python called python


class Heard(msgspec.Struct, frozen=True):
    """A message in a line of the text."""

    message: Message
    match: re.Match[str]
    line: Words

    @property
    def text(self) -> str:
        """The whole line."""
        return self.line.text

    @property
    def evidence(self) -> Evidence:
        """The line, from a little before the message on where it is long."""
        start = max(0, self.match.start() - BEFORE) if len(self.text) > QUOTED else 0
        return Evidence(
            "error_text.lines", self.text[start : start + QUOTED], self.line.source, "file", "the text says"
        )

    @property
    def own_words(self) -> bool:
        """Tell what people write themselves from what programs print."""
        return self.message.category == WORDS

    @property
    def plain(self) -> bool:
        """Tell whether a program printed it and it names one fault alone; else it is a lead."""
        return len(self.message.findings) == 1 and not self.own_words


def hear(words: ErrorText | None, finding: str) -> Heard | None:
    """Find the message that speaks for a finding most plainly: a program's before a person's, then by likelihood."""
    found = (each for each in _every(words) if finding in each.message.findings)
    return min(found, key=lambda each: (each.own_words, each.message.findings.index(finding)), default=None)


def said(words: ErrorText | None, *ids: str) -> Heard | None:
    """Find the first line that holds one of these messages."""
    return next((each for each in _every(words) if each.message.id in ids), None)


def _every(words: ErrorText | None) -> Iterator[Heard]:
    if words is None or not words.lines:
        return
    for message, match, number in _matches(tuple(line.text for line in words.lines)):
        yield Heard(message, match, words.lines[number])


@lru_cache(maxsize=8)
def _matches(lines: tuple[str, ...]) -> tuple[tuple[Message, re.Match[str], int], ...]:
    """Look for every message in every line, once for all witnesses."""
    return tuple(
        (message, match, number)
        for number, line in enumerate(lines)
        for message in messages()
        if (match := message.pattern.search(line))
    )


def mention(words: ErrorText | None, pattern: str) -> Words | None:
    """Find the first line that speaks of something, whatever its case: a circumstance, not a message."""
    compiled = _compiled(pattern)
    return next((line for line in (words.lines if words else ()) if compiled.search(line.text)), None)


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def quote(line: Words) -> Evidence:
    """Make a line evidence."""
    return Evidence("error_text.lines", line.text[:QUOTED], line.source, "file", "the text says")


def lead(
    heard: Heard,
    title: str,
    *fixes: Fix,
    detail: str = "",
    also: tuple[Evidence, ...] = (),
    confirmed: bool | None = None,
    doubtful: bool = False,
    severity: Severity | None = None,
    subject: str = "",
    caused_by: tuple[str, ...] = (),
) -> Finding:
    """Make a finding of a message: the line first, then the facts that speak for it.

    ``confirmed``: facts show the same (one step surer), None: they do not speak of it; ``doubtful``: one step less
    sure. A lead is no error, and what a person wrote is info until facts confirm it; ``severity`` overrules that.
    """
    sure = max(0, heard.plain + (confirmed is True) - doubtful)
    confidence = (Confidence.POSSIBLE, Confidence.LIKELY, Confidence.CERTAIN)[sure]
    if severity is None and confidence is Confidence.POSSIBLE:
        severity = Severity.INFO if heard.own_words else Severity.WARNING
    if severity is None and heard.own_words:
        severity = Severity.WARNING
    return Finding(
        title, detail, (heard.evidence, *also), fixes,
        subject=subject, severity=severity, confidence=confidence, caused_by=caused_by,
    )  # fmt: skip


def built_with(build: TorchBuild | None) -> tuple[Evidence, ...]:
    """Show the CUDA of the build, where it is known."""
    return (see(build, "cuda", "torch was built with", f"CUDA {build.cuda}"),) if build and build.cuda else ()


def listed(packages: Packages | None, *names: str) -> tuple[Evidence, ...]:
    """Show which of these distributions the text lists."""
    found = [each for each in packages.distributions if each.name in names] if packages else []
    return tuple(see(packages, "distributions", each.name, each.version) for each in found if packages)
