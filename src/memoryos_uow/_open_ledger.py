"""One open ledger file with everything that works on it: what a unit needs, and what `Ledger` shows.

Promise: opening makes the file ready (schema, stores) or refuses with one clear sentence and leaves it as it was; after
`close`, or at the latest at exit, everything that was to be written about finished units is written.
"""

from __future__ import annotations

import atexit
import weakref
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, Literal

from memoryos_uow import (
    _ambient,
    _band_keys,
    _erasures,
    _keys,
    _log,
    _opening,
    _opening_log,
    _pending,
    _receipt_log,
    _receipt_tree,
)
from memoryos_uow._claiming import Claiming
from memoryos_uow._coordinator import Coordinator
from memoryos_uow._names import address_of
from memoryos_uow._opening import FileSteps
from memoryos_uow._recovery import Recovery
from memoryos_uow._scrubbing import Scrubbing, try_at_opening
from memoryos_uow._sql_calls import SqlCalls
from memoryos_uow.engines.sqlite import SQLiteEngine
from memoryos_uow.errors import LedgerError, UnitOfWorkError, UsageError
from memoryos_uow.observers import Telemetry, TelemetryMode

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable

    from memoryos_uow._band_keys import ContentKey
    from memoryos_uow._limits import Limits
    from memoryos_uow._names import Band, Durability
    from memoryos_uow._opening_postgres import DatabaseSteps
    from memoryos_uow._receipt_log import ReceiptLog
    from memoryos_uow._registry import StoreRegistry
    from memoryos_uow._rows import LedgerRows
    from memoryos_uow.abc import Store
    from memoryos_uow.engines._contract import Engine
    from memoryos_uow.engines._pg_guard import PostgresGuard
    from memoryos_uow.engines._sql_guard import SqlGuard
    from memoryos_uow.signing import Signer


EXIT_WAIT_S: Final = 1.0
"""How long the process's exit may wait for a thread that is in the middle of a unit: it may never come back."""

RECOVERY_BUDGET_S: Final = 10.0
"""How long opening may spend on what dead processes left; the rest is for `Ledger.recover`."""


class OpenLedger:
    """Engine, rows, stores and coordinator of one ledger. Threads may share it; processes may not."""

    def __init__(
        self,
        engine: Engine,
        rows: LedgerRows,
        registry: StoreRegistry,
        *,
        guard: SqlGuard | PostgresGuard,
        log: ReceiptLog | None,
        limits: Limits,
    ) -> None:
        self.engine = engine
        self.rows = rows
        self.origin = log.origin if log is not None else None
        self.limits = limits
        self.log = log
        self.coordinator = Coordinator(engine, rows, registry, log=log)
        self.sql = SqlCalls(guard, self.coordinator.transactions, self.coordinator.streaming)
        self.recovery = Recovery(engine, rows, registry, self.coordinator)
        self.claiming = Claiming(engine, rows, self.coordinator.transactions, limits, log=self.log)
        self.scrubbing = Scrubbing(engine, registry, self.coordinator, self.recovery)
        self.content_key: ContentKey | None = None
        self.closed = False
        self.at_close: list[Callable[[], None]] = []
        """What else ends with it."""
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
        content_key: object = None,
        signer: object = None,
        accept_rollback: bool = False,
        telemetry: TelemetryMode = TelemetryMode.BACKGROUND,
    ) -> OpenLedger:
        """Open the file; the arguments and errors are those of `Ledger.open`."""
        # What needs no file comes first, then what only reads it: a refusal leaves it as it was.
        address = address_of(path_or_url)
        path = _opening.check_path(path_or_url) if address is None else None
        timeout_s = _opening.check_timeout(busy_timeout)
        wanted_origin, bounds = _opening.check_origin(origin), _opening.check_limits(limits)
        registry, allowed = _opening.check_stores(stores), _opening.check_triggers(allow_triggers)
        secret = _band_keys.content_key(content_key)
        _opening_log.check_signer(signer, wanted_origin)
        options: dict[str, Any] = {
            "durability": durability,
            "busy_timeout_s": timeout_s,
            "origin": wanted_origin,
            "migrate": migrate,
            "allowed": allowed,
        }
        steps: FileSteps | DatabaseSteps
        if path is not None:
            steps = FileSteps(path, **options)
        else:
            from memoryos_uow._opening_postgres import DatabaseSteps  # noqa: PLC0415 - most ledgers are files

            steps = DatabaseSteps(address or "", **options)
        engine = steps.engine
        try:
            steps.refuse_unfit()
            incomplete = _opening.attach_stores(engine, registry, recorded=stores == _opening.RECORDED)
            rows = steps.make_schema_ready()
            recorded_origin = _opening.recorded_origin(engine, rows, wanted_origin)
            if incomplete and not engine.read_only:
                _opening.set_up_stores(engine, registry)
            _opening.agree_on_content_key(engine, rows, secret)
            steps.settle(rows)
            log = _opening_log.open_log(
                engine,
                recorded_origin,
                file=path,
                signer=signer,
                durability=durability,
                accept_rollback=accept_rollback,
            )
        except BaseException:
            engine.close()
            registry.close()
            raise
        ledger = cls(engine, rows, registry, guard=steps.guard(), log=log, limits=bounds)
        ledger.coordinator.sequencer = steps.sequencer(log, then=ledger.coordinator.settle)
        ledger.claiming.sequencer = ledger.coordinator.sequencer
        ledger.content_key = secret
        ledger.coordinator.last.content_key_for = ledger.content_key_for
        ledger.coordinator.telemetry = Telemetry(telemetry)
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
            if self.coordinator.sequencer is not None:
                self.coordinator.sequencer.look()
        except UnitOfWorkError as error:
            _log.warn("uow.recovery_delayed", reason=type(error).__name__)
        if not self.rows.basic:
            try_at_opening(self.scrubbing)

    def content_key_for(self, band: Band) -> ContentKey | None:
        """Return the key for a unit of `band`, RED or BLACK; None if the ledger has none.

        Raises:
            UsageError: the ledger's RED and BLACK units are under a key, and it was opened without.
        """
        if self.content_key is None and not self.rows.basic:
            with self.engine.reader() as reader:
                if _erasures.key_id(reader) is not None:
                    raise UsageError(
                        f"{band} units of this ledger are fingerprinted under a content key, and it was opened"
                        " without that key.",
                        hint=f"Nothing was written. Open it with content_key=, or set {_band_keys.ENVIRONMENT}.",
                    )
        return self.content_key

    def store(self, name: str) -> Store:
        """Return the store called `name`.

        Raises:
            UsageError: there is none, or the ledger is closed or another process's.
            LedgerError: the ledger is open for reading only, and was never written to with stores.
        """
        self.engine.refuse_misuse()
        if self.engine.read_only and not self._registry.exist:
            raise LedgerError(
                f"The ledger {self.engine.place} has no stores yet, and is open for reading only.",
                hint="Make the file and its directory writable, then open it once.",
            )
        return self._registry.find(name, self.engine.reader)

    def change_signer(self, log: ReceiptLog, signer: Signer | None, *, old_key_lost: bool) -> None:
        """Have `signer` sign from the next unit on; the errors are those of `Ledger.change_signer`."""
        self.engine.refuse_misuse()
        log.refuse_put_back()
        sequencer = self.coordinator.sequencer
        with nullcontext() if sequencer is None else sequencer.pause():
            self._hand_over(log, signer, old_key_lost=old_key_lost)

    def _hand_over(self, log: ReceiptLog, signer: Signer | None, *, old_key_lost: bool) -> None:
        tx = self.engine.begin()
        try:
            if self.coordinator.sequencer is not None:
                _pending.fence_off(tx)
            in_use = _receipt_tree.end(tx).vkey
            if in_use is not None and log.signer is None and not old_key_lost:
                raise _receipt_log.other_key(in_use, None)
            _keys.hand_over(tx, log.origin, to=signer, by=None if old_key_lost or in_use is None else log.signer)
            tx.commit()
            log.signer = signer
        finally:
            tx.rollback()

    @property
    def file(self) -> SQLiteEngine:
        """The engine, of a ledger in a file.

        Raises:
            UsageError: it lives in a database.
        """
        if not isinstance(self.engine, SQLiteEngine):
            raise UsageError(
                f"The ledger {self.engine.place} lives in a database, and this needs a file.", hint="Nothing was done."
            )
        return self.engine

    def settle(self) -> None:
        """Have everything written about units that ended in this process, as far as that can be done soon."""
        if self.coordinator.sequencer is not None:
            self.coordinator.sequencer.settle()
        self.coordinator.settle()

    def stores(self) -> dict[str, Store]:
        """Return the stores that are registered at the moment, by name."""
        return {store.name: store for store in self._registry}

    def close(self, *, wait_s: float | None = None) -> None:
        """Write what is left to be written about finished units and close every file. May be called twice.

        Raises:
            UsageError: a unit of this thread is still open and holds the lock.
            LedgerBusy: one of another thread kept it for longer than `wait_s` seconds (default: the busy timeout).
        """
        if self.closed or self._pid != _ambient.process_id():
            return
        if self.coordinator.sequencer is not None:
            self.coordinator.sequencer.close(wait_s)
        self.coordinator.settle()
        if self.log is not None:
            self.log.settle(self.engine.sync_log)
        self.engine.close(wait_s=wait_s)
        self.closed = True
        if self.log is not None:
            self.log.close()
        for end in self.at_close:
            end()
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
