"""The ledger as asyncio programs see it: the same ledger, asked in threads.

Promise: no call lets the event loop wait for a file or a lock; nothing is decided here.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from memoryos_uow._async_handles import AsyncLedgerStore
from memoryos_uow._lanes import in_common, in_thread, nothing
from memoryos_uow._ownership import Owner, on_behalf_of
from memoryos_uow._relay.arguments import check_stop
from memoryos_uow._requests import Request
from memoryos_uow._retrying import ATTEMPTS
from memoryos_uow._running_async import run_async
from memoryos_uow.aio import AsyncUnitOfWork, refuse_to_wait_for_oneself
from memoryos_uow.errors import UsageError
from memoryos_uow.ledger import Ledger

if TYPE_CHECKING:
    import os
    import threading
    from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType

    from memoryos_uow._messages import Message, RelayReport
    from memoryos_uow._open_ledger import OpenLedger
    from memoryos_uow._records import Erasure, RecoveryReport, UnitRecord, Violation
    from memoryos_uow._requests import Outcome
    from memoryos_uow.receipts import Receipt
    from memoryos_uow.statistics import Statistics
    from memoryos_uow.verification import Verification

T = TypeVar("T")


class AsyncLedger:
    """A ledger with its stores, for asyncio.

    Open one with `AsyncLedger.open`, or make one of a `Ledger` that is open: both may be used side by side.

    ```python
    import asyncio

    from memoryos_uow import AsyncLedger


    async def main():
        async with AsyncLedger.open("memory.db") as ledger:
            async with ledger.unit(space_id="shared:household", band="GREEN") as uow:
                uow["notes"].create("n1", {"text": "milk is out"})
            print((await ledger.get(uow.uow_id)).status)
            print(await ledger["notes"].get("n1", space_id="shared:household"))


    asyncio.run(main())
    ```
    ```output
    committed
    {'text': 'milk is out'}
    ```
    """

    def __init__(self, ledger: Ledger) -> None:
        if not isinstance(ledger, Ledger):
            raise UsageError(
                f"An AsyncLedger is made of an open Ledger, not of a {type(ledger).__name__}.",
                hint="Or open one: `async with AsyncLedger.open(...) as ledger:`.",
            )
        self.ledger = ledger
        """The same ledger, for what has no async form: call it with ``asyncio.to_thread``."""

    @property
    def _opened(self) -> OpenLedger:  # units ask a ledger for it
        return self.ledger._opened  # noqa: SLF001 - two faces of one thing

    @classmethod
    def open(cls, path_or_url: str | os.PathLike[str] = "memory.db", **options: Any) -> Opening:
        """Open the ledger at a path; options and errors are those of `Ledger.open`.

        Use it as ``async with AsyncLedger.open(...) as ledger``, which closes it, or ``await AsyncLedger.open(...)``.
        """
        return Opening(partial(Ledger.open, path_or_url, **options))

    # Units

    def unit(self, **options: Any) -> AsyncUnitOfWork:
        """Return an async unit of work on this ledger; the options are those of `UnitOfWork`."""
        return AsyncUnitOfWork(ledger=self, **options)

    async def run(
        self,
        fn: Callable[..., Awaitable[T]],
        *,
        args: Sequence[object] = (),
        kwargs: Mapping[str, Any] | None = None,
        attempts: int = ATTEMPTS,
        timeout: float | None = None,  # noqa: ASYNC109 - the unit's deadline, which is more than a timeout
        idempotency_key: str | None = None,
        arguments: object = None,
        **options: Any,
    ) -> Outcome[T]:
        """Run the coroutine function `fn` as a unit of work, ``await fn(uow, *args, **kwargs)``, as `Ledger.run` does.

        Arguments, errors and promises are those of `Ledger.run`. A cancelled task leaves all of an attempt or nothing,
        and its idempotency key free unless the unit is committed.
        """
        request = Request(
            fn,
            args,
            kwargs,
            attempts=attempts,
            timeout=timeout,
            idempotency_key=idempotency_key,
            arguments=arguments,
            options={**options, "ledger": self},
            awaited=True,
        )
        return await run_async(request)

    def __getitem__(self, store: str) -> AsyncLedgerStore:
        """Return the store called `store`, for reading outside a unit.

        Raises:
            UsageError: the ledger has no such store.
        """
        return AsyncLedgerStore(self.ledger[store], partial(in_common, self._opened))

    # Records

    async def get(self, uow_id: str) -> UnitRecord:
        """Return the record of a unit, with its writes: `Ledger.get`."""
        return await self._ask(self.ledger.get, uow_id)

    async def units(
        self,
        *,
        space_id: str | None = None,
        band: str | None = None,
        status: str | None = None,
        actor_id: str | None = None,
        correlation_id: str | None = None,
        since: str | datetime | None = None,
        limit: int = 50,
    ) -> list[UnitRecord]:
        """Return the newest units that match every given filter: `Ledger.units`."""
        return await self._ask(
            partial(
                self.ledger.units,
                space_id=space_id,
                band=band,
                status=status,
                actor_id=actor_id,
                correlation_id=correlation_id,
                since=since,
                limit=limit,
            )
        )

    async def receipt(self, uow_id: str) -> Receipt:
        """Return the receipt of a committed unit: `Ledger.receipt`."""
        return await self._ask(self.ledger.receipt, uow_id)

    async def validate(self) -> list[Violation]:
        """Run the specification's five contract validations: `Ledger.validate`."""
        return await self._ask(self.ledger.validate)

    # Looking after it; each in a thread of its own, because it may take long

    async def recover(self) -> RecoveryReport:
        """Finish what other processes left unfinished: `Ledger.recover`."""
        refuse_to_wait_for_oneself(self._opened)
        return await self._alone(self.ledger.recover)

    async def verify(self, **options: Any) -> Verification:
        """Recompute every receipt, and compare what the stores hold with it: `Ledger.verify`, with its options."""
        return await self._alone(partial(self.ledger.verify, **options))

    async def stats(self, **options: Any) -> Statistics:
        """Count units, failures, retries and bytes: `Ledger.stats`, with its options."""
        return await self._alone(partial(self.ledger.stats, **options))

    async def checkpoint(self) -> str:
        """Return the newest head of the receipt log, for keeping elsewhere: `Ledger.checkpoint`."""
        return await self._alone(self.ledger.checkpoint)

    async def erase(self, **what: Any) -> Erasure:
        """Remove a record with its history: `Ledger.erase`, with its arguments. Cancelling does not call it back."""
        refuse_to_wait_for_oneself(self._opened)
        return await self._alone(partial(self.ledger.erase, **what))

    async def relay(
        self, sink: Callable[[Message], object], *, stop: threading.Event | None = None, **options: Any
    ) -> RelayReport:
        """Deliver messages that units have published: `Ledger.relay`, with its options.

        Works until `stop` is set or the task is cancelled, and then ends after the message that it is delivering. The
        sink is a plain function, called in the relay's thread, so it may take its time.
        """
        refuse_to_wait_for_oneself(self._opened)
        stopping = check_stop(stop)
        return await self._alone(
            partial(self.ledger.relay, sink, stop=stopping, **options), when_cancelled=stopping.set
        )

    async def _alone(self, call: Callable[..., T], *, when_cancelled: Callable[[], None] = nothing) -> T:
        self._opened.engine.refuse_misuse()
        thread = ThreadPoolExecutor(1, thread_name_prefix="memoryos-uow-alone")
        try:
            return await in_thread(thread, on_behalf_of, Owner.of_this_moment(), call, when_cancelled=when_cancelled)
        finally:
            thread.shutdown(wait=False)

    async def _ask(self, call: Callable[..., T], *args: object) -> T:
        return await in_common(self._opened, call, *args)

    # The end

    @property
    def closed(self) -> bool:
        """Whether the ledger was closed."""
        return self.ledger.closed

    def __repr__(self) -> str:
        return f"<Async{repr(self.ledger)[1:]}"

    async def close(self) -> None:
        """Write what is left to be written about finished units and close every file: `Ledger.close`."""
        await asyncio.to_thread(self.ledger.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class Opening:
    """A ledger about to be opened: to be awaited, or entered with ``async with``."""

    def __init__(self, open_ledger: Callable[[], Ledger]) -> None:
        self._open_ledger = open_ledger
        self._ledger: AsyncLedger | None = None

    def __await__(self) -> Generator[Any, None, AsyncLedger]:
        return self._open().__await__()

    async def _open(self) -> AsyncLedger:
        made: list[Ledger] = []
        thread = ThreadPoolExecutor(1, thread_name_prefix="memoryos-uow-open")
        try:
            await in_thread(thread, lambda: made.append(self._open_ledger()))
        except asyncio.CancelledError:
            for unwanted in made:
                await in_thread(thread, unwanted.close)
            raise
        finally:
            thread.shutdown(wait=False)
        return AsyncLedger(made[0])

    async def __aenter__(self) -> AsyncLedger:
        self._ledger = await self._open()
        return self._ledger

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._ledger is not None:
            await self._ledger.close()
