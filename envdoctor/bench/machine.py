"""The device under measurement as the judges need it: its facts, its row in the tables, and its clocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from envdoctor.bench import clocks as sampled
from envdoctor.bench import limits
from envdoctor.knowledge import specs
from envdoctor.knowledge.gpus import capability

if TYPE_CHECKING:
    from envdoctor.facts.bench import BenchDevice, Measured
    from envdoctor.facts.clocks import BenchClocks, ClockTrack
    from envdoctor.knowledge.gpus import Capability
    from envdoctor.knowledge.specs import Spec

KILO = 1000.0
# What a precision of a training step multiplies in.
MULTIPLIES_IN = {"amp-bf16": "bf16", "amp-fp16": "fp16"}
CHIP_TO_CHIP = ("GH200", "GB200", "GB300")  # the CPU is not behind PCIe


@dataclass(frozen=True)
class Machine:
    """The device, the row of its model (or why there is none), and what was sampled of it."""

    device: BenchDevice
    spec: Spec | None
    why_no_spec: str
    track: ClockTrack | None

    @property
    def is_cpu(self) -> bool:
        """Tell whether it is the CPU that was measured."""
        return self.device.kind != "cuda"

    @property
    def capability(self) -> Capability | None:
        """Give the compute capability, or None."""
        return capability(self.device.capability) or (self.spec.capability if self.spec else None)

    @property
    def shared_with(self) -> str:
        """Say what else used the GPU, or nothing."""
        others = self.device.other_processes or ()
        if self.device.exclusive is not False:
            return ""
        if others:
            pids = ", ".join(str(each.pid) for each in others[:4])
            return f"another program was on the GPU (process {pids})"
        busy = self.device.utilization_percent
        return f"the GPU was {busy} % busy before we began" if busy else "the GPU was not ours alone"

    @property
    def is_chip_to_chip(self) -> bool:
        """Tell whether host memory is reached over NVLink-C2C instead of PCIe."""
        return (self.spec.gpu if self.spec else self.device.name or "").removeprefix("NVIDIA ").startswith(CHIP_TO_CHIP)

    def window(self, measured: Measured) -> sampled.Window:
        """Give clocks, power and link while something was measured."""
        return sampled.during(self.track, measured.began, measured.ended)

    def product_limit(self, measured: Measured) -> limits.Limit:
        """Give the bounds of a matrix product in TFLOPS, at the clocks that it ran at."""
        window = self.window(measured)
        return limits.of_product(
            self.spec,
            MULTIPLIES_IN.get(measured.precision, measured.precision),
            sms=self.device.sm_count,
            clock_mhz=window.sm_mhz,
            highest_mhz=window.sm_highest_mhz,
        )

    def memory_limit(self) -> limits.Limit:
        """Give the bounds of the device's memory in GB/s."""
        khz = self.device.memory_clock_khz
        return limits.of_memory(
            self.spec, memory_clock_mhz=khz / KILO if khz else None, bus_bits=self.device.memory_bus_bits
        )


def machine_of(device: BenchDevice, clocks: BenchClocks | None = None) -> Machine:
    """Look up the device in the tables and its columns among the samples."""
    if device.kind != "cuda":
        return Machine(device, None, "this is a CPU: no reference", None)
    track = sampled.track_of(clocks, device)
    if device.mig:
        return Machine(device, None, "this is a MIG slice: references are of whole cards", track)
    if not device.name:
        return Machine(device, None, "the GPU's name is not known", track)
    found = specs.match(device.name, memory_mib=device.memory_mib, sms=device.sm_count)
    return Machine(device, found.spec, found.reason, track)
