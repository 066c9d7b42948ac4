"""What builds CUDA extensions: toolkit, host compiler and architecture list, beside what torch was built with.

On a machine that builds nothing none of this matters: the findings are info until a build is seen to fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.host import Environment
from envdoctor.facts.libraries import Compiler, Toolkit
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.cuda import Version, cuda_minor, dotted
from envdoctor.knowledge.gpus import RENAMED, Capability, capability, compiler_range
from envdoctor.knowledge.toolchain import newest_gcc
from envdoctor.remedy.variables import export, look, unset
from envdoctor.rule import NotApplicable, Rule, Unknown, rule
from envdoctor.rules.builds import need_cuda_build

ARCH_LIST = "TORCH_CUDA_ARCH_LIST"
ENTRY = re.compile(r"\d+\.\d[af]?(?:\+PTX)?")
# Names that torch expands, and the oldest and newest capability each stands for.
NAMED = {
    "Kepler+Tesla": ("3.7",), "Kepler": ("3.5",), "Maxwell+Tegra": ("5.3",), "Maxwell": ("5.0", "5.2"),
    "Pascal": ("6.0", "6.1"), "Volta+Tegra": ("7.2",), "Volta": ("7.0",), "Turing": ("7.5",),
    "Ampere+Tegra": ("8.7",), "Ampere": ("8.0", "8.6"), "Ada": ("8.9",), "Hopper": ("9.0",),
    "Blackwell+Tegra": ("10.1",), "Blackwell": ("10.0", "12.0"),
}  # fmt: skip


@rule(severity=Severity.INFO, group="environment")
def cuda_toolkit_torch_mismatch(build: TorchBuild, toolkit: Toolkit) -> Iterator[Finding]:
    """The CUDA toolkit here has another major version than the CUDA this PyTorch was built with.

    ## What it means
    torch.utils.cpp_extension compiles with this nvcc. It refuses another major, and only warns of another minor.

    ## Why it matters
    Only when something is built here: "The detected CUDA version mismatches the version that was used to compile
    PyTorch". Programs that build nothing never look at the toolkit.

    ## How it is detected
    The version beside the nvcc that torch would take (CUDA_HOME, else PATH, else /usr/local/cuda), against
    torch/version.py. A different minor is normal and no finding.

    ## What to do
    Nothing, if nothing is built. Else point CUDA_HOME at a toolkit of torch's CUDA major.

    ## Sources
    https://docs.pytorch.org/docs/stable/cpp_extension.html
    """
    wanted = need_cuda_build(build)
    nvcc, version = _nvcc(toolkit)
    if version[0] == wanted[0]:
        return
    fitting = [each for each in toolkit.nvcc if (cuda_minor(each.version) or (0,))[0] == wanted[0]]
    homes = tuple(_home(each.path) for each in fitting[:1])
    yield Finding(
        f"The CUDA toolkit here is {dotted(version)}, torch was built with CUDA {dotted(wanted)}",
        "It matters only when an extension is built here.",
        evidence=(_shown(nvcc), see(build, "cuda", "torch was built with", f"CUDA {dotted(wanted)}")),
        fixes=(_point_at(homes[0] if homes else f"/usr/local/cuda-{dotted(wanted)}"),),
    )


def _nvcc(toolkit: Toolkit) -> tuple[Compiler, Version]:
    """Give the nvcc that torch would take and its CUDA version, or end the rule."""
    if not toolkit.nvcc:
        raise NotApplicable("no CUDA toolkit here")
    version = cuda_minor(toolkit.nvcc[0].version)
    if version is None:
        raise Unknown(f"the version of {toolkit.nvcc[0].path} is not known")
    return toolkit.nvcc[0], version


def _shown(nvcc: Compiler) -> Evidence:
    return Evidence("toolkit.nvcc", f"{nvcc.version} ({nvcc.path})", nvcc.path, "", "nvcc that torch would take")


def _home(nvcc: str) -> str:
    return nvcc.removesuffix("/bin/nvcc") or "/"


def _point_at(home: str) -> Fix:
    return export("When something is to be built: use a toolkit of torch's CUDA", f"CUDA_HOME={home}")


@rule(severity=Severity.INFO, group="environment")
def cuda_home_wrong(toolkit: Toolkit) -> Iterator[Finding]:
    """CUDA_HOME names something that is no CUDA toolkit.

    ## What it means
    The variable (or CUDA_PATH) holds a folder that is not there, several paths, or a folder without bin/nvcc.

    ## Why it matters
    Only when something is built here. Then torch looks there and nowhere else: "No such file or directory: …/bin/nvcc".

    ## How it is detected
    The value of the variable against the file system. That it is unset is normal: torch then looks at PATH and
    /usr/local/cuda.

    ## What to do
    Unset it, or point it at a toolkit that is there.

    ## Sources
    https://docs.pytorch.org/docs/stable/cpp_extension.html
    """
    home = toolkit.cuda_home
    if not home:
        raise NotApplicable("CUDA_HOME is not set")
    wrong = _wrong_home(toolkit, home)
    if not wrong:
        return
    other = next((each.path for each in toolkit.nvcc if not each.path.startswith(home)), None)
    yield Finding(
        f"CUDA_HOME={home} {wrong}",
        "It matters only when an extension is built here.",
        evidence=(see(toolkit, "cuda_home", "CUDA_HOME", home),),
        fixes=(_point_at(_home(other)), unset("CUDA_HOME")) if other else (unset("CUDA_HOME"),),
    )


def _wrong_home(toolkit: Toolkit, home: str) -> str:
    if ":" in home:
        return "holds several paths: it must be one folder"
    if toolkit.cuda_home_exists is False:
        return "is not there"
    own = f"{home.rstrip('/')}/bin/nvcc"
    if toolkit.cuda_home_exists and all(each.path.replace("//", "/") != own for each in toolkit.nvcc):
        return "has no bin/nvcc"
    return ""


@rule(severity=Severity.INFO, group="environment")
def host_compiler_too_new(toolkit: Toolkit) -> Iterator[Finding]:
    """The C++ compiler here is newer than this nvcc accepts.

    ## What it means
    nvcc leaves the host's half of the code to gcc, and each release accepts gcc up to a certain major.

    ## Why it matters
    Only when something is built here: "unsupported GNU version! gcc versions later than … are not supported".

    ## How it is detected
    The version of the compiler that nvcc would call (CC, CXX, NVCC_CCBIN, else gcc on PATH) against the table of what
    each CUDA accepts. clang is not judged.

    ## What to do
    Nothing, if nothing is built. Else install an older gcc beside this one and name it.

    ## Sources
    https://docs.nvidia.com/cuda/cuda-installation-guide-linux/index.html#host-compiler-support-policy
    https://github.com/pytorch/pytorch/blob/main/torch/utils/cpp_extension.py
    """
    nvcc, cuda = _nvcc(toolkit)
    compiler = toolkit.host_compiler
    if compiler is None:
        raise NotApplicable(toolkit.unknown.get("host_compiler", "no C compiler is found"))
    if "clang" in compiler.path.rpartition("/")[2]:
        raise NotApplicable(f"{compiler.path} is no gcc")
    major = (compiler.version or "").partition(".")[0]
    limit = newest_gcc(cuda)
    if not major.isdigit():
        raise Unknown(f"the version of {compiler.path} is not known")
    if limit is None:
        raise Unknown(f"which gcc CUDA {dotted(cuda)} accepts is not in the table")
    if int(major) <= limit[0]:
        return
    older = f"gcc-{limit[0]}"
    yield Finding(
        f"gcc {major} is newer than nvcc {dotted(cuda)} accepts: at most gcc {limit[0]}",
        "It matters only when an extension is built here.",
        evidence=(
            see(toolkit, "host_compiler", "host compiler", f"{compiler.version} ({compiler.path})"),
            _shown(nvcc),
            Evidence("knowledge.host_compilers", f"gcc {limit[0]}", limit[1], "", "newest gcc it accepts"),
        ),
        fixes=(export(f"When something is to be built: install {older}, then use it", *_use_gcc(limit[0])),),
    )


def _use_gcc(major: int) -> tuple[str, ...]:
    return (f"CC=gcc-{major} CXX=g++-{major}", f"NVCC_PREPEND_FLAGS='-ccbin g++-{major}'")


@rule(severity=Severity.INFO, group="environment")
def arch_list_unsupported(
    environment: Environment, build: TorchBuild | None, toolkit: Toolkit | None
) -> Iterator[Finding]:
    """TORCH_CUDA_ARCH_LIST names an architecture that torch or nvcc here does not know.

    ## What it means
    The variable says for which GPUs extensions are compiled. NVIDIA's images set it, and it is easily left over.

    ## Why it matters
    Only when something is built here: "Unknown CUDA arch (…) or GPU not supported", or nvcc's "Unsupported gpu
    architecture".

    ## How it is detected
    Each entry is read as torch reads it, against the range of the nvcc here; where none is found, against that of
    torch's CUDA.

    ## What to do
    Unset it, so that the GPUs of this machine decide, or take the entry out.

    ## Sources
    https://docs.pytorch.org/docs/stable/cpp_extension.html
    https://docs.nvidia.com/cuda/cuda-compiler-driver-nvcc/index.html#gpu-feature-list
    """
    value = (environment.get(ARCH_LIST) or "").strip()
    if not value or value == "native":
        raise NotApplicable(f"{ARCH_LIST} is not set")
    entries = [each for each in re.split(r"[;\s]+", value) if each]
    cuda, shown = _compiler(build, toolkit)
    span = compiler_range(cuda) if cuda else None
    bad = [each for each in entries if not _plain(each) or (span and _beyond(each, span))]
    if not bad:
        if span is None:
            raise Unknown("neither an nvcc here nor torch's CUDA is known, or it is not in the table")
        return
    words = f"{dotted(span[0])} to {dotted(span[1])}" if span else "not known"
    range_shown = Evidence("knowledge.cuda_arch", words, "nvcc's list of GPUs", "", "the compiler knows")
    yield Finding(
        f"{ARCH_LIST} names {', '.join(bad)}, unknown here",
        "It matters only when an extension is built here.",
        evidence=(see(environment, "variables", ARCH_LIST, value), *shown, range_shown),
        fixes=(unset(ARCH_LIST), look("Ask torch what it has code for", _arch_list())),
    )


def _beyond(entry: str, span: tuple[Capability, Capability]) -> bool:
    """Tell whether a compiler of this range makes no code for any capability that the entry stands for."""
    known = [found for each in _plain(entry) if (found := capability(each))]
    return any(not any(span[0] <= name <= span[1] for name in (each, RENAMED.get(each, each))) for each in known)


def _plain(entry: str) -> tuple[str, ...]:
    """Give the capabilities that an entry stands for; none when torch cannot read it."""
    if ENTRY.fullmatch(entry):
        return (entry.partition("+")[0].rstrip("af"),)
    return NAMED.get(entry, ())


def _arch_list() -> str:
    return 'python3 -c "import torch; print(torch.cuda.get_arch_list())"'


def _compiler(build: TorchBuild | None, toolkit: Toolkit | None) -> tuple[Version | None, tuple[Evidence, ...]]:
    """Give the CUDA version whose compiler would see the list: the nvcc here, else that of torch."""
    for each in toolkit.nvcc[:1] if toolkit else ():
        found = cuda_minor(each.version)
        if found:
            return found, (_shown(each),)
    found = cuda_minor(build.cuda) if build else None
    return found, (see(build, "cuda", "torch was built with", f"CUDA {dotted(found)}"),) if build and found else ()


RULES: tuple[Rule, ...] = (
    cuda_toolkit_torch_mismatch, cuda_home_wrong, host_compiler_too_new, arch_list_unsupported,
)  # fmt: skip
