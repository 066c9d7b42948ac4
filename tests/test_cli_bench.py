"""``envdoctor bench`` on the command line: what it may be told, how it ends, and where its result goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envdoctor.bench.compare import compare
from envdoctor.bench.result import result_of
from envdoctor.bench.run import Run
from envdoctor.bench.statistics import Change
from envdoctor.cli import bench, bench_options
from envdoctor.cli.bench_progress import BenchProgress, line
from envdoctor.cli.bench_threads import left_of, threads_left
from envdoctor.diagnose import examine
from envdoctor.facts.bench import BenchGemm
from envdoctor.plan import BUDGETS, CPU_BUDGETS, DEFAULT_SUITES, SUITES
from envdoctor.snapshot import Snapshot, of
from tests.bench_machines import cards
from tests.bench_machines.making import clocks, product
from tests.command import Done, here, valid
from tests.healthy_machines.servers import a100_on_driver_535
from tests.test_rules_measured import between_gpus, outlier


def snapshot(run: Run) -> Snapshot:
    """Give what a machine would have answered on which all is well, with this benchmark beside it."""
    machine, made = a100_on_driver_535(), of(*cards.facts_of(run))  # type: ignore[arg-type]
    return replace(machine, facts={**machine.facts, **made.facts}, probes=(*machine.probes, *made.probes))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let the command measure a constructed machine: ``answer`` is what it finds, ``asked`` what it was told."""
    told: dict[str, Any] = {"answer": snapshot(cards.a100())}

    def measure(given: dict[str, Any], _settled: Any, _catalogue: Any, seconds: dict[str, float]) -> Snapshot:
        told["asked"] = bench_options.measuring(given, seconds)
        found: Snapshot = told["answer"]
        return found

    monkeypatch.setattr(bench, "_measure", measure)
    monkeypatch.setattr(bench_options, "has_gpu", lambda: True)
    return told


def ask(*words: str) -> Done:
    """Run the command in this process."""
    return here("bench", *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--suite", "gem"), "unknown suite 'gem': did you mean 'gemm'?"),
        (("--suite", "gemm,laddr"), "unknown suite 'laddr': did you mean 'ladder'?"),
        (("--suite", ","), "names no suite"),
        (("--model", "vit-b16"), "unknown model 'vit-b16': did you mean 'vit_b16'?"),
        (("--model", "resnet"), "did you mean 'resnet50'?"),
        (("--device", "gpu"), "unknown device 'gpu'"),
        (("--device", "cuda:x"), "unknown device 'cuda:x'"),
        (("--quick", "--full"), "use one"),
        (("--epochs", "0"), "'--epochs'"),
        (("--gpus", "many"), "'many'"),
        (("--price-per-gpu-hour", "-1"), "'--price-per-gpu-hour'"),
        (("--timeout", "0"), "is not a number of seconds above 0"),
        (("--memory-fraction", "2"), "'--memory-fraction'"),
        (("--compare", "/nowhere.json"), "--compare: '/nowhere.json' cannot be read: No such file or directory"),
        (("-o", "/nowhere/x.json"), "--output: '/nowhere/x.json' cannot be written"),
        (("--python", "/no/python"), "--python: '/no/python' is not there"),
        (("--modle", "vit_b16"), "did you mean '--model'?"),
    ],
)
def test_bad_input_names_the_value_and_the_nearest_valid_one(words: tuple[str, ...], said: str) -> None:
    """What cannot be used is named before anything is measured: exit 2."""
    done = ask(*words)
    assert (2, True) == (done.code, said in done.err), done.err


def test_a_file_that_holds_no_benchmark(tmp_path: Path) -> None:
    """A snapshot of a check is no result to compare with, and the words say what one is."""
    from envdoctor.snapshot import save

    file = tmp_path / "snapshot.json"
    file.write_bytes(save(of()))
    done = ask("--compare", str(file))
    assert 2 == done.code
    assert "holds no benchmark; expected a file that 'envdoctor bench -o FILE' wrote" in done.err


def test_defaults(measured: dict[str, Any]) -> None:
    """ViT-B/16, the six default suites, within the default budget."""
    ask()
    asked = measured["asked"]["bench"]
    assert ("vit_b16", "default", DEFAULT_SUITES) == (asked["model"], asked["budget"], tuple(asked["seconds"]))
    assert BUDGETS["default"] == pytest.approx(sum(asked["seconds"].values()))
    assert {"device", "batch", "images", "ranks"} & set(asked) == set()


def test_what_is_asked_for_reaches_the_probes(measured: dict[str, Any]) -> None:
    """Model, device, batch, folder and suites are handed on; suites run in their own order, each once."""
    ask("--suite", "ladder,gemm,gemm", "--model", "mine:make", "--device", "1", "--batch", "8", "--data", "/images",
        "--quick", "--ranks", "2", "--memory-fraction", "0.5")  # fmt: skip
    asked = measured["asked"]["bench"]
    assert ("mine:make", "cuda:1", 8, "/images", "quick", 2, 0.5) == tuple(
        asked[name] for name in ("model", "device", "batch", "images", "budget", "ranks", "memory_fraction")
    )
    assert ["gemm", "ladder"] == list(asked["seconds"])
    ask("--suite", "all")
    assert set(SUITES) == set(measured["asked"]["bench"]["seconds"])


def test_a_short_timeout_shortens_what_is_measured(measured: dict[str, Any]) -> None:
    """The suites share what is left after the start; a timeout never leaves them more than the budget."""
    ask("--timeout", "100")
    short = sum(measured["asked"]["bench"]["seconds"].values())
    assert 30 <= short <= 60
    ask("--timeout", "10000")
    assert BUDGETS["default"] == pytest.approx(sum(measured["asked"]["bench"]["seconds"].values()))


@pytest.mark.parametrize(
    ("run", "words", "code"),
    [
        (cards.a100, (), 0),
        (cards.cpu, (), 0),
        (outlier, (), 0),
        (outlier, ("--fail-on", "warning"), 1),
        (outlier, ("--fail-on", "never"), 0),
    ],
)
def test_exit_codes(measured: dict[str, Any], run: Any, words: tuple[str, ...], code: int) -> None:
    """A finding counts from --fail-on on, as everywhere."""
    measured["answer"] = snapshot(run())
    assert code == ask(*words).code


def test_nothing_measured_is_undetermined(measured: dict[str, Any]) -> None:
    """Without a single measurement there is no good news: exit 3."""
    measured["answer"] = of()
    found = ask()
    assert (3, True) == (found.code, "Nothing could be measured." in found.out)


def test_ctrl_c_keeps_what_was_measured(measured: dict[str, Any]) -> None:
    """An interrupted run is judged and shown: exit 130."""
    measured["answer"] = replace(snapshot(replace(cards.a100(), model=None, ladder=None)), interrupted=True)
    found = ask()
    assert 130 == found.code
    assert "Interrupted: this is what was measured by then." in found.out
    assert "bf16" in found.out


def test_json_on_stdout_and_in_a_file(measured: dict[str, Any], tmp_path: Path) -> None:
    """``--format json`` writes the document alone; ``-o`` writes the same beside whatever stdout shows."""
    file = tmp_path / "a100.json"
    found = ask("--format", "json", "-o", str(file))
    written = found.json
    assert written == valid(file.read_text())


@pytest.mark.parametrize("name", ["markdown", "junit", "sarif", "github", "prometheus", "jsonl"])
def test_other_formats_carry_the_findings(measured: dict[str, Any], name: str) -> None:
    """Formats that know no measurements get the report: what is slow is in it."""
    measured["answer"] = snapshot(outlier())
    found = ask("--format", name)
    assert 0 == found.code
    assert "gemm-below-reference" in found.out


def test_compare_with_an_earlier_result(measured: dict[str, Any], tmp_path: Path) -> None:
    """Before and after: what became slower stands below the result, and in JSON beside it."""
    before = tmp_path / "before.json"
    measured["answer"] = snapshot(cards.rtx3080())
    ask("-o", str(before))
    measured["answer"] = snapshot(outlier())
    text = ask("--compare", str(before)).out
    assert "Compared with the result of" in text
    assert "slower" in text
    document = ask("--compare", str(before), "--format", "json").json
    assert document["compare"]["counts"]["slower"] > 0


def test_projection_is_asked_for_on_a_cpu_and_given_on_a_gpu(measured: dict[str, Any]) -> None:
    """300 epochs of ImageNet on a CPU interest nobody who did not ask."""
    assert 1_281_167 == ask("--format", "json").json["projection"]["dataset_images"]
    measured["answer"] = snapshot(cards.cpu())
    assert ask("--format", "json").json["projection"] is None
    asked = ask("--format", "json", "--images", "1000", "--gpus", "2").json["projection"]
    assert (1000, 300, 2) == (asked["dataset_images"], asked["epochs"], asked["gpus"])


def test_epochs_of_images_are_not_projected_of_sequences(measured: dict[str, Any]) -> None:
    """A model that takes no images has no ceiling of images either, and its speed is said in what it takes."""
    run = cards.a100()
    assert run.ladder is not None
    rows = tuple(replace(each, measured=replace(each.measured, work_unit="sequence")) for each in run.ladder.rows)
    ladder = replace(run.ladder, rows=rows, model="bert_base")
    measured["answer"] = snapshot(replace(run, model=None, ladder=ladder, loader=cards.loader(400.0)))
    document = ask("--format", "json").json
    assert (None, None, "compute") == (
        document["projection"],
        document["limits"]["loader"],
        document["limits"]["binds"],
    )
    assert "sequences/s untuned" in ask().out
    asked = ask("--format", "json", "--images", "1000").json["projection"]
    assert (1000, "compute") == (asked["dataset_images"], asked["binds"])


def test_a_result_can_be_checked_again(measured: dict[str, Any], tmp_path: Path) -> None:
    """``check --from`` shows the findings of a saved result in a report's form."""
    file = tmp_path / "slow.json"
    measured["answer"] = snapshot(outlier())
    ask("-o", str(file))
    done = here("check", "--from", str(file), "--fail-on", "warning", "--only", "measured")
    assert (1, True) == (done.code, "gemm-below-reference" in done.out), done.err


def test_models_are_listed() -> None:
    """``list models`` names what --model takes."""
    done = here("list", "models", "--format", "json")
    assert (0, "vit_b16") == (done.code, done.json["models"][0]["model"])


def test_progress_says_what_runs_and_what_is_left() -> None:
    """The line names the measurement under way, the clocks, and the suites to come; what is left goes first."""
    progress = BenchProgress(("gemm", "memory", "ladder"))
    progress({"event": "enter", "probe": "bench-gemm", "what": "gemm: gemm bf16 8192x8192x8192", "at": 0.0})
    progress({"event": "partial", "probe": "bench-clocks", "note": "1410 MHz, 390 W"})
    assert (("memory", "ladder"), "1410 MHz, 390 W") == (progress.left(), progress.clocks)
    progress({"event": "result", "probe": "bench-gemm", "outcome": "got"})
    progress({"event": "enter", "probe": "bench-memory", "what": "memory: copy", "at": 1.0})
    assert ("ladder",) == progress.left()
    told = (12.0, "gemm: bf16 8192x8192x8192", ("memory", "ladder"), "1410 MHz, 390 W")
    assert "12 s  gemm: bf16 8192x8192x8192  [1410 MHz, 390 W]  then memory, ladder" == line(*told, 100)
    assert "12 s  gemm: bf16 8192x8192x8192  [1410 MHz, 390 W]" == line(*told, 60)
    assert "12 s  gemm: bf16 8192x8192x8192" == line(*told, 40)
    assert 19 == len(line(*told, 20))


def test_two_results_are_compared(measured: dict[str, Any], tmp_path: Path) -> None:
    """``diff`` compares two saved results, as text and as JSON that follows its schema."""
    files = [tmp_path / "before.json", tmp_path / "after.json"]
    for file, run in zip(files, (cards.rtx3080(), outlier()), strict=True):
        measured["answer"] = snapshot(run)
        ask("-o", str(file))
    done = here("diff", str(files[0]), str(files[1]))
    assert (0, True) == (done.code, "slower" in done.out), done.err
    counts = here("diff", str(files[0]), str(files[1]), "--format", "json").json["counts"]
    assert counts["slower"] > 0
    same = here("diff", str(files[0]), str(files[0]), "--format", "json").json
    assert (0, 0, []) == (same["counts"]["slower"], same["counts"]["faster"], same["facts"])


def test_what_cannot_be_compared_is_named(tmp_path: Path) -> None:
    """A file that is no result is a usage error that names which of the two it is."""
    done = here("diff", "/etc/hostname", str(tmp_path / "nothing.json"))
    assert (2, True) == (done.code, "BEFORE: /etc/hostname: not JSON" in done.err)


def test_on_a_cpu_most_of_the_time_is_for_the_ladder(measured: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies to a device are none there, and a step takes seconds; whether it was asked for or is all there is."""
    found = []
    for arguments, gpu in ((("--device", "cpu"), True), ((), False)):
        monkeypatch.setattr(bench_options, "has_gpu", lambda gpu=gpu: gpu)
        ask(*arguments)
        found.append(measured["asked"]["bench"]["seconds"])
    assert found[0] == found[1]
    assert CPU_BUDGETS["default"] == pytest.approx(sum(found[0].values()))
    assert found[0]["ladder"] > sum(found[0].values()) / 2


@pytest.mark.parametrize(
    ("usable", "cpus", "busy", "load", "left"),
    [
        (2, 2, 0.0, 0.0, None),
        (2, 2, 20.0, 0.4, None),
        (2, 2, 50.0, 0.4, 1),
        (2, 2, 100.0, 0.0, 1),
        (2, 2, 0.0, 2.0, None),  # left behind by a benchmark
        (2, 2, 0.0, 4.3, 1),  # a quiet moment on a busy machine
        (64, 64, 50.0, 32.0, 32),
        (4, 64, 50.0, 32.0, None),
    ],
)
def test_threads_for_the_cpus_that_are_idle(usable: int, cpus: int, busy: float, load: float, left: int | None) -> None:
    """One at the least; a program elsewhere takes none from a process that may use a few of many CPUs."""
    assert left == left_of(usable, cpus, busy, load)


def test_a_chosen_number_of_threads_is_left_alone() -> None:
    """OMP_NUM_THREADS is the user's word."""
    assert threads_left({"OMP_NUM_THREADS": "2"}) is None


@pytest.mark.parametrize(("label", "said"), [("burst", Change.SLOWER), ("sustained", None)])
def test_a_clock_counts_against_a_card_that_was_as_warm(label: str, said: Change | None) -> None:
    """A card that was heated for longer has a lower clock by that alone."""
    results = []
    for rate, mhz, how in ((245.0, 1410, "burst"), (174.0, 1000, label)):
        gemm = BenchGemm(measured=(replace(product("bf16", rate, 0), label=how),))
        found = Run(cards.a100().device, clocks=clocks(mhz=mhz), gemm=gemm)
        results.append(result_of(examine(snapshot(found))))
    (pair,) = compare(*results).pairs
    assert (Change.AMBIGUOUS, said) == (pair.found.change, pair.found.by_clock)


def test_copies_between_gpus_are_shown(measured: dict[str, Any]) -> None:
    """Each pair is a measurement; in the terminal only all of them together."""
    measured["answer"] = snapshot(between_gpus())
    rows = [each for each in ask("--format", "json").json["measurements"] if "peer-copy" == each["name"]]
    assert [("cuda:1", "GB/s", "unknown")] == [(each["config"]["to"], each["unit"], each["verdict"]) for each in rows]
    assert "peer-copy from cuda:0 to cuda:1" in ask("--show", "all").out
    assert "peer-copy" not in ask().out
