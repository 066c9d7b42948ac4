"""Can torch.compile work here: Triton, a C compiler, Python's headers, and a place for what it compiles."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, KernelModule, NvidiaSmi
from envdoctor.facts.gpu import DeviceNodes, PciBus
from envdoctor.facts.host import Host
from envdoctor.facts.packages import Packages
from envdoctor.facts.storage import Mount, Storage
from envdoctor.facts.torch import CompileTools, TorchBuild
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.knowledge.cuda import numbers
from envdoctor.knowledge.torch import release
from envdoctor.remedy import repair
from envdoctor.remedy.driver import RED_HAT_LIKE, SUSE_LIKE
from envdoctor.remedy.variables import administer, export, look
from envdoctor.rule import NotApplicable, Rule, Unknown, rule
from envdoctor.rules.builds import need_cuda_build
from envdoctor.rules.presence import in_container, need_gpu
from envdoctor.rules.versions import is_source_build, parsed

COMPILES_SINCE = (2, 0)


def _need_torch_that_compiles(build: TorchBuild) -> None:
    version = numbers(build.version)
    if version is None:
        raise Unknown("torch's version is not known")
    if version < COMPILES_SINCE:
        raise NotApplicable("torch.compile came with torch 2.0")


def _packages(host: Host | None, python: str | None) -> tuple[str, str]:
    """Name the packages with a C compiler and with Python.h, as this system calls them."""
    os_id = (host and host.os_id) or ""
    version = ".".join((python or "").split(".")[:2])
    if os_id in RED_HAT_LIKE | {"fedora"}:
        return "gcc gcc-c++", "python3-devel"
    if os_id in SUSE_LIKE:
        return "gcc gcc-c++", "python3-devel"
    if os_id == "alpine":
        return "build-base", "python3-dev"
    return "build-essential", f"python{version}-dev" if version else "python3-dev"


def _install(host: Host | None, title: str, *packages: str) -> Fix:
    os_id = (host and host.os_id) or ""
    tool = "apt-get install -y"
    if os_id in RED_HAT_LIKE | {"fedora"}:
        tool = "dnf install -y"
    elif os_id in SUSE_LIKE:
        tool = "zypper install -y"
    elif os_id == "alpine":
        tool = "apk add"
    root = "" if in_container(host) and host and host.is_root else "sudo "
    return administer(title, "system packages", f"{root}{tool} {' '.join(packages)}")


def install_compiler(host: Host | None) -> Fix:
    """Install a C compiler from the system."""
    return _install(host, "Install a compiler", _packages(host, None)[0])


def install_headers(host: Host | None, packages: Packages | None) -> Fix:
    """Install the headers of this Python from the system; in a conda environment, see where they should be."""
    if packages and packages.environment_kind == "conda":
        return look(
            "See where this Python keeps its headers", "python3 -c 'import sysconfig as s; print(s.get_paths())'"
        )
    name = _packages(host, packages.python_version if packages else None)[1]
    return _install(host, "Install Python's headers", name)


OTHER_PLACES = ("caches", "working directory")  # where else compiled files may be kept
LEAST_FREE_MIB = 64


@rule(severity=Severity.INFO, group="system")
def python_headers_missing(
    tools: CompileTools, build: TorchBuild, packages: Packages | None, host: Host | None
) -> Iterator[Finding]:
    """Python.h is not installed for this Python.

    ## What it means
    Triton and the inductor compile a small C module for each kernel, which includes Python.h.

    ## Why it matters
    Only when torch.compile or a Triton kernel is used: "fatal error: Python.h: No such file or directory".

    ## How it is detected
    The folder that sysconfig names for this interpreter's headers. Nothing is compiled.

    ## What to do
    Install the development package of this Python.

    ## Sources
    https://github.com/pytorch/pytorch/issues/97146
    """
    _need_torch_that_compiles(build)
    if tools.python_headers is None:
        reason = tools.unknown.get("python_headers", "not found")
        shown = see(tools, "python_headers", "Python.h", reason)
        fixes = (install_headers(host, packages),)
        yield Finding("Python.h is missing: Triton and torch.compile cannot compile", "", (shown,), fixes)


@rule(severity=Severity.INFO, group="system")
def c_compiler_missing(tools: CompileTools, build: TorchBuild, host: Host | None) -> Iterator[Finding]:
    """No C compiler is found.

    ## What it means
    Triton and the inductor call a C compiler while the program runs. They take what CC names, else gcc or clang.

    ## Why it matters
    Only when torch.compile or a Triton kernel is used: "Failed to find C compiler".

    ## How it is detected
    CC and PATH are looked up as Triton does. Nothing is run.

    ## What to do
    Install a compiler, or name one in CC.

    ## Sources
    https://github.com/pytorch/pytorch/issues/143406
    """
    _need_torch_that_compiles(build)
    if tools.c_compiler is None:
        shown = see(tools, "c_compiler", "C compiler", tools.unknown.get("c_compiler", "not found"))
        fixes = (install_compiler(host),)
        yield Finding("No C compiler is here: Triton and torch.compile cannot compile", "", (shown,), fixes)


@rule(severity=Severity.WARNING, group="torch", explained_by=("triton-torch-mismatch",))
def compile_toolchain_missing(
    tools: CompileTools,
    build: TorchBuild,
    packages: Packages | None,
    bus: PciBus | None,
    nodes: DeviceNodes | None,
    module: KernelModule | None,
    smi: NvidiaSmi | None,
    driver: CudaDriver | None,
    host: Host | None,
    storage: Storage | None,
) -> Iterator[Finding]:
    """torch.compile cannot work on this machine's GPU.

    ## What it means
    It needs three things beside PyTorch: Triton, a C compiler, and Python.h. And a place to write what it compiles,
    and to load it from. Something of it is missing.

    ## Why it matters
    A program that calls torch.compile stops at its first step, or runs without compilation where errors are
    suppressed. One that does not call it is not affected.

    ## How it is detected
    The three are looked up as torch would. The place is TORCHINDUCTOR_CACHE_DIR, else a folder under TMPDIR or /tmp:
    its file system must not be mounted noexec or read-only, nor be full. Only with a CUDA build of PyTorch 2.0 or newer
    and an NVIDIA GPU. A torch that was published without Triton, as NVIDIA's for Jetson, is not blamed for it.

    ## What to do
    Install what is missing. Triton is a wheel of its own that PyTorch's asks for. Name another place in
    TORCHINDUCTOR_CACHE_DIR.

    ## Sources
    https://docs.pytorch.org/docs/stable/torch.compiler.html
    """
    need_cuda_build(build)
    _need_torch_that_compiles(build)
    need_gpu(bus, nodes, module, smi, driver)
    if host and host.system not in {None, "Linux"}:
        raise NotApplicable(f"on {host.system} other compilers are used")
    yield from _no_place(storage)
    missing = [(field, label) for field, label in _wanted(build) if getattr(tools, field) is None]
    if not missing:
        return
    names = ", ".join(label for _, label in missing)
    yield Finding(
        f"torch.compile cannot work here: no {names.replace(', ', ', no ')}",
        evidence=tuple(_lacking(tools, field, label) for field, label in missing),
        fixes=_complete({field for field, _ in missing}, build, packages, host),
    )


def _no_place(storage: Storage | None) -> Iterator[Finding]:
    """Report a file system from which nothing that is compiled can be loaded, or to which nothing can be written."""
    places = {each.purpose: each for each in (storage.mounts if storage else ())}
    used = places.get("inductor cache") or places.get("temporary files")
    wrong = _unusable(used) if used else ""
    if storage is None or used is None or not wrong:
        return
    yield Finding(
        f"torch.compile cannot work here: {used.path}, where it writes what it compiles, {wrong}",
        evidence=(see(storage, "mounts", used.purpose, f"{used.path}: {used.filesystem}, {used.options}"),),
        fixes=(_elsewhere(places),),
        subject="storage",
        confidence=Confidence.LIKELY,
    )


def _elsewhere(places: dict[str, Mount]) -> Fix:
    for name in OTHER_PLACES:
        if (place := places.get(name)) and not _unusable(place):
            folder = shlex.quote(f"{place.path}/torchinductor")
            return export("Write it elsewhere", f"TORCHINDUCTOR_CACHE_DIR={folder}")
    return look("See the file systems and their space", "df -h; findmnt --options noexec")


def _unusable(place: Mount) -> str:
    options = place.options.split(",")
    if "noexec" in options:
        return "is mounted noexec"
    if "ro" in options:
        return "is mounted read-only"
    full = (place.free_mib is not None and place.free_mib < LEAST_FREE_MIB) or place.free_inodes == 0
    return "is full" if full else ""


def _wanted(build: TorchBuild) -> tuple[tuple[str, str], ...]:
    """Name what torch.compile needs here: Triton only where this torch was published with one."""
    tools = (("c_compiler", "C compiler"), ("python_headers", "Python.h"))
    version = parsed(build.version or "", "torch")
    row = None if is_source_build(version) else release(version)
    pinned = any(each.name.endswith("triton") for each in build.pins)
    return (("triton_version", "Triton"), *tools) if pinned or (row and row.triton) else tools


def _lacking(tools: CompileTools, field: str, label: str) -> Evidence:
    return see(tools, field, label, tools.unknown.get(field, "not found"))


def _complete(missing: set[str], build: TorchBuild, packages: Packages | None, host: Host | None) -> tuple[Fix, ...]:
    compiler, headers = _packages(host, packages.python_version if packages else None)
    wanted = [*([compiler] if "c_compiler" in missing else []), *([headers] if "python_headers" in missing else [])]
    system = (_install(host, "Install what is missing from the system", *wanted),) if wanted else ()
    return (*_triton(build, packages), *system) if "triton_version" in missing else system


def _triton(build: TorchBuild, packages: Packages | None) -> tuple[Fix, ...]:
    """Install the Triton that torch's wheel pins; where it pins none, say how torch itself would bring it."""
    pin = next((f"{each.name}{each.specifier}" for each in build.pins if each.name.endswith("triton")), "")
    if pin and packages:
        return repair.to_pins(packages, (pin,))
    return (look("See which Triton this torch asks for", "python -m pip show torch"),)


RULES: tuple[Rule, ...] = (python_headers_missing, c_compiler_missing, compile_toolchain_missing)
