"""What the words of a text count beside the facts: believed, doubted, and joined with what the facts say themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from envdoctor.finding import Confidence, Finding, Severity

if TYPE_CHECKING:
    from envdoctor.facts.packages import Packages
    from envdoctor.facts.text import ErrorText

CONTRADICTED = "The facts that were given do not show it: the text may be of another environment, or of another moment."


def doubts(words: ErrorText | None, packages: Packages | None, *, passed: bool) -> str:
    """Say what speaks against a text here: its rule saw nothing wrong (``passed``), or another Python printed it."""
    if passed:
        return CONTRADICTED
    ours = ".".join(((packages.python_version if packages else None) or "").split(".")[:2])
    theirs = words.python_versions if words else ()
    if not ours or not theirs or ours in theirs:
        return ""
    return f"Python {' and '.join(theirs)} printed it, and the packages are those of Python {ours}."


def doubted(finding: Finding, doubt: str) -> Finding:
    """Make a finding a lead only, and say why."""
    severity = Severity.WARNING if finding.severity is Severity.ERROR else finding.severity
    detail = f"{finding.detail} {doubt}".strip()
    return replace(finding, detail=detail, severity=severity, confidence=Confidence.POSSIBLE)


def joined(found: tuple[Finding, ...], heard: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Put what the words say to what the facts say; two findings about one subject become one."""
    kept = {each.key: each for each in found}
    for each in heard:
        key = each.key if each.key in kept or len(kept) != 1 else next(iter(kept))
        other = kept.get(key)
        kept[key] = each if other is None else _both(other, each)
    return tuple(kept.values())


def _both(facts: Finding, words: Finding) -> Finding:
    """Keep the worse and the surer of the two, with all the evidence; where the words make it worse, their title."""
    worse = _rank(words) < _rank(facts)
    evidence = (*facts.evidence, *(each for each in words.evidence if each not in facts.evidence))
    return replace(
        words if worse else facts,
        subject=facts.subject,
        evidence=evidence,
        confidence=min(facts.confidence, words.confidence, key=list(Confidence).index),
        fixes=facts.fixes or words.fixes,
        caused_by=tuple(dict.fromkeys((*facts.caused_by, *words.caused_by))),
    )


def _rank(finding: Finding) -> int:
    return finding.severity.rank if finding.severity else 0
