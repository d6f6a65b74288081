"""From a unit's state, and from what recovery found, to what those who watch are told.

Promise: no input or output; called only where somebody listens.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from memoryos_uow import _ambient
from memoryos_uow._names import Band
from memoryos_uow._protocol import State
from memoryos_uow.observers import Note, UnitEnded, UnitRecovered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memoryos_uow._coordination import Unsettled
    from memoryos_uow._records import RecoveryReport
    from memoryos_uow._unit_state import Context, UnitState
    from memoryos_uow.abc import UnitFacts
    from memoryos_uow.observers import RemoteCall
    from memoryos_uow.receipts import Receipt


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


def ended(unit: UnitState) -> Note:
    """Note what is told of a unit of this process at its end; of its writes nothing is held."""
    receipt = unit.receipt
    return Note(
        partial(
            _ended,
            unit.facts,
            unit.context,
            receipt,
            _OUTCOMES[unit.state],
            unit.state is State.COMMITTED and unit.failed_store is not None,
            unit.created_ts,
            _ambient.monotonic_ns() - unit.started_ns,
            unit.commit_us,
            0 if receipt else len(unit.stores()),
            0 if receipt else unit.buffer.count,
            unit.retry_count,
            unit.attempts_before,
            unit.failed_store or next(iter(unit.silent), None),
            type(unit.error) if unit.error else None,
            unit.calls,
        )
    )


def _ended(  # noqa: PLR0917 - by position, which is quicker to note
    facts: UnitFacts,
    context: Context,
    receipt: Receipt | None,
    outcome: str,
    in_doubt: bool,  # noqa: FBT001
    started_ts: str,
    duration_ns: int,
    commit_us: int | None,
    stores: int,
    writes: int,
    retries: int,
    attempts: int,
    failed_store: str | None,
    error: type[BaseException] | None,
    calls: tuple[RemoteCall, ...],
) -> tuple[UnitEnded]:
    return (
        UnitEnded(
            uow_id=facts.uow_id,
            band=facts.band,
            outcome=outcome,
            in_doubt=in_doubt,
            started_ts=started_ts,
            duration_us=duration_ns // 1000,
            commit_us=commit_us,
            store_count=receipt.store_count if receipt else stores,
            write_count=receipt.write_count if receipt else writes,
            bytes_written=receipt.total_bytes_written if receipt else 0,
            retry_count=retries,
            retries_of_its_own=retries - attempts + (attempts > 0),
            receipt_hash=receipt.hash if receipt and not receipt.pending else None,
            failed_store=failed_store,
            error_type=error.__qualname__ if error else None,
            calls=calls,
            ids={
                "space_id": facts.space_id,
                "actor_id": context.actor_id,
                "device_id": context.device_id,
                "correlation_id": context.correlation_id,
                "envelope_id": context.envelope_id,
            },
        ),
    )


def recovered(report: RecoveryReport, taken: Iterable[Unsettled], begun: Begun, silent: set[str]) -> Note:
    """Note what is told of the units that recovery has `taken` on and left as its `report` says.

    `silent` are the decided ones whose rows already named a store that had not answered. An undecided one counts as in
    doubt from its first recovery on: until then nobody has found it.
    """
    outcomes = {
        **dict.fromkeys(report.rolled_forward, "rolled_forward"),
        **dict.fromkeys(report.rolled_back, "rolled_back"),
        **dict.fromkeys(report.in_doubt, "in_doubt"),
    }
    duration_us = (_ambient.monotonic_ns() - begun.ns) // 1000
    facts = [
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
    return Note(lambda: facts, units=len(facts))
