"""A suite gives every measurement a state, whatever happens, and answers with it at once."""

from __future__ import annotations

from typing import Any

import pytest
from envdoctor_probes.bench.place import Cpu, Cuda
from envdoctor_probes.bench.stopping import Rule
from envdoctor_probes.bench.suite import NotApplicable, Suite, Task, Work, is_out_of_memory, words
from envdoctor_probes.bench.wanted import Wanted

from envdoctor.facts.bench import BenchMemory, Measured
from tests.bench_stand import NEEDS_TORCH, PretendedCuda, Pretending, context, no_limit

pytestmark = NEEDS_TORCH
__all__ = ["no_limit"]
SOON = Rule(least=3, seconds=0.0, spread=None)


def suite(heard: list[Any] | None = None, *, place: Any = None, seconds: float = 30.0, **options: Any) -> Suite:
    """Make a suite on the CPU whose fact holds its measurements."""
    import torch

    place = place or Cpu(torch, torch.device("cpu"), 1 << 20)
    wanted = Wanted(seconds={"memory": seconds}, **options)
    return Suite("memory", context(heard), place, wanted, lambda self: BenchMemory(measured=tuple(self.measured)))


def task(work: Any, **how: Any) -> Task:
    """Make a task of work, or of an error that making it ready raises."""

    def prepare() -> Work:
        if isinstance(work, BaseException):
            raise work
        return work if isinstance(work, Work) else Work(work, 7.0, "byte")

    return Task("copy", prepare, {"buffer": "1 MiB"}, "fp32", rule=SOON, **how)


def raising(error: BaseException) -> Any:
    """Give an operation that raises."""

    def run() -> None:
        raise error

    return run


def test_a_measurement_says_what_it_is_and_keeps_every_sample() -> None:
    """Name, suite, conditions, work, clock, begin and end stand beside the raw samples."""
    found = suite().measure(task(lambda: sum(range(100_000))))
    assert ("copy", "memory", {"buffer": "1 MiB"}, "fp32", 7.0, "byte") == (
        found.name, found.suite, found.config, found.precision, found.work, found.work_unit,
    )  # fmt: skip
    assert ("measured", "wall", "fixed-count") == (found.state, found.clock, found.stopped_because)
    assert (True, True) == (len(found.seconds) >= 3, min(found.seconds) > 0)
    assert found.began < found.ended


def test_short_operations_are_repeated_and_divided() -> None:
    """A sample of many operations is given as the time of one of them."""
    called = []
    found = suite().measure(task(lambda: called.append(1)))
    assert found.repeats > 1
    assert max(found.seconds) < 1e-3


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (NotApplicable("no such kernel"), "not-applicable", "no such kernel"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out-of-memory", "RuntimeError: CUDA out"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out-of-memory", "RuntimeError: Default"),
        (MemoryError(), "out-of-memory", "MemoryError"),
        (ValueError("what"), "failed", "ValueError: what"),
        (SystemExit(3), "failed", "SystemExit: 3"),
    ],
)
@pytest.mark.parametrize("when", ["prepared", "run"])
def test_errors_are_states(error: BaseException, state: str, reason: str, when: str) -> None:
    """Whatever is raised, while making ready or while running, is a state with its words; the next is measured."""
    under_way = suite()
    found = under_way.measure(task(error if when == "prepared" else raising(error)))
    assert (state, True, ()) == (found.state, found.reason.startswith(reason), found.seconds)
    assert "measured" == under_way.measure(task(lambda: None)).state


def test_ctrl_c_is_no_state() -> None:
    """An interrupt ends the suite; what was measured has been answered with before."""
    heard: list[Any] = []
    under_way = suite(heard)
    under_way.measure(task(lambda: None))
    with pytest.raises(KeyboardInterrupt):
        under_way.measure(task(raising(KeyboardInterrupt())))
    partial = [each["fact"] for each in heard if each["event"] == "partial"]
    assert [["measured"]] == [[each.state for each in fact.measured] for fact in partial]


def test_every_measurement_is_answered_with_at_once() -> None:
    """The answer grows by one each time, with a note for whoever watches."""
    heard: list[Any] = []
    under_way = suite(heard)
    for each in (lambda: None, ValueError("x"), lambda: None):
        under_way.measure(task(each))
    partial = [each for each in heard if each["event"] == "partial"]
    assert [1, 2, 3] == [len(each["fact"].measured) for each in partial]
    assert "copy fp32 failed" == partial[1]["note"]


def test_the_call_under_way_is_named() -> None:
    """A crash is told with what was being measured."""
    heard: list[Any] = []
    suite(heard).measure(task(lambda: None))
    assert ["memory: copy fp32 1 MiB"] * 2 == [each["what"] for each in heard if each["event"] in ("enter", "leave")]


def test_what_needs_more_memory_than_allowed_is_refused() -> None:
    """It is not tried, and the words say how much it would take."""
    found = suite().measure(task(raising(AssertionError("tried")), needs_bytes=3 << 20))
    assert ("refused", "it needs about 3 MiB, and 1 MiB may be used") == (found.state, found.reason)


def test_what_there_is_no_time_for_is_skipped() -> None:
    """After the suite's time nothing is begun."""
    found = suite(seconds=0.0).measure(task(raising(AssertionError("tried"))))
    assert ("skipped", "the time for this suite was over") == (found.state, found.reason)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((True, 1e-7), (True, 1e-7)),
        ((False, 0.5), (False, 0.5)),
        ((True, float("nan")), (False, None)),
        ((True, None), (True, None)),
    ],
)
def test_results_are_checked_before_they_are_timed(answer: tuple[bool, float | None], expected: Any) -> None:
    """A wrong result is kept as wrong; an error that is no number is wrong, and is not carried on."""
    order: list[str] = []

    def check() -> tuple[bool, float | None]:
        order.append("checked")
        return answer

    found = suite().measure(task(Work(lambda: order.append("run"), 1.0, "byte", check)))
    assert expected == (found.correct, found.rms_error)
    assert ["checked", "run"] == order[:2]


def test_a_lost_gpu_is_said_and_nothing_more_is_tried() -> None:
    """After an error that the GPU does not recover from, the rest has failed for that reason, without a try."""
    import torch

    cuda = PretendedCuda()
    place = Cuda(Pretending(torch, cuda), torch.device("cpu"), 1 << 30)
    under_way = suite(place=place)

    def lose() -> None:
        cuda.lost = "CUDA error: unspecified launch failure"
        raise RuntimeError(cuda.lost)

    first, second = under_way.measure(task(lose)), under_way.measure(task(raising(AssertionError("tried"))))
    assert ("failed", "RuntimeError: CUDA error: unspecified launch failure") == (first.state, first.reason)
    assert "failed" == second.state
    assert second.reason.startswith("the GPU does not answer this process any more, since: RuntimeError: CUDA error")


def test_a_gpu_is_timed_by_its_events_and_singles_by_the_host() -> None:
    """The stream of operations gives the seconds; some are synchronised one by one for dispatch and wall."""
    import torch

    place = Cuda(Pretending(torch, PretendedCuda()), torch.device("cpu"), 1 << 30)
    work = Work(lambda: sum(range(50_000)), 1.0, "byte", flush=False, unbroken=True, singles=True)
    found = suite(place=place).measure(task(work))
    assert ("measured", "cuda-events") == (found.state, found.clock)
    assert len(found.dispatch_seconds) == len(found.wall_seconds) > 0
    assert all(a <= b for a, b in zip(found.dispatch_seconds, found.wall_seconds, strict=True))


def test_the_cache_of_a_gpu_is_emptied_before_each_operation() -> None:
    """The flush runs once a sample, and is not part of it."""
    import torch

    place = Cuda(Pretending(torch, PretendedCuda()), torch.device("cpu"), 1 << 12)
    order: list[str] = []
    place.flusher = lambda: lambda: order.append("flush")  # type: ignore[method-assign]
    suite(place=place).measure(task(Work(lambda: (order.append("run"), sum(range(200_000))), 1.0, "byte")))
    timed = order[order.index("flush") :]
    assert ["flush", "run"] * (len(timed) // 2) == timed


def test_words_of_an_error_that_has_none() -> None:
    """An error whose words cannot be had is named by its type."""

    class Mute(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise ValueError

    assert ("Mute: (its words cannot be had: ValueError)", "KeyError") == (words(Mute()), words(KeyError()))


def test_memory_that_ran_out_is_told_from_other_errors() -> None:
    """By the type that torch has for it, or by its words."""
    kind = type("OutOfMemoryError", (RuntimeError,), {})
    assert (True, False) == (is_out_of_memory(kind("x")), is_out_of_memory(RuntimeError("x")))


def test_the_default_of_a_measurement_is_that_it_was_measured() -> None:
    """A measurement read from an older file without a state counts as one."""
    assert ("measured", (), 1) == (Measured().state, Measured().seconds, Measured().repeats)


@pytest.mark.usefixtures("no_limit")
@pytest.mark.parametrize(("threads", "computes_with"), [(1, 1), (99, 2), (None, 2)])
def test_a_busy_cpu_computes_with_the_threads_that_it_is_given(threads: int | None, computes_with: int) -> None:
    """Never more than torch has by itself."""
    import torch
    from envdoctor_probes.bench.place import choose

    torch.set_num_threads(2)
    choose(context(), Wanted(device="cpu", threads=threads))
    assert computes_with == torch.get_num_threads()
