"""The numbers of a run, from the ledger's own records."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from memoryos_uow._names import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from memoryos_uow.ledger import Ledger

PERCENTS: Final = (50, 95, 99)
_ALL: Final = 1_000_000


@dataclass(frozen=True)
class Spread:
    """Percentiles of a time in microseconds, exact, by nearest rank; None where nothing was measured."""

    p50: int | None
    p95: int | None
    p99: int | None


@dataclass(frozen=True)
class Summary:
    """What a ledger holds, and how long it took."""

    units: dict[str, int]
    """By outcome."""
    bands: dict[str, int]
    """Committed units by band."""
    writes: int
    n_bytes: int
    execution_us: Spread
    commit_us: Spread
    untimed: int
    """Committed units whose process died before it could write down how long they took."""
    failures: dict[str, int]
    """Failed units by the type of their error."""


def nearest_rank(ordered: Sequence[int], percent: int) -> int | None:
    """Return the smallest of the `ordered` values that at least `percent` % of them do not exceed."""
    return ordered[-(-percent * len(ordered) // 100) - 1] if ordered else None


def spread(values: Iterable[int | None]) -> Spread:
    """Return the percentiles of `values`, leaving out None."""
    ordered = sorted(value for value in values if value is not None)
    return Spread(*(nearest_rank(ordered, percent) for percent in PERCENTS))


def summarise(ledger: Ledger, writes: int) -> Summary:
    """Return the numbers of `ledger`. How many `writes` there are, units listed without their writes do not say."""
    units = ledger.units(limit=_ALL)
    committed = [unit for unit in units if unit.status == Status.COMMITTED]
    return Summary(
        units={status.value: sum(unit.status == status for unit in units) for status in Status},
        bands=dict(Counter(unit.band or "?" for unit in committed)),
        writes=writes,
        n_bytes=sum(unit.total_bytes_written or 0 for unit in committed),
        execution_us=spread(unit.execution_us for unit in committed),
        commit_us=spread(unit.commit_us for unit in committed),
        untimed=sum(unit.commit_us is None for unit in committed),
        failures=dict(Counter(unit.error_type or "?" for unit in units if unit.status == Status.FAILED)),
    )
