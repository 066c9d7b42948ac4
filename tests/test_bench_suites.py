"""Each suite on the CPU with little time: what it measures is right, and what does not apply says so."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from envdoctor_probes.bench.attention import attention_flop
from envdoctor_probes.bench.gemm import plan as gemm_plan
from envdoctor_probes.bench.giving_up import given_up_after
from envdoctor_probes.bench.memory import parse_cache_size
from envdoctor_probes.bench.place import Cpu, choose
from envdoctor_probes.bench.precision import default_precision, fingerprint, fp32_computed_as, read_fp32, says
from envdoctor_probes.bench.products import PRECISIONS, Product, freivalds, why_not
from envdoctor_probes.bench.sdpa import choice, only
from envdoctor_probes.bench.suite import NotApplicable
from envdoctor_probes.bench.wanted import Wanted

from envdoctor.facts.bench import (
    BenchAttention,
    BenchCopies,
    BenchGemm,
    BenchHost,
    BenchLadder,
    BenchMemory,
    LadderRow,
    Measured,
)
from envdoctor.probe import NotThere
from tests.bench_stand import NEEDS_TORCH, context, no_limit, run, tiny, tiny_model

pytestmark = [*NEEDS_TORCH, pytest.mark.usefixtures("no_limit")]
__all__ = ["no_limit", "tiny_model"]
STATES = {"measured", "refused", "out-of-memory", "failed", "skipped", "not-applicable"}


def cpu(allowed: int = 4 << 30) -> Cpu:
    """Give the CPU as a place."""
    import torch

    return Cpu(torch, torch.device("cpu"), allowed)


def states(measured: tuple[Measured, ...]) -> dict[str, set[str]]:
    """Give the states of the measurements by name, each of them known and with a reason where it has no samples."""
    found: dict[str, set[str]] = {}
    for each in measured:
        assert each.state in STATES
        assert bool(each.seconds) != bool(each.reason)
        found.setdefault(each.name, set()).add(each.state)
    return found


# Products


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name not in {"tf32", "fp8"}])
def test_a_product_of_each_precision_is_right(precision: str) -> None:
    """Freivalds' check accepts what torch computes, in a shape that is no square."""
    work = Product(cpu(), (33, 64, 48), precision).work()
    assert work.check
    correct, error = work.check()
    assert (True, True, 2 * 33 * 64 * 48) == (correct, error is not None, work.amount)


def test_a_single_wrong_element_is_found() -> None:
    """One element of a million that is off shows in the error."""
    import torch

    first, second_t = torch.randn(1000, 50), torch.randn(1000, 50)
    product = first @ second_t.t()
    before = freivalds(torch, first, second_t, product)
    product[517, 3] += 100.0
    after = freivalds(torch, first, second_t, product)
    assert before is not None
    assert after is not None
    assert before < 1e-6 < 1e-3 < after


def test_the_error_that_is_found_is_the_products_own() -> None:
    """The relative rms error agrees with that of all elements."""
    import torch

    torch.manual_seed(3)
    first, second_t = torch.randn(256, 200), torch.randn(128, 200)
    exact = first.double() @ second_t.double().t()
    wrong = exact + 0.01 * exact.square().mean().sqrt() * torch.randn(256, 128)
    found = freivalds(torch, first.double(), second_t.double(), wrong)
    assert 0.01 == pytest.approx(found, rel=0.25)


def test_zeros_are_never_right() -> None:
    """A product of zeros proves nothing: there is no reference to agree with."""
    import torch

    nothing = torch.zeros(8, 8)
    assert None is freivalds(torch, nothing, nothing, nothing)


def test_what_a_cpu_does_not_multiply_is_said() -> None:
    """TF32 and fp8 are for GPUs, and the words name the capability."""
    assert ["tf32 is for GPUs from compute capability 8.0 on", "fp8 is for GPUs from compute capability 8.9 on"] == [
        why_not(cpu(), each) for each in ("tf32", "fp8")
    ]
    with pytest.raises(NotApplicable, match="tf32 is for GPUs"):
        Product(cpu(), (8, 8, 8), "tf32").work()


def test_a_precision_that_this_torch_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old torch has no fp8."""
    import torch

    monkeypatch.delattr(torch, "float8_e4m3fn")
    assert why_not(cpu(), "fp8").endswith("has no float8_e4m3fn")


def test_gemm_measures_each_precision_or_says_why_not() -> None:
    """Every precision is there once; the products are right; fp32 is what it says to be."""
    fact = run("gemm")
    assert isinstance(fact, BenchGemm)
    found = {each.precision: each for each in fact.measured}
    assert set(PRECISIONS) == set(found)
    assert {"not-applicable"} == {found[each].state for each in ("tf32", "fp8")}
    assert all(each.correct for each in fact.measured if each.seconds)
    assert found["fp32"].seconds
    assert [("default", "ieee"), ("ieee", "ieee")] == [(each.setting, each.says) for each in fact.fingerprints]
    assert set(states(fact.measured)) == {"gemm"}
    assert "a CPU is not heated" == fact.unknown["preheat_seconds"]


def test_without_time_every_product_is_skipped_and_there() -> None:
    """A suite that has no time still names everything, with the reason."""
    fact = run("gemm", seconds={"gemm": 0.0})
    assert {"skipped"} == set().union(*states(fact.measured).values())
    assert len(PRECISIONS) == len(fact.measured)


def test_the_products_of_a_vit_are_those_of_its_block() -> None:
    """qkv, projection and the two of the MLP at 197 tokens an image, and squares up to 16384 on a GPU."""
    place = cpu()
    place.kind = "cuda"
    planned = gemm_plan(place, Wanted(batch=2))
    rows = 2 * 197
    assert {(rows, 768, 2304), (rows, 768, 768), (rows, 768, 3072), (rows, 3072, 768)} == {
        shape for _, shapes in planned for shape in shapes if shape[0] == rows
    }
    assert {4096, 8192, 16384} == {shape[0] for _, shapes in planned for shape in shapes} - {rows}


# Precision


@pytest.mark.parametrize(("bits", "said"), [(24, "ieee"), (11, "tf32"), (8, "bf16"), (4, "unclear")])
def test_the_rounding_of_the_factors_is_told_by_the_error(bits: int, said: str) -> None:
    """fp32 keeps 24 bits of a factor, TF32 11, bf16 8: the error of the product shows which it was."""
    import torch

    torch.manual_seed(5)
    first, second = torch.randn(512, 512), torch.randn(512, 512)
    exact = first.double() @ second.double()
    rounded = _rounded(torch, first, bits).double() @ _rounded(torch, second, bits).double()
    error = float(((rounded.float().double() - exact).square().mean() / exact.square().mean()).sqrt())
    assert said == says(error)


def _rounded(torch: Any, matrix: Any, bits: int) -> Any:
    mantissa, exponent = torch.frexp(matrix)
    return torch.ldexp((mantissa * 2**bits).round() / 2**bits, exponent)


def test_the_fingerprint_of_this_cpu() -> None:
    """A CPU computes fp32 in fp32."""
    import torch

    found = fingerprint(torch, torch.device("cpu"))
    assert ("default", "ieee", 256) == (found.setting, found.says, found.size)
    assert found.rms_error is not None
    assert 1e-8 < found.rms_error < 1e-6
    assert "fp32" == default_precision(torch, torch.device("cpu"))


@pytest.mark.parametrize("setting", ["ieee", "tf32"])
def test_fp32_is_set_and_set_back(setting: str) -> None:
    """Within it is what was asked for, afterwards what it was."""
    import torch

    before = read_fp32(torch), torch.backends.cudnn.conv.fp32_precision
    with fp32_computed_as(torch, setting):
        assert setting == read_fp32(torch)
    assert before == (read_fp32(torch), torch.backends.cudnn.conv.fp32_precision)


@pytest.mark.parametrize(("setting", "legacy"), [("ieee", "highest"), ("tf32", "high")])
def test_fp32_is_set_so_that_torchs_compiler_can_read_it(setting: str, legacy: str) -> None:
    """From 2.9 to 2.13 it asks by the older names, and these raise where the newer ones alone were set."""
    import torch

    with fp32_computed_as(torch, setting):
        assert (legacy, setting == "tf32") == (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
    assert ("highest", True) == (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)


def test_fp32_is_set_by_the_newer_names_where_those_were_used() -> None:
    """A model's module may have done so; torch then refuses to tell by the older names."""
    import torch

    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    conv.fp32_precision = "ieee"
    try:
        with fp32_computed_as(torch, "tf32"):
            assert ("tf32", "tf32") == (read_fp32(torch), conv.fp32_precision)
        assert ("none", "ieee") == (read_fp32(torch), conv.fp32_precision)
    finally:
        conv.fp32_precision = before


def test_fp32_is_set_by_the_older_names_where_the_newer_are_not() -> None:
    """Before torch 2.9 there is allow_tf32 alone."""

    class Old:
        allow_tf32 = False

    class Backends:
        class cuda:  # noqa: N801
            matmul = Old()

        cudnn = Old()

    old = type("torch", (), {"backends": Backends})
    with fp32_computed_as(old, "tf32"):
        assert (True, True, "tf32") == (Backends.cuda.matmul.allow_tf32, Backends.cudnn.allow_tf32, read_fp32(old))
    assert (False, "ieee") == (Backends.cudnn.allow_tf32, read_fp32(old))


# Memory and copies


@pytest.mark.parametrize(
    ("text", "size"), [("32768K\n", 32 << 20), ("260M", 260 << 20), ("512", 512), ("", None), ("1 G", None)]
)
def test_sizes_of_caches_are_read(text: str, size: int | None) -> None:
    """As the kernel writes them; anything else is not known."""
    assert size == parse_cache_size(text)


def test_memory_is_copied_and_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy moves two bytes for each byte of a buffer, triad three; both are checked."""
    monkeypatch.setattr("envdoctor_probes.bench.memory.buffer_bytes", lambda *_: 1 << 20)
    fact = run("memory")
    assert isinstance(fact, BenchMemory)
    copy, triad = fact.measured
    assert (("copy", 2 << 20, True), ("triad", 3 << 20, True)) == (
        (copy.name, copy.work, copy.correct), (triad.name, triad.work, triad.correct),
    )  # fmt: skip


def test_buffers_are_eight_times_the_cache_as_far_as_memory_allows() -> None:
    """At least 64 MiB on a CPU and a GiB on a GPU, never more than a quarter of what may be used."""
    from envdoctor_probes.bench.memory import buffer_bytes

    assert [256 << 20, 64 << 20, 64 << 20] == [buffer_bytes(cpu(), each) for each in (32 << 20, 1 << 20, None)]
    assert 16 << 20 == buffer_bytes(cpu(allowed=64 << 20), 32 << 20)


def test_a_cpu_has_no_copies_from_a_host() -> None:
    """Each copy is there, and says that it does not apply."""
    fact = run("copies")
    assert isinstance(fact, BenchCopies)
    names = ["h2d-pinned", "d2h-pinned", "h2d-pageable", "d2h-pageable"]
    assert [(name, {"not-applicable"}) for name in names] == list(states(fact.measured).items())


# Attention


def test_attention_says_what_is_picked_and_why_not_the_rest() -> None:
    """On a CPU the fused kernel is picked, and the GPU's are refused with a word."""
    fact = run("attention", batch=1)
    assert isinstance(fact, BenchAttention)
    assert {("flash", ("flash", "math"), "it is for GPUs")} == {
        (each.picked, each.usable, each.refused["efficient"]) for each in fact.choices
    }
    found = states(fact.measured)
    assert {"not-applicable"} == found["sdpa-cudnn-forward"] == found["sdpa-efficient-backward"]
    first = fact.measured[0]
    assert ("sdpa-default-forward", attention_flop((1, 12, 197, 64)), True) == (first.name, first.work, first.correct)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(("most", "heads"), [(1 << 24, 4), (2 * 64 * 64, 2), (1, 1)])
def test_attention_is_checked_with_as_many_heads_as_there_is_memory_for(
    monkeypatch: pytest.MonkeyPatch, direction: str, most: int, heads: int
) -> None:
    """A long sequence's scores in fp64 would not fit on a small card, where the backend itself does."""
    from envdoctor_probes.bench.attention import Attention

    seen: list[tuple[int, ...]] = []

    class Watched(Attention):
        def _plain(self, query: Any, key: Any, value: Any) -> Any:
            seen.append(tuple(query.shape))
            return super()._plain(query, key, value)

    monkeypatch.setattr("envdoctor_probes.bench.attention._CHECKED", most)
    work = Watched(cpu(), (2, 4, 64, 8), "fp32", "default", direction).work()
    assert work.check is not None
    assert work.check()[0]
    assert [(1, heads, 64, 8)] == seen


def test_the_math_backend_is_picked_when_it_alone_is_allowed() -> None:
    """What is allowed decides what is picked."""
    import torch

    query = torch.randn(1, 2, 8, 4)
    with only(torch, "math"):
        assert "math" == choice(torch, query, {}, "fp32").picked


def test_a_torch_that_cannot_choose_says_so() -> None:
    """Before torch 2.0 nothing could be asked: the reason takes the place of the answer."""
    import types

    old = types.SimpleNamespace(
        __version__="1.13.1", nn=types.SimpleNamespace(), backends=types.SimpleNamespace(cuda=types.SimpleNamespace())
    )
    found = choice(old, types.SimpleNamespace(is_cuda=True), {}, "fp32")
    assert (None, "torch 1.13.1 has no torch._fused_sdp_choice") == (found.picked, found.reason)
    assert "torch 1.13.1 cannot be told to use flash attention alone" == found.refused["flash"]


# Ladder, host


@pytest.mark.usefixtures("tiny_model")
def test_a_ladder_changes_one_thing_a_row() -> None:
    """Each row names the row it stands on; at least four are measured; what a CPU lacks says so."""
    fact = run("ladder", batch=1)
    assert isinstance(fact, BenchLadder)
    rows = {each.step: each for each in fact.rows}
    assert len(rows) == len(fact.rows)
    assert ("default", "", "measured") == (fact.rows[0].step, rows["default"].previous, rows["default"].measured.state)
    assert all(each.previous in rows for each in fact.rows[1:])
    measured = [each.step for each in fact.rows if each.measured.state == "measured"]
    assert len(measured) >= 4
    assert {"not-applicable"} == {rows[each].measured.state for each in ("tf32", "amp-fp16", "pinned", "cuda-graph")}
    assert [each.step for each in fact.rows if each.beside] == [
        "math-attention", "attention-weights", "deterministic", "checkpointing",
    ]  # fmt: skip
    assert {("train-step", 1.0, "image")} == {
        (r.measured.name, r.measured.work, r.measured.work_unit) for r in fact.rows if r.measured.seconds
    }
    assert {"not-applicable"} == {each.state for each in fact.largest}


@pytest.mark.parametrize(("rows", "words"), [(4, "5 samples take about 70 s, and 60 s are left"), (3, None)])
def test_a_row_that_would_have_too_few_samples_is_left_out(rows: int, words: str | None) -> None:
    """Steps of ten seconds: once four rows are there, what could not be compared any more is said and not begun."""
    import torch
    from envdoctor_probes.bench.ladder import Ladder
    from envdoctor_probes.bench.rungs import BESIDE
    from envdoctor_probes.bench.training import Settings

    wanted = Wanted(seconds={"ladder": 60.4})
    ladder = Ladder(context(), Cpu(torch, torch.device("cpu"), 1 << 30), tiny(), wanted)
    done = Measured(seconds=(10.0,) * 5)
    ladder._rows = [LadderRow(step, measured=done) for step in ("default", "b", "c", "d")[:rows]]
    refused = ladder._refused(BESIDE[2], Settings(deterministic=True), "default")
    assert (("skipped", words) if words else None) == refused


@pytest.mark.usefixtures("tiny_model")
def test_compiling_is_not_begun_without_the_time_for_it() -> None:
    """The row says how much it would need."""
    fact = run("ladder", batch=1, seconds={"ladder": 0.0})
    (row,) = (each for each in fact.rows if each.step == "compile")
    assert ("skipped", "compiling may take 90 s, and 0 s are left: a longer run (--full) has them") == (
        row.measured.state, row.measured.reason,
    )  # fmt: skip


@pytest.mark.usefixtures("tiny_model")
def test_compiling_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row says after how long, also where a compiler catches every error; until then it is there as not ended."""
    import torch

    def forever(model: Any) -> Any:
        while True:
            with contextlib.suppress(Exception):
                time.sleep(0.05)

    monkeypatch.setattr("envdoctor_probes.bench.ladder._COLD_SECONDS", {"cpu": 0.0})
    monkeypatch.setattr("envdoctor_probes.bench.ladder.given_up_after", lambda _seconds: given_up_after(0.2))
    monkeypatch.setattr(torch, "compile", forever)
    heard: list[Any] = []
    fact = run("ladder", heard, batch=1)
    (row,) = (each for each in fact.rows if each.step == "compile")
    assert "skipped" == row.measured.state
    assert "compiling was given up after" in row.measured.reason
    assert "compiling did not come to an end" in str(heard)


@pytest.mark.usefixtures("tiny_model")
def test_compiling_tells_its_cold_start_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """What compiling takes is no sample of the step, and leaves no file behind."""
    import torch

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("envdoctor_probes.bench.ladder._COLD_SECONDS", {"cpu": 0.0})
    monkeypatch.setattr(torch, "compile", lambda model: model)
    fact = run("ladder", batch=1)
    (row,) = (each for each in fact.rows if each.step == "compile")
    assert "measured" == row.measured.state
    assert row.cold_start_seconds is not None
    assert row.cold_start_seconds > 0
    assert [] == list(tmp_path.iterdir())


def test_the_host_is_measured() -> None:
    """Launch, dispatch and allocation have samples; the allocator of a CPU is the C library's."""
    fact = run("host")
    assert isinstance(fact, BenchHost)
    assert {"measured"} == set().union(*states(fact.measured).values())
    assert "memory of a CPU comes from the C library" == fact.unknown["reserved_mib"]


# The device


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("cuda", "cuda cannot be measured: "),
        ("cuda:3", "cuda:3 cannot be measured: "),
        ("tpu", "device 'tpu' cannot be measured, expected cuda, cuda:N or cpu"),
    ],
)
def test_a_device_that_is_not_there_is_said(device: str, words: str) -> None:
    """The words name what was asked for."""
    import torch

    if torch.cuda.is_available() and device != "tpu":
        pytest.skip("a GPU is here")
    with pytest.raises(NotThere) as caught:
        choose(context(), Wanted(device=device))
    assert str(caught.value).startswith(words)


def test_the_device_is_described() -> None:
    """A CPU has its model, its threads and its load; what only a GPU has is unknown with the reason."""
    fact = run("device")
    assert ("cpu", True, True) == (fact.kind, bool(fact.threads), bool(fact.cpus))
    assert fact.unknown["exclusive"].startswith("it is a CPU")
