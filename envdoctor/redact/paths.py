"""Paths in a shared report: what every machine has stays readable, every other part becomes a label."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envdoctor.redact.labels import Labels

# Below these the operating system decides what things are called.
SYSTEM = ("usr", "lib", "lib32", "lib64", "bin", "sbin", "etc", "proc", "sys", "dev", "run", "boot", "nix")
HOMES = ("home", "Users")
# Names that tools give; anything else below a person's directory is that person's own.
KNOWN = frozenset((
    "root", "tmp", "var", "opt", "mnt", "data", "scratch", "workspace", "work", "srv", "media", "private", "app",
    "src", "log", "cache", "snap", "venv", "env", ".venv", ".env", "venvs", ".virtualenvs", "conda", "miniconda",
    "miniconda3", "anaconda3", "miniforge3", "mambaforge", "micromamba", "envs", "pkgs", "condabin", ".conda",
    ".local", ".cache", ".config", ".pyenv", "versions", ".rye", ".asdf", "installs", "uv", ".uv", "pipx",
    "share", "python", "bin", "lib", "lib32", "lib64", "include", "site-packages", "dist-packages", "nvidia",
    "cuda", "rocm", "hpcx", "amazon", "torch", "torch_extensions", "targets", "triton", "huggingface", "pip",
    "wheels", ".triton", "base", "self",
))  # fmt: skip
_PUBLIC = re.compile(
    r"(?:py)?(?:python|cpython|pypy|cuda|py|cp|nvhpc|rocm|torch)-?v?\d[\w.+-]*|\d[\d.]*|~.*|lib[\w.+-]+\.so[\d.]*"
)
# Below these Python, its packages and compilers decide what things are called.
_OTHERS_BELOW = re.compile(r"site-packages|dist-packages|(?:python|pypy)[23][\d.]*")
_LABEL = re.compile(r"(?:dir|user|host)-\d+")
_FILE = re.compile(
    r".+\.(?:py|pyc|pyi|pth|so|so\.[\d.]+|txt|toml|json|cfg|lock|md|sh|yaml|yml|log|whl|ini|a|h|c|cu|cpp)"
)
# An absolute path, also after "=", ":" or "-L", never the one inside a URL.
_ABSOLUTE = re.compile(r"(?:(?<![\w.~/>:-])|(?<=[^/]:)|(?<=-[LIB])|(?<=file://))/(?!/)[\w.+@~%=,*{}/-]+")
_WINDOWS = re.compile(r"(?<!\w)[A-Za-z]:[\\/](?![\\/])[\w .+@~%=,\\/-]+")


def in_text(text: str, labels: Labels) -> str:
    """Replace the private parts of every path in a text."""
    if "\\" in text:
        text = _WINDOWS.sub(lambda found: _windows(found.group(), labels), text)
    if "/" in text:
        text = _ABSOLUTE.sub(lambda found: path(found.group(), labels), text)
    return text


def path(whole: str, labels: Labels) -> str:
    """Replace the private parts of one absolute path."""
    parts = whole.split("/")
    if len(parts) > 1 and parts[1] in SYSTEM:
        return whole
    return "/".join(_parts(parts, labels))


def _windows(whole: str, labels: Labels) -> str:
    return "\\".join(_parts(re.split(r"[\\/]", whole), labels))


def _parts(parts: list[str], labels: Labels) -> list[str]:
    """Label each part that no tool gave its name."""
    shown: list[str] = []
    for place, part in enumerate(parts):
        if any(map(_OTHERS_BELOW.fullmatch, parts[:place])) or _LABEL.fullmatch(part):
            shown.append(part)
        elif (place and parts[place - 1] in HOMES) or ("user", part) in labels.given:
            shown.append(labels.of("user", part))
        else:
            shown.append(part if _is_public(part, last=place == len(parts) - 1) else labels.of("dir", part))
    return shown


def _is_public(part: str, *, last: bool) -> bool:
    if part in KNOWN or part in HOMES or not part or re.fullmatch("[A-Za-z]:", part):
        return True
    return bool(_PUBLIC.fullmatch(part) or (last and _FILE.fullmatch(part)))
