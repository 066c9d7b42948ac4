"""The toolkit probe: nvccs, the host compiler, cuDNN's headers and NCCL's files outside the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from envdoctor_probes.secret_words import without_secrets_in_command
from envdoctor_probes.toolkit import parse_nccl_conf, toolkit
from envdoctor_probes.toolkit_versions import (
    parse_cuda_h,
    parse_nvcc,
    parse_version_json,
    parse_version_line,
    parse_version_txt,
)

from envdoctor.facts.libraries import Compiler, Copy, Toolkit
from envdoctor.probe import Context, NotThere, Ran
from envdoctor.testing import collect
from tests.stands import trees
from tests.stands.trees import Link, Machine, Program

NVCC = (
    "nvcc: NVIDIA (R) Cuda compiler driver\nCopyright (c) 2005-2024 NVIDIA Corporation\n"
    "Cuda compilation tools, release 12.4, V12.4.131\nBuild cuda_12.4.r12.4/compiler.34097967_0\n"
)
TWO_TOOLKITS: Machine = {
    "usr/local/cuda": Link("/usr/local/cuda-12.4"),
    "usr/local/cuda-12.4/bin/nvcc": Program(),
    "usr/local/cuda-12.4/version.json": '{"cuda": {"version": "12.4.1"}, "cuda_nvcc": {"version": "12.4.131"}}',
    "usr/local/cuda-12.4/include/cudnn_version.h": (
        "#define CUDNN_MAJOR 9\n#define CUDNN_MINOR 1\n#define CUDNN_PATCHLEVEL 0\n"
    ),
    "usr/local/cuda-10.2/bin/nvcc": Program(),
    "usr/local/cuda-10.2/version.txt": "CUDA Version 10.2.89\n",
    "usr/include/x86_64-linux-gnu/cudnn_version_v8.h": (
        "#define CUDNN_MAJOR 8\n#define CUDNN_MINOR 9\n#define CUDNN_PATCHLEVEL 7\n"
    ),
    "usr/bin/gcc": Link("x86_64-linux-gnu-gcc-11"),
    "usr/bin/x86_64-linux-gnu-gcc-11": Program(),
}


def toolkit_of(top: Path, machine: Machine, **environ: str) -> Toolkit:
    """Collect the toolkits of a recorded machine."""
    fact = collect(toolkit, trees.write(top, machine), environ=environ)
    assert isinstance(fact, Toolkit)
    return fact


def test_every_toolkit_is_found_with_its_version(tmp_path: Path) -> None:
    """The linked one comes first and counts once; the versions come from the files, nothing is run."""
    fact = toolkit_of(tmp_path, TWO_TOOLKITS)
    expected = (Compiler("/usr/local/cuda/bin/nvcc", "12.4.131"), Compiler("/usr/local/cuda-10.2/bin/nvcc", "10.2.89"))
    assert expected == fact.nvcc
    assert Compiler("/usr/bin/gcc", "11") == fact.host_compiler


def test_cuda_home_comes_first_as_torch_would_have_it(tmp_path: Path) -> None:
    """CUDA_HOME decides before PATH, and PATH before /usr/local/cuda."""
    fact = toolkit_of(tmp_path / "home", TWO_TOOLKITS, CUDA_HOME="/usr/local/cuda-10.2")
    assert ("/usr/local/cuda-10.2", True) == (fact.cuda_home, fact.cuda_home_exists)
    assert "/usr/local/cuda-10.2/bin/nvcc" == fact.nvcc[0].path
    on_path = toolkit_of(tmp_path / "path", TWO_TOOLKITS, PATH="/usr/local/cuda-10.2/bin:/usr/bin")
    assert (None, "/usr/local/cuda-10.2/bin/nvcc") == (on_path.cuda_home, on_path.nvcc[0].path)


def test_cuda_home_that_leads_nowhere_is_said(tmp_path: Path) -> None:
    """A stale CUDA_HOME is kept as it is written, and known not to exist."""
    fact = toolkit_of(tmp_path, {}, CUDA_PATH="/opt/cuda-11.1")
    assert ("/opt/cuda-11.1", False, ()) == (fact.cuda_home, fact.cuda_home_exists, fact.nvcc)
    assert "host_compiler" in fact.unknown


def test_script_before_nvcc_is_looked_through(tmp_path: Path) -> None:
    """Debian's nvcc is a script, and its cuda.h lies in /usr/include."""
    machine: Machine = {
        "usr/bin/nvcc": Program('#!/bin/sh\nexec /usr/lib/nvidia-cuda-toolkit/bin/nvcc "$@"\n'),
        "usr/lib/nvidia-cuda-toolkit/bin/nvcc": Program(),
        "usr/include/cuda.h": "/* x */\n#define CUDA_VERSION 11080\n",
    }
    assert (Compiler("/usr/bin/nvcc", "11.8"),) == toolkit_of(tmp_path, machine, PATH="/usr/bin").nvcc


def test_headers_of_cudnn_tell_their_version(tmp_path: Path) -> None:
    """Each header is given once, by the path that a compiler would see, with links followed beside it."""
    fact = toolkit_of(tmp_path, TWO_TOOLKITS)
    expected = (
        Copy("/usr/include/x86_64-linux-gnu/cudnn_version_v8.h", "/usr/include/x86_64-linux-gnu/cudnn_version_v8.h",
             "8.9.7"),
        Copy("/usr/local/cuda/include/cudnn_version.h", "/usr/local/cuda-12.4/include/cudnn_version.h", "9.1.0"),
    )  # fmt: skip
    assert expected == fact.cudnn_headers


def test_nccl_reads_the_users_file_before_the_machines(tmp_path: Path) -> None:
    """What the first file sets stays; a value that may be a secret is left out."""
    machine: Machine = {
        "home/ada/.nccl.conf": "# mine\nNCCL_DEBUG=INFO\nNCCL_IB_HCA=mlx5_0\n",
        "etc/nccl.conf": "NCCL_DEBUG=WARN\nNCCL_SOCKET_IFNAME=ens1\nNCCL_X_TOKEN=abc\nrubbish\n",
    }
    fact = toolkit_of(tmp_path, machine, HOME="/home/ada")
    pairs = (
        ("NCCL_DEBUG", "INFO"), ("NCCL_IB_HCA", "mlx5_0"), ("NCCL_SOCKET_IFNAME", "ens1"), ("NCCL_X_TOKEN", "***"),
    )  # fmt: skip
    assert (pairs, "/home/ada/.nccl.conf, /etc/nccl.conf") == (fact.nccl_conf, fact.nccl_conf_path)


def test_named_nccl_file_replaces_the_users(tmp_path: Path) -> None:
    """NCCL_CONF_FILE is read instead of ~/.nccl.conf; one that is missing is said."""
    machine: Machine = {"home/ada/.nccl.conf": "NCCL_DEBUG=INFO\n", "job/nccl.conf": "NCCL_ALGO=Ring\n"}
    fact = toolkit_of(tmp_path / "there", machine, HOME="/home/ada", NCCL_CONF_FILE="/job/nccl.conf")
    assert ((("NCCL_ALGO", "Ring"),), "/job/nccl.conf") == (fact.nccl_conf, fact.nccl_conf_path)
    gone = toolkit_of(tmp_path / "gone", machine, HOME="/home/ada", NCCL_CONF_FILE="/job/other.conf")
    assert ((), None) == (gone.nccl_conf, gone.nccl_conf_path)
    assert "/job/other.conf" in gone.unknown["nccl_conf"]


def live(top: Path, said: str, **environ: str) -> tuple[Toolkit, list[list[str]]]:
    """Ask on this machine with only ``top`` on PATH; every command that is run says the same."""
    commands: list[list[str]] = []

    def run(argv: object, _seconds: float) -> Ran:
        commands.append([os.path.basename(str(each)) for each in argv])  # type: ignore[attr-defined]
        if not said:
            raise NotThere("no such command")
        return Ran(0, said)

    fact = toolkit.collect(Context(environ={"PATH": str(top), **environ}, run=run))
    assert isinstance(fact, Toolkit)
    return fact, commands


def program(folder: Path, name: str) -> None:
    """Write a program that is none."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("#!/bin/false\n")
    (folder / name).chmod(0o755)


def test_compiler_is_run_only_where_its_files_do_not_tell(tmp_path: Path) -> None:
    """A name with a number is read; a bare wrapper is asked for its version."""
    program(tmp_path / "a" / "bin", "gcc-13")
    (tmp_path / "a" / "bin" / "gcc").symlink_to("gcc-13")
    fact, commands = live(tmp_path / "a" / "bin", "")
    assert fact.host_compiler is not None
    assert ("13", []) == (fact.host_compiler.version, [each for each in commands if each[0] == "gcc"])
    program(tmp_path / "b" / "bin", "gcc")
    fact, commands = live(tmp_path / "b" / "bin", "gcc (GCC) 11.4.1 20231218 (Red Hat 11.4.1-3)\nCopyright\n")
    assert fact.host_compiler is not None
    assert "11.4.1" == fact.host_compiler.version
    assert ["gcc", "--version"] in commands


def test_own_folder_tells_the_version_of_gcc(tmp_path: Path) -> None:
    """The files of gcc lie in a folder of its version; with one such folder nothing is run."""
    program(tmp_path / "bin", "gcc")
    (tmp_path / "lib" / "gcc" / "x86_64-redhat-linux" / "11").mkdir(parents=True)
    fact, commands = live(tmp_path / "bin", "")
    assert fact.host_compiler is not None
    assert ("11", False) == (fact.host_compiler.version, ["gcc", "--version"] in commands)


def test_chosen_compiler_that_is_missing_is_no_other(tmp_path: Path) -> None:
    """CC decides alone: where it leads nowhere, no other compiler stands in."""
    program(tmp_path, "gcc")
    fact, _ = live(tmp_path, "", CC="clang-99")
    assert (None, "CC=clang-99 is not an executable") == (fact.host_compiler, fact.unknown["host_compiler"])


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (parse_version_json, '{"cuda": {"name": "CUDA SDK", "version": "11.8.0"}}', "11.8.0"),
        (parse_version_json, "{", None),
        (parse_version_json, "[]", None),
        (parse_version_json, '{"cuda": "11"}', None),
        (parse_version_txt, "CUDA Version 10.2.89", "10.2.89"),
        (parse_cuda_h, "#define CUDA_VERSION 13000", "13.0"),
        (parse_cuda_h, "#define OTHER 1", None),
        (parse_nvcc, NVCC, "12.4.131"),
        (parse_nvcc, "no such thing", None),
        (parse_version_line, "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0", "12.2.0"),
        (parse_version_line, "clang version 17.0.6 (Fedora 17.0.6-2.fc39)", "17.0.6"),
        (parse_version_line, "", None),
    ],
)
def test_versions_are_read(parse: object, text: str, expected: str | None) -> None:
    """Each source of a version in its own words, and None for what is none of it."""
    assert callable(parse)
    assert expected == parse(text)


def test_conf_lines_that_are_none_are_left_out() -> None:
    """Comments, blanks and lines without = say nothing."""
    assert (("NCCL_DEBUG", "INFO"),) == parse_nccl_conf("#x=y\n\n =1\nnothing\nNCCL_DEBUG=INFO \n")


def test_blanks_belong_to_the_name() -> None:
    """NCCL sets a variable whose name has the blanks of its line, so that nothing reads it: they are kept."""
    assert (("NCCL_DEBUG ", "INFO"), (" #NCCL_ALGO", "Ring")) == parse_nccl_conf(
        "NCCL_DEBUG = INFO\n #NCCL_ALGO=Ring\n"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("python", "train.py", "--lr", "0.1"), "python train.py --lr 0.1"),
        (("python", "x.py", "--hf-token", "abc", "--n", "2"), "python x.py --hf-token *** --n 2"),
        (("vllm", "--tokenizer", "llama", "--max-tokens=9"), "vllm --tokenizer llama --max-tokens=9"),
        (("python", "x.py", "--api-key=abc"), "python x.py --api-key=***"),
        (("env", "WANDB_API_KEY=abc", "python"), "env WANDB_API_KEY=*** python"),
        (("env", "DB_PASSWORD=abc", "SLURM_JWT=abc", "python"), "env DB_PASSWORD=*** SLURM_JWT=*** python"),
        (("python", "x.py", "+logger.wandb_key=abc", "lr=1"), "python x.py +logger.wandb_key=*** lr=1"),
        (("python", "x.py", "model.tokenizer=a", "key"), "python x.py model.tokenizer=a key"),
        (("python", "https://u:p@host/x"), "python https://***@host/x"),
    ],
)
def test_command_line_is_shown_without_secrets(words: tuple[str, ...], expected: str) -> None:
    """The value of an option or variable whose name speaks of a secret is left out."""
    assert expected == without_secrets_in_command(words)
