"""Words about the cards themselves: broken, taken, divided, hidden by a variable, lost by a container."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.driver import NvidiaSmi
from envdoctor.facts.host import Environment, Host
from envdoctor.facts.text import ErrorText
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Finding, Severity, see
from envdoctor.knowledge.xid import xids
from envdoctor.remedy import container as container_ways
from envdoctor.remedy import driver as ways
from envdoctor.remedy.variables import administer, look, start_anew, unset
from envdoctor.rule import Witness, witness
from envdoctor.rules.cards import gpu_names
from envdoctor.rules.gpu_kinds import MIG_NAME, VGPU_NAME
from envdoctor.rules.presence import in_container, windows_driver
from envdoctor.rules.restart import RENEWED, SUSPENDED, never_sleeps
from envdoctor.rules.said import Heard, hear, lead, mention, quote, said
from envdoctor.rules.said_driver import CONTAINER
from envdoctor.rules.visibility import UUID

FATAL = ("RESET_GPU", "RESTART_BM", "CHECK_MECHANICALS", "WORKFLOW_NVLINK", "WORKFLOW_XID_48")  # NVIDIA's own advice


@witness
def gpu_hardware_fault(words: ErrorText) -> Iterator[Finding]:
    """A message that only broken hardware makes, or an Xid that NVIDIA puts down to it."""
    heard = hear(words, "gpu-hardware-fault")
    if heard and not (heard.message.id == "xid" and not _fatal(heard)):
        yield lead(
            heard,
            "The log speaks of a hardware fault of a GPU, or of its slot",
            look("Ask the card and the kernel", "nvidia-smi -q -d ECC,ROW_REMAPPER", _kernel_log(), root=True),
            ways.reboot("Restart: a card that fell off the bus comes back only so; if it goes again, have it replaced"),
        )


def _fatal(heard: Heard) -> bool:
    known = xids().get(int(heard.match[1]))
    return bool(known and known.action.startswith(FATAL))


def _kernel_log() -> str:
    return "sudo dmesg | grep -i -E 'xid|nvrm|pcie'"


@witness
def uvm_broken_after_suspend(
    words: ErrorText, smi: NvidiaSmi | None, host: Host | None, cuda: TorchCuda | None
) -> Iterator[Finding]:
    """An unknown error of CUDA; surer where the machine slept, not said of servers and renewed drivers."""
    heard = hear(words, "uvm-broken-after-suspend")
    if heard is None or windows_driver(host) or (cuda and cuda.available):
        return
    slept = mention(words, SUSPENDED)
    if slept is None and heard.message.id != "hmm-kaslr" and (mention(words, RENEWED) or never_sleeps(smi)):
        return  # driver-needs-reboot says so
    yield lead(
        heard,
        "CUDA answers 'unknown error': nvidia-uvm is not usable",
        ways.reload_uvm(),
        ways.reboot("Or restart the machine"),
        detail="CUDA_VISIBLE_DEVICES, which the message blames, is seldom it: a suspend is, or a missing module.",
        also=(quote(slept),) if slept and slept != heard.line else (),
        confirmed=True if slept else None,
    )


@witness
def cuda_visible_devices_wrong(
    words: ErrorText, environment: Environment | None, smi: NvidiaSmi | None, cuda: TorchCuda | None
) -> Iterator[Finding]:
    """No GPU is found while CUDA_VISIBLE_DEVICES names some, or torch counted them before it was set."""
    value = environment.get("CUDA_VISIBLE_DEVICES") if environment else None
    late = said(words, "device-index-assert")
    none = hear(words, "cuda-visible-devices-wrong")
    if late:
        yield lead(
            late,
            "CUDA_VISIBLE_DEVICES was changed after CUDA had counted the GPUs, or names a MIG slice",
            look("Set it before Python starts", "env CUDA_VISIBLE_DEVICES=0 python train.py"),
        )
    elif none and environment and value and not _names_what_is_there(value, smi) and not (cuda and cuda.available):
        yield lead(
            none,
            f"CUDA_VISIBLE_DEVICES={value} leaves no GPU to this process",
            unset("CUDA_VISIBLE_DEVICES"),
            look("List the GPUs with their numbers", "nvidia-smi -L"),
            also=(see(environment, "variables", "CUDA_VISIBLE_DEVICES", value),),
            confirmed=True,
        )


def _names_what_is_there(value: str, smi: NvidiaSmi | None) -> bool:
    """Tell whether every index is one of a card that is known; index 0 is on any machine with a GPU."""
    indices = [each.strip() for each in value.split(",")]
    if UUID.match(value) or not all(each.isdigit() for each in indices):
        return bool(UUID.match(value))
    return all(int(each) < max(1, len(smi.gpus) if smi else 0) for each in indices)


@witness
def mig_limitation(words: ErrorText, environment: Environment | None, smi: NvidiaSmi | None) -> Iterator[Finding]:
    """A failure that names a MIG slice; or one that MIG makes of a count of GPUs, where slices are known."""
    heard = said(words, "mig-name") or said(words, "device-index-assert")
    if heard is None:
        return
    named = heard.message.id == "mig-name"
    value = (environment.get("CUDA_VISIBLE_DEVICES") if environment else None) or ""
    sliced = value.startswith("MIG-") or any(MIG_NAME.search(each) for each in gpu_names(None, smi, None))
    yield lead(
        heard,
        "The failure comes from a MIG slice: a process sees one slice, by its own name",
        look("List the slices, then name one: CUDA_VISIBLE_DEVICES=MIG-...", "nvidia-smi -L"),
        severity=Severity.ERROR if named or sliced else Severity.INFO,
        confirmed=sliced or None,
    )


@witness
def exclusive_compute_mode(words: ErrorText, smi: NvidiaSmi | None) -> Iterator[Finding]:
    """CUDA finds every device busy, on cards that are not virtual."""
    heard = hear(words, "exclusive-compute-mode")
    if heard and not _virtual(words, smi):
        yield lead(
            heard,
            "Every GPU is taken: in exclusive mode one process holds a card alone",
            look("See the mode, and who holds the cards", _modes(), "nvidia-smi pmon -c 1"),
            administer("Let several processes share a card", "the compute mode", "sudo nvidia-smi -c DEFAULT"),
            severity=Severity.ERROR,
        )


def _modes() -> str:
    return "nvidia-smi --query-gpu=index,compute_mode --format=csv"


@witness
def vgpu_limitation(words: ErrorText, smi: NvidiaSmi | None) -> Iterator[Finding]:
    """A virtual GPU that answers as if it were taken, or its licence daemon's own words."""
    heard = hear(words, "vgpu-limitation")
    if heard and _virtual(words, smi):
        yield lead(
            heard,
            "A virtual GPU refuses CUDA: its profile or its licence does not allow it",
            look("See the licence and the profile", "nvidia-smi -q | grep -i -A 3 -E 'licen|virtualization'"),
            severity=Severity.ERROR,
            confirmed=_named_virtual(smi) or None,
        )


def _virtual(words: ErrorText | None, smi: NvidiaSmi | None) -> bool:
    """Tell a virtual GPU: by its name, or by what the text calls it."""
    return _named_virtual(smi) or mention(words, r"\bvGPU\b") is not None


def _named_virtual(smi: NvidiaSmi | None) -> bool:
    """Tell whether a card's name ends in a profile."""
    names = [each for each in gpu_names(None, smi, None) if not MIG_NAME.search(each)]
    return any(VGPU_NAME.match(each) or re.search(r"\bvGPU\b|\bGRID\b", each) for each in names)


@witness
def container_gpu_detached(words: ErrorText, smi: NvidiaSmi | None) -> Iterator[Finding]:
    """NVML's unknown error: a running container may no longer open the devices. A vGPU's licence says the same."""
    heard = hear(words, "container-gpu-detached")
    if heard and not _virtual(words, smi):
        yield lead(
            heard,
            "The container has lost access to its GPUs, most often by a systemd reload on the host",
            start_anew("Start the container again", "docker restart CONTAINER"),
            administer("Prevent it, on the host", "links under /dev/char", _char_links()),
        )


def _char_links() -> str:
    return "sudo nvidia-ctk system create-dev-char-symlinks --create-all"


@witness
def container_gpu_not_passed(
    words: ErrorText, host: Host | None, cuda: TorchCuda | None, build: TorchBuild | None
) -> Iterator[Finding]:
    """The container engine refuses; or the driver is not seen, and this is a container."""
    heard = hear(words, "container-gpu-not-passed")
    if heard is None or (cuda and cuda.available) or (build and build.is_cpu_only):
        return
    alone = heard.message.category == "container"
    inside = in_container(host) or mention(words, CONTAINER) is not None
    if alone or inside:
        yield lead(
            heard,
            "The container was started without the GPUs",
            container_ways.pass_gpus(host),
            look("On the host: see whether the driver and NVIDIA's runtime are there", "nvidia-smi", _runtimes()),
            severity=Severity.ERROR if alone else None,
            confirmed=True if inside and not alone else None,
        )


def _runtimes() -> str:
    return "docker info | grep -i -E 'runtime|cdi'"


WITNESSES: tuple[Witness, ...] = (
    gpu_hardware_fault, uvm_broken_after_suspend, cuda_visible_devices_wrong, mig_limitation, exclusive_compute_mode,
    vgpu_limitation, container_gpu_detached, container_gpu_not_passed,
)  # fmt: skip
