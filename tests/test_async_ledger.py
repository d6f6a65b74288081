"""The async face of a ledger: the same answers, and an event loop that never waits. Under asyncio and under uvloop."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import (
    AsyncLedger,
    AsyncUnitOfWork,
    Ledger,
    RecordExists,
    UsageError,
)
from tests.async_tools import LOOPS, run
from tests.units import SPACE, four_stores

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow import Message

    Loop = Callable[[], asyncio.AbstractEventLoop]

pytestmark = pytest.mark.parametrize("loop", LOOPS)


def unit(ledger: Ledger | AsyncLedger, **options: Any) -> AsyncUnitOfWork:
    """A unit of band GREEN in the usual space."""
    return AsyncUnitOfWork(space_id=SPACE, band="GREEN", ledger=ledger, **options)


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
