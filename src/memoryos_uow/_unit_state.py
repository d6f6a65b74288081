"""All that is known of one unit while it lives: who, what, what it read, where it stands.

Promise: data and small questions about it; no store, no ledger, no clock is touched here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memoryos_uow import _protocol
from memoryos_uow._buffer import WriteBuffer
from memoryos_uow._protocol import State

if TYPE_CHECKING:
    from memoryos_uow._band_keys import ContentKey
    from memoryos_uow._buffer import Mark
    from memoryos_uow._deadline import Deadline
    from memoryos_uow._hooks import Hooks
    from memoryos_uow._idempotency import Claim
    from memoryos_uow._leftovers import Carried
    from memoryos_uow._names import Isolation
    from memoryos_uow._receipt_log import Sealed
    from memoryos_uow._rows import Position
    from memoryos_uow.abc import LazyPublisher, Redo, UnitFacts
    from memoryos_uow.engines._contract import EngineTransaction
    from memoryos_uow.errors import UnitOfWorkError
    from memoryos_uow.observers import RemoteCall
    from memoryos_uow.receipts import Receipt


@dataclass(frozen=True, slots=True)
class Context:
    """Who acts and why, for the unit's row and its receipt: every field may be None."""

    envelope_id: str | None = None
    actor_id: str | None = None
    device_id: str | None = None
    correlation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a unit is given by whoever runs it, perhaps not for the first time."""

    deadline: Deadline | None = None
    claim: Claim | None = None
    number: int = 0
    """How many attempts came before."""


@dataclass(slots=True)
class UnitState:
    """One unit of work, from its block's start to its end."""

    facts: UnitFacts
    context: Context
    isolation: Isolation
    created_ts: str
    started_ns: int
    content_key: ContentKey | None = None
    buffer: WriteBuffer = field(init=False)
    state: State = State.ACTIVE
    marks: list[Mark] = field(default_factory=list)
    reads: dict[tuple[str, str], object] = field(default_factory=dict)
    """Version of each record at its first read outside a transaction of the unit's own; None: it was absent."""
    tx: EngineTransaction | None = None
    position: Position | None = None
    carried: Carried | None = None
    """Rows of earlier units that go along with this one's transaction."""
    plan: dict[str, list[str]] = field(default_factory=dict)
    """By store, the tokens of what is made outside the ledger before the decision."""
    has_intent: bool = False
    """The ledger holds a row of this unit's intent, under `epoch`."""
    epoch: int = 1
    last: str | None = None
    """The store whose commit decides the unit, if it is not the ledger's."""
    is_saved: bool = False
    """The ledger holds all of it, unseen, until that store has decided."""
    owed: dict[str, list[Redo]] = field(default_factory=dict)
    """By store, what its decision has stores outside publish."""
    unsynced: list[LazyPublisher] = field(default_factory=list)
    """Stores that have shown their part and not made it durable."""
    silent: dict[str, UnitOfWorkError] = field(default_factory=dict)
    """Stores that could not publish their part after the decision, and why."""
    changed_schema: bool = False
    """The open transaction holds tables that others cannot see yet."""
    wait_s: float | None = None
    """How long the unit may wait for the ledger's lock; None: the ledger's busy timeout."""
    expects: bool = False
    """Some write says what the record must be before it."""
    claim: Claim | None = None
    """On the idempotency key under which the unit runs."""
    hooks: Hooks | None = None
    retry_count: int = 0
    attempts_before: int = 0
    """Attempts of the same run; they are in `retry_count` too."""
    commit_started_ns: int | None = None
    commit_us: int | None = None
    """From the block's end to the decision, once that is durable."""
    traceparent: str | None = None
    """W3C Trace Context of the caller's span, kept with units that may need recovery."""
    calls: tuple[RemoteCall, ...] = ()
    """To servers of its stores, for those who watch."""
    was_told: bool = False
    """Those who watch were told how it ended."""
    receipt: Receipt | None = None
    sealed: Sealed | None = None
    """The head of the receipt log with this unit in it; released once its commit is durable."""
    error: BaseException | None = None
    failed_store: str | None = None

    def __post_init__(self) -> None:
        self.buffer = WriteBuffer(self.facts.limits)

    def meet(self, event: _protocol.Event) -> tuple[_protocol.Effect, ...]:
        """Move on to the state after `event`; return what has to be done now."""
        self.state, effects = _protocol.step(self.state, event)
        return effects

    def refuse_late(self) -> None:
        """Raise UnitTimeout if the unit is past its deadline."""
        if self.facts.deadline is not None:
            self.facts.deadline.refuse_if_passed(self.facts.uow_id)

    def never_began(self, error: BaseException) -> None:
        """Say that `error` kept the block from beginning: nothing was written, and no row will tell of it."""
        self.state, self.error = State.FAILED, error

    def remember_read(self, store: str, key: str, version: object) -> None:
        """Keep the version of a record at its first read."""
        self.reads.setdefault((store, key), version)

    @property
    def place(self) -> Position:
        """Where the unit goes in the ledger: known once its transaction is open."""
        assert self.position is not None  # noqa: S101 - a defect of this library
        return self.position

    def stores(self) -> list[str]:
        """Return the names of the stores written to, in order of first write."""
        return self.buffer.stores()
