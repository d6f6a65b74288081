"""How the demo speaks: headings, facts and ticks on stdout, a progress bar on stderr."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from memoryos_uow._terminal import pairs, printable, screen_width, table, wants_colour, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from memoryos_uow._terminal import Column

_INDENT: Final = "   "
_ROOM_MAX: Final = 110


class Screen:
    """Prints for people; a silent one prints nothing but the progress bar."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._colour = wants_colour(sys.stdout)
        self._room = min(screen_width() or _ROOM_MAX, _ROOM_MAX)

    def heading(self, text: str) -> None:
        """Begin a part."""
        self._print()
        for line in wrap(text.split(), self._room):
            self._print(self._styled(line, bold=True))

    def gap(self) -> None:
        """Leave a line empty."""
        self._print()

    def text(self, sentence: str, *, indent: str = _INDENT) -> None:
        """Say a sentence or two."""
        for line in wrap(printable(sentence).split(), self._room, indent=indent):
            self._print(line)

    def facts(self, named: Iterable[tuple[str, str]], *, indent: str = _INDENT) -> None:
        """Say names and values, one below the other."""
        for line in pairs([(name, printable(value)) for name, value in named], self._room, indent=indent):
            self._print(line)

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        """Print a table."""
        shown = [[printable(cell) for cell in row] for row in rows]
        for line in table(columns, shown, self._room - len(_INDENT)):
            self._print(_INDENT + line)

    def verdict(self, sentence: str, *, good: bool) -> None:
        """Say whether something holds, as the first word and in colour."""
        word, shade = ("ok", "green") if good else ("WRONG", "red")
        indent = " " * (len(_INDENT) + len(word) + 2)
        first, *rest = wrap(printable(sentence).split(), self._room, indent=indent)
        self._print(_INDENT + self._styled(word, fg=shade, bold=True) + first[len(_INDENT) + len(word) :])
        for line in rest:
            self._print(line)

    def command(self, line: str) -> None:
        """Print something to be typed or copied: never wrapped."""
        self._print(_INDENT + self._styled(printable(line), fg="cyan"))

    def _styled(self, text: str, *, fg: str | None = None, bold: bool | None = None) -> str:
        return click.style(text, fg=fg, bold=bold) if self._colour else text

    def _print(self, line: str = "") -> None:
        if not self._silent:
            click.echo(line, color=self._colour)


@contextmanager
def progress(length: int, label: str) -> Iterator[Callable[[], None]]:
    """Show how far something has come, on stderr if that is a terminal; the block calls what it gets after each."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    with click.progressbar(
        length=length,
        label=f"{_INDENT}{label}",
        file=sys.stderr,
        show_pos=True,
        width=max(8, min(36, (screen_width(sys.stderr) or 80) - 36)),
        update_min_steps=max(1, length // 100),
    ) as bar:
        yield lambda: bar.update(1)
