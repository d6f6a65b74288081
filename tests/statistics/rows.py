"""Ledgers whose units are put in row by row, and statistics of them worked out the slow way."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from memoryos_uow import Durations, FailureCount, Ledger, StatisticsGroup
from memoryos_uow.stores import DocumentStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

_DIGEST: Final = bytes(32)


@dataclass(frozen=True)
class Unit:
    """A unit as rows tell of it."""

    created: str = "2026-11-22T19:20:31.000000Z"
    status: str = "committed"
    band: str | None = "GREEN"
    space: str | None = "alice"
    actor: str | None = None
    stores: tuple[tuple[str, int, int], ...] = (("notes", 1, 10),)
    """Name, writes and bytes of each."""
    retries: int = 0
    error: str | None = None
    failed_store: str | None = None
    us: int | None = 500
    """Execution; the commit takes half of it."""

    @property
    def committed(self) -> bool:
        """Whether it has a receipt, writes and durations."""
        return self.status == "committed"


def make(path: Path) -> Path:
    """An empty ledger."""
    Ledger.open(path, stores=[DocumentStore("notes")]).close()
    return path


def put(path: Path, units: Iterable[Unit]) -> None:
    """Append units to a ledger."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        for unit in units:
            _put(connection, unit)
        connection.execute("COMMIT")


def _put(connection: sqlite3.Connection, unit: Unit) -> None:
    (number,) = connection.execute("SELECT coalesce(max(rowid), 0) + 1 FROM unit_of_work").fetchone()
    (first,) = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM uow_writes").fetchone()
    stores = unit.stores if unit.committed else ()
    connection.execute(
        "INSERT INTO unit_of_work (uow_id, status, created_ts, band, space_id, actor_id, store_count,"
        " total_bytes_written, retry_count, error_type, failed_store) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            f"unit-{number}",
            unit.status,
            unit.created,
            unit.band,
            unit.space,
            unit.actor,
            len(stores),
            sum(n_bytes for _, _, n_bytes in stores),
            unit.retries,
            unit.error,
            unit.failed_store,
        ),
    )
    row = first
    for name, writes, n_bytes in stores:
        for part in range(writes):  # all bytes with the first
            connection.execute(
                "INSERT INTO uow_writes (id, uow_id, store_name, ts, bytes_written) VALUES (?, ?, ?, ?, ?)",
                (row, f"unit-{number}", name, unit.created, 0 if part else n_bytes),
            )
            row += 1
    if unit.committed:
        connection.execute(
            "INSERT INTO uow_ledger (unit, space_seq, context, writes_root, write_count, first_write, execution_us,"
            " commit_us, nodes) VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?)",
            (
                number,
                _DIGEST,
                _DIGEST,
                row - first,
                first,
                unit.us,
                None if unit.us is None else unit.us // 2,
                _DIGEST,
            ),
        )


# The slow way


def group(
    units: Sequence[Unit], name: str | None = None, *, withheld: bool = False, store: str | None = None
) -> StatisticsGroup:
    """What statistics must say of exactly these units."""
    told = [unit for unit in units if unit.band in ("GREEN", "AMBER", None)]
    shares = [
        (writes, n_bytes)
        for unit in told
        if unit.committed
        for of, writes, n_bytes in unit.stores
        if store is None or of == store
    ]
    timed = [
        unit.us
        for unit in units
        if unit.committed and unit.us is not None and unit.band in ("GREEN", "AMBER", "RED", None)
    ]
    statuses = [unit.status for unit in units]
    return StatisticsGroup(
        name,
        withheld,
        units=len(units),
        committed=statuses.count("committed"),
        failed=statuses.count("failed"),
        rolled_back=statuses.count("rolled_back"),
        pending=statuses.count("pending"),
        retries=sum(unit.retries for unit in told if unit.status != "failed"),
        writes=sum(writes for writes, _ in shares),
        bytes=sum(n_bytes for _, n_bytes in shares),
        execution=sorted_durations(timed),
        commit=sorted_durations([us // 2 for us in timed]),
    )


def sorted_durations(values: Sequence[int]) -> Durations:
    """Percentiles by sorting."""
    if not values:
        return Durations()
    ordered = sorted(values)
    p50, p95, p99 = (ordered[math.ceil(percent * len(ordered) / 100) - 1] for percent in (50, 95, 99))
    return Durations(len(ordered), sum(ordered) / len(ordered), p50, p95, p99, ordered[-1])


_WITHHELD: Final = "\0withheld"
_NONE: Final = "\0none"


def keys(unit: Unit, by: str) -> list[str]:
    """The names of the groups that a unit is in."""
    is_open = unit.band in ("GREEN", "AMBER", None)
    if by in ("hour", "day", "month"):
        return [unit.created[: {"hour": 13, "day": 10, "month": 7}[by]]]
    if by == "band":
        return [unit.band or _NONE]
    if not is_open or (by == "actor" and unit.band == "AMBER" and unit.actor is not None):
        return [_WITHHELD]
    if by == "store":
        if unit.committed:
            return [name for name, _, _ in unit.stores]
        return [unit.failed_store] if unit.failed_store and unit.status == "failed" else []
    return [(unit.space if by == "space" else unit.actor) or _NONE]


def groups(units: Sequence[Unit], by: str) -> list[StatisticsGroup]:
    """The groups of exactly these units, in the order in which they are to be."""
    named = sorted({key for unit in units for key in keys(unit, by)})
    found = [
        group(
            [unit for unit in units if name in keys(unit, by)],
            name if name not in (_NONE, _WITHHELD) else None,
            withheld=name == _WITHHELD,
            store=name if by == "store" else None,
        )
        for name in named
    ]
    order: Callable[[StatisticsGroup], tuple[int, str, bool]] = lambda one: (  # noqa: E731 - a name for the sake of its type
        0 if by in ("hour", "day", "month") else -one.units,
        one.name or "",
        one.withheld,
    )
    return sorted(found, key=order)


def failures(units: Sequence[Unit]) -> list[FailureCount]:
    """Failures by type and store, in their order."""
    failed = [
        (unit.error, unit.failed_store if unit.band in ("GREEN", "AMBER", None) else None)
        for unit in units
        if unit.status == "failed"
    ]
    return [
        FailureCount(*which, failed.count(which))
        for which in sorted(set(failed), key=lambda one: (-failed.count(one), one[0] or "", one[1] or ""))
    ]
