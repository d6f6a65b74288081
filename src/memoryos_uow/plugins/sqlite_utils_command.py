"""``sqlite-utils uow ...``: the whole command line of this library as a command of sqlite-utils."""

from __future__ import annotations

import click
from sqlite_utils import hookimpl


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add the command ``uow``; what stands behind it is loaded when it is called."""

    @cli.command(
        name="uow",
        context_settings={"ignore_unknown_options": True, "help_option_names": []},
        short_help="Units of work: list, show, verify, recover and more",
    )
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def uow(arguments: tuple[str, ...]) -> None:
        """Look at and care for a ledger of units of work: what memoryos-uow does, under its own options."""
        from memoryos_uow.cli import main  # noqa: PLC0415 - sqlite-utils loads plugins at every start

        main(list(arguments) or ["--help"])
