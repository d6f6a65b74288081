"""Tables: rows of the application's own tables in the ledger's file, as records of a unit.

The application goes on using its table with plain SQL as well; so nothing is kept beside the table, and the version
of a row is the digest of what it holds now.

Promise: a record is one row, found by its key column (and space column) compared exactly, byte for byte: not by the
table's collation, and not through a conversion that would let two keys mean one row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow._canonical import sha256_hex
from memoryos_uow._names import MAX_KEY_BYTES, Dialect, Operation, check_identifier, check_store_name
from memoryos_uow._records import Content, Found, Held
from memoryos_uow.abc import ASK_THE_STORE, MISSING, Capability
from memoryos_uow.errors import StoreError, UsageError
from memoryos_uow.stores import _table_shape_postgres
from memoryos_uow.stores._record_errors import record_exists, record_missing
from memoryos_uow.stores._row_sql import RowSql
from memoryos_uow.stores._row_sql_postgres import PostgresRowSql, is_raised_by_trigger, runs, words_of_server
from memoryos_uow.stores._row_values import as_cell, as_typed, cell_bytes, cell_problem, key_text, row_content
from memoryos_uow.stores._table_shape import (
    Shape,
    Target,
    check_columns,
    check_name,
    check_table_name,
    create_statement,
    find_shape,
    listed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from memoryos_uow._limits import Limits
    from memoryos_uow._records import Hit
    from memoryos_uow.abc import Absent, Home, Reader, Transaction, UnitFacts, Write


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
        if space_column is not None and key.lower() == space_column.lower():
            raise self._target.refusal("The key column and the space column are the same.", "Use two columns.")
        self._columns = None if columns is None else check_columns(columns, self._target)
        self._learn(Shape(tuple(self._columns or self._target.identity())))

    def _learn(self, shape: Shape) -> None:
        self._shape = shape
        self._there = PostgresRowSql(self._target, shape) if shape.types else None
        self._here = RowSql(self._target, shape)
        self._sql: RowSql | PostgresRowSql = self._there or self._here

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
            UsageError: the ledger has recorded another table or key; the table is missing and there are no `columns`;
                or it is one that cannot serve.
        """
        self._compare(recorded)
        return not self._look(reader) or recorded is None

    def _look(self, reader: Reader) -> bool:
        """Learn the table's columns; return whether there is a table. If not, the declared columns count until then."""
        there = reader.dialect is Dialect.POSTGRESQL
        shape = (_table_shape_postgres.find_shape if there else find_shape)(reader, self._target)
        if shape is None and self._columns is None:
            raise self._target.refusal(
                f"The ledger's file has no table {self._target.table!r}.",
                f'Create it, or let the store do so: columns={{"{self._target.key}": "TEXT", ...}}.',
            )
        declared = tuple(self._columns or ())
        absent = [column for column in declared if shape and column not in shape.columns]
        if absent:
            raise self._target.refusal(
                f"The table {self._target.table!r} exists, without the columns {listed(absent)}.",
                "Add them with ALTER TABLE, or leave columns= out.",
            )
        made = _table_shape_postgres.made_shape(self._columns or {}, self._target) if there else Shape(declared)
        self._learn(shape or made)
        return shape is not None

    def _compare(self, recorded: Mapping[str, Any] | None) -> None:
        if recorded is not None and dict(recorded) != self._config():
            raise self._target.refusal(
                f"The store {self._name!r} of this ledger works on another table, key or space column.",
                "Open it with those, or use another name for this one.",
            )

    def _config(self) -> dict[str, Any]:
        return {"table": self._target.table, "key": self._target.key, "space_column": self._target.space}

    def setup(self, tx: Transaction, recorded: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Create the table inside `tx` if it is missing; return ``{"table": ..., "key": ..., "space_column": ...}``.

        Raises:
            UsageError: another process recorded another table or key in the meantime.
        """
        self._compare(recorded)
        if not self._look(tx):
            make = create_statement if tx.dialect is Dialect.SQLITE else _table_shape_postgres.create_statement
            tx.execute(make(self._columns or {}, self._target))
            self._look(tx)
        return self._config()

    # Values

    def encode(self, operation: Operation, key: str, value: object, limits: Limits) -> tuple[_Row | None, None]:
        """Check `key` and `value`; the content is known only when the row is in the table.

        Raises:
            UsageError: `value` is not a dict, names a column that the table has not or computes itself, has a value
                that no column holds, disagrees with `key`, or is larger than ``limits.row_bytes``.
        """
        check_identifier(key, "record key", max_bytes=MAX_KEY_BYTES)
        if operation is Operation.DELETE:
            return None, None
        if not isinstance(value, Mapping):
            raise self._target.refusal(f"A row must be a dict of columns, not {type(value).__name__}.", "Pass a dict.")
        given = {self._known(column): self._cell(column, cell) for column, cell in value.items()}
        size = sum(cell_bytes(cell) for cell in given.values())
        if size > limits.row_bytes:
            raise self._target.refusal(
                f"The row holds {size:,} bytes; the limit is {limits.row_bytes:,}.", "Keep the bulk in a blob store."
            )
        if self._target.key in given and key_text(given.pop(self._target.key)) != key:
            raise self._target.refusal(
                f"The column {self._target.key!r} of the row differs from the record's key.", "Leave the column out."
            )
        spaces = tuple(given.pop(column) for column in (self._target.space,) if column in given)
        return _Row(given, spaces), None

    def _known(self, column: object) -> str:
        """Return `column` if it can be written, or raise UsageError."""
        if not isinstance(column, str) or column not in self._shape.columns:
            # A name that nobody declared is the caller's data: only its type is told.
            what = (
                "a column that it has not" if isinstance(column, str) else f"a column of type {type(column).__name__}"
            )
            raise self._target.refusal(
                f"The row names {what} to the table {self._target.table!r}.",
                f"It has: {listed(self._shape.columns)}.",
            )
        if column in self._shape.computed:
            raise self._target.refusal(f"The table itself computes the column {column!r}.", "Leave the column out.")
        return column

    def _cell(self, column: str, cell: object) -> object:
        problem = cell_problem(cell)
        if not problem:
            plain = as_cell(cell)
            if not self._shape.types or column in self._target.identity():
                return plain
            try:
                return as_typed(plain, self._shape.types[column])
            except ValueError as error:
                problem = str(error)
        raise self._target.refusal(f"The value for the column {column!r} {problem}.", "Convert it first.")

    def overlay(self, write: Write) -> Absent:
        """Return `MISSING` for a delete; what defaults and triggers make of a row, only the table can tell."""
        return MISSING if write.operation is Operation.DELETE else ASK_THE_STORE

    # Writing

    def prepare(self, unit: UnitFacts, writes: Sequence[Write]) -> None:
        """Do nothing: the ledger's own transaction holds everything."""

    def apply(self, tx: Transaction, unit: UnitFacts, commit_seq: int, writes: Sequence[Write]) -> None:
        """Carry out `writes` row by row, and fill in their contents with the rows as they are afterwards.

        Raises:
            RecordExists: a create found its key taken.
            RecordMissing: an update or delete did not find its key.
            StoreError: a constraint or trigger of the table refused a row, or turned its key into another one.
            UsageError: the space column of a value differs from the unit's space.
        """
        if self._there is not None:
            for batch in _with_different_keys(writes):
                self._apply_batch(tx, self._there, unit, batch)
            return
        for write in writes:
            if write.operation is Operation.DELETE:
                self._delete(tx, self._here, unit, write)
            else:
                self._put(tx, self._here, unit, write)

    def _apply_batch(self, tx: Transaction, sql: PostgresRowSql, unit: UnitFacts, batch: list[Write]) -> None:
        """Carry out writes to different rows, all together."""
        keys = [str(write.key) for write in batch]
        present = sql.present(tx, unit.space_id, keys)
        statements = (self._statement(sql, unit, write, exists=str(write.key) in present) for write in batch)
        for text, rows in runs(statement for statement in statements if statement is not None):
            self._change(tx, text, rows)
        left = sql.among(tx, unit.space_id, keys)
        for write in batch:
            if write.operation is not Operation.DELETE:
                cells = left.get(str(write.key))
                write.content = self._content(None if cells is None else self._as_row(cells))

    def _statement(
        self, sql: PostgresRowSql, unit: UnitFacts, write: Write, *, exists: bool
    ) -> tuple[str, tuple[object, ...]] | None:
        """Return the statement, with its parameters, that carries out `write`; None if nothing is to be done."""
        space_id, key = unit.space_id, str(write.key)
        if write.operation is Operation.DELETE:
            if not exists:
                raise record_missing(write, unit)
            return sql.delete, sql.where(space_id, key)
        row = self._refuse_unfit(unit, write, exists=exists)
        columns = tuple(row.cells)
        if exists:
            return (sql.update(columns), (*row.cells.values(), *sql.where(space_id, key))) if columns else None
        if not sql.can_name(space_id, key):
            raise self._odd_row("Its key or space column cannot hold this key")
        return sql.insert(columns), (*sql.new(space_id, key), *row.cells.values())

    def _refuse_unfit(self, unit: UnitFacts, write: Write, *, exists: bool) -> _Row:
        """Return the row that `write` is to leave, where its key is as free, or as taken, as it must be."""
        row: _Row = write.payload
        if row.spaces and key_text(row.spaces[0]) != unit.space_id:
            raise self._target.refusal(
                f"The column {self._target.space!r} of a row differs from the unit's space.", "Leave the column out."
            )
        if exists and write.operation is Operation.CREATE:
            raise record_exists(write, unit)
        if not exists and write.operation is Operation.UPDATE:
            raise record_missing(write, unit)
        return row

    def _delete(self, tx: Transaction, sql: RowSql, unit: UnitFacts, write: Write) -> None:
        where = sql.where(unit.space_id, str(write.key))
        if not tx.rows(sql.exists, where):
            raise record_missing(write, unit)
        self._change(tx, sql.delete, [where])

    def _put(self, tx: Transaction, sql: RowSql, unit: UnitFacts, write: Write) -> None:
        space_id, key = unit.space_id, str(write.key)
        where = sql.where(space_id, key)
        exists = bool(tx.rows(sql.exists, where))
        row = self._refuse_unfit(unit, write, exists=exists)
        if not exists:
            self._change(tx, sql.insert(tuple(row.cells)), [(*sql.new(space_id, key), *row.cells.values())])
        elif row.cells:
            self._change(tx, sql.update(tuple(row.cells)), [(*row.cells.values(), *where)])
        write.content = self._content(self._row(tx, space_id, key))

    def _change(self, tx: Transaction, sql: str, rows: list[tuple[object, ...]]) -> None:
        """Run a statement for each of `rows`, parameters that change one row each."""
        refusal: StoreError | None = None
        try:
            done = tx.execute_many(sql, rows) == len(rows) if rows[1:] else tx.execute(sql, rows[0])
        except StoreError as error:
            refusal = error
        except UsageError as error:
            if not is_raised_by_trigger(error.__cause__):
                raise
        else:
            if done:
                return
            raise self._odd_row("A trigger of it held the write back, or another row has its key")
        raise self._constraint(refusal)

    def _constraint(self, refusal: StoreError | None) -> StoreError:
        cause = refusal.__cause__ if refusal is not None else None
        if cause is None or getattr(cause, "sqlite_errorname", "") == "SQLITE_CONSTRAINT_TRIGGER":
            return self._odd_row("A trigger of it refused the write")  # in words of its own, which may quote the row
        error = StoreError(
            f"The table {self._target.table!r} refused a row: {words_of_server(cause)}.",
            hint="Nothing of the unit was written. Correct the value, or the table's constraint.",
            store=self._name,
        )
        error.__cause__ = cause
        return error

    def _content(self, row: Mapping[str, Any] | None) -> Content:
        if row is None:
            raise self._odd_row("Its key or space column, or a trigger of it, turned the key into something else")
        content = row_content(row)
        return Content(len(content), sha256_hex(content))

    def _odd_row(self, why: str) -> StoreError:
        return StoreError(
            f"The table {self._target.table!r} did not take a row as it was. {why}.",
            hint="Nothing of the unit was written. Check the table's types, collations and triggers.",
            store=self._name,
        )

    # Reading

    def _row(self, reader: Reader, space_id: str, key: str) -> dict[str, Any] | None:
        rows = reader.rows(self._sql.select, self._sql.where(space_id, key))
        return self._as_row(rows[0]) if rows else None

    def _as_row(self, cells: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(self._shape.columns, cells, strict=True))

    def read(self, reader: Reader, space_id: str, key: str) -> Found | None:
        """Return the row as a dict of all its columns, and its version: the SHA-256 of its content."""
        row = self._row(reader, space_id, key)
        return None if row is None else Found(row, sha256_hex(row_content(row)))

    def version(self, reader: Reader, space_id: str, key: str) -> object:
        """Return the SHA-256 of the row's content, None if there is no row."""
        found = self.read(reader, space_id, key)
        return found.version if found else None

    def keys(self, reader: Reader, space_id: str) -> Iterator[str]:
        """Yield the keys of all rows in a space, in the order of their UTF-8 bytes."""
        for (key,) in reader.stream(self._sql.keys, self._sql.in_space(space_id)):
            yield key

    # For the comparison with receipts

    shares_records: Final = True

    @property
    def shares_keys(self) -> bool:
        """Whether the table has no space column."""
        return self._target.space is None

    def contents(self, reader: Reader) -> Iterator[Held]:
        """Yield every row of the table that a record's key can name."""
        for cells in reader.stream(self._sql.all):
            row = self._as_row(cells)
            key = key_text(row[self._target.key])
            space_id = None if self._target.space is None else key_text(row[self._target.space])
            if key is None or (space_id is None and not self.shares_keys):
                continue
            try:
                content = row_content(row)
            except UnicodeEncodeError:
                yield Held(space_id, key, None, "its row holds text that is not UTF-8")
            else:
                yield Held(space_id, key, Content(len(content), sha256_hex(content)))

    def search(self, reader: Reader, space_id: str, query: object, k: int, options: Mapping[str, Any]) -> list[Hit]:
        """Refuse: rows are found with SQL.

        Raises:
            UsageError: always.
        """
        raise self._target.refusal(f"The store {self._name!r} holds rows, which cannot be searched.", "Use uow.sql().")

    def close(self) -> None:
        """Do nothing: nothing is held outside the ledger."""


def _with_different_keys(writes: Sequence[Write]) -> Iterator[list[Write]]:
    """Yield `writes` in their order, in lists as long as no key comes twice in one of them."""
    batch: dict[str | None, Write] = {}
    for write in writes:
        if write.key in batch:
            yield list(batch.values())
            batch = {}
        batch[write.key] = write
    if batch:
        yield list(batch.values())
