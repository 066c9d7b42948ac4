"""The clocks' probe on fake NVMLs: it looks while others measure, keeps what it saw, and never writes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from envdoctor_probes.bench.clocks import COLUMNS, ONCE, Track, Watch

from envdoctor import plan, snapshot
from envdoctor.facts import fact_fields
from envdoctor.facts.bench import BenchClocks, ClockTrack
from envdoctor.outcome import Absent, Got
from envdoctor.probe import Context, Roots
from envdoctor.runner.collection import collect
from envdoctor.snapshot import Snapshot
from envdoctor.target import Patient
from tests.stands.engine import HERE
from tests.stands.engine import plan as misbehaving
from tests.stands.misbehaving import Thing
from tests.stands.nvml_machine import MakeMachine, NvmlMachine, machine_maker

CLOCKS = next(each for each in plan.bench() if each.name == "bench-clocks")


@pytest.fixture
def machine(fake_nvml: Callable[[str], Path], tmp_path: Path) -> MakeMachine:
    """Give a maker of machines with a fake NVML."""
    return machine_maker(fake_nvml, tmp_path)


def watch(machine: NvmlMachine, *names: str) -> Snapshot:
    """Run the clocks' probe beside something that measures for a while."""
    first = misbehaving("import_it", "torch-import", child="torch", seconds=20.0)
    measured = [misbehaving("measure", each, child="torch", after_import=True, alone=True) for each in names]
    kinds = {**snapshot.with_bench(), "torch_import": Thing, **dict.fromkeys(names, Thing)}
    patient = dataclasses.replace(machine.patient(), payload={"misbehaving": HERE})
    return collect(patient, [CLOCKS, first, *measured], timeout=60.0, kinds=kinds)


def clocks(found: Snapshot) -> BenchClocks:
    """Give the fact."""
    fact = found.get(BenchClocks)
    assert fact is not None, found.probes
    return fact


@pytest.mark.gcc
def test_clocks_are_looked_at_while_others_measure(machine: MakeMachine) -> None:
    """Each card has columns of one length, its limits, and the counters before and after; nothing is written."""
    asked = machine("h100x8")
    found = watch(asked, "a", "b")
    result = found.probe_for("bench_clocks")
    assert result is not None
    assert Got("fresh-process") == result.outcome
    track = clocks(found).gpus[3]
    last = found.facts["b"]
    assert isinstance(last, Thing)
    began, ended = map(float, (last.words or "").split())
    assert track.seconds[0] <= began
    assert track.seconds[-1] >= ended - 0.5
    assert {len(track.seconds)} == {len(getattr(track, name)) for name, _ in COLUMNS}
    assert (3, "00000000:5d:00.0", 345, 2619, 71.0, 34, 1, 5, 16) == (
        track.index, track.pci_address, track.sm_mhz[0], track.memory_mhz[0], track.power_watts[0],
        track.temperature_celsius[0], track.event_reasons[0], track.pcie_generation[0], track.pcie_width[0],
    )  # fmt: skip
    assert (1980, 700.0, 700.0, 16) == (
        track.sm_max_mhz, track.power_limit_watts, track.power_limit_default_watts, track.pcie_width_max,
    )  # fmt: skip
    assert dict.fromkeys(track.violations_before, 0) == track.violations_after
    assert "power" in track.violations_before
    assert (0, 0) == (track.pcie_replays_before, track.pcie_replays_after)
    assert [] == [call for call in asked.calls() if call.startswith("WRITE")]


@pytest.mark.gcc
@pytest.mark.parametrize("name", ["h100_sick", "h100_lost_and_hung", "a100_mig"])
def test_a_card_that_refuses_has_nothing_in_its_columns_and_words_for_it(machine: MakeMachine, name: str) -> None:
    """What NVML does not tell is None, its words are kept, and the other cards are looked at."""
    asked = machine(name, "nvmlDeviceGetPowerUsage = error 3")
    for track in clocks(watch(asked, "a")).gpus:
        assert {len(track.seconds)} == {len(getattr(track, column)) for column, _ in COLUMNS}
        assert {None} >= set(track.power_watts)
        assert track.unknown.get("power_watts") or track.unknown.get("handle")


@pytest.mark.gcc
def test_a_card_that_hangs_costs_the_others_nothing(machine: MakeMachine) -> None:
    """The others have columns that go on, the hung one has none that would be made up, and the run ends."""
    found = watch(machine("h100x8", "nvmlDeviceGetTemperature@2 = hang"), "a")
    tracks = clocks(found).gpus
    assert () == tracks[2].seconds
    assert all(len(each.seconds) > 1 for each in tracks if each.index != 2)


@pytest.mark.gcc
def test_an_old_driver_knows_the_event_reasons_by_their_older_name(machine: MakeMachine) -> None:
    """Driver 470 has throttle reasons."""
    track = clocks(watch(machine("a100_driver470", series="470"), "a")).gpus[0]
    assert None not in track.event_reasons
    assert "event_reasons" not in track.unknown


def test_without_a_driver_nothing_is_asked() -> None:
    """No device node: absent, with the words of the harm gate."""
    found = collect(snapshot_patient(), [CLOCKS], timeout=30.0, kinds=snapshot.with_bench())
    result = found.probe_for("bench_clocks")
    assert result is not None
    assert isinstance(result.outcome, Absent)


def snapshot_patient() -> Patient:
    """Give this machine with an empty /dev."""
    return Patient(roots=Roots(dev="/nowhere"))


class FewAnswers:
    """An NVML of one card that answers with numbers, as long as it is asked by name."""

    NVML_CLOCK_SM = NVML_CLOCK_MEM = NVML_TEMPERATURE_GPU = 0

    class NVMLError_FunctionNotFound(Exception):  # noqa: N801, N818
        """As pynvml has it."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("nvml"):
            return lambda *_: 1
        raise AttributeError(name)


def test_a_long_run_is_thinned_out_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of looks every second one is dropped, and the period says so."""
    monkeypatch.setattr("envdoctor_probes.bench.clocks._MOST_LOOKS", 10)
    track = Track(FewAnswers(), 0)
    track.begin()
    for _ in range(30):
        track.look()
    found = Watch(Context(), [track]).fact()
    assert 0.04 * 2**4 == found.period_seconds
    assert len(found.gpus[0].seconds) <= 11
    assert {len(found.gpus[0].seconds)} == {len(getattr(found.gpus[0], name)) for name, _ in COLUMNS}


def test_whoever_watches_hears_how_the_card_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every few seconds what is known is answered with, and a few words go with it."""
    monkeypatch.setattr("envdoctor_probes.bench.clocks._TELL_EVERY", 0.0)
    heard: list[dict[str, object]] = []
    looks = iter([False, False, True])

    def over(_seconds: float) -> bool:
        time.sleep(0.1)  # the thread looks meanwhile
        return next(looks)

    Watch(Context(emit=heard.append, over=over), [Track(FewAnswers(), 0)]).until_over()
    assert {"1 MHz 0 W 1 C"} == {each["note"] for each in heard[1:]}


def test_every_column_of_a_track_is_filled() -> None:
    """No field of a track stays empty because nobody asks for it."""
    others = {
        "index", "seconds", "violations_before", "violations_after", "pcie_replays_before", "pcie_replays_after",
        "unknown",
    }  # fmt: skip
    fields = {each.name for each in dataclasses.fields(ClockTrack)}
    assert fields - others == {name for name, _ in (*COLUMNS, *ONCE)}
    assert ["gpus", "period_seconds"] == fact_fields(BenchClocks)
