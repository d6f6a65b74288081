"""The statements with which a table store reads and writes one row.

A row is found by comparing its identity twice: once plainly, for the sake of the index, and once as text byte by
byte, so that neither a collation (``NOCASE``) nor a column's affinity (``'017'`` in an INTEGER column is 17) makes
two keys, or two spaces, mean one row. Only texts and integers name a row.

``OR ABORT`` overrules what the table itself may say (https://sqlite.org/lang_conflict.html): with ``REPLACE`` there, an
insert into one space would silently remove a row of another, and ``ROLLBACK`` would end the unit's transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memoryos_uow.stores._table_shape import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memoryos_uow.stores._table_shape import Shape, Target


class RowSql:
    """Statements for the table of `target`, whose columns are those of `shape`."""

    def __init__(self, target: Target, shape: Shape) -> None:
        self._target = target
        self._table = f"main.{quoted(target.table)}"
        key, space = quoted(target.key), None if target.space is None else quoted(target.space)
        self._in_space = "1" if space is None else _exactly(space)
        self._where = f"{self._in_space} AND {_exactly(key)}"
        columns = ", ".join(map(quoted, shape.columns))
        self.exists = f"SELECT 1 FROM {self._table} WHERE {self._where}"  # noqa: S608
        self.select = f"SELECT {columns} FROM {self._table} WHERE {self._where}"  # noqa: S608
        self.all = f"SELECT {columns} FROM {self._table}"  # noqa: S608
        self.delete = f"DELETE FROM {self._table} WHERE {self._where}"  # noqa: S608
        self.keys = (
            f"SELECT CAST({key} AS TEXT) AS name FROM {self._table}"  # noqa: S608
            f" WHERE {self._in_space} AND {_is_name(key)} ORDER BY name COLLATE BINARY"
        )

    def insert(self, columns: Sequence[str]) -> str:
        """Return the INSERT of key, space and `columns`; its parameters are `new` and then the cells."""
        names = [self._target.key, *([self._target.space] if self._target.space else []), *columns]
        marks = ", ".join("?" * len(names))
        return f"INSERT OR ABORT INTO {self._table} ({', '.join(map(quoted, names))}) VALUES ({marks})"  # noqa: S608

    def update(self, columns: Sequence[str]) -> str:
        """Return the UPDATE of `columns`; its parameters are the cells and then `where`."""
        new = ", ".join(f"{quoted(column)} = ?" for column in columns)
        return f"UPDATE OR ABORT {self._table} SET {new} WHERE {self._where}"  # noqa: S608

    def new(self, space_id: str, key: str) -> tuple[str, ...]:
        """Return the identity as the parameters of an INSERT."""
        return (key,) if self._target.space is None else (key, space_id)

    def in_space(self, space_id: str) -> tuple[str, ...]:
        """Return the parameters of `keys`."""
        return () if self._target.space is None else (space_id, space_id)

    def where(self, space_id: str, key: str) -> tuple[str, ...]:
        """Return the parameters that find one row."""
        return (*self.in_space(space_id), key, key)


def _exactly(column: str) -> str:
    return f"{column} = ? AND CAST({column} AS TEXT) COLLATE BINARY = ? AND {_is_name(column)}"


def _is_name(column: str) -> str:
    return f"typeof({column}) IN ('text', 'integer')"
