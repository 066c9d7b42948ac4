"""The rules about measurements: faults are put into healthy (constructed) benchmarks, one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from envdoctor.bench.run import Run
from envdoctor.diagnose import examine
from envdoctor.facts.bench import BenchGemm, BenchMemory, Fingerprint, Measured, OtherProcess, PeerCopy
from envdoctor.facts.host import Environment, Variable
from envdoctor.facts.libraries import Toolkit
from envdoctor.facts.nvml import GpuFabric, NvLink
from envdoctor.facts.surroundings import Fabric, InfinibandPort
from envdoctor.finding import Finding, Severity, Status
from envdoctor.rules import RULES
from envdoctor.snapshot import of
from tests.bench_machines import cards
from tests.bench_machines.making import clocks, gpu, measured, product

MEASURED = tuple(rule for rule in RULES if rule.group == "measured")
HEALTHY = {each.__name__: each for each in (cards.a100, cards.h100, cards.rtx3080, cards.cpu)}


def findings(run: Run, *more: Any) -> dict[str, Finding]:
    """Judge a benchmark by all the rules about measurements."""
    report = examine(of(*cards.facts_of(run), *more), MEASURED)  # type: ignore[arg-type]
    assert [] == [each.reason for each in report.checks if "the rule itself failed" in each.reason]
    return {each.id: each for each in report.findings}


def status(run: Run, rule_id: str, *more: Any) -> tuple[Status, str]:
    """Give what became of one rule, and the reason."""
    report = examine(of(*cards.facts_of(run), *more), MEASURED)  # type: ignore[arg-type]
    check = next(each for each in report.checks if each.id == rule_id)
    return check.status, check.reason


def slower(each: Measured, factor: float) -> Measured:
    """Make a measurement take longer."""
    return replace(each, seconds=tuple(s * factor for s in each.seconds))


def with_products(run: Run, change: Callable[[Measured], Measured]) -> Run:
    """Change every product of a benchmark."""
    assert run.gemm is not None
    return replace(run, gemm=replace(run.gemm, measured=tuple(map(change, run.gemm.measured))))


def outlier() -> Run:
    """Make the RTX 3080 whose crowd-sourced row is at half its peers: 15.6, 12.6, 53.4 and 24.9 TFLOPS."""
    rates = {"fp32": 15.56, "tf32": 12.63, "fp16": 53.41, "bf16": 24.94}
    return replace(cards.rtx3080(), gemm=cards.gemm(rates))


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_devices_raise_no_alarm(name: str) -> None:
    """What is as fast as published runs has no finding at all; the CPU has none either."""
    assert {} == findings(HEALTHY[name]())


def test_a_slow_card() -> None:
    """The recorded RTX 3080 at half its peers: named with its share, and heat and power excluded by its clock."""
    found = findings(outlier())
    assert {"gemm-below-reference"} == set(found)
    finding = found["gemm-below-reference"]
    assert finding.title == "bf16 matrix products reach 39% of what this GPU gives elsewhere"
    assert len([each for each in finding.evidence if "product" in each.label]) == 4
    hot = replace(
        outlier(), clocks=clocks(mhz=800, most=2100, celsius=92, reasons=0x40, name="NVIDIA GeForce RTX 3080")
    )
    assert "slowed down for heat at 92 °C: 800 of 2100 MHz" in findings(hot)["gemm-below-reference"].detail


def test_a_power_cap() -> None:
    """At 200 of 400 W the clock falls and products with it: the limit is named, and the way to give it back."""
    capped = clocks(mhz=885, watts=199.0, limit=200.0, default=400.0)
    run = with_products(replace(cards.a100(), clocks=capped), lambda each: slower(each, 1410 / 885))
    finding = findings(run)["gemm-below-reference"]
    assert "The power limit is set to 200 W, and the card's default is 400 W: 885 of 1410 MHz." in finding.detail
    assert "The clock explains all of it." in finding.detail
    assert "sudo nvidia-smi -i 00000000:3b:00.0 -pl 400" == finding.fixes[0].commands[0].shell
    assert "envdoctor bench --suite gemm" == finding.fixes[0].verify


def test_power_capping_alone_is_normal() -> None:
    """The power-cap bit at the default limit, with products as fast as published: no finding."""
    assert {} == findings(replace(cards.a100(), clocks=clocks(mhz=1350, reasons=0x4)))


def test_low_without_a_cause_is_no_finding() -> None:
    """Six percent below the reference at full clock is within what cards differ by; with a locked clock it fires."""
    run = with_products(cards.a100(), lambda each: slower(each, 1.06))
    assert {} == findings(run)
    locked = replace(run, clocks=clocks(mhz=1200, reasons=0x2))
    finding = findings(locked)["gemm-below-reference"]
    assert "clock is set by hand: 1200 of 1410 MHz" in finding.detail
    assert "-rgc" in finding.fixes[0].commands[0].shell


def test_an_impossible_rate() -> None:
    """Products above what 1410 MHz allow are not believed, and not taken for the best either."""
    run = with_products(cards.a100(), lambda e: slower(e, 0.5) if e.precision == "bf16" else e)
    found = findings(run)
    assert {"measurement-impossible"} == set(found)
    assert "measurement-impossible@rate" == found["measurement-impossible"].key
    assert "above what the hardware can do at its clock" in found["measurement-impossible"].evidence[0].value


def test_a_noisy_run() -> None:
    """Samples that scatter by 8 % are neither good nor bad: unstable, and the slow card is not accused by them."""
    made = tuple(
        product(name, rate, 0, shape, scatter=0.06)
        for name, rate in {"bf16": 245.0, "fp32": 18.0}.items()
        for shape in ("8192x8192x8192", "4096x4096x4096", "16384x16384x16384")
    )
    found = findings(replace(cards.a100(), gemm=BenchGemm(measured=made), model=None))
    assert {"measurement-unstable"} == set(found)
    assert "spread by" in status(replace(cards.a100(), gemm=BenchGemm(measured=made)), "gemm-below-reference")[1]


def between_gpus(*, copied: bool = True, summed: bool = True) -> Run:
    """Make an A100 beside another one: what was copied there, and the sum of both, as it must be or not."""
    found = cards.all_reduce(235.0)
    config = {"from": "cuda:0", "to": "cuda:1", "bytes": "128 MiB"}
    copy = measured("collectives", "peer-copy", 200.0, 1 << 27, "byte", "int8", config=config, correct=copied)
    sums = tuple(replace(each, correct=summed) for each in found.measured)
    return replace(cards.a100(), collectives=replace(found, measured=sums, peers=(PeerCopy(0, 1, True, copy),)))


def test_what_is_wrong_between_gpus_is_said() -> None:
    """A broken way between two GPUs gives wrong numbers and no error: its speed is not what matters."""
    assert "measurement-impossible" not in findings(between_gpus())
    wrong = findings(between_gpus(copied=False))["measurement-impossible"]
    assert ("int8 peer-copy from cuda:0 to cuda:1: wrong results", Severity.ERROR) == (wrong.title, wrong.severity)
    assert "all-reduce: wrong results" == findings(between_gpus(summed=False))["measurement-impossible"].title


def test_zeros_as_input() -> None:
    """A product without any rounding error had no random inputs: A100 gives 295 instead of 257 TFLOPS on zeros."""
    gemm = BenchGemm(measured=(product("bf16", 295.0, 0, rms_error=0.0), product("fp32", 19.2, 1)))
    finding = findings(replace(cards.a100(), gemm=gemm))["measurement-impossible"]
    assert "no rounding error at all" in finding.evidence[0].value
    exact = BenchGemm(measured=(product("int8", 466.0, 0, rms_error=0.0), product("fp64", 18.9, 0, rms_error=0.0)))
    assert {} == findings(replace(cards.a100(), gemm=exact))


def test_a_copy_that_measured_the_cache() -> None:
    """A buffer of half the L2 gives the cache's speed, and a rate beyond the memory's own clock gives itself away."""
    a100 = cards.a100()
    assert a100.memory is not None
    small = replace(a100.memory, buffer_bytes=20 << 20)
    finding = findings(replace(a100, memory=small))["measurement-impossible"]
    assert "in the cache of 40 MiB" in finding.evidence[0].value
    fast = BenchMemory(measured=(measured("memory", "copy", 4200.0, 2e9, "byte"),), buffer_bytes=1 << 30)
    assert (
        "above what the hardware can do"
        in findings(replace(a100, memory=fast))["measurement-impossible"].evidence[0].value
    )


def test_a_wrong_product_is_an_error() -> None:
    """A GPU that computes wrongly must not train: error, whatever its speed."""
    run = with_products(
        cards.a100(), lambda e: replace(e, correct=False, rms_error=0.7) if e.precision == "bf16" else e
    )
    finding = findings(run)["measurement-impossible"]
    assert (Severity.ERROR, "result") == (finding.severity, finding.subject)
    assert "rms error 0.7" in finding.evidence[0].value


def test_a_shared_gpu_is_not_accused() -> None:
    """Half the speed with another program on the card: not-exclusive, and nothing is called slow."""
    busy = replace(
        cards.a100().device, exclusive=False, other_processes=(OtherProcess(4242, 30_000),), utilization_percent=97
    )
    run = with_products(replace(cards.a100(), device=busy), lambda each: slower(each, 2.0))
    found = findings(run)
    assert {"not-exclusive"} == set(found)
    assert "4242" in found["not-exclusive"].fixes[0].commands[0].shell
    assert "another program was on the GPU" in status(run, "gemm-below-reference")[1]
    unsaid = replace(cards.a100().device, exclusive=None, other_processes=None, unknown={"exclusive": "no NVML here"})
    assert (Status.UNKNOWN, "no NVML here") == status(replace(cards.a100(), device=unsaid), "not-exclusive")


def test_a_busy_cpu_is_worth_knowing() -> None:
    """A load average of half the CPUs before anything was measured is info."""
    fewer = findings(replace(cards.cpu(), device=replace(cards.cpu().device, threads=1, threads_left=1)))
    assert "fewer threads than usual" in fewer["not-exclusive"].detail
    busy = replace(cards.cpu().device, load_average=1.6)
    assert Severity.INFO is findings(replace(cards.cpu(), device=busy))["not-exclusive"].severity


@pytest.mark.parametrize(
    ("rates", "subjects"),
    [
        ({"fp32": 19.2, "bf16": 19.5}, {"bf16"}),
        ({"fp32": 19.2, "tf32": 19.0, "fp16": 258.0}, {"tf32"}),
        ({"fp32": 19.2, "tf32": 127.0, "bf16": 264.0}, set()),
    ],
)
def test_tensor_cores_idle(rates: dict[str, float], subjects: set[str]) -> None:
    """Where fp16, bf16 or TF32 are as slow as IEEE fp32, nothing runs on the Tensor Cores."""
    run = replace(cards.a100(), gemm=cards.gemm(rates))
    report = examine(of(*cards.facts_of(run)), MEASURED)  # type: ignore[arg-type]
    assert subjects == {each.subject for each in report.findings if each.id == "tensor-cores-idle"}


def test_tensor_cores_where_they_bring_nothing() -> None:
    """A GeForce's TF32 peak is its FP32 peak: equal speed proves nothing there. A CPU has no Tensor Cores."""
    run = replace(cards.rtx3080(), gemm=cards.gemm({"fp32": 21.07, "tf32": 21.5, "fp16": 64.1}))
    assert Status.PASSED is status(run, "tensor-cores-idle")[0]
    assert Status.NOT_APPLICABLE is status(cards.cpu(), "tensor-cores-idle")[0]
    told = replace(cards.gemm({"fp32": 19.2, "tf32": 19.0}), fingerprints=(Fingerprint("tf32", 2.5e-7, "ieee", 1024),))
    finding = findings(replace(cards.a100(), gemm=told))["tensor-cores-idle"]
    assert "ieee (rms 2.5e-07)" in [each.value for each in finding.evidence]


def test_slow_memory() -> None:
    """Below DCGM's own floor of 1173 GB/s the memory of an A100 is bad."""
    found = findings(replace(cards.a100(), memory=cards.memory(1100.0, 1150.0, 40)))
    assert found["memory-bandwidth-below-reference"].title.startswith("copy in the GPU's memory reaches 75%")


def test_slow_copies() -> None:
    """Half of what a Gen4 x16 link gives is a finding; half on a link that is x8 while copying is the link's own."""
    finding = findings(replace(cards.a100(), copies=cards.copies(12.9, 25.9, 7.0)))["copies-below-link"]
    assert "Copies host to GPU reach 12.9 GB/s, 50% of what this link gives" == finding.title
    assert "PCIe Gen4 x16, read while copying" in finding.detail
    narrow = replace(cards.a100(), copies=cards.copies(12.9, 12.8, 7.0), clocks=clocks(width=8))
    assert Status.PASSED is status(narrow, "copies-below-link")[0]


def test_copies_from_the_wrong_node() -> None:
    """The link is judged by the best node; the fix binds to the GPU's own."""
    copies = cards.copies(12.0, 12.1, 5.0)
    two = replace(copies, numa_nodes=(0, 1), gpu_numa_node=1)
    finding = findings(replace(cards.a100(), copies=two))["copies-below-link"]
    assert "numactl --cpunodebind=1 --membind=1" in finding.fixes[0].commands[0].shell
    near = tuple(replace(each, config={"numa_node": "1"}) for each in cards.copies(25.9, 25.9, 7.0).measured)
    both = replace(two, measured=(*two.measured, *near))
    assert Status.PASSED is status(replace(cards.a100(), copies=both), "copies-below-link")[0]


def test_attention_picks_a_slow_backend() -> None:
    """Where torch picks math and flash is four times as fast here, both times are shown."""
    finding = findings(replace(cards.a100(), attention=cards.attention(90.0, picked="math")))[
        "attention-below-reference"
    ]
    assert "torch picks math attention, which takes 4.5 times as long as flash here" == finding.title
    assert 3 == len(finding.evidence)
    near = cards.attention(90.0, picked="cudnn")  # 2 % slower than flash: not worth a word
    assert Status.PASSED is status(replace(cards.a100(), attention=near), "attention-below-reference")[0]


def test_a_slow_vit() -> None:
    """An RTX 3090 at half of timm's published 391 images/s; without a published run there is no verdict."""
    device = gpu("NVIDIA GeForce RTX 3090", "8.6", 82, 24_110)
    slow = Run(device, clocks(mhz=1800, most=2100), model=cards.model(195.0, precision="amp-fp16"))
    assert slow.model is not None
    fp16 = replace(slow.model, measured=(cards.step("amp-fp16", 195.0, 13),))
    finding = findings(replace(slow, model=fp16))["vit-below-reference"]
    assert "vit_b16 trains at 50% of a published run on this GPU" == finding.title
    fine = replace(fp16, measured=(cards.step("amp-fp16", 389.0, 13),))
    assert Status.PASSED is status(replace(slow, model=fine), "vit-below-reference")[0]
    assert "nobody published" in status(cards.a100(), "vit-below-reference")[1]


@pytest.mark.parametrize(("backend", "tflops", "fired"), [("efficient", 25.0, False), ("efficient", 170.0, True)])
def test_fp32_attention_may_use_tensor_cores(backend: str, tflops: float, fired: bool) -> None:
    """An A100 has 19.5 TFLOPS of fp32, and 156 of TF32: in parts of that its memory-efficient kernel computes fp32."""
    attention = cards.attention(210.0)
    work = attention.measured[0].work
    config = {**attention.measured[0].config, "backend": backend}
    name = f"sdpa-{backend}-forward"
    fp32 = measured("attention", name, tflops, work, "flop", "fp32", at=12, correct=True, config=config)
    found = findings(replace(cards.a100(), attention=replace(attention, measured=(*attention.measured, fp32))))
    assert fired is ("measurement-impossible" in found)


def launching(share: float, at_one: float = 0.0) -> Run:
    """Make an A100 whose host takes this share of the GPU's time to launch a step; ``at_one``: of a batch of one."""
    a100 = cards.a100()
    assert a100.model is not None
    (step,) = [each for each in a100.model.measured if "train-step" == each.name]
    step = replace(step, dispatch_seconds=tuple(share * each for each in step.seconds))
    seconds = tuple(at_one * each for each in step.seconds)
    single = replace(step, config={"batch": "1"}, work=1.0, seconds=seconds, dispatch_seconds=seconds)
    return replace(a100, model=replace(a100.model, measured=(step, single) if at_one else (step,)))


def test_a_host_that_waits_for_room_in_the_queue_is_not_slow() -> None:
    """A batch of one has as many launches: what they take there is the host's own time."""
    assert "launch-bound" not in findings(launching(0.98, at_one=0.3))


def test_a_full_queue_that_nothing_rules_out_is_said() -> None:
    """Without a smaller batch beside it the finding is a lead, and says why."""
    finding = findings(launching(0.98))["launch-bound"]
    assert "possible" == finding.confidence.value
    assert finding.title.startswith("A training step may wait for the host")
    assert "the GPU be the limit" in finding.detail


def test_a_batch_of_one_may_scatter() -> None:
    """It is bound by the host, and is no training step that anybody waits for; the step itself must be steady."""
    run = launching(0.1, at_one=0.3)
    assert run.model is not None
    for step, fires in zip(run.model.measured, (True, False), strict=True):
        scattered = replace(step, seconds=tuple(each * (1 + 0.1 * (n % 2)) for n, each in enumerate(step.seconds)))
        kept = tuple(scattered if each is step else each for each in run.model.measured)
        found = findings(replace(run, model=replace(run.model, measured=kept)))
        assert fires is ("measurement-unstable" in found)


def test_launch_bound() -> None:
    """The host takes as long to launch a step as the GPU to run it; a CUDA graph's gain makes it certain."""
    run = launching(0.98, at_one=0.97)
    assert "likely" == findings(run)["launch-bound"].confidence.value
    climb = {"fp32": 110.0, "amp-bf16": 1080.0, "CUDA graph": 1600.0}
    certain = findings(replace(run, ladder=cards.ladder(climb)))["launch-bound"]
    assert ("certain", "1.48 times as fast") == (certain.confidence.value, certain.evidence[-1].value)


def test_a_gradient_scaler_that_waits_is_no_slow_host() -> None:
    """Before Ampere a step is of fp16, and its scaler waits for the GPU however fast the host is."""
    a100 = cards.a100()
    assert a100.model is not None
    step = cards.step("amp-fp16", 300.0, 13)
    waiting = replace(step, dispatch_seconds=tuple(0.98 * each for each in step.seconds))
    run = replace(a100, model=replace(a100.model, measured=(waiting,)))
    found, why = status(run, "launch-bound")
    assert Status.UNKNOWN is found
    assert "waits for the GPU" in why


def test_loader_bound() -> None:
    """A loader of 400 images/s under a GPU that trains on 1300 keeps it idle; the sweep is shown."""
    found = findings(replace(cards.a100(), loader=cards.loader(400.0, cpus=8)))
    assert "The loader gives 400 images/s, the GPU trains on 1300" == found["loader-bound"].title
    assert "num_workers=8" in found["loader-bound"].fixes[0].commands[0].shell
    assert 5 == len(found["loader-bound"].evidence)


def test_a_model_of_sequences_waits_for_no_images() -> None:
    """So many images a second say nothing of so many sequences."""
    a100 = cards.a100()
    assert a100.model is not None
    steps = tuple(replace(each, work_unit="sequence") for each in a100.model.measured)
    run = replace(a100, ladder=None, model=replace(a100.model, measured=steps), loader=cards.loader(400.0, cpus=8))
    assert (Status.NOT_APPLICABLE, "the loader gives images, and the model trains on sequences") == status(
        run, "loader-bound"
    )


def test_a_slow_disk() -> None:
    """On the user's own files reading takes longer than decoding; made images tell nothing of a disk."""
    theirs = replace(cards.loader(400.0, read=90.0), made_here=False, folder="/data/train set")
    finding = findings(replace(cards.a100(), loader=theirs))["disk-or-dataset-slow"]
    assert "Reading a file takes 3.1 times as long as decoding it" == finding.title
    assert "df -hT '/data/train set'" == finding.fixes[0].commands[0].shell
    assert ("disk-or-dataset-slow",) == findings(replace(cards.a100(), loader=theirs))["loader-bound"].caused_by
    fast = replace(cards.loader(9000.0, read=90.0), made_here=False)
    assert Status.PASSED is status(replace(cards.a100(), loader=fast), "disk-or-dataset-slow")[0]
    assert Status.NOT_APPLICABLE is status(cards.a100(), "disk-or-dataset-slow")[0]


def test_a_link_that_is_narrow_while_it_copies() -> None:
    """An idle link trains down and proves nothing; read while a benchmark copies, half the lanes are a finding."""
    from envdoctor.facts.nvml import Gpu, GpuState
    from envdoctor.rules.card_speed import pcie_link_degraded

    idle = GpuState(
        init_code=0, gpus=(Gpu(0, pcie_width=8, pcie_width_max=16, pcie_generation=1, pcie_generation_max=4),)
    )
    narrow = replace(clocks(width=8).gpus[0], pcie_width_max=16)
    run = replace(cards.a100(), clocks=replace(clocks(), gpus=(narrow,)))
    report = examine(of(idle, *cards.facts_of(run)), (pcie_link_degraded,))  # type: ignore[arg-type]
    assert ["GPU 0 (NVIDIA A100-SXM4-80GB) talks over PCIe 4 x8 instead of 4 x16"] == [f.title for f in report.findings]
    wide = examine(of(idle, *cards.facts_of(cards.a100())), (pcie_link_degraded,))  # type: ignore[arg-type]
    assert Status.PASSED is wide.checks[0].status


@pytest.mark.parametrize(("links", "busbw", "fires"), [(12, 235.0, False), (11, 215.0, False), (12, 180.0, True)])
def test_all_reduce_against_the_links(links: int, busbw: float, fires: bool) -> None:
    """235 of 240 GB/s is healthy, 215 over eleven links as well; 180 over twelve is not."""
    run = replace(cards.a100(), collectives=cards.all_reduce(busbw), fabric=cards.nvlinks(links))
    assert fires is ("allreduce-below-links" in findings(run))


@pytest.mark.parametrize(
    ("ends", "ranks", "fires"),
    [
        (lambda gpu: [gpu ^ 1], 8, False),  # bridges
        (lambda gpu: [gpu ^ 1], 2, True),
        (lambda gpu: [each for each in range(4) if each != gpu % 4], 4, True),  # each GPU with each other one
        (lambda _gpu: [100, 101], 8, True),  # switches
        (lambda _gpu: [100], 8, True),
    ],
)
def test_bridges_between_two_cards_make_no_ring_of_eight(
    ends: Callable[[int], list[int]], ranks: int, fires: bool
) -> None:
    """Beyond the pair PCIe carries the data: no links promise more."""
    each = [[NvLink(n, active=True, remote=f"0000:{end:02x}:00.0") for n, end in enumerate(ends(gpu) * 4)]
            for gpu in range(8 if ranks > 2 else 2)]  # fmt: skip
    fabric = GpuFabric(nvlinks=tuple(map(tuple, each)))
    run = replace(cards.a100(), collectives=cards.all_reduce(18.0, ranks), fabric=fabric)
    assert fires is ("allreduce-below-links" in findings(run))


def test_nvlink_sharp_is_no_fault() -> None:
    """More than the links carry is NVLink SHARP; without NVLinks there is no expectation."""
    h100 = replace(cards.h100(), collectives=cards.all_reduce(479.7), fabric=cards.nvlinks(18, 18))
    assert {} == findings(h100)
    assert Status.NOT_APPLICABLE is status(replace(h100, fabric=None), "allreduce-below-links")[0]


def test_sockets_instead_of_infiniband() -> None:
    """Two hosts over TCP with an active InfiniBand port: a warning with the step's cost; without RDMA it is info."""
    over = cards.all_reduce(1.25, ranks=16, ranks_here=8, transports=("NET/Socket/0",), networks=("Socket",))
    run = replace(cards.a100(), collectives=over)
    port = Fabric(infiniband=(InfinibandPort("mlx5_0", 1, "4: ACTIVE", "5: LinkUp"),))
    finding = findings(run, port)["nccl-over-sockets"]
    assert Severity.WARNING is finding.severity
    assert finding.title.endswith("520 ms for one step's gradients")
    assert Severity.INFO is findings(run, Fabric())["nccl-over-sockets"].severity
    assert Status.PASSED is status(cards.a100(), "nccl-over-sockets", port)[0]
    alone = cards.all_reduce(3.0, transports=("NET/Socket/0",))
    assert Severity.WARNING is findings(replace(run, collectives=alone), Fabric())["nccl-over-sockets"].severity


def without(busbw: float, *names: str, **change: Any) -> Measured:
    """Give an all-reduce that was measured without variables."""
    found = cards.all_reduce(busbw).measured[0]
    return replace(found, config={**found.config, "without": "+".join(names)}, **change)


def test_a_forced_protocol() -> None:
    """NCCL_PROTO=Simple from another machine costs half here: measured with and without."""
    forced = Environment(variables=(Variable("NCCL_PROTO", "LL"),))
    with_it = cards.all_reduce(110.0)
    pair = replace(with_it, measured=(*with_it.measured, without(235.0, "NCCL_PROTO")))
    run = replace(cards.a100(), collectives=pair, fabric=cards.nvlinks(12))
    found = findings(run, forced)
    finding = found["nccl-protocol-setting-slow"]
    assert "NCCL_PROTO=LL makes an all-reduce 2.14 times as slow" == finding.title
    assert "unset NCCL_PROTO" == finding.fixes[0].commands[0].shell
    assert "nccl-protocol-setting-slow@NCCL_PROTO" in found["allreduce-below-links"].caused_by
    assert Status.UNKNOWN is status(cards.a100(), "nccl-protocol-setting-slow", forced)[0]
    assert Status.NOT_APPLICABLE is status(cards.a100(), "nccl-protocol-setting-slow", Environment())[0]


def test_one_of_two_forcing_variables_is_to_blame() -> None:
    """Both set, one costs: that one is named. Where neither costs alone, both are; where nothing differs, nobody is."""
    forced = Environment(variables=(Variable("NCCL_PROTO", "LL"), Variable("NCCL_ALGO", "Tree")))
    names = ("NCCL_PROTO", "NCCL_ALGO")

    def titles(both: float, *alone: float) -> list[str]:
        found = cards.all_reduce(110.0)
        more = [without(both, *names), *(without(each, name) for name, each in zip(names, alone, strict=False))]
        run = replace(cards.a100(), collectives=replace(found, measured=(*found.measured, *more)))
        report = examine(of(*cards.facts_of(run), forced), MEASURED)  # type: ignore[arg-type]
        return [each.title for each in report.findings if each.id == "nccl-protocol-setting-slow"]

    assert ["NCCL_ALGO=Tree makes an all-reduce 2.14 times as slow"] == titles(235.0, 110.5, 235.0)
    assert ["NCCL_PROTO=LL NCCL_ALGO=Tree make an all-reduce 2.14 times as slow"] == titles(235.0, 110.5, 110.5)
    assert [] == titles(110.5)


def test_what_an_all_reduce_without_a_variable_could_not_tell() -> None:
    """Ranks of the user's own launch keep its environment, nccl.conf reaches every process: unknown, and why."""
    forced = Environment(variables=(Variable("NCCL_PROTO", "LL"),))
    with_it = cards.all_reduce(110.0)
    not_made = without(1.0, "NCCL_PROTO", seconds=(), state="not-applicable", reason="they keep its environment")
    run = replace(cards.a100(), collectives=replace(with_it, measured=(*with_it.measured, not_made)))
    found = status(run, "nccl-protocol-setting-slow", forced)
    assert (
        Status.UNKNOWN, "NCCL_PROTO set, but the all-reduce was not measured without: they keep its environment",
    ) == found  # fmt: skip
    conf = Toolkit(nccl_conf=(("NCCL_ALGO", "Ring"),), nccl_conf_path="/etc/nccl.conf")
    found = status(run, "nccl-protocol-setting-slow", Environment(), conf)
    assert Status.UNKNOWN is found[0]
    assert "/etc/nccl.conf sets NCCL_ALGO, which cannot be taken out for a measurement" == found[1]


def test_one_of_eight_is_slow() -> None:
    """The same product on each card: the one at 80 % of its peers is named, the other seven are not."""
    made = tuple(
        product("bf16", 210.0 if n == 3 else 262.0 + n % 3, n, config={"device": f"cuda:{n}", "gpu": "A100"})
        for n in range(8)
    )
    run = replace(cards.a100(), gemm=BenchGemm(measured=made))
    report = examine(of(*cards.facts_of(run)), MEASURED)  # type: ignore[arg-type]
    peers = [each for each in report.findings if each.id == "gpu-slower-than-peers"]
    assert ["cuda:3"] == [each.subject for each in peers]
    assert "cuda:3 is 20% slower than its peers" == peers[0].title


def test_every_rule_fires_and_names_its_proof() -> None:
    """Each finding of the group has evidence, a fix to paste and a command that measures again."""
    a100 = replace(cards.a100(), memory=cards.memory(1100.0, 1150.0, 40), copies=cards.copies(9.0, 9.0, 5.0))
    slow = replace(a100, attention=cards.attention(90.0, picked="math"), loader=cards.loader(300.0))
    for run in (outlier(), slow):
        for finding in findings(run).values():
            assert finding.evidence
            assert all(fix.commands and fix.verify.startswith("envdoctor bench") for fix in finding.fixes)


def test_a_mig_slice_has_no_reference() -> None:
    """A slice of a card is not held against the whole card."""
    slice_ = replace(cards.a100().device, mig=True, sm_count=14, memory_mib=9728)
    run = with_products(replace(cards.a100(), device=slice_), lambda each: slower(each, 8.0))
    assert (Status.UNKNOWN, True) == (
        status(run, "gemm-below-reference")[0],
        "MIG" in status(run, "gemm-below-reference")[1],
    )


def test_nothing_measured_is_skipped_in_a_check() -> None:
    """In a plain check these rules say which command measures; but for the two that need no measurement to start."""
    report = examine(of(), MEASURED)
    others = {"nccl-protocol-setting-slow", "slower-than-baseline"}
    assert {(Status.SKIPPED, "needs envdoctor bench")} == {
        (c.status, c.reason) for c in report.checks if c.id not in others
    }
