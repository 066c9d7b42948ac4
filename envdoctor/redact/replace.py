"""Find what is private in a snapshot, then replace it wherever it stands."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from envdoctor.redact import paths, secrets
from envdoctor.redact.labels import Labels
from envdoctor.redact.urls import without_credentials
from envdoctor.rewrite import rewrite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envdoctor.finding import Report
    from envdoctor.snapshot import Snapshot, Target

KIND_OF_FIELD = {"hostname": "host", "uuid": "gpu", "user": "user", "serial": "serial", "command": "command"}
# Names that accounts and machines share with ordinary words: replaced in fields and paths, never in other words.
ORDINARY = frozenset((
    "root", "ubuntu", "user", "users", "admin", "administrator", "nobody", "runner", "jovyan", "vscode",
    "ec2-user", "azureuser", "debian", "centos", "fedora", "coder", "node", "gpu", "gpus", "test", "torch",
    "pytorch", "python", "cuda", "nvidia", "linux", "localhost", "host", "home", "data", "train", "ml", "ai",
    "dev", "work", "worker", "docker", "container", "default", "main", "none", "true", "false", "unknown",
    "system", "driver", "build", "conda", "pip", "version", "error", "warning", "standard", "quick", "deep",
    "file", "live", "shared", "static",
))  # fmt: skip
# Words of commands that lead to a patient: they name nobody.
WAYS = frozenset((
    "exec", "run", "ssh", "sh", "bash", "env", "python", "python3", "sudo", "docker", "podman", "kubectl", "compute",
    "srun", "chroot", "nsenter", "unshare", "apptainer", "singularity", "instance", "--", "none",
))  # fmt: skip
_LOOKS_ORDINARY = re.compile(
    r"[\d.]{1,7}|[ablhvt]\d{1,3}[a-z]?|.{1,2}", re.IGNORECASE
)  # small numbers, GPU models, too short
_HOME = re.compile(r"(?:(?<=/home/)|(?<=/Users/)|(?<=\\Users\\))[^/\\\s:'\"]+")
_PROMPT = re.compile(r"(?<![\w./:-])([a-z_][\w.-]{0,31})@([A-Za-z0-9][\w.-]{0,62}):(?=[~/])")
_PATTERNS = (
    ("gpu", re.compile(r"\bGPU-[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")),
    ("mig", re.compile(r"\bMIG-(?:GPU-)?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?:/\d+/\d+)?")),
    ("uuid", re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")),
    ("mac", re.compile(r"\b[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}\b|\b[0-9a-fA-F]{4}(?::[0-9a-fA-F]{4}){3}\b")),
    ("mail", re.compile(r"\b[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b")),
)
# Variables of launchers name machines, people and jobs in many ways: of them only numbers stay.
_LAUNCHER = re.compile(r"SLURM_|OMPI_|PMI|PRTE_|MASTER_ADDR$|TORCHELASTIC_RUN_ID$")
_NUMBERS = re.compile(r"[\d,()x:/ -]*|true|false|yes|no|none|127\.0\.0\.1|localhost", re.IGNORECASE)
_TELLING = re.compile(r"[\d.@]")  # in a word of --via: it is no word of a language


class Replacer:
    """Replaces what is private, by the labels of one report."""

    def __init__(self, snapshot: Snapshot, own: dict[str, str], beside: str = "") -> None:
        self.labels = Labels()
        self.names: dict[str, str] = {}
        for kind, value in private_values(snapshot):
            self._learn(kind, value)
        for name, kind in own.items():
            self._learn(kind, name)
        self._learn_way(snapshot.target.via)
        self._learn_users(snapshot)
        self._learn_text(beside)
        words = sorted(map(re.escape, self.names), key=len, reverse=True)
        self.words = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(words)})(?![A-Za-z0-9])") if words else None

    def _learn(self, kind: str, value: str) -> None:
        """Remember a value to look for everywhere, unless it is a word that means something else as well."""
        names = {value, value.partition(".")[0]} if kind == "host" else {value}
        self.names |= {n: kind for n in names if n.lower() not in ORDINARY and not _LOOKS_ORDINARY.fullmatch(n)}

    def _learn_way(self, via: str) -> None:
        """Remember whom the words of ``--via`` name, where they cannot be mistaken for others."""
        for word in filter(_TELLING.search, _named_in(via)):
            user, _, host = word.rpartition("@")
            self._learn("user", user) if user else None
            self._learn("host", host)

    def target(self, target: Target) -> Target:
        """Replace in the command that leads to a patient whatever names one, plain words included."""
        plain = {word for word in _named_in(target.via) if not _TELLING.search(word)}

        def told(text: str) -> str:
            return " ".join(self.labels.of("host", each) if each in plain else each for each in text.split(" "))

        if not plain:
            return target
        return dataclasses.replace(target, key=told(target.key), via=told(target.via))

    def _learn_users(self, snapshot: Snapshot) -> None:
        """Remember whose home directories and prompts are spoken of."""

        def look(text: str) -> str:
            self._learn_text(text)
            return text

        rewrite(snapshot, look)

    def _learn_text(self, text: str) -> None:
        for name in _HOME.findall(text):
            self._learn("user", name)
        for user, host in _PROMPT.findall(text):
            self._learn("user", user)
            self._learn("host", host)

    def text(self, text: str) -> str:
        """Replace what is private in one string."""
        text = secrets.in_text(without_credentials(text), self.labels)
        text = paths.in_text(text, self.labels)
        for kind, pattern in _PATTERNS:
            text = pattern.sub(lambda found, kind=kind: self.labels.of(kind, found.group()), text)  # type: ignore[misc]
        if self.words is not None:
            text = self.words.sub(lambda found: self._name(found.group()), text)
        return text

    def _name(self, name: str) -> str:
        kind = self.names[name]
        whole = next((n for n, k in self.names.items() if k == kind == "host" and n.startswith(f"{name}.")), name)
        return self.labels.of(kind, whole)

    def snapshot(self, snapshot: Snapshot) -> Snapshot:
        """Replace in a whole snapshot."""
        facts = {key: self._fields(fact) for key, fact in snapshot.facts.items()}
        target = self.target(snapshot.target)
        return rewrite(dataclasses.replace(snapshot, facts=facts, target=target), self.text)

    def report(self, report: Report) -> Report:
        """Replace in a whole report, its snapshot included."""
        snapshot = self.snapshot(report.snapshot)
        bare = dataclasses.replace(report, snapshot=dataclasses.replace(report.snapshot, facts={}))
        return dataclasses.replace(rewrite(bare, self.text), snapshot=snapshot)

    def _fields(self, fact: Any) -> Any:
        """Replace private fields whole, also in the dataclasses inside a fact."""
        changes = {}
        for each in dataclasses.fields(fact):
            value = getattr(fact, each.name)
            if each.metadata.get("private"):
                changes[each.name] = self._whole(each.name, value)
            elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
                changes[each.name] = tuple(self._variable(self._fields(one)) for one in value)
            elif dataclasses.is_dataclass(value):
                changes[each.name] = self._fields(value)
        return dataclasses.replace(fact, **changes)

    def _whole(self, field: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(self._whole(field, each) for each in value)
        if not isinstance(value, str) or not value:
            return value
        if value.startswith("/"):
            return paths.path(value, self.labels)
        kind = KIND_OF_FIELD.get(field)
        return value if kind is None and "\\" in value else self.labels.of(kind or field.replace("_", "-"), value)

    def _variable(self, fact: Any) -> Any:
        name, value = getattr(fact, "name", ""), getattr(fact, "value", "")
        if isinstance(value, str) and value and _LAUNCHER.match(str(name)) and not _NUMBERS.fullmatch(value):
            return dataclasses.replace(fact, value=self.labels.of("host" if name == "MASTER_ADDR" else "value", value))
        return fact


def _named_in(via: str) -> list[str]:
    """Give the words of a command that may name a machine, a container or a person."""
    return [each for each in via.split()[1:] if not each.startswith(("-", "/")) and each not in WAYS]


def private_values(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """Give the values of private fields that are names, not paths: they are looked for everywhere."""
    for fact in snapshot.facts.values():
        yield from _private(fact)


def _private(fact: Any) -> Iterator[tuple[str, str]]:
    for each in dataclasses.fields(fact):
        value = getattr(fact, each.name)
        inside = value if isinstance(value, tuple) else (value,)
        for one in inside:
            if dataclasses.is_dataclass(one) and not isinstance(one, type):
                yield from _private(one)
            elif each.name == "value" and getattr(fact, "name", "") == "MASTER_ADDR" and not _NUMBERS.fullmatch(one):
                yield "host", one
            elif each.metadata.get("private") and each.name in KIND_OF_FIELD and isinstance(one, str) and one:
                yield KIND_OF_FIELD[each.name], one
