"""Probes that misbehave in every way a broken stack does. The engine's tests put this module into the patient."""

# ruff: noqa: D103 - the names say what each does

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from envdoctor.facts import Fact, read_from
from envdoctor.probe import Context, NotThere


@dataclass(frozen=True)
class Thing(Fact):
    """What these probes answer with, when they do."""

    words: str | None = read_from("stand")
    number: float | None = read_from("stand")
    imported: bool | None = read_from("stand")
    error_type: str | None = read_from("stand")
    error: str | None = read_from("stand")


@dataclass(frozen=True)
class Nodes(Fact):
    """A look at device nodes whose answer the test chooses."""

    may_ask_driver: bool = read_from("stand", False)
    may_start_cuda: bool = read_from("stand", False)


def fine(context: Context) -> Thing:
    return Thing(words="fine", number=1.5)


def fine_too(context: Context) -> Thing:
    return Thing(words="fine too")


def absent(context: Context) -> Thing:
    raise NotThere("no such thing here")


def no_nodes(context: Context) -> Nodes:
    return Nodes()


def control_node(context: Context) -> Nodes:
    return Nodes(may_ask_driver=True)


def all_nodes(context: Context) -> Nodes:
    return Nodes(may_ask_driver=True, may_start_cuda=True)


def where_am_i(context: Context) -> Thing:
    return Thing(words=repr((os.getcwd(), context.cwd, sorted(context.environ), context.path[0])))


def whose_json(context: Context) -> Thing:
    import json

    return Thing(words=getattr(json, "WHOSE", "the standard library"))


def dev_root(context: Context) -> Thing:
    return Thing(words=f"{context.roots.dev} {context.options['colour']}")


def what_came_before(context: Context) -> Thing:
    return Thing(words=" ".join(context.facts))


# Ways to die


def segfault(context: Context) -> Thing:
    with context.calling("cuInit"):
        ctypes.string_at(8)
    return Thing()


def segfault_after_a_part(context: Context) -> Thing:
    context.so_far(Thing(words="half"))
    return segfault(context)


def bus_error(context: Context) -> Thing:
    os.kill(os.getpid(), signal.SIGBUS)
    return Thing()


def abort(context: Context) -> Thing:
    sys.stderr.write("terminate called after throwing an instance of 'c10::Error'\n")
    os.abort()


def kill_itself(context: Context) -> Thing:
    os.kill(os.getpid(), signal.SIGKILL)
    return Thing()


def stop_itself(context: Context) -> Thing:
    with context.calling("import torch"):
        os.kill(os.getpid(), signal.SIGSTOP)
    return Thing()


def exit_0(context: Context) -> Thing:
    os._exit(0)


def exit_7_politely(context: Context) -> Thing:
    sys.exit(7)


def recurse(context: Context) -> Thing:
    return recurse(context)


def os_error(context: Context) -> Thing:
    raise OSError("libcudnn.so.9: cannot open shared object file: No such file or directory")


def unspeakable(context: Context) -> Thing:
    class Rude(Exception):  # noqa: N818 - not raised for anyone to catch
        def __str__(self) -> str:
            raise RuntimeError

    raise Rude


def interrupt(context: Context) -> Thing:
    raise KeyboardInterrupt


def no_memory(context: Context) -> Thing:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    return Thing(words=str(len(bytearray(4 << 30))))


def kill_its_parent(context: Context) -> Thing:
    with context.calling("import torch"):
        subprocess.Popen(["sleep", "60"], start_new_session=True)
        time.sleep(0.1)
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return Thing()


def stop_its_parent(context: Context) -> Thing:
    with context.calling("import torch"):
        time.sleep(0.1)  # so that the supervisor has passed on what we are doing
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(60)
    return Thing()


def close_its_stderr_and_crash(context: Context) -> Thing:
    os.close(2)
    return segfault(context)


# Ways not to end


def hang(context: Context) -> Thing:
    with context.calling("cuInit"):
        time.sleep(60)
    return Thing()


def hang_with_the_gil(context: Context) -> Thing:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ctypes.PyDLL(None).sleep(60)
    return Thing()


def work_slowly(context: Context) -> Thing:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        sum(range(100_000))
    return Thing()


def print_slowly(context: Context) -> Thing:
    for _ in range(600):
        _dot()
    return Thing()


def _dot() -> None:
    os.write(1, b".")
    time.sleep(0.1)


def let_a_helper_work(context: Context) -> Thing:
    subprocess.run([sys.executable, "-S", "-c", "while True: pass"], check=False)
    return Thing()


def leave_a_hanging_command(context: Context) -> Thing:
    ran = context.run(["sh", "-c", "echo begun; setsid sleep 60 & sleep 60"], 0.4)
    return Thing(words=f"{ran.exit_code} {ran.stdout!r}")


def hang_a_little(context: Context) -> Thing:
    time.sleep(1.0)
    return Thing(words="at last")


def answer_late(context: Context) -> Thing:
    time.sleep(1.2)
    return Thing(words="late")


# Ways to make a mess


def flood(context: Context) -> Thing:
    block = b"x" * (1 << 20)
    for _ in range(150):
        os.write(1, block)
        os.write(2, block)
    return Thing(words="flooded")


def flood_and_crash(context: Context) -> Thing:
    os.write(2, b"first words\n")
    flood(context)
    os.write(2, b"\nlast words\n")
    return segfault(context)


def not_utf8(context: Context) -> Thing:
    os.write(1, bytes(range(256)))
    os.write(2, b"\xff\xfe broken \x80\n")
    os._exit(3)


def leave_a_child_with_the_pipes(context: Context) -> Thing:
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    return Thing(words="left one")


def fork_and_both_answer(context: Context) -> Thing:
    os.fork()
    return Thing(words="once")


def leave_an_orphan(context: Context) -> Thing:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(60)
        os._exit(0)
    os.wait()
    return Thing(words="left one")


def close_everything(context: Context) -> Thing:
    os.closerange(3, 4096)
    return Thing(words="said nothing")


def freeze_itself(context: Context) -> Thing:
    group = context.options["freezer"]
    with open(os.path.join(group, "tasks"), "w") as file:
        file.write(str(os.getpid()))
    with open(os.path.join(group, "freezer.state"), "w") as file:
        file.write("FROZEN")
    time.sleep(60)
    return Thing()


def read_stdin(context: Context) -> Thing:
    return Thing(words=repr(sys.stdin.read()))


def huge_answer(context: Context) -> Thing:
    return Thing(words="z" * (12 << 20))


def huge_part(context: Context) -> Thing:
    context.so_far(Thing(words="z" * (12 << 20)))
    return Thing(words="fine")


def strange_values(context: Context) -> Thing:
    return Thing(words=b"lib\xff.so".decode("utf-8", "surrogateescape") + "\ud800", number=float("nan"))


def wrong_type(context: Context) -> Any:
    return Thing(number="many")  # type: ignore[arg-type] # that is the point


def not_a_fact(context: Context) -> Any:
    return Thing(words=object())  # type: ignore[arg-type] # that is the point


JUNK = b"""{"event": "result"}
{not json
[]
\xff
{"event": "enter"}
{"event": "enter", "what": 3, "at": "now"}
{"event": "leave", "what": [], "at": null}
{"event": "partial"}
{"event": "forked", "probe": "x", "pid": 1}
{"event": "result", "probe": "another", "outcome": "got"}
{"event": 7}
"""


def junk_on_every_descriptor(context: Context) -> Thing:
    for fd in range(3, 1024):
        _scribble(fd)
    return Thing(words="fine")


def _scribble(fd: int) -> None:
    try:
        os.write(fd, JUNK)
    except OSError:
        return


def left_open(context: Context) -> Thing:
    there = [int(each) for each in os.listdir("/proc/self/fd")]
    return Thing(words=" ".join(str(fd) for fd in there if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}")))


# Commands


def run_a_command(context: Context) -> Thing:
    ran = context.run(["sh", "-c", "echo out; echo err >&2; exit 3"], 5.0)
    return Thing(words=f"{ran.exit_code} {ran.stdout!r} {ran.stderr!r}")


def run_a_killed_command(context: Context) -> Thing:
    return Thing(words=str(context.run(["sh", "-c", "kill -SEGV $$"], 5.0).exit_code))


def run_nothing(context: Context) -> Thing:
    context.run(["no-such-command-anywhere"], 5.0)
    return Thing()


def run_a_flood(context: Context) -> Thing:
    ran = context.run(["sh", "-c", "head -c 300000000 /dev/zero; head -c 1000 /dev/zero >&2"], 10.0)
    return Thing(words=f"{ran.exit_code} {ran.dropped_bytes > 299_000_000}", number=float(len(ran.stderr)))


# A library to import, and questions to ask of it afterwards

IMPORTED: dict[str, Any] = {}


def import_it(context: Context) -> Thing:
    with context.calling("import torch"):
        time.sleep(0.05)
        IMPORTED["at"] = time.monotonic()
        IMPORTED["pid"] = os.getpid()
    return Thing(words="imported", imported=True)


def import_it_and_start_a_thread(context: Context) -> Thing:
    import threading

    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return import_it(context)


def import_fails(context: Context) -> Thing:
    return Thing(imported=False, error_type="ImportError", error="libcudnn.so.9")


def import_maps_a_driver(context: Context) -> Thing:
    import mmap

    with open(context.options["driver"], "rb") as file:
        IMPORTED["map"] = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    return import_it(context)


def import_leaves_a_hanging_fork(context: Context) -> Thing:
    os.register_at_fork(before=lambda: time.sleep(60))
    return import_it(context)


def import_whose_forks_die(context: Context) -> Thing:
    os.register_at_fork(after_in_child=lambda: os._exit(3))
    return import_it(context)


def ask_it(context: Context) -> Thing:
    inherited = IMPORTED.get("pid") != os.getpid()
    return Thing(words=f"imported={bool(IMPORTED)} inherited={inherited} facts={sorted(context.facts)}")


def measure(context: Context) -> Thing:
    """Work for a while, and say from when to when."""
    began = time.monotonic()
    end = began + 0.15
    while time.monotonic() < end:
        pass
    return Thing(words=f"{began} {time.monotonic()}")


def watch(context: Context) -> Thing:
    """Watch until what is measured has ended, and say when that was."""
    began = time.monotonic()
    while not context.over(0.01):
        context.so_far(Thing(words=f"{began} {time.monotonic()}"), "watching")
    return Thing(words=f"{began} {time.monotonic()}")
