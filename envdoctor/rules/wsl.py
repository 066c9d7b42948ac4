"""WSL: the driver of Windows is not there, or a Linux driver inside hides it."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.facts.driver import CudaDriver, CudaRuntime, DriverFiles, DriverLibrary
from envdoctor.facts.gpu import DeviceNodes
from envdoctor.facts.host import Host
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Confidence, Evidence, Finding, Fix, Severity, see
from envdoctor.remedy.driver import FALLBACK_BRANCH, windows_driver
from envdoctor.remedy.variables import administer, export
from envdoctor.rule import Missing, NotApplicable, Rule, Unknown, rule
from envdoctor.rules.builds import need_cuda_build
from envdoctor.rules.presence import in_container, seen_working

HOME = "/usr/lib/wsl/"


def _need_wsl(host: Host) -> None:
    if not host.wsl:
        raise NotApplicable("not under WSL")
    if in_container(host):
        raise NotApplicable("in a container the driver is passed in by its runtime")


def _of_windows(files: DriverFiles) -> DriverLibrary | None:
    """Give the libcuda that Windows puts into the distribution."""
    return next((each for each in files.libcuda if each.path.startswith(HOME)), None)


@rule(severity=Severity.ERROR, group="driver", essential=True)
def wsl_driver_missing(
    host: Host,
    build: TorchBuild | None,
    files: DriverFiles | None,
    nodes: DeviceNodes | None,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    cuda: TorchCuda | None,
) -> Iterator[Finding]:
    """Under WSL no driver library is found that CUDA could use.

    ## What it means
    WSL has no NVIDIA driver of its own: the one of Windows puts libcuda into /usr/lib/wsl/lib. It is not there, or the
    loader does not look there.

    ## Why it matters
    CUDA finds no driver, and PyTorch computes on the CPU.

    ## How it is detected
    Under WSL, with a CUDA build of PyTorch: no libcuda below /usr/lib/wsl, or one that the loader does not find.
    Without /dev/dxg the GPU itself may be missing, so that it is a warning. Where CUDA was seen to start, nothing is
    reported.

    ## What to do
    Install NVIDIA's driver in Windows, bring WSL up to date and restart it. Never install a Linux driver inside WSL.

    ## Sources
    https://docs.nvidia.com/cuda/wsl-user-guide/
    """
    _need_wsl(host)
    if build is None:
        raise Missing(TorchBuild)
    need_cuda_build(build)
    if files is None:
        raise Missing(DriverFiles)
    if seen_working(cuda, runtime, driver):
        return
    theirs = _of_windows(files)
    if theirs and (files.first_libcuda or "first_libcuda" not in files.unknown):
        return
    dxg = nodes.dxg.exists if nodes else None
    if theirs:
        title, fixes = "The driver of Windows is there, but the loader does not look for it", _search_there()
    else:
        title = "No NVIDIA driver reaches this WSL distribution"
        fixes = (windows_driver(FALLBACK_BRANCH),)
    found = theirs.path if theirs else "none"
    shown = [see(files, "libcuda", "libcuda below /usr/lib/wsl", found)]
    yield Finding(
        title,
        "" if dxg is not False else "/dev/dxg is missing too: WSL 1, an old Windows, or no GPU that WSL may use.",
        evidence=(*shown, *((see(nodes, "dxg", "/dev/dxg", "there" if dxg else "missing"),) if nodes else ())),
        fixes=fixes,
        severity=Severity.WARNING if dxg is False else None,
        confidence=Confidence.CERTAIN if theirs else Confidence.LIKELY,
    )


def _search_there() -> tuple[Fix, ...]:
    value = '"/usr/lib/wsl/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"'
    return (
        export("Let the loader look there, in this shell", f"LD_LIBRARY_PATH={value}"),
        administer("Or for every program", "the loader's configuration", _ld_conf(), "sudo ldconfig"),
    )


def _ld_conf() -> str:
    return "echo /usr/lib/wsl/lib | sudo tee /etc/ld.so.conf.d/ld.wsl.conf"


@rule(severity=Severity.ERROR, group="driver", essential=True)
def wsl_libcuda_shadowed(
    host: Host,
    files: DriverFiles | None,
    driver: CudaDriver | None,
    runtime: CudaRuntime | None,
    cuda: TorchCuda | None,
) -> Iterator[Finding]:
    """Under WSL a libcuda of a Linux driver is found before the one of Windows.

    ## What it means
    Somebody installed a Linux driver, or a package that brings libcuda, inside the distribution. It needs a kernel
    module that WSL does not have.

    ## Why it matters
    CUDA starts with the wrong library and finds no device.

    ## How it is detected
    Under WSL the first libcuda in the loader's order lies outside /usr/lib/wsl, while one lies inside. Stubs and
    cuda-compat libraries are other findings. Where CUDA was seen to start, nothing is reported.

    ## What to do
    Remove the Linux driver's packages. The driver of Windows is enough.

    ## Sources
    https://docs.nvidia.com/cuda/wsl-user-guide/
    """
    _need_wsl(host)
    if files is None:
        raise Missing(DriverFiles)
    if seen_working(cuda, runtime, driver):
        return
    theirs, first = _of_windows(files), files.first_libcuda
    if theirs is None:
        raise NotApplicable("no libcuda of Windows is here to be hidden")
    if first is None:
        if "first_libcuda" in files.unknown:
            return  # nothing is found first: wsl-driver-missing says so
        raise Unknown("the first libcuda is not known")
    if first.path.startswith(HOME) or first.stub or first.compat:
        return
    yield Finding(
        "A Linux driver's libcuda hides the one of Windows",
        evidence=(
            see(files, "first_libcuda", "found first", first.path),
            Evidence("driver_files.libcuda", theirs.path, theirs.path, "", "the one to use"),
        ),
        fixes=_remove_linux_driver(host),
    )


def _remove_linux_driver(host: Host) -> tuple[Fix, ...]:
    tool = "sudo apt-get purge 'libnvidia-compute-*' 'nvidia-driver-*' 'cuda-drivers*'"
    if host.os_id in {"fedora", "rhel", "centos", "rocky", "almalinux"}:
        tool = "sudo dnf remove 'nvidia-driver*' 'cuda-drivers*'"
    return (
        administer("Remove the Linux driver from WSL", "system packages", tool, "sudo ldconfig"),
        _search_there()[0],
    )


RULES: tuple[Rule, ...] = (wsl_driver_missing, wsl_libcuda_shadowed)
