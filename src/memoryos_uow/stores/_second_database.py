"""A database of PostgreSQL's beside the ledger's: its records, and the transactions that units hold or prepare in it.

Each unit writes here in one transaction: its records, and one row in ``uow_marker`` that says it was here. Two ways
lead to the end of that transaction:

- *held*: the connection keeps it open, and `decide` commits it: that commit is the unit's decision.
- *prepared*: ``PREPARE TRANSACTION`` makes it durable under a name of ours (`gid`); any process can finish it.

Promise: the marker is there if, and only if, the records are. `settle` says which, for good: where there is no marker
it plants a tombstone in its place, and whoever comes late collides with it.
"""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow import _ambient, _schema
from memoryos_uow.abc import Fate
from memoryos_uow.errors import InDoubtError, StoreError
from memoryos_uow.stores._pg_connections import Connections
from memoryos_uow.stores._pg_errors import BUSY_GID, NO_SUCH_GID, is_lost, state_of, translate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from contextlib import AbstractContextManager

    from memoryos_uow.stores._pg_address import Address

VERSION_MIN: Final = 140_000
MARKERS_KEPT_DAYS: Final = 7
"""Longer than any paused owner may sleep and still be kept from doing harm."""

_SETTLES_WITHIN_S: Final = 0.5
"""How long to wait for a transaction that may be about to end, before its unit is left in doubt."""
_LOOKS: Final = 50
_LOOKS_EVERY_S: Final = 0.02
_PAGE: Final = 1_000
_SET: Final = "SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = {wait_ms}"
_MARK: Final = (
    "INSERT INTO uow_marker (uow_id, store, ledger_id, committed) VALUES (%(uow_id)s, %(store)s, %(ledger_id)s, true)"
)
_WRITE: Final = f"""
WITH marked AS ({_MARK}), gone AS (
  DELETE FROM uow_records r USING unnest(%(gone)s::text[]) AS g(key)
  WHERE r.ledger_id = %(ledger_id)s AND r.store = %(store)s AND r.space_id = %(space_id)s AND r.key = g.key
)
INSERT INTO uow_records (ledger_id, store, space_id, key, uow_id, value)
SELECT %(ledger_id)s, %(store)s, %(space_id)s, n.key, %(uow_id)s, n.value
FROM unnest(%(keys)s::text[], %(values)s::text[]) AS n(key, value)
ON CONFLICT (ledger_id, store, space_id, key) DO UPDATE SET uow_id = excluded.uow_id, value = excluded.value
"""  # noqa: S608 - put together from the constant above
_PLANT: Final = (
    "INSERT INTO uow_marker (uow_id, store, ledger_id, committed) VALUES (%(uow_id)s, %(store)s, %(ledger_id)s, false)"
    " ON CONFLICT (uow_id, store) DO NOTHING"
)
_LOOK: Final = "SELECT committed FROM uow_marker WHERE uow_id = %(uow_id)s AND store = %(store)s"
_RECORD: Final = (
    "SELECT uow_id, value FROM uow_records"
    " WHERE ledger_id = %(ledger_id)s AND store = %(store)s AND space_id = %(space_id)s AND key = %(key)s"
)
_NAMES: Final = (
    "SELECT space_id, key FROM uow_records WHERE ledger_id = %(ledger_id)s AND store = %(store)s"
    " AND (space_id, key) > (%(space_id)s, %(key)s) ORDER BY space_id, key LIMIT %(limit)s"
)
_HOME: Final = "SELECT 1 FROM uow_homes WHERE ledger_id = %(ledger_id)s AND store = %(store)s"
_OWN_GIDS: Final = (
    "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() AND left(gid, %(length)s) = %(prefix)s"
)
_FORGET: Final = (
    "DELETE FROM uow_marker WHERE ledger_id = %(ledger_id)s AND store = %(store)s"
    " AND ts < now() - make_interval(days => %(days)s) AND uow_id <> ALL(%(planned)s)"
)


class Changes(NamedTuple):
    """What one unit leaves in one space: each record once."""

    uow_id: str
    space_id: str
    values: Mapping[str, str | None]
    """Text by key; None where the record is removed."""


class SecondDatabase:
    """The part of a database that belongs to one store of one ledger."""

    def __init__(self, address: Address, store: str, timeout_s: float) -> None:
        self._connections = Connections(address, store, timeout_s)
        self.place: Final = address.place
        self._store = store
        self._timeout_s = timeout_s
        self._ledger_id: str | None = None
        self._looked = False
        self._mutex = threading.Lock()
        self._held: dict[str, Any] = {}
        self._prepared: set[str] = set()  # by this process, and not finished yet

    # Getting ready

    def claim(self, ledger_id: str) -> bool:
        """Create what is missing and make a home for the ledger's store; return whether transactions can be prepared.

        Raises:
            StoreError: the database is too old, not in UTF-8, or refuses.
            StoreUnavailable: it cannot be reached.
        """
        self._ledger_id = ledger_id
        with self._connections.lend("SELECT 1") as connection:
            self._refuse_unfit(connection.info)
        for attempt in range(_LOOKS):
            try:
                with self._begin() as connection:
                    for statement in _schema.statements(_schema.SECOND_DATABASE):
                        connection.execute(statement)
                    connection.execute("INSERT INTO uow_homes VALUES (%s, %s) ON CONFLICT DO NOTHING", self._own())
                    connection.execute("COMMIT")
                break
            except StoreError as error:
                # Two that create the same table at once: one of them is told that it is there.
                if state_of(error.__cause__ or error) not in ("23505", "42P07", "42710") or attempt == _LOOKS - 1:
                    raise
        self._looked = True
        [(can,)] = self._connections.rows("SELECT current_setting('max_prepared_transactions')::int > 0", {})
        return bool(can)

    def expect(self, ledger_id: str) -> None:
        """Take it that the store has its home here; the first look at the database finds out."""
        self._ledger_id, self._looked = ledger_id, False

    def _own(self) -> tuple[str, str]:
        assert self._ledger_id is not None  # noqa: S101 - attached
        return self._ledger_id, self._store

    def _refuse_unfit(self, info: Any) -> None:
        version, encoding = info.server_version, info.parameter_status("server_encoding")
        if version < VERSION_MIN:
            raise self._refusal(f"is PostgreSQL {version // 10_000}", "This library needs 14 or later.")
        if encoding != "UTF8":
            raise self._refusal(f"is kept in {encoding}", "Create one with ENCODING 'UTF8'.")

    def _refusal(self, problem: str, hint: str) -> StoreError:
        return StoreError(f"{self.place} {problem}.", hint=f"Nothing was written. {hint}", store=self._store)

    def _look_for_home(self) -> None:
        """Refuse a database in which the store never was: everything would seem to be lost."""
        if not self._looked:
            if not self._query(_HOME):
                raise self._refusal("holds nothing of this store", "Give the address of the database that does.")
            self._looked = True

    # Statements

    def _first(self, wait_s: float | None) -> str:
        """Return what begins a transaction that waits at most `wait_s` seconds for what others have locked."""
        seconds = self._timeout_s if wait_s is None else min(wait_s, self._timeout_s)
        return f"BEGIN; {_SET.format(wait_ms=max(1, int(seconds * 1000)))}"

    def _begin(self, wait_s: float | None = None) -> AbstractContextManager[Any]:
        return self._connections.lend(self._first(wait_s))

    def _parameters(self, **more: object) -> dict[str, object]:
        ledger_id, store = self._own()
        return {"ledger_id": ledger_id, "store": store, **more}

    def _query(self, query: str, **more: object) -> list[tuple[Any, ...]]:
        try:
            return self._connections.rows(query, self._parameters(**more))
        except StoreError as error:
            if state_of(error.__cause__ or error) == "42P01":  # no such table
                raise self._refusal(
                    "holds nothing of this store", "Give the address of the database that does."
                ) from error
            raise

    def gid(self, uow_id: str) -> str:
        """Return the name under which a unit's transaction is prepared (PostgreSQL allows 199 bytes)."""
        return f"{self._prefix()}{uow_id}"

    def _prefix(self) -> str:
        ledger_id, store = self._own()
        return f"mu1:{ledger_id}:{store}:"

    # Before the decision

    def hold(self, changes: Changes, wait_s: float | None) -> None:
        """Write everything in a transaction that stays open; an earlier one of the unit's is rolled back.

        Raises:
            StoreError: the database refuses. Nothing is open then.
            ConflictError: the unit was taken over.
        """
        self.let_go(changes.uow_id)
        connection = self._connections.take(self._first(wait_s))
        try:
            self._write(connection, changes)
        except self._connections.errors as error:
            connection.close()
            raise translate(error, self.place, self._store) from error
        except BaseException:
            connection.close()
            raise
        with self._mutex:
            self._held[changes.uow_id] = connection

    def prepare(self, changes: Changes, wait_s: float | None) -> None:
        """Write everything and prepare it: durable, invisible, and its locks held until somebody finishes it.

        Raises:
            StoreError: the database refuses.
            ConflictError: the unit was taken over.
        """
        if changes.uow_id in self._prepared:
            return
        with self._begin(wait_s) as connection:
            self._write(connection, changes)
            connection.execute(f"PREPARE TRANSACTION {_quoted(self.gid(changes.uow_id))}")
            self._prepared.add(changes.uow_id)

    def _write(self, connection: Any, changes: Changes) -> None:
        self._look_for_home()
        there = {key: text for key, text in sorted(changes.values.items()) if text is not None}
        gone = sorted(key for key, text in changes.values.items() if text is None)
        connection.execute(
            _WRITE,
            self._parameters(
                uow_id=changes.uow_id,
                space_id=changes.space_id,
                gone=gone,
                keys=list(there),
                values=list(there.values()),
            ),
        )

    # The end of a held transaction

    def decide(self, uow_id: str) -> None:
        """Commit what is held: on return it is durable.

        Raises:
            StoreError: the database has refused; nothing of the unit is there, nor will be.
            InDoubtError: its answer was lost: only `settle` can tell.
        """
        with self._mutex:
            connection = self._held.pop(uow_id)
        try:
            ended = connection.execute("COMMIT").statusmessage
        except self._connections.errors as error:
            known = not is_lost(error) and not connection.closed and int(connection.info.transaction_status) == 0
            connection.close()
            if known:
                raise translate(error, self.place, self._store) from error
            raise InDoubtError(
                f"The answer of {self.place} to the commit was lost.",
                hint="Nothing is half done; recovery finds out what became of it.",
                store=self._store,
            ) from error
        except BaseException:
            connection.close()
            raise
        self._connections.give_back(connection)
        if ended != "COMMIT":
            raise self._refusal("rolled the unit back", "See the server's log.")

    def let_go(self, uow_id: str) -> bool:
        """Roll back what is held for a unit; return whether anything was. Never fails."""
        with self._mutex:
            connection = self._held.pop(uow_id, None)
        if connection is None:
            return False
        try:
            connection.execute("ROLLBACK")
        except self._connections.errors:
            connection.close()
        else:
            self._connections.give_back(connection)
        return True

    def settle(self, uow_id: str) -> Fate:
        """Return what became of a unit, for good: if its marker is not there, nothing of it ever will be.

        Raises:
            StoreUnavailable: that cannot be told at the moment, its transaction may still be open.
        """
        with self._begin(_SETTLES_WITHIN_S) as connection:
            connection.execute(_PLANT, self._parameters(uow_id=uow_id))
            [(committed,)] = connection.execute(_LOOK, self._parameters(uow_id=uow_id)).fetchall()
            connection.execute("COMMIT")
        return Fate.COMMITTED if committed else Fate.ABORTED

    # The end of a prepared transaction

    def commit_prepared(self, uow_id: str) -> None:
        """Have what is prepared seen, whoever prepared it; nothing if that was done.

        Raises:
            StoreUnavailable: it cannot be at the moment.
            StoreError: somebody else has rolled it back.
        """
        if self._finish("COMMIT PREPARED", uow_id):
            return
        found = self._query(_LOOK, uow_id=uow_id)
        if not found or not found[0][0]:
            raise StoreError(
                f"The transaction that a decided unit had prepared in {self.place} is gone, and nobody here ended it.",
                hint="Somebody has rolled it back by hand. The unit stays in doubt; its writes are in its row.",
                store=self._store,
            )

    def roll_back_prepared(self, uow_id: str) -> None:
        """Remove what a unit prepared, and see to it that it cannot come late.

        Raises:
            StoreUnavailable: it cannot be at the moment.
            StoreError: it is decided: then it must not be.
        """
        self._finish("ROLLBACK PREPARED", uow_id)
        if self.settle(uow_id) is Fate.COMMITTED:
            raise StoreError(f"A committed unit was to be removed from {self.place}.", store=self._store)

    def _finish(self, command: str, uow_id: str) -> bool:
        """Run COMMIT PREPARED or ROLLBACK PREPARED; return whether there was anything to finish."""
        statement = f"{command} {_quoted(self.gid(uow_id))}"
        for attempt in count(1):
            try:
                with self._connections.lend("SELECT 1") as connection:
                    connection.execute(statement)
                break
            except StoreError as error:
                state = state_of(error.__cause__ or error)
                if state == NO_SUCH_GID:
                    self._prepared.discard(uow_id)
                    return False
                if state != BUSY_GID or attempt == _LOOKS:
                    raise
                _ambient.sleep(_LOOKS_EVERY_S)  # somebody else is finishing it at this moment
        self._prepared.discard(uow_id)
        return True

    def prepared(self) -> list[str]:
        """Return the ids of the units of this ledger's store that have a transaction prepared here."""
        prefix = self._prefix()
        found = self._query(_OWN_GIDS, prefix=prefix, length=len(prefix))
        return [gid[len(prefix) :] for (gid,) in found]

    # Records

    def row(self, space_id: str, key: str) -> tuple[str, str] | None:
        """Return who wrote a record and its text, None if there is none."""
        self._look_for_home()
        found = self._query(_RECORD, space_id=space_id, key=key)
        return found[0] if found else None

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield space and key of every record, in pages."""
        self._look_for_home()
        space_id = key = ""
        while found := self._query(_NAMES, space_id=space_id, key=key, limit=_PAGE):
            for space_id, key in found:
                yield space_id, key

    def forget_markers(self, planned: Collection[str]) -> None:
        """Remove markers that nobody will ask for any more."""
        with self._begin() as connection:
            more = {"days": MARKERS_KEPT_DAYS, "planned": list(planned)}
            connection.execute(_FORGET, self._parameters(**more))
            connection.execute("COMMIT")

    def vacuum(self) -> None:
        """Remove what deleted and changed records left in the table.

        Raises:
            StoreUnavailable: it cannot be at the moment.
        """
        with self._connections.lend("VACUUM uow_records"):
            pass

    def close(self) -> None:
        """Close every connection; what is held is rolled back."""
        for uow_id in list(self._held):
            self.let_go(uow_id)
        self._connections.close()


def _quoted(text: str) -> str:
    """Return `text` as a literal: these two commands take no parameters."""
    return "'" + text.replace("'", "''") + "'"
