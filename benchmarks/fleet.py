"""How long ``envdoctor fleet`` takes over many saved snapshots, and how much memory: 1,000, 5,000 and 10,000 of them.

The snapshots are made from one real one: each gets its own host name, serial numbers, temperatures, free memory, times
and launcher's variables, one in 250 has another driver, one in 40 another NCCL variable, one in 100 a package more.
Each size runs in a process of its own; wall time, its CPU time and its largest resident size are shown, and the time
for each snapshot, which is the same for all sizes where the time is linear. Nothing here is a test.

    .venv/bin/python benchmarks/fleet.py [--snapshot FILE] [--sizes 1000,5000,10000]

Without ``--snapshot`` this machine's own is taken, and the recorded one of eight H100 that ships with the package.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import envdoctor.demo

RECORDED = Path(envdoctor.demo.__file__).with_name("h100x8-healthy.json")
# pip compiles what it installs; an editable installation is compiled by the first run.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
LIMIT_SECONDS, LIMIT_MIB, LIMIT_AT = 10.0, 1024, 10_000


def varied(document: dict[str, Any], number: int, chance: random.Random) -> dict[str, Any]:
    """Change a snapshot as another machine of the same fleet would have it."""
    facts = document["facts"]
    facts["host"]["hostname"] = f"node{number:05d}"
    total = facts["resources"]["memory_total_mib"] or 1 << 20
    facts["resources"] |= {"memory_available_mib": int(total * chance.uniform(0.5, 0.9)), "shm_free_mib": number % 977}
    for gpu in facts.get("gpu_state", {}).get("gpus", ()):
        gpu |= {"uuid": f"GPU-{chance.getrandbits(64):016x}", "serial": str(chance.getrandbits(40))}
        gpu |= {"temperature_celsius": chance.randrange(28, 45), "power_watts": round(chance.uniform(60, 90), 3)}
        gpu |= {"memory_used_mib": chance.randrange(1, 700)}
    for probe in document["probes"]:
        probe["seconds"] = round(chance.uniform(0.001, 0.3), 4)
    if number % 250 == 7:
        facts["kernel_module"]["version"] = "535.183.01"
    if number % 100 == 9:
        facts["packages"]["distributions"] += [{"name": "left-over", "version": "1.0"}]
    facts["environment"]["variables"] = [
        *(each for each in facts["environment"]["variables"] if not each["name"].startswith(("SLURM_", "NCCL_ALGO"))),
        {"name": "SLURM_PROCID", "value": str(number), "redacted": False},
        {"name": "SLURM_NODEID", "value": str(number), "redacted": False},
        *([{"name": "NCCL_ALGO", "value": "Tree", "redacted": False}] if number % 40 == 3 else []),
    ]
    return document


def make(snapshot: Path, folder: Path, most: int) -> None:
    """Write the snapshots of a fleet."""
    original = json.loads(snapshot.read_text("utf-8"))
    original = original["facts"] if original["schema"].startswith("envdoctor.report") else original
    text, chance = json.dumps(original), random.Random(1)
    for number in range(most):
        document = varied(json.loads(text), number, chance)
        (folder / f"node{number:05d}.json").write_text(json.dumps(document, indent=1), "utf-8")


def run(folder: Path, size: int) -> tuple[float, float, float]:
    """Run the fleet over the first files; give wall seconds, CPU seconds and MiB."""
    files = sorted(folder.iterdir())[:size]
    with tempfile.TemporaryDirectory() as part:
        for each in files:
            os.link(each, Path(part, each.name))
        command = [sys.executable, "-m", "envdoctor", "fleet", part, "--format", "json"]
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)
        words = process.stderr.read() if process.stderr else b""
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        if os.waitstatus_to_exitcode(status) not in {0, 1, 3}:
            sys.exit(f"{' '.join(command)}: {words.decode()[-500:]}")
    return took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def own_snapshot(folder: Path) -> Path:
    """Take this machine's own snapshot."""
    file = folder / "own.json"
    subprocess.run([sys.executable, "-m", "envdoctor", "snapshot", "-o", str(file)], check=True, capture_output=True)
    return file


def main() -> int:
    """Measure and print the table; exit 1 when the largest size breaks a limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--snapshot", type=Path, help="make the fleet from this snapshot alone")
    parser.add_argument("--sizes", default="1000,5000,10000")
    given = parser.parse_args()
    sizes = sorted(int(each) for each in given.sizes.split(","))
    broken = False
    print(f"load average before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs\n")
    print("| from | snapshots | KiB each | wall | CPU | ms each (CPU) | largest | holds |")
    print("| - | - | - | - | - | - | - | - |")
    with tempfile.TemporaryDirectory() as scratch:
        for source in (given.snapshot,) if given.snapshot else (own_snapshot(Path(scratch)), RECORDED):
            folder = Path(scratch, source.stem + ".fleet")
            folder.mkdir()
            make(source, folder, sizes[-1])
            kib = next(folder.iterdir()).stat().st_size / 1024
            for size in sizes:
                wall, cpu, mib = run(folder, size)
                holds = size < LIMIT_AT or (wall <= LIMIT_SECONDS and mib <= LIMIT_MIB)
                broken |= not holds
                each = f"{1000 * cpu / size:.2f}"
                said = "" if size < LIMIT_AT else "yes" if holds else "NO"
                row = (source.stem, size, f"{kib:.0f}", f"{wall:.2f} s", f"{cpu:.2f} s", each, f"{mib:.0f} MiB", said)
                print(f"| {' | '.join(map(str, row))} |")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
