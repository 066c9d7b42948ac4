"""Debugging that was left on: variables and modes that make each operation wait, check or write."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment
from envdoctor.facts.libraries import Toolkit
from envdoctor.facts.torch import TorchBuild, TorchSettings
from envdoctor.finding import Finding, Severity, headline, see
from envdoctor.remedy.variables import export, look, unset
from envdoctor.rule import Rule, rule
from envdoctor.rules.circumstances import Around, holds
from envdoctor.rules.given import entries, known_of, variables
from envdoctor.rules.launch import nccl_setting
from envdoctor.rules.presence import need_gpu
from envdoctor.rules.setting_values import is_on, value_of


@rule(severity=Severity.WARNING, group="environment")
def cuda_launch_blocking_set(
    environment: Environment,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
) -> Iterator[Finding]:
    """CUDA_LAUNCH_BLOCKING is set: each kernel is waited for before the next is launched.

    ## What it means
    The variable makes every launch synchronous, so that an error shows at the right line. It is for debugging.

    ## Why it matters
    CPU and GPU take turns instead of working side by side. Small kernels and data loading suffer most.

    ## How it is detected
    The environment: any value but 0.

    ## What to do
    Unset it when the error has been found.

    ## Sources
    https://docs.pytorch.org/docs/stable/cuda_environment_variables.html
    """
    need_gpu(bus, nodes, module, smi, driver)
    if not is_on(environment, "CUDA_LAUNCH_BLOCKING"):
        return
    value = value_of(environment, "CUDA_LAUNCH_BLOCKING")
    shown = see(environment, "variables", "CUDA_LAUNCH_BLOCKING", value)
    yield Finding(
        "CUDA_LAUNCH_BLOCKING is set: kernels run one at a time", "", (shown,), (unset("CUDA_LAUNCH_BLOCKING"),)
    )


@rule(severity=Severity.INFO, group="environment")
def nccl_debug_left_on(
    environment: Environment,
    toolkit: Toolkit | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
) -> Iterator[Finding]:
    """NCCL writes its debugging log.

    ## What it means
    NCCL_DEBUG is INFO or TRACE: every rank writes what it decides.

    ## Why it matters
    The log of a large job is flooded, and its start is slower. Training speed is nearly the same with INFO.

    ## How it is detected
    The environment, and NCCL's configuration files.

    ## What to do
    Set it to WARN, which still says what went wrong.

    ## Sources
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html#nccl-debug
    """
    need_gpu(bus, nodes, module)
    found = nccl_setting(environment, toolkit, "NCCL_DEBUG")
    if found and found[0].strip().upper() in {"INFO", "TRACE"}:
        fixes = (export("Let NCCL say warnings only", "NCCL_DEBUG=WARN"),)
        yield Finding(f"NCCL_DEBUG={found[0]}: every rank writes NCCL's debugging log", "", (found[1],), fixes)


@rule(severity=Severity.WARNING, group="environment")
def anomaly_or_debug_mode_on(
    settings: TorchSettings, environment: Environment | None, build: TorchBuild | None
) -> Iterator[Finding]:
    """A debugging mode of PyTorch or of a CUDA library is on.

    ## What it means
    Anomaly detection, a debug build, or a variable that makes each operation check or write something.

    ## Why it matters
    Training is slower by a factor, without a word.

    ## How it is detected
    torch.is_anomaly_enabled(), the build's own flag, and the variables that are known to cost speed.

    ## What to do
    Switch it off for real runs.

    ## Sources
    https://docs.pytorch.org/docs/stable/autograd.html#anomaly-detection
    https://docs.pytorch.org/docs/stable/distributed.html#torch-distributed-debug
    """
    if settings.anomaly_mode:
        fix = look("Find where it is switched on", "grep -rn 'set_detect_anomaly\\|detect_anomaly' --include='*.py' .")
        title = "Anomaly detection is on: each backward step is checked and traced"
        yield Finding(title, "", (see(settings, "anomaly_mode", "anomaly mode"),), (fix,), "anomaly")
    if build and build.debug:
        fix = look("See which build it is", "python3 -c 'import torch; print(torch.__config__.show())'")
        yield Finding("This torch is a debug build", "", (see(build, "debug", "debug build"),), (fix,), "debug-build")
    around = Around(environment, build)
    for each, row in entries(tuple(variables(environment)), "debug") if environment else ():
        if holds(row.where, around)[0] is not False:
            shown = (each.evidence, known_of(row))
            yield Finding(
                headline(f"{each}: {row.says}"), "", shown, (each.taken_back(),), each.name, Severity(row.severity)
            )


RULES: tuple[Rule, ...] = (cuda_launch_blocking_set, nccl_debug_left_on, anomaly_or_debug_mode_on)
