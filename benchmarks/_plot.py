"""Line plots with two logarithmic axes, as SVG text: no library is needed to draw three lines.

The picture says in words what it shows (``title`` and ``desc``), names each line at its end, so that no colour has to
be told from another, and follows light and dark of whoever looks at it.
"""

from __future__ import annotations

from html import escape
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Points = Sequence[tuple[float, float]]

WIDTH: Final = 820
HEIGHT: Final = 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 250, 40, 52
_STYLE: Final = """
text{font:13px system-ui,sans-serif;fill:#24292f}.axis{stroke:#8c959f}.grid{stroke:#d0d7de;stroke-width:.6}
.line{fill:none;stroke-width:2}.a{stroke:#57606a}.b{stroke:#0969da}.c{stroke:#bc4c00}.d{stroke:#1a7f37}
.dot.a{fill:#57606a}.dot.b{fill:#0969da}.dot.c{fill:#bc4c00}.dot.d{fill:#1a7f37}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#30363d}.a{stroke:#8b949e}.b{stroke:#58a6ff}
.c{stroke:#ffa657}.d{stroke:#56d364}.dot.a{fill:#8b949e}.dot.b{fill:#58a6ff}.dot.c{fill:#ffa657}.dot.d{fill:#56d364}}
""".replace("\n", "")


class _Axis:
    """From a value to a place, over whole powers of ten or of two."""

    def __init__(self, values: Sequence[float], begin: float, end: float, *, twos: bool) -> None:
        lows, highs = floor(log10(min(values))), ceil(log10(max(values)))
        self.ticks = (
            [float(value) for value in sorted(set(values))]
            if twos
            else [10.0**power for power in range(lows, max(highs, lows + 1) + 1)]
        )
        self._low, self._high = log10(self.ticks[0]), log10(self.ticks[-1])
        self._begin, self._end = begin, end

    def at(self, value: float) -> float:
        """Return where `value` is."""
        share = (log10(value) - self._low) / ((self._high - self._low) or 1)
        return round(self._begin + share * (self._end - self._begin), 1)


def plot(title: str, lines: Mapping[str, Points], *, across: str, up: str, twos: bool = False) -> str:
    """Return an SVG picture of `lines`, at most four; `across` and `up` name the axes. `twos`: a tick for each x."""
    points = [point for line in lines.values() for point in line]
    x = _Axis([p[0] for p in points], _LEFT, WIDTH - _RIGHT, twos=twos)
    y = _Axis([p[1] for p in points], HEIGHT - _BOTTOM, _TOP, twos=False)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t d">',
        f'<title id="t">{escape(title)}</title>',
        f'<desc id="d">{escape(_in_words(lines, across, up))}</desc>',
        f"<style>{_STYLE}</style>",
    ]
    for tick in x.ticks:
        parts.append(f'<line class="grid" x1="{x.at(tick)}" y1="{_TOP}" x2="{x.at(tick)}" y2="{HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text x="{x.at(tick)}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle">{_short(tick)}</text>')
    for tick in y.ticks:
        parts.append(f'<line class="grid" x1="{_LEFT}" y1="{y.at(tick)}" x2="{WIDTH - _RIGHT}" y2="{y.at(tick)}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y.at(tick) + 4}" text-anchor="end">{_short(tick)}</text>')
    parts.append(
        f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(across)}</text>'
    )
    parts.append(f'<text x="{_LEFT - 48}" y="{_TOP - 18}">{escape(up)}</text>')
    ends = _apart([y.at(line[-1][1]) for line in lines.values()])
    for letter, (name, line), end in zip("abcd", lines.items(), ends, strict=False):
        places = [(x.at(a), y.at(b)) for a, b in line]
        parts.append(f'<polyline class="line {letter}" points="{" ".join(f"{a},{b}" for a, b in places)}"/>')
        parts.extend(f'<circle class="dot {letter}" cx="{a}" cy="{b}" r="3"/>' for a, b in places)
        parts.append(f'<text x="{WIDTH - _RIGHT + 10}" y="{end + 4}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _in_words(lines: Mapping[str, Points], across: str, up: str) -> str:
    told = [f"{name}: {', '.join(f'{_short(b)} at {_short(a)}' for a, b in line)}" for name, line in lines.items()]
    return f"{up}, by {across}. {'; '.join(told)}."


def _apart(places: Sequence[float], least: float = 16) -> list[float]:
    """Return `places` moved down as far as needed for names not to lie on each other."""
    moved: dict[int, float] = {}
    last = -least
    for number in sorted(range(len(places)), key=places.__getitem__):
        last = moved[number] = max(places[number], last + least)
    return [moved[number] for number in range(len(places))]
