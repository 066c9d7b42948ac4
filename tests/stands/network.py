"""Emulated hosts on one machine: network namespaces on a switch of their own, each with its own name and hosts file.

The machine's own network is not touched. Root, iproute2 and, for some faults, nftables are needed. Everything made here
is named by the process that made it, and is taken away again with all processes inside.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

NEEDED = ("ip", "unshare")


class Network:
    """``count`` hosts ``node1``, ``node2`` … with addresses 10.99.0.1, 10.99.0.2 … on ``eth0``."""

    def __init__(self, count: int) -> None:
        self.prefix, self.count = f"edf{os.getpid()}", count

    def up(self) -> None:
        """Make them."""
        switch = f"{self.prefix}-sw"
        _run("ip", "netns", "add", switch)
        self._in(switch, "ip", "link", "add", "br0", "type", "bridge")
        self._in(switch, "ip", "link", "set", "br0", "up")
        names = "".join(f"10.99.0.{n} node{n}\n" for n in range(1, self.count + 1))
        for number in range(1, self.count + 1):
            space = self.space(number)
            _run("ip", "netns", "add", space)
            pair = ("type", "veth", "peer", "name", "eth0", "netns", space)
            _run("ip", "link", "add", f"v{number}", "netns", switch, *pair)
            self._in(switch, "ip", "link", "set", f"v{number}", "master", "br0", "up")
            self._in(space, "ip", "addr", "add", f"10.99.0.{number}/24", "dev", "eth0")
            for each in ("eth0", "lo"):
                self._in(space, "ip", "link", "set", each, "up")
            self.hosts(number, f"127.0.0.1 localhost\n{names}")

    def down(self) -> None:
        """Take them away, with whatever still runs inside."""
        for space in (*map(self.space, range(1, self.count + 1)), f"{self.prefix}-sw"):
            found = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True, check=False)
            for pid in found.stdout.split():
                subprocess.run(["kill", "-9", pid], capture_output=True, check=False)
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)
            shutil.rmtree(f"/etc/netns/{space}", ignore_errors=True)

    def space(self, number: int) -> str:
        """Name the namespace of a host."""
        return f"{self.prefix}-h{number}"

    def hosts(self, number: int, text: str) -> None:
        """Write what a host's /etc/hosts says."""
        folder = Path("/etc/netns", self.space(number))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts").write_text(text)

    def start(
        self, number: int, command: Sequence[str], environ: Mapping[str, str], cwd: Path, name: str = ""
    ) -> subprocess.Popen[str]:
        """Start a command on a host, under the host's own name."""
        entered = ["ip", "netns", "exec", self.space(number), "unshare", "--uts"]
        named = ["sh", "-c", f'hostname {name or f"node{number}"}; exec "$@"', "sh", *command]
        return subprocess.Popen(
            [*entered, *named], env=dict(environ), cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def mtu(self, number: int, size: int) -> None:
        """Make a host's interface carry packets of this size at most."""
        self._in(self.space(number), "ip", "link", "set", "eth0", "mtu", str(size))

    def cut(self, number: int) -> None:
        """Take a host's link away."""
        self._in(self.space(number), "ip", "link", "set", "eth0", "down")

    def rate(self, number: int, rate: str) -> None:
        """Slow a host's link down: ``2mbit``."""
        bucket = ("root", "tbf", "rate", rate, "burst", "16kb", "latency", "400ms")
        self._in(self.space(number), "tc", "qdisc", "add", "dev", "eth0", *bucket)

    def one_packet_at_a_time(self) -> None:
        """Have no host put several packets into one for the driver to part: what drops large packets would see that."""
        for number in range(1, self.count + 1):
            self._in(self.space(number), "ip", "link", "set", "eth0", "gso_max_segs", "1")

    def drop(self, number: int, *what: str) -> None:
        """Drop incoming packets: ``tcp dport 29500``, ``ip length > 1400``, ``ip saddr 10.99.0.2``."""
        inside = self.space(number)
        self._in(inside, "nft", "add", "table", "ip", "edr")
        self._in(inside, "nft", "add", "chain", "ip", "edr", "i", "{ type filter hook input priority 0; }")
        self._in(inside, "nft", "add", "rule", "ip", "edr", "i", *what, "drop")

    def _in(self, space: str, *command: str) -> None:
        _run("ip", "netns", "exec", space, *command)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


@contextmanager
def network(count: int, *tools: str) -> Iterator[Network]:
    """Give emulated hosts, or skip the test where they cannot be made."""
    missing = [each for each in (*NEEDED, *tools) if shutil.which(each) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root and {', '.join(missing or NEEDED)}")
    made = Network(count)
    try:
        try:
            made.up()
        except OSError as error:
            pytest.skip(f"network namespaces cannot be made here: {error}")
        yield made
    finally:
        made.down()


PYTHON = sys.executable
