"""``memoryos-uow copy``: a whole ledger from a SQLite file to a PostgreSQL database."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from memoryos_uow._terminal import count, printable
from memoryos_uow.cli._arguments import busy_timeout_option, existing_file, json_option
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._output import note, print_json
from memoryos_uow.cli._steps import Steps
from memoryos_uow.ledger import Ledger

if TYPE_CHECKING:
    from memoryos_uow._copying.report import CopyProgress, CopyReport

_BAR: Final = 24


@click.command(
    cls=Command,
    short_help="Copy a ledger from a file to a PostgreSQL database.",
    examples=(
        "memoryos-uow copy memory.db postgresql://app@db.example.com/memory",
        "memoryos-uow copy memory.db postgresql:///memory --json | jq -r .root",
    ),
)
@click.argument("source", metavar="SOURCE")
@click.argument("target", metavar="TARGET")
@json_option
@busy_timeout_option
def copy(source: str, target: str, *, as_json: bool, busy_timeout: float) -> None:
    """Copy the ledger in the file SOURCE, with what its stores hold, to the empty database at the address TARGET.

    Units of other programs on SOURCE wait meanwhile. Interrupted or killed, the same command goes on where it was;
    until the copy is whole, nothing can open it. At the end every row is compared, and the root over all receipts has
    to be the same. TARGET is then the same ledger under another address: keep no program writing to SOURCE.
    """
    existing_file(source)
    with Steps("Copying") as steps:
        done = Ledger.copy(source, target, busy_timeout=busy_timeout, progress=lambda at: steps(_bar(at)))
    if as_json:
        print_json(asdict(done))
    else:
        _print(done)
    if done.left_out:
        note(f"Not copied, because no store works on them: {printable(', '.join(done.left_out))}.")


def _bar(at: CopyProgress) -> str:
    if not at.rows_total or not sys.stderr.isatty():
        return at.step
    part = min(at.rows / at.rows_total, 1)
    full = round(part * _BAR)
    return f"[{'#' * full}{'.' * (_BAR - full)}] {part:4.0%} {at.step}, {at.rows:,} of {at.rows_total:,} rows"


def _print(done: CopyReport) -> None:
    told = f"{count(done.units, 'unit')}, {count(done.writes, 'write')} and {count(done.records, 'record')}"
    click.echo(f"{'Copied before' if done.already else 'Copied'}: {told}.")
    click.echo(f"The root over all receipts is the same on both sides: {done.root}")
