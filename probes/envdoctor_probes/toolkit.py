"""[payload] toolkit: CUDA toolkits, the host compiler and NCCL's configuration files outside the environment."""

from __future__ import annotations

import os
import re
from typing import Dict, Iterator, List, Mapping, Optional, Tuple

from envdoctor.facts.libraries import Compiler, Copy, Toolkit
from envdoctor.probe import Context, NotThere, probe
from envdoctor_probes.executables import compiler, which
from envdoctor_probes.secret_words import without_secrets
from envdoctor_probes.toolkit_versions import (
    compiler_version,
    parse_header_version,
    parse_nvcc,
    parse_version_line,
    toolkit_version,
)
from envdoctor_probes.tree import Tree, why

__all__ = ["nccl_files", "parse_nccl_conf", "toolkit"]

_LOCAL = "/usr/local"
_ASKING = 5.0  # seconds for one compiler to say its version
_CUDNN = ("CUDNN_MAJOR", "CUDNN_MINOR", "CUDNN_PATCHLEVEL")
_HEADER = re.compile(r"cudnn_version(_v\d+)?\.h$")


@probe(child="ledger", seconds=12.0)
def toolkit(context: Context) -> Toolkit:
    """Look for what builds extensions; a compiler is run only where its files do not tell its version."""
    tree = Tree(context.roots)
    unknown: Dict[str, str] = {}
    home = context.environ.get("CUDA_HOME") or context.environ.get("CUDA_PATH")
    conf, files = _nccl_conf(tree, context.environ, unknown)
    return Toolkit(
        cuda_home=home or None,
        cuda_home_exists=os.path.isdir(tree.here(home)) if home else None,
        nvcc=tuple(_nvcc(context, tree, path) for path in _nvccs(tree, context.environ, home)),
        host_compiler=_host_compiler(context, tree, unknown),
        cudnn_headers=tuple(_headers(tree, context.environ, home)),
        nccl_conf=conf,
        nccl_conf_path=", ".join(files) or None,
        unknown=unknown,
    )


def _toolkits(tree: Tree) -> Tuple[str, ...]:
    """Name the toolkits in /usr/local, the one that is linked as ``cuda`` first."""
    names = (each for each in tree.names_or_none(_LOCAL) if re.match(r"cuda(-[\d.]+)?$", each))
    return tuple(f"{_LOCAL}/{name}" for name in names)


def _nvccs(tree: Tree, environ: Mapping[str, str], home: Optional[str]) -> Tuple[str, ...]:
    """Name the nvccs in the order in which torch would take one; one file by several names counts once."""
    folders = [os.path.join(home, "bin")] if home else []
    folders += [each for each in environ.get("PATH", "").split(os.pathsep) if os.path.isabs(each)]
    folders += [f"{each}/bin" for each in _toolkits(tree)]
    conda = environ.get("CONDA_PREFIX")
    folders += [os.path.join(conda, "bin")] if conda else []
    found: Dict[str, str] = {}
    for folder in folders:
        path = os.path.join(folder, "nvcc")
        here = tree.here(path)
        if os.path.isfile(here) and os.access(here, os.X_OK):
            found.setdefault(tree.real(path), path)
    return tuple(found.values())


def _nvcc(context: Context, tree: Tree, path: str) -> Compiler:
    return Compiler(path, toolkit_version(tree, path) or parse_nvcc(_said(context, tree, path)))


def _host_compiler(context: Context, tree: Tree, unknown: Dict[str, str]) -> Optional[Compiler]:
    """Give the compiler that nvcc would call: the one that is asked for, else gcc by PATH."""
    environ = context.environ
    if not tree.live:  # PATH names this machine's files; a recorded one is read by hand
        path = next((each for each in ("/usr/bin/gcc", "/usr/bin/cc") if tree.exists(each)), None)
    elif environ.get("NVCC_CCBIN"):
        path = which(environ["NVCC_CCBIN"], environ)
    else:
        path = compiler("CC", ("gcc", "cc", "g++", "c++"), environ, unknown, "host_compiler")
    if path is None:
        unknown.setdefault("host_compiler", "no C compiler is found")
        return None
    return Compiler(path, compiler_version(tree, path) or parse_version_line(_said(context, tree, path)))


def _said(context: Context, tree: Tree, path: str) -> str:
    """Let a compiler say its version, on the live machine alone."""
    if not tree.live:
        return ""
    try:
        return context.run((path, "--version"), _ASKING).stdout
    except (OSError, NotThere):
        return ""


def _headers(tree: Tree, environ: Mapping[str, str], home: Optional[str]) -> Iterator[Copy]:
    """Find cuDNN's version headers where compilers and build scripts look."""
    homes = (home, environ.get("CUDNN_HOME"), environ.get("CUDNN_PATH"), environ.get("CUDNN_ROOT"), *_toolkits(tree))
    folders = ["/usr/include", "/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu", "/usr/local/include"]
    folders += [os.path.join(each, "include") for each in homes if each]
    conda = environ.get("CONDA_PREFIX")
    folders += [os.path.join(conda, "include")] if conda else []
    seen = set()
    for folder in folders:
        for name in filter(_HEADER.match, tree.names_or_none(folder)):
            path = os.path.join(folder, name)
            real = tree.real(path)
            if real not in seen:
                seen.add(real)
                yield Copy(path, real, parse_header_version(tree.text_or(path), _CUDNN))


def nccl_files(environ: Mapping[str, str]) -> Tuple[str, ...]:
    """Name the files that NCCL reads: the user's, or the one that is asked for instead, then the machine's."""
    chosen, home = environ.get("NCCL_CONF_FILE"), environ.get("HOME")
    own = chosen or (os.path.join(home, ".nccl.conf") if home else "")
    return tuple(each for each in (own, "/etc/nccl.conf") if each)


def _nccl_conf(
    tree: Tree, environ: Mapping[str, str], unknown: Dict[str, str]
) -> Tuple[Tuple[Tuple[str, str], ...], List[str]]:
    """Read them as NCCL does: what an earlier file sets, a later one does not change."""
    pairs: Dict[str, str] = {}
    read: List[str] = []
    for path in nccl_files(environ):
        try:
            text = tree.text(path)
        except FileNotFoundError:
            if path == environ.get("NCCL_CONF_FILE"):
                unknown["nccl_conf"] = f"NCCL_CONF_FILE={path}: there is no such file"
            continue
        except OSError as error:
            unknown["nccl_conf"] = why(error, path)
            continue
        read.append(path)
        for name, value in parse_nccl_conf(text):
            pairs.setdefault(name, without_secrets(name, value)[0])
    return tuple(pairs.items()), read


def parse_nccl_conf(text: str) -> Tuple[Tuple[str, str], ...]:
    """Read ``NAME=value`` lines as NCCL does: # in the first column is a comment, and blanks belong to the name."""
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return tuple((name, value.strip()) for name, equals, value in pairs if equals and name.strip())
