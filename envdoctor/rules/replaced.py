"""What was replaced on disk while a job that runs had it loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from envdoctor.facts.job import Job
from envdoctor.finding import Finding, Severity, see
from envdoctor.remedy.variables import look, start_anew
from envdoctor.rule import NotApplicable, Unknown, rule

# Of torch and what it loads. Other libraries, of the system or of the program, may well be renewed under a job.
TRAINS = re.compile(
    r"/(?:torch|nvidia|triton)/|/lib(?:torch|c10|cuda|cudnn|cublas|cufft|cufile|cupti|curand|cusolver|cusparse|nccl|nvidia"
    r"|nvrtc|nvJitLink|nvshmem)[\w.-]*\.so"
)
MOST_NAMED = 4


@rule(severity=Severity.WARNING, group="libraries")
def libraries_replaced_under_job(job: Job) -> Iterator[Finding]:
    """A job that runs has libraries loaded that were replaced on disk since.

    ## What it means
    pip, conda or the package manager has put other files in the place of libraries that the job had loaded. The job
    keeps the old ones in memory.

    ## Why it matters
    What it loads later (cuDNN and cuBLAS load parts of themselves when they are first needed, and new workers load
    everything anew) comes from the new files. Old and new parts in one process crash, or report versions that do not
    match. And what is found in the environment now is not what the job runs.

    ## How it is detected
    Libraries of torch, CUDA and NVIDIA's driver that the kernel marks as deleted in the job's memory map.

    ## What to do
    Start the job anew from its last checkpoint. Put upgrades into another environment while jobs run.

    ## Sources
    https://man7.org/linux/man-pages/man5/proc_pid_maps.5.html
    """
    if job.ended:
        raise NotApplicable(f"process {job.pid} has ended")
    if "deleted_libraries" in job.unknown:
        raise Unknown(job.unknown["deleted_libraries"])
    found = [each for each in job.deleted_libraries if TRAINS.search(each)]
    if not found:
        return
    how_many = f"{len(found)} old libraries" if len(found) > 1 else "an old library"
    named = [see(job, "deleted_libraries", f"replaced: {each.rpartition('/')[2]}", each) for each in found[:MOST_NAMED]]
    anew = start_anew("Stop the job once it has written its checkpoint, and start it anew", f"kill -TERM {job.pid}")
    yield Finding(
        f"Process {job.pid} runs with {how_many}, replaced on disk since",
        evidence=tuple(named),
        fixes=(
            replace(anew, verify="envdoctor check --only libraries-replaced-under-job --pid PID  # the new job's"),
            look("See what has changed under it", f"grep '(deleted)' /proc/{job.pid}/maps"),
        ),
    )


RULES = (libraries_replaced_under_job,)
