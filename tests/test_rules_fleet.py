"""Rules about many ranks side by side: each with an environment on which it fires and one on which it does not."""

from __future__ import annotations

import pytest

from envdoctor.facts import Fact
from envdoctor.facts.fleet import (
    Difference,
    FleetStages,
    RankDifferences,
    Ranks,
    Share,
    SilentRanks,
    Stage,
    StageResult,
)
from envdoctor.facts.rendezvous import Rendezvous
from envdoctor.finding import Severity, Status
from envdoctor.rules.fleet import RULES, differs_across_ranks, rank_unreachable, straggler
from envdoctor.testing import check


def differing(name: str, key: str, *shares: tuple[str, str, int], alike: tuple[str, ...] = ()) -> RankDifferences:
    """Give a difference of eight ranks; the last share is the majority's where it is larger than the others."""
    sizes = [count for _, _, count in shares]
    made = tuple(
        Share(value, ranks, count, majority=count == max(sizes) and sizes.count(count) == 1)
        for value, ranks, count in shares
    )
    return RankDifferences(members=8, differences=(Difference(name, key, made, alike, len(alike)),))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_machine_alone_has_no_peers(rule: object) -> None:
    """In a check of one machine these rules are not applicable, not unknown."""
    assert Status.NOT_APPLICABLE is check(rule).status  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("differences", "title", "severity", "fix"),
    [
        (
            differing("nccl", "package.nvidia-nccl-cu12", ("2.21.5", "6-7", 2), ("2.27.5", "0-5", 6)),
            "nccl differs: 2.21.5 on 6-7, 2.27.5 on the 6 others",
            Severity.WARNING,
            "python -m pip install nvidia-nccl-cu12==2.27.5",
        ),
        (
            differing("NCCL_ALGO", "variable.NCCL_ALGO", ("Tree", "0", 1), ("not set", "1-7", 7)),
            "NCCL_ALGO differs: Tree on 0, not set on the 7 others",
            Severity.WARNING,
            "unset NCCL_ALGO",
        ),
        (
            differing("OMP_NUM_THREADS", "variable.OMP_NUM_THREADS", ("not set", "0", 1), ("4", "1-7", 7)),
            "OMP_NUM_THREADS differs: not set on 0, 4 on the 7 others",
            Severity.INFO,
            "export OMP_NUM_THREADS=4",
        ),
        (
            differing("numpy", "package.numpy", ("1.26", "0-3", 4), ("2.1", "4-7", 4)),
            "numpy differs: 1.26 on 0-3, 2.1 on 4-7",
            Severity.INFO,
            "envdoctor snapshot -o $(hostname).json",
        ),
        (
            differing("probe.gpu-state", "probe.gpu-state", ("crashed", "3", 1), ("got", "0-2,4-7", 7)),
            "probe.gpu-state differs: crashed on 3, got on the 7 others",
            Severity.WARNING,
            "envdoctor snapshot -o $(hostname).json",
        ),
        (
            differing("probe.gpu-state", "probe.gpu-state", ("absent", "3", 1), ("got", "0-2,4-7", 7)),
            "probe.gpu-state differs: absent on 3, got on the 7 others",
            Severity.INFO,
            "envdoctor snapshot -o $(hostname).json",
        ),
        (
            differing("kernel", "host.kernel", ("5.15", "1", 1), ("6.8", "2", 1), ("6.9", "3", 1), ("6.10", "4-7", 4)),
            "kernel has 4 values on 7 ranks",
            Severity.INFO,
            "envdoctor snapshot -o $(hostname).json",
        ),
        (
            differing("kernel", "host.kernel", ("5.15", "1", 1), ("6.8", "0,2-7", 7), alike=("nic.eth0.mtu",)),
            "kernel differs: 5.15 on 1, 6.8 on the 7 others",
            Severity.WARNING,
            "envdoctor snapshot -o $(hostname).json",
        ),
    ],
)
def test_differences_are_said_with_who_has_what(
    differences: RankDifferences, title: str, severity: Severity, fix: str
) -> None:
    """The title names minority and majority, what a collective depends on is a warning, and the fix can be pasted."""
    found = check(differs_across_ranks, differences).finding
    assert (title, severity, fix) == (found.title, found.severity, found.fixes[0].commands[0].shell)


def test_a_tie_is_said_to_be_one() -> None:
    """Where nobody is in the majority, the finding does not say who is right."""
    found = check(differs_across_ranks, differing("torch", "torch_build.version", ("2.8", "0", 4), ("2.9", "4", 4)))
    assert "No value has a majority" in found.finding.detail


def test_alike_ranks_pass() -> None:
    """Nothing differs: passed, not silent."""
    assert Status.PASSED is check(differs_across_ranks, RankDifferences(members=8)).status


ALL_HERE = Ranks(world_size=8, arrived=8, nodes=2, launcher="torchrun", address="10.0.0.1:29500", waited_seconds=1.0)


@pytest.mark.parametrize(
    ("silent", "title"),
    [
        (SilentRanks("4-7", 4, "", "never-seen"), "4 of 8 ranks never arrived: 4-7"),
        (SilentRanks("3", 1, "", "never-seen"), "Rank 3 never arrived"),
        (
            SilentRanks("5", 1, "node2", "working", "import torch", 60.0),
            "Rank 5 (node2) did not finish in time: import torch",
        ),
        (SilentRanks("2", 1, "node1", "ended"), "Rank 2 (node1) went silent"),
        (
            SilentRanks("1,3", 2, "node[1-2]", "cannot-join", "torch cannot be imported"),
            "2 of 8 ranks cannot join: 1,3 (node[1-2]): torch cannot be imported",
        ),
    ],
)
def test_a_silent_rank_is_named_with_its_last_sign(silent: SilentRanks, title: str) -> None:
    """Who is missing, on which node, and what it was doing when the time was over."""
    ranks = Ranks(world_size=8, arrived=8 - silent.count, address="10.0.0.1:29500", silent=(silent,), waited_seconds=60)
    found = check(rank_unreachable, ranks).finding
    assert (title, Severity.ERROR, silent.ranks) == (found.title, found.severity, found.subject)
    assert found.fixes[0].commands


def test_all_ranks_here_is_no_finding() -> None:
    """A complete roll call passes."""
    assert Status.PASSED is check(rank_unreachable, ALL_HERE).status


def met(**more: object) -> Rendezvous:
    """Give the view of a healthy rank on another node than the meeting point."""
    healthy: dict[str, object] = {
        "rank": 1, "several_nodes": True, "address": "node1", "port": 29500, "hosted_here": False,
        "resolved": ("10.0.0.1",), "own_addresses": (("lo", "127.0.0.1"), ("eth0", "10.0.0.2")), "own_name": "node2",
        "own_name_resolved": ("10.0.0.2",), "reached": "connected", "source_address": "10.0.0.2", "interface": "eth0",
        "mtu": 1500, "answers_as": "envdoctor", "large": True,
    }  # fmt: skip
    return Rendezvous(**{**healthy, **more})  # type: ignore[arg-type]


FAULTS: list[tuple[Rendezvous, str, str, str]] = [
    (met(address=None), "address", "MASTER_ADDR is not set", "export MASTER_ADDR=HOST"),
    (
        met(address="nodee1", resolved=(), resolve_error="Name or service not known"),
        "name", "MASTER_ADDR=nodee1 does not resolve on this machine: Name or service not known", "getent hosts nodee1",
    ),
    (
        met(address="localhost", resolved=("127.0.0.1", "::1"), reached="refused"),
        "address", "MASTER_ADDR=localhost names each machine itself", "export MASTER_ADDR=HOST_OF_RANK_0",
    ),
    (
        met(address="localhost", resolved=("127.0.0.1",), reached="refused", several_nodes=None),
        "address", "and nothing listens here: rank 0 is on another one, or not started", "MASTER_ADDR=HOST_OF_RANK_0",
    ),
    (
        met(address="localhost", resolved=("127.0.0.1",), hosted_here=True, reached="listening", rank=0),
        "address", "the other nodes look for it on themselves", "export MASTER_ADDR=HOST_OF_RANK_0",
    ),
    (
        met(hosted_here=True, reached="taken", words="Address already in use", port_owner="python (pid 4711)"),
        "port", "port 29500 is taken by python (pid 4711)", "export MASTER_PORT=29501",
    ),
    (met(reached="refused"), "port", "Nothing listens at node1:29500", "ss -ltn 'sport = :29500'"),
    (met(reached="timed-out"), "firewall", "node1:29500 does not answer: packets to it are lost", "iptables"),
    (met(reached="unreachable"), "port", "There is no way from this machine to node1:29500", "ip route get 10.0.0.1"),
    (met(answers_as="something-else", large=None), "port", "Something else answers at node1", "MASTER_PORT=29501"),
    (
        met(large=False, large_in_small=True),
        "mtu", "small packets get through, large ones vanish (MTU 1500)", "sudo ip link set dev eth0 mtu 1400",
    ),
    (
        met(large=False, large_in_small=False),
        "mtu", "no large message gets through", "sudo ip link set dev eth0 mtu 1400",
    ),
    (
        met(chosen=(("GLOO_SOCKET_IFNAME", "eth7"),)),
        "interface", "GLOO_SOCKET_IFNAME=eth7 names no interface that has an address here", "unset GLOO_SOCKET_IFNAME",
    ),
    (
        met(chosen=(("NCCL_SOCKET_IFNAME", "lo"),)),
        "interface", "NCCL_SOCKET_IFNAME=lo is not the interface that leads to node1: that is eth0",
        "export NCCL_SOCKET_IFNAME=eth0",
    ),
    (
        met(chosen=(("NCCL_SOCKET_IFNAME", "lo"),), hosted_here=True, reached="listening", interface=None),
        "interface", "NCCL_SOCKET_IFNAME=lo leads to no other machine", "unset NCCL_SOCKET_IFNAME",
    ),
    (
        met(own_name_resolved=("127.0.1.1",)),
        "hostname", "This machine's own name resolves to 127.0.1.1", "export GLOO_SOCKET_IFNAME=eth0",
    ),
    (
        met(own_name_resolved=("127.0.0.1",)),  # on the line of localhost, which must keep its address
        "hostname", "This machine's own name resolves to 127.0.0.1", "sudo sed -i '1i 10.0.0.2 node2' /etc/hosts",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "subject", "title", "command"), FAULTS, ids=lambda each: str(each)[:30])
def test_each_fault_of_the_meeting_point_is_said_in_words(
    seen: Rendezvous, subject: str, title: str, command: str
) -> None:
    """What one rank saw names the fault, with a command that can be pasted."""
    found = check(rank_unreachable, seen).finding
    assert subject == found.subject
    assert title in found.title
    assert command in "\n".join(each.shell for fix in found.fixes for each in fix.commands)


@pytest.mark.parametrize(
    "seen",
    [
        met(),
        met(several_nodes=False, address="localhost", resolved=("127.0.0.1",), own_name_resolved=("127.0.1.1",)),
        met(several_nodes=None, address="localhost", resolved=("127.0.0.1",), own_name_resolved=("127.0.0.1",)),
        met(hosted_here=True, reached="listening", rank=0),
        met(hosted_here=True, address="node2", resolved=("127.0.1.1",), reached="listening", own_name="node2"),
        met(chosen=(("NCCL_SOCKET_IFNAME", "eth"), ("GLOO_SOCKET_IFNAME", "eth0"))),
        met(own_name_resolved=("127.0.1.1",), chosen=(("GLOO_SOCKET_IFNAME", "eth0"),)),
        met(own_name_resolved=(), own_name_error="Name or service not known"),
        met(large=None),
    ],
    ids=[
        "other-node",
        "one-node",
        "nodes-unknown",
        "host",
        "host-by-own-name",
        "chosen",
        "gloo-told",
        "no-own-name",
        "not-asked",
    ],
)
def test_a_healthy_meeting_point_is_no_finding(seen: Rendezvous) -> None:
    """What works is not blamed; 127.0.1.1 for the host's own name is for gloo alone to mind, and only if it asks."""
    found = {each.subject for each in check(rank_unreachable, seen).findings}
    assert found <= ({"hostname"} if seen.address == "node2" and seen.hosted_here else set())


def stage(name: str, unit: str, *results: tuple[str, float | str], state: str = "done", reason: str = "") -> Stage:
    """Give a stage: each result is a rate, or the words of a failure (``timed-out`` is one of its own)."""
    made = tuple(
        StageResult(ranks, value=value)
        if isinstance(value, float)
        else StageResult(ranks, "timed-out" if value == "timed-out" else "failed", reason=value)
        for ranks, value in results
    )
    return Stage(name, state, unit, results=made, reason=reason)


COMPUTE, PAIRS = "GFLOP/s", "MB/s"


def pairs(**results: float | str) -> Stage:
    """Give the stage of pairs: ``p13`` is that of ranks 1 and 3."""
    return stage("pairs", PAIRS, *((f"{name[1]}+{name[2]}", value) for name, value in results.items()))


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (
            stage("compute", COMPUTE, ("0", 100.0), ("1", 97.0), ("2", 101.0), ("3", 40.0)),
            {"3": (Severity.WARNING, "Rank 3 is slow when it computes: 40 GFLOP/s, its peers 100 GFLOP/s")},
        ),
        (
            stage("compute", COMPUTE, ("0", 100.0), ("1", "RuntimeError: out of memory"), ("2", 101.0)),
            {"1": (Severity.ERROR, "Rank 1 fails when it computes: RuntimeError: out of memory")},
        ),
        (
            pairs(p01=900.0, p23=950.0, p02=920.0, p13=90.0, p03=890.0, p12=910.0),
            {"1+3": (Severity.WARNING, "Between ranks 1 and 3 only 90 MB/s, elsewhere 910 MB/s")},
        ),
        (
            pairs(p01=900.0, p23=95.0, p02=920.0, p13=90.0, p03=89.0, p12=910.0),
            {
                "3": (
                    Severity.WARNING,
                    "Rank 3 is slow with 3 of the 3 ranks it was paired with: 90 MB/s, elsewhere 910 MB/s",
                )
            },
        ),
        (
            pairs(p01=900.0, p23="timed-out", p02=920.0, p13="timed-out", p03=890.0),
            {"3": (Severity.ERROR, "Rank 3 cannot talk to 2 of the 3 ranks it was paired with")},
        ),
        (
            pairs(p01=900.0, p23="timed-out"),
            {"2+3": (Severity.ERROR, "Ranks 2 and 3 cannot talk to each other: no answer in time")},
        ),
        (
            stage("all", PAIRS, state="failed", reason="no rank finished within 20 s"),
            {"all": (Severity.ERROR, "The test all failed: no rank finished within 20 s")},
        ),
    ],
    ids=["slow-rank", "failed-rank", "slow-link", "slow-in-pairs", "cut-rank", "cut-link", "all-failed"],
)  # fmt: skip
def test_the_odd_rank_or_link_is_named(measured: Stage, expected: dict[str, tuple[Severity, str]]) -> None:
    """Against its peers one rank, or the way between two, is slow or broken."""
    found = check(straggler, FleetStages(stages=(measured,))).findings
    assert expected == {each.subject: (each.severity, each.title) for each in found}


@pytest.mark.parametrize(
    "measured",
    [
        stage("compute", COMPUTE, ("0", 100.0), ("1", 95.0), ("2", 101.0), ("3", 90.0)),
        stage("compute", COMPUTE, ("0", 100.0), ("1", 40.0)),
        stage("compute", COMPUTE, ("0", 100.0), ("1", 55.0), ("2", 140.0), ("3", 40.0), ("4", 90.0)),
        stage("pairs", PAIRS, ("0+1", 900.0), ("2+3", 850.0)),
        stage("p2p", "GB/s", state="not-applicable", reason="no GPU"),
        stage("all", PAIRS, state="skipped", reason="the stage before it failed"),
    ],
    ids=["even", "two-alone", "all-noisy", "even-pairs", "no-gpu", "skipped"],
)
def test_noise_is_not_blamed_on_anybody(measured: Stage) -> None:
    """A spread among all, two that nobody can be told from, and what was not run are no stragglers."""
    assert () == check(straggler, FleetStages(stages=(measured,))).findings


def test_rules_hold_on_empty_facts() -> None:
    """Facts with nothing in them raise nothing."""
    empty: tuple[Fact, ...] = (Ranks(), RankDifferences(), FleetStages())
    assert {Status.PASSED, Status.NOT_APPLICABLE} >= {check(each, *empty).status for each in RULES}
