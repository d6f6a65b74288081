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
    from memoryos_uow._buffer import Mark
    from memoryos_uow._leftovers import Carried
    from memoryos_uow._names import Isolation
    from memoryos_uow._rows import Position
    from memoryos_uow.abc import UnitFacts
    from memoryos_uow.engines._transaction import SQLiteTransaction
    from memoryos_uow.errors import UnitOfWorkError
    from memoryos_uow.receipts import Receipt


@dataclass(frozen=True, slots=True)
class Context:
    """Who acts and why, for the unit's row and its receipt: every field may be None."""

    envelope_id: str | None = None
    actor_id: str | None = None
    device_id: str | None = None
    correlation_id: str | None = None


@dataclass(slots=True)
class UnitState:
    """One unit of work, from its block's start to its end."""

    facts: UnitFacts
    context: Context
    isolation: Isolation
    created_ts: str
    started_ns: int
    buffer: WriteBuffer = field(init=False)
    state: State = State.ACTIVE
    marks: list[Mark] = field(default_factory=list)
    reads: dict[tuple[str, str], object] = field(default_factory=dict)
    """Version of each record at its first read outside a transaction of the unit's own; None: it was absent."""
    tx: SQLiteTransaction | None = None
    position: Position | None = None
    carried: Carried | None = None
    """Rows of earlier units that go along with this one's transaction."""
    plan: dict[str, list[str]] = field(default_factory=dict)
    """By store, the tokens of what is made outside the ledger before the decision."""
    has_intent: bool = False
    """The ledger holds a row of this unit's intent, under epoch 1."""
    silent: dict[str, UnitOfWorkError] = field(default_factory=dict)
    """Stores that could not publish their part after the decision, and why."""
    changed_schema: bool = False
    """The open transaction holds tables that others cannot see yet."""
    retry_count: int = 0
    commit_started_ns: int | None = None
    receipt: Receipt | None = None
    error: BaseException | None = None
    failed_store: str | None = None

    def __post_init__(self) -> None:
        self.buffer = WriteBuffer(self.facts.limits)

    def meet(self, event: _protocol.Event) -> tuple[_protocol.Effect, ...]:
        """Move on to the state after `event`; return what has to be done now."""
        self.state, effects = _protocol.step(self.state, event)
        return effects

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
        return list(self.buffer.by_store())
