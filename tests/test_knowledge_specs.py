"""GPU peaks and published results: dense, at FP32 accumulate, plausible; and how a GPU finds its row."""

from __future__ import annotations

import pytest

from envdoctor.knowledge import references, rows, specs

GEFORCE = [each for each in specs.specs() if each.gpu.startswith("GeForce")]
LANE_GBS = {3: 0.985, 4: 1.969, 5: 3.938, 6: 7.563}
NVLS = 1.33  # NVLink SHARP moves fewer bytes than nccl-tests' formula counts, so busbw goes beyond the wire's rate


def spec_of(gpu: str) -> specs.Spec:
    """Give a row by its own name."""
    return next(each for each in specs.specs() if each.gpu == gpu)


def wire(row: references.Row) -> tuple[float, float]:
    """Give the slowest and the fastest wire, in GB/s, that this kind of measurement of this GPU may go over."""
    spec = spec_of(row.gpu)
    if row.measurement == "mem_bw":
        return (spec.bandwidth_gbs or 0.0,) * 2
    pcie = LANE_GBS[spec.pcie_generation or 0] * (spec.pcie_lanes or 0)
    nvlink = (spec.nvlink_gbs or 0.0) / 2
    if row.measurement == "h2d_bw" or not nvlink:
        return pcie, pcie
    bridged = "PCIe" in row.gpu or "NVL" in row.gpu  # only pairs have NVLinks
    fastest = nvlink * (NVLS if row.measurement == "nccl_allreduce_busbw" and spec.capability >= (9, 0) else 1.0)
    return (pcie if bridged else nvlink), fastest


@pytest.mark.parametrize(
    "row", [each for each in references.table() if each.is_floor], ids=lambda r: f"{r.gpu}-{r.measurement}"
)
def test_floors_are_within_what_the_hardware_can_do(row: references.Row) -> None:
    """A vendor's floor is at least 0.4 of the specification and not above it: no slipped unit can hide."""
    slowest, fastest = wire(row)
    assert 0.4 * slowest <= row.value <= fastest


def test_a_floor_that_nothing_can_reach_is_marked() -> None:
    """Of the vendors' floors one is beyond its hardware: it stays in the table, and no GPU is judged by it."""
    marked = [(r.gpu, r.measurement) for r in references.table() if r.kind == "threshold" and not r.is_floor]
    assert [("H100 NVL", "p2p_bw")] == marked
    assert references.floor("H100 NVL", "p2p_bw", gpus=2) is None


@pytest.mark.parametrize("spec", specs.specs(), ids=lambda each: each.gpu)
def test_no_peak_is_a_sparse_one(spec: specs.Spec) -> None:
    """A tensor peak is at most what SMs x rate x boost clock give; with sparsity counted it would be twice that."""
    if None in {spec.sms, spec.boost_mhz, spec.fp16_flop_per_clock}:
        return
    dense = spec.sms * spec.boost_mhz * spec.fp16_flop_per_clock / 1e6  # type: ignore[operator]
    ratios = {"fp16": 1.0, "bf16": 1.0, "tf32": 0.5}
    peaks = {name: spec.peaks[name] for name in ratios if name in spec.peaks}
    wrong = {name: peak for name, peak in peaks.items() if not 0.8 <= peak / (ratios[name] * dense) <= 1.03}
    assert {} == wrong


def test_fp8_and_int8_are_dense_as_well() -> None:
    """fp8 has twice the fp16 rate, int8 twice, or four times where fp16 is at FP32 accumulate; never more."""
    wrong = {}
    for spec in specs.specs():
        fp16 = spec.peaks.get("fp16")
        for name, most in (("fp8", 2.0), ("int8", 4.0 if spec.fp16_flop_per_clock == 512 else 2.0)):
            peak = spec.peaks.get(name)
            if fp16 and peak and peak / fp16 > most * 1.03:
                wrong[spec.gpu, name] = peak / fp16
    assert {} == wrong


@pytest.mark.parametrize("spec", GEFORCE, ids=lambda each: each.gpu)
def test_geforce_peaks_are_at_fp32_accumulate(spec: specs.Spec) -> None:
    """What GeForce cards print is at FP16 accumulate, twice what torch's products reach: it has its own column."""
    assert 512 == spec.fp16_flop_per_clock
    assert pytest.approx(2.0, rel=0.01) == spec.fp16_accumulate_peaks["fp16"] / spec.peaks["fp16"]
    assert spec.peaks.get("bf16", spec.peaks["fp16"]) == spec.peaks["fp16"]


def test_no_bf16_or_tf32_peak_before_ampere() -> None:
    """Volta and Turing have neither: a peak there would make a healthy card look slow."""
    assert [] == [s.gpu for s in specs.specs() if s.capability < (8, 0) and {"bf16", "tf32"} & set(s.peaks)]


def test_measured_products_lie_below_their_peaks() -> None:
    """A published product is above a quarter of the dense peak; only GeForce cards, which boost higher, pass it."""
    wrong = []
    for row in references.table():
        peak = spec_of(row.gpu).peaks.get(row.precision) if row.measurement == "gemm" else None
        if peak is None or not row.comparable:
            continue
        most = 1.2 if row.gpu.startswith(("GeForce", "RTX")) else 1.02
        if not 0.25 <= row.value / peak <= most:
            wrong.append((row.gpu, row.precision, row.value, peak))
    assert [] == wrong


def test_percentages_in_the_table_are_of_these_peaks() -> None:
    """The share of the peak that a row states is the one that its own value and our peaks give."""
    wrong = []
    for row in references.table():
        spec = next((each for each in specs.specs() if each.gpu == row.gpu), None)
        peak = spec.peaks.get(row.precision) if spec and row.measurement == "gemm" else None
        if row.precision == "fp64":  # measured without the Tensor Cores that torch's fp64 products use
            continue
        if row.percent_of_peak is not None and peak and abs(100 * row.value / peak - row.percent_of_peak) > 0.2:
            wrong.append((row.gpu, row.precision, row.value, peak, row.percent_of_peak))
    assert [] == wrong


def test_every_row_says_where_it_is_from() -> None:
    """No figure without a source, and no peak without its basis."""
    assert all(each.source and each.basis for each in specs.specs())
    assert all(each.source and each.kind in {"measured", "threshold", "model"} for each in references.table())
    assert all(row["source"] for row in rows("gpu_driver_names.csv"))


@pytest.mark.parametrize(
    ("name", "memory_mib", "sms", "expected"),
    [
        ("NVIDIA A100-SXM4-80GB", 81152, 108, "A100-SXM4-80GB"),
        ("NVIDIA H100 80GB HBM3", 81008, 132, "H100 SXM"),
        ("NVIDIA H200", 143156, 132, "H200 SXM"),
        ("NVIDIA H100 PCIe", 81008, 114, "H100 PCIe"),
        ("NVIDIA GH200 480GB", 96768, 132, "GH200 96GB"),
        ("NVIDIA B200", 182642, 148, "B200"),
        ("Tesla T4", 14913, 40, "Tesla T4"),
        ("NVIDIA A10G", 22503, 80, "A10G"),
        ("NVIDIA L4", 22478, 58, "L4"),
        ("NVIDIA GeForce RTX 3080", 9990, 68, "GeForce RTX 3080"),
        ("NVIDIA GeForce RTX 4060 Ti", 16070, 34, "GeForce RTX 4060 Ti 16 GB"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 97250, 188, "RTX PRO 6000 Blackwell Max-Q"),
        ("NVIDIA A100-SXM4-80GB", None, None, "A100-SXM4-80GB"),
    ],
)
def test_devices_are_found_by_the_drivers_name(
    name: str, memory_mib: float | None, sms: int | None, expected: str
) -> None:
    """The name that torch and the driver print leads to the row, together with the memory that ECC leaves."""
    found = specs.match(name, memory_mib=memory_mib, sms=sms)
    assert (expected, "") == (found.spec.gpu if found.spec else None, found.reason)


@pytest.mark.parametrize(
    ("name", "memory_mib", "sms", "why"),
    [
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 9728, 14, "the tables do not hold"),
        ("NVIDIA A100-SXM4-80GB", 9728, 14, "14 SMs"),
        ("NVIDIA GeForce RTX 3080", 12050, 70, "70 SMs"),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", 16125, 48, "the tables do not hold"),
        ("NVIDIA GeForce RTX 4060 Ti", 8188, 34, "8 GiB"),
        ("NVIDIA GeForce RTX 3060", 8188, 28, "8 GiB"),
        ("GPU of tomorrow", None, None, "the tables do not hold"),
    ],
)
def test_a_variant_is_not_taken_for_the_card(name: str, memory_mib: float, sms: int, why: str) -> None:
    """MIG slices, laptop parts and cards of the same name with other memory have no row, and the reason is said."""
    found = specs.match(name, memory_mib=memory_mib, sms=sms)
    assert found.spec is None
    assert why in found.reason


@pytest.mark.parametrize(
    ("gpu", "precision", "expected"),
    [
        ("A100-SXM4-80GB", "bf16", 2048),
        ("A100-SXM4-80GB", "tf32", 1024),
        ("A100-SXM4-80GB", "fp32", 128),
        ("A100-SXM4-80GB", "fp64", 128),
        ("A100-SXM4-80GB", "int8", 4096),
        ("A100-SXM4-80GB", "fp8", None),
        ("H100 SXM", "fp8", 8192),
        ("H100 SXM", "fp32", 256),
        ("GeForce RTX 3090", "bf16", 512),
        ("GeForce RTX 3090", "int8", 2048),
        ("Tesla T4", "fp16", 1024),
        ("Tesla T4", "bf16", None),
    ],
)
def test_operations_per_clock(gpu: str, precision: str, expected: float | None) -> None:
    """One SM's operations in a clock follow from architecture and precision, not from a headline peak."""
    assert expected == spec_of(gpu).flop_per_clock(precision)


def test_references_are_medians_of_comparable_rows() -> None:
    """A100 bf16: three runs of random inputs; the run on zeros, which is 9 % faster, is not among them."""
    found = references.typical("A100-SXM4-80GB", "gemm", "bf16")
    assert found is not None
    assert (264.53, 3, 271.2) == (found.value, found.count, found.highest)
    assert "bf16/fp16" in {each.precision for each in references.table() if "zero" in each.config}


def test_outliers_are_no_reference() -> None:
    """The RTX 3080 that gave 25 bf16 TFLOPS and the 4060 Ti beyond its peak are kept, marked, and not compared with."""
    found = references.typical("GeForce RTX 3080", "gemm", "bf16")
    assert found is not None
    assert (64.68, 1) == (found.value, found.count)
    assert references.typical("GeForce RTX 4060 Ti 16 GB", "gemm", "fp16") is None


def test_no_rows_no_reference() -> None:
    """Nobody published a ViT-B/16 training throughput of an H100: there is none to compare with."""
    assert references.typical("H100 SXM", "train_throughput", "amp_bf16", words="vit_base_patch16_224") is None
    assert references.typical("no such GPU", "gemm", "bf16") is None


def test_floors_are_the_vendors_own() -> None:
    """DCGM's floor of an A100 is three quarters of what NVIDIA measured."""
    found = references.floor("A100-SXM4-80GB", "mem_bw")
    assert found is not None
    assert 1173 == found.value


def test_links() -> None:
    """A ring over all NVLinks of an A100 gives 240 GB/s by NCCL's model, one link less 8 % less; PCIe goes by width."""
    assert (240.0, 220.0) == (references.over_nvlink((8, 0), 12), references.over_nvlink((8, 0), 11))
    assert pytest.approx(12.95) == references.over_pcie(4, 8)
    assert (None, None) == (references.over_pcie(9, 16), references.over_nvlink((3, 5), 4))
