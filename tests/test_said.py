"""Witnesses: a text held against facts that confirm it, contradict it, or say where it is to be put."""

from __future__ import annotations

import pytest

from envdoctor.finding import Confidence, Severity, Status
from envdoctor.rules import WITNESSES
from tests.pasted import A100_CU121, UNSEEN, alarms, found, judged
from tests.said_rows import CONFIRMED, CONTRADICTED, NMS, UNKNOWN_ERROR, build

# Rules without a witness that only words can fire.
TEXT_ALONE = (
    "driver-needs-reboot", "static-tls-exhausted", "mkl-threading-layer-conflict", "libcuda-dev-symlink-missing",
    "windows-runtime-missing", "tf32-default-precision",
)  # fmt: skip


@pytest.mark.parametrize(("text", "facts", "id_", "severity", "confidence"), CONFIRMED)
def test_facts_confirm_a_text(text: str, facts: str, id_: str, severity: str | None, confidence: str | None) -> None:
    """Text and facts together lead to the finding, as severe and as sure as they make it, with the line as evidence."""
    finding = found(judged(facts, text)).get(id_)
    assert finding is not None
    assert severity in {None, finding.severity.value if finding.severity else ""}
    assert confidence in {None, finding.confidence.value}
    assert finding.fixes
    assert [each for each in finding.evidence if each.fact == "error_text.lines"]


@pytest.mark.parametrize(("text", "facts", "id_"), CONTRADICTED)
def test_facts_veto_a_text(text: str, facts: str, id_: str) -> None:
    """What was seen to work, or what the facts rule out, is no alarm because a text says so."""
    assert id_ not in alarms(judged(facts, text))


def test_each_finding_of_a_text_has_facts_for_it_and_against_it() -> None:
    """No witness, and no rule that only a text can fire, is without a row in which it speaks and one in which not."""
    ids = {*WITNESSES, *TEXT_ALONE}
    assert (set(), set()) == (ids - {row[2] for row in CONFIRMED}, ids - {row[2] for row in CONTRADICTED})


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
    """A mismatch that the package list shows and an error names is one finding with both as evidence."""
    facts = "[pip3] torch==2.4.0+cu121\n[pip3] torchvision==0.20.1+cu124\n"
    (finding,) = [f for f in judged(facts, NMS).findings if f.id == "torchvision-torch-mismatch"]
    kinds = {each.fact.partition(".")[0] for each in finding.evidence}
    assert {"error_text", "knowledge"} <= kinds
    assert (Severity.ERROR, Confidence.LIKELY) == (finding.severity, finding.confidence)


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
    assert {Status.NOT_APPLICABLE, Status.PASSED} >= {checks[id_].status for id_ in TEXT_ALONE}


def test_a_healthy_paste_stays_healthy_beside_an_error_of_the_program() -> None:
    """A traceback that blames no environment adds no alarm to a healthy machine."""
    text = "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB\nIndexError: list index out of range"
    assert set() == alarms(judged(A100_CU121, text))


def test_one_text_may_hold_report_and_error() -> None:
    """Report and error in one file lead to the same as in two."""
    together, apart = judged(f"{UNSEEN}\n{UNKNOWN_ERROR}\n"), judged(UNSEEN, UNKNOWN_ERROR)
    assert set(found(apart)) == set(found(together))
    assert "driver-needs-reboot" in found(together)


def on_windows(text: str) -> str:
    """Move a report to Windows."""
    text = text.replace("Linux-5.15.0-105-generic-x86_64-with-glibc2.35", "Windows-10-10.0.22631-SP0")
    return text.replace("Ubuntu 22.04.4 LTS (x86_64)", "Microsoft Windows 11 Pro (10.0.22631 64-bit)")


def test_windows_gets_no_way_of_linux() -> None:
    """No kernel module, device node or package manager of Linux is spoken of on Windows."""
    for driver, torch in (("550.54.15", "2.3.1+cu121"), ("470.82.01", "2.9.0+cu130")):
        text = on_windows(UNSEEN).replace("550.54.15", driver).replace("2.3.1+cu121", torch)
        text = text.replace("12.1\nROCM", f"{torch[-3:-1]}.{torch[-1]}\nROCM")
        report = judged(text, UNKNOWN_ERROR)
        said = [each.shell for one in report.findings for fix in one.fixes for each in fix.commands]
        assert "cuda-unavailable" in found(report)
        assert not [each for each in said if "sudo" in each or "/dev/" in each]
        assert "uvm-broken-after-suspend" not in found(report)


def test_the_wheel_that_is_there_is_no_way_out() -> None:
    """Where no other published wheel serves this machine, the command does not install the same one again."""
    image = found(
        judged(
            on_windows(A100_CU121), "RuntimeError: CUDA error: no kernel image is available for execution on the device"
        )
    )
    commands = [each.shell for fix in image["gpu-arch-not-in-build"].fixes for each in fix.commands]
    assert commands
    assert not [each for each in commands if "pip install" in each]


@pytest.mark.parametrize(("wheel", "first"), [("12.1.105", "pip install --no-deps"), ("12.4.127", "unset")])
def test_an_older_wheel_is_renewed_before_a_path_is_suspected(wheel: str, first: str) -> None:
    """The list shows an nvJitLink older than the symbol asks for: that wheel is it, and no path; else a path may be."""
    text = "libcusparse.so.12: undefined symbol: __nvJitLinkComplete_12_4, version libnvJitLink.so.12"
    report = judged(f"{build('2.5.1+cu124', '12.4')}[pip3] nvidia-nvjitlink-cu12=={wheel}\n", f"ImportError: {text}")
    command = found(report)["nvjitlink-mismatch"].fixes[0].commands[0].shell
    assert first in command
    assert ("'nvidia-nvjitlink-cu12==12.4.*'" in command) is (wheel == "12.1.105")


def test_an_image_asks_for_more_than_a_torch_that_works_outside_it() -> None:
    """That CUDA works on the host says nothing of an image; what is installed on the host is no way out."""
    host = A100_CU121.replace("2.3.1+cu121", "2.3.1+cu118").replace("12.1\nROCM", "11.8\nROCM")
    error = "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8, please update your driver"
    image = found(judged(host.replace("550.54.15", "470.82.01"), error))["driver-too-old-for-cuda-build"]
    assert "image, which asks for CUDA 12.8" in image.title
    assert not [each for fix in image.fixes for each in fix.commands if "pip" in each.shell]


@pytest.mark.parametrize(
    ("text", "id_"),
    [
        ("OSError: libcublas.so.12: cannot open shared object file", "nvidia-wheel-lib-not-found"),
        ("RuntimeError: Cannot find a working triton installation.", "compile-toolchain-missing"),
        ("ImportError: libtorch_cuda.so: undefined symbol: ncclCommRegister", "nccl-mixed"),
    ],
)
def test_what_torch_leaves_to_other_wheels_is_not_left_out(text: str, id_: str) -> None:
    """The wheel of torch brings neither its libraries nor Triton: without its dependencies it repairs nothing."""
    report = judged(f"{build('2.5.1+cu124', '12.4')}[pip3] torch==2.5.1+cu124\n", text)
    shells = [each.shell for fix in found(report)[id_].fixes for each in fix.commands]
    torch = next(each for each in shells if "'torch==2.5.1+cu124'" in each)
    assert ("--no-deps" in torch, "--index-url https://download.pytorch.org/whl/cu124" in torch) == (False, True)


def test_windows_gets_the_triton_that_is_made_for_it() -> None:
    """No torch for Windows brings Triton; triton-windows follows its releases."""
    text = "RuntimeError: Cannot find a working triton installation."
    fix = found(judged(on_windows(A100_CU121), text))["compile-toolchain-missing"].fixes[0]
    assert fix.commands[0].shell.endswith("-m pip install 'triton-windows==2.3.*'")


CUDNN_8 = "Could not load library libcudnn_ops_infer.so.8. Error: libcudnn_ops_infer.so.8: cannot open shared object"


@pytest.mark.parametrize(
    ("torch", "cuda", "beside", "command"),
    [
        ("2.3.1+cu121", "12.1", "", "python -m pip install 'nvidia-cudnn-cu12==8.*'"),
        ("2.5.1+cu124", "12.4", "[pip3] ctranslate2==4.4.0\n", "python -m pip install 'ctranslate2>=4.5'"),
        (
            "2.5.1+cu124",
            "12.4",
            "",
            "python -m pip install --no-deps --target \"$HOME/cudnn-8\" 'nvidia-cudnn-cu12==8.*'",
        ),
    ],
)
def test_another_cudnn_does_not_replace_that_of_torch(torch: str, cuda: str, beside: str, command: str) -> None:
    """Both majors come as one wheel's name: cuDNN 8 in the environment of a torch with cuDNN 9 takes that away."""
    report = judged(f"{build(torch, cuda)}[pip3] torch=={torch}\n{beside}", CUDNN_8)
    assert command == found(report)["cudnn-not-found"].fixes[0].commands[0].shell


def test_conda_brings_its_own_libstdcxx() -> None:
    """The package is conda's: an index of Python packages has none of that name."""
    conda = build("2.5.1+cu124", "12.4") + "[conda] mkl 2024.1.0 h1 defaults\n"
    report = judged(conda, "ImportError: /lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by x.so)")
    assert "conda install --channel conda-forge 'libstdcxx-ng>=14'" == (
        found(report)["glibc-too-old"].fixes[0].commands[0].shell
    )


@pytest.mark.parametrize(
    ("gpu", "toolkit", "names"),
    [
        ("sm_121a", "CUDA 12.9", ["TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH"]),
        ("sm_103", "CUDA 12.9", ["TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH"]),
        ("sm_90", "CUDA 11.8", ["TRITON_PTXAS_PATH"]),
        ("sm_190", "a newer CUDA", ["TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH"]),
    ],
)
def test_triton_can_call_a_ptxas_that_knows_the_gpu(gpu: str, toolkit: str, names: list[str]) -> None:
    """The toolkit that is new enough is named, and the variables by which Triton looks for its assembler."""
    text = f"ptxas fatal   : Value '{gpu}' is not defined for option 'gpu-name'"
    fix = found(judged(text))["gpu-newer-than-bundled-nvrtc"].fixes[0]
    assert toolkit in fix.title
    assert [f"export {name}=/usr/local/cuda/bin/ptxas" for name in names] == [each.shell for each in fix.commands]


@pytest.mark.parametrize(
    ("torch", "cuda", "spec"), [("2.5.1+cu124", "12.4", ">=1.21,<1.27"), ("2.9.0+cu130", "13.0", ">=1.27")]
)
def test_onnxruntime_brings_the_cuda_of_torch(torch: str, cuda: str, spec: str) -> None:
    """Its newest release brings cuDNN for CUDA 13, whose files would lie where torch's for CUDA 12 are."""
    text = "Failed to create CUDAExecutionProvider. Require cuDNN 9.* and CUDA 12.*"
    report = judged(f"{build(torch, cuda)}[pip3] onnxruntime-gpu==1.20.0\n", text)
    assert found(report)["onnxruntime-cuda-mismatch"].fixes[0].commands[0].shell.endswith(f"{spec}'")


@pytest.mark.parametrize(("version", "forced"), [("0.18.1+cu121", True), ("0.18.1+cpu", False), ("0.17.2", False)])
def test_a_companion_that_is_there_by_name_is_installed_over(version: str, forced: bool) -> None:
    """Where the list shows the very build that is advised, an installer does nothing unless it must."""
    report = judged(A100_CU121.replace("torchvision==0.18.1+cu121", f"torchvision=={version}"), NMS)
    command = found(report)["torchvision-torch-mismatch"].fixes[0].commands[0].shell
    assert forced is ("--force-reinstall" in command)
