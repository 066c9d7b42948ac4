"""Words about settings: of the allocator, of threads."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import NvidiaSmi
from envdoctor.facts.host import Environment, Resources
from envdoctor.facts.text import ErrorText
from envdoctor.finding import Confidence, Finding, Severity, see
from envdoctor.remedy.variables import export, unset
from envdoctor.rule import Witness, witness
from envdoctor.rules.cards import cards
from envdoctor.rules.said import hear, lead

MANY = 16  # CPUs from which on a pool for each is more than one process can use
ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


@witness
def allocator_setting_invalid(words: ErrorText, environment: Environment | None) -> Iterator[Finding]:
    """The allocator's own words."""
    heard = hear(words, "allocator-setting-invalid")
    if heard:
        found = [(name, environment.get(name)) for name in ALLOCATOR] if environment else []
        shown = tuple(see(environment, "variables", name, value) for name, value in found if environment and value)
        yield lead(heard, "The allocator's setting holds what this torch does not know", unset(*ALLOCATOR), also=shown)


@witness
def omp_threads_oversubscription(
    words: ErrorText | None, environment: Environment | None, resources: Resources | None, smi: NvidiaSmi | None
) -> Iterator[Finding]:
    """Threads that cannot be made, or somebody who counts too many; a variable that bounds them speaks against it."""
    heard = hear(words, "omp-threads-oversubscription")
    value = ((environment.get("OMP_NUM_THREADS") if environment else None) or "").strip()
    bounded = value.isdigit() and int(value) <= 8
    cpus = resources.cpus_online if resources else None
    shown = (see(resources, "cpus_online", "CPUs"),) if resources and cpus else ()
    if heard is None and environment and "OMP_NUM_THREADS" in environment.unset and cpus and cpus >= MANY:
        yield Finding(
            f"OMP_NUM_THREADS is not set: each process makes a pool of {cpus} threads, unless its launcher sets it",
            evidence=(see(environment, "unset", "not set", "OMP_NUM_THREADS"), *shown),
            fixes=(export("Give each process its share", f"OMP_NUM_THREADS={max(1, cpus // MANY)}"),),
            severity=Severity.INFO,
            confidence=Confidence.POSSIBLE,
        )
    if heard and not bounded:
        gpus = max(1, sum(each.count for each in cards(None, smi, None)))
        share = max(1, cpus // gpus) if cpus else 1
        yield lead(
            heard,
            "Thread pools are larger than the CPUs there are: each process makes one as large as the machine",
            export("Give each process its share, and workers of a DataLoader one", f"OMP_NUM_THREADS={share}"),
            also=shown,
            severity=Severity.WARNING,
        )


WITNESSES: tuple[Witness, ...] = (allocator_setting_invalid, omp_threads_oversubscription)
