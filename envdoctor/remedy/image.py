"""NVIDIA's own PyTorch images as a way out: the newest that this driver runs, the one like a stack made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.finding import Command, Fix, Safety
from envdoctor.knowledge.cuda import cuda_minor, numbers
from envdoctor.knowledge.gpus import beyond_compiler, capability
from envdoctor.knowledge.ngc import Image, images, matching

if TYPE_CHECKING:
    from envdoctor.facts.host import Host
    from envdoctor.facts.torch import TorchBuild
    from envdoctor.knowledge.cuda import Version

OLDEST_GPU = (7, 5)  # for older ones NVIDIA's images were no longer built one by one; nothing is advised


def image_for_driver(
    host: Host | None, driver: Version | None, level: Version | None, gpus: tuple[str, ...] = ()
) -> tuple[Fix, ...]:
    """Give the newest image that this driver starts by itself and that has code for these GPUs."""
    if not _may_use(host):
        return ()
    fit = (each for each in images() if each.runs_on(driver, level) and _serves(each, gpus))
    found = next(fit, None)
    return (_use(found, "Or use NVIDIA's image that this driver runs"),) if found else ()


def image_like(host: Host | None, build: TorchBuild | None) -> tuple[Fix, ...]:
    """Give the image whose torch and CUDA are most like those installed here."""
    if not _may_use(host) or build is None:
        return ()
    found = matching(numbers(build.version), cuda_minor(build.cuda))
    return (_use(found, "Or use NVIDIA's image that is most like this stack"),) if found else ()


def _serves(image: Image, gpus: tuple[str, ...]) -> bool:
    known = [found for each in gpus if (found := capability(each))]
    return all(each >= OLDEST_GPU and beyond_compiler(each, image.cuda or ()) is False for each in known)


def _may_use(host: Host | None) -> bool:
    """Tell whether a container can be started here: Linux itself, not WSL, not in a container, not Jetson."""
    if host is None or host.jetson or host.wsl or host.system not in {None, "Linux"}:
        return False
    return host.container in {None, "none"}


def _use(image: Image, title: str) -> Fix:
    check = "python -c 'import torch; print(torch.__version__, torch.cuda.is_available())'"
    command = f"docker run --rm --gpus all --ipc=host nvcr.io/nvidia/pytorch:{image.tag} {check}"
    changes = "nothing of this environment; it needs Docker and the NVIDIA Container Toolkit"
    return Fix(f"{title}: {image.tag} ({image.words})", (Command(None, command),), Safety.DISRUPTIVE, changes)
