"""``memoryos-uow recover``: finish what dead processes left unfinished."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from memoryos_uow._terminal import count, printable
from memoryos_uow.cli._arguments import busy_timeout_option, json_option, ledger_argument
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._output import print_json
from memoryos_uow.cli._steps import Steps
from memoryos_uow.ledger import Ledger

if TYPE_CHECKING:
    from memoryos_uow._records import RecoveryReport
    from memoryos_uow.cli._arguments import LedgerPlace

_SHOWN_MAX = 20


@click.command(
    cls=Command,
    short_help="Finish what dead processes left unfinished.",
    examples=("memoryos-uow recover memory.db", "memoryos-uow recover memory.db --json"),
)
@ledger_argument
@json_option
@click.option(
    "--accept-rollback",
    is_flag=True,
    help="Go on with a ledger that is older than it was, or different: the next epoch of its log begins.",
)
@busy_timeout_option
def recover(ledger: LedgerPlace, *, as_json: bool, accept_rollback: bool, busy_timeout: float) -> None:
    """Finish what dead processes left unfinished in LEDGER and in the stores that it records.

    Units with a decision are shown by every store (rolled forward); units without one leave nothing (rolled back); then
    bytes outside the ledger that belong to no unit are removed. Opening a ledger does the same, except for the last.
    Units that a store cannot finish now are in doubt: they are listed, kept for the next time, and the exit code is 1.
    """
    with Steps("Recovering") as steps:
        steps("asking the stores")
        with Ledger.open(
            ledger.given,
            stores="recorded",
            migrate=False,
            busy_timeout=busy_timeout,
            recover=False,
            accept_rollback=accept_rollback,
        ) as opened:
            report = opened.recover()
    if as_json:
        print_json({"ok": not report.in_doubt, **asdict(report)})
    else:
        _print(report)
    if report.in_doubt:
        click.get_current_context().exit(1)


def _print(report: RecoveryReport) -> None:
    for label, uow_ids in (
        ("rolled forward", report.rolled_forward),
        ("rolled back", report.rolled_back),
        ("in doubt", report.in_doubt),
    ):
        click.echo(f"{label}: {count(len(uow_ids), 'unit')}")
        for uow_id in uow_ids[:_SHOWN_MAX]:
            click.echo(f"  {printable(uow_id)}")
        if len(uow_ids) > _SHOWN_MAX:
            click.echo(f"  and {len(uow_ids) - _SHOWN_MAX:,} more")
