"""[payload] bench-model: one block, the model, and its training step, from the inside out.

What is slow shows where two neighbours differ: block and model, model and step, step and step with copies.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from envdoctor.probe import Context, probe
from envdoctor_probes.bench.nested import call, mapped
from envdoctor_probes.bench.place import Place, choose
from envdoctor_probes.bench.precision import default_precision
from envdoctor_probes.bench.recipes import Recipe, find
from envdoctor_probes.bench.sizes import describe, usual_batch
from envdoctor_probes.bench.suite import NotApplicable, Suite, Task, Work
from envdoctor_probes.bench.training import Settings, Step
from envdoctor_probes.bench.wanted import Wanted

if TYPE_CHECKING:
    from envdoctor.facts.bench import BenchModel

__all__ = ["bench_model", "step_work", "usual_amp"]


@probe(level="deep", child="torch", seconds=90.0)
def bench_model(context: Context) -> BenchModel:
    """Describe the model, then measure it."""
    wanted = Wanted.of(context.options)
    place = choose(context, wanted)
    with context.calling(f"making {wanted.model}"):
        recipe = find(place.torch, wanted.model, on_gpu=place.is_cuda, batch=wanted.batch)
        about = describe(place, recipe, usual_batch(place, recipe, wanted))
    suite = Suite("model", context, place, wanted, lambda suite: replace(about, measured=tuple(suite.measured)))
    suite.tell()
    tasks = Model(place, recipe, int(about.batch or 1)).tasks()
    for number, task in enumerate(tasks):
        suite.measure(task, len(tasks) - number)
    fact: BenchModel = suite.fact
    return fact


def usual_amp(place: Place) -> str:
    """Give the autocast that one would use here: bf16 from compute capability 8.0 on, fp16 before, none on a CPU."""
    if not place.is_cuda:
        return ""
    return "bf16" if place.torch.cuda.get_device_capability(place.device) >= (8, 0) else "fp16"


def step_work(place: Place, recipe: Recipe, batch: int, settings: Settings, *, singles: bool = False) -> Work:
    """Make a training step ready and give it as work: its amount is the batch."""
    step = Step(place, recipe, batch, settings)
    with step.settings_on():
        step.prepare()

    def check() -> Tuple[bool, Optional[float]]:
        step()
        return bool(place.torch.isfinite(step.loss.detach()).all()), None

    return Work(
        step, batch, recipe.sample, check, within=step.settings_on, flush=False, unbroken=True, singles=singles
    )  # fmt: skip


class Model:
    """What is measured of one model, and how each of it is made ready."""

    def __init__(self, place: Place, recipe: Recipe, batch: int) -> None:
        self._place, self._torch, self._recipe, self._batch = place, place.torch, recipe, batch
        self._plain = default_precision(place.torch, place.device)
        self._family = recipe.name.partition("_")[0]

    def tasks(self) -> List[Task]:
        """Give everything that is measured, the most telling first; a CPU has the plain precision alone."""
        amp = usual_amp(self._place)
        precisions = (amp, "") if amp else ("",)
        found = [self._step(amp, singles=True), self._forward(amp)]
        if self._recipe.make_block is not None:
            found += [self._block(each, train) for each in precisions for train in (False, True)]
        if amp:
            found += [self._step(amp, inputs="pinned"), self._step(amp, batch=1, singles=True)]
            found += [self._forward(""), self._step("")]
        found += [self._forward(amp, backward=True), self._optimizer()]
        return found

    def _named(self, amp: str) -> str:
        return f"amp-{amp}" if amp else self._plain

    def _task(self, name: str, amp: str, prepare: Callable[[], Work], **config: Any) -> Task:
        told: Dict[str, str] = {"model": self._recipe.name, "batch": str(self._batch)}
        return Task(name, prepare, {**told, **{key: str(value) for key, value in config.items()}}, self._named(amp))

    def _step(self, amp: str, *, inputs: str = "resident", batch: int = 0, singles: bool = False) -> Task:
        batch = batch if batch and self._recipe.fixed_batch is None else self._batch
        settings = Settings(amp=amp, inputs=inputs)

        def prepare() -> Work:
            return step_work(self._place, self._recipe, batch, settings, singles=singles)

        name = "train-step" if inputs == "resident" else "train-step-h2d"
        return self._task(name, amp, prepare, batch=batch, inputs=inputs)

    def _autocast(self, amp: str) -> Any:
        if not amp:
            return contextlib.nullcontext()
        return self._torch.autocast(
            self._place.kind, dtype=getattr(self._torch, {"bf16": "bfloat16", "fp16": "float16"}[amp])
        )

    def _on_device(self, value: Any) -> Any:
        def move(tensor: Any) -> Any:
            return tensor.detach().to(self._place.device).requires_grad_(tensor.requires_grad)

        return mapped(self._torch, value, move)

    def _forward(self, amp: str, *, backward: bool = False) -> Task:
        """Run the model without the rest of the step: to predict, or forward and backward."""

        def prepare() -> Work:
            model = self._recipe.make().to(self._place.device).train(backward)
            inputs, target = (self._on_device(each) for each in self._recipe.feed(self._batch))

            def predict() -> Any:
                with self._torch.no_grad(), self._autocast(amp):
                    return call(model, inputs)

            def learn() -> Any:
                model.zero_grad(set_to_none=True)
                with self._autocast(amp):
                    loss = self._recipe.loss(call(model, inputs), target)
                loss.backward()
                return loss

            return Work(learn if backward else predict, self._batch, self._recipe.sample, flush=False, unbroken=True)

        return self._task("forward-backward" if backward else "forward", amp, prepare)

    def _block(self, amp: str, train: bool) -> Task:
        make, feed, flops = self._recipe.make_block, self._recipe.feed_block, self._recipe.flops
        each = 0 if flops is None else flops.block_train if train else flops.block_forward

        def prepare() -> Work:
            if make is None or feed is None:
                raise NotApplicable(f"{self._recipe.name} has no block of ours")
            block = make().to(self._place.device)
            tokens = feed(self._batch).to(self._place.device).requires_grad_(train)
            above = self._torch.randn_like(tokens)

            def forward() -> Any:
                with self._torch.no_grad(), self._autocast(amp):
                    return block(tokens)

            def both() -> Any:
                block.zero_grad(set_to_none=True)
                tokens.grad = None
                with self._autocast(amp):
                    seen = block(tokens)
                seen.backward(above.to(seen.dtype))

            return Work(both if train else forward, self._batch * each, "flop")

        return self._task(f"{self._family}-block-{'train' if train else 'forward'}", amp, prepare)

    def _optimizer(self) -> Task:
        """Run the update alone, as a script gets it that asks for nothing."""

        def prepare() -> Work:
            model = self._recipe.make().to(self._place.device)
            parameters = [each for each in model.parameters() if each.requires_grad]
            for each in parameters:
                each.grad = self._torch.randn_like(each)
            optimizer = self._torch.optim.AdamW(parameters, lr=1e-4)
            return Work(optimizer.step, 1, "call", flush=False, unbroken=True)

        return self._task("optimizer-step", "", prepare, optimizer="AdamW")
