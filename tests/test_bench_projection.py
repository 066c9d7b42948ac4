"""Ceilings in images a second, which of them binds, and what a plan of epochs takes."""

from __future__ import annotations

import pytest

from envdoctor.bench.ceilings import Ceilings, Parts, all_reduce_seconds, ceilings
from envdoctor.bench.projection import Plan, project

A100 = Parts(
    step_images=763.0, step_batch=256, loader_images=20_000.0, copy_gbs=25.9, image_bytes=602_112, busbw_gbs=235.0,
    gradient_bytes=346_270_624,
)  # fmt: skip


def test_the_articles_epoch() -> None:
    """763 images/s on each of 8 GPUs are 3.5 minutes an epoch of ImageNet, as the article says."""
    found = project(Plan(gpus=8), A100)
    assert found is not None
    assert ("compute", 3.5, 17.5) == (found.best.binds, round(found.best.epoch_minutes, 1), round(found.best.hours, 1))


@pytest.mark.parametrize(("busbw", "milliseconds"), [(235, 2.6), (24, 25), (12, 50), (1.25, 485)])
def test_cost_of_an_all_reduce(busbw: float, milliseconds: float) -> None:
    """346 MB of gradients over 8 ranks cost 2.6 ms at 235 GB/s and 485 ms over 10 GbE."""
    seconds = all_reduce_seconds(346_270_624, busbw, 8)
    assert milliseconds == pytest.approx(seconds * 1e3, rel=0.02)


def test_the_lowest_ceiling_binds() -> None:
    """Of compute, loader, copy and communication the lowest gives the speed."""
    assert "compute" == ceilings(A100, 8).binds
    slow_loader = Parts(step_images=763.0, loader_images=2_100.0)
    assert ("loader", 2_100.0) == (ceilings(slow_loader, 8).binds, ceilings(slow_loader, 8).lowest)
    sockets = Parts(step_images=763.0, step_batch=256, busbw_gbs=1.25, gradient_bytes=346_270_624)
    assert "communication" == ceilings(sockets, 8).binds


def test_one_gpu_has_nobody_to_talk_to() -> None:
    """Communication is a ceiling from two GPUs on."""
    assert ceilings(A100, 1).communication is None
    found = project(Plan(gpus=1), A100)
    assert found is not None
    assert not any("communication was not measured" in each for each in found.assumptions)


def test_what_was_not_measured_is_an_assumption() -> None:
    """A ceiling that was not measured is listed, not invented."""
    found = project(Plan(gpus=8), Parts(step_images=763.0))
    assert found is not None
    said = " ".join(found.assumptions)
    assert all(f"{name} " in said for name in ("loader", "Copies".lower(), "communication"))
    assert 3 == sum("not measured" in each for each in found.assumptions)


def test_no_step_no_projection() -> None:
    """Without a training step there is nothing to project from."""
    assert project(Plan(), Parts(loader_images=100.0)) is None
    assert Ceilings().binds is None
    assert Ceilings().lowest is None


def test_the_gap_costs_money() -> None:
    """The difference between a bare script and the best settings, in hours and at a price for each GPU's hour."""
    found = project(Plan(gpus=8, epochs=300, price_per_gpu_hour=2.0), A100, Parts(step_images=110.0))
    assert found is not None
    assert found.untuned is not None
    assert found.gap_hours == pytest.approx(found.untuned.hours - found.best.hours)
    assert found.gap_cost == pytest.approx((found.gap_hours or 0) * 8 * 2.0)
    assert found.best.cost == pytest.approx(found.best.hours * 16)
    without = project(Plan(), A100)
    assert without is not None
    assert (None, None, None) == (without.gap_hours, without.gap_cost, without.best.cost)
