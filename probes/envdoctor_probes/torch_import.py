"""[payload] One ``import torch``: whether it works, how long it takes, and in its own words why it does not."""

from __future__ import annotations

import importlib
import os
import sys
import time
import warnings
from typing import Any, List, Optional, TextIO, Tuple

from envdoctor.facts.torch import TorchImport
from envdoctor.probe import Context, NotThere, probe

MOST_CHARACTERS = 20_000  # of one message: a loader's own words are never this long
MOST_WARNINGS = 20
MOST_EARLIER = 5


class Heard:
    """A stream that passes everything on and remembers the beginning."""

    def __init__(self, through: Optional[TextIO]) -> None:
        self._through = through
        self.text = ""

    def write(self, text: str) -> int:
        """Write and remember."""
        self.text += text[: MOST_CHARACTERS - len(self.text)]
        return self._through.write(text) if self._through is not None else len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._through, name)


@probe(level="standard", child="torch", seconds=90.0)
def torch_import(context: Context) -> TorchImport:
    """Import torch and compute nothing with it: after one parallel region a fork of this process would hang."""
    threads = _threads(context)
    heard, before = Heard(sys.stderr), sys.stderr
    sys.stderr = heard  # NumPy says through sys.stderr what it cannot raise
    started = time.perf_counter()
    try:
        with warnings.catch_warnings(record=True) as caught:
            module, error = _import(context)
    finally:
        seconds = time.perf_counter() - started
        sys.stderr = before
    told = tuple(_words(each.category.__name__, each.message) for each in caught[:MOST_WARNINGS])
    if error is not None:
        return _failed(error, seconds, told, heard.text)
    version, file = getattr(module, "__version__", None), getattr(module, "__file__", None)
    missing = "the module called torch has none: a bare folder, or another package"
    after = _threads(context)
    return TorchImport(
        imported=True,
        seconds=seconds,
        version=None if version is None else str(version),
        file=None if file is None else str(file),
        started_threads=None if threads is None or after is None else after > threads,
        warnings=told,
        printed=heard.text or None,
        unknown={name: missing for name, value in (("version", version), ("file", file)) if value is None},
    )


def _import(context: Context) -> Tuple[Any, Optional[BaseException]]:
    """Import torch; SystemExit and whatever else a broken package raises is an answer, Ctrl-C is not."""
    try:
        with context.calling("import torch"):
            return importlib.import_module("torch"), None
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as error:
        if error.name == "torch":
            raise NotThere("no module named 'torch' on the module search path") from error
        return None, error
    except BaseException as error:
        return None, error


def _failed(error: BaseException, seconds: float, told: Tuple[str, ...], printed: str) -> TorchImport:
    return TorchImport(
        imported=False,
        seconds=seconds,
        error_type=type(error).__name__,
        error=_text(error),
        where=last_frame(error),
        earlier_errors=earlier(error),
        warnings=told,
        printed=printed or None,
    )


def last_frame(error: BaseException) -> Optional[str]:
    """Give the line that raised: file, line and function."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return None
    code = trace.tb_frame.f_code
    return f"{code.co_filename}:{trace.tb_lineno} in {code.co_name}"


def earlier(error: BaseException) -> Tuple[str, ...]:
    """Give the errors that led to this one, the nearest first: often the loader's own words are in an earlier one."""
    found: List[str] = []
    following = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    while following is not None and len(found) < MOST_EARLIER:
        found.append(_words(type(following).__name__, following))
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    return tuple(found)


def _words(kind: str, words: object) -> str:
    return f"{kind}: {_text(words)}"


def _text(words: object) -> str:
    """Give the words of an error or a warning; one whose ``__str__`` fails must not hide that it was raised."""
    try:
        return str(words)[:MOST_CHARACTERS]
    except Exception as error:
        return f"<no words: {type(error).__name__}>"


def _threads(context: Context) -> Optional[int]:
    try:
        return len(os.listdir(os.path.join(context.roots.proc, "self", "task")))
    except OSError:
        return None
