"""``memoryos-uow report``: one page about a ledger, to be opened anywhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from memoryos_uow import _ambient, _band_keys
from memoryos_uow._terminal import count, size
from memoryos_uow.cli._arguments import a_time, busy_timeout_option, ledger_argument
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._output import note, note_basic
from memoryos_uow.cli._reading import connect, reading
from memoryos_uow.cli._steps import Steps
from memoryos_uow.cli._verify import verified_database
from memoryos_uow.engines._sqlite_errors import translated
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    import sqlite3

    from memoryos_uow.cli._arguments import LedgerPlace
    from memoryos_uow.verification import Verification

_STDOUT: Final = "-"


@click.command(
    "report",
    cls=Command,
    short_help="Write a page about a ledger that opens in any browser.",
    examples=(
        "memoryos-uow report memory.db -o page.html",
        "memoryos-uow report memory.db -o week.html --since 2026-11-16 --no-verify",
    ),
)
@ledger_argument
@click.option(
    "--output", "-o", required=True, metavar="FILE", help="Where the page goes; - is stdout. An older page is replaced."
)
@click.option(
    "--since", metavar="TIME", callback=a_time, help="Only units created then or later; UTC if it has no zone."
)
@click.option("--until", metavar="TIME", callback=a_time, help="Only units created before.")
@click.option("--no-verify", is_flag=True, help="Do not recompute every receipt, which takes longer than the rest.")
@click.option("--live", is_flag=True, help="Compare what the stores hold as well.")
@busy_timeout_option
def report_command(
    ledger: LedgerPlace,
    *,
    output: str,
    since: str | None,
    until: str | None,
    no_verify: bool,
    live: bool,
    busy_timeout: float,
) -> None:
    """Write one HTML page about LEDGER: units and durations over time, failures, stores, spaces, proof, storage.

    The page needs no network and runs nothing. It shows no more of a unit than its band allows. Verification and
    validation are of the whole ledger, whatever times are asked for.
    """
    from memoryos_uow import report  # noqa: PLC0415 - much that other commands do not need
    from memoryos_uow._verification import Verifier  # noqa: PLC0415

    if live and no_verify:
        raise click.UsageError("--live is a part of verifying, so --no-verify cannot go with it.")
    place = None if output == _STDOUT else _checked(Path(output), ledger.path)
    with Steps("Reporting") as steps, reading(ledger, busy_timeout_s=busy_timeout) as opened:
        basic = opened.basic

        def verified() -> Verification:
            if ledger.path is None:
                return verified_database(ledger, busy_timeout, live=live, progress=steps)
            file = ledger.path
            return Verifier(
                lambda: _connected(file, busy_timeout),
                file.absolute(),
                stores={},
                live=live,
                content_key=_band_keys.content_key(None),
                progress=steps,
            ).run()

        facts = report.gather_facts(
            opened.reader,
            ledger.absolute,
            basic=basic,
            since=since,
            until=until,
            verify=None if no_verify or basic else verified,
            not_verified="Contract 1.0.0 has no receipts to verify." if basic else None,
            progress=steps,
        )
        content = report.render(facts).encode()
    if basic:
        note_basic()
    if place is None:
        click.echo(content, nl=False)
    else:
        _write(place, content)
        note(f"{place} is written: {count(facts.statistics.total.units, 'unit')}, {size(len(content))}.")


def _connected(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """Return a connection for verifying."""
    with translated(str(path)):
        connection = connect(path)
        for setting in (f"busy_timeout = {int(busy_timeout_s * 1000)}", "trusted_schema = OFF", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {setting}")
    return connection


def _checked(place: Path, ledger: Path | None) -> Path:
    """Return where the page goes.

    Raises:
        UsageError: a database is there, or something that is no file.
    """
    if place.is_dir():
        raise UsageError(f"{place} is a directory.", hint="Give the name of a file, for example page.html.")
    if not place.parent.is_dir():
        raise UsageError(f"There is no directory {place.parent}.", hint="Create it, or give another place.")
    if place.is_file():
        with place.open("rb") as there:
            is_database = there.read(16) == b"SQLite format 3\0"
        if is_database or (ledger is not None and place.samefile(ledger)):
            raise UsageError(f"{place} is a database; it was left as it is.", hint="Give the page a name of its own.")
    return place


def _write(place: Path, content: bytes) -> None:
    """Write the page whole or not at all."""
    if place.exists() and not place.is_file():  # a device or a pipe
        place.write_bytes(content)
        return
    beside = place.with_name(f".{place.name}.{_ambient.random_hex(4)}")
    try:
        beside.write_bytes(content)
        os.replace(beside, place)  # noqa: PTH105 - the words that everybody knows
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
