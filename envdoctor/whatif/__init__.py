"""What would be: a requirements file, a lock or a Dockerfile put onto a machine's facts, before anything is installed.

``project`` replaces what a snapshot says of packages by what the files would bring; the driver, the GPUs and the system
stay what they are. Rules then judge it as they judge any snapshot, and ``reworded`` makes their findings speak of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from envdoctor.facts import Fact, key_of
from envdoctor.facts.driver import CudaDriver, CudaRuntime, KernelModule, NvidiaSmi
from envdoctor.facts.host import Environment, Host
from envdoctor.facts.job import Job
from envdoctor.facts.libraries import Extensions, Libraries, MappedLibraries, Toolkit
from envdoctor.facts.packages import Packages
from envdoctor.facts.text import Pasted, Wanted
from envdoctor.facts.torch import (
    CompileTools,
    TorchBuild,
    TorchCuda,
    TorchFiles,
    TorchImport,
    TorchPath,
    TorchSettings,
)
from envdoctor.knowledge.cuda import compat_status, dotted, numbers
from envdoctor.knowledge.gpus import is_consumer
from envdoctor.outcome import Absent, Got
from envdoctor.snapshot import ProbeResult
from envdoctor.whatif import conda_choice, images, torch_choice
from envdoctor.whatif.packages import packages_of, unresolved
from envdoctor.whatif.place import Place, place_of, rows_here
from envdoctor.whatif.torch_choice import Choice, Chosen
from envdoctor.whatif.wording import reworded

if TYPE_CHECKING:
    from envdoctor.facts.text import Requirement
    from envdoctor.snapshot import Snapshot

__all__ = ["project", "reworded"]

# What can only be seen of a torch that is there.
OF_INSTALLED = (
    TorchPath, TorchFiles, TorchImport, TorchCuda, TorchSettings, Libraries, Extensions, MappedLibraries, CudaRuntime,
    Job,
)  # fmt: skip
OF_THIS_SYSTEM = (Toolkit, CompileTools, Environment)  # what a container has of its own
NOT_YET = "what the file would install is not there yet"


def project(snapshot: Snapshot) -> Snapshot:
    """Give the snapshot as it would be with what the files ask for; unchanged when there are none."""
    wanted = snapshot.get(Wanted)
    if wanted is None or not (wanted.requirements or wanted.images):
        return snapshot
    host, have = snapshot.get(Host), snapshot.get(Packages)
    place = place_of(wanted, have, host)
    rows = rows_here(wanted, place)
    choice = _choice(rows, wanted, place)
    new = choice != Choice() or bool({"dockerfile", "conda", "lock"} & {*wanted.kinds})
    packages = packages_of(rows, choice.chosen, wanted, place, None if new else have)
    facts: list[Fact] = [packages, replace(wanted, unresolved=unresolved(rows, choice, place))]
    facts += [_build(choice.chosen)] if choice.chosen else []
    facts += _of_container(wanted, snapshot) if place.container else []
    gone = (*(OF_INSTALLED if new else ()), *((TorchBuild,) if new and not choice.chosen else ()))
    gone = (*gone, *(each for each in OF_THIS_SYSTEM if place.container))
    return _with(snapshot, tuple(facts), gone, _remarks(choice, place, wanted, new=new))


def _choice(rows: tuple[Requirement, ...], wanted: Wanted, place: Place) -> Choice:
    """Choose as conda does, take what the image brings, or choose as pip does; what is there already stays."""
    by_conda = conda_choice.choose(rows, wanted)
    if by_conda != Choice() and not any(each.name == "torch" and each.kind == "pip" for each in rows):
        return by_conda
    base = images.base_of(wanted) if place.container else ""
    brought = images.torch_of(base)
    if brought is None or torch_choice.replaces(rows, brought[0]):
        return torch_choice.choose(rows, wanted, place)
    version, cuda = brought
    return Choice(Chosen(version, cuda, None, False, wanted.files[0] if wanted.files else "", f"the image {base}"))


def _build(chosen: Chosen) -> TorchBuild:
    source = f"{chosen.source}, {chosen.told}" if chosen.told else chosen.source
    known = chosen.cuda or chosen.hip or chosen.is_cpu_only is not None
    unknown = {} if known else dict.fromkeys(("cuda", "is_cpu_only"), chosen.told)
    return TorchBuild(
        version=chosen.version, metadata_version=chosen.version, cuda=chosen.cuda, hip=chosen.hip,
        is_cpu_only=chosen.is_cpu_only, sources=dict.fromkeys(("version", "cuda", "hip", "is_cpu_only"), source),
        unknown=unknown,
    )  # fmt: skip


def _of_container(wanted: Wanted, snapshot: Snapshot) -> list[Fact]:
    """Give the facts of the container that would be started: its image, its variables, and the host below it."""
    source = wanted.files[0] if wanted.files else "the Dockerfile"
    base = images.base_of(wanted)
    found: list[Fact] = [
        images.container_of(base, source),
        Environment(variables=(*images.variables_of(base), *wanted.variables), sources={"variables": f"{source}: ENV"}),
    ]
    if host := snapshot.get(Host):
        why = {"libc": "the image's own C library is not known", "os_id": "the image's own system is not known"}
        libc = "musl" if images.is_musl(base) else None
        found.append(
            replace(host, container="docker", libc=libc, os_id=None, os_version=None, unknown={**host.unknown, **why})
        )
    return [*found, *_driver_in(base, snapshot)]


def _driver_in(base: str, snapshot: Snapshot) -> list[Fact]:
    """Give libcuda's answer as it would be in the container: by the image's compatibility libraries where they serve.

    That CUDA starts on the host does not show that it starts in the image.
    """
    driver, smi = snapshot.get(CudaDriver), snapshot.get(NvidiaSmi)
    module = snapshot.get(KernelModule)
    version = numbers((module.version if module else None) or (smi.driver_version if smi else None))
    cards = {each.name for fact in (driver and driver.devices, smi and smi.gpus) for each in fact or ()}
    cuda = images.cuda_of(base)
    serves = cuda and version and compat_status(cuda, version) == "compatible" and cards
    if serves and cuda and not any(map(is_consumer, cards)):
        source = f"the compatibility libraries of {base}, which serve this driver"
        devices = driver.devices if driver else ()
        return [CudaDriver(cuda_version=dotted(cuda), devices=devices, sources={"cuda_version": source})]
    if driver and driver.init_code == 0:
        return [replace(driver, init_code=None, unknown={**driver.unknown, "init_code": NOT_YET})]
    return []


def _with(
    snapshot: Snapshot, facts: tuple[Fact, ...], gone: tuple[type[Fact], ...], remarks: tuple[str, ...]
) -> Snapshot:
    keys = {key_of(each) for each in gone} - {key_of(type(each)) for each in facts}
    kept = {key: fact for key, fact in snapshot.facts.items() if key not in keys}
    pasted = snapshot.get(Pasted) or Pasted()
    new = {key_of(type(each)): each for each in facts}
    told = replace(pasted, remarks=(*remarks, *(each for each in pasted.remarks if each not in remarks)))
    probes = tuple(each for each in snapshot.probes if each.fact not in keys | {*new})
    probes += tuple(ProbeResult(f"not-yet-{key.replace('_', '-')}", key, Absent(NOT_YET)) for key in sorted(keys))
    probes += tuple(ProbeResult(f"text-{key.replace('_', '-')}", key, Got()) for key in new)
    return replace(snapshot, facts={**kept, **new, key_of(Pasted): told}, probes=probes)


def _remarks(choice: Choice, place: Place, wanted: Wanted, *, new: bool) -> tuple[str, ...]:
    """Say what was judged: which files, where, and which torch they come to."""
    names = " and ".join(each.replace("\\", "/").rpartition("/")[2] for each in wanted.files) or "the file"
    where = f"Python {place.python}" if place.python else f"a Python that is not known ({place.why})"
    kind = (
        "in a container of the image"
        if place.container
        else "in a new environment"
        if new
        else "over what is installed"
    )
    said = [f"judged as it would be with {names}, {kind} with {where}, on {place.system} {place.machine}"]
    if chosen := choice.chosen:
        build = f"CUDA {chosen.cuda}" if chosen.cuda else f"ROCm {chosen.hip}" if chosen.hip else None
        build = build or ("the CPU" if chosen.is_cpu_only else "a build that is not known")
        said.append(f"that brings torch {chosen.version} for {build} ({chosen.source}, {chosen.told})")
        said += chosen.remarks
    return tuple(said)
