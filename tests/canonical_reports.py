"""Four reports that every format is shown with: findings, findings and unknowns, none, and undetermined."""

from __future__ import annotations

from dataclasses import replace

from envdoctor import snapshot
from envdoctor.facts.driver import KernelModule, NvidiaSmi, SmiGpu
from envdoctor.facts.gpu import PciBus
from envdoctor.facts.host import Host
from envdoctor.facts.packages import Packages
from envdoctor.facts.torch import TorchBuild
from envdoctor.finding import (
    Check,
    Command,
    Confidence,
    Evidence,
    Finding,
    Fix,
    Ignored,
    Report,
    Safety,
    Severity,
    Status,
    Verdict,
)
from envdoctor.outcome import TimedOut
from envdoctor.snapshot import ProbeResult, Snapshot

UBUNTU = Host(system="Linux", os_name="Ubuntu 22.04.5 LTS", container="none", wsl=False)
PYTHON = Packages(python_version="3.11.7")
A100S = NvidiaSmi(gpus=(SmiGpu(0, "NVIDIA A100-SXM4-80GB"), SmiGpu(1, "NVIDIA A100-SXM4-80GB")))
PROVE = "envdoctor check --only driver-too-old-for-cuda-build"

TOO_OLD = Finding(
    "PyTorch cannot use the GPUs: the driver is too old for this build",
    evidence=(
        Evidence("torch_build.cuda", "CUDA 13.0", "torch/version.py", "file", "torch was built with"),
        Evidence("cuda_driver.cuda_version", "CUDA 12.2", "cuDriverGetVersion", "fresh-process", "driver 535 supports"),
        Evidence(
            "cuda_runtime.code", "35 cudaErrorInsufficientDriver", "asked in a child", "fresh-process",
            "libcudart.so.13 answers",
        ),
    ),
    fixes=(
        Fix(
            "change the wheel, keep the driver",
            (Command(None, "python -m pip install 'torch==2.9.0' --index-url https://index.example/whl/cu126"),),
            Safety.SAFE,
            verify=PROVE,
        ),
        Fix(
            "raise the driver to 580 or newer",
            (Command(None, "sudo apt-get install nvidia-driver-580-server"), Command(None, "sudo reboot")),
            needs_root=True,
            needs_reboot=True,
            verify=PROVE,
        ),
    ),
    id="driver-too-old-for-cuda-build",
    severity=Severity.ERROR,
)  # fmt: skip
UNAVAILABLE = Finding(
    "torch.cuda.is_available() is False",
    id="cuda-unavailable",
    severity=Severity.ERROR,
    caused_by=("driver-too-old-for-cuda-build",),
)
SMALL_SHM = Finding(
    '/dev/shm is 64 MiB: DataLoader workers will die with "Bus error"',
    detail="Workers hand batches over through shared memory.",
    evidence=(Evidence("resources.shm_total_mib", 64, "statvfs /dev/shm", "file", "/dev/shm holds (MiB)"),),
    fixes=(
        Fix(
            "give the container more shared memory",
            (Command(None, "docker run --shm-size=8g IMAGE"),),
            changes="a new container",
            verify="envdoctor check --only shm-too-small",
        ),
    ),
    id="shm-too-small",
    severity=Severity.WARNING,
    confidence=Confidence.LIKELY,
)
TF32_OFF = Finding("fp32 matrix products run in IEEE mode", id="tf32-off", severity=Severity.INFO)


def checks(**counts: dict[Status, int]) -> tuple[Check, ...]:
    """Make checks by group: ``libraries={Status.PASSED: 14}``."""
    why = {Status.UNKNOWN: "probe fabric timed-out: no answer in 5 s", Status.SKIPPED: "needs --level deep",
           Status.NOT_APPLICABLE: "no NVSwitch here"}  # fmt: skip
    return tuple(
        Check(f"{group}-{status.value}-{number}", group, False, status, why.get(status, ""))
        for group, statuses in counts.items()
        for status, many in statuses.items()
        for number in range(many)
    )


def machine(*more: ProbeResult) -> Snapshot:
    """Make the snapshot of a machine with two A100 under driver 535."""
    facts = (UBUNTU, PYTHON, TorchBuild(version="2.9.0+cu130", cuda="13.0"), A100S, KernelModule(version="535.183.01"))
    return replace(snapshot.of(*facts, probes=more), elapsed_seconds=2.31, overhead_seconds=0.32)


FINDINGS = Report(
    machine(),
    (TOO_OLD, UNAVAILABLE, SMALL_SHM, TF32_OFF),
    (
        Check("driver-too-old-for-cuda-build", "driver", True, Status.FIRED),
        Check("cuda-unavailable", "torch", True, Status.FIRED),
        Check("shm-too-small", "limits", False, Status.FIRED),
        Check("tf32-off", "precision", False, Status.FIRED),
        *checks(libraries={Status.PASSED: 14}, packages={Status.PASSED: 22}, fabric={Status.NOT_APPLICABLE: 5}),
    ),
    "driver-too-old-for-cuda-build",
    Verdict.ERRORS,
)
FINDINGS_AND_UNKNOWN = Report(
    machine(),
    (SMALL_SHM, replace(TF32_OFF, ignored=Ignored("chosen for this model", "pyproject.toml"))),
    (
        Check("shm-too-small", "limits", False, Status.FIRED),
        Check("tf32-off", "precision", False, Status.IGNORED, "chosen for this model"),
        *checks(libraries={Status.PASSED: 14, Status.UNKNOWN: 2}, fabric={Status.UNKNOWN: 3}, GPUs={Status.SKIPPED: 4}),
    ),
    "shm-too-small",
    Verdict.WARNINGS,
)
NONE = Report(
    replace(
        snapshot.of(UBUNTU, PYTHON, TorchBuild(version="2.13.0+cpu", is_cpu_only=True), PciBus(readable=True)),
        elapsed_seconds=1.8,
        overhead_seconds=0.2,
    ),
    (),
    checks(libraries={Status.PASSED: 14}, packages={Status.PASSED: 22}, GPUs={Status.NOT_APPLICABLE: 31}),
    None,
    Verdict.OK,
)
HUNG = "probe torch-import timed-out: no answer within 90 s, last seen in import torch"
UNDETERMINED = Report(
    machine(ProbeResult("torch-import", "torch_import", TimedOut("no answer within 90 s", 90.0), 90.0)),
    (),
    (
        Check("torch-import-fails", "torch", True, Status.UNKNOWN, HUNG),
        Check("torch-import-hangs", "torch", True, Status.UNKNOWN, HUNG),
        Check("cuda-unavailable", "torch", True, Status.UNKNOWN, "torch_cuda was not collected"),
        *checks(libraries={Status.PASSED: 14}),
    ),
    None,
    Verdict.UNDETERMINED,
)


HOSTILE = (
    "x\x1b]8;;http://evil.example\x07[red]</script><img src=x onerror=alert(1)> ](javascript:x) [bold]x[/bold] "
    "`|$(reboot)`\r\n::error::no # @someone &amp; \\u202e \u202e\u200b\udc80\x00 \"quoted\" 'q' \U000e0041 ]]> %0A "
    "www.evil.example http://evil.example"
)  # fmt: skip


def hostile(text: str = HOSTILE) -> Report:
    """Make a report in which every text comes from an enemy."""
    fix = Fix(text, (Command(None, f"run {text}"),), changes=text, verify=text)
    finding = Finding(text, text, (Evidence(text, [text], text, "file", text),), (fix, fix), text,
                      affects=(text,), id="some-rule", severity=Severity.ERROR)  # fmt: skip
    other = replace(finding, id="other-rule", caused_by=(finding.key,), subject="")
    info = replace(finding, id="third-rule", severity=Severity.INFO, ignored=Ignored(text, text))
    probe = ProbeResult(text, text, TimedOut(text), 1.0)
    facts = (Host(os_name=text, container=text), TorchBuild(version=text))
    made = replace(snapshot.of(*facts, probes=(probe,)), plugin_errors=(text,), tool_version=text)
    judged = tuple(Check(f"rule-{status.value}", text, True, status, text) for status in Status)
    found = (Check("some-rule", text, True, Status.FIRED), Check("other-rule", text, False, Status.FIRED))
    return Report(made, (finding, other, info), (*judged, *found), finding.key, Verdict.ERRORS, True, (text,))
