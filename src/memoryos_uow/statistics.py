"""What `Ledger.stats` answers with: counts, sums and exact percentiles, of everything and by group.

Promise: frozen records, no behaviour beyond putting themselves into plain values. Of a unit no more goes into them than
its band shows: RED units are counted with their outcome, durations and type of error, BLACK ones without durations, and
neither under the name of a space, actor or store; AMBER ones under no actor.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class GroupBy(StrEnum):
    """By what units are grouped."""

    SPACE = "space"
    ACTOR = "actor"
    BAND = "band"
    STORE = "store"
    """A unit counts for each store that it wrote to, and a failed one for the store that failed."""
    HOUR = "hour"
    """By ``created_ts``, in UTC; so are days and months."""
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Durations:
    """How long committed units took, in microseconds; every number but the mean was measured of some unit.

    A percentile is the nearest rank: the least duration that so many of a hundred do not exceed.
    """

    count: int = 0
    """Of so many units it is known; the others are None when this is 0."""
    mean_us: float | None = None
    p50_us: int | None = None
    p95_us: int | None = None
    p99_us: int | None = None
    max_us: int | None = None


@dataclass(frozen=True, slots=True)
class StatisticsGroup:
    """Units that have something in common, added up."""

    name: str | None = None
    """What they have in common, an hour as ``2026-11-22T19``; None for all units, if there is none, and if withheld."""
    withheld: bool = False
    """Whether these are the units whose band withholds what they are grouped by."""
    units: int = 0
    committed: int = 0
    failed: int = 0
    rolled_back: int = 0
    pending: int = 0
    retries: int = 0
    """Waits for the lock, and attempts that came before, of units that did not fail: so each counts once, where a run
    came to its end. Of GREEN and AMBER units, as the next two."""
    writes: int = 0
    bytes: int = 0
    execution: Durations = Durations()
    """From the beginning of the block to the decision."""
    commit: Durations = Durations()
    """From the end of the block to the decision."""


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How many units failed with one type of error in one store."""

    error_type: str | None
    failed_store: str | None
    """None where no store is to blame, or the band withholds it."""
    units: int


@dataclass(frozen=True, slots=True)
class SlowUnit:
    """One of the units that took longest; BLACK ones are never among them."""

    uow_id: str
    band: str | None
    space_id: str | None
    """None if there is none, or the band withholds it."""
    created_ts: str
    execution_us: int
    commit_us: int | None


@dataclass(frozen=True, slots=True)
class Statistics:
    """The answer of ``ledger.stats()``."""

    total: StatisticsGroup
    by: GroupBy | None = None
    groups: tuple[StatisticsGroup, ...] = ()
    """With most units first; times in their order."""
    failures: tuple[FailureCount, ...] = ()
    """Most frequent first."""
    slowest: tuple[SlowUnit, ...] = ()
    """Slowest first, at most ten."""
    in_doubt: int = 0
    """Units of the whole ledger, whatever was asked for, that are not settled in every store, or still under way."""
    first_ts: str | None = None
    """The hour in which the first of the units was made, as ``2026-11-22T19``; None without any."""
    last_ts: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        values = asdict(self)
        values["by"] = None if self.by is None else self.by.value
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
