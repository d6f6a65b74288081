"""From a unit's state to the rows and the receipt that describe it.

Promise: no input or output; what a band keeps back is kept back here, before anything is hashed or stored.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from memoryos_uow import _ambient, _bands
from memoryos_uow._names import CONTRACT_VERSION, Band, Status
from memoryos_uow._protocol import State
from memoryos_uow._records import UnitRecord
from memoryos_uow._rows import Timing, milliseconds
from memoryos_uow.errors import LedgerError
from memoryos_uow.receipts import (
    RECEIPT_TYPE,
    Described,
    NotAwaited,
    Receipt,
    ReceiptWrite,
    context_digest,
    make_pending,
    writes_root,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from memoryos_uow._receipt_log import ReceiptLog
    from memoryos_uow._unit_state import UnitState


def describe(unit: UnitState, origin: str | None) -> Described:
    """Return the receipt of a unit that is about to be committed at its position."""
    facts, context, place = unit.facts, unit.context, unit.place
    streamed = unit.buffer.streamed
    writes = receipt_writes(unit)
    context_nonce = _ambient.random_hex()
    receipt = Receipt(
        band=facts.band._value_,
        committed_ts=max(_ambient.now_text(), unit.created_ts),  # the wall clock may have gone back meanwhile
        context=context_digest(
            actor_id=context.actor_id,
            correlation_id=context.correlation_id,
            device_id=context.device_id,
            nonce=context_nonce,
        ),
        contract_version=CONTRACT_VERSION,
        created_ts=unit.created_ts,
        nonce=_ambient.random_hex() if _bands.wants_nonces(facts.band) else None,
        origin=origin,
        outcome="committed",
        prev=place.prev,
        space_id=facts.space_id,
        space_seq=place.space_seq,
        store_count=len(unit.stores()),
        total_bytes_written=sum([w.bytes_written for w in writes]) + (streamed.bytes_written if streamed else 0),
        type=RECEIPT_TYPE,
        uow_id=facts.uow_id,
        write_count=unit.buffer.count,
        writes_root=writes_root(writes, after=streamed.frontier if streamed else None),
    )
    if not place.numbered:
        make_pending(receipt, NotAwaited())
    return Described(receipt, writes, context_nonce, streamed.first_row if streamed else None)


def receipt_writes(unit: UnitState) -> list[ReceiptWrite]:
    """Return the unit's writes as its receipt commits to them: all whose rows are not written yet."""
    band, space_id, key = unit.facts.band, unit.facts.space_id, unit.content_key
    with_nonces = _bands.wants_nonces(band)
    buffer = unit.buffer
    first = buffer.streamed.count if buffer.streamed else 0
    if band is Band.GREEN:  # nothing is withheld: by far the most, and in units of very many writes it counts
        return [
            ReceiptWrite(
                seq,
                write.store,
                None if write.sealed else write.key,
                write.operation._value_,
                write.content.bytes_written if write.content else 0,
                f"sha256:{write.content.sha256}" if write.content else write.sealed,
                write.ts,
            )
            for seq, write in enumerate(buffer.writes, first)
        ]
    return [
        ReceiptWrite(
            seq=seq,
            store_name=write.store,
            record_id=None if write.sealed else _bands.recorded_key(write.key, band, space_id, write.store, key),
            operation_type=write.operation._value_,
            bytes_written=write.content.bytes_written if write.content else 0,
            checksum=_bands.checksum_text(write.content.sha256, band, space_id, key) if write.content else write.sealed,
            ts=write.ts,
            nonce=_ambient.random_hex() if with_nonces else None,
        )
        for seq, write in enumerate(buffer.writes, first)
    ]


def committed_record(unit: UnitState, receipt: Receipt) -> UnitRecord:
    """Return the row of a unit whose commit is about to be decided; how long that takes is not known yet."""
    return _record(
        unit,
        Status.COMMITTED,
        committed_ts=receipt.committed_ts,
        commit_time_ms=None,
        store_count=receipt.store_count,
        total_bytes_written=receipt.total_bytes_written,
        receipt_hash=receipt.hash if unit.place.numbered else None,
    )


def open_record(unit: UnitState) -> UnitRecord:
    """Return the row that stands for a unit in its own transaction, before its end; nobody else ever sees it."""
    return _record(unit, Status.PENDING, store_count=0, total_bytes_written=0, commit_time_ms=None)


def own_columns(unit: UnitState) -> dict[str, str | None]:
    """Return the columns that a unit brings with it, for the row of one that dies before its decision.

    And, where there is one, the trace it was made in, for those who watch its recovery.
    """
    context = unit.context
    return {
        "envelope_id": context.envelope_id,
        "created_ts": unit.created_ts,
        "space_id": unit.facts.space_id,
        "actor_id": context.actor_id,
        "device_id": context.device_id,
        "correlation_id": context.correlation_id,
        "band": unit.facts.band.value,
        **({"traceparent": unit.traceparent} if unit.traceparent else {}),
    }


def abandoned_record(uow_id: str, columns: Mapping[str, Any]) -> UnitRecord:
    """Return the row of a unit whose process died before the decision, from its `own_columns`."""
    band = Band(columns["band"])
    columns = {name: value for name, value in columns.items() if name != "traceparent"}
    return UnitRecord(
        uow_id=uow_id,
        status=Status.FAILED.value,
        committed_ts=None,
        total_execution_time_ms=0,
        commit_time_ms=0,
        store_count=0,
        total_bytes_written=0,
        retry_count=0,
        error_type="OwnerDied",
        error_message=(
            "The process died before the decision; recovery removed what it had prepared."
            if band in (Band.GREEN, Band.AMBER)
            else None
        ),
        error_ts=_ambient.now_text(),
        recovery_attempted=1,
        contract_version=CONTRACT_VERSION,
        **columns,
    )


def ending_record(unit: UnitState, state: State) -> UnitRecord:
    """Return the row of a unit that failed or was rolled back: nothing of it is stored anywhere."""
    stores = set(unit.stores()) | ({unit.failed_store} if unit.failed_store else set())
    columns: dict[str, Any] = {"store_count": len(stores), "total_bytes_written": 0, "commit_time_ms": 0}
    if state is not State.FAILED:
        return _record(unit, Status.ROLLED_BACK, **columns)
    error = unit.error or sys.exception() or LedgerError("The commit failed.")
    return _record(
        unit,
        Status.FAILED,
        error_type=type(error).__qualname__,
        error_message=_bands.error_text(error, unit.facts.band),
        failed_store=unit.failed_store,
        error_ts=_ambient.now_text(),
        **columns,
    )


def _record(unit: UnitState, status: Status, **columns: Any) -> UnitRecord:
    columns.setdefault("committed_ts", None)
    return UnitRecord(
        uow_id=unit.facts.uow_id,
        envelope_id=unit.context.envelope_id,
        status=status._value_,
        created_ts=unit.created_ts,
        total_execution_time_ms=milliseconds((_ambient.monotonic_ns() - unit.started_ns) // 1000),
        retry_count=unit.retry_count,
        recovery_attempted=0,
        space_id=unit.facts.space_id,
        actor_id=unit.context.actor_id,
        device_id=unit.context.device_id,
        correlation_id=unit.context.correlation_id,
        band=unit.facts.band._value_,
        contract_version=CONTRACT_VERSION,
        **columns,
    )


def rebuilt_receipt(record: UnitRecord, parts: Mapping[str, Any], log: ReceiptLog | None) -> Receipt:
    """Return the receipt of a committed unit from its row and its `LedgerRows.receipt_parts`."""
    receipt = Receipt(
        band=record.band,
        committed_ts=record.committed_ts or "",
        contract_version=record.contract_version or "",
        created_ts=record.created_ts,
        outcome="committed",
        space_id=record.space_id,
        store_count=record.store_count or 0,
        total_bytes_written=record.total_bytes_written or 0,
        type=RECEIPT_TYPE,
        uow_id=record.uow_id,
        signature=record.receipt_signature,
        **parts,
    )
    return receipt if log is None or record.commit_seq is None else log.provable(receipt, record.commit_seq)


def timing(unit: UnitState) -> Timing:
    """Return how long a unit took whose commit has just returned."""
    assert unit.commit_started_ns is not None  # noqa: S101 - for the type checker
    now = _ambient.monotonic_ns()
    return Timing(
        uow_id=unit.facts.uow_id,
        commit_seq=unit.place.commit_seq,
        execution_us=(now - unit.started_ns) // 1000,
        commit_us=(now - unit.commit_started_ns) // 1000,
    )
