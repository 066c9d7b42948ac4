"""Completion in the shells themselves: bash, zsh and fish ask the real command, and get what it knows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ASKED = {
    "commands": ("envdoctor chec", {"check"}),
    "options": ("envdoctor check --lev", {"--level"}),
    "words": ("envdoctor check --level st", {"standard"}),
    "ids": ("envdoctor explain shm-too", {"shm-too-small"}),
    "groups": ("envdoctor check --only fabri", {"fabric", "fabric-manager-missing"}),
}
BASH = """
eval "$(_ENVDOCTOR_COMPLETE=bash_source envdoctor)"
COMP_WORDS=($LINE); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE=$LINE; COMP_POINT=${#LINE}
_envdoctor_completion envdoctor
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = """
_ENVDOCTOR_COMPLETE=fish_source envdoctor | source
complete --do-complete="$LINE" | string split --fields 1 \\t
"""
# zsh completes only what is typed: a second one is driven through its own pseudo-terminal.
ZSH = r"""
zmodload zsh/zpty
zpty shell env -u TMOUT TERM=dumb COLUMNS=200 zsh -f -i
zpty -w shell 'PS1= PS2= ; unsetopt zle_bracketed_paste; autoload -Uz compinit; compinit -u -D; setopt no_list_beep'
zpty -w shell 'eval "$(_ENVDOCTOR_COMPLETE=zsh_source envdoctor)"'
zpty -w shell 'zstyle ":completion:*" list-prompt ""; zstyle ":completion:*" select-prompt ""; LISTMAX=0; print ready'
zpty -r shell seen '*ready*'
zpty -r shell seen '*ready*'
zpty -w -n shell "$LINE"$'\t\t'
integer tries=0
text=
while (( tries++ < 100 )) { zpty -rt shell part && text+=$part; [[ $text == *$WANTED* ]] && break; sleep 0.1 }
print -r -- $text
zpty -d shell
"""


def ask(shell: str, script: str, line: str, tmp_path: Path, **more: str) -> str:
    """Run a script in a shell, with the command of this environment first on the path."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here: scripts/get-test-tools installs it where apt-get may")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "LINE": line, "HOME": str(tmp_path), **more}
    command = [shell, "-f" if shell == "zsh" else "--no-config" if shell == "fish" else "--norc", "-c", script]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout


@pytest.mark.parametrize("name", ASKED)
def test_bash_completes(name: str, tmp_path: Path) -> None:
    """Bash offers what fits, and nothing else."""
    line, wanted = ASKED[name]
    assert wanted == set(ask("bash", BASH, line, tmp_path).split())


@pytest.mark.parametrize("name", ASKED)
def test_fish_completes(name: str, tmp_path: Path) -> None:
    """Fish offers what fits, and nothing else."""
    line, wanted = ASKED[name]
    assert wanted == set(ask("fish", FISH, line, tmp_path).split())


@pytest.mark.parametrize("name", ["commands", "options", "words", "ids"])
def test_zsh_completes(name: str, tmp_path: Path) -> None:
    """Zsh completes the one thing that fits when Tab is pressed."""
    line, wanted = ASKED[name]
    (word,) = wanted
    completed = f"{line.rpartition(' ')[0]} {word}"
    assert completed in ask("zsh", ZSH, line, tmp_path, WANTED=completed)
