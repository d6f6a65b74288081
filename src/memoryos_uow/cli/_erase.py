"""``memoryos-uow erase``: take a record out of its store and out of the history that speaks of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from memoryos_uow._terminal import count, printable
from memoryos_uow.cli._arguments import busy_timeout_option, json_option, ledger_argument
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._output import note, print_json
from memoryos_uow.cli._steps import Steps
from memoryos_uow.ledger import Ledger

if TYPE_CHECKING:
    from memoryos_uow._records import Erasure
    from memoryos_uow.cli._arguments import LedgerPlace


@click.command(
    cls=Command,
    short_help="Erase a record, and what receipts say of it.",
    examples=(
        "memoryos-uow erase memory.db --space shared:household --store notes --key n1",
        "memoryos-uow erase memory.db --space clinic --store patients --key - --forget-context < key.txt",
    ),
)
@ledger_argument
@click.option("--space", "space_id", required=True, metavar="SPACE", help="Whose record.")
@click.option("--store", required=True, metavar="STORE", help="The name of its store.")
@click.option("--key", required=True, metavar="KEY", help="Which record; - reads the key from standard input.")
@click.option("--forget-context", is_flag=True, help="Also forget who acted in the units that wrote it.")
@click.option("--forget-unit-ids", is_flag=True, help="Also forget ids and times of units that wrote nothing else.")
@click.option("--no-vacuum", is_flag=True, help="Leave free pages of the file as they are: quick, and less thorough.")
@click.option("--actor", "actor_id", metavar="ACTOR", help="Who erases; recorded with the erasure.")
@click.option("--content-key", metavar="FILE", help="The file of the ledger's content key.")
@json_option
@busy_timeout_option
def erase(
    ledger: LedgerPlace,
    *,
    space_id: str,
    store: str,
    key: str,
    forget_context: bool,
    forget_unit_ids: bool,
    no_vacuum: bool,
    actor_id: str | None,
    content_key: str | None,
    as_json: bool,
    busy_timeout: float,
) -> None:
    """Remove one record of LEDGER with all its former values, and seal every receipt's write that names it.

    All receipts still verify; a tombstone says how many writes were sealed, and not which record it was. The exit code
    is 1 while traces may be left somewhere, because a store or another process did not answer: `recover` goes on then.
    """
    if key == "-":
        key = sys.stdin.read().removesuffix("\n")
    with (
        Steps("Erasing") as steps,
        Ledger.open(
            ledger.given, stores="recorded", migrate=False, busy_timeout=busy_timeout, content_key=content_key
        ) as opened,
    ):
        steps("sealing, and writing the file anew")
        done = opened.erase(
            space_id=space_id,
            store=store,
            key=key,
            forget_unit_ids=forget_unit_ids,
            forget_context=forget_context,
            vacuum=not no_vacuum,
            actor_id=actor_id,
        )
    if as_json:
        print_json(
            {
                "complete": done.complete,
                "uow_id": done.uow_id,
                "receipt_hash": done.receipt.hash,
                "sealed": done.sealed,
                "forgotten": done.forgotten,
                "kept": done.kept,
                "messages": done.messages,
                "remaining": list(done.remaining),
            }
        )
    else:
        _print(done)
    if not done.complete:
        note("Traces may be left; `memoryos-uow recover` goes on with it.")
        click.get_current_context().exit(1)


def _print(done: Erasure) -> None:
    click.echo(f"tombstone: {printable(done.uow_id)}")
    click.echo(f"receipt: {printable(done.receipt.hash)}")
    click.echo(f"sealed: {count(done.sealed, 'write')}")
    for label, number in (("unit ids forgotten", done.forgotten), ("unit ids kept for other records", done.kept)):
        if number:
            click.echo(f"{label}: {number:,}")
    if done.messages:
        note(f"{count(done.messages, 'message')} of these units not delivered yet: see `memoryos-uow outbox list`.")
    click.echo(f"left: {printable(', '.join(done.remaining)) or 'nothing'}")
