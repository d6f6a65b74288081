"""The with-block: its arguments, who may use it and when, and what it tells afterwards."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import re
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import Band, Isolation, Ledger, LedgerError, Status, UnitOfWork, UsageError
from memoryos_uow.errors import UnitOfWorkError
from tests.both import address_of, both, sqlite_only
from tests.naming import plain_repr
from tests.units import MARKER, SPACE, OwnError, rows, run, statuses, throw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

pytestmark = both


def put(ledger: Ledger, key: str = "n1", **options: Any) -> UnitOfWork:
    """A committed unit with one write."""
    with ledger.unit(**{"space_id": SPACE, "band": "GREEN", **options}) as uow:
        uow["notes"].upsert(key, key)
    return uow


def keys(ledger: Ledger) -> list[str]:
    """The committed notes."""
    return list(ledger["notes"].keys(space_id=SPACE))


# Arguments


@pytest.mark.parametrize(
    ("missing", "options"),
    [
        ("space_id and band", {}),
        ("space_id", {"band": "GREEN"}),
        ("space_id", {"band": ""}),
        ("band", {"space_id": SPACE}),
        ("band", {"space_id": ""}),
    ],
)
def test_what_a_unit_needs(missing: str, options: dict[str, Any]) -> None:
    """A unit without its space or band is refused in a sentence that names just what is missing."""
    with pytest.raises(UsageError, match=f"needs {missing}\\.") as caught:
        UnitOfWork(**options)
    assert caught.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        {"space_id": ""},
        {"space_id": 7},
        {"space_id": b"x"},
        {"space_id": "x" * 256},
        {"space_id": "ä" * 128},
        {"space_id": "a\0b"},
        {"space_id": "a\ud800"},
        {"actor_id": ""},
        {"actor_id": 7},
        {"device_id": "x" * 256},
        {"correlation_id": "a\0b"},
        {"envelope_id": "a\ud800"},
        {"band": "green"},
        {"band": "PURPLE"},
        {"band": 1},
        {"band": ["GREEN"]},
        {"isolation": "none"},
        {"isolation": None},
        {"nested": "maybe"},
        {"nested": True},
        {"ledger": "memory.db"},
        {"ledger": object()},
    ],
    ids=plain_repr,
)
def test_wrong_arguments(wrong: dict[str, Any]) -> None:
    """Every wrong argument is refused when the unit is made, with a hint, before anything could be written."""
    with pytest.raises(UsageError) as caught:
        UnitOfWork(**{"space_id": SPACE, "band": "GREEN", **wrong})
    assert caught.value.hint


def test_arguments_of_the_right_kind(ledger: Ledger) -> None:
    """Enums serve where words do, and every id may have up to 255 bytes."""
    longest = "ä" * 127
    with UnitOfWork(
        space_id=longest, band=Band.RED, isolation=Isolation.SERIALIZABLE, actor_id=longest, ledger=ledger
    ) as uow:
        uow["notes"].create("n1", 1)
    assert (uow.space_id, uow.band, uow.status) == (longest, Band.RED, Status.COMMITTED)
    assert ledger.get(uow.uow_id).actor_id == longest


def test_what_a_unit_tells_about_itself(ledger: Ledger) -> None:
    """Id, space, band and status are known from the start; a unit shows itself without any of its contents."""
    uow = ledger.unit(space_id=SPACE, band="AMBER", actor_id=MARKER)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", uow.uow_id)
    assert (uow.status, uow.receipt, uow.error, uow.retry_count) == ("pending", None, None, 0)
    assert repr(uow) == f"<UnitOfWork {uow.uow_id} AMBER pending>"
    with uow:
        uow["notes"].create(MARKER, MARKER)
        assert repr(uow["notes"]) == f"<documents 'notes' in unit {uow.uow_id}>"
        assert repr(uow) == f"<UnitOfWork {uow.uow_id} AMBER pending>"
    assert repr(uow) == f"<UnitOfWork {uow.uow_id} AMBER committed>"
    assert uow.receipt is not None
    assert uow.receipt.uow_id == uow.uow_id


def test_ids_sort_in_the_order_of_making() -> None:
    """The ids of units made one after the other sort in that order."""
    made = [UnitOfWork(space_id=SPACE, band="GREEN").uow_id for _ in range(100)]
    assert made == sorted(set(made))


# When it may be used


def test_a_unit_before_its_block(ledger: Ledger) -> None:
    """A unit that has not begun refuses every use, its end too."""
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    for use in (
        lambda: uow["notes"],
        lambda: uow.sql("SELECT 1"),
        uow.rollback,
        lambda: uow.__exit__(None, None, None),
    ):
        with pytest.raises(UsageError, match="not begun"):
            use()
    with pytest.raises(UsageError, match="not begun"), uow.savepoint():
        pass


def every_use(uow: UnitOfWork, notes: Any) -> Iterator[Callable[[], object]]:
    """Everything that can be asked of a unit and of a store that it gave out."""
    yield lambda: uow["notes"]
    yield lambda: uow.sql("INSERT INTO t VALUES (1)")
    yield lambda: uow.sql("SELECT 1")
    yield uow.rollback
    yield lambda: uow.savepoint().__enter__()
    yield lambda: notes.create("late", 1)
    yield lambda: notes.update("late", 1)
    yield lambda: notes.upsert("late", 1)
    yield lambda: notes.delete("late")
    yield lambda: notes.get("late")
    yield lambda: notes.search("late")
    yield lambda: notes.create_many({"late": 1})
    yield lambda: notes.get_many(["late"])


@pytest.mark.parametrize("end", ["committed", "rolled_back", "failed"])
def test_a_unit_after_its_end(ledger: Ledger, end: str) -> None:
    """A unit that is over refuses every use and says how it ended; nothing more is written."""
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    with suppress(OwnError), uow:
        notes = uow["notes"]
        notes.create("n1", 1)
        if end == "rolled_back":
            uow.rollback()
        if end == "failed":
            throw(OwnError())
    for use in every_use(uow, notes):
        with pytest.raises(UsageError, match=f"is over: it is {end}") as caught:
            use()
        assert caught.value.uow_id == uow.uow_id
        assert caught.value.hint
    assert (statuses(ledger), keys(ledger)) == ([end], ["n1"] if end == "committed" else [])


def test_a_unit_is_used_once(ledger: Ledger) -> None:
    """A unit cannot be begun again, neither inside its block nor after it, and that does not disturb it."""
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    with uow:
        uow["notes"].create("n1", 1)
        with pytest.raises(UsageError, match="begun before"), uow:
            pass
        uow["notes"].create("n2", 1)
    with pytest.raises(UsageError, match="begun before"), uow:
        pass
    assert (uow.status, keys(ledger)) == ("committed", ["n1", "n2"])


def test_the_block_goes_on_after_rollback(ledger: Ledger) -> None:
    """After rollback() the rest of the block runs, may not write, and the block ends quietly."""
    reached = False
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n1", 1)
        uow.rollback()
        assert uow.status == "rolled_back"
        with pytest.raises(UsageError, match="is over"):
            uow["notes"]
        reached = True
    assert reached
    assert (uow.status, uow.error, keys(ledger)) == ("rolled_back", None, [])


def test_an_exception_after_rollback(ledger: Ledger) -> None:
    """An exception after rollback() reaches the caller, and the unit stays rolled back."""
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    error = OwnError()
    with pytest.raises(OwnError) as caught, uow:
        uow["notes"].create("n1", 1)
        uow.rollback()
        raise error
    assert caught.value is error
    assert (uow.status, uow.error, statuses(ledger)) == ("rolled_back", None, ["rolled_back"])


# Nesting


@pytest.mark.parametrize("locks", [False, True])
def test_a_unit_inside_another_one_is_refused(ledger: Ledger, locks: bool) -> None:
    """A unit inside another one of the same ledger is refused before its block runs; the outer one goes on."""
    with ledger.unit(space_id=SPACE, band="GREEN") as outer:
        outer["notes"].create("n1", 1)
        if locks:
            outer.sql("SELECT 1")
        inner = ledger.unit(space_id="other", band="GREEN")
        with pytest.raises(UsageError, match="open already") as caught, inner:
            pytest.fail("the block ran")
        assert "savepoint" in str(caught.value)
        outer["notes"].create("n2", 1)
    assert (keys(ledger), statuses(ledger), inner.status) == (["n1", "n2"], ["committed"], "pending")


def test_an_independent_unit_inside_another_one(ledger: Ledger) -> None:
    """An independent unit is its own: it stays although the outer one fails."""
    with pytest.raises(OwnError), ledger.unit(space_id=SPACE, band="GREEN") as outer:
        outer["notes"].create("outer", 1)
        put(ledger, "inner", nested="independent")
        assert keys(ledger) == ["inner"]
        throw(OwnError())
    assert (keys(ledger), sorted(statuses(ledger))) == (["inner"], ["committed", "failed"])


@sqlite_only("there no unit holds a lock that others need")
def test_an_independent_unit_inside_one_that_holds_the_lock(ledger: Ledger) -> None:
    """Where an independent unit could wait only for its own thread it is told so at once, and recorded later."""
    with ledger.unit(space_id=SPACE, band="GREEN") as outer:
        outer["notes"].create("outer", 1)
        outer.sql("SELECT 1")
        inner = ledger.unit(space_id=SPACE, band="GREEN", nested="independent")
        with pytest.raises(UsageError, match="holds the ledger's write lock already") as caught, inner:
            inner["notes"].create("inner", 1)
        assert caught.value.hint
        assert inner.status == "failed"
        assert ledger.units() == []  # asking in here does not wait for the own lock either
        outer["notes"].create("more", 1)
    assert keys(ledger) == ["more", "outer"]
    assert (ledger.get(inner.uow_id).status, ledger.get(outer.uow_id).status) == ("failed", "committed")


def test_a_unit_of_another_ledger_inside(ledger: Ledger, tmp_path: Path) -> None:
    """Units of two ledgers may be nested; each is atomic by itself."""
    with Ledger.open(tmp_path / "other.db") as other:
        with ledger.unit(space_id=SPACE, band="GREEN") as outer, other.unit(space_id=SPACE, band="GREEN") as inner:
            outer["notes"].create("n1", 1)
            outer.sql("SELECT 1")
            inner["notes"].create("n2", 1)
        assert (keys(ledger), keys(other)) == (["n1"], ["n2"])
        with pytest.raises(OwnError), ledger.unit(space_id=SPACE, band="GREEN") as outer:
            put(other, "n3")
            throw(OwnError())
        assert keys(other) == ["n2", "n3"]


def test_a_unit_after_one_that_is_over(ledger: Ledger) -> None:
    """A unit that was rolled back is in nobody's way, although its block still runs."""
    with ledger.unit(space_id=SPACE, band="GREEN") as first:
        first["notes"].create("n1", 1)
        first.rollback()
        put(ledger, "n2")
    assert keys(ledger) == ["n2"]


# Threads and tasks


def in_thread(work: Callable[[], object]) -> BaseException | None:
    """What `work` raises in another thread."""
    raised: list[BaseException] = []

    def call() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed over to the test
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def test_use_from_another_thread_is_refused(ledger: Ledger) -> None:
    """Another thread can do nothing with a unit, and the unit goes on in its own."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        notes = uow["notes"]
        for use in every_use(uow, notes):
            problem = in_thread(use)
            assert isinstance(problem, UsageError)
            assert "belongs to another thread" in str(problem)
            assert problem.uow_id == uow.uow_id
        notes.create("n1", 1)
    assert keys(ledger) == ["n1"]


def test_a_block_left_by_another_thread(ledger: Ledger) -> None:
    """A block that another thread leaves is not committed by it: the unit fails, and its owner is told."""
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    with pytest.raises(UsageError, match="is over: it is failed") as caught, uow:
        uow["notes"].create("n1", 1)
        problem = in_thread(lambda: uow.__exit__(None, None, None))
    assert isinstance(problem, UsageError)
    assert caught.value.__cause__ is problem is uow.error
    assert (keys(ledger), statuses(ledger)) == ([], ["failed"])


def test_a_savepoint_left_by_another_thread(ledger: Ledger) -> None:
    """A savepoint block that another thread leaves cannot be undone by it, so the whole unit fails."""
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    with pytest.raises(UsageError, match="is over: it is failed"), uow:
        savepoint = uow.savepoint()
        savepoint.__enter__()
        uow["notes"].create("n1", 1)
        error = OwnError()
        assert in_thread(lambda: savepoint.__exit__(OwnError, error, None)) is None
    assert uow.error is error
    assert keys(ledger) == []


def test_threads_have_units_of_their_own(ledger: Ledger) -> None:
    """A thread started inside a block may have its own unit, also with the block's context handed to it."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("outer", 1)
        assert in_thread(lambda: put(ledger, "plain")) is None
        context = contextvars.copy_context()
        assert in_thread(lambda: context.run(put, ledger, "with context")) is None
    assert keys(ledger) == ["outer", "plain", "with context"]


def test_use_from_another_task_is_refused(ledger: Ledger) -> None:
    """A child task cannot use its parent's unit, however they take turns."""

    async def child(uow: UnitOfWork, notes: Any) -> list[str]:
        await asyncio.sleep(0)
        said = []
        for use in every_use(uow, notes):
            with pytest.raises(UsageError) as caught:
                use()
            said.append(caught.value.message)
        return said

    async def parent() -> None:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            notes = uow["notes"]
            async with asyncio.TaskGroup() as group:
                task = group.create_task(child(uow, notes))
                await asyncio.sleep(0)
                notes.create("n1", 1)
            assert set(task.result()) == {"This unit of work belongs to another thread, task or process."}
            notes.create("n2", 1)

    asyncio.run(parent())
    assert keys(ledger) == ["n1", "n2"]


def test_tasks_have_units_of_their_own(ledger: Ledger) -> None:
    """Child tasks begin units of their own inside their parent's block, interleaved, each whole."""

    async def child(name: str) -> None:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create(f"{name}1", 1)
            await asyncio.sleep(0)
            uow["notes"].create(f"{name}2", 1)

    async def parent() -> None:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("parent", 1)
            async with asyncio.TaskGroup() as group:
                for name in "abc":
                    group.create_task(child(name))

    asyncio.run(parent())
    assert keys(ledger) == ["a1", "a2", "b1", "b2", "c1", "c2", "parent"]


@sqlite_only("there no unit holds a lock that others need")
def test_a_task_that_holds_the_lock_does_not_stop_the_loop(ledger: Ledger) -> None:
    """While one task holds the lock over an await, another task's commit fails at once instead of waiting for ever."""

    async def holder(go_on: asyncio.Event, holds: asyncio.Event) -> None:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("holder", 1)
            uow.sql("SELECT 1")
            holds.set()
            await go_on.wait()

    async def main() -> None:
        go_on, holds = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(holder(go_on, holds))
        await holds.wait()
        with pytest.raises(UsageError, match="write lock already"):
            put(ledger, "other")
        go_on.set()
        await task

    asyncio.run(main())
    assert keys(ledger) == ["holder"]


def test_a_cancelled_task(ledger: Ledger) -> None:
    """A task that is cancelled inside its block leaves nothing but the record."""

    async def main() -> UnitOfWork:
        uow = ledger.unit(space_id=SPACE, band="GREEN")
        inside = asyncio.Event()

        async def work() -> None:
            with uow:
                uow["notes"].create("n1", 1)
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return uow

    uow = asyncio.run(main())
    assert (uow.status, keys(ledger)) == ("failed", [])
    assert ledger.get(uow.uow_id).error_type == "CancelledError"


async def awaits_a_read(uow: Any) -> None:
    """As one writes it in an async unit."""
    await uow["notes"].get("n1")


async def awaits_a_statement(uow: Any) -> None:
    """Here the answer is a list."""
    await uow.sql("SELECT 1")


async def enters_a_savepoint(uow: Any) -> None:
    """It is entered with `with`."""
    async with uow.savepoint():
        pass


async def goes_through_hits(uow: Any) -> None:
    """They are there already."""
    async for _ in uow["notes"].get_many(["n1"]):
        pass


@pytest.mark.parametrize("body", [awaits_a_read, awaits_a_statement, enters_a_savepoint, goes_through_hits])
def test_awaiting_in_a_unit_that_is_not_async(ledger: Ledger, body: Any) -> None:
    """What Python says of it arrives with a note that says what to do; nothing was written."""

    async def main() -> None:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("n1", 1)
            await body(uow)

    with pytest.raises(TypeError) as caught:
        asyncio.run(main())
    assert "AsyncUnitOfWork" in "".join(caught.value.__notes__)
    assert (keys(ledger), statuses(ledger)) == ([], ["failed"])


def test_a_type_error_of_the_callers_own_is_left_alone(ledger: Ledger) -> None:
    """Nothing is added to it."""
    with pytest.raises(TypeError) as caught, ledger.unit(space_id=SPACE, band="GREEN"):
        throw(TypeError("something else"))
    assert not hasattr(caught.value, "__notes__")


# Generators


def holding(ledger: Ledger, key: str) -> Iterator[UnitOfWork]:
    """A generator that yields inside its unit's block."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create(key, 1)
        uow.sql("SELECT 1")
        yield uow


def test_a_generator_that_runs_to_its_end(ledger: Ledger) -> None:
    """A unit inside a generator is open while the generator rests, and commits when it goes on to its end."""
    for uow in holding(ledger, "n1"):
        assert uow.status == "pending"
        with pytest.raises(UsageError, match="open already"):
            put(ledger, "n2")
    assert (uow.status, keys(ledger)) == ("committed", ["n1"])
    put(ledger, "n2")


@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_a_generator_that_is_given_up(ledger: Ledger, how: str) -> None:
    """A generator that is closed, or simply dropped, undoes its unit and lets go of the lock."""
    generator = holding(ledger, "n1")
    uow = next(generator)
    if how == "closed":
        generator.close()  # type: ignore[attr-defined]
    del generator
    gc.collect()
    assert (uow.status, keys(ledger)) == ("failed", [])
    assert ledger.get(uow.uow_id).error_type == "GeneratorExit"
    put(ledger, "n2")


def test_a_generator_dropped_by_another_thread(ledger: Ledger) -> None:
    """Where another thread drops the generator, the thread that began the unit is free to begin others."""
    waiting = [holding(ledger, "n1")]
    uow = next(waiting[0])
    in_thread(waiting.clear)
    gc.collect()
    assert uow.status == "failed"
    put(ledger, "n2")
    assert keys(ledger) == ["n2"]


def test_an_async_generator_that_is_given_up(ledger: Ledger) -> None:
    """A unit inside an async generator is undone when the loop closes the generator, whoever does that."""

    async def generator() -> AsyncIterator[UnitOfWork]:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("n1", 1)
            yield uow

    async def main() -> UnitOfWork:
        return await anext(generator())

    uow = asyncio.run(main())
    assert (uow.status, keys(ledger)) == ("failed", [])
    put(ledger, "n2")


# Forks


@contextmanager
def child() -> Iterator[Callable[[], bool]]:
    """A forked child that runs the rest of its branch and never returns; the parent waits for it."""
    read, write = os.pipe()
    pid = os.fork()

    def is_child() -> bool:
        return pid == 0

    if pid == 0:
        os.close(read)
        try:
            yield is_child
            os.write(write, b"well")
        except BaseException as error:  # noqa: BLE001 - told to the parent
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    try:
        yield is_child
        with os.fdopen(read, "rb") as said:
            assert said.read().decode() == "well"
    finally:
        os.waitpid(pid, 0)


@pytest.mark.parametrize("locks", [False, True], ids=["buffered", "with the lock held"])
def test_a_fork_in_the_middle_of_a_unit(ledger: Ledger, locks: bool) -> None:
    """A forked child can do nothing with its parent's unit; the parent commits as if there had been no child."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        notes = uow["notes"]
        notes.create("n1", 1)
        if locks:
            uow.sql("SELECT 1")
        with child() as is_child:
            if is_child():
                for use in every_use(uow, notes):
                    with pytest.raises(UsageError, match="belongs to another thread, task or process"):
                        use()
                with pytest.raises(UsageError, match="opened by another process"):
                    ledger["notes"].get("n1", space_id=SPACE)
        notes.create("n2", 1)
    assert (uow.status, keys(ledger)) == ("committed", ["n1", "n2"])


LEAVES_IN_CHILD: Final = """
    import os, sqlite3, sys
    from memoryos_uow import Ledger, UsageError
    from tests.units import OwnError
    how, path = sys.argv[1], sys.argv[2]
    ledger = Ledger.open(path)
    child = None
    try:
        with ledger.unit(space_id="s", band="GREEN") as uow:
            for number in range(3000): uow["notes"].create(f"n{number}", "x" * 1000)  # more than SQLite caches
            uow.sql("SELECT 1")
            try:
                with uow.savepoint():
                    uow["notes"].create("last", 1)
                    uow.sql("SELECT 1")
                    child = os.fork()
                    if child == 0 and how == "savepoint": raise OwnError
            except OwnError:
                sys.exit(0)
            if child == 0 and how == "raise": raise OwnError
            if child == 0 and how == "exit": sys.exit(0)
            if child: assert os.waitpid(child, 0)[1] == 0
    except (OwnError, UsageError) as error:
        assert child == 0, error
        assert how == "raise" or "belongs to another" in str(error), error
        sys.exit(0)  # not os._exit: the interpreter takes everything down, connections too
    assert child, "the child came through"
    ledger.close()
    connection = sqlite3.connect(path)
    print(connection.execute("PRAGMA integrity_check").fetchone()[0])
    print(connection.execute("SELECT count(*) FROM uow_documents").fetchone()[0], uow.status)
"""


@pytest.mark.parametrize("how", ["end", "raise", "exit", "savepoint"])
def test_a_forked_child_that_leaves_the_block(tmp_path: Path, how: str) -> None:
    """A child that leaves its parent's block, by whatever way, and ends, disturbs nothing of the open transaction."""
    assert run(LEAVES_IN_CHILD, how, tmp_path / "memory.db").split() == ["ok", "3001", "committed"]


def test_a_forked_child_may_open_the_ledger_anew(ledger: Ledger) -> None:
    """Between units a forked child opens the file for itself, and both go on writing."""
    put(ledger, "before")
    with child() as is_child:
        if is_child():
            with pytest.raises(UsageError, match="opened by another process"):
                put(ledger, "through the parent's")
            with Ledger.open(address_of(ledger)) as own:
                put(own, "child")
        else:
            put(ledger, "parent")
    assert keys(ledger) == ["before", "child", "parent"]
    if ledger._opened.engine.excludes_others:
        assert rows(address_of(ledger), "PRAGMA integrity_check") == [("ok",)]


# Errors


def test_unknown_stores(wide: Ledger) -> None:
    """With stores given, another name is refused with the nearest one as a suggestion, and the unit goes on."""
    with wide.unit(space_id=SPACE, band="GREEN") as uow:
        with pytest.raises(UsageError, match=r"no store called 'note'.* Did you mean 'notes'\?"):
            uow["note"]
        with pytest.raises(UsageError, match="It has: embeddings, notes, orders, photos"):
            uow["xyz"]
        uow["notes"].create("n1", 1)
    assert uow.status == "committed"


@pytest.mark.parametrize(
    "name", ["sql", "SQL", "outbox", "uow_x", "unit of work", "", "1a", "ä", "a" * 64, 7, None, ["a"]]
)
def test_names_that_no_store_can_have(ledger: Ledger, name: Any) -> None:
    """Reserved and impossible names are refused, not made into stores."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        with pytest.raises(UsageError) as caught:
            uow[name]
        assert caught.value.hint
        with pytest.raises(UsageError):
            ledger[name]


def test_a_unit_on_a_closed_ledger(ledger: Ledger) -> None:
    """A closed ledger is refused before the block runs."""
    ledger.close()
    with pytest.raises(UsageError, match="is closed"), ledger.unit(space_id=SPACE, band="GREEN"):
        pytest.fail("the block ran")


def test_every_error_of_a_unit_names_it(ledger: Ledger) -> None:
    """Whatever a unit raises says which unit it was."""
    bad: list[Callable[[UnitOfWork], object]] = [
        lambda uow: uow["notes"].create("", 1),
        lambda uow: uow["notes"].create("n1", {1: 2}),
        lambda uow: uow["notes"].search("x"),
        lambda uow: uow.sql("SELEC"),
        lambda uow: uow.sql("SELECT ?", ()),
        lambda uow: uow["notes"].update("nobody", 1),
    ]
    for use in bad:
        uow = ledger.unit(space_id=SPACE, band="GREEN")
        with pytest.raises(UnitOfWorkError) as caught, uow:
            use(uow)
        assert caught.value.uow_id == uow.uow_id
        assert not isinstance(caught.value, LedgerError)


def test_asyncio_is_not_imported_for_units(tmp_path: Path) -> None:
    """A program without asyncio does not get it from using units."""
    code = """
        import sys
        from memoryos_uow import Ledger
        with Ledger.open(sys.argv[1]) as ledger, ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].create("n1", 1)
        print(uow.status, "asyncio" in sys.modules)
    """
    assert run(code, tmp_path / "memory.db").split() == ["committed", "False"]
    assert "asyncio" in sys.modules
