"""What the commands take: the ledger, and the options that several of them share."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from memoryos_uow._names import Band, address_of
from memoryos_uow._opening import check_path
from memoryos_uow._times import check_time
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

ENVIRONMENT: Final = "MEMORYOS_UOW_LEDGER"


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """Which ledger a command is about: in a file that is there, or in a database."""

    given: Path | str = field(repr=False)
    """What `Ledger.open` takes. An address may hold a password, so it is for no message."""

    @property
    def path(self) -> Path | None:
        """The file; None for a ledger in a database."""
        return None if isinstance(self.given, str) else self.given

    @property
    def absolute(self) -> Path | None:
        """The file's absolute path; None for a ledger in a database."""
        return None if self.path is None else self.path.absolute()

    @property
    def address(self) -> str:
        """The address of the database; empty for a file."""
        return self.given if isinstance(self.given, str) else ""


def existing_ledger(text: str | None) -> LedgerPlace:
    """Return where the ledger is: a file that is there, or an address; nothing is ever created for one that is not.

    Raises:
        UsageError: there is no such file, or it is none.
    """
    if not text:
        raise click.UsageError(
            f"Missing argument 'LEDGER': the path of a ledger, or its address. ${ENVIRONMENT} can name it as well."
        )
    address = address_of(text)
    return LedgerPlace(existing_file(text) if address is None else address)


def existing_file(text: str) -> Path:
    """Return the path of a ledger's file that is there.

    Raises:
        UsageError: there is none, or no file.
    """
    check_path(text)
    path = Path(text)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        hint = "Check the path. Ledgers are made by the programs that write to them, and by the command demo."
        raise UsageError(f"There is no file {text}.", hint=hint) from None
    except OSError as error:
        raise UsageError(f"{text} cannot be opened: {error.strerror}.", hint="Check the path.") from error
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise UsageError(f"{text} is {what}.", hint="Give the path of a ledger, for example memory.db.")
    return path


def ledger_argument(command: F) -> F:
    """Give `command` the argument LEDGER: a path that exists, or an address."""
    return click.argument(
        "ledger",
        required=False,  # as far as click knows: the callback's sentence says more than click's
        metavar="LEDGER",
        envvar=ENVIRONMENT,
        callback=lambda _context, _parameter, text: existing_ledger(text),
    )(command)


def a_time(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """Return a date or time in the form in which the ledger keeps times, so that texts compare as times do."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return check_time(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)
    except (ValueError, UsageError):
        raise click.BadParameter(f"{text!r} is no date or time. Write 2026-11-22 or 2026-11-22T19:20:31Z.") from None


def band_option(command: F) -> F:
    """Give `command` the option --band."""
    return click.option(
        "--band",
        type=click.Choice([band.value for band in Band], case_sensitive=False),
        metavar="BAND",
        help="Only units that are GREEN, AMBER, RED or BLACK.",
    )(command)


def since_option(command: F) -> F:
    """Give `command` the option --since."""
    return click.option(
        "--since", metavar="TIME", callback=a_time, help="Only units created then or later; UTC if it has no zone."
    )(command)


def output_option(words: str) -> Callable[[F], F]:
    """Return what gives a command the option --output: a file, or None for stdout, which ``-`` stands for as well."""
    return click.option(
        "-o",
        "--output",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        callback=lambda _context, _parameter, path: None if str(path) == "-" else path,
        help=words,
    )


def json_option(command: F) -> F:
    """Give `command` the option --json."""
    return click.option("as_json", "--json", is_flag=True, help="Print JSON instead of text for people.")(command)


def busy_timeout_option(command: F) -> F:
    """Give `command` the option --busy-timeout."""
    return click.option(
        "--busy-timeout",
        type=click.FloatRange(min=0, max=86_400),
        default=30,
        metavar="SECONDS",
        help="How long to wait while others keep the ledger locked; default 30.",
    )(command)
