"""Which CUDA does the driver support: asked of libcuda first, then of libcudart and nvidia-smi, then of the tables."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from envdoctor.facts.driver import CudaDriver, CudaRuntime, DriverFiles, KernelModule, NvidiaSmi
from envdoctor.facts.host import Host
from envdoctor.facts.torch import TorchBuild, TorchCuda
from envdoctor.finding import Confidence, Evidence, Fix, see
from envdoctor.knowledge.cuda import (
    Version,
    branch_to_install,
    cuda_minor,
    dotted,
    floor_of,
    level_of,
    level_suffices,
    numbers,
    starts,
)
from envdoctor.remedy.driver import install_driver
from envdoctor.remedy.machine import needs_open_modules
from envdoctor.rules.answers import COMPAT_NOT_SUPPORTED, SYSTEM_DRIVER_MISMATCH, torch_level
from envdoctor.rules.presence import seen_working, windows_driver


class Driver(msgspec.Struct, frozen=True):
    """Everything that speaks about the driver in one hand: the facts a rule was given, each of which may be missing."""

    asked: CudaDriver | None = None
    runtime: CudaRuntime | None = None
    smi: NvidiaSmi | None = None
    module: KernelModule | None = None
    files: DriverFiles | None = None
    cuda: TorchCuda | None = None
    host: Host | None = None
    build: TorchBuild | None = None

    @property
    def system(self) -> str:
        """Name the table that its version numbers belong to."""
        return "windows" if windows_driver(self.host) else "linux"


class Support(msgspec.Struct, frozen=True):
    """Whether the driver starts a build (None: not known), the level where it is known, and what shows it."""

    starts: bool | None
    level: Version | None = None
    evidence: tuple[Evidence, ...] = ()
    confidence: Confidence = Confidence.CERTAIN
    reason: str = ""


def raise_driver(driver: Driver, wanted: Version | None = None) -> Fix:
    """Raise the driver, to one that starts this CUDA, with the kernel modules that these GPUs need."""
    branch = branch_to_install(wanted, driver.system) if wanted else None
    opened = needs_open_modules(driver.module, driver.asked, driver.smi)
    return install_driver(driver.host, branch, verb="Raise", open_modules=opened)


def support_of(driver: Driver, build: Version) -> Support:
    """Judge by the driver's own answer where there is one, by its version and the tables where there is none."""
    told = _answers(driver)
    if not told:
        found = _by_version(driver, build)
    else:
        level, evidence = told[0]
        found = Support(level_suffices(level, build), level, (_named(evidence, driver),))
    return _observed(driver, build) or found if found.starts is False else found


def _observed(driver: Driver, build: Version) -> Support | None:
    """Overrule arithmetic by what was seen: where torch's CUDA starts, so does everything of its major.

    A cuda-compat library then stands before the driver's own, and which CUDA it goes up to is not known.
    """
    seen = seen_working(driver.cuda, driver.runtime)
    ours = cuda_minor(driver.build.cuda) if driver.build else None
    if seen and ours and level_suffices(ours, build):
        return Support(True, None, (seen,), reason="CUDA starts, by a library newer than the driver")
    return None


def _named(evidence: Evidence, driver: Driver) -> Evidence:
    """Say which driver supports that much, where its version is known."""
    version, _ = version_of(driver)
    return replace(evidence, label=f"driver {version[0]} supports") if version else evidence


def _answers(driver: Driver) -> list[tuple[Version, Evidence]]:
    """Give the CUDA levels that the driver itself named, the best source first."""
    found = []
    if not _refused(driver):
        found = [*_level_of(driver.asked, "cuda_version"), *_level_of(driver.runtime, "driver_version")]
    if not _compat_first(driver):
        found += _level_of(driver.smi, "cuda_version")
    told = cuda_minor(torch_level(driver.cuda))
    if told and driver.cuda:
        found.append((told, see(driver.cuda, "error", "driver supports", f"CUDA {dotted(told)}")))
    return found


def _level_of(fact: CudaDriver | CudaRuntime | NvidiaSmi | None, name: str) -> list[tuple[Version, Evidence]]:
    level = cuda_minor(getattr(fact, name)) if fact else None
    return [(level, see(fact, name, "driver supports", f"CUDA {dotted(level)}"))] if fact and level else []


def _compat_first(driver: Driver) -> bool:
    return bool(driver.files and driver.files.first_libcuda and driver.files.first_libcuda.compat)


def _refused(driver: Driver) -> bool:
    """Tell whether libcuda spoke for a cuda-compat library that does not work here: its level is not the driver's."""
    refusals = {SYSTEM_DRIVER_MISMATCH, COMPAT_NOT_SUPPORTED}
    codes = {driver.asked.init_code if driver.asked else None, driver.runtime.code if driver.runtime else None}
    return COMPAT_NOT_SUPPORTED in codes or (_compat_first(driver) and bool(codes & refusals))


def _by_version(driver: Driver, build: Version) -> Support:
    if driver.host and driver.host.jetson:
        return Support(None, reason="on Jetson a driver version says nothing about CUDA, and libcuda gave no answer")
    version, evidence = version_of(driver)
    if version is None:
        return Support(None, reason="neither the driver's CUDA level nor its version is known")
    verdict = starts(version, build, driver.system)
    level = level_of(version, driver.system)
    shown = (*evidence, *_floor(build, driver.system, evidence))
    reason = f"the tables do not say whether driver {dotted(version)} starts CUDA {dotted(build)}"
    return Support(verdict, level, shown, Confidence.LIKELY, reason)


def version_of(driver: Driver) -> tuple[Version | None, tuple[Evidence, ...]]:
    """Give the driver's version: the kernel module's, else nvidia-smi's."""
    for fact, name in ((driver.module, "version"), (driver.smi, "driver_version")):
        text = getattr(fact, name) if fact else None
        if fact and numbers(text):
            return numbers(text), (see(fact, name, "driver"),)
    return None, ()


def _floor(build: Version, system: str, driver: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    floor = floor_of(build, system)
    if floor is None or not driver:
        return ()
    return (Evidence("knowledge.cuda_driver", f"{floor.text} or newer", f"{floor.by}: {floor.source}", "", "needs"),)
