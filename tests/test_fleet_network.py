"""Ranks on several emulated hosts: two by two under torchrun, and every fault of the meeting point, really made."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet_ranks import ENVDOCTOR, Ended, clean, dumped, group
from tests.stands.network import Network, network

pytestmark = pytest.mark.root
FLEET = [*ENVDOCTOR, "fleet", "--format", "json", "--level", "quick", "--timeout", "60"]
PORT = "29610"


@pytest.fixture
def hosts() -> Iterator[Network]:
    """Give two hosts."""
    with network(2) as made:
        yield made


def two_by_hand(
    hosts: Network,
    cwd: Path,
    *,
    address: str = "node1",
    sync: str = "60",
    nodes: tuple[int, ...] = (1, 2),
    **environ: str,
) -> dict[int, Ended]:
    """Start one rank a host, with torchrun's own options, as one does where torchrun itself hangs."""
    with group() as made:
        for number in nodes:
            told = ("--nnodes", "2", "--node-rank", str(number - 1), "--master-addr", address, "--master-port", PORT)
            made.add(number, hosts.start(number, [*FLEET, *told, "--sync-timeout", sync], clean(**environ), cwd))
        return made.end()


def under_torchrun(hosts: Network, cwd: Path, script: str, ranks: int) -> dict[int, Ended]:
    """Start torchrun on both hosts, so many ranks each; every rank runs the script."""
    file = cwd / "rank.sh"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    options = ["--nnodes", "2", "--nproc-per-node", str(ranks), "--master-addr", "10.99.0.1", "--master-port", PORT]
    with group() as made:
        for number in (1, 2):
            command = [sys.executable, "-m", "torch.distributed.run", *options, "--node-rank", str(number - 1)]
            environ = clean(GLOO_SOCKET_IFNAME="eth0")
            made.add(number, hosts.start(number, [*command, "--no-python", str(file)], environ, cwd))
        return made.end()


def unreachable(ended: Ended) -> dict[str, str]:
    """Give what is said of the meeting point: titles by subject, errors alone."""
    found = [each for each in ended.report["findings"] if each["id"] == "rank-unreachable"]
    return {each["subject"]: each["title"] for each in found if each["severity"] == "error"}


@pytest.mark.real_torch
def test_two_by_two_under_torchrun(hosts: Network, tmp_path: Path) -> None:
    """Two nodes with two ranks each: one report on the first node, ranks and nodes named, one exit code."""
    odd = '[ "$RANK" = 3 ] && export NCCL_ALGO=Tree'
    ended = under_torchrun(hosts, tmp_path, f"{odd}\nexec {' '.join(FLEET)} --sync-timeout 150 --fail-on warning", 2)
    report = ended[1].report
    assert (4, 2, "") == (report["members"], report["ranks"]["nodes"], ended[2].out)
    shares = {each["name"]: each["shares"] for each in report["differences"]}
    odd_one = shares["NCCL_ALGO"][0]
    assert ("Tree", "3", "node2") == (odd_one["value"], odd_one["ranks"], odd_one["nodes"]), dumped(
        report["differences"]
    )
    assert [1, 1] == [each.code for each in ended.values()]  # torchrun's own, whatever its ranks' was


def test_two_hosts_meet(hosts: Network, tmp_path: Path) -> None:
    """A healthy network: both are there, and nothing is said of the meeting point."""
    ended = two_by_hand(hosts, tmp_path)
    assert (2, 2) == (ended[1].report["members"], ended[1].report["ranks"]["nodes"])
    assert {} == unreachable(ended[1])
    assert [0, 0] == [each.code for each in ended.values()]


def test_localhost_on_each_node(hosts: Network, tmp_path: Path) -> None:
    """MASTER_ADDR=localhost: each node waits for itself, and says so in seconds."""
    ended = two_by_hand(hosts, tmp_path, address="localhost", sync="4")
    assert "the other nodes look for it on themselves" in unreachable(ended[1])["address"]
    assert "this node looks for it on itself" in unreachable(ended[2])["address"]
    assert [1, 1] == [each.code for each in ended.values()]


def test_a_name_that_does_not_resolve(hosts: Network, tmp_path: Path) -> None:
    """A misspelt host is named with the resolver's words."""
    ended = two_by_hand(hosts, tmp_path, address="nodee1", nodes=(2,))
    assert "MASTER_ADDR=nodee1 does not resolve on this machine" in unreachable(ended[2])["name"]


def test_a_port_that_is_taken(hosts: Network, tmp_path: Path) -> None:
    """Another program has the port on the host; the host says who, the other node that it is not what it looks for."""
    squatter = [sys.executable, "-m", "http.server", PORT]
    with group() as made:
        made.add(0, hosts.start(1, squatter, clean(), tmp_path))
        _wait_for(hosts, 1, tmp_path)
        ended = two_by_hand(hosts, tmp_path, sync="4")
    assert f"port {PORT} is taken by python" in unreachable(ended[1])["port"]
    assert f"Something else answers at node1:{PORT} (rank 1)" == unreachable(ended[2])["port"]


def _wait_for(hosts: Network, number: int, cwd: Path) -> None:
    """Wait until something listens on the host."""
    code = f"import socket, time\nwhile socket.socket().connect_ex(('127.0.0.1', {PORT})): time.sleep(0.1)"
    with group() as made:
        made.add(0, hosts.start(number, [sys.executable, "-c", code], clean(), cwd))
        made.end(60)


def test_a_port_that_is_filtered(hosts: Network, tmp_path: Path) -> None:
    """Packets to the port vanish: no refusal, no answer."""
    if shutil.which("nft") is None:
        pytest.skip("needs nftables")
    hosts.drop(1, "tcp", "dport", PORT)
    ended = two_by_hand(hosts, tmp_path, sync="4")
    assert f"node1:{PORT} does not answer: packets to it are lost or filtered" in unreachable(ended[2])["firewall"]
    assert ["1"] == [each["ranks"] for each in ended[1].report["ranks"]["silent"]]


def test_rank_0_is_not_there(hosts: Network, tmp_path: Path) -> None:
    """Its host is up, and nothing listens."""
    ended = two_by_hand(hosts, tmp_path, sync="4", nodes=(2,))
    assert "Nothing listens at node1" in unreachable(ended[2])["port"]


def test_a_link_that_is_down(hosts: Network, tmp_path: Path) -> None:
    """The way itself is missing."""
    hosts.cut(2)
    ended = two_by_hand(hosts, tmp_path, sync="4", nodes=(2,))
    assert "There is no way from this machine to node1" in unreachable(ended[2])["port"]


def test_a_hole_for_large_packets(hosts: Network, tmp_path: Path) -> None:
    """Packets of full size vanish without a word, small ones pass: said with the proof."""
    if shutil.which("nft") is None:
        pytest.skip("needs nftables")
    hosts.one_packet_at_a_time()
    hosts.drop(1, "ip", "length", ">", "1400")
    ended = two_by_hand(hosts, tmp_path, sync="60")
    assert "small packets get through, large ones vanish (MTU 1500)" in unreachable(ended[2])["mtu"]
    (silent,) = ended[1].report["ranks"]["silent"]
    assert ("1", "cannot-join") == (silent["ranks"], silent["state"])
    assert "large ones vanish" in silent["last"]
    finding = next(each for each in ended[2].report["findings"] if each["subject"] == "mtu")
    assert ("certain", "sudo ip link set dev eth0 mtu 1400") == (
        finding["confidence"], finding["fixes"][0]["commands"][0]["shell"],
    )  # fmt: skip


@pytest.mark.real_torch
def test_a_hole_on_the_way_to_torchruns_own_store(hosts: Network, tmp_path: Path) -> None:
    """The launcher's store takes small messages, and a report gets stuck: both hosts say so, without its whole time."""
    if shutil.which("nft") is None:
        pytest.skip("needs nftables")
    hosts.one_packet_at_a_time()
    hosts.drop(1, "iifname", "eth0", "ip", "length", ">", "1400")
    under_torchrun(hosts, tmp_path, f"{' '.join(FLEET)} --sync-timeout 150 > {tmp_path}/$RANK", 1)
    first, second = (Ended(1, (tmp_path / rank).read_text(), "") for rank in ("0", "1"))
    assert "no large message gets through (MTU 1500)" in unreachable(second)["mtu"]
    (silent,) = first.report["ranks"]["silent"]
    assert ("1", "cannot-join", "node2") == (silent["ranks"], silent["state"], silent["nodes"])
    assert "no large message gets through" in silent["last"]
    assert first.report["ranks"]["waited_seconds"] < 150


def test_the_wrong_interface(hosts: Network, tmp_path: Path) -> None:
    """An interface that is not there is an error; the one that leads elsewhere is worth a warning."""
    ended = two_by_hand(hosts, tmp_path, GLOO_SOCKET_IFNAME="ib0")
    assert "GLOO_SOCKET_IFNAME=ib0 names no interface that has an address here" in unreachable(ended[1])["interface"]
    ended = two_by_hand(hosts, tmp_path, NCCL_SOCKET_IFNAME="lo")
    told = [each["title"] for each in ended[1].report["findings"] if each["subject"] == "interface"]
    assert any("NCCL_SOCKET_IFNAME=lo" in each for each in told), dumped(told)


def test_the_own_name_at_127_0_1_1(hosts: Network, tmp_path: Path) -> None:
    """Debian's habit: gloo would tell the other node to connect to itself."""
    hosts.hosts(2, "127.0.0.1 localhost\n127.0.1.1 node2\n10.99.0.1 node1\n")
    ended = two_by_hand(hosts, tmp_path)
    found = {each["subject"]: each for each in ended[1].report["findings"] if each["id"] == "rank-unreachable"}
    assert "This machine's own name resolves to 127.0.1.1" in found["hostname"]["title"]
    assert ("1", "node2") == (found["hostname"]["on"]["ranks"], found["hostname"]["on"]["nodes"])
    assert "export GLOO_SOCKET_IFNAME=eth0" == found["hostname"]["fixes"][0]["commands"][0]["shell"]


def test_nothing_is_left_behind() -> None:
    """Namespaces and their files are gone after use, also when what used them fails."""
    prefixes = []

    def fail() -> None:
        with network(1) as made:
            prefixes.append(made.prefix)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    left = [each.name for place in ("/run/netns", "/etc/netns") for each in Path(place).glob(f"{prefixes[0]}-*")]
    assert [] == left
