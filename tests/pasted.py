"""Judge texts as ``check --from`` does, and say what came of it in a line a test can compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor import readers
from envdoctor.diagnose import examine

if TYPE_CHECKING:
    from envdoctor.finding import Finding, Report

# The environments that the tests of texts start from, as people paste them.
A100_CU121 = """\
PyTorch version: 2.3.1+cu121
Is debug build: False
CUDA used to build PyTorch: 12.1
ROCM used to build PyTorch: N/A

OS: Ubuntu 22.04.4 LTS (x86_64)
GCC version: (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0
Libc version: glibc-2.35

Python version: 3.10.12 (main, Nov 20 2023, 15:14:05) [GCC 11.4.0] (64-bit runtime)
Python platform: Linux-5.15.0-105-generic-x86_64-with-glibc2.35
Is CUDA available: True
CUDA runtime version: 12.1.105
GPU models and configuration: GPU 0: NVIDIA A100-SXM4-80GB
Nvidia driver version: 550.54.15

Versions of relevant libraries:
[pip3] numpy==1.26.4
[pip3] torch==2.3.1+cu121
[pip3] torchvision==0.18.1+cu121
[pip3] triton==2.3.1
"""
UNSEEN = A100_CU121.replace("Is CUDA available: True", "Is CUDA available: False")


def judged(*texts: str) -> Report:
    """Examine texts, each a file of its own."""
    return examine(readers.together([readers.parse(text, source=f"text {n}") for n, text in enumerate(texts)]))


def found(report: Report) -> dict[str, Finding]:
    """Give the findings by id; of several with one id the first."""
    by_id: dict[str, Finding] = {}
    for each in report.findings:
        by_id.setdefault(each.id, each)
    return by_id


def alarms(report: Report) -> set[str]:
    """Give the ids of errors and warnings."""
    return {each.id for each in report.findings if each.severity and each.severity.value != "info"}
