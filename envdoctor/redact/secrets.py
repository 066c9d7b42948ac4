"""Secrets in the words of a log: what a name, an option or its own shape marks as one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envdoctor.facts.secret_names import SECRET_WORDS

if TYPE_CHECKING:
    from envdoctor.redact.labels import Labels

_NAME = r"(?:token|secret|passw(?:or)?d|api[_-]?key|access[_-]?key|credentials?)"
# A bare number is none, nor is a token of a text, such as <pad>.
_VALUE = r"(?![\"'<\[(*]|secret-\d|[\d.]{1,12}(?![\w.])|(?:true|false|none|null)\b)([^\s\"',;&]{4,2048})"
_ASSIGNED = re.compile(
    rf"((?<![A-Za-z0-9]){_NAME}[\"']?\s{{0,3}}[=:]\s{{0,3}}[\"']?"
    rf"|(?<![\w-])--(?:[a-z0-9]{{1,30}}[_-]){{0,4}}{_NAME} ){_VALUE}",
    re.IGNORECASE,
)
# Names as variables have them may speak of a secret in any word: SECRET_KEY, SLURM_JWT.
_VARIABLE = re.compile(
    rf"((?<![A-Za-z0-9_])(?:[A-Z0-9]{{1,40}}_){{0,8}}(?:{'|'.join(SECRET_WORDS)})(?:_[A-Z0-9]{{1,40}}){{0,8}}"
    rf"[\"']?\s{{0,3}}[=:]\s{{0,3}}[\"']?){_VALUE}"
)
_SENT = re.compile(r"\b(Bearer |Authorization: Basic )(?!secret-\d)([\w.~+/=-]{8,4096})")
_SHAPED = re.compile(
    r"\b()(hf_[A-Za-z0-9]{16,64}|gh[oprsu]_[A-Za-z0-9]{20,255}|github_pat_\w{20,255}|glpat-[\w-]{16,64}"
    r"|sk-[\w-]{20,255}|xox[abprs]-[\w-]{10,255}|A(?:KI|SI)A[A-Z0-9]{16}|AIza[\w-]{35}"
    r"|eyJ[\w-]{8,256}\.eyJ[\w-]{8,2048}\.[\w-]{4,2048})"
)


def in_text(text: str, labels: Labels) -> str:
    """Replace what a text's own words mark as secret."""
    for pattern in (_SENT, _ASSIGNED, _VARIABLE, _SHAPED):
        text = pattern.sub(lambda found: f"{found[1]}{labels.of('secret', found[2])}", text)
    return text
