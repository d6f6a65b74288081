"""``memoryos-uow checkpoint``: the newest head of the receipt log, for keeping elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from memoryos_uow import _notes, _sshsig
from memoryos_uow.cli._arguments import busy_timeout_option, ledger_argument, output_option
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._output import note
from memoryos_uow.ledger import Ledger
from memoryos_uow.signing import KeyFileSigner

if TYPE_CHECKING:
    from memoryos_uow.cli._arguments import LedgerPlace


@click.command(
    cls=Command,
    short_help="Print the head of the receipt log, to be kept elsewhere.",
    examples=(
        "memoryos-uow checkpoint memory.db -o heads/memory.txt",
        "memoryos-uow checkpoint memory.db | aws s3 cp - s3://heads/memory",
    ),
)
@ledger_argument
@output_option("Where it goes.")
@click.option(
    "--ssh-sign",
    "key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="KEY",
    help="Sign the file with this key file for ssh-keygen too: FILE.sig.",
)
@busy_timeout_option
def checkpoint(ledger: LedgerPlace, *, output: Path | None, key: Path | None, busy_timeout: float) -> None:
    """Print the newest checkpoint of LEDGER: its name, its number of units, the root over them, and the signature.

    Keep it where the ledger's machine cannot change it: in a git repository, an object store with a lock, a mail.
    `memoryos-uow verify LEDGER --checkpoint FILE` then shows whether anything from before was changed or removed.
    """
    if key is not None and output is None:
        raise click.UsageError("--ssh-sign needs -o: the signature is of that file.")
    with Ledger.open(ledger.given, migrate=False, recover=False, busy_timeout=busy_timeout) as opened:
        head = opened.checkpoint()
    if output is None:
        click.echo(head, nl=False)
    else:
        output.write_text(head, encoding="utf-8", newline="\n")
        if key is not None:
            signature = _sshsig.ssh_signature(head.encode(), KeyFileSigner(key, name=opened.origin or ""))
            output.with_name(f"{output.name}.sig").write_text(signature, encoding="ascii", newline="\n")
    if not _notes.parse(head).signatures:
        note("Nobody signs this ledger: kept elsewhere, its head still shows changes. `memoryos-uow keys new` begins.")
