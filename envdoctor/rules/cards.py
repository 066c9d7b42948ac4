"""Which GPUs are there: names and compute capabilities from whoever knows them."""

from __future__ import annotations

import msgspec

from envdoctor.facts.driver import CudaDriver, NvidiaSmi
from envdoctor.facts.torch import TorchCuda
from envdoctor.finding import Evidence, see
from envdoctor.knowledge.gpus import capability_of


class Card(msgspec.Struct, frozen=True):
    """One GPU model: its name, its compute capability (None: not known), how many, and who said so."""

    name: str
    capability: str | None
    count: int
    evidence: Evidence


def cards(driver: CudaDriver | None, smi: NvidiaSmi | None, cuda: TorchCuda | None) -> tuple[Card, ...]:
    """Give the GPU models. The first source that names any GPU is the one taken: libcuda, nvidia-smi, torch."""
    for fact, field, rows in (
        (driver, "devices", _of_driver(driver)),
        (smi, "gpus", _of_smi(smi)),
        (cuda, "capabilities", _of_torch(cuda)),
    ):
        if fact and rows:
            return tuple(
                Card(
                    name, capability, rows.count((name, capability)), see(fact, field, "GPU", _spoken(name, capability))
                )
                for name, capability in dict.fromkeys(rows)
            )
    return ()


def _of_driver(driver: CudaDriver | None) -> list[tuple[str, str | None]]:
    return [_known(each.name, each.compute_capability) for each in driver.devices] if driver else []


def _of_smi(smi: NvidiaSmi | None) -> list[tuple[str, str | None]]:
    return [_known(each.name, each.compute_capability) for each in smi.gpus] if smi else []


def _of_torch(cuda: TorchCuda | None) -> list[tuple[str, str | None]]:
    if cuda is None:
        return []
    told = cuda.capabilities or (None,) * len(cuda.device_names)
    names = cuda.device_names or ("",) * len(told)
    return [_known(name, capability) for name, capability in zip(names, told, strict=False)]


def _known(name: str, capability: str | None) -> tuple[str, str | None]:
    return name, capability or capability_of(name)


def _spoken(name: str, capability: str | None) -> str:
    return f"{name or 'GPU'}, compute capability {capability or 'not known'}"


def gpu_names(driver: CudaDriver | None, smi: NvidiaSmi | None, cuda: TorchCuda | None) -> tuple[str, ...]:
    """Name the GPU models."""
    return tuple(each.name for each in cards(driver, smi, cuda) if each.name)


def capabilities(driver: CudaDriver | None, smi: NvidiaSmi | None, cuda: TorchCuda | None) -> tuple[str, ...]:
    """Give the compute capabilities that are known."""
    return tuple(each.capability for each in cards(driver, smi, cuda) if each.capability)
