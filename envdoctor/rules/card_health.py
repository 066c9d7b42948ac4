"""The health of each card as NVML and the kernel log report it: lost, faulty, or with memory that failed."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, KernelModule
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.nvml import Gpu, GpuState, KernelLog, XidEvent
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.knowledge.xid import xids
from envdoctor.rule import Rule, Unknown, rule
from envdoctor.rules.nvml_cards import answering, asked, drain_and_reset, look_at, name_of, of_card
from envdoctor.rules.presence import need_gpu

DAY_SECONDS = 86_400
RESETS = frozenset({"gpu-reset", "reset"})  # as NVML numbers it, and as nvidia-smi -q writes it
UNUSABLE = RESETS | {"bus-reset", "node-reboot", "system-reboot", "reboot"}  # a card to be drained still works


def _restart() -> Fix:
    commands = (Command(None, "sudo reboot"),)
    title = "Drain the machine and restart it"
    return Fix(title, commands, Safety.DISRUPTIVE, "the whole machine", needs_root=True, needs_reboot=True)


@rule(severity=Severity.ERROR, group="GPUs", essential=True, explained_by=("xid-errors",))
def gpu_lost(state: GpuState, driver: CudaDriver | None) -> Iterator[Finding]:
    """A GPU has fallen off the bus, cannot be opened, or does not answer.

    ## What it means
    NVML says "GPU is lost" for this card, refuses its handle with another fault ("Unknown Error", "GPU requires
    restart", "Insufficient External Power"), says that it must be reset before it can be used again, or gave no answer
    in time. The other cards were asked too.

    ## Why it matters
    A job that touches this card fails or hangs for ever. A job over all cards starts and then waits for it.

    ## How it is detected
    nvmlDeviceGetHandleByIndex and the questions after it, NVML's recovery action among them; each card on its own with
    its own deadline. A card that this user may not open is no finding, nor is one whose handle failed or came late
    while CUDA counts as many cards as NVML. Without persistence mode the first question starts the card, which takes
    seconds: then one that did not even give its handle is unknown.

    ## What to do
    Look for an Xid (79: fallen off the bus) in the kernel log, drain the machine and restart it. A card that is lost
    again has a fault of power, seating or hardware: contact the vendor.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceEnumvs.html
    https://docs.nvidia.com/deploy/xid-errors/
    """
    cards = answering(state)
    reached = driver is not None and driver.init_code == 0 and (driver.device_count or 0) >= len(cards)
    kept_on = any(gpu.persistence for gpu in cards)
    starting = [gpu for gpu in cards if gpu.starting and not kept_on]
    for gpu in cards:
        excused = gpu in starting or (reached and not gpu.lost and "handle" in gpu.unknown)
        if (gpu.lost or gpu.hung or _closed_by_a_fault(gpu) or gpu.recovery_action in UNUSABLE) and not excused:
            yield _lost(gpu)
    if starting and not reached:
        raise Unknown(
            f"GPU {', '.join(str(gpu.index) for gpu in starting)} gave no handle in time: without persistence mode the"
            " first question starts a card, which takes seconds. Ask again while a program holds the cards"
        )


def _closed_by_a_fault(gpu: Gpu) -> bool:
    """Tell whether NVML refuses the card itself; without the right to open it, it is somebody else's and no fault."""
    return "handle" in gpu.unknown and "Permission" not in gpu.unknown["handle"]


def _lost(gpu: Gpu) -> Finding:
    said, shown, fix = _how_lost(gpu)
    return Finding(
        f"{name_of(gpu)} {said}",
        evidence=(shown,),
        fixes=(fix,),
        subject=str(gpu.index),
        confidence=Confidence.CERTAIN if gpu.lost else Confidence.LIKELY,
    )


def _how_lost(gpu: Gpu) -> tuple[str, Evidence, Fix]:
    words = "; ".join(f"{name}: {text}" for name, text in gpu.unknown.items()) or "GPU is lost"
    if gpu.lost or gpu.hung:
        said, field = ("is lost", "lost") if gpu.lost else ("does not answer", "hung")
        return said, of_card(gpu, field, "NVML says", words), _restart()
    if _closed_by_a_fault(gpu):
        return f"cannot be opened: {gpu.unknown['handle']}", of_card(gpu, "unknown", "NVML says", words), _restart()
    action = gpu.recovery_action or ""
    said = f"had a fault and cannot be used before a {action.replace('gpu-', '').replace('-', ' ')}"
    fix = drain_and_reset(gpu) if action in RESETS else _restart()
    return said, of_card(gpu, "recovery_action", "NVML's recovery action"), fix


@rule(severity=Severity.WARNING, group="GPUs")
def xid_errors(
    log: KernelLog, bus: PciBus | None, nodes: DeviceNodes | None, module: KernelModule | None
) -> Iterator[Finding]:
    """The kernel log holds Xid errors of a GPU.

    ## What it means
    The driver reported a fault of a card. The code says which, and NVIDIA's catalogue says what to do.

    ## Why it matters
    Some codes name a broken card or link. Others only say that a program did something wrong.

    ## How it is detected
    "NVRM: Xid" lines of the kernel's ring buffer or log file. Codes that blame the application, and lines older than
    a day, are info.

    ## What to do
    Follow the action that is named with the code. It is NVIDIA's own.

    ## Sources
    https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html
    """
    need_gpu(bus, nodes, module)
    if log.readable is not True:
        raise Unknown(log.unknown.get("xids", "the kernel log cannot be read"))
    latest = {(event.pci_address, event.code): event for event in log.xids}
    for (address, code), event in latest.items():
        known = xids().get(code)
        times = sum((each.pci_address, each.code) == (address, code) for each in log.xids)
        evidence = (see(log, "xids", f"Xid {code}, {times} times", f"{address}: {event.words}"),)
        title = f"Xid {code} on {address}: {known.description if known else 'not in the shipped catalogue'}"
        detail = f"NVIDIA's action: {known.advice}." if known else ""
        fix = look_at("Read the lines around it", "sudo dmesg --ctime | grep -i nvrm", root=True)
        severity = Severity.INFO if _old(event) or (known and known.harmless) else Severity.WARNING
        confidence = Confidence.CERTAIN if known else Confidence.POSSIBLE
        yield Finding(title, detail, evidence, (fix,), f"{address}:{code}", severity, confidence)


def _old(event: XidEvent) -> bool:
    return event.seconds_ago is not None and event.seconds_ago > DAY_SECONDS


@rule(severity=Severity.ERROR, group="GPUs")
def ecc_uncorrectable(state: GpuState) -> Iterator[Finding]:
    """A GPU had uncorrectable memory errors since its driver was loaded.

    ## What it means
    The card's memory lost data that ECC could not repair.

    ## Why it matters
    The program that touched it was ended, or went on with wrong numbers where containment failed.

    ## How it is detected
    nvmlDeviceGetTotalEccErrors: the volatile count of uncorrected errors is above zero. The count over the card's
    life is shown beside it and alone is no finding: rows that failed long ago were replaced.

    ## What to do
    Drain the card and reset it, so that the faulty row is replaced. If errors come back, replace the card.

    ## Sources
    https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/
    """
    for gpu in asked(state, "ecc_uncorrected_volatile"):
        if gpu.ecc_uncorrected_volatile:
            evidence = (
                of_card(gpu, "ecc_uncorrected_volatile", "uncorrected since the driver was loaded"),
                of_card(gpu, "ecc_uncorrected_aggregate", "over the card's life"),
            )
            title = f"{name_of(gpu)} had {gpu.ecc_uncorrected_volatile} uncorrectable memory errors"
            yield Finding(title, "", evidence, (drain_and_reset(gpu),), str(gpu.index))


@rule(severity=Severity.WARNING, group="GPUs")
def row_remap_pending(state: GpuState) -> Iterator[Finding]:
    """A GPU waits for a reset to replace a faulty memory row.

    ## What it means
    The card found a bad row of memory and has a spare for it, which it takes into use at the next reset.

    ## Why it matters
    Until then the bad row is still in use, or its page is kept out of use.

    ## How it is detected
    nvmlDeviceGetRemappedRows says that a remapping is pending; on older cards, that page retirement is pending.

    ## What to do
    Drain the card and reset it when the job allows.

    ## Sources
    https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/
    """
    cards = answering(state)
    if all(gpu.remap_pending is None and gpu.retired_pages_pending is None for gpu in cards):
        asked(state, "remap_pending")
    for gpu in cards:
        field = "remap_pending" if gpu.remap_pending else "retired_pages_pending"
        if getattr(gpu, field):
            evidence = (of_card(gpu, field, "replacement pending"),)
            title = f"{name_of(gpu)} needs a reset to replace a faulty memory row"
            yield Finding(title, "", evidence, (drain_and_reset(gpu),), str(gpu.index))


@rule(severity=Severity.ERROR, group="GPUs")
def row_remap_failed(state: GpuState) -> Iterator[Finding]:
    """A GPU could not replace a faulty memory row: it has no spare left for it.

    ## What it means
    The card's spare rows for this part of its memory are used up.

    ## Why it matters
    Uncorrectable errors will come back. NVIDIA's policy is to replace such a card.

    ## How it is detected
    nvmlDeviceGetRemappedRows reports a failure.

    ## What to do
    Take the card out of service and have it replaced.

    ## Sources
    https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/
    """
    for gpu in asked(state, "remap_failed"):
        if gpu.remap_failed:
            evidence = (
                of_card(gpu, "remap_failed", "replacement failed"),
                of_card(gpu, "remapped_rows_uncorrectable", "rows replaced so far"),
            )
            fix = look_at("Collect what the vendor asks for", "sudo nvidia-bug-report.sh", root=True)
            yield Finding(f"{name_of(gpu)} has run out of spare memory rows", "", evidence, (fix,), str(gpu.index))


RULES: tuple[Rule, ...] = (gpu_lost, xid_errors, ecc_uncorrectable, row_remap_pending, row_remap_failed)
