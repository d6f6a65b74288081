"""Many units at once on a ledger in PostgreSQL: threads, processes and tasks, none of which loses another's update."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest

from memoryos_uow import AsyncLedger, Ledger
from memoryos_uow._lanes import LANES_AT_ONCE_MAX, lanes_of
from memoryos_uow.errors import ConflictError, LedgerBusy, UnitTimeout
from memoryos_uow.stores import DocumentStore
from tests.processes import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memoryos_uow.aio import AsyncUnitOfWork
    from memoryos_uow.unit import UnitOfWork

_COUNTING = """
import sys
from memoryos_uow import Ledger
from memoryos_uow.stores import DocumentStore
def add(uow):
    found = uow["notes"].get("counter")
    uow["notes"].update("counter", {"n": found["n"] + 1})
with Ledger.open(sys.argv[1], stores=[DocumentStore("notes")]) as ledger:
    for _ in range(int(sys.argv[2])):
        ledger.run(add, space_id="s", band="GREEN", attempts=10_000)
"""


@pytest.fixture
def ledger(pg_url: str) -> Iterator[Ledger]:
    """A new ledger in PostgreSQL with one document store."""
    with Ledger.open(pg_url, stores=[DocumentStore("notes")], busy_timeout=20) as opened:
        yield opened


def put(ledger: Ledger, key: str, **value: object) -> None:
    """Write one document in a unit of its own."""
    with ledger.unit(space_id="s", band="GREEN") as uow:
        uow["notes"].upsert(key, value)


def test_a_thousand_read_modify_writes_of_four_processes(ledger: Ledger, pg_url: str) -> None:
    """None is lost: whoever was slower runs again."""
    put(ledger, "counter", n=0)
    command = [sys.executable, "-c", _COUNTING, pg_url, "250"]
    children = [subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for child in children:
        _, said = child.communicate()
        assert child.returncode == 0, said
    assert ledger["notes"].get("counter", space_id="s") == {"n": 1000}


def test_a_unit_that_read_what_was_changed_is_told(ledger: Ledger) -> None:
    """Before it writes anything; nothing of it is there."""
    put(ledger, "n", n=0)
    with pytest.raises(ConflictError) as caught, ledger.unit(space_id="s", band="GREEN") as uow:
        seen = uow["notes"].get("n")
        in_thread(lambda: put(ledger, "n", n=7))
        uow["notes"].update("n", {"n": seen["n"] + 1})
        uow["notes"].upsert("other", {})
    assert caught.value.retryable
    assert ledger["notes"].get("n", space_id="s") == {"n": 7}
    assert ledger["notes"].get("other", space_id="s") is None


def in_thread(call: object) -> None:
    """Call it in another thread, and wait."""
    thread = threading.Thread(target=call)  # type: ignore[arg-type]
    thread.start()
    thread.join()


def test_a_unit_inside_another_ones_block(ledger: Ledger, pg_url: str) -> None:
    """They are two transactions: with other records both commit, with the same one the inner is busy, not stuck."""
    with Ledger.open(pg_url, stores=[DocumentStore("notes")], busy_timeout=0.05) as impatient:
        with ledger.unit(space_id="s", band="GREEN") as outer:
            outer["notes"].upsert("n", {"by": "outer"})
            outer.sql("SELECT 1")
            with impatient.unit(space_id="s", band="GREEN", nested="independent") as inner:
                inner["notes"].upsert("m", {"by": "inner"})
            with (
                pytest.raises(LedgerBusy),
                impatient.unit(space_id="s", band="GREEN", nested="independent") as inner,
            ):
                inner["notes"].upsert("n", {"by": "inner"})
            assert inner.status == "failed"
        assert outer.status == "committed"
    assert ledger["notes"].get("n", space_id="s") == {"by": "outer"}
    assert ledger["notes"].get("m", space_id="s") == {"by": "inner"}


def test_a_deadline_bounds_the_wait_for_a_row(ledger: Ledger, pg_url: str) -> None:
    """Not the ledger's much longer time; the error is that of the deadline."""
    put(ledger, "n", n=0)
    with psycopg.connect(pg_url) as stranger:
        stranger.execute("UPDATE uow_documents SET key = key WHERE key = 'n'")
        with pytest.raises(UnitTimeout) as caught, ledger.unit(space_id="s", band="GREEN", timeout=0.05) as uow:
            uow["notes"].upsert("n", {"n": 1})
        assert caught.value.retryable
        assert uow.status == "failed"
        stranger.rollback()
    assert ledger["notes"].get("n", space_id="s") == {"n": 0}


def test_a_hundred_async_units_at_once(pg_url: str) -> None:
    """They run side by side, as many as there are lanes, and a counter that all of them change is exact."""

    async def main() -> None:
        async with AsyncLedger.open(pg_url, stores=[DocumentStore("notes")]) as ledger:
            async with ledger.unit(space_id="s", band="GREEN") as uow:
                uow["notes"].create("counter", {"n": 0})

            async def one(number: int) -> None:
                async with ledger.unit(space_id="s", band="GREEN") as uow:
                    uow["notes"].create(f"k{number}", {"n": number})
                    await uow.sql("SELECT 1")
                    await uow["notes"].get("counter")

            async def add(uow: AsyncUnitOfWork) -> None:
                found = await uow["notes"].get("counter")
                uow["notes"].update("counter", {"n": found["n"] + 1})

            await asyncio.gather(*(one(number) for number in range(100)))
            await asyncio.gather(*(ledger.run(add, space_id="s", band="GREEN", attempts=10_000) for _ in range(30)))
            assert await ledger["notes"].get("counter", space_id="s") == {"n": 30}
            found = [await ledger["notes"].get(f"k{number}", space_id="s") for number in range(100)]
            assert found == [{"n": number} for number in range(100)]
            assert len(lanes_of(ledger._opened)._made) <= LANES_AT_ONCE_MAX

    asyncio.run(main())


def test_an_async_unit_inside_another_ones_block(pg_url: str) -> None:
    """The task holds no lock that it could wait for: both commit."""

    async def main() -> None:
        async with AsyncLedger.open(pg_url, stores=[DocumentStore("notes")]) as ledger:
            async with ledger.unit(space_id="s", band="GREEN") as outer:
                outer["notes"].create("a", {})
                await outer.sql("SELECT 1")
                async with ledger.unit(space_id="s", band="GREEN", nested="independent") as inner:
                    inner["notes"].create("b", {})
                    await inner.sql("SELECT 1")
            assert (outer.status, inner.status) == ("committed", "committed")

    asyncio.run(main())


def test_units_of_threads_run_side_by_side(ledger: Ledger) -> None:
    """Two that hold their transactions open at the same moment: neither waits for the other."""
    met = threading.Barrier(2, timeout=30)

    def work(number: int) -> None:
        def body(uow: UnitOfWork) -> None:
            uow["notes"].upsert(f"k{number}", {})
            uow.sql("SELECT 1")
            met.wait()

        ledger.run(body, space_id="s", band="GREEN")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ledger["notes"].keys(space_id="s")) == ["k0", "k1"]
