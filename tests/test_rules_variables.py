"""Rules about environment variables: misspelt and old names, values without effect, settings that do harm."""

from __future__ import annotations

import pytest

from envdoctor.facts import Fact
from envdoctor.facts.host import Environment, Variable
from envdoctor.facts.libraries import Copy, LedgerRow, Libraries, Toolkit
from envdoctor.facts.nvml import Gpu, GpuFabric, GpuState, NvLink
from envdoctor.facts.surroundings import Fabric, InfinibandPort
from envdoctor.facts.torch import TorchBuild, TorchSettings
from envdoctor.finding import Confidence, Severity, Status
from envdoctor.rule import Rule
from envdoctor.rules.circumstances import CIRCUMSTANCES, Around
from envdoctor.rules.debug_settings import anomaly_or_debug_mode_on
from envdoctor.rules.variable_names import environment_variable_deprecated, environment_variable_unknown
from envdoctor.rules.variable_values import environment_variable_harmful, environment_variable_ineffective
from envdoctor.testing import check
from tests.rule_facts import NO_GPU, NO_NODES

ALL_RULES = (
    environment_variable_unknown, environment_variable_deprecated, environment_variable_ineffective,
    environment_variable_harmful,
)  # fmt: skip
# What images and launchers set by themselves on machines that are well: vLLM, NVIDIA's images, Slurm and torchrun.
COMMON = {
    "CUDA_MODULE_LOADING": "LAZY", "NCCL_CUMEM_ENABLE": "0", "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1", "NCCL_VERSION": "2.21.5-1", "CUDA_VERSION": "12.4.1",
    "PYTORCH_VERSION": "2.6.0a0+ecf3bae", "PYTORCH_BUILD_VERSION": "2.6.0a0+ecf3bae", "PYTORCH_BUILD_NUMBER": "0",
    "PYTORCH_HOME": "/opt/pytorch/pytorch", "TORCH_CUDA_ARCH_LIST": "8.0 9.0+PTX", "NCCL_IB_HCA": "mlx5_0",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1", "TORCH_NCCL_USE_COMM_NONBLOCKING": "0", "NCCL_DEBUG": "WARN",
    "NCCL_SOCKET_IFNAME": "=eth0", "NCCL_IB_TIMEOUT": "22", "OMP_NUM_THREADS": "8", "TORCHELASTIC_RUN_ID": "x",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1", "TORCHVISION_VERSION": "0.20", "NCCL_OFI_ACCL_PROTO": "1",
    "NCCL_TUNER_CONFIG_PATH": "/x", "NCCL_HOME": "/usr", "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "NCCL_P2P_LEVEL": "NVL", "NCCL_NET_GDR_LEVEL": "PIX",
    "NCCL_ALGO": "allreduce:tree,ring;broadcast:^nvlstree", "NCCL_PROTO": "^LL128", "NCCL_MIN_CTAS": "4",
    "TORCH_DISTRIBUTED_DEBUG": "off", "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "NCCL_FASTRAK_NUM_FLOWS": "2",
}  # fmt: skip

TORCH = TorchBuild(version="2.9.1+cu128", cuda="12.8", is_cpu_only=False, arch_list=("sm_80", "sm_90"))
TWO = GpuState(init_code=0, gpus=(Gpu(0), Gpu(1)))
JOINED = GpuFabric(nvlinks=((NvLink(0, active=True),), (NvLink(0, active=True),)))
APART = GpuFabric(nvlinks=((), ()))
IB = Fabric(infiniband=(InfinibandPort("mlx5_0", 1, "4: ACTIVE", "5: LinkUp", link_layer="InfiniBand"),))
EFA = Fabric(infiniband=(InfinibandPort("rdmap16s27", 1, "4: ACTIVE", "5: LinkUp", link_layer="Unknown"),))
FAR = {"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}


def variables(**values: str) -> Environment:
    """Make an environment."""
    return Environment(variables=tuple(Variable(name, value) for name, value in values.items()))


def nccl(version: str, *openmp: str) -> Libraries:
    """Make a ledger in which this NCCL would be loaded, and these OpenMP runtimes."""
    row = LedgerRow("nccl", "libnccl.so.2", first=Copy("/env/libnccl.so.2", version))
    return Libraries(rows=(row,), openmp=tuple(Copy(each) for each in openmp))


def conf(**lines: str) -> Toolkit:
    """Make a /etc/nccl.conf."""
    return Toolkit(nccl_conf=tuple(lines.items()), nccl_conf_path="/etc/nccl.conf")


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.id)
def test_what_images_and_launchers_set_is_left_alone(rule: Rule) -> None:
    """Usual settings on a machine with NVLinks and InfiniBand are no finding of any rule."""
    facts = (variables(**COMMON, **FAR), nccl("2.27.5", "/env/libgomp.so.1"), TORCH, TWO, JOINED, IB, conf())
    assert (Status.PASSED, ()) == (check(rule, *facts).status, check(rule, *facts).findings)


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.id)
def test_unread_environment_is_unknown(rule: Rule) -> None:
    """A job's environment that may not be read is unknown, not clean."""
    checked = check(rule, Environment(unknown={"variables": "another user's process"}), TORCH)
    assert (Status.UNKNOWN, "another user's process") == (checked.status, checked.reason)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("NCCL_P2P_DISABLED", "NCCL_P2P_DISABLE"),
        ("NCCL_DISABLE_P2P", "NCCL_P2P_DISABLE"),
        ("NCCL_SOCKET_IFNAMES", "NCCL_SOCKET_IFNAME"),
        ("TORCHINDUCTOR_CACHEDIR", "TORCHINDUCTOR_CACHE_DIR"),
        ("TORCH_CUDA_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"),
    ],
)
def test_misspelt_name_is_found_with_the_one_that_is_meant(name: str, meant: str) -> None:
    """A name much like a known one is a warning; the fix gives the value its right name and never shows it."""
    finding = check(environment_variable_unknown, variables(**{name: "1"}), nccl("2.27.5"), TORCH).finding
    assert (Severity.WARNING, Confidence.LIKELY, name) == (finding.severity, finding.confidence, finding.subject)
    assert f'export {meant}="${name}"; unset {name}' == finding.fixes[0].commands[0].shell


@pytest.mark.parametrize(("value", "fires"), [("DEBUG", True), ("1", True), ("0", False)])
def test_value_that_the_right_name_does_not_take_is_left_behind(value: str, fires: bool) -> None:
    """TORCH_DISTRIBUTED_DEBUG=DEBUG would keep torch.distributed from being imported; the fix names DETAIL itself."""
    checked = check(environment_variable_unknown, variables(TORCH_DISTRIBUTED_DETAIL=value), TORCH)
    assert fires is checked.fired
    if fires:
        shell = checked.finding.fixes[0].commands[0].shell
        assert "export TORCH_DISTRIBUTED_DEBUG=DETAIL; unset TORCH_DISTRIBUTED_DETAIL" == shell
        assert checked.finding.title.endswith("TORCH_DISTRIBUTED_DEBUG=DETAIL is meant")


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("NCCL_NVLS_DISABLE", "1", "export NCCL_NVLS_ENABLE=0; unset NCCL_NVLS_DISABLE"),
        ("NCCL_P2P_ENABLE", "0", "export NCCL_P2P_DISABLE=1; unset NCCL_P2P_ENABLE"),
        ("NCCL_WIN_DISABLE", "yes", "unset NCCL_WIN_DISABLE"),
        ("TORCHELASTIC_DISABLE_FILE_TIMER", "1",
         "export TORCHELASTIC_ENABLE_FILE_TIMER=0; unset TORCHELASTIC_DISABLE_FILE_TIMER"),
    ],
)  # fmt: skip
def test_name_of_the_opposite_sense_takes_the_opposite_value(name: str, value: str, line: str) -> None:
    """NCCL_NVLS_DISABLE=1 means NCCL_NVLS_ENABLE=0, and not NCCL_NVB_DISABLE=1, which has more letters in common."""
    finding = check(environment_variable_unknown, variables(**{name: value}), nccl("2.30.7"), TORCH).finding
    assert (line, True) == (finding.fixes[0].commands[0].shell, "which says the opposite" in finding.title)


def test_opposite_sense_in_a_file_is_not_renamed() -> None:
    """In a file the line is only shown: under the other name its value would switch on what it is to switch off."""
    finding = check(environment_variable_unknown, variables(), conf(NCCL_NVLS_DISABLE="1"), nccl("2.30.7")).finding
    assert ["grep -n '^NCCL_NVLS_DISABLE' /etc/nccl.conf"] == [each.commands[0].shell for each in finding.fixes]


def test_misspelt_line_of_a_file_is_corrected_there() -> None:
    """A line of /etc/nccl.conf is corrected in the file; a blank before the = is a misspelling too."""
    lines = {"NCCL_IB_HCAS": "mlx5_0", "NCCL_DEBUG ": "INFO"}
    findings = check(environment_variable_unknown, variables(), conf(**lines), nccl("2.27.5"), TORCH).findings
    assert [
        "sudo sed -i 's/^NCCL_IB_HCAS=/NCCL_IB_HCA=/' /etc/nccl.conf",
        "sudo sed -i 's/^NCCL_DEBUG =/NCCL_DEBUG=/' /etc/nccl.conf",
    ] == [each.fixes[0].commands[0].shell for each in findings]
    assert "blank" in findings[1].title
    assert all(each.fixes[0].needs_root for each in findings)


def test_name_of_a_later_release_is_info() -> None:
    """A name that came after this NCCL is info, with both releases; the same name is fine with a newer NCCL."""
    given = variables(NCCL_CTA_POLICY="1")
    finding = check(environment_variable_unknown, given, nccl("2.21.5")).finding
    assert (Severity.INFO, "NCCL 2.21.5 does not read NCCL_CTA_POLICY: it came with 2.27.3") == (
        finding.severity,
        finding.title,
    )
    assert Status.PASSED == check(environment_variable_unknown, given, nccl("2.27.3")).status


@pytest.mark.parametrize(("version", "fires"), [("2.5.1", True), ("2.6.0", False), ("2.9.1", False), ("2.16.0", False)])
def test_between_two_wheels_that_were_read_nothing_is_said(version: str, fires: bool) -> None:
    """TORCH_FR_BUFFER_SIZE is in the 2.9.1 wheel and not in the one of 2.5.1: of 2.6 neither is claimed."""
    build = TorchBuild(version=version, cuda="12.4")
    assert fires is check(environment_variable_unknown, variables(TORCH_FR_BUFFER_SIZE="1"), build).fired


def test_name_that_no_nccl_reads_is_a_lead() -> None:
    """A strange NCCL_ name is info and possible; a newer NCCL than the list may know it; OF_OTHERS are not ours."""
    given = variables(NCCL_FOO_BAR="1")
    finding = check(environment_variable_unknown, given, nccl("2.27.5")).finding
    assert (Severity.INFO, Confidence.POSSIBLE) == (finding.severity, finding.confidence)
    assert Status.PASSED == check(environment_variable_unknown, given, nccl("2.99.1")).status
    assert Status.PASSED == check(environment_variable_unknown, variables(NCCL_OFI_FOO="1"), nccl("2.27.5")).status


def test_misspelling_with_a_newer_nccl_than_the_list_is_a_lead() -> None:
    """What looks misspelt may be a new name: with NCCL 2.99 it is info and possible."""
    finding = check(environment_variable_unknown, variables(NCCL_P2P_DISABLED="1"), nccl("2.99.1")).finding
    assert (Severity.INFO, Confidence.POSSIBLE) == (finding.severity, finding.confidence)


@pytest.mark.parametrize(
    ("version", "status"), [("2.9.1", Status.FIRED), ("2.1.2", Status.PASSED), (None, Status.UNKNOWN)]
)
def test_old_name_is_judged_by_the_release(version: str | None, status: Status) -> None:
    """NCCL_BLOCKING_WAIT is old since torch 2.2, right before, and not judged where the release is not known."""
    facts = (variables(NCCL_BLOCKING_WAIT="1"), TorchBuild(version=version, cuda="12.1"))
    assert status == check(environment_variable_deprecated, *facts).status


def test_old_and_new_name_that_differ() -> None:
    """Where both are set to different values both are shown."""
    given = variables(NCCL_ASYNC_ERROR_HANDLING="0", TORCH_NCCL_ASYNC_ERROR_HANDLING="1")
    finding = check(environment_variable_deprecated, given, TORCH).finding
    assert (Severity.INFO, "TORCH_NCCL_ASYNC_ERROR_HANDLING=1 is set too.") == (finding.severity, finding.detail)


@pytest.mark.parametrize(
    ("name", "value", "release"),
    [
        ("NCCL_P2P_DISABLE", "true", "2.27.5"),
        ("NCCL_NVLS_ENABLE", "no", "2.27.5"),
        ("NCCL_DEBUG", "debug", "2.27.5"),
        ("NCCL_P2P_LEVEL", "nvl", "2.27.5"),
        ("NCCL_ALGO", "Rings", "2.21.5"),
        ("CUBLAS_WORKSPACE_CONFIG", "4096", "2.27.5"),
        ("TORCH_NCCL_DUMP_ON_TIMEOUT", "1", "2.27.5"),
    ],
)
def test_value_without_effect_is_a_warning(name: str, value: str, release: str) -> None:
    """A word where a number is read, an unknown level, a switch that needs another setting."""
    finding = check(environment_variable_ineffective, variables(**{name: value}), nccl(release), TORCH).finding
    assert Severity.WARNING == finding.severity
    assert finding.evidence
    assert finding.fixes


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NCCL_P2P_DISABLE", "0x1"),
        ("NCCL_NVLS_ENABLE", " 1"),
        ("NCCL_DEBUG", "info"),
        ("NCCL_P2P_LEVEL", "4"),
        ("NCCL_IB_HCA", "mlx5"),
    ],
)
def test_value_that_is_read_passes(name: str, value: str) -> None:
    """Numbers in any base, levels in capitals or as old numbers, log levels in any case."""
    assert Status.PASSED == check(environment_variable_ineffective, variables(**{name: value}), nccl("2.27.5")).status


def test_setting_that_lifts_another() -> None:
    """A dump on timeout works once the recorder has a buffer."""
    given = variables(TORCH_NCCL_DUMP_ON_TIMEOUT="1", TORCH_NCCL_TRACE_BUFFER_SIZE="2000")
    assert Status.PASSED == check(environment_variable_ineffective, given, nccl("2.27.5"), TORCH).status


def test_variable_overrules_the_file() -> None:
    """A line that a variable with another value overrules is info; with the same value it is nothing."""
    finding = check(environment_variable_ineffective, variables(NCCL_DEBUG="WARN"), conf(NCCL_DEBUG="INFO")).finding
    assert (Severity.INFO, "NCCL_DEBUG=INFO in /etc/nccl.conf has no effect: the variable is set to WARN") == (
        finding.severity,
        finding.title,
    )
    same = check(environment_variable_ineffective, variables(NCCL_DEBUG="INFO"), conf(NCCL_DEBUG="INFO"))
    assert Status.PASSED == same.status


def test_file_that_is_named_and_missing() -> None:
    """NCCL_CONF_FILE with no such file is a warning: its settings do not hold."""
    toolkit = Toolkit(unknown={"nccl_conf": "NCCL_CONF_FILE=/job/x: there is no such file"})
    finding = check(environment_variable_ineffective, variables(NCCL_CONF_FILE="/job/x"), toolkit).finding
    assert "NCCL_CONF_FILE=/job/x: there is no such file, so that its settings do not hold" == finding.title


def test_secret_is_neither_judged_nor_shown() -> None:
    """A value that was taken out is not compared with anything."""
    environment = Environment(variables=(Variable("NCCL_ALGO", "***", redacted=True),))
    for rule in ALL_RULES:
        assert Status.PASSED == check(rule, environment, nccl("2.27.5"), TORCH).status


HARM: list[tuple[dict[str, str], tuple[Fact, ...], Severity]] = [
    ({"NCCL_P2P_DISABLE": "1"}, (TWO, JOINED), Severity.WARNING),
    ({"NCCL_SHM_DISABLE": "1"}, (TWO,), Severity.WARNING),
    ({"NCCL_IB_DISABLE": "1", **FAR}, (IB,), Severity.WARNING),
    ({"NCCL_NET": "socket", **FAR}, (IB,), Severity.WARNING),
    ({"NCCL_ALGO": "Rings"}, (nccl("2.27.5"),), Severity.ERROR),
    ({"TORCH_NCCL_ASYNC_ERROR_HANDLING": "0", "WORLD_SIZE": "8"}, (), Severity.WARNING),
    ({"TORCH_DISTRIBUTED_DEBUG": "yes"}, (), Severity.ERROR),
    ({"MASTER_ADDR": "localhost", **FAR}, (), Severity.ERROR),
    ({"CUDA_FORCE_PTX_JIT": "1"}, (TORCH,), Severity.ERROR),
    ({"KMP_DUPLICATE_LIB_OK": "TRUE"}, (nccl("2.27.5", "/a/libgomp.so.1", "/b/libiomp5.so"),), Severity.WARNING),
    ({"OMP_PROC_BIND": "true"}, (nccl("2.27.5", "/a/libgomp.so.1"),), Severity.WARNING),
    ({"NCCL_IB_TIMEOUT": "14", **FAR}, (IB, nccl("2.27.5")), Severity.WARNING),
    ({"TORCHDYNAMO_DISABLE": "1"}, (), Severity.INFO),
]
HARMLESS: list[tuple[dict[str, str], tuple[Fact, ...]]] = [
    ({"NCCL_P2P_DISABLE": "1"}, (TWO, APART)),
    ({"NCCL_P2P_DISABLE": "1"}, (GpuState(init_code=0, gpus=(Gpu(0),)), JOINED)),
    ({"NCCL_P2P_DISABLE": "1"}, (NO_GPU, NO_NODES)),
    ({"NCCL_IB_DISABLE": "1"}, (IB,)),
    ({"NCCL_IB_DISABLE": "1", **FAR}, (Fabric(),)),
    ({"NCCL_IB_DISABLE": "1", **FAR}, (EFA,)),
    ({"MASTER_ADDR": "localhost", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8"}, ()),
    ({"CUDA_FORCE_PTX_JIT": "1"}, (TorchBuild(version="2.9.1", cuda="12.8", arch_list=("sm_80", "compute_90")),)),
    ({"KMP_DUPLICATE_LIB_OK": "TRUE"}, (nccl("2.27.5", "/a/libgomp.so.1"),)),
    ({"TORCH_NCCL_ASYNC_ERROR_HANDLING": "0", "WORLD_SIZE": "1"}, ()),
]


@pytest.mark.parametrize(("given", "facts", "severity"), HARM, ids=[next(iter(each[0])) for each in HARM])
def test_setting_does_harm_here(given: dict[str, str], facts: tuple[Fact, ...], severity: Severity) -> None:
    """Each setting together with what makes it harmful."""
    finding = check(environment_variable_harmful, variables(**given), *facts).finding
    assert severity == finding.severity
    assert finding.subject.startswith(next(iter(given)))
    assert all(each.source and each.label for each in finding.evidence)
    assert finding.fixes[0].commands[0].shell


@pytest.mark.parametrize(("given", "facts"), HARMLESS)
def test_same_setting_without_the_circumstance_is_left_alone(given: dict[str, str], facts: tuple[Fact, ...]) -> None:
    """PCIe cards without NVLink, one machine, one process, no RDMA: the setting costs nothing there."""
    assert Status.PASSED == check(environment_variable_harmful, variables(**given), *facts).status


def test_circumstance_that_is_not_known_is_said() -> None:
    """Where nobody could tell whether NVLinks are up, the rule is unknown and says so."""
    checked = check(environment_variable_harmful, variables(NCCL_P2P_DISABLE="1"), TWO)
    assert (Status.UNKNOWN, "NCCL_P2P_DISABLE: whether NVLinks join the GPUs is not known") == (
        checked.status,
        checked.reason,
    )


@pytest.mark.parametrize("name", CIRCUMSTANCES)
def test_circumstance_of_nothing_is_not_known(name: str) -> None:
    """With no fact at all no circumstance holds; only the launcher's variables may be absent for good."""
    assert CIRCUMSTANCES[name][1](Around()) in ([()] if name == "machines" else [None])


def test_debugging_left_on_comes_from_the_table() -> None:
    """A debugging switch fires; the PTX switch is left to the rule about harm where it stops every kernel."""
    given = variables(TRITON_INTERPRET="1", CUDA_FORCE_PTX_JIT="1", TORCH_NCCL_NAN_CHECK="1", DISABLE_PTXAS_OPT="0")
    findings = check(anomaly_or_debug_mode_on, TorchSettings(), given, TORCH).findings
    assert {("TRITON_INTERPRET", Severity.WARNING), ("TORCH_NCCL_NAN_CHECK", Severity.INFO)} == {
        (each.subject, each.severity) for each in findings
    }
