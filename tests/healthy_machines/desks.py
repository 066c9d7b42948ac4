"""Laptops, desktops and workstations that work."""

from __future__ import annotations

from dataclasses import replace

from envdoctor.facts.driver import KernelModule
from envdoctor.facts.gpu import DeviceNode, PciDevice
from envdoctor.facts.nvml import GpuProcess
from envdoctor.snapshot import Snapshot
from tests.demo_machines import cards, stacks
from tests.demo_machines import hardware as hw
from tests.healthy_machines.making import (
    GTX_1080_TI,
    RTX_3090,
    RTX_4060_LAPTOP,
    RTX_5090,
    TORCH_24,
    TORCH_25,
    TORCH_29,
    TORCH_211,
    Asked,
    changed,
    edit,
    gpus,
    machine,
    refused,
)

DESKTOP = (
    GpuProcess(1873, 310, "graphics"),
    GpuProcess(2214, 96, "graphics"),
    GpuProcess(5120, 188, "graphics"),
)


def laptop_with_two_gpus() -> Snapshot:
    """A laptop: Intel's graphics draw, the RTX 4060 computes; the firmware moves its power limit about."""
    limits = {"open_files_soft": 1024, "locked_memory_soft_kib": 2_048_000, "locked_memory_hard_kib": 2_048_000}
    asked = Asked(RTX_4060_LAPTOP, "570.169", TORCH_29, resources={**limits, "memory_total_mib": 31_756})
    intel = PciDevice("0000:00:02.0", "8086", "a7a0", "030000", "i915", -1)
    own = edit(machine(asked), "pci_bus", other_gpus=(intel,))
    own = gpus(own, power_limit_enforced_watts=44.8, pcie_width=8, pcie_width_max=8, pcie_generation=1,
               event_reasons=("gpu_idle", "sw_power_cap"), persistence=False, processes=DESKTOP[:1])  # fmt: skip
    return refused(own, "power_limit_watts", "power_limit_max_watts")


def laptop_on_battery_under_load() -> Snapshot:
    """The same laptop on battery while it computes: fewer watts and a PCIe link as wide as its board wires it."""
    return gpus(
        laptop_with_two_gpus(), power_limit_enforced_watts=35.0, utilization_percent=97, pcie_generation=4,
        event_reasons=("sw_power_cap",), temperature_celsius=71,
    )  # fmt: skip


def desktop_with_screens() -> Snapshot:
    """A GeForce without ECC that draws the desktop too; the shell holds a context of both kinds."""
    both = (*DESKTOP, GpuProcess(2214, 96, "compute"))
    return gpus(machine(Asked(cards.RTX_4090, "575.64", TORCH_29)), memory_used_mib=1_480, memory_free_mib=22_600,
                processes=both, persistence=False)  # fmt: skip


def desktop_after_boot() -> Snapshot:
    """A desktop just started: nvidia-uvm and its node come with the first CUDA program (nvidia-modprobe is setuid)."""
    fresh = machine(Asked(RTX_3090, "550.163.01", TORCH_25, flavor="proprietary"))
    fresh = edit(edit(fresh, "device_nodes", uvm=DeviceNode("/dev/nvidia-uvm")), "kernel_module", uvm_loaded=False)
    closed = "/dev/nvidia-uvm is not there: starting CUDA would create it"
    return changed(
        edit(fresh, "driver_files", makes_nodes=True),
        absent=dict.fromkeys(("cuda_driver", "cuda_runtime", "torch_cuda"), closed),
    )


def desktop_with_iommu() -> Snapshot:
    """A desktop with one card and the IOMMU on, as the firmware ships it."""
    desktop = machine(Asked(RTX_3090, "535.183.01", TORCH_24))
    return edit(desktop, "fabric", iommu="on", acs_enabled_bridges=("00:01.1",))


def two_generations() -> Snapshot:
    """An RTX 3090 beside an RTX 4090, both served, without peer-to-peer as GeForce cards are."""
    pair = machine(Asked(cards.RTX_4090, "570.169", TORCH_29, count=2))
    name, small = RTX_3090.name, cards.card(RTX_3090, 1, "25", "570.169")
    devices = pair.facts["cuda_driver"].devices  # type: ignore[attr-defined]
    listed = pair.facts["nvidia_smi"].gpus  # type: ignore[attr-defined]
    pair = edit(pair, "cuda_driver", devices=(devices[0], replace(devices[1], name=name, compute_capability="8.6")))
    pair = edit(pair, "nvidia_smi", gpus=(listed[0], replace(listed[1], name=name, compute_capability="8.6")))
    pair = edit(pair, "torch_cuda", device_names=(cards.RTX_4090.name, name), capabilities=("8.9", "8.6"))
    return edit(pair, "gpu_state", gpus=(pair.facts["gpu_state"].gpus[0], small))  # type: ignore[attr-defined]


def pascal_card() -> Snapshot:
    """A GTX 1080 Ti (6.1) under torch 2.5 for CUDA 12.1: its sm_60 code runs there."""
    return machine(Asked(GTX_1080_TI, "535.183.01", TORCH_25, flavor="proprietary"))


def blackwell_card() -> Snapshot:
    """An RTX 5090 under the first driver branch and the first CUDA for it."""
    return machine(Asked(RTX_5090, "570.169", TORCH_29, python="3.12.7"))


def newest_stack() -> Snapshot:
    """Driver 580 and torch for CUDA 13.0, whose wheels share one folder."""
    return machine(Asked(cards.RTX_4090, "580.95.05", TORCH_211, python="3.13.2"))


def numpy_2() -> Snapshot:
    """NumPy 2 beside a torch that was compiled for it (2.3 and newer)."""
    return machine(Asked(RTX_3090, "550.163.01", TORCH_24, beside={"numpy": "2.2.6"}))


def hypervisor_host() -> Snapshot:
    """A host that hands its GPUs to virtual machines (vfio-pci), with the CPU torch for its own small jobs."""
    host = machine(Asked(cards.A100, "550.163.01", TORCH_25, count=2))
    cpu = stacks.build(host.facts["torch_path"].found[0].removesuffix("/torch"), "2.5.1+cpu", None, {}, "3.11")  # type: ignore[attr-defined]
    bus = host.facts["pci_bus"]
    handed = tuple(replace(each, driver="vfio-pci") for each in bus.gpus)  # type: ignore[attr-defined]
    none = dict.fromkeys(
        ("gpu_state", "gpu_fabric", "nvidia_smi", "cuda_driver", "cuda_runtime", "mapped_libraries"), "no device node"
    )
    return changed(
        host, replace(bus, gpus=handed), hw.NO_NODES, cpu, KernelModule(loaded=False, uvm_loaded=False,
        nouveau_loaded=False), replace(host.facts["driver_files"], libcuda=(), nvml=(), nvidia_smi=None,
        first_libcuda=None, unknown={"first_libcuda": "no libcuda.so.1 in the search order"}),
        stacks.packages("/home/kim/venvs/train", "3.11.9", {**stacks.PLAIN, "torch": "2.5.1+cpu"}),
        stacks.sees_nothing("Torch not compiled with CUDA enabled", "AssertionError"),
        stacks.settings(None, None, 16), replace(host.facts["libraries"], rows=()), absent=none,
    )  # fmt: skip
