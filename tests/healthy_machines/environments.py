"""Python environments of other makes that work: conda, uv, the distribution's own, nightlies, source builds, no GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from envdoctor.facts.driver import DriverFiles, KernelModule
from envdoctor.facts.gpu import PciBus, PciDevice
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.facts.torch import Pin, TorchBuild
from envdoctor.snapshot import Snapshot
from tests.demo_machines import cards, stacks, stories
from tests.demo_machines import hardware as hw
from tests.healthy_machines.making import (
    A10G,
    H100_PCIE,
    RTX_3090,
    TORCH_25,
    TORCH_29,
    TORCH_211,
    Asked,
    by_system_libraries,
    changed,
    edit,
    machine,
    variables,
)

NOT_ASKED = "no NVIDIA device node: the driver is not asked"
CUDA_FACTS = ("gpu_state", "gpu_fabric", "nvidia_smi", "cuda_driver", "cuda_runtime")
CONDA = "/home/kim/miniforge3/envs/train"


def _with(machine_: Snapshot, **versions: str) -> Snapshot:
    """Give the machine whose distributions of these names (written with _) have these versions."""
    packages = machine_.facts["packages"]
    assert isinstance(packages, Packages)
    wanted = {name.replace("_", "-"): version for name, version in versions.items()}
    found = tuple(replace(each, version=wanted.get(each.name, each.version)) for each in packages.distributions)
    return changed(machine_, replace(packages, distributions=found))


def _torch(machine_: Snapshot, version: str, **build: Any) -> Snapshot:
    """Give the machine whose torch calls itself ``version`` everywhere."""
    named = edit(_with(machine_, torch=version), "torch_build", version=version, metadata_version=version, **build)
    named = edit(named, "torch_import", version=version)
    return edit(named, "torch_files", dist_infos=(f"torch-{version}.dist-info",))


def conda_forge() -> Snapshot:
    """Pytorch 2.5.1 of conda-forge with conda's own cuDNN and NCCL: no wheel, no pin."""
    kind = Asked(RTX_3090, "560.35.03", TORCH_25, python="3.12.8", prefix=CONDA, packages={"environment_kind": "conda"})
    box = _torch(by_system_libraries(machine(kind), f"{CONDA}/lib", {"cudnn": "9.3.0", "nccl": "2.23.4"}), "2.5.1",
                 cuda="12.6", installer="conda", conda_build="cuda126_py312h1763f6d_306", wheel_tag="")  # fmt: skip
    packages = box.facts["packages"]
    assert isinstance(packages, Packages)
    owned = tuple(replace(each, source="conda", installer="conda") for each in packages.distributions)
    records = tuple(
        Distribution(name, version, f"{CONDA}/conda-meta", "conda", source="conda", build=build, channel="conda-forge")
        for name, version, build in (
            ("pytorch", "2.5.1", "cuda126_py312h1763f6d_306"), ("libtorch", "2.5.1", "cuda126_hebb32c0_306"),
            ("cudnn", "9.3.0.75", "h62a6f1c_2"), ("nccl", "2.23.4.1", "h2b5d15b_3"), ("cuda-version", "12.6", ""),
            ("libcublas", "12.6.4.1", ""), ("python", "3.12.8", ""), ("mkl", "2024.2.2", ""),
            ("_openmp_mutex", "4.5", "2_kmp_llvm"),
        )
    )  # fmt: skip
    return changed(box, replace(packages, distributions=(*owned, *records)))


def conda_with_pip_torch() -> Snapshot:
    """Conda brought Python alone, pip brought torch: the way that PyTorch itself advises since 2.6."""
    kind = Asked(RTX_3090, "570.169", TORCH_29, prefix=CONDA, packages={"environment_kind": "conda"})
    box = machine(kind)
    packages = box.facts["packages"]
    assert isinstance(packages, Packages)
    records = tuple(
        Distribution(name, version, f"{CONDA}/conda-meta", "conda", source="conda", channel="conda-forge")
        for name, version in (("python", "3.11.9"), ("openssl", "3.4.0"), ("pip", "25.2"))
    )  # fmt: skip
    return changed(box, replace(packages, distributions=(*packages.distributions, *records)))


def uv_environment() -> Snapshot:
    """A uv project: no pip inside, a lock file, companions from the same index."""
    own = {"has_pip": False, "has_uv": True, "lock_file": "/home/kim/train/uv.lock"}
    beside = {"torchvision": "0.24.0+cu128", "torchaudio": "2.9.0+cu128"}
    box = machine(Asked(RTX_3090, "570.169", TORCH_29, prefix="/home/kim/train/.venv", packages=own, beside=beside))
    packages = box.facts["packages"]
    assert isinstance(packages, Packages)
    return changed(box, replace(packages, distributions=tuple(
        replace(each, installer="uv") for each in packages.distributions if each.name != "pip"
    )))  # fmt: skip


def nightly() -> Snapshot:
    """A nightly torch with the Triton revision that it pins, and the torchvision of the same night."""
    version = "2.12.0.dev20260315+cu130"
    box = machine(Asked(cards.H100, "580.95.05", TORCH_211, python="3.12.3"))
    pins = tuple(each for each in box.facts["torch_build"].pins if each.name != "triton")  # type: ignore[attr-defined]
    own = Pin("triton", "==3.6.0+git9844da95")
    box = _with(_torch(box, version, pins=(*pins, own)), triton="3.6.0+git9844da95")
    packages = box.facts["packages"]
    assert isinstance(packages, Packages)
    vision = Distribution("torchvision", "0.27.0.dev20260315+cu130", packages.distributions[0].location, "pip",
                          source="pip", built_for="+cu130", requires=("torch==2.12.0.dev20260315",))  # fmt: skip
    return changed(box, replace(packages, distributions=(*packages.distributions, vision)))


def source_build() -> Snapshot:
    """Torch compiled on this machine (editable), with a Triton of somebody's choice and the system's libraries."""
    box = by_system_libraries(machine(Asked(A10G, "560.35.03", TORCH_25)), "/usr/local/cuda/lib64", {"cudnn": "9.5.1",
                              "nccl": "2.23.4"})  # fmt: skip
    version = "2.7.0a0+git1a2b3c4"
    box = _with(_torch(box, version, cuda="12.6", arch_list=("sm_86",), wheel_tag="", installer="pip"), triton="3.2.0")
    files = box.facts["torch_files"]
    return edit(changed(box, files), "torch_cuda", arch_list=("sm_86",))


def many_companions() -> Snapshot:
    """Packages around torch in the versions that were published for it."""
    beside = {
        "torchvision": "0.24.0+cu128", "torchaudio": "2.9.0+cu128", "xformers": "0.0.33", "flash-attn": "2.8.3",
        "bitsandbytes": "0.48.1", "deepspeed": "0.18.0", "transformers": "4.57.0", "accelerate": "1.11.0",
        "onnxruntime-gpu": "1.23.0", "lightning": "2.5.5", "torchmetrics": "1.8.2", "peft": "0.17.1",
        "torchao": "0.14.0", "timm": "1.0.20", "datasets": "4.2.0", "numpy": "2.3.3",
    }  # fmt: skip
    return machine(Asked(H100_PCIE, "570.169", TORCH_29, beside=beside))


def allocator_options() -> Snapshot:
    """Options that people set on purpose and torch reads."""
    box = machine(Asked(cards.H100, "570.169", TORCH_29))
    return variables(box, PYTORCH_CUDA_ALLOC_CONF="expandable_segments:True,max_split_size_mb:512",
                     CUDA_DEVICE_MAX_CONNECTIONS="1", TORCH_NCCL_ASYNC_ERROR_HANDLING="1",
                     CUDA_MODULE_LOADING="LAZY",
                     TOKENIZERS_PARALLELISM="false", NCCL_P2P_LEVEL="NVL", TORCH_CUDA_ARCH_LIST="9.0")  # fmt: skip


def _without_gpu(box: Snapshot, build: TorchBuild, words: str) -> Snapshot:
    """Give the machine without an NVIDIA card, and with this torch."""
    cuda = stacks.sees_nothing(words, "AssertionError" if build.is_cpu_only else "RuntimeError")
    found = DriverFiles(unknown={"nvidia_smi": "not on PATH", "first_libcuda": "no libcuda.so.1 in the search order"})
    return changed(
        box, PciBus(readable=True), replace(hw.NO_NODES, groups=(1000,)), found, build, cuda,
        KernelModule(loaded=False, uvm_loaded=False, nouveau_loaded=False, peermem_loaded=False),
        absent=dict.fromkeys(CUDA_FACTS, NOT_ASKED),
    )  # fmt: skip


def continuous_integration() -> Snapshot:
    """A runner without a GPU on which the default, CUDA, torch was installed: nothing is expected of CUDA there."""
    limits = {"shm_total_mib": 64, "cpus_cgroup_limit": 2.0, "memory_cgroup_limit_mib": 7_000}
    inside = {"container": "docker", "is_root": True}
    box = machine(Asked(cards.L4, "570.169", TORCH_29, host=inside, resources=limits))
    build = box.facts["torch_build"]
    assert isinstance(build, TorchBuild)
    words = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver"
    return _without_gpu(box, build, words)


def cloud_cpu() -> Snapshot:
    """A cloud machine for the CPU with the CPU torch and what else people install."""
    box = stories.cpu_only()
    packages = box.facts["packages"]
    assert isinstance(packages, Packages)
    more = tuple(
        Distribution(name, version, packages.distributions[0].location, "pip", source="pip")
        for name, version in (
            ("pandas", "2.3.3"), ("scikit-learn", "1.7.2"), ("scipy", "1.16.2"), ("matplotlib", "3.10.7"),
            ("transformers", "4.57.0"), ("onnxruntime", "1.23.0"), ("jupyterlab", "4.4.9"), ("xgboost", "3.0.5"),
            ("nvidia-nccl-cu12", "2.28.3"), ("opencv-python-headless", "4.12.0.88"), ("tensorboard", "2.20.0"),
        )
    )  # fmt: skip
    box = edit(box, "host", virtualization="kvm")
    return changed(box, replace(packages, distributions=(*packages.distributions, *more)))


def debian_package() -> Snapshot:
    """Debian's own python3-torch, for the CPU, in the system's Python."""
    box = stories.cpu_only()
    site, version = "/usr/lib/python3/dist-packages", "2.6.0+debian"
    box = _torch(box, version, location=f"{site}/torch", wheel_tag="", installer="", cxx11_abi=True)
    packages = box.facts["packages"]
    assert isinstance(packages, Packages)
    own = tuple(
        replace(each, location=site, source="system", installer="", built_for="", requires=(),
                version={"torch": version, "torchvision": "0.21.0", "numpy": "2.2.4"}.get(each.name, each.version))
        for each in packages.distributions
    )  # fmt: skip
    box = edit(box, "host", os_id="debian", os_version="13", os_name="Debian GNU/Linux 13 (trixie)", libc="glibc 2.41")
    box = edit(box, "torch_path", found=(f"{site}/torch",))
    box = edit(box, "torch_files", dist_infos=("torch-2.6.0+debian.egg-info",), record_missing=True, checked_files=0)
    box = edit(box, "libraries", glibc="2.41")
    return changed(box, replace(packages, distributions=own, environment_kind="system", executable="/usr/bin/python3",
                                prefix="/usr", python_version="3.13.5", externally_managed=True))  # fmt: skip


def rocm() -> Snapshot:
    """AMD's accelerators with the ROCm torch, which speaks of them as of CUDA."""
    box = machine(Asked(cards.A100, "550.163.01", TORCH_29, count=2))
    build = box.facts["torch_build"]
    assert isinstance(build, TorchBuild)
    build = replace(build, version="2.9.0+rocm6.4", metadata_version="2.9.0+rocm6.4", cuda=None, hip="6.4.43482",
                    arch_list=(), cuda_linkage=None, has_libtorch_cuda=False, is_cpu_only=False,
                    pins=(Pin("pytorch-triton-rocm", "==3.5.0"),))  # fmt: skip
    name = "AMD Instinct MI250X"
    cuda = replace(box.facts["torch_cuda"], arch_list=("gfx90a", "gfx942"), device_names=(name,) * 2,
                   capabilities=("9.0", "9.0"))  # fmt: skip
    amd = tuple(PciDevice(f"0000:{each}:00.0", "1002", "7408", "038000", "amdgpu", 0) for each in ("c1", "c6"))
    box = _without_gpu(box, build, "")
    kept = tuple(each for each in box.facts["packages"].distributions if not each.name.startswith("nvidia-"))  # type: ignore[attr-defined]
    names = {"triton": ("pytorch-triton-rocm", "3.5.0"), "torch": ("torch", "2.9.0+rocm6.4")}
    told = ((each, names.get(each.name, (each.name, each.version))) for each in kept)
    renamed = tuple(replace(each, name=name, version=text) for each, (name, text) in told)
    box = edit(changed(box, cuda, PciBus(other_gpus=amd, readable=True)), "packages", distributions=renamed)
    box = edit(box, "torch_import", version=build.version)
    return edit(box, "libraries", rows=())
