"""One import of torch, and the words of what went wrong."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from envdoctor_probes.torch_import import Heard, earlier, last_frame

from tests.stands.probe_process import ask

Stands = Callable[[str], Path]


def imported(*path: Path) -> dict[str, Any]:
    """Import torch from this path in a fresh process."""
    return ask("torch_import", path=path)["torch_import"]


def fake(tmp_path: Path, source: str) -> dict[str, Any]:
    """Import a torch of this source."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(source)
    return imported(tmp_path)


@pytest.mark.gcc
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nvjitlink_old", "undefined symbol: __nvJitLinkComplete_12_4, version libnvJitLink.so.12"),
        ("nccl_missing", "libnccl.so.2: cannot open shared object file: No such file or directory"),
        ("cudnn8_for_9", "libcudnn.so.9: cannot open shared object file: No such file or directory"),
        ("lib_empty", "libcublas.so.12: file too short"),
        ("lib_is_pointer", "libnccl.so.2: invalid ELF header"),
        ("lib_wrong_machine", "libcufft.so.11"),
    ],
)
def test_the_loaders_own_words_are_kept(stand: Stands, name: str, words: str) -> None:
    """An import that the dynamic loader refuses is an answer with the loader's words and the line."""
    fact = imported(stand(name))
    assert (False, "ImportError", True) == (fact["imported"], fact["error_type"], words in fact["error"])
    assert fact["where"].endswith("site/torch/__init__.py:8 in <module>")


@pytest.mark.gcc
def test_a_healthy_import_is_described(stand: Stands) -> None:
    """Version, file and time are told, and nothing is unknown."""
    site = stand("healthy_cu124")
    fact = imported(site)
    assert (True, "2.5.1+cu124") == (fact["imported"], fact["version"])
    assert (str(site / "torch" / "__init__.py"), False, {}) == (fact["file"], fact["started_threads"], fact["unknown"])
    assert 0 < fact["seconds"] < 60


def test_no_torch_is_absent(tmp_path: Path) -> None:
    """Without torch there was no import that could fail."""
    assert {"not there": "no module named 'torch' on the module search path"} == imported(tmp_path)


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("raise SystemExit(7)", "SystemExit", "7"),
        ("def f(): f()\nf()", "RecursionError", "maximum recursion depth exceeded"),
        ("raise OSError('libcublas.so.12: no')", "OSError", "libcublas.so.12: no"),
        ("import torch\ntorch.nothing", "AttributeError", "nothing"),
        ("import no_such_thing", "ModuleNotFoundError", "No module named 'no_such_thing'"),
        ("1 +", "SyntaxError", "invalid syntax"),
        ("class Panic(BaseException): pass\nraise Panic('rust')", "Panic", "rust"),
        ("class E(Exception):\n def __str__(self): raise ValueError\nraise E", "E", "<no words: ValueError>"),
    ],
)
def test_whatever_python_raises_is_an_answer(tmp_path: Path, source: str, kind: str, words: str) -> None:
    """Errors of every kind become a fact with type and words."""
    fact = fake(tmp_path, source)
    assert (False, kind, True) == (fact["imported"], fact["error_type"], words in fact["error"])


def test_the_error_behind_the_error_is_kept(tmp_path: Path) -> None:
    """Torch replaces the loader's error by one of its own; both are told."""
    source = (
        "try:\n    raise OSError('libcudnn.so.9: no')\nexcept OSError:\n    raise ValueError('libcublas not found')"
    )
    fact = fake(tmp_path, source)
    assert ("ValueError", ["OSError: libcudnn.so.9: no"]) == (fact["error_type"], fact["earlier_errors"])


def test_warnings_and_what_numpy_prints_are_kept(tmp_path: Path) -> None:
    """NumPy 2 tells a module of NumPy 1 through stderr, torch through a warning."""
    words = "A module that was compiled using NumPy 1.x cannot be run in NumPy 2.1.3"
    source = f"import sys, warnings\nsys.stderr.write({words!r})\nwarnings.warn('Failed to initialize NumPy')\n"
    fact = fake(tmp_path, source + "__version__ = '2.2.2'\n")
    assert (words, ["UserWarning: Failed to initialize NumPy"]) == (fact["printed"], fact["warnings"])


def test_a_flood_of_words_is_bounded(tmp_path: Path) -> None:
    """Megabytes in a message, a warning or on stderr do not become megabytes of facts."""
    source = (
        "import sys, warnings\nfor i in range(50): warnings.warn('w' * 100000 + str(i))\n"
        "sys.stderr.write('p' * 1000000)\nraise ImportError('e' * 1000000)"
    )
    fact = fake(tmp_path, source)
    assert (20_000, 20_000, 20) == (len(fact["error"]), len(fact["printed"]), len(fact["warnings"]))


def test_threads_that_the_import_starts_are_seen(tmp_path: Path) -> None:
    """A fork after such an import is not safe; the fact says so."""
    source = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    assert fake(tmp_path, source)["started_threads"]


def test_a_bare_folder_imports_and_says_nothing(tmp_path: Path) -> None:
    """A namespace called torch imports without an error, and has neither version nor file."""
    (tmp_path / "torch").mkdir()
    fact = imported(tmp_path)
    assert (True, None, {"version", "file"}) == (fact["imported"], fact["version"], set(fact["unknown"]))


def test_what_is_heard_is_passed_on() -> None:
    """The stream that remembers still writes."""
    import io

    through = io.StringIO()
    heard = Heard(through)
    print("hello", file=heard)
    assert ("hello\n", "hello\n", False) == (heard.text, through.getvalue(), heard.isatty())


def test_an_error_without_a_traceback_has_no_place() -> None:
    """An exception that was never raised has no line, and no earlier ones."""
    assert (None, ()) == (last_frame(ValueError()), earlier(ValueError()))


@pytest.mark.gcc
@pytest.mark.parametrize(
    "name", ["healthy_cu124", "nccl_missing", "toolkit_extras", "xformers_mismatch", "lib_is_pointer"]
)
def test_the_probes_run_on_the_oldest_python(stand: Stands, name: str) -> None:
    """Static facts and the import say the same on Python 3.8, on which a patient may run."""
    python = _python38()
    probes = ("torch_build", "torch_files", "torch_path", "packages", "torch_import", "compile_tools")
    ours, old = (ask(*probes, path=[stand(name)], python=each) for each in (None, python))
    for each in ("torch_build", "torch_files", "torch_path"):
        assert ours[each] == old[each]
    assert ours["packages"]["distributions"] == old["packages"]["distributions"]
    assert ours["torch_import"]["error"] == old["torch_import"]["error"]
    assert old["packages"]["python_version"].startswith("3.8.")


def _python38() -> str:
    """Give a Python 3.8 of this machine, or skip."""
    places = [shutil.which("python3.8"), *sorted(map(str, Path.home().glob(".pyenv/versions/3.8.*/bin/python")))]
    for python in filter(None, places):
        done = subprocess.run(
            [python, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, check=False
        )
        if b"(3, 8)" in done.stdout:
            return python
    pytest.skip("there is no Python 3.8 here")


@pytest.mark.real_torch
def test_the_real_torch_imports_and_computes_nothing() -> None:
    """The real import succeeds, with version and file, in a fresh process."""
    import sys

    site = next(entry for entry in sys.path if (Path(entry) / "torch" / "version.py").exists())
    answers = ask("torch_import", "torch_settings", "torch_cuda", path=[site])
    fact, settings, cuda = (answers[name] for name in ("torch_import", "torch_settings", "torch_cuda"))
    assert (True, None, {}) == (fact["imported"], fact["error"], fact["unknown"])
    assert ("highest", "torch.float32") == (settings["float32_matmul_precision"], settings["default_dtype"])
    if fact["version"].endswith("+cpu"):
        assert (False, "Torch not compiled with CUDA enabled") == (cuda["available"], cuda["error"])
        assert {"cudnn_version", "nccl_version"} == set(settings["unknown"])
