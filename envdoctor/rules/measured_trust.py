"""Whether measurements can be trusted at all: what cannot be true, what is not steady, who else was there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from envdoctor.facts.bench import (
    BenchAttention,
    BenchClocks,
    BenchCollectives,
    BenchCopies,
    BenchDevice,
    BenchGemm,
    BenchMemory,
    BenchModel,
)
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.remedy.variables import look
from envdoctor.rule import NotApplicable, Unknown, rule
from envdoctor.rules.measuring import again, measured_gpu, shown

if TYPE_CHECKING:
    from envdoctor.bench.judgement import Judgement
    from envdoctor.facts import Fact

SHOWN = 4
MANY = 1 / 3
BUSY_HOST = 0.5  # of the CPUs: load average before anything was measured


def _suites(*found: Fact | None) -> list[Fact]:
    return [each for each in found if each is not None]


@rule(severity=Severity.WARNING, group="measured")
def measurement_impossible(
    device: BenchDevice,
    clocks: BenchClocks | None,
    gemm: BenchGemm | None,
    memory: BenchMemory | None,
    copies: BenchCopies | None,
    attention: BenchAttention | None,
    model: BenchModel | None,
    collectives: BenchCollectives | None,
) -> Iterator[Finding]:
    """A measurement cannot be true: its result is wrong, or it is faster than the hardware can be.

    ## What it means
    Something else was timed than was meant, or the device computed something wrong. Either way the number means
    nothing.

    ## Why it matters
    A rate that is too good hides what is slow. A wrong product ruins a training without an error.

    ## How it is detected
    Each product is compared with one of higher precision before its speed is believed; copies, also those from GPU to
    GPU, with what was sent; sums over ranks with what they must be. A rate more than 5 % above what the measured clock
    allows, a memory buffer that fits into the cache, a copy faster than its link, and a product without any rounding
    error (so on inputs that were no random numbers) are not believed either.

    ## What to do
    For a rate: measure again, and report it with the file of the result. For a wrong product: measure on another GPU.
    If it is right there, this card computes wrongly and must not train. Where copies or sums between GPUs are wrong,
    switch off the IOMMU or ACS of the host; until then NCCL_P2P_DISABLE=1 goes around it.

    ## Sources
    https://github.com/stas00/ml-engineering/tree/master/compute/accelerator
    """
    from envdoctor.bench.run import Run
    from envdoctor.bench.verdict import Verdict

    given = _suites(gemm, memory, copies, attention, model, collectives)
    if not given:
        raise Unknown("nothing was measured")
    run = Run(device, clocks, gemm, memory, copies, attention, model, collectives=collectives)
    untrue = [each for each in run.judgements if each.verdict is Verdict.IMPOSSIBLE]
    for wrong in (True, False):
        found = [each for each in untrue if (each.measured.correct is False) is wrong]
        if found:
            yield _untrue(found, given, device, wrong=wrong)


def _untrue(found: list[Judgement], given: list[Fact], device: BenchDevice, *, wrong: bool) -> Finding:
    first = found[0]
    named = _named(first)
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    evidence = tuple(_told(each, given) for each in found[:SHOWN])
    fix = Fix(
        "Measure again, alone on the GPU, and keep the result",
        (Command(None, f"{again(first.measured.suite or 'gemm', device=device)} -o again.json"),),
        Safety.SAFE,
        "nothing: it only measures",
        verify=again(first.measured.suite or "gemm", device=device),
    )
    title = f"{named}{more}: {'wrong results' if wrong else 'faster than can be true'}"
    severity = Severity.ERROR if wrong else Severity.WARNING
    return Finding(title, "", evidence, (fix,), "result" if wrong else "rate", severity)


def _told(found: Judgement, given: list[Fact]) -> Evidence:
    from envdoctor.facts import key_of

    fact = next((each for each in given if key_of(type(each)) == f"bench_{found.measured.suite}"), given[0])
    return see(fact, "measured", _named(found), found.judged.reason)


def _named(found: Judgement) -> str:
    of = found.config
    where = of.get("shape") or (f"from {of['from']} to {of['to']}" if "from" in of and "to" in of else "")
    return " ".join(filter(None, (found.measured.precision, found.name, where)))


@rule(
    severity=Severity.INFO,
    group="measured",
    explained_by=("not-exclusive", "gpu-throttled-thermal", "cgroup-cpu-limit-below-workers"),
)
def measurement_unstable(
    device: BenchDevice,
    clocks: BenchClocks | None,
    gemm: BenchGemm | None,
    memory: BenchMemory | None,
    model: BenchModel | None,
) -> Iterator[Finding]:
    """Measurements scatter too much to be judged.

    ## What it means
    The middle half of the samples spreads by more than 2 % of their median, or the clock moved while they were taken.

    ## Why it matters
    A difference smaller than the scatter cannot be seen. Such measurements are called ambiguous, not good or bad.

    ## How it is detected
    Each measurement goes on until its samples agree within 1 %, or its time is up. On the GPU it fires when a third of
    them, or the training step, ended beyond 2 %. A CPU shares its cores with everything else: there it does not apply.

    ## What to do
    Stop what else runs on the GPU and on the host, give the card time to cool down, and measure longer with --full.

    ## Sources
    https://github.com/NVIDIA/nvbench/blob/main/docs/benchmarks.md
    """
    from envdoctor.bench.run import Run
    from envdoctor.bench.statistics import STEADY
    from envdoctor.bench.training import main_steps

    measured_gpu(device, clocks)
    run = Run(device, clocks, gemm, memory, model=model)
    known = [each for each in run.judgements if each.rate.summary and each.name != "gemm-best"]
    if not known:
        raise Unknown("nothing was measured")
    noisy = [e for e in known if e.rate.summary and (e.rate.summary.spread > STEADY or e.window.unsteady)]
    steps = main_steps(model) if model else []  # one of a single sample is bound by the host, and scatters with it
    if len(noisy) < MANY * len(known) and not any(each.measured in steps for each in noisy):
        return
    given = {f"bench_{name}": each for name, each in (("gemm", gemm), ("memory", memory), ("model", model)) if each}
    worst = sorted(noisy, key=lambda each: -(each.rate.summary.spread if each.rate.summary else 0.0))[:SHOWN]
    evidence = tuple(
        shown(given[f"bench_{e.measured.suite}"], e) for e in worst if f"bench_{e.measured.suite}" in given
    )
    fix = Fix(
        "Measure longer, with nothing else running",
        (Command(None, "envdoctor bench --full"),),
        Safety.SAFE,
        "nothing: it only measures",
        verify="envdoctor bench --full",
    )
    yield Finding(f"{len(noisy)} of {len(known)} measurements scatter too much to be judged", "", evidence, (fix,))


@rule(severity=Severity.WARNING, group="measured", explained_by=("gpu-in-use",))
def not_exclusive(device: BenchDevice) -> Iterator[Finding]:
    """Something else used the device while it was measured.

    ## What it means
    Another process holds the GPU, or it was busy before we began. On a CPU: other programs kept its cores busy.

    ## Why it matters
    Every rate is of both programs together. What looks slow may be shared: such measurements are not called bad.

    ## How it is detected
    NVML's list of processes on this GPU and its utilisation before the first measurement; on a CPU the load average
    and the idle CPUs then: torch computes with as many threads as there are idle ones, unless OMP_NUM_THREADS says
    otherwise, because a thread that is kept from running makes all others wait. In a container the list shows only
    what the container may see.

    ## What to do
    Wait for the other program, or choose another GPU with --device, and measure again.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
    """
    if device.kind != "cuda":
        yield from _busy_cpu(device)
        return
    if device.exclusive is None:
        raise Unknown(device.unknown.get("exclusive") or "NVML did not say who else uses the GPU")
    if device.exclusive:
        return
    others = device.other_processes or ()
    pids = ", ".join(f"{each.pid} ({each.memory_mib or '?'} MiB)" for each in others[:SHOWN])
    evidence = [see(device, "other_processes", "processes on it", pids)] if others else []
    if device.utilization_percent is not None:
        evidence.append(see(device, "utilization_percent", "busy before we began, %"))
    if not evidence:
        evidence.append(see(device, "exclusive", "ours alone", "no"))
    watched = ",".join(str(each.pid) for each in others[:SHOWN])
    command = f"ps -o pid,user,etime,args -p {watched}" if watched else "nvidia-smi pmon -c 1"
    fix = replace(look("See whose they are", command), verify="envdoctor bench --quick")
    yield Finding("Something else used the GPU while it was measured", "", tuple(evidence), (fix,))


def _busy_cpu(device: BenchDevice) -> Iterator[Finding]:
    if device.load_average is None or not device.cpus:
        raise NotApplicable("the load of this CPU is not known")
    if device.load_average < BUSY_HOST * device.cpus and device.threads_left is None:
        return
    evidence = [
        see(device, "load_average", "load average before we began"),
        see(device, "cpus", "CPUs of this process"),
    ]
    said = ""
    if device.threads_left is not None:
        evidence.append(see(device, "threads_left", "threads for the CPUs that were idle"))
        said = "torch computed with fewer threads than usual: a thread that is kept from running makes all others wait."
    fix = replace(
        look("See what runs", "ps -eo pid,pcpu,etime,args --sort=-pcpu | head"), verify="envdoctor bench --quick"
    )
    yield Finding(
        "Other programs kept the CPU busy while it was measured",
        said,
        tuple(evidence),
        (fix,),
        severity=Severity.INFO,
        confidence=Confidence.LIKELY,
    )


RULES = (measurement_impossible, measurement_unstable, not_exclusive)
