"""Limits of the machine or container that training runs into."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Host, Resources
from envdoctor.finding import Confidence, Finding, Severity, see
from envdoctor.remedy.container import more_shm
from envdoctor.rule import known, rule
from envdoctor.rules.presence import need_gpu

ENOUGH_SHM_MIB = 1024
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
    The size of the /dev/shm mount, in a container or not, against 1 GiB. On a machine without an NVIDIA GPU it does not
    apply: such a machine is seldom meant for training, and nothing is wrong with it.

    ## What to do
    Docker: --shm-size=8g, or --ipc=host. Kubernetes: an emptyDir of medium Memory at /dev/shm. Host: remount it larger.

    ## Sources
    https://docs.pytorch.org/docs/stable/multiprocessing.html
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/troubleshooting.html
    """
    need_gpu(bus, nodes, module, smi, driver)
    size = known(resources, "shm_total_mib")
    if size >= ENOUGH_SHM_MIB:
        return
    yield Finding(
        f"{SHM} is {size} MiB: DataLoader workers will die with “Bus error”",
        evidence=(see(resources, "shm_total_mib", SHM, f"{size} MiB"),),
        fixes=more_shm(host),
        confidence=Confidence.LIKELY,
    )


RULES = (shm_too_small,)
