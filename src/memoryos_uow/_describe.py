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
from memoryos_uow.receipts import RECEIPT_TYPE, Described, Receipt, ReceiptWrite, context_digest, writes_root

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from memoryos_uow._unit_state import UnitState
    from memoryos_uow.abc import Write


def describe(unit: UnitState, origin: str | None) -> Described:
    """Return the receipt of a unit that is about to be committed at its position."""
    facts, context = unit.facts, unit.context
    writes = _receipt_writes(unit.buffer.writes, facts.band)
    context_nonce = _ambient.random_hex()
    receipt = Receipt(
        band=facts.band.value,
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
        prev=unit.place.prev,
        space_id=facts.space_id,
        space_seq=unit.place.space_seq,
        store_count=len(unit.stores()),
        total_bytes_written=sum(write.bytes_written for write in writes),
        type=RECEIPT_TYPE,
        uow_id=facts.uow_id,
        write_count=len(writes),
        writes_root=writes_root(writes),
    )
    return Described(receipt, writes, context_nonce)


def _receipt_writes(writes: Sequence[Write], band: Band) -> list[ReceiptWrite]:
    with_nonces = _bands.wants_nonces(band)
    return [
        ReceiptWrite(
            seq=seq,
            store_name=write.store,
            record_id=_bands.recorded_key(write.key, band),
            operation_type=write.operation.value,
            bytes_written=write.content.bytes_written if write.content else 0,
            checksum=_bands.checksum_text(write.content.sha256, band) if write.content else None,
            ts=write.ts,
            nonce=_ambient.random_hex() if with_nonces else None,
        )
        for seq, write in enumerate(writes)
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
        receipt_hash=receipt.hash,
    )


def own_columns(unit: UnitState) -> dict[str, str | None]:
    """Return the columns that a unit brings with it, for the row of one that dies before its decision."""
    context = unit.context
    return {
        "envelope_id": context.envelope_id,
        "created_ts": unit.created_ts,
        "space_id": unit.facts.space_id,
        "actor_id": context.actor_id,
        "device_id": context.device_id,
        "correlation_id": context.correlation_id,
        "band": unit.facts.band.value,
    }


def abandoned_record(uow_id: str, columns: Mapping[str, Any]) -> UnitRecord:
    """Return the row of a unit whose process died before the decision, from its `own_columns`."""
    band = Band(columns["band"])
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
        status=status.value,
        created_ts=unit.created_ts,
        total_execution_time_ms=milliseconds((_ambient.monotonic_ns() - unit.started_ns) // 1000),
        retry_count=unit.retry_count,
        recovery_attempted=0,
        space_id=unit.facts.space_id,
        actor_id=unit.context.actor_id,
        device_id=unit.context.device_id,
        correlation_id=unit.context.correlation_id,
        band=unit.facts.band.value,
        contract_version=CONTRACT_VERSION,
        **columns,
    )


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
