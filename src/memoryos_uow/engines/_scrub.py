"""Removes from a ledger's file what SQLite leaves behind when rows are deleted: free pages, slack, the log.

Promise: nothing is lost but what is deleted already. Where `empty_log` answers True, no byte of a row that was deleted
before is left in the file's log, and after `write_anew` none in the file. What the file system, the disk or a backup
kept of former versions is out of reach.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from memoryos_uow import _ambient
from memoryos_uow._backoff import delay_s

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memoryos_uow.engines.sqlite import SQLiteEngine

_INT32_MAX: Final = 2**31 - 1


@contextmanager
def deleting_securely(engine: SQLiteEngine) -> Iterator[None]:
    """Have the writer overwrite with zeros what it deletes in the block (PRAGMA secure_delete).

    https://sqlite.org/pragma.html#pragma_secure_delete: what earlier deletes left is not touched by it.
    """
    with engine.setup_connection() as connection:
        before = connection.execute("PRAGMA secure_delete").fetchone()[0]
        connection.execute("PRAGMA secure_delete = ON").fetchone()
    try:
        yield
    finally:
        with suppress(sqlite3.Error), engine.setup_connection() as connection:
            connection.execute(f"PRAGMA secure_delete = {before:d}").fetchone()


def write_anew(engine: SQLiteEngine, *, wait_s: float) -> None:
    """Write the whole file anew without its free pages and slack (VACUUM); takes as long as copying it.

    Raises:
        LedgerBusy: others kept it locked for longer than `wait_s` seconds.
        LedgerError: there is no room for the copy.
    """
    with _waiting(engine, wait_s) as connection:
        connection.execute("VACUUM")


def empty_log(engine: SQLiteEngine, *, wait_s: float) -> bool:
    """Copy the log into the file and cut it to nothing; return whether that could be done within `wait_s` seconds.

    It cannot as long as somebody still reads an earlier state, or another connection is copying the log: for the latter
    SQLite asks no busy handler (https://sqlite.org/c3ref/wal_checkpoint_v2.html), so the waiting is done here.
    """
    begun, attempt = _ambient.monotonic_ns(), 0
    while True:
        with engine.setup_connection() as connection:
            busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if not busy or (_ambient.monotonic_ns() - begun) / 1e9 >= wait_s:
            return not busy
        _ambient.sleep(delay_s(attempt, _ambient.random_fraction()))
        attempt += 1


@contextmanager
def _waiting(engine: SQLiteEngine, wait_s: float) -> Iterator[sqlite3.Connection]:
    """Lend the writer connection, which then waits by itself for others."""
    with engine.setup_connection() as connection:
        connection.execute(f"PRAGMA busy_timeout = {min(int(wait_s * 1000), _INT32_MAX)}")
        try:
            yield connection
        finally:
            connection.execute("PRAGMA busy_timeout = 0")
