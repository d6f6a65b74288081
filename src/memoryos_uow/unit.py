"""The with-block: one unit of work.

Promise: whatever happens in the block, either every store ends with all of it or with none of it, the caller's
exception arrives unchanged, and one row in the ledger says how it ended.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, Self

from memoryos_uow import _ambient
from memoryos_uow._buffer import Mark
from memoryos_uow._default import default_opened
from memoryos_uow._handles import UnitStore
from memoryos_uow._names import (
    MAX_KEY_BYTES,
    Isolation,
    Operation,
    Status,
    check_band,
    check_choice,
    check_identifier,
)
from memoryos_uow._open_ledger import OpenLedger
from memoryos_uow._protocol import State
from memoryos_uow._transactions import blaming
from memoryos_uow._unit_state import Context, UnitState
from memoryos_uow.abc import UnitFacts, Write
from memoryos_uow.errors import RecordExists, RecordMissing, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from memoryos_uow._names import Band
    from memoryos_uow._records import Hit
    from memoryos_uow.abc import Store
    from memoryos_uow.ledger import Ledger
    from memoryos_uow.receipts import Receipt

_open_units: ContextVar[tuple[UnitOfWork, ...]] = ContextVar("memoryos_uow_open_units", default=())

_STATUS = {
    State.ACTIVE: Status.PENDING,
    State.PREPARING: Status.PENDING,
    State.COMMITTED: Status.COMMITTED,
    State.FINISHED: Status.COMMITTED,
    State.ROLLED_BACK: Status.ROLLED_BACK,
    State.FAILED: Status.FAILED,
    State.IN_DOUBT: Status.PENDING,
}


class UnitOfWork:
    """One atomic, receipted write across several stores.

    ```python
    from memoryos_uow import UnitOfWork

    with UnitOfWork(space_id="shared:household", band="GREEN") as uow:
        uow["notes"].create("n1", {"text": "milk is out"})
        print(uow["notes"].get("n1"), uow.status)
    print(uow.status, len(uow.receipt.hash))
    ```
    ```output
    {'text': 'milk is out'} pending
    committed 64
    ```

    Leaving the block commits; an exception leaving it undoes everything. Writes are buffered and checked when called,
    so the ledger is locked only while the unit commits. When the block has been left without an exception, the unit is
    as durable as the ledger's `durability` says (default: it survives a power cut).

    Args:
        space_id: whose data it is; keys live inside a space. 1 to 255 bytes.
        band: how far the data may travel: GREEN, AMBER, RED or BLACK.
        actor_id: who acts. Like the next three at most 255 bytes, recorded with the unit.
        device_id: from where.
        correlation_id: which request this belongs to.
        envelope_id: which message carried it.
        isolation: ``"writes"`` (records read and then written must not have changed in between, so no update is lost)
            or ``"serializable"`` (no record that was read may have changed).
        nested: inside another unit of the same ledger a unit is refused, because it would not be part of that one;
            ``"independent"`` says that this is meant.
        ledger: where; default: the process's default ledger, ``$MEMORYOS_UOW_LEDGER`` or else ``./memory.db``.

    Raises:
        UsageError: an argument is wrong (here), or the unit is used wrongly (at any call). Nothing was written.
        StoreError: a store refused (at the block's end); `RecordExists` and `RecordMissing` are the common ones.
        ConflictError: a record was changed by another unit after this one had read it (at the block's end).
        LedgerError: the ledger could not be opened, locked or written.
    """

    def __init__(
        self,
        *,
        space_id: str | None = None,
        band: str | None = None,
        actor_id: str | None = None,
        device_id: str | None = None,
        correlation_id: str | None = None,
        envelope_id: str | None = None,
        isolation: Isolation | Literal["writes", "serializable"] = "writes",
        nested: Literal["refuse", "independent"] = "refuse",
        ledger: Ledger | None = None,
    ) -> None:
        if space_id is None or band is None:
            missing = " and ".join(name for name, value in (("space_id", space_id), ("band", band)) if value is None)
            raise UsageError(
                f"A unit of work needs {missing}.",
                hint='For example UnitOfWork(space_id="shared:household", band="GREEN").',
            )
        self._space_id = check_identifier(space_id, "space_id")
        self._band = check_band(band)
        optional = {"actor_id": actor_id, "device_id": device_id, "correlation_id": correlation_id}
        optional["envelope_id"] = envelope_id
        self._context = Context(
            **{name: check_identifier(value, name) for name, value in optional.items() if value is not None}
        )
        if nested not in ("refuse", "independent"):
            raise UsageError('nested is "refuse" or "independent".', hint="Nothing was written.")
        self._isolation = check_choice(isolation, Isolation, "isolation")
        self._nested = nested
        self._ledger = _check_ledger(ledger)
        self._uow_id = _ambient.new_unit_id()
        self._state: UnitState | None = None
        self._owner: tuple[int, int, object] = (0, 0, None)

    # What happened

    @property
    def uow_id(self) -> str:
        """The unit's id, a UUIDv7: known before anything is written."""
        return self._uow_id

    @property
    def space_id(self) -> str:
        """Whose data it is."""
        return self._space_id

    @property
    def band(self) -> Band:
        """How far the data may travel."""
        return self._band

    @property
    def status(self) -> Status:
        """``pending`` until the end is durable, then ``committed``, ``rolled_back`` or ``failed``."""
        return _STATUS[self._state.state] if self._state else Status.PENDING

    @property
    def receipt(self) -> Receipt | None:
        """The receipt of a committed unit; None before, after a failure, and for a unit that wrote nothing."""
        return self._state.receipt if self._state else None

    @property
    def error(self) -> BaseException | None:
        """What ended the unit, if it failed."""
        return self._state.error if self._state else None

    @property
    def in_doubt(self) -> tuple[str, ...]:
        """Stores outside the ledger that have not shown the committed unit yet; recovery asks them again.

        Empty for nearly every unit. The unit is committed all the same: through this library its records are seen.
        """
        return tuple(self._state.silent) if self._state else ()

    @property
    def retry_count(self) -> int:
        """How often the unit had to wait for the ledger's lock."""
        return self._state.retry_count if self._state else 0

    def __repr__(self) -> str:
        return f"<UnitOfWork {self._uow_id} {self.band} {self.status}>"

    # The block

    def __enter__(self) -> Self:
        if self._state is not None:
            raise UsageError("This unit of work was begun before.", hint="Make a new UnitOfWork for every block.")
        if self._ledger is None:
            self._ledger = default_opened()
        self._owner = _whoever_runs()
        # A child task or thread may have inherited a unit that is not its own; one that is over is in nobody's way.
        outer = tuple(unit for unit in _open_units.get() if unit._is_open_here())  # noqa: SLF001
        if self._nested == "refuse" and any(unit._ledger is self._ledger for unit in outer):  # noqa: SLF001
            raise UsageError(
                "A unit of work on this ledger is open already, and this one would not be part of it.",
                hint='Use uow.savepoint() inside it, or nested="independent" if a separate unit is meant.',
            )
        self._ledger.engine.refuse_misuse()  # before the block runs
        self._state = UnitState(
            facts=UnitFacts(self._uow_id, self._space_id, self._band, self._ledger.limits),
            context=self._context,
            isolation=self._isolation,
            created_ts=_ambient.now_text(),
            started_ns=_ambient.monotonic_ns(),
        )
        _open_units.set((*outer, self))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        self._live()
        try:
            # Not a token reset: a generator may leave the block in another context than it entered it.
            _open_units.set(tuple(unit for unit in _open_units.get() if unit is not self))
            self._leave(exc)
        except BaseException as error:
            self._end_failed(error)  # does nothing to a unit that is over
            raise
        return False

    def _leave(self, exc: BaseException | None) -> None:
        if exc is not None:
            self._end_failed(exc)
            return
        state, ledger = self._live()
        self._refuse_others()
        if state.state is State.FAILED:  # by somebody else, inside the block
            raise self._over() from state.error
        if state.state is State.ACTIVE:  # else rolled back inside the block
            ledger.coordinator.commit(state)

    def _end_failed(self, error: BaseException) -> None:
        state, ledger = self._live()
        if self._owner[0] == _ambient.process_id():  # a forked child must not touch its parent's transaction
            ledger.coordinator.fail(state, error)

    def rollback(self) -> None:
        """End the unit now and keep nothing of it; the rest of the block may run but not write.

        Raises:
            UsageError: the unit is over, was not begun, or belongs to another thread or task.
        """
        state, ledger = self._active()
        ledger.coordinator.roll_back(state)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A point to return to: an exception that leaves this block undoes only what the block wrote, and goes on.

        Savepoints may be nested; they work on every store, whether its writes still wait or were applied meanwhile.
        Reads made in the block still count for lost-update protection.

        Raises:
            UsageError: the unit is over, or belongs to another thread or task; or, at the block's end, a savepoint
                that was begun later is still open.
        """
        state, ledger = self._active()
        mark = Mark(name=f"uow_{len(state.marks)}", writes=len(state.buffer.writes))
        state.marks.append(mark)
        try:
            yield
        except BaseException as error:
            if self._problem_with_caller() is not None:
                self._end_failed(error)  # nobody but the owner may go on with it
            elif state.state is State.ACTIVE:
                ledger.coordinator.transactions.return_to(state, mark)
            raise
        if state.state is State.ACTIVE:
            self._active()
            ledger.coordinator.transactions.keep(state, mark)

    # Stores and SQL

    def __getitem__(self, store: str) -> UnitStore:
        """Return the store called `store` as this unit sees it.

        Raises:
            UsageError: the ledger has no such store, or the unit is over.
        """
        _, ledger = self._active()
        return UnitStore(self, ledger.store(store))

    def sql(self, statement: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
        """Run one SQL statement on the ledger's file, in the same transaction as everything else of the unit.

        A statement that only writes rows is buffered like any write and returns ``[]``. One that returns rows, or
        changes the schema, runs at once: everything buffered so far is applied first (autoflush), and **from then until
        the unit ends the ledger's write lock is held**, so keep slow work before it. Rows come back as tuples.

        Raises:
            UsageError: not one valid statement; one that would end the unit's atomicity (BEGIN, COMMIT, ATTACH,
                PRAGMA...); one that writes the library's own tables; or parameters of a wrong number or type.
            StoreError: a constraint refused it (at once, or at commit for a buffered statement).
        """
        state, ledger = self._active()
        return ledger.sql.run(state, statement, parameters)

    # For the handles

    def _write(self, store: Store, operation: Operation, key: str, value: object) -> None:
        state, _ = self._active()
        with blaming(state, store.name):
            key = check_identifier(key, "key", max_bytes=MAX_KEY_BYTES)
            payload, content = store.encode(operation, key, value, state.facts.limits)
            self._refuse_impossible(state, store, operation, key)
            state.buffer.add(Write(store.name, operation, key, payload, content, _ambient.now_text()))

    @staticmethod
    def _refuse_impossible(state: UnitState, store: Store, operation: Operation, key: str) -> None:
        """Refuse at once what the unit's own waiting writes make impossible."""
        newest = state.buffer.newest(store.name, key)
        if newest is None or operation is Operation.UPSERT:
            return
        gone = newest.operation is Operation.DELETE
        if operation is Operation.CREATE and not gone:
            raise RecordExists("This unit has written that record already.", hint="Use update() or upsert().")
        if operation is not Operation.CREATE and gone:
            raise RecordMissing("This unit has deleted that record already.", hint="Use create() or upsert().")

    def _read(self, store: Store, key: str, default: object) -> Any:
        state, ledger = self._active()
        key = check_identifier(key, "key", max_bytes=MAX_KEY_BYTES)
        return ledger.coordinator.reading.read(state, store, key, default)

    def _search(self, store: Store, query: object, k: int, options: Mapping[str, Any]) -> list[Hit]:
        state, ledger = self._active()
        return ledger.coordinator.reading.search(state, store, query, k, options)

    def _live(self) -> tuple[UnitState, OpenLedger]:
        if self._state is None or self._ledger is None:
            raise UsageError("This unit of work has not begun.", hint="Use it inside `with UnitOfWork(...) as uow:`.")
        return self._state, self._ledger

    def _active(self) -> tuple[UnitState, OpenLedger]:
        state, ledger = self._live()
        self._refuse_others()
        if state.state is not State.ACTIVE:
            raise self._over()
        return state, ledger

    def _over(self) -> UsageError:
        return UsageError(
            f"This unit of work is over: it is {self.status}.",
            hint="Nothing more was written. Begin another unit for further writes.",
            uow_id=self._uow_id,
        )

    def _is_open_here(self) -> bool:
        """Say whether this unit is under way, in the thread and task that asks."""
        return self._state is not None and self._state.state is State.ACTIVE and self._problem_with_caller() is None

    def _refuse_others(self) -> None:
        problem = self._problem_with_caller()
        if problem is not None:
            raise problem

    def _problem_with_caller(self) -> UsageError | None:
        if self._owner == _whoever_runs():
            return None
        return UsageError(
            "This unit of work belongs to another thread, task or process.",
            hint="Nothing was written. Begin a unit of its own in every thread, task and process.",
            uow_id=self._uow_id,
        )


def _check_ledger(ledger: Ledger | None) -> OpenLedger | None:
    opened = getattr(ledger, "_opened", None)
    if ledger is not None and not isinstance(opened, OpenLedger):
        raise UsageError(
            f"A unit of work takes an open ledger, not a {type(ledger).__name__}.",
            hint="Nothing was written. Pass what Ledger.open(...) returns.",
        )
    return opened


def _whoever_runs() -> tuple[int, int, object]:
    """Return what tells this process, thread and asyncio task from others."""
    asyncio = sys.modules.get("asyncio")  # not imported means that no task can be running
    task = None
    if asyncio is not None:
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no event loop in this thread
            task = None
    return _ambient.process_id(), threading.get_ident(), task
