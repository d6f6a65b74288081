"""Tables: rows of the application's own tables in the ledger's file, as records of a unit.

The application goes on using its table with plain SQL as well; so nothing is kept beside the table, and the version of a
row is the digest of what it holds now.

Promise: a record is one row, found by its key column (and space column) compared exactly, byte for byte: not by the
table's collation, and not through a conversion that would let two keys mean one row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from memoryos_uow._bands import shown_key
from memoryos_uow._canonical import sha256_hex
from memoryos_uow._names import MAX_KEY_BYTES, Operation, check_identifier, check_store_name
from memoryos_uow._records import Content, Found
from memoryos_uow.abc import ASK_THE_STORE, MISSING, Absent, Capability
from memoryos_uow.errors import RecordExists, RecordMissing, StoreError, UsageError
from memoryos_uow.stores._row_values import as_cell, cell_bytes, cell_problem, key_text, row_content
from memoryos_uow.stores._table_shape import (
    Shape,
    Target,
    check_columns,
    check_name,
    check_table_name,
    create_statement,
    find_shape,
    listed,
    quoted,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from memoryos_uow._limits import Limits
    from memoryos_uow._records import Hit
    from memoryos_uow.abc import Home, Reader, Transaction, UnitFacts, Write


class _Row(NamedTuple):
    """The columns a caller gave, without key and space; `spaces` holds the space id if that was among them."""

    cells: dict[str, object]
    spaces: tuple[object, ...]


class TableStore:
    """Rows of the table `table` (default: the store's name), addressed by the column `key`.

    A value is a dict of columns. `create` and `upsert` need only those without a default, `update` changes those given
    and leaves the others; `get` returns all of them. The key and space columns are filled in by the store. `columns`
    (name: TEXT, INTEGER, REAL, BLOB or NUMERIC, with NOT NULL if wanted) creates the table where it is missing.
    `space_column` keeps the spaces apart; with None all spaces share the table's rows. Either both columns together or
    the key alone must be the table's primary key or have a unique index; in the latter case two spaces cannot hold the
    same key.

    Raises:
        UsageError: a name that is not plain or not the application's, or a bad declared type.
    """

    kind: Final = "rows"
    capability: Final = Capability.SAME_TRANSACTION

    def __init__(
        self,
        name: str,
        *,
        key: str,
        columns: Mapping[str, str] | None = None,
        table: str | None = None,
        space_column: str | None = "space_id",
    ) -> None:
        self._name = check_store_name(name)
        self._target = Target(
            store=self._name,
            table=check_table_name(name if table is None else table, name),
            key=check_name(key, "key column", name),
            space=None if space_column is None else check_name(space_column, "space column", name),
        )
        if key == space_column:
            self._target.refuse("The key column and the space column are the same.", "Use two columns.")
        self._columns = None if columns is None else check_columns(columns, self._target)
        self._shape = Shape(tuple(self._columns or self._target.identity()))

    def __repr__(self) -> str:
        target = self._target
        return f"TableStore({self._name!r}, key={target.key!r}, table={target.table!r}, space_column={target.space!r})"

    @property
    def name(self) -> str:
        """The name under which units address the store."""
        return self._name

    # Getting ready

    def attach(self, home: Home, reader: Reader, recorded: Mapping[str, Any] | None) -> bool:
        """Look at the table as it is now; return whether it, or the record of it, is still to be made.

        Raises:
            UsageError: the ledger has recorded another table or key; the table is missing and there are no `columns`; or
                it is one that cannot serve.
        """
        if recorded is not None and dict(recorded) != self._config():
            self._target.refuse(
                f"The store {self._name!r} of this ledger works on another table, key or space column.",
                "Open it with those, or use another name for this one.",
            )
        shape = find_shape(reader, self._target)
        if shape is None:
            if self._columns is None:
                self._target.refuse(
                    f"The ledger's file has no table {self._target.table!r}.",
                    f'Create it, or let the store do so: columns={{"{self._target.key}": "TEXT", ...}}.',
                )
            self._shape = Shape(tuple(self._columns))
            return True
        absent = [column for column in self._columns or () if column not in shape.columns]
        if absent:
            self._target.refuse(
                f"The table {self._target.table!r} exists, without the columns {listed(absent)}.",
                "Add them with ALTER TABLE, or leave columns= out.",
            )
        self._shape = shape
        return recorded is None

    def _config(self) -> dict[str, Any]:
        return {"table": self._target.table, "key": self._target.key, "space_column": self._target.space}

    def setup(self, tx: Transaction, recorded: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Create the table inside `tx` if it is missing; return ``{"table": ..., "key": ..., "space_column": ...}``."""
        shape = find_shape(tx, self._target)
        if shape is None and self._columns is not None:
            tx.execute(create_statement(self._columns, self._target))
            shape = find_shape(tx, self._target)
        self._shape = shape or self._shape
        return self._config()
