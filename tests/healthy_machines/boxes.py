"""Containers, WSL and Jetson that work."""

from __future__ import annotations

from dataclasses import replace

from envdoctor.facts.driver import CudaDevice, DriverFiles, DriverLibrary, KernelModule
from envdoctor.facts.gpu import DeviceNode, DeviceNodes, PciBus, PciDevice
from envdoctor.facts.nvml import MigDevice
from envdoctor.facts.packages import Packages
from envdoctor.facts.surroundings import Container
from envdoctor.facts.torch import TorchBuild
from envdoctor.snapshot import Snapshot
from tests.demo_machines import around, cards
from tests.demo_machines import hardware as hw
from tests.healthy_machines.making import (
    H100_PCIE,
    RTX_3090,
    SLOTS,
    T4,
    TORCH_24,
    TORCH_25,
    TORCH_27_CU128,
    TORCH_29,
    Asked,
    by_system_libraries,
    changed,
    edit,
    gpus,
    machine,
    refused,
    variables,
)

IN_DOCKER = {"container": "docker", "is_root": True}
NO_LOG = {"xids": "/dev/kmsg: Operation not permitted"}
HIDDEN = {"fabric_manager_running": "the host's processes are not seen here", "on_disk_version": "no /lib/modules here"}


def _inside(asked: Asked, **container: object) -> Snapshot:
    """Give a container: the host's module, its own files, the image's limits."""
    box = machine(asked)
    version = asked.driver
    seen = KernelModule(loaded=True, version=version, flavor=asked.flavor, uvm_loaded=True, nouveau_loaded=False,
                        peermem_loaded=False, unknown=HIDDEN)  # fmt: skip
    said = {"kind": asked.host["container"], "visible_devices": "all", "driver_capabilities": "compute,utility"}
    return changed(box, seen, Container(**{**said, "unknown": around.CDI_UNTOLD, **container}))  # type: ignore[arg-type]


def docker_with_two_of_four() -> Snapshot:
    """Docker run --gpus '"device=2,3"' --shm-size=8g: the bus still shows all four cards of the host."""
    box = _inside(Asked(cards.A100, "550.163.01", TORCH_25, count=2, prefix="/usr/local", host=IN_DOCKER, nvlinks=12,
                        resources={"shm_total_mib": 8192, "locked_memory_soft_kib": 8192, "open_files_soft": 1048576},
                        flavor="proprietary"))  # fmt: skip
    whole = hw.bus("20b2", SLOTS[:4])
    some = tuple(hw.node(f"/dev/nvidia{n}", 195, n) for n in (2, 3))
    return changed(box, whole, replace(hw.nodes(0), gpus=some))


def kubernetes_pod() -> Snapshot:
    """A pod that the device plugin gave one of eight cards by CDI: no /proc/driver/nvidia, VISIBLE_DEVICES=void."""
    pod = _inside(
        Asked(cards.H100, "580.95.05", TORCH_29, prefix="/opt/venv", host={"container": "kubernetes", "is_root": True},
              resources={"cpus_cgroup_limit": 16.0, "cpus_online": 224, "cpus_affinity": 224,
                         "memory_total_mib": 2_063_812, "memory_cgroup_limit_mib": 200_000, "shm_total_mib": 65_536},
              variables={"NVIDIA_VISIBLE_DEVICES": "void", "OMP_NUM_THREADS": "8"}),
        visible_devices="void", uses_cdi=True, unknown={},
    )  # fmt: skip
    module = replace(pod.facts["kernel_module"], version=None, flavor=None, unknown={**HIDDEN,
                     "version": "/sys/module/nvidia/version: No such file or directory"})  # fmt: skip
    bus = hw.bus("2330", SLOTS, nvswitches=("07", "08", "09", "0a"))
    return changed(pod, module, bus, replace(hw.nodes(0), gpus=(hw.node("/dev/nvidia5", 195, 5),)))


def sandboxed_pod() -> Snapshot:
    """The same pod under gVisor: no list of modules, no PCI bus, only the nodes and the libraries."""
    pod = kubernetes_pod()
    nothing = KernelModule(unknown=dict.fromkeys(("loaded", "uvm_loaded", "version"), "/proc/modules: not there"))
    return changed(pod, nothing, PciBus(readable=False))


def rootless_podman() -> Snapshot:
    """Podman without root: the user is root inside only, and the nodes belong to nobody."""
    asked = Asked(RTX_3090, "570.169", TORCH_29, prefix="/usr/local", host={"container": "podman", "is_root": True})
    box = edit(_inside(asked, visible_devices="void", uses_cdi=True), "resources", shm_total_mib=16_000)
    nodes = box.facts["device_nodes"]
    nobody = {"uid": 65534, "gid": 65534}
    return edit(box, "device_nodes", nvidiactl=replace(nodes.nvidiactl, **nobody), uvm=replace(nodes.uvm, **nobody),  # type: ignore[attr-defined]
                gpus=tuple(replace(each, **nobody) for each in nodes.gpus), groups=(0,))  # type: ignore[attr-defined]  # fmt: skip


def apptainer() -> Snapshot:
    """Apptainer exec --nv: the host's driver libraries lie in the container's own folder."""
    box = _inside(Asked(cards.A100, "535.183.01", TORCH_25, host={"container": "apptainer"}, flavor="proprietary"))
    library = DriverLibrary("/.singularity.d/libs/libcuda.so.1", "libcuda.so.1", None)
    box = variables(box, LD_LIBRARY_PATH="/.singularity.d/libs")
    files = DriverFiles(libcuda=(library,), nvml=(replace(library, path="/.singularity.d/libs/libnvidia-ml.so.1"),),
                        nvidia_smi="/usr/bin/nvidia-smi", first_libcuda=library)  # fmt: skip
    return changed(edit(box, "libraries", library_path=("/.singularity.d/libs",)), files)


def mig_slice() -> Snapshot:
    """A pod with one MIG slice, 3g.40gb: NVML shows the parent card, the memory limit is below the parent's memory."""
    pod = _inside(
        Asked(H100_PCIE, "550.163.01", TORCH_25, host={"container": "kubernetes", "is_root": True},
              resources={"memory_cgroup_limit_mib": 61_440, "shm_total_mib": 16_384, "cpus_cgroup_limit": 8.0},
              variables={"NVIDIA_VISIBLE_DEVICES": "MIG-1f0c7a1e-0000-5000-8000-000000000001",
                         "OMP_NUM_THREADS": "8"}),
        visible_devices="MIG-1f0c7a1e-0000-5000-8000-000000000001",
    )  # fmt: skip
    name, mib = "NVIDIA H100 PCIe MIG 3g.40gb", 40_320
    pod = gpus(pod, mig_enabled=True, mig_enabled_after_reset=True,
               mig_devices=(MigDevice("NVIDIA H100 PCIe MIG 3g.40gb", "MIG-1f0c7a1e", mib),))  # fmt: skip
    pod = refused(pod, "utilization_percent", "memory_used_mib", "memory_free_mib", words="Insufficient Permissions")
    pod = edit(pod, "cuda_driver", devices=(CudaDevice(0, name, "9.0", mib),))
    return edit(pod, "torch_cuda", device_names=(name,))


def ngc_container() -> Snapshot:
    """NVIDIA's image 24.05 on driver 535: its own torch, no wheels of libraries, cuda-compat before the driver's."""
    build = "2.4.0a0+07cecf4168.nv24.05"
    box = _inside(
        Asked(cards.A100, "535.183.01", TORCH_24, python="3.10.12", count=4, nvlinks=12, host=IN_DOCKER,
              prefix="/usr", resources={"shm_total_mib": 8192}, flavor="proprietary"),
        nvidia_image="PyTorch", nvidia_image_tag="24.05", nvidia_build_id="92184937",
        image_versions=(("PYTORCH_BUILD_VERSION", build), ("PYTORCH_VERSION", "2.4.0a0+07cecf4"),
                        ("CUDA_VERSION", "12.4.1.003"), ("CUDNN_VERSION", "9.1.0.70+cuda12.4"),
                        ("NCCL_VERSION", "2.21.5+cuda12.4")),
    )  # fmt: skip
    box = by_system_libraries(box, "/usr/lib/x86_64-linux-gnu", {"cudnn": "9.1.0", "nccl": "2.21.5"})
    compat = DriverLibrary("/usr/local/cuda/compat/lib/libcuda.so.550.54.15", "libcuda.so.1", "550.54.15", compat=True)
    own = DriverLibrary(f"{hw.LIBRARIES}/libcuda.so.535.183.01", "libcuda.so.1", "535.183.01")
    path = "/usr/local/cuda/compat/lib:/usr/local/nvidia/lib:/usr/local/nvidia/lib64"
    packages, torch = box.facts["packages"], box.facts["torch_build"]
    assert isinstance(packages, Packages)
    assert isinstance(torch, TorchBuild)
    renamed = {"torch": build, "triton": "3.0.0+989adb9a2", "numpy": "1.24.4"}
    own_names = tuple(
        replace(each, name="pytorch-triton" if each.name == "triton" else each.name,
                version=renamed.get(each.name, each.version)) for each in packages.distributions
    )  # fmt: skip
    torch = replace(torch, version=build, metadata_version=build, cuda="12.4", wheel_tag="cp310-cp310-linux_x86_64",
                    arch_list=("sm_52", "sm_60", "sm_61", "sm_70", "sm_72", "sm_75", "sm_80", "sm_86", "sm_87",
                               "sm_90", "compute_90"))  # fmt: skip
    box = variables(
        box, LD_LIBRARY_PATH=path, CUDA_HOME="/usr/local/cuda", TORCH_ALLOW_TF32_CUBLAS_OVERRIDE="1",
        TORCH_CUDA_ARCH_LIST="5.2 6.0 6.1 7.0 7.2 7.5 8.0 8.6 8.7 9.0+PTX", NVIDIA_VISIBLE_DEVICES="all",
        OMPI_MCA_coll_hcoll_enable="0",
    )  # fmt: skip
    box = changed(
        box, torch, replace(packages, distributions=own_names, environment_kind="system", executable="/usr/bin/python"),
        DriverFiles(libcuda=(compat, own), nvml=(replace(own, soname="libnvidia-ml.so.1"),), first_libcuda=compat,
                    nvidia_smi="/usr/bin/nvidia-smi"),
    )  # fmt: skip
    box = edit(box, "torch_import", version=build)
    box = edit(box, "torch_files", dist_infos=(f"torch-{build}.dist-info",))
    box = edit(box, "libraries", library_path=tuple(path.split(":")))
    box = edit(box, "torch_settings", matmul_fp32_precision="tf32", float32_matmul_precision="high",
               allow_tf32_matmul=True)  # fmt: skip
    box = edit(box, "cuda_driver", libcuda=compat.path, cuda_version="12.4")
    return edit(box, "cuda_runtime", library="/usr/local/cuda/lib64/libcudart.so.12", runtime_version="12.4",
                driver_version="12.4")  # fmt: skip


def notebook_service() -> Snapshot:
    """A hosted notebook: a T4, other frameworks' packages, the driver's folder in LD_LIBRARY_PATH."""
    box = _inside(
        Asked(T4, "550.54.15", TORCH_27_CU128, python="3.12.11", prefix="/usr", host=IN_DOCKER, flavor="proprietary",
              resources={"shm_total_mib": 5_888, "memory_total_mib": 12_978, "cpus_online": 2, "cpus_affinity": 2},
              beside={"jax": "0.5.3", "tensorflow": "2.19.0", "keras": "3.10.0", "cupy-cuda12x": "13.3.0",
                      "numba": "0.60.0", "numba-cuda": "0.11.0", "onnxruntime": "1.22.0", "numpy": "2.0.2",
                      "transformers": "4.55.0", "accelerate": "1.10.0", "peft": "0.17.0", "timm": "1.0.19"}),
    )  # fmt: skip
    library = DriverLibrary("/usr/lib64-nvidia/libcuda.so.550.54.15", "libcuda.so.1", "550.54.15")
    box = edit(box, "torch_settings", num_threads=1)
    box = variables(box, LD_LIBRARY_PATH="/usr/lib64-nvidia", NVIDIA_VISIBLE_DEVICES="all")
    stub = DriverLibrary("/usr/local/cuda/lib64/stubs/libcuda.so", "libcuda.so.1", None, stub=True)
    return changed(
        edit(box, "libraries", library_path=("/usr/lib64-nvidia",)),
        DriverFiles(libcuda=(library, stub), nvml=(replace(library, path="/usr/lib64-nvidia/libnvidia-ml.so.1"),),
                    nvidia_smi="/opt/bin/nvidia-smi", first_libcuda=library),
    )  # fmt: skip


def wsl() -> Snapshot:
    """WSL 2 with Windows driver 551: libcuda comes from Windows, no Linux module is loaded."""
    box = machine(Asked(RTX_3090, "550.54.15", TORCH_25, host={"wsl": True, "virtualization": "microsoft"},
                        ubuntu=("22.04.5", "5.15.167.4-microsoft-standard-WSL2", "2.35")))  # fmt: skip
    library = DriverLibrary("/usr/lib/wsl/lib/libcuda.so.1.1", "libcuda.so.1", None, size_bytes=158_000)
    nvml = DriverLibrary("/usr/lib/wsl/lib/libnvidia-ml.so.1", "libnvidia-ml.so.1", None)
    microsoft = PciDevice("6f4d:00:00.0", "1414", "008e", "030200", None, -1)
    box = changed(
        box, KernelModule(loaded=False, uvm_loaded=False, nouveau_loaded=False, peermem_loaded=False),
        PciBus(other_gpus=(microsoft,), readable=True), replace(hw.NO_NODES, dxg=hw.node("/dev/dxg", 10, 127)),
        DriverFiles(libcuda=(library,), nvml=(nvml,), nvidia_smi="/usr/lib/wsl/lib/nvidia-smi", first_libcuda=library),
    )  # fmt: skip
    box = edit(box, "gpu_state", driver_version="551.61", library=nvml.path)
    box = edit(box, "nvidia_smi", driver_version="551.61")
    box = gpus(box, persistence=True, virtualization="none", processes=(), memory_used_mib=2_100,
               memory_free_mib=21_900, pcie_width=16, pcie_generation=4)  # fmt: skip
    return refused(box, "power_limit_watts", "power_limit_default_watts", "sm_clock_application_mhz")


def jetson() -> Snapshot:
    """Jetson Orin with JetPack 5 and NVIDIA's own torch 2.1: no NVML, no PCI card, CUDA 11.4 from the system."""
    own = "2.1.0a0+41361538.nv23.06"
    box = machine(Asked(replace(T4, name="Orin", capability="8.7", memory_mib=30_536), "535.54.03", TORCH_24,
                        python="3.8.10", prefix="/home/kim/env", beside={"numpy": "1.24.4"},
                        ubuntu=("20.04.6", "5.10.104-tegra", "2.31"),
                        host={"machine": "aarch64", "jetson": True}))  # fmt: skip
    box = by_system_libraries(box, "/usr/local/cuda-11.4/targets/aarch64-linux/lib", {"cudnn": "8.6.0"})
    library = DriverLibrary("/usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1.1", "libcuda.so.1", None)
    nodes = DeviceNodes(tegra=(hw.node("/dev/nvhost-gpu", 504, 1), hw.node("/dev/nvmap", 10, 61)), dxg=DeviceNode())
    packages, torch = box.facts["packages"], box.facts["torch_build"]
    assert isinstance(packages, Packages)
    assert isinstance(torch, TorchBuild)
    kept = tuple(replace(each, version=own) if each.name == "torch" else each for each in packages.distributions
                 if each.name != "triton")  # fmt: skip
    torch = replace(torch, version=own, metadata_version=own, cuda="11.4", arch_list=("sm_72", "sm_87"),
                    wheel_tag="cp38-cp38-linux_aarch64")  # fmt: skip
    gone = "on Jetson there is no NVML"
    box = changed(
        box, nodes, torch, replace(packages, distributions=kept), PciBus(readable=True),
        KernelModule(loaded=False, uvm_loaded=False, nouveau_loaded=False),
        DriverFiles(libcuda=(library,), first_libcuda=library, unknown={"nvidia_smi": "not on PATH"}),
        absent=dict.fromkeys(("gpu_state", "gpu_fabric", "nvidia_smi"), gone),
    )  # fmt: skip
    box = edit(box, "torch_import", version=own)
    box = edit(box, "torch_files", dist_infos=(f"torch-{own}.dist-info",))
    box = edit(box, "torch_cuda", arch_list=("sm_72", "sm_87"))
    box = edit(box, "torch_settings", cudnn_version=8600, nccl_version=None)
    box = edit(box, "compile_tools", triton_version=None, unknown={"triton_version": "triton is not installed"})
    box = edit(box, "cuda_driver", cuda_version="11.4")
    return edit(box, "cuda_runtime", library="/usr/local/cuda-11.4/lib64/libcudart.so.11.0", runtime_version="11.4",
                driver_version="11.4")  # fmt: skip


def wsl_with_docker() -> Snapshot:
    """A container of Docker Desktop under WSL: both at once."""
    return edit(wsl(), "host", container="docker", is_root=True)
