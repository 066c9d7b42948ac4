"""The container probe: what NVIDIA's image and runtime say, against what is really there."""

from __future__ import annotations

from pathlib import Path

import pytest
from envdoctor_probes.mounts import Mounted, holder_of, parse_mountinfo
from envdoctor_probes.nvidia_container import container, is_driver_file

from envdoctor.facts.surroundings import Container
from envdoctor.testing import collect
from tests.stands import trees
from tests.stands.trees import Machine

IMAGE = {
    "NVIDIA_PRODUCT_NAME": "PyTorch", "NVIDIA_PYTORCH_VERSION": "25.03", "NVIDIA_BUILD_ID": "148941831",
    "PYTORCH_BUILD_VERSION": "2.7.0a0+7c8ec84", "CUDNN_VERSION": "9.8.0.87", "NCCL_VERSION": "2.25.1",
    "CUBLAS_VERSION": "12.8.4.1", "NVIDIA_REQUIRE_CUDA": "cuda>=9.0", "NVIDIA_VISIBLE_DEVICES": "void",
    "NVIDIA_DRIVER_CAPABILITIES": "compute,utility,video",
}  # fmt: skip


def container_of(top: Path, machine: Machine, **environ: str) -> Container:
    """Collect the container of a recorded machine."""
    fact = collect(container, trees.write(top, machine), environ=environ)
    assert isinstance(fact, Container)
    return fact


def test_image_says_what_it_was_built_with(tmp_path: Path) -> None:
    """The image's own variables are the truth about what NVIDIA put into it."""
    fact = container_of(tmp_path, trees.ngc_container(), **IMAGE)
    assert ("docker", "PyTorch", "25.03", "148941831") == (
        fact.kind, fact.nvidia_image, fact.nvidia_image_tag, fact.nvidia_build_id,
    )  # fmt: skip
    versions = {
        "PYTORCH_BUILD_VERSION": "2.7.0a0+7c8ec84", "CUDNN_VERSION": "9.8.0.87", "NCCL_VERSION": "2.25.1",
        "CUBLAS_VERSION": "12.8.4.1",
    }  # fmt: skip
    assert versions == dict(fact.image_versions)
    assert ("void", "compute,utility,video", "cuda>=9.0") == (
        fact.visible_devices, fact.driver_capabilities, fact.require_cuda,
    )  # fmt: skip


def test_image_is_known_without_its_variables(tmp_path: Path) -> None:
    """Over ssh the variables are gone; NVIDIA's entry point and /opt/pytorch still show the image."""
    fact = container_of(tmp_path, trees.ngc_container())
    assert ("PyTorch", None, ()) == (fact.nvidia_image, fact.nvidia_image_tag, fact.image_versions)
    assert "nvidia_image_tag" in fact.unknown


def test_variables_of_the_first_process_stand_in(tmp_path: Path) -> None:
    """What the container was started with is read from its first process where this one does not have it."""
    first = "\0".join(f"{name}={value}" for name, value in IMAGE.items()) + "\0"
    fact = container_of(tmp_path, {**trees.ngc_container(), "proc/1/environ": first})
    assert ("void", "25.03", "/proc/1/environ") == (
        fact.visible_devices, fact.nvidia_image_tag, fact.sources["nvidia_image_tag"],
    )  # fmt: skip


def test_first_process_of_a_host_is_not_asked(tmp_path: Path) -> None:
    """Where the kernel's threads are seen, process 1 is the host's init and says nothing of a container."""
    machine = {**trees.ngc_container(), "proc/1/environ": "NVIDIA_VISIBLE_DEVICES=all\0", "proc/2/comm": "kthreadd\n"}
    del machine[".dockerenv"]
    assert container_of(tmp_path, machine).visible_devices is None


def test_mounted_driver_files_are_named(tmp_path: Path) -> None:
    """Each file that the runtime has mounted is listed, and nothing else."""
    fact = container_of(tmp_path, trees.ngc_container())
    assert 6 == len(fact.toolkit_mounts)
    assert "/usr/lib/x86_64-linux-gnu/libcuda.so.570.124.06" == fact.toolkit_mounts[0]


def test_cdi_is_known_by_its_marks(tmp_path: Path) -> None:
    """CDI leaves a file for the loader; without it ``void`` and the nodes tell; neither is a fault."""
    marked = container_of(tmp_path / "marked", trees.ngc_container(), NVIDIA_VISIBLE_DEVICES="all")
    assert (True, "/etc/ld.so.conf.d/00-nvcr-3141592653.conf") == (marked.uses_cdi, marked.sources["uses_cdi"])
    plain = {path: entry for path, entry in trees.ngc_container().items() if "nvcr" not in path}
    assert True is container_of(tmp_path / "void", plain, NVIDIA_VISIBLE_DEVICES="void").uses_cdi
    without = {path: entry for path, entry in plain.items() if not path.startswith("dev/")}
    assert False is container_of(tmp_path / "none", without, NVIDIA_VISIBLE_DEVICES="void").uses_cdi
    untold = container_of(tmp_path / "all", plain, NVIDIA_VISIBLE_DEVICES="all")
    assert (None, True) == (untold.uses_cdi, "uses_cdi" in untold.unknown)


def test_host_is_no_container(tmp_path: Path) -> None:
    """A host has no image, no mounted driver files, and no answer about CDI."""
    fact = container_of(tmp_path, trees.native_8gpu())
    assert ("none", None, (), None) == (fact.kind, fact.nvidia_image, fact.toolkit_mounts, fact.uses_cdi)


def test_cuda_base_image_is_known_by_its_variables(tmp_path: Path) -> None:
    """Older CUDA images do not name themselves, and carry their versions all the same."""
    fact = container_of(tmp_path, trees.docker_v1(), NVARCH="x86_64", CUDA_VERSION="12.2.2")
    assert ("CUDA", (("CUDA_VERSION", "12.2.2"),)) == (fact.nvidia_image, fact.image_versions)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/usr/lib64/libcuda.so.535.183.01", True),
        ("/usr/lib64/libnvidia-ptxjitcompiler.so.535.183.01", True),
        ("/usr/bin/nvidia-smi", True),
        ("/usr/lib64/libcudart.so.12", False),
        ("/etc/resolv.conf", False),
        ("/data/nvidia-smi/log", False),
    ],
)
def test_driver_file_is_told_from_a_toolkits(path: str, expected: bool) -> None:
    """The toolkit's libraries belong to the image, not to the driver."""
    assert expected is is_driver_file(path)


MOUNTS = (
    "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw,errors=remount-ro\n"
    "23 22 0:50 /vol /data\\040sets ro,nosuid - nfs4 filer:/vol rw,vers=4.2,hard\n"
    "24 22 0:51 / /data rw - tmpfs tmpfs rw,size=1g\n"
    "25 22 0:52 / /data rw - xfs /dev/sdb rw\n"
    "rubbish\n"
)


def test_mountinfo_is_read_with_escapes_and_options() -> None:
    """Blanks are written as octal, and the file system's own options follow those of the mount."""
    mounts = parse_mountinfo(MOUNTS)
    assert Mounted("/vol", "/data sets", "ro,nosuid,vers=4.2,hard", "nfs4", "filer:/vol") == mounts[1]
    assert 4 == len(mounts)


@pytest.mark.parametrize(
    ("path", "filesystem"), [("/data/x", "xfs"), ("/data sets/a", "nfs4"), ("/database", "ext4"), ("/", "ext4")]
)
def test_deepest_and_last_mount_holds_a_path(path: str, filesystem: str) -> None:
    """A mount holds what lies below it, not what only begins alike; the last one on a point hides those before."""
    held = holder_of(path, parse_mountinfo(MOUNTS))
    assert held is not None
    assert filesystem == held.filesystem
