"""Judge the scratch file system."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.finding import Command, Finding, Fix, Safety, Severity, see
from envdoctor.rule import known, rule
from envdoctor_scratch.facts import ScratchMount


@rule(severity=Severity.WARNING, group="storage")
def scratch_not_mounted(scratch: ScratchMount) -> Iterator[Finding]:
    """The cluster's scratch file system is not mounted.

    ## What it means
    Nothing is mounted on /scratch, so that files written there land on the node's own disk.

    ## Why it matters
    That disk is small, slow for many readers, and erased when the job ends.

    ## How it is detected
    /proc/mounts has no line for /scratch.

    ## What to do
    Mount it, or ask the cluster's administrators to.
    """
    if known(scratch, "mounted"):
        return
    mount = Fix("Mount it", (Command(None, "sudo mount /scratch"),), Safety.ADMIN, "mounts a file system", True)
    yield Finding(
        "/scratch is not mounted: what a job writes there is lost with the node",
        evidence=(see(scratch, "mounted", "mounted on /scratch"),),
        fixes=(mount,),
    )


RULES = (scratch_not_mounted,)
