"""NVIDIA's images as a way out: where they are named, and where not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envdoctor.facts.host import Host
from envdoctor.facts.surroundings import Container
from envdoctor.facts.torch import TorchBuild
from envdoctor.remedy.image import image_for_driver, image_like
from envdoctor.render.machine_words import system
from envdoctor.snapshot import of
from tests.rule_facts import DOCKER, JETSON, UBUNTU, WSL

DRIVER_535 = (535, 183, 1)


@pytest.mark.parametrize(
    ("driver", "gpus", "tag"),
    [
        (DRIVER_535, ("8.0",), "25.06-py3"),
        (DRIVER_535, ("12.0",), "25.06-py3"),
        ((470, 256, 2), ("8.0",), "22.12-py3"),
        ((470, 256, 2), ("9.0",), "22.12-py3"),
        ((470, 256, 2), ("12.0",), None),
        (DRIVER_535, ("6.1",), None),
        (None, ("8.0",), None),
    ],
)
def test_newest_image_for_driver_and_gpu(
    driver: tuple[int, ...] | None, gpus: tuple[str, ...], tag: str | None
) -> None:
    """The newest image whose CUDA this driver starts and whose compiler knows the GPU; none for old cards."""
    found = image_for_driver(UBUNTU, driver, None, gpus)
    assert bool(tag) is bool(found)
    assert not found or f"nvcr.io/nvidia/pytorch:{tag} " in found[0].commands[0].shell


@pytest.mark.parametrize("host", [None, DOCKER, WSL, JETSON, replace(UBUNTU, system="Windows")])
def test_image_is_named_only_where_a_container_can_be_started(host: Host | None) -> None:
    """Inside a container, under WSL, on Jetson and on other systems nothing is advised."""
    assert () == image_for_driver(host, DRIVER_535, None)
    assert () == image_like(host, TorchBuild(version="2.9.0", cuda="13.0"))


def test_image_like_this_stack() -> None:
    """Torch 2.9 for CUDA 13.0 is most like 25.10; a CPU build is like none."""
    (fix,) = image_like(UBUNTU, TorchBuild(version="2.9.1+cu130", cuda="13.0"))
    assert "25.10-py3 (torch 2.9, CUDA 13.0)" in fix.title
    assert () == image_like(UBUNTU, TorchBuild(version="99.0+cpu", is_cpu_only=True))


def test_report_names_the_image() -> None:
    """The line about the machine says which of NVIDIA's images it is; elsewhere it says nothing of images."""
    inside = Container(kind="docker", nvidia_image="PyTorch", nvidia_image_tag="25.01")
    named = replace(DOCKER, os_name="Ubuntu 24.04")
    assert "Ubuntu 24.04 (docker) (NVIDIA PyTorch 25.01)" == system(of(named, inside))
    assert "Ubuntu 24.04 (docker)" == system(of(named, Container(kind="docker")))
