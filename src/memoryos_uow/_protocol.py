"""The life of a unit of work, decided without any input or output.

Facts come in as events, what to do goes out as effects; whoever drives the unit carries them out and reports back
with the next event. Nothing here touches a file, a clock or a store, so the with-block, recovery and the simulation
share it.

Promises (numbered; `check` asserts them for every transition when this module is loaded)

1.  A unit is committed if, and only if, the ledger holds its decision: state follows the durable fact.
2.  Bytes outside the ledger are durable before the decision that refers to them is asked for, and the intent to make
    them is in the ledger before they are made: whatever lies outside can be traced to a unit, living or dead.
3.  Nothing is visible to others before the decision.
4.  Before the decision any error, or a wish, ends the unit and leaves nothing of it in any store; after it nothing can
    stop the unit: what is left to do is done by its owner or, later, by whoever recovers.
5.  A final state is left by no event.
6.  When the answer to the decision is lost, neither committed nor failed is claimed until the ledger proves one.
7.  What a recoverer needs is forgotten only after every store has answered.
8.  Another store's commit may decide a unit only once the ledger holds all of it, durable and unseen, so that anybody
    can finish what that store has decided. While that commit's answer is lost, only the store itself is believed.

States, and what may be trusted in each::

    ACTIVE       the block runs; writes are buffered (or lie in an open transaction, invisible to others)
    PREPARING    the block has ended well; bytes outside the ledger are made durable, then the decision is asked for
    PREPARED     the ledger holds all of the unit, unseen; another store's commit, which is the decision, is asked for
    COMMITTED    the decision is durable; some store outside the ledger has not answered yet that it holds its part
    FINISHED     every store holds all of the unit
    ROLLED_BACK  the caller asked for it; no store holds anything of the unit
    FAILED       an error ended it, or its process died before the decision; no store holds anything of the unit
    IN_DOUBT     the decision was asked for and its answer did not arrive
    FOUND        a recoverer has come upon the unit's row and does not know more

Transitions, and what whoever drives the unit has to do::

    ACTIVE     --nothing to do-----------> FINISHED     UNDO                (a unit without writes leaves no row)
    ACTIVE     --commit asked------------> PREPARING    DECIDE
    ACTIVE     --commit asked, outside---> PREPARING    RECORD_INTENT
    PREPARING  --intent recorded---------> PREPARING    PREPARE
    PREPARING  --prepared----------------> PREPARING    DECIDE
    PREPARING  --decided-----------------> FINISHED     ANNOUNCE
    PREPARING  --decided, more to do-----> COMMITTED    ANNOUNCE, PUBLISH
    COMMITTED  --published---------------> FINISHED     FORGET
    COMMITTED  --store silent------------> COMMITTED    RECORD_SILENCE      (listed as in doubt; recovery tries again)
    PREPARING  --answer lost-------------> IN_DOUBT     PROVE_GONE
    PREPARING  --held--------------------> PREPARING    SAVE                (a store with LAST_RESOURCE decides)
    PREPARING  --saved-------------------> PREPARED     DECIDE_ELSEWHERE
    PREPARED   --decided-----------------> FINISHED     ANNOUNCE
    PREPARED   --decided, more to do-----> COMMITTED    ANNOUNCE, PUBLISH
    PREPARED   --answer lost-------------> IN_DOUBT     ASK
    PREPARED   --failed------------------> FAILED       UNDO, ABANDON, RECORD
    IN_DOUBT   --proven gone-------------> FAILED       ABANDON             (that proof is the unit's row)
    IN_DOUBT   --decision found----------> COMMITTED    ANNOUNCE, PUBLISH
    ACTIVE     --rollback asked----------> ROLLED_BACK  UNDO, RECORD
    ACTIVE     --failed------------------> FAILED       UNDO, RECORD
    PREPARING  --failed------------------> FAILED       UNDO, ABANDON, RECORD
    FOUND      --decision found----------> COMMITTED    PUBLISH
    FOUND      --no decision found-------> FAILED       ABANDON, RECORD     (presumed abort)
    FOUND      --undecided found---------> IN_DOUBT     ASK                 (all of it was saved: the store knows)
"""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class State(StrEnum):
    """Where a unit stands; see the module's text for what may be trusted in each."""

    ACTIVE = "active"
    PREPARING = "preparing"
    PREPARED = "prepared"
    COMMITTED = "committed"
    FINISHED = "finished"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    FOUND = "found"

    __hash__ = str.__hash__  # what enumerations have is a function in Python, and each transition is looked up by this


class Event(Enum):
    """A fact that has happened."""

    NOTHING_TO_DO = "the block ended well and wrote nothing"
    COMMIT_ASKED = "the block ended well; nothing has to be made outside the ledger"
    COMMIT_ASKED_OUTSIDE = "the block ended well; some store has bytes to make durable outside the ledger"
    INTENT_RECORDED = "the ledger says which bytes this unit is about to make outside"
    PREPARED = "all bytes outside the ledger are durable"
    HELD = "they are, and the store that will decide holds its part in an open transaction"
    SAVED = "the ledger holds all of the unit, durable and unseen"
    DECIDED = "the deciding commit returned, and the ledger's, and with it every store holds its part"
    DECIDED_WITH_MORE = "the deciding commit returned, and the ledger's; stores outside have to publish their part"
    PUBLISHED = "every store outside has answered that it holds its part"
    STORE_SILENT = "a store outside could not answer"
    ANSWER_LOST = "the deciding commit neither returned nor surely failed"
    PROVEN_GONE = "a later durable write in the same place shows that the earlier one is not there"
    ROLLBACK_ASKED = "the caller wants none of it"
    FAILED = "an error ended the unit before its decision"
    DECISION_FOUND = "the ledger holds the decision of a unit whose owner is gone"
    UNDECIDED_FOUND = "the ledger holds all of a unit, unseen, whose owner is gone: another store was to decide"
    NO_DECISION_FOUND = "the ledger holds the intent, but no decision, of a unit whose owner is gone"

    __hash__ = object.__hash__  # as for State


class Effect(Enum):
    """Something to do now."""

    RECORD_INTENT = "write into the ledger what is about to be made outside, and who is at it"
    PREPARE = "make bytes outside the ledger durable"
    DECIDE = "write everything in one ledger transaction and commit it"
    SAVE = "keep all of the unit in the ledger, durable and unseen"
    DECIDE_ELSEWHERE = "write everything in one ledger transaction, have the other store commit, then commit it"
    ASK = "find out for good what became of the other store's commit, and do in the ledger what follows"
    ANNOUNCE = "keep how long it took, to be written later"
    PUBLISH = "have stores outside the ledger show what was decided"
    FORGET = "remove what a recoverer would have needed"
    RECORD_SILENCE = "write down which store did not answer, for recovery and for people"
    PROVE_GONE = "write the failure durably over what may be left of the lost commit"
    UNDO = "roll back the open transaction, if any"
    ABANDON = "remove what was made outside the ledger"
    RECORD = "leave a row that says how the unit ended, and forget its intent"

    __hash__ = object.__hash__  # as for State


FINAL: Final = frozenset({State.FINISHED, State.ROLLED_BACK, State.FAILED})
UNDECIDED: Final = frozenset({State.ACTIVE, State.PREPARING, State.PREPARED})
"""States in which an error ends the unit."""
DECIDED: Final = frozenset({State.COMMITTED, State.FINISHED})
"""States in which the decision is durable, or there was nothing to decide."""

_TABLE: Final[dict[tuple[State, Event], tuple[State, tuple[Effect, ...]]]] = {
    (State.ACTIVE, Event.NOTHING_TO_DO): (State.FINISHED, (Effect.UNDO,)),
    (State.ACTIVE, Event.COMMIT_ASKED): (State.PREPARING, (Effect.DECIDE,)),
    (State.ACTIVE, Event.COMMIT_ASKED_OUTSIDE): (State.PREPARING, (Effect.RECORD_INTENT,)),
    (State.PREPARING, Event.INTENT_RECORDED): (State.PREPARING, (Effect.PREPARE,)),
    (State.PREPARING, Event.PREPARED): (State.PREPARING, (Effect.DECIDE,)),
    (State.PREPARING, Event.DECIDED): (State.FINISHED, (Effect.ANNOUNCE,)),
    (State.PREPARING, Event.DECIDED_WITH_MORE): (State.COMMITTED, (Effect.ANNOUNCE, Effect.PUBLISH)),
    (State.COMMITTED, Event.PUBLISHED): (State.FINISHED, (Effect.FORGET,)),
    (State.COMMITTED, Event.STORE_SILENT): (State.COMMITTED, (Effect.RECORD_SILENCE,)),
    (State.PREPARING, Event.ANSWER_LOST): (State.IN_DOUBT, (Effect.PROVE_GONE,)),
    (State.PREPARING, Event.HELD): (State.PREPARING, (Effect.SAVE,)),
    (State.PREPARING, Event.SAVED): (State.PREPARED, (Effect.DECIDE_ELSEWHERE,)),
    (State.PREPARED, Event.DECIDED): (State.FINISHED, (Effect.ANNOUNCE,)),
    (State.PREPARED, Event.DECIDED_WITH_MORE): (State.COMMITTED, (Effect.ANNOUNCE, Effect.PUBLISH)),
    (State.PREPARED, Event.ANSWER_LOST): (State.IN_DOUBT, (Effect.ASK,)),
    (State.PREPARED, Event.FAILED): (State.FAILED, (Effect.UNDO, Effect.ABANDON, Effect.RECORD)),
    (State.IN_DOUBT, Event.PROVEN_GONE): (State.FAILED, (Effect.ABANDON,)),
    (State.IN_DOUBT, Event.DECISION_FOUND): (State.COMMITTED, (Effect.ANNOUNCE, Effect.PUBLISH)),
    (State.ACTIVE, Event.ROLLBACK_ASKED): (State.ROLLED_BACK, (Effect.UNDO, Effect.RECORD)),
    (State.ACTIVE, Event.FAILED): (State.FAILED, (Effect.UNDO, Effect.RECORD)),
    (State.PREPARING, Event.FAILED): (State.FAILED, (Effect.UNDO, Effect.ABANDON, Effect.RECORD)),
    (State.FOUND, Event.DECISION_FOUND): (State.COMMITTED, (Effect.PUBLISH,)),
    (State.FOUND, Event.NO_DECISION_FOUND): (State.FAILED, (Effect.ABANDON, Effect.RECORD)),
    (State.FOUND, Event.UNDECIDED_FOUND): (State.IN_DOUBT, (Effect.ASK,)),
}

_DECISIONS: Final = frozenset(
    {Event.DECIDED, Event.DECIDED_WITH_MORE, Event.DECISION_FOUND, Event.PUBLISHED, Event.STORE_SILENT}
)

_FAILURES: Final = frozenset({Event.FAILED, Event.PROVEN_GONE, Event.NO_DECISION_FOUND})
_ANSWERS: Final = frozenset({Event.DECIDED, Event.DECIDED_WITH_MORE, Event.ANSWER_LOST})
_ASKING: Final = frozenset({State.PREPARING, State.PREPARED})
_DOUBTS: Final = frozenset({Event.ANSWER_LOST, Event.UNDECIDED_FOUND})
_UNDONE: Final = frozenset({State.FAILED, State.ROLLED_BACK})


class IllegalTransitionError(AssertionError):
    """Whoever drives a unit reported an event that its state cannot meet: a defect of this library."""


def step(state: State, event: Event) -> tuple[State, tuple[Effect, ...]]:
    """Return the state after `event` and what has to be done now.

    Raises:
        IllegalTransitionError: no such transition exists.
    """
    try:
        return _TABLE[state, event]
    except KeyError:
        raise IllegalTransitionError(f"{event.name} cannot happen to a unit that is {state}.") from None


def check(state: State, event: Event, after: State, effects: tuple[Effect, ...]) -> None:
    """Assert the promises for one transition; the tests run it over the whole table and over seeded mistakes."""
    _promise(1, (after in DECIDED) == (event in _DECISIONS or event is Event.NOTHING_TO_DO))
    _promise(1, state in _ASKING or event not in _ANSWERS)
    _promise(1, state is State.COMMITTED or event not in (Event.PUBLISHED, Event.STORE_SILENT))
    if Effect.DECIDE in effects:
        _promise(2, event in (Event.COMMIT_ASKED, Event.PREPARED))
    if Effect.PREPARE in effects:
        _promise(2, event is Event.INTENT_RECORDED)
    if {Effect.PUBLISH, Effect.ANNOUNCE} & set(effects):
        _promise(3, event in _DECISIONS)
    _promise(4, (after is State.ROLLED_BACK) == (event is Event.ROLLBACK_ASKED))
    _promise(4, (after is State.FAILED) == (event in _FAILURES))
    if after in _UNDONE:
        _promise(4, state is State.ACTIVE or Effect.ABANDON in effects)
        _promise(4, state in (State.IN_DOUBT, State.FOUND) or effects[:1] == (Effect.UNDO,))
    elif event is not Event.NOTHING_TO_DO:
        _promise(4, not {Effect.UNDO, Effect.ABANDON, Effect.RECORD} & set(effects))
    _promise(4, state is not State.COMMITTED or after in DECIDED)
    _promise(4, (after is State.COMMITTED and event is not Event.STORE_SILENT) == (Effect.PUBLISH in effects))
    _promise(5, state not in FINAL)
    _promise(6, (after is State.IN_DOUBT) == (event in _DOUBTS))
    if state is State.IN_DOUBT:
        _promise(6, event in (Event.PROVEN_GONE, Event.DECISION_FOUND))
    if Effect.FORGET in effects:
        _promise(7, event is Event.PUBLISHED)
    _promise(7, after is not State.FINISHED or event in (Event.NOTHING_TO_DO, Event.DECIDED, Event.PUBLISHED))
    _promise(8, (after is State.PREPARED) == (event is Event.SAVED))
    _promise(8, (Effect.DECIDE_ELSEWHERE in effects) == (event is Event.SAVED))
    _promise(8, (Effect.SAVE in effects) == (event is Event.HELD))
    if after is State.IN_DOUBT:
        _promise(8, effects == ((Effect.PROVE_GONE,) if state is State.PREPARING else (Effect.ASK,)))


def _promise(number: int, holds: bool) -> None:  # noqa: FBT001 - it reads as a sentence
    if not holds:
        raise AssertionError(f"Promise {number} of the protocol is broken.")


def check_all(table: Mapping[tuple[State, Event], tuple[State, tuple[Effect, ...]]]) -> None:
    """Assert the promises for every transition of `table`."""
    for (state, event), (after, effects) in table.items():
        check(state, event, after, effects)


check_all(_TABLE)  # a table that breaks a promise drives no unit at all


def transitions() -> dict[tuple[State, Event], tuple[State, tuple[Effect, ...]]]:
    """Return a copy of the whole table, for tests, documents and models."""
    return dict(_TABLE)
