"""Values of variables: without effect, overruled, or harmful on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Environment
from envdoctor.facts.libraries import Libraries, MappedLibraries, Toolkit
from envdoctor.facts.nvml import GpuFabric, GpuState
from envdoctor.facts.surroundings import Fabric
from envdoctor.facts.torch import TorchBuild, TorchSettings
from envdoctor.finding import Confidence, Evidence, Finding, Severity, headline
from envdoctor.knowledge.variables import Setting, nccl_names
from envdoctor.rule import Rule, Unknown, rule
from envdoctor.rules.circumstances import Around, holds
from envdoctor.rules.given import (
    Given,
    Releases,
    entries,
    file_lines,
    in_force,
    known_of,
    releases_here,
    variables,
    ways_out,
)

NUMBER = re.compile(r"\s*[+-]?(?:0x[0-9a-f]+|\d+)", re.IGNORECASE)
PARAM = "src/misc/param.cc of NVIDIA/nccl: strtoll takes what is no number for 0"
NO_FILE = "there is no such file"  # the probe's words
READ_AS_NUMBERS = frozenset({"NCCL_P2P_DISABLE", "NCCL_SHM_DISABLE"})  # read by strtol, not by NCCL_PARAM


def judged(pairs: Iterable[tuple[Given, Setting]], here: Releases, around: Around) -> list[Finding]:
    """Report the entries that hold for these releases under these circumstances.

    Where none does and one could not be judged, the rule ends as unknown with what is not known.
    """
    found: list[Finding] = []
    undecided: list[str] = []
    values = {each.name: each.value.strip() for each in variables(around.environment or Environment())}
    for each, row in pairs:
        admitted = here.admit(row)
        shown, unknown = holds(row.where, around)
        lifted = any(values.get(name, "0") not in {"", "0"} for name in row.unless)
        if lifted or admitted is False or shown is False:
            continue
        if admitted is None or shown is None:
            undecided.append(f"{each.name}: {unknown or 'the release that reads it is not known'}")
        else:
            found.append(_finding(each, row, (*here.behind(row), *shown)))
    if undecided and not found:
        raise Unknown(undecided[0])
    return found


def _finding(each: Given, row: Setting, shown: tuple[Evidence, ...]) -> Finding:
    return Finding(
        headline(f"{each}: {row.says}"),
        evidence=(each.evidence, *shown, known_of(row)),
        fixes=ways_out(each, row),
        subject=each.name if row.valid is None else f"{each.name}:value",
        severity=Severity(row.severity),
        confidence=Confidence.LIKELY,
    )


@rule(severity=Severity.WARNING, group="environment")
def environment_variable_ineffective(
    environment: Environment,
    toolkit: Toolkit | None,
    build: TorchBuild | None,
    libraries: Libraries | None,
    mapped: MappedLibraries | None,
    settings: TorchSettings | None,
) -> Iterator[Finding]:
    """A setting has no effect.

    ## What it means
    The value is not one that the library understands, a variable overrules a line of a configuration file, or
    something else that it needs is not set.

    ## Why it matters
    What was to be changed stays as it is. NCCL reads its switches as numbers: "true" counts as 0, which is off.

    ## How it is detected
    The values of variables and of NCCL's files against what NCCL, torch and CUDA accept. A line that a variable with
    another value overrules is info: the order is documented, and may be meant.

    ## What to do
    Write the value as the library reads it, or take it out.

    ## Sources
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html
    https://github.com/NVIDIA/nccl/blob/master/src/misc/param.cc
    """
    given = in_force(environment, toolkit)
    values = {each.name: each for each in variables(environment)}
    pairs = [(line, over) for line in file_lines(toolkit) if (over := values.get(line.name)) is not None]
    found = [
        *(_counts_as_zero(each) for each in given if _is_no_number(each)),
        *(_overruled(line, over) for line, over in pairs if _differ(line, over)),
        *_no_such_file(values.get("NCCL_CONF_FILE"), toolkit),
    ]
    yield from found
    here = releases_here(build, libraries, mapped, settings)
    try:
        yield from judged(entries(given, "ineffective"), here, Around(environment, build, libraries))
    except Unknown:
        if not found:
            raise


def _is_no_number(each: Given) -> bool:
    """Tell whether NCCL reads a value as a number that is none."""
    known = nccl_names().get(each.name) if each.name.startswith("NCCL_") else None
    as_number = (known is not None and known.is_number) or each.name in READ_AS_NUMBERS
    return as_number and bool(each.value.strip()) and not each.hidden and NUMBER.match(each.value) is None


def _counts_as_zero(each: Given) -> Finding:
    return Finding(
        f"{each}: NCCL reads a number here, and takes this word for 0",
        evidence=(each.evidence, Evidence("knowledge.nccl_known_vars", "a number", PARAM, "", "NCCL reads")),
        fixes=(each.taken_back(),),
        subject=each.name,
        confidence=Confidence.LIKELY,
    )


def _no_such_file(named: Given | None, toolkit: Toolkit | None) -> Iterator[Finding]:
    said = toolkit.unknown.get("nccl_conf", "") if toolkit else ""
    if named and NO_FILE in said:
        yield Finding(
            f"{named}: {NO_FILE}, so that its settings do not hold",
            evidence=(named.evidence, Evidence("toolkit.nccl_conf", said, named.value, "", "the file")),
            fixes=(named.taken_back(),),
            subject=named.name,
        )


def _differ(line: Given, over: Given) -> bool:
    return not (over.hidden or line.hidden) and over.value.strip() != line.value.strip()


def _overruled(line: Given, over: Given) -> Finding:
    return Finding(
        f"{line} has no effect: the variable is set to {over.value}",
        evidence=(line.evidence, over.evidence),
        fixes=(over.taken_back(), line.taken_back()),
        subject=f"{line.name}:file",
        severity=Severity.INFO,
    )


@rule(severity=Severity.WARNING, group="environment")
def environment_variable_harmful(
    environment: Environment,
    toolkit: Toolkit | None,
    build: TorchBuild | None,
    libraries: Libraries | None,
    mapped: MappedLibraries | None,
    settings: TorchSettings | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
    state: GpuState | None,
    links: GpuFabric | None,
    fabric: Fabric | None,
) -> Iterator[Finding]:
    """A setting does harm on this machine.

    ## What it means
    The setting was made for another machine, for a fault that is gone, or for debugging. Here it switches off what this
    machine has, or makes a failure worse.

    ## Why it matters
    Some cost most of the bandwidth between GPUs or machines, and are noticed at scale only. Some make a job hang or
    stop where it would have gone on.

    ## How it is detected
    The value, together with what makes it harmful: NVLinks that are up, several GPUs, RDMA ports and several machines,
    one or two OpenMP runtimes. Without these nothing is reported. What only costs a start or is a matter of taste is
    info.

    ## What to do
    Take the setting back. If it is meant, ignore this finding with the reason.

    ## Sources
    https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html
    https://docs.pytorch.org/docs/stable/torch_nccl_environment_variables.html
    """
    given = in_force(environment, toolkit)
    here = releases_here(build, libraries, mapped, settings)
    around = Around(environment, build, libraries, bus, nodes, module, smi, driver, state, links, fabric)
    yield from judged(entries(given, "harmful"), here, around)


RULES: tuple[Rule, ...] = (environment_variable_ineffective, environment_variable_harmful)
