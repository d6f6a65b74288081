"""Compares how many units a second several workers get done together, and how evenly.

As `_ratios` does for single times: in each round every contender works for the same short time, in a new random order,
and the figure to trust is the median of the per-round ratios. Of latencies and evenness the rounds' medians are given:
the longest that one unit in a hundred took, and what the slowest worker got done for each unit of the fastest.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import TYPE_CHECKING, Protocol

from benchmarks._ratios import table

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Shift:
    """What the workers of one contender got done in one round."""

    taken_s: float
    latencies_s: tuple[tuple[float, ...], ...]
    """For each worker, how long each of its units took."""

    @property
    def rate(self) -> float:
        """Units a second, of all workers together."""
        return sum(map(len, self.latencies_s)) / self.taken_s

    @property
    def evenness(self) -> float:
        """Units of the slowest worker for each unit of the fastest."""
        done = [len(each) for each in self.latencies_s]
        return min(done) / max(*done, 1)

    @property
    def p99_ms(self) -> float:
        """The milliseconds that one unit in a hundred exceeded; a worker that got none done waited all the time."""
        all_of_them = [latency for each in self.latencies_s for latency in each or (self.taken_s,)]
        return quantiles([*all_of_them, *all_of_them], n=100, method="inclusive")[98] * 1000


class Workers(Protocol):
    """Some workers who do units of one kind when told to."""

    name: str

    def work(self, seconds: float) -> Shift:
        """Have all of them do units for so long."""
        ...


@dataclass(slots=True)
class Rates:
    """What a comparison found out about one contender."""

    name: str
    shifts: list[Shift] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)


def compare(contenders: Sequence[Workers], *, rounds: int, seconds: float, seed: int = 1) -> list[Rates]:
    """Have every contender work once in each round; the first is the floor. One round before them is not counted."""
    order = random.Random(seed)
    found = {contender.name: Rates(contender.name) for contender in contenders}
    for number in range(rounds + 1):
        for contender in order.sample(list(contenders), len(contenders)):
            shift = contender.work(seconds)
            if number:
                found[contender.name].shifts.append(shift)
    floor = found[contenders[0].name].shifts
    for rates in found.values():
        rates.ratios = [shift.rate / max(least.rate, 1e-9) for shift, least in zip(rates.shifts, floor, strict=True)]
    return list(found.values())


def rate_table(results: Sequence[Rates]) -> str:
    """Return the results of a comparison as a Markdown table."""
    return table(
        ("", "units/s", "x floor", "half of all rounds", "p99 ms", "slowest / fastest"),
        (
            (
                rates.name,
                f"{median(shift.rate for shift in rates.shifts):,.0f}",
                f"{median(rates.ratios):.2f}",
                "{:.2f} to {:.2f}".format(*_quartiles(rates.ratios)),
                f"{median(shift.p99_ms for shift in rates.shifts):,.1f}",
                f"{median(shift.evenness for shift in rates.shifts):.2f}",
            )
            for rates in results
        ),
    )


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    low, _, high = quantiles([*values, *values], n=4, method="inclusive")
    return low, high
