"""What a unit on PostgreSQL asks of the network, counted: noise cannot touch these numbers. They never go up."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger
from memoryos_uow.engines import _pg_transaction, _pg_wire
from memoryos_uow.stores import DocumentStore, VectorStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from memoryos_uow.engines._pg_wire import Answered, Statement

ROUND_TRIPS = 2
"""The records, whose answer says whether somebody was faster; then all the rest with the COMMIT."""
STATEMENTS = 6
"""BEGIN, the records, the unit's row, its writes, its line for the receipt log, COMMIT: however many writes it has."""
NUMBERING_STATEMENTS = 15
"""Of a turn that numbers units, however many."""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """By each round trip: the name of the thread, and what it sent."""
    trips: list[tuple[str, list[str]]] = []
    original: Callable[[Any, Sequence[Statement]], list[Answered]] = _pg_wire.exchange

    def exchange(connection: Any, statements: Sequence[Statement]) -> list[Answered]:
        trips.append((threading.current_thread().name, [statement.text for statement in statements]))
        return original(connection, statements)

    monkeypatch.setattr(_pg_transaction, "exchange", exchange)
    return trips


@pytest.fixture
def ledger(pg_url: str) -> Iterator[Ledger]:
    """A ledger that has taken its numbers already."""
    stores = [DocumentStore("notes"), VectorStore("vectors", dimensions=2)]
    with Ledger.open(pg_url, stores=stores, durability="normal") as opened:
        write(opened, "first", 3)
        with opened.unit(space_id="s", band="GREEN") as uow:
            uow.publish("topic", "first")
        yield opened


def write(ledger: Ledger, name: str, documents: int) -> None:
    """Commit a unit of so many new documents."""
    with ledger.unit(space_id="s", band="GREEN") as uow:
        for number in range(documents):
            uow["notes"].upsert(f"{name}-{number}", {"n": number})


def by_this_thread(sent: list[tuple[str, list[str]]]) -> list[list[str]]:
    """What the unit itself has sent, and not the thread that numbers it."""
    return [statements for name, statements in sent if name == threading.current_thread().name]


@pytest.mark.parametrize("documents", [1, 3, 300])
def test_a_unit_takes_two_round_trips(ledger: Ledger, sent: list[tuple[str, list[str]]], documents: int) -> None:
    """However many documents it writes."""
    write(ledger, "counted", documents)
    trips = by_this_thread(sent)
    assert len(trips) <= ROUND_TRIPS, trips
    assert sum(map(len, trips)) <= STATEMENTS, trips


def test_a_second_store_is_one_more(ledger: Ledger, sent: list[tuple[str, list[str]]]) -> None:
    """Each store's records are a statement and an answer, in whatever order they come; messages are a statement."""
    with ledger.unit(space_id="s", band="GREEN") as uow:
        for number in range(50):
            uow["notes"].upsert(f"n{number}", {"n": number})
            uow["vectors"].upsert(f"v{number}", [number, 1])
            uow.publish("topic", number)
    trips = by_this_thread(sent)
    assert len(trips) <= ROUND_TRIPS + 1, trips
    assert sum(map(len, trips)) <= STATEMENTS + 2, trips


def test_a_unit_that_writes_nothing_asks_nothing(ledger: Ledger, sent: list[tuple[str, list[str]]]) -> None:
    """No round trip at all."""
    with ledger.unit(space_id="s", band="GREEN"):
        pass
    assert by_this_thread(sent) == []


def test_numbering_takes_as_many_statements_for_many_units(ledger: Ledger, sent: list[tuple[str, list[str]]]) -> None:
    """Units are numbered together: a turn for a hundred sends what a turn for one sends."""
    sequencer = ledger._opened.coordinator.sequencer
    assert sequencer is not None
    assert sequencer.settle()
    counted = {}
    for units in (1, 100):
        with sequencer.pause():
            for number in range(units):
                write(ledger, f"{units}-{number}", 1)
            sent.clear()
            sequencer.number_all()
            counted[units] = sum(map(len, by_this_thread(sent)))
    assert counted[100] <= counted[1] <= NUMBERING_STATEMENTS, counted
