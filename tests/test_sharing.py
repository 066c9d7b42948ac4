"""What is sent to strangers: the redacted snapshot with collect_env's layout, and the bug report in Markdown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from envdoctor import demo, readers, snapshot
from envdoctor.diagnose import examine
from envdoctor.facts.host import Host
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import TorchBuild
from envdoctor.redact import share_with_text
from envdoctor.render import collect_env, issue
from envdoctor.snapshot import Snapshot
from tests import canonical_reports as canonical
from tests.command import fresh, here


def read_back(text: str) -> Snapshot:
    """Read a text as ``check --from`` does."""
    return readers.together([readers.parse(text.encode(), source="x")], None)


@pytest.mark.parametrize("name", demo.ABOUT)
def test_layout_is_read_back_as_collect_env(name: str) -> None:
    """Our own reader of pasted collect_env reports finds the same torch, CUDA, driver, GPUs and packages in it."""
    recorded = demo.load(name)
    told = read_back(collect_env.render(recorded))
    build, there = told.get(TorchBuild), recorded.get(TorchBuild)
    assert there
    assert build
    assert (there.version, there.cuda) == (build.version, build.cuda)
    ours, theirs = recorded.get(Packages), told.get(Packages)
    assert ours
    assert theirs
    named = {each.name: each.version for each in theirs.distributions}
    assert {"torch"} <= set(named)
    assert [] == [name for name, version in named.items() if ours.version(name) != version]


def test_layout_has_the_lines_of_the_real_one() -> None:
    """Each line of the first part stands in the real collect_env's report under the same name, in the same order."""
    command = [sys.executable, "-c", "import torch.utils.collect_env as c; print(c.get_pretty_env_info())"]
    real = subprocess.run(command, capture_output=True, text=True, check=False)
    if real.returncode:
        pytest.skip("torch is not here")
    done = fresh("snapshot", "--level", "quick", "--share", "--python", sys.executable)
    ours = done.json["collect_env"].partition("\nCPU:")[0]
    names = [line.partition(":")[0] for line in ours.splitlines() if line]
    theirs = [line.partition(":")[0] for line in real.stdout.splitlines()]
    assert names == [each for each in theirs if each in names]
    same = ("PyTorch version", "CUDA used to build PyTorch", "ROCM used to build PyTorch", "Libc version")
    values = dict(line.split(": ", 1) for line in real.stdout.splitlines() if ": " in line)
    mine = dict(line.split(": ", 1) for line in ours.splitlines() if ": " in line)
    assert {each: values[each] for each in same} == {each: mine[each] for each in same}


def test_unknown_is_said_in_collect_envs_words() -> None:
    """A snapshot without facts is a whole report in which nothing could be collected."""
    text = collect_env.render(snapshot.of())
    assert "OS: Could not collect\n" in text
    assert "PyTorch version: N/A\n" in text


def test_hostile_facts_stay_on_their_lines() -> None:
    """No value starts a line of its own."""
    facts = (Host(os_name="a\nPyTorch version: 9.9"), Packages(distributions=(Distribution("torch", "1\n2"),)))
    text = collect_env.render(snapshot.of(*facts))
    assert 1 == text.count("\nPyTorch version") + text.startswith("PyTorch version")
    assert "[pip3] torch==1 2\n" in text


def test_issue_has_verdict_log_and_environment(tmp_path: Path) -> None:
    """One Markdown text: what to fill in, the log's end as it stood, verdict, environment, labels."""
    log = tmp_path / "train.log"
    log.write_text("x\n" * 300 + 'File "/home/mira/train.py", line 3\n    ```\nRuntimeError: boom\n')
    done = fresh("snapshot", "--level", "quick", "--issue", "--log", str(log))
    assert 0 == done.code
    assert "mira" not in done.out
    fences = [token.content for token in MarkdownIt("commonmark").parse(done.out) if token.type == "fence"]
    assert fences[0].endswith('File "/home/user-1/train.py", line 3\n    ```\nRuntimeError: boom\n')
    assert "PyTorch version: " in fences[-1]
    assert "the last 200 of 303 lines" in done.out
    assert "### envdoctor: " in done.out
    assert "Replaced by labels: " in done.out
    assert "envdoctor: replaced by labels: " in done.err


def test_log_comes_from_stdin() -> None:
    """``train.py 2>&1 | envdoctor snapshot --issue --log -`` needs no file."""
    done = fresh("snapshot", "--level", "quick", "--issue", "--log", "-", stdin="RuntimeError: boom\n")
    assert "RuntimeError: boom" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--log", "x.log"), "--log goes with --issue"),
        (("--issue", "--log", "/nowhere/x.log"), "--log: cannot read /nowhere/x.log: No such file or directory"),
    ],
)
def test_a_log_that_cannot_be_used_is_refused(arguments: tuple[str, ...], words: str) -> None:
    """Before anything is collected, with the reason."""
    done = here("snapshot", *arguments)
    assert (2, True) == (done.code, words in done.err)


def test_log_and_report_share_their_labels() -> None:
    """A name that stands in both has one label."""
    report = examine(snapshot.of(Host(hostname="gandalf.acme.example", system="Linux")))
    shared, log, removed = share_with_text(report, "ssh gandalf.acme.example failed", {})
    host = shared.snapshot.get(Host)
    assert host
    assert (f"ssh {host.hostname} failed", ["host-1"]) == (log, [each.label for each in removed])


def test_hostile_log_stays_in_its_block() -> None:
    """Fences, HTML and control characters of a log end neither the block nor the page."""
    log = "`````\n</details><img src=x>\n\x1b[2J\u202e\x00 end\n"
    text = issue.render(canonical.hostile(), log, ())
    tokens: list[Any] = MarkdownIt("commonmark", {"html": True}).parse(text)
    shown = next(token for token in tokens if token.type == "fence")
    assert "</details><img src=x>\n" in shown.content
    assert "\x1b" not in text
    assert text.encode("utf-8")


def test_a_megabyte_of_log_is_cut_to_its_end(tmp_path: Path) -> None:
    """Only the last lines are read and kept."""
    log = tmp_path / "big.log"
    log.write_bytes(os.urandom(500_000) + b"\n" + b"line\n" * 200_000 + b"the end\n")
    done = fresh("snapshot", "--level", "quick", "--issue", "--log", str(log))
    assert (0, True) == (done.code, "the end\n" in done.out)
    assert 100_000 > len(done.out)
