"""What the sync and the async unit of work have in common: what a unit is asked for, whose it is, and what it buffers.

Promise: nothing here touches a store or the ledger's file (but that the default ledger is opened when a unit begins);
whoever is not the unit's owner changes nothing.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

from memoryos_uow import _ambient
from memoryos_uow._buffer import Mark
from memoryos_uow._deadline import Deadline, check_timeout
from memoryos_uow._default import default_opened
from memoryos_uow._expecting import ANYTHING, check_at_once
from memoryos_uow._hooks import Hooks, check_hook
from memoryos_uow._names import (
    MAX_KEY_BYTES,
    OUTBOX_STORE,
    Band,
    Isolation,
    Operation,
    Status,
    check_band,
    check_choice,
    check_identifier,
)
from memoryos_uow._open_ledger import OpenLedger
from memoryos_uow._ownership import NOBODY, Owner
from memoryos_uow._protocol import DECIDED, State
from memoryos_uow._transactions import blame, blaming
from memoryos_uow._unit_state import Attempt, Context, UnitState
from memoryos_uow.abc import Capability, UnitFacts, Write
from memoryos_uow.errors import RecordExists, RecordMissing, UsageError
from memoryos_uow.stores._outbox import message_write

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow.abc import Store
    from memoryos_uow.ledger import Ledger
    from memoryos_uow.receipts import Receipt

_open_units: ContextVar[tuple[UnitCore, ...]] = ContextVar("memoryos_uow_open_units", default=())

_STATUS = {
    State.ACTIVE: Status.PENDING,
    State.PREPARING: Status.PENDING,
    State.PREPARED: Status.PENDING,
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
        idempotency_key: str | None = None,
        timeout: float | None = None,
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
        self._context = Context(
            envelope_id=None if envelope_id is None else check_identifier(envelope_id, "envelope_id"),
            actor_id=None if actor_id is None else check_identifier(actor_id, "actor_id"),
            device_id=None if device_id is None else check_identifier(device_id, "device_id"),
            correlation_id=None if correlation_id is None else check_identifier(correlation_id, "correlation_id"),
        )
        if nested not in ("refuse", "independent"):
            raise UsageError('nested is "refuse" or "independent".', hint="Nothing was written.")
        self._isolation = check_choice(isolation, Isolation, "isolation")
        self._nested = nested
        self._key = None if idempotency_key is None else check_identifier(idempotency_key, "idempotency_key")
        self._timeout = check_timeout(timeout)
        self._attempt: Attempt | None = None
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
        """How often the unit had to wait for the ledger's lock, and how many attempts of a run came before it."""
        return self._state.retry_count if self._state else 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._uow_id} {self.band} {self.status}>"

    # Its life

    def _begin(self) -> None:
        """Begin the unit: what a block does before its body."""
        if self._state is not None:
            raise UsageError("This unit of work was begun before.", hint="Make a new UnitOfWork for every block.")
        ledger = self._find_ledger()
        self._owner = Owner.of_this_moment()
        # A child task or thread may have inherited a unit that is not its own; one that is over is in nobody's way.
        outer = _open_units.get()
        if outer:
            outer = tuple(unit for unit in outer if unit._is_open_here())  # noqa: SLF001
        if outer and self._nested == "refuse" and any(unit._ledger is ledger for unit in outer):  # noqa: SLF001
            raise UsageError(
                "A unit of work on this ledger is open already, and this one would not be part of it.",
                hint='Use uow.savepoint() inside it, or nested="independent" if a separate unit is meant.',
            )
        ledger.engine.refuse_misuse()  # before the block runs
        log = ledger.coordinator.log
        if log is not None and log.may_refuse:
            log.refuse_at_once()
        keyed = self._band is Band.RED or self._band is Band.BLACK
        attempt = self._attempt or Attempt(None if self._timeout is None else Deadline.after(self._timeout))
        self._state = UnitState(
            facts=UnitFacts(self._uow_id, self._space_id, self._band, ledger.limits, attempt.deadline),
            context=self._context,
            isolation=self._isolation,
            created_ts=_ambient.now_text(),
            started_ns=_ambient.monotonic_ns(),
            content_key=ledger.content_key_for(self._band) if keyed else None,
            claim=attempt.claim,
            retry_count=attempt.number,
            attempts_before=attempt.number,
        )
        _open_units.set((*outer, self))

    def _took_s(self) -> float:
        """Return how many seconds ago the block began."""
        return 0.0 if self._state is None else (_ambient.monotonic_ns() - self._state.started_ns) / 1e9

    def _find_ledger(self) -> OpenLedger:
        """Return the unit's ledger, opening the default one if need be."""
        if self._ledger is None:
            self._ledger = default_opened()
        return self._ledger

    def _leave_context(self) -> None:
        """Make room for other units in this context."""
        # Not a token reset: a generator may leave the block in another context than it entered it.
        _open_units.set(tuple([unit for unit in _open_units.get() if unit is not self]))

    def _live(self) -> tuple[UnitState, OpenLedger]:
        if self._state is None or self._ledger is None:
            raise UsageError("This unit of work has not begun.", hint="Use it inside `with UnitOfWork(...) as uow:`.")
        return self._state, self._ledger

    def _active(self) -> tuple[UnitState, OpenLedger]:
        """Return what a call that goes on with the unit needs, if the caller may go on with it."""
        state, ledger = self._open()
        if state.facts.deadline is not None:
            state.facts.deadline.refuse_if_passed(self._uow_id)
        return state, ledger

    def _open(self) -> tuple[UnitState, OpenLedger]:
        """As `_active`, for a call that ends the unit: that may come after the deadline."""
        state, ledger = self._state, self._ledger
        if state is None or ledger is None or self._owner != Owner.of_this_moment():
            self._live()
            self._refuse_others()
        elif state.state is State.ACTIVE:
            return state, ledger
        raise self._over()

    def _over(self) -> UsageError:
        return UsageError(
            f"This unit of work is over: it is {self.status}.",
            hint="Nothing more was written. Begin another unit for further writes.",
            uow_id=self._uow_id,
        )

    def _is_open_here(self) -> bool:
        """Say whether this unit is under way, in the thread and task that asks."""
        return self._state is not None and self._state.state is State.ACTIVE and self._problem_with_caller() is None

    def _holds_lock_of(self, ledger: OpenLedger | None) -> bool:
        """Say whether this unit belongs to whoever asks and keeps everybody else from writing to `ledger`."""
        if ledger is None or not ledger.engine.excludes_others:
            return False
        return (
            self._is_open_here() and self._ledger is ledger and self._state is not None and self._state.tx is not None
        )

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

    # What is done after it

    def after_commit(self, hook: Callable[[Receipt | None], object]) -> None:
        """Have `hook` called with the receipt once the unit is committed: in this process, holding no lock.

        Hooks are called in the order in which they were registered. One that raises stops neither the others nor the
        caller; see `hook_errors`. One registered inside a savepoint that is undone is not called. A unit that wrote
        nothing has no receipt: None. If the process dies first nobody calls the hook; for what must not get lost there
        is `publish`.

        Raises:
            UsageError: not a function to be called, or the unit is over or another thread's or task's.
        """
        self._add_hook(hook).after_commit.append(hook)

    def after_rollback(self, hook: Callable[[BaseException | None], object]) -> None:
        """Have `hook` called once the unit has ended without a commit: with what ended it, None after `rollback`.

        As for `after_commit`; an undone savepoint does not matter to it. While it cannot be told whether the unit is
        committed (`InDoubtError`), neither sort is called.

        Raises:
            UsageError: not a function to be called, or the unit is over or another thread's or task's.
        """
        self._add_hook(hook).after_rollback.append(hook)

    @property
    def hook_errors(self) -> tuple[Exception, ...]:
        """What hooks raised, in their order."""
        return tuple(self._state.hooks.errors) if self._state and self._state.hooks else ()

    def _add_hook(self, hook: object) -> Hooks:
        state, _ = self._active()
        self._check_hook(hook)
        if state.hooks is None:
            state.hooks = Hooks()
        return state.hooks

    @staticmethod
    def _check_hook(hook: object) -> None:
        check_hook(hook)

    def _run_hooks(self, hooks: Hooks) -> None:
        """Call the hooks that are due: the end of the unit is durable, and its lock was given back."""
        state, _ = self._live()
        if self._owner.process != _ambient.process_id():
            return
        if state.state in DECIDED:
            hooks.run(self._uow_id, state.receipt, committed=True)
        elif state.state in (State.FAILED, State.ROLLED_BACK):
            hooks.run(self._uow_id, state.error, committed=False)

    # Its savepoints and writes

    @staticmethod
    def _new_mark(state: UnitState) -> Mark:
        hooks = 0 if state.hooks is None else len(state.hooks.after_commit)
        mark = Mark(name=f"uow_{len(state.marks)}", writes=state.buffer.count, hooks=hooks)
        state.marks.append(mark)
        return mark

    def publish(self, topic: str, payload: object, key: str | None = None) -> None:
        """Publish a message: it is committed with the unit, or not at all, and delivered after it by a relay.

        Delivery is at least once, by `Ledger.relay` or ``memoryos-uow relay``; a receiver tells repetitions by the
        message's dedup key. `payload` is JSON (dict, list, str, int, float, bool, None), at most
        ``Limits.message_bytes`` long. Messages of one space with the same `key` are delivered in the order of their
        commits; without a key there is no order. A message counts as a write of the unit, to the store ``outbox``.

        Raises:
            UsageError: topic or key is not a text of 1 to 255 or 1,024 bytes without control characters, the payload
                is not JSON or too long, or the unit is over or another thread's or task's.
        """
        state, ledger = self._active()
        with blaming(state, OUTBOX_STORE):
            full = state.buffer.add(message_write(topic, payload, key, state.facts.limits))
        if full:
            self._relieve(state, ledger)

    def _write(self, store: Store, operation: Operation, key: str, value: object, expect: object = ANYTHING) -> None:
        state, ledger = self._active()
        name = store.name
        try:
            key = check_identifier(key, "key", max_bytes=MAX_KEY_BYTES)
            payload, content = store.encode(operation, key, value, state.facts.limits)
            self._refuse_impossible(state, name, operation, key)
            write = Write(name, operation, key, payload, content, _ambient.now_text())
            if expect is not ANYTHING:
                write.expect = check_at_once(store, state.buffer, state.facts, key, expect)
                state.expects = True
            full = state.buffer.add(write, outside=store.capability is not Capability.SAME_TRANSACTION)
        except Exception as error:
            blame(state, name, error)
            raise
        if full:
            self._relieve(state, ledger)

    def _relieve(self, state: UnitState, ledger: OpenLedger) -> None:
        """Have writes leave memory: so many wait that they should."""
        raise NotImplementedError

    @staticmethod
    def _refuse_impossible(state: UnitState, store: str, operation: Operation, key: str) -> None:
        """Refuse at once what the unit's own waiting writes make impossible."""
        newest = state.buffer.newest(store, key)
        if newest is None or operation is Operation.UPSERT:
            return
        gone = newest.operation is Operation.DELETE
        if operation is Operation.CREATE and not gone:
            raise RecordExists("This unit has written that record already.", hint="Use update() or upsert().")
        if operation is not Operation.CREATE and gone:
            raise RecordMissing("This unit has deleted that record already.", hint="Use create() or upsert().")


def open_units() -> tuple[UnitCore, ...]:
    """Return the units begun in this context and not left yet; some may belong to another thread or task."""
    return _open_units.get()


def _check_ledger(ledger: Ledger | None) -> OpenLedger | None:
    opened = getattr(ledger, "_opened", None)
    if ledger is not None and not isinstance(opened, OpenLedger):
        raise UsageError(
            f"A unit of work takes an open ledger, not a {type(ledger).__name__}.",
            hint="Nothing was written. Pass what Ledger.open(...) returns.",
        )
    return opened
