"""Messages as writes of a unit: what ``uow.publish`` puts into the buffer, and its rows in ``uow_outbox``.

Content of a message (for checksum and size) is its payload: the UTF-8 JSON that is kept and delivered. A message is
numbered among those of its unit, from 0; unit id and number together are its dedup key.
"""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from memoryos_uow import _ambient
from memoryos_uow._canonical import sha256_hex
from memoryos_uow._names import MAX_KEY_BYTES, OUTBOX_STORE, Dialect, Operation, check_identifier
from memoryos_uow._records import Content
from memoryos_uow.abc import Write
from memoryos_uow.errors import UsageError
from memoryos_uow.stores._no_records import NoRecords
from memoryos_uow.stores._strict_json import to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memoryos_uow._limits import Limits
    from memoryos_uow.abc import Parameters, Transaction, UnitFacts

# Row numbers rise, and this unit holds the write lock: if it has messages yet, the last row is one of them.
_NEXT_SEQ = """
SELECT coalesce((
  SELECT seq + 1 FROM uow_outbox WHERE id = (SELECT max(id) FROM uow_outbox) AND uow_id = ?
), 0)
"""
_THERE = """
INSERT INTO uow_outbox (id, stamp, uow_id, seq, space_id, band, topic, key, payload, created_ts)
SELECT CAST(? AS BIGINT) + m.n, CAST(? AS BIGINT), CAST(? AS TEXT), b.seq + m.n, CAST(? AS TEXT), CAST(? AS TEXT),
  m.topic, m.key, m.payload, m.ts
FROM unnest(CAST(? AS BIGINT[]), CAST(? AS TEXT[]), CAST(? AS TEXT[]), CAST(? AS TEXT[]), CAST(? AS TEXT[]))
  AS m(n, topic, key, payload, ts),
  (SELECT coalesce(max(seq) + 1, 0) FROM uow_outbox WHERE stamp = ? AND uow_id = ?) AS b(seq)
"""
_INSERT = """
INSERT INTO uow_outbox (uow_id, seq, space_id, band, topic, key, payload, created_ts) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


class Published(NamedTuple):
    """A message as it waits in the buffer."""

    topic: str
    key: str | None
    payload: str


class _Numbering(Protocol):
    """A transaction on PostgreSQL, with what gives ids and what takes statements whose answers nobody needs."""

    def new_ids(self, name: str, count: int, /) -> int:
        """Return the first of `count` consecutive ids."""
        ...

    def later(self, sql: str, parameters: Parameters = (), /) -> None:
        """Send one statement with the next one."""
        ...


class OutboxMessages(NoRecords):
    """The store behind ``uow.publish``: no records, only messages in order."""

    name = OUTBOX_STORE
    kind = "outbox"
    refusal = "Messages are published with uow.publish()."

    def apply(self, tx: Transaction, unit: UnitFacts, commit_seq: int, writes: Sequence[Write]) -> None:
        """Append the messages in order."""
        if tx.dialect is Dialect.POSTGRESQL:
            self._append(tx, unit, commit_seq, writes)
            return
        first = tx.rows(_NEXT_SEQ, (unit.uow_id,))[0][0]
        own = (unit.space_id, unit.band.value)
        rows = ((unit.uow_id, seq, *own, *write.payload, write.ts) for seq, write in enumerate(writes, first))
        tx.execute_many(_INSERT, rows)

    @staticmethod
    def _append(tx: Transaction, unit: UnitFacts, stamp: int, writes: Sequence[Write]) -> None:
        """Do the same on PostgreSQL, where the library gives the ids: one statement for all."""
        engines = cast("_Numbering", tx)
        first = engines.new_ids("outbox", len(writes))
        columns = zip(*((n, *write.payload, write.ts) for n, write in enumerate(writes)), strict=True)
        own = (unit.uow_id, unit.space_id, unit.band.value)
        engines.later(_THERE, (first, stamp, *own, *map(list, columns), stamp, unit.uow_id))

    def save(self, write: Write) -> bytes:
        """Return topic, key and payload."""
        return json.dumps(write.payload, ensure_ascii=False).encode()

    def load(self, saved: bytes) -> Published:
        """Return topic, key and payload."""
        return Published(*json.loads(saved))


def message_write(topic: object, payload: object, key: object, limits: Limits) -> Write:
    """Return the write that publishes a message.

    Raises:
        UsageError: topic or key is no identifier or has control characters, or the payload is not JSON within limits.
    """
    text, content = to_json(payload, bytes_max=limits.message_bytes, store=OUTBOX_STORE, what="message")
    published = Published(
        _checked(topic, "topic"),
        None if key is None else _checked(key, "key", max_bytes=MAX_KEY_BYTES),
        text,
    )
    fingerprint = Content(len(content), sha256_hex(content))
    return Write(OUTBOX_STORE, Operation.CREATE, None, published, fingerprint, _ambient.now_text())


def _checked(value: object, what: str, **bounds: int) -> str:
    text = check_identifier(value, what, **bounds)
    if not text.isprintable() and any(unicodedata.category(character) == "Cc" for character in text):
        # CloudEvents 1.0.2, type system: no control characters in attributes.
        raise UsageError(f"The {what} has a control character.", hint="Nothing was written. Remove that character.")
    return text
