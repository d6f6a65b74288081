"""The way up to 1.1.0, from nothing, from 1.0.0 and from anything in between: one transaction, idempotent.

The steps, all inside it:

1.  Look again: another process may have been faster.
2.  Create the tables of 1.0.0 that are missing.
3.  Run the specification's forward migration, leaving out the columns that are there.
4.  Create the library's own tables and views that are missing.
5.  Compare what is there now with what should be; refuse what does not fit.
6.  Number the log anew if units were written at 1.0.0 since its last one.
7.  Write down who this ledger is and what was applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memoryos_uow import _ambient, _schema
from memoryos_uow._migrations.renumbering import renumber_log
from memoryos_uow._migrations.shape import columns_of, problems
from memoryos_uow._migrations.state import Kind, inspect
from memoryos_uow._migrations.waiting import DEFAULT_TIMEOUT_S, translated, write_transaction
from memoryos_uow._migrations.words import file_of, listed, silent
from memoryos_uow.errors import MigrationError, SchemaTooNew

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from memoryos_uow._migrations.state import SchemaState


def migrate_up(
    conn: sqlite3.Connection,
    *,
    origin: str | None = None,
    busy_timeout_s: float = DEFAULT_TIMEOUT_S,
    progress: Callable[[str], None] | None = None,
) -> bool:
    """Bring the file of `conn` to 1.1.0; return whether anything was done.

    `origin` names a ledger that has no name yet; by default its name is made from its random id. `progress` is told
    in a few words what is being done. Waits for the write lock for at most `busy_timeout_s` seconds.

    Raises:
        SchemaTooNew: a later version of this library wrote the file.
        MigrationError: something is in the way, or the file cannot be written; nothing was changed.
        LedgerCorrupt: the file is damaged or not a database.
        LedgerBusy: the lock was not free in time.
    """
    if inspect(conn, busy_timeout_s=busy_timeout_s).kind is Kind.CURRENT:
        return False
    tell = progress or silent
    tell("waiting for the write lock")
    with translated(conn), write_transaction(conn, busy_timeout_s):
        state = inspect(conn)
        if state.kind is Kind.CURRENT:
            return False
        refuse_unfit(conn, state)
        _apply(conn, tell)
        _refuse_problems(conn)
        renumber_log(conn)
        _record(conn, origin)
        tell("committing")
    return True


def refuse_unfit(conn: sqlite3.Connection, state: SchemaState) -> None:
    """Raise for a file that can be migrated neither up nor down.

    Raises:
        SchemaTooNew: a later version of this library wrote it.
        MigrationError: it is not a ledger's.
    """
    if state.kind is Kind.TOO_NEW:
        raise SchemaTooNew(
            f"The schema of {file_of(conn)} is {state.version}; this library ends at {_schema.LEDGER_LAYOUT}.",
            hint="Nothing was changed. Install the version of memoryos-uow that wrote it, or a later one.",
        )
    if state.kind is Kind.FOREIGN:
        raise MigrationError(
            f"{file_of(conn)} has a table with the name of a ledger's that is none: it lacks {listed(state.missing)}.",
            hint="Nothing was changed. Give the ledger a file of its own, or rename that table.",
        )


def _apply(conn: sqlite3.Connection, tell: Callable[[str], None]) -> None:
    tell("creating tables")
    for statement in _schema.statements(_schema.BASE):
        conn.execute(statement)
    there = {table: columns_of(conn, table) for table in _schema.CONTRACT_TABLES}
    unneeded = {added.statement for added in _schema.added_columns() if added.column in there[added.table]}
    tell("adding columns and indexes")
    for statement in _schema.statements(_schema.UP):
        if statement not in unneeded:
            conn.execute(statement)
    for statement in _schema.statements(_schema.LEDGER):
        conn.execute(statement)


def _refuse_problems(conn: sqlite3.Connection) -> None:
    found = problems(conn)
    if found:
        raise MigrationError(
            f"{file_of(conn)} cannot become a ledger of 1.1.0: {listed(found)}.",
            hint="Nothing was changed. Copy the file, change or remove that by hand, then open it again.",
        )


def _record(conn: sqlite3.Connection, origin: str | None) -> None:
    ledger_id, now = _ambient.random_hex(), _ambient.now_text()
    conn.execute(
        "INSERT INTO uow_identity (id, ledger_id, origin, created_ts) VALUES (1, ?, ?, ?) ON CONFLICT DO NOTHING",
        (ledger_id, origin or f"memoryos-uow/{ledger_id[:16]}", now),
    )
    conn.executemany(
        "INSERT INTO uow_schema (version, applied_ts, checksum) VALUES (?, ?, ?) ON CONFLICT (version)"
        " DO UPDATE SET applied_ts = excluded.applied_ts, checksum = excluded.checksum"
        " WHERE uow_schema.checksum <> excluded.checksum",
        [(version, now, _schema.checksum(name)) for version, name in _schema.LAYERS.items()],
    )
