"""The exact shape of a 1.1.0 ledger, and in what a given file departs from it.

The shape is not written down a second time: it is read from a database in memory, made by the schema files.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from memoryos_uow import _schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Column(NamedTuple):
    """What ``PRAGMA table_xinfo`` says of a column."""

    type: str
    not_null: int
    default: str | None
    key: int
    """Place in the primary key, from 1; 0 outside it."""
    hidden: int
    """Not 0 for a generated column."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The tables, indexes and views of a ledger."""

    tables: Mapping[str, Mapping[str, Column]]
    others: Mapping[str, object]
    """By name: of an index its table, flags and columns; of a view its SQL."""


@cache
def expected() -> Shape:
    """Return the shape of a ledger that the schema files make from nothing."""
    conn = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for name in (_schema.BASE, _schema.UP, _schema.LEDGER):
            conn.executescript(_schema.text(name))
        return _shape(conn)
    finally:
        conn.close()


def base_columns(table: str) -> tuple[str, ...]:
    """Return the columns that `table` had in 1.0.0."""
    added = {column.column for column in _schema.added_columns() if column.table == table}
    return tuple(name for name in expected().tables[table] if name not in added)


def problems(conn: sqlite3.Connection) -> list[str]:
    """Return a phrase for everything in which the file of `conn` departs from 1.1.0 and which hinders units.

    Columns and constraints of the application's own are welcome as long as a unit's rows can be written beside
    them; a missing CHECK is for `validate` to make up for.
    """
    found, wanted = _shape(conn), expected()
    phrases: list[str] = []
    for table, columns in wanted.tables.items():
        if table in _schema.CONTRACT_TABLES:
            phrases += _table_problems(table, found.tables[table], columns)
            phrases += _rowid_problems(conn, table)
        elif found.tables[table] != columns:
            phrases.append(f"the table {table} is not the one this library makes")
    phrases += [
        f"{name} is not the one this library makes"
        for name, other in wanted.others.items()
        if found.others.get(name) != other
    ]
    return phrases


def _table_problems(table: str, found: Mapping[str, Column], wanted: Mapping[str, Column]) -> Iterator[str]:
    for name, want in wanted.items():
        have = found.get(name)
        if have is None:
            yield f"the column {name} of {table} is missing"
        elif have.type != want.type:
            yield f"the column {name} of {table} is declared {have.type or 'without a type'}, not {want.type}"
        elif have.hidden:
            yield f"the column {name} of {table} is a generated one"
        elif have.key != want.key:
            yield f"the column {name} of {table} has another place in the primary key"
        elif have.not_null > want.not_null and not want.key:
            yield f"the column {name} of {table} is NOT NULL, and 1.1.0 lets it be empty"
    for name, have in found.items():
        if name not in wanted and have.not_null and have.default is None and not have.hidden:
            yield f"the column {name} of {table} is NOT NULL without a default, and 1.1.0 does not know it"


def _rowid_problems(conn: sqlite3.Connection, table: str) -> Iterator[str]:
    try:
        conn.execute(f"SELECT rowid FROM {table} LIMIT 0")  # noqa: S608 - one of two constants
    except sqlite3.OperationalError:
        yield f"the table {table} was made WITHOUT ROWID"


def _shape(conn: sqlite3.Connection) -> Shape:
    made = (*_schema.created(_schema.BASE), *_schema.created(_schema.UP), *_schema.created(_schema.LEDGER))
    return Shape(
        tables={one.name: columns_of(conn, one.name) for one in made if one.kind == "table"},
        others={one.name: _OTHERS[one.kind](conn, one.name) for one in made if one.kind != "table"},
    )


def columns_of(conn: sqlite3.Connection, table: str) -> dict[str, Column]:
    """Return the columns of `table` by name in lower case, in order; none where there is no such table."""
    rows = conn.execute(
        'SELECT lower(name), upper(type), "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)',
        (table,),
    )
    return {name: Column(*facts) for name, *facts in rows}


def _index(conn: sqlite3.Connection, name: str) -> object:
    return conn.execute(
        'SELECT lower(m.tbl_name), l."unique", l.partial, x.seqno, lower(x.name), x."desc", x.coll'
        " FROM sqlite_schema AS m JOIN pragma_index_list(m.tbl_name) AS l ON l.name = m.name"
        " JOIN pragma_index_xinfo(m.name) AS x ON x.key = 1"
        " WHERE m.type = 'index' AND lower(m.name) = ? ORDER BY x.seqno",
        (name,),
    ).fetchall()


def _view(conn: sqlite3.Connection, name: str) -> object:
    view = "SELECT sql FROM sqlite_schema WHERE type = 'view' AND lower(name) = ?"
    return conn.execute(view, (name,)).fetchall()


_OTHERS = {"index": _index, "view": _view}
