"""What ``uow["notes"]`` and ``ledger["notes"]`` return where the event loop must not wait: reads are awaited.

Promise: thin, like `_handles`; verbs that only buffer are the same there and here, and not awaited.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from memoryos_uow._handles import TOLD_EVERY, UnitWrites, check_k, check_pair, each_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable

    from memoryos_uow._handles import Items, LedgerStore, Progress
    from memoryos_uow._records import Hit
    from memoryos_uow.abc import Store
    from memoryos_uow.aio import AsyncUnitOfWork

T = TypeVar("T")

_KEYS_AT_A_TIME: Final = 1_000


class Call(Generic[T]):
    """A call that does its work when it is awaited, and of which the unit knows as long as it was not."""

    def __init__(self, name: str, start: Callable[[], Coroutine[Any, Any, T]], unawaited: set[Call[Any]]) -> None:
        self.name = name
        self._start = start
        self._unawaited = unawaited
        unawaited.add(self)

    def __await__(self) -> Generator[Any, None, T]:
        self._unawaited.discard(self)
        return self._start().__await__()

    def __repr__(self) -> str:
        return f"<{self.name}(...) of an async unit: to be awaited>"


class AsyncUnitStore(UnitWrites):
    """A store, as one async unit of work sees and writes it.

    `create`, `update`, `upsert` and `delete` check and buffer a write at once and are not awaited; what reads, and what
    writes many, is.
    """

    _unit: AsyncUnitOfWork

    def __init__(self, unit: AsyncUnitOfWork, store: Store) -> None:
        super().__init__(unit, store)

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the record, with this unit's own writes, or `default`.

        What is read and later written by this unit commits only if nobody changed it in between (`ConflictError`).
        """
        return await self._unit._read(self._store, key, default)  # noqa: SLF001 - two halves of one thing

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the records that exist among `keys`, by key."""
        missing = object()
        found = {key: await self.get(key, missing) for key in each_of(keys)}
        return {key: value for key, value in found.items() if value is not missing}

    async def search(self, query: object, k: int = 10, **options: Any) -> list[Hit]:
        """Return the `k` best hits in the unit's space, best first, own writes included.

        Own writes to this store that wait in the buffer are applied first, which takes the ledger's write lock.

        Raises:
            UsageError: this store cannot be searched, or not like this.
        """
        return await self._unit._search(self._store, query, check_k(k), options)  # noqa: SLF001

    def create_many(
        self, items: Items | AsyncIterable[tuple[str, object]], *, progress: Progress | None = None
    ) -> Awaitable[None]:
        """`create` each key and value of a mapping, or of any iterable or async iterable of pairs.

        Millions of items take no more memory than some thousands: beyond `Limits.waiting_writes` they go to the
        ledger's transaction in chunks, and **from then until the unit ends the ledger's write lock is held**. What only
        the store can tell of an item (`RecordExists`) may be raised some thousands of items later, or at commit.

        `progress` is called with the number of items written so far, after every 1,000 and after the last.
        """
        return self._many("create_many", self.create, items, progress)

    def update_many(
        self, items: Items | AsyncIterable[tuple[str, object]], *, progress: Progress | None = None
    ) -> Awaitable[None]:
        """`update` each key and value, as `create_many` does."""
        return self._many("update_many", self.update, items, progress)

    def upsert_many(
        self, items: Items | AsyncIterable[tuple[str, object]], *, progress: Progress | None = None
    ) -> Awaitable[None]:
        """`upsert` each key and value, as `create_many` does."""
        return self._many("upsert_many", self.upsert, items, progress)

    def delete_many(
        self, keys: Iterable[str] | AsyncIterable[str], *, progress: Progress | None = None
    ) -> Awaitable[None]:
        """`delete` each key, as `create_many` does."""
        return self._call("delete_many", partial(self._each, self.delete, keys, progress))

    def _many(
        self, name: str, verb: Callable[[str, object], None], items: object, progress: Progress | None
    ) -> Awaitable[None]:
        def write(pair: object) -> None:
            verb(*check_pair(pair))

        return self._call(name, partial(self._each, write, items, progress))

    def _call(self, name: str, start: Callable[[], Coroutine[Any, Any, T]]) -> Call[T]:
        return Call(name, start, self._unit._unawaited)  # noqa: SLF001

    async def _each(self, write: Callable[[Any], None], items: Any, progress: Progress | None) -> None:
        number = 0
        async for item in _one_by_one(items):
            write(item)
            number += 1
            await self._unit._relieve_if_full()  # noqa: SLF001
            if progress is not None and number % TOLD_EVERY == 0:
                progress(number)
        if progress is not None and (number == 0 or number % TOLD_EVERY):
            progress(number)


async def _one_by_one(items: Any) -> AsyncIterator[Any]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items.items() if isinstance(items, Mapping) else each_of(items):
            yield item


class AsyncLedgerStore:
    """A store, read outside any unit: each call sees the newest committed state."""

    def __init__(self, store: LedgerStore, in_thread: Callable[..., Awaitable[Any]]) -> None:
        self._store = store
        self._in_thread = in_thread

    def __repr__(self) -> str:
        return repr(self._store)

    async def get(self, key: str, default: Any = None, *, space_id: str) -> Any:
        """Return the committed record of a space, or `default`."""
        return await self._in_thread(partial(self._store.get, key, default, space_id=space_id))

    async def search(self, query: object, k: int = 10, *, space_id: str, **options: Any) -> list[Hit]:
        """Return the `k` best hits in a space, best first.

        Raises:
            UsageError: this store cannot be searched, or not like this.
        """
        hits: list[Hit] = await self._in_thread(partial(self._store.search, query, k, space_id=space_id, **options))
        return hits

    async def keys(self, *, space_id: str) -> AsyncIterator[str]:
        """Yield the keys of all records in a space, in the order of their UTF-8 bytes."""
        keys = self._store.keys(space_id=space_id)
        while chunk := await self._in_thread(lambda: list(islice(keys, _KEYS_AT_A_TIME))):
            for key in chunk:
                yield key
