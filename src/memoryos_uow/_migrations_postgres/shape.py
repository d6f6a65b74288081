"""The exact shape of a 1.1.0 ledger on PostgreSQL, and in what a given database departs from it.

The shape is not written down a second time: it is read from the schema files, in which each column has its line.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow import _schema
from memoryos_uow._migrations_postgres.waiting import FILES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from memoryos_uow._migrations_postgres.waiting import Connection


class Column(NamedTuple):
    """One column of a table."""

    type: str
    collation: str
    not_null: bool
    generated: str = ""
    """``s``: computed from others; ``i``: an identity that takes no value; empty: neither."""
    has_default: bool = False

    @property
    def kind(self) -> str:
        """Type and collation, in SQL."""
        return f'{self.type} COLLATE "{self.collation}"' if self.collation else self.type


class Index(NamedTuple):
    """One index: what it is on."""

    table: str
    columns: str
    unique: bool = False
    partial: bool = False


class Shape(NamedTuple):
    """The tables of a ledger, their keys and the indexes that have names."""

    tables: Mapping[str, Mapping[str, Column]]
    keys: frozenset[Index]
    indexes: Mapping[str, Index]


_TABLE: Final = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+) \((.*)\n\)", re.DOTALL)
_ADDED: Final = re.compile(r"ALTER TABLE (\w+) ADD COLUMN IF NOT EXISTS (.*);", re.DOTALL)
_INDEX: Final = re.compile(
    r"CREATE INDEX IF NOT EXISTS (\w+) ON (\w+)(?: USING \w+ )?\(([^)]+)\)( WHERE .*)?;", re.DOTALL
)
_COLUMN: Final = re.compile(r'([a-z_]+) ([A-Z]+(?: COLLATE "C")?)(.*)', re.DOTALL)
_KEY: Final = re.compile(r"(?:PRIMARY KEY|UNIQUE) \(([^)]+)\)")
_COMMENT: Final = re.compile(r"--.*")

_VIEW_COLUMNS: Final = ("uow_id", "receipt")

_COLUMNS: Final = r"""
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), coalesce(o.collname, ''), a.attnotnull,
  CASE WHEN a.attgenerated <> '' THEN 's' WHEN a.attidentity = 'a' THEN 'i' ELSE '' END, a.atthasdef
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_collation o ON o.oid = a.attcollation
WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND (c.relname = 'unit_of_work' OR c.relname LIKE 'uow\_%')
ORDER BY c.relname, a.attnum
"""
_INDEXES: Final = r"""
SELECT i.relname, t.relname, array_to_string(ARRAY(
    SELECT pg_get_indexdef(x.indexrelid, k, true) FROM generate_series(1, x.indnkeyatts) AS k ORDER BY k), ', '),
  x.indisunique, x.indpred IS NOT NULL
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_class t ON t.oid = x.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname = current_schema() AND x.indisvalid AND (t.relname = 'unit_of_work' OR t.relname LIKE 'uow\_%')
"""


@cache
def expected() -> Shape:
    """Return the shape of a ledger that the schema files make from nothing."""
    tables: dict[str, dict[str, Column]] = {}
    keys: set[Index] = set()
    indexes: dict[str, Index] = {}
    for name in (FILES.base, FILES.up, FILES.ledger, FILES.stores):
        for statement in _schema.statements(name):
            code = _COMMENT.sub("", statement)
            if made := _TABLE.search(code):
                tables[made[1]] = dict(_columns(made[2]))
                keys.update(_keys(made[1], made[2]))
            elif added := _ADDED.search(code):
                tables[added[1]] |= dict(_columns(added[2]))
            elif index := _INDEX.search(code):
                indexes[index[1]] = Index(index[2], index[3], partial=bool(index[4]))
    return Shape(tables, frozenset(keys), indexes)


def _parts(body: str) -> list[str]:
    """Return what stands between the commas of a table's definition that are in no parentheses."""
    return [part.strip() for part in re.split(r",(?![^()]*\))", body) if part.strip()]


def _columns(body: str) -> Iterator[tuple[str, Column]]:
    for part in _parts(body):
        if (found := _COLUMN.match(part)) and not _KEY.match(part):
            kind, _, collation = found[2].lower().partition(" collate ")
            required = "NOT NULL" in found[3] or "PRIMARY KEY" in found[3]
            generated = "s" if "GENERATED" in found[3] else ""
            default = bool(generated) or "DEFAULT" in found[3]
            yield found[1], Column(kind, collation.strip('"').upper(), required, generated, default)


def _keys(table: str, body: str) -> Iterator[Index]:
    for part in _parts(body):
        if together := _KEY.match(part):
            yield Index(table, together[1], unique=True)
        elif "PRIMARY KEY" in part or "UNIQUE" in part:
            yield Index(table, part.split()[0], unique=True)


def base_columns(table: str) -> tuple[str, ...]:
    """Return the columns that `table` had in 1.0.0."""
    added = {column.column for column in _schema.added_columns(FILES.up) if column.table == table}
    return tuple(name for name in expected().tables[table] if name not in added)


def found(conn: Connection) -> Shape:
    """Return the shape of what bears a name of ours."""
    tables: dict[str, dict[str, Column]] = {}
    for table, column, *facts in conn.execute(_COLUMNS).fetchall():
        tables.setdefault(table, {})[column] = Column(*facts)
    indexes = {name: Index(*facts) for name, *facts in conn.execute(_INDEXES).fetchall()}
    keys = frozenset(index for index in indexes.values() if index.unique and not index.partial)
    return Shape(tables, keys, indexes)


def lacking(have: Shape, tables: Sequence[str]) -> tuple[str, ...]:
    """Return which columns those of `tables`, or the view, that are there lack to be a ledger's."""
    return tuple(
        f"{table}.{column}"
        for table in tables
        if table in have.tables
        for column in expected().tables.get(table, _VIEW_COLUMNS)
        if column not in have.tables[table]
    )


def problems(conn: Connection) -> list[str]:
    """Return a phrase for everything in which the database departs from 1.1.0 and which hinders units.

    Columns and constraints of the application's own are welcome as long as a unit's rows can be written beside
    them; a missing CHECK is for `validate` to make up for.
    """
    have, want = found(conn), expected()
    phrases: list[str] = []
    for table, columns in want.tables.items():
        phrases += _table_problems(table, have.tables.get(table, {}), columns)
    phrases += [f"the table {key.table} has no unique key over {key.columns}" for key in sorted(want.keys - have.keys)]
    phrases += [
        f"the index {name} is not the one this library makes"
        for name, index in want.indexes.items()
        if have.indexes.get(name) != index
    ]
    return phrases


def _table_problems(table: str, have: Mapping[str, Column], want: Mapping[str, Column]) -> Iterator[str]:
    for name, wanted in want.items():
        column = have.get(name)
        if column is None:
            yield f"the column {name} of {table} is missing"
        elif column.kind != wanted.kind:
            yield f"the column {name} of {table} is {column.kind}, not {wanted.kind}"
        elif column.generated != wanted.generated:
            yield f"the column {name} of {table} takes no values of ours"
        elif column.not_null and not wanted.not_null:
            yield f"the column {name} of {table} is NOT NULL, and 1.1.0 lets it be empty"
    for name, column in have.items():
        if name not in want and column.not_null and not column.has_default and not column.generated:
            yield f"the column {name} of {table} is NOT NULL without a default, and 1.1.0 does not know it"
