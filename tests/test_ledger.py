"""The ledger made whole: mapped copies, the libraries' own answers and the driver's limit, put into its rows."""

from __future__ import annotations

import pytest

from envdoctor import snapshot
from envdoctor.facts.driver import CudaDriver, CudaRuntime
from envdoctor.facts.job import Job
from envdoctor.facts.libraries import LedgerRow, Libraries, MappedLibraries, stem_of
from envdoctor.facts.torch import TorchSettings
from envdoctor.ledger import complete, cudnn_version

SITE = "/venv/lib/python3.11/site-packages"
CUDNN, NCCL = f"{SITE}/nvidia/cudnn/lib/libcudnn.so.9", f"{SITE}/nvidia/nccl/lib/libnccl.so.2"
ROWS = (
    LedgerRow("cudart", "libcudart.so.12"), LedgerRow("cudnn", "libcudnn.so.9"),
    LedgerRow("cudnn_graph", "libcudnn_graph.so.9"), LedgerRow("nccl", "libnccl.so.2"),
    LedgerRow("gomp", "libgomp-a34b3233.so.1"), LedgerRow("cublas"),
)  # fmt: skip
MAPPED = MappedLibraries(
    paths=(CUDNN, NCCL, "/usr/lib/libgomp.so.1.0.0", f"{SITE}/torch/lib/libgomp-24e2ab19.so.1", "/usr/lib/libz.so.1"),
    nccl_version="2.27.5",
)


def row(name: str, *facts: object) -> LedgerRow:
    """Give one row of the ledger of a snapshot with these facts beside it."""
    completed = complete(snapshot.of(Libraries(rows=ROWS), *facts))  # type: ignore[arg-type]
    libraries = completed.get(Libraries)
    assert libraries is not None
    found = libraries.row(name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cudnn", (CUDNN,)),
        ("cudnn_graph", ()),
        ("nccl", (NCCL,)),
        ("gomp", ("/usr/lib/libgomp.so.1.0.0", f"{SITE}/torch/lib/libgomp-24e2ab19.so.1")),
        ("cublas", ()),
    ],
)
def test_mapped_copies_are_found_by_their_names(name: str, expected: tuple[str, ...]) -> None:
    """Versions and auditwheel's hash are passed over; a sub-library is not the library; two copies are both shown."""
    assert expected == row(name, MAPPED).mapped


def test_job_of_the_same_python_decides_what_is_mapped() -> None:
    """What a running job has loaded counts before what a fresh process would load, if it is this very Python."""
    job = Job(same_python=True, libraries=("/opt/old/libcudnn.so.9.1.0",))
    assert ("/opt/old/libcudnn.so.9.1.0",) == row("cudnn", MAPPED, job).mapped
    other = Job(same_python=False, libraries=("/opt/old/libcudnn.so.9.1.0",))
    assert (CUDNN,) == row("cudnn", MAPPED, other).mapped


def test_job_whose_maps_are_hidden_maps_nothing() -> None:
    """A fresh process does not stand in for a job that could not be read."""
    assert () == row("cudnn", MAPPED, Job(same_python=True, unknown={"libraries": "Permission denied"})).mapped


def test_libraries_answer_for_themselves() -> None:
    """Each library's own answer comes from the probe that has asked it; torch's headers of NCCL are no answer."""
    facts = (MAPPED, TorchSettings(cudnn_version=91002, nccl_version="2.26.2"), CudaRuntime(runtime_version="12.8"))
    told = {name: row(name, *facts).api_version for name in ("cudnn", "nccl", "cudart", "cublas")}
    assert {"cudnn": "9.10.2", "nccl": "2.27.5", "cudart": "12.8", "cublas": None} == told


def test_driver_limits_the_runtime_alone() -> None:
    """The limit is libcuda's answer, else what libcudart has heard of it."""
    both = (CudaDriver(cuda_version="12.4"), CudaRuntime(driver_version="12.2"))
    assert ("12.4", None) == (row("cudart", *both).driver_limit, row("cudnn", *both).driver_limit)
    assert "12.2" == row("cudart", CudaDriver(), both[1]).driver_limit


def test_completing_twice_is_completing_once() -> None:
    """A saved snapshot may be completed again; without a ledger nothing changes at all."""
    once = complete(snapshot.of(Libraries(rows=ROWS), MAPPED))
    assert once == complete(once)
    bare = snapshot.of(MAPPED)
    assert bare is complete(bare)


@pytest.mark.parametrize(
    ("number", "expected"), [(91002, "9.10.2"), (90100, "9.1.0"), (8907, "8.9.7"), (7605, "7.6.5")]
)
def test_number_of_cudnn_is_read(number: int, expected: str) -> None:
    """The width of cuDNN's number changed with version 9."""
    assert expected == cudnn_version(number)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("libcudnn.so.9", "libcudnn"), ("libgomp-a34b3233.so.1", "libgomp"), ("libstdc++.so.6.0.30", "libstdc++"),
        ("libtorch_cuda.so", "libtorch_cuda"), ("_C.cpython-311-x86_64-linux-gnu.so", None), ("", None),
    ],
)  # fmt: skip
def test_stem_of_a_library(name: str, expected: str | None) -> None:
    """A library is known by what its file names share."""
    assert expected == stem_of(name)
