"""[payload] bench-gemm: matrix products of every precision, squares and the shapes of a ViT-B."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Dict, List, Optional, Tuple

from envdoctor.facts.bench import BenchGemm, Measured
from envdoctor.facts.kernels import Fingerprint
from envdoctor.probe import Context, probe
from envdoctor_probes.bench.place import Place, choose
from envdoctor_probes.bench.precision import fingerprint, fp32_computed_as
from envdoctor_probes.bench.products import Product, Shape, why_not
from envdoctor_probes.bench.stopping import quartiles
from envdoctor_probes.bench.stopwatch import warm_up
from envdoctor_probes.bench.suite import NO_TIME, Suite, Task, Work, words
from envdoctor_probes.bench.wanted import Deadline, Wanted

__all__ = ["bench_gemm"]

SQUARES = {"quick": (8192, 4096), "default": (8192, 4096, 16384), "full": (8192, 4096, 16384, 2048, 12288)}
CPU_SQUARES = (256, 512, 1024, 2048)  # the largest that fits its share of the time
HEATING: Shape = (4096, 4096, 4096)
TRIED: Shape = (1024, 1024, 1024)
PREHEAT = {"quick": 5.0, "default": 10.0, "full": 30.0}
VIT_PRECISIONS = ("bf16", "fp16", "tf32", "fp32")
TOKENS, WIDTH = 197, 768
PEERS_SHAPE: Shape = (8192, 8192, 8192)
_PEER_HEAT = 1.0  # seconds
_SHARE_OF_PEERS = 4.0  # all peers together get about a quarter of the time
_MOST_SECONDS = 8.0
_CALLS = 24  # that a measurement will need at the least: warm-up, check, samples
_CPU_CALLS = 9


@probe(level="deep", child="torch", seconds=90.0)
def bench_gemm(context: Context) -> BenchGemm:
    """Say first how fp32 is computed here, compare cards, then heat this one and measure the most telling shapes first.

    In this order: cards are compared when all are as warm, and what is measured while others are does not stay so.
    """
    wanted = Wanted.of(context.options)
    place = choose(context, wanted)
    gemm = Gemm(context, place, wanted)
    gemm.take_fingerprints()
    gemm.measure_peers()
    gemm.preheat()
    gemm.measure(plan(place, wanted))
    fact: BenchGemm = gemm.suite.fact
    return fact


def plan(place: Place, wanted: Wanted) -> List[Tuple[str, Tuple[Shape, ...]]]:
    """Give precisions and shapes in the order in which they are measured; on a CPU, shapes to choose one from."""
    if not place.is_cuda:
        shapes = tuple((size, size, size) for size in CPU_SQUARES)
        return [(precision, shapes) for precision in ("fp32", "fp64", "bf16", "fp16", "int8", "tf32", "fp8")]
    order = ("bf16", "fp16", "tf32", "fp32", "fp8", "int8", "fp64")
    squares = [(p, ((size, size, size),)) for size in SQUARES[wanted.budget] for p in order]
    vit = [(p, (shape,)) for p in VIT_PRECISIONS for shape in vit_shapes(wanted.batch or 64)]
    return [*squares[: len(order)], *vit, *squares[len(order) :]]


def vit_shapes(batch: int) -> Tuple[Shape, ...]:
    """Give the products of a ViT-B's block at this batch: attention's input and output, and the MLP's two."""
    rows = TOKENS * batch
    return tuple((rows, k * WIDTH, n * WIDTH) for k, n in ((1, 3), (1, 1), (1, 4), (4, 1)))


class Gemm:
    """The suite under way."""

    def __init__(self, context: Context, place: Place, wanted: Wanted) -> None:
        self._place = place
        self._wanted = wanted
        self._fingerprints: List[Fingerprint] = []
        self._heated: Optional[float] = None
        self._unknown: Dict[str, str] = {}
        self._rates: Dict[str, float] = {}
        self.suite = Suite("gemm", context, place, wanted, self._answer)
        self.suite.label = "burst"

    def _answer(self, suite: Suite) -> BenchGemm:
        return BenchGemm(
            unknown=dict(self._unknown),
            measured=tuple(suite.measured),
            fingerprints=tuple(self._fingerprints),
            preheat_seconds=self._heated,
        )

    def take_fingerprints(self) -> None:
        """Ask the results: as a fresh process computes, and as it does when told to."""
        for setting in ("default", "ieee", "tf32"):
            if setting == "tf32" and why_not(self._place, "tf32"):
                continue
            try:
                with self.suite.context.calling(f"gemm: fp32 product, {setting}"):
                    self._fingerprints.append(self._fingerprint(setting))
            except Exception as error:
                self._fingerprints.append(Fingerprint(setting, reason=words(error)))
        self.suite.tell()

    def _fingerprint(self, setting: str) -> Fingerprint:
        with fp32_computed_as(self._place.torch, setting):
            return fingerprint(self._place.torch, self._place.device, setting)

    def preheat(self) -> None:
        """Multiply for a while: a cold card scores higher than it can hold."""
        self.suite.label = "sustained" if self._wanted.budget == "full" else "burst"
        if not self._place.is_cuda:
            self._unknown["preheat_seconds"] = "a CPU is not heated"
            return
        seconds = min(PREHEAT[self._wanted.budget], self.suite.deadline.seconds / 3)
        began = time.monotonic()
        try:
            with self.suite.context.calling(f"gemm: heating the card for {seconds:.0f} s"):
                work = Product(self._place, HEATING, "fp16").work()
                warm_up(self._place, work.operation, seconds, Deadline(seconds))
        except Exception as error:
            self._unknown["preheat_seconds"] = words(error)
            return
        self._heated = time.monotonic() - began

    def measure(self, planned: List[Tuple[str, Tuple[Shape, ...]]]) -> None:
        """Measure one shape after the other; of several to choose from, the largest that there is time for."""
        for number, (precision, shapes) in enumerate(planned):
            parts = len(planned) - number
            shape, why = self._affordable(precision, shapes, self.suite.deadline.share(parts))
            product = Product(self._place, shape, precision)
            if why:
                self.suite.keep(self._task(product), "skipped", why)
                continue
            self._learn(self.suite.measure(self._task(product), parts))

    def measure_peers(self) -> None:
        """Measure one product on each GPU of this model, one after the other: a slow card shows beside its peers.

        Under a launcher each rank has a card of its own, and the others are busy with their own ranks.
        """
        if not self._place.is_cuda or "RANK" in self.suite.context.environ:
            return
        cuda = self._place.torch.cuda
        if cuda.device_count() < 2:
            return
        name = cuda.get_device_name(self._place.device)
        alike = [index for index in range(cuda.device_count()) if cuda.get_device_name(index) == name]
        precision = "bf16" if cuda.get_device_capability(self._place.device) >= (8, 0) else "fp16"
        try:
            for number, index in enumerate(alike if len(alike) > 1 else ()):
                self._measure_peer(index, name, precision, _SHARE_OF_PEERS * (len(alike) - number))
        finally:
            self.suite.place = self._place
            cuda.set_device(self._place.device)

    def _measure_peer(self, index: int, name: str, precision: str, parts: float) -> None:
        try:
            self.suite.place = choose(self.suite.context, replace(self._wanted, device=f"cuda:{index}"))
        except Exception as error:
            self._unknown[f"cuda:{index}"] = words(error)
            return
        product = Product(self.suite.place, PEERS_SHAPE, precision)

        def work() -> Work:
            return replace(product.work(), warm_seconds=_PEER_HEAT)

        config = {"shape": "x".join(map(str, PEERS_SHAPE)), "device": f"cuda:{index}", "gpu": name}
        self.suite.measure(Task("gemm", work, config, precision, product.needs_bytes), parts)

    @staticmethod
    def _task(product: Product) -> Task:
        shape = "x".join(map(str, product.shape))
        return Task("gemm", product.work, {"shape": shape}, product.precision, product.needs_bytes)

    def _learn(self, found: Measured) -> None:
        if found.seconds:
            rate = found.work / quartiles(found.seconds)[1]
            self._rates[found.precision] = max(rate, self._rates.get(found.precision, 0.0))

    def _affordable(self, precision: str, shapes: Tuple[Shape, ...], share: float) -> Tuple[Shape, str]:
        """Give the largest shape that fits the time, and why none does; the shapes come smallest first."""
        if self.suite.deadline.left <= 0:
            return shapes[0], NO_TIME
        limit = min(_MOST_SECONDS, max(share, 1.0)) / (_CALLS if self._place.is_cuda else _CPU_CALLS)
        rate = self._rates.get(precision) or self._try_out(TRIED if self._place.is_cuda else shapes[0], precision)
        fits, seconds = shapes[0], 0.0
        for shape in shapes if rate else ():
            seconds = Product(self._place, shape, precision).flop / rate if rate else 0.0
            if seconds > limit:
                break
            fits = shape
            if len(shapes) > 1:  # small products say little of what a large one takes
                rate = self._try_out(shape, precision)
        too_long = len(shapes) == 1 and seconds > limit
        return fits, f"one product would take about {seconds:.1f} s" if too_long else ""

    def _try_out(self, shape: Shape, precision: str) -> Optional[float]:
        """Run a product a few times; give its FLOP a second, or None when it cannot be run."""
        if why_not(self._place, precision):
            return None
        try:
            product = Product(self._place, shape, precision)
            work = product.work()
            with work.within():
                return product.flop / warm_up(self._place, work.operation, 0.0, Deadline(1.0))
        except Exception:  # it will fail again when it is measured, and then says why
            return None
