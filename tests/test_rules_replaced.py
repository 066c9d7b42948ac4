"""The rule about libraries that were replaced under a running job."""

from __future__ import annotations

import pytest

from envdoctor.facts.job import Job
from envdoctor.finding import Status
from envdoctor.rules.replaced import libraries_replaced_under_job
from envdoctor.testing import check

SITE = "/opt/venv/lib/python3.11/site-packages"
CUDNN = f"{SITE}/nvidia/cudnn/lib/libcudnn_ops.so.9"


def test_an_upgrade_under_a_job_is_named() -> None:
    """Each library that is gone is named, up to four, and how to start the job anew comes first."""
    gone = (CUDNN, *(f"{SITE}/torch/lib/libtorch_{each}.so" for each in ("cpu", "cuda", "python", "nvshmem")))
    finding = check(libraries_replaced_under_job, Job(pid=4711, libraries=gone, deleted_libraries=gone)).finding
    assert "Process 4711 runs with 5 old libraries, replaced on disk since" == finding.title
    assert (4, CUDNN) == (len(finding.evidence), finding.evidence[0].value)
    assert "kill -TERM 4711" == finding.fixes[0].commands[0].shell
    assert finding.fixes[0].verify.startswith("envdoctor check --only libraries-replaced-under-job --pid PID")


@pytest.mark.parametrize(
    ("job", "status"),
    [
        (Job(pid=7, libraries=(CUDNN,)), Status.PASSED),
        (Job(pid=7, deleted_libraries=("/usr/lib/x86_64-linux-gnu/libssl.so.3",)), Status.PASSED),
        (Job(pid=7, deleted_libraries=("/usr/lib/x86_64-linux-gnu/libcurl.so.4.8.0",)), Status.PASSED),
        (Job(pid=7, deleted_libraries=("/usr/local/cuda/lib64/libcublasLt.so.12",)), Status.FIRED),
        (Job(pid=7, deleted_libraries=("/usr/lib/x86_64-linux-gnu/libcuda.so.570.86.15",)), Status.FIRED),
        (Job(pid=7, unknown={"deleted_libraries": "/proc/7/maps: Permission denied"}), Status.UNKNOWN),
        (Job(pid=7, ended=True, unknown={"deleted_libraries": "process 7 has ended"}), Status.NOT_APPLICABLE),
    ],
)
def test_only_what_training_loads_counts(job: Job, status: Status) -> None:
    """Libraries of the system may be renewed under a job; without its memory map nothing is known."""
    assert status == check(libraries_replaced_under_job, job).status
