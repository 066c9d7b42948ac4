"""preflight(): what it gives, what it refuses, and that the process it ran in is as it was before."""

from __future__ import annotations

import gc
import importlib.util
import io
import json
import pickle
import signal
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import envdoctor
from envdoctor.config import ConfigError
from envdoctor.facts.host import Environment
from envdoctor.facts.packages import Packages
from envdoctor.facts.torch import TorchImport, TorchSettings
from envdoctor.finding import Finding, Severity, Verdict
from envdoctor.gate.cleared import Cleared
from envdoctor.gate.looking import NO_TORCH_YET
from envdoctor.gate.refusal import Objection, objection, words
from envdoctor.outcome import Got, TimedOut
from envdoctor.render.json import render as to_json
from envdoctor.snapshot import ProbeResult, of
from tests.command import valid
from tests.stands.engine import nothing_left
from tests.stands.program import finished, program

__all__ = ["nothing_left"]

PATIENT = 60.0  # a budget that a loaded machine keeps
has_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no torch in this environment")


@pytest.fixture(autouse=True)
def _away(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the calls away from any configuration file and from torch as other tests have left it."""
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    yield
    assert [] == list(Path.cwd().iterdir())


def preflight(**how: Any) -> Cleared:
    """Call it with a budget for a loaded machine."""
    return envdoctor.preflight(**{"budget_seconds": PATIENT, **how})


def freshness(report: envdoctor.Report) -> dict[str, str]:
    """Map each probe that answered to how fresh its answer is."""
    return {p.name: p.outcome.freshness for p in report.snapshot.probes if isinstance(p.outcome, Got)}


# What it gives


@pytest.mark.usefixtures("nothing_left")
def test_it_gives_a_report_and_works_twice() -> None:
    """It returns a report of level quick that is a document of ours, and does so again when called again."""
    for _ in range(2):
        report = preflight(fail_on="never")
        document = valid(to_json(report))
        assert ("quick", True) == (document["level"], isinstance(report, envdoctor.Report))
        fresh = freshness(report)
        assert ("live", "file") == (fresh["environment"], fresh["host"])


def test_this_processs_environment_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that the program has set for itself is evidence, and marked live."""
    monkeypatch.setenv("NCCL_DEBUGG", "INFO")
    report = preflight(fail_on="never")
    environment = report.snapshot.get(Environment)
    assert environment is not None
    assert "INFO" == environment.get("NCCL_DEBUGG")
    assert "live" == freshness(report)["environment"]


def test_this_processs_module_path_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A package that only sys.path of this process reaches is found, as an import here would find it."""
    metadata = tmp_path / "Only_Here-3.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: Only-Here\nVersion: 3.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path, Path("/no/string")])
    report = preflight(require={"packages": {"only-here": "==3.1"}}, fail_on="never")
    packages = report.snapshot.get(Packages)
    assert packages is not None
    assert ("3.1", []) == (packages.version("only-here"), [f.key for f in report.findings if "only" in f.key])


def test_a_working_directory_that_is_not_on_the_path_hides_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A program of another directory does not import from where it was started; where it does, that is said."""
    (tmp_path / "random.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    assert preflight().finding("torch-shadowed-by-local-file@random") is None
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert preflight(fail_on="never").finding("torch-shadowed-by-local-file@random")
    (tmp_path / "random.py").unlink()


def test_without_torch_it_says_so_and_imports_none() -> None:
    """Where the program has not imported torch, its settings are not read, torch stays out, and a note says it."""
    report = preflight(fail_on="never")
    assert (True, False) == (NO_TORCH_YET in report.notes, "torch" in sys.modules)
    assert (None, None) == (report.snapshot.get(TorchSettings), report.snapshot.get(TorchImport))


def test_a_module_that_only_calls_itself_torch_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stub named torch, whole or half, does not stop the look; what it cannot tell has failed or is not asked."""
    stub = types.ModuleType("torch")
    monkeypatch.setitem(sys.modules, "torch", stub)
    assert NO_TORCH_YET in preflight(fail_on="never").notes
    stub.__version__, stub.backends = "0.0", None  # type: ignore[attr-defined]
    report = preflight(fail_on="never")
    imported = report.snapshot.get(TorchImport)
    assert ("0.0", True) == (
        imported and imported.version,
        "torch-settings" in {p.name for p in report.snapshot.probes},
    )


def test_it_shows_itself_in_a_notebook() -> None:
    """The report has HTML of its own, in which no text of the machine comes to life."""
    report = preflight(fail_on="never")
    assert report._repr_html_().startswith('<div class="envdoctor"')
    bad = "<script>alert(1)</script>"
    finding = Finding(bad, bad, subject=bad, severity=Severity.ERROR, id="some-id")
    assert f"<envdoctor report: errors: some-id@{bad}>" == repr(Cleared(of(), (finding,), (), None, Verdict.ERRORS))
    shown = Cleared(of(), (finding,), (), finding.key, Verdict.ERRORS, notes=(bad,))._repr_html_()
    assert ("<script" in shown, shown.count("&lt;script&gt;") >= 3) == (False, True)


# What it refuses


def test_a_requirement_that_is_not_met_is_refused() -> None:
    """NotReady carries the report and says ids, primary cause, evidence and fix."""
    with pytest.raises(envdoctor.NotReady) as caught:
        preflight(require={"python": ">=99", "packages": {"no-such-thing": "*"}})
    error, said = caught.value, str(caught.value)
    assert error.report is not None
    assert Verdict.ERRORS is error.report.verdict
    first = "This machine is not ready: requirement-not-met@python,\nrequirement-not-met@packages.no-such-thing\n"
    assert said.startswith(first)
    assert f"Python is {sys.version.split()[0]}, >=99 is required" in said
    assert ("uv venv --python '>=99' .venv" in said, "no-such-thing is not installed" in said) == (True, True)
    assert "preflight(require=...)" in said


def test_not_ready_survives_a_pickle() -> None:
    """An exception that a worker process sends to its parent still says everything."""
    with pytest.raises(envdoctor.NotReady) as caught:
        preflight(require={"python": ">=99"})
    again = pickle.loads(pickle.dumps(caught.value))
    assert (envdoctor.NotReady, str(caught.value)) == (type(again), str(again))
    assert again.report.primary == "requirement-not-met@python"


def test_never_refuses_nothing() -> None:
    """With fail_on="never" the report comes back, whatever is in it."""
    report = preflight(require={"python": ">=99"}, fail_on="never")
    assert Verdict.ERRORS is report.verdict


def test_what_is_ignored_does_not_count() -> None:
    """An ignored finding is shown with its reason and stops nothing."""
    report = preflight(require={"python": ">=99"}, ignore={"requirement-not-met": "a test"})
    (finding,) = [each for each in report.findings if each.id == "requirement-not-met"]
    assert finding.ignored is not None
    assert ("a test", "preflight(ignore=...)") == (finding.ignored.reason, finding.ignored.by)
    assert preflight(require={"python": ">=99"}, ignore="requirement-not-met").active == report.active


def test_the_configuration_takes_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The nearest configuration file's requirements and ignores hold; an argument is put over them."""
    (tmp_path / "envdoctor.toml").write_text('[require]\npython = ">=99"\n[ignore]\ngpu-in-use = "shared"\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(envdoctor.NotReady, match="requirement-not-met@python"):
        preflight()
    assert "requirement-not-met" not in {f.id for f in preflight(require={"python": ">=3"}).active}
    (tmp_path / "envdoctor.toml").write_text("requires = 1\n")
    with pytest.raises(ConfigError, match="unknown key 'requires'"):
        preflight()
    (tmp_path / "envdoctor.toml").unlink()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"require": {"gpu": 8}}, "unknown requirement 'gpu': did you mean 'gpus'?"),
        ({"require": {"torch": 2.9}}, 'such as ">=2.9"'),
        ({"require": ["torch"]}, "require is ['torch'], expected a mapping"),
        ({"level": "quik"}, "level: unknown value 'quik': did you mean 'quick'?"),
        ({"level": 1}, "level is 1, expected one of quick, standard, deep"),
        ({"budget_seconds": 0}, "budget_seconds is 0, expected a number of seconds above 0"),
        ({"budget_seconds": "2"}, "budget_seconds is '2', expected a number of seconds above 0"),
        ({"budget_seconds": float("nan")}, "budget_seconds is nan"),
        ({"sync_timeout_seconds": True}, "sync_timeout_seconds is True"),
        ({"fail_on": "warn"}, "fail_on: unknown value 'warn': did you mean 'warning'?"),
        ({"ignore": 3}, "ignore is 3, expected ids"),
        ({"ignore": {"shm-too-small": ""}}, "ignore: 'shm-too-small': '', expected an id and a reason"),
        ({"ignore": ["shm-to-small"]}, "ignore: unknown finding 'shm-to-small': did you mean 'shm-too-small'?"),
        ({"cache": 3}, "cache is 3, expected True, False or a directory"),
        ({"cache": ""}, "cache is '', expected True, False or a directory"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(how: dict[str, Any], said: str) -> None:
    """Each wrong argument is a ValueError that names it, what was expected and the nearest valid word."""
    with pytest.raises(ValueError, match=r"^") as caught:
        preflight(**how)
    assert said in str(caught.value)


def report_of(*findings: Finding, probes: tuple[ProbeResult, ...] = ()) -> Cleared:
    """Make a report of these findings."""
    return Cleared(of(probes=probes), findings, (), None, Verdict.WARNINGS)


def test_what_counts_depends_on_the_severity() -> None:
    """Errors always count, warnings where that was asked, infos never."""
    found = [Finding("x", id=each.value, severity=each) for each in Severity]
    counted = {fail_on: objection(report_of(*found), fail_on).keys for fail_on in ("error", "warning", "never")}
    assert {"error": ("error",), "warning": ("error", "warning"), "never": ()} == counted


@pytest.mark.parametrize(("hung", "counted"), [(False, ()), (True, ("probe-timed-out@cuda-driver",))])
def test_slow_is_no_reason_to_refuse_and_hanging_is(hung: bool, counted: tuple[str, ...]) -> None:
    """A question that did not fit the budget stops nothing, even where warnings count; one that hangs does."""
    late = ProbeResult("cuda-driver", "cuda_driver", TimedOut("no answer", 2.0, hung=hung))
    finding = Finding("x", id="probe-timed-out", subject="cuda-driver", severity=Severity.WARNING)
    assert counted == objection(report_of(finding, probes=(late,)), "warning").keys


def test_a_requirement_that_could_not_be_judged_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is required and could not be found out in time stops the run, and the words say how to give it time."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(envdoctor.NotReady, match="What is required could not be found out: whether python") as caught:
        preflight(require={"python": ">=3"})
    assert caught.value.report is not None
    assert Verdict.UNDETERMINED is caught.value.report.verdict
    assert Verdict.UNDETERMINED is preflight().verdict  # nothing required: open, and not refused
    assert Verdict.UNDETERMINED is preflight(require={"python": ">=3"}, fail_on="never").verdict


def test_words_fit_what_stderr_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a stderr that knows ASCII alone the words are ASCII."""
    report = report_of(Finding("a · b", id="x", severity=Severity.ERROR))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert words(report, Objection(("x",))).isascii()
    monkeypatch.setattr(sys, "stderr", None)
    assert words(report, Objection(("x",))).isascii()


# That nothing is left, wherever it is called


@pytest.mark.usefixtures("nothing_left")
def test_it_works_from_a_thread_and_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """In another thread, with streams that have no descriptor, and with children that nobody waits for."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.StringIO())
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    told: list[Cleared] = []
    try:
        thread = threading.Thread(target=lambda: told.append(preflight(fail_on="never")))
        thread.start()
        thread.join()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert ["live"] == [freshness(each)["environment"] for each in told]
    assert "got" == {p.name: p.outcome.name for p in told[0].snapshot.probes}["host"]


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_as_before(enabled: bool) -> None:
    """The collector rests during the look and is afterwards what it was, also after a refusal."""
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(envdoctor.NotReady):
            preflight(require={"python": ">=99"})
        assert enabled is gc.isenabled()
    finally:
        (gc.enable if before else gc.disable)()


CLOSED = """
import json, sys
for fd in sys.argv[1]:
    os.close(int(fd))
out = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
import envdoctor
before = having()
report = envdoctor.preflight(fail_on="never", budget_seconds=60)
probes = {p.name: p.outcome.name for p in report.snapshot.probes}
os.write(out, json.dumps([before, having(), probes]).encode())
os._exit(0)
"""


@pytest.mark.parametrize("closed", ["0", "01", "12", "012"])
def test_it_works_where_standard_streams_are_closed(closed: str, tmp_path: Path) -> None:
    """A daemon may have closed stdin, stdout and stderr: the look is the same, and their numbers are not left taken."""
    out = tmp_path / "out.json"
    finished(CLOSED, closed, str(out), cwd=tmp_path)
    before, after, probes = json.loads(out.read_text())
    assert (before, "got") == (after, probes["libraries"])


INTERRUPTED = """
import json, signal, sys, threading, time
import envdoctor, envdoctor.rules, envdoctor.runner.collection, envdoctor.gate.looking
envdoctor.preflight(fail_on="never")
from envdoctor.runner import collection
before = having()
listen = collection.Collection._listen
def pressed(self, *streams):
    os.kill(os.getpid(), signal.SIGINT)
    listen(self, *streams)
collection.Collection._listen = pressed
try:
    envdoctor.preflight(budget_seconds=60)
    said = "went on"
except KeyboardInterrupt:
    said = "interrupted"
print(json.dumps([said, before, having()]))
"""


def test_ctrl_c_stays_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C in the middle of the look ends it, leaves nothing, and goes on to the program as KeyboardInterrupt."""
    said, before, after = program(INTERRUPTED, cwd=tmp_path)
    assert ("interrupted", before) == (said, after)


BUDGET = """
import json, time, envdoctor
began = time.monotonic()
report = envdoctor.preflight(budget_seconds=0.001)
took = time.monotonic() - began
print(json.dumps([took, report.verdict.value, list(report.notes), having()]))
"""


def test_what_does_not_fit_the_budget_is_named(tmp_path: Path) -> None:
    """With hardly any budget it comes back soon, undetermined, and names what was skipped."""
    took, verdict, notes, after = program(BUDGET, cwd=tmp_path)
    assert took < 30  # seconds on a loaded machine, where the look takes a minute of patience elsewhere
    assert ("undetermined", []) == (verdict, after["children"])
    assert any("no answer within the budget of 0.001 s" in note and "libraries" in note for note in notes)


LIVE = """
import json, warnings, torch, envdoctor
from torch.utils.data import DataLoader, TensorDataset
torch.set_float32_matmul_precision("high")
torch.use_deterministic_algorithms(True)
envdoctor.preflight(fail_on="never", budget_seconds=60)
before = having()
report = envdoctor.preflight(fail_on="never", budget_seconds=60)
after = having()
settings = report.snapshot.facts["torch_settings"]
evidence = {e.fact: e.freshness for f in report.findings for e in f.evidence}
loader = DataLoader(TensorDataset(torch.arange(64.0)), batch_size=16, num_workers=2, multiprocessing_context="fork")
batches = [float(batch[0].sum()) for batch in loader]
print(json.dumps({
    "before": before, "after": after, "precision": settings.float32_matmul_precision,
    "deterministic": settings.deterministic_algorithms, "evidence": evidence, "sum": sum(batches),
    "fresh": {p.name: getattr(p.outcome, "freshness", "") for p in report.snapshot.probes},
    "version": report.snapshot.facts["torch_import"].version == torch.__version__,
    "mapped": any("libtorch_cpu" in path for path in report.snapshot.facts["mapped_libraries"].paths),
    "cuda": torch.cuda.is_initialized(), "notes": list(report.notes),
}))
"""


@has_torch
@pytest.mark.real_torch
def test_torchs_live_settings_are_read_and_nothing_is_left(tmp_path: Path) -> None:
    """What the program has set in torch is what is judged, marked live; the process is as before, and workers fork."""
    told = program(LIVE, cwd=tmp_path)
    assert told["before"] == told["after"]
    assert ("high", True, True, True) == (told["precision"], told["deterministic"], told["version"], told["mapped"])
    live = {name for name, fresh in told["fresh"].items() if fresh == "live"}
    assert {"environment", "torch-settings", "mapped-libraries", "torch-import"} == live
    assert (2016.0, False, []) == (told["sum"], told["cuda"], told["notes"])
    assert "live" == told["evidence"]["torch_settings.deterministic_algorithms"]


def test_an_import_of_the_package_is_cheap() -> None:
    """The public names are there, and importing the package alone loads nothing of the gate."""
    loaded = program('import json, sys, envdoctor\nprint(json.dumps([n for n in sys.modules if "envdoctor" in n]))')
    assert ["envdoctor"] == [each for each in loaded if not each.startswith("__editable__")]


def test_the_public_call_explains_its_arguments() -> None:
    """Its arguments are those that the documentation promises, and the docstring explains each."""
    names = [each for each in envdoctor.preflight.__annotations__ if each != "return"]
    assert ["require", "level", "budget_seconds", "fail_on", "ignore", "cache", "sync_timeout_seconds"] == names
    assert [] == [each for each in names if f"        {each}: " not in (envdoctor.preflight.__doc__ or "")]


def test_one_interpreter_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter that loads while the caller's rules are imported is the one that is asked."""
    from envdoctor.runner import starting

    begun: list[Any] = []
    start = starting._popen
    monkeypatch.setattr(starting, "_popen", lambda *given: begun.append(given) or start(*given))
    assert preflight(fail_on="error", level="quick").verdict in Verdict
    assert 1 == len(begun)
