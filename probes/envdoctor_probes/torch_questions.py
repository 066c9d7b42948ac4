"""[payload] What torch is asked about its settings. Nothing of ours is imported, so that it costs nothing to ask."""

from __future__ import annotations

import warnings
from typing import Any, Callable, Dict, Optional, Tuple

Question = Callable[[Any], Any]


class NotBuilt(Exception):  # noqa: N818 - an answer, not an error
    """This torch was built without what is asked for."""


def answers(torch: Any) -> Tuple[Dict[str, Any], Dict[str, str]]:
    """Ask this torch module for each setting, without any call that starts CUDA; give values, and why not others."""
    unknown: Dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reading the older names warns that they are old
        values = {name: _read(torch, name, kind, question, unknown) for name, kind, question in QUESTIONS}
    return {name: value for name, value in values.items() if value is not None}, unknown


def _read(torch: Any, name: str, kind: Callable[[Any], Any], question: Question, unknown: Dict[str, str]) -> Any:
    try:
        return kind(question(torch))
    except NotBuilt as error:
        unknown[name] = str(error)
    except Exception as error:
        lacks = isinstance(error, AttributeError) or "Unknown attribute" in str(error)  # 1.x raises AssertionError
        unknown[name] = f"this torch does not have it ({error})" if lacks else f"{type(error).__name__}: {error}"
    return None


def _cudnn_version(torch: Any) -> int:
    """Ask cuDNN, which loads it: only where torch was built with it. A mismatch raises, in torch's own words."""
    if not torch.backends.cudnn.is_available():
        raise NotBuilt("torch was built without cuDNN")
    return int(torch.backends.cudnn.version())


def _nccl_version(torch: Any) -> str:
    ask = getattr(torch._C, "_nccl_version", None)  # noqa: SLF001 - torch.cuda.nccl is this call and an unpacking
    if ask is None:
        raise NotBuilt("torch was built without NCCL")
    return parse_nccl_version(ask())


def parse_nccl_version(answer: Any) -> str:
    """Read NCCL's version: torch has answered with a tuple, with 21005 (2.10.5) and with 2708 (2.7.8)."""
    if isinstance(answer, tuple):
        return ".".join(str(part) for part in answer if part != "")
    number = int(answer)
    if number >= 1 << 32:  # major, minor and patch in 16 bits each, as torch packs it since 1.13
        return f"{number >> 32}.{(number >> 16) & 65535}.{number & 65535}"
    if number < 10_000:
        return f"{number // 1000}.{number % 1000 // 100}.{number % 100}"
    return f"{number // 10_000}.{number % 10_000 // 100}.{number % 100}"


def _distributed_backends(torch: Any) -> Tuple[str, ...]:
    distributed = torch.distributed
    if not distributed.is_available():
        raise NotBuilt("torch was built without torch.distributed")
    return tuple(name for name in ("nccl", "gloo", "mpi", "ucc", "xccl") if _has_backend(distributed, name))


def _has_backend(distributed: Any, name: str) -> bool:
    ask: Optional[Callable[[], Any]] = getattr(distributed, f"is_{name}_available", None)
    if ask is None and name == "gloo":  # before 1.11 there was no question; gloo was always built on Linux
        return hasattr(distributed, "ProcessGroupGloo")
    return bool(ask and ask())


# The fp32_precision API (2.9) is read first. Once it was used, the older names raise: that is then their answer.
QUESTIONS: Tuple[Tuple[str, Callable[[Any], Any], Question], ...] = (
    ("fp32_precision", str, lambda torch: torch.backends.fp32_precision),
    ("matmul_fp32_precision", str, lambda torch: torch.backends.cuda.matmul.fp32_precision),
    ("cudnn_fp32_precision", str, lambda torch: torch.backends.cudnn.conv.fp32_precision),
    ("float32_matmul_precision", str, lambda torch: torch.get_float32_matmul_precision()),
    ("allow_tf32_matmul", bool, lambda torch: torch.backends.cuda.matmul.allow_tf32),
    ("allow_tf32_cudnn", bool, lambda torch: torch.backends.cudnn.allow_tf32),
    ("cudnn_enabled", bool, lambda torch: torch.backends.cudnn.enabled),
    ("cudnn_benchmark", bool, lambda torch: torch.backends.cudnn.benchmark),
    ("cudnn_deterministic", bool, lambda torch: torch.backends.cudnn.deterministic),
    ("deterministic_algorithms", bool, lambda torch: torch.are_deterministic_algorithms_enabled()),
    ("flash_sdp", bool, lambda torch: torch.backends.cuda.flash_sdp_enabled()),
    ("mem_efficient_sdp", bool, lambda torch: torch.backends.cuda.mem_efficient_sdp_enabled()),
    ("math_sdp", bool, lambda torch: torch.backends.cuda.math_sdp_enabled()),
    ("cudnn_sdp", bool, lambda torch: torch.backends.cuda.cudnn_sdp_enabled()),
    ("default_dtype", str, lambda torch: torch.get_default_dtype()),
    ("anomaly_mode", bool, lambda torch: torch.is_anomaly_enabled()),
    ("num_threads", int, lambda torch: torch.get_num_threads()),
    ("cudnn_version", int, _cudnn_version),
    ("nccl_version", str, _nccl_version),
    ("distributed_backends", tuple, _distributed_backends),
)
