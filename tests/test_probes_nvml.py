"""NVML's probes on fake drivers, through the real engine: what each says of healthy, sick, old and broken machines."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from envdoctor_probes.nvml import parse_mapped
from envdoctor_probes.nvml_questions import EVENT_REASONS, QUESTIONS, reasons, words

from envdoctor import snapshot as snapshots
from envdoctor.facts import fact_fields
from envdoctor.facts.nvml import Gpu, GpuProcess, MigDevice, NvLink, PeerLink
from envdoctor.outcome import Absent, Crashed, Got, TimedOut
from envdoctor.snapshot import Snapshot
from tests.stands.nvml_machine import MakeMachine, fabric, machine_maker, report, result, scenario_names, state

pytestmark = pytest.mark.gcc

NOT_ON_THIS_BOARD = {
    "sm_clock_application_mhz", "sm_clock_default_mhz", "retired_pages_pending", "virtualization", "recovery_action",
}  # fmt: skip
H100 = Gpu(
    index=0, name="NVIDIA H100 80GB HBM3", uuid="GPU-fa4e0000-0000-4000-8000-000000000000", serial="1650000000000",
    pci_address="00000000:19:00.0", compute_capability="9.0", architecture="Hopper",
    memory_total_mib=81559, memory_used_mib=4, memory_free_mib=81004, memory_reserved_mib=551,
    utilization_percent=0, sm_clock_mhz=345, sm_clock_max_mhz=1980, memory_clock_mhz=2619, memory_clock_max_mhz=2619,
    event_reasons=("gpu_idle",), temperature_celsius=34, slowdown_celsius=92, shutdown_celsius=95,
    power_watts=71.0, power_limit_watts=700.0, power_limit_enforced_watts=700.0, power_limit_default_watts=700.0,
    power_limit_max_watts=700.0, ecc_enabled=True, ecc_enabled_after_reboot=True, ecc_corrected_volatile=0,
    ecc_uncorrected_volatile=0, ecc_uncorrected_aggregate=0, remapped_rows_correctable=0,
    remapped_rows_uncorrectable=0, remap_pending=False, remap_failed=False, pcie_generation=5, pcie_generation_max=5,
    pcie_width=16, pcie_width_max=16, pcie_replays=0, mig_enabled=False, mig_enabled_after_reset=False,
    compute_mode="default", persistence=True, unknown=dict.fromkeys(sorted(NOT_ON_THIS_BOARD), "Not Supported"),
)  # fmt: skip


@pytest.fixture
def machine(fake_nvml: Callable[[str], Path], tmp_path: Path) -> MakeMachine:
    """Give a maker of machines: ``machine("h100x8", "nvmlInit_v2 = hang", series="570")``."""
    return machine_maker(fake_nvml, tmp_path)


def keys(snapshot: Snapshot) -> set[str]:
    """Give what the rules find, by id and subject."""
    return {finding.key for finding in report(snapshot).findings}


def test_healthy_machine_is_known_to_the_last_field(machine: MakeMachine) -> None:
    """Every field of a card has the scenario's value, or NVML's own words for why not; nothing is found."""
    found = machine("h100x8").ask()
    facts = state(found)
    assert (0, None, 8, "570.124.06", "12.570.124.06", "12.8") == (
        facts.init_code, facts.init_words, facts.count, facts.driver_version, facts.nvml_version, facts.cuda_version,
    )  # fmt: skip
    assert H100 == facts.gpus[0]
    addresses = ["19", "3b", "4c", "5d", "9b", "bb", "cb", "db"]
    assert [f"00000000:{each}:00.0" for each in addresses] == [gpu.pci_address for gpu in facts.gpus]
    assert set() == keys(found)


def test_every_field_has_a_question() -> None:
    """No field of a card stays empty because nobody asks for it."""
    not_asked = {"index", "lost", "hung"}
    assert set(fact_fields(Gpu)) - not_asked == {name for name, _ in QUESTIONS}


@pytest.mark.parametrize("name", scenario_names())
def test_nothing_that_writes_is_ever_called(machine: MakeMachine, name: str) -> None:
    """The fake writes down every call that would change a card; on no scenario is there one."""
    asked = machine(name, series="470" if "470" in name else "570")
    found = asked.ask()
    assert {"got"} == {each.outcome.name for each in found.probes}
    assert len(asked.calls()) > 5
    assert [] == [call for call in asked.calls() if call.startswith("WRITE")]


def test_the_library_that_answered_is_named(machine: MakeMachine) -> None:
    """The path is the one that is mapped, not the one that was asked for."""
    asked = machine("no_devices")
    assert str(asked.library / "libnvidia-ml.so.1") == state(asked.ask()).library


def test_driver_without_devices_is_no_error(machine: MakeMachine) -> None:
    """Zero GPUs is an answer."""
    facts = state(machine("no_devices").ask())
    assert (0, 0, ()) == (facts.init_code, facts.count, facts.gpus)


def test_each_illness_is_found_on_its_card(machine: MakeMachine) -> None:
    """The planted faults of eight cards are found, each on its own card, and nothing else is."""
    expected = {
        "gpu-throttled-thermal@1", "gpu-throttled-power@2", "power-limit-lowered@2", "pcie-link-degraded@3",
        "nvlink-down@4", "row-remap-pending@5", "row-remap-failed@5", "ecc-uncorrectable@6", "gpu-lost@7",
    }  # fmt: skip
    found = machine("h100_sick").ask()
    assert expected == keys(found)
    gpus = state(found).gpus
    assert ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown") == gpus[1].event_reasons
    assert Gpu(index=7, lost=True, unknown={"handle": "GPU is lost"}) == gpus[7]


def test_lost_and_hung_cards_are_named_and_the_other_six_kept(machine: MakeMachine) -> None:
    """One card of eight is lost, one never answers: both are named, in seconds, and the others have all their facts."""
    found = machine("h100_lost_and_hung").ask(timeout=15.0)
    gpus = state(found).gpus
    assert {"gpu-lost@3", "gpu-lost@6"} == keys(found)
    whole = [gpu for gpu in gpus if set(gpu.unknown) == NOT_ON_THIS_BOARD]
    assert [0, 1, 2, 4, 5, 7] == [gpu.index for gpu in whole]
    assert {34} == {gpu.temperature_celsius for gpu in whole}
    assert found.elapsed_seconds < 8.0


def test_hung_card_keeps_what_it_said_before(machine: MakeMachine) -> None:
    """The question that got no answer is named, and the answers before it are there."""
    gpu = state(machine("h100_lost_and_hung").ask()).gpus[3]
    assert (True, "NVIDIA H100 80GB HBM3", "00000000:5d:00.0", 345) == (
        gpu.hung, gpu.name, gpu.pci_address, gpu.sm_clock_mhz,
    )  # fmt: skip
    assert "no answer within 2.5 s" == gpu.unknown["temperature_celsius"]


def test_eight_hung_cards_are_eight_answers(machine: MakeMachine) -> None:
    """The more cards hang, the less time each gets: the probe answers for every one before its own deadline."""
    found = machine("h100x8", "nvmlDeviceGetUUID = hang").ask("device-nodes", "gpu-state")
    assert [(index, True, H100.name) for index in range(8)] == [(g.index, g.hung, g.name) for g in state(found).gpus]
    assert {f"gpu-lost@{index}" for index in range(8)} == keys(found)


def test_program_that_asks_is_known_among_the_processes(machine: MakeMachine) -> None:
    """Whoever started the probe, and the ranks of its job, are its own; another's program is not."""
    job = {"RANK": "1", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
    with contextlib.ExitStack() as running:
        rank, other = (
            running.enter_context(subprocess.Popen(["sleep", "60"], env={**os.environ, **job, "MASTER_PORT": port}))
            for port in ("29500", "29501")
        )
        for each in (rank, other):
            running.callback(each.kill)
        pids = (os.getpid(), rank.pid, other.pid)
        asked = machine("h100x8", settings="[gpu 0]\nprocs = " + ",".join(f"{pid}:900" for pid in pids))
        found = replace(asked, environ={**job, "RANK": "0"}).ask("device-nodes", "gpu-state")
    assert [True, True, False] == [each.own for each in state(found).gpus[0].processes]
    assert {"gpu-in-use@0"} == keys(found)


def test_cards_that_start_slowly_are_waited_for(machine: MakeMachine) -> None:
    """Without persistence mode each first question takes seconds: what is left of the time goes to the late cards."""
    cold = machine("h100x8", "nvmlDeviceGetHandleByIndex_v2 = sleep 2900", settings="[system]\ncount = 2")
    found = cold.ask("device-nodes", "gpu-state")
    assert [H100.name] * 2 == [gpu.name for gpu in state(found).gpus]
    assert set() == keys(found)


def test_cards_that_could_not_all_start_in_time_are_unknown(machine: MakeMachine) -> None:
    """A card that is still being started when the time is over is not called lost."""
    off = "[gpu]\npersistence_mode = 0"
    cold = machine("h100x8", "nvmlDeviceGetHandleByIndex_v2 = sleep 3500", settings=off)
    found = cold.ask("device-nodes", "gpu-state")
    assert any(gpu.starting for gpu in state(found).gpus)
    assert {"persistence-mode-off"} == keys(found)
    assert "gave no handle in time" in {each.id: each.reason for each in report(found).checks}["gpu-lost"]


def test_fabric_of_a_machine_with_a_lost_card_is_still_told(machine: MakeMachine) -> None:
    """The lost card's place stays empty; links, NVLinks and fabric state of the others are there."""
    found = fabric(machine("h100_lost_and_hung").ask("device-nodes", "gpu-fabric"))
    assert [18, 18, 18, 18, 18, 18, 0, 18] == [len(links) for links in found.nvlinks]
    assert ("completed",) * 6 + (None, "completed") == found.fabric_states
    assert ("success",) * 6 + (None, "success") == found.fabric_statuses
    assert 7 * 6 // 2 == len(found.links)
    assert PeerLink(0, 1, "node", "ok") == found.links[0]
    assert "GPU is lost" == found.unknown["links"]


def test_hang_in_the_fabric_keeps_what_was_told_before(machine: MakeMachine) -> None:
    """All links, and the NVLinks of the cards before the one that hangs."""
    found = machine("h100x8", "nvmlDeviceGetNvLinkState@5 = hang").ask("device-nodes", "gpu-fabric", timeout=8.0)
    assert isinstance(result(found, "gpu-fabric").outcome, TimedOut)
    assert (28, [18] * 5) == (len(fabric(found).links), [len(links) for links in fabric(found).nvlinks])


def test_each_nvlink_is_told(machine: MakeMachine) -> None:
    """State, version, counters and the other end, link by link."""
    links = fabric(machine("h100_sick").ask("device-nodes", "gpu-fabric")).nvlinks[4]
    assert [4, 5, 12, 13] == [link.link for link in links if not link.active]
    assert NvLink(0, True, 4, "00000000:bb:00.0", replay_errors=12, recovery_errors=0, crc_errors=3) == links[0]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (18, "RM has detected an NVML/RM version mismatch."),
        (9, "Driver Not Loaded"),
        (4, "Insufficient Permissions"),
        (999, "Unknown Error"),
    ],
)
def test_driver_that_does_not_start_says_why(machine: MakeMachine, code: int, said: str) -> None:
    """The code and NVML's words are facts; no card is invented, and the rules of cards are unknown, not passed."""
    found = machine("h100x8", f"nvmlInit_v2 = error {code}").ask("device-nodes", "gpu-state")
    facts = state(found)
    assert (code, True, None, ()) == (facts.init_code, said in (facts.init_words or ""), facts.count, facts.gpus)
    statuses = {check.id: check.status.value for check in report(found).checks}
    assert {"unknown"} == {statuses[each] for each in ("gpu-lost", "ecc-uncorrectable", "gpu-throttled-thermal")}
    mismatch = {"driver-library-mismatch"} if code == 18 else set()
    assert (mismatch, "errors" if mismatch else "undetermined") == (keys(found), report(found).verdict.value)


def test_fabric_of_a_driver_that_does_not_start_is_absent(machine: MakeMachine) -> None:
    """With NVML's words as the reason."""
    found = machine("h100x8", "nvmlInit_v2 = error 18").ask("device-nodes", "gpu-fabric")
    expected = Absent("NVML does not start: RM has detected an NVML/RM version mismatch.")
    assert expected == result(found, "gpu-fabric").outcome


def test_refused_cards_are_unknown_and_not_lost(machine: MakeMachine) -> None:
    """A container without the right to a card is told so; that is no hardware fault."""
    found = machine("h100x8", "nvmlDeviceGetHandleByIndex_v2@2 = error 4").ask("device-nodes", "gpu-state")
    assert Gpu(index=2, unknown={"handle": "Insufficient Permissions"}) == state(found).gpus[2]
    assert set() == keys(found)


def test_refused_questions_are_unknown_and_the_rest_is_there(machine: MakeMachine) -> None:
    """What fails costs its own field alone."""
    faults = ("nvmlDeviceGetName = error 999", "nvmlDeviceGetMemoryInfo_v2 = error 999")
    gpu = state(machine("h100x8", *faults).ask("device-nodes", "gpu-state")).gpus[5]
    memory = {"memory_total_mib", "memory_used_mib", "memory_free_mib", "memory_reserved_mib"}
    assert NOT_ON_THIS_BOARD | {"name"} | memory == set(gpu.unknown)
    assert "Unknown Error" == gpu.unknown["name"]
    assert 34 == gpu.temperature_celsius


def test_crash_in_the_driver_is_a_crash(machine: MakeMachine) -> None:
    """The signal and the call are named; the other probes are not touched."""
    found = machine("h100x8", "nvmlInit_v2 = segv").ask()
    outcome = result(found, "gpu-state").outcome
    assert isinstance(outcome, Crashed)
    assert ("SIGSEGV", "SIGSEGV in NVML") == (outcome.signal, outcome.reason)
    assert Got() == result(found, "device-nodes").outcome
    assert "probe-crashed@gpu-state" in keys(found)


def test_crash_at_a_card_keeps_the_cards_before_it(machine: MakeMachine) -> None:
    """What was answered is kept when the process dies later."""
    found = machine("h100x8", "nvmlDeviceGetTemperature@5 = segv").ask("device-nodes", "gpu-state")
    assert isinstance(result(found, "gpu-state").outcome, Crashed)
    assert [0, 1, 2, 3, 4] == [gpu.index for gpu in state(found).gpus]
    assert H100 == state(found).gpus[0]


def test_driver_that_never_starts_is_a_hang(machine: MakeMachine) -> None:
    """It is called hung, after two looks without progress, and the call is named."""
    found = machine("h100x8", "nvmlInit_v2 = hang").ask("device-nodes", "gpu-state", timeout=8.0)
    outcome = result(found, "gpu-state").outcome
    assert isinstance(outcome, TimedOut)
    assert (True, True) == (outcome.hung, "in NVML;" in outcome.reason)
    assert {"probe-timed-out@gpu-state"} == keys(found)


def test_slow_driver_is_waited_for(machine: MakeMachine) -> None:
    """Without persistence mode each start takes seconds: that is no fault, and its time is told."""
    found = machine("h100x8", "nvmlInit_v2 = sleep 2500").ask("device-nodes", "gpu-state")
    assert H100 == state(found).gpus[0]
    assert (state(found).seconds or 0) >= 2.5


def test_old_driver_answers_what_it_can(machine: MakeMachine) -> None:
    """Driver 470 lacks the newer functions: pynvml's two ways of saying so are reasons, and old names are tried."""
    found = machine("a100_driver470", series="470", settings="[gpu 0]\nprocs = 4711:300").ask()
    gpu = state(found).gpus[0]
    assert ("470.256.02", "11.4") == (state(found).driver_version, state(found).cuda_version)
    assert (("gpu_idle",), 40536, 0, "8.0", (GpuProcess(4711, 300),)) == (
        gpu.event_reasons, gpu.memory_total_mib, gpu.memory_used_mib, gpu.compute_capability, gpu.processes,
    )  # fmt: skip
    assert "Function Not Found" == gpu.unknown["memory_reserved_mib"]
    assert (None,) == fabric(found).fabric_states
    assert "Function Not Found" in fabric(found).unknown["fabric_states"]
    assert {"gpu-in-use@0", "persistence-mode-off"} == keys(found)


def test_slices_and_processes_are_told(machine: MakeMachine) -> None:
    """MIG slices by name and memory; processes with what they hold, where the driver knows it."""
    first, second = state(machine("a100_mig", series="550").ask("device-nodes", "gpu-state")).gpus
    names = [("3g.40gb", 40192), ("2g.20gb", 19968), ("1g.10gb", 9728)]
    uuid = "MIG-fa4e0000-0000-4000-8000-000000{:06x}"
    slices = tuple(
        MigDevice(f"NVIDIA A100-SXM4-80GB MIG {name}", uuid.format(n), mib) for n, (name, mib) in enumerate(names)
    )
    assert (True, slices) == (first.mig_enabled, first.mig_devices)
    assert (False, (), "exclusive-process") == (second.mig_enabled, second.mig_devices, second.compute_mode)
    expected = (GpuProcess(4711, 58000), GpuProcess(4712, None), GpuProcess(815, 2048, "graphics"))
    assert expected == second.processes


@pytest.mark.parametrize("name", scenario_names())
def test_what_was_found_survives_json(machine: MakeMachine, name: str) -> None:
    """A saved snapshot is the same facts again."""
    found = machine(name, series="470" if "470" in name else "570").ask()
    assert found.facts == snapshots.load(snapshots.save(found)).facts


def test_closed_gate_loads_nothing(machine: MakeMachine, tmp_path: Path) -> None:
    """Without device nodes NVML is not started: the fake's log is not even made."""
    asked = machine("h100x8")
    found = asked.ask(nodes=())
    assert {"absent"} == {result(found, each).outcome.name for each in ("gpu-state", "gpu-fabric")}
    assert [] == asked.calls()


def test_reasons_are_named_and_unknown_bits_kept() -> None:
    """A bit that this version does not know is not dropped."""
    assert ("gpu_idle", "sw_power_cap") == reasons(0x5)
    assert ("hw_thermal_slowdown", "0x8000") == reasons(0x8040)
    assert () == reasons(0)
    assert len(EVENT_REASONS) == len({bit for bit, _ in EVENT_REASONS})


def test_words_are_nvmls_own_or_say_whose() -> None:
    """An error of NVML's speaks for itself, another one says its type."""
    own = type("NVMLError_NotFound", (Exception,), {})
    assert ("Not Found", "KeyError: 'x'") == (words(own("Not Found")), words(KeyError("x")))


def test_mapped_library_is_read_from_maps() -> None:
    """The path is found by the start of the file's name, blanks and all."""
    line = "7f1 r-xp 00000000 fd:00 1 /usr/lib/my driver/libnvidia-ml.so.570.1\n"
    assert "/usr/lib/my driver/libnvidia-ml.so.570.1" == parse_mapped(
        "7f0 rw-p 0 00:00 0 [heap]\n" + line, "libnvidia-ml"
    )
    assert parse_mapped(line, "libcuda") is None
