"""``memoryos-uow watch``: what happens in a ledger, as it happens.

The ledger is only read, a few rows at a time, so watching slows nobody down.
"""

from __future__ import annotations

import sys
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

from memoryos_uow import _ambient
from memoryos_uow._names import Band
from memoryos_uow._statistics import durations
from memoryos_uow._terminal import EMPTY, cut, printable, screen_width
from memoryos_uow.cli._arguments import busy_timeout_option, ledger_argument
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._newcomers import newcomers
from memoryos_uow.cli._output import note, note_basic, print_json
from memoryos_uow.cli._reading import reading
from memoryos_uow.cli._stats import duration
from memoryos_uow.cli._withheld import to_the_minute
from memoryos_uow.errors import LedgerBusy, LedgerError

if TYPE_CHECKING:
    from memoryos_uow._statistics import CountedUnit
    from memoryos_uow.cli._arguments import LedgerPlace
    from memoryos_uow.cli._reading import ReadLedger

_HEADINGS: Final = "TIME       UNITS/S   NEW  FAILED  IN DOUBT        P50        P95        P99"
_WINDOW_S: Final = 60.0
_FAILURES_SHOWN: Final = 5


@click.command(
    cls=Command,
    short_help="Watch what happens in a ledger.",
    examples=("memoryos-uow watch memory.db", "memoryos-uow watch memory.db --interval 10 --nl >> rates.ndjson"),
)
@ledger_argument
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1, max=3600),
    default=1.0,
    metavar="SECONDS",
    help="How often to look; default 1.",
)
@click.option("--count", "looks", type=click.IntRange(min=1), metavar="N", help="End after so many looks.")
@click.option("--nl", is_flag=True, help="Print JSON, one look per line.")
@click.option("--plain", is_flag=True, help="Print one line per look, also on a terminal that could show more.")
@busy_timeout_option
def watch(
    ledger: LedgerPlace, *, interval: float, looks: int | None, nl: bool, plain: bool, busy_timeout: float
) -> None:
    """Show how many units per second are recorded in LEDGER, how long they take, and which fail, until Ctrl-C.

    On a terminal, with the package rich installed, the picture is kept up to date in place; otherwise each look is a
    line. Percentiles are of the last minute. Of failed units no more is shown than their band allows.
    """
    with reading(ledger, busy_timeout_s=busy_timeout) as opened:
        watching = Watching(opened, interval)
        if opened.basic:
            note_basic()
        identity = _identity(ledger)
        screen = None if nl or plain else _screen(opened.place)
        try:
            with suppress(KeyboardInterrupt):
                shown = 0
                while looks is None or shown < looks:
                    _ambient.sleep(interval)
                    if _identity(ledger) != identity:
                        raise LedgerError(
                            f"{opened.place} was removed or replaced.", hint="Watch it again to see what is there now."
                        )
                    try:
                        look = watching.look()
                    except LedgerBusy:
                        note("Others keep the ledger locked against reading; looking again.")
                        continue
                    _show(look, screen, nl=nl, first=shown == 0)
                    shown += 1
        finally:
            if screen is not None:
                screen.stop()


def _identity(ledger: LedgerPlace) -> tuple[int, int] | None:
    """Return which file is at the path, None if there is none; a database is not replaced while one is connected."""
    if ledger.path is None:
        return None
    try:
        found = ledger.path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@dataclass(slots=True)
class Look:
    """What one look has found."""

    at: str
    per_second: float
    units: int
    """New since the last look."""
    failed: int
    rolled_back: int
    in_doubt: int
    p50_us: int | None
    p95_us: int | None
    p99_us: int | None
    failures: list[dict[str, str | None]] = field(default_factory=list)
    """The newest, as far as their bands allow."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class Watching:
    """Looks at a ledger again and again."""

    def __init__(self, opened: ReadLedger, interval_s: float) -> None:
        self._opened = opened
        self._newcomers = newcomers(opened.reader, basic=opened.basic)
        self._looked_ns = _ambient.monotonic_ns()
        self._waiting: list[CountedUnit] = []
        self._minute: deque[list[int]] = deque(maxlen=max(1, round(_WINDOW_S / interval_s)))
        self._failures: deque[dict[str, str | None]] = deque(maxlen=_FAILURES_SHOWN)

    def look(self) -> Look:
        """Return what is new."""
        reader, now_ns = self._opened.reader, _ambient.monotonic_ns()
        found, fresh, again = self._newcomers.look(self._waiting)
        new = [*again, *fresh]
        self._waiting = [one for one in new if not one.final][-1000:]
        self._minute.append([one.execution_us for one in new if one.execution_us is not None])
        for one in fresh:
            if one.error is not None:
                self._failures.appendleft(self._failure(one))
        histogram = Counter(us for some in self._minute for us in some)
        took = durations(histogram)
        seconds = max((now_ns - self._looked_ns) / 1e9, 1e-3)
        self._looked_ns = now_ns
        statuses = Counter(one.status for one in fresh)
        return Look(
            at=_ambient.now_text(),
            per_second=round(found / seconds, 1),
            units=found,
            failed=statuses["failed"],
            rolled_back=statuses["rolled_back"],
            in_doubt=0 if self._opened.basic else reader.rows("SELECT count(*) FROM uow_coordination")[0][0],
            p50_us=took.p50_us,
            p95_us=took.p95_us,
            p99_us=took.p99_us,
            failures=list(self._failures),
        )

    def _failure(self, one: CountedUnit) -> dict[str, str | None]:
        found = self._opened.reader.rows("SELECT uow_id FROM unit_of_work WHERE rowid = ?", (one.row,))
        error_type, store = one.error or (None, None)
        return {
            "uow_id": str(found[0][0]) if found else None,
            "created_ts": to_the_minute(one.created) if one.band == Band.BLACK else one.created,
            "error_type": error_type,
            "failed_store": store,
        }


# What is shown


def _show(look: Look, screen: _Screen | None, *, nl: bool, first: bool) -> None:
    if nl:
        print_json(look.as_dict(), indent=None)
    elif screen is not None:
        screen.update(look)
    else:
        if first:
            room = screen_width()
            click.echo(_HEADINGS if room is None else cut(_HEADINGS, room))
        for line in _plain(look):
            click.echo(line)
    sys.stdout.flush()  # whoever reads through a pipe sees it now, and one that is gone is noticed


def _plain(look: Look) -> list[str]:
    p50, p95, p99 = (_duration(us) for us in (look.p50_us, look.p95_us, look.p99_us))
    line = (
        f"{look.at[11:19]} {look.per_second:>9,.1f} {look.units:>5,} {look.failed:>7,} {look.in_doubt:>9,}"
        f" {p50:>10} {p95:>10} {p99:>10}"
    )
    room = screen_width()
    lines = [line] + [_failure(one) for one in look.failures[: look.failed]]
    return lines if room is None else [cut(one, room) for one in lines]


def _failure(one: dict[str, str | None]) -> str:
    told = [
        one["error_type"] or EMPTY,
        f"in {one['failed_store']}" if one["failed_store"] else "",
        one["uow_id"] or EMPTY,
    ]
    return "  failed: " + printable(" ".join(part for part in told if part))


def _duration(us: int | None) -> str:
    return EMPTY if us is None else duration(us)


class _Screen:
    """A picture that is kept up to date in place, drawn by rich.

    Raises:
        ImportError: rich is not installed.
    """

    def __init__(self, name: str) -> None:
        from rich.console import Console  # noqa: PLC0415 - where it is installed, and for this alone
        from rich.live import Live  # noqa: PLC0415

        self._name = name
        self._live = Live(console=Console(highlight=False), auto_refresh=False, transient=False)
        self._live.start()

    def update(self, look: Look) -> None:
        """Draw a look."""
        from rich.console import Group  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold")
        table.add_column(justify="right")
        for words, value in (
            ("units per second", f"{look.per_second:,.1f}"),
            ("failed, rolled back", f"{look.failed:,}, {look.rolled_back:,}"),
            ("in doubt", f"{look.in_doubt:,}"),
            ("p50 of the last minute", _duration(look.p50_us)),
            ("p95", _duration(look.p95_us)),
            ("p99", _duration(look.p99_us)),
        ):
            table.add_row(words, value)
        head = Text(f"{printable(self._name)}  {look.at[11:19]} UTC  (Ctrl-C ends)", style="dim")
        failures = [Text(_failure(one), style="red") for one in look.failures]
        self._live.update(Group(head, table, *failures), refresh=True)

    def stop(self) -> None:
        """Leave the last picture where it is."""
        with suppress(OSError, ValueError):  # nobody sees it any more
            self._live.stop()


def _screen(name: str) -> _Screen | None:
    """Return a screen, where there is a terminal for it and rich is installed."""
    if not sys.stdout.isatty():
        return None
    with suppress(ImportError):
        return _Screen(name)
    return None
