"""Whose a unit is: one process, thread and task; what a child inherits is not its own, and in nobody's way."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import UsageError
from memoryos_uow._ownership import NOBODY, Owner, on_behalf_of
from tests.processes import forked
from tests.units import SPACE, statuses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memoryos_uow import Ledger, UnitOfWork

HOME: Final[dict[str, Any]] = {"space_id": SPACE, "band": "GREEN"}


def of_a_thread() -> Owner:
    """Who runs in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(Owner.of_this_moment).result()


def test_owners_differ_by_process_thread_and_task() -> None:
    """The same at two moments of one place, another one everywhere else."""

    async def of_a_task() -> Owner:
        return Owner.of_this_moment()

    async def of_two_tasks() -> set[Owner]:
        return {await asyncio.create_task(of_a_task()), await asyncio.create_task(of_a_task()), await of_a_task()}

    here = Owner.of_this_moment()
    assert here == Owner.of_this_moment()
    assert len({here, of_a_thread(), NOBODY, *asyncio.run(of_two_tasks())}) == 6
    assert forked(lambda: Owner.of_this_moment() != here)


def test_a_thread_may_work_for_an_owner() -> None:
    """It then counts as that owner, in a context of its own only."""
    here = Owner.of_this_moment()
    told: list[Owner] = []

    def work() -> None:
        told.append(contextvars.copy_context().run(on_behalf_of, here, Owner.of_this_moment))
        told.append(Owner.of_this_moment())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert told[0] == here
    assert told[1] != here


def test_a_task_group_whose_tasks_have_units_of_their_own(ledger: Ledger) -> None:
    """Each task begins, waits and commits without the others, also inside a parent's open unit."""

    async def work(number: int) -> None:
        with ledger.unit(**HOME) as uow:
            uow["notes"].create(f"n{number}", number)
            await asyncio.sleep(0)
            assert uow["notes"].get(f"n{number}") == number

    async def main() -> None:
        with ledger.unit(**HOME) as outer:
            outer["notes"].create("outer", 1)
            async with asyncio.TaskGroup() as group:
                for number in range(5):
                    group.create_task(work(number))

    asyncio.run(main())
    assert statuses(ledger) == ["committed"] * 6


def test_a_task_group_whose_task_uses_its_parents_unit(ledger: Ledger) -> None:
    """The task is refused, the group ends, and the unit with it: nothing is written."""

    async def work(uow: UnitOfWork) -> None:
        uow["notes"].create("n1", 1)

    async def main() -> None:
        with ledger.unit(**HOME) as uow:
            uow["notes"].create("n0", 0)
            async with asyncio.TaskGroup() as group:
                group.create_task(work(uow))

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(main())
    assert caught.group_contains(UsageError, match="another thread, task or process")
    assert statuses(ledger) == ["failed"]
    assert list(ledger["notes"].keys(space_id=SPACE)) == []


def test_a_thread_that_a_task_sends_work_to_is_refused(ledger: Ledger) -> None:
    """`asyncio.to_thread` copies the context and is another thread all the same."""

    async def main() -> None:
        with ledger.unit(**HOME) as uow:
            with pytest.raises(UsageError, match="another thread"):
                await asyncio.to_thread(uow["notes"].create, "n1", 1)
            await asyncio.to_thread(with_a_unit_of_its_own, ledger)
            uow["notes"].create("n0", 0)

    asyncio.run(main())
    assert statuses(ledger) == ["committed", "committed"]


def with_a_unit_of_its_own(ledger: Ledger) -> None:
    """What a helper thread may do while its caller's unit is open."""
    with ledger.unit(**HOME) as uow:
        uow["notes"].create("helper", 1)


def test_a_copied_context_in_the_same_thread_is_the_same_owner(ledger: Ledger) -> None:
    """So a unit inside is still inside."""
    with ledger.unit(**HOME) as uow:
        with pytest.raises(UsageError, match="open already"):
            contextvars.copy_context().run(with_a_unit_of_its_own, ledger)
        contextvars.copy_context().run(uow["notes"].create, "n1", 1)
    assert uow.status == "committed"


def test_an_empty_context_hides_the_outer_unit(ledger: Ledger) -> None:
    """Whoever takes a new context has said that a separate unit is meant."""
    with ledger.unit(**HOME) as uow:
        uow["notes"].create("n1", 1)
        contextvars.Context().run(with_a_unit_of_its_own, ledger)
    assert statuses(ledger) == ["committed", "committed"]


def test_a_generator_may_be_resumed_in_its_own_thread_only(ledger: Ledger) -> None:
    """A unit that is open while its generator is suspended goes on where it began, and nowhere else."""

    def writing() -> Iterator[int]:
        with ledger.unit(**HOME) as uow:
            for number in range(3):
                uow["notes"].create(f"n{number}", number)
                yield number

    steps = writing()
    assert next(steps) == 0
    with ThreadPoolExecutor(1) as pool, pytest.raises(UsageError, match="another thread"):
        pool.submit(next, steps).result()
    assert statuses(ledger) == ["failed"]
    assert list(writing()) == [0, 1, 2]
    assert statuses(ledger) == ["failed", "committed"]
