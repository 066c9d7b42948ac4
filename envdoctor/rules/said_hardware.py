"""Words about broken hardware and lost devices: Xid, ECC, a card that fell off the bus, a container that lost its GPUs."""
# ruff: noqa: E501

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import NvidiaSmi
from envdoctor.facts.host import Host
from envdoctor.facts.text import ErrorText
from envdoctor.facts.torch import TorchCuda
from envdoctor.finding import Confidence, Finding
from envdoctor.knowledge.xid import xids
from envdoctor.remedy import container as container_ways
from envdoctor.remedy import driver as ways
from envdoctor.remedy.variables import administer, look, start_anew
from envdoctor.rule import Witness, witness
from envdoctor.rules.said import Heard, hear, hear_message, lead

HARDWARE = (
    r"uncorrectable ECC|double[- ]bit ECC|cudaErrorECCUncorrectable",
    r"fallen off the bus|GPU is lost|Unable to determine the device handle",
    r"row remap\w{0,6} fail|remapper? failure|PCIe Bus Error.{0,60}(?:nvidia|fatal)|hardware (?:stack )?exception|cudaErrorHardwareStackError",
)
FATAL = ("RESET_GPU", "RESTART_BM", "CHECK_MECHANICALS", "WORKFLOW_NVLINK", "WORKFLOW_XID_48")  # NVIDIA's own advice


@witness
def gpu_hardware_fault(words: ErrorText) -> Iterator[Finding]:
    """A message that only broken hardware makes, or an Xid that NVIDIA puts down to it."""
    heard = hear_message(words, "ecc", "fallen-off-bus") or hear(words, *HARDWARE) or _fatal_xid(words)
    if heard:
        yield lead(
            heard,
            "The log speaks of a hardware fault of a GPU or of its slot",
            look("Ask the card and the kernel", "nvidia-smi -q -d ECC,ROW_REMAPPER", "sudo dmesg | grep -i -E 'xid|nvrm|pcie'", root=True),
            ways.reboot("a card that fell off the bus comes back only so; if it goes again, reseat or replace it"),
            confidence=Confidence.CERTAIN if "ECC" in heard.words else Confidence.LIKELY,
        )  # fmt: skip


def _fatal_xid(words: ErrorText) -> Heard | None:
    for line in words.lines:
        heard = hear(ErrorText(lines=(line,)), r"\bXid\b[^,:]{0,40}[:,]?\s?(?:\(PCI:[^)]{0,30}\)\s?:?\s?)?(\d{1,3})\b")
        known = xids().get(int(heard.match.group(1))) if heard else None
        if known and known.action.startswith(FATAL):
            return heard
    return None


@witness
def container_gpu_detached(words: ErrorText, smi: NvidiaSmi | None) -> Iterator[Finding]:
    """NVML's unknown error: a running container may no longer open the devices."""
    heard = hear_message(words, "nvml-unknown")
    if (
        heard is None
        or hear(words, r"vGPU|licen[cs]e")
        or any("vGPU" in each.name for each in (smi.gpus if smi else ()))
    ):
        return
    yield lead(
        heard,
        "The container has lost access to its GPUs, most often by a systemd reload on the host",
        start_anew("Start the container again", "docker restart CONTAINER"),
        administer("Prevent it on the host", "links under /dev/char", "sudo nvidia-ctk system create-dev-char-symlinks --create-all"),
    )  # fmt: skip


@witness
def container_gpu_not_passed(words: ErrorText, host: Host | None, cuda: TorchCuda | None) -> Iterator[Finding]:
    """The container engine refuses, or nvidia-smi is not there inside."""
    heard = hear_message(words, "no-gpu-driver-container") or hear(
        words,
        r"nvidia-smi:? (?:command )?not found.{0,60}container|container.{0,80}nvidia-smi.{0,20}not found",
        r'exec: \\?"nvidia-smi\\?": executable file not found in',
        r"libnvidia-ml\.so\.1: cannot open shared object.{0,200}container|nvidia-container-cli: initialization error",
    )
    inside = bool(host and (host.container not in {None, "none"} or "container" in (host.os_name or "").lower()))
    if heard is None and inside and not (cuda and cuda.available):
        heard = hear(words, r"nvidia-smi:? (?:command )?not found") or hear_message(
            words, "libcuda-missing", "no-nvidia-driver"
        )
    if heard:
        yield lead(heard, "The container was started without the GPUs", container_ways.pass_gpus(host))


WITNESSES: tuple[Witness, ...] = (
    gpu_hardware_fault, container_gpu_detached, container_gpu_not_passed,
)  # fmt: skip
