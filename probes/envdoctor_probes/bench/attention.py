"""[payload] bench-attention: every backend, forward and backward, on a ViT's input and on a longer one."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

from envdoctor.facts.bench import BenchAttention
from envdoctor.facts.kernels import AttentionChoice
from envdoctor.probe import Context, probe
from envdoctor_probes.bench.place import Place, choose
from envdoctor_probes.bench.sdpa import BACKENDS, choice, only
from envdoctor_probes.bench.suite import NotApplicable, Suite, Task, Work
from envdoctor_probes.bench.wanted import Wanted

__all__ = ["attention_flop", "bench_attention"]

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_ERROR = {"fp32": 5e-3, "fp16": 2e-2, "bf16": 5e-2}  # TF32 in the products of an fp32 backend included
_CHECKED = 1 << 24  # scores at the most: in fp64, and with a backward pass, they take gigabytes
Shape = Tuple[int, int, int, int]


@probe(level="deep", child="torch", seconds=75.0)
def bench_attention(context: Context) -> BenchAttention:
    """Ask first what is picked, then measure each backend by itself, the picked one's precision first."""
    wanted = Wanted.of(context.options)
    place = choose(context, wanted)
    choices: List[AttentionChoice] = []

    def answer(suite: Suite) -> BenchAttention:
        return BenchAttention(measured=tuple(suite.measured), choices=tuple(choices))

    suite = Suite("attention", context, place, wanted, answer)
    shapes, precisions = shapes_of(place, wanted), precisions_of(place)
    for shape in shapes:
        for precision in precisions:
            with context.calling(f"attention: which backend for {precision} {_shape(shape)}"):
                choices.append(_choose(place, shape, precision))
    suite.tell()
    tasks = [each for shape in shapes for precision in precisions for each in _tasks(place, shape, precision)]
    refused = {
        (each.config["shape"], each.precision, name): why for each in choices for name, why in each.refused.items()
    }
    for number, task in enumerate(tasks):
        why = refused.get((task.config["shape"], task.precision, task.config["backend"]))
        if why:
            suite.keep(task, "not-applicable", why)
        else:
            suite.measure(task, len(tasks) - number)
    fact: BenchAttention = suite.fact
    return fact


def shapes_of(place: Place, wanted: Wanted) -> Tuple[Shape, ...]:
    """Give (batch, heads, tokens, width of a head): a ViT-B's, and a longer sequence of as many elements."""
    if not place.is_cuda:
        return ((wanted.batch or 2, 12, 197, 64), (1, 12, 512, 64))
    return ((wanted.batch or 64, 12, 197, 64), (4, 12, 4096, 64))


def precisions_of(place: Place) -> Tuple[str, ...]:
    """Give the precisions to try, the one that training would use first."""
    if not place.is_cuda:
        return ("fp32",)
    return (
        ("bf16", "fp16", "fp32") if place.torch.cuda.get_device_capability(place.device) >= (8, 0) else ("fp16", "fp32")
    )


def attention_flop(shape: Shape) -> int:
    """Give the FLOP of one forward pass: scores and their product with the values, 2 each a multiply-add."""
    batch, heads, tokens, width = shape
    return 4 * batch * heads * tokens * tokens * width


def _shape(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _choose(place: Place, shape: Shape, precision: str) -> AttentionChoice:
    config = {"shape": _shape(shape)}
    try:
        return choice(place.torch, _random(place, shape, precision), config, precision)
    except Exception as error:
        return AttentionChoice(config, precision, reason=f"{type(error).__name__}: {error}")


def _random(place: Place, shape: Shape, precision: str) -> Any:
    dtype = getattr(place.torch, DTYPES[precision])
    return place.torch.randn(shape, device=place.device).to(dtype).requires_grad_()


def _tasks(place: Place, shape: Shape, precision: str) -> List[Task]:
    found: List[Task] = []
    names = [name for name, *_ in BACKENDS]
    for backend in ["default", *names]:
        config = {"shape": _shape(shape), "backend": backend}
        size = 2 if precision != "fp32" else 4
        elements = shape[0] * shape[1] * shape[2] * (10 * shape[3] + (3 * shape[2] if backend == "math" else 0))
        for direction in ("forward", "backward"):
            prepare = Attention(place, shape, precision, backend, direction).work
            found.append(Task(f"sdpa-{backend}-{direction}", prepare, config, precision, size * elements))
    return found


class Attention:
    """One backend, shape, precision and direction. The backward pass is measured by itself, and counted twice."""

    def __init__(self, place: Place, shape: Shape, precision: str, backend: str, direction: str) -> None:
        self._place, self._torch, self._shape = place, place.torch, shape
        self._precision, self._backend, self._direction = precision, backend, direction

    def random(self) -> Any:
        """Give one input of that shape and precision."""
        return _random(self._place, self._shape, self._precision)

    def work(self) -> Work:
        """Make query, key and value, and see that the backend works."""
        attend = getattr(self._torch.nn.functional, "scaled_dot_product_attention", None)
        if attend is None:
            raise NotApplicable(f"torch {self._torch.__version__} has no scaled_dot_product_attention")
        query, key, value = (self.random() for _ in range(3))

        def forward() -> Any:
            if self._backend == "default":
                return attend(query, key, value)
            with only(self._torch, self._backend):
                return attend(query, key, value)

        result = self._first(forward)
        flop = attention_flop(self._shape)
        if self._direction == "forward":
            return Work(forward, flop, "flop", check=lambda: self._check(query, key, value, result))
        above = self._torch.randn_like(result)
        inputs = (query, key, value)

        def backward() -> Any:
            return self._torch.autograd.grad(result, inputs, above, retain_graph=True)

        return Work(backward, 2 * flop, "flop", check=lambda: self._check_gradients(inputs, above, backward()))

    def _first(self, forward: Any) -> Any:
        try:
            return forward()
        except RuntimeError as error:
            if "No available kernel" in str(error) or "No viable backend" in str(error):
                raise NotApplicable(f"{self._backend} attention cannot be used for this input") from error
            raise

    def _check(self, query: Any, key: Any, value: Any, result: Any) -> Tuple[bool, Optional[float]]:
        """Compare the first of the batch, or some of its heads, with the plain formula in fp64."""
        exact = self._plain(*(self._some(each).detach().double() for each in (query, key, value)))
        return self._compare([result], [exact])

    def _check_gradients(self, inputs: Any, above: Any, found: Any) -> Tuple[bool, Optional[float]]:
        one = [self._some(each).detach().double().requires_grad_() for each in inputs]
        exact = self._torch.autograd.grad(self._plain(*one), one, self._some(above).double())
        return self._compare(found, exact)

    def _some(self, states: Any) -> Any:
        """Give as many heads as the formula can be used for: it must not need more memory than what it checks."""
        _, heads, tokens, _ = self._shape
        return states[:1, : max(1, min(heads, _CHECKED // tokens**2))]

    def _plain(self, query: Any, key: Any, value: Any) -> Any:
        scores = (query @ key.transpose(-2, -1)) * self._shape[-1] ** -0.5
        return scores.softmax(-1) @ value

    def _compare(self, found: Any, exact: Any) -> Tuple[bool, Optional[float]]:
        pairs = [(self._some(a).detach().double(), b.detach()) for a, b in zip(found, exact)]  # noqa: B905 - newer than 3.8
        error = max(float(((a - b).square().mean() / b.square().mean()).sqrt()) for a, b in pairs)
        return error <= _ERROR[self._precision], error
