"""The house: which room may look into which, who may start processes or print, and how long things may be.

Read from the source as text; nothing of it is run. ``architecture.md`` of the project says why each arrow is there.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import envdoctor

DOCTOR = Path(envdoctor.__file__).parent
PATIENT = Path(importlib.util.find_spec("envdoctor_probes").origin).parent  # type: ignore[union-attr,arg-type]
TESTS = Path(__file__).parent
REPOSITORY = TESTS.parent
PAYLOAD = ("__init__", "facts", "outcome", "probe", "child", "envdoctor_probes")
ANY = None

# Which room may import which, itself always included. A room is a file or a folder of envdoctor/.
ARROWS: dict[str, set[str] | None] = {
    "__init__": set(),
    "__main__": {"cli"},
    "cli": ANY,
    "facts": set(),
    "outcome": {"facts"},  # its quick dataclass decorator alone
    "probe": {"facts"},
    "child": {"facts", "outcome", "probe"},
    "envdoctor_probes": {"facts", "probe", "outcome"},
    "plan": {"facts"},  # likewise
    "nearest": set(),
    "snapshot": {"__init__", "facts", "outcome", "plan"},
    "finding": {"facts"},
    "rule": {"facts", "finding"},
    "knowledge": set(),
    "bench": {"compare", "facts", "finding", "knowledge", "snapshot"},
    "remedy": {"facts", "finding", "knowledge"},
    "requirements": {"facts", "nearest"},
    "rules": {"bench", "facts", "finding", "knowledge", "remedy", "requirements", "rule"},
    "selection": {"facts", "finding", "rule"},
    "testimony": {"facts", "finding"},
    "diagnose": {"facts", "finding", "outcome", "plan", "rule", "rules", "selection", "snapshot", "testimony"},
    "ledger": {"facts", "snapshot"},
    "running": set(),
    "whatif": {"facts", "finding", "knowledge", "outcome", "snapshot"},
    "readers": {"facts", "knowledge", "outcome", "snapshot"},
    "rewrite": {"facts", "finding", "outcome", "snapshot"},
    "compare": {"facts", "finding", "snapshot"},
    "fleet": {"compare", "diagnose", "facts", "finding", "plan", "ranks", "rule", "selection", "snapshot"},
    "redact": {"facts", "finding", "rewrite", "snapshot"},
    "demo": {"facts", "outcome", "snapshot"},
    "render": {"__init__", "bench", "compare", "facts", "finding", "outcome", "redact", "rewrite", "snapshot"},
    "schemas": set(),
    "payload": set(),
    "baseline": {"snapshot"},
    "when": {"nearest"},
    "lock": {"compare", "facts", "nearest", "snapshot"},
    "drift": {"bench", "compare", "facts", "lock", "snapshot"},
    "target": {"child", "payload", "plan", "probe", "snapshot"},
    "far": {"child", "payload", "plan", "probe", "snapshot", "target"},
    "ending": {"outcome"},
    "listening": {"child"},
    "gathered": {"ending", "facts", "ledger", "outcome", "plan", "snapshot"},
    "runner": {"child", "ending", "facts", "gathered", "listening", "outcome", "plan", "probe", "snapshot", "target"},
    "plugins": {"facts", "plan", "probe", "rule", "rules", "snapshot"},
    "ranks": set(),
    "integrations": {"finding", "gate"},
    "gate": {
        "__init__",
        "config",
        "diagnose",
        "facts",
        "finding",
        "fleet",
        "ledger",
        "nearest",
        "outcome",
        "plan",
        "plugins",
        "ranks",
        "probe",
        "redact",
        "render",
        "requirements",
        "rewrite",
        "rule",
        "rules",
        "runner",
        "selection",
        "snapshot",
        "target",
    },
    "testing": {"diagnose", "facts", "finding", "probe", "rule", "snapshot"},
    "config": {"facts", "finding", "nearest", "plan", "requirements", "rule"},
}
# Names of types alone may be looked at across these arrows as well (under TYPE_CHECKING).
TYPE_ARROWS = {"finding": {"snapshot"}, "render": {"fleet"}, "__init__": set(ARROWS)}
PROCESS_MODULES = {"subprocess", "multiprocessing", "pty", "concurrent.futures.process"}
PROCESS_CALLS = {"fork", "forkpty", "system", "popen", "posix_spawn", "posix_spawnp", "startfile"}
SLOW_IMPORTS = {"inspect", "importlib.metadata", "email", "subprocess", "tempfile", "logging", "asyncio", "unittest"}
PATIENTS_OWN = {"torch", "pynvml", "numpy", "triton", "torchvision", "torchaudio", "pytest"}
NAMELESS = {"utils", "util", "helpers", "helper", "common", "core", "base", "manager", "misc"}


@dataclass(frozen=True)
class Module:
    """One source file of ours: its room, its text and its tree."""

    name: str
    room: str
    file: Path
    text: str
    tree: ast.Module

    @property
    def is_payload(self) -> bool:
        """Tell whether it travels to the patient."""
        return self.room in PAYLOAD

    def at(self, node: ast.AST) -> str:
        """Name a place in this file for a failure's message."""
        return f"{self.name}:{getattr(node, 'lineno', 0)}"


@dataclass(frozen=True)
class Imported:
    """One import statement's target and where it stands."""

    module: str
    node: ast.AST
    top: bool
    type_only: bool


@cache
def modules() -> tuple[Module, ...]:
    """Read every source file of the package and of the probes."""
    found = []
    for top, package in ((DOCTOR, "envdoctor"), (PATIENT, "envdoctor_probes")):
        for file in sorted(top.rglob("*.py")):
            parts = file.relative_to(top).with_suffix("").parts
            room = parts[0] if package == "envdoctor" else package
            text = file.read_text(encoding="utf-8")
            name = ".".join((package, *(each for each in parts if each != "__init__")))
            found.append(Module(name, room, file, text, ast.parse(text)))
    return tuple(found)


def imports(module: Module) -> Iterator[Imported]:
    """Give every import of a module, those inside functions and under TYPE_CHECKING marked as such."""
    yield from _imports(module, module.tree.body, top=True, type_only=False)


def _imports(module: Module, body: list[ast.stmt], *, top: bool, type_only: bool) -> Iterator[Imported]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (Imported(each.name, node, top, type_only) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = _absolute(module, node)
            for each in node.names:
                yield Imported(f"{origin}.{each.name}", node, top, type_only)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _imports(module, node.body, top=top, type_only=True)
            yield from _imports(module, node.orelse, top=top, type_only=type_only)
        else:
            inside = top and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            nested = [each for each in ast.walk(node) if isinstance(each, ast.stmt) and each is not node]
            plain = [each for each in nested if isinstance(each, (ast.Import, ast.ImportFrom))]
            yield from _imports(module, plain, top=inside and _runs_at_import(node), type_only=type_only)


def _runs_at_import(node: ast.stmt) -> bool:
    return isinstance(node, (ast.If, ast.Try, ast.With, ast.For))


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    keep = parts if module.file.name == "__init__.py" else parts[:-1]
    return ".".join((*keep[: len(keep) - node.level + 1], *filter(None, [node.module])))


def room_of(target: str) -> str | None:
    """Give the room that an import reaches into, or None when it is not ours."""
    if target.split(".", maxsplit=1)[0] == "envdoctor_probes":
        return "envdoctor_probes"
    if target.split(".", maxsplit=1)[0] != "envdoctor":
        return None
    first = target.split(".")[1] if "." in target else "__init__"
    return first if (DOCTOR / first).is_dir() or (DOCTOR / f"{first}.py").exists() else "__init__"


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Give every function in a tree."""
    yield from (n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)))


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines; a rule's page is not code and does not count."""
    is_rule = any("rule(" in ast.unparse(each) for each in function.decorator_list)
    lines = (function.end_lineno or 0) - function.lineno + 1
    return lines - len((ast.get_docstring(function, clean=False) or "").splitlines()) if is_rule else lines


def calls(module: Module) -> Iterator[tuple[str, ast.Call]]:
    """Give every call in a module with what is called, as written."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_rooms_look_only_where_the_arrows_point() -> None:
    """No room imports from one that its arrows do not name; the doctor never imports the probes."""
    wrong = []
    for module in modules():
        allowed = ARROWS.get(module.room, set())
        for each in imports(module):
            room = room_of(each.module)
            types = TYPE_ARROWS.get(module.room, set()) if each.type_only else set()
            if room in {None, module.room} or allowed is ANY or room in allowed | types:
                continue
            wrong.append(f"{module.at(each.node)} {module.room} -> {room}")
    assert "" == "\n".join(wrong)


def test_every_room_has_its_arrows() -> None:
    """A new room is added to the table of arrows on purpose, not by accident."""
    assert set() == {module.room for module in modules()} - set(ARROWS)


def test_the_doctor_never_imports_the_probes() -> None:
    """The doctor knows the probes by name alone, cli included."""
    wrong = [
        module.at(each.node)
        for module in modules()
        for each in imports(module)
        if room_of(each.module) == "envdoctor_probes" and module.room != "envdoctor_probes"
    ]
    assert "" == "\n".join(wrong)


def test_payload_imports_the_standard_library_alone() -> None:
    """What travels to the patient needs nothing but Python; the patient's own packages only inside functions."""
    wrong = []
    for module in filter(lambda each: each.is_payload, modules()):
        for each in imports(module):
            first = each.module.split(".")[0]
            ours = room_of(each.module) in PAYLOAD or each.type_only
            if not (ours or first in sys.stdlib_module_names or (first in PATIENTS_OWN and not each.top)):
                wrong.append(f"{module.at(each.node)} {each.module}")
    # The package's lazy names reach into the doctor by string, and only when they are asked for.
    assert "" == "\n".join(wrong)


def test_payload_imports_nothing_slow_at_the_top() -> None:
    """Start-up of a child is budgeted: slow modules are imported inside functions."""
    wrong = [
        f"{module.at(each.node)} {each.module}"
        for module in modules()
        if module.is_payload
        for each in imports(module)
        if each.top and not each.type_only and _is_slow(each.module)
    ]
    assert "" == "\n".join(wrong)


def _is_slow(name: str) -> bool:
    return any(name == slow or name.startswith(f"{slow}.") for slow in SLOW_IMPORTS)


def test_payload_never_evaluates_annotations() -> None:
    """Each payload module postpones its annotations, so that an old Python never evaluates them."""
    annotated = (ast.FunctionDef, ast.ClassDef, ast.AnnAssign)
    having = [m for m in modules() if m.is_payload and any(isinstance(node, annotated) for node in ast.walk(m.tree))]
    wrong = [m.name for m in having if "from __future__ import annotations" not in m.text]
    assert "" == "\n".join(wrong)


def test_only_the_runner_and_the_child_start_processes() -> None:
    """A process is started by runner.py in the doctor and by the child package in the patient, nowhere else."""
    wrong = []
    for module in (each for each in modules() if each.room not in {"runner", "child"}):
        wrong += [module.at(i.node) for i in imports(module) if i.module.split(".")[0] in PROCESS_MODULES]
        wrong += [
            f"{module.at(node)} {name}"
            for name, node in calls(module)
            if name.startswith("os.") and (name[3:] in PROCESS_CALLS or name[3:].startswith(("exec", "spawn")))
        ]
    assert "" == "\n".join(wrong)


def test_only_the_command_line_prints_or_exits() -> None:
    """Outside cli/ nobody prints, writes to the standard streams, reads argv or ends the process."""
    banned = {"print", "exit", "quit", "sys.exit", "sys.stdout.write", "sys.stderr.write", "input"}
    wrong = []
    for module in (each for each in modules() if each.room not in {"cli", "child"}):
        wrong += [f"{module.at(node)} {name}" for name, node in calls(module) if name in banned or name == "os._exit"]
        wrong += [
            f"{module.at(node)} sys.argv"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.argv"
        ]
    assert "" == "\n".join(wrong)


def test_only_plugins_reads_entry_points() -> None:
    """Entry points are read in one place, one distribution at a time."""
    wrong = [
        module.at(each.node)
        for module in modules()
        for each in imports(module)
        if each.module.startswith(("importlib.metadata", "pkg_resources")) and module.room != "plugins"
    ]
    assert "" == "\n".join(wrong)


def test_no_function_is_longer_than_fifty_lines() -> None:
    """A function fits on a screen."""
    wrong = [
        f"{module.at(function)} {function.name}: {lines_of(function)} lines"
        for module in modules()
        for function in functions(module.tree)
        if lines_of(function) > 50
    ]
    assert "" == "\n".join(wrong)


def test_functions_are_short_in_the_middle() -> None:
    """The median function has at most twelve lines."""
    assert statistics.median(lines_of(f) for module in modules() for f in functions(module.tree)) <= 12


def test_modules_are_one_subject_long() -> None:
    """A module has at most 300 lines; one of rules may have more by having many short rules."""
    wrong = {m.name: m.text.count("\n") for m in modules() if m.room != "rules" and m.text.count("\n") > 300}
    assert {} == wrong


def test_nothing_bears_a_name_that_says_nothing() -> None:
    """No module or class is called utils, helpers, common, core, base or manager."""
    named = {m.name for m in modules() if NAMELESS & set(m.name.split(".")[-1].strip("_").split("_"))}
    wrong = sorted(named - {"envdoctor_probes.fabric_manager"})  # NVIDIA's own name for it
    for module in modules():
        classes = [node.name for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]
        wrong += [f"{module.name}:{name}" for name in classes if NAMELESS & set(_words(name))]
    assert "" == "\n".join(wrong)


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall("[A-Z][a-z]*", name)]


def test_no_exception_is_swallowed_in_silence() -> None:
    """No handler does nothing at all, and no blanket suppress hides what happened.

    The child may suppress: what the patient has done to its own streams is the patient's business.
    """
    wrong = []
    for module in modules():
        handlers = (node for node in ast.walk(module.tree) if isinstance(node, ast.ExceptHandler))
        wrong += [module.at(node) for node in handlers if all(_says_nothing(each) for each in node.body)]
        wrong += [
            module.at(node)
            for name, node in calls(module)
            if module.room != "child"
            and name.endswith("suppress")
            and {"Exception", "BaseException"} & {ast.unparse(a) for a in node.args}
        ]
    assert "" == "\n".join(wrong)


def _says_nothing(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is Ellipsis
    )


def test_heavy_imports_live_inside_functions() -> None:
    """rich, torch and pynvml are imported where they are used, so that --help and quick stay fast."""
    heavy = {"torch", "pynvml", "numpy", "rich", "jinja2", "jsonschema"}
    wrong = [
        f"{module.at(each.node)} {each.module}"
        for module in modules()
        for each in imports(module)
        if each.top and not each.type_only and each.module.split(".")[0] in heavy and module.room != "render"
    ]
    assert "" == "\n".join(wrong)


def test_every_test_says_what_it_holds() -> None:
    """Each test has a docstring that states the behaviour."""
    wrong = [
        f"{file.name}:{function.lineno} {function.name}"
        for file in sorted(TESTS.rglob("test_*.py"))
        for function in functions(ast.parse(file.read_text(encoding="utf-8")))
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert "" == "\n".join(wrong)


def test_nothing_committed_names_a_workplace() -> None:
    """No file names a path of the machine that it was written on."""
    parts = ("/work|/main", "/work|/shared", "..|/shared", "/root|/.", "/opt|/wheels", "/opt|/pypi")
    names = [each.replace("|", "") for each in parts]  # so that this file is not among them
    texts = {file: file.read_text(encoding="utf-8", errors="replace") for file in _written_files()}
    assert [] == [f"{file}: {name}" for file, text in texts.items() for name in names if name in text]


def _written_files() -> Iterator[Path]:
    kinds = {".py", ".md", ".toml", ".csv", ".yaml", ".json", ".txt", ".c", ""}
    folders = (REPOSITORY / each for each in ("docs", "scripts", "examples", "benchmarks", ".ci"))
    for top in (DOCTOR, PATIENT, TESTS, *folders):
        inside = (each for each in top.rglob("*") if each.is_file() and "__pycache__" not in each.parts)
        yield from (each for each in inside if each.suffix in kinds)
    yield from (each for each in REPOSITORY.iterdir() if each.suffix in {".md", ".toml", ".yaml"})
