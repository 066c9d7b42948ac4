"""Rules about many ranks or machines side by side. Only ``envdoctor fleet`` has the facts for them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from envdoctor.facts import source_of
from envdoctor.facts.fleet import Difference, FleetStages, RankDifferences, Ranks, Share, SilentRanks
from envdoctor.facts.rendezvous import Rendezvous
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity
from envdoctor.remedy.variables import look
from envdoctor.rule import NotApplicable, Rule, rule
from envdoctor.rules.rendezvous import faults
from envdoctor.rules.slow_ranks import slow

ALONE = "one machine alone: envdoctor fleet compares ranks and machines"
# What ranks have to have in common, or a collective may fail, hang or wait. The rest is worth knowing.
MATTERS = frozenset(
    {"nccl", "torch", "cuda", "cudnn", "gpu", "gpus", "driver", "driver-cuda", "machine", "envdoctor", "image"}
)
MATTERS_TOO = (
    r"variable\.(NCCL|GLOO|TORCH_NCCL|CUDA_DEVICE_MAX|NVIDIA_TF32|PYTORCH_\w*ALLOC)\w*"
    r"|nic\..*\.(mtu|speed_mbit)|infiniband\..*\.(rate|state)|nvlink\..*|link\..*|gpu\.\d+\.(mig_enabled|ecc_enabled)"
)
WORKING = {"got", "absent"}
MOST_IN_TITLE = 3
EXPLAINED_BY = ("torch-import-crashes", "torch-import-hangs", "torch-import-fails", "probe-unkillable")


@rule(severity=Severity.WARNING, group="fleet")
def differs_across_ranks(differences: RankDifferences | None) -> Iterator[Finding]:
    """Ranks or machines that should be alike differ in something.

    ## What it means
    The same fact was read on every rank, or is in every snapshot, and has more than one value. What differs in the
    same way is one finding, named by what brings the rest with it.

    ## Why it matters
    NCCL chooses its algorithms on each rank for itself. Another version, another NCCL variable or another processor
    can make two ranks choose differently, and a collective then fails or waits for ever. A slower or smaller GPU sets
    the pace for all. "It works on my machine" is mostly one line of this list.

    ## How it is detected
    Snapshots are compared value by value. What is new at each look (temperatures, free memory), what names a machine
    (host names, serial numbers) and what a launcher sets for each rank is left out. The value that most have is called
    the others'. Values that may not be shown (tokens, passwords, keys) are compared between the ranks of a job by a
    hash under a key that is made for that run and never written; which ranks have the same one is all that is told.
    Versions of torch, CUDA, cuDNN, NCCL and the driver, GPUs, and settings of NCCL are warnings; the rest
    is info.

    ## What to do
    Give the few what the many have. Use one image or one environment for all nodes.

    ## Sources
    https://github.com/NVIDIA/nccl/issues/1328
    https://github.com/NVIDIA/nccl/issues/626
    https://github.com/NVIDIA/nccl/issues/1136
    """
    if differences is None:
        raise NotApplicable(ALONE)
    if (differences.members or 0) < 2:
        raise NotApplicable("there is nothing to compare with: one alone")
    for each in differences.differences:
        yield Finding(
            _title(each, differences.noun),
            _detail(each),
            tuple(_seen(share, each, differences) for share in each.shares),
            _fixes(each, differences.noun),
            subject=each.name,
            severity=Severity.WARNING if _matters(each) else Severity.INFO,
        )


def _matters(difference: Difference) -> bool:
    if difference.key.startswith("probe."):
        return not {share.value for share in difference.shares} <= WORKING
    names = (difference.name, *(name for share in difference.shares[:1] for name, _ in share.also))
    return bool(MATTERS & {*names}) or any(
        re.fullmatch(MATTERS_TOO, key) for key in (difference.key, *difference.alike)
    )


def _title(difference: Difference, noun: str) -> str:
    shares, most = difference.shares, MOST_IN_TITLE
    if len(shares) > most:
        return f"{difference.name} has {len(shares)} values on {sum(s.count for s in shares)} {noun}s"
    said = ", ".join(f"{share.value} on {_who(share, shares)}" for share in shares)
    return f"{difference.name} differs: {said}"


def _who(share: Share, shares: tuple[Share, ...]) -> str:
    if share.majority and share is shares[-1]:
        return f"the {share.count} other{'s' if share.count > 1 else ''}"
    return share.ranks


def _detail(difference: Difference) -> str:
    parts = []
    if not any(share.majority for share in difference.shares):
        parts.append("No value has a majority: which one is right is for you to say.")
    if difference.alike_count:
        others = ", ".join(difference.alike[:6])
        rest = difference.alike_count - len(difference.alike[:6])
        parts.append(f"Differ in the same way: {others}{f' and {rest} more' if rest else ''}.")
    if difference.unknown_count:
        parts.append(f"Not known of {difference.unknown_count}.")
    return " ".join(parts)


def _seen(share: Share, difference: Difference, differences: RankDifferences) -> Evidence:
    where = f"{share.ranks} ({share.nodes})" if share.nodes and differences.noun == "rank" else share.ranks
    told = ", ".join((share.value, *(f"{name} {value}" for name, value in share.also)))
    return Evidence("rank_differences.differences", told, difference.key, "file", where)


def _fixes(difference: Difference, noun: str) -> tuple[Fix, ...]:
    right = next((share.value for share in difference.shares if share.majority), "")
    package = _package(difference)
    few = ", ".join(share.ranks for share in difference.shares if not share.majority)
    if right and package:
        wanted = shlex.quote(f"{package}=={right}")
        shell = f"pip uninstall {package}" if right == "not installed" else f"pip install {wanted}"
        change = Command(None, f"python -m {shell}")
        return (Fix(f"Give {few} what the others have", (change,), Safety.SAFE, "the environment there"),)
    if difference.key.startswith("variable.") and right:
        setting = Command(None, f"unset {difference.name}" if right == "not set" else _export(difference.name, right))
        return (Fix(f"Make it on {few} as on the others", (setting,), Safety.SAFE, "the shell or script there"),)
    if difference.key.startswith("private."):
        name = shlex.quote(difference.name)
        return (look("Compare it on one of each without showing it", f"printenv {name} | sha256sum"),)
    if noun == "snapshot":
        return (look("See what else two of them differ in", "envdoctor diff ONE.json OTHER.json"),)
    return (look("Save what is there on one of each, and compare", "envdoctor snapshot -o $(hostname).json"),)


def _export(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"


def _package(difference: Difference) -> str:
    """Name the distribution whose version the leading value is."""
    keys = (difference.key, *difference.alike)
    wanted = {"torch": "torch", "nccl": r"nvidia-nccl-cu\d+", "cudnn": r"nvidia-cudnn-cu\d+"}.get(difference.name, "")
    if difference.key.startswith("package."):
        return difference.key.removeprefix("package.")
    found = (key.removeprefix("package.") for key in keys if wanted and re.fullmatch(rf"package\.{wanted}", key))
    return next(found, "")


@rule(severity=Severity.ERROR, group="fleet", explained_by=EXPLAINED_BY)
def rank_unreachable(ranks: Ranks | None, rendezvous: Rendezvous | None) -> Iterator[Finding]:
    """A rank of the job does not answer, or cannot get to where the ranks meet.

    ## What it means
    The ranks of a job meet at one address and port (MASTER_ADDR, MASTER_PORT) before they do anything together. Some
    did not get there in time, or got there and did not report.

    ## Why it matters
    torch waits for them for 30 minutes by default, says nothing meanwhile, and then names no rank.

    ## How it is detected
    Each rank looks at the meeting point before it joins, with deadlines of seconds: whether the name resolves, and to
    this machine itself; whether the port is free on the host and answers elsewhere; whether 64 KiB come back through
    the connection, also in small packets; whether the chosen interface is there and leads there. Who has not reported
    when --sync-timeout (sync_timeout_seconds of preflight()) is over is named, with the last sign of it.

    ## What to do
    Begin with a fault of the meeting point: it explains missing ranks. Else look at the named rank's own output.

    ## Sources
    https://docs.pytorch.org/docs/stable/elastic/run.html
    https://docs.pytorch.org/docs/stable/distributed.html#torch.distributed.init_process_group
    https://github.com/pytorch/pytorch/issues/52848
    https://github.com/pytorch/pytorch/issues/68726
    """
    if ranks is None and rendezvous is None:
        raise NotApplicable(ALONE)
    if rendezvous is not None:
        yield from faults(rendezvous)
    if ranks is not None:
        for each in ranks.silent:
            yield _silent(each, ranks)


STATES = {
    "never-seen": "never arrived",
    "working": "did not finish in time",
    "ended": "went silent",
    "lost": "cannot be reached any more",
    "cannot-join": "cannot join",
}


def _silent(silent: SilentRanks, ranks: Ranks) -> Finding:
    many = silent.count > 1
    who = f"{silent.count} of {ranks.world_size} ranks" if many else f"Rank {silent.ranks}"
    node = f" ({silent.nodes})" if silent.nodes else ""
    said = f": {silent.last}" if silent.last else ""
    name = f": {silent.ranks}{node}" if many else node
    title = f"{who} {STATES.get(silent.state, silent.state)}{name}{said}" if many else None
    evidence = [Evidence("ranks.silent", silent.ranks, "reports of the ranks", "live", "silent ranks")]
    if silent.last:
        evidence.append(Evidence("ranks.silent", silent.last, "its last sign", "live", "last seen"))
    if ranks.waited_seconds is not None:
        waited = f"{ranks.waited_seconds:.0f} s"  # after the one who speaks was ready
        limit = source_of(ranks, "waited_seconds")  # preflight() has another name for it than fleet
        evidence.append(Evidence("ranks.waited_seconds", waited, limit, "live", "waited"))
    return Finding(
        title or f"{who}{name} {STATES.get(silent.state, silent.state)}{said}",
        "" if silent.state != "never-seen" else _never_seen(ranks),
        tuple(evidence),
        (_look_at(silent, ranks),),
        subject=silent.ranks,
        confidence=Confidence.CERTAIN,
    )


def _never_seen(ranks: Ranks) -> str:
    if ranks.ended_by:
        return (
            "The launcher ended the run before there was a sign. A rank that dies makes it do so: see its own output."
        )
    where = f" at {ranks.address}" if ranks.address else ""
    return (
        f"The world of {ranks.world_size} is never complete: they were not started, they wait somewhere else, or their "
        f"packets do not get here{where}. A run of envdoctor fleet on such a rank says which."
    )


def _look_at(silent: SilentRanks, ranks: Ranks) -> Fix:
    first = re.split(r"[-,+]", silent.ranks)[0]
    if silent.state == "never-seen" and ranks.launcher == "srun":
        return look("See which tasks Slurm has, and where", "scontrol listpids; squeue --steps")
    if silent.state == "never-seen":
        command = f"RANK={first} WORLD_SIZE={ranks.world_size} {_address(ranks)} envdoctor fleet"
        return look("Ask such a rank itself, on its own machine", command)
    return look("Look at that machine alone", "envdoctor check --timeout 300")


def _address(ranks: Ranks) -> str:
    host, _, port = ranks.address.rpartition(":")
    return f"MASTER_ADDR={shlex.quote(host)} MASTER_PORT={port}" if host else "MASTER_ADDR=HOST MASTER_PORT=PORT"


@rule(severity=Severity.WARNING, group="fleet", explained_by=("gpu-slower-than-peers", "gpu-throttled-thermal"))
def straggler(stages: FleetStages | None) -> Iterator[Finding]:
    """A rank, or the way between two ranks, is much slower than its peers.

    ## What it means
    The same small test was run on every rank, and between pairs of ranks. One of them gave less than three quarters of
    what its peers gave, and less than any noise between them explains; or it failed while others did not.

    ## Why it matters
    A collective is as fast as the slowest of those who take part: one slow rank or link slows the whole job.

    ## How it is detected
    "envdoctor fleet --deep" runs staged tests over the ranks, each step with a short deadline: matrix products on each
    rank, copies between the GPUs of a node, an all-reduce inside each node, one in each pair of ranks, and one over
    all. With NCCL where every rank has a GPU of its own, else with gloo on the CPU. In a large job the pairs are a
    sample: eight rounds, in each of which every rank has one partner. Each result is compared with its peers only, with
    the same device, inside a node or between two; no table is asked. What looks slow is tried again, and the best
    result counts. A node or a rank that is bad in most of its pairs is named itself; then the way between two
    nodes; else the pair. What a failure makes impossible is not asked, and says so.

    ## What to do
    Run it again to see whether it stays. For a rank look at its clocks, its temperature, its CPU limits and who else
    computes there; for a pair at the network between the two nodes.

    ## Sources
    https://github.com/NVIDIA/nvidia-resiliency-ext
    https://github.com/deepspeedai/DeepSpeed/issues/1617
    """
    if stages is None:
        raise NotApplicable("no staged tests over ranks were run: envdoctor fleet --deep runs them")
    yield from slow(stages)


RULES: tuple[Rule, ...] = (differs_across_ranks, rank_unreachable, straggler)
