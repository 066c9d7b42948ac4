"""Several GPUs: the same product on each, one after the other, so that a slow one shows beside its peers."""

from __future__ import annotations

from typing import Any

import pytest

from envdoctor.bench.judging import best_products, products
from envdoctor.bench.machine import machine_of
from envdoctor.facts.bench import BenchGemm
from tests import bench_stand
from tests.bench_machines import cards
from tests.bench_machines.making import product

pytestmark = bench_stand.NEEDS_TORCH
no_limit = bench_stand.no_limit


class Several(bench_stand.PretendedCuda):
    """Three cards, the last of another model."""

    def device_count(self) -> int:
        """Count them."""
        return 3

    def get_device_name(self, device: Any) -> str:
        """Name one by its number, or the chosen one."""
        return "Other" if device == 2 else "Pretended"

    def set_device(self, device: Any) -> None:
        """Note which one is chosen."""
        self.chosen = device


def measured(monkeypatch: pytest.MonkeyPatch, **environ: str) -> tuple[BenchGemm, list[str], Several]:
    """Run the part of the suite that measures peers, on pretended cards; give what was asked for as well."""
    import torch
    from envdoctor_probes.bench import gemm
    from envdoctor_probes.bench.place import Cuda
    from envdoctor_probes.bench.wanted import Wanted

    asked: list[str] = []
    cuda = Several()
    place = Cuda(bench_stand.Pretending(torch, cuda), torch.device("cpu"), 2 << 30)

    def choose(_context: Any, wanted: Wanted) -> Cuda:
        asked.append(wanted.device)
        return place

    monkeypatch.setattr("envdoctor_probes.bench.place._SMALLEST_FLUSH", 1 << 16)
    monkeypatch.setattr(gemm, "choose", choose)
    monkeypatch.setattr(gemm, "PEERS_SHAPE", (64, 64, 64))
    monkeypatch.setattr(gemm, "_PEER_HEAT", 0.0)
    context = bench_stand.context()
    suite = gemm.Gemm(type(context)(**{**vars(context), "environ": environ}), place, Wanted.of(context.options))
    suite.measure_peers()
    return suite.suite.fact, asked, cuda


@pytest.mark.usefixtures("no_limit")
def test_each_card_of_the_model_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two that are alike give a product each, by name; the third is of another model, and ours is chosen again."""
    found, asked, cuda = measured(monkeypatch)
    assert ["cuda:0", "cuda:1"] == asked
    told = [(each.config["device"], each.config["gpu"], each.precision, each.state) for each in found.measured]
    assert [("cuda:0", "Pretended", "bf16", "measured"), ("cuda:1", "Pretended", "bf16", "measured")] == told
    assert "cpu" == str(cuda.chosen)


@pytest.mark.usefixtures("no_limit")
def test_under_a_launcher_each_rank_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other cards are busy with their own ranks: they are left alone."""
    found, asked, _cuda = measured(monkeypatch, RANK="0")
    assert ((), []) == (found.measured, asked)


def test_peers_are_not_taken_for_the_card_that_is_judged() -> None:
    """A peer's product is no candidate for the best one, and our clocks say nothing of it."""
    other = product("bf16", 300.0, 0, config={"device": "cuda:1", "gpu": "NVIDIA A100-SXM4-80GB"})
    ours = product("bf16", 264.0, 1)
    run = cards.a100()
    machine = machine_of(run.device, run.clocks)
    gemm = BenchGemm(measured=(other, ours))
    assert [264.0] == [round(each.value or 0.0) for each in best_products(machine, gemm)]
    assert (None, "GPUs are compared with each other") == (
        products(machine, gemm)[0].window.sm_mhz,
        products(machine, gemm)[0].judged.reason,
    )
