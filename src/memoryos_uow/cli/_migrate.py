"""``memoryos-uow migrate``: a ledger's schema up to 1.1.0, or back down to 1.0.0."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import click

from memoryos_uow._migrations import Kind, inspect, migrate_down, migrate_up
from memoryos_uow._names import CONTRACT_VERSION
from memoryos_uow._terminal import printable
from memoryos_uow.cli._arguments import busy_timeout_option, json_option, ledger_argument
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._output import print_json
from memoryos_uow.cli._steps import Steps
from memoryos_uow.engines._sqlite_errors import translated

if TYPE_CHECKING:
    from memoryos_uow._migrations import SchemaState
    from memoryos_uow.cli._arguments import LedgerPlace

_DOWN: Final = "1.0.0"
_WORDS: Final = {
    Kind.NEW: "no ledger",
    Kind.PARTIAL: "1.0.0 with a part of 1.1.0",
    Kind.SOFT: "1.0.0 with the columns of 1.1.0 emptied",
}


@click.command(
    cls=Command,
    short_help="Bring a ledger to 1.1.0, or back to 1.0.0.",
    examples=(
        "memoryos-uow migrate memory.db",
        "memoryos-uow migrate memory.db --to 1.0.0 --backup before.db",
    ),
)
@ledger_argument
@click.option(
    "--to",
    "version",
    type=click.Choice([CONTRACT_VERSION, _DOWN]),
    default=CONTRACT_VERSION,
    show_default=True,
    help="The storage contract that the ledger shall keep.",
)
@click.option("--soft", is_flag=True, help="With --to 1.0.0: empty the columns of 1.1.0 instead of removing them.")
@click.option(
    "--backup",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="With --to 1.0.0: where the copy goes. Default: beside the ledger, under a name with the time.",
)
@json_option
@busy_timeout_option
def migrate(
    ledger: LedgerPlace, *, version: str, soft: bool, backup: Path | None, as_json: bool, busy_timeout: float
) -> None:
    """Bring the schema of LEDGER to another version of the storage contract, wholly or not at all.

    Up to 1.1.0 every row is kept. Down to 1.0.0 the file is copied first; then everything that 1.0.0 cannot hold is
    removed, receipts among it. With --soft the tables stay and there is no copy: the columns of 1.1.0 lose their
    contents. Other tables in the file are never touched.
    """
    down = version == _DOWN
    if not down and (soft or backup):
        raise click.UsageError("--soft and --backup belong to --to 1.0.0: the way up loses nothing.")
    if soft and backup:
        raise click.UsageError("--soft makes no copy, so it takes no --backup.")
    with translated(str(ledger)), closing(_connect(ledger)) as connection:
        before = inspect(connection, busy_timeout_s=busy_timeout)
        with Steps("Migrating") as steps:
            copy = None
            if down:
                copy = migrate_down(
                    connection, ledger, soft=soft, backup=backup, busy_timeout_s=busy_timeout, progress=steps
                )
            else:
                migrate_up(connection, busy_timeout_s=busy_timeout, progress=steps)
        after = inspect(connection, busy_timeout_s=busy_timeout)
    if as_json:
        print_json(
            {
                "ledger": str(ledger),
                "from": before.version,
                "to": after.version,
                "changed": before != after,
                "backup": None if copy is None else str(copy),
            }
        )
    else:
        _print(ledger, before, after, copy)


def _connect(path: Path) -> sqlite3.Connection:
    address = f"file:{quote(os.fsencode(path.absolute()))}?mode=rw"
    connection = sqlite3.connect(address, uri=True, timeout=0, isolation_level=None)
    for setting in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
        connection.execute(f"PRAGMA {setting}")
    return connection


def _print(ledger: LedgerPlace, before: SchemaState, after: SchemaState, copy: Path | None) -> None:
    was, is_now = (_WORDS.get(state.kind, state.version) for state in (before, after))
    if before == after:
        click.echo(printable(f"{ledger}: nothing to do, it keeps {is_now} already."))
    else:
        click.echo(printable(f"{ledger}: from {was} to {is_now}."))
    if copy is not None:
        click.echo(printable(f"The file as it was before: {copy}"))
