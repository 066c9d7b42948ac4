"""[payload] kernel-answers: small kernels of each sort, run once. A machine that starts CUDA may still fail here."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple

from envdoctor.facts.kernels import AttentionChoice, Fingerprint, KernelAnswers, KernelCheck
from envdoctor.probe import Context, probe
from envdoctor_probes.bench.attention import Attention, precisions_of
from envdoctor_probes.bench.copies import copy_work
from envdoctor_probes.bench.place import Place, choose
from envdoctor_probes.bench.precision import fingerprint
from envdoctor_probes.bench.products import PRECISIONS, Product
from envdoctor_probes.bench.sdpa import choice
from envdoctor_probes.bench.suite import NotApplicable, Work, is_out_of_memory, words
from envdoctor_probes.bench.wanted import Wanted

__all__ = ["kernel_answers"]

MIB = 1 << 20
_SIZE, _CPU_SIZE = 512, 128
_BLOCK, _CPU_BLOCK = 256 * MIB, 64 * MIB
_SHAPE = (2, 12, 197, 64)


@probe(level="deep", child="torch", seconds=60.0)
def kernel_answers(context: Context) -> KernelAnswers:
    """Ask the device that torch would use; each answer is given at once."""
    place = choose(context, Wanted())
    found = Answers(context, place)
    found.compute()
    return found.fact


class Answers:
    """What was answered so far."""

    def __init__(self, context: Context, place: Place) -> None:
        self._context, self._place = context, place
        self._values: Dict[str, Any] = {"kind": place.kind}
        self._checks: List[KernelCheck] = []
        if place.is_cuda:
            properties = place.torch.cuda.get_device_properties(place.device)
            self._values.update(name=str(properties.name), capability=f"{properties.major}.{properties.minor}")

    @property
    def fact(self) -> KernelAnswers:
        """Give what is known by now."""
        unknown = {} if self._place.is_cuda else dict.fromkeys(("name", "capability"), "it is a CPU")
        return KernelAnswers(unknown=unknown, checks=tuple(self._checks), **self._values)

    def compute(self) -> None:
        """Run one kernel of each sort, from the simplest on."""
        size = _SIZE if self._place.is_cuda else _CPU_SIZE
        self._check("allocate", "", {"bytes": f"{self._block // MIB} MiB"}, self._allocate)
        self._values["fingerprint"] = self._fingerprint()
        for precision in PRECISIONS:
            product = Product(self._place, (size, size, size), precision)
            self._check("gemm", precision, {"shape": f"{size}x{size}x{size}"}, product.work)
        self._attend()
        for direction in ("h2d", "d2h"):
            name = {"h2d": "copy-to-device", "d2h": "copy-to-host"}[direction]
            work = partial(copy_work, self._place, self._block // 4, "pinned", direction)
            self._check(name, "", {"bytes": f"{self._block // 4 // MIB} MiB", "memory": "pinned"}, work)

    @property
    def _block(self) -> int:
        return _BLOCK if self._place.is_cuda else _CPU_BLOCK

    def _check(self, name: str, precision: str, config: Dict[str, str], prepare: Callable[[], Work]) -> None:
        with self._context.calling(" ".join(filter(None, ("kernel", name, precision)))):
            state, reason, seconds, error = self._run(prepare)
        self._checks.append(KernelCheck(name, precision, config, state, reason, seconds, error))
        self._context.so_far(self.fact)

    def _run(self, prepare: Callable[[], Work]) -> Tuple[str, str, Optional[float], Optional[float]]:
        try:
            work = prepare()
            with work.within():
                correct, error = work.check() if work.check else (True, None)
                took = self._timed(work)
        except NotApplicable as why:
            return "not-applicable", str(why), None, None
        except Exception as error:
            return "out-of-memory" if is_out_of_memory(error) else "failed", words(error), None, None
        return ("works", "", took, error) if correct else ("wrong", "it differs from the reference", took, error)

    def _timed(self, work: Work) -> float:
        self._place.synchronize()
        began = time.perf_counter()
        work.operation()
        self._place.synchronize()
        return time.perf_counter() - began

    def _allocate(self) -> Work:
        torch = self._place.torch
        return Work(lambda: torch.ones(self._block, dtype=torch.uint8, device=self._place.device), self._block, "byte")

    def _fingerprint(self) -> Fingerprint:
        try:
            with self._context.calling("kernel fp32 product against fp64"):
                return fingerprint(self._place.torch, self._place.device)
        except Exception as error:
            return Fingerprint("default", reason=words(error))

    def _attend(self) -> None:
        chosen: List[AttentionChoice] = []
        for precision in precisions_of(self._place):
            config = {"shape": "x".join(map(str, _SHAPE))}
            attention = Attention(self._place, _SHAPE, precision, "default", "forward")
            try:
                chosen.append(choice(self._place.torch, attention.random(), config, precision))
            except Exception as error:
                chosen.append(AttentionChoice(config, precision, reason=words(error)))
            self._values["attention"] = tuple(chosen)
            self._check("attention", precision, config, attention.work)
