"""Compares contenders that do the same work: in turn, in a new random order each round, round by round.

On a shared machine absolute times wander by a third within minutes. What two contenders took in the same round wandered
together, so the figure to trust is the median of the per-round ratios; pytest-benchmark, which runs one contender to
its end before it begins the next, cannot give it. The order is seeded: two runs make the same calls.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import fmean, median, quantiles
from time import perf_counter_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do the work; the first of a race is the floor that the others are compared with."""

    name: str
    once: Callable[[], object]
    before: Callable[[], object] | None = None
    """Makes ready for each time; not measured."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a race found out about one contender: a time in microseconds and a ratio to the floor for each round."""

    name: str
    times_us: tuple[float, ...]
    ratios: tuple[float, ...]

    @property
    def median_us(self) -> float:
        """The median time."""
        return median(self.times_us)

    @property
    def mean_us(self) -> float:
        """The mean time: what checkpoints and garbage collection cost is in here."""
        return fmean(self.times_us)

    @property
    def p99_us(self) -> float:
        """The time that one round in a hundred exceeded."""
        return quantiles(self.times_us, n=100, method="inclusive")[98]

    @property
    def ratio(self) -> float:
        """The median of the per-round ratios."""
        return median(self.ratios)

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles of the per-round ratios: half of all rounds lay between them."""
        low, _, high = quantiles(self.ratios, n=4, method="inclusive")
        return low, high


def race(
    contenders: Sequence[Contender], *, rounds: int, seed: int = 1, clock: Callable[[], int] = perf_counter_ns
) -> list[Result]:
    """Run every contender once in each of `rounds` rounds, at least two; return the results in the given order.

    `clock` gives nanoseconds: of the wall clock by default.
    """
    order = random.Random(seed)
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in order.sample(contenders, len(contenders)):
            if contender.before is not None:
                contender.before()
            begun = clock()
            contender.once()
            times[contender.name].append((clock() - begun) / 1000)
    floor = times[contenders[0].name]
    return [
        Result(name, tuple(taken), tuple(time / least for time, least in zip(taken, floor, strict=True)))
        for name, taken in times.items()
    ]


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table whose columns are aligned, the first to the left and the others to the right."""
    cells = [[str(heading) for heading in headings], *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| "
        + " | ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        + " |"
        for row in (cells[0], rule, *cells[1:])
    )


def ratio_table(results: Sequence[Result]) -> str:
    """Return the results of a race as a Markdown table."""
    return table(
        ("", "median us", "mean us", "p99 us", "x floor", "half of all rounds"),
        (
            (
                result.name,
                f"{result.median_us:,.0f}",
                f"{result.mean_us:,.0f}",
                f"{result.p99_us:,.0f}",
                f"{result.ratio:.2f}",
                "{:.2f} to {:.2f}".format(*result.spread),
            )
            for result in results
        ),
    )
