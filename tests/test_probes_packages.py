"""The distributions on the patient's path, as directory names and a few small files show them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from envdoctor_probes.built_for import built_for, parse_literals, parse_local_tag
from envdoctor_probes.conda import parse_channel
from envdoctor_probes.packages import packages
from envdoctor_probes.records import Entry, parse_record

from envdoctor.facts.packages import Distribution, Packages, SharedFile
from envdoctor.probe import Context
from tests.stands.wheels import Wheel, install

Stands = Callable[[str], Path]


def look(*path: Path, **more: object) -> Packages:
    """Ask the probe about these directories alone."""
    options = {"prefix": str(more.get("prefix", "/nowhere"))}
    environ = {"PATH": str(more.get("binaries", "")), "PYTHONSAFEPATH": "1"}
    fact: Packages = packages.collect(Context(path=tuple(map(str, path)), environ=environ, cwd="/", options=options))
    return fact


def test_distributions_come_in_path_order_with_their_duplicates(tmp_path: Path) -> None:
    """Of two with one name both are kept, and the first on the path is the one that find() gives."""
    install(tmp_path / "a", Wheel("numpy", "2.1.3"))
    install(tmp_path / "b", Wheel("numpy", "1.26.4"))
    fact = look(tmp_path / "a", tmp_path / "b")
    assert [("numpy", "2.1.3"), ("numpy", "1.26.4")] == [(each.name, each.version) for each in fact.distributions]
    assert "2.1.3" == fact.version("numpy")


def test_one_directory_reached_twice_counts_once(tmp_path: Path) -> None:
    """lib64 as a link to lib gives no duplicate."""
    install(tmp_path / "lib", Wheel("numpy", "2.1.3"))
    (tmp_path / "lib64").symlink_to("lib")
    assert 1 == len(look(tmp_path / "lib", tmp_path / "lib64").distributions)


def test_the_local_tag_comes_from_the_metadata(tmp_path: Path) -> None:
    """For torch and its companions METADATA's version counts, whatever the directory's name says."""
    wheel = Wheel("torch", "2.4.1+cu121", requires=("filelock",), tag="cp311-cp311-linux_x86_64")
    install(tmp_path, wheel)
    os.rename(tmp_path / wheel.info, tmp_path / "torch-2.4.1.dist-info")
    (torch,) = look(tmp_path).distributions
    expected = Distribution(
        "torch", "2.4.1+cu121", str(tmp_path), "pip", source="pip", built_for="+cu121, CUDA 12.1",
        requires=("filelock",), wheel_tag="cp311-cp311-linux_x86_64",
    )  # fmt: skip
    assert expected == torch


def test_requirements_are_kept_for_companions_only(tmp_path: Path) -> None:
    """What a package that no rule looks at requires is not collected."""
    install(tmp_path, Wheel("xformers", "0.0.28", requires=("torch==2.4.1",)))
    install(tmp_path, Wheel("requests", "2.0", requires=("urllib3",)))
    assert {"xformers": ("torch==2.4.1",), "requests": ()} == {d.name: d.requires for d in look(tmp_path).distributions}


def test_egg_info_and_egg_link_are_distributions_too(tmp_path: Path) -> None:
    """Debian's egg-info, an egg on the path and a development link are found with name and version."""
    (tmp_path / "PyYAML-5.4.1.egg-info").write_text("Name: PyYAML\nVersion: 5.4.1\n")
    (tmp_path / "six-1.16-py3.9.egg-info").mkdir()
    source = tmp_path / "source"
    (source / "apex.egg-info").mkdir(parents=True)
    (source / "apex.egg-info" / "PKG-INFO").write_text("Name: apex\nVersion: 0.1\n")
    (tmp_path / "apex.egg-link").write_text(f"{source}\n.\n")
    egg = tmp_path / "dllogger-1.0-py3.9.egg"
    (egg / "EGG-INFO").mkdir(parents=True)
    (egg / "EGG-INFO" / "PKG-INFO").write_text("Name: dllogger\nVersion: 1.0\n")
    found = {(d.name, d.version, d.editable) for d in look(tmp_path, egg).distributions}
    assert {
        ("pyyaml", "5.4.1", False),
        ("six", "1.16", False),
        ("apex", "0.1", True),
        ("dllogger", "1.0", False),
    } == found


def test_an_editable_install_is_marked(tmp_path: Path) -> None:
    """direct_url.json tells a source tree under development."""
    wheel = Wheel("deepspeed", "0.15", {"deepspeed-0.15.dist-info/direct_url.json": '{"dir_info": {"editable": true}}'})
    install(tmp_path, wheel)
    (deepspeed,) = look(tmp_path).distributions
    assert deepspeed.editable


def test_conda_marks_its_own_and_adds_what_python_does_not_show(tmp_path: Path) -> None:
    """A conda package is marked with build and channel, pip's replacement stays pip's, and libraries are added."""
    meta = tmp_path / "conda-meta"
    meta.mkdir()
    for name in ("pytorch-2.4.1-py3.11_cuda12.1_0", "numpy-1.26.4-py311_0", "six-1.16-py_0", "cudnn-9.1.0-h1_0"):
        record = {
            "build": "x",
            "channel": "https://user:secret@host.example/t/token-1/pytorch/linux-64",
            "files": ["f"],
        }
        (meta / f"{name}.json").write_text(json.dumps(record))
    site = tmp_path / "lib"
    install(site, Wheel("numpy", "1.26.4", installer="conda"))
    install(site, Wheel("six", "1.17"))
    found = {(d.name, d.version, d.source, d.build, d.channel) for d in look(site, prefix=tmp_path).distributions}
    expected = {
        ("numpy", "1.26.4", "conda", "py311_0", "pytorch"),
        ("six", "1.17", "pip", "", ""),
        ("six", "1.16", "conda", "py_0", "pytorch"),
        ("pytorch", "2.4.1", "conda", "py3.11_cuda12.1_0", "pytorch"),
        ("cudnn", "9.1.0", "conda", "h1_0", "pytorch"),
    }
    assert expected == found


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ('{"build": "0", "channel": "conda-forge"}', "conda-forge"),
        ('"channel": "https://conda.example/t/abc-def/conda-forge/linux-64"', "conda-forge"),
        ('"channel": "https://me:pw@example.org/mirror/pytorch/noarch"', "mirror/pytorch"),
        ("{}", ""),
    ],
)
def test_a_channel_is_named_without_credentials(head: str, expected: str) -> None:
    """User, password, token, host and platform are left out of a channel's name."""
    assert expected == parse_channel(head)


def test_the_kind_of_environment_is_told(tmp_path: Path) -> None:
    """pyvenv.cfg makes a venv, conda-meta a conda environment, neither the system's Python; uv leaves its name."""
    venv, conda, system = tmp_path / "v", tmp_path / "c", tmp_path / "s"
    for folder in (venv, conda / "conda-meta", system):
        folder.mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\nuv = 0.5.1\n")
    told = [look(prefix=each) for each in (venv, conda, system)]
    assert [("venv", True), ("conda", False), ("system", False)] == [(f.environment_kind, f.has_uv) for f in told]


def test_who_else_manages_the_environment_is_told(tmp_path: Path) -> None:
    """The operating system's mark counts outside a venv only; a lock file in the working directory is named."""
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    (tmp_path / "uv.lock").touch()
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "pyvenv.cfg").touch()

    def told(prefix: Path, cwd: str) -> tuple[bool | None, str | None]:
        options = {"prefix": str(prefix), "standard_library": str(tmp_path)}
        fact: Packages = packages.collect(Context(path=(), environ={"PYTHONSAFEPATH": "1"}, cwd=cwd, options=options))
        return fact.externally_managed, fact.lock_file

    assert (True, None) == told(tmp_path, "/")
    assert (False, str(tmp_path / "uv.lock")) == told(tmp_path / "venv", str(tmp_path))


def test_a_directory_that_may_not_be_read_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in an unreadable directory is not taken for absent."""
    real = os.scandir

    def refuse(path: str) -> object:
        if str(path) == str(tmp_path):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert {"distributions": f"Permission denied: {tmp_path}"} == look(tmp_path).unknown


@pytest.mark.gcc
def test_two_owners_of_one_library_are_named(stand: Stands) -> None:
    """The cu11 and cu12 cuDNN wheels both say that libcudnn.so.9 is theirs."""
    owners = ("nvidia-cudnn-cu11", "nvidia-cudnn-cu12")
    expected = (SharedFile("nvidia/cudnn/lib/libcudnn.so.9", owners, same_content=False),)
    assert expected == look(stand("cu11_and_cu12")).shared_files


@pytest.mark.gcc
def test_empty_namespace_files_are_no_shared_files(stand: Stands) -> None:
    """A healthy stack's wheels all bring nvidia/__init__.py; that is no conflict."""
    assert () == look(stand("healthy_cu124")).shared_files


@pytest.mark.gcc
@pytest.mark.parametrize(
    ("name", "package", "expected"),
    [
        ("torchvision_mismatch", "torchvision", "+cu121, CUDA 12.1"),
        ("xformers_mismatch", "xformers", "torch 2.4.1+cu121, CUDA 12.1, Python 3.11.10"),
        ("healthy_cu124", "torch", "+cu124, CUDA 12.4"),
        ("cpu_only", "torch", "+cpu"),
    ],
)
def test_a_companion_says_what_it_was_built_for(stand: Stands, name: str, package: str, expected: str) -> None:
    """The record that a package carries is turned into words."""
    found = look(stand(name)).find(package)
    assert expected == (found.built_for if found else None)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("2.4.1", []),
        ("2.4.1+cu118", ["+cu118", "CUDA 11.8"]),
        ("0.4.0+cu92", ["+cu92", "CUDA 9.2"]),
        ("2.9.0+cu130", ["+cu130", "CUDA 13.0"]),
        ("2.6.3+cu123torch2.3cxx11abiFALSE", ["+cu123torch2.3cxx11abiFALSE", "CUDA 12.3", "torch 2.3"]),
        ("2.8.3+cu12torch2.8cxx11abiTRUE", ["+cu12torch2.8cxx11abiTRUE", "CUDA 12", "torch 2.8"]),
        ("0.7.5+pt24cu121", ["+pt24cu121", "CUDA 12.1", "torch 2.4"]),
        ("2.2.0a0+81ea7a4", ["+81ea7a4"]),
    ],
)
def test_a_local_tag_is_read(version: str, expected: list[str]) -> None:
    """CUDA and torch are read out of the tags that are in use, and a commit's hash is neither."""
    assert expected == parse_local_tag(version)


def test_a_wheel_from_a_url_keeps_its_tag_there_alone(tmp_path: Path) -> None:
    """The file name in direct_url.json names what flash-attn was built for; nothing else of the URL is taken."""
    url = "https://me:pw@example.org/v2/flash_attn-2.6.3%2Bcu123torch2.4cxx11abiFALSE-cp311-cp311-linux_x86_64.whl"
    (tmp_path / "direct_url.json").write_text(json.dumps({"url": url}))
    expected = "+cu123torch2.4cxx11abiFALSE, CUDA 12.3, torch 2.4"
    assert expected == built_for("flash-attn", "2.6.3", str(tmp_path), str(tmp_path))


def test_literals_of_a_version_file_are_read() -> None:
    """Plain and annotated assignments, None and numbers are read; what only Python could compute is left out."""
    text = "__version__ = '1.0.0'\ncuda: Optional[str] = None\nhip: Optional[str] = \"5.6\"  # why\n"
    text += "debug = False\nx = f()\n"
    assert {"__version__": "1.0.0", "cuda": None, "hip": "5.6", "debug": "False"} == parse_literals(text)


def test_a_record_line_with_a_comma_is_read() -> None:
    """Quoted paths and lines without hash or size are entries too."""
    text = '"a,b.py",sha256=x,3\nc.py,sha256=y,0\nRECORD,,\n\n'
    assert [Entry("a,b.py", "sha256=x", 3), Entry("c.py", "sha256=y", 0), Entry("RECORD", "", None)] == list(
        parse_record(text)
    )
