"""One write transaction for a migration: waiting for the lock, all or nothing, SQLite's errors in our words."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

from memoryos_uow import _ambient
from memoryos_uow._backoff import delay_s
from memoryos_uow._migrations.words import file_of
from memoryos_uow.errors import LedgerBusy, LedgerCorrupt, MigrationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memoryos_uow.errors import LedgerError

T = TypeVar("T")

DEFAULT_TIMEOUT_S: Final = 30.0

# Primary result codes, https://sqlite.org/rescode.html
_BUSY: Final = 5
_LOCKED: Final = 6
_READONLY: Final = 8
_CORRUPT: Final = 11
_FULL: Final = 13
_CANTOPEN: Final = 14
_NOTADB: Final = 26

# What sqlite3 says, without any code, of text in a damaged file that is not UTF-8.
_UNDECODABLE: Final = "Could not decode to UTF-8"


def _code(error: BaseException) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def patiently(call: Callable[[], T], busy_timeout_s: float) -> T:
    """Return what `call` returns, trying again with jitter while another connection holds the lock.

    SQLite's own busy handler is not relied on: it is not asked everywhere, and its fixed steps starve some waiters.
    """
    begun = _ambient.monotonic_ns()
    attempt = 0
    while True:
        try:
            return call()
        except sqlite3.OperationalError as error:
            waited_s = (_ambient.monotonic_ns() - begun) / 1e9
            if _code(error) not in (_BUSY, _LOCKED) or waited_s >= busy_timeout_s:
                raise
        _ambient.sleep(delay_s(attempt, _ambient.random_fraction()))
        attempt += 1


@contextmanager
def write_transaction(conn: sqlite3.Connection, busy_timeout_s: float) -> Iterator[None]:
    """Hold the write lock for the block: committed if the block ends well, without trace if not.

    The commit waits too: without a write-ahead log, readers hold it up.
    """
    patiently(lambda: conn.execute("BEGIN IMMEDIATE"), busy_timeout_s)
    try:
        yield
        patiently(lambda: conn.execute("COMMIT"), busy_timeout_s)
    except BaseException:
        # The first error tells more; and what is not rolled back now is so at the next opening.
        with suppress(sqlite3.Error):
            conn.execute("ROLLBACK")
        raise


@contextmanager
def translated(conn: sqlite3.Connection) -> Iterator[None]:
    """Turn what ``sqlite3`` raises inside the block into an error of ours, the original chained."""
    try:
        yield
    except (sqlite3.Error, UnicodeError) as error:
        raise _translate(error, file_of(conn)) from error


def _translate(error: Exception, path: str) -> LedgerError:
    code = _code(error)
    if code in (_BUSY, _LOCKED):
        return LedgerBusy(
            f"Others kept {path} locked while its schema was to be looked at or migrated.",
            hint="Nothing was changed. Open it again, or allow more busy_timeout.",
        )
    damaged = isinstance(error, UnicodeDecodeError) or str(error).startswith(_UNDECODABLE)
    if damaged or code in (_CORRUPT, _NOTADB):
        what = "is not a SQLite database" if code == _NOTADB else "is damaged"
        return LedgerCorrupt(
            f"The file {path} {what}.",
            hint="It was left as it is. Check the path, or restore the file from a copy.",
        )
    if code in (_READONLY, _CANTOPEN):
        return MigrationError(
            f"The schema of {path} has to be migrated, and the file or its directory cannot be written.",
            hint="Nothing was changed. Make both writable, or open a writable copy.",
        )
    if code == _FULL:
        return MigrationError(
            f"The disk is full, so the schema of {path} was not migrated.",
            hint="Nothing was changed. Free some space, then open it again.",
        )
    return MigrationError(
        f"SQLite refused a step of the migration of {path}: {error}.",
        hint="Nothing was changed: the file is as it was before.",
    )
