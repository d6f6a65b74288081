"""The async with-block: one unit of work that never lets its event loop wait.

Promise: the same unit, driven through the same protocol by the same coordinator; only where it runs differs. Reads, SQL
and the commit run in threads (`_lanes`), everything else at once. A cancelled task leaves all of the unit or none, and
a row that says which: what a thread has begun is waited for before the cancellation goes on.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar

from memoryos_uow import _ambient
from memoryos_uow._async_handles import AsyncUnitStore, Call
from memoryos_uow._claiming import Answer, Turn, Waiting
from memoryos_uow._default import default_opened
from memoryos_uow._hooks import check_callable
from memoryos_uow._lanes import at_once, in_lane, in_thread, lanes_of, take_lane
from memoryos_uow._names import MAX_KEY_BYTES, check_identifier
from memoryos_uow._ownership import on_behalf_of
from memoryos_uow._protocol import DECIDED, UNDECIDED, State
from memoryos_uow._unit_core import UnitCore, open_units
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from concurrent.futures import ThreadPoolExecutor
    from types import TracebackType

    from memoryos_uow._deadline import Deadline
    from memoryos_uow._hooks import Hooks
    from memoryos_uow._idempotency import Claim
    from memoryos_uow._open_ledger import OpenLedger
    from memoryos_uow._records import Hit
    from memoryos_uow._unit_state import UnitState
    from memoryos_uow.abc import Store

T = TypeVar("T")


async def take_key(ledger: OpenLedger, claim: Claim, deadline: Deadline | None) -> Answer | None:
    """Wait until an idempotency key is ours, and return None; or until there is an answer: `Claiming.take`, awaited.

    A caller that gets an exception lets go of the claim: it may have been made.
    """
    waiting = Waiting(ledger.engine.busy_timeout_s, deadline)
    while True:
        answer = await in_lane(ledger, deadline, ledger.claiming.ask, claim, deadline)
        if isinstance(answer, Answer):
            return answer
        if answer is Turn.OURS:
            return None
        await asyncio.sleep(waiting.pause_s())


def refuse_to_wait_for_oneself(ledger: OpenLedger, *, uow_id: str | None = None) -> None:
    """Raise UsageError if a unit of this task holds the lock: the task would never come to give it back."""
    if any(unit._holds_lock_of(ledger) for unit in open_units()):  # noqa: SLF001
        raise UsageError(
            "This task holds the ledger's write lock already, in another unit of work.",
            hint="Nothing was written. End that unit first, or use uow.savepoint() inside it.",
            uow_id=uow_id,
        )


class AsyncUnitOfWork(UnitCore):
    """One atomic, receipted write across several stores, in an asyncio task.

    ```python
    import asyncio

    from memoryos_uow import AsyncUnitOfWork


    async def main():
        async with AsyncUnitOfWork(space_id="shared:household", band="GREEN") as uow:
            uow["notes"].create("n1", {"text": "milk is out"})
            print(await uow["notes"].get("n1"), uow.status)
        print(uow.status)


    asyncio.run(main())
    ```
    ```output
    {'text': 'milk is out'} pending
    committed
    ```

    Arguments, errors and promises are those of `UnitOfWork`. What writes one record only buffers and is not awaited;
    what reads, runs SQL or ends the unit is. No call lets the event loop wait for a disk or a lock. A unit belongs to
    the task that entered its block.

    A task that is cancelled, also by ``asyncio.timeout``, leaves all of its unit or nothing. Cancelling does not call
    back what a thread is doing already: a commit is waited for, at most for ``busy_timeout`` or until the unit's own
    ``timeout`` if another process holds the lock, and then `asyncio.CancelledError` goes on; ``uow.status`` says what
    became of the unit.
    """

    _lane: ThreadPoolExecutor | None = None
    _full = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._unawaited: set[Call[Any]] = set()

    # The block

    def __enter__(self) -> NoReturn:
        raise UsageError(
            "An async unit of work is entered with `async with`.",
            hint="Nothing was written. Write `async with AsyncUnitOfWork(...) as uow:`, or use UnitOfWork.",
        )

    def __exit__(self, *_: object) -> None:
        """Never called: the block cannot be entered."""

    async def __aenter__(self) -> Self:
        await self._find_ledger_in_thread()
        self._begin()
        if self._key is not None and self._attempt is None:
            await self._claim_key(self._key)
        return self

    async def _find_ledger_in_thread(self) -> OpenLedger:
        """Return the unit's ledger; opening the default one takes a while."""
        if self._ledger is None:
            self._ledger = await asyncio.to_thread(default_opened)
        return self._ledger

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> Literal[False]:
        self._live()
        try:
            self._leave_context()
            await self._leave(exc)
        except BaseException as error:
            await self._end_failed(error)  # does nothing to a unit that is over
            raise
        finally:
            await self._wind_up(exc)
        return False

    async def _leave(self, exc: BaseException | None) -> None:
        if exc is not None:
            await self._end_failed(exc)
            return
        state, ledger = self._live()
        self._refuse_others()
        if state.state is State.FAILED:  # by somebody else, inside the block
            raise self._over() from state.error
        if state.state is State.ACTIVE:  # else rolled back inside the block
            self._refuse_unawaited()
            await self._in_lane(ledger.coordinator.commit, state)

    def _refuse_unawaited(self) -> None:
        if self._unawaited:
            names = ", ".join(sorted({f"{call.name}()" for call in self._unawaited}))
            raise UsageError(
                f"{len(self._unawaited)} calls of this unit were never awaited: {names}.",
                hint="Nothing was written. Write `await` before each.",
                uow_id=self._uow_id,
            )

    async def _end_failed(self, error: BaseException) -> None:
        state, ledger = self._live()
        if state.state not in UNDECIDED or self._owner.process != _ambient.process_id():
            return
        await self._in_any_thread(error, ledger.coordinator.fail, state, error)

    async def _wind_up(self, exc: BaseException | None) -> None:
        """Do what comes after the end: free the idempotency key, call the hooks."""
        state, ledger = self._live()
        if self._owner.process != _ambient.process_id():
            return
        try:
            if state.claim is not None and self._attempt is None:
                used = state.state in DECIDED
                await self._in_any_thread(exc, partial(ledger.claiming.let_go, state.claim, used=used))
        finally:
            if state.hooks is not None:
                await self._run_async_hooks(state, state.hooks)

    def rollback(self) -> Awaitable[None]:
        """End the unit now and keep nothing of it; the rest of the block may run but not write. To be awaited.

        Raises:
            UsageError: the unit is over, was not begun, or belongs to another thread or task.
        """
        return self._call("rollback", self._roll_back)

    async def _roll_back(self) -> None:
        state, ledger = self._open()
        await self._in_any_thread(None, ledger.coordinator.roll_back, state)
        self._unawaited.clear()
        await self._wind_up(None)

    async def _claim_key(self, key: str) -> None:
        """Wait until nobody else is at work under `key`; end the unit at once if somebody has done the work."""
        state, ledger = self._live()
        claim = ledger.claiming.new_claim(self._space_id, key)
        try:
            answer = await take_key(ledger, claim, state.facts.deadline)
        except BaseException as error:
            self._leave_context()
            state.never_began(error)
            await self._in_any_thread(error, ledger.claiming.let_go, claim)
            raise
        if answer is not None:
            duplicate = answer.as_error()
            self._leave_context()
            state.never_began(duplicate)
            raise duplicate
        state.claim = claim

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """A point to return to: an exception that leaves this block undoes only what the block wrote, and goes on.

        As `UnitOfWork.savepoint`, entered with ``async with``.

        Raises:
            UsageError: the unit is over, or belongs to another thread or task; or, at the block's end, a savepoint
                that was begun later is still open.
        """
        state, ledger = self._active()
        mark = self._new_mark(state)
        try:
            yield
        except BaseException as error:
            if self._problem_with_caller() is not None:
                await self._end_failed(error)  # nobody but the owner may go on with it
            elif state.state is State.ACTIVE:
                await self._where_the_lock_is(error, partial(ledger.coordinator.transactions.return_to, state, mark))
            raise
        if state.state is State.ACTIVE:
            self._active()
            await self._where_the_lock_is(None, partial(ledger.coordinator.transactions.keep, state, mark))

    # Stores and SQL

    def __getitem__(self, store: str) -> AsyncUnitStore:
        """Return the store called `store` as this unit sees it.

        Raises:
            UsageError: the ledger has no such store, or the unit is over.
        """
        _, ledger = self._active()
        return AsyncUnitStore(self, ledger.store(store))

    def sql(
        self, statement: str, parameters: Sequence[object] | Mapping[str, object] = ()
    ) -> Awaitable[list[tuple[Any, ...]]]:
        """Run one SQL statement on the ledger's file, as `UnitOfWork.sql` does. To be awaited."""
        return self._call("sql", partial(self._sql, statement, parameters))

    async def _sql(self, statement: str, parameters: Sequence[object] | Mapping[str, object]) -> list[tuple[Any, ...]]:
        state, ledger = self._active()
        return await self._in_lane(ledger.sql.run, state, statement, parameters)

    def _call(self, name: str, start: Callable[[], Any]) -> Call[Any]:
        return Call(name, start, self._unawaited)

    # For the handles

    def _relieve(self, state: UnitState, ledger: OpenLedger) -> None:  # noqa: ARG002 - as its base has it
        self._full = True  # the next awaited call sees to it

    async def _relieve_if_full(self) -> None:
        if self._full:
            state, ledger = self._active()
            self._full = False
            await self._in_lane(ledger.coordinator.streaming.relieve, state)

    async def _read(self, store: Store, key: str, default: object) -> Any:
        state, ledger = self._active()
        key = check_identifier(key, "key", max_bytes=MAX_KEY_BYTES)
        await self._relieve_if_full()
        reading = ledger.coordinator.reading
        if reading.is_at_hand(state, store, key):
            return reading.read(state, store, key, default)
        if state.tx is not None or state.buffer.newest(store.name, key) is not None:
            return await self._in_lane(reading.read, state, store, key, default)
        return await self._in_common(reading.read, state, store, key, default)

    async def _search(self, store: Store, query: object, k: int, options: Mapping[str, Any]) -> list[Hit]:
        state, ledger = self._active()
        return await self._in_lane(ledger.coordinator.reading.search, state, store, query, k, options)

    # Threads

    async def _in_lane(self, call: Callable[..., T], *args: object) -> T:
        """Return what `call` returns in the unit's own thread, kept as long as the unit's transaction is open."""
        state, ledger = self._live()
        lanes = lanes_of(ledger)
        if self._lane is None:
            refuse_to_wait_for_oneself(ledger, uow_id=self._uow_id)
            self._lane = await take_lane(ledger, state.facts.deadline)
        lane = self._lane
        try:
            return await in_thread(lane, on_behalf_of, self._owner, call, *args)
        finally:
            if state.tx is None:
                self._lane = None
                lanes.give_back(lane)

    async def _in_common(self, call: Callable[..., T], *args: object) -> T:
        """Return what `call` returns in any thread: for what begins no transaction, or waits only briefly for one."""
        _, ledger = self._live()
        return await in_thread(lanes_of(ledger).common, on_behalf_of, self._owner, call, *args)

    async def _in_any_thread(self, error: BaseException | None, call: Callable[..., T], *args: object) -> T:
        """Return what `call` returns where the unit's transaction is, if there is one."""
        if self._lane is None and self._live()[1].closed:
            return call(*args)  # nothing is left to wait for
        if isinstance(error, GeneratorExit):  # the coroutine is being thrown away: it may not await any more
            state, ledger = self._live()
            try:
                result: T = at_once(self._lane or lanes_of(ledger).common, on_behalf_of, self._owner, call, *args)
            finally:
                if self._lane is not None and state.tx is None:
                    lanes_of(ledger).give_back(self._lane)
                    self._lane = None
            return result
        if self._lane is None:
            return await self._in_common(call, *args)
        return await self._in_lane(call, *args)

    async def _where_the_lock_is(self, error: BaseException | None, call: Callable[[], None]) -> None:
        """Do what needs no thread unless the unit's transaction is open."""
        if self._lane is None:
            call()
        else:
            await self._in_any_thread(error, call)

    # Hooks

    @staticmethod
    def _check_hook(hook: object) -> None:
        check_callable(hook)

    async def _run_async_hooks(self, state: UnitState, hooks: Hooks) -> None:
        """Call the hooks that are due, and await what they return if it can be awaited."""
        if state.state not in (*DECIDED, State.FAILED, State.ROLLED_BACK):
            return
        committed = state.state in DECIDED
        cancelled: asyncio.CancelledError | None = None
        for hook in hooks.take(committed=committed):
            try:
                result = hook(state.receipt if committed else state.error)
                if isawaitable(result):
                    await result
            except asyncio.CancelledError as error:
                cancelled = error  # the others are called all the same
            except Exception as error:  # noqa: BLE001 - an application's function may raise anything
                hooks.failed(self._uow_id, error)
        if cancelled is not None:
            raise cancelled
