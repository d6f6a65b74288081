"""What the sync and the async unit of work have in common: what a unit is asked for, whose it is, and what it buffers.

Promise: nothing here touches a store or the ledger's file (but that the default ledger is opened when a unit begins);
whoever is not the unit's owner changes nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

from memoryos_uow import _ambient
from memoryos_uow._default import default_opened
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
from memoryos_uow._ownership import NOBODY, Owner
from memoryos_uow._protocol import State
from memoryos_uow._transactions import blaming
from memoryos_uow._unit_state import Context, UnitState
from memoryos_uow.abc import UnitFacts, Write
from memoryos_uow.errors import RecordExists, RecordMissing, UsageError

if TYPE_CHECKING:
    from memoryos_uow._names import Band
    from memoryos_uow.abc import Store
    from memoryos_uow.ledger import Ledger
    from memoryos_uow.receipts import Receipt

_open_units: ContextVar[tuple[UnitCore, ...]] = ContextVar("memoryos_uow_open_units", default=())

_STATUS = {
    State.ACTIVE: Status.PENDING,
    State.PREPARING: Status.PENDING,
    State.COMMITTED: Status.COMMITTED,
    State.FINISHED: Status.COMMITTED,
    State.ROLLED_BACK: Status.ROLLED_BACK,
    State.FAILED: Status.FAILED,
    State.IN_DOUBT: Status.PENDING,
}


class UnitCore:
    """One unit of work without its block; `UnitOfWork` says what the arguments mean."""

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
        self._owner = NOBODY

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
        return f"<{type(self).__name__} {self._uow_id} {self.band} {self.status}>"

    # Its life

    def _begin(self) -> None:
        """Begin the unit: what a block does before its body."""
        if self._state is not None:
            raise UsageError("This unit of work was begun before.", hint="Make a new UnitOfWork for every block.")
        if self._ledger is None:
            self._ledger = default_opened()
        self._owner = Owner.of_this_moment()
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

    def _leave_context(self) -> None:
        """Make room for other units in this context."""
        # Not a token reset: a generator may leave the block in another context than it entered it.
        _open_units.set(tuple(unit for unit in _open_units.get() if unit is not self))

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
        if self._owner == Owner.of_this_moment():
            return None
        return UsageError(
            "This unit of work belongs to another thread, task or process.",
            hint="Nothing was written. Begin a unit of its own in every thread, task and process.",
            uow_id=self._uow_id,
        )

    # Its writes

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


def _check_ledger(ledger: Ledger | None) -> OpenLedger | None:
    opened = getattr(ledger, "_opened", None)
    if ledger is not None and not isinstance(opened, OpenLedger):
        raise UsageError(
            f"A unit of work takes an open ledger, not a {type(ledger).__name__}.",
            hint="Nothing was written. Pass what Ledger.open(...) returns.",
        )
    return opened
