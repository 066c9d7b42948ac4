"""Where baselines are kept: private, whole, bounded, and there for several environments and several savers at once."""

from __future__ import annotations

import datetime as dt
import os
import stat
import threading
from pathlib import Path

import pytest

from envdoctor.baseline import Kept, Shelf, at, name_of, write_private
from envdoctor.facts.host import Host
from envdoctor.facts.packages import Packages
from envdoctor.snapshot import Target, of, with_target


def mode(path: Path) -> int:
    """Give the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    """Directories 0700, files 0600, whatever the umask is."""
    old = os.umask(0)
    try:
        shelf = Shelf(tmp_path / "envdoctor")
        saved, kept = shelf.save("a", "{}"), shelf.keep("a", "{}")
    finally:
        os.umask(old)
    assert [0o600, 0o600] == [mode(saved), mode(kept.path)]
    assert {0o700} == {mode(each) for each in (shelf.top, saved.parent, kept.path.parent, kept.path.parent.parent)}


def test_a_number_is_kept_and_the_oldest_go(tmp_path: Path) -> None:
    """Dated snapshots are bounded; the newest stay, in order."""
    shelf = Shelf(tmp_path)
    for number in range(7):
        shelf.keep("a", str(number), most=3)
    history = shelf.history("a")
    assert ["4", "5", "6"] == [each.path.read_text() for each in history]
    assert sorted(each.when for each in history) == [each.when for each in history]


def test_what_is_no_file_of_ours_is_let_be(tmp_path: Path) -> None:
    """Neither counted nor removed."""
    shelf = Shelf(tmp_path)
    shelf.keep("a", "1")
    stranger = tmp_path / "history" / "a" / "notes.txt"
    stranger.write_text("mine")
    shelf.keep("a", "2", most=1)
    assert (["2"], True) == ([each.path.read_text() for each in shelf.history("a")], stranger.exists())


def test_many_save_at_once(tmp_path: Path) -> None:
    """Whoever comes last is what is there, whole; nothing is left over."""
    shelf = Shelf(tmp_path)
    documents = [str(number) * 100_000 for number in range(8)]

    def save(document: str) -> None:
        for _ in range(5):
            shelf.save("a", document)
            shelf.keep("a", document, most=4)

    threads = [threading.Thread(target=save, args=(each,)) for each in documents]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert shelf.current("a").read_text() in documents
    assert {True} == {each.path.read_text() in documents for each in shelf.history("a")}
    assert [] == [each for each in tmp_path.rglob("*") if each.name.endswith(".part")]


def test_a_link_in_the_place_of_the_part_is_not_followed(tmp_path: Path) -> None:
    """Nobody makes us write where they want."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    saved = write_private(tmp_path / "x.json", "{}")
    assert ("{}", "untouched") == (saved.read_text(), victim.read_text())
    saved.unlink()
    saved.symlink_to(victim)
    write_private(saved, "new")
    assert ("new", "untouched", False) == (saved.read_text(), victim.read_text(), saved.is_symlink())


def test_environments_have_names_of_their_own() -> None:
    """One home for several machines, one machine with several environments."""
    names = {
        name_of(of(Host(hostname=host), Packages(prefix=prefix)))
        for host in ("node1.cluster", "node2.cluster")
        for prefix in ("/opt/venvs/train", "/home/bob/train")
    }
    assert 4 == len(names)
    assert {"node1-train", "node2-train"} == {each.rpartition("-")[0] for each in names}


@pytest.mark.parametrize("hostname", ["../../etc", "a/b", "\udcff", "", None, "x" * 300])
def test_a_name_is_a_file_name(hostname: str | None) -> None:
    """Whatever a machine calls itself."""
    name = name_of(with_target(of(Host(hostname=hostname)), Target("k", "command", "python3", "ssh ../x")))
    assert name
    assert "/" not in name
    assert not name.startswith(".")
    assert len(name) < 100


def test_the_one_at_a_moment_comes_first() -> None:
    """The newest that is not newer; older ones follow in case it cannot be read; all newer: the oldest."""
    days = [dt.datetime(2026, 11, day, tzinfo=dt.timezone.utc) for day in (20, 22, 24)]
    history = tuple(Kept(Path(str(each.day)), each) for each in days)
    noon = dt.timedelta(hours=12)
    assert ["22", "20"] == [each.path.name for each in at(history, days[1] + noon)]
    assert ["24", "22", "20"] == [each.path.name for each in at(history, days[2] + noon)]
    assert ["20", "22", "24"] == [each.path.name for each in at(history, days[0] - noon)]


def test_the_users_directory_is_where_xdg_says(tmp_path: Path) -> None:
    """XDG_STATE_HOME when it is absolute, else ~/.local/state."""
    assert tmp_path / "envdoctor" == Shelf.of_user({"XDG_STATE_HOME": str(tmp_path)}).top
    assert Path("~/.local/state/envdoctor").expanduser() == Shelf.of_user({"XDG_STATE_HOME": "relative"}).top
