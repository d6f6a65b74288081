"""The program: its commands by what they are for, its help, and how it ends."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from memoryos_uow._names import CONTRACT_VERSION
from memoryos_uow._terminal import make_streams_lenient, printable, screen_width, wants_colour
from memoryos_uow._version import __version__
from memoryos_uow.cli._command import write_examples
from memoryos_uow.cli._commands import COMMANDS, SECTIONS
from memoryos_uow.errors import LedgerBusy, SchemaTooNew, UnitOfWorkError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED: Final = 1
USAGE: Final = 2
BUSY: Final = 3
TOO_NEW: Final = 4
INTERRUPTED: Final = 130  # 128 + SIGINT, as shells report it
READER_GONE: Final = 141  # 128 + SIGPIPE


class Program(click.Group):
    """A group whose help is ordered by purpose and whose errors are sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context | None, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Return the command of this name, loaded now if it was not before."""
        if cmd_name not in self.commands and cmd_name in COMMANDS:
            place = COMMANDS[cmd_name]
            self.commands[cmd_name] = getattr(import_module(f"memoryos_uow.cli.{place.module}"), place.attribute)
        return self.commands.get(cmd_name)

    def load(self) -> dict[str, click.Command]:
        """Return all commands by name."""
        return {name: command for name in COMMANDS if (command := self.get_command(None, name)) is not None}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the commands, section by section."""
        longest = max(map(len, COMMANDS))
        for heading, places in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(longest), place.summary) for name, place in places.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write examples and exit codes."""
        write_examples(formatter, _EXAMPLES)
        with formatter.section("Exit codes"):
            formatter.write_dl(_EXIT_CODES)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever goes wrong becomes a sentence on stderr and an exit code."""
        if not wants_colour(sys.stdout):
            ctx.color = False
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, where a reader that went away can still be dealt with
        except click.ClickException as error:
            vars(error)["message"] = _ADDRESS.sub(r"\1...", error.message)
            raise
        except click.exceptions.Exit:
            raise
        except BrokenPipeError:
            _leave_quietly()
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)
        except Exception as error:  # noqa: BLE001 - no traceback for users, whatever it is
            ctx.exit(_report(error))
        return result


def _leave_quietly() -> NoReturn:
    """End because nobody reads stdout any more; what is still buffered goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise click.exceptions.Exit(READER_GONE)


def _report(error: Exception) -> int:
    """Say on stderr what went wrong; return the exit code for it."""
    if isinstance(error, UnitOfWorkError):
        _say(error.message, _hint(error))
        return _code(error)
    if isinstance(error, OSError) and error.strerror:
        where = f": {os.fsdecode(error.filename)}" if isinstance(error.filename, (str, bytes)) else ""
        _say(f"{error.strerror}{where}.", None)
        return FAILED
    if os.environ.get("MEMORYOS_UOW_TRACEBACK"):
        raise error
    _say(
        f"This should not have happened: {type(error).__name__}. Nothing else is known to be wrong.",
        "Run it again with MEMORYOS_UOW_TRACEBACK=1 and report what it shows.",
    )
    return FAILED


def _hint(error: UnitOfWorkError) -> str | None:
    if isinstance(error, LedgerBusy):
        return "Try again when they are done, or wait longer with --busy-timeout SECONDS."
    return error.hint


def _code(error: UnitOfWorkError) -> int:
    for kind, code in ((UsageError, USAGE), (LedgerBusy, BUSY), (SchemaTooNew, TOO_NEW)):
        if isinstance(error, kind):
            return code
    return FAILED


def _say(message: str, hint: str | None) -> None:
    colour = wants_colour(sys.stderr)
    for label, text, shade in (("Error:", message, "red"), ("Hint:", hint, "cyan")):
        if text:
            click.echo(f"{click.style(label, fg=shade) if colour else label} {printable(text, sys.stderr)}", err=True)


# What click repeats of an argument in the wrong place may be an address with a password.
_ADDRESS: Final = re.compile(r"(\w+://)[^\s]*[^\s'\").,]")
_EXAMPLES: Final = (
    "memoryos-uow demo",
    "memoryos-uow list memory.db --failed",
    "memoryos-uow show memory.db 0242ac120002",
    "memoryos-uow verify memory.db --json",
)
_EXIT_CODES: Final = (
    ("0", "All is well."),
    ("1", "Something is wrong in the ledger, or the operation failed."),
    ("2", "The command was used wrongly."),
    ("3", "Others kept the ledger locked for too long."),
    ("4", "The ledger was written by a later version of this library."),
)


@click.group(
    "memoryos-uow",
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)
@click.version_option(
    __version__,
    "-V",
    "--version",
    prog_name="memoryos-uow",
    message=(
        f"%(prog)s %(version)s (storage contract {CONTRACT_VERSION},"
        f" Python {platform.python_version()}, SQLite {sqlite3.sqlite_version})"
    ),
)
def program() -> None:
    """Write to several stores as one: all of it or nothing, with a receipt.

    LEDGER is the path of the SQLite file in which units of work are recorded, or the address of a PostgreSQL database,
    postgresql://user@host/name. It may be left out where the environment variable MEMORYOS_UOW_LEDGER names it. What
    was asked for goes to stdout, everything else to stderr.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line with `arguments` (default: those of the process) and exit."""
    make_streams_lenient()
    room = screen_width()
    program.main(
        args=None if arguments is None else list(arguments),
        prog_name="memoryos-uow",
        terminal_width=None if room is None else max(min(room, 100) - 1, 38),
    )
    raise AssertionError  # click exits
