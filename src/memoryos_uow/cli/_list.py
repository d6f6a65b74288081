"""``memoryos-uow list``: the newest units of a ledger."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from memoryos_uow._names import Status
from memoryos_uow._terminal import EMPTY, Column, printable, screen_width, table, wants_colour
from memoryos_uow.cli._arguments import band_option, busy_timeout_option, json_option, ledger_argument, since_option
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._output import note, note_basic, print_json
from memoryos_uow.cli._reading import reading
from memoryos_uow.cli._withheld import shown

if TYPE_CHECKING:
    from memoryos_uow._records import UnitRecord
    from memoryos_uow.cli._arguments import LedgerPlace

_COLUMNS: Final = (
    Column("UNIT"),
    Column("CREATED"),
    Column("STATUS"),
    Column("BAND"),
    Column("SPACE", least=10),
    Column("BYTES", right=True),
    Column("MS", right=True),
    Column("ERROR", least=10),
)
_BASIC_COLUMNS: Final = (Column("UNIT"), Column("CREATED"), Column("COMMITTED"), Column("STATUS"))
_SHADES: Final = {"committed": "green", "failed": "red", "rolled_back": "yellow", "pending": "yellow"}
WITHHELD: Final = "(withheld)"


@click.command(
    "list",
    cls=Command,
    short_help="List the newest units.",
    examples=(
        "memoryos-uow list memory.db --failed --since 2026-11-22",
        "memoryos-uow list memory.db --limit 0 --nl | jq -r .uow_id",
    ),
)
@ledger_argument
@click.option("--space", "space_id", metavar="ID", help="Only GREEN and AMBER units of this space.")
@band_option
@click.option(
    "--status",
    type=click.Choice([status.value for status in Status]),
    metavar="STATUS",
    help="Only units that are committed, failed, rolled_back or pending.",
)
@click.option("--failed", is_flag=True, help="The same as --status failed.")
@click.option(
    "--slow",
    "slow_ms",
    type=click.IntRange(min=0),
    metavar="MS",
    help="Only units that took at least so long; never BLACK ones.",
)
@click.option("--actor", "actor_id", metavar="ID", help="Only GREEN units of this actor.")
@click.option(
    "--correlation", "correlation_id", metavar="ID", help="Only GREEN and AMBER units with this correlation id."
)
@since_option
@click.option(
    "--limit", type=click.IntRange(min=0), default=50, metavar="N", help="How many at most; default 50, 0 means all."
)
@json_option
@click.option("--nl", is_flag=True, help="Print JSON, one unit per line.")
@busy_timeout_option
def list_units(
    ledger: LedgerPlace,
    *,
    failed: bool,
    slow_ms: int | None,
    since: str | None,
    limit: int,
    as_json: bool,
    nl: bool,
    busy_timeout: float,
    **filters: str | None,
) -> None:
    """List the newest units of LEDGER, newest first: committed, failed and rolled back.

    Of a unit no more is shown than its band allows, and none is found by what its band keeps back. MS is how long the
    unit took, in whole milliseconds.
    """
    wanted = {name: value for name, value in filters.items() if value is not None}
    if failed and wanted.setdefault("status", Status.FAILED.value) != Status.FAILED:
        raise click.UsageError("--failed and another --status exclude each other.")
    with reading(ledger, busy_timeout_s=busy_timeout) as opened:
        if opened.basic and (wanted.keys() - {"status"} or slow_ms is not None):
            raise click.UsageError("A ledger of contract 1.0.0 can be filtered by --status and --since only.")
        if opened.basic:
            note_basic()
        found = opened.units(wanted, since=since, limit=limit + 1 if limit else -1, slow_ms=slow_ms)
    records = found[:limit] if limit else found
    if as_json or nl:
        _print_json(records, one_per_line=nl)
    elif records:
        _print_table(records, basic=opened.basic)
    if not found:
        note("No unit matches." if wanted or since or slow_ms is not None else "The ledger has no units yet.")
    elif len(found) > len(records):
        note(f"There are more; these are the newest {limit}. --limit 0 shows all.")


def _values(record: UnitRecord) -> dict[str, Any]:
    """Return the specification's columns of a listed unit as plain JSON values, as its band allows."""
    values = shown(record).record.as_dict()
    del values["writes"]  # they were not read
    return values


def _print_json(records: list[UnitRecord], *, one_per_line: bool) -> None:
    if one_per_line:
        for record in records:
            print_json(_values(record), indent=None)
    else:
        print_json([_values(record) for record in records])


def _print_table(records: list[UnitRecord], *, basic: bool) -> None:
    columns: tuple[Column, ...] = _BASIC_COLUMNS if basic else _COLUMNS
    rows = [_basic_cells(record) if basic else _cells(record) for record in records]
    if not basic and all(row[-1] == EMPTY for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    for line in table(columns, rows, screen_width(), paint=_paint if wants_colour(sys.stdout) else None):
        click.echo(line)


def _paint(heading: str, text: str) -> str:
    if not heading:
        return click.style(text, bold=True)
    return click.style(text, fg=_SHADES.get(text.strip())) if heading == "STATUS" else text


def _cells(record: UnitRecord) -> list[str]:
    unit, withheld = shown(record)

    def cell(name: str) -> str:
        value = getattr(unit, name)
        if value is None:
            return WITHHELD if name == "space_id" and name in withheld else EMPTY
        return f"{value:,}" if isinstance(value, int) else printable(str(value))

    names = ("uow_id", "created_ts", "status", "band", "space_id", "total_bytes_written", "total_execution_time_ms")
    return [*map(cell, names), cell("error_type")]


def _basic_cells(record: UnitRecord) -> list[str]:
    return [
        printable(str(value)) if value is not None else EMPTY
        for value in (record.uow_id, record.created_ts, record.committed_ts, record.status)
    ]
