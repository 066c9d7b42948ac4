"""Rules about debugging left on, features switched off, TF32 by variable, and the allocator's options."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from envdoctor.facts import Fact
from envdoctor.facts.driver import KernelModule, NvidiaSmi, SmiGpu
from envdoctor.facts.host import Environment, Variable
from envdoctor.facts.libraries import Toolkit
from envdoctor.facts.torch import TorchBuild, TorchSettings
from envdoctor.finding import Severity, Status
from envdoctor.rules.allocator import allocator_setting_invalid
from envdoctor.rules.allocator_options import OPTIONS, UNHEARD_OF, problems
from envdoctor.rules.debug_settings import anomaly_or_debug_mode_on, cuda_launch_blocking_set, nccl_debug_left_on
from envdoctor.rules.switched_off import (
    cudnn_disabled,
    deterministic_mode_on,
    fused_attention_unavailable,
    tf32_overridden_by_environment,
)
from envdoctor.testing import check
from tests.rule_facts import CPU_BUILD, CU130, NO_GPU, NO_NODES, ONE_GPU, build

A100 = NvidiaSmi(gpus=(SmiGpu(0, "NVIDIA A100-SXM4-80GB", compute_capability="8.0"),))
T4 = NvidiaSmi(gpus=(SmiGpu(0, "Tesla T4", compute_capability="7.5"),))
BARE = (NO_GPU, NO_NODES, KernelModule(loaded=False))
DEFAULTS = TorchSettings(
    cudnn_enabled=True, cudnn_deterministic=False, deterministic_algorithms=False, flash_sdp=True,
    mem_efficient_sdp=True, math_sdp=True, cudnn_sdp=True, anomaly_mode=False, allow_tf32_cudnn=True,
    cudnn_version=91002,
)  # fmt: skip


def variables(**values: str) -> Environment:
    """Make an environment."""
    return Environment(variables=tuple(Variable(name, value) for name, value in values.items()))


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((variables(CUDA_LAUNCH_BLOCKING="1"), ONE_GPU), Status.FIRED),
        ((variables(CUDA_LAUNCH_BLOCKING="0"), ONE_GPU), Status.PASSED),
        ((variables(CUDA_LAUNCH_BLOCKING=""), ONE_GPU), Status.PASSED),
        ((variables(), ONE_GPU), Status.PASSED),
        ((variables(CUDA_LAUNCH_BLOCKING="1"), *BARE), Status.NOT_APPLICABLE),
    ],
)
def test_launch_blocking(facts: tuple[Fact, ...], status: Status) -> None:
    """Synchronous launches left on are a warning where there is a GPU."""
    assert status == check(cuda_launch_blocking_set, *facts).status


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((variables(NCCL_DEBUG="INFO"),), Status.FIRED),
        ((variables(NCCL_DEBUG="trace"),), Status.FIRED),
        ((variables(NCCL_DEBUG="WARN"),), Status.PASSED),
        ((variables(NCCL_DEBUG="VERSION"),), Status.PASSED),
        ((variables(), Toolkit(nccl_conf=(("NCCL_DEBUG", "INFO"),))), Status.FIRED),
        ((variables(NCCL_DEBUG="WARN"), Toolkit(nccl_conf=(("NCCL_DEBUG", "INFO"),))), Status.PASSED),
    ],
)
def test_nccl_debugging(facts: tuple[Fact, ...], status: Status) -> None:
    """INFO and TRACE are info, from the variable or from NCCL's file."""
    checked = check(nccl_debug_left_on, *facts, ONE_GPU)
    assert status == checked.status
    assert {Severity.INFO} >= {each.severity for each in checked.findings}


@pytest.mark.parametrize(
    ("facts", "subjects"),
    [
        ((TorchSettings(anomaly_mode=True), variables()), ["anomaly"]),
        ((DEFAULTS, variables(), TorchBuild(version="2.9.0", debug=True)), ["debug-build"]),
        ((DEFAULTS, variables(TORCH_DISTRIBUTED_DEBUG="DETAIL")), ["TORCH_DISTRIBUTED_DEBUG"]),
        ((DEFAULTS, variables(TORCH_DISTRIBUTED_DEBUG="INFO")), []),
        ((DEFAULTS, variables(TRITON_INTERPRET="1", PYTORCH_NO_CUDA_MEMORY_CACHING="1")), None),
        ((DEFAULTS, variables(CUBLASLT_LOG_LEVEL="1", CUDNN_LOGLEVEL_DBG="2", TRITON_INTERPRET="0")), []),
        ((DEFAULTS, variables(), CU130), []),
    ],
)
def test_debugging_modes(facts: tuple[Fact, ...], subjects: list[str] | None) -> None:
    """Each mode that is on is named; levels that cost nothing are left alone."""
    findings = check(anomaly_or_debug_mode_on, *facts).findings
    named = {"PYTORCH_NO_CUDA_MEMORY_CACHING", "TRITON_INTERPRET"}
    assert (named if subjects is None else set(subjects)) == {each.subject for each in findings}
    assert {Severity.WARNING} >= {each.severity for each in findings}


@pytest.mark.parametrize(
    ("settings", "severity"),
    [
        (TorchSettings(cudnn_enabled=False, deterministic_algorithms=False), Severity.WARNING),
        (TorchSettings(cudnn_enabled=False, deterministic_algorithms=True), Severity.INFO),
        (
            TorchSettings(cudnn_enabled=True, unknown={"cudnn_version": "torch was built without cuDNN"}),
            Severity.WARNING,
        ),
        (DEFAULTS, None),
    ],
)
def test_cudnn_off(settings: TorchSettings, severity: Severity | None) -> None:
    """CuDNN that is off or not built in warns; beside deterministic algorithms it is taken as a choice."""
    findings = check(cudnn_disabled, settings, CU130).findings
    assert ([severity] if severity else []) == [each.severity for each in findings]


def test_cudnn_of_a_cpu_build_or_an_old_torch() -> None:
    """A CPU build has no cuDNN to miss, and what torch did not say is unknown."""
    assert Status.NOT_APPLICABLE == check(cudnn_disabled, TorchSettings(cudnn_enabled=False), CPU_BUILD).status
    assert Status.UNKNOWN == check(cudnn_disabled, TorchSettings(), CU130).status


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((variables(), TorchSettings(deterministic_algorithms=True)), Status.FIRED),
        ((variables(), TorchSettings(cudnn_deterministic=True)), Status.FIRED),
        ((variables(CUBLAS_WORKSPACE_CONFIG=":4096:8"),), Status.FIRED),
        ((variables(CUBLAS_WORKSPACE_CONFIG=":0:0"),), Status.PASSED),
        ((variables(), DEFAULTS), Status.PASSED),
    ],
)
def test_determinism(facts: tuple[Fact, ...], status: Status) -> None:
    """Determinism that is asked for is info: a choice."""
    checked = check(deterministic_mode_on, *facts)
    assert status == checked.status
    assert {Severity.INFO} >= {each.severity for each in checked.findings}


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((TorchSettings(flash_sdp=False, mem_efficient_sdp=False, cudnn_sdp=False), CU130, ONE_GPU), Status.FIRED),
        ((TorchSettings(flash_sdp=False, mem_efficient_sdp=False), CU130, ONE_GPU), Status.FIRED),
        ((TorchSettings(flash_sdp=False, mem_efficient_sdp=True), CU130, ONE_GPU), Status.PASSED),
        ((TorchSettings(flash_sdp=False, mem_efficient_sdp=False, cudnn_sdp=True), CU130, ONE_GPU), Status.PASSED),
        ((DEFAULTS, CU130, ONE_GPU), Status.PASSED),
        ((TorchSettings(), CU130, ONE_GPU), Status.UNKNOWN),
        ((TorchSettings(flash_sdp=False), CPU_BUILD, ONE_GPU), Status.NOT_APPLICABLE),
        ((TorchSettings(flash_sdp=False), CU130, *BARE), Status.NOT_APPLICABLE),
    ],
)
def test_fused_attention(facts: tuple[Fact, ...], status: Status) -> None:
    """Only where every fused kernel is off; one is enough."""
    assert status == check(fused_attention_unavailable, *facts).status


@pytest.mark.parametrize(
    ("facts", "severity"),
    [
        ((variables(NVIDIA_TF32_OVERRIDE="0"), A100, CU130), Severity.WARNING),
        ((variables(NVIDIA_TF32_OVERRIDE="1"), A100, CU130), None),
        ((variables(TORCH_ALLOW_TF32_CUBLAS_OVERRIDE="1"), A100, CU130), Severity.INFO),
        ((variables(TORCH_ALLOW_TF32_CUBLAS_OVERRIDE="0"), A100, CU130), None),
        ((variables(NVIDIA_TF32_OVERRIDE="0"), T4, CU130), None),
        ((variables(NVIDIA_TF32_OVERRIDE="0"), A100, CPU_BUILD), None),
        ((variables(), A100, CU130), None),
    ],
)
def test_tf32_by_variable(facts: tuple[Fact, ...], severity: Severity | None) -> None:
    """TF32 forbidden by a variable warns on a GPU that has it; made the default it is info."""
    findings = check(tf32_overridden_by_environment, *facts, DEFAULTS).findings
    assert ([severity] if severity else []) == [each.severity for each in findings]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("expandable_segments:True", None),
        ("max_split_size_mb:512, garbage_collection_threshold:0.8", None),
        ("backend:cudaMallocAsync", None),
        ("roundup_power2_divisions:[256:1,512:2,1024:4,>:8]", None),
        ("roundup_power2_divisions:4,", None),
        ("expandable_segment:True", "no option 'expandable_segment'"),
        ("expandable_segments:true", "must be True or False"),
        ("expandable_segments=True", "no option"),
        ("expandable_segments", "has no value"),
        ("max_split_size_mb:2", "20 at least"),
        ("garbage_collection_threshold:80", "between 0.0 and 1.0"),
        ("roundup_power2_divisions:3", "power of two"),
        ("roundup_power2_divisions:[256:1", "bracket"),
        ("backend:async", "native or cudaMallocAsync"),
        ("max_split_size_mb:512;expandable_segments:True", "must be a number"),
    ],
)
def test_allocator_options(value: str, words: str | None) -> None:
    """What PyTorch would reject is an error that says why; what it takes passes."""
    findings = check(allocator_setting_invalid, variables(PYTORCH_CUDA_ALLOC_CONF=value), build("12.8")).findings
    assert [Severity.ERROR] * bool(words) == [each.severity for each in findings]
    assert all(str(words) in each.title for each in findings)


@pytest.mark.parametrize(
    ("environment", "version", "severity"),
    [
        (variables(PYTORCH_ALLOC_CONF="expandable_segments:True"), "2.9.0", Severity.WARNING),
        (variables(PYTORCH_ALLOC_CONF="expandable_segments:True"), "2.10.0", None),
        (
            variables(PYTORCH_ALLOC_CONF="expandable_segments:True", PYTORCH_CUDA_ALLOC_CONF="backend:native"),
            "2.9.0",
            None,
        ),
        (variables(PYTORCH_CUDA_ALLOC_CONF="expandable_segments:True"), "2.9.0", None),
        (variables(), "2.9.0", None),
    ],
)
def test_allocators_new_name(environment: Environment, version: str, severity: Severity | None) -> None:
    """Before torch 2.10 the new name alone has no effect on GPU memory, and the old one is offered."""
    findings = check(allocator_setting_invalid, environment, build("12.8", version)).findings
    assert ([severity] if severity else []) == [each.severity for each in findings]
    assert all("PYTORCH_CUDA_ALLOC_CONF=" in each.fixes[0].commands[0].shell for each in findings)


@pytest.mark.parametrize(
    ("value", "version", "title"),
    [
        ("expandable_segments:True", "2.0.1", "expandable_segments came with torch 2.1"),
        ("max_split_size_mb:128,expandable_segments:False", "1.13.1", "expandable_segments came with torch 2.1"),
        ("pinned_use_cuda_host_register:True", "2.1.2", "pinned_use_cuda_host_register came with torch 2.2"),
        ("expandable_segments:True", "2.1.0a0+32f93b1", None),
        ("roundup_power2_divisions:[256:1,>:4]", "2.0.1", None),
        ("expandable_segments:True", "unknown", None),
    ],
)
def test_option_that_came_after_this_torch(value: str, version: str, title: str | None) -> None:
    """An older torch raises over an option that it does not have yet, as over one that there is not."""
    environment = variables(PYTORCH_CUDA_ALLOC_CONF=value)
    findings = check(allocator_setting_invalid, environment, build("12.1", version)).findings
    assert [f"PYTORCH_CUDA_ALLOC_CONF: {title}"] * bool(title) == [each.title for each in findings]
    assert all(each.severity is Severity.ERROR for each in findings)


def test_option_of_a_newer_torch_is_unknown() -> None:
    """A torch beyond the table may know options that this list does not."""
    checked = check(allocator_setting_invalid, variables(PYTORCH_ALLOC_CONF="brand_new:1"), build("13.9", "99.1.0"))
    assert Status.UNKNOWN == checked.status


VALUES = (
    "expandable_segments:True", "expandable_segments:true", "max_split_size_mb:20", "max_split_size_mb:10",
    "max_split_size_mb:x", "garbage_collection_threshold:1.5", "garbage_collection_threshold:0.8",
    "roundup_power2_divisions:3", "roundup_power2_divisions:4", "roundup_power2_divisions:[256:1,512:2,>:4]",
    "roundup_power2_divisions:[256:1,512:2", "max_split_size_mb: 512 , expandable_segments:True", "expandable_segments",
    "large_segment_size_mb:10", "large_segment_size_mb:64", "max_split_size_mb=512", "max_split_size_mb:512,",
    "expandable_segments:True;max_split_size_mb:128",
)  # fmt: skip
ASK = """
import json, sys, torch
for value in json.load(sys.stdin):
    try:
        torch._C._accelerator_setAllocatorSettings(value)
        print("taken")
    except Exception:
        print("refused")
"""


def test_options_are_read_as_torch_reads_them() -> None:
    """The installed torch takes and refuses the same values."""
    done = subprocess.run(
        [sys.executable, "-c", ASK], input=json.dumps(VALUES), capture_output=True, text=True, check=False
    )
    if "No module named" in done.stderr or "_accelerator_setAllocatorSettings" in done.stderr:
        pytest.skip("no torch here that can be asked without a GPU")
    ours = ["refused" if problems(each) else "taken" for each in VALUES]
    assert ours == done.stdout.split()


def test_every_option_takes_a_good_value() -> None:
    """No option refuses all of the usual values, and the name alone is never enough."""
    usual = ("True", "64", "0.5", "native")
    assert [] == [name for name in OPTIONS if not any(not problems(f"{name}:{value}") for value in usual)]
    assert all(problems(name) and not problems(name)[0].startswith(UNHEARD_OF) for name in OPTIONS)
