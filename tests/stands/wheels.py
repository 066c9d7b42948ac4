"""Distributions as pip would leave them: files, dist-info with METADATA, WHEEL, INSTALLER and RECORD."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Wheel:
    """One distribution to install. ``version`` is METADATA's, local tag and all."""

    name: str
    version: str
    files: Mapping[str, bytes | str] = field(default_factory=dict)
    requires: tuple[str, ...] = ()
    installer: str = "pip"
    tag: str = "py3-none-manylinux2014_x86_64"

    @property
    def info(self) -> str:
        """The name of its dist-info directory."""
        return f"{self.name.replace('-', '_')}-{self.version}.dist-info"


def install(site: Path, wheel: Wheel) -> None:
    """Write one distribution into a site directory; a later one overwrites an earlier one's files, as pip does."""
    requires = "".join(f"Requires-Dist: {each}\n" for each in wheel.requires)
    files = dict(wheel.files)
    files[f"{wheel.info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {wheel.name}\nVersion: {wheel.version}\n{requires}\nA description: it is none.\n"
    )
    files[f"{wheel.info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: stand\nRoot-Is-Purelib: false\nTag: {wheel.tag}\n"
    files[f"{wheel.info}/INSTALLER"] = wheel.installer + "\n"
    record = [_write(site / path, path, content) for path, content in files.items()]
    (site / wheel.info / "RECORD").write_text("\n".join([*record, f"{wheel.info}/RECORD,,"]) + "\n", encoding="utf-8")


def _write(target: Path, path: str, content: bytes | str) -> str:
    raw = content.encode() if isinstance(content, str) else content
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(raw)
    digest = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(raw)}"
