"""The ledger's own rows on PostgreSQL, as far as they are written there in another way (see `_rows`).

Promise: a unit's transaction changes no row that another unit's transaction changes too, so units wait for each other
only where their records are the same. What has to be in one order, the receipt log, is numbered after the commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _pending
from memoryos_uow._records import WriteRecord
from memoryos_uow._rows import WRITE_COLUMNS, LedgerRows, Position, digest_bytes, milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from memoryos_uow._records import UnitRecord
    from memoryos_uow._rows import Timing
    from memoryos_uow.abc import Reader, Transaction
    from memoryos_uow.engines._contract import EngineTransaction
    from memoryos_uow.engines.postgres import PostgresEngine
    from memoryos_uow.receipts import Described, ReceiptWrite

_TIMES_OF_UNITS: Final = (
    "UPDATE unit_of_work AS u SET total_execution_time_ms = n.execution, commit_time_ms = n.commit"
    " FROM unnest(CAST(? AS TEXT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[])) AS n(uow_id, execution, commit)"
    " WHERE u.uow_id = n.uow_id"
)
_TIMES_IN_LOG: Final = (
    "UPDATE uow_ledger AS l SET execution_us = n.execution, commit_us = n.commit"
    " FROM unnest(CAST(? AS TEXT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[])) AS n(uow_id, execution, commit)"
    " WHERE l.unit = n.uow_id"
)
_PENDING_WRITES: Final = (
    f"SELECT {', '.join(f'w.{column}' for column in WRITE_COLUMNS)} FROM uow_pending AS p JOIN uow_writes AS w"  # noqa: S608
    " ON w.id >= p.first_write AND w.id < p.first_write + p.write_count WHERE p.uow_id = ? ORDER BY w.id"
)

STREAM_BLOCK: Final = 2**40
"""How many consecutive ids a unit takes of which nobody knows yet how many writes it will have."""


class PostgresRows(LedgerRows):
    """Reads and writes the rows of a ledger in a PostgreSQL database."""

    def __init__(self, engine: PostgresEngine) -> None:
        super().__init__(basic=False)
        self._engine = engine

    def next_position(self, tx: Any, space_id: str) -> Position:  # noqa: ARG002 - the number comes later
        """Return the stamp that the unit's records get; its place in log and space is not known yet."""
        return Position(tx.stamp, None, None, numbered=False)

    def insert_committed(
        self,
        tx: Any,
        record: UnitRecord,
        described: Described,
        position: Position,  # noqa: ARG002
        nodes: bytes,  # noqa: ARG002
    ) -> Any:
        """Write everything about a committed unit; nothing of it is asked for, so it travels with the commit."""
        first_write = described.first_write
        if first_write is None:
            tx.later(self._insert_unit, self._unit_values(record))
            first_write = self._engine.new_ids("writes", len(described.writes)) if described.writes else None
        else:
            self._update_unit(tx, record)
        if first_write is not None:
            self.insert_writes(tx, record.uow_id, first_write, described.writes)
        receipt = described.receipt
        tx.later(
            _pending.insert_text(),
            (
                record.uow_id,
                digest_bytes(receipt.context),
                digest_bytes(described.context_nonce),
                digest_bytes(receipt.nonce),
                digest_bytes(receipt.writes_root),
                receipt.write_count,
                first_write,
            ),
        )
        return record.uow_id

    def next_write(self, tx: Transaction) -> int:  # noqa: ARG002 - ids belong to no transaction
        """Return the first of as many consecutive ids as any unit may need."""
        return self._engine.new_ids("streams", STREAM_BLOCK, block=STREAM_BLOCK)

    def insert_writes(self, tx: Any, uow_id: str, first: int, writes: Sequence[ReceiptWrite]) -> None:
        """Write one row per write; `first` is the id of the unit's first one."""
        if not writes:
            return
        columns = list(zip(*(self._write_row(first + w.seq, uow_id, w) for w in writes), strict=True))
        columns[1:2] = []
        tx.later(
            "INSERT INTO uow_writes (uow_id, id, store_name, record_id, ts, operation_type, bytes_written, checksum)"
            " SELECT ?, * FROM unnest(CAST(? AS BIGINT[]), CAST(? AS TEXT[]), CAST(? AS TEXT[]), CAST(? AS TEXT[]),"
            " CAST(? AS TEXT[]), CAST(? AS BIGINT[]), CAST(? AS TEXT[]))",
            (uow_id, *map(list, columns)),
        )
        nonces = [(first + w.seq, bytes.fromhex(w.nonce)) for w in writes if w.nonce is not None]
        if nonces:
            tx.later(
                "INSERT INTO uow_nonces (write_id, nonce)"
                " SELECT * FROM unnest(CAST(? AS BIGINT[]), CAST(? AS BYTEA[]))",
                tuple(map(list, zip(*nonces, strict=True))),
            )

    def fill_in(self, tx: Any, timings: Iterable[Timing]) -> None:
        """Write how long committed units took: those that have their numbers."""
        fill_in(tx, timings)

    def _writes(self, reader: Reader, uow_id: str, commit_seq: int | None) -> Iterator[WriteRecord]:
        """Yield a unit's writes; the ids of one without a number stand in its pending row."""
        if commit_seq is None:
            found = reader.rows(_PENDING_WRITES, (uow_id,))
            if found:
                return (WriteRecord(*row) for row in found)
        return super()._writes(reader, uow_id, commit_seq)


def fill_in(tx: EngineTransaction, timings: Iterable[Timing]) -> None:
    """Write how long committed units took that have their numbers: in the order of their ids, as everybody does."""
    ordered = sorted(timings, key=lambda one: one.uow_id)
    if not ordered:
        return
    ids = [one.uow_id for one in ordered]
    execution, commit = [one.execution_us for one in ordered], [one.commit_us for one in ordered]
    tx.later(_TIMES_OF_UNITS, (ids, list(map(milliseconds, execution)), list(map(milliseconds, commit))))
    tx.later(_TIMES_IN_LOG, (ids, execution, commit))
