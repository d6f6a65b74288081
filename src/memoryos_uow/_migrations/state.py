"""What a file holds of our schema, found out without writing."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Final

from memoryos_uow import _schema
from memoryos_uow._migrations.judging import Kind, SchemaState, judge, wanted
from memoryos_uow._migrations.shape import base_columns, problems
from memoryos_uow._migrations.waiting import DEFAULT_TIMEOUT_S, patiently, translated
from memoryos_uow._names import Dialect

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from memoryos_uow._migrations.judging import Wanted

__all__ = ["Kind", "SchemaState", "inspect"]


# One query, because it runs at each opening of a ledger.
_PAIRS: Final = r"""
SELECT 'unit_of_work', lower(name) FROM pragma_table_info('unit_of_work')
UNION ALL SELECT 'uow_writes', lower(name) FROM pragma_table_info('uow_writes')
UNION ALL SELECT 'uow_schema', lower(name) FROM pragma_table_info('uow_schema')
UNION ALL SELECT type, lower(name) FROM sqlite_schema
  WHERE name LIKE 'uow\_%' ESCAPE '\' OR name LIKE 'idx\_uow\_%' ESCAPE '\' OR lower(name) = 'unit_of_work'
"""
_VERSIONS: Final = "SELECT version, checksum FROM uow_schema"


@cache
def _wanted() -> Wanted:
    return wanted(_schema.FILES[Dialect.SQLITE], base_columns)


def inspect(conn: sqlite3.Connection, *, busy_timeout_s: float = DEFAULT_TIMEOUT_S) -> SchemaState:
    """Return what the file of `conn` holds of our schema. Reads only: two small queries when it is current.

    Raises:
        LedgerCorrupt: the file is damaged or not a database.
        LedgerBusy: others kept it locked against reading for longer than `busy_timeout_s` seconds.
    """
    with translated(conn):
        return patiently(lambda: _inspect(conn), busy_timeout_s)


def _inspect(conn: sqlite3.Connection) -> SchemaState:
    with _one_snapshot(conn):
        found = set(conn.execute(_PAIRS).fetchall())
        return judge(found, _wanted(), lambda: conn.execute(_VERSIONS), lambda: problems(conn))


@contextmanager
def _one_snapshot(conn: sqlite3.Connection) -> Iterator[None]:
    """Let the queries of the block see one state of the file, inside a transaction or outside."""
    conn.execute("SAVEPOINT uow_inspect")
    try:
        yield
    finally:
        conn.execute("RELEASE uow_inspect")
