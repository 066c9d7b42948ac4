"""[payload] environment: the variables that change how drivers, libraries and torch behave, by allow-list."""

from __future__ import annotations

import re
from typing import Mapping, Tuple

from envdoctor.facts.host import Environment, Variable
from envdoctor.probe import Context, probe

__all__ = ["clean_value", "environment", "is_collected", "select_variables"]

PREFIXES = (
    "NCCL_", "TORCH", "PYTORCH_", "TRITON_", "CUDA_", "CUDNN_", "CUBLAS", "NVIDIA_", "OMP_", "GOMP_", "MKL_",
    "KMP_", "OPENBLAS_", "LD_", "PYTHON", "UCX_", "FI_", "OMPI_", "GLOO_", "SLURM_", "RDMAV_", "NVSHMEM_",
    "NVTE_", "VLLM_NCCL_",
)  # fmt: skip
NAMES = frozenset((
    "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "VIRTUAL_ENV", "LOADEDMODULES", "MASTER_ADDR", "MASTER_PORT", "RANK",
    "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "NODE_RANK", "ROLE_RANK",
    "ROLE_WORLD_SIZE", "CC", "CXX", "CUDAHOSTCXX", "NVCC_APPEND_FLAGS", "NVCC_PREPEND_FLAGS", "MAX_JOBS",
    "USE_LIBUV", "DISABLE_PTXAS_OPT", "_CUDA_COMPAT_PATH", "PIP_CONSTRAINT", "PIP_EXTRA_INDEX_URL",
    "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "TMPDIR", "MALLOC_CONF", "GPU_DEVICE_ORDINAL",
))  # fmt: skip
LONGEST_VALUE = 4096

_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|KEY|CREDENTIAL|AUTH")
# Up to the last @: a password may hold anything, and hiding a path too much is better than a word too little.
_URL_USER = re.compile(r"(?<=://)\S*@")
_PLAIN_USER = re.compile(r"[^\s:/@,;='\"]+:(?!//)\S*@(?=[\w.\[-])")
_QUERY_SECRET = re.compile(r"(?i)([?&;][\w.-]*(?:token|secret|password|key|credential|auth|sig)[\w.-]*=)[^&\s]+")


@probe()
def environment(context: Context) -> Environment:
    """Collect the listed variables of the patient's environment and count the others."""
    variables = select_variables(context.environ)
    return Environment(variables=variables, names_not_collected=len(context.environ) - len(variables))


def select_variables(environ: Mapping[str, str]) -> Tuple[Variable, ...]:
    """Pick what is on the allow-list, by name, secrets taken out."""
    return tuple(clean_value(name, environ[name]) for name in sorted(environ) if is_collected(name))


def is_collected(name: str) -> bool:
    """Tell whether the allow-list names this variable."""
    return name in NAMES or name.startswith(PREFIXES)


def clean_value(name: str, value: str) -> Variable:
    """Take out what can be a secret: all of it by the variable's name, else the credentials inside it."""
    if _SECRET_NAME.search(name.upper()):
        return Variable(name, "***", redacted=True)
    cleaned = _QUERY_SECRET.sub(r"\1***", _PLAIN_USER.sub("***@", _URL_USER.sub("***@", value)))
    redacted = cleaned != value
    if len(cleaned) > LONGEST_VALUE:
        cleaned = f"{cleaned[:LONGEST_VALUE]}… ({len(cleaned) - LONGEST_VALUE} more characters)"
    return Variable(name, cleaned, redacted=redacted)
