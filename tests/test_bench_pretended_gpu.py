"""The paths that only a GPU takes, walked on a GPU that the CPU plays: order, heating, flushing, states, not speed."""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from envdoctor_probes.bench.copies import numa_cpus
from envdoctor_probes.bench.device import parse_apps, parse_cards, pci_address
from envdoctor_probes.bench.host import counters
from envdoctor_probes.bench.largest import Search
from envdoctor_probes.bench.model import usual_amp
from envdoctor_probes.bench.place import Cuda
from envdoctor_probes.bench.sizes import usual_batch
from envdoctor_probes.bench.suite import Suite
from envdoctor_probes.bench.training import Settings, why_not
from envdoctor_probes.bench.wanted import Wanted
from envdoctor_probes.tree import Tree

from envdoctor.facts.bench import BenchLadder, OtherProcess
from envdoctor.probe import Context, Ran, Roots
from tests.bench_stand import NEEDS_TORCH, PretendedCuda, Pretending, context, no_limit, pretended_gpu, run, tiny_model

pytestmark = [*NEEDS_TORCH, pytest.mark.usefixtures("no_limit", "tiny_model")]
__all__ = ["no_limit", "tiny_model"]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give a pretended GPU of compute capability 8.0 that every suite chooses."""
    monkeypatch.setattr("envdoctor_probes.bench.gemm.SQUARES", {"quick": (64, 32), "default": (64, 32)})
    for name in ("TRIED", "HEATING"):
        monkeypatch.setattr(f"envdoctor_probes.bench.gemm.{name}", (16, 16, 16))
    monkeypatch.setattr("envdoctor_probes.bench.gemm.PREHEAT", {"quick": 0.0, "default": 0.05})
    monkeypatch.setattr("envdoctor_probes.bench.gemm.vit_shapes", lambda batch: ((batch, 8, 16),))
    monkeypatch.setattr("envdoctor_probes.bench.largest._MOST", 64)
    monkeypatch.setattr("envdoctor_probes.bench.ladder._COLD_SECONDS", {"cuda": 1e9})  # nothing is compiled here
    with pretended_gpu(monkeypatch) as place:
        yield place


@pytest.mark.usefixtures("gpu")
def test_products_are_measured_largest_first_after_heating() -> None:
    """The card is heated, the label says for how long it can hold that, and the first square comes before the rest."""
    fact = run("gemm", batch=4)
    assert fact.preheat_seconds is not None
    assert fact.preheat_seconds >= 0.05
    assert {"burst"} == {each.label for each in fact.measured}
    shapes = list(dict.fromkeys(each.config["shape"] for each in fact.measured))
    assert ["64x64x64", "4x8x16", "32x32x32"] == shapes
    assert {"cuda-events"} == {each.clock for each in fact.measured}
    assert ["default", "ieee", "tf32"] == [each.setting for each in fact.fingerprints]
    refused = {each.precision: each.reason for each in fact.measured if each.state == "not-applicable"}
    assert {"fp8": "fp8 needs compute capability 8.9, this GPU has 8.0"} == refused


@pytest.mark.usefixtures("gpu")
def test_cards_are_compared_before_one_of_them_is_heated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that was heated first would look slower than its peers, and be cold again when it is its turn."""
    from envdoctor_probes.bench.gemm import Gemm

    order: list[str] = []
    for name in ("take_fingerprints", "measure_peers", "preheat", "measure"):
        monkeypatch.setattr(Gemm, name, lambda *_, name=name: order.append(name))
    run("gemm")
    assert ["take_fingerprints", "measure_peers", "preheat", "measure"] == order


@pytest.mark.usefixtures("gpu")
def test_a_model_is_measured_from_the_inside_out() -> None:
    """Block, model and step, under autocast and plain, with the host's time beside the device's."""
    fact = run("model", batch=2)
    found = {(each.name, each.precision, each.config.get("batch")): each for each in fact.measured}
    step = found["train-step", "amp-bf16", "2"]
    assert ("measured", "cuda-events", 2.0) == (step.state, step.clock, step.work)
    assert len(step.dispatch_seconds) == len(step.wall_seconds) > 0
    assert {"vit-block-forward", "vit-block-train", "forward", "forward-backward", "optimizer-step"} <= {
        each.name for each in fact.measured
    }
    assert "measured" == found["train-step", "amp-bf16", "1"].state
    assert 2 * 204_098_304 == found["vit-block-forward", "amp-bf16", "2"].work


@pytest.mark.usefixtures("gpu")
def test_every_rung_has_a_state_also_where_nothing_of_it_works() -> None:
    """Pinned memory and graphs cannot be had from a CPU: they have failed in torch's words, and the climb went on."""
    fact = run("ladder", batch=2, budget="quick")
    assert isinstance(fact, BenchLadder)
    rows = {each.step: each for each in fact.rows}
    assert ["default", "tf32", "amp-bf16", "amp-fp16", "fused-optimizer", "channels-last", "pinned"] == list(rows)[:7]
    assert "pageable" == rows["default"].measured.config["inputs"]
    assert rows["amp-fp16"].previous == rows["amp-bf16"].previous
    assert {"failed"} == {rows[each].measured.state for each in ("pinned", "cuda-graph")}
    assert "pinned" not in {each.previous for each in fact.rows}
    assert all(each.measured.reason for each in fact.rows if each.measured.state != "measured")


def test_a_default_that_does_not_fit_is_tried_with_half_the_batch(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole ladder then has that batch; the attempts that ran out of memory are no rows."""
    from envdoctor_probes.bench import ladder

    made = ladder.step_work

    def step_work(place: Any, recipe: Any, batch: int, *more: Any, **how: Any) -> Any:
        if batch > 16:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
        return made(place, recipe, batch, *more, **how)

    monkeypatch.setattr(ladder, "step_work", step_work)
    monkeypatch.setattr(ladder, "usual_batch", lambda *_: 64)
    fact = run("ladder", budget="quick")
    assert (16, "measured", 1) == (
        fact.batch, fact.rows[0].measured.state, [each.step for each in fact.rows].count("default"),
    )  # fmt: skip
    assert gpu.is_cuda


@pytest.mark.parametrize(("most", "found"), [(40, (40, 42)), (8, (8, 9)), (3, (None, 8))])
def test_the_largest_batch_is_found_by_running_out_of_memory(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, most: int, found: tuple[int | None, int]
) -> None:
    """Doubled until it does not fit, then narrowed to an eighth; a first batch that does not fit finds nothing."""
    import torch

    def steps(_self: Any, batch: int) -> None:
        if batch > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Search, "_steps", steps)
    suite = Suite("ladder", context(), gpu, Wanted(seconds={"ladder": 20.0}), lambda _suite: None)
    result = Search(suite, None, Settings()).result("best", 8)  # type: ignore[arg-type]
    if most == 40:
        assert result.batch is not None
        assert result.failed_batch is not None
        assert result.batch <= 40 < result.failed_batch <= result.batch + 5
    else:
        assert found == (result.batch, result.failed_batch)
    assert ("measured" if found[0] else "failed") == result.state


def test_the_largest_batch_keeps_to_the_hosts_memory(
    gpu: Any, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large card takes batches that a small container cannot hold: the search ends there, and says so."""
    made: list[int] = []

    def feed(batch: int) -> Any:
        made.append(batch)
        return tiny_model.feed(batch)

    recipe = dataclasses.replace(tiny_model, feed=feed)
    sample = 3 * 32 * 32 * 4 + 8
    monkeypatch.setattr("envdoctor_probes.bench.largest.available_bytes", lambda _context: int(3 * 16 * sample / 0.8))
    suite = Suite("ladder", context(), gpu, Wanted(seconds={"ladder": 20.0}), lambda _suite: None)
    result = Search(suite, recipe, Settings(inputs="pinned")).result("best", 8)
    assert ("measured", 16, None) == (result.state, result.batch, result.failed_batch)
    assert result.reason.startswith("a batch of 32 was not tried: it needs 1 MiB of the host's memory")
    assert 16 == max(made)


def test_a_search_that_fails_otherwise_says_so(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only running out of memory is an answer."""

    def steps(_self: Any, _batch: int) -> None:
        raise RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")

    monkeypatch.setattr(Search, "_steps", steps)
    suite = Suite("ladder", context(), gpu, Wanted(seconds={"ladder": 20.0}), lambda _suite: None)
    result = Search(suite, None, Settings()).result("best", 8)  # type: ignore[arg-type]
    assert ("failed", "RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED") == (result.state, result.reason)


@pytest.mark.usefixtures("gpu")
def test_pageable_copies_are_measured_and_pinned_ones_fail_in_words() -> None:
    """Without a GPU memory cannot be pinned: torch's words stand there."""
    fact = run("copies")
    found = {each.name: each for each in fact.measured}
    assert ("measured", True) == (found["h2d-pageable"].state, found["d2h-pageable"].correct)
    assert ("failed", True) == (found["h2d-pinned"].state, bool(found["h2d-pinned"].reason))


@pytest.mark.usefixtures("gpu")
def test_each_node_has_pinned_memory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch gives out again what was pinned and freed, with its pages on the node that was measured before."""
    import torch

    freed: list[Any] = []
    nodes: list[int] = []
    monkeypatch.setattr("envdoctor_probes.bench.copies._BUFFER", 1 << 16)
    monkeypatch.setattr("envdoctor_probes.bench.copies.numa_cpus", lambda _tree: {0: (0,), 1: (1,)})

    @contextlib.contextmanager
    def on(cpus: tuple[int, ...]) -> Iterator[None]:
        nodes.append(cpus[0])
        yield

    monkeypatch.setattr("envdoctor_probes.bench.copies._on", on)
    empty, copied = torch.empty, []
    lies_on: dict[int, int] = {}

    def caching(size: Any, *rest: Any, pin_memory: bool = False, **options: Any) -> Any:
        if not pin_memory:
            return empty(size, *rest, **options)
        storage = freed.pop() if freed else empty(size, *rest, **options)
        lies_on.setdefault(storage.data_ptr(), nodes[-1])
        copied.append((nodes[-1], lies_on[storage.data_ptr()]))
        view = storage.view(-1)
        weakref.finalize(view, freed.append, storage)
        return view

    monkeypatch.setattr(torch, "empty", caching)
    fact = run("copies")
    pinned = [each for each in fact.measured if each.config["memory"] == "pinned"]
    assert ["measured"] * 4 == [each.state for each in pinned]
    assert [(0, 0), (1, 1)] == copied


@pytest.mark.usefixtures("gpu")
def test_the_allocator_is_looked_at_after_steps() -> None:
    """Counters are read, bytes as MiB."""
    fact = run("host")
    assert ("native", 2.0, 0) == (fact.allocator, fact.peak_reserved_mib, fact.allocation_retries)


@pytest.mark.usefixtures("gpu")
def test_an_older_torch_has_counters_and_no_name_of_its_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before torch 2.0 nobody tells which one it is: that hides nothing else."""
    monkeypatch.delattr(PretendedCuda, "get_allocator_backend")
    fact = run("host")
    assert (None, 2.0, 0) == (fact.allocator, fact.peak_reserved_mib, fact.allocation_retries)
    assert fact.unknown["allocator"].endswith("does not tell")


def test_counters_that_are_not_there_are_left_out() -> None:
    """Another allocator has other counters."""
    assert {"segments": 3} == counters({"segment.all.current": 3, "unknown": 1})


@pytest.mark.parametrize(("capability", "amp"), [((8, 0), "bf16"), ((7, 5), "fp16")])
def test_autocast_is_what_the_card_is_fast_at(capability: tuple[int, int], amp: str) -> None:
    """bf16 has Tensor Cores from compute capability 8.0 on."""
    assert amp == usual_amp(place(capability))


def place(capability: tuple[int, int] = (8, 0), allowed: int = 2 << 30) -> Cuda:
    """Give a pretended GPU."""
    import torch

    return Cuda(Pretending(torch, PretendedCuda(capability)), torch.device("cpu"), allowed)


def test_tf32_needs_an_ampere(tiny_model: Any) -> None:
    """Before compute capability 8.0 there is none."""
    assert "TF32 needs compute capability 8.0" == why_not(place((7, 5)), tiny_model, Settings(fp32="tf32"))


@pytest.mark.parametrize(("gib", "batch"), [(64, 128), (18, 64), (8, 32), (4, 16), (1, 4)])
def test_the_batch_suits_the_memory(tiny_model: Any, gib: int, batch: int) -> None:
    """A larger card takes more images."""
    assert batch == usual_batch(place(allowed=gib << 30), tiny_model, Wanted())


# What nvidia-smi says of others

CARDS = "GPU-0-1, 00000000:3B:00.0, 7, Disabled\nGPU-0-2, 00000000:3C:00.0, [N/A], [N/A]\n"
APPS = "GPU-0-1, 4242, 1024\nGPU-0-2, 4243, [N/A]\n"


def test_cards_and_processes_are_read() -> None:
    """One row each; what is not told is None."""
    assert ["GPU-0-1", "GPU-0-2"] == [each["uuid"] for each in parse_cards(CARDS)]
    expected = (("GPU-0-1", OtherProcess(4242, 1024)), ("GPU-0-2", OtherProcess(4243, None)))
    assert expected == parse_apps(APPS)
    assert ((), ()) == (parse_cards("\n"), parse_apps(""))


@pytest.mark.parametrize("text", ["NVIDIA-SMI has failed", "GPU-1, 2\n"])
def test_other_words_are_no_rows(text: str) -> None:
    """They are named."""
    for parse in (parse_cards, parse_apps):
        with pytest.raises(ValueError, match="nvidia-smi gave no row of the query"):
            parse(text)


@pytest.mark.parametrize(
    ("cards", "apps", "exclusive"),
    [
        ("GPU-0-1, 00000000:3B:00.0, 0, Disabled\n", "", True),
        ("GPU-0-1, 00000000:3B:00.0, 0, Disabled\n", APPS, False),
        ("GPU-9-9, 00000000:3B:00.0, 55, Enabled\n", "", False),
        ("GPU-0-1, 00000000:3B:00.0, [N/A], [N/A]\n", "", None),
        ("GPU-7-7, 00000000:99:00.0, 0, Disabled\n", "", None),
    ],
)
def test_a_card_is_exclusive_when_nobody_else_is_on_it(
    monkeypatch: pytest.MonkeyPatch, cards: str, apps: str, exclusive: bool | None
) -> None:
    """No other process and nothing under way; found by uuid or else by its place on the bus."""
    from envdoctor_probes.bench.device import Users

    monkeypatch.setattr("envdoctor_probes.devices.require_driver", lambda _context: None)
    told = {"gpu": cards, "compute": apps}
    users = Users(Context(run=lambda argv, _: Ran(0, told["gpu" if "--query-gpu" in argv[1] else "compute"])))
    users.look()
    values: dict[str, Any] = {"uuid": "0-1", "pci_address": "00000000:3b:00.0"}
    unknown: dict[str, str] = {}
    users.describe(values, unknown)
    assert exclusive == values.get("exclusive")
    assert (exclusive is None) == ("exclusive" in unknown)


def test_an_address_is_written_as_nvml_writes_it() -> None:
    """Eight digits for the domain; a torch that does not tell has none."""
    known = type("Properties", (), {"pci_domain_id": 0, "pci_bus_id": 59, "pci_device_id": 0})
    assert ("00000000:3b:00.0", None) == (pci_address(known), pci_address(object()))


def test_numa_nodes_without_a_cpu_of_ours_are_left_out(tmp_path: Any) -> None:
    """Only nodes with CPUs that this process may use are copied from."""
    for number, cpus in enumerate(("0", "4095")):
        folder = tmp_path / "sys/devices/system/node" / f"node{number}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(cpus + "\n")
    found = numa_cpus(Tree(Roots.under(str(tmp_path))))
    assert found in ({0: (0,)}, {})
    assert {} == numa_cpus(Tree(Roots.under("/nowhere")))
