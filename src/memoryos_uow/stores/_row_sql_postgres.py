"""Reading and writing rows of an application's table on PostgreSQL: many at a time.

A row is found by comparing its identity twice, once plainly, for the sake of the index, and once as text byte by byte,
so that no collation makes two keys mean one row. What PostgreSQL keeps and Python has no plain value for (times,
numeric, uuid, json, arrays) is read as text: of times in UTC, as RFC 3339 has it, whatever the session is set to.

Promise: a run of writes whose keys differ takes as many round trips as it changes between kinds of statements, plus
two, however many rows it has.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from memoryos_uow.stores._table_shape import quoted
from memoryos_uow.stores._table_shape_postgres import INTEGERS, TEXTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from memoryos_uow.abc import Reader
    from memoryos_uow.stores._table_shape import Shape, Target

_PLAIN: Final = TEXTS - {"bpchar", "name"} | INTEGERS | {"boolean", "bytea", "real", "double precision"}
_TIMES: Final = {
    "timestamp with time zone": """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')""",
    "timestamp without time zone": """to_char({}, 'YYYY-MM-DD"T"HH24:MI:SS.US')""",
    "date": "to_char({}, 'YYYY-MM-DD')",
}
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
_RANGES: Final = {
    "smallint": range(-(2**15), 2**15),
    "integer": range(-(2**31), 2**31),
    "bigint": range(-(2**63), 2**63),
}


class PostgresRowSql:
    """Statements for the table of `target`, whose columns are those of `shape`."""

    def __init__(self, target: Target, shape: Shape) -> None:
        self._target = target
        self._shape = shape
        self._table = quoted(target.table)
        key, space = quoted(target.key), None if target.space is None else quoted(target.space)
        self._in_space = "TRUE" if space is None else self._exactly(target.space or "")
        self._key_type = shape.types[target.key]
        self._name = f"CAST({key} AS TEXT)"
        columns = ", ".join(map(self._read, shape.columns))
        among = (
            f"{self._in_space} AND {key} = ANY(CAST(? AS {self._key_type}[]))"
            f' AND {self._name} COLLATE "C" = ANY(CAST(? AS TEXT[]))'
        )
        self.select = f"SELECT {columns} FROM {self._table} WHERE {self._in_space} AND {self._exactly(target.key)}"  # noqa: S608
        self.all = f"SELECT {columns} FROM {self._table}"  # noqa: S608
        self.keys = (
            f'SELECT {self._name} AS name FROM {self._table} WHERE {self._in_space} ORDER BY {self._name} COLLATE "C"'  # noqa: S608
        )
        self._present = f"SELECT {self._name} FROM {self._table} WHERE {among}"  # noqa: S608
        self._among = f"SELECT {self._name}, {columns} FROM {self._table} WHERE {among}"  # noqa: S608
        self.delete = f"DELETE FROM {self._table} WHERE {self._in_space} AND {self._exactly(target.key)}"  # noqa: S608

    def _exactly(self, column: str) -> str:
        name, sort = quoted(column), self._shape.types[column]
        return f'{name} = CAST(? AS {sort}) AND CAST({name} AS TEXT) COLLATE "C" = CAST(? AS TEXT)'

    def _read(self, column: str) -> str:
        sort, name = self._shape.types[column], quoted(column)
        if sort in _TIMES:
            return _TIMES[sort].format(name)
        return name if sort in _PLAIN else f"CAST({name} AS TEXT)"

    def insert(self, columns: Sequence[str]) -> str:
        """Return the INSERT of key, space and `columns`; its parameters are `new` and then the cells."""
        names = [self._target.key, *([self._target.space] if self._target.space else []), *columns]
        marks = ", ".join(f"CAST(? AS {self._shape.types[name]})" for name in names)
        unique = ", ".join(map(quoted, self._shape.unique))
        return (
            f"INSERT INTO {self._table} ({', '.join(map(quoted, names))}) VALUES ({marks})"  # noqa: S608
            f" ON CONFLICT ({unique}) DO NOTHING"
        )

    def update(self, columns: Sequence[str]) -> str:
        """Return the UPDATE of `columns`; its parameters are the cells and then `where`."""
        new = ", ".join(f"{quoted(column)} = CAST(? AS {self._shape.types[column]})" for column in columns)
        return f"UPDATE {self._table} SET {new} WHERE {self._in_space} AND {self._exactly(self._target.key)}"  # noqa: S608

    # Parameters

    def new(self, space_id: str, key: str) -> tuple[str, ...]:
        """Return the identity as the parameters of an INSERT."""
        return (key,) if self._target.space is None else (key, space_id)

    def in_space(self, space_id: str) -> tuple[str | None, ...]:
        """Return the parameters of `keys`."""
        if self._target.space is None:
            return ()
        return (_as_type(space_id, self._shape.types[self._target.space]), space_id)

    def where(self, space_id: str, key: str) -> tuple[str | None, ...]:
        """Return the parameters that find one row."""
        return (*self.in_space(space_id), _as_type(key, self._key_type), key)

    def can_name(self, space_id: str, key: str) -> bool:
        """Say whether the columns can hold this space and key, byte for byte."""
        return None not in self.where(space_id, key)

    # Many rows

    def present(self, reader: Reader, space_id: str, keys: Sequence[str]) -> set[str]:
        """Return those of `keys` that have a row."""
        return {key for (key,) in reader.rows(self._present, self._of_all(space_id, keys))}

    def among(self, reader: Reader, space_id: str, keys: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        """Return the rows of `keys`, by key."""
        return {key: tuple(cells) for key, *cells in reader.rows(self._among, self._of_all(space_id, keys))}

    def _of_all(self, space_id: str, keys: Sequence[str]) -> tuple[object, ...]:
        typed = [_as_type(key, self._key_type) for key in keys]
        return (*self.in_space(space_id), [key for key in typed if key is not None], list(keys))


def runs(
    statements: Iterable[tuple[str, tuple[object, ...]]],
) -> Iterator[tuple[str, list[tuple[object, ...]]]]:
    """Yield each statement once for those that follow each other, with the parameters of all of them."""
    for sql, group in groupby(statements, key=lambda one: one[0]):
        yield sql, [parameters for _, parameters in group]


def is_raised_by_trigger(cause: BaseException | None) -> bool:
    """Say whether PostgreSQL reports what a function of the application's has raised."""
    return (getattr(cause, "sqlstate", None) or "")[:2] == "P0"


def words_of_server(cause: BaseException) -> str:
    """Return what the database says of a refused row, without the values that PostgreSQL adds to it."""
    diagnosis: Any = getattr(cause, "diag", None)
    return str(getattr(diagnosis, "message_primary", None) or cause)


def _as_type(text: str, sort: str) -> str | None:
    """Return `text` if a column of the type `sort` can hold it and reads so again; else None, which equals nothing."""
    if sort in TEXTS:
        return text
    if sort == "uuid":
        try:
            return text if str(UUID(text)) == text else None
        except ValueError:
            return None
    return text if _INTEGER.fullmatch(text) and int(text) in _RANGES[sort] else None
