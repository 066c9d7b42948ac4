"""The rules: one module a subject, many short rules each. ``RULES`` is the catalogue in the order it is listed.

Each module ends with its own tuple ``RULES``. They are imported when the catalogue is first asked for: ``explain``
needs one module, and ``--help`` none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envdoctor.rule import Rule, Witness

    RULES: tuple[Rule, ...]
    WITNESSES: dict[str, Witness]

MODULES = (
    "devices", "driver", "cuda_start", "visibility", "cuda_unavailable", "arch", "system", "precision",
    "doctor", "partial", "out_of_date", "drifted",
    "card_health", "card_speed", "card_use", "library_search", "cudnn", "library_copies", "system_libraries",
    "replaced",
    "torch", "torch_files", "torch_copies", "torch_pins", "torch_import",
    "packages", "companions", "companion_gpus", "ptxas", "conda_channels", "companion_cuda", "companion_systems",
    "extensions", "mixtures", "interpreter", "asked_for",
    "driver_state", "gpu_kinds", "arch_horizon", "peers", "rdma", "nccl", "building",
    "containers", "ngc", "wsl", "limits", "numa", "threads", "debug_settings", "variable_names", "variable_values",
    "switched_off", "allocator", "compiling", "kernels",
    "required", "fleet",
    "measured_card", "measured_training", "measured_loader", "measured_links", "measured_trust",
    "restart", "loading", "default_precision",
)  # fmt: skip
# Witnesses: what words of logs and tracebacks add to the rules above. Imported only where there is a text.
SAID_MODULES = (
    "said_driver", "said_cards", "said_arch", "said_libraries", "said_torch", "said_packages", "said_building",
    "said_job", "said_settings",
)  # fmt: skip
RETIRED: frozenset[str] = frozenset()


def __getattr__(name: str) -> object:
    """Put the catalogue together on first use (PEP 562)."""
    import importlib

    if name == "WITNESSES":
        found = (importlib.import_module(f"envdoctor.rules.{each}") for each in SAID_MODULES)
        globals()[name] = {each.id: each for module in found for each in module.WITNESSES}
        return globals()[name]
    if name != "RULES":
        msg = f"module 'envdoctor.rules' has no attribute {name!r}"
        raise AttributeError(msg)
    modules = (importlib.import_module(f"envdoctor.rules.{each}") for each in MODULES)
    globals()[name] = tuple(rule for module in modules for rule in module.RULES)
    return globals()[name]
