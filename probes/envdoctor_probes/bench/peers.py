"""[payload] From GPU to GPU inside this machine: who may reach whom, and how fast a copy is."""

from __future__ import annotations

from functools import partial
from typing import Any, Iterator, Tuple

from envdoctor.facts.bench import PeerCopy
from envdoctor_probes.bench.place import Cuda
from envdoctor_probes.bench.suite import Suite, Task, Work

__all__ = ["copies_between"]

MIB = 1 << 20
_BUFFER = 128 * MIB


def copies_between(suite: Suite) -> Iterator[PeerCopy]:
    """Measure each ordered pair of GPUs that torch sees."""
    torch = suite.place.torch
    count = torch.cuda.device_count() if suite.place.is_cuda else 0
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
    for number, (first, second) in enumerate(pairs):
        config = {"from": f"cuda:{first}", "to": f"cuda:{second}", "bytes": f"{_BUFFER // MIB} MiB"}
        task = Task("peer-copy", partial(_copy, torch, (first, second)), config, "int8")
        with suite.context.calling(f"collectives: cuda:{first} to cuda:{second}"):
            reaches = bool(torch.cuda.can_device_access_peer(first, second))
            suite.place = Cuda(torch, torch.device("cuda", first), suite.place.allowed_bytes)
            torch.cuda.set_device(first)
            yield PeerCopy(first, second, reaches, suite.once(task, len(pairs) - number))


def _copy(torch: Any, pair: Tuple[int, int]) -> Work:
    source, target = (torch.empty(_BUFFER, dtype=torch.uint8, device=f"cuda:{number}") for number in pair)
    source.random_(0, 256)

    def check() -> Tuple[bool, None]:
        target.copy_(source)
        return bool((target[::MIB].cpu() == source[::MIB].cpu()).all()), None

    return Work(lambda: target.copy_(source, non_blocking=True), _BUFFER, "byte", check, flush=False)
