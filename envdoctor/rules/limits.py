"""Limits that bite only at scale: CPUs, memory and files of a container or job, NUMA binding, and thread pools."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment, Host, Resources
from envdoctor.facts.nvml import Gpu, GpuState
from envdoctor.facts.surroundings import Fabric
from envdoctor.facts.torch import TorchSettings
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.remedy.variables import administer, export, look, start_anew
from envdoctor.rule import NotApplicable, Rule, Unknown, known, rule
from envdoctor.rules.launch import own_rank, processes_here, several_machines
from envdoctor.rules.presence import in_container, need_gpu
from envdoctor.rules.visibility import read_mask

CPUS_PER_GPU = 2  # the training process itself, and at least one worker that loads data
MANY_GPUS, ENOUGH_FILES, USUAL_FILES = 4, 4096, 1024
OVERSUBSCRIBED = 1.5


def _visible(
    driver: CudaDriver | None, smi: NvidiaSmi | None, state: GpuState | None, environment: Environment | None
) -> tuple[int, Evidence] | None:
    """Count the GPUs that a program here sees: CUDA's own count, else NVML's or nvidia-smi's under the mask."""
    if driver and driver.device_count:
        return driver.device_count, see(driver, "device_count", "GPUs that CUDA shows")
    if state and state.gpus:
        found = len(state.gpus), see(state, "gpus", "GPUs", len(state.gpus))
    elif smi and smi.gpus:
        found = len(smi.gpus), see(smi, "gpus", "GPUs", len(smi.gpus))
    else:
        return None
    value = environment.get("CUDA_VISIBLE_DEVICES") if environment else None
    count = len(read_mask(value, found[0]).taken) if value else found[0]
    return (count, found[1]) if count else None


def _need_visible(
    driver: CudaDriver | None, smi: NvidiaSmi | None, state: GpuState | None, environment: Environment | None
) -> tuple[int, Evidence]:
    found = _visible(driver, smi, state, environment)
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
    is info: most jobs there never reach it.

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
    count = _visible(driver, smi, state, environment)
    if machines is None and (count is None or count[0] < MANY_GPUS):
        return
    hard = resources.open_files_hard
    shell = _raise_files(host, hard)
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


def _raise_files(host: Host | None, hard: int | None) -> Fix:
    """Raise the soft limit: in this shell where the hard one allows it, else where the session begins."""
    if hard is None or hard < 0 or hard >= ENOUGH_FILES:
        return look("Raise it in the shell that starts the job", "ulimit -n 65536 || ulimit -n $(ulimit -Hn)")
    if in_container(host):
        return start_anew("Start the container with a higher limit", "docker run --ulimit nofile=65536:65536 IMAGE")
    line = "echo '* - nofile 65536' | sudo tee -a /etc/security/limits.conf"
    return administer("Raise it for everyone, then log in again", "the limits of new logins", line)


@rule(severity=Severity.WARNING, group="system")
def numa_mismatch(
    fabric: Fabric,
    bus: PciBus,
    state: GpuState | None,
    environment: Environment | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
) -> Iterator[Finding]:
    """This process is bound to a NUMA node that its GPU is not attached to.

    ## What it means
    The CPUs that the process may use, or the memory it must use, belong to another socket than the GPU.

    ## Why it matters
    Each copy between host and GPU crosses the link between the sockets: slower and less even.

    ## How it is detected
    The process's CPUs and memory policy by node, against the node of its GPU on the bus: the GPU of this local rank or
    of CUDA_VISIBLE_DEVICES, else all visible ones. It fires only when none of them is attached to a node of the
    process. An unbound process is no finding.

    ## What to do
    Bind each process to the node of its GPU.

    ## Sources
    https://docs.nvidia.com/cuda/cuda-c-best-practices-guide/
    """
    need_gpu(bus, nodes, module)
    total = known(fabric, "numa_nodes")
    if total < 2:
        raise NotApplicable("one NUMA node")
    own = _bound_to(fabric, total)
    if not own:
        if not fabric.process_numa_nodes and "process_numa_nodes" in fabric.unknown:
            raise Unknown(fabric.unknown["process_numa_nodes"])
        return
    wanted = _nodes_of_gpus(bus, state, environment)
    if not wanted:
        raise Unknown("the NUMA node of the GPU is not known")
    if set(own[0]) & wanted:
        return
    where, node = ", ".join(map(str, own[0])), min(wanted)
    yield Finding(
        f"This process is bound to NUMA node {where}, its GPU is on node {', '.join(map(str, sorted(wanted)))}",
        evidence=(own[1], see(bus, "gpus", "node of the GPU", ", ".join(map(str, sorted(wanted))))),
        fixes=(
            _bind(node),
            look("See which CPUs belong to which GPU", "nvidia-smi topo -m"),
        ),
        confidence=Confidence.LIKELY,
    )  # fmt: skip


def _bind(node: int) -> Fix:
    command = Command(None, f"numactl --cpunodebind={node} --membind={node} python train.py")
    return Fix("Start it on the GPU's node", (command,), Safety.SAFE, "the job that is started so")


def _bound_to(fabric: Fabric, total: int) -> tuple[tuple[int, ...], Evidence] | None:
    """Give the nodes that the process is bound to by CPUs or by memory policy; None when it is not bound."""
    cpus = fabric.process_numa_nodes
    if cpus and len(cpus) < total:
        return cpus, see(fabric, "process_numa_nodes", "nodes of this process's CPUs", ", ".join(map(str, cpus)))
    kind, _, text = (fabric.memory_policy or "").partition(":")
    if kind != "bind" or not text.replace(",", "").replace("-", "").isdigit():
        return None
    found = tuple(_numbers(text))
    return (found, see(fabric, "memory_policy", "memory policy")) if found and len(found) < total else None


def _numbers(text: str) -> Iterator[int]:
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            yield from range(int(first), int(last or first) + 1)


def _nodes_of_gpus(bus: PciBus, state: GpuState | None, environment: Environment | None) -> set[int]:
    """Give the nodes of the GPUs that this process uses, in the order of the bus, as NVML counts them."""
    cards = sorted(bus.gpus, key=lambda each: each.address)
    if state and state.gpus:
        passed = {_short(gpu) for gpu in state.gpus}
        cards = [each for each in cards if each.address[-10:].lower() in passed] or cards
    chosen = _chosen(environment, len(cards))
    found = [cards[each].numa_node for each in chosen if each < len(cards)]
    return {each for each in found if each is not None and each >= 0}


def _short(gpu: Gpu) -> str:
    """Cut NVML's address to the bus's: ``00000000:3B:00.0`` -> ``3b:00.0`` with three more places of the domain."""
    return (gpu.pci_address or "")[-10:].lower()


def _chosen(environment: Environment | None, count: int) -> tuple[int, ...]:
    value = environment.get("CUDA_VISIBLE_DEVICES") if environment else None
    taken = read_mask(value, count).taken if value else tuple(map(str, range(count)))
    if any(not each.isdigit() for each in taken):  # chosen by UUID: which one that is, is not known here
        return tuple(range(count))
    indices = tuple(map(int, taken))
    rank = own_rank(environment)
    return indices[rank : rank + 1] if rank is not None and len(indices) > 1 else indices


@rule(severity=Severity.WARNING, group="system")
def omp_threads_oversubscription(
    resources: Resources,
    environment: Environment,
    settings: TorchSettings | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
) -> Iterator[Finding]:
    """The thread pools of this job are larger than the CPUs it may use.

    ## What it means
    Each process makes a pool of OMP_NUM_THREADS threads, or, where that is not set, one for every core it sees. Several
    processes on one machine, or a CPU limit that libraries do not see, make more threads than there are CPUs.

    ## Why it matters
    The threads push each other aside. The parts of a step that run on the CPU take many times longer.

    ## How it is detected
    Threads of a process times the launcher's processes on this machine, against the CPUs by affinity and control group:
    more than one and a half times as many. A process that is bound to CPUs of its own is judged alone. torch's own
    count is used where OMP_NUM_THREADS is not set.

    ## What to do
    Set OMP_NUM_THREADS to the CPUs divided by the processes on this machine.

    ## Sources
    https://docs.pytorch.org/docs/stable/threading_environment_variables.html
    https://github.com/pytorch/torchtitan/issues/4038
    """
    need_gpu(bus, nodes, module)
    cpus = _available(resources)
    if cpus is None:
        raise Unknown(resources.unknown.get("cpus_affinity", "how many CPUs this process may use is not known"))
    launched = processes_here(environment)
    threads = _threads(resources, environment, settings, cpus[0])
    sharing = launched[0] if launched and not _has_its_own(resources, launched[0], cpus[0]) else 1
    if threads is None or sharing * threads[0] <= OVERSUBSCRIBED * cpus[0]:
        return
    processes = (see(environment, "variables", launched[1], launched[0]),) if launched else ()
    yield Finding(
        f"{sharing * threads[0]} threads compete for {cpus[0]:g} CPUs",
        evidence=(threads[1], *processes, cpus[1]),
        fixes=(_share(max(1, int(cpus[0] // sharing))),),
        confidence=Confidence.LIKELY,
    )


def _share(threads: int) -> Fix:
    return export("Give each process its share of the CPUs", f"OMP_NUM_THREADS={threads}")


def _has_its_own(resources: Resources, processes: int, cpus: float) -> bool:
    """Tell whether each process can have CPUs of its own: so few that the sets of all fit on the machine."""
    online, bound = resources.cpus_online, resources.cpus_affinity
    return online is not None and bound is not None and cpus == bound < online and bound * processes <= online


def _available(resources: Resources) -> tuple[float, Evidence] | None:
    """Give the CPUs that this process may use: the smaller of affinity and quota."""
    found = [
        (float(value), see(resources, field, label))
        for field, label in (("cpus_cgroup_limit", "CPU limit"), ("cpus_affinity", "CPUs by affinity"))
        if (value := getattr(resources, field))
    ]
    return min(found, key=lambda each: each[0], default=None)


def _threads(
    resources: Resources, environment: Environment, settings: TorchSettings | None, cpus: float
) -> tuple[int, Evidence] | None:
    """Give the threads of one process; None when nothing tells them."""
    asked = (environment.get("OMP_NUM_THREADS") or "").partition(",")[0].strip()
    if asked.isdigit() and int(asked) > 0:
        return int(asked), see(environment, "variables", "OMP_NUM_THREADS", asked)
    if settings and settings.num_threads:
        return settings.num_threads, see(settings, "num_threads", "torch.get_num_threads()")
    if resources.cpus_affinity is None or resources.cpus_affinity <= cpus:
        return (
            (int(cpus), see(resources, "cpus_affinity", "threads by default")) if processes_here(environment) else None
        )
    raise Unknown("OMP_NUM_THREADS is not set, and torch was not asked for its threads: needs --level standard")


RULES: tuple[Rule, ...] = (
    cgroup_cpu_limit_below_workers, cgroup_memory_low, open_files_limit_low, numa_mismatch,
    omp_threads_oversubscription,
)  # fmt: skip
