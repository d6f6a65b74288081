"""A unit's transaction as a DB-API connection, for libraries that want one (PEP 249, as ``sqlite3`` has it).

Promise: a statement is understood by SQLite before it runs (`engines._sql_guard`), runs at once in the unit's
transaction, and is recorded as one write of the unit if it writes. Nothing that is done here ends the unit, opens
another file, or outlives the unit. What the caller undoes, by savepoint or rollback, goes from the unit's writes too.

Errors of statements are those of ``sqlite3``, because that is what the libraries above look for; refusals are
`UsageError`. As long as the unit is open it holds the ledger's write lock from the first statement on.
"""

from __future__ import annotations

import re
import sqlite3
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Self

from memoryos_uow.errors import UnitOfWorkError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from memoryos_uow._buffer import Mark
    from memoryos_uow.unit import UnitOfWork

    Parameters = Sequence[object] | Mapping[str, object]

_NAME: Final = r"[\"'`\[]?(?P<name>\w+)[\"'`\]]?"
_SAVEPOINT: Final = re.compile(rf"\s*SAVEPOINT\s+{_NAME}\s*;?\s*", re.IGNORECASE)
_ROLLBACK_TO: Final = re.compile(
    rf"\s*ROLLBACK\s+(?:TRANSACTION\s+)?TO\s+(?:SAVEPOINT\s+)?{_NAME}\s*;?\s*", re.IGNORECASE
)
_RELEASE: Final = re.compile(rf"\s*RELEASE\s+(?:SAVEPOINT\s+)?{_NAME}\s*;?\s*", re.IGNORECASE)
_ASKING_PRAGMA: Final = re.compile(
    r"\s*PRAGMA\s+(?:[\"']?(?:main|temp)[\"']?\.)?(?:"
    r"(?:table_info|table_xinfo|index_list|index_info|index_xinfo|foreign_key_list)\s*\([^()=;]*\)"
    r"|database_list|table_list|foreign_keys|recursive_triggers|read_uncommitted|user_version|journal_mode|encoding"
    r")\s*;?\s*",
    re.IGNORECASE,
)


class UnitCursor:
    """Runs statements, and keeps the rows of the last one: all of them, so that none is open when the unit commits."""

    arraysize = 1

    def __init__(self, connection: UnitConnection) -> None:
        self.connection = connection
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self._rows: Iterator[Any] = iter(())

    def execute(self, sql: str, parameters: Parameters = (), /) -> Self:
        """Run one statement."""
        answer = self.connection._run(sql, parameters)  # noqa: SLF001 - two halves of one thing
        self.description, self.rowcount, self.lastrowid = answer.description, answer.rowcount, answer.lastrowid
        self._rows = iter(answer.rows)
        return self

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> Self:
        """Run one statement once for each of `parameters`."""
        changed = 0
        for each in parameters:
            changed += max(0, self.execute(sql, each).rowcount)
        self.description, self.rowcount, self._rows = None, changed, iter(())
        return self

    def executescript(self, script: str, /) -> Self:  # noqa: ARG002 - as PEP 249 connections have it
        """Refuse: a script commits what was before it."""
        raise _refused("A script would end the unit's transaction.", "Run its statements one by one.")

    def fetchone(self) -> Any:
        """Return the next row, None after the last."""
        return next(self._rows, None)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return the next rows, `arraysize` or `size` of them."""
        return list(islice(self._rows, self.arraysize if size is None else size))

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        return list(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def close(self) -> None:
        """Forget the rows."""
        self._rows = iter(())


class _Point:
    """A savepoint by its name; without a mark until something can be undone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mark: Mark | None = None


class UnitConnection:
    """The connection of one unit; it ends with the unit."""

    in_transaction = True
    isolation_level: str | None = None
    row_factory = None

    def __init__(self, unit: UnitOfWork) -> None:
        self._unit = unit
        self._points: list[_Point] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of unit {self._unit.uow_id}>"

    # Statements

    def cursor(self, *_: object) -> UnitCursor:
        """Return a cursor."""
        return UnitCursor(self)

    def execute(self, sql: str, parameters: Parameters = (), /) -> UnitCursor:
        """Run one statement; return a cursor with its rows."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> UnitCursor:
        """Run one statement once for each of `parameters`."""
        return self.cursor().executemany(sql, parameters)

    def executescript(self, script: str, /) -> UnitCursor:
        """Refuse: a script commits what was before it."""
        return self.cursor().executescript(script)

    def _run(self, sql: str, parameters: Parameters) -> Any:
        state, ledger = self._unit._active()  # noqa: SLF001 - the unit's own connection
        if isinstance(sql, str):
            for pattern, act in ((_SAVEPOINT, self._save), (_ROLLBACK_TO, self._return_to), (_RELEASE, self._release)):
                found = pattern.fullmatch(sql)
                if found:
                    act(found["name"])
                    return ledger.sql.NOTHING
            if _ASKING_PRAGMA.fullmatch(sql):
                return ledger.sql.ask(state, sql)
        self._set_marks()
        try:
            return ledger.sql.run_at_once(state, sql, parameters)
        except UnitOfWorkError as error:
            if isinstance(error.__cause__, sqlite3.Error):
                raise error.__cause__ from None
            raise

    # Savepoints

    def _set_marks(self) -> None:
        """Mark the unit where savepoints were set since the last statement."""
        for point in self._points:
            if point.mark is None:
                point.mark = self._unit._new_mark(self._unit._active()[0])  # noqa: SLF001

    def _save(self, name: str) -> None:
        self._points.append(_Point(name))
        self._set_marks()

    def _position(self, name: str) -> int:
        names = [point.name.lower() for point in self._points]
        if name.lower() not in names:
            raise sqlite3.OperationalError(f"no such savepoint: {name}")
        return len(names) - 1 - names[::-1].index(name.lower())

    def _return_to(self, name: str) -> None:
        position = self._position(name)
        self._undo(position)
        self._points.append(_Point(name))  # it is still there, as in SQL, and marked once it is needed again

    def _undo(self, position: int) -> None:
        """Undo what came after the savepoint at `position`, and forget it with all later ones."""
        state, ledger = self._unit._active()  # noqa: SLF001
        mark = self._points[position].mark
        del self._points[position:]
        if mark is not None:
            ledger.coordinator.transactions.return_to(state, mark)

    def _release(self, name: str) -> None:
        self._keep(self._position(name))

    def _keep(self, position: int) -> None:
        """Forget the savepoint at `position` with all later ones; what came after them stays."""
        state, ledger = self._unit._active()  # noqa: SLF001
        while len(self._points) > position:
            mark = self._points.pop().mark
            if mark is not None and mark in state.marks:
                ledger.coordinator.transactions.keep(state, mark)

    # What belongs to the unit itself

    def commit(self) -> None:
        """Refuse: the unit commits when its block ends."""
        raise _refused("The unit commits when its block ends.", "Leave out the commit.")

    def rollback(self) -> None:
        """Refuse: an exception that leaves the block undoes the unit."""
        raise _refused("A unit of work is undone as a whole.", "Use uow.savepoint(), or uow.rollback().")

    def close(self) -> None:
        """Refuse: the connection ends with the unit."""
        raise _refused("The connection ends with the unit.", "Leave out the close.")

    def create_function(self, *_: object, **__: object) -> None:
        """Refuse: the function would outlive the unit."""
        raise _refused("SQL functions would outlive the unit.", "Compute the value in Python.")

    create_aggregate = create_collation = create_function

    def enable_load_extension(self, *_: object) -> None:
        """Refuse: an extension would outlive the unit."""
        raise _refused("Extensions would outlive the unit.", "Do without them inside a unit.")

    load_extension = enable_load_extension


def _refused(why: str, hint: str) -> UsageError:
    return UsageError(f"The connection of a unit of work cannot do this. {why}", hint=f"Nothing was lost. {hint}")
