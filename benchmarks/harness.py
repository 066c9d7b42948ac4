"""Whether the benchmark's harness adds anything: its rate against a loop written by hand, turn by turn.

    .venv/bin/python benchmarks/harness.py [--rounds 15] [--model vit_ti16] [--batch 1] [--threads 1]

The step of a model is timed by our stopwatch and by the plainest loop there is, over the same model, in alternation;
matrix products against ``torch.utils.benchmark`` and, on a GPU, ``triton.testing.do_bench``. The ratio of each round
is taken (above 1: ours says faster); the median of the rounds is given with a 95 % bootstrap interval.
None of it is a test, because numbers depend on the machine.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from typing import TYPE_CHECKING, Any

from envdoctor_probes.bench.place import Cpu, Cuda, Place
from envdoctor_probes.bench.products import Product
from envdoctor_probes.bench.recipes import find
from envdoctor_probes.bench.stopping import CPU_RULE, GPU_RULE, Rule, quartiles
from envdoctor_probes.bench.stopwatch import take
from envdoctor_probes.bench.training import Settings, Step
from envdoctor_probes.bench.wanted import Deadline
from pairs import interval

if TYPE_CHECKING:
    from collections.abc import Callable

    Side = Callable[[], float]

STEPS = 4


def place_here() -> Place:
    """Give the GPU, or the CPU."""
    import torch

    if torch.cuda.is_available():
        return Cuda(torch, torch.device("cuda", 0), torch.cuda.mem_get_info()[0])
    return Cpu(torch, torch.device("cpu"), 1 << 36)


def ours(place: Place, operation: Callable[[], Any], rule: Rule, **how: Any) -> float:
    """Give the median seconds that our stopwatch reads."""
    return quartiles(take(place, operation, rule, Deadline(60.0), **how).seconds)[1]


def by_hand(place: Place, model: str, batch: int) -> Side:
    """Write the training loop that anybody would: forward, loss, backward, update; a clock around each step."""
    torch = place.torch
    recipe = find(torch, model, on_gpu=place.is_cuda)
    torch.manual_seed(20260101)
    net = recipe.make().to(place.device).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    batches = [recipe.feed(batch) for _ in range(2)]
    batches = [((images.to(place.device),), classes.to(place.device)) for (images,), classes in batches]

    def run() -> float:
        times = []
        for number in range(STEPS):
            place.synchronize()
            began = time.perf_counter()
            (images,), classes = batches[number % 2]
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(net(images), classes)
            loss.backward()
            optimizer.step()
            place.synchronize()
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    return run


def harness(place: Place, model: str, batch: int) -> Side:
    """Time the same step by our stopwatch, over as many samples."""
    step = Step(place, find(place.torch, model, on_gpu=place.is_cuda), batch, Settings())
    rule = Rule(least=STEPS, seconds=0.0, spread=None)
    return lambda: ours(place, step, rule, unbroken=True, flush=False, warmed=True)


def product(place: Place, size: int) -> tuple[Side, dict[str, Side]]:
    """Time one matrix product by ours and by the tools that everybody uses."""
    from torch.utils.benchmark import Timer

    work = Product(place, (size, size, size), "fp32").work()
    rule = GPU_RULE if place.is_cuda else CPU_RULE
    timer = Timer("run()", globals={"run": work.operation}, num_threads=place.torch.get_num_threads())
    others: dict[str, Side] = {"torch.utils.benchmark": lambda: timer.blocked_autorange(min_run_time=0.3).median}
    if place.is_cuda:
        from triton.testing import do_bench

        others["triton.testing.do_bench"] = lambda: do_bench(work.operation, return_mode="median") / 1e3
    return lambda: ours(place, work.operation, rule, warmed=True), others


def compare(name: str, one: Side, other: Side, rounds: int) -> str:
    """Alternate the two, each going first in turn, and write the line of the table."""
    one(), other()
    ratios = []
    for number in range(rounds):
        sides = {}
        for key, run in (("one", one), ("other", other))[:: 1 if number % 2 else -1]:
            sides[key] = run()
        ratios.append(sides["other"] / sides["one"])
    low, high = interval(ratios)
    reaches = "yes" if high >= 0.99 else "NO"
    middle = statistics.median(ratios)
    return f"| {name} | {middle:.3f} [{low:.3f}, {high:.3f}] | {high - low:.3f} | {reaches} | {rounds} |"


def main() -> None:
    """Measure, and print the table that README.md keeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--model", default="vit_ti16")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=0, help="of the square product")
    parser.add_argument("--threads", type=int, default=0)
    given = parser.parse_args()
    place = place_here()
    if given.threads:
        place.torch.set_num_threads(given.threads)
    here = f"{place.torch.get_num_threads()} threads" if not place.is_cuda else place.torch.cuda.get_device_name()
    print(f"{time.strftime('%Y-%m-%d')}, {here}, {platform.platform()}, torch {place.torch.__version__}\n")
    print("| ours / theirs | rate, median [95 %] | width | reaches 0.99 | rounds |\n| --- | --- | --- | --- | --- |")
    step, loop = harness(place, given.model, given.batch), by_hand(place, given.model, given.batch)
    print(compare(f"{given.model} step, batch {given.batch} / loop by hand", step, loop, given.rounds), flush=True)
    size = given.size or (8192 if place.is_cuda else 512)
    mine, others = product(place, size)
    for name, other in others.items():
        print(compare(f"fp32 product of {size} / {name}", mine, other, given.rounds), flush=True)


if __name__ == "__main__":
    main()
