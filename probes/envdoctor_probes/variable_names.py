"""[payload] The allow-list: which environment variables are collected. Names only, so that it costs nothing to ask."""

from __future__ import annotations

PREFIXES = (
    "NCCL_", "TORCH", "PYTORCH_", "TRITON_", "CUDA_", "CUDNN_", "CUBLAS", "NVIDIA_", "OMP_", "GOMP_", "MKL_",
    "KMP_", "OPENBLAS_", "LD_", "PYTHON", "UCX_", "FI_", "OMPI_", "GLOO_", "SLURM_", "RDMAV_", "NVSHMEM_",
    "NVTE_", "VLLM_NCCL_", "BNB_",
)  # fmt: skip
NAMES = frozenset((
    "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "VIRTUAL_ENV", "LOADEDMODULES", "MASTER_ADDR", "MASTER_PORT", "RANK",
    "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "NODE_RANK", "ROLE_RANK",
    "ROLE_WORLD_SIZE", "CC", "CXX", "CUDAHOSTCXX", "NVCC_CCBIN", "NVCC_APPEND_FLAGS", "NVCC_PREPEND_FLAGS", "MAX_JOBS",
    "USE_LIBUV", "DISABLE_PTXAS_OPT", "_CUDA_COMPAT_PATH", "PIP_CONSTRAINT", "PIP_EXTRA_INDEX_URL",
    "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "TMPDIR", "MALLOC_CONF", "GPU_DEVICE_ORDINAL",
))  # fmt: skip


def is_collected(name: str) -> bool:
    """Tell whether the allow-list names this variable."""
    return name in NAMES or name.startswith(PREFIXES)
