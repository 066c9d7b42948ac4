"""Questions to a process that has imported torch, and the gate before everything that talks to the driver."""

from __future__ import annotations

import pytest

from envdoctor.outcome import Absent, Crashed, Failed, Got
from envdoctor.plan import with_prerequisites
from envdoctor.snapshot import Snapshot
from tests.stands.engine import by_name, collect_from, nothing_left, plan, slowed
from tests.stands.misbehaving import Thing

pytestmark = pytest.mark.usefixtures("nothing_left")
__all__ = ["nothing_left"]

NO_NODE = Absent("no NVIDIA device node in /dev: asking the driver could create one")


def after(importer: str, *questions: str, seconds: float = 5.0) -> Snapshot:
    """Ask questions after an import; the probe that imports bears the real one's name."""
    first = plan(importer, "torch-import", child="torch", seconds=seconds)
    asked = [plan(each, child="torch", after_import=True, seconds=seconds) for each in questions]
    return collect_from([first, *asked])


def words(snapshot: Snapshot, fact: str) -> str:
    """Give the words of one thing."""
    found = snapshot.facts[fact]
    assert isinstance(found, Thing)
    return found.words or ""


def test_each_question_is_asked_in_a_fork_of_the_import() -> None:
    """A question finds the library imported, in another process than the one that imported it."""
    snapshot = after("import_it", "ask_it")
    assert "imported=True inherited=True facts=['torch_import']" == words(snapshot, "ask_it")
    assert Got("fresh-process") == by_name(snapshot)["ask-it"].outcome


def test_a_question_that_crashes_costs_the_others_nothing() -> None:
    """Questions do not share a process."""
    found = by_name(after("import_it", "segfault", "ask_it", "exit_0"))
    assert ["got", "crashed", "got", "crashed"] == [each.outcome.name for each in found.values()]


def test_a_question_that_hangs_has_its_own_deadline() -> None:
    """A hanging question is timed out, and says in what."""
    found = by_name(after("import_it", "hang", "ask_it", seconds=3.0))
    assert "got" == found["ask-it"].outcome.name
    assert found["hang"].outcome.reason.startswith("no answer within 3.0 s in cuInit; it hung")


@pytest.mark.parametrize("importer", ["import_it_and_start_a_thread", "import_leaves_a_hanging_fork"])
def test_a_process_that_must_not_be_forked_is_not(importer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an import that started threads, or whose fork hangs, each question imports for itself."""
    snapshot = after(importer, "ask_it", "fine", seconds=8.0)
    assert "imported=True inherited=False facts=['torch_import']" == words(snapshot, "ask_it")
    assert "fine" == words(snapshot, "fine")


def test_a_process_that_mapped_the_driver_is_not_forked(tmp_path_factory: pytest.TempPathFactory) -> None:
    """CUDA does not survive a fork: after an import that loaded libcuda, each question imports for itself."""
    driver = tmp_path_factory.mktemp("lib") / "libcuda.so.1"
    driver.write_bytes(b"x" * 4096)
    first = plan("import_maps_a_driver", "torch-import", child="torch")
    asked = plan("ask_it", child="torch", after_import=True)
    snapshot = collect_from([first, asked], options={"driver": str(driver)})
    assert "imported=True inherited=False facts=['torch_import']" == words(snapshot, "ask_it")


def test_questions_to_a_library_that_cannot_be_imported_have_failed() -> None:
    """What an import would have to answer is unknown when the import failed."""
    found = by_name(after("import_fails", "ask_it"))
    assert Failed("torch could not be imported: ImportError: libcudnn.so.9") == found["ask-it"].outcome


def test_questions_to_a_library_that_crashes_have_failed() -> None:
    """The import's own end is the reason."""
    found = by_name(after("segfault", "ask_it"))
    assert isinstance(found["torch-import"].outcome, Crashed)
    assert Failed("torch could not be imported: SIGSEGV in cuInit") == found["ask-it"].outcome


def test_questions_to_a_library_that_is_absent_are_absent() -> None:
    """No torch is no fault of the question."""
    assert Absent("no such thing here") == by_name(after("absent", "ask_it"))["ask-it"].outcome


def test_a_question_that_dies_before_it_is_asked_took_no_time() -> None:
    """A handler that ends every fork costs the questions; their seconds do not count from the machine's start."""
    found = by_name(after("import_whose_forks_die", "ask_it"))["ask-it"]
    assert "exit code 3 without an answer in probe ask-it" == found.outcome.reason
    assert found.seconds < 10.0


def test_many_questions_are_all_answered() -> None:
    """More questions than processors wait for their turn."""
    first = plan("import_it", "torch-import", child="torch")
    asked = [plan("ask_it", f"ask-{number}", child="torch", after_import=True) for number in range(9)]
    assert {"got"} == {each.outcome.name for each in collect_from([first, *asked]).probes}


def test_a_question_is_never_taken_for_an_orphan(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Others end while the questions are forked, and a look at our children takes its time: none is killed."""
    environ = slowed(tmp_path_factory.mktemp("site"), "envdoctor.child.vitals", "children_of", 0.03)
    first = plan("import_it", "torch-import", child="torch")
    asked = [plan("ask_it", f"ask-{number}", child="torch", after_import=True) for number in range(6)]
    others = [plan("fine", f"fine-{number}") for number in range(10)]
    snapshot = collect_from([first, *asked, *others], timeout=60.0, environ=environ)
    assert [] == [each for each in snapshot.probes if each.outcome.name != "got"]


def gated(nodes: str, *children: str) -> list[str]:
    """Ask probes behind the gate that this look at the device nodes opens or closes."""
    first = plan(nodes, "device-nodes", child="static")
    asked = [plan("fine", f"fine-{each}", child=each, gated=True) for each in children]
    return [each.outcome.name for each in collect_from([*asked, first]).probes][:-1]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("no_nodes", ["absent", "absent", "absent"]),
        ("control_node", ["got", "absent", "absent"]),
        ("all_nodes", ["got", "got", "got"]),
        ("segfault", ["failed", "failed", "failed"]),
        ("absent", ["failed", "failed", "failed"]),
    ],
)
def test_the_driver_is_asked_only_where_asking_changes_nothing(nodes: str, expected: list[str]) -> None:
    """nvidia-smi needs a control node, CUDA the UVM node too; without knowing, nothing is asked."""
    assert expected == gated(nodes, "nvidia-smi", "libcuda", "cudart")


def test_a_closed_gate_says_why() -> None:
    """The reason names the harm that asking could do."""
    planned = [plan("no_nodes", "device-nodes", child="static"), plan("segfault", child="libcuda", gated=True)]
    assert NO_NODE == by_name(collect_from(planned))["segfault"].outcome


def test_prerequisites_are_added_once() -> None:
    """A gated probe brings the look at the device nodes, a question the import; neither comes twice."""
    asked = [plan("fine", gated=True), plan("ask_it", after_import=True)]
    names = [each.name for each in with_prerequisites(asked)]
    assert ["device-nodes", "torch-import", "fine", "ask-it"] == names
    assert names == [each.name for each in with_prerequisites(with_prerequisites(asked))]
