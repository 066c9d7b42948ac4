"""torch 2.5.1+cu124 and its nvidia-*-cu12 wheels in small: names, versions, pins and ELF shapes of the real ones."""

from __future__ import annotations

from dataclasses import replace

from tests.stands.small_elf import Library, Needed, build, fatbin
from tests.stands.wheels import Wheel

LINUX = 'platform_system == "Linux" and platform_machine == "x86_64"'
ARCHES = "sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90"
NVJITLINK = tuple(f"__nvJitLinkComplete_12_{minor}" for minor in range(5))

# distribution: version, folder below nvidia/, its libraries
NVIDIA: dict[str, tuple[str, str, tuple[Library, ...]]] = {
    "nvidia-cublas-cu12": (
        "12.4.5.8",
        "cublas",
        (Library("libcublasLt.so.12"), Library("libcublas.so.12", needed=(Needed("libcublasLt.so.12"),))),
    ),
    "nvidia-cuda-runtime-cu12": ("12.4.127", "cuda_runtime", (Library("libcudart.so.12"),)),
    "nvidia-cudnn-cu12": ("9.1.0.70", "cudnn", (Library("libcudnn.so.9", defines=("cudnnGetVersion",)),)),
    "nvidia-cufft-cu12": ("11.2.1.3", "cufft", (Library("libcufft.so.11"),)),
    "nvidia-curand-cu12": ("10.3.5.147", "curand", (Library("libcurand.so.10"),)),
    "nvidia-cusparse-cu12": (
        "12.3.1.170",
        "cusparse",
        (
            Library(
                "libcusparse.so.12",
                needed=(Needed("libnvJitLink.so.12", ("__nvJitLinkComplete_12_4",), "libnvJitLink.so.12"),),
                runpath="$ORIGIN:$ORIGIN/../../nvjitlink/lib",
            ),
        ),
    ),
    "nvidia-nccl-cu12": ("2.21.5", "nccl", (Library("libnccl.so.2", defines=("ncclGetVersion",)),)),
    "nvidia-nvjitlink-cu12": ("12.4.127", "nvjitlink", (Library("libnvJitLink.so.12", defines=NVJITLINK),)),
}
# What newer torches need besides: asked for by ``torch(more=…)``.
LATER: dict[str, tuple[str, str, tuple[Library, ...]]] = {
    "nvidia-cusparselt-cu12": ("0.6.2", "cusparselt", (Library("libcusparseLt.so.0"),)),
    "nvidia-nvshmem-cu12": ("3.3.9", "nvshmem", (Library("libnvshmem_host.so.3"),)),
    "nvidia-cuda-cupti-cu12": ("12.4.127", "cuda_cupti", (Library("libcupti.so.12"),)),
}
UNVERSIONED = ("libnccl.so.2",)  # its symbols carry no version

# What `import torch` of the real package does first: load its libraries, whose needs are loaded with them.
INIT = """import ctypes, os
from .version import __version__, cuda as _cuda
_lib = os.path.join(os.path.dirname(__file__), 'lib')
for _n in {names!r}:
    try:
        ctypes.CDLL(os.path.join(_lib, _n), mode=ctypes.RTLD_GLOBAL)
    except OSError as e:
        raise ImportError(str(e)) from None
"""


def nvidia(name: str, version: str = "", soname: str = "", defines: tuple[str, ...] = ()) -> Wheel:
    """Give an nvidia-* wheel; with another version, soname or set of symbols than the pinned one's where told."""
    pinned, folder, libraries = {**NVIDIA, **LATER}[name]
    version = version or pinned
    files: dict[str, bytes | str] = {f"nvidia/{folder}/__init__.py": "", f"nvidia/{folder}/lib/__init__.py": ""}
    for each in libraries:
        library = replace(each, soname=soname or each.soname, defines=defines or each.defines)
        versioned = "" if each.soname in UNVERSIONED else library.soname
        library = replace(library, version=versioned, runpath=library.runpath or "$ORIGIN")
        files[f"nvidia/{folder}/lib/{library.soname}"] = build(library)
    files |= _header(folder, version)
    return Wheel(name, version, files)


def _header(folder: str, version: str) -> dict[str, bytes | str]:
    numbers = version.split(".")
    if folder == "cudnn":
        lines = zip(("CUDNN_MAJOR", "CUDNN_MINOR", "CUDNN_PATCHLEVEL"), numbers, strict=False)
        return {"nvidia/cudnn/include/cudnn_version.h": "".join(f"#define {k} {v}\n" for k, v in lines)}
    if folder == "nccl":
        lines = zip(("NCCL_MAJOR", "NCCL_MINOR", "NCCL_PATCH"), numbers, strict=False)
        return {"nvidia/nccl/include/nccl.h": "".join(f"#define {k} {v}\n" for k, v in lines)}
    return {}


def torch(
    version: str = "2.5.1",
    cuda: str | None = "12.4",
    *,
    numpy_headers: int = 2,
    cxx11: bool = True,
    more: tuple[str, ...] = (),
) -> Wheel:
    """Give torch: the CUDA build, or the CPU build when ``cuda`` is None; ``more`` names later wheels that it needs."""
    tag = f"+cu{cuda.replace('.', '')}" if cuda else "+cpu"
    files: dict[str, bytes | str] = {
        "torch/version.py": f"from typing import Optional\n\n__version__ = '{version}{tag}'\ndebug = False\n"
        f"cuda: Optional[str] = {cuda!r}\ngit_version = '0'\nhip: Optional[str] = None\n",
        "torch/lib/libc10.so": build(_c10(cxx11)),
        "torch/lib/libtorch_cpu.so": build(Library("libtorch_cpu.so", rpath="$ORIGIN", defines=("at_version",))),
        "torch/lib/libtorch_python.so": build(_torch_python(cuda, numpy_headers)),
    }
    requires = ["filelock", "typing-extensions>=4.8.0"]
    if cuda:
        files["torch/lib/libtorch_cuda.so"] = build(_torch_cuda(more))
        pins = {**NVIDIA, **{name: LATER[name] for name in more}}
        requires += [f"{name}=={pinned[0]} ; {LINUX}" for name, pinned in pins.items()]
        requires += [f'triton==3.1.0 ; {LINUX} and python_version < "3.99"', 'optree>=0.12.0 ; extra == "optree"']
    names = ["libtorch_python.so"] if cuda else ["libtorch_cpu.so"]
    files["torch/__init__.py"] = INIT.format(names=names)
    return Wheel("torch", version, files, tuple(requires), tag="cp311-cp311-manylinux1_x86_64")


def _c10(cxx11: bool) -> Library:
    text = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE" if cxx11 else "Ss"
    return Library("libc10.so", defines=(f"_ZN3c105ErrorC2ENS_14SourceLocationE{text}",))


def _rpath() -> str:
    folders = ["cublas", "cuda_runtime", "cudnn", "cufft", "curand", "cusparse", "nccl"]
    folders += [folder for _, folder, _ in LATER.values()]
    return ":".join(f"$ORIGIN/../../nvidia/{folder}/lib" for folder in folders) + ":$ORIGIN"


def _torch_python(cuda: str | None, numpy_headers: int) -> Library:
    modules = ["numpy._core._multiarray_umath"] * (numpy_headers > 1) + ["numpy.core._multiarray_umath"]
    source = "".join(f'const char numpy_{i}[] = "{name}";\n' for i, name in enumerate(modules))
    if not cuda:
        return Library("libtorch_python.so", (Needed("libtorch_cpu.so"),), rpath="$ORIGIN", source=source)
    source += f'const char arch_flags[] = "{ARCHES}";\n'
    needed = (Needed("libtorch_cuda.so"), Needed("libtorch_cpu.so"))
    return Library("libtorch_python.so", needed, rpath=_rpath(), source=source)


def _torch_cuda(more: tuple[str, ...]) -> Library:
    plain = ("libcudart.so.12", "libcusparse.so.12", "libcufft.so.11", "libcurand.so.10", "libcublas.so.12")
    cudnn = Needed("libcudnn.so.9", ("cudnnGetVersion",), "libcudnn.so.9")
    needed = (
        *map(Needed, plain),
        Needed("libcublasLt.so.12"),
        cudnn,
        Needed("libnccl.so.2"),
        Needed("libtorch_cpu.so"),
        *(Needed(library.soname) for name in more for library in LATER[name][2]),
    )
    return Library("libtorch_cuda.so", needed, rpath=_rpath(), source=fatbin(ARCHES))


PTXAS = "triton/backends/nvidia/bin/ptxas"


def triton(version: str = "3.1.0", name: str = "triton") -> Wheel:
    """Give triton, or another distribution that brings the same package."""
    return Wheel(name, version, {"triton/__init__.py": f"__version__ = {version!r}\n", PTXAS: build(Library("ptxas"))})


def stack(*without: str, **instead: Wheel) -> list[Wheel]:
    """Give torch, triton and the nvidia-* set, without some, and with others in their place (by their short names)."""
    swaps = {f"nvidia-{name}-cu12": wheel for name, wheel in instead.items()}
    return [torch(), triton(), *(swaps.get(name) or nvidia(name) for name in NVIDIA if name not in without)]
