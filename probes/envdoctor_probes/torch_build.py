"""[payload] The installed torch, read from version.py, its metadata and its libraries. Nothing is imported."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, Optional, Sequence

from envdoctor.facts.torch import TorchBuild
from envdoctor.probe import Context, NotThere, probe
from envdoctor_probes.built_for import parse_literals
from envdoctor_probes.conda import read_names
from envdoctor_probes.metadata import (
    Installed,
    Listing,
    first,
    headers,
    installed,
    installer,
    listings,
    read_text,
    wheel_tags,
)
from envdoctor_probes.modules import find_everywhere, is_built_torch
from envdoctor_probes.pins import read_pins
from envdoctor_probes.torch_libraries import (
    CUDA_LIBRARIES,
    Libraries,
    Unreadable,
    arch_list,
    cuda_linkage,
    cxx11_abi,
    numpy_headers_major,
)

Values = Dict[str, Any]
Reasons = Dict[str, str]


@probe()
def torch_build(context: Context) -> TorchBuild:
    """Describe the torch that is installed, even when a local file hides it."""
    listed = listings(context)
    found = tuple(installed(listed))
    location = torch_folder(listed)
    metadata = torch_metadata(found, location)
    if location is None and metadata is None:
        raise NotThere("no torch on the module search path")
    values: Values = {"location": location}
    sources: Reasons = {}
    unknown: Reasons = {}
    _add_version(location, values, unknown)
    _add_metadata(metadata, found, values, unknown)
    if location is not None:
        _add_libraries(location, values, sources, unknown)
    return TorchBuild(sources=sources, unknown=unknown, **values)


def torch_folder(listed: Sequence[Listing]) -> Optional[str]:
    """Give the first torch package on the path that was built; a source tree without libraries comes last."""
    packages = [each for each in find_everywhere("torch", listed) if each.kind in ("package", "editable")]
    built = [each.path for each in packages if is_built_torch(each.path)]
    return next(iter(built), packages[0].path if packages else None)


def torch_metadata(found: Sequence[Installed], location: Optional[str]) -> Optional[Installed]:
    """Give torch's own metadata: beside the package, and of several the one whose version the package has."""
    named = [each for each in found if each.name == "torch"]
    beside = [each for each in named if location is not None and each.home == os.path.dirname(location)]
    version = _read_version(location).get("__version__") or ""
    same = [each for each in beside if each.version.partition("+")[0] == version.partition("+")[0]]
    return next(iter(same or beside or named), None)


def _read_version(location: Optional[str]) -> Dict[str, Optional[str]]:
    return parse_literals(read_text(os.path.join(location, "version.py")) or "") if location else {}


def _add_version(location: Optional[str], values: Values, unknown: Reasons) -> None:
    told = _read_version(location)
    values["version"] = told.get("__version__")
    values["git_version"] = told.get("git_version")
    values["cuda"] = told.get("cuda")
    values["hip"] = told.get("hip") or told.get("rocm")
    values["debug"] = told["debug"] == "True" if "debug" in told else None
    why = "torch/version.py does not say it" if told else "torch/version.py cannot be read"
    why = why if location else "torch's files are not there"
    unknown.update({name: why for name in ("version", "debug", "git_version") if values[name] is None})
    if "cuda" in told:
        values["is_cpu_only"] = not any(told.get(name) for name in ("cuda", "hip", "rocm", "xpu"))
    else:
        unknown.update(dict.fromkeys(("cuda", "hip", "is_cpu_only"), why))


def _add_metadata(metadata: Optional[Installed], found: Sequence[Installed], values: Values, unknown: Reasons) -> None:
    if metadata is None:
        why = "torch has no dist-info"
        unknown.update(dict.fromkeys(("metadata_version", "wheel_tag", "installer", "pins"), why))
        return
    version = first(headers(metadata.info), "version")
    tags = wheel_tags(metadata.info)
    values["metadata_version"] = version or None
    values["wheel_tag"] = tags[0] if tags else None
    values["installer"] = installer(metadata.info) or None
    by_name: Dict[str, Installed] = {}
    for each in found:
        by_name.setdefault(each.name, each)
    values["pins"], problems = read_pins(metadata.info, by_name)
    if not version:
        problems = ("METADATA is empty or missing",)
        unknown["metadata_version"] = problems[0]
    if problems:
        unknown["pins"] = "; ".join(problems)


def _add_libraries(location: str, values: Values, sources: Reasons, unknown: Reasons) -> None:
    prefix = os.path.normpath(os.path.join(location, *[os.pardir] * 4))  # lib/python3.11/site-packages/torch
    conda = read_names(prefix)
    values["conda_build"] = next((each.build for each in conda if each.name in ("pytorch", "libtorch")), None)
    folders = [os.path.join(location, "lib")] + ([os.path.join(prefix, "lib")] if conda else [])
    libraries = Libraries(folders)
    values["has_libtorch_cuda"] = libraries.find(*CUDA_LIBRARIES) is not None
    _ask("cxx11_abi", cxx11_abi, libraries, values, unknown)
    _ask("numpy_headers_major", numpy_headers_major, libraries, values, unknown)
    if values["has_libtorch_cuda"] or values["cuda"]:
        _ask("cuda_linkage", cuda_linkage, libraries, values, unknown)
        _ask("arch_list", arch_list, libraries, values, unknown)
        if "arch_list" in values:
            values["arch_list"], sources["arch_list"] = values["arch_list"]


def _ask(
    name: str, question: Callable[[Libraries], Any], libraries: Libraries, values: Values, unknown: Reasons
) -> None:
    try:
        values[name] = question(libraries)
    except Unreadable as error:
        unknown[name] = str(error)
