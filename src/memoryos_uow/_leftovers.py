"""Rows that are written later, because writing them at once would cost a commit or hold up an exception.

Three sorts: how long a unit took, known only after its commit; the row of a failed unit that found the ledger busy; and
the removal of what a recoverer would have needed of a unit that is settled. They go along with the next transaction of
this process, or with `Coordinator.settle`. A process killed before that loses nothing that matters: a timing stays
unknown, and what is settled is settled once more by recovery, which is harmless.

Promise: they never make another unit fail or wait, and a row that cannot be written at all is reported.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from memoryos_uow import _coordination, _log
from memoryos_uow.errors import StoreError

if TYPE_CHECKING:
    from memoryos_uow._records import UnitRecord
    from memoryos_uow._rows import LedgerRows, Timing
    from memoryos_uow.engines._contract import EngineTransaction

T = TypeVar("T")

_KEPT_MAX: Final = 10_000  # a ledger that stays busy for that long loses the oldest


class Carried(NamedTuple):
    """What one open transaction carries: to be put back should it be rolled back."""

    timings: list[Timing]
    endings: list[UnitRecord]
    settled: list[str]


class Leftovers:
    """Rows waiting for a transaction. Appending and taking are safe between threads."""

    def __init__(self, rows: LedgerRows) -> None:
        self._rows = rows
        self._timings: deque[Timing] = deque()
        self._endings: deque[UnitRecord] = deque()
        self._settled: deque[str] = deque()

    def __bool__(self) -> bool:
        return bool(self._timings or self._endings or self._settled)

    def add_timing(self, timing: Timing) -> None:
        """Keep how long a unit took."""
        self._timings.append(timing)
        _drop_excess(self._timings)

    def add_ending(self, record: UnitRecord) -> None:
        """Keep the row of a unit that failed or was rolled back."""
        self._endings.append(record)
        report_lost(_drop_excess(self._endings), "full")

    def add_settled(self, uow_id: str) -> None:
        """Keep the id of a unit of which nothing has to be recovered any more."""
        self._settled.append(uow_id)

    def write(self, tx: EngineTransaction) -> Carried:
        """Write everything that waits inside `tx`."""
        carried = Carried(_drain(self._timings), _drain(self._endings), _drain(self._settled))
        try:
            self._rows.fill_in(tx, carried.timings)
            if carried.settled:
                _coordination.forget(tx, carried.settled)
            carried.endings[:] = [record for record in carried.endings if self._write_ending(tx, record)]
        except BaseException:
            self.put_back(carried)
            raise
        return carried

    def _write_ending(self, tx: EngineTransaction, record: UnitRecord) -> bool:
        """Return whether the row was written; one that contradicts the ledger is nobody else's trouble."""
        try:
            with tx.step():
                self._rows.insert_unit(tx, record)
        except StoreError as loss:
            report_lost([record], type(loss).__name__)
            return False
        return True

    def put_back(self, carried: Carried) -> None:
        """Keep `carried` for another transaction: the one that carried it was rolled back."""
        self._timings.extendleft(reversed(carried.timings))
        self._endings.extendleft(reversed(carried.endings))
        self._settled.extendleft(reversed(carried.settled))

    def give_up(self) -> None:
        """Report rows that no transaction will carry any more."""
        report_lost(_drain(self._endings), "closed")


def report_lost(records: list[UnitRecord], reason: str) -> None:
    """Say in the log that these units have no row."""
    for record in records:
        _log.warn("uow.record_lost", uow_id=record.uow_id, status=record.status, reason=reason)


def _drop_excess(waiting: deque[T]) -> list[T]:
    """Return the oldest of `waiting` that are too many, removed."""
    dropped = []
    while len(waiting) > _KEPT_MAX:
        dropped.append(waiting.popleft())
    return dropped


def _drain(waiting: deque[T]) -> list[T]:
    taken = []
    while waiting:
        taken.append(waiting.popleft())  # one by one: another thread may be appending
    return taken
