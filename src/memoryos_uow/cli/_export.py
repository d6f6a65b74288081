"""``memoryos-uow export`` and ``check-export``: a space's history as lines of JSON, and its check elsewhere."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from memoryos_uow import _exporting, _notes
from memoryos_uow._names import check_identifier
from memoryos_uow._terminal import count, printable
from memoryos_uow.cli._arguments import busy_timeout_option, json_option, ledger_argument, output_option
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._output import note, print_json
from memoryos_uow.cli._reading import reading
from memoryos_uow.cli._steps import Steps
from memoryos_uow.cli._withheld import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from memoryos_uow._exporting import Checked, ExportedUnit
    from memoryos_uow.cli._arguments import LedgerPlace

_LINE_CHARACTERS_MAX: Final = 1 << 28


@click.command(
    cls=Command,
    short_help="Write a space's history, to be checked without the ledger.",
    examples=(
        "memoryos-uow export memory.db --space alice -o alice.ndjson",
        "memoryos-uow export memory.db --space alice | jq .record.uow_id",
    ),
)
@ledger_argument
@click.option("--space", "space_id", required=True, metavar="ID", help="Whose history.")
@output_option("Where it goes; or stdout.")
@busy_timeout_option
def export(ledger: LedgerPlace, *, space_id: str, output: Path | None, busy_timeout: float) -> None:
    """Write every unit of a space of LEDGER, oldest first, one line of JSON for each: record, receipt and proof.

    Of a record no more is written than its band allows; receipts and proofs are whole. FILE appears when all of it is
    written. `memoryos-uow check-export` checks it.
    """
    check_identifier(space_id, "space")
    units = 0
    with reading(ledger, busy_timeout_s=busy_timeout) as opened, Steps("Exporting") as steps, _to(output) as out:
        if opened.basic:
            raise click.UsageError(
                "A ledger of contract 1.0.0 knows no spaces. `memoryos-uow migrate` brings it to 1.1.0."
            )
        for unit in opened.history(space_id):
            out.write(_line(unit))
            units += 1
            steps(count(units, "unit"))
    if output is not None or not units:
        note(f"{count(units, 'unit')} written." if units else "The space has no units.")


def _line(unit: ExportedUnit) -> str:
    record = shown(unit.record).record.as_dict()
    return json.dumps({"record": record, "receipt": unit.receipt, "proof": unit.proof}, default=str) + "\n"


@contextmanager
def _to(output: Path | None) -> Iterator[TextIO]:
    """Lend where to write; a file takes its name only when it is whole."""
    if output is None:
        yield sys.stdout
        return
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with part.open("x", encoding="ascii", newline="\n") as file:
            yield file
        part.replace(output)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


@click.command(
    "check-export",
    cls=Command,
    short_help="Check an exported history without the ledger.",
    examples=("memoryos-uow check-export alice.ndjson --vkey example.com/home+f81d4fae+AU...",),
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE")
@click.option("--vkey", "vkeys", multiple=True, metavar="KEY", help="A verifier key that you trust; may be repeated.")
@json_option
def check_export(file: Path, *, vkeys: tuple[str, ...], as_json: bool) -> None:
    """Check FILE: that each receipt is whole, follows the one before it, and stands in the log of its ledger.

    With --vkey each proof's checkpoint has to be signed by a key that you trust. Without, the check shows that nothing
    was changed since the export, not who made it. Units after the last line cannot be missed by it: compare the last
    hash with one that you know. The exit code is 1 if something does not hold.
    """
    keys = [_notes.parse_vkey(vkey) for vkey in vkeys]
    with Steps("Checking"), file.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        checked = _exporting.check(iter(lambda: lines.readline(_LINE_CHARACTERS_MAX), ""), keys)
    if as_json:
        print_json({"ok": not checked.problems, **asdict(checked)})
    else:
        _print(checked)
    if not checked.signed and not checked.problems:
        note("Nobody's signature was checked: this shows that the export is whole, not whose it is.")
    if checked.problems:
        click.get_current_context().exit(1)


def _print(checked: Checked) -> None:
    for problem in checked.problems:
        click.echo(printable(problem))
    told = f"{count(checked.units, 'unit')}, {count(checked.receipts, 'receipt')}, {checked.signed:,} signed"
    click.echo(f"{told}: {'all hold' if not checked.problems else count(len(checked.problems), 'problem')}.")
    if checked.without_receipt:
        note(f"{count(checked.without_receipt, 'committed unit')} without a receipt: nothing of them could be checked.")
    if checked.last_hash is not None:
        click.echo(f"The last receipt's hash: {checked.last_hash}")
