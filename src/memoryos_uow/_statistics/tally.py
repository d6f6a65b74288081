"""Units added up, and exact percentiles from it.

Promise: adding up parts gives what adding up the whole gives, in whatever order. A histogram counts how many units took
exactly so many microseconds: nothing is rounded, and it has no more cells than there are units, usually far fewer.
"""

from __future__ import annotations

import heapq
import json
from array import array
from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow._names import Status
from memoryos_uow._statistics.facts import NO_TIME
from memoryos_uow.statistics import Durations, FailureCount, StatisticsGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from memoryos_uow._statistics.columns import Columns, Counted
    from memoryos_uow._statistics.facts import CountedUnit

SLOWEST_MAX: Final = 10

_Histogram = Counter[int]


class Tally:
    """Units added up."""

    __slots__ = (
        "commit",
        "execution",
        "failures",
        "first",
        "last",
        "n_bytes",
        "retries",
        "slowest",
        "statuses",
        "writes",
    )

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.failures: Counter[tuple[str | None, str | None]] = Counter()
        self.retries = self.writes = self.n_bytes = 0
        self.execution: _Histogram = Counter()
        self.commit: _Histogram = Counter()
        self.slowest: list[tuple[int, int]] = []
        """Of the slowest units the microseconds and the row number, slowest first; of equals the newest."""
        self.first: str | None = None
        self.last: str | None = None

    def add(self, units: Sequence[CountedUnit], *, store: str | None = None) -> None:
        """Add units; with `store` only the writes and bytes that they have there."""
        self.statuses.update([one.status for one in units])
        failed = [one.error for one in units if one.error is not None]
        if failed:
            self.failures.update(failed)
        self.retries += sum([one.retries for one in units])
        if store is None:
            self.writes += sum([one.writes for one in units])
            self.n_bytes += sum([one.n_bytes for one in units])
        else:
            shares = [share for one in units for share in one.stores if share.key == store]
            self.writes += sum([share.writes for share in shares])
            self.n_bytes += sum([share.n_bytes for share in shares])
        self.execution.update([one.execution_us for one in units if one.execution_us is not None])
        self.commit.update([one.commit_us for one in units if one.commit_us is not None])
        timed = [(one.execution_us, one.row) for one in units if one.execution_us is not None]
        self.slowest = heapq.nlargest(SLOWEST_MAX, [*self.slowest, *timed])
        hours = [one.hour for one in units if one.hour != NO_TIME]
        self._extend(min(hours, default=None), max(hours, default=None))

    def add_counted(self, counted: Counted, name: Callable[[int], str]) -> None:
        """Add units that were counted column by column, without the slowest of them and the hours."""
        for code, units in counted.outcome.items():
            status, *error = json.loads(name(code))
            self.statuses[status] += units
            if error:
                self.failures[error[0], error[1]] += units
        self.retries += counted.retries
        self.writes += counted.writes
        self.n_bytes += counted.n_bytes
        for histogram, column in ((self.execution, counted.execution), (self.commit, counted.commit)):
            for one_more, units in column.items():
                if one_more:  # of the others it is not known
                    histogram[one_more - 1] += units

    def add_extremes(self, columns: Columns, name: Callable[[int], str]) -> None:
        """Add the slowest of units, and the hours of the first and the last of them."""
        bar = self.slowest[-1][0] if len(self.slowest) == SLOWEST_MAX else 0
        if max(columns["execution"], default=0) > bar:  # an equal one may be newer
            timed = [(us - 1, row) for us, row in zip(columns["execution"], columns["row"], strict=True) if us > bar]
            self.slowest = heapq.nlargest(SLOWEST_MAX, [*self.slowest, *timed])
        hours = [hour for hour in map(name, set(columns["hour"])) if hour != NO_TIME]
        self._extend(min(hours, default=None), max(hours, default=None))

    def _extend(self, first: str | None, last: str | None) -> None:
        if first is not None:
            self.first = first if self.first is None else min(self.first, first)
        if last is not None:
            self.last = last if self.last is None else max(self.last, last)

    def merge(self, other: Tally) -> None:
        """Add what another one has added up."""
        self.statuses.update(other.statuses)
        self.failures.update(other.failures)
        self.retries += other.retries
        self.writes += other.writes
        self.n_bytes += other.n_bytes
        self.execution.update(other.execution)
        self.commit.update(other.commit)
        self.slowest = heapq.nlargest(SLOWEST_MAX, [*self.slowest, *other.slowest])
        self._extend(other.first, other.last)

    def forget_extremes(self) -> None:
        """Forget the slowest units, and the first and the last hour: they cannot be taken away from."""
        self.slowest, self.first, self.last = [], None, None

    def subtract(self, other: Tally) -> None:
        """Take away what is a part of this, but for the extremes."""
        for mine, its in (
            (self.statuses, other.statuses),
            (self.failures, other.failures),
            (self.execution, other.execution),
            (self.commit, other.commit),
        ):
            _subtract(mine, its)
        self.retries -= other.retries
        self.writes -= other.writes
        self.n_bytes -= other.n_bytes

    # As one row of a table

    def packed(self) -> tuple[str, bytes, bytes]:
        """Return everything as a JSON text and two histograms in this machine's byte order."""
        facts = {
            "statuses": self.statuses,
            "failures": [[*which, units] for which, units in self.failures.items()],
            "sums": [self.retries, self.writes, self.n_bytes],
            "slowest": self.slowest,
            "between": [self.first, self.last],
        }
        return json.dumps(facts), _pack(self.execution), _pack(self.commit)

    @classmethod
    def unpacked(cls, text: str, execution: bytes, commit: bytes) -> Tally:
        """Return what `packed` was made from."""
        tally, facts = cls(), json.loads(text)
        tally.statuses.update(facts["statuses"])
        for error_type, store, units in facts["failures"]:
            tally.failures[error_type, store] = units
        tally.retries, tally.writes, tally.n_bytes = facts["sums"]
        tally.slowest = [(us, row) for us, row in facts["slowest"]]
        tally.first, tally.last = facts["between"]
        tally.execution, tally.commit = _unpack(execution), _unpack(commit)
        return tally

    # As an answer

    def group(self, name: str | None = None, *, withheld: bool = False) -> StatisticsGroup:
        """Return the group that this is."""
        return StatisticsGroup(
            name,
            withheld,
            units=self.statuses.total(),
            committed=self.statuses[Status.COMMITTED],
            failed=self.statuses[Status.FAILED],
            rolled_back=self.statuses[Status.ROLLED_BACK],
            pending=self.statuses[Status.PENDING],
            retries=self.retries,
            writes=self.writes,
            bytes=self.n_bytes,
            execution=durations(self.execution),
            commit=durations(self.commit),
        )

    def failure_counts(self) -> tuple[FailureCount, ...]:
        """Return the failures by type and store, most frequent first."""
        ordered = sorted(self.failures.items(), key=lambda item: (-item[1], item[0][0] or "", item[0][1] or ""))
        return tuple(FailureCount(error_type, store, units) for (error_type, store), units in ordered)


def _subtract(counter: Counter[Any], part: Counter[Any]) -> None:
    for key, number in part.items():
        counter[key] -= number
        if not counter[key]:
            del counter[key]


def _pack(histogram: _Histogram) -> bytes:
    cells = sorted(histogram.items())
    return array("q", [us for us, _ in cells]).tobytes() + array("q", [units for _, units in cells]).tobytes()


def _unpack(packed: bytes) -> _Histogram:
    cells = array("q", packed)
    half = len(cells) // 2
    return Counter(dict(zip(cells[:half], cells[half:], strict=True)))


def durations(histogram: _Histogram) -> Durations:
    """Return mean, percentiles and maximum of a histogram, exactly.

    The percentile p of n durations is the one at place ceil(p * n / 100) when they are sorted (nearest rank).
    """
    if not histogram:
        return Durations()
    values = sorted(histogram)
    up_to: list[int] = list(accumulate(map(histogram.__getitem__, values)))
    count = up_to[-1]
    total = sum(us * units for us, units in histogram.items())
    p50, p95, p99 = (values[bisect_left(up_to, -(-percent * count // 100))] for percent in (50, 95, 99))
    return Durations(count, total / count, p50, p95, p99, values[-1])


def added(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of some."""
    whole = Tally()
    for tally in tallies:
        whole.merge(tally)
    return whole
