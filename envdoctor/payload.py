"""What travels to a patient that sees none of our files: one archive of sources, made from what is installed here.

The payload rooms, NVIDIA's own ``pynvml.py``, and the packages of plug-ins whose probes may travel.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OURS = ("envdoctor", "envdoctor_probes", "pynvml")
# Of our own package only these travel: the rest is the doctor.
ROOMS = ("__init__.py", "outcome.py", "probe.py", "facts", "child")
_STARTS_LIKE_NVIDIA_ML_PY = "NVIDIA Corporation"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same sources make the same archive


def homes() -> dict[str, str]:
    """Map each top-level name that travels with the probes to the directory that holds it."""
    found = {}
    for name in _OURS:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.origin:
            continue
        origin = Path(spec.origin)
        if name != "pynvml":
            found[name] = str(origin.parent.parent)
        elif _is_nvidia_ml_py(origin):
            found[name] = str(origin.parent)
    return found


def _is_nvidia_ml_py(origin: Path) -> bool:
    """Tell NVIDIA's own single-file ``pynvml`` from the unrelated distribution of that name."""
    if origin.name != "pynvml.py":
        return False
    with origin.open(encoding="utf-8", errors="replace") as file:
        return _STARTS_LIKE_NVIDIA_ML_PY in file.read(2048)


@cache
def archive(further: tuple[tuple[str, str], ...] = ()) -> bytes:
    """Give the archive (zip). ``further`` are top-level names beyond ours, each with the directory that holds it."""
    import io
    import zipfile  # a quick look at this machine does without

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        for name, file in sorted(dict(_files({**homes(), **dict(further)})).items()):
            out.writestr(zipfile.ZipInfo(name, _EPOCH), file.read_bytes(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _files(where: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    for name, home in where.items():
        top = Path(home, name)
        if not top.is_dir():
            yield f"{name}.py", top.with_suffix(".py")
        for place in ([top / each for each in ROOMS] if name == "envdoctor" else [top]) if top.is_dir() else ():
            found = place.rglob("*.py") if place.is_dir() else (place,)
            yield from ((str(each.relative_to(home)), each) for each in found)
