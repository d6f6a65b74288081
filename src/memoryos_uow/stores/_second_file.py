"""The connection to a second SQLite file, and the tables in it: records with the version that wrote them last.

Promise: `apply` brings about the same whatever is applied twice, late, or out of order, because a record never goes
back to an older version and a deleted one leaves its version behind. Durable is what was applied before `sync`; SQLite
itself syncs the log only before it copies it into the file (``synchronous = NORMAL``), so a power cut takes back the
newest transactions, never a part of one.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from memoryos_uow import _ambient, _schema
from memoryos_uow._canonical import canonical, sha256_hex
from memoryos_uow._names import Operation
from memoryos_uow._wal import sync_log
from memoryos_uow.errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from memoryos_uow.abc import Redo

# What was erased leaves its version under a digest of its space and key, in the space '' that no record can have: so a
# process that wakes up late cannot bring it back.
_APPLY: Final = (
    "INSERT INTO uow_records (space_id, key, version, value) SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS"
    " (SELECT 1 FROM uow_records WHERE space_id = '' AND key = ?5 AND version >= ?3)"
    " ON CONFLICT (space_id, key) DO UPDATE SET version = excluded.version, value = excluded.value"
    " WHERE excluded.version >= version"
)
_ANY_ERASED: Final = "SELECT EXISTS (SELECT 1 FROM uow_records WHERE space_id = '')"
_PAGE: Final = (
    "SELECT id, CAST(space_id AS TEXT), CAST(key AS TEXT) FROM uow_records"
    " WHERE id > ? AND value IS NOT NULL ORDER BY id LIMIT 1000"
)
_WAIT_MS: Final = 30_000


class SecondFile:
    """One connection per process to the file, used by one thread at a time."""

    def __init__(self, path: Path, store: str) -> None:
        self.path = path
        self._store = store
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._opened: tuple[int, int] | None = None  # device and inode of the file that the connection has open
        self._unsynced: set[tuple[int, int] | None] = set()  # files that hold what is to be synced: one, unless swapped
        self._ledger_id: str | None = None
        self._read_only = False
        _files.add(self)

    def claim(self, ledger_id: str) -> None:
        """Create the tables if need be, and make the file this ledger's.

        Raises:
            StoreError: the file belongs to another ledger or store, or cannot keep a write-ahead log.
            StoreUnavailable: it cannot be written.
        """
        self._ledger_id = None
        with self._use(make=True) as connection:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise self.refusal(f"keeps no write-ahead log, only {mode!r}", "Put it on a local disk.")
            connection.execute("BEGIN IMMEDIATE")
            try:
                for statement in _schema.statements(_schema.SECOND_FILE):
                    connection.execute(statement)
                connection.execute("INSERT OR IGNORE INTO uow_home VALUES (1, ?, ?)", (ledger_id, self._store))
                owner = connection.execute("SELECT ledger_id, store FROM uow_home").fetchone()
                connection.execute("COMMIT")
                sync_log(self.path)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        self._refuse_others(owner, ledger_id)
        self._ledger_id = ledger_id

    def expect(self, ledger_id: str, *, read_only: bool) -> None:
        """Look whether the file is this ledger's, now and whenever it is opened again; `read_only`: never write it.

        Raises:
            StoreError: it is not.
            StoreUnavailable: it cannot be read.
        """
        self._ledger_id, self._read_only = ledger_id, read_only
        with self._use():
            pass

    def _refuse_others(self, owner: tuple[str, str] | None, ledger_id: str) -> None:
        if owner != (ledger_id, self._store):
            whose = f"belongs to the store {owner[1]!r} of another ledger" if owner else "is no file of this store"
            raise self.refusal(whose, "Give every store a file of its own, and put this one back where it was.")

    def refusal(self, problem: str, hint: str) -> StoreError:
        """Return the error that says why the file cannot serve."""
        return StoreError(
            f"The file {self.path} of the store {self._store!r} {problem}.",
            hint=f"Nothing was written. {hint}",
            store=self._store,
        )

    def apply(self, entries: Sequence[Redo]) -> None:
        """Bring the records to what `entries`, in commit order, say, unless they are further already. Not yet durable.

        Raises:
            StoreUnavailable: the file cannot be written at the moment.
        """
        with self._use() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                # Working out the digests is most of the work, and hardly any file has one to compare with.
                any_erased = connection.execute(_ANY_ERASED).fetchone()[0]
                rows = (
                    (
                        e.space_id,
                        e.key,
                        e.commit_seq,
                        None if e.operation is Operation.DELETE else e.payload.decode(),
                        self._trace(e.space_id, e.key) if any_erased else None,
                    )
                    for e in entries
                )
                connection.executemany(_APPLY, rows)
                connection.execute("COMMIT")
                self._unsynced.add(self._opened)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def sync(self) -> None:
        """Make durable all that was applied, by whomever: also by a process that was killed before it could.

        Raises:
            StoreUnavailable: the disk failed, or the file is not there any more.
        """
        with self._use():
            written, self._unsynced = self._unsynced, set()
            if not written <= {self._opened}:
                raise sqlite3.OperationalError("another file is in its place")
            sync_log(self.path)

    def erase(self, space_id: str, key: str, version: int) -> None:
        """Remove a record's row unless it is newer than `version`, and what rows left in free pages and the log.

        Raises:
            StoreUnavailable: the file cannot be written at the moment, or somebody still reads an earlier state.
        """
        trace = (self._trace(space_id, key), version)
        with self._use() as connection:
            connection.execute("PRAGMA secure_delete = ON").fetchone()
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.execute(
                    "DELETE FROM uow_records WHERE space_id = ? AND key = ? AND version <= ?", (space_id, key, version)
                )
                connection.execute(
                    "INSERT INTO uow_records (space_id, key, version, value) VALUES ('', ?, ?, NULL)"
                    " ON CONFLICT (space_id, key) DO UPDATE SET version = max(version, excluded.version)",
                    trace,
                )
                connection.execute("COMMIT")
                sync_log(self.path)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            connection.execute("VACUUM")
            if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise sqlite3.OperationalError("somebody still reads an earlier state of it")
            self._let_go()  # the next one deletes as fast as before

    def _trace(self, space_id: str, key: str) -> str:
        """Return what stands for an erased record: it tells whoever can guess space and key, and nobody else."""
        return sha256_hex(canonical([self._ledger_id or "", space_id, key]))

    def row(self, space_id: str, key: str) -> tuple[int, str | None] | None:
        """Return version and text of a record, the text None if it was deleted; None if it never was there."""
        with self._use() as connection:
            found: tuple[int, str | None] | None = connection.execute(
                "SELECT version, value FROM uow_records WHERE space_id = ? AND key = ?", (space_id, key)
            ).fetchone()
            return found

    def newest(self, space_id: str, keys: Iterable[str]) -> int:
        """Return the greatest version of one of `keys`, deleted and erased ones included; 0 if none was ever there."""
        with self._use() as connection:
            looked = [
                found[0]
                for key in keys
                for place in ((space_id, key), ("", self._trace(space_id, key)))
                for found in connection.execute(
                    "SELECT version FROM uow_records WHERE space_id = ? AND key = ?", place
                ).fetchall()
            ]
            return max(looked, default=0)

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield space and key of every record that is not deleted, a thousand at a time."""
        last = 0
        while True:
            with self._use() as connection:
                found = connection.execute(_PAGE, (last,)).fetchall()
            if not found:
                return
            for _, space_id, key in found:
                yield space_id, key
            last = found[-1][0]

    @contextmanager
    def _use(self, *, make: bool = False) -> Iterator[sqlite3.Connection]:
        """Lend the connection; what SQLite raises becomes StoreUnavailable, and the connection is opened anew."""
        with self._lock:
            try:
                yield self._open(make=make)
            except (sqlite3.Error, OSError, UnicodeError) as error:
                self._let_go()
                raise StoreUnavailable(
                    f"The file {self.path} of the store {self._store!r} cannot be used: {error}.",
                    hint="Check the file, its directory and the disk; nothing that was decided is lost.",
                    store=self._store,
                ) from error
            if self._read_only:
                self._let_go()  # whether its log may be left aside can change

    def _open(self, *, make: bool) -> sqlite3.Connection:
        # A file that was removed or swapped is still there for whoever has it open: what is written to it is lost.
        if self._connection is None or self._pid != _ambient.process_id() or self._opened != self._identity():
            self._let_go()
            connection = sqlite3.connect(
                f"file:{quote(str(self.path))}?mode={self._mode(make=make)}",
                uri=True,
                timeout=_WAIT_MS / 1000,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection, self._pid, self._opened = connection, _ambient.process_id(), self._identity()
            for setting in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "synchronous = NORMAL"):
                connection.execute(f"PRAGMA {setting}")
            if self._ledger_id is not None:
                self._look(connection, self._ledger_id)
        return self._connection

    def _mode(self, *, make: bool) -> str:
        if not self._read_only:
            return "rwc" if make else "rw"
        log = self.path.with_name(f"{self.path.name}-wal")
        # Without a log nothing may change the file but its owner; with one, SQLite needs the files beside it.
        return "ro" if log.exists() and log.stat().st_size else "ro&immutable=1"

    def _identity(self) -> tuple[int, int]:
        found = self.path.stat()
        return found.st_dev, found.st_ino

    def _look(self, connection: sqlite3.Connection, ledger_id: str) -> None:
        owner = None
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'uow_home'").fetchone():
            owner = connection.execute("SELECT ledger_id, store FROM uow_home").fetchone()
        try:
            self._refuse_others(owner, ledger_id)
        except StoreError:
            self._let_go()
            raise

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == _ambient.process_id():
            connection.close()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._let_go()

    def rest(self) -> None:
        """Close the connection unless it is in use at the moment; it is opened again when needed."""
        if self._lock.acquire(blocking=False):
            try:
                self._let_go()
            finally:
                self._lock.release()


_files: weakref.WeakSet[SecondFile] = weakref.WeakSet()


def _before_fork() -> None:
    """Share no connection over a fork: a child that opens the file anew must not find locks that are not its own."""
    for file in list(_files):
        file.rest()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork)
