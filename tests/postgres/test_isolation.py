"""Units at the same time on PostgreSQL: what the two isolations promise, of ledgers that do not know of each other."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger
from memoryos_uow.stores import DocumentStore, TableStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memoryos_uow import UnitOfWork

HOME: dict[str, Any] = {"space_id": "s", "band": "GREEN"}


@pytest.fixture
def ledgers(pg_emptied_url: str) -> Iterator[list[Ledger]]:
    """Three ledgers on one database, as three processes have them."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                Ledger.open(
                    pg_emptied_url,
                    stores=[
                        DocumentStore("notes", search=["text"]),
                        TableStore("t", key="id", columns={"id": "TEXT", "n": "INTEGER"}),
                    ],
                )
            )
            for _ in range(3)
        ]


def at_once(calls: list[Callable[[], object]]) -> None:
    """Make calls in threads of their own; raise what one of them raised."""
    problems: list[BaseException] = []

    def guarded(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised below
            problems.append(error)

    threads = [threading.Thread(target=guarded, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for problem in problems:
        raise problem


@pytest.mark.parametrize("store", ["notes", "t"])
def test_no_update_is_lost(ledgers: list[Ledger], store: str) -> None:
    """Units that read a record and write it back: each sees what the one before it wrote."""
    with ledgers[0].unit(**HOME) as uow:
        uow[store].create("k", {"n": 0})

    def add(uow: UnitOfWork) -> None:
        uow[store].update("k", {"n": uow[store].get("k")["n"] + 1})

    def often(ledger: Ledger) -> None:
        for _ in range(8):
            ledger.run(add, **HOME, attempts=1_000)

    at_once([partial(often, ledger) for ledger in ledgers])
    assert ledgers[0][store].get("k", space_id="s")["n"] == 24


def test_serializable_units_exclude_write_skew(ledgers: list[Ledger]) -> None:
    """Two read both records and each takes one away, so that one is left: never both."""
    for number in range(6):
        with ledgers[0].unit(**HOME) as uow:
            uow["notes"].upsert("a", {"there": True})
            uow["notes"].upsert("b", {"there": True})
        together = threading.Barrier(2)

        attempts = {"a": 0, "b": 0}

        def one(ledger: Ledger, mine: str, together: threading.Barrier) -> None:
            def body(uow: UnitOfWork) -> None:
                seen = [uow["notes"].get(key)["there"] for key in "ab"]
                attempts[mine] += 1  # noqa: B023 - run within this round
                if attempts[mine] == 1:  # noqa: B023
                    together.wait(10)
                if all(seen):
                    uow["notes"].update(mine, {"there": False})

            ledger.run(body, **HOME, isolation="serializable", attempts=1_000)

        at_once([partial(one, ledgers[1], "a", together), partial(one, ledgers[2], "b", together)])
        left = [ledgers[0]["notes"].get(key, space_id="s")["there"] for key in "ab"]
        assert sorted(left) == [False, True], number


def test_serializable_units_exclude_phantoms(ledgers: list[Ledger]) -> None:
    """Two search, find nothing, and write what they would have found: only one of them."""
    for number in range(5):
        together = threading.Barrier(2)
        attempts = {1: 0, 2: 0}

        def one(which: int, number: int, together: threading.Barrier, attempts: dict[int, int]) -> None:
            def body(uow: UnitOfWork) -> None:
                hits = uow["notes"].search(f"round{number}")
                attempts[which] += 1
                if attempts[which] == 1:
                    together.wait(10)
                if not hits:
                    uow["notes"].create(f"{number}-{which}", {"text": f"round{number}"})

            ledgers[which].run(body, **HOME, isolation="serializable", attempts=1_000)

        at_once([partial(one, which, number, together, attempts) for which in (1, 2)])
        assert len(ledgers[0]["notes"].search(f"round{number}", space_id="s")) == 1


def test_a_reader_sees_whole_units(ledgers: list[Ledger]) -> None:
    """Two records that are always changed together are never seen apart in one serializable unit."""
    with ledgers[0].unit(**HOME) as uow:
        uow["notes"].create_many([("a", 0), ("b", 0)])
    over = threading.Event()

    def write() -> None:
        for number in range(1, 30):
            with ledgers[0].unit(**HOME) as uow:
                uow["notes"].update_many([("a", number), ("b", number)])
        over.set()

    def read(ledger: Ledger) -> None:
        while not over.is_set():
            done = ledger.run(
                lambda uow: (uow["notes"].get("a"), uow["notes"].get("b")),
                **HOME,
                isolation="serializable",
                attempts=99,
            )
            assert done.value[0] == done.value[1]

    at_once([write, lambda: read(ledgers[1]), lambda: read(ledgers[2])])
    assert ledgers[0].verify().ok
