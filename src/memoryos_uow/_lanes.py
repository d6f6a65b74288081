"""Threads in which the async face does its input and output, so that no event loop ever waits for a file or a lock.

A unit's open transaction belongs to the thread that began it. So whoever opens one holds a *lane*, one thread of its
own, until the transaction is over. There are few lanes, and who waits for one waits on its event loop, not in a thread:
hundreds of units cannot take the thread away that the holder of the ledger's lock needs to go on.

Promise: what was handed to a thread is waited for, also by a cancelled task, which learns of its cancellation after
that; nothing is ever at work behind the back of its unit. Event loops in several threads may share the lanes.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from memoryos_uow._ownership import Owner, on_behalf_of
from memoryos_uow.errors import LedgerBusy

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from memoryos_uow._deadline import Deadline
    from memoryos_uow._open_ledger import OpenLedger

T = TypeVar("T")

LANES_MAX: Final = 16
"""How many units of one ledger may have a transaction open, or ask for one, at a time."""
LANES_AT_ONCE_MAX: Final = 32
"""The same where transactions do not wait for each other: fewer than connections, so that others get one too."""
READERS_MAX: Final = 8
"""How many calls that open no transaction may be under way at a time."""


class _Waiter(NamedTuple):
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[ThreadPoolExecutor]


class Lanes:
    """The threads of one ledger."""

    def __init__(self, lanes_max: int = LANES_MAX) -> None:
        self._lanes_max = lanes_max
        self.common = ThreadPoolExecutor(READERS_MAX, thread_name_prefix="memoryos-uow")
        """For what opens no transaction, or waits only briefly for one."""
        self._lock = threading.Lock()
        self._made: list[ThreadPoolExecutor] = []
        self._idle: list[ThreadPoolExecutor] = []
        self._waiting: deque[_Waiter] = deque()

    async def take(self, wait_s: float) -> ThreadPoolExecutor:
        """Return a lane, which the caller gives back; first come, first served.

        Raises:
            TimeoutError: none was free within `wait_s` seconds.
        """
        with self._lock:
            if self._idle:
                return self._idle.pop()
            if len(self._made) < self._lanes_max:
                lane = ThreadPoolExecutor(1, thread_name_prefix=f"memoryos-uow-lane-{len(self._made)}")
                self._made.append(lane)
                return lane
            loop = asyncio.get_running_loop()
            waiter = _Waiter(loop, loop.create_future())
            self._waiting.append(waiter)
        try:
            async with asyncio.timeout(wait_s):
                return await waiter.future
        except BaseException:
            with self._lock:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
            if waiter.future.done() and not waiter.future.cancelled():  # it came in the same moment
                self.give_back(waiter.future.result())
            raise

    def give_back(self, lane: ThreadPoolExecutor) -> None:
        """Lend `lane` to whoever waits longest, or keep it."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._idle.append(lane)
                    return
                waiter = self._waiting.popleft()
            try:
                waiter.loop.call_soon_threadsafe(self._hand_over, waiter, lane)
            except RuntimeError:  # its loop is closed: nobody waits there any more
                continue
            return

    def _hand_over(self, waiter: _Waiter, lane: ThreadPoolExecutor) -> None:
        if waiter.future.done():  # cancelled meanwhile
            self.give_back(lane)
        else:
            waiter.future.set_result(lane)

    def close(self) -> None:
        """Let the threads end once they are idle; the lanes cannot be used any more."""
        for executor in (self.common, *self._made):
            executor.shutdown(wait=False)


_lanes: WeakKeyDictionary[object, Lanes] = WeakKeyDictionary()
_making = threading.Lock()


def nothing() -> None:
    """Tell a call nothing."""


def lanes_of(ledger: OpenLedger) -> Lanes:
    """Return the lanes of an open ledger, made when they are first asked for; they end with it.

    Raises:
        UsageError: it was closed, or another process opened it: its threads are not here.
    """
    ledger.engine.refuse_misuse()
    with _making:
        lanes = _lanes.get(ledger)
        if lanes is None:
            lanes = _lanes[ledger] = Lanes(LANES_MAX if ledger.engine.excludes_others else LANES_AT_ONCE_MAX)
            ledger.at_close.append(lanes.close)
        return lanes


async def in_thread(
    executor: ThreadPoolExecutor, call: Callable[..., T], *args: object, when_cancelled: Callable[[], None] = nothing
) -> T:
    """Return what `call` returns in a thread of `executor`, in a copy of the caller's context.

    A cancelled caller waits until the call is over, then `asyncio.CancelledError` goes on its way; `when_cancelled` may
    tell the call that it is not wanted any more.
    """
    work = executor.submit(copy_context().run, call, *args)
    waiter = asyncio.wrap_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not waiter.done():
        try:
            await asyncio.wait((waiter,))
        except asyncio.CancelledError as error:
            cancelled = error
            when_cancelled()
        except GeneratorExit:  # the coroutine is being thrown away: it may not await any more
            when_cancelled()
            wait((work,))
            raise
    if cancelled is not None:
        waiter.exception()  # it was seen, so nobody is to be told that it was not
        raise cancelled
    return waiter.result()


async def in_lane(ledger: OpenLedger, deadline: Deadline | None, call: Callable[..., T], *args: object) -> T:
    """Return what `call`, which may wait for the ledger's lock, returns in a thread that is lent for this one call.

    Raises:
        LedgerBusy, UnitTimeout: no thread was free in time.
    """
    lanes = lanes_of(ledger)
    lane = await take_lane(ledger, deadline)
    try:
        return await in_thread(lane, on_behalf_of, Owner.of_this_moment(), call, *args)
    finally:
        lanes.give_back(lane)


async def in_common(ledger: OpenLedger, call: Callable[..., T], *args: object) -> T:
    """Return what `call`, which waits for the ledger's lock briefly or not at all, returns in any thread."""
    return await in_thread(lanes_of(ledger).common, on_behalf_of, Owner.of_this_moment(), call, *args)


async def take_lane(ledger: OpenLedger, deadline: Deadline | None) -> ThreadPoolExecutor:
    """Return a lane of `ledger`, waited for until the deadline, or else for its busy timeout.

    Raises:
        LedgerBusy, UnitTimeout: none was free in time.
    """
    wait_s = ledger.engine.busy_timeout_s if deadline is None else deadline.left_s()
    try:
        return await lanes_of(ledger).take(wait_s)
    except TimeoutError:
        if deadline is not None:
            raise deadline.error() from None
        raise LedgerBusy(
            f"Other async units of this process kept {ledger.engine.place} busy for {wait_s:.3g} s.",
            hint="Nothing was written. Run the unit again, or allow more busy_timeout.",
        ) from None


def at_once(executor: ThreadPoolExecutor, call: Callable[..., T], *args: object) -> T:
    """Do the same for a caller that may not await: it blocks its event loop."""
    work: Future[T] = executor.submit(copy_context().run, call, *args)
    return work.result()
