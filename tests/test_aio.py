"""The async unit: the same unit, and an event loop that never waits. Under asyncio and under uvloop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import (
    AsyncLedger,
    AsyncUnitOfWork,
    ConflictError,
    DuplicateUnit,
    InDoubtError,
    Ledger,
    LedgerBusy,
    Limits,
    RecordExists,
    UnitOfWork,
    UnitTimeout,
    UsageError,
    _ambient,
)
from memoryos_uow._lanes import LANES_MAX, lanes_of
from tests.async_tools import LOOPS, run
from tests.units import SPACE, OwnError, four_stores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from memoryos_uow import Message

    Loop = Callable[[], asyncio.AbstractEventLoop]

pytestmark = pytest.mark.parametrize("loop", LOOPS)


def unit(ledger: Ledger | AsyncLedger, **options: Any) -> AsyncUnitOfWork:
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


# Waiting


def test_units_beyond_the_lanes_wait_their_turn(tmp_path: Any, loop: Loop) -> None:
    """More tasks than lanes ask for the lock while one holds it: those beyond wait on the loop, and give up in time."""

    async def main(ledger: Ledger) -> None:
        held, release = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            async with unit(ledger) as uow:
                await uow.sql("SELECT 1")
                held.set()
                await release.wait()

        async def ask() -> str:
            try:
                async with unit(ledger) as uow:
                    uow["notes"].create("never", 1)
            except LedgerBusy as busy:
                return busy.message
            return "committed"

        holder = asyncio.ensure_future(hold())
        await held.wait()
        answers = await asyncio.gather(*(ask() for _ in range(LANES_MAX + 10)))
        assert all("committed" not in answer for answer in answers)
        release.set()
        await holder
        lanes = lanes_of(ledger._opened)
        taken = [await lanes.take(60) for _ in range(LANES_MAX)]
        assert "Other async units of this process" in await ask()
        for lane in taken:
            lanes.give_back(lane)
        assert await ask() == "committed"
        assert len(lanes._idle) == len(lanes._made) == LANES_MAX
        assert not lanes._waiting

    with Ledger.open(tmp_path / "memory.db", busy_timeout=0.2) as ledger:
        run(loop, main(ledger))


def test_a_deadline_covers_the_wait_for_a_lane(ledger: Ledger, loop: Loop) -> None:
    """`timeout=` ends the wait for a thread as it ends the wait for the lock."""

    async def main() -> None:
        lanes = lanes_of(ledger._opened)
        taken = [await lanes.take(1) for _ in range(LANES_MAX)]
        with pytest.raises(UnitTimeout):
            async with unit(ledger, timeout=0.02) as uow:
                uow["notes"].create("a", 1)
        for lane in taken:
            lanes.give_back(lane)

    run(loop, main())
    assert ledger["notes"].get("a", space_id=SPACE) is None


def test_asyncio_timeout_leaves_all_or_nothing(ledger: Ledger, loop: Loop) -> None:
    """`asyncio.timeout` around a unit undoes it; the row says failed."""

    async def main() -> str:
        uow = unit(ledger)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), uow:
                uow["notes"].create("a", 1)
                await asyncio.sleep(5)
        return uow.uow_id

    record = ledger.get(run(loop, main()))
    assert (record.status, record.error_type) == ("failed", "CancelledError")


def test_ledgers_may_be_shared_by_loops(ledger: Ledger, loop: Loop) -> None:
    """Event loops of several threads use one ledger at the same time, and lanes pass between them."""

    async def work(name: str) -> None:
        async def one(number: int) -> None:
            async with unit(ledger) as uow:
                await uow.sql("SELECT 1")
                uow["notes"].create(f"{name}{number}", 1)

        await asyncio.gather(*(one(number) for number in range(30)))

    threads = [threading.Thread(target=lambda name=name: run(loop, work(name))) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(ledger["notes"].keys(space_id=SPACE))) == 60


def test_a_closed_ledger_ends_its_units(ledger: Ledger, loop: Loop) -> None:
    """A unit whose ledger is closed under it fails with a sentence; so does every other question, instead of a hang."""

    async def main() -> None:
        face = AsyncLedger(ledger)
        uow = unit(ledger)
        with pytest.raises(UsageError, match="closed"):
            async with uow:
                uow["notes"].create("a", 1)
                assert await uow["notes"].get("b") is None
                await face.close()
        assert uow.status == "failed"
        with pytest.raises(UsageError, match="closed"):
            await face.get(uow.uow_id)

    run(loop, main())


def test_a_forked_child_is_refused(ledger: Ledger, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child has none of its parent's threads, and would wait for them for ever: it is told to open its own ledger."""

    async def main() -> None:
        face = AsyncLedger(ledger)
        assert await face.units() == []
        with monkeypatch.context() as patched:
            patched.setattr(_ambient, "process_id", lambda: -1)
            with pytest.raises(UsageError, match="forked"):
                await face.units()
            with pytest.raises(UsageError, match="forked"):
                async with unit(ledger):
                    pass

    run(loop, main())


def test_a_child_that_leaves_its_parents_block(ledger: Ledger, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, calls no hook and touches nothing; the parent commits as if there had been no child."""
    heard: list[object] = []

    async def main() -> None:
        async with unit(ledger) as uow:
            uow["notes"].create("a", 1)
            uow.after_commit(heard.append)
            uow.after_rollback(heard.append)
            leaving = uow.__aexit__(None, None, None)
            with monkeypatch.context() as patched:
                patched.setattr(_ambient, "process_id", lambda: -1)
                with pytest.raises(UsageError, match="another thread, task or process"):
                    leaving.send(None)
            assert (uow.status, heard) == ("pending", [])
        assert (uow.status, heard) == ("committed", [uow.receipt])

    run(loop, main())


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


# The ledger


def test_the_async_ledger(tmp_path: Any, loop: Loop) -> None:
    """Open, write, read, ask, close: each awaited, each with the same answer as the ledger gives."""

    async def main() -> None:
        async with AsyncLedger.open(tmp_path / "memory.db", stores=four_stores()) as ledger:
            async with ledger.unit(space_id=SPACE, band="GREEN") as uow:
                uow["notes"].create("a", {"text": "milk"})
                uow["embeddings"].create("a", [1, 0])
            assert await ledger["notes"].get("a", space_id=SPACE) == {"text": "milk"}
            assert [hit.key for hit in await ledger["notes"].search("milk", space_id=SPACE)] == ["a"]
            assert [key async for key in ledger["notes"].keys(space_id=SPACE)] == ["a"]
            assert (await ledger.get(uow.uow_id)).status == "committed"
            assert [record.uow_id for record in await ledger.units(space_id=SPACE, limit=1)] == [uow.uow_id]
            assert await ledger.receipt(uow.uow_id) == uow.receipt
            assert await ledger.validate() == []
            assert (await ledger.recover()).rolled_back == ()
            assert (await ledger.verify(space_id=SPACE)).ok
            assert (await ledger.stats(band="GREEN")).total.units == 1
            assert "memoryos-uow/" in await ledger.checkpoint()
            assert (await ledger.erase(space_id=SPACE, store="notes", key="a")).complete
            assert await ledger["notes"].get("a", space_id=SPACE) is None
            assert "memory.db" in repr(ledger)
            assert "documents" in repr(ledger["notes"])
            assert not ledger.closed
        assert ledger.closed
        opened = await AsyncLedger.open(tmp_path / "memory.db", stores=four_stores())
        with pytest.raises(UsageError, match="no store called"):
            opened["other"]
        await opened.close()
        with pytest.raises(UsageError, match="made of an open Ledger"):
            AsyncLedger("memory.db")
        async with AsyncLedger(Ledger.open(tmp_path / "memory.db", stores=four_stores())) as face:
            assert not face.closed
        assert face.closed
        await AsyncLedger.open(tmp_path / "never.db").__aexit__(None, None, None)  # was not entered: nothing to close
        assert not (tmp_path / "never.db").exists()

    run(loop, main())


def test_a_relay_works_beside_the_loop(ledger: Ledger, loop: Loop) -> None:
    """Its sink may block without stopping the loop; a cancelled relay ends after the message that it is delivering."""
    heard: list[object] = []
    delivering, may_go_on = threading.Event(), threading.Event()

    def sink(message: Message) -> None:
        delivering.set()
        assert may_go_on.wait(60)
        heard.append(message.payload)

    async def main() -> None:
        face = AsyncLedger(ledger)
        async with face.unit(space_id=SPACE, band="GREEN") as uow:
            for number in range(3):
                uow.publish("t", number, key="k")
        relay = asyncio.create_task(face.relay(sink))
        assert await asyncio.to_thread(delivering.wait, 60)
        relay.cancel()
        await asyncio.sleep(0)  # the cancellation is in the relay's hands
        assert not relay.done()
        may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await relay
        assert heard == [0]
        assert (await face.relay(heard.append, topics=["t"], until_empty=True)).delivered == 2
        with pytest.raises(UsageError, match=r"threading\.Event"):
            await face.relay(sink, stop=asyncio.Event())  # type: ignore[arg-type]

    run(loop, main())


def test_what_would_wait_for_its_own_task_is_refused(ledger: Ledger, loop: Loop) -> None:
    """A task whose unit holds the lock, and who asks for what needs the lock, would wait for ever."""

    async def main() -> None:
        face = AsyncLedger(ledger)
        async with unit(ledger) as uow:
            with pytest.raises(UsageError, match="open already"):
                await face.erase(space_id=SPACE, store="notes", key="a")
            await uow.sql("SELECT 1")
            for call in (partial(face.erase, space_id=SPACE, store="notes", key="a"), face.recover):
                with pytest.raises(UsageError, match="holds the ledger's write lock already"):
                    await call()
            with pytest.raises(UsageError, match="holds the ledger's write lock already"):
                await face.relay(print)
            assert (await face.verify()).ok

    run(loop, main())


def test_run_tries_again(ledger: Ledger, loop: Loop) -> None:
    """A coroutine function is run again after a conflict, once under one key, and its result is replayed."""
    calls: list[int] = []

    async def body(uow: AsyncUnitOfWork, amount: int) -> int:
        calls.append(amount)
        number = await uow["notes"].get("n", 0)
        if len(calls) == 1:
            with ledger.unit(space_id=SPACE, band="GREEN", nested="independent") as other:
                other["notes"].upsert("n", 100)
        uow["notes"].upsert("n", number + amount)
        return int(number + amount)

    async def main() -> None:
        face = AsyncLedger(ledger)
        options: dict[str, Any] = {"space_id": SPACE, "band": "GREEN", "idempotency_key": "k", "args": (5,)}
        outcome = await face.run(body, **options)
        assert (outcome.value, outcome.replayed, calls) == (105, False, [5, 5])
        again = await face.run(body, **options)
        assert (again.value, again.replayed, again.receipt, calls) == (105, True, outcome.receipt, [5, 5])
        with pytest.raises(RecordExists):
            await face.run(_create_n, space_id=SPACE, band="GREEN")
        outcomes = await asyncio.gather(
            *(face.run(body, space_id=SPACE, band="GREEN", idempotency_key="race", args=(1,)) for _ in range(5))
        )
        assert sorted(outcome.replayed for outcome in outcomes) == [False, True, True, True, True]
        assert {outcome.value for outcome in outcomes} == {106}

    run(loop, main())
    assert ledger["notes"].get("n", space_id=SPACE) == 106


def test_run_wants_something_to_await(ledger: Ledger, loop: Loop) -> None:
    """A plain function is refused with a hint, and what it wrote is undone."""

    def plain(uow: AsyncUnitOfWork) -> None:
        uow["notes"].create("a", 1)

    async def main() -> None:
        with pytest.raises(UsageError, match="nothing to await") as caught:
            await AsyncLedger(ledger).run(plain, space_id=SPACE, band="GREEN")  # type: ignore[arg-type]
        assert caught.value.hint

    run(loop, main())
    assert ledger["notes"].get("a", space_id=SPACE) is None


async def _create_n(uow: AsyncUnitOfWork) -> None:
    uow["notes"].create("n", 1)


def test_the_default_ledger_is_opened_in_a_thread(tmp_path: Any, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """An async unit that names no ledger uses the process's default one."""
    monkeypatch.setenv("MEMORYOS_UOW_LEDGER", str(tmp_path / "default.db"))

    async def main() -> None:
        async with AsyncUnitOfWork(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("a", 1)
        assert uow.status == "committed"
        with pytest.raises(UsageError, match="begun before"):
            async with uow:
                pass

    started = time.monotonic()
    run(loop, main())
    assert time.monotonic() - started < 60
    assert (tmp_path / "default.db").exists()
