"""The protocol's table, walked as a whole, and its executable promises against seeded mistakes."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import _protocol
from memoryos_uow._protocol import (
    DECIDED,
    FINAL,
    Effect,
    Event,
    IllegalTransitionError,
    State,
    check,
    check_all,
    step,
    transitions,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = transitions()
PAIRS = list(itertools.product(State, Event))
UNDONE = {State.FAILED, State.ROLLED_BACK}


def name_of(pair: tuple[State, Event]) -> str:
    """A pair as a test id."""
    return f"{pair[0]}-{pair[1].name.lower()}"


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair in TABLE], ids=name_of)
def test_legal_pairs_lead_where_the_table_says(pair: tuple[State, Event]) -> None:
    """Each event that a state can meet gives the table's state and effects, and keeps every promise."""
    assert step(*pair) == TABLE[pair]
    check(*pair, *TABLE[pair])


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair not in TABLE], ids=name_of)
def test_illegal_pairs_are_refused(pair: tuple[State, Event]) -> None:
    """Each event that a state cannot meet is refused with both named."""
    with pytest.raises(IllegalTransitionError, match=f"{pair[1].name} cannot happen to a unit that is {pair[0]}"):
        step(*pair)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_final_states_are_left_by_nothing(state: State) -> None:
    """No event leads out of a final state."""
    assert not [pair for pair in TABLE if pair[0] is state]


def test_transitions_hands_out_a_copy() -> None:
    """Whoever changes the table that `transitions` returned does not change the protocol."""
    transitions().clear()
    assert transitions() == TABLE


def test_every_state_is_reached_and_can_end() -> None:
    """Every state is reached from the two beginnings, and from every state some final state is reached."""
    following = {state: {after for (before, _), (after, _) in TABLE.items() if before is state} for state in State}

    def reached_from(*begin: State) -> set[State]:
        seen: set[State] = set()
        waiting = list(begin)
        while waiting:
            state = waiting.pop()
            if state not in seen:
                seen.add(state)
                waiting.extend(following[state])
        return seen

    assert reached_from(State.ACTIVE, State.FOUND) == set(State)
    assert all(reached_from(state) & FINAL for state in State)


def test_the_drawing_is_the_table() -> None:
    """The transitions that the module's text draws are the table's: state, event, next state, effects in order."""
    drawn = []
    for line in (_protocol.__doc__ or "").splitlines():
        arrow = re.match(r"    (\w+) +--([a-z, ]+?)-+> (\w+) +([A-Z_, ]+?)(?: +\(.*\))?$", line)
        if arrow:
            before, words, after, effects = arrow.groups()
            drawn.append((before, words.replace(",", ""), after, effects.split(", ")))
    rows = [(s.name, e, after.name, [effect.name for effect in effects]) for (s, e), (after, effects) in TABLE.items()]
    words_of = {Event.COMMIT_ASKED_OUTSIDE: "commit asked outside", Event.DECIDED_WITH_MORE: "decided more to do"}
    said = [(s, words_of.get(e, e.name.lower().replace("_", " ")), a, f) for s, e, a, f in rows]
    assert sorted(drawn) == sorted(said)


DECIDES = {Effect.DECIDE, Effect.DECIDE_ELSEWHERE}
ANSWERS = {
    Event.INTENT_RECORDED: {Effect.RECORD_INTENT},
    Event.PREPARED: {Effect.PREPARE},
    Event.HELD: {Effect.PREPARE},
    Event.SAVED: {Effect.SAVE},
    Event.DECIDED: DECIDES,
    Event.DECIDED_WITH_MORE: DECIDES,
    Event.ANSWER_LOST: DECIDES,
    Event.PROVEN_GONE: {Effect.PROVE_GONE, Effect.ASK},
    Event.PUBLISHED: {Effect.PUBLISH},
}


def lives(
    state: State, asked: tuple[Effect, ...] = (), longest: int = 9
) -> Iterator[list[tuple[Event, State, tuple[Effect, ...]]]]:
    """Every life of a unit that begins in `state`: all sequences of legal events that answer what was asked."""
    yield []
    if longest:
        for (before, event), (after, effects) in TABLE.items():
            if before is state and (event not in ANSWERS or ANSWERS[event] & set(asked)):
                still = asked if event is Event.STORE_SILENT else effects  # a silent store is asked again
                for rest in lives(after, still, longest - 1):
                    yield [(event, after, effects), *rest]


LIVES = [*lives(State.ACTIVE), *lives(State.FOUND)]


def test_no_life_breaks_the_order_of_things() -> None:
    """In no life bytes are made before their intent is recorded, decided before they are durable, or shown before."""
    assert len(LIVES) > 30
    for life in LIVES:
        done: list[Effect] = []
        for event, _, effects in life:
            for effect in effects:
                assert effect is not Effect.PREPARE or Effect.RECORD_INTENT in done
                assert effect not in DECIDES or Effect.RECORD_INTENT not in done or Effect.PREPARE in done
                assert effect not in DECIDES or not DECIDES & set(done)
                assert effect is not Effect.DECIDE_ELSEWHERE or done[-1] is Effect.SAVE
                assert effect is not Effect.PUBLISH or DECIDES & set(done) or event is Event.DECISION_FOUND
                assert effect is not Effect.FORGET or Effect.PUBLISH in done
                assert effect is not Effect.PROVE_GONE or Effect.DECIDE in done
                assert effect is not Effect.ASK or Effect.DECIDE_ELSEWHERE in done or event is Event.UNDECIDED_FOUND
                done.append(effect)


def test_no_life_takes_a_decision_back() -> None:
    """Once decided a unit stays so, is never undone, and ends finished; an undone one was never decided."""
    for life in LIVES:
        states = [after for _, after, _ in life]
        decided = next((number for number, state in enumerate(states) if state in DECIDED), len(states))
        assert set(states[decided:]) <= DECIDED
        assert not any(
            {Effect.UNDO, Effect.ABANDON, Effect.RECORD} & set(effects) and event is not Event.NOTHING_TO_DO
            for event, _, effects in life[decided:]
        )
        assert not (UNDONE & set(states) and DECIDED & set(states))


def test_a_unit_with_bytes_outside_leaves_none_when_it_ends_undone() -> None:
    """Every life that recorded an intent and ended undone has removed what was made outside."""
    for life in LIVES:
        done = [effect for _, _, effects in life for effect in effects]
        if life and life[-1][1] is State.FAILED and Effect.RECORD_INTENT in done:
            assert Effect.ABANDON in done


A, P, E = State.ACTIVE, State.PREPARING, Event
SEEDED = [
    # Promise 1: state follows the durable fact
    (1, P, E.PREPARED, State.COMMITTED, (Effect.PUBLISH,)),
    (1, P, E.DECIDED, State.PREPARING, (Effect.ANNOUNCE,)),
    (1, A, E.DECIDED, State.FINISHED, (Effect.ANNOUNCE,)),
    (1, A, E.PUBLISHED, State.FINISHED, (Effect.FORGET,)),
    (1, P, E.STORE_SILENT, State.COMMITTED, (Effect.RECORD_SILENCE,)),
    (1, State.FOUND, E.NO_DECISION_FOUND, State.COMMITTED, (Effect.PUBLISH,)),
    # Promise 2: durable, and traceable, before the decision is asked for
    (2, A, E.COMMIT_ASKED_OUTSIDE, State.PREPARING, (Effect.DECIDE,)),
    (2, A, E.COMMIT_ASKED_OUTSIDE, State.PREPARING, (Effect.PREPARE,)),
    (2, P, E.INTENT_RECORDED, State.PREPARING, (Effect.DECIDE,)),
    # Promise 3: nothing is visible before the decision
    (3, P, E.PREPARED, State.PREPARING, (Effect.DECIDE, Effect.PUBLISH)),
    (3, A, E.COMMIT_ASKED, State.PREPARING, (Effect.DECIDE, Effect.ANNOUNCE)),
    # Promise 4: before the decision without trace, after it without way back
    (4, A, E.FAILED, State.ROLLED_BACK, (Effect.UNDO, Effect.RECORD)),
    (4, A, E.ROLLBACK_ASKED, State.FAILED, (Effect.UNDO, Effect.RECORD)),
    (4, A, E.FAILED, State.FAILED, (Effect.RECORD,)),
    (4, A, E.FAILED, State.FAILED, ()),
    (4, P, E.FAILED, State.FAILED, (Effect.UNDO, Effect.RECORD)),
    (4, P, E.FAILED, State.FAILED, (Effect.RECORD, Effect.UNDO, Effect.ABANDON)),
    (4, P, E.DECIDED, State.FINISHED, (Effect.ANNOUNCE, Effect.UNDO)),
    (4, P, E.DECIDED_WITH_MORE, State.COMMITTED, (Effect.ANNOUNCE,)),
    (4, State.FOUND, E.DECISION_FOUND, State.COMMITTED, (Effect.PUBLISH, Effect.ABANDON)),
    (4, State.COMMITTED, E.COMMIT_ASKED, State.PREPARING, (Effect.DECIDE,)),
    (4, State.COMMITTED, E.STORE_SILENT, State.COMMITTED, (Effect.ABANDON,)),
    # Promise 5: a final state is left by no event
    (5, State.FINISHED, E.COMMIT_ASKED, State.PREPARING, (Effect.DECIDE,)),
    (5, State.FAILED, E.PREPARED, State.PREPARING, (Effect.DECIDE,)),
    (5, State.ROLLED_BACK, E.INTENT_RECORDED, State.PREPARING, (Effect.PREPARE,)),
    # Promise 6: nothing is claimed while the answer is lost
    (6, P, E.ANSWER_LOST, State.PREPARING, (Effect.PROVE_GONE,)),
    (6, P, E.PREPARED, State.IN_DOUBT, (Effect.DECIDE,)),
    (6, State.IN_DOUBT, E.FAILED, State.FAILED, (Effect.ABANDON,)),
    (6, State.IN_DOUBT, E.NO_DECISION_FOUND, State.FAILED, (Effect.ABANDON,)),
    # Promise 7: forgotten, and finished, only after every store has answered
    (7, P, E.DECIDED, State.FINISHED, (Effect.ANNOUNCE, Effect.FORGET)),
    (7, State.COMMITTED, E.STORE_SILENT, State.COMMITTED, (Effect.FORGET,)),
    (7, State.COMMITTED, E.STORE_SILENT, State.FINISHED, (Effect.RECORD_SILENCE,)),
    # Promise 8: another store decides only what the ledger holds, and only that store says what became of it
    (8, P, E.HELD, State.PREPARING, (Effect.DECIDE_ELSEWHERE,)),
    (8, P, E.HELD, State.PREPARED, (Effect.SAVE,)),
    (8, P, E.SAVED, State.PREPARED, ()),
    (8, P, E.INTENT_RECORDED, State.PREPARING, (Effect.PREPARE, Effect.SAVE)),
    (8, State.PREPARED, E.ANSWER_LOST, State.IN_DOUBT, (Effect.PROVE_GONE,)),
    (8, State.FOUND, E.UNDECIDED_FOUND, State.IN_DOUBT, ()),
]


@pytest.mark.parametrize(("promise", "state", "event", "after", "effects"), SEEDED)
def test_check_finds_each_seeded_mistake(
    promise: int, state: State, event: Event, after: State, effects: tuple[Effect, ...]
) -> None:
    """A transition that breaks a promise is found, and the promise is named."""
    with pytest.raises(AssertionError, match=f"Promise {promise} "):
        check(state, event, after, effects)


def test_seeds_cover_every_promise() -> None:
    """Each numbered promise of the module's text has its seeded mistakes."""
    numbered = {int(number) for number in re.findall(r"^(\d)\.  ", _protocol.__doc__ or "", re.MULTILINE)}
    assert numbered == {promise for promise, *_ in SEEDED}


def test_a_mistake_in_the_table_is_found_when_it_is_loaded() -> None:
    """With a mistake in the table itself the module cannot be imported: no unit is ever driven by it."""
    path = Path(str(_protocol.__file__))
    right = "(State.PREPARING, Event.PREPARED): (State.PREPARING, (Effect.DECIDE,))"
    wrong = path.read_text(encoding="utf-8").replace(right, "(State.PREPARING, Event.PREPARED): (State.FINISHED, ())")
    assert wrong != path.read_text(encoding="utf-8")
    with pytest.raises(AssertionError, match="Promise 1 "):
        exec(compile(wrong, str(path), "exec"), {"__name__": "wrong"})  # noqa: S102 - the module's own text


def test_every_transition_of_a_table_is_checked() -> None:
    """One wrong transition among all is enough."""
    table = {**TABLE, (State.PREPARING, Event.PREPARED): (State.FINISHED, ())}
    with pytest.raises(AssertionError, match="Promise 1 "):
        check_all(table)
