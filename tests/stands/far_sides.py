"""Commands that lead to a far side, and everything that can go wrong on the way: what ``--via`` is tested with.

Each maker writes a small program into a folder and gives the words of ``--via``.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

# Hands its words to a shell as ssh does: joined, without quotes of their own.
LIKE_SSH = '#!/bin/sh\neval "$*"\n'
BANNER = """#!/bin/sh
printf 'Welcome to node7!\\n{"event": 3}\\nQuota: 93 %% used'
printf 'authorised use only \\377\\376\\n' >&2
exec "$@"
"""
NO_INPUT = '#!/bin/sh\nexec "$@" </dev/null\n'
OLD = "#!/bin/sh\necho 'Python 2.7.18 is installed as python3 here' >&2\nexit 1\n"
ASKS_ON_TERMINAL = """#!/bin/sh
printf "bob@node7's password: " >&2
read word </dev/tty || { echo "Permission denied (password)" >&2; exit 255; }
exec "$@"
"""
ASKS_ON_INPUT = """#!/bin/sh
printf 'Password: ' >&2
read word
echo 'su: Authentication failure' >&2
exit 1
"""
HANGS = "#!/bin/sh\nexec sleep 60\n"
# Passes everything on until a line of the answer holds a word; then it does something else.
UNTIL = """#!{python}
import os, signal, subprocess, sys, time
far = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE)
once = {once!r}
well = once and os.path.exists(once)
for line in far.stdout:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    if {word!r} in line and not well:
        break
if well:
    sys.exit(far.wait())
if once:
    open(once, "w").close()
{then}
"""
THEN_DIE = "far.kill()\nfar.wait()\nsys.stderr.write('Connection to node7 closed by remote host.\\n')\nsys.exit(255)"
THEN_STALL = "far.send_signal(signal.SIGSTOP)\ntime.sleep(60)"
# Answers what nobody asked: {megabytes} of it.
FLOODS = """#!{python}
import json, sys
megabyte = {filler!r} * (1 << 20)
out = sys.stdout
{before}
for _ in range({megabytes}):
    out.write(megabyte)
out.flush()
{after}
"""
CLAIMS = """#!{python}
import json, sys
words = "x" * {size}
say = lambda **event: print(json.dumps(event), flush=True)
say(event="ready", at=1.0)
say(event="hello", python="3.11.7", executable="/bin/true", pid=1)
for name in {names!r}:
    say(event="start", probe=name, at=1.0)
    say(event="result", probe=name, outcome="got", freshness="file", seconds=0.1,
        fact=dict(hostname=words, variables=[dict(name=words, value="")]))
say(event="end")
"""


def script(folder: Path, text: str, name: str = "way") -> str:
    """Write a program and give the words that start it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(text, encoding="utf-8")
    file.chmod(0o755)
    return shlex.quote(str(file))


def until(folder: Path, word: str, then: str, *, once: Path | None = None) -> str:
    """Give a way that behaves until ``word`` is in a line of the answer; with ``once`` a second start behaves."""
    told = {"python": sys.executable, "word": word.encode(), "then": then, "once": str(once) if once else ""}
    return script(folder, UNTIL.format(**told))


def flood(folder: Path, *, megabytes: int, filler: str, before: str = "", after: str = "") -> str:
    """Give a way that answers so many megabytes."""
    told = {"python": sys.executable, "megabytes": megabytes, "filler": filler, "before": before, "after": after}
    return script(folder, FLOODS.format(**told))


def claims(folder: Path, names: list[str], size: int) -> str:
    """Give a way that pretends to be a patient and answers each question with so many characters."""
    return script(folder, CLAIMS.format(python=sys.executable, names=names, size=size))
