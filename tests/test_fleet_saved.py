"""``envdoctor fleet`` over saved snapshots: one report, what is no snapshot named and left out."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.command import Done, fresh, here, valid
from tests.fleet_members import HEALTHY, changed, document, torch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give eight H100 machines of which one has another torch and two a small /dev/shm, and three other files."""
    for number in range(8):
        changes: dict[str, dict[str, object]] = {"host": {"hostname": f"gpu{number}"}}
        if number == 5:
            changes["torch_build"] = changes["torch_import"] = {"version": "2.8.0+cu128"}
        if number in {2, 3}:
            changes["resources"] = {"shm_total_mib": 64}
        (tmp_path / f"gpu{number}.json").write_bytes(changed(HEALTHY, changes))
    (tmp_path / "broken.json").write_text('{"schema": "envdoctor.snap')
    (tmp_path / "other.json").write_text('{"name": "package", "version": "1.0"}')
    (tmp_path / "notes.txt").write_text("not looked at")
    return tmp_path


def run(*arguments: str | Path, code: int = 0) -> Done:
    """Run the command in this process and hold it to its exit code."""
    done = here("fleet", *map(str, arguments))
    assert code == done.code, done.err + done.out
    return done


def test_one_report_names_the_odd_ones(folder: Path) -> None:
    """Minority and majority, findings with who has them, and the files that are no snapshots."""
    done = run(folder, "--format", "json", code=1)
    told = done.json
    assert "envdoctor.fleet/1" == told["schema"]
    assert (8, "snapshot", "files") == (told["members"], told["noun"], told["ranks"]["launcher"])
    differences = {each["name"]: each["shares"] for each in told["differences"]}
    assert [("2.8.0+cu128", "gpu5"), ("2.9.0+cu128", "gpu[0-4,6-7]")] == [
        (each["value"], each["ranks"]) for each in differences["torch"]
    ]
    on = {each["id"]: each["on"] for each in told["findings"] if each["on"]}
    assert ("gpu[2-3]", 2) == (on["shm-too-small"]["ranks"], on["shm-too-small"]["count"])
    assert ["broken.json", "other.json"] == sorted(Path(each["name"]).name for each in told["skipped"])


def test_a_file_that_is_not_whole_is_named(folder: Path) -> None:
    """Facts that its probes answered and that are gone, a run that was cut short, and facts of a later version."""
    plain = json.loads((folder / "gpu0.json").read_text())
    without = {key: fact for key, fact in plain["facts"].items() if key != "fabric"}
    (folder / "gpu0.json").write_text(json.dumps({**plain, "facts": without}))
    cut = {"name": "sick", "outcome": "failed", "reason": "interrupted before it was asked", "seconds": 0.0}
    (folder / "gpu1.json").write_text(json.dumps({**plain, "interrupted": True, "probes": [*plain["probes"], cut]}))
    (folder / "gpu4.json").write_text(json.dumps({**plain, "facts": {**plain["facts"], "quantum_link": {}}}))
    found = run(folder, "--format", "json", code=1).json["findings"]
    on = {each["key"]: (each["severity"], each["on"]["ranks"]) for each in found if each["id"] == "snapshot-partial"}
    assert on == {
        "snapshot-partial@lost": ("warning", "gpu0"),
        "snapshot-partial@interrupted": ("warning", "gpu1"),
        "snapshot-partial@other-version": ("info", "gpu4"),
    }


def test_a_person_reads_who_differs(folder: Path) -> None:
    """The terminal report says it in a line each, and what the machines are."""
    text = run(folder, code=1).out
    assert "8 snapshots" in text
    assert "torch differs: 2.8.0+cu128 on gpu5, 2.9.0+cu128 on the 7 others" in " ".join(text.split())
    assert "(snapshots gpu[2-3], 2 of 8)" in " ".join(text.split())
    assert "So are 5 of 8: gpu[0-1,4,6-7]" in text
    assert "2 files left out" in text


def test_requirements_are_counted(folder: Path, tmp_path: Path) -> None:
    """A requirement of the configuration is asked of every member, and those that fail it are counted."""
    config = tmp_path / "own.toml"
    config.write_text('[require]\ntorch = ">=2.9"\n')
    told = run(folder, "--config", config, "--format", "json", code=1).json
    assert [("torch", 1, "gpu5")] == [(each["name"], each["failed"], each["ranks"]) for each in told["requirements"]]


@pytest.mark.parametrize("format_", ["markdown", "junit", "sarif", "github", "prometheus"])
def test_other_formats_show_what_is_said_of_all(folder: Path, format_: str) -> None:
    """A format without a form for fleets shows the findings, with who has them in their titles."""
    done = run(folder, "--format", format_, code=1)
    assert "shm-too-small" in done.out


def test_files_and_folders_may_be_named_together(folder: Path) -> None:
    """Named files are read whatever they are called; two of one name are told apart by their paths."""
    (folder / "more").mkdir()
    (folder / "more" / "gpu0.json").write_bytes((folder / "gpu0.json").read_bytes())
    told = run(folder / "gpu0.json", folder / "more", "--format", "json").json
    assert 2 == told["members"]
    assert {} == {each["name"]: each for each in told["differences"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "'nowhere' is not there"),
        (("empty",), "there is no .json file in 'empty'"),
        (("other.json",), "none of the 1 files is a snapshot"),
        (("gpu0.json", "--level", "quick"), "--level says how to collect"),
        (("gpu0.json", "--only", "nothing-like-it"), "nothing-like-it"),
    ],
)
def test_bad_input_is_refused_in_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    """What cannot be meant is a usage error that names the value."""
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder)
    assert words in run(*arguments, code=2).err


def test_without_a_launcher_and_without_files_it_says_how_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started by nobody and given nothing, it is a usage error that shows the way."""
    for name in [each for each in os.environ if each.startswith(("SLURM_", "OMPI_", "RANK", "WORLD_SIZE", "PMI"))]:
        monkeypatch.delenv(name)
    err = run(code=2).err
    assert "torchrun --nproc-per-node 8 --no-python envdoctor fleet" in err
    assert "srun envdoctor fleet" in err


def test_unreadable_and_odd_files_are_named(tmp_path: Path) -> None:
    """A directory without permission, a pipe, a huge file and a wrong fact are left out, each with its reason."""
    (tmp_path / "good.json").write_bytes(document(*torch()))
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(65 << 20)
    wrong = json.loads(document(*torch()))
    wrong["facts"]["torch_build"]["version"] = ["2.9"]
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))
    told = valid(run(tmp_path, "--format", "json", code=3).out)
    why = {Path(each["name"]).name: each["why"] for each in told["skipped"]}
    assert {"gone.json", "huge.json", "pipe.json", "wrong.json"} == set(why)
    assert "no regular file" in why["pipe.json"]
    assert "version" in why["wrong.json"]
    assert 1 == told["members"]


def test_ten_times_as_many_take_ten_times_as_long(tmp_path: Path) -> None:
    """Work grows with the number of members: what is decoded in full and judged does not, where they are alike."""
    from envdoctor.fleet import judging, pool
    from tests.fleet_members import fleet

    def work(count: int) -> tuple[int, Counter[str]]:
        gathered = fleet("snapshot")
        with pytest.MonkeyPatch.context() as patch:
            asked: list[str] = []
            real = judging.run_rule
            patch.setattr(judging, "run_rule", lambda rule, *given: (asked.append(rule.id), real(rule, *given))[1])
            for number in range(count):
                gathered.add(changed(HEALTHY, {"host": {"hostname": f"node{number}"}}), str(number))
            made: pool.Pool = gathered._reader._pool  # type: ignore[union-attr]
            return len(made.contents), Counter(asked)

    (few_contents, few_runs), (many_contents, many_runs) = work(3), work(30)
    assert few_contents == many_contents
    # What reads memory, disk or /dev/shm in use, or how busy a card is, is asked of each.
    each = ("shm-too-small", "gpu-in-use", "gpu-memory-low", "gpu-throttled-power", "compile-toolchain-missing")
    assert dict.fromkeys(each, 27) == many_runs - few_runs


def test_the_command_as_a_user_runs_it(folder: Path) -> None:
    """In a process of its own, with nothing on stderr but what is to be said."""
    done = fresh("fleet", str(folder), "--format", "json")
    assert (1, "") == (done.code, done.err)
    assert 8 == done.json["members"]
