"""The rows of ``uow_outbox`` as relays and operators see them: every statement but the one that publishes.

Promise: whoever acts on a message names the epoch of its own claim; a relay whose claim was taken over changes nothing.
A message is free when it waits, is due and is in nobody's hands; it may be claimed when no earlier message of its key,
among the topics relayed, is anything but free.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _ambient, _bands, _catalog, _leases, _owner
from memoryos_uow._messages import Message, OutboxEntry
from memoryos_uow._names import Band, Dialect

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from memoryos_uow.abc import Reader, Transaction
    from memoryos_uow.engines._contract import EngineReader

_CLAIM_IS_OURS: Final = "WHERE id = ? AND uow_id = ? AND epoch = ?"


def _free(row: str) -> str:
    lapsed = f"{row}.lease_until_ms <= :now OR {row}.owner IN (SELECT value FROM json_each(:gone))"  # noqa: S608 - from below
    return f"({row}.state = 'waiting' AND {row}.due_ms <= :now AND ({row}.owner IS NULL OR {lapsed}))"


def _relayed(row: str) -> str:
    return f"(CAST(:topics AS TEXT) IS NULL OR {row}.topic IN (SELECT value FROM json_each(:topics)))"  # noqa: S608 - a name from below


_ORDER: Final = {Dialect.SQLITE: "{0}.id", Dialect.POSTGRESQL: "{0}.stamp, {0}.id"}
"""In which messages are delivered: of their units, and within a unit as they were published."""


def _claimable(dialect: Dialect) -> str:
    earlier = f"({_ORDER[dialect].format('e')}) < ({_ORDER[dialect].format('m')})"
    return f"""
SELECT m.id, m.uow_id, m.seq, m.space_id, m.band, m.topic, m.key, m.payload, m.created_ts, m.attempts, m.epoch,
  m.owner IS NOT NULL
FROM uow_outbox AS m
WHERE {_free("m")} AND {_relayed("m")} AND (m.key IS NULL OR NOT EXISTS (
  SELECT 1 FROM uow_outbox AS e
  WHERE e.space_id = m.space_id AND e.key = m.key AND {earlier} AND {_relayed("e")} AND NOT {_free("e")}
))
ORDER BY {_ORDER[dialect].format("m")} LIMIT :limit
"""  # noqa: S608 - conditions from above


_CLAIMABLE: Final = {dialect: _claimable(dialect) for dialect in Dialect}
_ALONE: Final = "SELECT 1 FROM uow_blocks WHERE name = 'outbox' FOR UPDATE"
_NEWEST: Final = "SELECT id FROM uow_outbox ORDER BY stamp DESC, id DESC LIMIT 1"
_COUNT: Final = f"SELECT count(*) FROM uow_outbox AS m WHERE {_relayed('m')}"  # noqa: S608 - a condition from above
_BYTES: Final = {Dialect.SQLITE: "length(CAST(payload AS BLOB))", Dialect.POSTGRESQL: "octet_length(payload)"}
_LISTED: Final = {
    dialect: f"""
SELECT uow_id || ':' || seq,
  CASE WHEN state = 'parked' THEN 'parked' WHEN owner IS NOT NULL AND lease_until_ms > :now THEN 'in flight'
    WHEN due_ms > :now THEN 'delayed' ELSE 'waiting' END,
  band, space_id, topic, key, {_BYTES[dialect]}, created_ts, attempts, error_type, error_message, error_ts
FROM uow_outbox AS m
WHERE {_relayed("m")} AND (:parked = 0 OR state = 'parked')
ORDER BY {_ORDER[dialect].format("m")} LIMIT :limit
"""  # noqa: S608 - a condition from above
    for dialect in Dialect
}
_RETRY: Final = """
UPDATE uow_outbox SET state = 'waiting', attempts = 0, due_ms = 0
WHERE (state = 'parked' OR due_ms > 0) AND owner IS NULL
"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """One message in this relay's hands, or free for them."""

    id: int
    uow_id: str
    seq: int
    space_id: str
    band: str
    topic: str
    key: str | None
    payload: str
    created_ts: str
    attempts: int
    epoch: int
    lapsed: int
    """1 if a relay had it that did not come back, else 0."""

    @property
    def claim(self) -> tuple[int, str, int]:
        """What has to be still so in the ledger for a change to count."""
        return self.id, self.uow_id, self.epoch

    @property
    def line(self) -> tuple[str, str] | None:
        """Which messages it must not overtake, and is not overtaken by: those of its space and key."""
        return None if self.key is None else (self.space_id, self.key)

    def message(self, origin: str | None) -> Message:
        """Return what a sink gets."""
        return Message(
            uow_id=self.uow_id,
            seq=self.seq,
            attempt=self.attempts + 1 + self.lapsed,
            space_id=self.space_id,
            band=self.band,
            topic=self.topic,
            key=self.key,
            payload_json=self.payload,
            created_ts=self.created_ts,
            origin=origin,
        )


def _exist(reader: Reader) -> bool:
    """Say whether the ledger has an outbox: one that was never opened for writing with this library has none."""
    return _catalog.has_table(reader, "uow_outbox")


# Claims


def claimable(reader: Reader, topics: str | None, *, limit: int) -> list[Claimed]:
    """Return the oldest messages that may be claimed now; `topics` is a JSON list, None means all."""
    if not _exist(reader):
        return []
    owners = [row[0] for row in reader.rows("SELECT DISTINCT owner FROM uow_outbox WHERE owner IS NOT NULL")]
    gone = json.dumps([owner for owner in owners if _owner.is_gone(owner)])
    facts = {"now": _leases.now_ms(reader), "gone": gone, "topics": topics, "limit": limit}
    return [Claimed(*row) for row in reader.rows(_CLAIMABLE[reader.dialect], facts)]


def exclude_others(tx: Transaction) -> None:
    """Have other relays wait with their claims until `tx` ends: else two would look, and take, past each other."""
    if tx.dialect is Dialect.POSTGRESQL:
        tx.execute(_ALONE)


def bell(reader: EngineReader) -> object:
    """Return something that changes when a message is published, or at least soon after."""
    if reader.dialect is Dialect.SQLITE:
        # SQLite's number means something on one connection only, so the connection belongs to what is compared.
        return reader.connection, reader.rows("PRAGMA data_version")[0][0]
    return reader.rows(_NEWEST)


def claim(tx: Transaction, messages: Iterable[Claimed], lease_ms: int) -> None:
    """Take free messages for `lease_ms`, each under the epoch after the one it has."""
    until = _leases.moment(tx, lease_ms)
    tx.execute_many(
        "UPDATE uow_outbox SET epoch = epoch + 1, owner = ?,"  # noqa: S608
        f" lease_until_ms = {_leases.MOMENT[tx.dialect]} {_CLAIM_IS_OURS}",
        ((_owner.own_name(), until, *one.claim) for one in messages),
    )


def count_lapse(tx: Transaction, message: Claimed) -> None:
    """Count a claim that lapsed as a failed attempt."""
    tx.execute(f"UPDATE uow_outbox SET attempts = attempts + 1 {_CLAIM_IS_OURS}", message.claim)  # noqa: S608


def renew(tx: Transaction, message: Claimed, lease_ms: int) -> bool:
    """Keep a claim for `lease_ms` from now; return whether it is still ours."""
    statement = f"UPDATE uow_outbox SET lease_until_ms = {_leases.MOMENT[tx.dialect]} {_CLAIM_IS_OURS}"  # noqa: S608
    return tx.execute(statement, (_leases.moment(tx, lease_ms), *message.claim)) == 1


def release(tx: Transaction, messages: Iterable[Claimed]) -> None:
    """Give messages back that were not tried."""
    tx.execute_many(
        f"UPDATE uow_outbox SET owner = NULL, lease_until_ms = 0 {_CLAIM_IS_OURS}",  # noqa: S608
        (one.claim for one in messages),
    )


# What came of a delivery


def delivered(tx: Transaction, message: Claimed) -> bool:
    """Remove a delivered message; return whether it was still ours."""
    statement = f"DELETE FROM uow_outbox {_CLAIM_IS_OURS}"  # noqa: S608 - a condition from above
    return tx.execute(statement, message.claim) == 1


def failed(
    tx: Transaction, message: Claimed, error: BaseException, *, rest_ms: int, counts: bool, parked: bool
) -> bool:
    """Note why delivering failed and after how long it is due again, or that it is parked; return if it was still ours.

    `counts`: it was the message's own failure, not that of a sink which is out of reach.
    """
    changed = tx.execute(
        "UPDATE uow_outbox SET owner = NULL, lease_until_ms = 0, state = ?,"  # noqa: S608
        f" due_ms = {'0' if parked else _leases.MOMENT[tx.dialect]}, attempts = attempts + ?,"
        f" error_type = ?, error_message = ?, error_ts = ? {_CLAIM_IS_OURS}",
        (
            "parked" if parked else "waiting",
            *(() if parked else (_leases.moment(tx, rest_ms),)),
            int(counts),
            type(error).__qualname__,
            _bands.error_text(error, Band(message.band)),
            _ambient.now_text(),
            *message.claim,
        ),
    )
    return changed == 1


# Looking


def count(reader: Reader, topics: str | None) -> int:
    """Return how many messages are in the outbox."""
    if not _exist(reader):
        return 0
    counted: int = reader.rows(_COUNT, {"topics": topics})[0][0]
    return counted


def listed(reader: Reader, topics: str | None, *, parked_only: bool, limit: int) -> list[OutboxEntry]:
    """Return what is in the outbox, oldest first; a negative `limit` means all."""
    if not _exist(reader):
        return []
    facts: dict[str, Any] = {
        "now": _leases.now_ms(reader),
        "topics": topics,
        "parked": int(parked_only),
        "limit": None if limit < 0 and reader.dialect is Dialect.POSTGRESQL else limit,  # each its word for all
    }
    return [OutboxEntry(*row) for row in reader.rows(_LISTED[reader.dialect], facts)]


# What operators do


def retry(tx: Transaction, ids: Sequence[tuple[str, int]] | None) -> int:
    """Make messages due at once as if never tried; `ids` are of parked or put-off ones, None: all parked ones."""
    if ids is None:
        return tx.execute(f"{_RETRY} AND state = 'parked'")
    return sum(tx.execute(f"{_RETRY} AND uow_id = ? AND seq = ?", one) for one in ids)


def drop(tx: Transaction, ids: Sequence[tuple[str, int]] | None) -> int:
    """Remove messages undelivered; `ids`, or None: all parked ones."""
    if ids is None:
        return tx.execute("DELETE FROM uow_outbox WHERE state = 'parked'")
    return sum(tx.execute("DELETE FROM uow_outbox WHERE uow_id = ? AND seq = ?", one) for one in ids)


def undelivered(reader: Reader, commits: Iterable[int]) -> int:
    """Return how many messages of these units, by commit_seq, wait to be delivered or are parked."""
    return sum(
        reader.rows(
            "SELECT count(*) FROM uow_outbox WHERE uow_id = (SELECT u.uow_id FROM uow_ledger AS l"
            " JOIN unit_of_work AS u ON u.rowid = l.unit WHERE l.commit_seq = ?)",
            (commit_seq,),
        )[0][0]
        for commit_seq in commits
    )
