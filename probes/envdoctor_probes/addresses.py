"""[payload] This machine's own addresses, and who listens at a port, without any command."""

from __future__ import annotations

import os
import socket
import struct
from typing import Iterator, Optional, Tuple

__all__ = ["own_addresses", "owner_of_port", "parse_if_inet6", "parse_listening"]

_SIOCGIFADDR = 0x8915
_LISTEN = "0A"


def own_addresses() -> Tuple[Tuple[str, str], ...]:
    """Give interface and address of each interface that has one, the newer family's last."""
    found = list(_ipv4())
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as file:
            found += parse_if_inet6(file.read())
    except OSError:
        return tuple(found)  # a kernel without the newer family
    return tuple(found)


def _ipv4() -> Iterator[Tuple[str, str]]:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, struct.pack("256s", name[:15].encode()))
            except OSError:
                continue  # it has none
            yield name, socket.inet_ntoa(answer[20:24])


def parse_if_inet6(text: str) -> Tuple[Tuple[str, str], ...]:
    """Read /proc/net/if_inet6; link-local addresses are left out, as nobody can be told to use one."""
    found = []
    for line in text.splitlines():
        parts = line.split()
        if len(parts) == 6 and not parts[0].startswith("fe8"):
            found.append((parts[5], socket.inet_ntop(socket.AF_INET6, bytes.fromhex(parts[0]))))
    return tuple(found)


def owner_of_port(port: int, proc: str = "/proc") -> Optional[str]:
    """Name who listens at a TCP port here, as far as we may see: ``python (pid 4711)``."""
    inodes = {each for name in ("tcp", "tcp6") for each in parse_listening(_table(proc, name), port)}
    if not inodes:
        return None
    for pid in filter(str.isdigit, os.listdir(proc)):
        if inodes & set(_sockets(os.path.join(proc, pid, "fd"))):
            return "%s (pid %s)" % (_name(proc, pid), pid)
    return "a process of another user or container"


def _table(proc: str, name: str) -> str:
    try:
        with open(os.path.join(proc, "net", name), encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""  # there is no such family


def parse_listening(text: str, port: int) -> Tuple[str, ...]:
    """Give the inodes of the sockets in /proc/net/tcp that listen at a port."""
    found = []
    for line in text.splitlines()[1:]:
        parts = line.split()
        if len(parts) > 9 and parts[3] == _LISTEN and int(parts[1].rpartition(":")[2], 16) == port:
            found.append(parts[9])
    return tuple(found)


def _sockets(folder: str) -> Iterator[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return  # another user's
    for each in names:
        try:
            target = os.readlink(os.path.join(folder, each))
        except OSError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            yield target[8:-1]


def _name(proc: str, pid: str) -> str:
    try:
        with open(os.path.join(proc, pid, "comm"), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "process"
