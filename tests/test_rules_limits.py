"""Rules about CPU, memory and file limits, NUMA binding and thread pools."""

from __future__ import annotations

import pytest

from envdoctor.facts import Fact
from envdoctor.facts.driver import CudaDevice, CudaDriver, KernelModule
from envdoctor.facts.gpu import PciBus, PciDevice
from envdoctor.facts.host import Environment, Host, Resources, Variable
from envdoctor.facts.nvml import Gpu, GpuState
from envdoctor.facts.surroundings import Fabric
from envdoctor.facts.torch import TorchSettings
from envdoctor.finding import Severity, Status
from envdoctor.rules import limits, numa, threads
from envdoctor.rules.limits import cgroup_cpu_limit_below_workers, cgroup_memory_low, open_files_limit_low
from envdoctor.rules.numa import numa_mismatch
from envdoctor.rules.threads import omp_threads_oversubscription
from envdoctor.testing import check
from tests.rule_facts import DOCKER, NO_GPU, NO_NODES, ONE_GPU, UBUNTU

ALL_RULES = (*limits.RULES, *numa.RULES, *threads.RULES)

POD = Host(system="Linux", container="kubernetes")
BARE = (NO_GPU, NO_NODES, KernelModule(loaded=False))
STEP = {"OMP_NUM_THREADS": "64", "SLURM_STEP_ID": "0"}


def variables(**values: str) -> Environment:
    """Make an environment."""
    return Environment(variables=tuple(Variable(name, value) for name, value in values.items()))


def shown(count: int, memory_mib: int = 81559) -> CudaDriver:
    """Make libcuda's answer with this many GPUs."""
    devices = tuple(CudaDevice(n, "GPU", "8.0", memory_mib) for n in range(count))
    return CudaDriver(init_code=0, device_count=count, devices=devices)


def cpus(limit: float | None, online: int = 128, **more: object) -> Resources:
    """Make a CPU quota on a machine of this size."""
    return Resources(cpus_cgroup_limit=limit, cpus_online=online, cpus_affinity=online, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((cpus(8.0), shown(8)), Status.FIRED),
        ((cpus(16.0), shown(8)), Status.PASSED),
        ((cpus(1.0), shown(1)), Status.FIRED),
        ((cpus(2.0), shown(1)), Status.PASSED),
        ((cpus(None), shown(8)), Status.PASSED),
        ((cpus(8.0, online=8), shown(8)), Status.PASSED),
        ((cpus(8.0),), Status.UNKNOWN),
        ((Resources(unknown={"cpus_cgroup_limit": "not readable"}), shown(8)), Status.UNKNOWN),
        ((cpus(4.0), GpuState(init_code=0, gpus=(Gpu(0), Gpu(1), Gpu(2), Gpu(3)))), Status.FIRED),
        (
            (cpus(4.0), GpuState(gpus=(Gpu(0), Gpu(1), Gpu(2))), variables(CUDA_VISIBLE_DEVICES="1")),
            Status.PASSED,
        ),
    ],
)
def test_cpu_limit(facts: tuple[Fact, ...], status: Status) -> None:
    """Fewer than two CPUs for each visible GPU, below what the machine has, is a warning."""
    assert status == check(cgroup_cpu_limit_below_workers, *facts, ONE_GPU).status


@pytest.mark.parametrize(
    ("host", "words"),
    [(POD, "resources.limits.cpu"), (DOCKER, "docker run --cpus 64 IMAGE"), (UBUNTU, "cat /proc/self/cgroup")],
)
def test_cpu_limit_is_raised_where_it_was_set(host: Host, words: str) -> None:
    """Kubernetes, docker and a batch system each have their own way."""
    finding = check(cgroup_cpu_limit_below_workers, cpus(8.0), shown(8), ONE_GPU, host).finding
    assert words in finding.fixes[0].commands[0].shell


@pytest.mark.parametrize(
    ("resources", "status"),
    [
        (Resources(memory_cgroup_limit_mib=16384, memory_total_mib=500_000), Status.FIRED),
        (Resources(memory_cgroup_limit_mib=81559, memory_total_mib=500_000), Status.PASSED),
        (Resources(memory_total_mib=32000), Status.PASSED),
        (Resources(memory_cgroup_limit_mib=32000, memory_total_mib=32000), Status.PASSED),
        (Resources(memory_cgroup_limit_mib=200_000, memory_cgroup_used_mib=199_000), Status.PASSED),
        (Resources(unknown={"memory_cgroup_limit_mib": "denied"}), Status.UNKNOWN),
    ],
)
def test_memory_limit(resources: Resources, status: Status) -> None:
    """A limit below one GPU's memory warns; what is used now, file caches included, does not count."""
    assert status == check(cgroup_memory_low, resources, shown(1), ONE_GPU).status


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((Resources(open_files_soft=1024), shown(8)), Status.FIRED),
        ((Resources(open_files_soft=1024), shown(1), variables(SLURM_NNODES="4")), Status.FIRED),
        ((Resources(open_files_soft=1024), shown(2)), Status.PASSED),
        ((Resources(open_files_soft=1024),), Status.PASSED),
        ((Resources(open_files_soft=4096), shown(8)), Status.PASSED),
        ((Resources(open_files_soft=-1), shown(8)), Status.PASSED),
        ((Resources(unknown={"open_files_soft": "x"}), shown(8)), Status.UNKNOWN),
    ],
)
def test_open_files(facts: tuple[Fact, ...], status: Status) -> None:
    """The default of 1024 matters with four GPUs or several machines, not on a small one."""
    assert status == check(open_files_limit_low, *facts, ONE_GPU).status


@pytest.mark.parametrize(
    ("hard", "host", "words"),
    [(1048576, UBUNTU, "ulimit -n 65536"), (1024, DOCKER, "--ulimit nofile"), (1024, UBUNTU, "limits.conf")],
)
def test_open_files_are_raised_where_they_can_be(hard: int, host: Host, words: str) -> None:
    """The shell where the hard limit allows it; else the container's options or the login."""
    resources = Resources(open_files_soft=1024, open_files_hard=hard)
    assert words in check(open_files_limit_low, resources, shown(8), ONE_GPU, host).finding.fixes[0].commands[0].shell


TWO_SOCKETS = PciBus(
    gpus=(
        PciDevice("0000:18:00.0", "10de", "2330", "030200", "nvidia", 0),
        PciDevice("0000:9a:00.0", "10de", "2330", "030200", "nvidia", 1),
    ),
    readable=True,
)


def bound(*nodes: int, total: int = 2, policy: str | None = None) -> Fabric:
    """Make the NUMA nodes of a process."""
    return Fabric(numa_nodes=total, process_numa_nodes=nodes, memory_policy=policy)


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((bound(1), variables(CUDA_VISIBLE_DEVICES="0")), Status.FIRED),
        ((bound(0), variables(CUDA_VISIBLE_DEVICES="0")), Status.PASSED),
        ((bound(0), variables(LOCAL_RANK="1", LOCAL_WORLD_SIZE="2")), Status.FIRED),
        ((bound(1), variables(LOCAL_RANK="1", LOCAL_WORLD_SIZE="2")), Status.PASSED),
        ((bound(1), variables(CUDA_VISIBLE_DEVICES="1", LOCAL_RANK="1")), Status.PASSED),
        ((bound(1), variables(SLURM_LOCALID="0")), Status.PASSED),
        ((bound(1), variables(SLURM_LOCALID="0", SLURM_STEP_ID="3")), Status.FIRED),
        ((bound(1), variables(CUDA_VISIBLE_DEVICES="GPU-0000")), Status.PASSED),
        ((bound(1), variables()), Status.PASSED),
        ((bound(0, 1), variables(CUDA_VISIBLE_DEVICES="0")), Status.PASSED),
        ((bound(0, 1, policy="bind:1"), variables(CUDA_VISIBLE_DEVICES="0")), Status.FIRED),
        ((bound(0, 1, policy="interleave:0-1"), variables(CUDA_VISIBLE_DEVICES="0")), Status.PASSED),
        ((bound(3, total=4), variables()), Status.FIRED),
        ((bound(0, total=1), variables(CUDA_VISIBLE_DEVICES="1")), Status.NOT_APPLICABLE),
        ((Fabric(numa_nodes=2, unknown={"process_numa_nodes": "x"}), variables()), Status.UNKNOWN),
        ((Fabric(unknown={"numa_nodes": "no NUMA"}), variables()), Status.UNKNOWN),
    ],
)
def test_numa(facts: tuple[Fact, ...], status: Status) -> None:
    """A process bound away from the GPU of its rank or its mask is found; an unbound one is not."""
    assert status == check(numa_mismatch, *facts, TWO_SOCKETS).status


def test_numa_of_the_gpus_that_were_passed_in() -> None:
    """In a container the bus shows every GPU; NVML's list says which ones are meant."""
    state = GpuState(init_code=0, gpus=(Gpu(0, pci_address="00000000:9A:00.0"),))
    finding = check(numa_mismatch, bound(0), variables(), TWO_SOCKETS, state).finding
    assert "numactl --cpunodebind=1 --membind=1 python train.py" == finding.fixes[0].commands[0].shell


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((cpus(None, 64), variables(OMP_NUM_THREADS="64", LOCAL_WORLD_SIZE="8")), Status.FIRED),
        ((cpus(None, 64), variables(OMP_NUM_THREADS="8", LOCAL_WORLD_SIZE="8")), Status.PASSED),
        ((cpus(None, 64), variables(OMP_NUM_THREADS="64")), Status.PASSED),
        ((cpus(None, 368), variables(LOCAL_WORLD_SIZE="8")), Status.FIRED),
        ((cpus(None, 64), variables(LOCAL_WORLD_SIZE="8"), TorchSettings(num_threads=1)), Status.PASSED),
        ((cpus(None, 64), variables()), Status.PASSED),
        (
            (Resources(cpus_online=64, cpus_affinity=8), variables(OMP_NUM_THREADS="8", LOCAL_WORLD_SIZE="8")),
            Status.PASSED,
        ),
        (
            (Resources(cpus_online=64, cpus_affinity=8), variables(OMP_NUM_THREADS="16", LOCAL_WORLD_SIZE="8")),
            Status.FIRED,
        ),
        (
            (Resources(cpus_online=64, cpus_affinity=16), variables(OMP_NUM_THREADS="8", LOCAL_WORLD_SIZE="8")),
            Status.FIRED,
        ),
        ((cpus(None, 64), variables(OMP_NUM_THREADS="64", SLURM_NTASKS_PER_NODE="8")), Status.PASSED),
        ((cpus(None, 64), variables(OMP_NUM_THREADS="64", SLURM_NTASKS_PER_NODE="8", SLURM_STEP_ID="0")), Status.FIRED),
        ((cpus(None, 64), variables(**STEP, SLURM_NTASKS_PER_NODE="8", SLURM_STEP_NUM_TASKS="16")), Status.FIRED),
        ((cpus(None, 64), variables(**STEP, SLURM_NTASKS_PER_NODE="8", SLURM_STEP_NUM_TASKS="1")), Status.PASSED),
        ((cpus(None, 64), variables(**STEP, SLURM_STEP_NUM_TASKS="16")), Status.PASSED),
        ((cpus(4.0, 64), variables(), TorchSettings(num_threads=32)), Status.FIRED),
        ((cpus(4.0, 64), variables(), TorchSettings(num_threads=4)), Status.PASSED),
        ((cpus(4.0, 64), variables(OMP_NUM_THREADS="4,2")), Status.PASSED),
        ((cpus(4.0, 64), variables()), Status.UNKNOWN),
        ((Resources(unknown={"cpus_affinity": "x"}), variables()), Status.UNKNOWN),
    ],
)
def test_threads(facts: tuple[Fact, ...], status: Status) -> None:
    """More than one and a half times as many threads as CPUs, over all processes here, is a warning."""
    assert status == check(omp_threads_oversubscription, *facts, ONE_GPU).status


def test_share_of_the_cpus_is_named() -> None:
    """The way out is the CPUs divided by the processes."""
    facts = (cpus(None, 64), variables(OMP_NUM_THREADS="64", LOCAL_WORLD_SIZE="8"), ONE_GPU)
    finding = check(omp_threads_oversubscription, *facts).finding
    assert (Severity.WARNING, "export OMP_NUM_THREADS=8") == (finding.severity, finding.fixes[0].commands[0].shell)


@pytest.mark.parametrize(
    ("fabric", "threads", "status"),
    [
        (Fabric(numa_nodes=2, process_numa_nodes=(0,)), "24", Status.PASSED),
        (Fabric(numa_nodes=2, process_numa_nodes=(0,)), "48", Status.FIRED),
        (Fabric(numa_nodes=8, process_numa_nodes=(0, 1, 2, 3)), "24", Status.PASSED),
        (Fabric(numa_nodes=2, process_numa_nodes=(0, 1)), "24", Status.FIRED),
        (Fabric(), "24", Status.FIRED),
    ],
)
def test_ranks_bound_to_the_numa_nodes_of_their_gpus(fabric: Fabric, threads: str, status: Status) -> None:
    """Four of eight ranks share a socket's 96 CPUs; half of the CPUs across both sockets are a limit for all eight."""
    half = Resources(cpus_online=192, cpus_affinity=96)
    environment = variables(OMP_NUM_THREADS=threads, LOCAL_WORLD_SIZE="8")
    assert status == check(omp_threads_oversubscription, half, environment, fabric, ONE_GPU).status


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.id)
def test_machine_without_gpu_is_not_judged(rule: object) -> None:
    """Tight limits on a machine without an NVIDIA GPU are no finding."""
    tight = cpus(1.0, 64, open_files_soft=256, memory_cgroup_limit_mib=1024, memory_total_mib=64000)
    facts = (tight, variables(OMP_NUM_THREADS="64"), bound(1), UBUNTU)
    assert Status.NOT_APPLICABLE == check(rule, *facts, *BARE).status  # type: ignore[arg-type]


def test_usual_limit_on_one_machine_is_info() -> None:
    """The default of 1024 files on one healthy 8-GPU machine is worth knowing, not a warning; below it warns."""
    usual = check(open_files_limit_low, Resources(open_files_soft=1024), shown(8), ONE_GPU).finding
    little = check(open_files_limit_low, Resources(open_files_soft=256), shown(8), ONE_GPU).finding
    assert (Severity.INFO, Severity.WARNING) == (usual.severity, little.severity)
