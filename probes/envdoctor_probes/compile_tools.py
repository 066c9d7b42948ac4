"""[payload] What torch.compile needs: a C and a C++ compiler, Python.h and triton, looked up and never run."""

from __future__ import annotations

import os
import re
import sys
from typing import Dict, Optional, Sequence

from envdoctor.facts.torch import CompileTools
from envdoctor.probe import Context, probe
from envdoctor_probes.executables import compiler
from envdoctor_probes.metadata import Listing, installed, listings, read_text
from envdoctor_probes.modules import find_everywhere

TRITONS = ("triton", "pytorch-triton", "pytorch-triton-rocm", "pytorch-triton-xpu", "triton-rocm", "triton-nightly")


@probe()
def compile_tools(context: Context) -> CompileTools:
    """Look up what triton and inductor would call, in the order in which they look."""
    unknown: Dict[str, str] = {}
    listed = listings(context)
    return CompileTools(
        c_compiler=compiler("CC", ("gcc", "clang", "cc"), context.environ, unknown, "c_compiler"),
        cxx_compiler=compiler("CXX", ("g++", "clang++", "c++"), context.environ, unknown, "cxx_compiler"),
        python_headers=_headers(context, unknown),
        triton_version=_triton(listed, unknown),
        unknown=unknown,
    )


def _headers(context: Context, unknown: Dict[str, str]) -> Optional[str]:
    """Give the path of Python.h where sysconfig would point: beside the interpreter that a venv was made from."""
    version = "python{}.{}{}".format(*sys.version_info[:2], getattr(sys, "abiflags", ""))
    base = str(context.options.get("base_prefix") or sys.base_prefix)
    path = os.path.join(base, "include", version, "Python.h")
    if os.path.exists(path):
        return path
    unknown["python_headers"] = f"{path} is not there"
    return None


def _triton(listed: Sequence[Listing], unknown: Dict[str, str]) -> Optional[str]:
    for each in installed(tuple(listed)):
        if each.name in TRITONS:
            return each.version
    for found in find_everywhere("triton", listed):
        text = read_text(os.path.join(found.path, "__init__.py")) or ""
        version = re.search(r"^__version__\s*=\s*['\"]([^'\"]+)", text, re.MULTILINE)
        if version:
            return version.group(1)
    unknown["triton_version"] = "triton is not installed"
    return None
