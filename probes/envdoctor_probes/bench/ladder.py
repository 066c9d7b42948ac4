"""[payload] bench-ladder: from a bare default to a tuned training step, one change a row.

A change stays when it made the step no slower; the next one is put onto the fastest so far, which the row names.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Dict, List, Optional, Tuple

from envdoctor.facts.bench import BenchLadder, LadderRow, LargestBatch, Measured
from envdoctor.probe import Context, probe
from envdoctor_probes.bench.counted import attends
from envdoctor_probes.bench.giving_up import TookTooLong, given_up_after
from envdoctor_probes.bench.largest import largest_batches
from envdoctor_probes.bench.model import step_work
from envdoctor_probes.bench.place import Place, choose
from envdoctor_probes.bench.precision import default_precision
from envdoctor_probes.bench.recipes import Recipe, find
from envdoctor_probes.bench.rungs import BESIDE, CLIMB, COLD, DEFAULT, Rung
from envdoctor_probes.bench.sizes import usual_batch
from envdoctor_probes.bench.stopping import FEWEST_SAMPLES, quartiles
from envdoctor_probes.bench.suite import GivenUp, Suite, Task, Work
from envdoctor_probes.bench.training import Settings, why_not
from envdoctor_probes.bench.wanted import Wanted

__all__ = ["bench_ladder"]

_NO_SLOWER = 1.02
_HALVINGS = 4
_LATE = 20.0  # compiling may take so much longer than there is time: what it brings is worth knowing
_NEVER = 1e6
_BEFORE = 2  # steps of a row before its first sample
_ENOUGH_ROWS = 4  # after these, a row of too few samples is left out
_COLD_SECONDS = {"cuda": 45.0, "cpu": 90.0}  # what compiling a ViT-B's step may take; nothing can cut it short


@probe(level="deep", child="torch", seconds=140.0)
def bench_ladder(context: Context) -> BenchLadder:
    """Climb: the default first, then what is cheap to try, then what is compiled, at last the largest batch."""
    import tempfile

    wanted = Wanted.of(context.options)
    place = choose(context, wanted)
    with context.calling(f"making {wanted.model}"):
        recipe = find(place.torch, wanted.model, on_gpu=place.is_cuda, batch=wanted.batch)
    # Compiling begins cold, and what it writes down is gone afterwards.
    with tempfile.TemporaryDirectory(prefix="envdoctor-compiled-") as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        os.environ["TRITON_CACHE_DIR"] = os.path.join(cache, "triton")
        ladder = Ladder(context, place, recipe, wanted)
        ladder.climb()
    fact: BenchLadder = ladder.suite.fact
    return fact


class Ladder:
    """The climb under way: its rows, and the fastest settings so far."""

    def __init__(self, context: Context, place: Place, recipe: Recipe, wanted: Wanted) -> None:
        self._place, self._recipe, self._wanted = place, recipe, wanted
        self._batch = usual_batch(place, recipe, wanted)
        self._plain = default_precision(place.torch, place.device)
        self._rows: List[LadderRow] = []
        self._largest: Tuple[LargestBatch, ...] = ()
        self._settings: Dict[str, Settings] = {}
        self._best = ""
        self._cold: Optional[float] = None
        self._left = 0
        self.suite = Suite("ladder", context, place, wanted, self._answer)

    def _answer(self, _suite: Suite) -> BenchLadder:
        return BenchLadder(
            model=self._recipe.name, batch=self._batch, rows=tuple(self._rows), largest=self._largest
        )  # fmt: skip

    def climb(self) -> None:
        """Measure every rung that this device and this model have."""
        climb = [each for each in CLIMB if self._applies(each)]
        # A CPU may take ten times as long for bf16: there it comes after what is cheap.
        late = [each for each in climb if "amp" in each.change and not self._place.is_cuda]
        climb = [each for each in climb if each not in late]
        self._left = 1 + len(climb) + len(BESIDE) + len(late) + len(COLD)
        self._start()
        for rung in climb:
            self._try(rung)
        eager = self._best
        for rung in BESIDE:
            self._row(rung, eager, beside=True)
        for rung in (*late, *COLD):
            self._try(rung)
        self._largest = tuple(largest_batches(self.suite, self._recipe, self._batch, self._settings, eager))
        self.suite.tell()

    def _applies(self, rung: Rung) -> bool:
        """Tell whether a rung belongs to this ladder at all: algorithms are searched for convolutions alone."""
        if rung.step == "fp32-ieee":  # pip's torch has it so already, NVIDIA's does not
            return self._plain == "tf32"
        if rung.step == "cudnn-benchmark":
            return self._place.is_cuda and self._recipe.layout and not self._recipe.ours
        return rung.step != "channels-last" or self._recipe.layout

    def _start(self) -> None:
        """Measure the default; where it does not fit, with half the batch, and then all rows have that."""
        inputs = "pageable" if self._place.is_cuda else "resident"
        self._settings[""] = Settings(inputs=inputs)
        for _ in range(_HALVINGS):
            found = self._row(DEFAULT, "")
            settled = self._wanted.batch is not None or self._recipe.fixed_batch is not None
            if found.state != "out-of-memory" or self._batch == 1 or settled:
                break
            self._batch //= 2
            self._left += 1
            self._rows.pop()
        self._best = DEFAULT.step

    def _try(self, rung: Rung) -> None:
        """Put a rung onto the fastest settings, or onto what the one lay on that it is to replace."""
        onto = self._best
        replaced = next((row for row in self._rows if row.step == rung.instead_of), None)
        if replaced is not None:
            onto = replaced.previous
        found = self._row(rung, onto)
        if self._faster(found, self._best):
            self._best = rung.step

    def _faster(self, found: Measured, than: str) -> bool:
        before = next((row.measured for row in self._rows if row.step == than), Measured())
        if not found.seconds or found.state != "measured":
            return False
        return not before.seconds or _median(found) <= _NO_SLOWER * _median(before)

    def _row(self, rung: Rung, onto: str, *, beside: bool = False) -> Measured:
        """Measure one rung within its share of what is left, and add its row."""
        settings = replace(self._settings[onto], **rung.change)
        self._settings[rung.step] = settings
        self._cold = None
        config = {"model": self._recipe.name, "batch": str(self._batch), "inputs": settings.inputs}
        task = Task(rung.step, lambda: self._work(settings), config, self._named(settings))
        refused = self._refused(rung, settings, onto)
        if settings.compile and not refused:  # whoever kills this process now must not take the row with it
            unended = self.suite.unmeasured(task, "skipped", "compiling did not come to an end")
            self._rows.append(LadderRow(rung.step, rung.changes, onto, beside, unended))
            self.suite.tell(f"{rung.step} begins")
            self._rows.pop()
        found = self.suite.unmeasured(task, *refused) if refused else self.suite.once(task, self._parts(onto))
        found = replace(found, name="train-step")
        self._left -= 1
        self._rows.append(LadderRow(rung.step, rung.changes, onto, beside, found, self._cold))
        self.suite.tell(f"{rung.step} {found.state}")
        return found

    def _needs(self, onto: str) -> float:
        """Estimate the seconds of a row: as many samples as can be compared, and the runs before them."""
        below = next((row.measured for row in self._rows if row.step == onto), Measured())
        return (FEWEST_SAMPLES + _BEFORE) * _median(below) if below.seconds else 0.0

    def _parts(self, onto: str) -> float:
        """Give among how many rows the time is parted: too few samples of all rows would tell nothing of any."""
        needs = self._needs(onto)
        return max(1.0, min(self._left, self.suite.deadline.left / needs)) if needs else min(self._left, _ENOUGH_ROWS)

    def _named(self, settings: Settings) -> str:
        untouched = not settings.amp and settings.fp32 == "default"
        return self._plain if untouched else settings.precision

    def _work(self, settings: Settings) -> Work:
        limit = self.suite.deadline.left + _LATE if settings.compile else _NEVER
        try:
            with given_up_after(limit):
                work = step_work(self._place, self._recipe, self._batch, settings, singles=True)
        except TookTooLong:
            why = f"compiling was given up after {limit:.0f} s: a longer run (--full) has more"
            raise GivenUp(why) from None
        self._cold = getattr(work.operation, "cold_start_seconds", None)
        return work

    def _refused(self, rung: Rung, settings: Settings, onto: str) -> Optional[Tuple[str, str]]:
        """Say what cannot be had here, and refuse to begin what would not come to an end."""
        why = why_not(self._place, self._recipe, settings)
        if not why and rung.step == "math-attention" and not attends(self._place.torch, self._recipe):
            why = f"{self._recipe.name} never calls scaled_dot_product_attention"
        if why:
            return "not-applicable", why
        needs, left = self._needs(onto), self.suite.deadline.left
        done = sum(bool(row.measured.seconds) for row in self._rows)
        if done >= _ENOUGH_ROWS and needs > left > 0:
            return "skipped", f"{FEWEST_SAMPLES} samples take about {needs:.0f} s, and {left:.0f} s are left"
        needs = _COLD_SECONDS[self._place.kind]
        if rung.step != "compile" or left >= needs:
            return None
        return "skipped", f"compiling may take {needs:.0f} s, and {left:.0f} s are left: a longer run (--full) has them"


def _median(found: Measured) -> float:
    return quartiles(found.seconds)[1]
