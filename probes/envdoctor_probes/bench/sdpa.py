"""[payload] The backends of ``scaled_dot_product_attention``: switched, picked, and why one cannot be used."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from envdoctor.facts.kernels import AttentionChoice
from envdoctor_probes.bench.suite import NotApplicable, words

__all__ = ["BACKENDS", "called_by", "choice", "only"]

# Our name, torch.nn.attention.SDPBackend's name and number, the switch and the question of torch.backends.cuda.
BACKENDS: Tuple[Tuple[str, str, int, str, str], ...] = (
    ("flash", "FLASH_ATTENTION", 1, "enable_flash", "can_use_flash_attention"),
    ("efficient", "EFFICIENT_ATTENTION", 2, "enable_mem_efficient", "can_use_efficient_attention"),
    ("cudnn", "CUDNN_ATTENTION", 3, "", "can_use_cudnn_attention"),
    ("math", "MATH", 0, "enable_math", ""),
)
_CALLS = ("scaled_dot_product_attention", "multi_head_attention_forward")  # the second calls the first
GPU_ONLY = ("efficient", "cudnn")
_MOST_REASONS = 6


@contextlib.contextmanager
def only(torch: Any, backend: str) -> Iterator[None]:
    """Allow one backend alone; raises ``NotApplicable`` where this torch does not know it."""
    _, name, _, switch, _ = next(each for each in BACKENDS if each[0] == backend)
    newer = getattr(getattr(torch.nn, "attention", None), "sdpa_kernel", None)
    if newer is not None:
        kind = getattr(torch.nn.attention.SDPBackend, name, None)
        if kind is None:
            raise NotApplicable(f"torch {torch.__version__} has no {name}")
        with newer([kind]):
            yield
        return
    older = getattr(torch.backends.cuda, "sdp_kernel", None)
    if older is None or not switch:
        raise NotApplicable(f"torch {torch.__version__} cannot be told to use {backend} attention alone")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        switches = {each[3]: each[0] == backend for each in BACKENDS if each[3]}
        context = older(**switches)
    with context:
        yield


def choice(torch: Any, query: Any, config: Dict[str, str], precision: str) -> AttentionChoice:
    """Say which backend is picked for this query (with keys and values of the same shape), and why not the others."""
    picked, reason = _picked(torch, query)
    usable: List[str] = []
    refused: Dict[str, str] = {}
    for name, *_ in BACKENDS:
        why = _why_not(torch, query, name)
        if why is None:
            usable.append(name)
        else:
            refused[name] = why
    return AttentionChoice(config, precision, picked, tuple(usable), refused, reason)


def _picked(torch: Any, query: Any) -> Tuple[Optional[str], str]:
    ask: Optional[Callable[..., int]] = getattr(torch, "_fused_sdp_choice", None)
    if ask is None:
        return None, f"torch {torch.__version__} has no torch._fused_sdp_choice"
    try:
        number = ask(query, query, query)
    except Exception as error:
        return None, words(error)
    return next(((name, "") for name, _, value, _, _ in BACKENDS if value == number), (None, f"backend {number}"))


def _why_not(torch: Any, query: Any, backend: str) -> Optional[str]:
    """Say why a backend cannot be used, or None: asked with the others switched off, then in torch's own words."""
    try:
        with only(torch, backend):
            picked, reason = _picked(torch, query)
    except NotApplicable as why:
        return str(why)
    except Exception as error:
        picked, reason = None, words(error)
    if picked == backend:
        return None
    if not query.is_cuda and backend in GPU_ONLY:
        return "it is for GPUs"
    told = _told(torch, query, backend) if query.is_cuda else ()
    return "; ".join(told) or reason or f"torch picks {picked or 'none'} even when only {backend} is allowed"


def _told(torch: Any, query: Any, backend: str) -> Tuple[str, ...]:
    """Give the warnings with which torch explains that a backend cannot be used on a GPU."""
    question = next(each[4] for each in BACKENDS if each[0] == backend)
    ask, parameters = getattr(torch.backends.cuda, question, None), getattr(torch.backends.cuda, "SDPAParams", None)
    if not question or ask is None or parameters is None:
        return ()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            ask(_parameters(parameters, query), True)
        except Exception as error:
            return (words(error),)
    return tuple(_first_sentence(str(each.message)) for each in caught[:_MOST_REASONS])


def _parameters(kind: Any, query: Any) -> Any:
    """Fill in torch's question: since 2.5 it also asks whether keys and values are shared between heads."""
    try:
        return kind(query, query, query, None, 0.0, False, False)
    except TypeError:
        return kind(query, query, query, None, 0.0, False)


def _first_sentence(message: str) -> str:
    """Leave out where in torch's source a warning was raised."""
    return message.partition(" (Triggered internally")[0].strip()


def called_by(torch: Any, run: Callable[[], Any]) -> Optional[bool]:
    """Tell whether something calls ``scaled_dot_product_attention``; None where it cannot be watched."""
    if not hasattr(torch.overrides, "TorchFunctionMode"):  # since torch 1.13
        return None
    seen: List[str] = []

    def noted(_self: Any, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        seen.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))

    watch: Any = type("Watch", (torch.overrides.TorchFunctionMode,), {"__torch_function__": noted})
    with watch():
        run()
    return any(each in _CALLS for each in seen)
