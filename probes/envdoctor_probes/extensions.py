"""[payload] extensions: the compiled parts of torch's companions, and what they ask for that this torch has not."""

from __future__ import annotations

import glob
import os
import re
import sys
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from envdoctor.facts.libraries import Extension, Extensions
from envdoctor.probe import Context, NotThere, probe
from envdoctor_probes.elf import Elf, ElfError
from envdoctor_probes.extension_search import JUDGED, Search
from envdoctor_probes.mangled import is_torchs, std_string
from envdoctor_probes.metadata import Installed, installed, listings, read_text
from envdoctor_probes.records import parse_record, read_record
from envdoctor_probes.torch_build import torch_folder
from envdoctor_probes.torch_exports import TorchExports

__all__ = ["COMPILED", "extensions"]

# Packages whose compiled part is made against one torch.
COMPILED = re.compile(
    r"torch(vision|audio|text|codec|ao)$|torch-[a-z]|pyg-lib$|xformers$|flash-attn|vllm|sgl-kernel$|deepspeed$|apex$"
    r"|transformer-engine|detectron2$|mmcv|pytorch3d$|causal-conv1d$|mamba-ssm$|auto-gptq$|autoawq|exllamav2$|natten$"
    r"|sageattention$|fbgemm-gpu|kaolin$|nvdiffrast$|minkowskiengine$|fairseq$|horovod$|torchsparse$|grouped-gemm$"
)
MOST_FILES, MOST_SYMBOLS = 200, 20


class Compiled(NamedTuple):
    """A shared object of a companion."""

    path: str
    distribution: str


@probe(child="extensions")
def extensions(context: Context) -> Extensions:
    """Look into each compiled file of torch's companions: symbols, libraries, device code. Nothing is loaded."""
    listed = listings(context)
    torch = torch_folder(listed)
    if torch is None:
        raise NotThere("no torch on the module search path")
    companions = [each for each in installed(listed) if COMPILED.match(each.name)]
    files = [each for companion in _once(companions) for each in compiled_files(companion)]
    unknown: Dict[str, str] = {}
    found = tuple(_examine(files[:MOST_FILES], torch, context, unknown)) if files else ()
    if len(files) > MOST_FILES:
        unknown["extensions"] = f"only the first {MOST_FILES} of {len(files)} compiled files were looked at"
    return Extensions(extensions=found, unknown=unknown)


def _once(companions: Sequence[Installed]) -> List[Installed]:
    """Of two with one name keep the first: it is the one that is imported."""
    return list({each.name: each for each in reversed(companions)}.values())[::-1]


def compiled_files(companion: Installed) -> List[Compiled]:
    """Give a distribution's shared objects by its RECORD, else those in its packages; what it bundles is left out."""
    record = read_record(companion.info)
    if record is not None:
        named = (entry.path for entry in parse_record(record, lambda path: ".so" in path))
        paths = [os.path.normpath(os.path.join(companion.home, path)) for path in named]
    else:
        paths = list(_in_packages(companion))
    real = [path for path in paths if re.search(r"\.so(\.\d+)*$", path) and ".libs/" not in path]
    return [Compiled(path, companion.name) for path in sorted(set(real)) if os.path.isfile(path)]


def _in_packages(companion: Installed) -> Iterator[str]:
    for name in (read_text(os.path.join(companion.info, "top_level.txt"), 4096) or "").split():
        start = os.path.join(glob.escape(companion.home), glob.escape(name))
        yield from glob.glob(start + "*.so")
        yield from glob.glob(os.path.join(start, "**", "*.so"), recursive=True)


def _examine(files: Sequence[Compiled], torch: str, context: Context, unknown: Dict[str, str]) -> Iterator[Extension]:
    with TorchExports(torch) as exports:
        search = Search(sys.executable, context, torch, [each.path for each in files])
        for each in files:
            try:
                found = _one(each, exports, search, unknown)
            except (OSError, ElfError) as error:
                unknown["extensions"] = str(error)
                continue
            if found is not None:
                yield found


def _one(each: Compiled, exports: TorchExports, search: Search, unknown: Dict[str, str]) -> Optional[Extension]:
    """Examine one file; None for one that asks nothing of torch or CUDA and has no device code."""
    with Elf(each.path) as elf:
        arches = _in_order(elf.fatbin_arches())
        asked = [name for name in elf.undefined() if is_torchs(name)]
        if not (asked or arches or any(JUDGED.match(name) for name in elf.needed)):
            return None
        missing = search.missing(elf)
    unresolved, by_abi = _unresolved(asked, exports, unknown)
    return Extension(
        path=each.path,
        distribution=each.distribution,
        unresolved=tuple((unresolved + by_abi)[:MOST_SYMBOLS]),
        unresolved_count=len(unresolved) + len(by_abi),
        abi_only_count=len(by_abi),
        needs_missing=missing,
        cxx11_abi=_abi(asked),
        arches=arches,
    )


def _unresolved(asked: Sequence[str], exports: TorchExports, unknown: Dict[str, str]) -> Tuple[List[str], List[str]]:
    """Give the names that torch does not export: those of no explanation, and those that the C++ ABI explains."""
    if not exports.readable:
        unknown["extensions"] = f"symbols were not compared: {exports.problem}"
        return [], []
    open_ = [name for name in asked if not exports.exports(name)]
    by_abi = [name for name in open_ if exports.has_with_other_string(name)]
    explained = set(by_abi)
    return [name for name in open_ if name not in explained], by_abi


def _abi(asked: Sequence[str]) -> Optional[bool]:
    """Tell which std::string an extension was compiled with, by what it asks of torch."""
    said: Set[Optional[bool]] = {std_string(name) for name in asked} - {None}
    return said.pop() if len(said) == 1 else None


def _in_order(arches: Dict[str, int]) -> Tuple[str, ...]:
    return tuple(sorted(arches, key=lambda arch: (arch.startswith("compute"), int(re.sub(r"\D", "", arch) or 0))))
