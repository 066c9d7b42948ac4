"""Thread pools against the CPUs that a job may use."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import KernelModule
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment, Resources
from envdoctor.facts.surroundings import Fabric
from envdoctor.facts.torch import TorchSettings
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.remedy.variables import export
from envdoctor.rule import Rule, Unknown, rule
from envdoctor.rules.launch import processes_here
from envdoctor.rules.presence import need_gpu

OVERSUBSCRIBED = 1.5


@rule(severity=Severity.WARNING, group="system")
def omp_threads_oversubscription(
    resources: Resources,
    environment: Environment,
    settings: TorchSettings | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    fabric: Fabric | None,
) -> Iterator[Finding]:
    """The thread pools of this job are larger than the CPUs it may use.

    ## What it means
    Each process makes a pool of OMP_NUM_THREADS threads, or, where that is not set, one for every core it sees. Several
    processes on one machine, or a CPU limit that libraries do not see, make more threads than there are CPUs.

    ## Why it matters
    The threads push each other aside. The parts of a step that run on the CPU take many times longer.

    ## How it is detected
    Threads of a process times the launcher's processes on this machine, against the CPUs by affinity and control group:
    more than one and a half times as many. A process that is bound to CPUs of its own is judged alone, one that is
    bound to whole NUMA nodes with the share of the processes that falls to them. torch's own count is used where
    OMP_NUM_THREADS is not set.

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
    sharing = _sharing(resources, fabric, launched[0], cpus[0]) if launched else 1
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


def _sharing(resources: Resources, fabric: Fabric | None, processes: int, cpus: float) -> int:
    """Give how many processes use the CPUs of this one: all, unless the sets of all can lie beside each other.

    So few CPUs that the sets of all fit on the machine are its own. Whole NUMA nodes are those of its GPU, and the
    other processes are bound to those of theirs.
    """
    online, bound = resources.cpus_online, resources.cpus_affinity
    if online is None or bound is None or not cpus == bound < online:
        return processes
    if bound * processes <= online:
        return 1
    total, own = (fabric.numa_nodes, len(fabric.process_numa_nodes)) if fabric else (None, 0)
    whole = total is not None and own > 0 and bound * total == online * own
    return -(-processes * bound // online) if whole else processes


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


RULES: tuple[Rule, ...] = (omp_threads_oversubscription,)
