"""What ``uow["notes"]`` and ``ledger["notes"]`` return: the verbs of a store, bound to a unit or to the ledger.

Promise: thin; every rule lives in the unit, the coordinator or the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from memoryos_uow._expecting import ANYTHING
from memoryos_uow._names import MAX_KEY_BYTES, Operation, check_identifier
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memoryos_uow._records import Hit
    from memoryos_uow._unit_core import UnitCore
    from memoryos_uow.abc import Store
    from memoryos_uow.engines._contract import Engine
    from memoryos_uow.unit import UnitOfWork

T = TypeVar("T")
Items: TypeAlias = "Mapping[str, object] | Iterable[tuple[str, object]]"
"""Keys and values to write."""
Progress: TypeAlias = "Callable[[int], object]"
"""Is told how many items were dealt with."""

TOLD_EVERY: Final = 1_000


def check_k(k: object) -> int:
    """Return `k`, how many hits are wanted.

    Raises:
        UsageError: not a positive integer.
    """
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise UsageError("The number of hits wanted is a positive integer.", hint="For example k=10.")
    return k


def each_of(items: Iterable[T]) -> Iterable[T]:
    """Return `items`; a single string is not a collection of letters here."""
    if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
        raise UsageError(
            f"A collection is wanted, not a {type(items).__name__}.",
            hint='Nothing was written. For example ["n1", "n2"].',
        )
    return items


def check_pair(pair: object) -> tuple[str, object]:
    """Return `pair`, an item of a ``*_many``.

    Raises:
        UsageError: not a tuple of two.
    """
    if not isinstance(pair, tuple) or len(pair) != 2:  # noqa: PLR2004 - a pair
        raise UsageError(
            "The items to write are a mapping, or pairs of key and value.",
            hint="For example {'n1': value} or [('n1', value)].",
        )
    return pair


def told(items: Iterable[T], progress: Progress | None) -> Iterator[T]:
    """Yield `items`; tell `progress` how many were dealt with, now and then and at the end."""
    number = 0
    for number, item in enumerate(items, 1):
        yield item
        if progress is not None and number % TOLD_EVERY == 0:
            progress(number)
    if progress is not None and (number == 0 or number % TOLD_EVERY):
        progress(number)


def write_pairs(verb: Callable[[str, object], None], items: Items, progress: Progress | None) -> None:
    """Call `verb` with each key and value of `items`."""
    pairs = items.items() if isinstance(items, Mapping) else each_of(items)
    for pair in pairs if progress is None else told(pairs, progress):
        verb(*check_pair(pair))


class UnitWrites:
    """The verbs that write one record: the same in every unit, because they only buffer."""

    def __init__(self, unit: UnitCore, store: Store) -> None:
        self._unit = unit
        self._store = store

    def __repr__(self) -> str:
        return f"<{self._store.kind} {self._store.name!r} in unit {self._unit.uow_id}>"

    def create(self, key: str, value: object) -> None:
        """Write a record that must not exist yet.

        Raises:
            UsageError: the key or value cannot be stored, or the unit is over.
            RecordExists: the key is taken: at once if by this unit, else at commit.
        """
        self._unit._write(self._store, Operation.CREATE, key, value)  # noqa: SLF001 - two halves of one thing

    def update(self, key: str, value: object, *, expect: object = ANYTHING) -> None:
        """Write a record that must exist. In a table, only the given columns change.

        Args:
            key: which record.
            value: what it is to be.
            expect: what it must be before, as `get` returns it; in a table, the columns that must be so.

        Raises:
            UsageError: the key or value cannot be stored, or the unit is over.
            RecordMissing: there is no such record: at once if this unit deleted it, else at commit.
            ConflictError: it is not as expected: at once if this unit wrote it, else at commit.
        """
        self._unit._write(self._store, Operation.UPDATE, key, value, expect)  # noqa: SLF001

    def upsert(self, key: str, value: object, *, expect: object = ANYTHING) -> None:
        """Write a record whether it exists or not.

        `expect` as for `update`; `MISSING` says that there must be none.

        Raises:
            UsageError: the key or value cannot be stored, or the unit is over.
            ConflictError: it is not as expected: at once if this unit wrote it, else at commit.
        """
        self._unit._write(self._store, Operation.UPSERT, key, value, expect)  # noqa: SLF001

    def delete(self, key: str, *, expect: object = ANYTHING) -> None:
        """Remove a record that must exist; `expect` as for `update`.

        Raises:
            UsageError: the key is not one, or the unit is over.
            RecordMissing: there is no such record: at once if this unit deleted it, else at commit.
            ConflictError: it is not as expected: at once if this unit wrote it, else at commit.
        """
        self._unit._write(self._store, Operation.DELETE, key, None, expect)  # noqa: SLF001


class UnitStore(UnitWrites):
    """A store, as one unit of work sees and writes it.

    Writes are checked when called and buffered; they reach the store when the unit commits, all or none. Keys live in
    the unit's space. Once more writes wait than `Limits` say, they are applied early, and the ledger's write lock is
    held from then on.
    """

    _unit: UnitOfWork

    def get(self, key: str, default: Any = None) -> Any:
        """Return the record, with this unit's own writes, or `default`.

        What is read and later written by this unit commits only if nobody changed it in between (`ConflictError`).
        """
        return self._unit._read(self._store, key, default)  # noqa: SLF001

    def create_many(self, items: Items, *, progress: Progress | None = None) -> None:
        """`create` each key and value of a mapping, or of any iterable of pairs, which may be endless but for memory.

        Millions of items take no more memory than some thousands: beyond `Limits.waiting_writes` they go to the
        ledger's transaction in chunks, and **from then until the unit ends the ledger's write lock is held**. What only
        the store can tell of an item (`RecordExists`) may be raised some thousands of items later, or at commit.

        `progress` is called with the number of items written so far, after every 1,000 and after the last.

        A refused item keeps those before it in the unit: let the exception end it.
        """
        write_pairs(self.create, items, progress)

    def update_many(self, items: Items, *, progress: Progress | None = None) -> None:
        """`update` each key and value, as `create_many` does."""
        write_pairs(self.update, items, progress)

    def upsert_many(self, items: Items, *, progress: Progress | None = None) -> None:
        """`upsert` each key and value, as `create_many` does."""
        write_pairs(self.upsert, items, progress)

    def delete_many(self, keys: Iterable[str], *, progress: Progress | None = None) -> None:
        """`delete` each key, as `create_many` does."""
        for key in told(each_of(keys), progress):
            self.delete(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the records that exist among `keys`, by key."""
        return self._unit._read_all(self._store, each_of(keys))  # noqa: SLF001

    def search(self, query: object, k: int = 10, **options: Any) -> list[Hit]:
        """Return the `k` best hits in the unit's space, best first, own writes included.

        Own writes to this store that wait in the buffer are applied first, which takes the ledger's write lock.

        Raises:
            UsageError: this store cannot be searched, or not like this.
        """
        return self._unit._search(self._store, query, check_k(k), options)  # noqa: SLF001


class LedgerStore:
    """A store, read outside any unit: each call sees the newest committed state."""

    def __init__(self, engine: Engine, store: Store) -> None:
        self._engine = engine
        self._store = store

    def __repr__(self) -> str:
        return f"<{self._store.kind} {self._store.name!r}>"

    def get(self, key: str, default: Any = None, *, space_id: str) -> Any:
        """Return the committed record of a space, or `default`."""
        space_id, key = check_identifier(space_id, "space_id"), check_identifier(key, "key", max_bytes=MAX_KEY_BYTES)
        with self._engine.reader() as reader:
            found = self._store.read(reader, space_id, key)
        return found.value if found else default

    def search(
        self,
        query: object,
        k: int = 10,
        *,
        space_id: str,
        **options: Any,
    ) -> list[Hit]:
        """Return the `k` best hits in a space, best first.

        Raises:
            UsageError: this store cannot be searched, or not like this.
        """
        space_id, k = check_identifier(space_id, "space_id"), check_k(k)
        with self._engine.reader() as reader:
            return self._store.search(reader, space_id, query, k, options)

    def keys(self, *, space_id: str) -> Iterator[str]:
        """Yield the keys of all records in a space, in the order of their UTF-8 bytes."""
        self._engine.refuse_misuse()
        return self._keys(check_identifier(space_id, "space_id"))

    def _keys(self, space_id: str) -> Iterator[str]:
        with self._engine.reader() as reader:
            yield from self._store.keys(reader, space_id)
