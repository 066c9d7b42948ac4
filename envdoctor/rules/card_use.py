"""Who else is on a card: other processes, memory that is taken, modes that let one process in."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.host import Environment
from envdoctor.facts.nvml import Gpu, GpuProcess, GpuState
from envdoctor.finding import Finding, Severity
from envdoctor.rule import NotApplicable, Rule, rule
from envdoctor.rules.nvml_cards import asked, hidden_cards, look_at, name_of, of_card, set_as_root


@rule(severity=Severity.WARNING, group="GPUs")
def gpu_in_use(state: GpuState, environment: Environment | None) -> Iterator[Finding]:
    """Other processes compute on a GPU now.

    ## What it means
    A card is not free: another process holds a compute context on it.

    ## Why it matters
    Memory is shared with it, and every measurement on this card is of both.

    ## How it is detected
    NVML's list of compute processes, without those that draw as well: a desktop's shell is no job. Left out are this
    program itself, the other ranks of its job, a job that was asked about (--pid) and the server of MPS. In a
    container the list shows only what the container may see. A card that CUDA_VISIBLE_DEVICES hides from this program
    is info, and one that MIG divides: its instances have memory and multiprocessors of their own.

    ## What to do
    Wait for it, choose another card with CUDA_VISIBLE_DEVICES, or end the process if it is yours.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
    """
    hidden = hidden_cards(state, environment)
    for gpu in asked(state, "memory_used_mib"):
        pids = [str(each) for each in _computing(gpu)]
        if pids:
            evidence = (
                of_card(gpu, "processes", "compute processes", ", ".join(pids[:8])),
                of_card(gpu, "memory_used_mib", f"memory used, MiB of {gpu.memory_total_mib}"),
            )
            fix = look_at("See whose they are", f"ps -o pid,user,etime,args -p {','.join(pids[:8])}")
            severity = Severity.INFO if gpu.index in hidden or gpu.mig_enabled else None
            yield Finding(f"{name_of(gpu)} is in use", "", evidence, (fix,), str(gpu.index), severity)


def _computing(gpu: Gpu) -> tuple[int, ...]:
    """Give others' processes that only compute on a card; what also draws, as desktops do, is in both lists of NVML."""
    drawing = {each.pid for each in gpu.processes if each.kind != "compute"}
    return tuple(each.pid for each in _foreign(gpu) if each.pid not in drawing)


def _foreign(gpu: Gpu) -> tuple[GpuProcess, ...]:
    return tuple(each for each in gpu.processes if each.kind == "compute" and not (each.own or _serves(each)))


def _serves(process: GpuProcess) -> bool:
    """Tell whether it is the server of MPS, through which many processes use one card, in exclusive mode too."""
    return (process.name or "").rpartition("/")[2].startswith("nvidia-cuda-mps")


@rule(severity=Severity.WARNING, group="GPUs", explained_by=("gpu-in-use",))
def gpu_memory_low(state: GpuState, environment: Environment | None) -> Iterator[Finding]:
    """Most of a GPU's memory is taken already.

    ## What it means
    Less than a fifth of the card's memory is free before the training has begun.

    ## Why it matters
    The training ends with "CUDA out of memory", whatever its batch size in other places.

    ## How it is detected
    nvmlDeviceGetMemoryInfo: free against total memory; what this program and its job hold counts as free. A card that
    CUDA_VISIBLE_DEVICES hides from this program is info. In MIG mode each instance has memory of its own, and what all
    of them leave free is not judged.

    ## What to do
    Find what holds it. A process that ended a moment ago may still be giving its memory back: ask again.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
    """
    hidden = hidden_cards(state, environment)
    whole = [gpu for gpu in asked(state, "memory_free_mib") if not gpu.mig_enabled]
    if not whole:
        raise NotApplicable("in MIG mode each instance has memory of its own")
    for gpu in whole:
        total, free = gpu.memory_total_mib or 0, gpu.memory_free_mib or 0
        ours = [each.memory_mib for each in gpu.processes if each.own]
        if total and None not in ours and free + sum(filter(None, ours)) < 0.2 * total:
            evidence = (of_card(gpu, "memory_free_mib", "free, MiB"), of_card(gpu, "memory_total_mib", "total, MiB"))
            command = f"nvidia-smi -i {gpu.index} --query-compute-apps=pid,name,used_memory --format=csv"
            fix = look_at("See what holds it", command)
            title, severity = f"{name_of(gpu)} has {free} of {total} MiB free", Severity.INFO
            yield Finding(title, "", evidence, (fix,), str(gpu.index), severity if gpu.index in hidden else None)


@rule(severity=Severity.INFO, group="GPUs")
def exclusive_compute_mode(state: GpuState, environment: Environment | None) -> Iterator[Finding]:
    """A GPU allows one process only.

    ## What it means
    The card is in exclusive-process mode: while one process holds a context, a second gets an error. In prohibited
    mode none gets one.

    ## Why it matters
    A second job, a notebook or a data-loader worker that touches CUDA fails with "all CUDA-capable devices are busy".

    ## How it is detected
    nvmlDeviceGetComputeMode, and NVML's list of compute processes: taken is an error, free is info. So is a card that
    CUDA_VISIBLE_DEVICES hides from this program, that this program or its job holds, or that MPS shares out.

    ## What to do
    Wait for the other process, or put the mode back to default if nobody meant it.

    ## Sources
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#compute-modes
    """
    hidden = hidden_cards(state, environment)
    for gpu in asked(state, "compute_mode"):
        holders = 0 if any(map(_serves, gpu.processes)) else len(_foreign(gpu))
        if gpu.compute_mode != "default":
            closed = gpu.index not in hidden and (gpu.compute_mode == "prohibited" or holders)
            yield _one_process_only(gpu, holders, Severity.ERROR if closed else Severity.INFO)


def _one_process_only(gpu: Gpu, holders: int, severity: Severity) -> Finding:
    taken = gpu.compute_mode != "prohibited" and holders > 0
    command = f"nvidia-smi -i {gpu.index} --query-compute-apps=pid,name,used_memory --format=csv"
    ways = (
        *((look_at("See what holds it, and wait for it or take another card", command),) if taken else ()),
        set_as_root(
            "Let several processes in", f"sudo nvidia-smi -i {gpu.index} -c DEFAULT", "this card's compute mode"
        ),
    )
    return Finding(
        f"{name_of(gpu)} is in {gpu.compute_mode} mode" + (" and taken" if taken else ""),
        evidence=(
            of_card(gpu, "compute_mode", "compute mode"),
            of_card(gpu, "processes", "compute processes", holders),
        ),
        fixes=ways,
        subject=str(gpu.index),
        severity=severity,
    )


RULES: tuple[Rule, ...] = (gpu_in_use, gpu_memory_low, exclusive_compute_mode)
