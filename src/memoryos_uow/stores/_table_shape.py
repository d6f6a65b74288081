"""The application's own tables: which names may be used, what a table looks like, and SQL made from that.

Promise: a name becomes SQL only if it matches ``[A-Za-z_][A-Za-z0-9_]{0,62}`` or was read from the schema of the file
itself, and is quoted in either case; values are bound always.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memoryos_uow.abc import Reader

COLUMNS_MAX: Final = 1_000
"""How many columns a table may be created with (SQLite's own limit is 2,000)."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}", re.ASCII)
_TYPE: Final = re.compile(r"(TEXT|INTEGER|REAL|BLOB|NUMERIC)( NOT NULL)?", re.IGNORECASE | re.ASCII)
_COMPUTED: Final = (2, 3)  # PRAGMA table_xinfo, hidden: generated columns, virtual and stored


@dataclass(frozen=True, slots=True)
class Target:
    """What a table store works on: names that were checked."""

    store: str
    table: str
    key: str
    space: str | None
    """The column with the space id; None if all spaces share the keys."""

    def identity(self) -> frozenset[str]:
        """Return the columns that together name one record."""
        return frozenset({self.key, self.space} - {None})  # type: ignore[arg-type]

    def refusal(self, message: str, hint: str) -> UsageError:
        """Return the error that says `message` and `hint`."""
        return UsageError(message, hint=f"Nothing was written. {hint}", store=self.store)


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns of a table, in its own order."""

    columns: tuple[str, ...]
    computed: frozenset[str] = frozenset()
    """Generated columns: they can be read but not written."""
    types: Mapping[str, str] = field(default_factory=dict)
    """On PostgreSQL the type of each column, without its length."""
    unique: tuple[str, ...] = ()
    """On PostgreSQL the columns that make a row the only one of its key."""


def quoted(name: str) -> str:
    """Return `name` as an SQL identifier (https://sqlite.org/lang_keywords.html)."""
    return '"' + name.replace('"', '""') + '"'


def check_name(name: object, what: str, store: str) -> str:
    """Return `name` if a table or column may be called that; `what` names it in the error.

    Raises:
        UsageError: not an ASCII identifier of at most 63 characters.
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise UsageError(
        f"The {what} of the store {store!r} is not a plain name.",
        hint="Nothing was written. Use an ASCII letter or underscore, then letters, digits, underscores, 63 at most.",
        store=store,
    )


def check_table_name(name: object, store: str) -> str:
    """Return `name` if an application's table may be called that.

    Raises:
        UsageError: no plain name, or one that belongs to this library or to SQLite.
    """
    table = check_name(name, "table name", store)
    if table.lower().startswith(("uow_", "sqlite_")) or table.lower() == "unit_of_work":
        raise UsageError(
            f"The table {table!r} belongs to this library or to SQLite.",
            hint="Nothing was written. Use a table of your own.",
            store=store,
        )
    return table


def check_columns(columns: Mapping[str, str], target: Target) -> dict[str, str]:
    """Return `columns` (name: declared type) with the space column, fit for CREATE TABLE.

    Raises:
        UsageError: a bad name or type, the key column is missing, names that differ in case only, or too many.
    """
    if not isinstance(columns, Mapping):
        raise target.refusal("The columns must be a mapping of names to types.", 'Write columns={"id": "TEXT"}.')
    checked = {}
    for name, declared in columns.items():
        column = check_name(name, "column name", target.store)
        if not isinstance(declared, str) or not _TYPE.fullmatch(declared):
            raise target.refusal(
                f"The declared type of the column {column!r} is not one this store creates.",
                "Use TEXT, INTEGER, REAL, BLOB or NUMERIC, with NOT NULL if you like; or create the table yourself.",
            )
        checked[column] = declared.upper()
    if target.key not in checked:
        raise target.refusal(f"The key column {target.key!r} is not among the columns.", f'Add {target.key!r}: "TEXT".')
    if target.space is not None:
        checked.setdefault(target.space, "TEXT")
    for column in target.identity():
        if checked[column].split()[0] not in ("TEXT", "INTEGER"):
            raise target.refusal(f"The column {column!r} must be TEXT or INTEGER to tell records apart.", "Use TEXT.")
    if len({name.lower() for name in checked}) < len(checked) or len(checked) > COLUMNS_MAX:
        raise target.refusal(
            f"Column names must differ in more than case, and be {COLUMNS_MAX:,} at most.", "Rename or drop some."
        )
    return checked


def create_statement(columns: Mapping[str, str], target: Target) -> str:
    """Return CREATE TABLE for checked `columns`, with a primary key of space and key."""
    definitions = []
    for name, declared in columns.items():
        not_null = name in target.identity() and not declared.endswith("NOT NULL")
        definitions.append(f"{quoted(name)} {declared}{' NOT NULL' if not_null else ''}")
    identity = [target.key] if target.space is None else [target.space, target.key]
    definitions.append(f"PRIMARY KEY ({', '.join(map(quoted, identity))})")
    return f"CREATE TABLE main.{quoted(target.table)} ({', '.join(definitions)})"


def find_shape(reader: Reader, target: Target) -> Shape | None:
    """Return the columns of the target's table, None if there is no such table.

    Raises:
        UsageError: it is a view or a virtual table, lacks the key or space column, or nothing makes these unique.
    """
    found = reader.rows(
        "SELECT type, rootpage FROM main.sqlite_schema WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE",
        (target.table,),
    )
    if not found:
        return None
    if found[0][0] == "view" or not found[0][1]:  # only virtual tables have no page of their own
        what = "a view" if found[0][0] == "view" else "a virtual table"
        raise target.refusal(f"{target.table!r} is {what}, in which no row can be kept.", "Use an ordinary table.")
    columns = reader.rows("SELECT name, hidden FROM pragma_table_xinfo(?, 'main') ORDER BY cid", (target.table,))
    shape = Shape(
        columns=tuple(name for name, _ in columns),
        computed=frozenset(name for name, hidden in columns if hidden in _COMPUTED),
    )
    for column in sorted(target.identity()):
        if column not in shape.columns or column in shape.computed:
            raise target.refusal(
                f"The table {target.table!r} has no column {column!r} to write to.",
                f"It has: {listed(shape.columns)}. Say key=... and space_column=... (None if it has none).",
            )
    if not _is_unique(reader, target):
        together = " and ".join(map(repr, sorted(target.identity())))
        raise target.refusal(
            f"Nothing in the table {target.table!r} makes {together} unique.",
            f"Add a UNIQUE index over {together}, or say which column is the key.",
        )
    return shape


def _is_unique(reader: Reader, target: Target) -> bool:
    """Say whether a primary key or a full unique index is exactly the identity, or the key alone."""
    primary = reader.rows("SELECT name FROM pragma_table_info(?, 'main') WHERE pk", (target.table,))
    keys = {"": {name for (name,) in primary}}  # a rowid that is the primary key has no index
    for index, column in reader.rows(
        "SELECT i.name, c.name FROM pragma_index_list(?, 'main') AS i, pragma_index_info(i.name, 'main') AS c"
        ' WHERE i."unique" AND NOT i.partial',
        (target.table,),
    ):
        keys.setdefault(index, set()).add(column)
    return any(columns in (target.identity(), {target.key}) for columns in keys.values())


def listed(names: Iterable[str], *, at_most: int = 20) -> str:
    """Return `names` as a list for an error's hint, the first ones if there are many."""
    names = list(names)
    return ", ".join(names[:at_most]) + (f" and {len(names) - at_most} more" if len(names) > at_most else "")
