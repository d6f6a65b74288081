"""Writing records on PostgreSQL: one statement for each run of writes of one operation, however many they are.

Promise: the outcome is that of the writes one by one in their order, and so is the error: it names the first write that
could not be. A record is only ever overwritten, or removed, by a unit with a greater version; a unit that meets a
greater one ends in a conflict, and this process's later units get versions beyond it (`Transaction.learn`).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow._names import Operation
from memoryos_uow.errors import ConflictError
from memoryos_uow.stores._record_errors import record_exists, record_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from memoryos_uow.abc import Transaction, UnitFacts, Write

_TYPES: Final = {"digest": "TEXT", "size": "BIGINT", "data": "BYTEA", "words": "TSVECTOR"}


class Statements(NamedTuple):
    """The SQL for one table of ours. Each of the first three ends where a condition may follow."""

    create: str
    update: str
    upsert: str
    delete: str
    versions: str
    read: str
    all: str


class Condition(NamedTuple):
    """What must be so, besides, for records to be written."""

    sql: str
    parameters: tuple[object, ...]


ALWAYS: Final = Condition("TRUE", ())


class NotSo(Exception):  # noqa: N818 - a message between two functions, never an error of anybody's
    """The condition does not hold; nothing was written."""


@cache
def statements(table: str, columns: tuple[str, ...], value_type: str) -> Statements:
    """Return the SQL for a table; the arguments are constants of this library, never a caller's text.

    `value_type` is the type of the column ``value``. ``{condition}`` stands where the condition goes.
    """
    names = ", ".join(columns)
    new = ", ".join(f"u.{column}" for column in columns)
    arrays = ", ".join(f"CAST(? AS {_TYPES.get(column, value_type)}[])" for column in columns)
    given = f"unnest(CAST(? AS TEXT[]), {arrays}) AS u(key, {names})"
    insert = (
        f"INSERT INTO {table} (store, space_id, key, version, {names})"  # noqa: S608
        f" SELECT CAST(? AS TEXT), CAST(? AS TEXT), u.key, CAST(? AS BIGINT), {new} FROM {given} WHERE {{condition}}"
    )
    record = "t.store = ? AND t.space_id = ?"
    excluded = ", ".join(f"{column} = excluded.{column}" for column in columns)
    assigned = ", ".join(f"{column} = u.{column}" for column in columns)
    return Statements(
        create=f"{insert} ON CONFLICT DO NOTHING RETURNING key",
        update=(
            f"UPDATE {table} AS t SET version = ?, {assigned} FROM {given}"  # noqa: S608
            f" WHERE {record} AND t.key = u.key AND t.version <= ? AND {{condition}}"
        ),
        upsert=(
            f"{insert} ON CONFLICT (store, space_id, key) DO UPDATE SET version = excluded.version, {excluded}"
            f" WHERE {table}.version <= excluded.version"
        ),
        delete=(
            f"DELETE FROM {table} AS t WHERE {record} AND t.key = ANY(CAST(? AS TEXT[])) AND t.version <= ?"  # noqa: S608
            " RETURNING key"
        ),
        versions=f"SELECT key, version FROM {table} AS t WHERE {record} AND t.key = ANY(CAST(? AS TEXT[]))",  # noqa: S608
        read=f"SELECT key, version, {names} FROM {table} AS t WHERE {record} AND t.key = ANY(CAST(? AS TEXT[]))",  # noqa: S608
        all=f"SELECT 0, space_id, key, {names} FROM {table} WHERE store = ? ORDER BY space_id, key",  # noqa: S608
    )


class PostgresRecords:
    """Writes the records of the store called `store`."""

    def __init__(self, store: str, sql: Statements, columns_of: Callable[[Any], tuple[object, ...]]) -> None:
        """Write with `sql`; `columns_of` returns what the columns of a record with a payload hold."""
        self._store = store
        self.sql = sql
        self._columns_of = columns_of

    def apply(
        self,
        tx: Transaction,
        unit: UnitFacts,
        version: int,
        run: list[Write],
        condition: Condition = ALWAYS,
    ) -> None:
        """Carry out `run`, writes of one operation.

        Raises:
            RecordExists: a create found its key taken.
            RecordMissing: an update or delete did not find its key.
            ConflictError: a record has a greater version than the unit's.
            NotSo: the condition does not hold.
        """
        operation = run[0].operation
        whole = _Run(self._store, unit, version, run)
        if operation is Operation.CREATE:
            self._create(tx, whole, condition)
        elif operation is Operation.DELETE:
            self._delete(tx, whole)
        else:
            self._put(tx, whole, condition, whole_sql=operation is Operation.UPSERT)

    def _create(self, tx: Transaction, run: _Run, condition: Condition) -> None:
        distinct = run.before_repeated()
        rows = run.rows(distinct, self._columns_of)
        sql = self.sql.create.format(condition=condition.sql)
        made = tx.rows(sql, (*run.place, run.version, *rows, *condition.parameters))
        if len(made) == len(run.writes):
            return
        if not made and condition is not ALWAYS:
            raise NotSo
        keys = {key for (key,) in made}
        taken = next((write for write in distinct if write.key not in keys), None)
        raise record_exists(taken or run.writes[len(distinct)], run.unit)

    def _put(
        self,
        tx: Transaction,
        run: _Run,
        condition: Condition,
        *,
        whole_sql: bool,
    ) -> None:
        """Write each record's last value of the run; those before it would be overwritten at once."""
        last = list({write.key: write for write in run.writes}.values())
        rows = run.rows(last, self._columns_of)
        if whole_sql:
            sql = self.sql.upsert.format(condition=condition.sql)
            changed = tx.execute(sql, (*run.place, run.version, *rows, *condition.parameters))
        else:
            sql = self.sql.update.format(condition=condition.sql)
            changed = tx.execute(sql, (run.version, *rows, *run.place, run.version, *condition.parameters))
        if changed != len(last):
            if not changed and condition is not ALWAYS:
                raise NotSo
            raise self._why(tx, run)

    def _delete(self, tx: Transaction, run: _Run) -> None:
        gone = {key for (key,) in tx.rows(self.sql.delete, (*run.place, run.keys(), run.version))}
        if len(gone) == len(run.writes):
            return
        self._refuse_newer(tx, run)
        left = set(gone)
        for write in run.writes:
            if write.key not in left:
                raise record_missing(write, run.unit)
            left.discard(write.key)

    def _why(self, tx: Transaction, run: _Run) -> Exception:
        present = self._refuse_newer(tx, run)
        return record_missing(
            next((write for write in run.writes if write.key not in present), run.writes[0]), run.unit
        )

    def _refuse_newer(self, tx: Transaction, run: _Run) -> dict[str, int]:
        """Return the versions of those records of `run` that exist; none of them is newer than the unit."""
        versions = dict(tx.rows(self.sql.versions, (*run.place, run.keys())))
        newest = max(versions.values(), default=0)
        if newest > run.version:
            tx.learn(newest)
            raise ConflictError(
                f"A record of the store {self._store!r} was changed by a unit that counts as newer than this one.",
                hint="Nothing was written. Run the whole block again: it will be newer then.",
                store=self._store,
            )
        return versions


class _Run:
    """Writes of one operation to one store."""

    def __init__(self, store: str, unit: UnitFacts, version: int, writes: list[Write]) -> None:
        self.unit = unit
        self.version = version
        self.writes = writes
        self.place = (store, unit.space_id)

    def keys(self) -> list[str | None]:
        """Return the key of each write."""
        return [write.key for write in self.writes]

    def before_repeated(self) -> list[Write]:
        """Return the writes before the first one whose key an earlier one has; all, if there is none."""
        seen: set[str | None] = set()
        for number, write in enumerate(self.writes):
            if write.key in seen:
                return self.writes[:number]
            seen.add(write.key)
        return self.writes

    @staticmethod
    def rows(writes: Sequence[Write], columns_of: Callable[[Any], tuple[object, ...]]) -> Iterable[list[object]]:
        """Return keys and columns of `writes`, one list for each column."""
        return map(list, zip(*((write.key, *columns_of(write.payload)) for write in writes), strict=True))
