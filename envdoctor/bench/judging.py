"""Each kind of measurement against what is known of it: which bounds hold, which reference, and why there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from envdoctor.bench import causes, limits
from envdoctor.bench.judgement import MEASURED, Judgement, judged
from envdoctor.bench.rates import Rate
from envdoctor.bench.verdict import Expected, Judged, Verdict, judge
from envdoctor.knowledge import references

if TYPE_CHECKING:
    from envdoctor.bench.collectives import Collective
    from envdoctor.bench.machine import Machine
    from envdoctor.facts.bench import BenchAttention, BenchCollectives, BenchCopies, BenchGemm, BenchMemory, Measured
    from envdoctor.facts.nvml import GpuFabric

ENOUGH_SHAPES = 3
PEER = "device"  # a key of ``Measured.config``: this product was measured on the GPU of that name
LARGE = 4096
CACHES_TO_BEAT = 4
COPY_WORDS, TRIAD_WORDS = r"copy|device-to-device", r"-t 1005|triad"
PINNED, PAGEABLE = "pinned", "pageable"


def _from_rows(machine: Machine, kind: str, precision: str = "", *, words: str = "") -> Expected | None:
    """Give what is published of this GPU, with a vendor's floor beside it."""
    if machine.spec is None:
        return None
    found = references.typical(machine.spec.gpu, kind, precision, words=words)
    floor = references.floor(machine.spec.gpu, kind)
    if found is None:
        return None
    of = f"median of {found.count} published runs; nearest: " if found.count > 1 else ""
    return Expected(found.value, f"{of}{found.source}", found.conditions, floor.value if floor else None, found.unit)


# Matrix products


def products(machine: Machine, gemm: BenchGemm) -> tuple[Judgement, ...]:
    """Judge every shape. References are for the best of a set, so a single shape has none; physics still holds."""
    without = "one shape; references are for the best of a set"
    return tuple(
        _on_peer(machine, each) if PEER in each.config else
        judged(machine, each, limit=machine.product_limit(each), without=without)
        for each in gemm.measured
    )  # fmt: skip


def _on_peer(machine: Machine, measured: Measured) -> Judgement:
    """Judge a product on another GPU by the data sheet alone: the clocks that we look at are not that GPU's."""
    bare = replace(machine, track=None)
    return judged(bare, measured, limit=bare.product_limit(measured), without="GPUs are compared with each other")


def best_products(machine: Machine, gemm: BenchGemm) -> tuple[Judgement, ...]:
    """Give, for each precision, the fastest shape that can be believed, against its reference."""
    found = [each for each in products(machine, gemm) if PEER not in each.config]
    believed = [each for each in found if each.value and each.verdict is not Verdict.IMPOSSIBLE]
    names = dict.fromkeys(each.measured.precision for each in believed)
    return tuple(_best(machine, [each for each in believed if each.measured.precision == name]) for name in names)


def _best(machine: Machine, found: list[Judgement]) -> Judgement:
    fastest = max(found, key=lambda each: each.value or 0.0)
    measured = fastest.measured
    expected = _from_rows(machine, "gemm", measured.precision)
    again = judged(machine, measured, limit=fastest.limit, expected=expected)
    said = again.judged
    if said.verdict is Verdict.LOW and sum(map(_is_large, found)) < ENOUGH_SHAPES and causes.of(again) is None:
        tried = f"only {len(found)} shape{'s' if len(found) > 1 else ''} tried, and the best one differs per card"
        said = Judged(Verdict.AMBIGUOUS, f"{said.reason}, but {tried}")
    config = {**again.config, "best_of": str(len(found))}
    return Judgement("gemm-best", measured, again.rate, said, again.limit, expected, again.window, config)


def _is_large(each: Judgement) -> bool:
    sides = [int(part) for part in _shape(each.measured).split("x") if part.isdigit()]
    return bool(sides) and min(sides) >= LARGE


def _shape(measured: Measured) -> str:
    return measured.config.get("shape") or "x".join(measured.config.get(name, "") for name in ("m", "n", "k"))


# Memory


def memory(machine: Machine, found: BenchMemory) -> tuple[Judgement, ...]:
    """Judge copy and triad on the device."""
    untrue = _in_cache(found)
    return tuple(
        judged(
            machine,
            each,
            limit=machine.memory_limit(),
            expected=_from_rows(machine, "mem_bw", words=TRIAD_WORDS if "triad" in each.name else COPY_WORDS),
            untrue=untrue,
        )
        for each in found.measured
    )


def _in_cache(found: BenchMemory) -> str:
    buffer, cache = found.buffer_bytes, found.cache_bytes
    if not buffer or not cache or buffer >= CACHES_TO_BEAT * cache:
        return ""
    mib = 1 << 20
    return (
        f"the buffer of {buffer / mib:.0f} MiB is partly in the cache of {cache / mib:.0f} MiB: the cache was measured"
    )


# Copies between host and device


def copies(machine: Machine, found: BenchCopies) -> tuple[Judgement, ...]:
    """Judge each copy against the link as it was while copying: idle links train down."""
    return tuple(_copy(machine, each) for each in found.measured)


def _copy(machine: Machine, measured: Measured) -> Judgement:
    if machine.is_chip_to_chip:
        expected = _from_rows(machine, "d2h_bw" if is_to_host(measured) else "h2d_bw", words="C2C")
        return judged(machine, measured, expected=expected, without="host memory is reached over NVLink-C2C")
    generation, width, how = link_of(machine, measured)
    limit = limits.of_link(generation, width)
    if PAGEABLE in measured.name:
        return judged(machine, measured, limit=limit, without="pageable memory: it depends on the host's CPU")
    reach = references.over_pcie(generation, width) if generation and width else None
    if reach is None:
        return judged(machine, measured, limit=limit, without="the PCIe link is not known")
    expected = Expected(reach, references.PCIE_SOURCE, f"PCIe Gen{generation} x{width}, {how}", unit="GB/s")
    return judged(machine, measured, limit=limit, expected=expected)


def is_to_host(measured: Measured) -> bool:
    """Tell whether a copy goes from the device to the host."""
    return "d2h" in measured.name


def link_of(machine: Machine, measured: Measured) -> tuple[int | None, int | None, str]:
    """Give generation and width of the PCIe link, and how they are known: read while copying, or the data sheet's."""
    window = machine.window(measured)
    if window.pcie_generation and window.pcie_width:
        return window.pcie_generation, window.pcie_width, "read while copying"
    if machine.spec and machine.spec.pcie_generation and machine.spec.pcie_lanes:
        return machine.spec.pcie_generation, machine.spec.pcie_lanes, "of the data sheet, not read while copying"
    return None, None, ""


# Attention and collectives


def attention(machine: Machine, found: BenchAttention) -> tuple[Judgement, ...]:
    """Judge each backend by physics alone; backends are compared with each other by the rules."""
    without = "backends are compared with each other, not with a reference"
    return tuple(judged(machine, each, limit=_of_attention(machine, each), without=without) for each in found.measured)


def _of_attention(machine: Machine, measured: Measured) -> limits.Limit:
    """Give the bounds; from Ampere on the memory-efficient kernel computes fp32 on Tensor Cores, in parts of TF32."""
    plain = _if_flops(machine, measured)
    if measured.precision != "fp32" or plain.most is None:
        return plain
    as_tf32 = _if_flops(machine, replace(measured, precision="tf32")).most
    return replace(plain, most=max(plain.most, as_tf32 or 0.0))


def _if_flops(machine: Machine, measured: Measured) -> limits.Limit:
    return machine.product_limit(measured) if measured.work_unit == "flop" else limits.Limit()


def collectives(machine: Machine, found: BenchCollectives, fabric: GpuFabric | None) -> tuple[Judgement, ...]:
    """Give each collective as bus bandwidth; a large all-reduce over NVLinks is held against what the links give."""
    from envdoctor.bench.collectives import collectives as all_of

    return tuple(_collective(machine, each, fabric, found) for each in all_of(found))


def _collective(machine: Machine, each: Collective, fabric: GpuFabric | None, found: BenchCollectives) -> Judgement:
    from envdoctor.bench.collectives import ALL_REDUCE, PLATEAU_BYTES, expected_over_links

    plain = judged(machine, each.measured)
    if each.busbw is None or plain.verdict is Verdict.IMPOSSIBLE:  # how fast a wrong sum is says nothing
        return plain
    rate = Rate("GB/s", each.busbw, each.bus_samples)
    links = expected_over_links(machine, fabric, each.ranks)
    expected = None
    if links and each.op == ALL_REDUCE and each.bytes >= PLATEAU_BYTES and found.ranks == found.ranks_here:
        how = f"ring over {links.links} active NVLinks of each GPU; NVLink SHARP gives more"
        expected = Expected(links.busbw, links.source, how, unit="GB/s")
    # Physics does not bound it from here: with NVLink SHARP more is counted than goes over the wire.
    said = judge(each.busbw, limits.Limit(most=float("inf")), expected, without="no expectation for this transport")
    return replace(plain, rate=rate, judged=said, expected=expected)


def peers(machine: Machine, found: BenchCollectives) -> tuple[Judgement, ...]:
    """Give each copy from GPU to GPU: whether it is right, and how fast; what carries it is not known well enough."""
    bare, without = replace(machine, track=None), "no expectation for a path between GPUs"  # our looks are at one GPU
    around = f"{without}, and this one goes through the host: there is no peer access"
    return tuple(
        judged(bare, each.measured, without=around if each.can_access is False else without) for each in found.peers
    )


def is_measured(measured: Measured) -> bool:
    """Tell whether there are samples."""
    return measured.state == MEASURED and bool(measured.seconds)
