"""The state of each card as NVML and the kernel log report it: lost, sick, hot, slowed down or taken."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.driver import KernelModule
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment
from envdoctor.facts.nvml import Gpu, GpuFabric, GpuState, KernelLog, XidEvent
from envdoctor.finding import Command, Confidence, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.knowledge.xid import xids
from envdoctor.rule import NotApplicable, Rule, Unknown, rule
from envdoctor.rules.presence import need_gpu
from envdoctor.rules.visibility import read_mask

DAY_SECONDS = 86_400
THERMAL = ("sw_thermal_slowdown", "hw_thermal_slowdown")
BUSY_PERCENT = 10
MOBILE = re.compile(r"\b(laptop gpu|mobile|with max-q design)\b", re.IGNORECASE)


def _of(gpu: Gpu, field: str, label: str, value: object = None) -> Evidence:
    """Make a field of one card evidence."""
    shown = getattr(gpu, field) if value is None else value
    return Evidence(f"gpu_state.gpus[{gpu.index}].{field}", shown, f"NVML, GPU {gpu.index}", "", label)


def _cards(state: GpuState) -> tuple[Gpu, ...]:
    """Give the cards that NVML answered for, or end the rule with the reason."""
    if state.init_code != 0:
        raise Unknown(f"NVML does not start: {state.init_words}")
    if not state.gpus:
        raise NotApplicable("NVML lists no GPU")
    return state.gpus


def _asked(state: GpuState, field: str) -> tuple[Gpu, ...]:
    """Give the cards whose ``field`` is known; none known ends the rule in NVML's own words."""
    cards = _cards(state)
    known = tuple(gpu for gpu in cards if getattr(gpu, field) is not None)
    if known:
        return known
    words = next((gpu.unknown[field] for gpu in cards if field in gpu.unknown), "no card answered")
    if "not supported" in words.lower():
        raise NotApplicable(f"{field}: {words}")
    raise Unknown(f"{field}: {words}")


def _name(gpu: Gpu) -> str:
    return f"GPU {gpu.index}" + (f" ({gpu.name})" if gpu.name else "")


def _look(title: str, command: str, *, root: bool = False) -> Fix:
    """Give a command that only looks: where the card's state has no cure but a person's."""
    return Fix(title, (Command(None, command),), Safety.ADMIN, "nothing: it only looks", needs_root=root)


def _set(title: str, command: str, changes: str) -> Fix:
    return Fix(title, (Command(None, command),), Safety.ADMIN, changes, needs_root=True)


def _drain_and_reset(gpu: Gpu) -> Fix:
    commands = (
        Command(None, f"nvidia-smi -i {gpu.index} --query-compute-apps=pid,name --format=csv"),
        Command(None, f"sudo nvidia-smi --gpu-reset -i {gpu.index}"),
    )
    title = f"Stop what uses GPU {gpu.index}, then reset it"
    return Fix(title, commands, Safety.DISRUPTIVE, "every process on this GPU must end first", needs_root=True)


def _restart() -> Fix:
    commands = (Command(None, "sudo reboot"),)
    title = "Drain the machine and restart it"
    return Fix(title, commands, Safety.DISRUPTIVE, "the whole machine", needs_root=True, needs_reboot=True)


@rule(severity=Severity.ERROR, group="GPUs", essential=True, explained_by=("xid-errors",))
def gpu_lost(state: GpuState) -> Iterator[Finding]:
    """A GPU has fallen off the bus, or does not answer.

    ## What it means
    NVML says "GPU is lost" for this card, or a question to it got no answer in time. The other cards were asked too.

    ## Why it matters
    A job that touches this card fails or hangs for ever. A job over all cards starts and then waits for it.

    ## How it is detected
    nvmlDeviceGetHandleByIndex and the questions after it, each card on its own with its own deadline.

    ## What to do
    Look for an Xid (79: fallen off the bus) in the kernel log, drain the machine and restart it. A card that is lost
    again has a fault of power, seating or hardware: contact the vendor.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceEnumvs.html
    https://docs.nvidia.com/deploy/xid-errors/
    """
    for gpu in _cards(state):
        words = "; ".join(f"{name}: {text}" for name, text in gpu.unknown.items()) or "GPU is lost"
        if gpu.lost or gpu.hung:
            evidence = (_of(gpu, "lost" if gpu.lost else "hung", "NVML says", words),)
            title = f"{_name(gpu)} {'is lost' if gpu.lost else 'does not answer'}"
            confidence = Confidence.CERTAIN if gpu.lost else Confidence.LIKELY
            yield Finding(title, "", evidence, (_restart(),), str(gpu.index), confidence=confidence)


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
        fix = _look("Read the lines around it", "sudo dmesg --ctime | grep -i nvrm", root=True)
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
    for gpu in _asked(state, "ecc_uncorrected_volatile"):
        if gpu.ecc_uncorrected_volatile:
            evidence = (
                _of(gpu, "ecc_uncorrected_volatile", "uncorrected since the driver was loaded"),
                _of(gpu, "ecc_uncorrected_aggregate", "over the card's life"),
            )
            title = f"{_name(gpu)} had {gpu.ecc_uncorrected_volatile} uncorrectable memory errors"
            yield Finding(title, "", evidence, (_drain_and_reset(gpu),), str(gpu.index))


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
    cards = _cards(state)
    if all(gpu.remap_pending is None and gpu.retired_pages_pending is None for gpu in cards):
        raise Unknown(next((g.unknown["remap_pending"] for g in cards if "remap_pending" in g.unknown), "not answered"))
    for gpu in cards:
        field = "remap_pending" if gpu.remap_pending else "retired_pages_pending"
        if getattr(gpu, field):
            evidence = (_of(gpu, field, "replacement pending"),)
            title = f"{_name(gpu)} needs a reset to replace a faulty memory row"
            yield Finding(title, "", evidence, (_drain_and_reset(gpu),), str(gpu.index))


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
    for gpu in _asked(state, "remap_failed"):
        if gpu.remap_failed:
            evidence = (
                _of(gpu, "remap_failed", "replacement failed"),
                _of(gpu, "remapped_rows_uncorrectable", "rows replaced so far"),
            )
            fix = _look("Collect what the vendor asks for", "sudo nvidia-bug-report.sh", root=True)
            yield Finding(f"{_name(gpu)} has run out of spare memory rows", "", evidence, (fix,), str(gpu.index))


@rule(severity=Severity.WARNING, group="GPUs")
def gpu_throttled_thermal(state: GpuState) -> Iterator[Finding]:
    """A GPU has slowed its clocks because it is too hot.

    ## What it means
    At the moment of asking, the card or its driver held the clocks down for temperature.

    ## Why it matters
    Every step is slower, and in a job over several cards all wait for the hottest.

    ## How it is detected
    Clock event reasons of NVML: software or hardware thermal slowdown.

    ## What to do
    Look at fans, dust, inlet temperature and the neighbours of the card.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html
    """
    for gpu in _asked(state, "event_reasons"):
        hot = [reason for reason in gpu.event_reasons or () if reason in THERMAL]
        if hot:
            evidence = (
                _of(gpu, "event_reasons", "clocks held down by", ", ".join(hot)),
                _of(gpu, "temperature_celsius", "temperature, °C"),
                _of(gpu, "sm_clock_mhz", f"SM clock, MHz (maximum {gpu.sm_clock_max_mhz})"),
            )
            fix = _look(
                "Watch temperature and clocks", f"nvidia-smi -q -i {gpu.index} -d TEMPERATURE,CLOCK,PERFORMANCE"
            )
            yield Finding(f"{_name(gpu)} is too hot and runs slower", "", evidence, (fix,), str(gpu.index))


@rule(severity=Severity.INFO, group="GPUs")
def gpu_throttled_power(state: GpuState) -> Iterator[Finding]:
    """A GPU holds its clocks down to stay within its power limit.

    ## What it means
    The card would draw more than it may. A hardware power brake means that the board or the rack asked for less.

    ## Why it matters
    Under a heavy matrix product a cap at the normal limit is normal. A power brake is not.

    ## How it is detected
    Clock event reasons of NVML: software power cap (info), hardware power brake (warning).

    ## What to do
    For a power brake, look at the power supply and at what the rack's management asks for.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html
    """
    for gpu in _asked(state, "event_reasons"):
        reasons = gpu.event_reasons or ()
        brake = "hw_power_brake_slowdown" in reasons
        if brake or "sw_power_cap" in reasons:
            evidence = (
                _of(gpu, "event_reasons", "clocks held down by", ", ".join(reasons)),
                _of(gpu, "power_watts", "power, W"),
                _of(gpu, "power_limit_enforced_watts", "limit in force, W"),
            )
            severity = Severity.WARNING if brake else Severity.INFO
            fix = _look("Watch power and limits", f"nvidia-smi -q -i {gpu.index} -d POWER,PERFORMANCE")
            title = f"{_name(gpu)} is held back by {'a hardware power brake' if brake else 'its power limit'}"
            yield Finding(title, "", evidence, (fix,), str(gpu.index), severity)


@rule(severity=Severity.WARNING, group="GPUs")
def power_limit_lowered(state: GpuState) -> Iterator[Finding]:
    """A GPU's power limit is set below its default.

    ## What it means
    Somebody, or the machine's management, gave this card less power than it ships with.

    ## Why it matters
    Matrix products run at lower clocks. Cards of one job with different limits wait for each other.

    ## How it is detected
    The power limit in force is more than one percent below the default limit. Laptops and other cards whose limit
    nobody can set are left out: there the firmware moves the limit about, by charger, processor and temperature.

    ## What to do
    If it was not meant, put the default back. If it was, ignore this finding with the reason.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
    """
    for gpu in _asked(state, "power_limit_default_watts"):
        limit, default = gpu.power_limit_enforced_watts or gpu.power_limit_watts, gpu.power_limit_default_watts or 0
        if limit is not None and limit < 0.99 * default and not _by_firmware(gpu):
            evidence = (
                _of(gpu, "power_limit_enforced_watts", "limit in force, W", limit),
                _of(gpu, "power_limit_default_watts", "default limit, W"),
            )
            changes = "this card's power limit, until the next restart"
            fix = _set("Put the default limit back", f"sudo nvidia-smi -i {gpu.index} -pl {default:g}", changes)
            title = f"{_name(gpu)} may draw {limit:g} W instead of {default:g} W"
            yield Finding(title, "", evidence, (fix,), str(gpu.index))


def _by_firmware(gpu: Gpu) -> bool:
    """Tell whether the machine's firmware alone decides about the card's power, as on laptops."""
    return MOBILE.search(gpu.name or "") is not None or "power_limit_watts" in gpu.unknown


@rule(severity=Severity.WARNING, group="GPUs")
def clocks_locked_low(state: GpuState) -> Iterator[Finding]:
    """A GPU's application clock is set below its default.

    ## What it means
    The card is told to run computations at a lower clock than it ships with.

    ## Why it matters
    Every kernel that is bound by arithmetic is slower by the same share.

    ## How it is detected
    NVML's application clock of the SMs is below its default application clock.

    ## What to do
    If it was not meant, reset the application clocks.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
    """
    for gpu in _asked(state, "sm_clock_application_mhz"):
        now, default = gpu.sm_clock_application_mhz or 0, gpu.sm_clock_default_mhz
        if default is not None and now < default:
            evidence = (
                _of(gpu, "sm_clock_application_mhz", "application clock, MHz"),
                _of(gpu, "sm_clock_default_mhz", "default, MHz"),
            )
            command = f"sudo nvidia-smi -i {gpu.index} -rac"
            fix = _set("Reset the application clocks", command, "this card's application clocks")
            title = f"{_name(gpu)} is set to {now} MHz instead of {default} MHz"
            yield Finding(title, "", evidence, (fix,), str(gpu.index))


@rule(severity=Severity.WARNING, group="GPUs")
def pcie_link_degraded(state: GpuState) -> Iterator[Finding]:
    """A GPU's PCIe link is narrower or slower than it can be, while the card works.

    ## What it means
    Card and slot agreed on fewer lanes or a lower generation than both can do.

    ## Why it matters
    Copies between host and card are slower in proportion.

    ## How it is detected
    NVML's current against maximum link width and generation, judged only while the card is busy: an idle link is
    slowed down on purpose to save power.

    ## What to do
    Reseat the card or its riser, look at the slot's wiring and at PCIe errors in the kernel log.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
    """
    slow = [gpu for gpu in _asked(state, "pcie_width") if _below(gpu)]
    busy = [gpu for gpu in slow if (gpu.utilization_percent or 0) >= BUSY_PERCENT]
    if slow and not busy:
        raise Unknown("the links are below their maximum, as idle links are: ask again while the GPUs are busy")
    for gpu in busy:
        evidence = (
            _of(gpu, "pcie_width", "lanes now", f"{gpu.pcie_width} of {gpu.pcie_width_max}"),
            _of(gpu, "pcie_generation", "generation now", f"{gpu.pcie_generation} of {gpu.pcie_generation_max}"),
            _of(gpu, "utilization_percent", "the card is busy, %"),
        )
        now, best = f"{gpu.pcie_generation} x{gpu.pcie_width}", f"{gpu.pcie_generation_max} x{gpu.pcie_width_max}"
        fix = _look("Look at the slot and its errors", f"sudo lspci -vv -s {gpu.pci_address}", root=True)
        yield Finding(f"{_name(gpu)} talks over PCIe {now} instead of {best}", "", evidence, (fix,), str(gpu.index))


def _below(gpu: Gpu) -> bool:
    """Tell whether width or generation is below its maximum; what is not known is taken to be right."""
    pairs = ((gpu.pcie_width, gpu.pcie_width_max), (gpu.pcie_generation, gpu.pcie_generation_max))
    return any(now is not None and best is not None and now < best for now, best in pairs)


@rule(severity=Severity.WARNING, group="fabric")
def nvlink_down(fabric: GpuFabric) -> Iterator[Finding]:
    """Some NVLinks of a GPU are down while those of its neighbours are up.

    ## What it means
    The card has fewer active links than the other cards of this machine.

    ## Why it matters
    All-reduce runs at the pace of the slowest card: one link of twelve down costs about eight percent.

    ## How it is detected
    nvmlDeviceGetNvLinkState for each link, compared between cards. Links that are down on every card alike are not
    wired on this machine, and no finding.

    ## What to do
    Look at the link's errors, reset the card, and reseat the bridge where there is one. If it stays down, contact the
    vendor.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__NvLink.html
    """
    if not any(fabric.nvlinks):
        raise NotApplicable(fabric.unknown.get("nvlinks", "no NVLinks"))
    active = [sum(bool(link.active) for link in links) for links in fabric.nvlinks]
    for index, links in enumerate(fabric.nvlinks):
        down = [str(link.link) for link in links if link.active is False]
        if down and active[index] < max(active):
            evidence = (
                see(fabric, "nvlinks", f"GPU {index}: links that are down", ", ".join(down)),
                see(fabric, "nvlinks", "active links by GPU", ", ".join(map(str, active))),
            )
            fix = _look("Look at states and error counters", f"nvidia-smi nvlink -i {index} -s -e")
            title = f"GPU {index} has {active[index]} of {max(active)} NVLinks up"
            yield Finding(title, "", evidence, (fix,), str(index))


@rule(severity=Severity.INFO, group="GPUs")
def persistence_mode_off(state: GpuState) -> Iterator[Finding]:
    """Persistence mode is off: each first use of a GPU starts its driver state anew.

    ## What it means
    When no program uses a card, the driver lets go of it, and the next program waits.

    ## Why it matters
    It costs start-up time only, up to seconds a card. Training speed is the same.

    ## How it is detected
    nvmlDeviceGetPersistenceMode.

    ## What to do
    On a server, run NVIDIA's persistence daemon.

    ## Sources
    https://docs.nvidia.com/deploy/driver-persistence/
    """
    off = [gpu for gpu in _asked(state, "persistence") if gpu.persistence is False]
    if off:
        numbers = ", ".join(str(gpu.index) for gpu in off)
        command = "sudo systemctl enable --now nvidia-persistenced"
        fix = _set("Start the persistence daemon", command, "a system service")
        evidence = (_of(off[0], "persistence", "persistence mode off on GPUs", numbers),)
        yield Finding("Persistence mode is off: the first CUDA call of a program is slow", "", evidence, (fix,))


@rule(severity=Severity.WARNING, group="GPUs")
def gpu_in_use(state: GpuState, environment: Environment | None) -> Iterator[Finding]:
    """Other processes compute on a GPU now.

    ## What it means
    A card is not free: another process holds a compute context on it.

    ## Why it matters
    Memory is shared with it, and every measurement on this card is of both.

    ## How it is detected
    NVML's list of compute processes, without those that draw as well: a desktop's shell is no job. In a container the
    list shows only what the container may see. A card that CUDA_VISIBLE_DEVICES hides from this program is info.

    ## What to do
    Wait for it, choose another card with CUDA_VISIBLE_DEVICES, or end the process if it is yours.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
    """
    hidden = _hidden(state, environment)
    for gpu in _asked(state, "memory_used_mib"):
        pids = [str(each) for each in _computing(gpu)]
        if pids:
            evidence = (
                _of(gpu, "processes", "compute processes", ", ".join(pids[:8])),
                _of(gpu, "memory_used_mib", f"memory used, MiB of {gpu.memory_total_mib}"),
            )
            fix = _look("See whose they are", f"ps -o pid,user,etime,args -p {','.join(pids[:8])}")
            severity = Severity.INFO if gpu.index in hidden else None
            yield Finding(f"{_name(gpu)} is in use", "", evidence, (fix,), str(gpu.index), severity)


def _computing(gpu: Gpu) -> tuple[int, ...]:
    """Give the processes that only compute on a card; what also draws, as desktops do, is in both of NVML's lists."""
    drawing = {each.pid for each in gpu.processes if each.kind != "compute"}
    return tuple(each.pid for each in gpu.processes if each.kind == "compute" and each.pid not in drawing)


def _hidden(state: GpuState, environment: Environment | None) -> frozenset[int]:
    """Give the cards that CUDA_VISIBLE_DEVICES keeps from programs here; none where that is not sure.

    NVML counts by the bus. CUDA does so too when all cards are alike, or when it is told to.
    """
    value = (environment.get("CUDA_VISIBLE_DEVICES") if environment else None) or ""
    alike = len({gpu.name for gpu in state.gpus}) == 1
    by_bus = alike or (environment is not None and environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID")
    taken = read_mask(value, len(state.gpus)).taken if value else ()
    numbers = {int(each) for each in taken if each.isdigit()}
    if not taken or (numbers and not by_bus) or any(each.startswith("MIG-") for each in taken):
        return frozenset()
    named = {gpu.index for gpu in state.gpus if any((gpu.uuid or "").startswith(each) for each in taken)}
    return frozenset(gpu.index for gpu in state.gpus) - (numbers | named) if numbers | named else frozenset()


@rule(severity=Severity.WARNING, group="GPUs", explained_by=("gpu-in-use",))
def gpu_memory_low(state: GpuState, environment: Environment | None) -> Iterator[Finding]:
    """Most of a GPU's memory is taken already.

    ## What it means
    Less than a fifth of the card's memory is free before the training has begun.

    ## Why it matters
    The training ends with "CUDA out of memory", whatever its batch size in other places.

    ## How it is detected
    nvmlDeviceGetMemoryInfo: free against total memory. A card that CUDA_VISIBLE_DEVICES hides from this program is
    info.

    ## What to do
    Find what holds it. A process that ended a moment ago may still be giving its memory back: ask again.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
    """
    hidden = _hidden(state, environment)
    for gpu in _asked(state, "memory_free_mib"):
        total, free = gpu.memory_total_mib or 0, gpu.memory_free_mib or 0
        if total and free < 0.2 * total:
            evidence = (_of(gpu, "memory_free_mib", "free, MiB"), _of(gpu, "memory_total_mib", "total, MiB"))
            command = f"nvidia-smi -i {gpu.index} --query-compute-apps=pid,name,used_memory --format=csv"
            fix = _look("See what holds it", command)
            title, severity = f"{_name(gpu)} has {free} of {total} MiB free", Severity.INFO
            yield Finding(title, "", evidence, (fix,), str(gpu.index), severity if gpu.index in hidden else None)


@rule(severity=Severity.INFO, group="GPUs")
def exclusive_compute_mode(state: GpuState, environment: Environment | None) -> Iterator[Finding]:
    """A GPU allows one process only.

    ## What it means
    The card is in exclusive-process mode: while one process holds a context, a second gets an error. In prohibited
    mode none gets one.

    ## Why it matters
    A second job, a notebook or a data-loader worker that touches CUDA fails with "all CUDA-capable devices are busy".

    ## How it is detected
    nvmlDeviceGetComputeMode, and NVML's list of compute processes: taken is an error, free is info. So is a card that
    CUDA_VISIBLE_DEVICES hides from this program.

    ## What to do
    Wait for the other process, or put the mode back to default if nobody meant it.

    ## Sources
    https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#compute-modes
    """
    hidden = _hidden(state, environment)
    for gpu in _asked(state, "compute_mode"):
        holders = sum(each.kind == "compute" for each in gpu.processes)
        if gpu.compute_mode != "default":
            closed = gpu.index not in hidden and (gpu.compute_mode == "prohibited" or holders)
            yield _one_process_only(gpu, holders, Severity.ERROR if closed else Severity.INFO)


def _one_process_only(gpu: Gpu, holders: int, severity: Severity) -> Finding:
    taken = gpu.compute_mode != "prohibited" and holders > 0
    command = f"nvidia-smi -i {gpu.index} --query-compute-apps=pid,name,used_memory --format=csv"
    ways = (
        *((_look("See what holds it, and wait for it or take another card", command),) if taken else ()),
        _set("Let several processes in", f"sudo nvidia-smi -i {gpu.index} -c DEFAULT", "this card's compute mode"),
    )
    return Finding(
        f"{_name(gpu)} is in {gpu.compute_mode} mode" + (" and taken" if taken else ""),
        evidence=(_of(gpu, "compute_mode", "compute mode"), _of(gpu, "processes", "compute processes", holders)),
        fixes=ways,
        subject=str(gpu.index),
        severity=severity,
    )


RULES: tuple[Rule, ...] = (
    gpu_lost, xid_errors, ecc_uncorrectable, row_remap_pending, row_remap_failed, gpu_throttled_thermal,
    gpu_throttled_power, power_limit_lowered, clocks_locked_low, pcie_link_degraded, nvlink_down,
    persistence_mode_off, gpu_in_use, gpu_memory_low, exclusive_compute_mode,
)  # fmt: skip
