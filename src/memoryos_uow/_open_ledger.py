"""One open ledger file with everything that works on it: what a unit needs, and what `Ledger` shows.

Promise: opening makes the file ready (schema, stores) or refuses with one clear sentence and leaves it as it was; after
`close`, or at the latest at exit, everything that was to be written about finished units is written.
"""

from __future__ import annotations

import atexit
import weakref
from typing import TYPE_CHECKING, Final, Literal

from memoryos_uow import _ambient, _log, _opening
from memoryos_uow._coordinator import Coordinator
from memoryos_uow._recovery import Recovery
from memoryos_uow._rows import LedgerRows
from memoryos_uow._sql_calls import SqlCalls
from memoryos_uow.engines._sql_guard import SqlGuard
from memoryos_uow.engines.sqlite import SQLiteEngine
from memoryos_uow.errors import LedgerError, UnitOfWorkError

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable

    from memoryos_uow._limits import Limits
    from memoryos_uow._names import Durability
    from memoryos_uow._registry import StoreRegistry
    from memoryos_uow.abc import Store


EXIT_WAIT_S: Final = 1.0
"""How long the process's exit may wait for a thread that is in the middle of a unit: it may never come back."""

RECOVERY_BUDGET_S: Final = 10.0
"""How long opening may spend on what dead processes left; the rest is for `Ledger.recover`."""


class OpenLedger:
    """Engine, rows, stores and coordinator of one ledger file. Threads may share it; processes may not."""

    def __init__(
        self, engine: SQLiteEngine, rows: LedgerRows, registry: StoreRegistry, *, origin: str | None, limits: Limits
    ) -> None:
        self.engine = engine
        self.rows = rows
        self.origin = origin
        self.limits = limits
        self.coordinator = Coordinator(engine, rows, registry, origin=origin)
        self.sql = SqlCalls(SqlGuard(engine), self.coordinator.transactions)
        self.recovery = Recovery(engine, rows, registry, self.coordinator)
        self.closed = False
        self._registry = registry
        self._pid = _ambient.process_id()
        _open_ledgers.add(self)

    @classmethod
    def open(
        cls,
        path_or_url: str | os.PathLike[str],
        *,
        stores: Iterable[Store] | Literal["recorded"],
        durability: Durability,
        origin: str | None,
        migrate: bool,
        busy_timeout: float,
        limits: Limits | None,
        allow_triggers: Collection[str],
        recover: bool,
    ) -> OpenLedger:
        """Open the file; the arguments and errors are those of `Ledger.open`."""
        # What needs no file comes first, then what only reads it: a refusal leaves it as it was.
        path, timeout_s = _opening.check_path(path_or_url), _opening.check_timeout(busy_timeout)
        wanted_origin, bounds = _opening.check_origin(origin), _opening.check_limits(limits)
        registry, allowed = _opening.check_stores(stores), _opening.check_triggers(allow_triggers)
        _opening.refuse_absent(path, migrate=migrate)
        engine = SQLiteEngine.open(path, durability=durability, busy_timeout_s=timeout_s)
        try:
            _opening.refuse_unfit(engine, migrate=migrate)
            _opening.refuse_triggers(engine, allowed)
            incomplete = _opening.attach_stores(engine, registry, recorded=stores == _opening.RECORDED)
            rows = LedgerRows(basic=_opening.make_schema_ready(engine, origin=wanted_origin, migrate=migrate))
            recorded_origin = _opening.recorded_origin(engine, rows, wanted_origin)
            if incomplete and not engine.read_only:
                _opening.set_up_stores(engine, registry)
        except BaseException:
            engine.close()
            raise
        ledger = cls(engine, rows, registry, origin=recorded_origin, limits=bounds)
        if recover:
            ledger._recover_leftovers()
        return ledger

    def _recover_leftovers(self) -> None:
        """Finish what dead processes left, for a bounded time; whatever hinders that must not hinder opening."""
        if self.engine.read_only:
            return
        try:
            if self.recovery.is_needed():
                self.recovery.run(budget_s=RECOVERY_BUDGET_S)
        except UnitOfWorkError as error:
            _log.warn("uow.recovery_delayed", reason=type(error).__name__)

    def store(self, name: str) -> Store:
        """Return the store called `name`.

        Raises:
            UsageError: there is none, or the ledger is closed or another process's.
            LedgerError: the ledger is open for reading only, and was never written to with stores.
        """
        self.engine.refuse_misuse()
        if self.engine.read_only and not self._registry.exist:
            raise LedgerError(
                f"The ledger {self.engine.path} has no stores yet, and is open for reading only.",
                hint="Make the file and its directory writable, then open it once.",
            )
        return self._registry.find(name, self.engine.reader)

    def close(self, *, wait_s: float | None = None) -> None:
        """Write what is left to be written about finished units and close every file. May be called twice.

        Raises:
            UsageError: a unit of this thread is still open and holds the lock.
            LedgerBusy: one of another thread kept it for longer than `wait_s` seconds (default: the busy timeout).
        """
        if self.closed or self._pid != _ambient.process_id():
            return
        self.coordinator.settle()
        self.engine.close(wait_s=wait_s)
        self.closed = True
        self.coordinator.give_up()
        self._registry.close()


_open_ledgers: weakref.WeakSet[OpenLedger] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for ledger in list(_open_ledgers):
        try:
            ledger.close(wait_s=EXIT_WAIT_S)
        except Exception:  # noqa: BLE001, S112 - at exit nobody is left to be told, and the others want closing too
            continue
