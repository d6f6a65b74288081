"""What the stores share whose values live outside the ledger: the head of every record is in it, the value is not.

A head (table ``uow_heads``) holds version, digest and size. So whether a record exists, whether it changed since it was
read, and which keys there are is decided in the ledger's own transaction, without a look outside; and a value that was
changed behind our back is noticed, because it no longer has the digest of its head.

Promise: what was decided is seen at once, wherever its value is at the moment: in the ledger waiting to be published,
or outside.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from memoryos_uow._canonical import sha256_hex
from memoryos_uow._records import Content, Found
from memoryos_uow.errors import StoreUnavailable
from memoryos_uow.stores._record_table import RecordStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memoryos_uow.abc import Reader

_HEAD: Final = "SELECT version, digest, size FROM uow_heads WHERE store = ? AND space_id = ? AND key = ?"
_PENDING: Final = (
    "SELECT uow_id, payload FROM uow_redo WHERE store = ? AND space_id = ? AND key = ? AND commit_seq = ?"
    " ORDER BY seq DESC LIMIT 1"
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

    def _find(self, reader: Reader, space_id: str, key: str, head: Head) -> bytes | None:
        pending = reader.rows(_PENDING, (self.name, space_id, key, head.version))
        if pending:
            uow_id, payload = pending[0]
            content = self._waiting(uow_id, payload, head)
            if content is not None:
                return content
        return self._published(space_id, key, head)
