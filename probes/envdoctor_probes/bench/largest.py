"""[payload] The largest batch that fits, by really running out of memory: with and without checkpointing."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING, Dict, Iterator, Optional

from envdoctor.facts.bench import LargestBatch
from envdoctor_probes.bench.host_memory import available_bytes
from envdoctor_probes.bench.nested import tensors
from envdoctor_probes.bench.suite import NO_TIME, NotApplicable, Suite, is_out_of_memory, words
from envdoctor_probes.bench.training import Settings, Step

if TYPE_CHECKING:
    from envdoctor_probes.bench.recipes import Recipe

__all__ = ["largest_batches"]

MIB = 1 << 20
_MOST = 1 << 14
_IN_HOST = 3  # batches there at a time: the two of a step, and one that is being made
_FINE = 8  # the search ends when a step of an eighth of the batch does not fit any more


def largest_batches(
    suite: Suite, recipe: Recipe, batch: int, settings: Dict[str, Settings], best: str
) -> Iterator[LargestBatch]:
    """Search for the fastest eager row's settings, then for the same with checkpointing."""
    for step, change in ((best, {}), ("checkpointing", {"checkpointing": True})):
        chosen = replace(settings[best], **change)  # type: ignore[arg-type]
        if not suite.place.is_cuda:
            why = "a CPU runs out of memory by having programs killed: that is not tried out"
            yield LargestBatch(step, state="not-applicable", reason=why)
        elif recipe.fixed_batch is not None:
            yield LargestBatch(step, state="not-applicable", reason="the model brings its own batch")
        else:
            with suite.context.calling(f"ladder: the largest batch, {step}"):
                yield Search(suite, recipe, chosen).result(step, batch)


class NoRoom(Exception):  # noqa: N818 - an answer, not an error
    """The host has no memory for a batch; the words say how much it takes."""


class Search:
    """Doubles the batch until memory runs out, then halves the gap."""

    def __init__(self, suite: Suite, recipe: Recipe, settings: Settings) -> None:
        # Pinned memory would stay with torch after each batch; the device holds the same either way.
        self._suite, self._recipe, self._settings = suite, recipe, replace(settings, inputs="pageable")
        self._fits: Optional[int] = None
        self._fails: Optional[int] = None
        self._peak: Optional[float] = None
        self._stopped = ""

    def result(self, step: str, batch: int) -> LargestBatch:
        """Search, beginning at a batch that is known to fit."""
        state = "measured"
        try:
            self._search(batch)
        except NotApplicable as why:
            state, self._stopped = "not-applicable", str(why)
        except Exception as error:
            state, self._stopped = "failed", words(error)
        if state == "measured" and self._fits is None:
            state = "skipped" if self._stopped else "failed"
        limit = self._suite.place.allowed_bytes / MIB
        return LargestBatch(step, self._fits, self._fails, self._peak, limit, state, self._stopped)

    def _search(self, batch: int) -> None:
        while batch <= _MOST and self._has_time():
            if not self._try(batch):
                break
            batch *= 2
        while self._fits and self._fails and self._fails - self._fits > max(1, self._fits // _FINE):
            if not self._has_time():
                return
            self._try((self._fits + self._fails) // 2)

    def _has_time(self) -> bool:
        if self._suite.deadline.left <= 0:
            self._stopped = NO_TIME
        return not self._stopped

    def _try(self, batch: int) -> bool:
        """Take two steps: the second has the optimizer's state beside all else."""
        place = self._suite.place
        gc.collect()
        place.release()
        try:
            self._steps(batch)
        except NoRoom as why:
            self._stopped = str(why)
            return False
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._fails = batch
            return False
        finally:
            gc.collect()
        self._fits, self._peak = batch, place.peak_mib()
        return True

    def _keep_to_the_host(self, batch: int) -> None:
        """Raise ``NoRoom`` for a batch that the host cannot hold: its programs would be killed for it."""
        suite = self._suite
        sample = sum(each.numel() * each.element_size() for each in tensors(suite.place.torch, self._recipe.feed(1)))
        needs, free = _IN_HOST * batch * sample, available_bytes(suite.context) * suite.wanted.memory_fraction
        if needs > free:
            said = f"{needs / MIB:,.0f} MiB of the host's memory, and {free / MIB:,.0f} MiB may be used"
            raise NoRoom(f"a batch of {batch} was not tried: it needs {said}")

    def _steps(self, batch: int) -> None:
        self._keep_to_the_host(batch)
        step = Step(self._suite.place, self._recipe, batch, self._settings)
        with step.settings_on():
            for _ in range(2):
                step()
            self._suite.place.synchronize()
