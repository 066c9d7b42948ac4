"""[payload] What a companion of torch says it was built for: its own record first, then its tag, then its libraries."""

from __future__ import annotations

import glob
import json
import os
import re
from typing import Callable, Dict, List, Optional

from envdoctor_probes.metadata import read_text

Reader = Callable[[str, str], List[str]]  # site directory and version -> what it says

_LITERAL = re.compile(
    r"""^(\w+)\s*(?::[^=\n]+)?=\s*(?:'([^'\n]*)'|"([^"\n]*)"|([^'"\n#]+?))\s*(?:#.*)?$""", re.MULTILINE
)


_MAJORS = ("10", "11", "12", "13", "14")  # flash-attn's "+cu12torch2.6"; there was a CUDA 9.2, but none of 1.2


def parse_literals(text: str) -> Dict[str, Optional[str]]:
    """Read ``name = 'value'`` lines of a version.py, annotated ones too. None stays None; expressions are left out."""
    found: Dict[str, Optional[str]] = {}
    for name, single, double, bare in _LITERAL.findall(text):
        if bare and bare not in ("None", "True", "False") and not re.match(r"\d[\d.]*$", bare):
            continue  # an expression: only its module could say what it comes to
        found[name] = None if bare == "None" else single or double or bare
    return found


def cuda_of_digits(digits: str) -> str:
    """Turn a tag's ``121``, ``118`` or ``92`` into ``12.1``, ``11.8`` or ``9.2``; ``12`` is a major alone."""
    return digits if digits in _MAJORS else f"{digits[:-1]}.{digits[-1]}"


def parse_local_tag(version: str) -> List[str]:
    """Say what a version's local tag names: ``2.6.3+cu123torch2.3cxx11abiFALSE`` -> +tag, CUDA 12.3, torch 2.3."""
    tag = version.partition("+")[2]
    if not tag:
        return []
    told = ["+" + tag]
    cuda = re.search(r"cu(\d{2,3})(?!\d)", tag)
    torch = re.search(r"(?:torch|pt)(\d+)\.(\d+(?:\.\d+)?)|pt(\d)(\d{1,2})(?!\d)", tag)
    if cuda:
        told.append(f"CUDA {cuda_of_digits(cuda.group(1))}")
    if torch:
        told.append("torch " + ".".join(part for part in torch.groups() if part))
    return told


def built_for(name: str, version: str, home: str, info: str) -> str:
    """Give a readable account such as ``torch 2.4.1+cu121, CUDA 12.1``; empty when nothing says it."""
    told = _READERS[name](home, version) if name in _READERS else []
    tagged = parse_local_tag(version) or parse_local_tag(_wheel_version(info))
    return ", ".join(dict.fromkeys(tagged + told))


def _wheel_version(info: str) -> str:
    """Give the version in the name of the wheel that was installed from a URL: a local tag is kept nowhere else.

    Only that part is taken: the URL itself may carry credentials.
    """
    url = re.search(r'"url"\s*:\s*"[^"]*/([^"/?#]+\.whl)', read_text(os.path.join(info, "direct_url.json"), 4096) or "")
    parts = url.group(1).replace("%2B", "+").replace("%2b", "+").split("-") if url else []
    return parts[1] if len(parts) > 4 else ""


def _xformers(home: str, _version: str) -> List[str]:
    text = read_text(os.path.join(home, "xformers", "cpp_lib.json"))
    try:
        built = json.loads(text or "{}").get("version", {})
        cuda = built.get("cuda")
        told = [f"torch {built['torch']}"] if built.get("torch") else []
        told += [f"CUDA {int(cuda) // 100}.{int(cuda) % 100}"] if cuda else []
        return told + ([f"Python {built['python']}"] if built.get("python") else [])
    except (ValueError, AttributeError, TypeError):
        return []


def _version_py(path: str, keys: Dict[str, str]) -> Reader:
    """Make a reader of a version.py that tells its local tag and the values of ``keys``.

    A file of another version than the metadata belongs to another installation: it says nothing of this one.
    """

    def read(home: str, version: str) -> List[str]:
        values = parse_literals(read_text(os.path.join(home, *path.split("/"))) or "")
        own = values.get("__version__") or ""
        if own and own.partition("+")[0] != version.partition("+")[0]:
            return []
        return parse_local_tag(own) + [f"{label} {values[key]}" for key, label in keys.items() if values.get(key)]

    return read


def _torchvision(home: str, version: str) -> List[str]:
    told = _version_py("torchvision/version.py", {"cuda": "CUDA"})(home, version)
    return told or _linked_cuda(os.path.join(home, "torchvision", "_C*.so"))


def _linked_cuda(pattern: str) -> List[str]:
    """Tell the CUDA major of the libcudart that an extension needs: all that a wheel without a tag shows."""
    from envdoctor_probes.elf import Elf, ElfError

    for path in sorted(glob.glob(pattern)):
        try:
            with Elf(path) as library:
                names = " ".join(library.needed)
        except (OSError, ElfError):
            continue
        found = re.search(r"libcudart\S*\.so\.(\d+(?:\.\d+)?)", names)
        if found:
            return [f"CUDA {found.group(1)}"]
    return []


def _deepspeed(home: str, _version: str) -> List[str]:
    text = read_text(os.path.join(home, "deepspeed", "git_version_info_installed.py")) or ""
    torch = re.search(r"torch_info\s*=\s*\{[^}]*'version': '([^']+)'", text)
    cuda = re.search(r"torch_info\s*=\s*\{[^}]*'cuda_version': '([^']+)'", text)
    found = (("torch", torch), ("CUDA", cuda))
    return [f"{label} {match.group(1)}" for label, match in found if match and match.group(1) not in ("0.0", "")]


def _bitsandbytes(home: str, _version: str) -> List[str]:
    """List the CUDA versions of the binaries that bitsandbytes carries."""
    names = glob.glob(os.path.join(home, "bitsandbytes", "libbitsandbytes_cuda*.so"))
    found = sorted({match.group(1) for match in (re.search(r"_cuda(\d{2,3})", name) for name in names) if match})
    return [f"CUDA {cuda_of_digits(digits)}" for digits in found]


_onnxruntime = _version_py("onnxruntime/capi/build_and_package_info.py", {"cuda_version": "CUDA"})

_READERS: Dict[str, Reader] = {
    "xformers": _xformers,
    "torch": _version_py("torch/version.py", {"cuda": "CUDA", "hip": "HIP"}),
    "torchvision": _torchvision,
    "torchaudio": _version_py("torchaudio/version.py", {"cuda": "CUDA"}),
    "torchtext": _version_py("torchtext/version.py", {}),
    "deepspeed": _deepspeed,
    "bitsandbytes": _bitsandbytes,
    "onnxruntime": _onnxruntime,
    "onnxruntime-gpu": _onnxruntime,
    "flash-attn": lambda home, _version: _linked_cuda(os.path.join(home, "flash_attn_2_cuda*.so")),
}
