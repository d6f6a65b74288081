"""The application's own tables in a PostgreSQL database: what they look like, and how they are made.

Promise: as for tables of a SQLite file (`_table_shape`). Names count as the catalog has them: what was created without
quotes is in lower case there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from memoryos_uow.stores._table_shape import Shape, listed, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from memoryos_uow.abc import Reader
    from memoryos_uow.stores._table_shape import Target

_MADE_AS: Final = {
    "TEXT": "TEXT",
    "INTEGER": "BIGINT",
    "REAL": "DOUBLE PRECISION",
    "BLOB": "BYTEA",
    "NUMERIC": "DOUBLE PRECISION",
}
TEXTS: Final = frozenset({"text", "character varying", "bpchar", "name", "citext"})
INTEGERS: Final = frozenset({"smallint", "integer", "bigint"})
NAMING: Final = TEXTS | INTEGERS | {"uuid"}
"""Types of columns that can tell records apart."""

_TABLE: Final = (
    "SELECT CAST(c.oid AS BIGINT), CAST(c.relkind AS TEXT) FROM pg_class AS c"
    " WHERE c.relname = ? AND pg_table_is_visible(c.oid) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
)
_COLUMNS: Final = (
    "SELECT CAST(a.attname AS TEXT),"
    " CASE t.typname WHEN 'bpchar' THEN 'bpchar' ELSE format_type(a.atttypid, NULL) END,"
    " a.attgenerated <> '' OR a.attidentity = 'a'"
    " FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid"
    " WHERE a.attrelid = CAST(? AS OID) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
)
_UNIQUE: Final = (
    "SELECT CAST(i.indexrelid AS BIGINT), CAST(a.attname AS TEXT) FROM pg_index AS i"
    " JOIN pg_attribute AS a ON a.attrelid = i.indrelid"
    " AND a.attnum = ANY((CAST(i.indkey AS SMALLINT[]))[0:i.indnkeyatts - 1])"
    " WHERE i.indrelid = CAST(? AS OID) AND i.indisunique AND i.indisvalid AND i.indimmediate"
    " AND i.indpred IS NULL AND i.indexprs IS NULL"
)


def create_statement(columns: Mapping[str, str], target: Target) -> str:
    """Return CREATE TABLE for checked `columns`, with a primary key of space and key."""
    definitions = []
    for name, declared in columns.items():
        sort, _, rest = declared.partition(" ")
        made = _MADE_AS[sort] + (' COLLATE "C"' if sort == "TEXT" else "")
        definitions.append(f"{quoted(name)} {made}{' NOT NULL' if rest or name in target.identity() else ''}")
    identity = [target.key] if target.space is None else [target.space, target.key]
    definitions.append(f"PRIMARY KEY ({', '.join(map(quoted, identity))})")
    return f"CREATE TABLE {quoted(target.table)} ({', '.join(definitions)})"


def find_shape(reader: Reader, target: Target) -> Shape | None:
    """Return the columns of the target's table, None if there is no such table.

    Raises:
        UsageError: it is a view or foreign, lacks the key or space column, these are of a type that names nothing, or
            nothing makes them unique.
    """
    found = reader.rows(_TABLE, (target.table,))
    if not found:
        return None
    table, sort = found[0]
    if sort not in ("r", "p"):
        what = "a foreign table" if sort == "f" else "a view"
        raise target.refusal(f"{target.table!r} is {what}, in which no row can be kept.", "Use an ordinary table.")
    columns = reader.rows(_COLUMNS, (table,))
    shape = Shape(
        columns=tuple(name for name, _, _ in columns),
        computed=frozenset(name for name, _, computed in columns if computed),
        types={name: sort for name, sort, _ in columns},
    )
    for column in sorted(target.identity()):
        if column not in shape.columns or column in shape.computed:
            raise target.refusal(
                f"The table {target.table!r} has no column {column!r} to write to.",
                f"It has: {listed(shape.columns)}. Say key=... and space_column=... (None if it has none).",
            )
        if shape.types[column] not in NAMING:
            raise target.refusal(
                f"The column {column!r} of the table {target.table!r} is of the type {shape.types[column]}.",
                "Only text, integers and uuid tell records apart.",
            )
    keys: dict[int, set[str]] = {}
    for index, column in reader.rows(_UNIQUE, (table,)):
        keys.setdefault(index, set()).add(column)
    unique = next((names for names in keys.values() if names in (target.identity(), {target.key})), None)
    if unique is None:
        together = " and ".join(map(repr, sorted(target.identity())))
        raise target.refusal(
            f"Nothing in the table {target.table!r} makes {together} unique.",
            f"Add a UNIQUE index over {together}, or say which column is the key.",
        )
    return Shape(shape.columns, shape.computed, shape.types, tuple(sorted(unique)))


def made_shape(columns: Mapping[str, str], target: Target) -> Shape:
    """Return what a table made from checked `columns` will look like."""
    types = {name: _MADE_AS[declared.split()[0]].lower() for name, declared in columns.items()}
    return Shape(tuple(columns), types=types, unique=tuple(sorted(target.identity())))
