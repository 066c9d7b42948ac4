"""What a verdict rests on, in a few cheap reads: as long as none of it changes, the verdict is taken to hold.

Only the standard library is imported, and no driver is called: this is all that a call with a kept verdict costs.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from envdoctor.snapshot import Snapshot

File = tuple[str, int, int]  # path, size, mtime in nanoseconds; -1 and -1 where there is none

# These name one job, step or process. The same program on the same machine has others each time.
ONE_JOBS_OWN = frozenset((
    "RANK", "GROUP_RANK", "ROLE_RANK", "MASTER_ADDR", "MASTER_PORT", "PMI_RANK", "PMIX_RANK", "NCCL_COMM_ID",
))  # fmt: skip
ONE_JOBS_FAMILIES = ("SLURM_", "OMPI_", "TORCHELASTIC_")
KEPT_OF_FAMILIES = (
    "SLURM_NTASKS", "SLURM_NNODES", "SLURM_JOB_NUM_NODES", "SLURM_LOCALID", "SLURM_GPUS", "SLURM_CPUS",
    "SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL", "OMPI_MCA_",
)  # fmt: skip
# What of a module search path decides what an import finds, and which wheels there are.
IMPORTABLE = (".py", ".so", ".pth", ".dist-info", ".egg-info", ".egg-link", ".zip")
MOST_TEXT = 8192
# Mapped libraries that a verdict rests on. Which modules of Python are loaded besides is the program's own business.
_MATTERS = re.compile(r"lib(cu|nv|nccl|torch|c10|shm|gomp|iomp|omp|mkl|openblas|stdc\+\+|triton)")


def fingerprint(question: object) -> str:
    """Give one short word for the question, the doctor, the machine, this process and its surroundings."""
    told = [question, configuration(), doctor(), machine(), interpreter(), environment(os.environ), limits(), torch()]
    return hashlib.sha256(json.dumps(told, default=repr, sort_keys=True).encode()).hexdigest()[:40]


def doctor() -> list[object]:
    """Give the rules' version: that of the package, and the state of its files, which a developer may have changed."""
    from envdoctor import __version__

    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folders = (os.path.join(home, "rules"), os.path.join(home, "knowledge", "data"))
    return [__version__, [[entry.name, *size_and_time(entry.path)] for each in folders for entry in _entries(each)]]


def machine() -> list[object]:
    """Give the boot, the driver, the GPUs and the operating system, by files alone."""
    cards = "/proc/driver/nvidia/gpus"
    nodes = [entry for entry in _entries("/dev") if entry.name.startswith(("nvidia", "dxg", "nvhost", "nvmap"))]
    return [
        _text("/proc/sys/kernel/random/boot_id"), _system(), _text("/proc/driver/nvidia/version"),
        _text("/sys/module/nvidia/version"), [_text(f"{entry.path}/information") for entry in _entries(cards)],
        [[entry.name, *_node(entry.path)] for entry in nodes], _text("/etc/os-release"),
        size_and_time("/etc/ld.so.cache"), size_and_time("/usr/lib/wsl/lib"), _text("/proc/1/comm"),
    ]  # fmt: skip


def _system() -> list[str]:
    return list(os.uname()) if hasattr(os, "uname") else [sys.platform]


def interpreter() -> list[object]:
    """Give this Python, its module search path, and the wheels and modules that lie on it."""
    entries: list[Any] = list(sys.path)
    places = [[each, _importable(each)] for each in entries if isinstance(each, str)]
    return [sys.executable, sys.version, _cwd(), places, os.geteuid() if hasattr(os, "geteuid") else None]


def _importable(place: str) -> list[str]:
    if os.path.isfile(place):
        return [repr(size_and_time(place))]
    return sorted(entry.name for entry in _entries(place or ".") if entry.name.endswith(IMPORTABLE))


def environment(environ: Mapping[str, str]) -> list[list[str]]:
    """Give the variables that change how drivers, libraries and torch behave, without those that name one job."""
    names = importlib.import_module("envdoctor_probes.variable_names")
    return [[name, environ[name]] for name in sorted(environ) if names.is_collected(name) and not _one_jobs_own(name)]


def _one_jobs_own(name: str) -> bool:
    return name in ONE_JOBS_OWN or (name.startswith(ONE_JOBS_FAMILIES) and not name.startswith(KEPT_OF_FAMILIES))


def limits() -> list[object]:
    """Give what this process may use: its limits, CPUs, control group and shared memory."""
    found: list[object] = []
    with contextlib.suppress(ImportError):
        import resource

        names = ("RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_NPROC", "RLIMIT_STACK")
        found += [resource.getrlimit(getattr(resource, each)) for each in names if hasattr(resource, each)]
    with contextlib.suppress(OSError, AttributeError):
        found.append(sorted(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, AttributeError):
        shm = os.statvfs("/dev/shm")  # noqa: S108 - looked at, not used
        found.append(shm.f_blocks * shm.f_frsize)
    return [*found, list(_cgroup())]


def _cgroup() -> Iterator[str | None]:
    for line in (_text("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers in {"", "memory", "cpu,cpuacct", "cpu"}:
            top = f"/sys/fs/cgroup/{controllers}".rstrip("/")
            for name in ("memory.max", "cpu.max", "memory.limit_in_bytes", "cpu.cfs_quota_us"):
                yield _text(f"{top}{path.rstrip('/')}/{name}") or _text(f"{top}/{name}")


def torch() -> list[object]:
    """Give torch's live settings and every library that is mapped, where this process has imported torch."""
    module = sys.modules.get("torch")
    if module is None or not (hasattr(module, "backends") and hasattr(module, "__version__")):
        return []
    questions = importlib.import_module("envdoctor_probes.torch_questions")
    cuda = getattr(getattr(module, "cuda", None), "is_initialized", None)
    return [str(module.__version__), questions.answers(module), bool(cuda and cuda()), _mapped()]


def _mapped() -> list[File]:
    maps = importlib.import_module("envdoctor_probes.maps")
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            paths, _ = maps.parse_maps(file.read())
    except OSError:
        return []
    # In order of name: addresses are random.
    return state_of(sorted(each for each in paths if _MATTERS.match(os.path.basename(each))))


def libraries_of(snapshot: Snapshot) -> list[File]:
    """Give the state of the files that would be mapped as far as a look has found them out: to be held to it later."""
    from envdoctor.facts.driver import DriverFiles
    from envdoctor.facts.libraries import Libraries
    from envdoctor.facts.torch import TorchBuild

    libraries, driver, build = snapshot.get(Libraries), snapshot.get(DriverFiles), snapshot.get(TorchBuild)
    rows = libraries.rows if libraries else ()
    copies = [copy for row in rows for copy in (row.first, *row.bundled) if copy is not None]
    paths = [copy.real_path or copy.path for copy in copies]
    paths += [each.path for each in (*(driver.libcuda if driver else ()), *(driver.nvml if driver else ()))]
    paths += libraries.library_path if libraries else ()
    paths += [f"{build.location}/version.py", f"{build.location}/lib"] if build and build.location else []
    return state_of(paths)


def configuration() -> list[File]:
    """Give the configuration files that there may be, from the working directory upwards."""
    here = _cwd()
    folders = [here]
    while os.path.dirname(folders[-1]) != folders[-1]:
        folders.append(os.path.dirname(folders[-1]))
    return state_of(os.path.join(each, name) for each in folders for name in ("envdoctor.toml", "pyproject.toml"))


def state_of(paths: Iterable[str]) -> list[File]:
    """Give size and time of each file, each once."""
    return [(each, *size_and_time(each)) for each in dict.fromkeys(paths) if each]


def size_and_time(path: str) -> tuple[int, int]:
    """Give a file's size and time of change in nanoseconds, or -1 and -1 where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _node(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return -1, -1
    return found.st_rdev, found.st_mode


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """List a directory in order; one that cannot be read is empty."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda each: each.name)
    except OSError:
        return []


def _text(path: str) -> str | None:
    """Read the beginning of a file; None where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(MOST_TEXT)
    except OSError:
        return None


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed under our feet
        return ""
