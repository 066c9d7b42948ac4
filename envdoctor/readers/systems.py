"""Which operating system a report speaks of, from the words that it uses for it."""

from __future__ import annotations

import re

from envdoctor.facts.host import Host
from envdoctor.readers.versions import number

_MACHINE = re.compile(r"\b(x86_64|aarch64|arm64|ppc64le|AMD64)\b")
_KERNEL = re.compile(r"Linux-([^-\s]{1,40}(?:-\d{1,6})?[\w.+-]{0,60}?)-(?:x86_64|aarch64|ppc64le|with)")
_DISTRIBUTION = re.compile(
    r"(ubuntu|debian|centos|red hat|rhel|rocky|almalinux|fedora|amazon|arch linux|opensuse|suse|sles"
    r"|azure linux|cbl-mariner|oracle|linuxmint|linux mint|pop!_os|gentoo|nixos|alpine|manjaro)"
)
_IDS = {
    "red hat": "rhel", "amazon": "amzn", "suse": "sles", "azure linux": "azurelinux", "cbl-mariner": "mariner",
    "oracle": "ol", "arch linux": "arch", "linux mint": "linuxmint", "pop!_os": "pop",
}  # fmt: skip


def host_of(name: str | None, platform: str | None, libc: str | None, hypervisor: str | None) -> Host | None:
    """Make the fact of what is told; None when nothing is."""
    if not (name or platform or libc or hypervisor):
        return None
    words = f"{name or ''} {platform or ''}"
    system, os_id, version = _system(name or "", platform or "")
    machine, kernel = _MACHINE.search(words), _KERNEL.match(platform or "")
    return Host(
        system=system, os_id=os_id, os_version=version, os_name=name, kernel=kernel.group(1) if kernel else None,
        machine={"AMD64": "x86_64"}.get(machine.group(), machine.group()) if machine else None,
        libc=_libc(libc, platform), wsl=True if re.search(r"microsoft-standard|\bWSL", words, re.IGNORECASE) else None,
        jetson=True if re.search(r"tegra|jetson|jetpack|L4T", words, re.IGNORECASE) else None,
        virtualization=hypervisor.lower() if hypervisor else None,
    )  # fmt: skip


def _libc(libc: str | None, platform: str | None) -> str | None:
    """Give the C library: what Python was linked with, unless the older collect_env called that the system's."""
    running = re.search(r"with-glibc(\d{1,2}\.\d{1,3})", platform or "")
    if running:
        return f"glibc {running.group(1)}"
    return libc.replace("-", " ", 1) if libc else None


def _version(words: str) -> str | None:
    whole = re.search(r"\d{1,3}", words)
    return number(words) or (whole.group() if whole else None)


def _system(name: str, platform: str) -> tuple[str | None, str | None, str | None]:
    text = f"{name} {platform}".lower()
    match = _DISTRIBUTION.search(name.lower())
    if "windows" in text and not (match and "wsl" in text):
        return "Windows", None, None
    if "macos" in text or "mac os" in text or "darwin" in text:
        return "Darwin", None, None
    os_id = _IDS.get(match.group(), match.group()) if match else None
    version = _version(name[match.end() :]) if match else None
    return "Linux" if match or "linux" in text or "wsl" in text else None, os_id, version
