"""Conda's channels: whether torch and what is built against it came from one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.packages import Distribution, Packages
from envdoctor.finding import Confidence, Finding, Severity, see
from envdoctor.remedy import repair
from envdoctor.rule import NotApplicable, Rule, Unknown, rule
from envdoctor.rules.presence import has_gpu
from envdoctor.rules.versions import cuda_of_distribution

TORCH_OF_CONDA = ("pytorch", "libtorch")
PAIRED_BY_CONDA = ("libtorch", "torchvision", "torchaudio", "torchtext", "pytorch-cuda")
CUDA_OF_CONDA = ("cudatoolkit", "pytorch-cuda", "cuda-toolkit")


@rule(severity=Severity.WARNING, group="packages")
def conda_channel_mix(
    packages: Packages,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
) -> Iterator[Finding]:
    """Conda took torch and what belongs to it from different channels.

    ## What it means
    Each channel builds torch its own way. A torchvision of one channel is linked against that channel's torch. And a
    CUDA toolkit of one channel does not make the CPU build of another one use a GPU.

    ## Why it matters
    "undefined symbol" at import, or a CPU build where CUDA was asked for. Without a GPU the second is info.

    ## How it is detected
    The channel in conda's records (conda-meta) of torch and of the packages that are built against it, and torch's own
    build string beside CUDA packages of another channel. A package whose channel is not recorded is not judged.

    ## What to do
    Take all of them from one channel, by name: `conda-forge::pytorch`.

    ## Sources
    https://docs.conda.io/projects/conda/en/latest/user-guide/tasks/manage-channels.html
    """
    owned = {each.name: each for each in packages.distributions if each.source == "conda"}
    torch = next((owned[name] for name in TORCH_OF_CONDA if name in owned), None)
    if torch is None:
        raise NotApplicable("conda did not bring torch")
    if not torch.channel:
        raise Unknown("the channel that torch came from is not recorded")
    foreign = [each for each in owned.values() if each.channel and _channel(each) != _channel(torch)]
    built = [each for each in foreign if each.name in PAIRED_BY_CONDA and each.name not in CUDA_OF_CONDA]
    asked = [each for each in foreign if each.name in CUDA_OF_CONDA and cuda_of_distribution(torch) == "cpu"]
    if built or asked:
        idle = not built and not has_gpu(bus, nodes, module, smi, driver)
        yield _mixed(packages, torch, (*built, *asked), idle=idle)


def _channel(each: Distribution) -> str:
    """Name a channel as a person does: the parts of ``defaults`` are one channel."""
    name = each.channel.rpartition("::")[0] or each.channel
    name = re.sub(r"/(linux-\w+|noarch|win-64|osx-\w+)$", "", name)
    return "defaults" if name.startswith(("pkgs/", "anaconda", "defaults")) else name.rpartition("/")[2] or name


def _mixed(packages: Packages, torch: Distribution, others: tuple[Distribution, ...], *, idle: bool) -> Finding:
    names = ", ".join(f"{each.name} ({_channel(each)})" for each in others[:3])
    return Finding(
        f"conda took {torch.name} {torch.version} from {_channel(torch)}, and {names} from elsewhere",
        evidence=tuple(
            see(packages, "distributions", each.name, f"{each.version} {each.build} from {each.channel}")
            for each in (torch, *others[:3])
        ),
        fixes=repair.fresh_environment(packages),
        severity=Severity.INFO if idle else None,
        confidence=Confidence.LIKELY,
        affects=tuple(each.name for each in others),
    )


RULES: tuple[Rule, ...] = (conda_channel_mix,)
