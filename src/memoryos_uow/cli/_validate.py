"""``memoryos-uow validate``: the contract's five validations over a whole ledger."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from memoryos_uow._terminal import count, printable, screen_width, wrap
from memoryos_uow.cli._arguments import busy_timeout_option, json_option, ledger_argument
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._output import print_json
from memoryos_uow.cli._reading import reading
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from memoryos_uow._records import Violation
    from memoryos_uow.cli._arguments import LedgerPlace


@click.command(
    cls=Command,
    short_help="Check every row against the contract.",
    examples=(
        "memoryos-uow validate memory.db",
        "memoryos-uow validate memory.db --json | jq .violations",
    ),
)
@ledger_argument
@json_option
@busy_timeout_option
def validate(ledger: LedgerPlace, *, as_json: bool, busy_timeout: float) -> None:
    """Check every unit of LEDGER against the storage contract's five validations.

    They are about times (metrics), errors, receipt hashes, bands and contract versions (version). Each row that breaks
    one is named, and the exit code is then 1.
    """
    with reading(ledger, busy_timeout_s=busy_timeout) as opened:
        if opened.basic:
            raise UsageError(
                "A ledger of contract 1.0.0 has nothing to validate.",
                hint="Bring it to 1.1.0 first: memoryos-uow migrate LEDGER.",
            )
        violations, units = opened.validate(), opened.count()
    if as_json:
        print_json({"ok": not violations, "units": units, "violations": [asdict(each) for each in violations]})
    else:
        _print(violations, units)
    if violations:
        click.get_current_context().exit(1)


def _print(violations: list[Violation], units: int) -> None:
    room = screen_width()
    for violation in violations:
        click.echo(f"{violation.rule}: {printable(violation.uow_id or '(no id)')}")
        for line in wrap(printable(violation.detail).split(), room, indent="  "):
            click.echo(line)
    checked = f"{count(units, 'unit')} checked against 5 validations"
    click.echo(f"{checked}: {count(len(violations), 'violation') if violations else 'all hold'}.")
