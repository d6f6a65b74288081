"""``memoryos-uow stats``: units, failures, retries, bytes and durations, added up and by group."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from memoryos_uow import _terminal
from memoryos_uow._names import Band
from memoryos_uow._statistics import Question, statistics
from memoryos_uow._terminal import EMPTY, Column, count, pairs, printable, screen_width, table, wants_colour
from memoryos_uow.cli._arguments import (
    a_time,
    band_option,
    busy_timeout_option,
    json_option,
    ledger_argument,
    since_option,
)
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._output import note, note_basic, print_json
from memoryos_uow.cli._reading import reading
from memoryos_uow.cli._steps import Steps
from memoryos_uow.statistics import GroupBy

if TYPE_CHECKING:
    from memoryos_uow.cli._arguments import LedgerPlace
    from memoryos_uow.statistics import Durations, Statistics, StatisticsGroup

_INDENT: Final = "  "
_GROUP_COLUMNS: Final = (
    Column("UNITS", right=True),
    Column("FAILED", right=True),
    Column("RETRIES", right=True),
    Column("BYTES", right=True),
    Column("P50", right=True),
    Column("P95", right=True),
    Column("P99", right=True),
    Column("MAX", right=True),
    Column("COMMIT P95", right=True),
)
_DURATION_COLUMNS: Final = (
    Column(""),
    *(Column(heading, right=True) for heading in ("MEAN", "P50", "P95", "P99", "MAX")),
)
_FAILURE_COLUMNS: Final = (Column("UNITS", right=True), Column("ERROR", least=10), Column("STORE", least=8))
_SLOW_COLUMNS: Final = (
    Column("UNIT"),
    Column("TOOK", right=True),
    Column("CREATED"),
    Column("BAND"),
    Column("SPACE", least=10),
)


@click.command(
    cls=Command,
    short_help="Count units and failures, and say how long units took.",
    examples=(
        "memoryos-uow stats memory.db --by space",
        "memoryos-uow stats memory.db --since 2026-11-22 --by hour",
        "memoryos-uow stats memory.db --json | jq .total.execution.p95_us",
    ),
)
@ledger_argument
@click.option("--space", "space_id", metavar="ID", help="Only GREEN and AMBER units of this space.")
@band_option
@since_option
@click.option("--until", metavar="TIME", callback=a_time, help="Only units created before.")
@click.option(
    "--by",
    type=click.Choice([by.value for by in GroupBy]),
    metavar="WHAT",
    help="Have groups by space, actor, band, store, hour, day or month (UTC).",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=20,
    metavar="N",
    help="How many groups the table has at most, and of times the newest; default 20, 0 means all. JSON has all.",
)
@json_option
@busy_timeout_option
def stats(
    ledger: LedgerPlace,
    *,
    space_id: str | None,
    band: str | None,
    since: str | None,
    until: str | None,
    by: str | None,
    limit: int,
    as_json: bool,
    busy_timeout: float,
) -> None:
    """Count the units of LEDGER, their failures, retries and bytes, and say how long they took.

    Percentiles are exact. Of a unit no more is counted than its band allows. What was added up is kept in LEDGER-stats,
    a small file that may be deleted at any time, so that only the first answer has to read every unit. For a ledger in
    a database there is no such file.
    """
    question = Question(
        space_id, None if band is None else Band(band), since, until, None if by is None else GroupBy(by)
    )
    with Steps("Adding up") as steps, reading(ledger, busy_timeout_s=busy_timeout) as opened:
        if opened.basic and (space_id or band or by in ("space", "actor", "band", "store")):
            raise click.UsageError(
                "A ledger of contract 1.0.0 knows times and status only: --since, --until, --by hour."
            )
        found = statistics(opened.reader, ledger.absolute, question, basic=opened.basic, progress=steps)
        basic = opened.basic
    if basic:
        note_basic()
    if as_json:
        print_json(found.as_dict())
    elif found.total.units:
        _print(found, limit=limit)
    else:
        note("No unit matches." if space_id or band or since or until else "The ledger has no units yet.")


def _print(found: Statistics, *, limit: int) -> None:
    room = screen_width()
    total = found.total
    _heading("Units")
    ended = ((name, getattr(total, name)) for name in ("committed", "failed", "rolled_back", "pending"))
    counted = [(name, f"{number:,}") for name, number in ended if number]
    if found.in_doubt:
        counted.append(("in doubt", f"{found.in_doubt:,} (or still under way)"))
    sums = [("retries", f"{total.retries:,}"), ("writes", f"{total.writes:,}"), ("bytes", _terminal.size(total.bytes))]
    between = [] if found.first_ts is None else [("between", f"{found.first_ts} and {found.last_ts}")]
    for line in pairs([("units", f"{total.units:,}"), *counted, *sums, *between], room, indent=_INDENT):
        click.echo(line)
    if total.execution.count:
        _heading(f"How long {count(total.execution.count, 'committed unit')} took", before=True)
        rows = [["execution", *_times(total.execution)], ["commit", *_times(total.commit)]]
        _table(_DURATION_COLUMNS, rows, room)
    if found.by is not None:
        _print_groups(found, limit, room)
    if found.failures:
        _heading("Failures", before=True)
        cells = [[f"{one.units:,}", _cell(one.error_type), _cell(one.failed_store)] for one in found.failures]
        _table(_FAILURE_COLUMNS, cells, room)
    if found.slowest:
        _heading("Slowest units", before=True)
        _table(
            _SLOW_COLUMNS,
            [
                [
                    _cell(one.uow_id),
                    duration(one.execution_us),
                    _cell(one.created_ts),
                    _cell(one.band),
                    _cell(one.space_id),
                ]
                for one in found.slowest
            ],
            room,
        )


def _print_groups(found: Statistics, limit: int, room: int | None) -> None:
    assert found.by is not None  # noqa: S101 - the caller's
    shown = found.groups
    if limit and len(shown) > limit:
        is_time = found.by in (GroupBy.HOUR, GroupBy.DAY, GroupBy.MONTH)
        shown = shown[-limit:] if is_time else shown[:limit]
    _heading(f"By {found.by}", before=True)
    _table((Column(found.by.upper(), least=10), *_GROUP_COLUMNS), [_group_cells(group) for group in shown], room)
    if len(shown) < len(found.groups):
        note(f"There are {len(found.groups):,} groups; --limit 0 shows all.")


def _group_cells(group: StatisticsGroup) -> list[str]:
    name = "(withheld)" if group.withheld else _cell(group.name)
    _, *percentiles = _times(group.execution)
    counts = [f"{group.units:,}", f"{group.failed:,}", f"{group.retries:,}", _terminal.size(group.bytes)]
    return [name, *counts, *percentiles, _times(group.commit)[2]]


def _times(found: Durations) -> list[str]:
    """Return mean, p50, p95, p99 and maximum for people."""
    known = (found.mean_us, found.p50_us, found.p95_us, found.p99_us, found.max_us)
    return [EMPTY if us is None else duration(us) for us in known]


def duration(us: float) -> str:
    """Return a duration with three digits or more: ``512 us``, ``1.23 ms``, ``45.6 s``."""
    if us < 999.5:  # noqa: PLR2004 - what rounds to a millisecond
        return f"{us:.0f} us"
    number, unit = (us / 1e3, "ms") if us < 999_500 else (us / 1e6, "s")  # noqa: PLR2004 - what rounds to a second
    return f"{number:,.{2 if number < 9.995 else 1 if number < 99.95 else 0}f} {unit}"  # noqa: PLR2004 - three digits


def _cell(text: str | None) -> str:
    return EMPTY if text is None else printable(text)


def _heading(text: str, *, before: bool = False) -> None:
    if before:
        click.echo()
    click.echo(click.style(text, bold=True) if wants_colour(sys.stdout) else text)


def _table(columns: tuple[Column, ...], rows: list[list[str]], room: int | None) -> None:
    for line in table(columns, rows, None if room is None else room - len(_INDENT)):
        click.echo(_INDENT + line)
