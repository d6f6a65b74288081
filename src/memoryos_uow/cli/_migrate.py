"""``memoryos-uow migrate``: a ledger's schema up to 1.1.0, or back down to 1.0.0."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

import click

from memoryos_uow import _migrations_postgres
from memoryos_uow._migrations import Kind, inspect, migrate_down, migrate_up
from memoryos_uow._names import CONTRACT_VERSION
from memoryos_uow._terminal import printable
from memoryos_uow.cli._arguments import busy_timeout_option, json_option, ledger_argument
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._output import print_json
from memoryos_uow.cli._reading_postgres import connected
from memoryos_uow.cli._steps import Steps
from memoryos_uow.engines._sqlite_errors import translated
from memoryos_uow.errors import LedgerError

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
    contents. Other tables in the file are never touched. In a database, what is removed is copied to tables beside.
    """
    down = version == _DOWN
    if not down and (soft or backup):
        raise click.UsageError("--soft and --backup belong to --to 1.0.0: the way up loses nothing.")
    if soft and backup:
        raise click.UsageError("--soft makes no copy, so it takes no --backup.")
    if ledger.path is None:
        if backup:
            raise click.UsageError("In a database the backup goes to tables of its own, so --backup cannot be given.")
        moved = _migrate_database(ledger.address, down=down, soft=soft, busy_timeout=busy_timeout)
    else:
        moved = _migrate_file(ledger.path, down=down, soft=soft, backup=backup, busy_timeout=busy_timeout)
    if as_json:
        print_json(
            {
                "ledger": moved.place,
                "from": moved.before.version,
                "to": moved.after.version,
                "changed": moved.before != moved.after,
                "backup": moved.backup,
            }
        )
    else:
        _print(moved)


class _Moved(NamedTuple):
    """What has become of a ledger."""

    place: str
    before: SchemaState
    after: SchemaState
    backup: str | list[str] | None
    """The path of the copy, or the names of the tables that keep what 1.0.0 cannot hold."""


def _migrate_file(path: Path, *, down: bool, soft: bool, backup: Path | None, busy_timeout: float) -> _Moved:
    with translated(str(path)), closing(_connect(path)) as connection:
        before = inspect(connection, busy_timeout_s=busy_timeout)
        copy = None
        with Steps("Migrating") as steps:
            if down:
                copy = migrate_down(
                    connection, path, soft=soft, backup=backup, busy_timeout_s=busy_timeout, progress=steps
                )
            else:
                migrate_up(connection, busy_timeout_s=busy_timeout, progress=steps)
        after = inspect(connection, busy_timeout_s=busy_timeout)
    return _Moved(str(path), before, after, None if copy is None else str(copy))


def _migrate_database(address: str, *, down: bool, soft: bool, busy_timeout: float) -> _Moved:
    with connected(address, busy_timeout_s=busy_timeout) as engine, engine.reader() as reader:
        connection, place = reader.connection, engine.place
        before = _migrations_postgres.inspect(connection, place=place)
        if before.kind is Kind.NEW:
            raise LedgerError(
                f"{place} holds no ledger.",
                hint="Nothing was changed. Ledgers are made by the programs that write to them.",
            )
        tables: tuple[str, ...] = ()
        with Steps("Migrating") as steps:
            if down:
                tables = _migrations_postgres.migrate_down(
                    connection, place=place, soft=soft, busy_timeout_s=busy_timeout, progress=steps
                )
            else:
                _migrations_postgres.migrate_up(connection, place=place, busy_timeout_s=busy_timeout, progress=steps)
        after = _migrations_postgres.inspect(connection, place=place)
    return _Moved(place, before, after, list(tables) or None)


def _connect(path: Path) -> sqlite3.Connection:
    address = f"file:{quote(os.fsencode(path.absolute()))}?mode=rw"
    connection = sqlite3.connect(address, uri=True, timeout=0, isolation_level=None)
    for setting in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
        connection.execute(f"PRAGMA {setting}")
    return connection


def _print(moved: _Moved) -> None:
    was, is_now = (_WORDS.get(state.kind, state.version) for state in (moved.before, moved.after))
    if moved.before == moved.after:
        click.echo(printable(f"{moved.place}: nothing to do, it keeps {is_now} already."))
    else:
        click.echo(printable(f"{moved.place}: from {was} to {is_now}."))
    if isinstance(moved.backup, str):
        click.echo(printable(f"The file as it was before: {moved.backup}"))
    elif moved.backup is not None:
        click.echo(printable(f"What 1.0.0 cannot hold is kept in these tables: {', '.join(moved.backup)}"))
