"""Four devices, healthy: A100, H100, RTX 3080 and a CPU. CONSTRUCTED from published rates, as ``making`` says.

The training steps of A100 and H100 are extrapolations that nobody measured (44 % of the bf16 peak, which NeMo reaches
with a larger ViT); no test takes them for a reference. The CPU's rates are of the order of a desktop's.
"""

from __future__ import annotations

from envdoctor.bench.run import Run
from envdoctor.facts.bench import (
    AttentionChoice,
    BenchAttention,
    BenchCollectives,
    BenchCopies,
    BenchDevice,
    BenchGemm,
    BenchLadder,
    BenchLoader,
    BenchMemory,
    BenchModel,
    Fingerprint,
    LadderRow,
    Measured,
)
from envdoctor.facts.nvml import GpuFabric, NvLink
from tests.bench_machines.making import clocks, gpu, measured, product

PARAMETERS, FORWARD, TRAIN = 86_567_656, 35_127_656_448, 105_151_758_336
BLOCK_FORWARD, BLOCK_TRAIN = 2_907_909_120, 8_723_727_360
BATCH = 256
GIB = float(1 << 30)


def gemm(rates: dict[str, float], at: int = 0) -> BenchGemm:
    """Make products (MxKxN): the best at 8192, somewhat less at other squares and at the ViT's own shape."""
    shapes = (("8192x8192x8192", 1.0), ("4096x4096x4096", 0.97), ("16384x16384x16384", 0.98), ("50432x768x3072", 0.82))
    made = [
        product(precision, rate * share, at + place, shape)
        for place, (precision, rate) in enumerate(rates.items())
        for shape, share in shapes
    ]
    prints = (Fingerprint("default", 2.5e-7, "ieee", 1024), Fingerprint("tf32", 2.9e-4, "tf32", 1024))
    return BenchGemm(measured=tuple(made), fingerprints=prints, preheat_seconds=5.0)


def memory(copy: float, triad: float, cache_mib: int, at: int = 10) -> BenchMemory:
    """Make copy and triad over 1 GiB."""
    made = (
        measured("memory", "copy", copy, 2 * GIB, "byte", at=at, correct=True),
        measured("memory", "triad", triad, 3 * GIB, "byte", at=at, correct=True),
    )
    return BenchMemory(measured=made, buffer_bytes=1 << 30, cache_bytes=cache_mib << 20)


def copies(h2d: float, d2h: float, pageable: float, at: int = 11) -> BenchCopies:
    """Make copies of 512 MiB from one NUMA node."""
    node = {"numa_node": "0"}
    rates = (("h2d-pinned", h2d), ("d2h-pinned", d2h), ("h2d-pageable", pageable), ("d2h-pageable", pageable * 0.9))
    made = tuple(measured("copies", name, r, GIB / 2, "byte", at=at, config=node, correct=True) for name, r in rates)
    return BenchCopies(measured=made, numa_nodes=(0,), gpu_numa_node=0)


def attention(unit: float, at: int = 12, *, picked: str = "flash") -> BenchAttention:
    """Make backends on a ViT's input: flash as fast as ``unit`` TFLOPS, the others slower."""
    config = {"shape": f"{BATCH}x12x197x64"}
    work = 4.0 * BATCH * 12 * 197 * 197 * 64
    shares = {"flash": 1.0, "cudnn": 0.98, "efficient": 0.8, "math": 0.22}
    made = tuple(
        measured("attention", f"sdpa-{name}-forward", unit * share, work, "flop", "bf16", at=at, correct=True,
                 config={**config, "backend": name})
        for name, share in shares.items()
    )  # fmt: skip
    choice = AttentionChoice(config, "bf16", picked, tuple(shares))
    return BenchAttention(measured=made, choices=(choice,))


def step(
    precision: str, images: float, at: int, name: str = "train-step", suite: str = "model", **more: object
) -> Measured:
    """Make a training step of a batch; the host launches it in a tenth of the time."""
    found = measured(suite, name, images, BATCH, "image", precision, at=at, config={"batch": str(BATCH)}, **more)
    dispatch = tuple(each * 0.1 for each in found.seconds)
    from dataclasses import replace

    return replace(found, dispatch_seconds=dispatch, wall_seconds=found.seconds, peak_memory_mib=30_000.0)


def model(images: float, at: int = 13, precision: str = "amp-bf16") -> BenchModel:
    """Make block, model and step: each part somewhat faster than the whole."""
    config = {"batch": str(BATCH)}
    tflops, work = images * TRAIN * 1.15e-12, BATCH * float(BLOCK_TRAIN)
    block = measured("model", "vit-block-train", tflops, work, "flop", precision, at=at, config=config)
    whole = measured("model", "forward-backward", images * 1.06, BATCH, "image", precision, at=at, config=config)
    made = (block, whole)
    return BenchModel(
        model="vit_b16", origin="own", batch=BATCH, tokens=197, parameters=PARAMETERS, flops_forward=FORWARD,
        flops_train=TRAIN, flops_source="formula", block_flops_forward=BLOCK_FORWARD, block_flops_train=BLOCK_TRAIN,
        measured=(*made, step(precision, images, at)),
    )  # fmt: skip


def ladder(rates: dict[str, float], at: int = 14) -> BenchLadder:
    """Make a ladder: the rows of the climb in order, and beside them what math attention loses."""
    names = list(rates)
    rows = [
        LadderRow(name, name, names[n - 1] if n else "", measured=step(_precision(name), rate, at + n, name, "ladder"))
        for n, (name, rate) in enumerate(rates.items())
    ]
    lost = step("amp-bf16", rates[names[-1]] * 0.7, at, "math attention", "ladder")
    rows.append(LadderRow("math attention", "without fused attention", names[-1], beside=True, measured=lost))
    return BenchLadder(model="vit_b16", batch=BATCH, rows=tuple(rows))


def _precision(name: str) -> str:
    return {"fp32": "fp32", "tf32": "tf32"}.get(name, "amp-bf16")


def loader(images: float, cpus: int = 64, read: float = 9000.0) -> BenchLoader:
    """Make a sweep of workers that ends at ``images`` a second."""
    sweep = ((1, 0.03), (8, 0.25), (32, 0.9), (64, 1.0))
    made = tuple(
        measured("loader", "loader", images * share, 256, "image", config={"workers": str(n), "decoder": "pil"})
        for n, share in sweep
    )
    parts = tuple(measured("loader", name, rate, 32, "image") for name, rate in (("read", read), ("decode", 280.0)))
    return BenchLoader(
        measured=(*parts, *made), made_here=True, images=2000, mean_bytes=110_000.0, cpus=cpus, shm_bytes=64 << 30
    )


def all_reduce(busbw: float, ranks: int = 8, **more: object) -> BenchCollectives:
    """Make an all-reduce of 1 GiB on one host over NVLink."""
    size = 1 << 30
    seconds = size * 2 * (ranks - 1) / ranks / (busbw * 1e9)
    config = {"op": "all-reduce", "bytes": str(size), "ranks": str(ranks)}
    made = measured("collectives", "all-reduce", size / seconds / 1e9, size, "byte", config=config)
    given = {"backend": "nccl", "ranks": ranks, "ranks_here": ranks, "transports": ("P2P/CUMEM",),
             "algorithms": ("Ring",), "gradient_bytes": 4 * PARAMETERS, "measured": (made,)}  # fmt: skip
    return BenchCollectives(**(given | more))  # type: ignore[arg-type]


def nvlinks(active: int = 12, of: int = 12, gpus: int = 8) -> GpuFabric:
    """Make so many GPUs with so many links up."""
    links = tuple(NvLink(n, active=n < active) for n in range(of))
    return GpuFabric(nvlinks=(links,) * gpus)


def a100() -> Run:
    """Make an A100-SXM4-80GB."""
    rates = {"fp32": 19.18, "tf32": 127.4, "fp16": 258.7, "bf16": 264.5, "fp64": 18.95, "int8": 466.6}
    climb = {"fp32": 110.0, "tf32": 640.0, "amp-bf16": 1080.0, "fused optimizer": 1120.0, "compile": 1300.0}
    return Run(
        gpu("NVIDIA A100-SXM4-80GB", "8.0", 108, 81152, memory_bus_bits=5120, memory_clock_khz=1_593_000),
        clocks(), gemm(rates), memory(1476.0, 1500.0, 40), copies(25.9, 25.95, 7.2), attention(90.0), model(1120.0),
        ladder(climb), loader(9000.0), all_reduce(235.0), fabric=nvlinks(),
    )  # fmt: skip


def h100() -> Run:
    """Make an H100 SXM."""
    rates = {"fp32": 51.9, "tf32": 402.0, "fp16": 759.0, "bf16": 794.5, "fp8": 1402.6}
    climb = {"fp32": 300.0, "tf32": 1500.0, "amp-bf16": 2600.0, "fused optimizer": 2700.0, "compile": 3900.0}
    name = "NVIDIA H100 80GB HBM3"
    return Run(
        gpu(name, "9.0", 132, 81008, memory_bus_bits=5120, memory_clock_khz=2_619_000),
        clocks(mhz=1755, most=1980, watts=690.0, limit=700.0, default=700.0, generation=5, name=name), gemm(rates),
        memory(2714.0, 2540.0, 50), copies(54.8, 53.0, 9.0), attention(300.0), model(2700.0), ladder(climb),
        loader(12000.0),
    )  # fmt: skip


def rtx3080() -> Run:
    """Make a GeForce RTX 3080 of the crowd-sourced row that is no outlier."""
    rates = {"fp32": 21.07, "tf32": 32.03, "fp16": 64.10, "bf16": 64.68}
    name = "NVIDIA GeForce RTX 3080"
    return Run(
        gpu(name, "8.6", 68, 9990, memory_bus_bits=320, memory_clock_khz=9_501_000),
        clocks(mhz=1860, most=2100, watts=315.0, limit=320.0, default=320.0, name=name), gemm(rates),
        memory(680.0, 690.0, 5), copies(25.0, 25.5, 8.0), attention(25.0), model(330.0),
        ladder({"fp32": 130.0, "tf32": 180.0, "amp-bf16": 320.0, "fused optimizer": 330.0}),
    )  # fmt: skip


def cpu() -> Run:
    """Make a CPU: five samples of each, and a spread that no gate asks for."""
    from dataclasses import replace

    device = BenchDevice(
        kind="cpu", cpu_model="a CPU", cpus=2, threads=2, load_average=0.2, torch_version="2.13.0+cpu",
        memory_free_mib=6000, fp32_precision="ieee",
    )  # fmt: skip
    made = tuple(
        product(name, rate, 0, "1024x1024x1024", n=5, scatter=0.05) for name, rate in (("fp32", 0.12), ("bf16", 0.05))
    )
    rows = tuple(
        LadderRow(name, name, before, measured=replace(step("fp32", rate, 0, name, "ladder", n=5, scatter=0.04)))
        for name, before, rate in (("fp32", "", 1.0), ("amp-bf16", "fp32", 0.8), ("compile", "amp-bf16", 1.3))
    )
    return Run(device, gemm=BenchGemm(measured=made), memory=memory(12.0, 13.0, 30),
               ladder=BenchLadder(model="vit_b16", batch=1, rows=rows))  # fmt: skip


def facts_of(run: Run) -> tuple[object, ...]:
    """Give the facts of a run, as a snapshot would hold them."""
    names = ("device", "clocks", "gemm", "memory", "copies", "attention", "model", "ladder", "loader", "collectives",
             "host", "fabric")  # fmt: skip
    return tuple(each for name in names if (each := getattr(run, name)) is not None)
