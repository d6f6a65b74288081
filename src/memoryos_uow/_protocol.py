"""The life of a unit of work, decided without any input or output.

Facts come in as events, what to do goes out as effects; the coordinator carries them out and reports back with the next
event. Nothing here touches a file, a clock or a store, so the with-block, recovery and a simulation can share it.

Promises (numbered; `check` asserts the ones that can be executed)

1.  A unit is committed if, and only if, the ledger holds its decision: state follows the durable fact.
2.  Bytes outside the ledger are durable before the decision that refers to them is asked for.
3.  Nothing is visible to others before the decision.
4.  Before the decision any error, or a wish, ends the unit without trace in any store; after it nothing can.
5.  A final state is left by no event.
6.  When the answer to the decision is lost, the unit is in doubt: neither committed nor failed is claimed.

States, and what may be trusted in each::

    ACTIVE       the block runs; writes are buffered (or lie in an open transaction, invisible to others)
    PREPARING    the block has ended well; bytes outside the ledger are made durable, then the decision is asked for
    COMMITTED    the decision is durable; every store ends with all of the unit
    ROLLED_BACK  the caller asked for it; no store holds anything of the unit
    FAILED       an error ended it; no store holds anything of the unit
    IN_DOUBT     the decision was asked for and its answer did not arrive

Transitions, and who performs them::

    ACTIVE     --CommitAsked, nothing to prepare--> PREPARING   coordinator: DECIDE
    ACTIVE     --CommitAsked, something outside---> PREPARING   coordinator: PREPARE
    PREPARING  --Prepared-------------------------> PREPARING   coordinator: DECIDE
    PREPARING  --Decided--------------------------> COMMITTED   coordinator: ANNOUNCE
    PREPARING  --AnswerLost-----------------------> IN_DOUBT    coordinator: ABANDON
    ACTIVE     --RollbackAsked--------------------> ROLLED_BACK coordinator: UNDO, RECORD
    ACTIVE     --Failed---------------------------> FAILED      coordinator: UNDO, RECORD
    PREPARING  --Failed---------------------------> FAILED      coordinator: UNDO, RECORD
    ACTIVE     --NothingToDo----------------------> COMMITTED   coordinator: UNDO; a unit without writes leaves no row
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Final


class State(StrEnum):
    """Where a unit stands; see the module's text for what may be trusted in each."""

    ACTIVE = "active"
    PREPARING = "preparing"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"


class Event(Enum):
    """A fact that has happened."""

    COMMIT_ASKED = "the block ended well; no store has bytes outside the ledger"
    COMMIT_ASKED_OUTSIDE = "the block ended well; some store has bytes to make durable outside the ledger"
    NOTHING_TO_DO = "the block ended well and wrote nothing"
    PREPARED = "all bytes outside the ledger are durable"
    DECIDED = "the ledger's commit returned: the decision is durable"
    ANSWER_LOST = "the ledger's commit neither returned nor surely failed"
    ROLLBACK_ASKED = "the caller wants none of it"
    FAILED = "an error ended the unit before its decision"


class Effect(Enum):
    """Something the coordinator has to do now."""

    PREPARE = "make bytes outside the ledger durable"
    DECIDE = "write everything in one ledger transaction and commit it"
    ANNOUNCE = "keep how long it took, to be written later"
    UNDO = "roll back the open transaction, if any"
    RECORD = "leave a row that says how the unit ended"
    ABANDON = "drop the connection whose answer is lost"


FINAL: Final = frozenset({State.COMMITTED, State.ROLLED_BACK, State.FAILED, State.IN_DOUBT})

_TABLE: Final[dict[tuple[State, Event], tuple[State, tuple[Effect, ...]]]] = {
    (State.ACTIVE, Event.COMMIT_ASKED): (State.PREPARING, (Effect.DECIDE,)),
    (State.ACTIVE, Event.COMMIT_ASKED_OUTSIDE): (State.PREPARING, (Effect.PREPARE,)),
    (State.ACTIVE, Event.NOTHING_TO_DO): (State.COMMITTED, (Effect.UNDO,)),
    (State.ACTIVE, Event.ROLLBACK_ASKED): (State.ROLLED_BACK, (Effect.UNDO, Effect.RECORD)),
    (State.ACTIVE, Event.FAILED): (State.FAILED, (Effect.UNDO, Effect.RECORD)),
    (State.PREPARING, Event.PREPARED): (State.PREPARING, (Effect.DECIDE,)),
    (State.PREPARING, Event.DECIDED): (State.COMMITTED, (Effect.ANNOUNCE,)),
    (State.PREPARING, Event.ANSWER_LOST): (State.IN_DOUBT, (Effect.ABANDON,)),
    (State.PREPARING, Event.FAILED): (State.FAILED, (Effect.UNDO, Effect.RECORD)),
}


class IllegalTransitionError(AssertionError):
    """The coordinator reported an event that its state cannot meet: a defect of this library, never of its caller."""


def step(state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
    """Return the state after `event` and what has to be done now.

    Raises:
        IllegalTransitionError: no such transition exists.
    """
    try:
        after, effects = _TABLE[state, event]
    except KeyError:
        raise IllegalTransitionError(f"{event.name} cannot happen to a unit that is {state}.") from None
    check(state, event, after, effects)
    return after, effects


def check(state: State, event: Event, after: State, effects: tuple[Effect, ...]) -> None:
    """Assert promises 1 to 6 for one transition; the tests run it over the whole table."""
    assert state not in FINAL, "promise 5"  # noqa: S101 - this function is an executable definition
    assert (after is State.COMMITTED) == (event in (Event.DECIDED, Event.NOTHING_TO_DO)), "promise 1"  # noqa: S101
    if Effect.DECIDE in effects:
        assert event in (Event.COMMIT_ASKED, Event.PREPARED), "promise 2"  # noqa: S101
    if Effect.ANNOUNCE in effects:
        assert event is Event.DECIDED, "promise 3"  # noqa: S101
    if event is Event.DECIDED:
        assert Effect.UNDO not in effects, "promise 4"  # noqa: S101
    assert (after is State.ROLLED_BACK) == (event is Event.ROLLBACK_ASKED), "promise 4"  # noqa: S101
    assert (after is State.FAILED) == (event is Event.FAILED), "promise 4"  # noqa: S101
    if after in (State.FAILED, State.ROLLED_BACK):
        assert effects[:1] == (Effect.UNDO,), "promise 4"  # noqa: S101
    assert (after is State.IN_DOUBT) == (event is Event.ANSWER_LOST), "promise 6"  # noqa: S101
    if after is State.IN_DOUBT:
        assert Effect.RECORD not in effects, "promise 6"  # noqa: S101


def transitions() -> dict[tuple[State, Event], tuple[State, tuple[Effect, ...]]]:
    """Return a copy of the whole table, for tests and documentation."""
    return dict(_TABLE)
