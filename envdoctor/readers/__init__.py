"""Pasted text -> facts, one file a format. Everything in such a text is untrusted: bounded, matched, never executed.

A reader is asked whether a text holds its format (``recognises``) and then for the facts in it (``read``). One text may
hold several formats: each reader sees the lines that those before it have not taken, and what is left is error text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from envdoctor.facts import Fact, fact_fields, key_of
from envdoctor.facts.text import NOT_CARRIED, ErrorText, Pasted, Wanted
from envdoctor.outcome import Got
from envdoctor.readers import (
    collect_env,
    conda_environment,
    dockerfile,
    error_text,
    issue_form,
    locks,
    nvidia_smi_query,
    nvidia_smi_table,
    package_lists,
    pyproject,
    requirements,
    sglang_env,
    single_lines,
)
from envdoctor.readers.cleaning import cleaned, decoded
from envdoctor.readers.merging import disagreements, merged
from envdoctor.readers.rewrapping import rewrapped
from envdoctor.snapshot import ProbeResult, Snapshot, Target, now

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from envdoctor.readers.reading import Reading

REPORTS = (collect_env, sglang_env, nvidia_smi_table, nvidia_smi_query, package_lists, issue_form, single_lines)
WANTS = (dockerfile, locks, pyproject, conda_environment)  # what would be installed; requirements know their name too
FORMATS = (
    "an envdoctor snapshot or report (JSON)", "python -m torch.utils.collect_env",
    "vLLM's and sglang's environment reports",
    "nvidia-smi", "nvidia-smi -q", "nvidia-smi -L", "the output of env", "pip list, pip freeze, uv pip list",
    "conda list", "a filled-in issue form",
    "a traceback or log", "a requirements or lock file", "a Dockerfile",
)  # fmt: skip


class NotRecognised(Exception):  # noqa: N818 - an answer, and the caller's to word
    """No reader knows this text."""


@dataclass(frozen=True)
class Text:
    """One given text, read: the facts in it, which formats they were in, and what is to be said about the reading."""

    source: str
    facts: tuple[Fact, ...]
    formats: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def is_wanted(self) -> bool:
        """Tell whether it is only about what would be installed."""
        return bool(self.facts) and all(isinstance(fact, Wanted) for fact in self.facts)

    @property
    def says_something(self) -> bool:
        """Tell whether there is more in it than words that may mean anything."""
        return any(not isinstance(fact, ErrorText) for fact in self.facts) or any(
            error_text.recognises(tuple(line.text for line in fact.lines))
            for fact in self.facts
            if isinstance(fact, ErrorText)
        )


def read(text: str | bytes, *, source: str) -> Snapshot:
    """Turn one pasted text into a snapshot of what it says; raises ``NotRecognised``."""
    return together([parse(text, source=source)])


def parse(text: str | bytes, *, source: str) -> Text:
    """Read every format that is in a text. What it does not carry is not there: rules that need it are skipped."""
    lines = cleaned(decoded(text) if isinstance(text, bytes) else text)
    readings = list(_readings(lines, source))
    facts = tuple(fact for each in readings for fact in each.facts)
    remarks = tuple(f"{source}: {remark}" for each in readings for remark in each.remarks)
    return Text(source, facts, tuple(each.name for each in readings), remarks)


def _readings(lines: tuple[str, ...], source: str) -> Iterator[Reading]:
    for wants in WANTS:
        if wants.recognises(lines):
            yield wants.read(lines, source)
            return
    if requirements.recognises(lines, source):
        yield requirements.read(lines, source)
        return
    lines = rewrapped(lines)
    if not any(reader.recognises(lines) for reader in REPORTS) and requirements.is_pinned(lines):
        yield requirements.read(lines, source)  # too short for a list of what is installed
        return
    for reader in REPORTS:
        if reader.recognises(lines):
            reading = reader.read(lines)
            yield reading
            lines = tuple("" if n in reading.used else line for n, line in enumerate(lines))
    if (last := error_text.read(lines, source)).facts:
        yield last


def together(texts: Iterable[Text], snapshot: Snapshot | None = None) -> Snapshot:
    """Make one snapshot of several texts, and of a saved one: what it measured goes before what a text says.

    Raises ``NotRecognised`` with the names of the texts when none of them says anything that can be judged.
    """
    texts = tuple(texts)
    told = any(text.says_something for text in texts)
    if not told and snapshot is None:
        raise NotRecognised(", ".join(text.source for text in texts))
    facts = [*(snapshot.facts.values() if snapshot else ()), *(fact for text in texts for fact in text.facts)]
    kept = merged(facts)
    if snapshot is None:
        kept = {kind: _with_reasons(fact) for kind, fact in kept.items()}
    return _snapshot(kept | {Pasted: _pasted(texts, facts)}, texts, snapshot)


def _with_reasons(fact: Fact) -> Fact:
    """Record for each empty field of a text's fact that such a text does not tell it: empty never means none."""
    empty = {name: NOT_CARRIED for name in fact_fields(type(fact)) if getattr(fact, name) in (None, ())}
    return replace(fact, unknown={**empty, **fact.unknown}) if empty else fact


def _pasted(texts: tuple[Text, ...], facts: list[Fact]) -> Pasted:
    formats = tuple((text.source, name) for text in texts for name in text.formats)
    remarks = [remark for text in texts for remark in text.remarks]
    remarks += [f"{text.source}: nothing in it was recognised" for text in texts if not text.says_something]
    return Pasted(formats=formats, remarks=(*remarks, *disagreements(facts)))


def _snapshot(facts: dict[type[Fact], Fact], texts: tuple[Text, ...], snapshot: Snapshot | None) -> Snapshot:
    by_key = {key_of(kind): fact for kind, fact in facts.items()}
    old = {each.fact: each for each in (snapshot.probes if snapshot else ())}
    probes = [old.get(key) or ProbeResult(f"text-{key.replace('_', '-')}", key, Got()) for key in by_key]
    probes += [each for key, each in old.items() if key not in by_key]
    name = " + ".join(dict.fromkeys((*([snapshot.target.key] if snapshot else []), *(text.source for text in texts))))
    if snapshot is None:
        return Snapshot(Target(name[:200], "text"), created=now(), facts=by_key, probes=tuple(probes))
    target = (
        snapshot.target
        if set(facts) - {type(f) for f in snapshot.facts.values()} <= {ErrorText, Pasted, Wanted}
        else replace(snapshot.target, kind="text")
    )
    return replace(snapshot, target=replace(target, key=name[:200]), facts=by_key, probes=tuple(probes))
