"""After an erasure was decided: nothing may be left of the record, in no store, log or free page.

The steps, each of which may be repeated by any process: what units still owe to stores outside is published; the stores
remove what they keep outside (`Erasable`, and a sweep); the ledger forgets which record it was; the file is written
anew if asked for, its log is emptied. Until all of that is done a row in ``uow_erasing`` says so, and opening the
ledger, or `Ledger.recover`, goes on with it.

Promise: an erasure that is not finished is never called so.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from memoryos_uow import _erasures, _log
from memoryos_uow.abc import Erasable, OutsideStore
from memoryos_uow.engines import _pg_vacuum, _scrub
from memoryos_uow.engines.sqlite import SQLiteEngine
from memoryos_uow.errors import LedgerBusy, LedgerError, UnitOfWorkError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from memoryos_uow._coordinator import Coordinator
    from memoryos_uow._erasures import Pending
    from memoryos_uow._recovery import Recovery
    from memoryos_uow._registry import StoreRegistry
    from memoryos_uow.engines._contract import Engine

LEDGER: Final = "the ledger's file"
"""What `Erasure.remaining` calls the ledger's own free pages and log; in a database, its tables."""

OPENING_BYTES_MAX: Final = 256 * 1024 * 1024
"""A larger file is not written anew when a ledger is opened, only by `recover`: that takes too long."""


class Scrubbing:
    """Finishes the erasures of one ledger."""

    def __init__(self, engine: Engine, registry: StoreRegistry, coordinator: Coordinator, recovery: Recovery) -> None:
        self._engine = engine
        self._registry = registry
        self._coordinator = coordinator
        self._recovery = recovery

    def is_needed(self) -> bool:
        """Say whether any erasure is not finished: one look at a table that is empty in a ledger at rest."""
        with self._engine.reader() as reader:
            return bool(reader.rows("SELECT 1 FROM uow_erasing LIMIT 1"))

    def run(self, *, wait_s: float, opening: bool = False) -> dict[str, tuple[str, ...]]:
        """Go on with every erasure; return by tombstone where traces may still be, for those that are not finished.

        Waits `wait_s` seconds for others at each step. `opening`: leave what takes very long to a later call.

        Raises:
            LedgerError: the ledger itself cannot be read or written.
        """
        with self._deleting_securely():
            self._coordinator.settle()
            found = self._pending()
            if isinstance(self._engine, SQLiteEngine):
                _forget_statistics(self._engine.path)  # they may name who acted
            remaining = self._outside([one for one in found if one.key is not None])
            self._coordinator.settle()  # what the ledger kept for stores that have answered now
            ready = [one for one in found if one.uow_id not in remaining]
            if ready and not self._clean_file(ready, wait_s=wait_s, opening=opening):
                remaining |= dict.fromkeys((one.uow_id for one in ready), (LEDGER,))
        for uow_id, where in remaining.items():
            _log.warn("uow.erasure_delayed", uow_id=uow_id, places=len(where))
        return remaining

    def _deleting_securely(self) -> AbstractContextManager[None]:
        return _scrub.deleting_securely(self._engine) if isinstance(self._engine, SQLiteEngine) else nullcontext()

    def _pending(self) -> list[Pending]:
        with self._engine.reader() as reader:
            return _erasures.pending(reader)

    # Outside the ledger

    def _outside(self, erased: Sequence[Pending]) -> dict[str, tuple[str, ...]]:
        """Remove what lies outside; return by tombstone the store that did not do so."""
        if not erased:
            return {}
        self._recovery.run()
        remaining: dict[str, tuple[str, ...]] = {}
        done: list[str] = []
        for one in erased:
            if self._left_outside(one):
                remaining[one.uow_id] = (one.store,)
            else:
                done.append(one.uow_id)
        if done:
            self._coordinator.transactions.apart(lambda tx: _erasures.note_outside_done(tx, done), wait_s=None)
        return remaining

    def _left_outside(self, one: Pending) -> bool:
        """Have the store remove what it keeps outside; return whether something may still be there."""
        store = self._registry.get(one.store)
        assert one.space_id is not None  # noqa: S101 - as its key
        assert one.key is not None  # noqa: S101
        with self._engine.reader() as reader:
            if store is None or _erasures.is_owed(reader, one):
                return True
        try:
            if isinstance(store, OutsideStore) and not self._recovery.sweep_one(store, []):
                return True
            if isinstance(store, Erasable):
                store.erase_outside(one.space_id, one.key, one.version)
        except LedgerError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a store raises, the other erasures come next
            _log.warn("uow.erasure_delayed", uow_id=one.uow_id, reason=type(error).__name__)
            return True
        return False

    # The ledger's own file

    def _clean_file(self, ready: Sequence[Pending], *, wait_s: float, opening: bool) -> bool:
        """Remove what deleted rows left in the file and its log; return whether that is done."""
        if not isinstance(self._engine, SQLiteEngine):
            return self._clean_tables(ready, wait_s=wait_s)
        anew = any(one.rebuild for one in ready)
        if anew and opening and self._engine.path.stat().st_size > OPENING_BYTES_MAX:
            return False
        try:
            if anew:
                _scrub.write_anew(self._engine, wait_s=wait_s)
            if not _scrub.empty_log(self._engine, wait_s=wait_s):
                return False
        except LedgerBusy:
            return False
        self._note_done(ready)
        return True

    def _clean_tables(self, ready: Sequence[Pending], *, wait_s: float) -> bool:
        """Remove what deleted rows left in the tables of a database; return whether that is done."""
        with self._engine.reader() as reader:
            if not _pg_vacuum.empty(reader, {one.store for one in ready}, wait_s=wait_s):
                return False
        self._note_done(ready)
        return True

    def _note_done(self, ready: Sequence[Pending]) -> None:
        self._coordinator.transactions.apart(
            lambda tx: _erasures.note_done(tx, [one.uow_id for one in ready]), wait_s=None
        )


def try_at_opening(scrubbing: Scrubbing) -> None:
    """Go on with erasures that a dead process left; whatever hinders that must not hinder opening."""
    try:
        if scrubbing.is_needed():
            scrubbing.run(wait_s=0.25, opening=True)
    except UnitOfWorkError as error:
        _log.warn("uow.erasure_delayed", reason=type(error).__name__)


def _forget_statistics(ledger: Path) -> None:
    from memoryos_uow._statistics.side import forget  # noqa: PLC0415 - only for those who erase

    forget(ledger)
