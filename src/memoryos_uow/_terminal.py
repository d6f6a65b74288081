"""Text for terminals: what can be shown safely, how wide it is, and tables that fit.

Promise: whatever a ledger holds, nothing that went through `printable` can steer a terminal or fail to be encoded, and
`table` makes no line wider than asked.
"""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING, Final, NamedTuple, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Paint = Callable[[str, str], str]

EMPTY: Final = "-"
"""Stands for a value that is not there."""

_GAP: Final = "  "
_UNITS: Final = ("kB", "MB", "GB", "TB")


class Column(NamedTuple):
    """One column of a table."""

    heading: str
    right: bool = False
    """Numbers stand to the right."""
    least: int | None = None
    """How far the column may be cut where room is scarce; None: never."""


# What can be shown


def printable(text: str, stream: TextIO | None = None) -> str:
    r"""Return `text` with everything escaped that would steer a terminal or that `stream` (stdout) cannot encode.

    ``ESC`` becomes ``\x1b``, a line feed ``\n``, a character that turns the writing direction ``\u202e``.
    """
    escaped = text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)
    encoding = getattr(stream or sys.stdout, "encoding", None) or "ascii"
    return escaped.encode(encoding, "backslashreplace").decode(encoding)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def make_streams_lenient() -> None:
    """Let the standard streams escape what they cannot encode, instead of failing on it."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def wants_colour(stream: TextIO) -> bool:
    """Say whether `stream` is a terminal that shows colours and whose user has nothing against them (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


# How wide it is


def width(text: str) -> int:
    """Return how many columns of a terminal `text` takes: East Asian wide characters two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def cut(text: str, columns: int) -> str:
    """Return `text` if it takes at most `columns`, else its beginning and a mark that something is missing."""
    if width(text) <= columns:
        return text
    mark = "..." if columns > 3 else "." * columns  # noqa: PLR2004 - the mark itself must fit
    return _beginning(text, columns - len(mark)) + mark


def _beginning(text: str, columns: int) -> str:
    taken = 0
    for number, character in enumerate(text):
        taken += _width(character)
        if taken > columns:
            return text[:number]
    return text


def wrap(words: Iterable[str], columns: int | None, *, indent: str = "", gap: str = " ") -> list[str]:
    """Return `words` set in lines of at most `columns` (None: one line); a longer word is broken, not cut."""
    lines: list[str] = []
    line = indent
    for word in words:
        joined = line + word if line == indent else line + gap + word
        if columns is None or width(joined) <= columns:
            line = joined
            continue
        if line != indent:
            lines.append(line)
        line = indent + word
        while width(line) > columns > len(indent) + 1:
            head = _beginning(line, columns)
            lines.append(head)
            line = indent + line[len(head) :]
    return [*lines, line] if line != indent else lines


def screen_width(stream: TextIO | None = None) -> int | None:
    """Return the columns there are for `stream` (stdout); None where lines may have any length, as in a pipe.

    ``$COLUMNS`` decides where it is set.
    """
    if os.environ.get("COLUMNS", "").isdigit() or (stream or sys.stdout).isatty():
        return max(shutil.get_terminal_size().columns, 20)
    return None


# Tables


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int | None, *, paint: Paint | None = None
) -> list[str]:
    """Return the lines of a table; where it does not fit into `room` columns even when cut, one paragraph for each row.

    A paragraph begins with the first cell; the others follow indented, numbers with their headings. `paint` is given
    the heading and the padded text of each cell of a row, and returns it with colours; the heading of the headings, and
    of what begins a paragraph, is "".
    """
    widths = [max(width(cell) for cell in cells) for cells in zip(*[[c.heading for c in columns], *rows], strict=True)]
    spare = None if room is None else room - sum(widths) - len(_GAP) * (len(widths) - 1)
    for number, column in sorted(enumerate(columns), key=lambda pair: -widths[pair[0]]):
        if spare is not None and spare < 0 and column.least is not None:
            kept = max(widths[number] + spare, min(column.least, widths[number]))
            spare += widths[number] - kept
            widths[number] = kept
    if spare is not None and spare < 0:
        return [line for row in rows for line in _paragraph(columns, row, room, paint)]
    headings = _padded(columns, [c.heading for c in columns], widths)
    lines = [_GAP.join(headings if paint is None else [paint("", text) for text in headings]).rstrip()]
    for row in rows:
        padded = _padded(columns, row, widths)
        if paint is not None:
            padded = [paint(column.heading, text) for column, text in zip(columns, padded, strict=True)]
        lines.append(_GAP.join(padded).rstrip())
    return lines


def _padded(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    padded = []
    for column, cell, size in zip(columns, cells, widths, strict=True):
        shown = cut(cell, size)
        blank = " " * (size - width(shown))
        padded.append(blank + shown if column.right else shown + blank)
    return padded


def _paragraph(columns: Sequence[Column], row: Sequence[str], room: int | None, paint: Paint | None) -> list[str]:
    first, *others = zip(columns, row, strict=True)
    words = [f"{column.heading} {cell}" if column.right else cell for column, cell in others if cell != EMPTY]
    begin = wrap([first[1]], room)
    if paint is not None:
        begin = [paint("", line) for line in begin]
    return [*begin, *wrap(words, room, indent=_GAP, gap=_GAP)]


def pairs(named: Iterable[tuple[str, str]], room: int | None, *, indent: str = "") -> list[str]:
    """Return one line per name and value, the values below each other; what is too long goes below its name."""
    listed = list(named)
    left = len(indent) + max((width(name) for name, _ in listed), default=0) + len(_GAP)
    lines = []
    for name, value in listed:
        words = value.split(" ") if value else [EMPTY]
        if room is not None and max(map(width, words)) > room - left:
            lines += [indent + name, *wrap(words, room, indent=indent + _GAP)]
            continue
        first, *rest = wrap(words, None if room is None else room - left) or [EMPTY]
        lines.append(f"{indent}{name}".ljust(left) + first)
        lines.extend(" " * left + line for line in rest)
    return lines


# Numbers


def count(number: int, one: str, many: str | None = None) -> str:
    """Return `number` and what is counted: ``1 unit``, ``1,200 units``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(n_bytes: int) -> str:
    """Return a size for people: ``512 B``, ``8.3 MB`` (powers of 1,000)."""
    if n_bytes < 1000:  # noqa: PLR2004 - the first unit
        return f"{n_bytes} B"
    power = 1
    while n_bytes / 1000**power >= 999.95 and power < len(_UNITS):  # noqa: PLR2004 - what rounds to the next unit
        power += 1
    return f"{n_bytes / 1000**power:.1f} {_UNITS[power - 1]}"
