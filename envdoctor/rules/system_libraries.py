"""The machine's own libraries: glibc and libstdc++, libcuda, OpenMP runtimes."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import DriverFiles, KernelModule
from envdoctor.facts.host import Host
from envdoctor.facts.libraries import Libraries
from envdoctor.finding import Command, Finding, Fix, Severity, see
from envdoctor.rule import NotApplicable, Rule, rule
from envdoctor.rules.ledger_rows import cuda_rows, place_of, release_of, without_library_path


@rule(severity=Severity.ERROR, group="libraries", essential=True)
def glibc_too_old(libraries: Libraries, host: Host | None) -> Iterator[Finding]:
    """The C or C++ library here is older than torch's libraries ask for.

    ## What it means
    The wheel was built for a newer Linux: its libraries name symbol versions that this glibc or libstdc++ lacks.

    ## Why it matters
    `import torch` ends with "version `GLIBC_2.28' not found" or "`GLIBCXX_3.4.30' not found".

    ## How it is detected
    The newest version that torch's libraries ask for, against the newest that the libraries found first define.

    ## What to do
    Use a wheel for an older manylinux, a newer system or container, or put the environment's own libstdc++ first.

    ## Sources
    https://peps.python.org/pep-0600/
    """
    cuda_rows(libraries)
    pairs = (("glibc", "glibc_needed", "glibc"), ("libstdc++", "glibcxx_needed", "glibcxx_newest"))
    for name, needed, offered in pairs:
        wants, has = getattr(libraries, needed), getattr(libraries, offered)
        if wants and has and release_of(wants, name) > release_of(has, name):
            evidence = (
                see(libraries, needed, f"torch's libraries ask {name} for"),
                see(libraries, offered, f"the newest that {name} here has"),
            )
            command = Command(
                None, "ldd --version | head -n 1" if name == "glibc" else "python -m pip debug | grep -i libc"
            )
            system = f" ({host.os_name})" if host and host.os_name else ""
            fix = Fix(
                "Move to a newer system or container; look at what is here", (command,), changes="nothing: it looks"
            )
            yield Finding(f"{name} here{system} has {has}, and torch asks for {wants}", "", evidence, (fix,), name)


@rule(severity=Severity.ERROR, group="driver", essential=True)
def libcuda_stub_or_stale_on_path(
    files: DriverFiles, module: KernelModule | None, host: Host | None
) -> Iterator[Finding]:
    """A stub or an old libcuda is found before the driver's own.

    ## What it means
    libcuda.so.1 that the loader finds first is the toolkit's stub for linking, or belongs to another driver version
    while the right one lies further back.

    ## Why it matters
    CUDA does not start: "CUDA driver is a stub library", or a version mismatch.

    ## How it is detected
    The places of libcuda.so.1 in the loader's order, their size and the version in their file name, against the
    loaded kernel module.

    ## What to do
    Take the directory out of LD_LIBRARY_PATH or of the loader's configuration.

    ## Sources
    https://docs.nvidia.com/cuda/cuda-installation-guide-linux/
    """
    first = files.first_libcuda
    if first is None:
        raise NotApplicable(files.unknown.get("first_libcuda", "no libcuda here"))
    loaded = module.version if module else None
    others = [each for each in files.libcuda if each.path != first.path and not each.stub and not each.compat]
    right = next((each for each in others if loaded is None or each.version == loaded), None)
    stale = not first.compat and loaded is not None and first.version not in {None, loaded} and right is not None
    if host and (host.wsl or host.jetson) and not first.stub:
        raise NotApplicable("this platform brings its libcuda in its own way")
    if first.stub or stale:
        better = [see(files, "libcuda", "the driver's own", right.path)] if right else []
        evidence = (see(files, "first_libcuda", "found first", f"{first.path} ({first.version or 'stub'})"), *better)
        title = f"{'A stub' if first.stub else 'An old'} libcuda is found first: {first.path}"
        yield Finding(title, "", evidence, (without_library_path(), _refresh_cache()))


def _refresh_cache() -> Fix:
    commands = (Command(None, "grep -rn cuda /etc/ld.so.conf /etc/ld.so.conf.d/"), Command(None, "sudo ldconfig"))
    return Fix("Take it out of the loader's configuration", commands, changes="the loader's cache", needs_root=True)


@rule(severity=Severity.WARNING, group="libraries")
def duplicate_openmp_runtime(libraries: Libraries) -> Iterator[Finding]:
    """Two OpenMP runtimes would run in one process.

    ## What it means
    torch's libraries bring in both GNU's libgomp and Intel's libiomp5, or two copies of one of them.

    ## Why it matters
    Each keeps threads of its own: the processor is oversubscribed, and some pairs end the process.

    ## How it is detected
    The OpenMP runtimes among the libraries that the loader brings in for torch.

    ## What to do
    Install all numerical packages from one source, so that they share one runtime.

    ## Sources
    https://github.com/pytorch/pytorch/issues/37377
    """
    cuda_rows(libraries)
    copies = {place_of(each): each for each in libraries.openmp}
    if len(copies) > 1:
        evidence = tuple(see(libraries, "openmp", "OpenMP runtime", each.path) for each in copies.values())
        command = Command(
            None,
            "env KMP_DUPLICATE_LIB_OK=TRUE python -c 'import torch, numpy; print(torch.__config__.parallel_info())'",
        )
        fix = Fix("See what each of them does", (command,), changes="nothing: it looks")
        yield Finding(f"{len(copies)} OpenMP runtimes would be loaded with torch", "", evidence, (fix,))


RULES: tuple[Rule, ...] = (glibc_too_old, libcuda_stub_or_stale_on_path, duplicate_openmp_runtime)
