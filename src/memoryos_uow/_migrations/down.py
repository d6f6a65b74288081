"""The way down to 1.0.0: softly as the specification says, or in full with a backup first.

The full way, all under the write lock:

1.  Refuse what would not survive: units in doubt, undelivered messages, and anything of the application's that is
    built on what goes away.
2.  Write a backup of the whole file beside it (``VACUUM INTO``), check it, make it durable.
3.  Drop the library's own tables; the users' records (``stores.sql``) stay unless there are none.
4.  Build both tables anew without the columns of 1.1.0, once each, rows and row numbers as they were.
5.  Compare: foreign keys, and every view and trigger of the application's, hold as well as before.

The columns and constraints that an application gave to the two tables beside the contract's stay, as do its
indexes, triggers and views on them: the text of each table is what SQLite itself leaves of it after ``DROP COLUMN``,
carried out on an empty copy in memory, where it costs nothing.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from memoryos_uow import _ambient, _released_head, _schema
from memoryos_uow._migrations.backup import write_backup
from memoryos_uow._migrations.rebuild import Rebuild
from memoryos_uow._migrations.state import Kind, inspect
from memoryos_uow._migrations.up import refuse_unfit
from memoryos_uow._migrations.waiting import DEFAULT_TIMEOUT_S, translated, write_transaction
from memoryos_uow._migrations.words import file_of, listed, silent
from memoryos_uow._names import CONTRACT_VERSION
from memoryos_uow.errors import MigrationError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memoryos_uow._migrations.state import SchemaState

_DOWN_ALREADY = (Kind.NEW, Kind.BASIC)


def migrate_down(
    conn: sqlite3.Connection,
    path: Path,
    *,
    soft: bool = False,
    backup: Path | None = None,
    busy_timeout_s: float = DEFAULT_TIMEOUT_S,
    progress: Callable[[str], None] | None = None,
) -> Path | None:
    """Take the file of `conn`, which is at `path`, down to 1.0.0; return the path of the backup if one was made.

    `soft` gives up the contents of the columns of 1.1.0, keeps the columns, the library's own tables and every
    record, and makes no backup. The full way restores the tables of 1.0.0 and drops the library's bookkeeping; its
    backup goes to `backup`, by default beside the file under a name with the time, and never replaces a file. A
    ledger that is down already stays as it is, and None is returned.

    Raises:
        SchemaTooNew: a later version of this library wrote the file.
        MigrationError: something is in the way, or the backup cannot be made; nothing was changed.
        LedgerCorrupt: the file is damaged or not a database.
        LedgerBusy: the lock was not free within `busy_timeout_s` seconds.
    """
    tell = progress or silent
    with translated(conn), _unguarded(conn):
        tell("waiting for the write lock")
        with write_transaction(conn, busy_timeout_s):
            state = inspect(conn)
            refuse_unfit(conn, state)
            if state.kind in _DOWN_ALREADY:
                return None
            if soft:
                _give_up(conn, state, tell)
                return None
            written = _rebuild(conn, backup or _backup_path(path), path, tell)
        _released_head.move(path, to=written)  # it speaks of the log that is in the backup now
    return written


def _backup_path(path: Path) -> Path:
    stamp = _ambient.now_text().translate({ord(mark): None for mark in "-:."})
    return path.with_name(f"{path.stem}.before-1.0.0.{stamp}{path.suffix}")


def _give_up(conn: sqlite3.Connection, state: SchemaState, tell: Callable[[str], None]) -> None:
    if state.kind is Kind.SOFT:
        return
    columns = {f"{added.table}.{added.column}" for added in _schema.added_columns()}
    if lacking := sorted(columns.intersection(state.missing)):
        raise MigrationError(
            f"{file_of(conn)} holds only a part of 1.1.0, without {listed(lacking)}: nothing to give up softly.",
            hint="Nothing was changed. Migrate it up first, or down without --soft.",
        )
    tell("emptying the columns of 1.1.0")
    for statement in _schema.statements(_schema.DOWN):
        conn.execute(statement)
    if "table uow_schema" not in state.missing:
        conn.execute("DELETE FROM uow_schema WHERE version = ?", (CONTRACT_VERSION,))


def _refuse_unsettled(conn: sqlite3.Connection) -> None:
    """Refuse a ledger with units that stores outside it have not answered for: 1.0.0 could not finish them."""
    if not conn.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'uow_coordination'").fetchone():
        return
    unsettled = conn.execute("SELECT count(*) FROM uow_coordination").fetchone()[0]
    if unsettled:
        raise MigrationError(
            f"{file_of(conn)} has {unsettled:,} units that are at work or in doubt.",
            hint="Nothing was changed. Close the programs that use it, run recover, then migrate down.",
        )


def _refuse_undelivered(conn: sqlite3.Connection) -> None:
    """Refuse a ledger whose outbox is not empty: programs of 1.0.0 would never deliver what their rows promise."""
    if not conn.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'uow_outbox'").fetchone():
        return
    undelivered = conn.execute("SELECT count(*) FROM uow_outbox").fetchone()[0]
    if undelivered:
        raise MigrationError(
            f"{file_of(conn)} has {undelivered:,} messages in its outbox that are not delivered yet.",
            hint="Nothing was changed. Deliver them with `memoryos-uow relay`, or drop them with"
            " `memoryos-uow outbox drop`, then migrate down.",
        )


def _rebuild(conn: sqlite3.Connection, backup: Path, path: Path, tell: Callable[[str], None]) -> Path:
    _refuse_unsettled(conn)
    _refuse_undelivered(conn)
    rebuild = Rebuild(conn)
    tell(f"writing a backup to {backup.name}")
    with write_backup(path, backup):
        tell("rebuilding the tables of 1.0.0")
        rebuild.run()
        tell("committing")
    return backup


@contextmanager
def _unguarded(conn: sqlite3.Connection) -> Iterator[None]:
    """Let tables be replaced under those that refer to them; ``foreign_keys`` obeys outside a transaction only.

    Without ``legacy_alter_table`` a RENAME would rewrite the references in the application's triggers and views.
    """
    settings = ("foreign_keys", "legacy_alter_table")
    before = {name: conn.execute(f"PRAGMA {name}").fetchone()[0] for name in settings}
    try:
        conn.execute("PRAGMA foreign_keys = OFF")
        conn.execute("PRAGMA legacy_alter_table = ON")
        yield
    finally:
        for name, value in before.items():
            conn.execute(f"PRAGMA {name} = {value}")
