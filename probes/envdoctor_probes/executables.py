"""[payload] Programs by name and by variable, looked up as a shell would and never run."""

from __future__ import annotations

import os
from typing import Dict, Mapping, Optional, Sequence

__all__ = ["compiler", "which"]


def compiler(
    variable: str, names: Sequence[str], environ: Mapping[str, str], unknown: Dict[str, str], field: str
) -> Optional[str]:
    """Give the compiler's path: what the variable names is used and nothing else, else the first of ``names``."""
    chosen = environ.get(variable, "").split()
    for name in chosen[:1] or names:
        path = which(name, environ)
        if path:
            return path
    unknown[field] = f"{variable}={chosen[0]} is not an executable" if chosen else f"no {', '.join(names)} on PATH"
    return None


def which(name: str, environ: Mapping[str, str]) -> Optional[str]:
    """Find an executable as a shell with this environment would."""
    folders = [""] if os.sep in name else environ.get("PATH", os.defpath).split(os.pathsep)
    paths = (os.path.join(folder, name) for folder in folders)
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)
