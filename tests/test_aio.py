"""The async unit: the same unit, and an event loop that never waits. Under asyncio and under uvloop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import (
    AsyncUnitOfWork,
    ConflictError,
    DuplicateUnit,
    InDoubtError,
    Ledger,
    Limits,
    RecordExists,
    UnitOfWork,
    UsageError,
)
from tests.async_tools import LOOPS, run
from tests.units import SPACE, OwnError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Loop = Callable[[], asyncio.AbstractEventLoop]

pytestmark = pytest.mark.parametrize("loop", LOOPS)


def unit(ledger: Ledger, **options: Any) -> AsyncUnitOfWork:
    """A unit of band GREEN in the usual space."""
    return AsyncUnitOfWork(space_id=SPACE, band="GREEN", ledger=ledger, **options)


def test_every_store_is_written_and_read(wide: Ledger, loop: Loop) -> None:
    """One block writes to all stores; reads see its writes before, and everybody after."""

    async def main() -> None:
        async with unit(wide) as uow:
            uow["notes"].create("a", {"text": "milk"})
            uow["orders"].create("a", {"n": 1})
            uow["embeddings"].create("a", [1.0, 0.0])
            uow["photos"].create("a", b"p" * 100)
            assert await uow["notes"].get("a") == {"text": "milk"}
            assert (await uow["orders"].get("a"))["n"] == 1  # only the table can tell: takes the lock
            assert await uow["photos"].get("a") == b"p" * 100
            assert [hit.key for hit in await uow["notes"].search("milk")] == ["a"]
            assert await uow["notes"].get_many(["a", "b"]) == {"a": {"text": "milk"}}
            assert await uow.sql("SELECT n FROM orders WHERE id = ?", ("a",)) == [(1,)]
            assert uow.status == "pending"
            assert "notes" in repr(uow["notes"])
        assert uow.status == "committed"
        assert uow.receipt is not None
        assert uow.receipt.store_count == 4

    run(loop, main())
    assert wide["embeddings"].get("a", space_id=SPACE) == [1.0, 0.0]


def test_the_callers_exception_undoes_everything(ledger: Ledger, loop: Loop) -> None:
    """It arrives unchanged, buffered or with the lock held; the row says failed."""

    async def main(*, locks: bool) -> str:
        async with unit(ledger) as uow:
            uow["notes"].create("a", 1)
            if locks:
                await uow.sql("SELECT 1")
            with pytest.raises(OwnError):
                try:
                    raise OwnError
                finally:
                    ids.append(uow.uow_id)
            raise OwnError
        return "not reached"

    ids: list[str] = []
    for locks in (False, True):
        with pytest.raises(OwnError):
            run(loop, main(locks=locks))
        assert ledger.get(ids[-1]).status == "failed"
    assert ledger["notes"].get("a", space_id=SPACE) is None


def test_rollback_ends_the_unit(ledger: Ledger, loop: Loop) -> None:
    """Nothing is kept; the rest of the block runs but may not write."""

    async def main() -> AsyncUnitOfWork:
        async with unit(ledger) as uow:
            uow["notes"].create("a", 1)
            await uow.rollback()
            assert uow.status == "rolled_back"
            with pytest.raises(UsageError, match="over"):
                uow["notes"]
        return uow

    assert ledger.get(run(loop, main()).uow_id).status == "rolled_back"
    assert ledger["notes"].get("a", space_id=SPACE) is None


@pytest.mark.parametrize("locks", [False, True], ids=["buffered", "with the lock held"])
def test_savepoints_undo_their_block(ledger: Ledger, loop: Loop, *, locks: bool) -> None:
    """Whether the writes still wait or lie in the transaction."""

    async def main() -> None:
        async with unit(ledger) as uow:
            uow["notes"].create("kept", 1)
            with pytest.raises(OwnError):
                async with uow.savepoint():
                    uow["notes"].create("undone", 1)
                    if locks:
                        await uow.sql("SELECT 1")
                    async with uow.savepoint():
                        uow["notes"].create("undone too", 1)
                    raise OwnError
            async with uow.savepoint():
                uow["notes"].create("kept too", 1)
                if locks:
                    await uow.sql("SELECT 1")

    run(loop, main())
    assert list(ledger["notes"].keys(space_id=SPACE)) == ["kept", "kept too"]


def test_a_unit_may_end_inside_a_savepoint(ledger: Ledger, loop: Loop) -> None:
    """Rolled back inside a savepoint's block, left with or without an exception: nothing more happens to the unit."""

    async def main() -> None:
        async with unit(ledger) as uow, uow.savepoint():
            uow["notes"].create("a", 1)
            await uow.rollback()
        assert uow.status == "rolled_back"
        with pytest.raises(OwnError):
            async with unit(ledger) as uow, uow.savepoint():
                uow["notes"].create("a", 1)
                await uow.rollback()
                raise OwnError
        assert uow.status == "rolled_back"

    run(loop, main())
    assert ledger["notes"].get("a", space_id=SPACE) is None


def test_a_unit_left_by_another_task_fails(ledger: Ledger, loop: Loop) -> None:
    """A generator that holds a unit and a savepoint, and is closed by another task, ends the unit as failed."""
    units: list[AsyncUnitOfWork] = []

    async def generator() -> AsyncIterator[None]:
        async with unit(ledger) as uow:
            units.append(uow)
            async with uow.savepoint():
                uow["notes"].create("a", 1)
                yield

    async def main() -> None:
        for throw in (False, True):
            opened = generator()
            await anext(opened)
            rest = opened.athrow(OwnError()) if throw else anext(opened)  # type: ignore[attr-defined]

            async def go_on(rest: Any = rest) -> None:
                await rest

            with pytest.raises((UsageError, OwnError)):
                await asyncio.create_task(go_on())

    run(loop, main())
    assert [uow.status for uow in units] == ["failed", "failed"]
    assert ledger["notes"].get("a", space_id=SPACE) is None


def test_a_unit_that_another_task_has_failed_cannot_commit(ledger: Ledger, loop: Loop) -> None:
    """A savepoint that another task leaves with an exception ends the unit; its own block says so at its end."""
    error = OwnError()

    async def main() -> AsyncUnitOfWork:
        uow = unit(ledger)
        with pytest.raises(UsageError, match="is over: it is failed") as caught:
            async with uow:
                uow["notes"].create("a", 1)
                savepoint = uow.savepoint()
                await savepoint.__aenter__()

                async def leave() -> None:
                    await savepoint.__aexit__(OwnError, error, None)

                await asyncio.create_task(leave())
        assert caught.value.__cause__ is error
        return uow

    assert run(loop, main()).error is error
    assert ledger["notes"].get("a", space_id=SPACE) is None


def test_hundreds_of_units_on_one_loop(ledger: Ledger, loop: Loop) -> None:
    """More units than threads, many of them holding the lock over awaits, while others wait: all commit."""

    async def work(number: int) -> None:
        async with unit(ledger) as uow:
            await uow["notes"].get("shared")
            if number % 5 == 0:
                await uow.sql("SELECT count(*) FROM uow_documents")  # from here on the lock is held
                await asyncio.sleep(0)
                await asyncio.sleep(0.001)
            uow["notes"].create(f"k{number}", number)

    async def main() -> None:
        await asyncio.gather(*(work(number) for number in range(300)))

    before = threading.active_count()
    run(loop, main())
    assert len(list(ledger["notes"].keys(space_id=SPACE))) == 300
    assert threading.active_count() - before < 40


def test_no_update_is_lost(ledger: Ledger, loop: Loop) -> None:
    """Many tasks read and write one counter, each again after a conflict: every increment counts."""

    async def increment() -> None:
        while True:
            try:
                async with unit(ledger) as uow:
                    number = await uow["notes"].get("counter", 0)
                    uow["notes"].upsert("counter", number + 1)
            except ConflictError:
                continue
            return

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(increment())

    run(loop, main())
    assert ledger["notes"].get("counter", space_id=SPACE) == 20


def test_the_event_loop_goes_on_while_the_lock_is_waited_for(ledger: Ledger, loop: Loop) -> None:
    """A unit that waits for another one's lock does not keep other tasks of its loop from running."""

    async def main() -> None:
        held, done = asyncio.Event(), asyncio.Event()

        async def holder() -> None:
            async with unit(ledger) as uow:
                await uow.sql("SELECT 1")
                held.set()
                await done.wait()  # the waiter's loop must go on, or this never comes

        async def waiter() -> None:
            await held.wait()
            async with unit(ledger) as uow:
                uow["notes"].create("late", 1)

        async def bystander() -> None:
            await held.wait()
            for _ in range(20):
                await asyncio.sleep(0.001)
            done.set()

        await asyncio.gather(holder(), waiter(), bystander())

    run(loop, main())
    assert ledger["notes"].get("late", space_id=SPACE) == 1


def test_contextvars_reach_the_thread(ledger: Ledger, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs in a thread sees the task's context, and cannot change it."""
    variable = contextvars.ContextVar("variable", default="default")
    seen = []
    real = ledger._opened.coordinator.commit

    def commit(state: Any) -> None:
        seen.append((variable.get(), threading.current_thread() is threading.main_thread()))
        variable.set("changed")
        real(state)

    monkeypatch.setattr(ledger._opened.coordinator, "commit", commit)

    async def main() -> None:
        variable.set("the task's")
        async with unit(ledger) as uow:
            uow["notes"].create("a", 1)
        assert variable.get() == "the task's"

    run(loop, main())
    assert seen == [("the task's", False)]


# Whose it is


def test_another_task_may_not_use_it(ledger: Ledger, loop: Loop) -> None:
    """A child task, `gather` or `wait_for` of Python 3.11 is another task: refused, and the unit goes on."""

    async def main() -> None:
        async with unit(ledger) as uow:
            uow["notes"].create("a", 1)

            async def child() -> None:
                uow["notes"].create("b", 1)

            with pytest.raises(UsageError, match="another thread, task or process"):
                await asyncio.create_task(child())
            with pytest.raises(UsageError, match="another thread, task or process"):
                await asyncio.gather(uow["notes"].get("x"), uow["notes"].get("y"))
            with pytest.raises(UsageError, match="another thread, task or process"):
                await asyncio.to_thread(uow.__getitem__, "notes")

    run(loop, main())
    assert list(ledger["notes"].keys(space_id=SPACE)) == ["a"]


def test_units_of_child_tasks_are_their_own(ledger: Ledger, loop: Loop) -> None:
    """A task started inside a unit begins units of its own; the same task is refused, unless it means it."""

    async def child() -> None:
        async with unit(ledger) as own:
            own["notes"].create("child", 1)

    async def main() -> None:
        async with unit(ledger) as uow:
            uow["notes"].create("parent", 1)
            await asyncio.create_task(child())
            with pytest.raises(UsageError, match="open already"):
                async with unit(ledger):
                    pass
            async with unit(ledger, nested="independent") as inner:
                inner["notes"].create("inner", 1)
            await uow.sql("SELECT 1")
            with pytest.raises(UsageError, match="holds the ledger's write lock already"):
                async with unit(ledger, nested="independent") as stuck:
                    stuck["notes"].create("stuck", 1)

    run(loop, main())
    assert list(ledger["notes"].keys(space_id=SPACE)) == ["child", "inner", "parent"]


def test_the_wrong_sort_of_block_is_refused(ledger: Ledger, loop: Loop) -> None:
    """`with` on an async unit and `async with` on a sync one say which to use; nothing was begun."""

    async def main() -> None:
        with pytest.raises(UsageError, match="entered with `async with`"), unit(ledger):
            pass
        with pytest.raises(UsageError, match="entered with `with`"):
            async with UnitOfWork(space_id=SPACE, band="GREEN", ledger=ledger):
                pass

    run(loop, main())
    assert ledger.units() == []


def test_a_call_that_was_not_awaited_fails_the_unit(ledger: Ledger, loop: Loop) -> None:
    """A forgotten `await` must not lose a write without a word."""

    async def forget(call: str) -> None:
        async with unit(ledger) as uow:
            uow["notes"].create("a", 1)
            calls: dict[str, Callable[[], object]] = {
                "sql": partial(uow.sql, "CREATE TABLE t (x)"),
                "create_many": partial(uow["notes"].create_many, {"b": 1}),
                "delete_many": partial(uow["notes"].delete_many, ["a"]),
                "rollback": uow.rollback,
            }
            assert call in repr(calls[call]())

    for call in ("sql", "create_many", "delete_many", "rollback"):
        with pytest.raises(UsageError, match=rf"never awaited: {call}\(\)"):
            run(loop, forget(call))
    assert ledger["notes"].get("a", space_id=SPACE) is None


def test_a_thrown_away_unit_leaves_nothing(ledger: Ledger, loop: Loop) -> None:
    """A coroutine that is closed in the middle of its unit undoes it and gives the lock back."""

    async def work(*, locks: bool) -> None:
        async with unit(ledger) as uow:
            units.append(uow)
            uow["notes"].create("a", 1)
            if locks:
                await uow.sql("SELECT 1")
            async with uow.savepoint():
                uow["notes"].create("b", 1)
                reached.append(locks)
                await asyncio.Event().wait()

    async def main() -> None:
        for locks in (False, True):
            coroutine = work(locks=locks)
            while True:  # as a task does it
                waited_for = coroutine.send(None)
                if locks in reached:
                    break
                waited_for._asyncio_future_blocking = False
                await asyncio.wait((waited_for,))
            coroutine.close()
        async with unit(ledger) as uow:
            uow["notes"].create("c", 1)

    units: list[AsyncUnitOfWork] = []
    reached: list[bool] = []
    run(loop, main())
    assert list(ledger["notes"].keys(space_id=SPACE)) == ["c"]
    assert [ledger.get(uow.uow_id).error_type for uow in units] == ["GeneratorExit", "GeneratorExit"]


# Hooks, keys, many


def test_hooks_may_be_coroutine_functions(ledger: Ledger, loop: Loop) -> None:
    """After the commit each hook is called with the receipt and awaited; a failing one stops nobody."""
    heard: list[object] = []

    async def awaited(argument: object) -> None:
        await asyncio.sleep(0)
        heard.append(argument)

    async def failing(argument: object) -> None:
        raise OwnError

    async def main() -> None:
        async with unit(ledger) as uow:
            uow["notes"].create("a", 1)
            uow.after_commit(failing)
            uow.after_commit(awaited)
            uow.after_commit(heard.append)
            with pytest.raises(UsageError, match="function of one argument"):
                uow.after_commit(3)  # type: ignore[arg-type]
        assert heard == [uow.receipt, uow.receipt]
        assert [type(error) for error in uow.hook_errors] == [OwnError]
        error = OwnError()
        with pytest.raises(OwnError):
            async with unit(ledger) as uow:
                uow["notes"].create("b", 1)
                uow.after_rollback(awaited)
                raise error
        assert heard[2:] == [error]

    run(loop, main())


def test_no_hook_is_called_while_in_doubt(ledger: Ledger, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the outcome cannot be told, neither sort of hook is called."""
    heard: list[object] = []

    def doubt(*_: object, **__: object) -> None:
        raise InDoubtError("Nobody knows.")

    async def main() -> AsyncUnitOfWork:
        uow = unit(ledger)
        with pytest.raises(InDoubtError):
            async with uow:
                uow["notes"].create("a", 1)
                uow.after_commit(heard.append)
                uow.after_rollback(heard.append)
                monkeypatch.setattr(ledger._opened.coordinator, "commit", doubt)
                monkeypatch.setattr(ledger._opened.coordinator, "fail", lambda *_: None)
        return uow

    assert (run(loop, main()).status, heard) == ("pending", [])


def test_a_cancelled_hook_does_not_stop_the_others(ledger: Ledger, loop: Loop) -> None:
    """The unit is committed, every hook is called, and then the cancellation goes on."""
    heard: list[object] = []

    async def slow(_: object) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(5)

    async def main() -> None:
        uow = unit(ledger)
        with pytest.raises(asyncio.CancelledError):
            async with uow:
                uow["notes"].create("a", 1)
                uow.after_commit(slow)
                uow.after_commit(heard.append)
        assert uow.status == "committed"
        assert heard == [uow.receipt]

    run(loop, main())


def test_a_key_is_used_once(ledger: Ledger, loop: Loop) -> None:
    """Of two tasks with one idempotency key one does the work; the other waits and is told; a failure frees the key."""

    async def work(number: int) -> object:
        try:
            async with unit(ledger, idempotency_key="evt") as uow:
                await asyncio.sleep(0.02)
                uow["notes"].create(f"k{number}", 1)
        except DuplicateUnit as duplicate:
            return duplicate.receipt
        return uow.receipt

    async def main() -> None:
        with pytest.raises(OwnError):
            async with unit(ledger, idempotency_key="evt"):
                raise OwnError
        receipts = await asyncio.gather(*(work(number) for number in range(20)))
        assert len(set(receipts)) == 1
        async with unit(ledger, idempotency_key="other") as uow:
            with pytest.raises(UsageError, match="wait for itself"):
                async with unit(ledger, idempotency_key="other", nested="independent"):
                    pass
            uow["notes"].create("k", 1)

    run(loop, main())
    assert len(list(ledger["notes"].keys(space_id=SPACE))) == 2


def test_many_are_written_in_chunks(tmp_path: Any, loop: Loop) -> None:
    """Iterables and async iterables of any length stream; the loop goes on between chunks; progress is told."""

    async def pairs(number: int) -> AsyncIterator[tuple[str, object]]:
        for each in range(number):
            if each % 100 == 0:
                await asyncio.sleep(0)
            yield f"a{each}", each

    async def main(ledger: Ledger) -> None:
        told: list[int] = []
        async with unit(ledger) as uow:
            await uow["notes"].create_many(pairs(250), progress=told.append)
            assert uow._state is not None
            assert len(uow._state.buffer.writes) < 100
            await uow["notes"].create_many(((f"b{each}", each) for each in range(1_200)), progress=told.append)
            await uow["notes"].update_many({f"b{each}": -each for each in range(250)})
            await uow["notes"].upsert_many({"c": 1})
            await uow["notes"].delete_many([], progress=told.append)
            await uow["notes"].delete_many(f"a{each}" for each in range(100))
            for each in range(150):
                uow["notes"].create(f"d{each}", 1)  # only buffers; the next awaited call takes it along
            assert len(uow._state.buffer.writes) > 100
            assert await uow["notes"].get("d0") == 1
            assert len(uow._state.buffer.writes) == 0
            with pytest.raises(UsageError, match="pairs of key and value"):
                await uow["notes"].create_many(["n1"])  # type: ignore[list-item]
            with pytest.raises(UsageError, match="collection is wanted"):
                await uow["notes"].create_many("n1")  # type: ignore[arg-type]
        assert told == [250, 1000, 1200, 0]
        assert uow.receipt is not None
        assert uow.receipt.write_count == 250 + 1_200 + 250 + 1 + 100 + 150

    with Ledger.open(tmp_path / "memory.db", limits=Limits(waiting_writes=100)) as ledger:
        run(loop, main(ledger))
        assert len(list(ledger["notes"].keys(space_id=SPACE))) == 150 + 1_200 + 1 + 150


def test_commit_errors_arrive(ledger: Ledger, loop: Loop) -> None:
    """What a store refuses at commit is raised where the block is left, with the unit's id."""

    async def main() -> None:
        for _ in range(2):
            async with unit(ledger) as uow:
                uow["notes"].create("a", 1)

    with pytest.raises(RecordExists) as refused:
        run(loop, main())
    assert refused.value.uow_id
