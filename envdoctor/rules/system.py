"""Limits of the machine or container that training runs into."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Host, Resources
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.remedy.container import more_shm
from envdoctor.remedy.variables import look
from envdoctor.rule import known, rule
from envdoctor.rules.presence import need_gpu

ENOUGH_SHM_MIB = 1024
ENOUGH_FREE_MIB = 512  # two workers' batches of images, some segments of NCCL's
SHM = "/dev/shm"  # noqa: S108 - named, not written to


@rule(severity=Severity.WARNING, group="system")
def shm_too_small(
    resources: Resources,
    host: Host | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
) -> Iterator[Finding]:
    """Shared memory, /dev/shm, is too small for DataLoader workers and NCCL.

    ## What it means
    DataLoader workers hand batches over in /dev/shm, and NCCL puts its buffers for GPUs of one machine there. Docker
    gives a container 64 MiB unless it is told otherwise.

    ## Why it matters
    Workers die with "Bus error … out of shared memory", NCCL fails with "unhandled system error", often hours into a
    run.

    ## How it is detected
    The size of the /dev/shm mount, in a container or not, against 1 GiB; and of a mount that is large enough what is
    free, against 512 MiB. On a machine without an NVIDIA GPU it does not apply: such a machine is seldom meant for
    training, and nothing is wrong with it.

    ## What to do
    Docker: --shm-size=8g, or --ipc=host. Kubernetes: an emptyDir of medium Memory at /dev/shm. Host: remount it larger.
    Where it is full: jobs that were killed leave their segments behind. Remove those that no process has open, as the
    host sees it.

    ## Sources
    https://docs.pytorch.org/docs/stable/multiprocessing.html
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/troubleshooting.html
    """
    need_gpu(bus, nodes, module, smi, driver)
    size, free = known(resources, "shm_total_mib"), resources.shm_free_mib
    full = free is not None and free < ENOUGH_FREE_MIB
    if size >= ENOUGH_SHM_MIB and not full:
        return
    shown: tuple[Evidence, ...] = (see(resources, "shm_total_mib", SHM, f"{size} MiB"),)
    said, fixes = f"{SHM} is {size} MiB", more_shm(host)
    if size >= ENOUGH_SHM_MIB:
        said, fixes = f"{SHM} has {free} MiB free of {size} MiB", (_who_fills_it(), *fixes)
        shown = (*shown, see(resources, "shm_free_mib", "free in it", f"{free} MiB"))
    title = f"{said}: DataLoader workers will die with “Bus error”"
    yield Finding(title, evidence=shown, fixes=fixes, confidence=Confidence.LIKELY)


def _who_fills_it() -> Fix:
    # Nothing that deletes: a container that shares /dev/shm with its host does not see whose the segments are.
    return look("See what fills it, and which process has it open", f"ls -lhS {SHM} | head -n 20", f"fuser -v {SHM}/*")


RULES = (shm_too_small,)
