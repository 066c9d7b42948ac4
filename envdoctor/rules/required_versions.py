"""Required versions: torch, the libraries that come with it, the driver, Python, packages, and NVIDIA's images."""

from __future__ import annotations

from dataclasses import replace

from packaging.version import InvalidVersion, Version

from envdoctor.finding import Command, Evidence, Fix, Safety, see
from envdoctor.knowledge.cuda import dotted, numbers
from envdoctor.knowledge.ngc import images
from envdoctor.knowledge.torch import cuda_of, releases
from envdoctor.remedy.driver import install_driver
from envdoctor.remedy.install import change_torch, install, install_plain
from envdoctor.remedy.machine import machine_of, needs_open_modules
from envdoctor.remedy.wheels import INDEX, Wheel
from envdoctor.rule import Unknown
from envdoctor.rules.required_values import Around, Held
from envdoctor.rules.versions import parsed, satisfies, specifiers

NAMES = {"cudnn": "cuDNN", "nccl": "NCCL", "cuda": "CUDA", "torch": "torch", "python": "Python"}


def torch(around: Around, wanted: str) -> Held:
    """Hold torch's own version: of the one that was imported, else of the one that would be."""
    fixes = _torch_for(around, wanted)
    if around.imported and around.imported.version:
        shown = see(around.imported, "version", "torch")
    elif around.build and around.build.version:
        shown = see(around.build, "version", "torch")
    elif around.packages and around.packages.version("torch"):
        shown = see(around.packages, "distributions", "torch", around.packages.version("torch"))
    else:
        return Held(False, "torch is not installed", (_nowhere("torch", around.absent("torch-build")),), fixes)
    return _held("torch", shown, wanted, fixes, ("torch-missing", "duplicate-torch-installs"))


def cuda(around: Around, wanted: str) -> Held:
    """Hold the CUDA that torch was built with."""
    build, causes = around.build, ("torch-cpu-only-on-gpu-machine", "torch-missing", "rocm-build-on-nvidia")
    fixes = _build_for(around, wanted)
    if build is None:
        absent = around.absent("torch-build")
        return Held(False, f"There is no torch built with CUDA {wanted}", (_nowhere("torch", absent),), fixes, causes)
    if build.cuda is None:
        if build.version is None or "cuda" in build.unknown:
            raise Unknown(build.unknown.get("cuda", "what torch was built with is not known"))
        shown = see(build, "version", "torch, built without CUDA")
        return Held(False, f"This torch was built without CUDA, {wanted} is required", (shown,), fixes, causes)
    return _held("CUDA", see(build, "cuda", "torch was built with CUDA"), wanted, fixes, causes, "this torch's CUDA")


def cudnn(around: Around, wanted: str) -> Held:
    """Hold cuDNN: what it says of itself, else the copy that would load."""
    return _library(around, "cudnn", wanted)


def nccl(around: Around, wanted: str) -> Held:
    """Hold NCCL: what the mapped one says of itself, else the copy that would load."""
    if around.mapped and around.mapped.nccl_version:
        shown = see(around.mapped, "nccl_version", "NCCL")
        return _held("NCCL", shown, wanted, _wheel_of(around, "nccl", wanted), _library_causes("nccl"))
    return _library(around, "nccl", wanted)


def _library(around: Around, name: str, wanted: str) -> Held:
    spoken, fixes = NAMES[name], _wheel_of(around, name, wanted)
    row = around.libraries.row(name) if around.libraries else None
    told = row and (row.api_version or (row.first and row.first.version) or row.installed_version)
    if row and told:
        longer = row.installed_version if (row.installed_version or "").startswith(f"{told}.") else told
        shown = Evidence("libraries.rows", longer, _where(row.api_version, row.first), "", spoken)
        return _held(spoken, shown, wanted, fixes, _library_causes(name))
    if name == "nccl" and around.settings and around.settings.nccl_version:
        return _held(spoken, see(around.settings, "nccl_version", spoken), wanted, fixes, _library_causes(name))
    if around.build is not None and around.build.is_cpu_only:
        shown = see(around.build, "version", "torch, built for the CPU alone")
        causes = ("torch-cpu-only-on-gpu-machine",)
        return Held(False, f"This torch has no {spoken}, {wanted} is required", (shown,), fixes, causes)
    if around.build is None:
        absent = _nowhere("torch", around.absent("torch-build"))
        return Held(False, f"There is no torch, and so no {spoken} {wanted}", (absent,), fixes, ("torch-missing",))
    raise Unknown(f"the version of {spoken} that torch loads is not known")


def _where(api: str | None, first: object) -> str:
    return "the library's own answer" if api else str(getattr(first, "path", "") or "the distribution's metadata")


def _library_causes(name: str) -> tuple[str, ...]:
    return (f"{name}-version-mismatch", f"{name}-not-found", f"{name}-mixed", "library-not-the-declared-one")


def driver(around: Around, wanted: str) -> Held:
    """Hold the driver's version: of the loaded kernel module, else as NVML or nvidia-smi say it."""
    fixes, causes = (_newer_driver(around, wanted),), ("nvidia-driver-missing", "driver-library-mismatch")
    for fact, name in ((around.module, "version"), (around.state, "driver_version"), (around.smi, "driver_version")):
        if fact is not None and getattr(fact, name):
            return _held("driver", see(fact, name, "NVIDIA driver"), wanted, fixes, causes, "the NVIDIA driver")
    module = around.module
    if module is not None and module.loaded is False:
        shown = see(module, "loaded", "NVIDIA kernel module", "not loaded")
        return Held(False, f"There is no NVIDIA driver, {wanted} is required", (shown,), fixes, causes)
    raise Unknown("the version of the NVIDIA driver is not known")


def python(around: Around, wanted: str) -> Held:
    """Hold the interpreter's version."""
    if around.packages is None or around.packages.python_version is None:
        raise Unknown("the version of Python is not known")
    command = Command(("uv", "venv", "--python", wanted, ".venv"), f"uv venv --python '{wanted}' .venv")
    fix = Fix(f"Make an environment with Python {wanted}", (command,), Safety.DISRUPTIVE, "a new environment in .venv")
    return _held("Python", see(around.packages, "python_version", "Python"), wanted, (fix,), ("python-unsupported",))


def package(around: Around, name: str, wanted: str) -> Held:
    """Hold one distribution: that it is installed, and its version."""
    if around.packages is None:
        raise Unknown("which packages are installed is not known")
    spec = name if wanted == "*" else f"{name}{wanted}"
    fixes = (install_plain(around.packages, spec),)
    found = around.packages.find(name)
    if found is None:
        shown = see(around.packages, "distributions", name, "not installed")
        return Held(False, f"{name} is not installed, it is required", (shown,), fixes)
    shown = see(around.packages, "distributions", name, found.version)
    return Held(True, "", (shown,)) if wanted == "*" else _held(name, shown, wanted, fixes)


def ngc(around: Around, wanted: str) -> Held:
    """Hold the tag of NVIDIA's PyTorch image that this container was made from."""
    container, tag = around.container, around.container and around.container.nvidia_image_tag
    if container is None or "nvidia_image_tag" in container.unknown:
        raise Unknown("whether this is one of NVIDIA's images is not known")
    fixes = (_image(wanted),)
    if tag is None:
        shown = see(container, "nvidia_image_tag", "NVIDIA's PyTorch image", "this is none")
        return Held(False, "This is not NVIDIA's PyTorch image, one is required", (shown,), fixes)
    shown = see(container, "nvidia_image_tag", "NVIDIA's PyTorch image")
    return Held(True, "", (shown,)) if wanted == "*" else _held("image", shown, wanted, fixes, (), "the NVIDIA image")


def _held(
    what: str, shown: Evidence, wanted: str, fixes: tuple[Fix, ...], causes: tuple[str, ...] = (), whose: str = ""
) -> Held:
    """Compare a version with a specifier; local tags and pre-release marks do not count."""
    met = satisfies(parsed(str(shown.value), whose or what), specifiers(wanted, "require"))
    start = whose[:1].upper() + whose[1:] if whose else what
    return Held(met, f"{start} is {shown.value}, {wanted} is required", (shown,), fixes, causes)


def _nowhere(what: str, reason: str) -> Evidence:
    return Evidence("probe_run.probes", "not there", reason, "", what)


def _pip(around: Around, spec: str, *, title: str = "") -> Fix:
    """Install by pip or uv, as this environment has it."""
    if around.packages is not None:
        return install(around.packages, (spec,), title=title)
    command = Command(("python", "-m", "pip", "install", spec), f"python -m pip install '{spec}'")
    return Fix(title or f"Install {spec}", (command,), Safety.SAFE, "this environment only")


def _torch_for(around: Around, wanted: str) -> tuple[Fix, ...]:
    """Give the newest torch of the range that this driver starts: what an index gives by default may ask for more."""
    fit = machine_of(
        around.packages,
        around.host,
        driver=around.driver,
        runtime=around.runtime,
        smi=around.smi,
        module=around.module,
    )
    asked = specifiers(wanted, "require")
    if around.packages and fit.driver_cuda and not (around.build and around.build.is_cpu_only):
        for each in releases():
            wheel = fit.cuda_wheel(str(each.version)) if satisfies(each.version, asked) else None
            if wheel and wheel.torch == each.version:
                return change_torch(around.packages, wheel)
    return (_pip(around, f"torch{wanted}"),)


def _newer_torch(around: Around) -> Fix:
    have = (around.build and around.build.version) or ""
    title = "Take a newer torch, which brings newer libraries"
    if not have:
        return _pip(around, "torch", title=title)
    return replace(_torch_for(around, f">{have.partition('+')[0]}")[0], title=title)


def _build_for(around: Around, wanted: str) -> tuple[Fix, ...]:
    """Put in the newest torch that is published for a CUDA of that range; none where none is known."""
    asked = specifiers(wanted, "require")
    for release in releases():
        for variant in sorted(release.variants, key=cuda_of, reverse=True):
            if variant.startswith("cu") and satisfies(Version(dotted(cuda_of(variant))), asked):
                wheel = Wheel(release.version, variant)
                if around.packages is not None:
                    return change_torch(around.packages, wheel)
                shell = f"python -m pip install 'torch=={release.version}' --index-url {INDEX}/{variant}"
                return (Fix(f"Install torch for CUDA {wheel.cuda}", (Command(None, shell),), Safety.SAFE),)
    return ()


def _wheel_of(around: Around, name: str, wanted: str) -> tuple[Fix, ...]:
    """Put another version of the library's own wheel in, over what this torch pins."""
    if around.build is None or around.build.is_cpu_only:
        return _build_for(around, ">=0")
    row = around.libraries.row(name) if around.libraries else None
    distribution = (row.declared or "").partition(" ")[0] if row else ""
    if not distribution or around.packages is None:
        return (_newer_torch(around),)
    title = f"Install {distribution}{wanted}, which is not the one that this torch pins"
    own = install(around.packages, (f"{distribution}{wanted}",), title=title, alone=True)
    return (own, _newer_torch(around))


def _newer_driver(around: Around, wanted: str) -> Fix:
    low = [numbers(each.version) for each in specifiers(wanted, "require") if each.operator in {">=", ">", "==", "~="}]
    floor = next((each for each in low if each), None)
    opened = needs_open_modules(around.module, around.driver, around.smi)
    return install_driver(around.host, floor[0] if floor else None, verb="Raise", open_modules=opened)


def _image(wanted: str) -> Fix:
    def fits(tag: str) -> bool:
        try:
            return wanted == "*" or satisfies(Version(tag.partition("-")[0]), specifiers(wanted, "require"))
        except InvalidVersion:
            return False

    tag = next((each.tag for each in images() if fits(each.tag)), "TAG-py3")
    tag = tag if tag.endswith("-py3") else f"{tag}-py3"
    command = Command(None, f"docker run --rm --gpus all --ipc=host -it nvcr.io/nvidia/pytorch:{tag}")
    return Fix("Start the job in that image", (command,), Safety.DISRUPTIVE, "the job is started anew")
