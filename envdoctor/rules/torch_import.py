"""Does torch import, and if it does not: with which words, at which line?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.facts.packages import Packages
from envdoctor.facts.run import ProbeEnd, ProbeRun
from envdoctor.facts.torch import TorchBuild, TorchImport
from envdoctor.finding import Command, Evidence, Finding, Fix, Safety, Severity, headline, see
from envdoctor.remedy import repair
from envdoctor.remedy.install import install_plain
from envdoctor.remedy.installer import quoted
from envdoctor.rule import Missing, NotApplicable, Unknown, known, rule
from envdoctor.rules.torch_pins import named_in

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
PROBE = "torch-import"
SIGNALS = {
    "SIGILL": "The processor does not know an instruction: this build is for a newer one.",
    "SIGBUS": "A file that is mapped into memory ended too early: cut off on disk, or the disk (or /dev/shm) is full.",
    "SIGKILL": "Something killed the process: mostly the kernel or a container, when memory runs out.",
    "SIGSEGV": "Native code read memory that is not its own: mostly libraries that do not belong together.",
    "SIGABRT": "Native code gave up by itself; what it printed says why.",
}
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
        f"PyTorch does not import: {headline(said)}",
        evidence=tuple(evidence),
        fixes=_ways_out(" ".join((torch.error or "", *torch.earlier_errors)), packages, build),
    )


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
    carriers = _carriers(library[1], build) if library else ()
    return repair.library_again(packages, carriers) if carriers else repair.again(packages, ("torch",))


def _carriers(library: str, build: TorchBuild | None) -> tuple[str, ...]:
    """Name the wheel, as torch pins it, that carries a library."""
    pins = build.pins if build else ()
    return tuple(
        f"{each.name}{each.specifier}"
        for each in pins
        if each.name.startswith("nvidia-") and named_in(library, each.name)
    )


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


@rule(severity=Severity.ERROR, group="torch", essential=True, explained_by=CAUSES)
def torch_import_crashes(run: ProbeRun, packages: Packages | None) -> Iterator[Finding]:
    """`import torch` kills the process.

    ## What it means
    The process that imported torch died of a signal, or ended itself, before it could answer. No Python error is
    raised, so a training script ends the same way, without a traceback.

    ## Why it matters
    Nothing that needs PyTorch can run.

    ## How it is detected
    torch is imported once in a process of its own. Its signal or exit code, what it printed, and the Python line that
    faulthandler saw last are kept. A process that ends with code 0 and no answer counts too.

    ## What to do
    Read the cause that is named with it first. The line tells which library was being loaded. Where no cause is named,
    look at it with the command, then install the same torch again.

    ## Sources
    https://docs.python.org/3/library/faulthandler.html
    """
    end = _import_end(run)
    if end.outcome == "timed-out":
        raise Unknown(f"the import did not end: {end.reason}")
    if end.outcome != "crashed":
        return
    yield Finding(
        f"Importing PyTorch kills the process: {headline(end.reason)}",
        SIGNALS.get(end.signal, ""),
        (see(run, "probes", "import torch ended", end.reason), *_stack(run, end)),
        (_look(packages), *(repair.again(packages, ("torch",)) if packages else ())),
    )


@rule(severity=Severity.ERROR, group="torch", essential=True, explained_by=CAUSES)
def torch_import_hangs(run: ProbeRun, packages: Packages | None) -> Iterator[Finding]:
    """`import torch` never ends.

    ## What it means
    The import stands still: two looks at it, some time apart, found the same line, and no processor time, no reading
    and no page fault between them. A slow import, which still works, is not called hung.

    ## Why it matters
    Training never starts, and a job holds its GPUs while it waits.

    ## How it is detected
    torch is imported once in a process of its own with a deadline. When it passes, the stack and the process's counters
    are sampled twice. A process that a signal has stopped counts too.

    ## What to do
    Look at the line. It waits for a lock, a network file system, a driver call, or a module of yours that runs at
    import. The command shows it again in your own shell.

    ## Sources
    https://docs.python.org/3/library/faulthandler.html
    """
    end = _import_end(run)
    if end.outcome != "timed-out":
        return
    if not end.hung:
        raise Unknown(f"the import was still at work: {end.reason}")
    yield Finding(
        f"Importing PyTorch hangs: {headline(end.reason)}",
        "Not even SIGKILL ended it: it is stuck inside the kernel, mostly in a driver." if end.unkillable else "",
        (see(run, "probes", "import torch", end.reason), *_stack(run, end)),
        (_look(packages, seconds=60),),
    )


def _import_end(run: ProbeRun) -> ProbeEnd:
    """Give how the import ended; ends the rule where it was not tried or the probe itself failed."""
    end = run.end_of(PROBE)
    if not end.outcome:
        raise Missing(TorchImport)
    if end.outcome == "absent":
        raise NotApplicable(end.reason)
    if end.outcome == "failed":
        raise Unknown(f"probe {PROBE} failed: {end.reason}")
    return end


def _stack(run: ProbeRun, end: ProbeEnd) -> tuple[Evidence, ...]:
    """Give the line that Python was at, and the last line of what the process printed."""
    stack, _, printed = end.detail.partition("stderr:\n")
    frames = re.findall(r'^\s*(File ".*", line \d+.*)$', stack, re.MULTILINE)
    last = printed.partition("\nstdout:\n")[0].strip().rpartition("\n")[2]
    found = [see(run, "probes", "at", frames[0])] if frames else []
    return (*found, *((see(run, "probes", "it printed", last),) if last else ()))


def _look(packages: Packages | None, seconds: int = 0) -> Fix:
    """Show the line in a shell of one's own; ``seconds``: after which a hanging import is ended."""
    python = (packages.executable if packages else None) or "python"
    watch = f"import faulthandler; faulthandler.dump_traceback_later({seconds}, exit=True); " if seconds else ""
    command = quoted((python, "-X", "faulthandler", "-c", f"{watch}import torch"))
    return Fix("See the line in your own shell", (command,), Safety.SAFE, "nothing")


RULES = (torch_import_fails, torch_import_crashes, torch_import_hangs)
