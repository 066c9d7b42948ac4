"""Members from files: saved snapshots and reports. What is none is named and left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envdoctor.fleet.reporting import Skipped
from envdoctor.snapshot import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from envdoctor.fleet.reporting import Fleet

LARGEST = 64 << 20  # a snapshot has 100 KB; a file of another kind may have any size
SUFFIX = ".json"


def files_of(paths: Iterable[Path]) -> Iterator[Path]:
    """Give the files: those of a directory (``*.json``, not deeper) by name, and others as they are."""
    for path in paths:
        if path.is_dir():
            yield from sorted(each for each in path.iterdir() if each.suffix == SUFFIX and not each.is_dir())
        else:
            yield path


def read(fleet: Fleet, files: Sequence[Path], tell: Callable[[int], object] = lambda _number: None) -> None:
    """Take every file. ``tell`` hears after each how many there were."""
    names = _names(files)
    for number, (file, name) in enumerate(zip(files, names, strict=True), 1):
        try:
            fleet.add(_bytes(file), name)
        except SnapshotError as error:
            fleet.skipped.append(Skipped(str(file), str(error)))
        tell(number)


def _bytes(file: Path) -> bytes:
    try:
        if file.stat().st_size > LARGEST:
            raise SnapshotError(f"larger than {LARGEST >> 20} MiB: no snapshot")
        if not file.is_file():
            raise SnapshotError("no regular file")
        return file.read_bytes()
    except OSError as error:
        raise SnapshotError(f"cannot be read: {error.strerror or error}") from None


def _names(files: Sequence[Path]) -> list[str]:
    """Name each member by its file; where two have one name, by its path."""
    stems = [file.name.removesuffix(SUFFIX) for file in files]
    twice = {each for each in stems if stems.count(each) > 1} if len(set(stems)) < len(stems) else set()
    return [str(file) if stem in twice else stem for file, stem in zip(files, stems, strict=True)]
