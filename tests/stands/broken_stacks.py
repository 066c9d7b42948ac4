"""Tiny site-packages trees that break the way real torch stacks break, for the price of a few KB each.

``build_stand(folder, "nccl_missing")`` gives a directory to put on a module search path. ``import torch`` there
really loads the libraries, so that it fails with the dynamic loader's own words.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.stands.cuda_wheels import LATER, PTXAS, nvidia, stack, torch, triton
from tests.stands.small_elf import Library, build
from tests.stands.toolkit_wheels import toolkit_stack
from tests.stands.wheels import Wheel, install

XFORMERS_RECORD = '{"version": {"cuda": 1201, "torch": "2.4.1+cu121", "python": "3.11.10"}, "env": {}}'
NEW_ABI_ERROR = "_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
FLASH_INIT = """import ctypes, os, torch
ctypes.CDLL(os.path.join(os.path.dirname(__file__), '..', 'flash_attn_2_cuda.so'))
"""
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 188\n"


@dataclass(frozen=True)
class Stand:
    """What is wrong, the distributions to install in their order, and what to spoil afterwards."""

    fault: str
    wheels: Callable[[], list[Wheel]]
    spoil: Callable[[Path], None] | None = None


def build_stand(folder: Path, name: str) -> Path:
    """Make this stand below ``folder``, once, and give its site directory."""
    site = folder / name / "site"
    if site.is_dir():
        return site
    site.mkdir(parents=True)
    stand = STANDS[name]
    for wheel in stand.wheels():
        install(site, wheel)
    if stand.spoil:
        stand.spoil(site)
    return site


def _vision() -> Wheel:
    version = "__version__ = '0.19.1+cu121'\ngit_version = '0'\nfrom torchvision.extension import _check_cuda_version\n"
    files = {"torchvision/__init__.py": "", "torchvision/version.py": version}
    return Wheel("torchvision", "0.19.1", files, ("numpy", "torch==2.4.1", "pillow>=5.3.0,!=8.3.*"))


def _xformers() -> Wheel:
    files = {"xformers/__init__.py": "", "xformers/cpp_lib.json": XFORMERS_RECORD}
    return Wheel("xformers", "0.0.28.post1", files, ("numpy", "torch==2.4.1"))


def _flash_attn() -> Wheel:
    library = build(Library("flash_attn_2_cuda.so", undefined=(NEW_ABI_ERROR,)))
    files: dict[str, bytes | str] = {"flash_attn/__init__.py": FLASH_INIT, "flash_attn_2_cuda.so": library}
    return Wheel("flash-attn", "2.6.3", files, ("torch", "einops"))


def _old_abi_stack() -> list[Wheel]:
    return [torch(cxx11=False), *stack()[1:], _flash_attn()]


def _cudnn_of_cu11() -> Wheel:
    library = Library(
        "libcudnn.so.9", version="libcudnn.so.9", defines=("cudnnGetVersion", "built_for_cu11"), runpath="$ORIGIN"
    )
    return Wheel("nvidia-cudnn-cu11", "9.1.1.17", {"nvidia/cudnn/lib/libcudnn.so.9": build(library)})


def _later(*without: str, **instead: Wheel) -> list[Wheel]:
    """Give a torch that needs cuSPARSELt, NVSHMEM and CUPTI as well, without some of them or with others."""
    wheels = [instead.get(name.split("-")[-2]) or nvidia(name) for name in LATER if name not in without]
    return [torch(more=tuple(LATER)), *stack()[1:], *wheels]


def _truncate(path: str, size: int) -> Callable[[Path], None]:
    def spoil(site: Path) -> None:
        (site / path).write_bytes((site / path).read_bytes()[:size])

    return spoil


def _write(path: str, content: str) -> Callable[[Path], None]:
    def spoil(site: Path) -> None:
        (site / path).write_text(content, encoding="utf-8")

    return spoil


def _other_machine(site: Path) -> None:
    library = site / "nvidia/cufft/lib/libcufft.so.11"
    raw = library.read_bytes()
    library.write_bytes(raw[:18] + b"\xb7\x00" + raw[20:])  # e_machine: aarch64


def _remove(pattern: str) -> Callable[[Path], None]:
    def spoil(site: Path) -> None:
        for path in list(site.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def _old_nvjitlink() -> Wheel:
    return nvidia("nvidia-nvjitlink-cu12", "12.1.105", defines=("__nvJitLinkComplete_12_0", "__nvJitLinkComplete_12_1"))


def _cudnn(version: str, soname: str = "") -> list[Wheel]:
    return stack(cudnn=nvidia("nvidia-cudnn-cu12", version, soname))


def _shadows(site: Path) -> None:
    """Make a working directory beside the site directory, in which two files hide modules."""
    folder = site.parent / "cwd"
    folder.mkdir()
    (folder / "torch.py").write_text("print('not torch')\n", encoding="utf-8")
    (folder / "random.py").write_text("", encoding="utf-8")


STANDS: dict[str, Stand] = {
    "healthy_cu124": Stand("nothing is wrong", stack),
    "nvjitlink_old": Stand("nvjitlink 12.1 below cusparse's 12.4", lambda: stack(nvjitlink=_old_nvjitlink())),
    "nccl_missing": Stand("nvidia-nccl-cu12 is not installed", lambda: stack("nvidia-nccl-cu12")),
    "cudnn8_for_9": Stand("cuDNN 8.9 under a torch that needs 9", lambda: _cudnn("8.9.2.26", "libcudnn.so.8")),
    "cudnn_older_minor": Stand("cuDNN 9.0.0 under a torch compiled against 9.1.0", lambda: _cudnn("9.0.0.312")),
    "cudnn_newer_minor": Stand("cuDNN 9.5.1 over the pin 9.1.0.70: works", lambda: _cudnn("9.5.1.17")),
    "torchvision_mismatch": Stand("torchvision 0.19.1 wants torch 2.4.1", lambda: [*stack(), _vision()]),
    "xformers_mismatch": Stand("xformers built for torch 2.4.1+cu121", lambda: [*stack(), _xformers()]),
    "flash_attn_abi": Stand("flash-attn built against another C++ ABI", _old_abi_stack),
    "cpu_only": Stand("the CPU build of torch", lambda: [torch(cuda=None)]),
    "cu11_and_cu12": Stand("two cuDNN wheels write one file", lambda: [*stack(), _cudnn_of_cu11()]),
    "two_tritons": Stand("two owners of triton/", lambda: [*stack(), triton("3.2.0", "pytorch-triton")]),
    "two_dist_infos": Stand("an old torch dist-info was left behind", lambda: [*stack(), Wheel("torch", "2.4.1")]),
    "record_missing": Stand("torch's RECORD is gone", stack, _remove("torch-*.dist-info/RECORD")),
    "metadata_empty": Stand("torch's METADATA is empty", stack, _truncate("torch-2.5.1.dist-info/METADATA", 0)),
    "lib_truncated": Stand("libcudnn was cut off", stack, _truncate("nvidia/cudnn/lib/libcudnn.so.9", 4096)),
    "lib_empty": Stand("libcublas has length 0", stack, _truncate("nvidia/cublas/lib/libcublas.so.12", 0)),
    "lib_is_pointer": Stand("libnccl is a pointer", stack, _write("nvidia/nccl/lib/libnccl.so.2", LFS_POINTER)),
    "lib_wrong_machine": Stand("libcufft is for aarch64", stack, _other_machine),
    "leftover_tilde": Stand("pip left ~orch behind", stack, lambda site: (site / "~orch-2.4.1.dist-info").mkdir()),
    "no_python_files": Stand("torch's files are gone", stack, _remove("torch")),
    "no_metadata": Stand("torch's dist-info is gone", stack, _remove("torch-*.dist-info")),
    "local_shadow": Stand("torch.py and random.py stand before the real ones", lambda: [torch(cuda=None)], _shadows),
    "toolkit_extras": Stand("nothing is wrong: torch 2.11 with cuda-toolkit extras", toolkit_stack),
    "numpy1_build": Stand("torch compiled with NumPy 1 headers", lambda: [torch(cuda=None, numpy_headers=1)]),
    "healthy_later": Stand("nothing is wrong: cuSPARSELt, NVSHMEM and CUPTI too", _later),
    "cusparselt_missing": Stand("nvidia-cusparselt-cu12 is not installed", lambda: _later("nvidia-cusparselt-cu12")),
    "nvshmem_other_major": Stand(
        "NVSHMEM 2 under a torch that needs libnvshmem_host.so.3",
        lambda: _later(nvshmem=nvidia("nvidia-nvshmem-cu12", "2.11.0", "libnvshmem_host.so.2")),
    ),
    "cupti_empty": Stand("libcupti has length 0", _later, _truncate("nvidia/cuda_cupti/lib/libcupti.so.12", 0)),
    "ptxas_missing": Stand("triton's ptxas is gone", stack, _remove(PTXAS)),
}
