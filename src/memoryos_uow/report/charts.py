"""Charts as inline SVG, drawn by hand.

Promise: a chart says in words what it shows, and its numbers stand in a table below it. Plots are stretched to the
width there is; text is not in them, so that it keeps its size on a phone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from memoryos_uow.report.text import duration, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memoryos_uow.statistics import StatisticsGroup

HEIGHT: Final = 100
WIDTH: Final = 1000
_STEPS_OF_SCALE: Final = 4
_PERCENTILES: Final = ("p50", "p95", "p99")


def throughput(groups: Sequence[StatisticsGroup], label: str) -> str:
    """Return a chart of how many units there were at each time, those that did not commit at the foot."""
    top = _top(max(group.units for group in groups))
    breadth = WIDTH / len(groups)
    gap = min(breadth * 0.15, 4)
    parts = []
    for number, group in enumerate(groups):
        wrong = group.failed + group.rolled_back
        x = number * breadth
        below = HEIGHT * wrong / top
        for what, height, foot in (("all", HEIGHT * (group.units - wrong) / top, below), ("wrong", below, 0.0)):
            if height:
                y = HEIGHT - foot - height
                parts.append(
                    f'<rect class="{what}" x="{x + gap / 2:.1f}" y="{y:.2f}" width="{breadth - gap:.1f}"'
                    f' height="{height:.2f}"/>'
                )
        said = f"{group.name}: {group.units:,} units, {wrong:,} failed or rolled back"
        parts.append(_hit(x, breadth, said))
    marks = [f"{top * step // _STEPS_OF_SCALE:,}" for step in range(_STEPS_OF_SCALE, -1, -1)]
    return _framed("".join(parts), marks, groups, label)


def latency(groups: Sequence[StatisticsGroup], label: str) -> str:
    """Return a chart of three percentiles of execution at each time; its scale is logarithmic."""
    values = [us for group in groups for us in _percentiles(group) if us is not None]
    low = math.floor(math.log10(max(min(values), 1)))
    high = max(math.ceil(math.log10(max(*values, 1))), low + 1)
    breadth = WIDTH / len(groups)

    def height(us: int) -> float:
        return HEIGHT * (1 - (math.log10(max(us, 10**low)) - low) / (high - low))

    parts = []
    for place, name in reversed(list(enumerate(_PERCENTILES))):
        path, drawn = [], False
        for number, group in enumerate(groups):
            us = _percentiles(group)[place]
            if us is not None:
                y = f"{height(us):.2f}"
                path.append(f"{'L' if drawn else 'M'}{number * breadth:.1f} {y}H{(number + 1) * breadth:.1f}")
            drawn = us is not None
        parts.append(f'<path class="{name}" d="{"".join(path)}"/>')
    for number, group in enumerate(groups):
        if group.execution.count:
            p50, p95, p99 = map(duration, _percentiles(group))
            parts.append(_hit(number * breadth, breadth, f"{group.name}: p50 {p50}, p95 {p95}, p99 {p99}"))
    marks = [duration(10**power) for power in range(high, low - 1, -1)]
    return _framed("".join(parts), marks, groups, label)


def bar(part: int, whole: int) -> str:
    """Return a bar that is as long as `part` of `whole`; the number stands beside it."""
    breadth = 100 * part / whole if whole else 0
    return (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="all" width="{max(breadth, 0.6) if part else 0:.1f}" height="10" rx="1"/></svg>'
    )


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """Return what each sign of a chart stands for; lines differ in more than colour."""
    signs = []
    for sign, words in entries:
        drawn = (
            '<path class="{}" d="M0 5H26"/>' if sign.startswith("p") else '<rect class="{}" width="26" height="10"/>'
        )
        signs.append(f'<li><svg viewBox="0 0 26 10" aria-hidden="true">{drawn.format(sign)}</svg>{plain(words)}</li>')
    return f'<ul class="legend">{"".join(signs)}</ul>'


def _percentiles(group: StatisticsGroup) -> tuple[int | None, int | None, int | None]:
    return group.execution.p50_us, group.execution.p95_us, group.execution.p99_us


def _top(most: int) -> int:
    """Return the end of a scale in whole steps that is not much more than `most`."""
    power: int = 10 ** (len(str(max(most, 1))) - 1)
    tops: list[int] = [power * tenths // 10 for tenths in (10, 12, 16, 20, 24, 32, 40, 60, 80, 100)]
    nice = next(top for top in tops if top >= most)
    return -(-max(nice, _STEPS_OF_SCALE) // _STEPS_OF_SCALE) * _STEPS_OF_SCALE


def _hit(x: float, breadth: float, words: str) -> str:
    """Return a stretch of the plot that says its numbers when pointed at."""
    return (
        f'<rect class="hit" x="{x:.1f}" y="0" width="{breadth:.1f}" height="{HEIGHT}">'
        f"<title>{plain(words)}</title></rect>"
    )


def _framed(plot: str, marks: Sequence[str], groups: Sequence[StatisticsGroup], label: str) -> str:
    """Return a plot with its scale to the left and its times below."""
    lines = "".join(
        f'<path class="{"base" if number == len(marks) - 1 else "grid"}" d="M0 {y:.2f}H{WIDTH}"/>'
        for number, y in enumerate(HEIGHT * step / (len(marks) - 1) for step in range(len(marks)))
    )
    scale = "".join(f"<span>{plain(mark)}</span>" for mark in marks)
    times = "".join(f"<span>{plain(time)}</span>" for time in _ends(groups))
    return (
        f'<div class="chart"><div class="scale" aria-hidden="true">{scale}</div>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{plain(label)}">'
        f'{lines}{plot}</svg><div class="times" aria-hidden="true">{times}</div></div>'
    )


def _ends(groups: Sequence[StatisticsGroup]) -> list[str]:
    """Return the first and the last time."""
    first, last = ((group.name or "").replace("T", " ") for group in (groups[0], groups[-1]))
    hour = ":00" if len(first) == 13 else ""  # noqa: PLR2004 - date and hour
    return [first + hour] if first == last else [first + hour, last + hour]
