"""The commit protocol as a model: every run of it keeps the promises and ends, and seeded faults are found."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from memoryos_uow._protocol import transitions
from tests.model.checking import (
    DECIDED_ELSEWHERE,
    FAULTS,
    FAULTS_ELSEWHERE,
    LAST_RESOURCE,
    LIVENESS,
    MODEL,
    ONE_RECOVERER,
    SAFETY,
    SMALL,
    STUCK,
    check,
    why_not,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.model.checking import Configuration

needs_spin = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

MODELS = {model: model.read_text(encoding="utf-8").split("*/", 1) for model in (MODEL, LAST_RESOURCE)}
ROW = re.compile(r"^ \* +([+-]) (\w+) (\w+) -> (\w+): ([A-Z_ ]+)$", re.MULTILINE)
TABLE = [(*row, body) for head, body in MODELS.values() for row in ROW.findall(head)]


def name_of(one: Configuration) -> str:
    """A configuration as a test id."""
    return one.name.replace(" ", "-")


@needs_spin
@pytest.mark.parametrize("configuration", SAFETY, ids=name_of)
def test_no_run_breaks_a_promise(configuration: Configuration, tmp_path: Path) -> None:
    """In no run of two units, whatever crashes or is lost where, any of the promises S1 to S5 is broken."""
    found = check(configuration, tmp_path)
    assert (found.errors, found.complete) == (0, True), found.output
    assert found.states > 1_000_000
    if configuration is ONE_RECOVERER:  # the other one leaves out lost answers
        assert set(found.unreached) == {'"-end-"'}, "a part of the model is dead"


@needs_spin
@pytest.mark.parametrize("configuration", LIVENESS, ids=name_of)
def test_every_run_comes_to_rest(configuration: Configuration, tmp_path: Path) -> None:
    """Whatever crashes or is lost where, both units are settled and forgotten in the end, and nothing is left over."""
    found = check(configuration, tmp_path, liveness=True)
    assert (found.errors, found.complete) == (0, True), found.output
    assert found.states > 1_000_000


@needs_spin
@pytest.mark.parametrize("fault", FAULTS)
def test_each_seeded_fault_is_found(fault: str, tmp_path: Path) -> None:
    """A protocol with one of these faults breaks a promise, or comes never to rest, and the search says so."""
    assert check(SMALL, tmp_path, liveness=fault in STUCK, fault=fault).errors >= 1


@needs_spin
@pytest.mark.parametrize("liveness", [False, True], ids=["safety", "liveness"])
def test_a_unit_that_another_database_decides(tmp_path: Path, *, liveness: bool) -> None:
    """Whatever crashes or is lost where, ledger and database agree in the end, and nobody has claimed otherwise."""
    found = check(DECIDED_ELSEWHERE, tmp_path, liveness=liveness)
    assert (found.errors, found.complete) == (0, True), found.output
    assert found.states > 10_000


@needs_spin
@pytest.mark.parametrize("fault", FAULTS_ELSEWHERE)
def test_each_seeded_fault_of_it_is_found(fault: str, tmp_path: Path) -> None:
    """Deciding elsewhere with one of these faults breaks a promise, or comes never to rest."""
    assert check(DECIDED_ELSEWHERE, tmp_path, liveness=fault in STUCK, fault=fault).errors >= 1


@pytest.mark.parametrize(("model", "faults"), [(MODEL, FAULTS), (LAST_RESOURCE, FAULTS_ELSEWHERE)], ids=["own", "else"])
def test_faults_are_those_of_the_model(model: Path, faults: dict[str, int]) -> None:
    """Each fault of the list is seeded somewhere in the model, and the model has no others."""
    assert set(faults.values()) == {int(number) for number in re.findall(r"BUG [!=]= (\d+)", MODELS[model][1])} - {0}


def test_table_is_the_protocols() -> None:
    """The models know each transition of the protocol as it is, and say which ones they have no step for."""
    said = {(state, event): (after, effects.split()) for _, state, event, after, effects, _ in TABLE}
    assert len(said) == len(TABLE)
    assert said == {
        (state.name, event.name): (after.name, [effect.name for effect in effects])
        for (state, event), (after, effects) in transitions().items()
    }


def test_each_transition_with_a_step_is_named_at_it() -> None:
    """Whatever the table marks as modelled is named, event and effects, in a comment at a step of the model."""
    for mark, _, event, _, effects, body in TABLE:
        comments = " ".join(re.findall(r"/\*.*?\*/", body, re.DOTALL))
        if mark == "+":
            assert event in comments
            assert [effect for effect in effects.split() if effect not in comments] in ([], ["UNDO"])
