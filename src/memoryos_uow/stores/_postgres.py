"""Documents in a PostgreSQL database beside the ledger's, written with everything else of a unit: all of it or nothing.

How: by default the database decides. A unit's transaction there stays open until everything else of the unit is durable
in the ledger; its commit, and the marker in it, are the decision, and the ledger's rows follow. That needs nothing of
the server but what every PostgreSQL has. With ``two_phase=True``, and where one unit writes to several such databases,
the transaction is prepared instead (``PREPARE TRANSACTION``), and the ledger decides.

Promise: what was decided is seen through this library at once. Which units are committed in the database is written
there, in ``uow_marker``, in the same transaction; a case that cannot be told is left in doubt, never guessed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Final

from memoryos_uow import _catalog, _schema
from memoryos_uow._names import Dialect
from memoryos_uow._records import Found
from memoryos_uow.abc import Capability
from memoryos_uow.errors import StoreError
from memoryos_uow.stores._claims import NO_ID, ledger_id
from memoryos_uow.stores._outside import DocumentHeads
from memoryos_uow.stores._pg_address import read_address
from memoryos_uow.stores._second_database import Changes, SecondDatabase

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from memoryos_uow.abc import Fate, Home, Reader, Redo, Transaction, UnitFacts, Write
    from memoryos_uow.stores._outside import Head

_TIMEOUT_S: Final = 10.0
_BEING_DECIDED: Final = "SELECT uow_id FROM uow_saved WHERE store = ? AND space_id = ? AND key = ?"


class PostgresStore(DocumentHeads):
    """JSON documents by key in a PostgreSQL database that is not the ledger's.

    Its tables ``uow_records``, ``uow_marker`` and ``uow_homes`` are made if missing; they may be read by anybody and
    written by nobody else. Several ledgers and stores may share one database. The address may be that of a pooler that
    lends connections for one transaction each.

    Args:
        name: the store's name.
        url: ``postgresql://user@host/database``. The ledger records it without its password.
        two_phase: prepare transactions and have the ledger decide; needs ``max_prepared_transactions`` above 0 on the
            server. By default the database decides: then the unit's other writes have to be to stores whose writes can
            be kept for later (documents, vectors, blobs, files, messages), not plain SQL or tables, and the ledger's
            lock must not be held before (by ``uow.sql``, a search, or very many writes).
        timeout: how many seconds to wait for a connection, or for records that somebody else has locked.

    Raises:
        UsageError: a bad name, address or timeout.
        StoreError: when the ledger is opened for the first time with it: the database is older than PostgreSQL 14, not
            in UTF-8, or cannot be written.
        StoreUnavailable: then, too: it cannot be reached.
    """

    kind: ClassVar[str] = "postgresql"
    remote: ClassVar[str] = "postgresql"
    """What kind of server it talks to, for those who watch."""

    def __init__(self, name: str, url: str, *, two_phase: bool = False, timeout: float = _TIMEOUT_S) -> None:
        super().__init__(name)
        self._address = read_address(url, name)
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
            raise self._refusal("A timeout is a number of seconds above 0.", "For example timeout=10.")
        if not isinstance(two_phase, bool):
            raise self._refusal("two_phase is True or False.", "Leave it out to have the database decide.")
        self._two_phase = two_phase
        self._prepares = two_phase
        self._database = SecondDatabase(self._address, name, float(timeout))

    def __repr__(self) -> str:
        return f"PostgresStore({self._name!r}, {self._address.place!r})"

    @property
    def capability(self) -> Capability:  # type: ignore[override]
        """How it takes part in a unit of its own; see `prepares`."""
        return Capability.TWO_PHASE if self._two_phase else Capability.LAST_RESOURCE

    @property
    def prepares(self) -> bool:
        """Whether the server can prepare transactions, as far as was seen when the store was set up."""
        return self._prepares

    # Getting ready

    def attach(self, home: Home, reader: Reader, recorded: Mapping[str, Any] | None) -> bool:
        """Take over what is recorded; return whether the store is still to be set up. The server is not asked."""
        if recorded is None or recorded.get("claim") is None:
            return True
        self._prepares = bool(recorded["prepares"])
        if self._two_phase and not self._prepares:
            return True  # it may have learned to
        self._database.expect(recorded["claim"])
        return False

    def setup(self, tx: Transaction, recorded: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Make the tables there, and in the ledger what the database's decisions need; return what is to be recorded.

        Raises:
            StoreError: the database cannot serve.
            StoreUnavailable: it cannot be reached.
        """
        claim = (recorded or {}).get("claim") or ledger_id(tx)
        if claim == NO_ID:
            raise StoreError(
                "A ledger of contract 1.0.0 has no id that would tell its records from another one's.",
                hint="Nothing was written. Open it with migrate=True.",
                store=self._name,
            )
        self._prepares = self._database.claim(claim)
        if self._two_phase and not self._prepares:
            raise StoreError(
                f"{self._address.place} cannot prepare transactions: max_prepared_transactions is 0.",
                hint="Nothing was written. Set it and restart the server, or leave two_phase out.",
                store=self._name,
            )
        folder = "postgres/" if tx.dialect is Dialect.POSTGRESQL else ""
        made = [one.name for one in _schema.created(_schema.SAVED) if one.kind == "table"]
        if len(_catalog.tables_among(tx, made)) < len(made):  # making what is there needs the right to, all the same
            for statement in _schema.statements(f"{folder}{_schema.SAVED}"):
                tx.execute(statement)
        return {"url": self._address.recorded, "claim": claim, "prepares": self._prepares, "saves": True}

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    # Before the decision

    def plan(self, unit: UnitFacts, writes: Sequence[Write]) -> list[str]:
        """Return the name under which the unit's transaction is, or might be, prepared."""
        return [self._database.gid(unit.uow_id)]

    def prepare(self, unit: UnitFacts, writes: Sequence[Write]) -> None:
        """Write everything in a transaction and prepare it.

        Raises:
            StoreError: the database refuses.
            StoreUnavailable: it cannot be reached, or somebody else keeps the same records locked.
            ConflictError: the unit was taken over.
        """
        self._database.prepare(_changes(unit, writes), unit.remaining_s())

    def hold(self, unit: UnitFacts, writes: Sequence[Write]) -> None:
        """Write everything in a transaction that stays open; errors as for `prepare`."""
        self._database.hold(_changes(unit, writes), unit.remaining_s())

    def abandon(self, uow_id: str, tokens: Sequence[str]) -> None:
        """Roll back what the unit holds or has prepared, and see to it that it cannot come late.

        Raises:
            StoreUnavailable: it cannot be at the moment.
        """
        if not self._database.let_go(uow_id):
            self._database.roll_back_prepared(uow_id)

    def sweep(self, tx: Transaction, planned: Collection[str]) -> int:
        """Roll back transactions that were prepared for units the ledger does not know, and forget old markers."""
        lost = [uow_id for uow_id in self._database.prepared() if uow_id not in planned]
        for uow_id in lost:
            self._database.roll_back_prepared(uow_id)
        self._database.forget_markers(planned)
        return len(lost)

    # The decision, and after it

    def decide(self, uow_id: str) -> None:
        """Commit what is held.

        Raises:
            StoreError: the database has refused.
            InDoubtError: its answer was lost.
        """
        self._database.decide(uow_id)

    def fate(self, uow_id: str) -> Fate:
        """Find out what became of a unit, for good.

        Raises:
            StoreUnavailable: that cannot be told at the moment.
        """
        return self._database.settle(uow_id)

    def redo(self, unit: UnitFacts, write: Write) -> bytes:
        """Return the document's text, nothing for a delete: readers see it until the transaction is committed."""
        return write.payload.content if write.payload is not None else b""

    def publish(self, reader: Reader, entries: Sequence[Redo]) -> None:
        """Commit what these units have prepared.

        Raises:
            StoreUnavailable: the database cannot be reached.
            StoreError: somebody has rolled back by hand what was decided.
        """
        for uow_id in dict.fromkeys(entry.uow_id for entry in entries):
            self._database.commit_prepared(uow_id)

    # Reading

    def read(self, reader: Reader, space_id: str, key: str) -> Found | None:
        """Return the record's value and version, or None.

        Raises:
            StoreError: the value was changed or removed behind the library's back.
            StoreUnavailable: the database cannot be reached.
        """
        try:
            return super().read(reader, space_id, key)
        except StoreError:
            undecided = [one for (one,) in reader.rows(_BEING_DECIDED, (self._name, space_id, key))]
            if not undecided:
                raise
        # The database has decided, and the ledger's rows are to follow: what is there already is true.
        head, found = self.head(reader, space_id, key), self._database.row(space_id, key)
        if head is None or found is None:
            return None
        return Found(json.loads(found[1]), head.version)

    def _waiting(self, uow_id: str, payload: bytes, head: Head) -> bytes:
        return payload

    def _published(self, space_id: str, key: str, head: Head) -> bytes | None:
        found = self._database.row(space_id, key)
        return found[1].encode() if found else None

    def _strangers(self, reader: Reader) -> Iterator[tuple[str, str]]:
        for space_id, key in self._database.names():
            if not self._is_known(reader, space_id, key):
                yield space_id, key

    # Erasing

    def erase_inside(self, tx: Transaction, space_id: str, key: str) -> None:
        """Do nothing: the ledger holds a head, which goes with the delete."""

    def erase_outside(self, space_id: str, key: str, version: int) -> None:
        """Have the server remove former versions of rows; its write-ahead log, replicas and backups are its owner's.

        Raises:
            StoreUnavailable: it cannot be reached.
        """
        self._database.vacuum()


def _changes(unit: UnitFacts, writes: Sequence[Write]) -> Changes:
    """Return what the writes leave, each record once: the ledger's heads say whether each was allowed."""
    values = {str(w.key): None if w.payload is None else w.payload.content.decode() for w in writes}
    return Changes(unit.uow_id, unit.space_id, values)
