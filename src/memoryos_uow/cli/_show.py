"""``memoryos-uow show``: one unit with everything the ledger says about it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

import click

from memoryos_uow._terminal import EMPTY, Column, pairs, printable, screen_width, table, wants_colour
from memoryos_uow.cli._arguments import ENVIRONMENT, busy_timeout_option, existing_ledger, json_option
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._explain import explain
from memoryos_uow.cli._output import note, note_basic, print_json
from memoryos_uow.cli._reading import reading
from memoryos_uow.cli._timeline import timeline
from memoryos_uow.cli._withheld import shown

if TYPE_CHECKING:
    from memoryos_uow._records import UnitRecord, WriteRecord
    from memoryos_uow.cli._withheld import Shown

_GROUPS: Final = (
    ("What", ("uow_id", "status", "band", "space_id", "created_ts", "committed_ts")),
    ("Who", ("actor_id", "device_id", "correlation_id", "envelope_id")),
    ("How long", ("total_execution_time_ms", "commit_time_ms", "retry_count", "recovery_attempted")),
    ("Writes", ("store_count", "total_bytes_written")),
    ("Error", ("error_type", "error_message", "failed_store", "error_ts")),
    ("Receipt", ("receipt_hash", "receipt_signature", "contract_version")),
)
_BASIC_GROUPS: Final = (("What", ("uow_id", "status", "created_ts", "committed_ts", "envelope_id")), ("Writes", ()))
_EXACT: Final = {"total_execution_time_ms": "execution_us", "commit_time_ms": "commit_us"}
_WRITE_COLUMNS: Final = (
    Column("STORE", least=8),
    Column("RECORD", least=12),
    Column("OPERATION"),
    Column("BYTES", right=True),
    Column("CHECKSUM", least=20),
)
_BASIC_WRITE_COLUMNS: Final = (Column("STORE", least=8), Column("RECORD", least=12), Column("TS"))
_INDENT: Final = "  "


@click.command(
    cls=Command,
    short_help="Show one unit with its writes.",
    examples=(
        "memoryos-uow show memory.db 019ab1c2-7c1e-7000-8a5e-0242ac120002",
        "memoryos-uow show memory.db 0242ac120002 --json",
    ),
)
@click.argument("ledger", required=False, metavar="LEDGER")
@click.argument("uow_id", required=False, metavar="UOW_ID")
@json_option
@busy_timeout_option
def show(ledger: str | None, uow_id: str | None, *, as_json: bool, busy_timeout: float) -> None:
    """Show what LEDGER says about the unit UOW_ID: an id, or at least 4 characters from its beginning or its end.

    Of a unit no more is shown than its band allows. The JSON follows unit_of_work_enhanced.schema.json; what the band
    keeps back is null in it.
    """
    if uow_id is None and os.environ.get(ENVIRONMENT):  # then a single argument is the unit
        ledger, uow_id = os.environ[ENVIRONMENT], ledger
    place = existing_ledger(ledger)
    if not uow_id:
        raise click.UsageError("Missing argument 'UOW_ID': the unit to show. The command list shows the newest ones.")
    with reading(place, busy_timeout_s=busy_timeout) as opened:
        if opened.basic:
            note_basic()
        record = opened.unit(uow_id)
        seen = shown(record)
        why = None if opened.basic else explain(opened.reader, seen.record)
    if as_json:
        print_json(seen.record.as_dict())
    else:
        _print(seen, basic=opened.basic)
        for line in () if why is None else ("", *why.lines(screen_width())):
            click.echo(line)
    if seen.withheld:
        note(f"Band {record.band} keeps back: {', '.join(sorted(seen.withheld))}.")


def _print(seen: Shown, *, basic: bool) -> None:
    colour, room = wants_colour(sys.stdout), screen_width()
    for number, (heading, names) in enumerate(_BASIC_GROUPS if basic else _GROUPS):
        if number:
            click.echo()
        click.echo(click.style(heading, bold=True) if colour else heading)
        for line in pairs(((name, _value(seen, name)) for name in names), room, indent=_INDENT):
            click.echo(line)
        if heading == "Writes":
            _print_writes(seen, room, basic=basic)
        if heading == "How long":
            for line in timeline(seen.record, None if room is None else room - len(_INDENT)):
                click.echo(_INDENT + line)


def _value(seen: Shown, name: str) -> str:
    unit: UnitRecord = seen.record
    value = getattr(unit, name)
    if value is None:
        return f"(withheld by band {printable(str(unit.band))})" if name in seen.withheld else EMPTY
    exact = getattr(unit, _EXACT[name]) if name in _EXACT else None
    shown_value = f"{value:,}" if isinstance(value, int) else printable(str(value))
    return f"{shown_value} ({exact:,} microseconds)" if isinstance(exact, int) else shown_value


def _print_writes(seen: Shown, room: int | None, *, basic: bool) -> None:
    writes = seen.record.writes
    if "writes" in seen.withheld:
        click.echo(f"{_INDENT}(withheld by band {printable(str(seen.record.band))})")
    elif not writes:
        click.echo(f"{_INDENT}none recorded")
    else:
        columns = _BASIC_WRITE_COLUMNS if basic else _WRITE_COLUMNS
        rows = [_cells(write, basic=basic, withheld="record_id" in seen.withheld) for write in writes]
        for line in table(columns, rows, None if room is None else room - len(_INDENT)):
            click.echo(_INDENT + line)


def _cells(write: WriteRecord, *, basic: bool, withheld: bool) -> list[str]:
    record_id = "(withheld)" if withheld else write.record_id
    more: tuple[object, ...] = (write.operation_type, _number(write.bytes_written), write.checksum)
    values = (write.store_name, record_id, *((write.ts,) if basic else more))
    return [EMPTY if value is None else printable(str(value)) for value in values]


def _number(value: object) -> object:
    return f"{value:,}" if isinstance(value, int) else value
