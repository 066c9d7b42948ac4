"""Rules that words alone can fire: a pasted text's, or those of ``import torch`` on this machine."""

from __future__ import annotations

import pytest

from envdoctor.facts import Fact
from envdoctor.facts.driver import NvidiaSmi, SmiGpu
from envdoctor.facts.host import Environment, Host, Variable
from envdoctor.facts.text import ErrorText, Words
from envdoctor.facts.torch import TorchBuild, TorchCuda, TorchImport, TorchSettings
from envdoctor.finding import Confidence, Severity, Status
from envdoctor.rule import Rule
from envdoctor.rules.default_precision import tf32_default_precision
from envdoctor.rules.loading import (
    libcuda_dev_symlink_missing,
    mkl_threading_layer_conflict,
    static_tls_exhausted,
    windows_runtime_missing,
)
from envdoctor.rules.restart import driver_needs_reboot
from envdoctor.testing import check
from tests.rule_facts import UBUNTU, WSL
from tests.torch_facts import commands, dist, venv

TLS = "OSError: /opt/venv/lib/libgomp-d22c30c5.so.1: cannot allocate memory in static TLS block"
MKL = "Error: mkl-service + Intel(R) MKL: MKL_THREADING_LAYER=INTEL is incompatible with libgomp.so.1 library."
LCUDA = "/usr/bin/ld: cannot find -lcuda: No such file or directory"
DLL = '[WinError 126] The specified module could not be found. Error loading "C:\\venv\\torch\\lib\\fbgemm.dll"'
WINDOWS = Host(system="Windows")
UNKNOWN = "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment"
DIFFERS = "matmul results inaccurate on the new card"


def says(*lines: str) -> ErrorText:
    """Make a pasted text of these lines."""
    return ErrorText(lines=tuple(Words(line, "a text") for line in lines))


def imports(words: str) -> TorchImport:
    """Make an import of torch that failed here with these words."""
    return TorchImport(imported=False, error_type="OSError", error=words)


def smi(name: str, capability: str) -> NvidiaSmi:
    """Make nvidia-smi's list of one GPU."""
    return NvidiaSmi(gpus=(SmiGpu(0, name, None, capability),))


BY_WORDS = [
    (static_tls_exhausted, TLS, UBUNTU),
    (mkl_threading_layer_conflict, MKL, UBUNTU),
    (libcuda_dev_symlink_missing, LCUDA, UBUNTU),
    (windows_runtime_missing, DLL, WINDOWS),
]


@pytest.mark.parametrize(("rule", "words", "host"), BY_WORDS)
def test_words_of_a_text_and_of_this_machine_weigh_the_same(rule: Rule, words: str, host: Host) -> None:
    """A failure of ``import torch`` here is heard as a pasted one is, and quoted."""
    live, pasted = check(rule, imports(words), host).finding, check(rule, says(words), host).finding
    assert {Severity.ERROR} == {live.severity, pasted.severity}
    assert live.title == pasted.title
    assert "import torch" == live.evidence[0].source
    assert words.strip()[:60] in live.evidence[0].value


@pytest.mark.parametrize(("rule", "words", "host"), BY_WORDS)
def test_other_words_fire_none_of_them(rule: Rule, words: str, host: Host) -> None:
    """Another failure of the import is none of these; without any words the rule does not apply."""
    assert words
    other = imports("libcusparse.so.12: undefined symbol: __nvJitLinkComplete_12_4, version libnvJitLink.so.12")
    assert Status.PASSED is check(rule, other, host).status
    assert Status.PASSED is check(rule, says("CUDA out of memory"), host).status
    assert Status.NOT_APPLICABLE is check(rule, host).status


def test_the_library_that_the_loader_names_is_loaded_first() -> None:
    """The command names the very library; one that no shell should see is replaced by the usual one."""
    assert any("LD_PRELOAD=/opt/venv/lib/libgomp-d22c30c5.so.1" in each for each in commands(_tls(TLS)))
    strange = TLS.replace("/opt/venv", "/opt/$(touch x)")
    assert not any("$(" in each for each in commands(_tls(strange)))


def _tls(words: str) -> object:
    return check(static_tls_exhausted, says(words)).finding


def test_wsl_gets_its_own_directory() -> None:
    """Under WSL the library lies in /usr/lib/wsl/lib: nothing is linked."""
    found = check(libcuda_dev_symlink_missing, says(LCUDA), WSL).finding
    assert any("/usr/lib/wsl/lib" in each for each in commands(found))
    assert not any("ln -s" in each for each in commands(found))
    linux = check(libcuda_dev_symlink_missing, says(LCUDA), UBUNTU).finding
    assert any("ln -s" in each for each in commands(linux))


@pytest.mark.parametrize(("version", "newer"), [("2.4.0+cu121", True), ("2.4.1+cu121", False), ("2.6.0+cpu", False)])
def test_the_release_that_wants_libomp_is_replaced(version: str, newer: bool) -> None:
    """Only torch 2.4.0 asks for libomp140, which 2.4.1 no longer does."""
    facts: tuple[Fact, ...] = (WINDOWS, TorchBuild(version=version), venv(dist("torch", version)))
    found = check(windows_runtime_missing, says(DLL), *facts).finding
    assert newer is any("torch>=2.4.1" in each for each in commands(found))
    assert any("VCRedist" in each for each in commands(found))


def test_a_dll_is_no_matter_of_linux() -> None:
    """Words about a DLL beside facts of Linux are of another machine."""
    assert Status.NOT_APPLICABLE is check(windows_runtime_missing, says(DLL), UBUNTU).status


@pytest.mark.parametrize(
    ("lines", "facts", "severity", "confidence"),
    [
        ((UNKNOWN, "after upgrading the driver"), (), Severity.ERROR, Confidence.LIKELY),
        ((UNKNOWN, "I installed driver 535 today"), (UBUNTU,), Severity.ERROR, Confidence.LIKELY),
        ((UNKNOWN,), (smi("NVIDIA A100-SXM4-80GB", "8.0"),), Severity.WARNING, Confidence.POSSIBLE),
    ],
)
def test_a_renewed_driver_wants_a_restart(
    lines: tuple[str, ...], facts: tuple[Fact, ...], severity: Severity, confidence: Confidence
) -> None:
    """CUDA's unknown error with a renewed driver is likely it; on cards that never sleep it is a lead."""
    found = check(driver_needs_reboot, says(*lines), *facts).finding
    assert (severity, confidence) == (found.severity, found.confidence)
    assert any("reboot" in each for each in commands(found))


@pytest.mark.parametrize(
    ("lines", "facts"),
    [
        ((UNKNOWN,), ()),
        ((UNKNOWN,), (smi("NVIDIA GeForce RTX 3090", "8.6"),)),
        ((UNKNOWN, "after resume from suspend", "the driver was updated last year"), ()),
        ((UNKNOWN, "after upgrading the driver"), (WSL,)),
        ((UNKNOWN, "after upgrading the driver"), (TorchCuda(available=True),)),
        (("I upgraded the driver and all is well",), ()),
    ],
)
def test_an_unknown_error_alone_is_no_renewed_driver(lines: tuple[str, ...], facts: tuple[Fact, ...]) -> None:
    """Not where the machine may have slept, not under WSL, not where CUDA works, not without the error."""
    assert Status.PASSED is check(driver_needs_reboot, says(*lines), *facts).status


A100 = smi("NVIDIA A100-SXM4-80GB", "8.0")
TF32_OFF = "torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False"
TF32_TORCH, QUIET_TORCH = TorchBuild(version="1.8.1+cu111", cuda="11.1"), TorchBuild(version="2.3.1+cu121", cuda="12.1")


@pytest.mark.parametrize(
    ("words", "build", "severity", "confidence"),
    [
        (None, TF32_TORCH, Severity.INFO, Confidence.CERTAIN),
        (DIFFERS, TF32_TORCH, Severity.WARNING, Confidence.LIKELY),
        (DIFFERS, QUIET_TORCH, Severity.WARNING, Confidence.POSSIBLE),
    ],
)
def test_tf32_by_default_is_told_and_blamed_where_results_differ(
    words: str | None, build: TorchBuild, severity: Severity, confidence: Confidence
) -> None:
    """Info by itself with torch 1.7 to 1.11 on Ampere; a warning beside words about results that differ."""
    facts = (A100, build, *((says(words),) if words else ()))
    found = check(tf32_default_precision, *facts).finding
    assert (severity, confidence) == (found.severity, found.confidence)
    assert ["export NVIDIA_TF32_OVERRIDE=0", f"# in your program:  {TF32_OFF}"] == [
        fix.commands[0].shell for fix in found.fixes
    ]


@pytest.mark.parametrize(
    "facts",
    [
        (A100, QUIET_TORCH),
        (A100, TF32_TORCH, TorchSettings(allow_tf32_matmul=False, allow_tf32_cudnn=False), says(DIFFERS)),
        (A100, TF32_TORCH, Environment(variables=(Variable("NVIDIA_TF32_OVERRIDE", "0"),))),
        (A100, TorchBuild(version="1.6.0", cuda="10.2")),
        (A100, TorchBuild(version="1.12.0", cuda="11.3")),
    ],
)
def test_no_tf32_where_it_is_off(facts: tuple[Fact, ...]) -> None:
    """Not from 1.12 on, not before 1.7, not where the program switched it off."""
    assert Status.PASSED is check(tf32_default_precision, *facts).status


def test_a_gpu_without_tf32_does_not_apply() -> None:
    """Before Ampere there is no TF32."""
    assert (
        Status.NOT_APPLICABLE is check(tf32_default_precision, smi("Tesla T4", "7.5"), TF32_TORCH, says(DIFFERS)).status
    )
