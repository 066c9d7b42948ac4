"""Stand-ins for the driver's libraries, compiled with gcc; a private /dev for what must see real device nodes."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
_WRITES = re.compile(r"nvml\w*?(Set|Reset|Clear|Create|Destroy|Modify|Remove|Register|Discover|Free|Alloc)(?!\w*Get)")
_READS = re.compile(
    r"nvml(Device|System|Unit|Vgpu|GpuInstance|ComputeInstance)?(Get|Is|Query|Validate)"
    r"|nvmlEventSet|nvmlGpmSample|nvmlGpm(Metrics|Migsample)"
)


def build_libcuda(folder: Path) -> Path:
    """Compile the fake libcuda into ``folder``; put that on LD_LIBRARY_PATH and describe the driver in FAKE_CUDA_*."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "libcuda.so.1"
    options = ["-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
    source = HERE / "fake_cuda" / "fake_cuda.c"
    subprocess.run(["gcc", *options, "-Wl,-soname,libcuda.so.1", "-o", out, source, "-ldl"], check=True)
    return out


def build_libnvml(folder: Path, series: str = "580") -> Path:
    """Compile the fake NVML with the symbols that a driver of ``series`` (470 … 580, latest) exports.

    Put the folder on LD_LIBRARY_PATH and name a scenario in FAKE_NVML_SCENARIO; ``scenario.c`` says how one is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources = sorted((HERE / "fake_nvml").glob("*.c"))
    exported = (HERE / "fake_nvml" / "symbols" / f"{series}.txt").read_text().split()
    rest = folder / "rest.c"
    rest.write_text(_bodies(set(exported) - _implemented(sources)))
    exports = folder / "exports.map"
    exports.write_text("{ global: " + " ".join(f"{each};" for each in exported) + " local: *; };\n")
    out = folder / "libnvidia-ml.so.1"
    options = ["-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
    options += ["-Wno-address-of-packed-member", f"-Wl,--version-script={exports}", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run(["gcc", *options, "-o", out, *sources, rest], check=True)
    return out


def _implemented(sources: list[Path]) -> set[str]:
    text = "\n".join(source.read_text() for source in sources)
    return set(re.findall(r"^(?:API [\w ]+?\*?|[A-Z0-9]+\()(nvml\w+)[(,]", text, re.MULTILINE))


def _bodies(names: set[str]) -> str:
    """Give functions for what the fake does not imitate: not supported, and no permission for what would write."""
    lines = ["extern int fake_nvml_unimplemented(const char *, int);"]
    for name in sorted(names):
        writes = int(bool(_WRITES.match(name)) and not _READS.match(name))
        lines.append(
            f'__attribute__((visibility("default"))) int {name}(void) '
            f'{{ return fake_nvml_unimplemented("{name}", {writes}); }}'
        )
    return "\n".join(lines) + "\n"


def nvml_scenario(folder: Path, name: str, *faults: str, settings: str = "") -> Path:
    """Write a scenario of ``fake_nvml/scenarios`` with faults (``nvmlInit_v2 = hang``) and other values added."""
    text = (HERE / "fake_nvml" / "scenarios" / f"{name}.ini").read_text()
    out = folder / f"{name}.ini"
    out.write_text("\n".join([text, settings, "[inject]", *faults, ""]))
    return out


def may_unshare() -> bool:
    """Tell whether this user may make a mount namespace with device nodes in it."""
    if os.geteuid():
        return False
    try:
        done = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def private_dev(command: list[str], *, gpus: int = 0, mode: str = "666") -> list[str]:
    """Give the command that runs ``command`` with a /dev of its own, in which the NVIDIA driver's nodes may stand.

    As root, the real NVML and libcuda create /dev/nvidiactl even without a driver; here it is gone afterwards.
    """
    return ["unshare", "-m", "sh", str(HERE / "private_dev.sh"), str(gpus), mode, *command]
