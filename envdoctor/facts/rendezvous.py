"""[payload] Where the ranks of a job are to meet, and whether this one can get there."""

from __future__ import annotations

from typing import Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.dataclass import dataclass


@dataclass(frozen=True)
class Rendezvous(Fact):
    """The meeting point as this rank sees it, tried before anything is joined.

    ``reached``: ``listening`` (this rank is the host, and can be), ``taken`` (it is the host, and the port is not
    free), ``connected``, ``refused``, ``timed-out``, ``unreachable``, ``failed``. ``large`` and ``large_in_small``:
    whether 64 KiB came back through the connection, in packets as large as they may be and in packets of 536 bytes.
    """

    rank: Optional[int] = read_from("RANK and its like")
    several_nodes: Optional[bool] = read_from("RANK, LOCAL_RANK, WORLD_SIZE and their like")
    address: Optional[str] = read_from("MASTER_ADDR")
    port: Optional[int] = read_from("MASTER_PORT")
    hosted_here: Optional[bool] = read_from("RANK, TORCHELASTIC_USE_AGENT_STORE")
    resolved: Tuple[str, ...] = read_from("getaddrinfo(MASTER_ADDR)", ())
    resolve_error: Optional[str] = read_from("getaddrinfo(MASTER_ADDR)")
    own_addresses: Tuple[Tuple[str, str], ...] = read_from("SIOCGIFADDR, /proc/net/if_inet6", ())  # interface, address
    own_name: Optional[str] = read_from("gethostname", private=True)
    own_name_resolved: Tuple[str, ...] = read_from("getaddrinfo(gethostname())", ())
    own_name_error: Optional[str] = read_from("getaddrinfo(gethostname())")
    reached: Optional[str] = read_from("bind, connect")
    words: Optional[str] = read_from("bind, connect")
    seconds: Optional[float] = read_from("connect")
    port_owner: Optional[str] = read_from("/proc/net/tcp, /proc/*/fd")  # "python (pid 4711)"
    source_address: Optional[str] = read_from("getsockname")
    interface: Optional[str] = read_from("getsockname against the interfaces")
    mtu: Optional[int] = read_from("/sys/class/net/*/mtu")
    answers_as: Optional[str] = read_from("its first words")  # envdoctor, something-else, silent
    large: Optional[bool] = read_from("64 KiB to the meeting point and back")
    large_in_small: Optional[bool] = read_from("64 KiB in packets of 536 bytes (TCP_MAXSEG)")
    chosen: Tuple[Tuple[str, str], ...] = read_from("GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME", ())  # variable, value

    def address_of(self, interface: str) -> Optional[str]:
        """Give the address of one interface, or None when it has none or is not there."""
        for name, address in self.own_addresses:
            if name == interface:
                return address
        return None
