"""`Ledger.erase`: one unit of work that takes a record out of its store, and out of the history that speaks of it.

Inside the unit's transaction: the record is deleted if it is there, what its store keeps of it beside goes too, every
write that ever told of it is sealed, what its units answered under idempotency keys goes, and who acted is forgotten
if asked for. The unit that does so, the tombstone, is
in log and chain like any other; its receipt says what was sealed and does not say which record it was. After its
decision `_scrubbing` removes what is left outside the ledger, in free pages and in logs.

Promise: either nothing was erased, or it is decided and will be finished by whoever opens the ledger next.
"""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from memoryos_uow import _ambient, _erasures, _idempotency, _pending
from memoryos_uow._backoff import delay_s
from memoryos_uow._names import MAX_KEY_BYTES, Band, Operation, check_identifier
from memoryos_uow._records import Erasure
from memoryos_uow._relay.rows import undelivered
from memoryos_uow._scrubbing import LEDGER
from memoryos_uow._transactions import blaming
from memoryos_uow.abc import Capability, Erasable, Write
from memoryos_uow.engines import _scrub
from memoryos_uow.engines.sqlite import SQLiteEngine
from memoryos_uow.errors import ConflictError, LedgerError, RecordMissing, UsageError
from memoryos_uow.unit import UnitOfWork

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow._open_ledger import OpenLedger
    from memoryos_uow._unit_state import UnitState
    from memoryos_uow.abc import Store
    from memoryos_uow.engines._contract import EngineTransaction
    from memoryos_uow.ledger import Ledger

T = TypeVar("T")

ATTEMPTS: Final = 6
_LONGEST_S: Final = 0.5
_CUT_AT: Final = 77  # as `_bands.shown_key` does


class WhatToErase:
    """What is to be erased; it shows nothing of that."""

    __slots__ = ("forget_context", "forget_unit_ids", "key", "space_id", "store", "vacuum")

    def __init__(
        self, space_id: str, store: str, key: str, *, forget_unit_ids: bool, forget_context: bool, vacuum: bool
    ) -> None:
        self.space_id = check_identifier(space_id, "space_id")
        self.store = store
        self.key = check_identifier(key, "key", max_bytes=MAX_KEY_BYTES)
        self.forget_unit_ids = forget_unit_ids
        self.forget_context = forget_context
        self.vacuum = vacuum


def erase(ledger: Ledger, request: WhatToErase, *, actor_id: str | None, correlation_id: str | None) -> Erasure:
    """Erase a record; the rest is said by `Ledger.erase`."""
    opened = ledger._opened  # noqa: SLF001 - two halves of one thing
    if opened.rows.basic:
        raise UsageError("A ledger of contract 1.0.0 has no receipts to erase from.", hint="Migrate it first.")
    store = opened.store(request.store)
    uow, done = _again(opened, lambda: _decided(ledger, store, request, actor_id, correlation_id))
    assert uow.receipt is not None  # noqa: S101 - it is committed and has a write
    return Erasure(
        uow_id=uow.uow_id,
        receipt=uow.receipt,
        sealed=done.sealed,
        forgotten=done.forgotten,
        kept=done.kept,
        messages=done.messages,
        remaining=_finish(opened, uow.uow_id),
    )


def _again(opened: OpenLedger, attempt: Callable[[], T]) -> T:
    """Return what `attempt` does; where units come together, which is in a database, several times if need be."""
    sequencer = opened.coordinator.sequencer
    if sequencer is None:
        return attempt()
    for number in range(1, ATTEMPTS):
        sequencer.number_all()
        with suppress(ConflictError):
            return attempt()
        _ambient.sleep(delay_s(number, _ambient.random_fraction(), largest_s=_LONGEST_S))
    sequencer.number_all()
    return attempt()


def _decided(
    ledger: Ledger, store: Store, request: WhatToErase, actor_id: str | None, correlation_id: str | None
) -> tuple[UnitOfWork, _Inside]:
    opened = ledger._opened  # noqa: SLF001
    _delete_first(ledger, store, request)
    with (
        _scrub.deleting_securely(opened.engine) if isinstance(opened.engine, SQLiteEngine) else nullcontext(),
        UnitOfWork(
            space_id=request.space_id, band=Band.BLACK, actor_id=actor_id, correlation_id=correlation_id, ledger=ledger
        ) as uow,
    ):
        state, _ = uow._active()  # noqa: SLF001
        done = _erase_inside(opened, state, store, request)
    return uow, done


def _delete_first(ledger: Ledger, store: Store, request: WhatToErase) -> None:
    """Delete the record in a unit of its own, if its store can but decide: the erasing one holds the ledger's lock."""
    if not ledger._opened.coordinator.last.has_to_decide(store.name):  # noqa: SLF001
        return
    nothing = object()
    with UnitOfWork(space_id=request.space_id, band=Band.BLACK, ledger=ledger) as uow:
        if uow[store.name].get(request.key, nothing) is not nothing:
            uow[store.name].delete(request.key)


class _Inside(NamedTuple):
    """What was done inside the decision: the numbers of an `Erasure`."""

    sealed: int
    forgotten: int
    kept: int
    messages: int


def _erase_inside(opened: OpenLedger, unit: UnitState, store: Store, request: WhatToErase) -> _Inside:
    """Do everything that belongs into the decision."""
    space_id, key, tombstone = request.space_id, request.key, unit.facts.uow_id
    transactions = opened.coordinator.transactions
    tx = transactions.open(unit)  # from here on nobody else changes the record
    with blaming(unit, store.name):
        exists = store.version(tx, space_id, key) is not None
    if opened.coordinator.sequencer is not None and _pending.any_writes_to(tx, space_id, store.name):
        raise ConflictError(
            "Units that wrote to the same store have no number in the receipt log yet.",
            hint="Nothing was erased. Try again.",
            store=store.name,
        )
    pseudonym = unit.content_key.pseudonym(space_id, store.name, key) if unit.content_key else key
    sealed, commits = _erasures.seal_writes(tx, tombstone, store=store.name, space_id=space_id, names=(key, pseudonym))
    if not exists and not sealed:
        raise RecordMissing(
            f"The store {store.name!r} has no such record in this space, and no receipt names one.",
            hint="Nothing was erased. Check the space, the store and the key.",
            store=store.name,
        )
    _idempotency.forget_results(tx, commits)
    messages = undelivered(tx, commits)
    forgotten = _forget(tx, tombstone, commits, request)
    write = Write(
        store.name, Operation.DELETE, key, None, None, _ambient.now_text(), sealed=_erasures.seal_text(tx, tombstone)
    )
    if exists:
        unit.buffer.add(write, outside=store.capability is not Capability.SAME_TRANSACTION)
        transactions.flush(unit)
    else:
        unit.buffer.add_applied(write)
    if isinstance(store, Erasable):
        with blaming(unit, store.name):
            store.erase_inside(tx, space_id, key)
    _erasures.add_pending(
        tx, _erasures.Pending(tombstone, store.name, space_id, key, unit.place.commit_seq, request.vacuum)
    )
    return _Inside(sealed, forgotten, len(commits) - forgotten if request.forget_unit_ids else 0, messages)


def _forget(tx: EngineTransaction, tombstone: str, commits: list[int], request: WhatToErase) -> int:
    shown = repr(request.key)[1:-1]
    cut = repr(request.key[:_CUT_AT])[1:-1]
    quoted = [request.key, shown, *([cut] if len(request.key) > _CUT_AT else [])]
    _erasures.forget_messages(tx, request.space_id, quoted)
    if request.forget_context:
        _erasures.forget_context(tx, tombstone, commits)
    return _erasures.forget_units(tx, tombstone, commits) if request.forget_unit_ids else 0


def _finish(opened: OpenLedger, tombstone: str) -> tuple[str, ...]:
    """Remove what is left after the decision; return where traces may still be. The decision stands in any case."""
    try:
        return opened.scrubbing.run(wait_s=opened.engine.busy_timeout_s).get(tombstone, ())
    except LedgerError:
        return (LEDGER,)
