"""Ways to start a container so that it sees the GPUs and has room in /dev/shm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.finding import Command, Fix, Safety

if TYPE_CHECKING:
    from envdoctor.facts.host import Host

PASS_GPUS = {
    "podman": "podman run --rm --device nvidia.com/gpu=all IMAGE nvidia-smi",
    "kubernetes": "kubectl explain pod.spec.containers.resources.limits  # set nvidia.com/gpu: 1 there",
    "apptainer": "apptainer exec --nv IMAGE.sif nvidia-smi",
    "singularity": "singularity exec --nv IMAGE.sif nvidia-smi",
}
ROOM_IN_SHM = {
    "podman": "podman run --shm-size={gib}g IMAGE",
    "kubernetes": "kubectl explain pod.spec.volumes.emptyDir  # mount one with medium: Memory at /dev/shm",
}


def _kind(host: Host | None) -> str:
    return (host and host.container) or "none"


def pass_gpus(host: Host | None) -> Fix:
    """Start the container again with the GPUs passed in."""
    return Fix(
        "Start the container with the GPUs passed in (the host needs the NVIDIA Container Toolkit)",
        (Command(None, PASS_GPUS.get(_kind(host), "docker run --rm --gpus all IMAGE nvidia-smi")),),
        Safety.DISRUPTIVE,
        "the container is started anew",
    )


def more_shm(host: Host | None, gib: int = 8) -> tuple[Fix, ...]:
    """Give the container, or the machine, a /dev/shm of this size."""
    if _kind(host) == "none":
        return (_remount(gib),)
    room = ROOM_IN_SHM.get(_kind(host), "docker run --shm-size={gib}g IMAGE").format(gib=gib)
    changes = "the container is started anew"
    first = Fix("Start the container with a larger /dev/shm", (Command(None, room),), Safety.DISRUPTIVE, changes)
    if _kind(host) in ROOM_IN_SHM:
        return (first,)
    share = Fix(
        "Or let it share the host's /dev/shm",
        (Command(None, "docker run --ipc=host IMAGE"),),
        Safety.DISRUPTIVE,
        f"{changes}; it sees the host's shared memory",
    )
    return (first, share)


def _remount(gib: int) -> Fix:
    return Fix(
        "Enlarge /dev/shm until the next restart (a line in /etc/fstab makes it last)",
        (Command(None, f"sudo mount -o remount,size={gib}G /dev/shm"),),
        Safety.ADMIN,
        "the mount of /dev/shm",
        needs_root=True,
    )
