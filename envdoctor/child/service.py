"""[payload] One request served: where the answer goes, and the promise that no process of ours is left.

The answer is JSON lines on a descriptor of its own: ``hello``, then ``start``, ``enter``, ``leave``, ``partial`` and
``result`` events as they happen, then ``end``. With a ``lifeline`` the end of stdin means that nobody listens any more.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, NoReturn

from envdoctor.child import kernel
from envdoctor.child.supervisor import Supervisor

if TYPE_CHECKING:
    from envdoctor.child.paths import Paths

Tell = Callable[[Mapping[str, Any]], None]
_BROKEN, _UNHEARD = 70, 74


def main(request: Dict[str, Any], paths: Paths) -> NoReturn:
    """Serve one request and end, whatever happens."""
    code = _BROKEN
    try:
        paths.full = tuple(request.get("path") or paths.full)
        if "serve" in request:  # something that stays and is spoken to, instead of questions to be answered
            kernel.die_with_parent(signal.SIGKILL)
            paths.load(request["serve"])(request, paths)
            os._exit(0)
        if request.get("lifeline"):
            request["lifeline"] = os.dup(0)
        tell = _voice(request["answer_fd"])
        kernel.die_with_parent(signal.SIGTERM)
        if request.get("parent") in (None, os.getppid()):
            _serve(request, paths, tell)
            code = 0
    except BrokenPipeError:
        code = _UNHEARD
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)


def _serve(request: Dict[str, Any], paths: Paths, tell: Tell) -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    tell({"event": "hello", "python": version, "executable": sys.executable, "pid": os.getpid()})
    supervisor = Supervisor(request, paths, tell)
    try:
        supervisor.run()
    finally:
        supervisor.clear_away()
    tell({"event": "end"})


def _voice(fd: int) -> Tell:
    """Take the answer descriptor for ourselves, and give the function that writes an event to it."""
    own = os.dup(fd)
    if fd > 2:
        os.close(fd)
    else:
        os.dup2(2, fd)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)

    def tell(event: Mapping[str, Any]) -> None:
        line = json.dumps(event, separators=(",", ":")).encode("ascii") + b"\n"
        while line:
            line = line[os.write(own, line) :]

    return tell
