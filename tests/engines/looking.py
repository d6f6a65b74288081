"""Looking at an engine's file from outside, and letting signals and locks tell when they are waited for."""

from __future__ import annotations

import _thread
import itertools
import signal
import sqlite3
import threading
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from memoryos_uow.errors import UnitOfWorkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memoryos_uow.engines.sqlite import SQLiteEngine


PATIENT_S = 60.0  # never waited for in full: what is waited for is sure to come


def rows(path: Path, sql: str = "SELECT x FROM t ORDER BY rowid") -> list[Any]:
    """The first column of a query, asked on a connection that has nothing to do with the library."""
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute(sql)]


def insert(engine: SQLiteEngine, value: object) -> None:
    """Commit one row to t."""
    tx = engine.begin()
    tx.execute("INSERT INTO t VALUES (?)", (value,))
    tx.commit()


def is_free(engine: SQLiteEngine) -> bool:
    """Whether nobody holds the lock: a transaction begins at once, here and on a connection of its own."""
    with closing(sqlite3.connect(engine.path, timeout=0, isolation_level=None)) as elsewhere:
        try:
            elsewhere.execute("BEGIN IMMEDIATE")
            elsewhere.execute("ROLLBACK")
            engine.begin(wait_s=0).rollback()
        except (sqlite3.OperationalError, UnitOfWorkError):
            return False
    return True


class WatchedLock:
    """A lock that says when somebody has to wait for it."""

    def __init__(self) -> None:
        self.waited_for = threading.Event()
        self._lock = threading.Lock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if blocking:
            self.waited_for.set()
        return self._lock.acquire(blocking, timeout)

    def release(self) -> None:
        self._lock.release()


def watch_turn(engine: SQLiteEngine) -> threading.Event:
    """The event that is set when somebody has to wait for the engine's writer."""
    lock = WatchedLock()
    engine._turn = lock  # type: ignore[assignment]
    return lock.waited_for


@contextmanager
def thread(do: Callable[[], object]) -> Iterator[list[BaseException]]:
    """Run `do` in a thread beside the block; what it raises is in the list when the block has ended."""
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            do()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test wants to see it
            raised.append(error)

    beside = threading.Thread(target=guarded)
    beside.start()
    try:
        yield raised
    finally:
        beside.join()


@contextmanager
def interrupted_inside(connection: sqlite3.Connection) -> Iterator[None]:
    """Let a signal arrive while `connection` runs its next statement, with a handler that raises KeyboardInterrupt.

    SQLite reports the statement to a callback that is C all through, so that Python comes to its signal handler only
    after SQLite has returned: as with a signal that arrives while SQLite waits for the disk.
    """

    def handler(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, handler)
    once = itertools.starmap(_thread.interrupt_main, [(signal.SIGUSR1,)])
    connection.set_trace_callback(partial(next, once))
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)
        with suppress(sqlite3.ProgrammingError):  # the connection may have been given up
            connection.set_trace_callback(None)


def keepers() -> int:
    """How many threads keep a log in this process; other parts of the library may have threads of their own."""
    return sum(thread.name == "memoryos-uow WAL keeper" for thread in threading.enumerate())
