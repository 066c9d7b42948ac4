"""[payload] What the benchmark measured: raw samples and their conditions. Nothing here is a rate, and nothing judges.

A rate is ``Measured.work / second`` for each of ``Measured.seconds``. Times in ``began``, ``ended`` and
``ClockTrack.seconds`` are of one monotonic clock, so that a measurement can be laid beside the clocks it ran at.
"""

from __future__ import annotations

from dataclasses import field
from typing import Dict, Optional, Tuple

from envdoctor.facts import Fact, read_from
from envdoctor.facts.clocks import BenchClocks, ClockTrack
from envdoctor.facts.dataclass import dataclass
from envdoctor.facts.kernels import AttentionChoice, Fingerprint

__all__ = ["FACTS", "FORCES_NCCL", "WITHOUT", "AttentionChoice", "BenchClocks", "ClockTrack", "Fingerprint"]

# Each takes a choice from NCCL; the all-reduce is measured with and without those that are set.
FORCES_NCCL = (
    "NCCL_PROTO", "NCCL_ALGO", "NCCL_P2P_LEVEL", "NCCL_P2P_DISABLE", "NCCL_SHM_DISABLE", "NCCL_NVLS_ENABLE",
)  # fmt: skip
WITHOUT = "without"  # a key of ``Measured.config``: variables that were taken out for this measurement, A or A+B


@dataclass(frozen=True)
class Measured:
    """One operation measured, or the reason why it was not.

    ``state``: measured; refused (it would need more memory than may be used); out-of-memory; failed (``reason`` has
    the error's words); skipped (no time was left); not-applicable (this device or this torch does not have it).
    ``stopped_because``: steady (the stopping rule was met), noisy (time was up before it was), budget (the suite's
    time was up), fixed-count. ``clock``: cuda-events, or wall where there is no GPU.
    ``seconds`` holds one entry a sample, each of *one* operation: where ``repeats`` operations were timed together,
    their mean. ``dispatch_seconds`` is the host's time until the call returns, ``wall_seconds`` until the device is
    done; both come from operations that were synchronised one by one, ``seconds`` from an unbroken stream of them.
    ``work`` is what one operation does, in ``work_unit`` (flop, byte, call; image, sequence or sample for a step).
    ``waited_seconds``: how long the threads of this process, together, were ready to run and had no CPU while the
    samples were taken; only where a CPU was measured and the kernel tells.
    ``correct``: whether the result agreed with the reference; ``rms_error`` is relative to the reference's own rms.
    """

    name: str = ""  # "gemm", "copy", "triad", "h2d-pinned", "sdpa-flash-forward", "vit-block-forward", "train-step"
    suite: str = ""
    config: Dict[str, str] = field(default_factory=dict)  # shape, batch, backend, direction, numa_node, …
    precision: str = ""  # fp64, fp32, tf32, fp16, bf16, fp8, int8, amp-bf16, amp-fp16
    state: str = "measured"
    reason: str = ""
    seconds: Tuple[float, ...] = ()
    dispatch_seconds: Tuple[float, ...] = ()
    wall_seconds: Tuple[float, ...] = ()
    repeats: int = 1
    work: float = 0.0
    work_unit: str = ""
    correct: Optional[bool] = None
    rms_error: Optional[float] = None
    stopped_because: str = ""
    clock: str = ""
    label: str = ""  # burst, sustained: how long the card was heated before
    peak_memory_mib: Optional[float] = None
    began: float = 0.0
    ended: float = 0.0
    waited_seconds: Optional[float] = None


@dataclass(frozen=True)
class OtherProcess:
    """A process that holds the GPU beside us, as far as this namespace shows it."""

    pid: int = 0
    memory_mib: Optional[int] = None
    kind: str = "compute"  # compute or graphics


@dataclass(frozen=True)
class BenchDevice(Fact):
    """What is measured: the device as torch describes it, the host's processor, and who else uses them."""

    kind: str = read_from("torch.cuda.is_available()", "")  # cuda or cpu
    index: Optional[int] = read_from("--device, torch.cuda.current_device()")
    name: Optional[str] = read_from("torch.cuda.get_device_properties()")
    uuid: Optional[str] = read_from("torch.cuda.get_device_properties()", private=True)
    pci_address: Optional[str] = read_from("torch.cuda.get_device_properties()")  # 00000000:3b:00.0
    capability: Optional[str] = read_from("torch.cuda.get_device_properties()")
    sm_count: Optional[int] = read_from("torch.cuda.get_device_properties()")
    l2_bytes: Optional[int] = read_from("torch.cuda.get_device_properties()")  # on a CPU its last-level cache
    memory_mib: Optional[int] = read_from("torch.cuda.mem_get_info()")
    memory_free_mib: Optional[int] = read_from("torch.cuda.mem_get_info()")  # of a CPU: what may still be used
    memory_bus_bits: Optional[int] = read_from("torch.cuda.get_device_properties()")
    memory_clock_khz: Optional[int] = read_from("torch.cuda.get_device_properties()")
    sm_clock_khz: Optional[int] = read_from("torch.cuda.get_device_properties()")
    device_count: Optional[int] = read_from("torch.cuda.device_count()")
    is_integrated: Optional[bool] = read_from("torch.cuda.get_device_properties()")
    cpu_model: Optional[str] = read_from("/proc/cpuinfo")
    cpus: Optional[int] = read_from("sched_getaffinity, cgroup cpu.max")  # usable ones
    threads: Optional[int] = read_from("torch.get_num_threads()")
    load_average: Optional[float] = read_from("/proc/loadavg")  # over one minute, before anything was measured
    torch_version: Optional[str] = read_from("torch.__version__")
    cuda_version: Optional[str] = read_from("torch.version.cuda")
    cudnn_version: Optional[int] = read_from("torch.backends.cudnn.version()")
    fp32_precision: Optional[str] = read_from("torch.backends.cuda.matmul.fp32_precision")  # before we set anything
    other_processes: Optional[Tuple[OtherProcess, ...]] = read_from("nvmlDeviceGetComputeRunningProcesses")
    utilization_percent: Optional[int] = read_from("nvmlDeviceGetUtilizationRates")  # while we do nothing
    exclusive: Optional[bool] = read_from("other processes and utilization of the GPU")
    mig: Optional[bool] = read_from("nvmlDeviceGetMigMode")
    mps: Optional[bool] = read_from("CUDA_MPS_PIPE_DIRECTORY")
    # Threads that torch was given because other programs kept some CPUs busy; None: it has as many as ever.
    threads_left: Optional[int] = read_from("/proc/stat, before anything was measured")
    # The most that any measurement may take, 80 % of what was free unless another share was asked for:
    memory_allowed_mib: Optional[int] = read_from("--memory-fraction, torch.cuda.mem_get_info()")


@dataclass(frozen=True)
class BenchGemm(Fact):
    """Matrix products: each shape and precision, and what fp32 really means here."""

    measured: Tuple[Measured, ...] = read_from("torch.mm, torch._scaled_mm, torch._int_mm", ())
    fingerprints: Tuple[Fingerprint, ...] = read_from("torch.mm of fp32 against fp64", ())
    preheat_seconds: Optional[float] = read_from("torch.mm before the first measurement")


@dataclass(frozen=True)
class BenchMemory(Fact):
    """Copy (2 bytes moved for each byte) and triad (3) on the device itself."""

    measured: Tuple[Measured, ...] = read_from("torch.Tensor.copy_, torch.add", ())
    buffer_bytes: Optional[int] = read_from("torch.empty")
    cache_bytes: Optional[int] = read_from("L2 of the GPU, last-level cache of the CPU")


@dataclass(frozen=True)
class BenchCopies(Fact):
    """Between host and device: pinned and pageable, each direction, from each NUMA node."""

    measured: Tuple[Measured, ...] = read_from("torch.Tensor.copy_", ())
    numa_nodes: Tuple[int, ...] = read_from("/sys/devices/system/node, sched_getaffinity", ())
    gpu_numa_node: Optional[int] = read_from("/sys/bus/pci/devices/*/numa_node")


@dataclass(frozen=True)
class BenchAttention(Fact):
    """Each backend of ``scaled_dot_product_attention``, forward and backward."""

    measured: Tuple[Measured, ...] = read_from("torch.nn.attention.sdpa_kernel", ())
    choices: Tuple[AttentionChoice, ...] = read_from("torch._fused_sdp_choice, torch.backends.cuda.can_use_*", ())


@dataclass(frozen=True)
class BenchModel(Fact):
    """One block, the model and its training step. FLOPs are of one sample (image, sequence): 1 MAC is 2 FLOP."""

    model: Optional[str] = read_from("--model")
    origin: Optional[str] = read_from("--model")  # own, torchvision, timm, yours
    sample: str = read_from("--model", "image")  # image, sequence, sample
    batch: Optional[int] = read_from("--batch")
    tokens: Optional[int] = read_from("the model")
    parameters: Optional[int] = read_from("the model")
    flops_forward: Optional[int] = read_from("the model's formula, else FlopCounterMode on the meta device")
    # Forward and backward, no recomputation:
    flops_train: Optional[int] = read_from("the model's formula, else FlopCounterMode on the meta device")
    flops_source: Optional[str] = read_from("the model")  # formula, counted
    block_flops_forward: Optional[int] = read_from("the model's formula")
    block_flops_train: Optional[int] = read_from("the model's formula")
    measured: Tuple[Measured, ...] = read_from("torch", ())


@dataclass(frozen=True)
class LadderRow:
    """One change to the row ``previous``, measured. ``beside`` rows are off the climb: they show what a change costs.

    ``measured`` times one training step; its ``work`` is the batch. ``cold_start_seconds``: compiling or capturing.
    """

    step: str = ""
    changes: str = ""
    previous: str = ""
    beside: bool = False
    measured: Measured = field(default_factory=Measured)
    cold_start_seconds: Optional[float] = None


@dataclass(frozen=True)
class LargestBatch:
    """The largest batch of a training step that fits, found by really running out of memory."""

    step: str = ""  # the ladder row whose settings were used, or checkpointing
    batch: Optional[int] = None
    failed_batch: Optional[int] = None  # the smallest that did not fit
    peak_memory_mib: Optional[float] = None
    limit_mib: Optional[float] = None
    state: str = "measured"  # measured, skipped, failed, not-applicable
    reason: str = ""


@dataclass(frozen=True)
class BenchLadder(Fact):
    """From a bare default to a tuned training step, one change a row."""

    model: Optional[str] = read_from("--model")
    batch: Optional[int] = read_from("--batch")
    rows: Tuple[LadderRow, ...] = read_from("training steps", ())
    largest: Tuple[LargestBatch, ...] = read_from("training steps until memory runs out", ())


@dataclass(frozen=True)
class BenchLoader(Fact):
    """Images from files to batches: each number of workers, with the limits they live under."""

    measured: Tuple[Measured, ...] = read_from("torch.utils.data.DataLoader", ())  # config: workers, decoder
    folder: Optional[str] = read_from("--data, or a temporary folder", private=True)
    made_here: Optional[bool] = read_from("--data")  # images made on the spot, not the user's
    images: Optional[int] = read_from("the images' folder")
    mean_bytes: Optional[float] = read_from("the images' files")
    mean_width: Optional[float] = read_from("PIL.Image.open")
    mean_height: Optional[float] = read_from("PIL.Image.open")
    cpus: Optional[int] = read_from("sched_getaffinity, cgroup cpu.max")
    shm_bytes: Optional[int] = read_from("statvfs /dev/shm")
    shm_free_bytes: Optional[int] = read_from("statvfs /dev/shm")
    batch_bytes: Optional[int] = read_from("torch.utils.data.DataLoader")  # what one batch takes in /dev/shm
    dali_version: Optional[str] = read_from("nvidia.dali.__version__")


@dataclass(frozen=True)
class PeerCopy:
    """A copy from one GPU of this machine to another."""

    first: int = 0
    second: int = 0
    can_access: Optional[bool] = None
    measured: Measured = field(default_factory=Measured)


@dataclass(frozen=True)
class BenchCollectives(Fact):
    """Collectives over the ranks of one launch.

    ``Measured.config``: op (all-reduce, all-gather, reduce-scatter), bytes (S as nccl-tests counts it: the whole
    buffer), ranks, and without: the variables (A, or A+B) that were taken out of the environment for it.
    ``seconds`` is of the slowest rank, sample by sample.
    """

    measured: Tuple[Measured, ...] = read_from("torch.distributed", ())
    backend: Optional[str] = read_from("torch.distributed")  # nccl, gloo
    launched_by: Optional[str] = read_from("RANK, WORLD_SIZE")  # torchrun (the user's), envdoctor
    ranks: Optional[int] = read_from("WORLD_SIZE, --ranks, torch.cuda.device_count()")
    ranks_here: Optional[int] = read_from("LOCAL_WORLD_SIZE")
    rank: Optional[int] = read_from("RANK")
    nccl_version: Optional[str] = read_from("NCCL's log")
    networks: Tuple[str, ...] = read_from("NCCL's log: Using network", ())
    transports: Tuple[str, ...] = read_from("NCCL's log: via …", ())  # P2P/CUMEM, SHM/direct, NET/IB/0/GDRDMA
    algorithms: Tuple[str, ...] = read_from("NCCL's log", ())  # NVLS, Ring, Tree
    peers: Tuple[PeerCopy, ...] = read_from("torch.cuda.can_device_access_peer, torch.Tensor.copy_", ())
    gradient_bytes: Optional[int] = read_from(
        "the model's parameters in fp32"
    )  # what one data-parallel step of the model reduces


@dataclass(frozen=True)
class BenchHost(Fact):
    """What the host side costs: launch latency, dispatch rate, and the allocator after a sequence of steps."""

    measured: Tuple[Measured, ...] = read_from("torch", ())
    allocator: Optional[str] = read_from("torch.cuda.get_allocator_backend()")
    allocator_settings: Optional[str] = read_from("PYTORCH_ALLOC_CONF, PYTORCH_CUDA_ALLOC_CONF, PYTORCH_HIP_ALLOC_CONF")
    allocated_mib: Optional[float] = read_from("torch.cuda.memory_stats()")
    reserved_mib: Optional[float] = read_from("torch.cuda.memory_stats()")
    peak_allocated_mib: Optional[float] = read_from("torch.cuda.memory_stats()")
    peak_reserved_mib: Optional[float] = read_from("torch.cuda.memory_stats()")
    inactive_split_mib: Optional[float] = read_from("torch.cuda.memory_stats()")  # reserved, free and unreturnable
    segments: Optional[int] = read_from("torch.cuda.memory_stats()")
    allocation_retries: Optional[int] = read_from("torch.cuda.memory_stats()")
    python_version: Optional[str] = read_from("sys.version_info")


FACTS = (
    BenchDevice, BenchGemm, BenchMemory, BenchCopies, BenchAttention, BenchModel, BenchLadder, BenchLoader,
    BenchCollectives, BenchHost, BenchClocks,
)  # fmt: skip
