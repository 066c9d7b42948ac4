"""A real sshd on 127.0.0.1, with keys made for the test, a configuration and a port of its own; ended by its id."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SSHD = "/usr/sbin/sshd"
_CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
LogLevel VERBOSE
{more}
"""


@dataclass(frozen=True)
class Server:
    """A running sshd: where its keys lie, its port and its process."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    def way(self, *options: str, key: str = "user", known: str = "known", port: int = 0, more: str = "") -> str:
        """Give the words of ``--via`` that lead there, with no configuration of the user's."""
        files = ("-i", f"{self.folder}/{key}", "-o", f"UserKnownHostsFile={self.folder}/{known}")
        own = (
            "ssh",
            "-F",
            "none",
            *files,
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "IdentityAgent=none",
            "-p",
            str(port or self.port),
        )
        return shlex.join([*own, *options, "127.0.0.1"]) + (f" {more}" if more else "")

    def sessions(self) -> list[int]:
        """Give the processes that serve a connection right now."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(each) for each in children]


def installed() -> None:
    """Install Debian's openssh-server where this user may, or skip."""
    if shutil.which("ssh") is None:
        pytest.skip("there is no ssh here")
    if not Path(SSHD).exists():
        if os.geteuid() or shutil.which("apt-get") is None:
            pytest.skip("there is no sshd here, and this user cannot install one")
        quiet = {"DEBIAN_FRONTEND": "noninteractive", **os.environ}
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "openssh-server"]
        for command in (["apt-get", "update", "-qq"], install):
            done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False, timeout=240)
            if done.returncode:
                pytest.skip(f"sshd cannot be installed: {done.stderr.strip()[-200:]}")


@contextlib.contextmanager
def server(folder: Path, more: str = "") -> Iterator[Server]:
    """Start an sshd and end it. ``more``: further lines of its configuration."""
    installed()
    for name in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    port = _free_port()
    (folder / "config").write_text(_CONFIG.format(port=port, folder=folder, more=more))
    host = (folder / "host.pub").read_text().split()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host[0]} {host[1]}\n")
    if not os.geteuid():
        Path("/run/sshd").mkdir(exist_ok=True)  # where an unprivileged sshd lives; made by its service otherwise
    with (folder / "log").open("wb") as log:
        # Without our mark: what a session leaves behind is looked for by it, the server itself is not.
        environ = {name: value for name, value in os.environ.items() if name != "STAND_MARK"}
        process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", folder / "config"], stderr=log, stdin=subprocess.DEVNULL, env=environ
        )
    try:
        _wait_for(port, process, folder / "log")
        yield Server(folder, port, process)
    finally:
        process.terminate()
        process.wait(10)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 20.0
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.05)
    pytest.skip(f"sshd does not start here: {log.read_text(errors='replace')[-300:]}")
