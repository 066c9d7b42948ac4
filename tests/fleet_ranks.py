"""Ranks of ``envdoctor fleet`` as launchers start them, for the tests: their output, their exit codes, their end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envdoctor.fleet.board import BoardError, HttpBoard
from tests.command import environment, valid

SECONDS = 240.0  # for a machine that does much else
BY_HAND = "environment"  # what ranks call their run that no launcher has named
ENVDOCTOR = [sys.executable, "-m", "envdoctor"]
LAUNCHERS = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_",
    "MASTER_",
    "GROUP_",
    "SLURM_",
    "OMPI_",
    "PMI",
    "TORCHELASTIC_",
    "NCCL_",
    "GLOO_",
)


def clean(**more: str) -> dict[str, str]:
    """Give this environment without any launcher's variables, and with ``more``."""
    return {
        name: value for name, value in environment(**more).items() if name in more or not name.startswith(LAUNCHERS)
    }


@dataclass
class Ended:
    """How a process ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> Any:
        """Give the report on stdout, which must be one valid document of ours."""
        assert self.out.strip(), self.err[-3000:]
        return valid(self.out)

    @property
    def titles(self) -> list[str]:
        """Give the titles of errors and warnings."""
        return [each["title"] for each in self.report["findings"] if each["severity"] != "info"]


@dataclass
class Group:
    """Processes under way, by rank; each in a session of its own."""

    processes: dict[int, subprocess.Popen[str]] = field(default_factory=dict)

    def add(self, rank: int, process: subprocess.Popen[str]) -> None:
        """Take another one."""
        self.processes[rank] = process

    def end(self, seconds: float = SECONDS) -> dict[int, Ended]:
        """Wait for all and give how each ended."""
        until = time.monotonic() + seconds
        found = {}
        for rank, process in self.processes.items():
            out, err = process.communicate(timeout=max(1.0, until - time.monotonic()))
            found[rank] = Ended(process.returncode, out, err)
        return found

    def kill(self) -> None:
        """Leave nothing."""
        for process in self.processes.values():
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()


@contextlib.contextmanager
def group() -> Iterator[Group]:
    """Give a group that is ended whatever happens."""
    made = Group()
    try:
        yield made
    finally:
        made.kill()


def by_hand(
    made: Group, world: int, port: int, cwd: Path, *options: str,
    own: Callable[[int], Mapping[str, str]] = lambda _rank: {}, ranks: Sequence[int] | None = None,
) -> None:  # fmt: skip
    """Start ranks as a person or an operator does: torch's four variables are set, nobody keeps a store."""
    for rank in range(world) if ranks is None else ranks:
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
        environ = clean(MASTER_ADDR="127.0.0.1", **{name: str(value) for name, value in told.items()}, **own(rank))
        made.add(rank, start([*ENVDOCTOR, "fleet", "--format", "json", *options], environ, cwd))


def start(command: Sequence[str], environ: Mapping[str, str], cwd: Path) -> subprocess.Popen[str]:
    """Start a process of its own session, its streams kept."""
    return subprocess.Popen(
        list(command), env=dict(environ), cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def torchrun(
    cwd: Path, *options: str, ranks: int = 4, each: str = "", launcher: Sequence[str] = (), **environ: str
) -> Ended:
    """Run a fleet under torchrun. ``each`` is shell text that every rank runs first, with its RANK set.

    torchrun ends all ranks as soon as one has failed, so that the shell around each must outlive that: its exit code
    is left in ``cwd/code.RANK``.
    """
    inside = " ".join((*ENVDOCTOR, "fleet", "--format", "json", *options))
    script = cwd / "rank.sh"
    script.write_text(f"#!/bin/sh\ntrap : TERM\n{each}\n{inside}\ncode=$?\necho $code > {cwd}/code.$RANK\nexit $code\n")
    script.chmod(0o755)
    command = launcher or [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--no-python"]
    with group() as made:
        made.add(0, start([*command, str(script)], clean(**environ), cwd))
        return made.end()[0]


def codes(cwd: Path) -> dict[str, str]:
    """Give the exit code of each rank that ended by itself."""
    return {each.suffix[1:]: each.read_text().strip() for each in cwd.glob("code.*")}


def free_port() -> int:
    """Give a port of the loopback that is free now."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_for_notices(made: Group, port: int, *keys: str, seconds: float = SECONDS) -> None:
    """Wait until all of these notices are on the board of ranks that were started by hand, while all of them live."""
    until = time.monotonic() + seconds
    with contextlib.closing(HttpBoard(BY_HAND, "127.0.0.1", port)) as board:
        while not _has(board, keys):
            ended = {rank: process.returncode for rank, process in made.processes.items() if process.poll() is not None}
            assert not ended, f"ended before {keys}: {ended}"
            assert time.monotonic() < until, f"not all of {keys} within {seconds:g} s"
            time.sleep(0.1)


def _has(board: HttpBoard, keys: Sequence[str]) -> bool:
    with contextlib.suppress(BoardError):  # it is not open yet
        return len(board.look(keys)) == len(keys)
    return False


def on(report: Any, id_: str) -> dict[str, str]:
    """Give the findings of one rule: who has each, by subject."""
    return {
        each["subject"]: each["on"]["ranks"] if each["on"] else "" for each in report["findings"] if each["id"] == id_
    }


def left_running(mark: str) -> list[str]:
    """Name the processes that have a mark in their environment: there should be none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue
    return found


def plug_in(folder: Path, body: str, seconds: float = 30.0) -> str:
    """Install a plug-in with one probe into a folder; give what to set PYTHONPATH to."""
    info = folder / "sick-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sick\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[envdoctor.probes]\nsick = sick_probe:sick\n")
    (folder / "sick_probe.py").write_text(
        "import os, time\nfrom dataclasses import dataclass\nfrom envdoctor.facts import Fact\n"
        "from envdoctor.probe import Context, probe\n\n@dataclass(frozen=True)\nclass Sick(Fact):\n    pass\n\n"
        f"@probe(seconds={seconds})\ndef sick(context: Context) -> Sick:\n    {body}\n    return Sick()\n"
    )
    return str(folder)


def dumped(value: Any) -> str:
    """Give a value as JSON, for a message."""
    return json.dumps(value, indent=1)[:4000]
