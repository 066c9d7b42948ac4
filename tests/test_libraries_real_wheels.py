"""The ledger against the real loader over NVIDIA's real wheels, under a small torch that asks for them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stands.cuda_wheels import torch
from tests.stands.real_wheels import fetch
from tests.stands.small_elf import Library, Needed, build
from tests.stands.stub_libraries import stub
from tests.stands.wheels import Wheel, install
from tests.test_libraries import found_below, ledger, really

pytestmark = [pytest.mark.gcc, pytest.mark.network]

# Wheel: its folder below nvidia/, its library, and what the ledger calls that.
REAL = {
    "nvidia-cuda-runtime-cu12==12.4.127": ("cuda_runtime", "libcudart.so.12", "cudart"),
    "nvidia-nvjitlink-cu12==12.4.127": ("nvjitlink", "libnvJitLink.so.12", "nvjitlink"),
    "nvidia-cuda-nvrtc-cu12==12.4.127": ("cuda_nvrtc", "libnvrtc.so.12", "nvrtc"),
    "nvidia-cuda-cupti-cu12==12.4.127": ("cuda_cupti", "libcupti.so.12", "cupti"),
    "nvidia-nvtx-cu12==12.4.127": ("nvtx", "libnvToolsExt.so.1", "nvtx"),
}
OLDER = "nvidia-nvjitlink-cu12==12.1.105"
MakeSite = Callable[[str], Path]


def asking_torch(kind: str) -> Wheel:
    """Give a torch whose CUDA library asks for all of them, with the real wheels' folders as RPATH or RUNPATH."""
    made = torch("2.5.1", "12.4")
    folders = [folder for folder, _, _ in REAL.values()] + ["cublas", "cudnn", "nccl"]
    paths = ":".join([*(f"$ORIGIN/../../nvidia/{each}/lib" for each in folders), "$ORIGIN"])
    asked = (*(soname for _, soname, _ in REAL.values()), "libcublas.so.12", "libcudnn.so.9", "libnccl.so.2")
    cuda = Library("libtorch_cuda.so", tuple(map(Needed, (*asked, "libtorch_cpu.so"))), **{kind: paths})  # type: ignore[arg-type]
    python = Library("libtorch_python.so", (Needed("libtorch_cuda.so"),), **{kind: "$ORIGIN"})  # type: ignore[arg-type]
    files = {
        **made.files, "torch/lib/libtorch_cuda.so": build(cuda), "torch/lib/libtorch_python.so": build(python),
    }  # fmt: skip
    return Wheel(made.name, made.version, files, tuple(REAL))


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MakeSite:
    """Give a maker of site directories: a small torch, the real wheels (70 MB), and stubs for the rest of CUDA."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind) / "site"
            for spec in REAL:
                shutil.copytree(fetch(request.config, spec), folder, dirs_exist_ok=True)
            install(folder, asking_torch(kind))
            stub(folder, skip=("libcuda.so", *(soname for _, soname, _ in REAL.values())))
            made[kind] = folder
        return made[kind]

    return make


@pytest.fixture(scope="module")
def foreign(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with NVIDIA's own older nvJitLink, as another CUDA installation has it."""
    folder = tmp_path_factory.mktemp("foreign")
    library = fetch(request.config, OLDER) / "nvidia" / "nvjitlink" / "lib" / "libnvJitLink.so.12"
    shutil.copy(library, folder)
    return folder


@pytest.mark.parametrize("kind", ["rpath", "runpath"])
@pytest.mark.parametrize("how", ["plain", "library-path", "preload"])
def test_ledger_is_what_the_real_loader_maps(site: MakeSite, foreign: Path, kind: str, how: str) -> None:
    """Of each real library the copy that is found first is the one that is mapped after the import."""
    where, top = site(kind), site(kind).parent.parent
    environ = {"PATH": os.environ["PATH"]}
    environ |= {"LD_LIBRARY_PATH": str(foreign)} if how == "library-path" else {}
    environ |= {"LD_PRELOAD": str(foreign / "libnvJitLink.so.12")} if how == "preload" else {}
    mapped, error = really(where, top, environ)
    assert "" == error
    fact = ledger(where, environ)
    assert mapped == found_below(fact, top)
    row = fact.row("nvjitlink")
    shadowed = how == "preload" or (how == "library-path" and kind == "runpath")
    assert (shadowed, "12.1" if shadowed else "12.4.127") == (
        str(row.first.path if row and row.first else "").startswith(str(foreign)),
        row.first.version if row and row.first else None,
    )  # fmt: skip


def test_real_copies_have_their_wheels_versions(site: MakeSite) -> None:
    """Each copy is owned by its wheel, by RECORD, and has its version."""
    fact = ledger(site("rpath"), {"PATH": os.environ["PATH"]})
    for spec, (_, soname, name) in REAL.items():
        row = fact.row(name)
        wheel, _, version = spec.partition("==")
        assert row is not None
        assert row.first is not None
        assert (soname, f"{wheel} {version}", version, version) == (
            row.soname, row.first.owner, row.first.version, row.installed_version,
        )  # fmt: skip


def test_real_older_library_lacks_what_a_newer_one_is_asked_for(site: MakeSite, foreign: Path) -> None:
    """A library that asks nvJitLink for version 12.4 is told from the real 12.1's own symbols."""
    from envdoctor_probes.elf import Elf

    where = site("rpath")
    newer = where / "nvidia" / "nvjitlink" / "lib" / "libnvJitLink.so.12"
    with Elf(str(newer)) as new, Elf(str(foreign / "libnvJitLink.so.12")) as old:
        assert (True, False) == tuple(each.exports("__nvJitLinkComplete_12_4") for each in (new, old))
        assert ("libnvJitLink.so.12", True) == (new.soname, "libnvJitLink.so.12" in new.verdef)
