"""The library ledger of environments in which each library comes from the wheel that torch pins."""

from __future__ import annotations

from envdoctor.facts.libraries import Copy, LedgerRow, Libraries

# Ledger name: wheel, folder below nvidia/ (cu13 wheels share one), soname under CUDA 12 and under CUDA 13.
WHERE = {
    "cudart": ("cuda-runtime", "cuda_runtime", "libcudart.so.12", "libcudart.so.13"),
    "cudnn": ("cudnn", "cudnn", "libcudnn.so.9", "libcudnn.so.9"),
    "nccl": ("nccl", "nccl", "libnccl.so.2", "libnccl.so.2"),
    "cublas": ("cublas", "cublas", "libcublas.so.12", "libcublas.so.13"),
    "cublasLt": ("cublas", "cublas", "libcublasLt.so.12", "libcublasLt.so.13"),
    "cusparse": ("cusparse", "cusparse", "libcusparse.so.12", "libcusparse.so.12"),
    "cusparseLt": ("cusparselt", "cusparselt", "libcusparseLt.so.0", "libcusparseLt.so.0"),
    "cusolver": ("cusolver", "cusolver", "libcusolver.so.11", "libcusolver.so.12"),
    "cufft": ("cufft", "cufft", "libcufft.so.11", "libcufft.so.12"),
    "curand": ("curand", "curand", "libcurand.so.10", "libcurand.so.10"),
    "nvjitlink": ("nvjitlink", "nvjitlink", "libnvJitLink.so.12", "libnvJitLink.so.13"),
    "nvrtc": ("cuda-nvrtc", "cuda_nvrtc", "libnvrtc.so.12", "libnvrtc.so.13"),
    "cupti": ("cuda-cupti", "cuda_cupti", "libcupti.so.12", "libcupti.so.13"),
    "cufile": ("cufile", "cufile", "libcufile.so.0", "libcufile.so.0"),
}
OWN_FOLDER = {"cudnn", "nccl", "cusparselt"}  # of the cu13 wheels; the others unpack into nvidia/cu13
VERSION_IN_HEADER = {"cudnn", "nccl"}


def ledger(site: str, pins: dict[str, str], installed: dict[str, str], *, glibc: str, glibcxx: str) -> Libraries:
    """Give the ledger of a torch with these pins in an environment with these packages."""
    rows = (_row(site, name, pins, installed) for name in WHERE)
    gomp = Copy(f"{site}/torch/lib/libgomp.so.1", None, "torch", "runpath", f"{site}/torch/lib/libtorch_global_deps.so")
    return Libraries(rows=tuple(row for row in rows if row), glibc=glibc, glibcxx_newest=glibcxx, openmp=(gomp,))


def _row(site: str, name: str, pins: dict[str, str], installed: dict[str, str]) -> LedgerRow | None:
    wheel, folder, *sonames = WHERE[name]
    pin = next(
        (each for each in pins if each in {f"nvidia-{wheel}", f"nvidia-{wheel}-cu12", f"nvidia-{wheel}-cu13"}), None
    )
    if pin is None:
        return None
    newer = not pin.endswith("-cu12")
    soname, version = sonames[newer], installed[pin]
    path = f"{site}/nvidia/{'cu13' if newer and folder not in OWN_FOLDER else folder}/lib/{soname}"
    told = ".".join(version.split(".")[:3]) if name in VERSION_IN_HEADER else None
    first = Copy(path, told, pin, "rpath", f"{site}/torch/lib/libtorch_cuda.so")
    return LedgerRow(
        name=name, soname=soname, declared=f"{pin} =={pins[pin]}", declared_version=pins[pin],
        installed_version=version, bundled=(Copy(path, told, pin),), first=first,
    )  # fmt: skip
