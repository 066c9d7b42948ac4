"""[payload] Every distribution on the patient's path, read from directory names and a few small files."""

from __future__ import annotations

import os
import sys
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from envdoctor.facts.packages import Distribution, Packages, SharedFile
from envdoctor.probe import Context, probe
from envdoctor_probes.built_for import built_for
from envdoctor_probes.conda import CondaPackage, read_conda
from envdoctor_probes.metadata import (
    Installed,
    first,
    headers,
    installed,
    installer,
    listings,
    read_text,
    unreadable,
    wheel_tags,
)
from envdoctor_probes.records import read_record, shared

COMPANIONS = frozenset((
    "torch", "torchvision", "torchaudio", "torchtext", "torchdata", "torchao", "triton", "pytorch-triton", "xformers",
    "flash-attn", "flash-attn-3", "flashinfer-python", "bitsandbytes", "deepspeed", "apex", "transformer-engine",
    "vllm", "onnxruntime", "onnxruntime-gpu", "tensorrt", "jax", "jaxlib", "numpy", "lightning", "pytorch-lightning",
    "transformers", "accelerate", "fairscale", "mmcv", "detectron2", "pytorch3d", "sageattention",
))  # fmt: skip
COMPANION_PREFIXES = ("nvidia-", "cupy-", "tensorrt-", "transformer-engine-", "pytorch-triton-", "torch-")
# Families whose members write into one directory.
FAMILIES = (("triton", "pytorch-triton"), ("nvidia-",), ("onnxruntime",), ("opencv-",), ("faiss-",))
MOST_SHARED = 100
MANAGED = "EXTERNALLY-MANAGED"  # PEP 668; pip heeds it outside virtual environments
LOCK_FILES = ("uv.lock", "poetry.lock", "pdm.lock")


@probe()
def packages(context: Context) -> Packages:
    """List the distributions on the path in path order, and the files that two of them own."""
    listed = listings(context)
    found = tuple(installed(listed))
    prefix = environment_prefix(context)
    conda = read_conda(prefix)
    config = read_text(os.path.join(prefix, "pyvenv.cfg"))
    distributions = tuple(_describe(each) for each in found)
    names = {each.name for each in found}
    problem = unreadable(listed)
    return Packages(
        distributions=merge_conda(distributions, conda, prefix),
        shared_files=tuple(shared_files(found)),
        python_version=".".join(str(part) for part in sys.version_info[:3]),
        python_implementation=sys.implementation.name,
        executable=sys.executable or None,
        environment_kind=_kind(prefix, config),
        prefix=prefix,
        may_write=_may_write(prefix),
        has_pip="pip" in names or any("pip" in each.names for each in listed),
        has_uv=_has_uv(context, config),
        path=context.path,
        externally_managed=config is None and os.path.exists(os.path.join(_standard_library(context), MANAGED)),
        lock_file=_lock_file(context.cwd),
        unknown={"distributions": problem} if problem else {},
    )


def environment_prefix(context: Context) -> str:
    """Give the environment's prefix. Without the site module ``sys.prefix`` is not yet that of the venv."""
    told = context.options.get("prefix")
    if told:
        return str(told)
    folder = os.path.dirname(sys.executable or "")
    for each in (folder, os.path.dirname(folder)):
        if each and os.path.exists(os.path.join(each, "pyvenv.cfg")):
            return each
    return sys.prefix


def _may_write(prefix: str) -> Optional[bool]:
    """Tell whether this user may install into the environment; None where its site-packages is somewhere else."""
    site = os.path.join(prefix, "lib", "python%d.%d" % sys.version_info[:2], "site-packages")
    return os.access(site, os.W_OK | os.X_OK) if os.path.isdir(site) else None


def _kind(prefix: str, config: Optional[str]) -> str:
    if config is not None:
        return "venv"
    return "conda" if os.path.isdir(os.path.join(prefix, "conda-meta")) else "system"


def _has_uv(context: Context, config: Optional[str]) -> bool:
    made_by_uv = any(line.partition("=")[0].strip() == "uv" for line in (config or "").splitlines())
    folders = context.environ.get("PATH", "").split(os.pathsep)
    return made_by_uv or any(os.access(os.path.join(folder, "uv"), os.X_OK) for folder in folders if folder)


def _standard_library(context: Context) -> str:
    return str(context.options.get("standard_library") or os.path.dirname(os.__file__))


def _lock_file(folder: str) -> Optional[str]:
    """Give the lock file that another tool keeps here: what pip changes, that tool changes back."""
    paths = (os.path.join(folder, name) for name in LOCK_FILES)
    return next((path for path in paths if os.path.exists(path)), None)


def _describe(each: Installed) -> Distribution:
    word = installer(each.info)
    if each.name not in COMPANIONS and not each.name.startswith(COMPANION_PREFIXES):
        source = source_of_install(each.home, word)
        return Distribution(each.name, each.version, each.home, word, editable(each), source)
    found = headers(each.info)
    version = first(found, "version") or each.version
    tags = wheel_tags(each.info)
    return Distribution(
        name=each.name,
        version=version,
        location=each.home,
        installer=word,
        editable=editable(each),
        source=source_of_install(each.home, word),
        built_for=built_for(each.name, version, each.home, each.info),
        requires=tuple(found.get("requires-dist", ())),
        wheel_tag=tags[0] if tags else "",
    )


def editable(each: Installed) -> bool:
    """Tell whether the distribution is a source tree under development."""
    if each.kind != "dist-info":
        return each.kind == "egg-link"
    text = read_text(os.path.join(each.info, "direct_url.json"), 4096)
    return text is not None and '"editable": true' in text.replace('"editable":true', '"editable": true')


def source_of_install(home: str, word: str) -> str:
    """Say who brought it: the operating system's packages lie in a dist-packages of /usr/lib, or say so."""
    if word in ("debian", "rpm", "apk", "pacman") or (home.startswith("/usr/lib/") and home.endswith("/dist-packages")):
        return "system"
    return "conda" if word == "conda" else "pip"


def merge_conda(
    distributions: Tuple[Distribution, ...], conda: Sequence[CondaPackage], prefix: str
) -> Tuple[Distribution, ...]:
    """Mark what conda brought, and add what Python's own metadata does not show (``pytorch``, ``cudnn``).

    A package that pip replaced behind conda's back has another version here than in conda's record: it stays pip's,
    and conda's record is added beside it.
    """
    import dataclasses

    waiting: Dict[Tuple[str, str], CondaPackage] = {(each.name, each.version): each for each in conda}
    marked: List[Distribution] = []
    for each in distributions:
        record = waiting.pop((each.name, each.version), None) if each.location.startswith(prefix) else None
        if record is not None and each.installer in ("", "conda"):
            each = dataclasses.replace(each, source="conda", build=record.build, channel=record.channel)  # noqa: PLW2901
        marked.append(each)
    added = [
        Distribution(
            name=each.name, version=each.version, location=each.record, installer="conda", source="conda",
            build=each.build, channel=each.channel,
        )
        for each in waiting.values()
    ]  # fmt: skip
    return (*marked, *added)


def shared_files(found: Sequence[Installed]) -> Iterator[SharedFile]:
    """Give the files that two distributions of one family and one directory own, libraries first."""
    shown: List[SharedFile] = []
    for family in FAMILIES:
        homes: Dict[str, Dict[str, Installed]] = {}
        for each in found:
            if each.kind == "dist-info" and each.name.startswith(family):
                homes.setdefault(each.home, {}).setdefault(each.name, each)
        for members in homes.values():
            if len(members) > 1:
                texts = {name: read_record(each.info) or "" for name, each in members.items()}
                shown += [SharedFile(path, owners, same) for path, owners, same in shared(texts)]
    shown.sort(key=lambda each: (each.same_content, ".so" not in each.path, each.path))
    return iter(shown[:MOST_SHARED])
