"""[payload] environment: the variables that change how drivers, libraries and torch behave, by allow-list."""

from __future__ import annotations

from typing import Mapping, Tuple

from envdoctor.facts.host import Environment, Variable
from envdoctor.probe import Context, probe
from envdoctor_probes.running import parse_environ, pid_of, refusal
from envdoctor_probes.secret_words import LONGEST_VALUE, without_secrets
from envdoctor_probes.tree import Tree
from envdoctor_probes.variable_names import is_collected

__all__ = ["LONGEST_VALUE", "clean_value", "environment", "is_collected", "select_variables"]


@probe()
def environment(context: Context) -> Environment:
    """Collect the listed variables of the patient's environment, or of a running job's, and count the others."""
    pid = pid_of(context)
    if pid is not None:
        return _of_job(Tree(context.roots), pid)
    variables = select_variables(context.environ)
    return Environment(variables=variables, names_not_collected=len(context.environ) - len(variables))


def _of_job(tree: Tree, pid: int) -> Environment:
    """Read what a process was started with; what it has set for itself since does not show."""
    path = f"/proc/{pid}/environ"
    try:
        environ = parse_environ(tree.text(path))
    except OSError as error:
        reason = refusal(error, path, pid, tree)
        return Environment(unknown={"variables": reason, "names_not_collected": reason})
    variables = select_variables(environ)
    sources = dict.fromkeys(("variables", "names_not_collected"), path)
    return Environment(sources, {}, variables, len(environ) - len(variables))


def select_variables(environ: Mapping[str, str]) -> Tuple[Variable, ...]:
    """Pick what is on the allow-list, by name, secrets taken out."""
    return tuple(clean_value(name, environ[name]) for name in sorted(environ) if is_collected(name))


def clean_value(name: str, value: str) -> Variable:
    """Take out what can be a secret, and say whether there was something."""
    cleaned, redacted = without_secrets(name, value)
    return Variable(name, cleaned, redacted=redacted)
