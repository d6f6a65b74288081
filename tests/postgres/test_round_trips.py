"""How often a unit on PostgreSQL has to wait for the server: a number that does not grow with what it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from memoryos_uow import Ledger
from memoryos_uow.stores import DocumentStore
from tests.engines.pg_engines import port_of
from tests.postgres_proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def proxy(pg_url: str) -> Iterator[Proxy]:
    """What counts."""
    made = Proxy(port_of(pg_url))
    yield made
    made.close()


@pytest.fixture
def ledger(pg_url: str, proxy: Proxy) -> Iterator[Ledger]:
    """A ledger that has had its first units, and whose sequencer, which works beside them, is left out."""
    with Ledger.open(proxy.url(pg_url), stores=[DocumentStore("notes"), DocumentStore("more")]) as opened:
        for number in range(8):  # what is prepared takes a way of its own now and then
            write(opened, f"warm{number}", 3)
        sequencer, opened._opened.coordinator.sequencer = opened._opened.coordinator.sequencer, None
        assert sequencer is not None
        sequencer.close(20)
        yield opened


def write(ledger: Ledger, name: str, number: int, *stores: str) -> None:
    """Create so many records in one unit."""
    with ledger.unit(space_id="s", band="GREEN") as uow:
        for store in stores or ("notes",):
            for n in range(number):
                uow[store].create(f"{name}-{n}", {"n": n})


@pytest.mark.parametrize("number", [1, 3, 300])
def test_a_unit_takes_two_round_trips_however_much_it_writes(ledger: Ledger, proxy: Proxy, number: int) -> None:
    """One for the records, one for everything that describes the unit and its commit."""
    assert proxy.count(lambda: write(ledger, "k", number)) == 2


def test_another_store_takes_one_more(ledger: Ledger, proxy: Proxy) -> None:
    """Each is asked whether it could write what it was to."""
    assert proxy.count(lambda: write(ledger, "k", 30, "notes", "more")) == 3


def test_what_is_read_is_one_each(ledger: Ledger, proxy: Proxy) -> None:
    """And that it has not changed is known without asking again, or with one question."""
    write(ledger, "k", 3)

    def change() -> None:
        with ledger.unit(space_id="s", band="GREEN") as uow:
            value = uow["notes"].get("k-0")
            uow["notes"].update("k-0", {**value, "more": True})

    assert proxy.count(change) <= 4


def test_a_unit_that_writes_nothing_asks_nothing(ledger: Ledger, proxy: Proxy) -> None:
    """Its block is free."""

    def nothing() -> None:
        with ledger.unit(space_id="s", band="GREEN"):
            pass

    assert proxy.count(nothing) == 0
