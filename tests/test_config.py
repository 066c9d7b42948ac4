"""The configuration file: found upwards, checked key by key, and every error names what was probably meant."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from envdoctor import config
from envdoctor.config import Config, ConfigError, Ignore
from envdoctor.facts.required import Need, Required

FULL = """
fail-on = "warning"
level = "quick"
timeout = 30
[ignore]
shm-too-small = "one worker only"
tf32-off = {reason = "wanted here", until = 2027-01-31}
[require]
torch = ">=2.9"
gpus = 8
"""


def written(folder: Path, text: str, name: str = "envdoctor.toml") -> Path:
    """Write a configuration file and give its path."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def error(tmp_path: Path, text: str) -> str:
    """Give the words with which a configuration is refused, without the file's name."""
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load(file)
    return str(caught.value).removeprefix(f"{file}: ")


def test_every_key_is_read(tmp_path: Path) -> None:
    """All keys of the file reach the configuration, with the right types."""
    file = written(tmp_path, FULL)
    expected = Config(
        str(file), "warning", "quick", 30.0,
        {"shm-too-small": Ignore("one worker only"), "tf32-off": Ignore("wanted here", dt.date(2027, 1, 31))},
        Required(sources={"needs": str(file)}, needs=(Need("torch", ">=2.9"), Need("gpus", ">=8"))),
    )  # fmt: skip
    assert expected == config.load(file)


def test_nearest_file_upwards_wins(tmp_path: Path) -> None:
    """A file nearer to the working directory hides the others; they are not merged."""
    written(tmp_path, 'level = "deep"')
    written(tmp_path / "a", '[tool.envdoctor]\nlevel = "quick"', "pyproject.toml")
    assert "quick" == config.load(start=tmp_path / "a" / "b").level
    assert "deep" == config.load(start=tmp_path).level


def test_own_file_wins_over_pyproject_beside_it(tmp_path: Path) -> None:
    """In one directory envdoctor.toml comes before pyproject.toml."""
    written(tmp_path, '[tool.envdoctor]\nlevel = "quick"', "pyproject.toml")
    written(tmp_path, 'level = "deep"')
    assert "deep" == config.load(start=tmp_path).level


def test_pyproject_without_our_table_is_passed_over(tmp_path: Path) -> None:
    """A pyproject.toml that does not speak of envdoctor hides nothing further up."""
    written(tmp_path, 'level = "deep"')
    written(tmp_path / "a", "[tool.other]\nx = 1", "pyproject.toml")
    assert "deep" == config.load(start=tmp_path / "a").level


def test_somebody_elses_broken_pyproject_is_a_note(tmp_path: Path) -> None:
    """A pyproject.toml that is no TOML and does not speak of us stops nothing, but is mentioned."""
    file = written(tmp_path, "[tool.other\n", "pyproject.toml")
    (note,) = config.load(start=tmp_path).notes
    assert f"not read for a configuration: {file}: is not valid TOML" in note


def test_our_broken_pyproject_is_an_error(tmp_path: Path) -> None:
    """A broken pyproject.toml that speaks of us could hold what the user counts on."""
    written(tmp_path, "[tool.envdoctor]\nlevel = \n", "pyproject.toml")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        config.load(start=tmp_path)


def test_no_file_is_an_empty_configuration(tmp_path: Path) -> None:
    """Without a file nothing is configured."""
    assert "" == Config().path
    assert config.load(start=tmp_path).level is None


def test_removed_working_directory_has_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's scratch directory may be gone while the job's shell still stands in it."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert Config() == config.load()


def test_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A file named with --config must be there."""
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        config.load(tmp_path / "nowhere.toml")


def test_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    """A file of ours that somebody linked here is meant: it is not passed over when its target is gone."""
    (tmp_path / "envdoctor.toml").symlink_to(tmp_path / "unmounted" / "team.toml")
    with pytest.raises(ConfigError, match=r"envdoctor\.toml: cannot be read: No such file or directory"):
        config.load(start=tmp_path)


def test_named_pyproject_must_have_our_table(tmp_path: Path) -> None:
    """A pyproject.toml named with --config and without our table is a mistake."""
    with pytest.raises(ConfigError, match=r"there is no \[tool.envdoctor\] table"):
        config.load(written(tmp_path, "", "pyproject.toml"))


def test_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    """An editor's byte order mark does not make the file invalid."""
    assert "quick" == config.load(written(tmp_path, '\ufefflevel = "quick"')).level


def test_file_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    """A file in another encoding is refused with the reason."""
    file = tmp_path / "envdoctor.toml"
    file.write_bytes(b'level = "\xff"')
    with pytest.raises(ConfigError, match="is not valid TOML"):
        config.load(file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fail_on = 'error'", "unknown key 'fail_on': did you mean 'fail-on'? expected one of fail-on, ignore, "),
        ("levle = 'quick'", "unknown key 'levle': did you mean 'level'?"),
        ("zzz = 1", "unknown key 'zzz': expected one of fail-on, ignore, level, require, timeout"),
        ("level = 'quik'", "level: unknown value 'quik': did you mean 'quick'? expected one of quick, standard, deep"),
        ("level = 3", "level is 3, expected one of quick, standard, deep"),
        ("fail-on = 'warn'", "fail-on: unknown value 'warn': did you mean 'warning'?"),
        ("timeout = '30'", "timeout is '30', expected a number of seconds above 0"),
        ("timeout = true", "timeout is true, expected a number of seconds above 0"),
        ("timeout = -1", "timeout is -1, expected a number of seconds above 0"),
        ("timeout = nan", "timeout is nan, expected a number of seconds above 0"),
        ("ignore = ['a']", "ignore is ['a'], expected a table such as {shm-too-small = \"one worker only\"}"),
        ("ignore = {a = ''}", "ignore.a: the reason is empty"),
        ("ignore = {a = {until = 2027-01-31}}", "ignore.a has no reason, expected a reason in words"),
        ("ignore = {a = {reason = 'x', till = 1}}", "ignore.a: unknown key 'till': did you mean 'until'?"),
        ("ignore = {a = {reason = 'x', until = 'soon'}}", "ignore.a.until is 'soon', expected a date such as 2027"),
        ("require = {gpus = [1]}", "require.gpus is [1], expected a whole number, which means at least so many"),
        ("require = {torhc = '>=2'}", "unknown requirement 'torhc': did you mean 'torch'?"),
        ("level = ", "is not valid TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, expected: str) -> None:
    """Each mistake is told with its key, its value, what was expected and the nearest valid word."""
    assert error(tmp_path, text).startswith(expected)


def test_ignore_ends_after_its_last_day() -> None:
    """An ignore holds on the day it names, and no longer."""
    ignore = Ignore("x", dt.date(2027, 1, 31))
    assert (False, True) == (ignore.expired(dt.date(2027, 1, 31)), ignore.expired(dt.date(2027, 2, 1)))


def test_date_may_be_a_string_or_a_time(tmp_path: Path) -> None:
    """The last day may be written as a TOML date, a TOML time or a string."""
    for value in ("2027-01-31", "2027-01-31T10:00:00Z", "'2027-01-31'"):
        file = written(tmp_path, f"ignore = {{a = {{reason = 'x', until = {value}}}}}")
        assert dt.date(2027, 1, 31) == config.load(file).ignore["a"].until
