"""What the document, vector and blob stores share: records by key in one of the library's own tables.

Each table (``schema/stores.sql``) holds ``id, store, space_id, key, version`` and then the columns in which a kind of
store keeps its value; ``(store, space_id, key)`` is unique, and ``version`` is the commit sequence of the unit that
wrote the record last.

Promise: a record is found, changed and listed only through its store and its space, and writes take effect in the order
in which they were made. Consecutive writes of one operation become one `execute_many`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from itertools import groupby
from operator import attrgetter, length_hint
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from memoryos_uow._canonical import sha256_hex
from memoryos_uow._names import MAX_KEY_BYTES, Dialect, Operation, check_identifier, check_store_name
from memoryos_uow._records import Content, Found, Held
from memoryos_uow.abc import MISSING, Capability
from memoryos_uow.errors import StoreError, UsageError
from memoryos_uow.stores._record_errors import record_exists, record_missing
from memoryos_uow.stores._record_sql_postgres import ALWAYS, NotSo, PostgresRecords, statements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from memoryos_uow._limits import Limits
    from memoryos_uow._records import Hit
    from memoryos_uow.abc import Home, Reader, Transaction, UnitFacts, Write
    from memoryos_uow.stores._record_sql_postgres import Condition


class _Statements(NamedTuple):
    create: str
    update: str
    upsert: str
    delete: str
    read: str
    version: str
    keys: str
    scan: str
    all: str


@cache
def _statements(table: str, columns: tuple[str, ...]) -> _Statements:
    """Return the SQL for a table of ours; both arguments are constants of this library, never a caller's text."""
    names = ", ".join(columns)
    marks = ", ".join("?" * len(columns))
    new = ", ".join(f"{column} = ?" for column in columns)
    excluded = ", ".join(f"{column} = excluded.{column}" for column in columns)
    insert = f"INSERT INTO {table} (store, space_id, key, version, {names}) VALUES (?, ?, ?, ?, {marks})"  # noqa: S608
    record = "WHERE store = ? AND space_id = ? AND key = ?"
    space = "WHERE store = ? AND space_id = ?"
    return _Statements(
        create=insert,
        update=f"UPDATE {table} SET version = ?, {new} {record}",  # noqa: S608
        upsert=f"{insert} ON CONFLICT (store, space_id, key) DO UPDATE SET version = excluded.version, {excluded}",
        delete=f"DELETE FROM {table} {record}",  # noqa: S608
        read=f"SELECT version, {names} FROM {table} {record}",  # noqa: S608
        version=f"SELECT version FROM {table} {record}",  # noqa: S608
        keys=f"SELECT key FROM {table} {space} ORDER BY key",  # noqa: S608
        scan=f"SELECT key, {names} FROM {table} {space}",  # noqa: S608
        # +store keeps SQLite from an index, and so from sorting all that is found by it.
        all=f"SELECT id, space_id, key, {names} FROM {table} WHERE +store = ? ORDER BY id",  # noqa: S608
    )


class RecordStore(ABC):
    """A store whose records are rows of one of the library's tables.

    A kind of store says how a value becomes columns (`_encode`, `_columns_of`) and back (`_value`, `_overlay`).
    """

    kind: ClassVar[str]
    capability: ClassVar[Capability] = Capability.SAME_TRANSACTION
    _table: ClassVar[str]
    _columns: ClassVar[tuple[str, ...]]
    _written_on_postgres: ClassVar[tuple[str, ...]] = ()
    """Columns that are computed from the value, and kept on PostgreSQL only."""
    _value_type: ClassVar[str] = "BYTEA"
    """PostgreSQL's type of the column ``value``."""

    def __init__(self, name: str) -> None:
        self._name = check_store_name(name)
        self._sql = _statements(self._table, self._columns)
        columns = (*self._columns, *self._written_on_postgres)
        self._on_postgres = PostgresRecords(
            self._name, statements(self._table, columns, self._value_type), self._columns_on_postgres
        )

    @property
    def name(self) -> str:
        """The name under which units address the store."""
        return self._name

    # What a kind of store says

    @abstractmethod
    def attach(self, home: Home, reader: Reader, recorded: Mapping[str, Any] | None) -> bool:
        """Get ready; see `memoryos_uow.abc.Store.attach`."""

    @abstractmethod
    def setup(self, tx: Transaction, recorded: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Create what is missing; see `memoryos_uow.abc.Store.setup`."""

    @abstractmethod
    def _encode(self, value: object, limits: Limits) -> tuple[Any, Content]:
        """Return payload and content of `value`, or raise UsageError."""

    @abstractmethod
    def _columns_of(self, payload: Any) -> tuple[object, ...]:
        """Return what the value columns of a record with this payload hold."""

    @abstractmethod
    def _value(self, reader: Reader, space_id: str, columns: Sequence[Any]) -> Any:
        """Return the value that these columns hold, or raise StoreError where they were tampered with."""

    @abstractmethod
    def _overlay(self, payload: Any) -> Any:
        """Return a fresh copy of the value that was encoded as `payload`."""

    def _check_key(self, key: str) -> None:
        check_identifier(key, "record key", max_bytes=MAX_KEY_BYTES)

    # Writing

    def encode(self, operation: Operation, key: str, value: object, limits: Limits) -> tuple[Any, Content | None]:
        """Check `key` and `value` and return payload and content; both None for a delete.

        Raises:
            UsageError: the key or the value cannot be stored.
        """
        self._check_key(key)
        if operation is Operation.DELETE:
            return None, None
        return self._encode(value, limits)

    def overlay(self, write: Write) -> Any:
        """Return a fresh copy of the value that `write` will leave, or `MISSING`."""
        return MISSING if write.operation is Operation.DELETE else self._overlay(write.payload)

    def prepare(self, unit: UnitFacts, writes: Sequence[Write]) -> None:  # noqa: B027 - most have nothing to do
        """Do nothing: the ledger's own transaction holds everything."""

    def apply(self, tx: Transaction, unit: UnitFacts, commit_seq: int, writes: Sequence[Write]) -> None:
        """Carry out `writes` in their order.

        Raises:
            RecordExists: a create found its key taken.
            RecordMissing: an update or delete did not find its key.
        """
        for operation, run in groupby(writes, key=attrgetter("operation")):
            self._apply_run(tx, unit, commit_seq, operation, list(run))

    def _apply_run(
        self, tx: Transaction, unit: UnitFacts, commit_seq: int, operation: Operation, run: list[Write]
    ) -> None:
        if tx.dialect is Dialect.POSTGRESQL:
            self._apply_on_postgres(tx, unit, commit_seq, run)
        elif operation is Operation.CREATE:
            self._create(tx, unit, commit_seq, run)
        elif operation is Operation.UPDATE:
            self._update(tx, unit, commit_seq, run)
        elif operation is Operation.UPSERT:
            tx.execute_many(self._sql.upsert, self._new_rows(unit, commit_seq, run))
        else:
            self._delete(tx, unit, run)

    def _new_rows(self, unit: UnitFacts, commit_seq: int, run: list[Write]) -> list[tuple[object, ...]]:
        name, space_id, columns_of = self._name, unit.space_id, self._columns_of
        return [(name, space_id, write.key, commit_seq, *columns_of(write.payload)) for write in run]

    def _create(self, tx: Transaction, unit: UnitFacts, commit_seq: int, run: list[Write]) -> None:
        rows = iter(self._new_rows(unit, commit_seq, run))
        try:
            tx.execute_many(self._sql.create, rows)
        except StoreError as error:
            # A transaction takes one row, runs the statement, takes the next: the row taken last is the one that
            # failed.
            raise record_exists(run[-1 - length_hint(rows)], unit) from error

    def _update(self, tx: Transaction, unit: UnitFacts, commit_seq: int, run: list[Write]) -> None:
        rows = ((commit_seq, *self._columns_of(write.payload), self._name, unit.space_id, write.key) for write in run)
        if tx.execute_many(self._sql.update, rows) != len(run):
            # No update removes a record, so what was missing is missing still.
            absent = (w for w in run if not tx.rows(self._sql.version, (self._name, unit.space_id, w.key)))
            raise record_missing(next(absent, run[0]), unit)

    def _delete(self, tx: Transaction, unit: UnitFacts, run: list[Write]) -> None:
        for write in run:
            if not tx.execute(self._sql.delete, (self._name, unit.space_id, write.key)):
                raise record_missing(write, unit)

    def _apply_on_postgres(self, tx: Transaction, unit: UnitFacts, version: int, run: list[Write]) -> None:
        """Carry out `run`, writes of one operation; see `PostgresRecords.apply`."""
        condition = self._condition()
        try:
            self._on_postgres.apply(tx, unit, version, run, condition)
        except NotSo:
            self._follow_record(tx)
            self._on_postgres.apply(tx, unit, version, run)

    def _condition(self) -> Condition:
        """Return what must still be so for what `_columns_on_postgres` returns to be right."""
        return ALWAYS

    def _follow_record(self, tx: Transaction) -> None:  # noqa: B027 - most record nothing that changes
        """Work as the ledger records it by now; called where the condition may not hold any more."""

    def _columns_on_postgres(self, payload: Any) -> tuple[object, ...]:
        return self._columns_of(payload)

    # Reading

    def read(self, reader: Reader, space_id: str, key: str) -> Found | None:
        """Return the record's value and version, or None.

        Raises:
            StoreError: what is stored is not what this library wrote.
        """
        rows = reader.rows(self._sql.read, (self._name, space_id, key))
        if not rows:
            return None
        version, *columns = rows[0]
        return Found(self._value(reader, space_id, columns), version)

    def version(self, reader: Reader, space_id: str, key: str) -> object:
        """Return the commit sequence of the unit that wrote the record last, or None if there is no record."""
        rows = reader.rows(self._sql.version, (self._name, space_id, key))
        return rows[0][0] if rows else None

    def read_all(self, reader: Reader, space_id: str, keys: Sequence[str]) -> dict[str, Found]:
        """Return those of `keys` that have a record, all at once; on PostgreSQL only.

        Raises:
            StoreError: what is stored is not what this library wrote.
        """
        rows = reader.rows(self._on_postgres.sql.read, (self._name, space_id, list(keys)))
        return {key: Found(self._value(reader, space_id, columns), version) for key, version, *columns in rows}

    def versions(self, reader: Reader, space_id: str, keys: Sequence[str]) -> dict[str, object]:
        """Return the version of each of `keys` that has a record, all at once; on PostgreSQL only."""
        return dict(reader.rows(self._on_postgres.sql.versions, (self._name, space_id, list(keys))))

    def keys(self, reader: Reader, space_id: str) -> Iterator[str]:
        """Yield the keys of all records in a space, in the order of their UTF-8 bytes."""
        for (key,) in reader.stream(self._sql.keys, (self._name, space_id)):
            yield key

    def search(self, reader: Reader, space_id: str, query: object, k: int, options: Mapping[str, Any]) -> list[Hit]:
        """Refuse: this kind of store cannot be searched.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"The store {self._name!r} holds {self.kind}, which cannot be searched.",
            hint="Read by key, or keep a document with search=[...] or a vector beside each record.",
            store=self._name,
        )

    # For the comparison with receipts

    shares_keys: ClassVar[bool] = False
    shares_records: ClassVar[bool] = False

    def contents(self, reader: Reader) -> Iterator[Held]:
        """Yield every record with the length and digest of what lies there now."""
        for _, space_id, key, *columns in reader.stream(self._every(reader), (self._name,)):
            yield self._held(reader, space_id, key, columns)

    def _every(self, reader: Reader) -> str:
        """Return the query for all records: a number, space, key and columns, in the same order each time."""
        return self._on_postgres.sql.all if reader.dialect is Dialect.POSTGRESQL else self._sql.all

    def _held(self, reader: Reader, space_id: Any, key: Any, columns: Sequence[Any]) -> Held:
        """Return a record as it lies there; anything may have been put into its row from outside."""
        try:
            check_identifier(space_id, "space")
            self._check_key(key)
        except UsageError:
            return Held(None, None, None, "a record under a name that no record can have")
        lies = self._stored(reader, space_id, columns)
        if isinstance(lies, str):
            return Held(space_id, key, None, lies)
        return Held(space_id, key, None if lies is None else measured(lies))

    def _stored(self, reader: Reader, space_id: str, columns: Sequence[Any]) -> bytes | str | None:
        """Return the bytes that are kept of a record, None if they are missing, or what is wrong, as a clause."""
        return columns[0] if isinstance(columns[0], bytes) else ODD_COLUMN

    def close(self) -> None:  # noqa: B027 - most have nothing to do
        """Do nothing: nothing is held outside the ledger."""

    def _refusal(self, message: str, hint: str) -> UsageError:
        return UsageError(message, hint=f"Nothing was written. {hint}", store=self._name)

    def _damaged(self) -> StoreError:
        return StoreError(
            f"A record of the store {self._name!r} is not as this library wrote it.",
            hint="Nothing was written. It was changed from outside; restore it from a copy or write it anew.",
            store=self._name,
        )


ODD_COLUMN: Final = "its row holds what this library did not write"


def measured(content: bytes) -> Content:
    """Return length and digest of `content`."""
    return Content(len(content), sha256_hex(content))


def check_k(k: object, store: str) -> int:
    """Return `k`, the number of hits wanted, as SQLite can take it.

    Raises:
        UsageError: not a whole number of at least one.
    """
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        given = "less than that" if isinstance(k, int) and not isinstance(k, bool) else f"a {type(k).__name__}"
        raise UsageError(
            f"A search needs a whole number of hits of at least 1, not {given}.",
            hint="Nothing was written. Pass k=10, for example.",
            store=store,
        )
    return min(k, 2**31 - 1)


def refuse_options(options: Mapping[str, Any], known: Sequence[str], store: str) -> None:
    """Raise UsageError if `options` holds a name that is not in `known`."""
    unknown = sum(option not in known for option in options)
    if unknown:
        hint = f"It knows {', '.join(known)}." if known else "It knows none."
        raise UsageError(
            f"The store {store!r} does not know {unknown} of these search options.", hint=hint, store=store
        )
