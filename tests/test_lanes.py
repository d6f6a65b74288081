"""Threads of async units: no call lets the event loop wait, and who holds the lock always has one to go on with."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import (
    AsyncLedger,
    AsyncUnitOfWork,
    Ledger,
    LedgerBusy,
    UnitTimeout,
    UsageError,
    _ambient,
)
from memoryos_uow._lanes import LANES_MAX, lanes_of
from tests.async_tools import LOOPS, run
from tests.units import SPACE

if TYPE_CHECKING:
    from collections.abc import Callable

    Loop = Callable[[], asyncio.AbstractEventLoop]

pytestmark = pytest.mark.parametrize("loop", LOOPS)


def unit(ledger: Ledger | AsyncLedger, **options: Any) -> AsyncUnitOfWork:
    """A unit of band GREEN in the usual space."""
    return AsyncUnitOfWork(space_id=SPACE, band="GREEN", ledger=ledger, **options)


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
