"""[payload] torch's precision and speed settings, read in a fork of the process that imported it."""

from __future__ import annotations

from typing import Any

from envdoctor.facts.torch import TorchSettings
from envdoctor.probe import Context, NotThere, probe
from envdoctor_probes.torch_questions import QUESTIONS, answers, parse_nccl_version

__all__ = ["QUESTIONS", "parse_nccl_version", "read_settings", "torch_settings"]


@probe(level="standard", child="torch", seconds=20.0)
def torch_settings(_context: Context) -> TorchSettings:
    """Read each setting on its own: what one torch lacks, or refuses to tell, is unknown with its own words."""
    import torch

    if not hasattr(torch, "backends"):
        raise NotThere("the module called torch has no settings: a bare folder, or another package")
    return read_settings(torch)


def read_settings(torch: Any) -> TorchSettings:
    """Read the settings of this torch module, without any call that starts CUDA."""
    values, unknown = answers(torch)
    return TorchSettings(unknown=unknown, **values)
