"""Which published torch wheel fits a machine: its Python, processor, driver and GPUs. Only wheels that exist."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from envdoctor.knowledge.cuda import cuda_minor, level_suffices
from envdoctor.knowledge.torch import TorchRelease, code_of, cuda_of, numbers, release, releases, variant_of

INDEX = "https://download.pytorch.org/whl"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A published torch: its release and variant (``cu126``, ``cpu``).

    ``minor_compatibility``: this driver starts it only through CUDA's minor-version compatibility.
    """

    torch: Version
    variant: str
    minor_compatibility: bool = False

    @property
    def cuda(self) -> str:
        """Give the CUDA version of the variant, ``"12.6"``; empty for the CPU."""
        return ".".join(str(part) for part in cuda_of(self.variant))

    @property
    def index(self) -> str:
        """Give the index that serves this variant."""
        return f"{INDEX}/{self.variant}"

    @property
    def tagged(self) -> str:
        """Give the version with its variant, which no other build of the same release satisfies."""
        return f"{self.torch}+{self.variant}"


def platform_of(machine: str | None, system: str | None = "Linux") -> str | None:
    """Name the platform of wheels as the table does; None where no CUDA wheel is published."""
    architecture = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}.get(
        (machine or "x86_64").lower()
    )
    if system in {None, "Linux"} and architecture:
        return f"linux-{architecture}"
    return "windows" if system == "Windows" and architecture == "x86_64" else None


def torch_wheel(
    python: str,
    machine: str | None = "x86_64",
    driver_cuda: str | None = None,
    capabilities: tuple[str, ...] = (),
    installed: str | None = None,
    *,
    system: str | None = "Linux",
) -> Wheel | None:
    """Choose the CUDA wheel that this Python, driver and these GPUs can use; None when no known one fits.

    The installed release is kept where it fits, else its minor, else the newest wins. ``driver_cuda`` None: no
    driver to respect yet. ``capabilities`` (``"8.0"``) that are not known are not respected either.
    """
    platform = platform_of(machine, system)
    if platform is None:
        return None
    level = cuda_minor(driver_cuda)
    in_order = _in_order(python, installed)
    chosen = (_best(each, platform, capabilities, level, extra=extra) for extra in (False, True) for each in in_order)
    return next((each for each in chosen if each), None)


def _best(
    each: TorchRelease, platform: str, capabilities: tuple[str, ...], level: tuple[int, ...] | None, *, extra: bool
) -> Wheel | None:
    offered = each.extra_variants if extra else each.variants
    if extra and platform == "windows":
        return None  # what lies on the index outside the matrix was looked up for Linux only
    starts = [variant for variant in offered if level is None or level_suffices(level, cuda_of(variant))]
    fit = [variant for variant in starts if _serves(each, variant, platform, capabilities)]
    if not fit:
        return None
    variant = min(fit, key=lambda one: _preference(each, one, level))
    return Wheel(each.version, variant, level is not None and cuda_of(variant) > level)


def cpu_wheel(python: str, installed: str | None = None) -> Wheel | None:
    """Choose the CPU wheel for this Python: the installed release where it has one, else the newest."""
    found = next(iter(_in_order(python, installed)), None)
    return Wheel(found.version, "cpu") if found else None


def same_build(python: str, version: str, cuda: str | None, *, cpu: bool) -> Wheel | None:
    """Give the published wheel that an installed torch is, so that it can be installed again; None if there is none."""
    found = release(_version(version) or Version("0"))
    variant = "cpu" if cpu else variant_of(cuda or "")
    if found is None or not found.supports(numbers(python)) or (variant == "cpu") is not cpu:
        return None
    known = variant == "cpu" or variant in (*found.variants, *found.extra_variants)
    return Wheel(found.version, variant) if known else None


def _version(text: str | None) -> Version | None:
    try:
        return Version(text or "")
    except InvalidVersion:
        return None


def _in_order(python: str, installed: str | None) -> list[TorchRelease]:
    """Give the releases with a wheel for this Python: the newest first, or beside an installed one the nearest.

    Nearest: itself, its minor, the newer minors from below, then the older ones from above.
    """
    fit = [each for each in releases() if each.supports(numbers(python))]
    have = _version(installed)
    if have is None:
        return fit
    base = Version(have.base_version)
    return sorted(fit, key=lambda each: _distance(each.version, base))


def _distance(version: Version, base: Version) -> tuple[object, ...]:
    major, minor, patch = version.major, version.minor, version.micro
    older = version.release[:2] < base.release[:2]
    way = (-major, -minor, -patch) if older else (major, minor, -patch)
    return (version != base, version.release[:2] != base.release[:2], older, way)


def _serves(each: TorchRelease, variant: str, platform: str, capabilities: tuple[str, ...]) -> bool:
    code = code_of(each.version, variant, platform) or (
        # The matrix is the one of x86-64 wheels, which Windows shares; other platforms exist only where a row says so.
        code_of(each.version, variant, "linux-x86_64") if platform == "windows" else None
    )
    if code is None:
        return platform != "linux-aarch64" and not capabilities
    return all(code.runs_on(capability) for capability in capabilities)


def _preference(each: TorchRelease, variant: str, level: tuple[int, ...] | None) -> tuple[object, ...]:
    """Rank: what the driver runs natively, of that the published default, then the newest CUDA.

    Among those that only minor-version compatibility starts, the oldest CUDA asks the least of the driver.
    """
    cuda = cuda_of(variant)
    native = level is None or cuda <= level
    ascending = tuple(-part for part in cuda) if native else cuda
    return (not native, native and variant != variant_of(each.default_cuda), ascending)
