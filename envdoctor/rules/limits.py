"""Limits of a container or job that bite only at scale: CPUs, memory and open files."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment, Host, Resources
from envdoctor.facts.nvml import GpuState
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.remedy.variables import SHELL, administer, look, start_anew
from envdoctor.rule import Rule, Unknown, known, rule
from envdoctor.rules.launch import several_machines
from envdoctor.rules.presence import in_container, need_gpu
from envdoctor.rules.visibility import visible_gpus

CPUS_PER_GPU = 2  # the training process itself, and at least one worker that loads data
MANY_GPUS, ENOUGH_FILES, USUAL_FILES = 4, 4096, 1024


def _need_visible(
    driver: CudaDriver | None, smi: NvidiaSmi | None, state: GpuState | None, environment: Environment | None
) -> tuple[int, Evidence]:
    found = visible_gpus(driver, smi, state, environment)
    if found is None:
        raise Unknown("how many GPUs a program here sees is not known")
    return found


@rule(severity=Severity.WARNING, group="system")
def cgroup_cpu_limit_below_workers(
    resources: Resources,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    state: GpuState | None,
    environment: Environment | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    host: Host | None,
) -> Iterator[Finding]:
    """The CPU limit of this container or job is too low for the GPUs it has.

    ## What it means
    The control group grants fewer CPUs than each GPU needs for its own process and one data-loading worker. Programs
    still see every CPU of the machine (os.cpu_count), and size their pools by it.

    ## Why it matters
    Workers and training processes take turns on the few CPUs. The GPUs wait for data.

    ## How it is detected
    The CPU quota of the control group against two CPUs for each GPU that is visible. No limit, or one that is not below
    the machine's CPUs, is no finding.

    ## What to do
    Ask for more CPUs with the GPUs, and set num_workers by the limit.

    ## Sources
    https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu
    https://docs.pytorch.org/docs/stable/data.html
    """
    need_gpu(bus, nodes, module, smi, driver)
    limit, online = resources.cpus_cgroup_limit, resources.cpus_online
    if limit is None:
        if "cpus_cgroup_limit" in resources.unknown:
            raise Unknown(resources.unknown["cpus_cgroup_limit"])
        return
    count, shown = _need_visible(driver, smi, state, environment)
    if limit >= CPUS_PER_GPU * count or (online is not None and limit >= online):
        return
    yield Finding(
        f"This {_place(host)} may use {limit:g} CPUs for {count} GPU{'s' if count > 1 else ''}",
        evidence=(
            see(resources, "cpus_cgroup_limit", "CPU limit of the control group"),
            *((see(resources, "cpus_online", "CPUs of the machine"),) if online is not None else ()),
            shown,
        ),
        fixes=(_more(host, "CPUs", f"docker run --cpus {8 * count} IMAGE", "resources.limits.cpu"),),
        confidence=Confidence.LIKELY,
    )


def _place(host: Host | None) -> str:
    return "container" if in_container(host) else "job"


def _more(host: Host | None, what: str, docker: str, kubernetes: str) -> Fix:
    """Ask whoever set the limit for more."""
    kind = (host.container if host else None) or "none"
    if kind == "kubernetes":
        command = f"kubectl explain pod.spec.containers.{kubernetes.partition('.')[0]}  # raise {kubernetes}"
        return start_anew(f"Raise the pod's limit of {what}", command)
    if kind in {"docker", "podman"}:
        return start_anew(f"Start the container with more {what}", docker.replace("docker", kind))
    return look(f"See who limits the {what}: this control group", "cat /proc/self/cgroup; systemd-cgls | head -n 40")


@rule(severity=Severity.WARNING, group="system")
def cgroup_memory_low(
    resources: Resources,
    state: GpuState | None,
    driver: CudaDriver | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    host: Host | None,
) -> Iterator[Finding]:
    """The memory limit of this container or job is below the memory of one of its GPUs.

    ## What it means
    The control group allows less host memory than a single GPU has.

    ## Why it matters
    Loading or saving a checkpoint that fills the GPU goes through host memory. So do workers and pinned buffers. The
    kernel then ends the process with SIGKILL, mostly hours into a run.

    ## How it is detected
    memory.max of the control group against the memory of the largest GPU. What is used now is not judged: it holds
    file caches that the kernel gives back.

    ## What to do
    Raise the limit: twice the memory of the GPUs is a good start.

    ## Sources
    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory
    """
    need_gpu(bus, nodes, module, None, driver)
    limit, total = resources.memory_cgroup_limit_mib, resources.memory_total_mib
    if limit is None:
        if "memory_cgroup_limit_mib" in resources.unknown:
            raise Unknown(resources.unknown["memory_cgroup_limit_mib"])
        return
    gpu = _largest_memory(state, driver)
    if gpu is None:
        raise Unknown("the memory of the GPUs is not known")
    if limit >= gpu[0] or (total is not None and limit >= total):
        return
    roomy = max(1, 2 * gpu[0] // 1024)
    yield Finding(
        f"This {_place(host)} may use {limit} MiB of memory, less than one GPU has",
        evidence=(see(resources, "memory_cgroup_limit_mib", "memory limit, MiB"), gpu[1]),
        fixes=(_more(host, "memory", f"docker run --memory {roomy}g IMAGE", "resources.limits.memory"),),
        confidence=Confidence.LIKELY,
    )


def _largest_memory(state: GpuState | None, driver: CudaDriver | None) -> tuple[int, Evidence] | None:
    """Give the memory of the largest GPU that a program gets: of a MIG slice that is CUDA's number, not the card's."""
    told = [each.memory_total_mib for each in (driver.devices if driver else ()) if each.memory_total_mib]
    if driver and told:
        return max(told), see(driver, "devices", "memory of a GPU, MiB", max(told))
    told = [gpu.memory_total_mib for gpu in (state.gpus if state else ()) if gpu.memory_total_mib]
    return (max(told), see(state, "gpus", "memory of a GPU, MiB", max(told))) if state and told else None


@rule(severity=Severity.WARNING, group="system")
def open_files_limit_low(
    resources: Resources,
    driver: CudaDriver | None,
    smi: NvidiaSmi | None,
    state: GpuState | None,
    environment: Environment | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    host: Host | None,
) -> Iterator[Finding]:
    """A process may open few files for a machine of this size.

    ## What it means
    The default limit of 1024 open files is made for small programs. Workers hand tensors over by file descriptors, and
    NCCL opens sockets to every other process.

    ## Why it matters
    "Too many open files" ends the job, often in the middle of an epoch.

    ## How it is detected
    The soft limit of open files is below 4096, on a machine where four GPUs or more are visible, or in a job over
    several machines. With fewer GPUs it seldom matters and is not reported. The usual default of 1024 on one machine
    is info: most jobs there never reach it. Where a text shows that a process did reach it, it is an error.

    ## What to do
    Raise the soft limit where the job is started.

    ## Sources
    https://docs.pytorch.org/docs/stable/multiprocessing.html#file-descriptor-file-descriptor
    """
    need_gpu(bus, nodes, module, smi, driver)
    soft = known(resources, "open_files_soft")
    if soft < 0 or soft >= ENOUGH_FILES:
        return
    machines = several_machines(environment)
    count = visible_gpus(driver, smi, state, environment)
    if machines is None and (count is None or count[0] < MANY_GPUS):
        return
    hard = resources.open_files_hard
    shell = raise_files(host, hard)
    yield Finding(
        f"A process may open {soft} files, which is little for this job",
        evidence=(
            see(resources, "open_files_soft", "limit of open files (soft)"),
            *((see(resources, "open_files_hard", "hard limit"),) if hard is not None else ()),
            *((machines,) if machines else ()),
            *((count[1],) if count else ()),
        ),
        fixes=(shell,),
        severity=Severity.WARNING if machines or soft < USUAL_FILES else Severity.INFO,
        confidence=Confidence.LIKELY,
    )


def raise_files(host: Host | None, hard: int | None) -> Fix:
    """Raise the soft limit: in this shell where the hard one allows it, else where the session begins."""
    if hard is None or hard < 0 or hard >= ENOUGH_FILES:
        command = Command(None, "ulimit -n 65536 || ulimit -n $(ulimit -Hn)")
        return Fix("Raise it in the shell that starts the job", (command,), Safety.SAFE, SHELL)
    if in_container(host):
        return start_anew("Start the container with a higher limit", "docker run --ulimit nofile=65536:65536 IMAGE")
    line = "echo '* - nofile 65536' | sudo tee -a /etc/security/limits.conf"
    return administer("Raise it for everyone, then log in again", "the limits of new logins", line)


RULES: tuple[Rule, ...] = (cgroup_cpu_limit_below_workers, cgroup_memory_low, open_files_limit_low)
