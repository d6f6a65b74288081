"""``memoryos-uow prove``: a proof of one unit, or of one of its writes, for somebody who does not have the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from memoryos_uow import _proving
from memoryos_uow._terminal import printable
from memoryos_uow.cli._arguments import busy_timeout_option, ledger_argument, output_option
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._output import note
from memoryos_uow.cli._reading import reading

if TYPE_CHECKING:
    from memoryos_uow.cli._arguments import LedgerPlace


def beside(path: Path, write: int) -> Path:
    """Return the name of the file for a write that goes with `path`: ``x.tlog-proof`` and ``x.write-3.tlog-proof``."""
    return path.with_name(f"{path.stem}.write-{write}{path.suffix}")


@click.command(
    cls=Command,
    short_help="Write a proof of one unit, to be checked without the ledger.",
    examples=(
        "memoryos-uow prove memory.db 0242ac120002 -o n1.tlog-proof --entry n1.json",
        "memoryos-uow prove memory.db 0242ac120002 --write 3 -o n1.tlog-proof --entry n1.json",
    ),
)
@ledger_argument
@click.argument("uow_id", metavar="UOW_ID")
@click.option("--write", type=click.IntRange(min=0), metavar="N", help="Prove write N as well; the first is 0.")
@output_option("Where the proof goes.")
@click.option(
    "--entry", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Where the receipt goes."
)
@busy_timeout_option
def prove(
    ledger: LedgerPlace, uow_id: str, *, write: int | None, output: Path | None, entry: Path | None, busy_timeout: float
) -> None:
    """Write the proof that the receipt of UOW_ID stands in the log of LEDGER: a C2SP tlog-proof.

    UOW_ID is an id, or at least 4 characters from its beginning or its end. Without -o the proof goes to stdout. With
    --write two more files are written, named after the two that are asked for: n1.write-3.tlog-proof is the proof that
    n1.write-3.json is one of the writes to which the receipt n1.json commits. A write says store, key, size and
    checksum, never the content. `memoryos-uow check-proof` checks them all.
    """
    if write is not None and (output is None or entry is None):
        raise click.UsageError("--write needs -o and --entry: the files of the write are named after them.")
    with reading(ledger, busy_timeout_s=busy_timeout) as opened:
        record, receipt = opened.receipt(uow_id)
        unit = _proving.prove_unit(opened.reader, record, receipt)
        of_write = None if write is None else _proving.prove_write(opened.reader, record, write)
    if entry is not None:
        entry.write_bytes(unit.entry)
    if output is None:
        click.echo(unit.proof, nl=False)
        return
    output.write_text(unit.proof, encoding="utf-8", newline="\n")
    written = [output, entry] if entry else [output]
    if of_write is not None and write is not None and entry is not None:
        beside(output, write).write_text(of_write.proof, encoding="utf-8", newline="\n")
        beside(entry, write).write_bytes(of_write.entry)
        written += [beside(output, write), beside(entry, write)]
    note(f"Written: {', '.join(printable(str(path)) for path in written)}.")
