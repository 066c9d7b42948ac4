"""[payload] One training step of a model under given settings: what the ladder changes one at a time."""

from __future__ import annotations

import contextlib
import importlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Tuple

from envdoctor_probes.bench.nested import call, mapped, tensors
from envdoctor_probes.bench.precision import fp32_computed_as
from envdoctor_probes.bench.sdpa import only
from envdoctor_probes.bench.suite import NotApplicable

if TYPE_CHECKING:
    from envdoctor_probes.bench.place import Place
    from envdoctor_probes.bench.recipes import Recipe

__all__ = ["Settings", "Step", "why_not"]

_BATCHES = 2  # that take turns, so that no step finds its own images in a cache
_LEARNING_RATE = 1e-4
_GRAPH_WARM = 3


@dataclass(frozen=True)
class Settings:
    """How a step is computed. The defaults are what a script gets that sets nothing.

    ``fp32``: default, ieee, tf32. ``amp``: empty, bf16, fp16. ``inputs``: resident on the device; pageable or pinned
    in host memory and copied in each step. ``attention``: default, math, weights. ``compile``, ``graph``: see
    ``torch.compile`` and ``torch.cuda.graph``.
    """

    fp32: str = "default"
    amp: str = ""
    fused: bool = False
    channels_last: bool = False
    inputs: str = "resident"
    compile: bool = False
    graph: bool = False
    attention: str = "default"
    deterministic: bool = False
    cudnn_benchmark: bool = False
    checkpointing: bool = False

    @property
    def precision(self) -> str:
        """Name it as measurements do."""
        return f"amp-{self.amp}" if self.amp else "tf32" if self.fp32 == "tf32" else "fp32"


def why_not(place: Place, recipe: Recipe, settings: Settings) -> str:
    """Say why this device or this model cannot have these settings, or nothing."""
    if not place.is_cuda:
        if settings.fp32 == "tf32" or settings.amp == "fp16" or settings.graph:
            what = {"tf32": "TF32"}.get(settings.fp32) or ("a gradient scaler" if settings.amp else "a CUDA graph")
            return f"{what} is for GPUs"
        if settings.inputs != "resident":
            return "a CPU has no copies from host to device"
    elif settings.fp32 == "tf32" and place.torch.cuda.get_device_capability(place.device) < (8, 0):
        return "TF32 needs compute capability 8.0"
    if (settings.attention == "weights" or settings.checkpointing) and not recipe.has_our_blocks:
        return f"{recipe.name} has no blocks of ours that could be switched"
    if settings.channels_last and not recipe.layout:
        return f"{recipe.name} takes no images: there is no memory format to choose"
    return ""


class Step:
    """A step that is ready to be called: zero gradients, forward, loss, backward, update.

    ``cold_start_seconds`` is what compiling and capturing took. Use it inside ``with step.settings_on():``.
    """

    def __init__(self, place: Place, recipe: Recipe, batch: int, settings: Settings) -> None:
        self._place, self._torch, self._recipe, self._settings = place, place.torch, recipe, settings
        why = why_not(place, recipe, settings)
        if why:
            raise NotApplicable(why)
        self.cold_start_seconds: Optional[float] = None
        self.loss: Any = None
        self.model = self._make()
        self._run_model: Any = self.model
        self._optimizer = self._make_optimizer()
        self._scaler = self._make_scaler() if settings.amp == "fp16" else None
        self._batches = [self._feed(batch) for _ in range(_BATCHES)]
        self._turn = 0
        self._graph: Any = None
        self._static: Any = None

    # Making

    def _make(self) -> Any:
        torch, settings = self._torch, self._settings
        torch.manual_seed(20260101)
        model = self._recipe.make().to(self._place.device).train()
        if settings.channels_last:
            model = model.to(memory_format=torch.channels_last)
        if settings.checkpointing:
            importlib.import_module("torch.utils.checkpoint")  # not every torch imports it
            model.checkpointing = True
        if settings.attention == "weights":
            for block in model.blocks:
                block.weights = True
        return model

    def _make_optimizer(self) -> Any:
        parameters = [each for each in self.model.parameters() if each.requires_grad]
        if not parameters:
            raise NotApplicable(f"{self._recipe.name} has no parameter that could be trained")
        options: Dict[str, Any] = {"lr": _LEARNING_RATE}
        if self._settings.fused:
            options["fused"] = True
        if self._settings.graph:
            options["capturable"] = True
        try:
            return self._torch.optim.AdamW(parameters, **options)
        except (TypeError, RuntimeError) as error:
            raise NotApplicable(f"torch {self._torch.__version__} refuses AdamW({options}): {error}") from error

    def _make_scaler(self) -> Any:
        newer = getattr(self._torch.amp, "GradScaler", None)
        return newer("cuda") if newer else self._torch.cuda.amp.GradScaler()

    def _feed(self, batch: int) -> Tuple[Any, Any]:
        """Make a batch where the settings want it: on the device, or in one of the two sorts of host memory."""
        inputs, target = self._recipe.feed(batch)
        if self._settings.inputs == "resident":
            inputs, target = (self._move(each, non_blocking=False) for each in (inputs, target))
        elif self._settings.inputs == "pinned":
            inputs, target = (mapped(self._torch, each, lambda one: one.pin_memory()) for each in (inputs, target))
        return inputs, target

    def _move(self, value: Any, *, non_blocking: bool) -> Any:
        def move(tensor: Any) -> Any:
            moved = tensor.detach().to(self._place.device, non_blocking=non_blocking)
            if self._settings.channels_last and moved.dim() == 4:
                moved = moved.contiguous(memory_format=self._torch.channels_last)
            return moved.requires_grad_(tensor.requires_grad)

        return mapped(self._torch, value, move)

    # Running

    @contextlib.contextmanager
    def settings_on(self) -> Iterator[None]:
        """Have torch as the settings want it, and as it was afterwards."""
        with contextlib.ExitStack() as stack:
            for each in self._switches():
                stack.enter_context(each)
            yield

    def _switches(self) -> List[Any]:
        settings, torch = self._settings, self._torch
        found: List[Any] = [fp32_computed_as(torch, settings.fp32)]
        if settings.attention == "math":
            found.append(only(torch, "math"))
        if settings.deterministic:
            found.append(_deterministic(torch))
        if settings.cudnn_benchmark:
            found.append(_attribute(torch.backends.cudnn, "benchmark", True))
        return found

    def prepare(self) -> Step:
        """Compile and capture where the settings want it, and run a step then: what comes now is not cold any more."""
        began = time.perf_counter()
        if self._settings.compile:
            if not hasattr(self._torch, "compile"):
                raise NotApplicable(f"torch {self._torch.__version__} has no torch.compile")
            self._run_model = self._torch.compile(self.model)
        if not (self._settings.compile or self._settings.graph):
            return self
        self._eager()
        if self._settings.graph:
            self._capture()
        self._place.synchronize()
        self.cold_start_seconds = time.perf_counter() - began
        return self

    def _capture(self) -> None:
        """Record a whole step, on a stream of its own after some steps there, as torch's documentation has it."""
        torch = self._torch
        self._static = tuple(self._move(each, non_blocking=False) for each in self._batches[0])
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_GRAPH_WARM):
                self._compute(*self._static)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._compute(*self._static)
        self._graph = graph

    def __call__(self) -> None:
        """Run one step."""
        if self._graph is None:
            self._eager()
            return
        if self._settings.inputs != "resident":
            self._refill()
        self._graph.replay()

    def _refill(self) -> None:
        """Copy the next batch to where the recorded step reads it."""
        torch = self._torch
        with torch.no_grad():
            for place, host in zip(tensors(torch, self._static), tensors(torch, self._take())):  # noqa: B905
                place.copy_(host, non_blocking=self._settings.inputs == "pinned")

    def _eager(self) -> None:
        self._compute(*self._next())

    def _compute(self, inputs: Any, target: Any) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            self.loss = self._recipe.loss(call(self._run_model, inputs), target)
        if self._scaler is None:
            self.loss.backward()
            self._optimizer.step()
            return
        self._scaler.scale(self.loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def _take(self) -> Tuple[Any, Any]:
        taken = self._batches[self._turn]
        self._turn = (self._turn + 1) % len(self._batches)
        return taken

    def _next(self) -> Tuple[Any, Any]:
        inputs, target = self._take()
        if self._settings.inputs == "resident":
            return inputs, target
        later = self._settings.inputs == "pinned"
        return self._move(inputs, non_blocking=later), self._move(target, non_blocking=later)

    def _autocast(self) -> Any:
        if not self._settings.amp:
            return contextlib.nullcontext()
        dtype = self._torch.bfloat16 if self._settings.amp == "bf16" else self._torch.float16
        return self._torch.autocast(self._place.kind, dtype=dtype, cache_enabled=not self._settings.graph)


@contextlib.contextmanager
def _attribute(of: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(of, name)
    setattr(of, name, value)
    try:
        yield
    finally:
        setattr(of, name, before)


@contextlib.contextmanager
def _deterministic(torch: Any) -> Iterator[None]:
    """Ask for deterministic algorithms, also where torch has none: it then warns and goes on."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    with _attribute(torch.backends.cudnn, "deterministic", True):
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warned)
