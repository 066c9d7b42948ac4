"""From images a second to epochs, hours and money, with every assumption that this takes listed beside it."""

from __future__ import annotations

from dataclasses import dataclass

from envdoctor.bench.ceilings import Ceilings, Parts, ceilings

IMAGENET_TRAIN_IMAGES = 1_281_167
MINUTES, HOURS = 60.0, 3600.0
MISSING = {
    "compute": "the training step was not measured",
    "loader": "the loader was not measured (--suite loader): it is taken to keep up",
    "copy": "copies to the device were not measured (--suite copies): they are taken to keep up",
    "communication": "communication was not measured (--suite collectives): it is taken to cost nothing",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be trained: images in the data set, epochs, GPUs, and what an hour of one GPU costs."""

    images: int = IMAGENET_TRAIN_IMAGES
    epochs: int = 300
    gpus: int = 1
    price_per_gpu_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """One way of training it: the speed, which ceiling gives it, and what the plan takes at that speed."""

    images_per_second: float
    binds: str
    epoch_minutes: float
    hours: float
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Projection:
    """The plan at this machine's best, as it is without any tuning, and the difference in hours and money."""

    plan: Plan
    best: Course
    untuned: Course | None
    assumptions: tuple[str, ...]

    @property
    def gap_hours(self) -> float | None:
        """Give the hours that the best settings save."""
        return None if self.untuned is None else self.untuned.hours - self.best.hours

    @property
    def gap_cost(self) -> float | None:
        """Give the money that they save; None without a price."""
        price = self.plan.price_per_gpu_hour
        return None if self.gap_hours is None or price is None else self.gap_hours * self.plan.gpus * price


def project(plan: Plan, best: Parts, untuned: Parts | None = None) -> Projection | None:
    """Project a plan from the ceilings that were measured; None when the training step was not measured."""
    known = ceilings(best, plan.gpus)
    if known.compute is None:
        return None
    slow = ceilings(untuned, plan.gpus) if untuned else None
    course = _course(plan, slow) if slow and slow.compute is not None else None
    return Projection(plan, _course(plan, known), course, _assumptions(plan, known))


def _course(plan: Plan, known: Ceilings) -> Course:
    speed, binds = known.lowest or 0.0, known.binds or ""
    epoch = plan.images / speed
    hours = epoch * plan.epochs / HOURS
    price = plan.price_per_gpu_hour
    return Course(speed, binds, epoch / MINUTES, hours, None if price is None else hours * plan.gpus * price)


def _assumptions(plan: Plan, known: Ceilings) -> tuple[str, ...]:
    said = [
        "the lowest ceiling decides: loading, copying and communication overlap with compute completely",
        "every step is a training step: no evaluation, no checkpoints, no warm-up",
    ]
    if plan.gpus > 1:
        said.append(f"{plan.gpus} GPUs on one host, each as fast as the one that was measured, all at once")
    elif "communication" in known.unmeasured:
        known = Ceilings(known.compute, known.loader, known.copy, known.lowest)  # one GPU has nobody to talk to
    return (*said, *(MISSING[name] for name in known.unmeasured))
