"""Witnesses: a text held against facts that confirm it, contradict it, or say where it is to be put."""

from __future__ import annotations

import pytest

from envdoctor.finding import Confidence, Severity, Status
from tests.pasted import A100_CU121, UNSEEN, alarms, found, judged

NO_IMAGE = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
UNKNOWN_ERROR = "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment"
TOO_OLD = "The NVIDIA driver on your system is too old (found version 11040)."
NMS = "RuntimeError: operator torchvision::nms does not exist"
HANG = "training is stuck at NCCL initialisation"
DIFFERS = "results are less accurate on the new card"
NO_CUDA = "torch.cuda.is_available() returns False"


def cards(*names: str) -> str:
    """List GPUs as collect_env does."""
    lines = [f"GPU {index}: {name}" for index, name in enumerate(names)]
    return "\n".join(["Is CUDA available: True", "GPU models and configuration:", *lines, ""])


def build(torch: str, cuda: str, *more: str) -> str:
    """Say which torch it is, as collect_env does."""
    return "\n".join([f"PyTorch version: {torch}", f"CUDA used to build PyTorch: {cuda}", *more, ""])


# The text, the facts beside it, and what must be among the findings: id, severity, confidence (None: either).
CONFIRMED = [
    (TOO_OLD, build("2.1.0+cu121", "12.1"), "driver-too-old-for-cuda-build", "error", "certain"),
    (NO_IMAGE, build("2.3.1+cu121", "12.1") + cards("NVIDIA GeForce RTX 5090"), "gpu-arch-not-in-build", "error", None),
    (NO_IMAGE, build("2.3.1+cu121", "12.1") + cards("Tesla T4"), "extension-arch-missing", "warning", None),
    (f"{NO_IMAGE} (flash_attn_gpu.fwd)", A100_CU121, "extension-arch-missing", "warning", "likely"),
    (f"{NO_IMAGE} in flashinfer/attention/handler.cuh", cards("Tesla V100-SXM2-16GB"),
     "gpu-too-old-for-package", None, None),
    (f"after suspend: {UNKNOWN_ERROR}", UNSEEN, "uvm-broken-after-suspend", "error", "likely"),
    (f"{UNKNOWN_ERROR}\nI have just upgraded the driver", UNSEEN, "driver-needs-reboot", "error", "likely"),
    (UNKNOWN_ERROR, UNSEEN, "driver-needs-reboot", "warning", "possible"),
    ("Error 804: forward compatibility was attempted on non supported HW",
     cards("NVIDIA GeForce RTX 3090").replace("True", "False"),
     "forward-compat-unsupported", "error", "certain"),
    ("No CUDA GPUs are available", "CUDA_VISIBLE_DEVICES=3\n", "cuda-visible-devices-wrong", None, "likely"),
    ("A module that was compiled using NumPy 1.x cannot be run in NumPy 2.0.0",
     "[pip3] numpy==2.0.0\n[pip3] torch==2.2.2\n",
     "numpy2-abi", "error", "certain"),
    ("ImportError: libcudart.so.12: cannot open shared object file", build("2.9.0+cu130", "13.0"),
     "extension-built-for-other-torch", "error", "likely"),
    ("OSError: libcudart.so.12: cannot open shared object file", build("2.3.1+cu121", "12.1"),
     "nvidia-wheel-lib-not-found", "error", "likely"),
    ("version `GLIBC_2.34' not found (required by flash_attn_2_cuda.so)",
     "Libc version: glibc-2.28\nIs debug build: False\nOS: CentOS 8\n",
     "glibc-too-old", "error", "certain"),
    ("undefined symbol: _ZN5torch3jit17parseSchemaOrNameERKSsb (common_ops.abi3.so)", build("2.8.0+cu128", "12.8"),
     "cxx11-abi-mismatch", "error", "likely"),
    (HANG, cards("NVIDIA RTX 6000 Ada Generation", "NVIDIA RTX 6000 Ada Generation"), "nccl-p2p-broken", "warning",
     "possible"),
    (DIFFERS, build("1.8.1", "11.1") + cards("GeForce RTX 3090"), "tf32-default-precision", "warning", "likely"),
    (NO_CUDA, build("1.9.0+cpu", "None", "CUDA runtime version: 11.3.109"), "torch-cpu-only-on-gpu-machine",
     "warning", "likely"),
    ("The detected CUDA version (12.8) mismatches the version that was used to compile PyTorch (11.8).",
     build("2.1.0+cu118", "11.8", "CUDA runtime version: 12.8.61"), "cuda-toolkit-torch-mismatch", "error", None),
    ("CUDA_ERROR_NO_DEVICE (100)",
     "OS: Ubuntu 22.04 on WSL2\nIs CUDA available: False\n", "wsl-libcuda-shadowed", "error", None),
    ("libcuda.so.1: cannot open shared object file",
     "OS: Ubuntu 22.04 on WSL2\nIs CUDA available: False\n", "wsl-driver-missing", None, None),
    ("CUDA-capable device(s) is/are busy or unavailable",
     cards("GRID A100D-20C").replace("True", "False"), "vgpu-limitation", "error", None),
    ("unhandled system error, NCCL version 2.4.8", "NCCL_SOCKET_IFNAME=lo\n", "nccl-network-misconfig", None, None),
    ("Could not find a version that satisfies the requirement torch==2.1.2",
     "Python version: 3.12.3\nIs debug build: N/A\nOS: Ubuntu 24.04\n",
     "python-unsupported", "error", "certain"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "facts", "id_", "severity", "confidence"), CONFIRMED)
def test_facts_confirm_a_text(text: str, facts: str, id_: str, severity: str | None, confidence: str | None) -> None:
    """Text and facts together lead to the finding, as severe and as sure as they make it, with the line as evidence."""
    finding = found(judged(facts, text)).get(id_)
    assert finding is not None
    assert severity in {None, finding.severity.value if finding.severity else ""}
    assert confidence in {None, finding.confidence.value}
    assert finding.fixes
    assert [each for each in finding.evidence if each.fact == "error_text.lines"]


# The text, facts that contradict it, and what must not be an alarm then.
CONTRADICTED = [
    (TOO_OLD, A100_CU121, "driver-too-old-for-cuda-build"),
    (NO_CUDA, A100_CU121, "cuda-unavailable"),
    (NO_CUDA, A100_CU121, "torch-cpu-only-on-gpu-machine"),
    (UNKNOWN_ERROR, A100_CU121, "uvm-broken-after-suspend"),
    (f"{UNKNOWN_ERROR} after upgrading the driver", A100_CU121, "driver-needs-reboot"),
    ("Error 802: system not yet initialized", A100_CU121, "fabric-manager-missing"),
    ("invalid device ordinal", A100_CU121, "cuda-visible-devices-wrong"),
    ("No CUDA GPUs are available", f"{UNSEEN}CUDA_VISIBLE_DEVICES=0\n", "cuda-visible-devices-wrong"),
    ("numpy.core.multiarray failed to import", "[pip3] numpy==1.21.0\n[pip3] torch==2.2.2\n", "numpy2-abi"),
    ("Found no NVIDIA driver on your system", UNSEEN, "nvidia-driver-missing"),
    (HANG, cards("NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB"), "nccl-p2p-broken"),
    (HANG, cards("NVIDIA A100-SXM4-80GB"), "nccl-p2p-broken"),
    (DIFFERS, build("2.3.1", "12.1") + cards("Tesla T4"), "tf32-default-precision"),
    ("libcuda.so.1: cannot open shared object file", A100_CU121, "nvidia-driver-missing"),
    ("CUDA-capable device(s) is/are busy or unavailable", A100_CU121, "vgpu-limitation"),
    ("No HIP GPUs are available",
     "GPU 0: AMD Instinct MI250X\nIs CUDA available: False\nOS: Linux\n", "rocm-build-on-nvidia"),
    ("ibv_reg_mr failed with error Cannot allocate memory", "ulimit -l unlimited\n", "memlock-limit-too-low"),
    ("number of threads explodes", "OMP_NUM_THREADS=1\n", "omp-threads-oversubscription"),
    ("Could not find a version that satisfies the requirement torch==2.3.1", A100_CU121, "python-unsupported"),
    ("[WinError 126] Error loading torch\\lib\\fbgemm.dll", A100_CU121, "windows-runtime-missing"),
    ("nvidia-smi fails", A100_CU121, "wsl-driver-missing"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "facts", "id_"), CONTRADICTED)
def test_facts_veto_a_text(text: str, facts: str, id_: str) -> None:
    """What was seen to work, or what the facts rule out, is no alarm because a text says so."""
    assert id_ not in alarms(judged(facts, text))


def test_what_the_rule_itself_found_fine_is_a_lead_only() -> None:
    """A message about a pair that the package list shows to be right is only possible, and says why."""
    finding = found(judged(A100_CU121, NMS))["torchvision-torch-mismatch"]
    assert (Severity.WARNING, Confidence.POSSIBLE) == (finding.severity, finding.confidence)
    assert "do not show it" in finding.detail


def test_what_another_python_printed_is_a_lead_only() -> None:
    """A traceback of Python 3.8 beside the packages of Python 3.10 may be of another environment."""
    text = f'File "/opt/venv/lib/python3.8/site-packages/torchvision/__init__.py", line 5\n{NMS}'
    finding = found(judged("PyTorch version: 2.3.1\nIs debug build: False\nPython version: 3.10.12\n", text))
    said = finding["torchvision-torch-mismatch"]
    assert Confidence.POSSIBLE == said.confidence
    assert "Python 3.8 printed it" in said.detail


def test_facts_and_text_make_one_finding_with_both_as_evidence() -> None:
    """A mismatch that the package list shows and an error names is one finding, certain, with both as evidence."""
    facts = "[pip3] torch==2.4.0+cu121\n[pip3] torchvision==0.20.1+cu124\n"
    (finding,) = [f for f in judged(facts, NMS).findings if f.id == "torchvision-torch-mismatch"]
    kinds = {each.fact.partition(".")[0] for each in finding.evidence}
    assert {"error_text", "knowledge"} <= kinds
    assert Confidence.CERTAIN == finding.confidence


def test_info_becomes_an_error_when_a_build_failed() -> None:
    """What is info on a machine that builds nothing is an error when a log shows that a build stopped over it."""
    facts = build("2.1.0+cu118", "11.8", "CUDA runtime version: 12.8.61")
    quiet = found(judged(facts))["cuda-toolkit-torch-mismatch"]
    text = "The detected CUDA version (12.8) mismatches the version that was used to compile PyTorch (11.8)."
    assert Severity.INFO == quiet.severity
    assert Severity.ERROR == found(judged(facts, text))["cuda-toolkit-torch-mismatch"].severity


def test_a_rule_for_texts_does_not_apply_without_one() -> None:
    """Without a text, and without words from a live import, such a rule is not applicable; nothing becomes unknown."""
    checks = {check.id: check for check in judged(A100_CU121).checks}
    for id_ in (
        "driver-needs-reboot",
        "static-tls-exhausted",
        "libcuda-dev-symlink-missing",
        "windows-runtime-missing",
    ):
        assert checks[id_].status in {Status.NOT_APPLICABLE, Status.PASSED}


def test_a_healthy_paste_stays_healthy_beside_an_error_of_the_program() -> None:
    """A traceback that blames no environment adds no alarm to a healthy machine."""
    text = "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB\nIndexError: list index out of range"
    assert set() == alarms(judged(A100_CU121, text))


def test_one_text_may_hold_report_and_error() -> None:
    """Report and error in one file lead to the same as in two."""
    together, apart = judged(f"{UNSEEN}\n{UNKNOWN_ERROR}\n"), judged(UNSEEN, UNKNOWN_ERROR)
    assert set(found(apart)) == set(found(together))
    assert "driver-needs-reboot" in found(together)
