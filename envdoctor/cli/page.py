"""A rule's page: what ``explain`` shows of it, taken from the rule, or from its source without importing anything.

Importing one rule module brings facts, tables and remedies with it, which takes longer than all the rest.
"""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

from envdoctor.plan import BUILT_IN, DEPTHS, Planned, level_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from envdoctor.rule import Rule


class Page(NamedTuple):
    """What is said of a rule."""

    id: str
    text: str
    severity: str
    group: str
    essential: bool
    explained_by: tuple[str, ...]
    level: str


def of(rule: Rule, planned: tuple[Planned, ...] = BUILT_IN) -> Page:
    """Give the page of a rule."""
    from envdoctor.facts import key_of

    needed = [key_of(each.fact) for each in rule.inputs if not each.optional]
    level = lowest(needed or [key_of(each.fact) for each in rule.inputs[:1]], planned)
    return Page(rule.id, rule.page, rule.severity.value, rule.group, rule.essential, rule.explained_by, level)


def lowest(facts: Iterable[str], planned: tuple[Planned, ...] = BUILT_IN) -> str:
    """Give the lowest level that collects all these facts."""
    return max((level_of(each, planned) for each in facts), key=DEPTHS.index, default=DEPTHS[0])


def from_source(id_: str, folder: Path) -> Page | None:
    """Find the rule in the source files of a folder; None when it is not there, or not written in a plain way."""
    name = id_.replace("-", "_")
    for file in folder.glob("*.py") if name.isidentifier() else ():
        text = file.read_text(encoding="utf-8")
        if f"\ndef {name}(" in text and (found := _read(id_, ast.parse(text))):
            return found
    return None


def _read(id_: str, module: ast.Module) -> Page | None:
    name = id_.replace("-", "_")
    function = next(each for each in module.body if isinstance(each, ast.FunctionDef) and each.name == name)
    declared = next((each for each in function.decorator_list if _is_rule(each)), None)
    if not isinstance(declared, ast.Call):
        return None
    try:
        said = {each.arg: _value(each.value, module) for each in declared.keywords}
    except ValueError:
        return None
    text = inspect.cleandoc(ast.get_docstring(function, clean=False) or "")
    essential, causes = said.get("essential", False), said.get("explained_by", ())
    return Page(id_, text, said["severity"], said["group"], essential, causes, lowest(_needed(function)))


def _is_rule(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "rule"


def _value(node: ast.expr, module: ast.Module) -> Any:
    """Give a keyword's value: a literal, ``Severity.ERROR``, or a constant of the module. Raises ValueError."""
    if isinstance(node, ast.Attribute):
        return node.attr.lower()
    if isinstance(node, ast.Name):
        constants = (each for each in module.body if isinstance(each, ast.Assign))
        found = [each.value for each in constants if ast.unparse(each.targets[0]) == node.id]
        if not found:
            raise ValueError(node.id)
        node = found[0]
    return ast.literal_eval(node)


def _needed(function: ast.FunctionDef) -> Iterator[str]:
    """Name the facts that the rule cannot do without: parameters whose type does not end in ``| None``.

    Where it can do without each of them, the first is the one that would decide best.
    """
    from envdoctor.facts import key_of

    plain = [each.annotation.id for each in function.args.args if isinstance(each.annotation, ast.Name)]
    first = ast.unparse(function.args.args[0].annotation).partition(" | ")[0] if function.args.args else ""  # type: ignore[arg-type]
    for each in plain or filter(None, [first]):
        yield key_of(type(each, (), {}))
