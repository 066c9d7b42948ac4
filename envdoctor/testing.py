"""For authors of plug-ins: test a rule with literal facts and a probe on a recorded tree, in one line each.

    assert check(scratch_disk_full, ScratchDisk(free_mib=10)).fired
    assert ScratchDisk(free_mib=10) == collect(scratch_disk, {"proc/mounts": "…"})

Both go the way a run goes: the rule through ``examine``, the probe's fact through JSON and back.
"""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from envdoctor.facts import Fact
    from envdoctor.finding import Finding, Status
    from envdoctor.probe import Probe, Ran
    from envdoctor.rule import Rule

__all__ = ["Checked", "check", "collect"]


@dataclass(frozen=True)
class Checked:
    """What one rule said: ``status`` and ``reason`` as in a report's checks, and its findings, completed."""

    status: Status
    reason: str
    findings: tuple[Finding, ...]

    @property
    def fired(self) -> bool:
        """Tell whether the rule found something."""
        return bool(self.findings)

    @property
    def finding(self) -> Finding:
        """Give the only finding; raises ``AssertionError`` when there is none or more than one."""
        if len(self.findings) != 1:
            raise AssertionError(f"expected one finding, got {len(self.findings)} ({self.status.value}: {self.reason})")
        return self.findings[0]


def check(rule: Rule, *facts: Fact, level: str = "standard") -> Checked:
    """Run one rule over these facts. A fact that is not given is one that was not collected."""
    from envdoctor.diagnose import examine
    from envdoctor.snapshot import of

    report = examine(of(*facts, level=level), (rule,))
    return Checked(report.checks[0].status, report.checks[0].reason, report.findings)


def collect(
    probe: Probe,
    tree: Mapping[str, str | bytes] | Path,
    *,
    environ: Mapping[str, str] | None = None,
    path: Sequence[str] = (),
    commands: Mapping[str, Ran] | None = None,
    facts: Mapping[str, Fact] | None = None,
) -> Fact:
    """Run a probe in this process on a recorded machine, and give its fact as a snapshot would hold it.

    Args:
        probe: what ``@probe`` made.
        tree: the machine: a directory that holds ``proc``, ``sys``, ``dev``, ``etc``, ``run``, or the contents of
            files by path (``{"proc/version": "Linux …"}``), written to a directory that is removed afterwards.
        environ: the patient's environment; empty unless given.
        path: the patient's module search path; a relative entry lies in the tree.
        commands: what each command prints, by its command line (``{"lspci -n": Ran(0, "…")}``); any other is absent.
        facts: what earlier probes of the same process found, by key.

    Raises ``NotThere`` when the probe says that its subject is absent, and whatever the probe itself raises.
    """
    import msgspec

    from envdoctor.facts import key_of
    from envdoctor.probe import Context, Roots
    from envdoctor.snapshot import decode_fact

    with _on_disk(tree) as top:
        found = probe.collect(
            Context(
                roots=Roots.under(str(top)),
                path=tuple(str(top / each) for each in path),
                environ=dict(environ or {}),
                cwd=str(top),
                facts=dict(facts or {}),
                run=_answer_from(commands or {}),
            )
        )
    key = key_of(type(found))
    return decode_fact(key, msgspec.json.decode(msgspec.json.encode(found)), kinds={key: type(found)})


@contextlib.contextmanager
def _on_disk(tree: Mapping[str, str | bytes] | Path) -> Iterator[Path]:
    if isinstance(tree, Path):
        yield tree
        return
    with tempfile.TemporaryDirectory(prefix="envdoctor-tree-") as top:
        for name, content in tree.items():
            file = Path(top, name.lstrip("/"))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        yield Path(top)


def _answer_from(commands: Mapping[str, Ran]) -> Callable[[Sequence[str], float], Any]:
    from envdoctor.probe import NotThere

    def run(argv: Sequence[str], _seconds: float) -> Ran:
        if shlex.join(argv) not in commands:
            raise NotThere(f"{argv[0]} is not on this recorded machine")
        return commands[shlex.join(argv)]

    return run
