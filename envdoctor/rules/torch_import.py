"""Does torch import, and if it does not, in which words?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.packages import Packages
from envdoctor.facts.torch import TorchBuild, TorchImport
from envdoctor.finding import Command, Evidence, Finding, Fix, Safety, Severity, see
from envdoctor.remedy import repair
from envdoctor.remedy.install import install_plain
from envdoctor.rule import known, rule

# Everything in the catalogue that can keep torch from being imported, the more specific before the more general.
CAUSES = (
    "torch-shadowed-by-local-file", "torch-install-damaged", "glibc-too-old", "python-unsupported",
    "nvidia-wheel-lib-not-found", "cudnn-not-found", "nvjitlink-mismatch", "cublas-mismatch", "cudnn-version-mismatch",
    "mixed-cuda-major-wheels", "nccl-mixed", "ld-library-path-shadowing", "libcuda-stub-or-stale-on-path",
    "wsl-libcuda-shadowed", "library-not-the-declared-one", "wheel-pin-drift", "duplicate-torch-installs",
    "cxx11-abi-mismatch", "static-tls-exhausted", "windows-runtime-missing", "mkl-threading-layer-conflict",
    "duplicate-openmp-runtime", "multiple-cudnn", "numpy2-abi", "triton-torch-mismatch", "conda-channel-mix",
    "conda-pip-mix", "cgroup-memory-low", "open-files-limit-low",
)  # fmt: skip
MOST_IN_TITLE = 140
DISTRIBUTIONS = {"yaml": "pyyaml", "PIL": "pillow", "cv2": "opencv-python-headless"}
SYSTEM_LIBRARIES = {"libgomp.so.1": "libgomp1", "libnuma.so.1": "libnuma1", "libatomic.so.1": "libatomic1"}


@rule(severity=Severity.ERROR, group="torch", essential=True, explained_by=CAUSES)
def torch_import_fails(torch: TorchImport, packages: Packages | None, build: TorchBuild | None) -> Iterator[Finding]:
    """`import torch` ends with an error.

    ## What it means
    torch is installed, and importing it raises. The words are Python's or the dynamic loader's own.

    ## Why it matters
    Nothing that needs PyTorch can run.

    ## How it is detected
    torch is imported once in a process of its own, with the environment of the one that asked. What the exception
    says, the errors before it, and the line are kept.

    ## What to do
    Read the cause that is named with it first: a damaged file, a wrong version of a library, a local file that hides a
    module. Where none is named, the words tell: a module that is missing is installed, a library that is missing comes
    with its wheel, and otherwise the same torch is installed again.

    ## Sources
    https://man7.org/linux/man-pages/man8/ld.so.8.html
    """
    if known(torch, "imported"):
        return
    said = f"{torch.error_type}: {torch.error}" if torch.error else str(torch.error_type)
    evidence = [see(torch, "error", "import torch says", said)]
    evidence += [see(torch, "where", "at", torch.where)] if torch.where else []
    evidence += [see(torch, "earlier_errors", "after", each) for each in torch.earlier_errors[:2]]
    evidence += _printed(torch)
    yield Finding(
        f"PyTorch does not import: {_short(said)}",
        evidence=tuple(evidence),
        fixes=_ways_out(" ".join((torch.error or "", *torch.earlier_errors)), packages, build),
    )


def _short(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= MOST_IN_TITLE else f"{line[: MOST_IN_TITLE - 3]}..."


def _printed(torch: TorchImport) -> list[Evidence]:
    last = (torch.printed or "").strip().rpartition("\n")[2]
    return [see(torch, "printed", "it printed", last)] if last and last not in (torch.error or "") else []


def _ways_out(words: str, packages: Packages | None, build: TorchBuild | None) -> tuple[Fix, ...]:
    """Give what the words themselves ask for; where they ask for nothing, the same torch again."""
    if packages is None:
        return ()
    module = re.search(r"No module named '([A-Za-z_]\w*)(?:\.[\w.]+)?'", words)
    if module and module[1] not in {"torch", "torchgen", "functorch"}:
        name = DISTRIBUTIONS.get(module[1], module[1].replace("_", "-"))
        return (install_plain(packages, name, title=f"Install {name}, which torch needs"),)
    library = re.search(r"(lib[\w+.-]+\.so[\w.]*): cannot open shared object file", words)
    if library and library[1] in SYSTEM_LIBRARIES:
        return (_from_the_system(library[1]),)
    missing = _missing_wheels(packages, build) if library else ()
    return repair.to_pins(packages, missing) if missing else repair.again(packages, ("torch",))


def _missing_wheels(packages: Packages, build: TorchBuild | None) -> tuple[str, ...]:
    """Name the wheels that torch pins and that are not installed at all."""
    pins = build.pins if build else ()
    return tuple(f"{each.name}{each.specifier}" for each in pins if packages.find(each.name) is None)


def _from_the_system(library: str) -> Fix:
    package = SYSTEM_LIBRARIES[library]
    shell = f"sudo apt-get install {package}"
    return Fix(
        f"Install {library} from the operating system",
        (Command(None, shell),),
        Safety.ADMIN,
        "one small system library",
        needs_root=True,
    )


RULES = (torch_import_fails,)
