"""[payload] kernel-module: the NVIDIA module that is loaded, the one on disk, and the Fabric Manager beside it."""

from __future__ import annotations

import re
from typing import Callable, Iterator, List, Optional, Tuple

from envdoctor.facts.driver import KernelModule
from envdoctor.probe import Context, probe
from envdoctor_probes.fabric_service import read_fabric_manager
from envdoctor_probes.tree import Notes, Tree, why

__all__ = ["find_module", "kernel_module", "parse_modules", "parse_nvrm"]

_VERSION_FILE = "/proc/driver/nvidia/version"
_VERSION = r"\d{3}(?:\.\d+){1,3}"


@probe()
def kernel_module(context: Context) -> KernelModule:
    """Say which kernel modules are loaded, and which NVIDIA driver the next boot would load."""
    notes = Notes(Tree(context.roots))
    _read_loaded(notes)
    _read_version(notes)
    _read_on_disk(notes)
    read_fabric_manager(notes)
    fact: KernelModule = notes.into(KernelModule)
    return fact


def parse_nvrm(text: str) -> Tuple[Optional[str], Optional[str]]:
    """Read version and flavor out of the ``NVRM version`` line; the open module says "Open Kernel Module"."""
    line = next((each for each in text.splitlines() if each.startswith("NVRM version")), "")
    match = re.search(rf"Kernel Module\b.*?\s({_VERSION})\s", line + " ")
    if not match:
        return None, None
    return match.group(1), "open" if "Open Kernel Module" in line else "proprietary"


def parse_modules(text: str) -> Tuple[str, ...]:
    """Name the loaded modules in the text of /proc/modules."""
    return tuple(line.split(" ", 1)[0] for line in text.splitlines() if line.strip())


def _loaded_modules(tree: Tree) -> Tuple[Tuple[str, ...], str]:
    """Name what is loaded; a kernel built without loadable modules has no list, and its built-in ones in /sys."""
    try:
        return parse_modules(tree.text("/proc/modules")), "/proc/modules"
    except FileNotFoundError:
        built_in = tree.names_or_none("/sys/module")
        if built_in:
            return built_in, "/sys/module"
        raise


def _read_loaded(notes: Notes) -> None:
    tree = notes.tree
    modules: Optional[Tuple[str, ...]] = None
    source = reason = ""
    try:
        modules, source = _loaded_modules(tree)
    except OSError as error:
        reason = why(error, "/proc/modules")
    fields = (
        ("loaded", ("nvidia",)),
        ("uvm_loaded", ("nvidia_uvm",)),
        ("nouveau_loaded", ("nouveau",)),
        ("peermem_loaded", ("nvidia_peermem", "nv_peer_mem")),
    )
    for field, names in fields:
        shown = next((f"/sys/module/{name}" for name in names if tree.exists(f"/sys/module/{name}")), None)
        if shown:
            notes.put(field, True, shown)
        elif modules is not None:
            notes.put(field, any(name in modules for name in names), source)
        else:
            notes.miss(field, reason)


def _read_version(notes: Notes) -> None:
    tree = notes.tree
    version, flavor = parse_nvrm(tree.text_or(_VERSION_FILE))
    if version:
        notes.put("version", version, _VERSION_FILE)
        notes.put("flavor", flavor, _VERSION_FILE)
        notes.put("loaded", True, notes.sources.get("loaded", _VERSION_FILE))
        return
    notes.read("version", "/sys/module/nvidia/version", lambda text: text.strip() or None)
    if "version" not in notes.values and notes.values.get("loaded") is False:
        notes.miss("version", "no nvidia kernel module is loaded")
    absent = notes.values.get("loaded") is False
    notes.miss("flavor", "no nvidia kernel module is loaded" if absent else f"{_VERSION_FILE} cannot be read")


def _read_on_disk(notes: Notes) -> None:
    tree = notes.tree
    release = tree.text_or("/proc/sys/kernel/osrelease").strip()
    if not release:
        notes.miss("on_disk_version", "the kernel does not tell its release")
        return
    folder = f"/lib/modules/{release}"
    try:
        module = find_module(tree.text(folder + "/modules.dep", 8 << 20))
    except OSError as error:
        notes.miss("on_disk_version", why(error, folder + "/modules.dep"))
        return
    if module is None:
        notes.miss("on_disk_version", f"{folder}/modules.dep lists no nvidia.ko")
        return
    path = f"{folder}/{module}"
    for source, read in _ways_to_the_version(release):
        version = read(tree, path)
        if version:
            notes.put("on_disk_version", version, source or path)
            return
    notes.miss("on_disk_version", f"{path} is compressed, and neither DKMS nor firmware folders name one version")


def find_module(modules_dep: str) -> Optional[str]:
    """Find nvidia.ko in modules.dep: the path that modprobe would load, below the kernel's own folder."""
    match = re.search(r"^((?:[^:\n]*/)?nvidia\.ko(?:\.(?:xz|zst|gz))?):", modules_dep, re.MULTILINE)
    return match.group(1) if match else None


def _ways_to_the_version(release: str) -> Iterator[Tuple[str, Callable[[Tree, str], Optional[str]]]]:
    """Give the ways to learn a module's version, the surest first; an empty source means the module itself."""
    yield "", _modinfo_version
    yield "/var/lib/dkms/nvidia", lambda tree, _: _only(_dkms_versions(tree, release))
    yield "/lib/firmware/nvidia", lambda tree, _: _only(_version_names(tree, "/lib/firmware/nvidia"))


def _modinfo_version(tree: Tree, path: str) -> Optional[str]:
    """Read ``version=`` out of the module's own .modinfo; a compressed module is not unpacked: that takes seconds."""
    from envdoctor_probes.elf import Elf, ElfError

    if not path.endswith(".ko"):
        return None
    try:
        with Elf(tree.here(path)) as module:
            text = module.find_text(rb"(?<=\0version=)[0-9.]+(?=\0)", ".modinfo")
            return text or module.find_text(rb"(?<=^version=)[0-9.]+(?=\0)", ".modinfo")
    except (OSError, ElfError):
        return None


def _dkms_versions(tree: Tree, release: str) -> List[str]:
    """List what DKMS built for this kernel."""
    folder = "/var/lib/dkms/nvidia"
    return [name for name in _version_names(tree, folder) if tree.exists(f"{folder}/{name}/{release}")]


def _version_names(tree: Tree, folder: str) -> List[str]:
    return [name for name in tree.names_or_none(folder) if re.fullmatch(_VERSION, name)]


def _only(names: List[str]) -> Optional[str]:
    return names[0] if len(names) == 1 else None
