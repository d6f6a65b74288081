"""What the stores share whose values live outside the ledger: the head of every record is in it, the value is not.

A head (table ``uow_heads``) holds version, digest and size. So whether a record exists, whether it changed since it was
read, and which keys there are is decided in the ledger's own transaction, without a look outside; and a value that was
changed behind our back is noticed, because it no longer has the digest of its head.

Promise: what was decided is seen at once, wherever its value is at the moment: in the ledger waiting to be published,
or outside.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from memoryos_uow._canonical import sha256_hex
from memoryos_uow._names import Dialect, Operation
from memoryos_uow._records import Content, Found, Held
from memoryos_uow.errors import ConflictError, StoreUnavailable
from memoryos_uow.stores._record_table import RecordStore
from memoryos_uow.stores._strict_json import to_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from memoryos_uow._limits import Limits
    from memoryos_uow.abc import Reader, Transaction, UnitFacts, Write

_HEAD: Final = "SELECT version, digest, size FROM uow_heads WHERE store = ? AND space_id = ? AND key = ?"
_PENDING: Final = (
    "SELECT uow_id, payload FROM uow_redo WHERE store = ? AND space_id = ? AND key = ? AND commit_seq = ?"
    " ORDER BY seq DESC LIMIT 1"
)
# +store keeps SQLite from an index, and so from sorting all that is found by it.
_ALL: Final = {
    Dialect.SQLITE: "SELECT space_id, key, version, digest, size FROM uow_heads WHERE +store = ? ORDER BY id",
    Dialect.POSTGRESQL: "SELECT space_id, key, version, digest, size FROM uow_heads WHERE store = ?",
}
_WAITING: Final = "SELECT 1 FROM uow_redo WHERE store = ? AND space_id = ? AND key = ?"
_DECIDED: Final = (
    "SELECT coalesce(max(commit_seq), 0) FROM uow_redo WHERE store = ? AND space_id = ?"
    " AND key = ANY(CAST(? AS TEXT[]))"
)
_LOOKS_MAX: Final = 100


class Value(NamedTuple):
    """A value on its way out: its stored form, with the digest that its head will have."""

    digest: str
    content: bytes

    @classmethod
    def of(cls, content: bytes) -> Value:
        """Return the value whose stored form is `content`."""
        return cls(sha256_hex(content), content)

    def measured(self) -> Content:
        """Return size and digest for the receipt."""
        return Content(len(self.content), self.digest)


class Head(NamedTuple):
    """What the ledger knows of a record whose value lies outside."""

    version: int
    digest: str
    size: int


class HeadStore(RecordStore):
    """A store with heads in the ledger and values outside."""

    _table: ClassVar[str] = "uow_heads"
    _columns: ClassVar[tuple[str, ...]] = ("digest", "size")

    def _apply_on_postgres(self, tx: Transaction, unit: UnitFacts, version: int, run: list[Write]) -> None:
        if run[0].operation in (Operation.CREATE, Operation.UPSERT):
            self._refuse_older(tx, unit, version, [str(write.key) for write in run])
        super()._apply_on_postgres(tx, unit, version, run)

    def _refuse_older(self, tx: Transaction, unit: UnitFacts, version: int, keys: list[str]) -> None:
        """Refuse a unit that is older than what was decided of one of `keys`, also if that took its head away.

        Else a removal that is published late, or was before, would win over the record that is there again.
        """
        [(newest,)] = tx.rows(_DECIDED, (self.name, unit.space_id, keys))
        newest = max(newest, self._newest_outside(unit.space_id, keys))
        if newest > version:
            tx.learn(newest)
            raise ConflictError(
                f"A record of the store {self.name!r} was removed by a unit that counts as newer than this one.",
                hint="Nothing was written. Run the whole block again: it will be newer then.",
                store=self.name,
            )

    def _newest_outside(self, space_id: str, keys: Sequence[str]) -> int:
        """Return the greatest version that is kept outside of one of `keys`, 0 if none is."""
        return 0

    @abstractmethod
    def _decode(self, content: bytes) -> Any:
        """Return the value whose stored form is `content`."""

    @abstractmethod
    def _waiting(self, uow_id: str, payload: bytes, head: Head) -> bytes | None:
        """Return the content of a record that waits to be published; None if it has been published just now."""

    @abstractmethod
    def _published(self, space_id: str, key: str, head: Head) -> bytes | None:
        """Return the content of a published record, None if there is none; the caller compares its digest."""

    def _columns_of(self, payload: Value) -> tuple[object, ...]:
        return payload.digest, len(payload.content)

    def _value(self, reader: Reader, space_id: str, columns: Sequence[Any]) -> Any:
        raise NotImplementedError  # `read` is different here: the value is not in the row

    def save(self, write: Write) -> bytes:
        """Return the value's stored form."""
        content: bytes = write.payload.content
        return content

    def load(self, saved: bytes) -> Value:
        """Return the value whose stored form was saved."""
        return Value.of(saved)

    def _overlay(self, payload: Value) -> Any:
        return self._decode(payload.content)

    def head(self, reader: Reader, space_id: str, key: str) -> Head | None:
        """Return the head of a record, or None if there is no record."""
        rows = reader.rows(_HEAD, (self.name, space_id, key))
        return Head(*rows[0]) if rows else None

    def read(self, reader: Reader, space_id: str, key: str) -> Found | None:
        """Return the record's value and version, or None.

        Raises:
            StoreError: the value was changed or removed behind the library's back.
            StoreUnavailable: it cannot be reached.
        """
        seen: Head | None = None
        for _ in range(_LOOKS_MAX):
            head = self.head(reader, space_id, key)
            if head is None:
                return None
            content = self._find(reader, space_id, key, head)
            if content is not None and sha256_hex(content) == head.digest:
                return Found(self._decode(content), head.version)
            if head == seen:
                raise self._damaged()
            seen = head  # another unit may be publishing this record at this moment: look again
        raise StoreUnavailable(
            f"A record of the store {self.name!r} changes faster than it can be read.", hint="Read it again."
        )

    def read_all(self, reader: Reader, space_id: str, keys: Sequence[str]) -> dict[str, Found]:
        """Return those of `keys` that have a record, one after the other: the values lie outside."""
        found = ((key, self.read(reader, space_id, key)) for key in keys)
        return {key: record for key, record in found if record is not None}

    def contents(self, reader: Reader) -> Iterator[Held]:
        """Yield every record with what lies outside now, and what lies there without a record."""
        for space_id, key, *columns in reader.stream(_ALL[reader.dialect], (self.name,)):
            if all(isinstance(column, kind) for column, kind in zip(columns, (int, str, int), strict=True)):
                yield self._held(reader, space_id, key, (key, Head(*columns)))
            else:
                yield Held(None, None, None, "a record whose head is damaged")
        for space_id, key in self._strangers(reader):
            yield Held(space_id, key, None, "it lies there, and the ledger does not know of it")

    def _stored(self, reader: Reader, space_id: str, columns: Sequence[Any]) -> bytes | str | None:
        key, head = columns
        return self._find(reader, space_id, key, head)

    @abstractmethod
    def _strangers(self, reader: Reader) -> Iterator[tuple[str, str]]:
        """Yield space and key of what lies outside under a name of the store's, without a head."""

    def _is_known(self, reader: Reader, space_id: str, key: str) -> bool:
        """Say whether something outside has a head, or is waiting to be removed."""
        return self.head(reader, space_id, key) is not None or bool(reader.rows(_WAITING, (self.name, space_id, key)))

    def _find(self, reader: Reader, space_id: str, key: str, head: Head) -> bytes | None:
        pending = reader.rows(_PENDING, (self.name, space_id, key, head.version))
        if pending:
            uow_id, payload = pending[0]
            content = self._waiting(uow_id, payload, head)
            if content is not None:
                return content
        return self._published(space_id, key, head)


class DocumentHeads(HeadStore):
    """A store outside the ledger whose values are JSON, as those of `DocumentStore` are."""

    def _encode(self, value: object, limits: Limits) -> tuple[Value, Content]:
        _, stored = to_json(value, bytes_max=limits.document_bytes, store=self._name)
        encoded = Value.of(stored)
        return encoded, encoded.measured()

    def _decode(self, content: bytes) -> Any:
        return json.loads(content)
