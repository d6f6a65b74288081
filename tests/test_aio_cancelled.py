"""A task that is cancelled at any of its awaits leaves all of its unit or nothing, and a row that says which."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import AsyncLedger, AsyncUnitOfWork, Ledger
from memoryos_uow._lanes import LANES_MAX, in_thread, lanes_of
from tests.async_tools import LOOPS, cancelled_at, run
from tests.units import SPACE, OwnError, four_stores, throw

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Loop = Callable[[], asyncio.AbstractEventLoop]

pytestmark = pytest.mark.parametrize("loop", LOOPS)

STORES = ("notes", "orders", "embeddings", "photos")


def value(store: str) -> object:
    """A value for a store of each kind; the blob is a file."""
    return {"notes": {"text": "milk"}, "orders": {"n": 1}, "embeddings": [1.0, 0.0], "photos": b"p" * 100}[store]


async def buffered(uow: AsyncUnitOfWork, key: str) -> None:
    """Write to every store, and read what is not there."""
    for store in STORES:
        uow[store].create(key, value(store))
    assert await uow["notes"].get("absent") is None


async def locked(uow: AsyncUnitOfWork, key: str) -> None:
    """Take the lock early, and keep it over awaits; use a savepoint and a search."""
    uow["notes"].create(key, value("notes"))
    await uow.sql("SELECT 1")
    try:
        async with uow.savepoint():
            uow["notes"].create(f"{key} undone", 1)
            assert await uow["notes"].search("milk")
            throw(OwnError())
    except OwnError:
        pass
    async with uow.savepoint():
        await uow["orders"].create_many({key: value("orders")})
        await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    for store in STORES[2:]:
        uow[store].create(key, value(store))


def present(ledger: Ledger, key: str) -> list[str]:
    """The stores that hold the record."""
    return [store for store in STORES if ledger[store].get(key, space_id=SPACE) is not None]


@pytest.mark.parametrize("body", [buffered, locked], ids=["buffered", "with the lock held"])
def test_cancelled_at_any_await(tmp_path: Path, loop: Loop, body: Callable[..., Any]) -> None:
    """All stores hold the record and the row says committed, or none does and it says failed; no lane is lost.

    The idempotency key is used up by a committed unit only, and each hook is called at most once, for the right end.
    """

    async def work(ledger: Ledger, key: str, units: list[AsyncUnitOfWork], heard: list[str]) -> None:
        uow = AsyncUnitOfWork(space_id=SPACE, band="GREEN", ledger=ledger, idempotency_key=key)
        units.append(uow)
        async with uow:
            uow.after_commit(lambda _: heard.append("committed"))
            uow.after_rollback(lambda _: heard.append("failed"))
            await body(uow, key)

    async def main(ledger: Ledger) -> int:
        ends = set()
        number = 0
        while True:
            number += 1
            key, units, heard = f"k{number}", list[AsyncUnitOfWork](), list[str]()
            steps, cancelled = await cancelled_at(work(ledger, key, units, heard), number)
            (uow,) = units
            ends.add(uow.status.value)
            check(ledger, uow, key, heard)
            if steps < number:
                assert not cancelled
                break
            assert cancelled
            if uow.status != "committed":
                units.clear()
                heard.clear()
                await work(ledger, key, units, heard)  # the key is free, and the lock too
                check(ledger, units[0], key, heard)
        assert ends == {"committed", "failed"}
        return number

    def check(ledger: Ledger, uow: AsyncUnitOfWork, key: str, heard: list[str]) -> None:
        lanes = lanes_of(ledger._opened)
        assert len(lanes._idle) == len(lanes._made)
        assert ledger["notes"].get(f"{key} undone", space_id=SPACE) is None
        if uow.status == "committed":
            assert present(ledger, key) == list(STORES)
            assert ledger.get(uow.uow_id).status == "committed"
            assert uow.receipt == ledger.receipt(uow.uow_id)
            assert heard == ["committed"]
        else:
            assert uow.status == "failed"
            assert present(ledger, key) == []
            assert uow.receipt is None
            assert isinstance(uow.error, asyncio.CancelledError)
            assert [record.status for record in ledger.units() if record.uow_id == uow.uow_id] in ([], ["failed"])
            assert heard in ([], ["failed"])

    with Ledger.open(tmp_path / "memory.db", stores=four_stores(), durability="normal") as ledger:
        assert run(loop, main(ledger)) >= 5
        assert ledger.validate() == []


def test_run_cancelled_at_any_await(ledger: Ledger, loop: Loop) -> None:
    """`AsyncLedger.run` as well: the next call under the same key does the work, or replays it if it was done."""
    calls: list[str] = []

    async def body(uow: AsyncUnitOfWork, key: str) -> str:
        calls.append(key)
        assert await uow["notes"].get(key) is None
        uow["notes"].create(key, 1)
        return key

    async def main() -> None:
        face = AsyncLedger(ledger)
        number, steps = 0, 1
        while steps >= number:
            number += 1
            key = f"k{number}"
            options: dict[str, Any] = {"space_id": SPACE, "band": "GREEN", "idempotency_key": key, "args": (key,)}
            steps, _ = await cancelled_at(face.run(body, **options), number)
            done = ledger["notes"].get(key, space_id=SPACE) is not None
            outcome = await face.run(body, **options)
            assert (outcome.value, outcome.replayed) == (key, done)
            assert calls.count(key) <= 2
        assert number > 3

    run(loop, main())


def test_a_commit_is_waited_for(ledger: Ledger, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a thread commits, a cancelled task waits for what comes of it, however often it is cancelled."""
    begun, may_go_on = threading.Event(), threading.Event()
    real = ledger._opened.coordinator.commit

    def commit(state: Any) -> None:
        begun.set()
        may_go_on.wait()
        real(state)

    monkeypatch.setattr(ledger._opened.coordinator, "commit", commit)

    async def work(uow: AsyncUnitOfWork) -> None:
        async with uow:
            uow["notes"].create("a", 1)

    async def main() -> None:
        uow = AsyncUnitOfWork(space_id=SPACE, band="GREEN", ledger=ledger)
        task = asyncio.ensure_future(work(uow))
        await asyncio.to_thread(begun.wait)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.002)
            assert not task.done()
        may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert uow.status == "committed"

    run(loop, main())
    assert ledger["notes"].get("a", space_id=SPACE) == 1


def test_a_failing_call_of_a_cancelled_task_is_quiet(loop: Loop) -> None:
    """The cancellation goes on; what the thread raised is not reported as an exception that nobody saw."""

    async def main() -> None:
        problems: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        lanes = lanes_of(_Ledger())  # type: ignore[arg-type]
        may_go_on = threading.Event()

        def call() -> None:
            may_go_on.wait()
            raise ZeroDivisionError

        task = asyncio.ensure_future(in_thread(lanes.common, call))
        await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.sleep(0.002)
        may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        assert problems == []
        lanes.close()

    run(loop, main())


class _Ledger:
    """As much of an open ledger as lanes ask of it."""

    excludes_others = True

    def __init__(self) -> None:
        self.at_close: list[Callable[[], None]] = []
        self.engine = self

    def refuse_misuse(self) -> None:
        """It is open, and this process's."""


def test_a_call_of_a_coroutine_that_is_thrown_away_is_waited_for(loop: Loop) -> None:
    """It is told that it is not wanted any more, and nothing of it is at work when the coroutine is gone."""
    unwanted = threading.Event()
    done: list[bool] = []

    async def main() -> None:
        with ThreadPoolExecutor(1) as pool:
            call = in_thread(pool, lambda: done.append(unwanted.wait(60)), when_cancelled=unwanted.set)
            call.send(None)
            call.close()
            assert done == [True]

    run(loop, main())


def test_a_lane_that_comes_too_late_is_passed_on(loop: Loop) -> None:
    """Whoever was cancelled in the moment in which a lane was handed over gives it to the next."""

    async def main() -> None:
        lanes = lanes_of(_Ledger())  # type: ignore[arg-type]
        taken = [await lanes.take(1) for _ in range(LANES_MAX)]
        first, second = (asyncio.ensure_future(lanes.take(5)) for _ in range(2))
        await asyncio.sleep(0)
        lanes.give_back(taken.pop())
        first.cancel()  # the lane is on its way to it
        taken.append(await second)
        assert first.cancelled()
        third = asyncio.ensure_future(lanes.take(5))
        await asyncio.sleep(0)
        lanes.give_back(taken.pop())
        await asyncio.sleep(0)
        third.cancel()  # the lane has reached it, and it has not woken up yet
        await asyncio.gather(third, return_exceptions=True)
        assert len(taken) + len(lanes._idle) + (not third.cancelled()) == LANES_MAX
        lanes.close()

    run(loop, main())


def test_a_waiter_on_a_closed_loop_is_passed_over(loop: Loop) -> None:
    """A loop that was closed with a task still waiting does not swallow a lane."""
    lanes = lanes_of(_Ledger())  # type: ignore[arg-type]

    async def take_all() -> list[Any]:
        return [await lanes.take(1) for _ in range(LANES_MAX)]

    taken = run(loop, take_all())
    abandoned = loop()
    waiting = lanes.take(5)
    task = abandoned.create_task(waiting)
    abandoned.run_until_complete(asyncio.sleep(0))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    abandoned.close()
    lanes.give_back(taken.pop())
    assert len(lanes._idle) == 1
    lanes.close()
    waiting.close()


def test_opening_that_was_cancelled_closes_the_ledger(
    tmp_path: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread opens it all the same; then it is closed again, and the cancellation goes on."""
    closed: list[Path] = []
    real = Ledger.close

    def close(ledger: Ledger) -> None:
        closed.append(ledger.path)
        real(ledger)

    monkeypatch.setattr(Ledger, "close", close)

    async def opened() -> AsyncLedger:
        return await AsyncLedger.open(tmp_path / "memory.db")

    async def main() -> None:
        _, cancelled = await cancelled_at(opened(), 1)
        assert cancelled

    run(loop, main())
    assert closed == [tmp_path / "memory.db"]
