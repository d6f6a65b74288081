"""From a unit's state, and from what recovery found, to what those who watch are told.

Promise: no input or output; called only where somebody listens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from memoryos_uow import _ambient
from memoryos_uow._names import Band
from memoryos_uow._protocol import State
from memoryos_uow.observers import UnitEnded, UnitRecovered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memoryos_uow._coordination import Unsettled
    from memoryos_uow._records import RecoveryReport
    from memoryos_uow._unit_state import UnitState


class Begun(NamedTuple):
    """When something began, by both clocks."""

    ns: int
    ts: str

    @classmethod
    def now(cls) -> Begun:
        """Return this moment."""
        return cls(_ambient.monotonic_ns(), _ambient.now_text())


_OUTCOMES = {
    State.FINISHED: "committed",
    State.COMMITTED: "committed",
    State.ROLLED_BACK: "rolled_back",
    State.FAILED: "failed",
    State.IN_DOUBT: "in_doubt",
}


def ended(unit: UnitState) -> UnitEnded:
    """Return what is told of a unit of this process at its end."""
    facts, context, receipt = unit.facts, unit.context, unit.receipt
    now = _ambient.monotonic_ns()
    outcome = _OUTCOMES[unit.state]
    return UnitEnded(
        uow_id=facts.uow_id,
        band=facts.band,
        outcome=outcome,
        in_doubt=unit.state is State.COMMITTED and unit.failed_store is not None,
        started_ts=unit.created_ts,
        duration_us=(now - unit.started_ns) // 1000,
        commit_us=unit.commit_us,
        store_count=receipt.store_count if receipt else len(unit.stores()),
        write_count=receipt.write_count if receipt else unit.buffer.count,
        bytes_written=receipt.total_bytes_written if receipt else 0,
        retry_count=unit.retry_count,
        retries_of_its_own=unit.retry_count - unit.attempts_before + (unit.attempts_before > 0),
        receipt_hash=receipt.hash if receipt and not receipt.pending else None,
        failed_store=unit.failed_store or next(iter(unit.silent), None),
        error_type=type(unit.error).__qualname__ if unit.error else None,
        ids={
            "space_id": facts.space_id,
            "actor_id": context.actor_id,
            "device_id": context.device_id,
            "correlation_id": context.correlation_id,
            "envelope_id": context.envelope_id,
        },
    )


def recovered(
    report: RecoveryReport, taken: Iterable[Unsettled], begun: Begun, silent: set[str]
) -> list[UnitRecovered]:
    """Return what is told of the units that recovery has `taken` on and left as its `report` says.

    `silent` are the decided ones whose rows already named a store that had not answered. An undecided one counts as in
    doubt from its first recovery on: until then nobody has found it.
    """
    outcomes = {
        **dict.fromkeys(report.rolled_forward, "rolled_forward"),
        **dict.fromkeys(report.rolled_back, "rolled_back"),
        **dict.fromkeys(report.in_doubt, "in_doubt"),
    }
    duration_us = (_ambient.monotonic_ns() - begun.ns) // 1000
    return [
        UnitRecovered(
            uow_id=one.uow_id,
            band=Band(own["band"]),
            outcome=outcomes[one.uow_id],
            started_ts=begun.ts,
            duration_us=duration_us,
            traceparent=own.get("traceparent"),
            was_in_doubt=one.uow_id in silent if one.decided else one.epoch > 1,
        )
        for one in taken
        for own in (one.unit,)
    ]
