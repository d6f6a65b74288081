"""The application's own tables on which table stores work: as they are in the source, and made in the target.

Promise: a table that the target has already is used as it is, if it is empty and has the same columns. One that is made
here has columns, defaults that are plain values, NOT NULL and its key; indexes, checks and foreign keys are the
application's business.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow._copying.tables import Part
from memoryos_uow.errors import UsageError
from memoryos_uow.stores import TableStore

if TYPE_CHECKING:
    from memoryos_uow.abc import Reader

_TYPES: Final = {
    "INTEGER": "BIGINT",
    "REAL": "DOUBLE PRECISION",
    "TEXT": 'TEXT COLLATE "C"',
    "BLOB": "BYTEA",
    "NUMERIC": "DOUBLE PRECISION",
}
_COMPUTED: Final = (2, 3)
_PLAIN: Final = re.compile(r"[+-]?\d+(\.\d+)?|'(?:[^']|'')*'|NULL", re.IGNORECASE)


class OwnTable(NamedTuple):
    """One table of the application's."""

    store: str
    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    definition: str
    """CREATE TABLE for the target."""

    def part(self) -> Part:
        """Return what is to be copied of it."""
        quoted = _quoted(self.name)
        return Part(quoted, self.key, self.columns, f"main.{quoted}", quote=True)


def own_tables(reader: Reader) -> list[OwnTable]:
    """Return the tables of the source's table stores, each once.

    Raises:
        UsageError: one of them has computed columns, which cannot be made from here.
    """
    found: dict[str, OwnTable] = {}
    for name, config in reader.rows("SELECT name, config FROM uow_stores WHERE kind = ? ORDER BY name", ("rows",)):
        settings = json.loads(config)
        if settings["table"].lower() not in found:
            found[settings["table"].lower()] = _own_table(reader, name, settings)
    return list(found.values())


def left_out(reader: Reader, copied: list[OwnTable]) -> tuple[str, ...]:
    """Return the names of the application's tables that no store works on."""
    known = {table.name.lower() for table in copied}
    rows = reader.rows(
        r"SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'unit_of_work'"
        r" AND name NOT LIKE 'uow\_%' ESCAPE '\' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name"
    )
    return tuple(name for (name,) in rows if name.lower() not in known)


def make(tx: Any, table: OwnTable, *, begun: bool) -> None:
    """Have the table in the target; `begun`: an earlier run has begun with it.

    Raises:
        UsageError: it has rows of somebody else's, or other columns.
    """
    have = {
        name
        for (name,) in tx.rows(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = current_schema() AND table_name = ?",
            (table.name,),
        )
    }
    if not have:
        tx.execute(table.definition)
        return
    if odd := sorted(have.symmetric_difference(table.columns)):  # receipts are over whole rows
        raise UsageError(
            f"The target has a table {table.name!r} with other columns than the source's: {odd[0]!r} is in one only.",
            hint="Nothing of it was copied. Give it the same columns, or drop it.",
        )
    if not begun and tx.rows(f"SELECT 1 FROM {_quoted(table.name)} LIMIT 1"):  # noqa: S608 - quoted
        raise UsageError(
            f"The target has a table {table.name!r} already, with rows in it.",
            hint="Nothing of it was copied. Empty it, or copy to another database.",
        )


def _own_table(reader: Reader, store: str, settings: dict[str, Any]) -> OwnTable:
    table = settings["table"]
    key = (settings["key"],) if settings["space_column"] is None else (settings["space_column"], settings["key"])
    columns, definitions = [], []
    for name, declared, required, default, hidden in reader.rows(
        'SELECT name, type, "notnull", dflt_value, hidden FROM pragma_table_xinfo(?, ?) ORDER BY cid', (table, "main")
    ):
        if hidden in _COMPUTED:
            raise UsageError(
                f"The table {table!r} of the store {store!r} has the computed column {name!r}.",
                hint="Nothing was copied. Create the table in the target yourself, with that column as you want it.",
            )
        columns.append(name)
        plain = default is not None and _PLAIN.fullmatch(default)
        definitions.append(
            f"{_quoted(name)} {_TYPES[_affinity(declared)]}"
            + (" NOT NULL" if required or name in key else "")
            + (f" DEFAULT {default}" if plain else "")
        )
    definitions.append(f"PRIMARY KEY ({', '.join(map(_quoted, key))})")
    definition = f"CREATE TABLE {_quoted(table)} ({', '.join(definitions)})"
    return OwnTable(store, table, key, tuple(columns), definition)


def _affinity(declared: str) -> str:
    """Return the affinity of a column of this type (https://sqlite.org/datatype3.html, section 3.1)."""
    upper = declared.upper()
    for words, affinity in (
        (("INT",), "INTEGER"),
        (("CHAR", "CLOB", "TEXT"), "TEXT"),
        (("BLOB",), "BLOB"),
        (("REAL", "FLOA", "DOUB"), "REAL"),
    ):
        if any(word in upper for word in words):
            return affinity
    return "NUMERIC" if upper else "BLOB"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


KIND: Final = TableStore.kind
