"""What a file holds of our schema, found out without writing."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Final

from memoryos_uow import _schema
from memoryos_uow._migrations.shape import base_columns, problems
from memoryos_uow._migrations.waiting import DEFAULT_TIMEOUT_S, patiently, translated
from memoryos_uow._names import CONTRACT_VERSION

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    Pair = tuple[str, str]  # (table, column) or (type of object, name)


class Kind(StrEnum):
    """How far a file has come."""

    NEW = "new"
    """No ledger yet: an empty file, or a database of the application's own."""
    BASIC = "1.0.0"
    """The tables of 1.0.0 and nothing of 1.1.0; ``uow_writes`` may be missing."""
    PARTIAL = "partial"
    """Something of 1.1.0 is there and something is missing: begun by hand, or changed by hand since."""
    SOFT = "soft-downgraded"
    """The columns of 1.1.0 are there and given up (specification, backward migration)."""
    CURRENT = "current"
    """All of 1.1.0, as this library makes it."""
    TOO_NEW = "too-new"
    """Written by a later version of this library."""
    FOREIGN = "foreign"
    """Something of the application's own bears the name of one of our tables."""


@dataclass(frozen=True, slots=True)
class SchemaState:
    """What `inspect` found."""

    kind: Kind
    version: str | None
    """The contract that the file keeps, ``1.0.0`` or ``1.1.0``; the unknown version of one that is too new."""
    missing: tuple[str, ...] = ()
    """What a current ledger has and this file lacks: ``unit_of_work.band``, ``index idx_uow_band``, ...; of a foreign
    file, what its table would need to be a ledger's."""
    has_base_tables: bool = False
    """Both tables have the columns of 1.0.0: basic mode (the specification's fallback) can work with them."""


# One query, because it runs at each opening of a ledger.
_PAIRS: Final = r"""
SELECT 'unit_of_work', lower(name) FROM pragma_table_info('unit_of_work')
UNION ALL SELECT 'uow_writes', lower(name) FROM pragma_table_info('uow_writes')
UNION ALL SELECT 'uow_schema', lower(name) FROM pragma_table_info('uow_schema')
UNION ALL SELECT type, lower(name) FROM sqlite_schema
  WHERE name LIKE 'uow\_%' ESCAPE '\' OR name LIKE 'idx\_uow\_%' ESCAPE '\' OR lower(name) = 'unit_of_work'
"""
_VERSIONS: Final = "SELECT version, checksum FROM uow_schema"

_OBJECTS: Final = ("index", "table", "view")
_BASE_TABLES: Final = frozenset(("table", name) for name in _schema.CONTRACT_TABLES)
_RECORD: Final = frozenset({("uow_schema", "version"), ("uow_schema", "checksum")})


@cache
def _added() -> frozenset[Pair]:
    columns = {(added.table, added.column) for added in _schema.added_columns()}
    return frozenset(columns.union(_schema.created(_schema.UP), _schema.created(_schema.LEDGER)))


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
        if ("table", "uow_schema") not in found:
            recorded = {}
        elif found >= _RECORD:
            recorded = {str(version): checksum for version, checksum in conn.execute(_VERSIONS)}
        else:
            return SchemaState(Kind.FOREIGN, None, _described(_RECORD - found))
        newer = [version for version in recorded if _schema.is_newer(version)]
        if newer:
            return SchemaState(Kind.TOO_NEW, newer[0])
        missing = (_added() | _BASE_TABLES) - found
        if not missing and _is_recorded(conn, recorded):
            return SchemaState(Kind.CURRENT, CONTRACT_VERSION, has_base_tables=True)
        return _judge(found, missing, recorded)


@contextmanager
def _one_snapshot(conn: sqlite3.Connection) -> Iterator[None]:
    """Let the queries of the block see one state of the file, inside a transaction or outside."""
    conn.execute("SAVEPOINT uow_inspect")
    try:
        yield
    finally:
        conn.execute("RELEASE uow_inspect")


def _is_recorded(conn: sqlite3.Connection, recorded: Mapping[str, str]) -> bool:
    checksums = {version: _schema.checksum(name) for version, name in _schema.LAYERS.items()}
    if checksums.items() <= recorded.items():
        return True
    # Other checksums: another build of this version made the file. What counts is what is there.
    return checksums.keys() <= recorded.keys() and not problems(conn)


def _judge(found: set[Pair], missing: AbstractSet[Pair], recorded: Mapping[str, str]) -> SchemaState:
    tables = [table for table in _schema.CONTRACT_TABLES if {("table", table), ("view", table)} & found]
    if not tables:
        return SchemaState(Kind.NEW, None, _described(missing))
    lacking = {(table, column) for table in tables for column in base_columns(table)} - found
    lacking |= {("table", table) for table in tables} - found
    if lacking:
        return SchemaState(Kind.FOREIGN, None, _described(lacking))
    if missing >= _added() and not recorded:
        kind = Kind.BASIC
    elif _was_given_up(missing, recorded):
        kind = Kind.SOFT
    else:
        kind = Kind.PARTIAL
    return SchemaState(kind, "1.0.0", _described(missing), has_base_tables=found >= _BASE_TABLES)


def _was_given_up(missing: AbstractSet[Pair], recorded: Mapping[str, str]) -> bool:
    """Say whether just that is missing which the soft way down takes: indexes, a line in ``uow_schema``."""
    taken = frozenset(_schema.created(_schema.UP))
    return missing == taken and recorded.keys() == _schema.LAYERS.keys() - {CONTRACT_VERSION}


def _described(pairs: Iterable[Pair]) -> tuple[str, ...]:
    return tuple(sorted(f"{of} {name}" if of in _OBJECTS else f"{of}.{name}" for of, name in pairs))
