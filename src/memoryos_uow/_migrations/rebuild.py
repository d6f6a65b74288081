"""The tables of 1.0.0 made anew out of those of 1.1.0, with everything the application built around them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

from memoryos_uow import _schema
from memoryos_uow._migrations.shape import columns_of
from memoryos_uow._migrations.words import file_of, listed
from memoryos_uow.errors import MigrationError

if TYPE_CHECKING:
    from collections.abc import Iterable

_OLD: Final = "uow_rebuild_old"
_SQL_OF: Final = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND lower(name) = ?"
_REFERRING: Final = (
    'SELECT DISTINCT m.name, lower(f."table") FROM sqlite_schema AS m'
    " JOIN pragma_foreign_key_list(m.name) AS f WHERE m.type = 'table'"
)


def quoted(name: str) -> str:
    """Return `name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


class Rebuild:
    """One full way down, inside a transaction that holds the write lock; made before, run after the backup.

    Raises:
        MigrationError: something of the application's would not survive; the caller rolls back. `run` too.
    """

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._bookkeeping = {name: kind for kind, name in _schema.created(_schema.LEDGER)}
        self._dependents = self._objects_on(_schema.CONTRACT_TABLES)
        self._refuse_dependents_of_bookkeeping()
        self._plain = self._plain_tables()

    def run(self) -> None:
        """Carry it out, and compare."""
        working, orphans = self._working("before"), self._orphans()
        self._drop_bookkeeping()
        self._drop_empty_stores()
        for table, sql in self._plain.items():
            self._replace(table, sql)  # its indexes and triggers go with the old one
        for _, _, sql in self._dependents:
            self._conn.execute(sql)
        self._refuse_damage(sorted(working - self._working("after")), self._orphans() - orphans)

    # What is there

    def _objects_on(self, tables: Iterable[str]) -> list[tuple[str, str, str]]:
        """Return kind, name and SQL of the indexes, then the triggers on `tables` that are not ours."""
        rows = self._conn.execute(
            "SELECT type, name, sql, lower(tbl_name) FROM sqlite_schema"
            " WHERE type IN ('index', 'trigger') AND sql IS NOT NULL ORDER BY type, rowid"
        )
        ours = {name for file in (_schema.UP, _schema.LEDGER) for _, name in _schema.created(file)}
        return [(kind, name, sql) for kind, name, sql, on in rows if on in tables and name.lower() not in ours]

    def _refuse_dependents_of_bookkeeping(self) -> None:
        found = [f"{kind} {name}" for kind, name, _ in self._objects_on(self._bookkeeping)]
        if found:
            raise MigrationError(
                f"{file_of(self._conn)} has objects on tables that 1.0.0 does not know: {listed(found)}.",
                hint="Nothing was changed. Drop them first, or migrate down softly: that keeps those tables.",
            )

    def _plain_tables(self) -> dict[str, str]:
        """Return what is left of each table's SQL, and prove that the indexes on it can do without the rest."""
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as scratch:
            for table in _schema.CONTRACT_TABLES:
                for (sql,) in self._conn.execute(_SQL_OF, (table,)):
                    scratch.execute(sql)
            for kind, _, sql in self._dependents:
                if kind == "index":
                    scratch.execute(sql)
            for added in _schema.added_columns():
                if added.column in columns_of(scratch, added.table):
                    self._drop_column(scratch, added)
            left = scratch.execute("SELECT lower(name), sql FROM sqlite_schema WHERE type = 'table'")
            return {table: sql for table, sql in left if table in _schema.CONTRACT_TABLES}

    def _drop_column(self, scratch: sqlite3.Connection, added: _schema.AddedColumn) -> None:
        try:
            scratch.execute(f"ALTER TABLE {added.table} DROP COLUMN {added.column}")
        except sqlite3.OperationalError as error:
            raise MigrationError(
                f"The column {added.column} cannot be removed from {file_of(self._conn)}: {error}.",
                hint="Nothing was changed. Drop what the application built on it, or migrate down softly.",
            ) from error

    # What is done

    def _drop_bookkeeping(self) -> None:
        for name, kind in reversed(self._bookkeeping.items()):
            self._conn.execute(f"DROP {kind} IF EXISTS {name}")

    def _drop_empty_stores(self) -> None:
        """Drop the tables of the users' records if none holds a row and nothing else speaks of them."""
        made = _schema.created(_schema.STORES)
        tables = [name for kind, name in made if kind == "table" and columns_of(self._conn, name)]
        texts = self._conn.execute("SELECT lower(name), lower(sql) FROM sqlite_schema WHERE sql IS NOT NULL")
        ours = {name for _, name in made}
        foreign = [sql for name, sql in texts.fetchall() if name not in ours]
        mentioned = any(table in sql for table in tables for sql in foreign)
        if not mentioned and not any(self._has_rows(table) for table in tables):
            for table in tables:
                self._conn.execute(f"DROP TABLE {table}")

    def _has_rows(self, table: str) -> bool:
        rows = self._conn.execute(f"SELECT EXISTS (SELECT 1 FROM {table})")  # noqa: S608 - our own
        return bool(rows.fetchone()[0])

    def _replace(self, table: str, sql: str) -> None:
        counter = self._counter(table)
        self._conn.execute(f"ALTER TABLE {table} RENAME TO {_OLD}")
        self._conn.execute(sql)
        columns = [name for name, facts in columns_of(self._conn, table).items() if not facts.hidden]
        # Row numbers stay too, under a name no column has: the application may have noted them.
        number = [name for name in ("rowid", "oid", "_rowid_") if name not in columns][:1]
        names = ", ".join(quoted(name) for name in number + columns)
        self._conn.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM {_OLD}")  # noqa: S608 - quoted
        self._conn.execute(f"DROP TABLE {_OLD}")
        for (highest,) in counter:
            self._conn.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
            self._conn.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, highest))

    def _counter(self, table: str) -> list[tuple[int]]:
        """Return the highest number that an AUTOINCREMENT `table` ever gave, if it is one."""
        if not columns_of(self._conn, "sqlite_sequence"):
            return []
        counter = "SELECT seq FROM sqlite_sequence WHERE lower(name) = ?"
        return self._conn.execute(counter, (table,)).fetchall()

    # What must hold as before

    def _working(self, when: str) -> set[str]:
        """Return which views can be read, and which tables and views with triggers on them can be changed."""
        objects = "SELECT type, name, tbl_name FROM sqlite_schema WHERE type IN ('trigger', 'view')"
        probes = {}
        for kind, name, on in self._conn.execute(objects).fetchall():
            if name in self._bookkeeping:
                continue
            if kind == "view":
                probes[f"reading the view {name}"] = f"SELECT * FROM {quoted(name)}"  # noqa: S608 - quoted
            else:
                probes |= self._changes(on)
        return {what for what, probe in probes.items() if self._compiles(f"EXPLAIN {probe} /* {when} */")}

    def _changes(self, table: str) -> dict[str, str]:
        columns = [quoted(name) for name, facts in columns_of(self._conn, table).items() if not facts.hidden]
        settings = ", ".join(f"{name} = {name}" for name in columns)
        target = quoted(table)
        return {
            f"inserting into {table}": f"INSERT INTO {target} DEFAULT VALUES",
            f"updating {table}": f"UPDATE {target} SET {settings}",  # noqa: S608 - quoted
            f"deleting from {table}": f"DELETE FROM {target}",  # noqa: S608 - quoted
        }

    def _compiles(self, statement: str) -> bool:
        # The text must be a new one each time: an EXPLAIN from the statement cache does not notice a new schema.
        try:
            self._conn.execute(statement).close()
        except sqlite3.Error:
            return False
        return True

    def _orphans(self) -> set[tuple[str, int | None, str]]:
        """Return child table, row number and parent of each reference to our tables that leads nowhere."""
        ours = {*self._bookkeeping, *_schema.CONTRACT_TABLES}
        children = {child for child, parent in self._conn.execute(_REFERRING) if parent in ours}
        found: set[tuple[str, int | None, str]] = set()
        for child in children:
            try:
                rows = self._conn.execute(f"PRAGMA foreign_key_check({quoted(child)})").fetchall()
            except sqlite3.OperationalError:  # the parent's column is no key
                rows = [(child, None, "a column that is no key")]
            found.update((table, number, parent) for table, number, parent, *_ in rows)
        return found

    def _refuse_damage(self, broken: list[str], orphans: set[tuple[str, int | None, str]]) -> None:
        lost = [f"{child} refers to {parent}" for child, _, parent in sorted(orphans, key=str)]
        if broken or lost:
            raise MigrationError(
                f"In {file_of(self._conn)} something of the application's needs 1.1.0: {listed(broken + lost)}.",
                hint="Nothing was changed. Drop or change it first, or migrate down softly.",
            )
