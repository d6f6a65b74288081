"""What ``uow["notes"]`` and ``ledger["notes"]`` return: the verbs of a store, bound to a unit or to the ledger.

Promise: thin; every rule lives in the unit, the coordinator or the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from memoryos_uow._names import MAX_KEY_BYTES, Operation, check_identifier
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memoryos_uow._records import Hit
    from memoryos_uow.abc import Store
    from memoryos_uow.engines.sqlite import SQLiteEngine
    from memoryos_uow.unit import UnitOfWork

T = TypeVar("T")


def check_k(k: object) -> int:
    """Return `k`, how many hits are wanted.

    Raises:
        UsageError: not a positive integer.
    """
    if not isinstance(k, int) or isinstance(k, bool) or k < 1:
        raise UsageError("The number of hits wanted is a positive integer.", hint="For example k=10.")
    return k


def _each_of(items: Iterable[T]) -> Iterable[T]:
    """Return `items`; a single string is not a collection of letters here."""
    if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
        raise UsageError(
            f"A collection is wanted, not a {type(items).__name__}.",
            hint='Nothing was written. For example ["n1", "n2"].',
        )
    return items


class UnitStore:
    """A store, as one unit of work sees and writes it.

    Writes are checked when called and buffered; they reach the store when the unit commits, all or none. Keys live in
    the unit's space.
    """

    def __init__(self, unit: UnitOfWork, store: Store) -> None:
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

    def update(self, key: str, value: object) -> None:
        """Write a record that must exist. In a table, only the given columns change.

        Raises:
            UsageError: the key or value cannot be stored, or the unit is over.
            RecordMissing: there is no such record: at once if this unit deleted it, else at commit.
        """
        self._unit._write(self._store, Operation.UPDATE, key, value)  # noqa: SLF001

    def upsert(self, key: str, value: object) -> None:
        """Write a record whether it exists or not.

        Raises:
            UsageError: the key or value cannot be stored, or the unit is over.
        """
        self._unit._write(self._store, Operation.UPSERT, key, value)  # noqa: SLF001

    def delete(self, key: str) -> None:
        """Remove a record that must exist.

        Raises:
            UsageError: the key is not one, or the unit is over.
            RecordMissing: there is no such record: at once if this unit deleted it, else at commit.
        """
        self._unit._write(self._store, Operation.DELETE, key, None)  # noqa: SLF001

    def get(self, key: str, default: Any = None) -> Any:
        """Return the record, with this unit's own writes, or `default`.

        What is read and later written by this unit commits only if nobody changed it in between (`ConflictError`).
        """
        return self._unit._read(self._store, key, default)  # noqa: SLF001

    def create_many(self, items: Mapping[str, object] | Iterable[tuple[str, object]]) -> None:
        """`create` each key and value. A refused item keeps those before it in the unit: let the exception end it."""
        self._each(self.create, items)

    def update_many(self, items: Mapping[str, object] | Iterable[tuple[str, object]]) -> None:
        """`update` each key and value."""
        self._each(self.update, items)

    def upsert_many(self, items: Mapping[str, object] | Iterable[tuple[str, object]]) -> None:
        """`upsert` each key and value."""
        self._each(self.upsert, items)

    def delete_many(self, keys: Iterable[str]) -> None:
        """`delete` each key."""
        for key in _each_of(keys):
            self.delete(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the records that exist among `keys`, by key."""
        missing = object()
        found = {key: self.get(key, missing) for key in _each_of(keys)}
        return {key: value for key, value in found.items() if value is not missing}

    def search(self, query: object, k: int = 10, **options: Any) -> list[Hit]:
        """Return the `k` best hits in the unit's space, best first, own writes included.

        Own writes to this store that wait in the buffer are applied first, which takes the ledger's write lock.

        Raises:
            UsageError: this store cannot be searched, or not like this.
        """
        return self._unit._search(self._store, query, check_k(k), options)  # noqa: SLF001

    @staticmethod
    def _each(verb: Callable[[str, object], None], items: Mapping[str, object] | Iterable[tuple[str, object]]) -> None:
        for pair in items.items() if isinstance(items, Mapping) else _each_of(items):
            if not isinstance(pair, tuple) or len(pair) != 2:  # noqa: PLR2004 - a pair
                raise UsageError(
                    "The items to write are a mapping, or pairs of key and value.",
                    hint="For example {'n1': value} or [('n1', value)].",
                )
            verb(*pair)


class LedgerStore:
    """A store, read outside any unit: each call sees the newest committed state."""

    def __init__(self, engine: SQLiteEngine, store: Store) -> None:
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
