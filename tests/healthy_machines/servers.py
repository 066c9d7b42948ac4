"""Servers in data centres, clusters and clouds that work."""

from __future__ import annotations

from dataclasses import replace

from envdoctor.facts.libraries import Compiler, Copy, Toolkit
from envdoctor.facts.nvml import GpuProcess, XidEvent
from envdoctor.facts.surroundings import InfinibandPort
from envdoctor.snapshot import Snapshot
from tests.demo_machines import around, cards, stories
from tests.healthy_machines.making import (
    A10G,
    GH200,
    H100_PCIE,
    READ_LOG,
    RTX_3090,
    T4,
    TORCH_24,
    TORCH_25,
    TORCH_27_CU126,
    TORCH_27_CU128,
    TORCH_29,
    TORCH_211,
    V100,
    Asked,
    changed,
    edit,
    gpus,
    machine,
    refused,
    variables,
)


def a100_on_driver_535() -> Snapshot:
    """Driver 535 (CUDA 12.2) starts a CUDA 12.8 build through minor-version compatibility."""
    return machine(Asked(cards.A100, "535.183.01", TORCH_27_CU128, count=4, nvlinks=12, flavor="proprietary"))


def t4_on_the_oldest_driver() -> Snapshot:
    """525.60.13, the first driver of CUDA 12, and a CUDA 12.1 build."""
    return machine(Asked(T4, "525.60.13", TORCH_25, python="3.10.12", flavor="proprietary"))


def v100_on_cu126() -> Snapshot:
    """Volta under a CUDA 12.6 build, the last one that serves it."""
    return machine(Asked(V100, "560.35.05", TORCH_27_CU126, count=4, nvlinks=6, flavor="proprietary"))


def a10g_in_the_cloud() -> Snapshot:
    """A cloud machine with an Ethernet card that could speak RDMA and never does, and application clocks as shipped."""
    virtual = machine(Asked(A10G, "570.169", TORCH_29, host={"virtualization": "kvm"}))
    fabric = virtual.facts["fabric"]
    roce = InfinibandPort("mlx5_0", 1, "4: ACTIVE", "5: LinkUp", "25 Gb/sec (1X EDR)", "Ethernet", 0, "0000:00:05.0")
    return gpus(changed(virtual, replace(fabric, infiniband=(roce,))), virtualization="passthrough")  # type: ignore[type-var]


def h100x8_without_rdma_settings() -> Snapshot:
    """The demo's eight H100 in a login shell: 1024 open files may be raised at will, and one rail's twin is unused."""
    whole = stories.h100x8_healthy()
    whole = edit(whole, "resources", open_files_soft=1024, open_files_hard=1_048_576)
    ports = whole.facts["fabric"].infiniband  # type: ignore[attr-defined]
    twin = replace(ports[0], device="mlx5_8", state="1: DOWN", physical_state="3: Disabled", pci_address="0000:1a:00.1")
    return edit(whole, "fabric", infiniband=(*ports, twin))


def h100x8_on_level_quick_only() -> Snapshot:
    """The same machine where the fabric manager's version has a package revision."""
    return edit(stories.h100x8_healthy(), "kernel_module", fabric_manager_version="580.95.05-1")


def grace_hopper() -> Snapshot:
    """GH200: an Arm machine, NVIDIA's card and processor in one, CUDA 13.0 wheels for aarch64."""
    grace = machine(
        Asked(GH200, "580.95.05", TORCH_211, python="3.12.3", host={"machine": "aarch64"},
              ubuntu=("24.04.3", "6.8.0-1038-nvidia-64k", "2.39"))
    )  # fmt: skip
    grace = edit(grace, "torch_build", arch_list=("sm_80", "sm_90", "sm_100", "sm_110", "sm_120"),
                 wheel_tag="cp312-cp312-manylinux_2_28_aarch64")  # fmt: skip
    return edit(grace, "torch_cuda", arch_list=("sm_80", "sm_90", "sm_100", "sm_110", "sm_120"))


def hpc_module() -> Snapshot:
    """A cluster's login: module cuda/12.2 sets CUDA_HOME and LD_LIBRARY_PATH, torch's own libraries come first."""
    node = machine(Asked(cards.A100, "535.183.01", TORCH_25, count=4, nvlinks=12, flavor="proprietary"))
    home = "/apps/cuda/12.2"
    node = variables(node, CUDA_HOME=home, LD_LIBRARY_PATH=f"{home}/lib64:/apps/openmpi/4.1.5/lib")
    node = edit(node, "libraries", library_path=(f"{home}/lib64", "/apps/openmpi/4.1.5/lib"))
    tools = Toolkit(cuda_home=home, cuda_home_exists=True, nvcc=(Compiler(f"{home}/bin/nvcc", "12.2.140"),),
                    host_compiler=Compiler("/apps/gcc/12.2.0/bin/gcc", "12"),
                    cudnn_headers=(Copy("/apps/cudnn/8.9.7/include/cudnn_version.h", "8.9.7"),))  # fmt: skip
    return changed(node, tools)


def slurm_task() -> Snapshot:
    """One of four tasks that srun bound to 16 CPUs each, beside its GPU; every task sees its own CPUs only."""
    node = machine(
        Asked(cards.A100, "550.163.01", TORCH_25, count=4, nvlinks=12, flavor="proprietary",
              resources={"cpus_online": 64, "cpus_affinity": 16, "memory_cgroup_limit_mib": 480_000})
    )  # fmt: skip
    node = variables(
        node, OMP_NUM_THREADS="16", SLURM_JOB_ID="88121", SLURM_NTASKS="4", SLURM_NTASKS_PER_NODE="4",
        SLURM_LOCALID="0", SLURM_CPUS_PER_TASK="16", SLURM_JOB_NUM_NODES="1", CUDA_VISIBLE_DEVICES="0,1,2,3",
    )  # fmt: skip
    return edit(node, "fabric", numa_nodes=2, process_numa_nodes=(0,), memory_policy_nodes=(0, 1))


def slurm_task_without_omp() -> Snapshot:
    """The same task where nobody set OMP_NUM_THREADS: torch takes the CPUs that it may use."""
    task = slurm_task()
    kept = tuple(each for each in task.facts["environment"].variables if each.name != "OMP_NUM_THREADS")  # type: ignore[attr-defined]
    return edit(task, "environment", variables=kept)


def torchrun_rank() -> Snapshot:
    """A rank of torchrun, which sets OMP_NUM_THREADS=1 itself."""
    node = machine(Asked(H100_PCIE, "570.169", TORCH_29, count=2))
    return variables(node, OMP_NUM_THREADS="1", LOCAL_WORLD_SIZE="2", WORLD_SIZE="2", LOCAL_RANK="1", RANK="1",
                     GROUP_WORLD_SIZE="1", NCCL_DEBUG="WARN")  # fmt: skip


def multi_user_box() -> Snapshot:
    """Four cards, another user's job on card 3: this user chose card 0 with CUDA_VISIBLE_DEVICES."""
    box = machine(Asked(RTX_3090, "560.35.03", TORCH_25, count=4))
    state = box.facts["gpu_state"]
    *free, taken = state.gpus  # type: ignore[attr-defined]
    busy = replace(taken, processes=(GpuProcess(99_312, 22_310, "compute"),), memory_free_mib=1_700,
                   memory_used_mib=22_400, utilization_percent=98, pcie_generation=4)  # fmt: skip
    box = changed(box, replace(state, gpus=(*free, busy)))  # type: ignore[type-var]
    one = {"device_count": 1}
    box = edit(variables(box, CUDA_VISIBLE_DEVICES="0"), "cuda_runtime", **one)
    box = edit(box, "cuda_driver", device_count=1, devices=box.facts["cuda_driver"].devices[:1])  # type: ignore[attr-defined]
    return edit(box, "torch_cuda", device_count=1, device_names=(RTX_3090.name,), capabilities=("8.6",))


def exclusive_mode_cluster() -> Snapshot:
    """A cluster sets its GPUs to one process each; all four are free."""
    return gpus(machine(Asked(V100, "535.183.01", TORCH_24, count=4, nvlinks=6)), compute_mode="exclusive-process")


def old_application_fault() -> Snapshot:
    """The kernel log remembers a program's own bad access (Xid 31) and a row remapped months ago (Xid 63)."""
    node = machine(Asked(cards.A100, "550.163.01", TORCH_25, flavor="proprietary"))
    fault = XidEvent(31, "0000:01:00", "pid=8123, name=python, MMU Fault", 3_000.0)
    remapped = XidEvent(63, "0000:01:00", "Row Remapper: New row marked for remapping", 9_000_000.0)
    node = changed(node, replace(READ_LOG, xids=(fault, remapped)))
    return gpus(node, ecc_uncorrected_aggregate=1, remapped_rows_uncorrectable=1, ecc_corrected_volatile=3)


def virtual_gpu() -> Snapshot:
    """A virtual machine with a slice of an A10 (profile A10-8Q) under the vGPU driver."""
    slice_ = replace(A10G, name="NVIDIA A10-8Q", memory_mib=8192)
    guest = machine(Asked(slice_, "550.127.05", TORCH_25, host={"virtualization": "vmware"}, flavor="proprietary"))
    guest = gpus(guest, virtualization="vgpu", persistence=True)
    return refused(
        guest, "power_watts", "power_limit_watts", "power_limit_enforced_watts", "power_limit_default_watts",
        "power_limit_max_watts", "temperature_celsius", "slowdown_celsius", "shutdown_celsius", "pcie_replays",
        "sm_clock_application_mhz", "sm_clock_default_mhz", "recovery_action", "remap_pending", "remap_failed",
        "remapped_rows_correctable", "remapped_rows_uncorrectable", "mig_enabled", "mig_enabled_after_reset",
    )  # fmt: skip


def infiniband_pair() -> Snapshot:
    """Two cards and two InfiniBand rails, dma-buf through the open module, limits lifted for the job."""
    node = machine(Asked(H100_PCIE, "570.169", TORCH_29, count=2))
    network = around.fabric(rails=2, dmabuf=True)
    node = changed(node, network)
    return variables(node, NCCL_IB_HCA="mlx5", NCCL_SOCKET_IFNAME="^lo,docker")
