"""Faults of the place where ranks meet, in words: each from what one rank saw of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from envdoctor.facts.rendezvous import Rendezvous
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.remedy.variables import administer, export, look, unset
from envdoctor.rules.names import match_names

LOOPBACK = ("127.", "::1")


def is_loopback(address: str) -> bool:
    """Tell whether an address is this machine's own and nobody else's."""
    return address.startswith(LOOPBACK)


def faults(met: Rendezvous) -> Iterator[Finding]:
    """Give what is wrong with the meeting point, and with what this rank will tell the others of itself."""
    yield from _meeting_point(met)
    yield from _interfaces(met)
    yield from _own_name(met)


def _meeting_point(met: Rendezvous) -> Iterator[Finding]:
    """Give the first fault that explains all that comes after it."""
    where = f"{met.address}:{met.port}"
    if not met.address:
        yield Finding(
            "MASTER_ADDR is not set: this rank does not know where to meet the others",
            fixes=(export("Name the host of rank 0, on every rank", "MASTER_ADDR=HOST", "MASTER_PORT=29500"),),
            subject="address",
        )
    elif met.resolve_error:
        yield Finding(
            f"MASTER_ADDR={met.address} does not resolve on this machine: {met.resolve_error}",
            evidence=(see(met, "address", "MASTER_ADDR"), see(met, "resolve_error", "the resolver says")),
            fixes=(
                look("See what this machine's resolver knows", f"getent hosts {met.address}", "cat /etc/resolv.conf"),
                export("Use the address itself", "MASTER_ADDR=ADDRESS_OF_RANK_0"),
            ),
            subject="name",
        )
    elif _is_itself(met):
        yield _names_itself(met)
    elif met.reached == "taken":
        yield _taken(met, where)
    elif met.reached in {"refused", "timed-out", "unreachable", "failed"}:
        yield _not_reached(met, where)
    elif met.answers_as == "something-else":
        yield Finding(
            f"Something else answers at {where}",
            "It is no meeting point of this job: another program, or an older run, has the port.",
            evidence=(see(met, "reached", "connection"), see(met, "answers_as", "who answers")),
            fixes=(_other_port(met),),
            subject="port",
        )
    elif met.large is False:
        yield _black_hole(met, where)


def _is_itself(met: Rendezvous) -> bool:
    """Tell whether the address is this machine's own and the host another one.

    Where nobody says how many nodes there are, it counts only if the host is not to be found here. The host's own name
    may well be 127.0.1.1 on the host: that does not keep others from finding it.
    """
    if not met.resolved or not all(map(is_loopback, met.resolved)):
        return False
    if met.hosted_here:
        return bool(met.several_nodes and met.address != met.own_name)
    return bool(met.several_nodes) or (met.several_nodes is None and met.reached == "refused")


def _names_itself(met: Rendezvous) -> Finding:
    if met.hosted_here:
        said = ", and the job has several: the other nodes look for it on themselves"
    elif met.several_nodes:
        said = ", and the job has several: this node looks for it on itself"
    else:
        said = ", and nothing listens here: rank 0 is on another one, or not started"
    return Finding(
        f"MASTER_ADDR={met.address} names each machine itself{said}",
        evidence=(see(met, "address", "MASTER_ADDR"), see(met, "resolved", "resolves to")),
        fixes=(export("Name the host of rank 0, on every node", "MASTER_ADDR=HOST_OF_RANK_0"),),
        subject="address",
    )


def _taken(met: Rendezvous, where: str) -> Finding:
    owner = f" by {met.port_owner}" if met.port_owner else ""
    return Finding(
        f"The meeting point cannot be opened: port {met.port} is taken{owner}",
        evidence=(see(met, "words", f"listening at {where}"), *_known(met, "port_owner", "who has it")),
        fixes=(_other_port(met), look("See who has it", f"ss -ltnp 'sport = :{met.port}'")),
        subject="port",
    )


def _other_port(met: Rendezvous) -> Fix:
    port = (met.port or 29500) + 1
    return export("Take another port, the same on every rank", f"MASTER_PORT={port}")


def _known(met: Rendezvous, name: str, label: str) -> tuple[Evidence, ...]:
    return (see(met, name, label),) if getattr(met, name) else ()


WAYS = {
    "refused": (
        "Nothing listens at {where}: the connection is refused",
        "Rank 0 is not started, has ended, or listens elsewhere.",
    ),
    "timed-out": (
        "{where} does not answer: packets to it are lost or filtered",
        "A firewall drops them, or the host is down. A host without a listener would have refused.",
    ),
    "unreachable": ("There is no way from this machine to {where}", "The route or the interface is missing."),
    "failed": ("{where} cannot be reached", ""),
}


def _not_reached(met: Rendezvous, where: str) -> Finding:
    title, why = WAYS[met.reached or "failed"]
    tried = Evidence("rendezvous.reached", met.words or met.reached, "connect", "live", f"connecting to {where}")
    resolved = (see(met, "resolved", f"{met.address} resolves to"),) if met.address not in met.resolved else ()
    fixes = {
        "refused": look("See on the host of rank 0 what listens", f"ss -ltn 'sport = :{met.port}'"),
        "unreachable": look(
            "See the ways from here", f"ip route get {(met.resolved or ('ADDRESS',))[0]}", "ip -br addr"
        ),
    }
    filtered = look(
        "See what each node's firewall lets in, then open the ports between the nodes",
        "sudo iptables -S INPUT; sudo nft list ruleset",
        root=True,
    )
    return Finding(
        title.format(where=where),
        why,
        (*resolved, tried, *_known(met, "seconds", "seconds"), *_known(met, "source_address", "from")),
        (fixes.get(met.reached or "", filtered),),
        "firewall" if met.reached == "timed-out" else "port",
    )


def _black_hole(met: Rendezvous, where: str) -> Finding:
    certain = met.large_in_small is True
    tail = "small packets get through, large ones vanish" if certain else "no large message gets through"
    mtu = f" (MTU {met.mtu})" if met.mtu else ""
    interface = met.interface or "INTERFACE"
    return Finding(
        f"Between this machine and {where} {tail}{mtu}",
        "Connecting works, and so does every small message; the first large one hangs. Somewhere on the way packets as "
        "large as this interface sends them are dropped, and nobody tells the sender.",
        (
            see(met, "large", "64 KiB and back"),
            see(met, "large_in_small", "64 KiB in packets of 536 bytes"),
            *_known(met, "mtu", f"MTU of {interface}"),
        ),
        (
            administer(
                "Send smaller packets from here", "this interface", f"sudo ip link set dev {interface} mtu 1400"
            ),
            look("Find the largest packet that passes", f"ping -c 2 -M do -s 1372 {met.address}"),
        ),
        "mtu",
        confidence=Confidence.CERTAIN if certain else Confidence.LIKELY,
    )


def _interfaces(met: Rendezvous) -> Iterator[Finding]:
    """Give chosen interfaces that are not here, have no address, or lead elsewhere than to the meeting point."""
    there = list(dict.fromkeys(name for name, _ in met.own_addresses))
    for variable, value in met.chosen if there else ():
        taken = match_names(f"={value}" if variable.startswith("GLOO") else value, there)
        listed = Evidence("rendezvous.own_addresses", ", ".join(there[:12]), "SIOCGIFADDR", "live", "with an address")
        shown = Evidence("rendezvous.chosen", value, "environment", "live", variable)
        if not taken:
            title = f"{variable}={value} names no interface that has an address here"
            yield Finding(title, "", (shown, listed), (_unset(variable), _see_interfaces()), "interface")
        elif met.several_nodes and met.interface and met.interface not in taken and not met.hosted_here:
            leads = Evidence("rendezvous.interface", met.interface, "getsockname", "live", f"leads to {met.address}")
            yield Finding(
                f"{variable}={value} is not the interface that leads to {met.address}: that is {met.interface}",
                "Ranks will tell each other an address of the chosen interface. Where it leads to no other node, they "
                "wait for each other in vain.",
                (shown, leads),
                (export(f"Take {met.interface}", f"{variable}={met.interface}"), _unset(variable)),
                "interface",
                Severity.WARNING,
                Confidence.POSSIBLE,
            )
        elif met.several_nodes and all(is_loopback(met.address_of(name) or "") for name in taken):
            title = f"{variable}={value} leads to no other machine, and the job has several nodes"
            yield Finding(title, "", (shown, listed), (_unset(variable), _see_interfaces()), "interface")


def _unset(variable: str) -> Fix:
    return unset(variable)


def _see_interfaces() -> Fix:
    return look("See which interfaces have an address", "ip -br addr")


def _own_name(met: Rendezvous) -> Iterator[Finding]:
    """Give what other ranks will be told of this one by gloo: the address that its own name resolves to."""
    if not met.several_nodes or any(name == "GLOO_SOCKET_IFNAME" for name, _ in met.chosen):
        return
    interface = met.interface or next((n for n, a in met.own_addresses if not is_loopback(a)), "eth0")
    use = export("Tell gloo which interface to use, on every node", f"GLOO_SOCKET_IFNAME={interface}")
    if met.own_name_resolved and all(map(is_loopback, met.own_name_resolved)):
        address = met.own_name_resolved[0]
        yield Finding(
            f"This machine's own name resolves to {address}: gloo tells other nodes to connect to themselves",
            "gloo gives the address of the host's own name to its peers. NCCL does not ask for it.",
            (see(met, "own_name", "own name"), see(met, "own_name_resolved", "resolves to")),
            (use, _real_address(met)),
            "hostname",
        )


def _real_address(met: Rendezvous) -> Fix:
    """Put a line of its own first: the line that is there may be localhost's too."""
    own = next((each for _, each in met.own_addresses if not is_loopback(each)), "ADDRESS")
    command = f"sudo sed -i {shlex.quote(f'1i {own} {met.own_name}')} /etc/hosts"
    return administer("Give the name its real address", "/etc/hosts", command)
