"""SQLite's errors in this library's words.

Promise: every exception that ``sqlite3`` can raise becomes one of ours with a hint, the original chained; the texts
name tables, columns and constraints, never the value of a bound parameter nor a stored one. (The chained original may:
SQLite quotes a full-text query or a JSON path that it could not run, and text that it could not decode.)
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from memoryos_uow.errors import (
    LedgerBusy,
    LedgerCorrupt,
    LedgerError,
    StoreError,
    UsageError,
)

if TYPE_CHECKING:
    from types import TracebackType

    from memoryos_uow.errors import (
        UnitOfWorkError,
    )

# Primary result codes, https://sqlite.org/rescode.html
_ERROR: Final = 1
_BUSY: Final = 5
_LOCKED: Final = 6
_NOMEM: Final = 7
_READONLY: Final = 8
_CORRUPT: Final = 11
_FULL: Final = 13
_CANTOPEN: Final = 14
_PROTOCOL: Final = 15
_TOOBIG: Final = 18
_CONSTRAINT: Final = 19
_MISMATCH: Final = 20
_NOTADB: Final = 26

_WAITING: Final = (_BUSY, _LOCKED, _PROTOCOL)  # _PROTOCOL: too many connections began to use the log at once

FOREIGN: Final = (sqlite3.Error, sqlite3.Warning, UnicodeError, OverflowError, MemoryError)
"""What a call of ``sqlite3`` may raise besides exceptions of signal handlers: a name in a damaged file that is not
UTF-8 arrives as UnicodeError, an integer beyond 64 bits as OverflowError, SQLITE_NOMEM as MemoryError."""

# How sqlite3 begins what it says, without any code, of stored text that is not UTF-8; the text itself follows.
_UNDECODABLE: Final = "Could not decode to UTF-8"

_SYNC_FAILED: Final = (1034, 1290)  # SQLITE_IOERR_FSYNC, SQLITE_IOERR_DIR_FSYNC

_WORDS: Final = {
    _NOMEM: ("There is not enough memory.", "Free some memory, then run the unit again."),
    _FULL: ("The disk is full.", "Free some space, then run the unit again."),
    _READONLY: ("The ledger cannot be written.", "Check the permissions of the file and of its directory."),
    _CANTOPEN: ("The ledger's file cannot be opened.", "Check that the directory exists and may be written."),
}


def is_busy(error: BaseException) -> bool:
    """Say whether `error` means that another connection holds the lock."""
    return _primary_code(error) in _WAITING


def leaves_doubt(error: BaseException) -> bool:
    """Say whether a failed commit may have left a whole transaction in the log, to be found after a crash.

    That is so when everything was written and only the sync failed: nothing may be assumed of it then.
    """
    return getattr(error, "sqlite_errorcode", None) in _SYNC_FAILED


def _primary_code(error: BaseException) -> int:
    if isinstance(error, MemoryError):
        return _NOMEM
    # Errors that sqlite3 makes itself (closed connection, wrong parameter count) have no code.
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def translate(error: BaseException, path: str, *, with_values: bool = False) -> UnitOfWorkError:
    """Return the error of ours that says what `error`, raised by ``sqlite3`` for the file `path`, means.

    `with_values`: a statement with bound parameters ran, so that SQLite's own words may quote one.
    """
    code = _primary_code(error)
    if code in _WAITING:
        return LedgerBusy(
            f"Other writers kept {path} locked.",
            hint="Nothing was written. Run the unit again, or allow more busy_timeout.",
        )
    undecodable = isinstance(error, UnicodeDecodeError) or str(error).startswith(_UNDECODABLE)
    if undecodable or code in (_CORRUPT, _NOTADB):
        what = "is not a SQLite database" if code == _NOTADB else "is damaged"
        return LedgerCorrupt(
            f"The file {path} {'holds text that is not valid UTF-8' if undecodable else what}.",
            hint="It was left as it is. Check the path, or restore the file from a copy.",
        )
    if code == _CONSTRAINT:
        return StoreError(f"A constraint refused the write: {error}.", hint="Nothing of the unit was written.")
    if code in (_TOOBIG, _MISMATCH) or isinstance(error, (OverflowError, UnicodeEncodeError)):
        return UsageError(
            "A value does not fit into SQLite.",
            hint="Nothing was written. Integers have 64 bits, texts are valid Unicode, values end at about 1 GB.",
        )
    if code in (0, _ERROR) or isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError)):
        why = "" if code == _ERROR and with_values else f": {error}"
        return UsageError(f"SQLite refused the statement{why}.", hint="Nothing of the unit was written.")
    message, hint = _WORDS.get(code, (f"SQLite reports: {error}.", "Check the disk, then run the unit again."))
    return LedgerError(f"{message} The ledger is {path}.", hint=f"Nothing of the unit was written. {hint}")


class translated:  # noqa: N801 - called like a function; as a generator it took twice as long, for every unit
    """Turn what ``sqlite3`` raises inside the block into our errors."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, FOREIGN):
            raise translate(error, self._path) from error
