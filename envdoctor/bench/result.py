"""The result of a benchmark: the report of the rules, the judged measurements, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from envdoctor.bench import ladder, stages, training
from envdoctor.bench.ceilings import Ceilings, Parts, ceilings
from envdoctor.bench.collectives import plateau
from envdoctor.bench.projection import Plan, Projection, project
from envdoctor.bench.rates import rate_of

if TYPE_CHECKING:
    from envdoctor.bench.judgement import Judgement
    from envdoctor.bench.run import Run
    from envdoctor.facts.bench import Measured
    from envdoctor.finding import Report

LOADER = "loader"  # loader, loader-dali: from files to batches; read and decode are parts of it
FLOAT32, CHANNELS, SIDE = 4, 3, 224
IMAGE = "image"


@dataclass(frozen=True)
class Result:
    """One benchmark, judged. ``plan`` None: nothing is projected. ``run`` None: not even the device was found."""

    report: Report
    run: Run | None
    plan: Plan | None = None

    @cached_property
    def judgements(self) -> tuple[Judgement, ...]:
        """Give every measurement with its verdict."""
        return self.run.judgements if self.run else ()

    @cached_property
    def stages(self) -> tuple[stages.Stage, ...]:
        """Give where the speed goes."""
        return stages.stages(self.run.machine, self.run.gemm, self.run.model) if self.run else ()

    @property
    def measured(self) -> bool:
        """Tell whether there is a single measurement."""
        rungs = self.run.rungs if self.run else ()
        return any(each.value for each in self.judgements) or any(each.images_per_second for each in rungs)

    @cached_property
    def step(self) -> Measured | None:
        """Give the fastest training step: of the ladder's climb, else of the model alone."""
        if self.run is None:
            return None
        top = ladder.fastest(self.run.rungs)
        if top:
            return top.row.measured
        steps = training.main_steps(self.run.model) if self.run.model else []
        return max(steps, key=lambda each: rate_of(each).value or 0.0, default=None)

    @property
    def sample(self) -> str:
        """Name what a training step takes: image, sequence or sample."""
        return self.step.work_unit if self.step else IMAGE

    @cached_property
    def ceilings(self) -> Ceilings:
        """Give what each part alone would allow, on ``gpus``."""
        return ceilings(self._parts(self.step), self.gpus)

    @property
    def gpus(self) -> int:
        """Give how many GPUs the ceilings are of: those that the collectives ran on, else the one that was measured."""
        if self.run is None or self.run.machine.is_cpu or self.run.collectives is None:
            return 1
        return self.run.collectives.ranks_here or 1

    @cached_property
    def projection(self) -> Projection | None:
        """Give the plan at this machine's best, and as it is without tuning."""
        if self.plan is None or self.run is None:
            return None
        bare = ladder.first(self.run.rungs)
        return project(self.plan, self._parts(self.step), self._parts(bare.row.measured) if bare else None)

    def _parts(self, step: Measured | None) -> Parts:
        run = self.run
        if run is None:
            return Parts()
        found = plateau(run.collectives) if run.collectives else None
        images = self.sample == IMAGE  # what the loader gives, and what a copy's bytes are known of
        return Parts(
            step_images=rate_of(step).value if step else None,
            step_batch=int(step.work) if step else None,
            loader_images=self._loader() if images else None,
            copy_gbs=self._copy() if images else None,
            image_bytes=float(FLOAT32 * CHANNELS * SIDE * SIDE),
            busbw_gbs=found.busbw.median if found and found.busbw else None,
            gradient_bytes=self._gradients(),
        )

    def _loader(self) -> float | None:
        found = self.run.loader.measured if self.run and self.run.loader else ()
        rates = [rate_of(each).value for each in found if each.name.startswith(LOADER)]
        return max((each for each in rates if each), default=None)

    def _copy(self) -> float | None:
        found = [e for e in self.judgements if e.measured.suite == "copies" and e.name == "h2d-pinned" and e.value]
        return max((each.value or 0.0 for each in found), default=None)

    def _gradients(self) -> float | None:
        """Give the bytes of one step's gradients: fp32, as autocast leaves them."""
        if self.run and self.run.collectives and self.run.collectives.gradient_bytes:
            return float(self.run.collectives.gradient_bytes)
        parameters = self.run.model.parameters if self.run and self.run.model else None
        return float(FLOAT32 * parameters) if parameters else None


def result_of(report: Report, plan: Plan | None = None) -> Result:
    """Make the result out of a report whose snapshot holds a benchmark."""
    from envdoctor.bench.run import run_of

    return Result(report, run_of(report.snapshot), plan)
