"""The shipped tables: each row goes through its typed loader, names its source, and is not dated in the future."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from envdoctor import knowledge
from envdoctor.knowledge import (
    cuda,
    ecosystem,
    errors,
    gpus,
    libraries,
    ngc,
    references,
    specs,
    toolchain,
    torch,
    variables,
    xid,
)
from envdoctor.knowledge.variables import LONGEST_MATCHED, REPORTS
from envdoctor.rules.circumstances import CIRCUMSTANCES

# Every table behind its loader.
LOADERS: dict[str, Callable[[], Sequence[Any]]] = {
    "torch_releases.csv": torch.releases,
    "torch_early.csv": torch.early_minors,
    "torch_arch.csv": torch.wheel_code,
    "cuda_driver.csv": cuda.releases,
    "driver_branches.csv": cuda.branches,
    "cuda_compat.csv": cuda.compat_packages,
    "cudnn.csv": libraries.cudnn_releases,
    "nccl.csv": libraries.nccl_releases,
    "nccl_known_vars.csv": lambda: tuple(variables.nccl_names().values()),
    "torch_known_vars.csv": lambda: tuple(variables.torch_names().values()),
    "ngc_pytorch.csv": ngc.images,
    "ecosystem.csv": ecosystem.statements,
    "gpu_specs.csv": specs.specs,
    "gpu_names.csv": gpus.families,
    "cuda_arch.csv": gpus.compilers,
    "host_compilers.csv": toolchain.host_compilers,
    "nccl_arch.csv": toolchain.nccl_floors,
    "reference_results.csv": references.table,
    "xid.csv": lambda: tuple(xid.xids().values()),
    "env_vars.toml": variables.settings,
    "error_messages.toml": errors.messages,
}
LOOKED_UP = {"gpu_driver_names.csv"}  # names alone, read into the specifications
RANGES_OF_CODES = 1  # xid.csv: a row that stands for several codes has no number of its own
UNTIL = {"eol_date"}  # the only dates that may lie ahead


def test_every_file_is_a_table_and_has_a_loader() -> None:
    """What ships is listed, and what is listed ships and is read by something typed."""
    files = {each.name for each in knowledge.DATA.iterdir() if each.suffix in {".csv", ".toml"}}
    names = [each.name for each in knowledge.TABLES]
    assert (files, len(names)) == (set(names), len(set(names)))
    assert set(names) == set(LOADERS) | LOOKED_UP


@pytest.mark.parametrize("name", LOADERS)
def test_every_row_loads_with_its_source(name: str) -> None:
    """No row is lost on the way through the loader, and each one names where it is from."""
    loaded = LOADERS[name]()
    table = next(each for each in knowledge.TABLES if each.name == name)
    lost = RANGES_OF_CODES if name == "xid.csv" else 0
    assert len(loaded) >= table.count - lost > 0
    assert [] == [each for each in loaded if not all(_sources(each))]


def _sources(row: Any) -> tuple[str, ...]:
    """Give a row's sources; a driver branch's source is kept in the table alone."""
    if isinstance(row, cuda.Branch):
        return ("kept in the table",)
    return row.source if isinstance(row.source, tuple) else (row.source,)


@pytest.mark.parametrize("name", [each.name for each in knowledge.TABLES if each.name.endswith(".csv")])
def test_no_row_is_unsourced_or_dated_in_the_future(name: str) -> None:
    """Each cell named source is filled; no date lies after the day the table was gathered."""
    date = next(each.date for each in knowledge.TABLES if each.name == name)
    rows = knowledge.rows(name)
    assert [] == [row for row in rows if knowledge.is_unsourced(row["source"])]
    dated = [(column, row[column]) for row in rows for column in row if column.endswith("date") and column not in UNTIL]
    assert [] == [each for each in dated if re.fullmatch(r"\d{4}-\d{2}-\d{2}", each[1]) and each[1] > date]


def test_tables_are_not_from_the_future() -> None:
    """The day a table was gathered is a day that has been, in the order of days."""
    dates = [dt.date.fromisoformat(each.date) for each in knowledge.TABLES]
    assert max(dates) <= dt.datetime.now(dt.timezone.utc).date() + dt.timedelta(days=1)


def test_unsourced_row_is_never_more_than_info() -> None:
    """What nobody looked up is a lead: the loader takes its severity down."""
    row = {
        "name": "X", "severity": "error", "effect": "", "problem_when": "", "replacement": "", "fix": "",
        "source": "unsourced (general knowledge)",
    }  # fmt: skip
    assert ("info", "error") == (
        variables._setting(row).severity,
        variables._setting(row | {"source": "NVIDIA/nccl tag v2.27.3-1"}).severity,
    )


REPORTED = [each for each in variables.settings() if each.report]


@pytest.mark.parametrize("row", REPORTED, ids=[f"{each.name}-{each.report}-{i}" for i, each in enumerate(REPORTED)])
def test_entry_that_is_reported_can_be(row: variables.Setting) -> None:
    """A reported entry names a rule, words, a severity and known circumstances, and does not fire on nothing."""
    assert row.report in REPORTS
    assert row.says
    assert row.severity in {"error", "warning", "info"}
    assert set() == set(row.where) - set(CIRCUMSTANCES)
    assert not row.matches("")
    assert not row.matches(" ")
    assert row.report != "unknown" or row.replacement


@pytest.mark.parametrize("row", [each for each in REPORTED if each.values], ids=lambda each: each.name)
def test_entry_holds_for_its_own_values(row: variables.Setting) -> None:
    """Each listed value is recognised, in any case and with blanks around it."""
    assert all(row.matches(f" {each.lower()} ") for each in row.values)
    assert not row.matches("surely-not-a-value")


def test_long_value_is_not_matched() -> None:
    """A value longer than any setting is not held against a pattern."""
    patterned = [each for each in REPORTED if each.valid is not None]
    assert patterned
    assert not any(each.matches("x," * LONGEST_MATCHED) for each in patterned)


def test_fixes_can_be_pasted() -> None:
    """Every fix of the table is a shell line."""
    lines = [each.fix for each in variables.settings() if each.fix]
    checked = subprocess.run(["sh", "-n"], input="\n".join(lines), text=True, capture_output=True, check=False)
    assert (0, "") == (checked.returncode, checked.stderr)


def test_names_that_both_lists_hold_agree() -> None:
    """No old name of a reported entry is one that the newest library still has without a word."""
    gone = [each for each in REPORTED if each.report == "deprecated" and "not read" in each.says]
    assert gone
    newest = {name for name, each in variables.nccl_names().items() if each.last is None}
    assert set() == {each.name for each in gone} & newest


def test_listing_counts_rows() -> None:
    """Each table has rows, a source and a description of a row."""
    assert all(each.count > 0 and each.source and each.row for each in knowledge.TABLES)
