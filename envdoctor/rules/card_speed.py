"""What holds a card back: heat, power, clocks, a narrow link, links that are down, a driver that lets go of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.bench import BenchClocks, BenchCopies, BenchDevice
from envdoctor.facts.nvml import Gpu, GpuFabric, GpuState
from envdoctor.finding import Evidence, Finding, Severity, see
from envdoctor.rule import NotApplicable, Rule, Unknown, rule
from envdoctor.rules.nvml_cards import asked, look_at, name_of, of_card, set_as_root
from envdoctor.rules.peers import WIRED_BY_NVLINK

THERMAL = ("sw_thermal_slowdown", "hw_thermal_slowdown")
BUSY_PERCENT = 10
FULL_SPEED = 0.75  # of the memory's clock: GeForce cards compute at nine tenths of it
MOBILE = re.compile(r"\b(laptop gpu|mobile|with max-q design)\b", re.IGNORECASE)


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
    for gpu in asked(state, "event_reasons"):
        hot = [reason for reason in gpu.event_reasons or () if reason in THERMAL]
        if hot:
            evidence = (
                of_card(gpu, "event_reasons", "clocks held down by", ", ".join(hot)),
                of_card(gpu, "temperature_celsius", "temperature, °C"),
                of_card(gpu, "sm_clock_mhz", f"SM clock, MHz (maximum {gpu.sm_clock_max_mhz})"),
            )
            fix = look_at(
                "Watch temperature and clocks", f"nvidia-smi -q -i {gpu.index} -d TEMPERATURE,CLOCK,PERFORMANCE"
            )
            yield Finding(f"{name_of(gpu)} is too hot and runs slower", "", evidence, (fix,), str(gpu.index))


@rule(severity=Severity.INFO, group="GPUs")
def gpu_throttled_power(state: GpuState) -> Iterator[Finding]:
    """A GPU holds its clocks down to stay within its power limit.

    ## What it means
    The card would draw more than it may. A hardware power brake means that the board or the rack asked for less.

    ## Why it matters
    Under a heavy matrix product a cap at the normal limit is normal. A power brake is not.

    ## How it is detected
    Clock event reasons of NVML: software power cap (info), hardware power brake (warning), and a hardware slowdown for
    which NVML names no reason while the card is busy (warning): mostly too much power at once, or a missing cable.

    ## What to do
    For a power brake, look at the power supply and at what the rack's management asks for. For a hardware slowdown look
    at the card's power cables too.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html
    """
    for gpu in asked(state, "event_reasons"):
        reasons = gpu.event_reasons or ()
        brake = "hw_power_brake_slowdown" in reasons
        slowed = not brake and _slowed_by_hardware(gpu)
        if brake or slowed or "sw_power_cap" in reasons:
            evidence = (
                of_card(gpu, "event_reasons", "clocks held down by", ", ".join(reasons)),
                of_card(gpu, "power_watts", "power, W"),
                of_card(gpu, "power_limit_enforced_watts", "limit in force, W"),
            )
            severity = Severity.WARNING if brake or slowed else Severity.INFO
            fix = look_at("Watch power and limits", f"nvidia-smi -q -i {gpu.index} -d POWER,PERFORMANCE")
            by = "a hardware power brake" if brake else "a hardware slowdown" if slowed else "its power limit"
            title = f"{name_of(gpu)} is held back by {by}"
            yield Finding(title, "", evidence, (fix,), str(gpu.index), severity)


def _slowed_by_hardware(gpu: Gpu) -> bool:
    """Tell whether the bare bit of a hardware slowdown is set under load; an idle card sets it as its clocks change."""
    reasons = gpu.event_reasons or ()
    busy = (gpu.utilization_percent or 0) >= BUSY_PERCENT
    return busy and "hw_slowdown" in reasons and not set(THERMAL) & set(reasons)


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
    for gpu in asked(state, "power_limit_default_watts"):
        limit, default = gpu.power_limit_enforced_watts or gpu.power_limit_watts, gpu.power_limit_default_watts or 0
        if limit is not None and limit < 0.99 * default and not _by_firmware(gpu):
            evidence = (
                of_card(gpu, "power_limit_enforced_watts", "limit in force, W", limit),
                of_card(gpu, "power_limit_default_watts", "default limit, W"),
            )
            changes = "this card's power limit, until the next restart"
            fix = set_as_root("Put the default limit back", f"sudo nvidia-smi -i {gpu.index} -pl {default:g}", changes)
            title = f"{name_of(gpu)} may draw {limit:g} W instead of {default:g} W"
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
    for gpu in asked(state, "sm_clock_application_mhz"):
        now, default = gpu.sm_clock_application_mhz or 0, gpu.sm_clock_default_mhz
        if default is not None and now < default:
            evidence = (
                of_card(gpu, "sm_clock_application_mhz", "application clock, MHz"),
                of_card(gpu, "sm_clock_default_mhz", "default, MHz"),
            )
            command = f"sudo nvidia-smi -i {gpu.index} -rac"
            fix = set_as_root("Reset the application clocks", command, "this card's application clocks")
            title = f"{name_of(gpu)} is set to {now} MHz instead of {default} MHz"
            yield Finding(title, "", evidence, (fix,), str(gpu.index))


@rule(severity=Severity.WARNING, group="GPUs")
def pcie_link_degraded(
    state: GpuState, device: BenchDevice | None, copies: BenchCopies | None, clocks: BenchClocks | None
) -> Iterator[Finding]:
    """A GPU's PCIe link is narrower or slower than it can be, while the card works.

    ## What it means
    Card and slot agreed on fewer lanes or a lower generation than both can do.

    ## Why it matters
    Copies between host and card are slower in proportion.

    ## How it is detected
    NVML's current against maximum link width and generation, judged only while the card is busy and its memory runs
    at speed: an idle link is slowed down on purpose to save power, and stays so under the small load of a desktop.
    "envdoctor bench --suite copies" reads it while it copies.

    ## What to do
    Reseat the card or its riser, look at the slot's wiring and at PCIe errors in the kernel log.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
    """
    copying = _while_copying(device, copies, clocks)
    slow = [
        gpu for gpu in asked(state, "pcie_width") if _below(gpu) and (copying is None or gpu.index != copying.index)
    ]
    busy = [gpu for gpu in slow if _at_work(gpu)]
    if copying is not None and clocks is not None and _below(copying):
        yield _narrow(copying, see(clocks, "gpus", "the link was read", "while copying over it"))
    for gpu in busy:
        yield _narrow(gpu, of_card(gpu, "utilization_percent", "the card is busy, %"))
    if slow and not busy and copying is None:
        raise Unknown("the links are below their maximum, as idle links are: ask again while the GPUs are busy")


def _at_work(gpu: Gpu) -> bool:
    """Tell whether a card works and has left the power states in which it slows memory and link down together."""
    now, best = gpu.memory_clock_mhz, gpu.memory_clock_max_mhz
    at_speed = now is None or best is None or now >= FULL_SPEED * best
    return at_speed and (gpu.utilization_percent or 0) >= BUSY_PERCENT


def _narrow(gpu: Gpu, at_work: Evidence) -> Finding:
    evidence = (
        of_card(gpu, "pcie_width", "lanes now", f"{gpu.pcie_width} of {gpu.pcie_width_max}"),
        of_card(gpu, "pcie_generation", "generation now", f"{gpu.pcie_generation} of {gpu.pcie_generation_max}"),
        at_work,
    )
    now, best = f"{gpu.pcie_generation} x{gpu.pcie_width}", f"{gpu.pcie_generation_max} x{gpu.pcie_width_max}"
    fix = look_at("Look at the slot and its errors", f"sudo lspci -vv -s {gpu.pci_address}", root=True)
    return Finding(f"{name_of(gpu)} talks over PCIe {now} instead of {best}", "", evidence, (fix,), str(gpu.index))


def _while_copying(device: BenchDevice | None, copies: BenchCopies | None, clocks: BenchClocks | None) -> Gpu | None:
    """Give the measured GPU with its link as it was while a benchmark copied over it: an idle one trains down."""
    if device is None or copies is None or not copies.measured:
        return None
    from envdoctor.bench.clocks import during, track_of

    track = track_of(clocks, device)
    window = during(track, min(e.began for e in copies.measured), max(e.ended for e in copies.measured))
    if track is None or not window.pcie_width or not window.pcie_generation:
        return None
    return Gpu(
        track.index, track.name, pci_address=track.pci_address, pcie_width=window.pcie_width,
        pcie_width_max=track.pcie_width_max, pcie_generation=window.pcie_generation,
        pcie_generation_max=track.pcie_generation_max,
    )  # fmt: skip


def _below(gpu: Gpu) -> bool:
    """Tell whether width or generation is below its maximum; what is not known is taken to be right."""
    pairs = ((gpu.pcie_width, gpu.pcie_width_max), (gpu.pcie_generation, gpu.pcie_generation_max))
    return any(now is not None and best is not None and now < best for now, best in pairs)


@rule(severity=Severity.WARNING, group="fabric")
def nvlink_down(fabric: GpuFabric, state: GpuState | None) -> Iterator[Finding]:
    """Some NVLinks of a GPU are down while those of its neighbours are up.

    ## What it means
    The card has fewer active links than the other cards of its model in this machine.

    ## Why it matters
    All-reduce runs at the pace of the slowest card: one link of twelve down costs about eight percent.

    ## How it is detected
    nvmlDeviceGetNvLinkState for each link, compared between cards of one model. Links that are down on every card alike
    are not wired on this machine, and no finding. Nor is a card without any link beside a pair that a bridge joins: it
    has no bridge. Cards in MIG mode, which may switch their links off, are left out.

    ## What to do
    Look at the link's errors, reset the card, and reseat the bridge where there is one. If it stays down, contact the
    vendor.

    ## Sources
    https://docs.nvidia.com/deploy/nvml-api/group__NvLink.html
    """
    if not any(fabric.nvlinks):
        raise NotApplicable(fabric.unknown.get("nvlinks", "no NVLinks"))
    cards = {gpu.index: gpu for gpu in (state.gpus if state else ())}
    active = [sum(bool(link.active) for link in links) for links in fabric.nvlinks]
    for index, links in enumerate(fabric.nvlinks):
        own = cards.get(index, Gpu(index))
        most = max(count for n, count in enumerate(active) if cards.get(n, Gpu(n)).name == own.name)
        down = [str(link.link) for link in links if link.active is False]
        if down and active[index] < most and not own.mig_enabled and not _without_bridge(own, active, fabric, cards):
            evidence = (
                see(fabric, "nvlinks", f"GPU {index}: links that are down", ", ".join(down)),
                see(fabric, "nvlinks", "active links by GPU", ", ".join(map(str, active))),
            )
            fix = look_at("Look at states and error counters", f"nvidia-smi nvlink -i {index} -s -e")
            title = f"GPU {index} has {active[index]} of {most} NVLinks up"
            yield Finding(title, "", evidence, (fix,), str(index))


def _without_bridge(own: Gpu, active: list[int], fabric: GpuFabric, cards: dict[int, Gpu]) -> bool:
    """Tell whether a card has no link because the bridges, from card to card, are on others."""
    places = {(gpu.pci_address or "").lower() for gpu in cards.values()} - {""}
    remotes = {link.remote for links in fabric.nvlinks for link in links if link.active}
    soldered = own.name is None or WIRED_BY_NVLINK.search(own.name)
    return not active[own.index] and not soldered and remotes <= places


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
    On a server, run NVIDIA's persistence daemon. Ubuntu runs it with --no-persistence-mode: to have the mode on at each
    boot, take that option out of the service (systemctl edit --full nvidia-persistenced).

    ## Sources
    https://docs.nvidia.com/deploy/driver-persistence/
    """
    off = [gpu for gpu in asked(state, "persistence") if gpu.persistence is False]
    if off:
        numbers = ", ".join(str(gpu.index) for gpu in off)
        command = "sudo systemctl enable --now nvidia-persistenced && sudo nvidia-smi -pm 1"
        changes = "a system service; the mode of all cards until the next restart"
        fix = set_as_root("Start the persistence daemon and switch the mode on", command, changes)
        evidence = (of_card(off[0], "persistence", "persistence mode off on GPUs", numbers),)
        yield Finding("Persistence mode is off: the first CUDA call of a program is slow", "", evidence, (fix,))


RULES: tuple[Rule, ...] = (
    gpu_throttled_thermal,
    gpu_throttled_power,
    power_limit_lowered,
    clocks_locked_low,
    pcie_link_degraded,
    nvlink_down,
    persistence_mode_off,
)
