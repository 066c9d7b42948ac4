"""Rules about the state of a card: where each fires and where it must not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envdoctor.facts.driver import CudaDriver, KernelModule
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment, Variable
from envdoctor.facts.nvml import Gpu, GpuFabric, GpuProcess, GpuState, KernelLog, NvLink, XidEvent
from envdoctor.finding import Severity, Status
from envdoctor.rule import Rule
from envdoctor.rules import card_health, card_speed, card_use
from envdoctor.rules.card_health import ecc_uncorrectable, gpu_lost, row_remap_failed, row_remap_pending, xid_errors
from envdoctor.rules.card_speed import (
    clocks_locked_low,
    gpu_throttled_power,
    gpu_throttled_thermal,
    nvlink_down,
    pcie_link_degraded,
    persistence_mode_off,
    power_limit_lowered,
)
from envdoctor.rules.card_use import exclusive_compute_mode, gpu_in_use, gpu_memory_low
from envdoctor.testing import check

ALL_RULES = (*card_health.RULES, *card_speed.RULES, *card_use.RULES)

HEALTHY = Gpu(
    index=0, name="NVIDIA H100 80GB HBM3", pci_address="00000000:19:00.0", compute_capability="9.0",
    memory_total_mib=81559, memory_used_mib=4, memory_free_mib=81004, utilization_percent=0,
    sm_clock_mhz=345, sm_clock_max_mhz=1980, sm_clock_application_mhz=1980, sm_clock_default_mhz=1980,
    event_reasons=("gpu_idle",), temperature_celsius=34, power_watts=71.0, power_limit_watts=700.0,
    power_limit_enforced_watts=700.0, power_limit_default_watts=700.0, ecc_enabled=True, ecc_uncorrected_volatile=0,
    ecc_uncorrected_aggregate=0, remap_pending=False, remap_failed=False, retired_pages_pending=False,
    pcie_generation=5, pcie_generation_max=5, pcie_width=16, pcie_width_max=16, compute_mode="default",
    persistence=True,
)  # fmt: skip
CARD_RULES = [rule for rule in ALL_RULES if rule.inputs[0].fact is GpuState]


def state(*gpus: Gpu, **values: object) -> GpuState:
    """Make what NVML would report of these cards."""
    return replace(GpuState(init_code=0, count=len(gpus), gpus=gpus), **values)  # type: ignore[arg-type]


def sick(**values: object) -> GpuState:
    """Make a machine with one healthy card and one that differs so."""
    return state(HEALTHY, replace(HEALTHY, index=1, **values))  # type: ignore[arg-type]


BUSY: dict[str, object] = {"utilization_percent": 100, "memory_clock_mhz": 9501, "memory_clock_max_mhz": 9751}
WORKER = GpuProcess(4242, 30000, "compute", "python")
FIRES: list[tuple[Rule, dict[str, object], Severity]] = [
    (gpu_lost, {"lost": True, "unknown": {"handle": "GPU is lost"}}, Severity.ERROR),
    (gpu_lost, {"recovery_action": "gpu-reset"}, Severity.ERROR),
    (gpu_lost, {"recovery_action": "node-reboot"}, Severity.ERROR),
    (gpu_lost, {"recovery_action": "reboot"}, Severity.ERROR),
    (gpu_lost, {"hung": True, "unknown": {"temperature_celsius": "no answer within 2.5 s"}}, Severity.ERROR),
    (ecc_uncorrectable, {"ecc_uncorrected_volatile": 2, "ecc_uncorrected_aggregate": 7}, Severity.ERROR),
    (row_remap_pending, {"remap_pending": True}, Severity.WARNING),
    (row_remap_pending, {"remap_pending": None, "retired_pages_pending": True}, Severity.WARNING),
    (row_remap_failed, {"remap_failed": True}, Severity.ERROR),
    (gpu_throttled_thermal, {"event_reasons": ("hw_thermal_slowdown",)}, Severity.WARNING),
    (gpu_throttled_power, {"event_reasons": ("sw_power_cap",)}, Severity.INFO),
    (gpu_throttled_power, {"event_reasons": ("hw_power_brake_slowdown",)}, Severity.WARNING),
    (gpu_throttled_power, {"event_reasons": ("hw_slowdown",), **BUSY}, Severity.WARNING),
    (power_limit_lowered, {"power_limit_enforced_watts": 350.0}, Severity.WARNING),
    (clocks_locked_low, {"sm_clock_application_mhz": 1200}, Severity.WARNING),
    (pcie_link_degraded, {"pcie_width": 8, **BUSY}, Severity.WARNING),
    (pcie_link_degraded, {"pcie_generation": 1, **BUSY}, Severity.WARNING),
    (persistence_mode_off, {"persistence": False}, Severity.INFO),
    (gpu_in_use, {"processes": (WORKER,)}, Severity.WARNING),
    (gpu_memory_low, {"memory_free_mib": 9000}, Severity.WARNING),
    (exclusive_compute_mode, {"compute_mode": "exclusive-process"}, Severity.INFO),
    (exclusive_compute_mode, {"compute_mode": "exclusive-process", "processes": (WORKER,)}, Severity.ERROR),
    (exclusive_compute_mode, {"compute_mode": "prohibited"}, Severity.ERROR),
]


@pytest.mark.parametrize(
    ("rule", "values", "severity"), FIRES, ids=[f"{r.id}-{i}" for i, (r, _, _) in enumerate(FIRES)]
)
def test_sick_card_is_found_and_named(rule: Rule, values: dict[str, object], severity: Severity) -> None:
    """Each fault is found on the card that has it, with evidence and a command, and not on its neighbour."""
    finding = check(rule, sick(**values)).finding
    assert severity == finding.severity
    assert finding.subject in {"1", ""}
    assert finding.evidence
    assert finding.fixes[0].commands[0].shell


@pytest.mark.parametrize("rule", CARD_RULES, ids=lambda rule: rule.id)
def test_healthy_cards_are_left_alone(rule: Rule) -> None:
    """On two healthy idle cards each rule passes."""
    assert Status.PASSED == check(rule, state(HEALTHY, replace(HEALTHY, index=1))).status


@pytest.mark.parametrize("rule", CARD_RULES, ids=lambda rule: rule.id)
def test_silent_nvml_is_unknown_not_healthy(rule: Rule) -> None:
    """When NVML does not start, nothing about a card is passed."""
    silent = GpuState(init_code=18, init_words="RM has detected an NVML/RM version mismatch.")
    assert (Status.UNKNOWN, "NVML does not start: RM has detected an NVML/RM version mismatch.") == (
        check(rule, silent).status,
        check(rule, silent).reason,
    )


@pytest.mark.parametrize("rule", [r for r in CARD_RULES if r is not gpu_lost], ids=lambda rule: rule.id)
def test_question_that_the_driver_lacks_is_unknown(rule: Rule) -> None:
    """A card of which nothing is known passes no rule: the driver's lack of an answer is no good value."""
    bare = state(Gpu(index=0))
    assert Status.UNKNOWN == check(rule, bare).status


def test_feature_that_the_board_lacks_is_not_applicable() -> None:
    """The words "Not Supported" are the board's answer: the rule does not apply."""
    board = replace(HEALTHY, ecc_uncorrected_volatile=None, unknown={"ecc_uncorrected_volatile": "Not Supported"})
    assert Status.NOT_APPLICABLE == check(ecc_uncorrectable, state(board)).status


@pytest.mark.parametrize("words", ["Unknown Error", "GPU requires restart", "Insufficient External Power"])
def test_card_whose_handle_is_refused_is_found(words: str) -> None:
    """A card that NVML cannot open is as lost as one that it calls lost, in NVML's own words."""
    broken = state(HEALTHY, Gpu(index=1, unknown={"handle": words}))
    finding = check(gpu_lost, broken).finding
    assert ("1", Severity.ERROR, f"GPU 1 cannot be opened: {words}") == (
        finding.subject, finding.severity, finding.title,
    )  # fmt: skip


def test_card_of_somebody_else_is_not_lost() -> None:
    """A card that a batch system keeps from this user is no fault."""
    closed = Gpu(index=1, unknown={"handle": "Insufficient Permissions"})
    assert Status.PASSED is check(gpu_lost, state(HEALTHY, closed)).status


LATE = Gpu(index=1, hung=True, unknown={"handle": "no answer within 2.5 s"})


@pytest.mark.parametrize("action", ["none", "drain-p2p", "drain-and-reset", None])
def test_card_that_still_works_is_not_lost(action: str | None) -> None:
    """A card that shall be drained first is in use and works."""
    assert Status.PASSED is check(gpu_lost, sick(recovery_action=action)).status


def test_card_that_is_only_started_by_the_question_is_not_lost() -> None:
    """Without persistence mode a late handle is unknown; where the cards are kept on it is a fault."""
    cold = state(replace(HEALTHY, persistence=False), LATE)
    assert Status.UNKNOWN is check(gpu_lost, cold).status
    assert Status.UNKNOWN is check(gpu_lost, state(LATE)).status
    assert "GPU 1 does not answer" == check(gpu_lost, state(HEALTHY, LATE)).finding.title


def test_card_that_cuda_counts_is_not_lost() -> None:
    """What CUDA was seen to start overrules a handle that came late or not at all, but not NVML's word "lost"."""
    refused = Gpu(index=1, unknown={"handle": "Unknown Error"})
    for each in (refused, LATE):
        assert Status.PASSED is check(gpu_lost, state(HEALTHY, each), CudaDriver(init_code=0, device_count=2)).status
        assert Status.FIRED is check(gpu_lost, state(HEALTHY, each), CudaDriver(init_code=0, device_count=1)).status
    lost = Gpu(index=1, lost=True, unknown={"handle": "GPU is lost"})
    assert Status.FIRED is check(gpu_lost, state(HEALTHY, lost), CudaDriver(init_code=0, device_count=2)).status


def test_idle_link_is_not_called_degraded() -> None:
    """A link that is slow while the card idles is unknown: idle links slow down on purpose."""
    assert Status.UNKNOWN == check(pcie_link_degraded, sick(pcie_generation=1)).status


def test_board_without_spare_rows_is_not_applicable() -> None:
    """A GeForce card has neither spare rows nor retired pages: its "Not Supported" is an answer."""
    words = dict.fromkeys(("remap_pending", "retired_pages_pending"), "Not Supported")
    board = replace(HEALTHY, remap_pending=None, retired_pages_pending=None, unknown=words)
    assert Status.NOT_APPLICABLE is check(row_remap_pending, state(board)).status


def test_link_under_a_desktop_is_not_called_degraded() -> None:
    """A desktop that draws keeps its card at a few percent of a low power state, and the link slow."""
    drawing = {**BUSY, "utilization_percent": 14, "memory_clock_mhz": 405}
    assert Status.UNKNOWN is check(pcie_link_degraded, sick(pcie_generation=1, **drawing)).status


def test_old_retired_errors_alone_are_no_finding() -> None:
    """Errors over the card's life without a new one since the driver was loaded are no fault now."""
    assert Status.PASSED == check(ecc_uncorrectable, sick(ecc_uncorrected_aggregate=7)).status


def test_desktop_on_the_card_is_not_in_use() -> None:
    """A graphics process alone does not make a card taken."""
    desktop = GpuProcess(1, 200, "graphics", "Xorg")
    assert Status.PASSED == check(gpu_in_use, sick(processes=(desktop,))).status


@pytest.mark.parametrize("values", [{"event_reasons": ("hw_slowdown", "hw_thermal_slowdown"), **BUSY},
                                    {"event_reasons": ("hw_slowdown",)}])  # fmt: skip
def test_hardware_slowdown_that_is_heat_or_a_change_of_clocks(values: dict[str, object]) -> None:
    """With heat named beside it, or on an idle card whose clocks change, it is no matter of power."""
    assert Status.PASSED is check(gpu_throttled_power, sick(**values)).status


def links(*active: bool) -> tuple[NvLink, ...]:
    """Make the NVLinks of one card."""
    return tuple(NvLink(number, each) for number, each in enumerate(active))


def test_card_with_fewer_links_than_its_neighbours_is_found() -> None:
    """A card with two of four links down beside a card with all four up is named, with the links."""
    fabric = GpuFabric(nvlinks=(links(True, True, True, True), links(True, False, True, False)))
    finding = check(nvlink_down, fabric).finding
    assert ("1", "1, 3") == (finding.subject, finding.evidence[0].value)


@pytest.mark.parametrize(
    "fabric", [GpuFabric(nvlinks=(links(False, False),) * 2), GpuFabric(nvlinks=(links(True),) * 2)]
)
def test_links_that_are_alike_on_all_cards_are_left_alone(fabric: GpuFabric) -> None:
    """Links that no card uses, or that all use, are how this machine is wired."""
    assert Status.PASSED == check(nvlink_down, fabric).status


def linked(count: int, remote: str = "", *, active: bool = True) -> tuple[NvLink, ...]:
    """Make the NVLinks of one card that lead to one place."""
    return tuple(NvLink(number, active, remote=remote if active else None) for number in range(count))


PAIR = (linked(4, "00000000:02:00.0"), linked(4, "00000000:01:00.0"))


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"name": "NVIDIA GeForce RTX 3090"}, Status.PASSED),
        ({"name": "NVIDIA GeForce RTX 3090", "switch": True}, Status.FIRED),
        ({"name": "Tesla V100-SXM2-16GB"}, Status.FIRED),
        ({"name": "NVIDIA A100-SXM4-80GB", "mig_enabled": True}, Status.PASSED),
        ({"name": "NVIDIA H200", "switch": True}, Status.FIRED),
    ],
)
def test_card_without_a_bridge_is_left_alone(values: dict[str, object], status: Status) -> None:
    """Beside a pair that a bridge joins a third card has no link; where links are soldered or switched it should."""
    more = dict(values)
    pair = (linked(4, "00000000:c4:00.0"),) * 2 if more.pop("switch", False) else PAIR
    names = [replace(HEALTHY, index=n, name=str(more["name"]), pci_address=f"00000000:0{n + 1}:00.0") for n in range(3)]
    cards = state(*names[:2], replace(names[2], **more))  # type: ignore[arg-type]
    assert status is check(nvlink_down, GpuFabric(nvlinks=(*pair, linked(4, active=False))), cards).status


def test_links_of_another_model_are_another_number() -> None:
    """A card is held against its own kind."""
    cards = state(HEALTHY, replace(HEALTHY, index=1, name="NVIDIA RTX A6000"))
    fabric = GpuFabric(nvlinks=(links(*(True,) * 18), links(True, True, False, False)))
    assert Status.PASSED is check(nvlink_down, fabric, cards).status


def log(*events: XidEvent) -> KernelLog:
    """Make a kernel log that could be read."""
    return KernelLog(readable=True, xids=events)


@pytest.mark.parametrize(
    ("event", "severity"),
    [
        (XidEvent(79, "0000:3b:00", "GPU has fallen off the bus.", 60.0), Severity.WARNING),
        (XidEvent(79, "0000:3b:00", "GPU has fallen off the bus.", None), Severity.WARNING),
        (XidEvent(79, "0000:3b:00", "GPU has fallen off the bus.", 200_000.0), Severity.INFO),
        (XidEvent(13, "0000:3b:00", "Graphics Exception", 60.0), Severity.INFO),
        (XidEvent(9999, "0000:3b:00", "new", 60.0), Severity.WARNING),
    ],
)
def test_xid_is_judged_by_code_and_age(event: XidEvent, severity: Severity) -> None:
    """A fresh hardware Xid warns; the application's own faults and yesterday's lines are info."""
    finding = check(xid_errors, log(event, event)).finding
    assert (severity, f"Xid {event.code}, 2 times") == (finding.severity, finding.evidence[0].label)


def test_unreadable_kernel_log_is_unknown_with_the_command() -> None:
    """Without permission the rule says unknown and what to type as root."""
    refused = KernelLog(readable=False, unknown={"xids": "/dev/kmsg: denied (as root: dmesg | grep NVRM)"})
    assert (Status.UNKNOWN, "/dev/kmsg: denied (as root: dmesg | grep NVRM)") == (
        check(xid_errors, refused).status,
        check(xid_errors, refused).reason,
    )


def test_closed_kernel_log_without_gpu_does_not_matter() -> None:
    """On a machine without an NVIDIA device nothing in the kernel log is looked for."""
    bare = (KernelLog(readable=False), PciBus(readable=True), DeviceNodes(), KernelModule(loaded=False))
    assert Status.NOT_APPLICABLE == check(xid_errors, *bare).status


def visible(value: str, **more: str) -> Environment:
    """Make an environment that shows programs these cards only."""
    told = {"CUDA_VISIBLE_DEVICES": value, **more}
    return Environment(variables=tuple(Variable(name, text) for name, text in told.items()))


@pytest.mark.parametrize(
    ("value", "severity"),
    [
        ("0", Severity.INFO),
        ("GPU-aaaa", Severity.INFO),
        ("0,1", Severity.WARNING),
        ("1", Severity.WARNING),
        ("GPU-bbbb", Severity.WARNING),
        ("MIG-cccc", Severity.WARNING),
        ("", Severity.WARNING),
        ("7", Severity.WARNING),
    ],
)
def test_card_that_is_hidden_may_be_busy(value: str, severity: Severity) -> None:
    """Another user's job on a card that CUDA_VISIBLE_DEVICES hides is worth knowing, and nothing more."""
    used = replace(HEALTHY, index=1, uuid="GPU-bbbb-1", processes=(WORKER,), memory_free_mib=900)
    both = state(replace(HEALTHY, uuid="GPU-aaaa-1"), used)
    for rule in (gpu_in_use, gpu_memory_low):
        assert severity == check(rule, both, visible(value)).finding.severity


def test_instances_of_others_take_nothing() -> None:
    """Jobs in other instances of a divided card leave this one's memory alone."""
    shared = replace(HEALTHY, index=1, mig_enabled=True, processes=(WORKER,), memory_free_mib=900)
    assert Severity.INFO is check(gpu_in_use, state(HEALTHY, shared)).finding.severity
    assert Status.PASSED is check(gpu_memory_low, state(HEALTHY, shared)).status
    assert Status.NOT_APPLICABLE is check(gpu_memory_low, state(shared)).status


def test_own_processes_are_no_strangers() -> None:
    """A program that looks around after it has taken its card is not told that the card is taken."""
    own = replace(WORKER, memory_mib=70_000, own=True)
    card = replace(HEALTHY, compute_mode="exclusive-process", memory_free_mib=10_000, processes=(own,))
    assert Status.PASSED is check(gpu_in_use, state(card)).status
    assert Status.PASSED is check(gpu_memory_low, state(card)).status
    assert Severity.INFO is check(exclusive_compute_mode, state(card)).finding.severity
    beside = state(replace(card, processes=(replace(own, memory_mib=2_000), replace(WORKER, pid=4343))))
    assert "4343" == check(gpu_in_use, beside).finding.evidence[0].value
    assert Severity.WARNING is check(gpu_memory_low, beside).finding.severity
    assert Severity.ERROR is check(exclusive_compute_mode, beside).finding.severity


@pytest.mark.parametrize("name", ["nvidia-cuda-mps-server", "/usr/bin/nvidia-cuda-mps-server"])
def test_card_that_mps_shares_out_is_free(name: str) -> None:
    """MPS holds the one context of exclusive mode for all its clients: that is how it is set up."""
    server = GpuProcess(991, 30, "compute", name)
    card = replace(HEALTHY, compute_mode="exclusive-process", processes=(server,))
    assert Status.PASSED is check(gpu_in_use, state(card)).status
    assert Severity.INFO is check(exclusive_compute_mode, state(card)).finding.severity
    working = state(replace(card, processes=(server, WORKER)))
    assert "4242" == check(gpu_in_use, working).finding.evidence[0].value
    assert Severity.INFO is check(exclusive_compute_mode, working).finding.severity


def test_order_of_unlike_cards() -> None:
    """CUDA numbers unlike cards by speed unless it is told otherwise, so that which one is hidden is not sure."""
    used = replace(HEALTHY, index=1, name="NVIDIA L4", processes=(WORKER,))
    both = state(HEALTHY, used)
    assert Severity.WARNING is check(gpu_in_use, both, visible("0")).finding.severity
    by_bus = visible("0", CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert Severity.INFO is check(gpu_in_use, both, by_bus).finding.severity


def test_hidden_card_in_exclusive_mode() -> None:
    """A taken card in exclusive mode is an error where this program would use it, and info where it is hidden."""
    taken = replace(HEALTHY, index=1, compute_mode="exclusive-process", processes=(WORKER,))
    finding = check(exclusive_compute_mode, state(HEALTHY, taken)).finding
    assert "nvidia-smi -i 1 --query-compute-apps" in finding.fixes[0].commands[0].shell
    hidden = check(exclusive_compute_mode, state(HEALTHY, taken), visible("0")).finding
    assert (Severity.ERROR, Severity.INFO) == (finding.severity, hidden.severity)


def test_desktop_is_no_job() -> None:
    """A desktop's shell holds a context of both kinds and is left out; a program that only computes is not."""
    shell = (GpuProcess(2214, 96, "compute"), GpuProcess(2214, 96, "graphics"))
    assert Status.PASSED is check(gpu_in_use, state(replace(HEALTHY, processes=shell))).status
    beside = check(gpu_in_use, state(replace(HEALTHY, processes=(*shell, WORKER)))).finding
    assert "4242" == beside.evidence[0].value


@pytest.mark.parametrize(
    "values",
    [
        {"name": "NVIDIA GeForce RTX 4060 Laptop GPU"},
        {"name": "NVIDIA GeForce RTX 2070 with Max-Q Design"},
        {"power_limit_watts": None, "unknown": {"power_limit_watts": "Not Supported"}},
    ],
)
def test_power_limit_of_firmware(values: dict[str, object]) -> None:
    """Where the firmware alone moves the limit about, as on laptops, a lower one is no finding."""
    limited = replace(HEALTHY, power_limit_enforced_watts=44.8, power_limit_default_watts=80.0, **values)  # type: ignore[arg-type]
    assert Status.PASSED is check(power_limit_lowered, state(limited)).status
    desk = replace(limited, name="NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", power_limit_watts=44.8)
    assert Status.FIRED is check(power_limit_lowered, state(replace(desk, unknown={}))).status
