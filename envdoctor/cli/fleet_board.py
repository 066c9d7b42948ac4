"""Which board the ranks of this run use, by what their launcher offers."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envdoctor.fleet.board import PREFIX, BoardError, HttpBoard, OpenBoard, StuckError, join
from envdoctor.runner.courier import Courier, CourierError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from envdoctor.fleet.board import Board
    from envdoctor.fleet.launch import Launch
    from envdoctor.target import Patient

STORE_PREFIX = "envdoctor/fleet"
PATIENCE = 10.0  # seconds for one answer


@dataclass
class CourierBoard:
    """A board through the courier, who speaks to the launcher's own store."""

    courier: Courier

    def put(self, key: str, data: bytes) -> None:
        """Leave a notice."""
        with _as_board_errors():
            self.courier.put(key, data)

    def look(self, keys: Iterable[str]) -> Mapping[str, bytes]:
        """Give the notices that are there."""
        with _as_board_errors():
            return self.courier.look(keys)

    def join(self, until: float) -> None:
        """Wait until the courier has joined the store."""
        with _as_board_errors():
            self.courier.join(until)

    def close(self) -> None:
        """Let the courier end."""
        self.courier.close()


@contextlib.contextmanager
def _as_board_errors() -> Iterator[None]:
    try:
        yield
    except CourierError as error:
        raise (StuckError if error.size else BoardError)(str(error)) from error


@dataclass
class StoreAndBoard:
    """Rank 0's two boards: the launcher's store, and one of its own for ranks that cannot speak to the store.

    Torch may not import there, or the launcher ends the run before it has.
    """

    store: CourierBoard
    beside: OpenBoard
    on_store: bool = False
    in_a_hurry: bool = False

    def put(self, key: str, data: bytes) -> None:
        """Leave a notice on both."""
        self.beside.put(key, data)
        if self.on_store:
            self.store.put(key, data)

    def look(self, keys: Iterable[str]) -> Mapping[str, bytes]:
        """Give the notices that are on either."""
        wanted = list(keys)
        return {**self.beside.look(wanted), **(self.store.look(wanted) if self.on_store else {})}

    def join(self, until: float) -> None:
        """Join the store; in a hurry, what is open already will do."""
        try:
            self.store.join(until)
        except BoardError:
            if not self.in_a_hurry:
                raise
        else:
            self.on_store = True

    def hurry(self) -> None:
        """Take what can be had at once."""
        self.in_a_hurry = True

    def close(self) -> None:
        """Let both go."""
        self.store.close()
        self.beside.close()


@dataclass
class StoreOrBoard:
    """Another rank's way: the launcher's store, or rank 0's own board when the store cannot be spoken to from here."""

    store: CourierBoard
    beside: HttpBoard
    refused: str = ""
    in_a_hurry: bool = False

    def put(self, key: str, data: bytes) -> None:
        """Leave a notice; in a hurry on both, as rank 0 may have joined only one of them."""
        if self.in_a_hurry and not self.refused:
            with contextlib.suppress(BoardError):
                self.beside.put(key, data)
        try:
            (self.beside if self.refused else self.store).put(key, data)
        except StuckError as error:  # it stays in the store's connection: whatever is said now has to go another way
            self.refused = str(error)
            raise

    def look(self, keys: Iterable[str]) -> Mapping[str, bytes]:
        """Give the notices that are there."""
        return (self.beside if self.refused else self.store).look(keys)

    def join(self, until: float) -> None:
        """Join the store; once that has failed for good, the board beside it. Raises the store's own words."""
        if not self.refused:
            try:
                self.store.join(until)
            except BoardError as error:
                if self.store.courier.alive and not self.in_a_hurry:
                    raise
                self.refused = str(error)
            else:
                return
        try:
            join(self.beside, until)
        except BoardError as error:
            raise BoardError(self.refused) from error

    def hurry(self) -> None:
        """Take what can be had at once."""
        self.in_a_hurry = True

    def close(self) -> None:
        """Let both go."""
        self.store.close()
        self.beside.close()


@dataclass
class Meet:
    """The board of this rank, how to join it, and why it cannot be opened, where this rank has to."""

    board: Board
    joining: Callable[[float], None]
    hurry: Callable[[], None] = lambda: None
    cannot_listen: str = ""
    path: str = ""  # of an HTTP board, for the look at the meeting point


def meet(launch: Launch, patient: Patient, seconds: float) -> Meet:
    """Open or approach the board. Raises ``BoardError`` when not even that can be begun."""
    if launch.keeps_store:
        return _at_store(launch, patient, seconds)
    path = f"{PREFIX}{launch.run}/"
    if not launch.hosts:
        way = HttpBoard(launch.run, launch.address, launch.port)
        return Meet(way, lambda until: join(way, until), path=path)
    opened = OpenBoard(launch.run, launch.address, launch.port, everywhere=launch.several_nodes is not False)
    words = _opened(opened)
    joining = (lambda _until: _cannot(words)) if words else (lambda _until: None)
    return Meet(opened, joining, cannot_listen=words, path=path)


def _at_store(launch: Launch, patient: Patient, seconds: float) -> Meet:
    prefix = f"{STORE_PREFIX}/{launch.run}"
    try:
        store = CourierBoard(Courier(patient, launch.address, launch.port, prefix, seconds=seconds, patience=PATIENCE))
    except CourierError as error:
        raise BoardError(str(error)) from error
    if launch.rank:
        either = StoreOrBoard(store, HttpBoard(launch.run, launch.address, launch.port_beside))
        return Meet(either, either.join, either.hurry)
    beside = OpenBoard(launch.run, launch.address, launch.port_beside, everywhere=launch.several_nodes is not False)
    if _opened(beside):
        return Meet(store, store.join)  # somebody has the port: then there is only the store
    both = StoreAndBoard(store, beside)
    return Meet(both, both.join, both.hurry)


def _opened(board: OpenBoard) -> str:
    """Open a board; give the words of why that cannot be, or nothing."""
    try:
        board.open()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _cannot(words: str) -> None:
    raise BoardError(words)
