"""Whether the benchmark's harness adds anything: its rate against a loop written by hand, turn by turn.

    .venv/bin/python benchmarks/harness.py [--seconds 150] [--model vit_ti16] [--blocks N] [--batch 1] [--threads N]

The step of a model is timed by our stopwatch and by the plainest loop there is, over the same model; matrix products
against ``torch.utils.benchmark`` and, on a GPU, ``triton.testing.do_bench``. A round is ours, theirs, theirs, ours,
each for a few steps, so that whatever else the machine does weighs on both; its ratio is of the two sums (above 1:
ours says faster). The median of all rounds is given with a 95 % bootstrap interval. No round is left out.
On a CPU one thread computes, because threads that wait for each other multiply what other programs disturb.
None of it is a test, because numbers depend on the machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from envdoctor_probes.bench import vit
from envdoctor_probes.bench.place import Cpu, Cuda, Place
from envdoctor_probes.bench.products import Product
from envdoctor_probes.bench.recipes import VITS, Recipe, find
from envdoctor_probes.bench.stopping import Rule, quartiles
from envdoctor_probes.bench.stopwatch import take
from envdoctor_probes.bench.training import Settings, Step
from envdoctor_probes.bench.wanted import Deadline
from pairs import interval

if TYPE_CHECKING:
    from collections.abc import Callable

    Side = Callable[[], float]

STEPS = {"cpu": 2, "cuda": 20}  # of one turn
FEW_BLOCKS = 1
TURN = 0.04  # seconds of one turn of products
FEWEST, MOST = 15, 400  # rounds
STEP_SHARE = 0.6  # of the time: a step is longer and scatters more than a product


def place_here() -> Place:
    """Give the GPU, or the CPU."""
    import torch

    if torch.cuda.is_available():
        return Cuda(torch, torch.device("cuda", 0), torch.cuda.mem_get_info()[0])
    return Cpu(torch, torch.device("cpu"), 1 << 36)


def ours(place: Place, operation: Callable[[], Any], rule: Rule, **how: Any) -> float:
    """Give the median seconds that our stopwatch reads."""
    return quartiles(take(place, operation, rule, Deadline(60.0), **how).seconds)[1]


def model_of(place: Place, name: str, blocks: int) -> Recipe:
    """Give the model, a ViT with fewer blocks where that is wanted: short steps make many rounds, and hide nothing."""
    recipe = find(place.torch, name, on_gpu=place.is_cuda)
    if not blocks or name not in VITS:
        return recipe
    width, _, heads = VITS[name]
    return replace(recipe, make=lambda: vit.vit(place.torch, width=width, depth=blocks, heads=heads))


def by_hand(place: Place, recipe: Recipe, batch: int) -> Side:
    """Write the training loop that anybody would: forward, loss, backward, update; a clock around each step."""
    torch = place.torch
    torch.manual_seed(20260101)
    net = recipe.make().to(place.device).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    batches = [recipe.feed(batch) for _ in range(2)]
    batches = [((images.to(place.device),), classes.to(place.device)) for (images,), classes in batches]

    def step(number: int) -> float:
        place.synchronize()
        began = time.perf_counter()
        (images,), classes = batches[number % 2]
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(net(images), classes)
        loss.backward()
        optimizer.step()
        place.synchronize()
        return time.perf_counter() - began

    def run() -> float:
        step(1)  # the other side's model is in the cache now; ours runs once before it is timed as well
        return statistics.median(step(number) for number in range(STEPS[place.kind]))

    return run


def harness(place: Place, recipe: Recipe, batch: int) -> Side:
    """Time the same step by our stopwatch, over as many samples."""
    step = Step(place, recipe, batch, Settings())
    rule = Rule(least=STEPS[place.kind], seconds=0.0, spread=None)
    return lambda: ours(place, step, rule, unbroken=True, flush=False, warmed=True)


def product(place: Place, size: int) -> tuple[Side, dict[str, Side]]:
    """Time one matrix product by ours and by the tools that everybody uses."""
    from torch.utils.benchmark import Timer

    work = Product(place, (size, size, size), "fp32").work()
    rule = Rule(least=5, seconds=TURN, spread=None)
    timer = Timer("run()", globals={"run": work.operation}, num_threads=place.torch.get_num_threads())
    others: dict[str, Side] = {"torch.utils.benchmark": lambda: timer.blocked_autorange(min_run_time=TURN).median}
    if place.is_cuda:
        from triton.testing import do_bench

        others["triton.testing.do_bench"] = lambda: do_bench(work.operation, return_mode="median") / 1e3
    return lambda: ours(place, work.operation, rule, warmed=True), others


def rounds_of(one: Side, other: Side, seconds: float) -> list[float]:
    """Alternate the two for so long, and give each round's ratio."""
    one(), other()
    end = time.monotonic() + seconds
    ratios: list[float] = []
    while len(ratios) < FEWEST or (time.monotonic() < end and len(ratios) < MOST):
        sides = (one, other) if len(ratios) % 2 else (other, one)
        first, second, third, fourth = (run() for run in (*sides, *sides[::-1]))
        outer, inner = first + fourth, second + third
        ratios.append(inner / outer if sides[0] is one else outer / inner)
    return ratios


def compare(name: str, one: Side, other: Side, seconds: float) -> str:
    """Write the line of the table."""
    ratios = rounds_of(one, other, seconds)
    low, high = interval(ratios)
    reaches = "yes" if high >= 0.99 else "NO"
    middle = statistics.median(ratios)
    return f"| {name} | {middle:.3f} [{low:.3f}, {high:.3f}] | {high - low:.3f} | {reaches} | {len(ratios)} |"


def load() -> str:
    """Say how busy the machine is."""
    return f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"


def main() -> None:
    """Measure, and print the table that README.md keeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=150.0, help="for all of it; warming up comes on top")
    parser.add_argument("--model", default="vit_ti16")
    parser.add_argument("--blocks", type=int, default=FEW_BLOCKS, help="of a ViT; 0 and on a GPU: all that it has")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=0, help="of the square product")
    parser.add_argument("--threads", type=int, default=1, help="that a CPU computes with")
    given = parser.parse_args()
    place = place_here()
    if not place.is_cuda:
        place.torch.set_num_threads(given.threads)
    here = place.torch.cuda.get_device_name() if place.is_cuda else f"threads: {given.threads}, {load()}"
    print(f"{time.strftime('%Y-%m-%d')}, {here}, {platform.platform()}, torch {place.torch.__version__}\n")
    print("| ours / theirs | rate, median [95 %] | width | reaches 0.99 | rounds |\n| --- | --- | --- | --- | --- |")
    blocks = 0 if place.is_cuda and given.blocks == FEW_BLOCKS else given.blocks
    recipe = model_of(place, given.model, blocks)
    step, loop = harness(place, recipe, given.batch), by_hand(place, recipe, given.batch)
    of = f", {blocks} of its blocks," if blocks else ""
    name = f"{given.model}{of} step, batch {given.batch} / loop by hand"
    print(compare(name, step, loop, STEP_SHARE * given.seconds), flush=True)
    size = given.size or (8192 if place.is_cuda else 512)
    mine, others = product(place, size)
    each = (1 - STEP_SHARE) * given.seconds / len(others)
    for tool, other in others.items():
        print(compare(f"fp32 product of {size} / {tool}", mine, other, each), flush=True)
    if not place.is_cuda:
        print(f"\nAt the end: {load()}")


if __name__ == "__main__":
    main()
