"""The steps of `Ledger.open` for a ledger in a PostgreSQL database.

Promise: the same as for a file (`_opening`): everything that can be refused is refused here, and the database is then
as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from memoryos_uow import _durability, _migrations_postgres
from memoryos_uow._migrations import Kind
from memoryos_uow._opening import refuse_triggers
from memoryos_uow._rows_postgres import PostgresRows
from memoryos_uow._sequencer import Sequencer
from memoryos_uow._unfinished_copy import refuse_unfinished
from memoryos_uow.engines._pg_guard import PostgresGuard
from memoryos_uow.engines.postgres import PostgresEngine
from memoryos_uow.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from memoryos_uow._names import Durability
    from memoryos_uow._receipt_log import ReceiptLog
    from memoryos_uow._rows import LedgerRows


class DatabaseSteps:
    """What opening asks of a ledger in a database; `_opening.FileSteps` is the same for one in a file."""

    path: Final = None

    def __init__(
        self,
        address: str,
        *,
        durability: Durability,
        busy_timeout_s: float,
        origin: str | None,
        migrate: bool,
        allowed: Collection[str],
    ) -> None:
        """Connect to the database; nothing in it is changed yet."""
        self._migrate = migrate
        self._origin = origin
        self._allowed = allowed
        self.engine = PostgresEngine.open(address, durability=durability, busy_timeout_s=busy_timeout_s)

    def refuse_unfit(self) -> None:
        """Refuse what cannot become, or stay, a ledger that units may write to.

        Raises:
            LedgerError: it is none, cannot be migrated, is newer than this library, or may not be written.
        """
        engine = self.engine
        with engine.reader() as reader:
            refuse_unfinished(reader, engine.place)
            state = _migrations_postgres.inspect(reader.connection, place=engine.place)
        _migrations_postgres.refuse_unfit(state, place=engine.place)
        if not self._migrate:
            _migrations_postgres.refuse_unmigrated(state, place=engine.place)
        if engine.read_only and state.kind is not Kind.CURRENT:
            raise LedgerError(
                f"{engine.place} would have to be migrated from {state.version or 'nothing'} to 1.1.0,"
                " but can only be read: it is a replica.",
                hint="Nothing was changed. Open the primary server once.",
            )
        refuse_triggers(engine, self._allowed)

    def make_schema_ready(self) -> PostgresRows:
        """Bring the schema to contract 1.1.0; return what reads and writes the ledger's rows.

        Raises:
            LedgerError: it cannot be migrated, or the role may not work with it.
        """
        engine = self.engine
        with engine.reader() as reader:
            if self._migrate and not engine.read_only:
                _migrations_postgres.migrate_up(
                    reader.connection, place=engine.place, origin=self._origin, busy_timeout_s=engine.busy_timeout_s
                )
            _migrations_postgres.refuse_unprivileged(reader.connection, place=engine.place, read_only=engine.read_only)
        return PostgresRows(engine)

    def settle(self, rows: LedgerRows) -> None:  # noqa: ARG002 - rows of a database do not move
        """Write down how durable the server makes commits."""
        _durability.record(self.engine)

    def guard(self) -> PostgresGuard:
        """Return what tells what statements of the application's would do."""
        return PostgresGuard(self.engine)

    def sequencer(self, log: ReceiptLog | None, *, then: Callable[[], None]) -> Sequencer | None:
        """Return who gives units their numbers after their commits; `then` is called when it has."""
        return None if log is None else Sequencer(self.engine, log, then=then)
