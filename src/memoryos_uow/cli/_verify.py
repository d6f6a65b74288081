"""``memoryos-uow verify``: everything that receipts promise, recomputed, and compared with what the stores hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from memoryos_uow import _band_keys
from memoryos_uow._migrations import Kind, inspect
from memoryos_uow._terminal import count, printable, screen_width, wrap
from memoryos_uow._verification import Verifier
from memoryos_uow.cli._arguments import busy_timeout_option, json_option, ledger_argument
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._output import print_json
from memoryos_uow.cli._reading import connect, refuse_unreadable
from memoryos_uow.cli._steps import Steps
from memoryos_uow.engines._sqlite_errors import translated
from memoryos_uow.errors import UsageError
from memoryos_uow.ledger import Ledger
from memoryos_uow.verification import ALWAYS_OPEN

if TYPE_CHECKING:
    import sqlite3

    from memoryos_uow.cli._arguments import LedgerPlace
    from memoryos_uow.verification import Finding, StoreCheck, Verification

_SHOWN_MAX: Final = 50
_CHECKPOINT_BYTES_MAX: Final = 1_000_000


@click.command(
    cls=Command,
    short_help="Recompute every receipt, and compare the stores.",
    examples=(
        "memoryos-uow verify memory.db",
        "memoryos-uow verify memory.db --checkpoint monday.checkpoint --vkey example.com/uow+179ca885+AURn...",
        "memoryos-uow verify memory.db --space alice --gone note-17",
        "memoryos-uow verify memory.db --no-live --json | jq .problems",
    ),
)
@ledger_argument
@click.option(
    "--checkpoint",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A checkpoint of this ledger that was kept elsewhere.",
)
@click.option("--vkey", metavar="KEY", help="The public key that you were handed: name+id+base64.")
@click.option("--space", metavar="SPACE", help="Only the history and the records of this space.")
@click.option("--store", "stores", metavar="NAME", multiple=True, help="Compare this store only; may be repeated.")
@click.option(
    "--gone",
    metavar="UNIT",
    multiple=True,
    help="Show that no store holds what this unit wrote or, with --space, the record of this key; may be repeated.",
)
@click.option("--no-live", is_flag=True, help="Do not read what the stores hold: recompute receipts only.")
@json_option
@busy_timeout_option
def verify(
    ledger: LedgerPlace,
    *,
    checkpoint: Path | None,
    vkey: str | None,
    space: str | None,
    stores: tuple[str, ...],
    gone: tuple[str, ...],
    no_live: bool,
    as_json: bool,
    busy_timeout: float,
) -> None:
    """Recompute every receipt of LEDGER from its rows, and compare what the stores hold with it.

    Rows, receipts, histories of spaces, the tree over all of them, signatures, what was erased, and then the content of
    each store that the ledger records. Whatever does not hold is named, and the exit code is then 1. The answer is a
    level, hashed, signed or anchored, and what that level does not prove. Nothing is written.
    """
    if gone and no_live:
        raise click.UsageError("--gone asks the stores, so --no-live cannot go with it.")
    asked: dict[str, Any] = {
        "space_id": space,
        "checkpoint": None if checkpoint is None else _text_of(checkpoint),
        "vkey": vkey,
        "live": not no_live,
        "gone": gone,
    }
    with Steps("Verifying") as steps:
        if ledger.path is None:
            report = verified_database(ledger, busy_timeout, stores=stores or None, progress=steps, **asked)
        else:
            file, secret = ledger.path, _band_keys.content_key(None)
            report = Verifier(
                lambda: _connected(file, busy_timeout),
                file.absolute(),
                stores={},
                only=stores or None,
                content_key=secret,
                progress=steps,
                **asked,
            ).run()
    if as_json:
        print_json(report.as_dict())
    else:
        _print(report)
    if not report.ok:
        click.get_current_context().exit(1)


def verified_database(ledger: LedgerPlace, busy_timeout_s: float, **asked: Any) -> Verification:
    """Verify a ledger in a database: opened with the stores that it records, and nothing is recovered or changed."""
    with Ledger.open(
        ledger.given, stores="recorded", migrate=False, recover=False, busy_timeout=busy_timeout_s
    ) as opened:
        return opened.verify(**asked)


def _connected(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """Return a connection to the ledger at `path`, which keeps contract 1.1.0, for reading.

    Raises:
        UsageError: it keeps 1.0.0.
        LedgerError: it is damaged, newer than this library, or no ledger.
    """
    with translated(str(path)):
        connection = connect(path)
        try:
            connection.execute(f"PRAGMA busy_timeout = {int(busy_timeout_s * 1000)}")
            for setting in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
                connection.execute(f"PRAGMA {setting}")
            _refuse_without_receipts(connection, path, busy_timeout_s)
        except BaseException:
            connection.close()
            raise
    return connection


def _refuse_without_receipts(connection: sqlite3.Connection, path: Path, busy_timeout_s: float) -> None:
    state = inspect(connection, busy_timeout_s=busy_timeout_s)
    refuse_unreadable(connection, state, path)
    if state.kind is not Kind.CURRENT:
        raise UsageError(
            f"{path} keeps contract 1.0.0, which has no receipts to verify.",
            hint="Bring it to 1.1.0 first: memoryos-uow migrate LEDGER.",
        )


def _text_of(path: Path) -> str:
    content = path.read_bytes()[:_CHECKPOINT_BYTES_MAX]
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UsageError(
            f"The checkpoint {path} is no text.", hint="Give the file that `checkpoint -o` wrote."
        ) from None


def _print(report: Verification) -> None:
    for finding in report.problems[:_SHOWN_MAX]:
        _print_finding(finding)
    if report.problems_total > _SHOWN_MAX:
        click.echo(f"and {report.problems_total - _SHOWN_MAX:,} more problems; --json lists the first thousand.")
    _line(f"{count(report.units, 'unit')} and {count(report.writes, 'write')} recomputed, {_signed(report)}.")
    if report.erased:
        _line(
            f"{count(report.erased, 'write')} erased: of each its sealed leaf is left, and a tombstone vouches for it."
        )
    if report.without_receipt:
        _line(f"{count(report.without_receipt, 'unit')} without a receipt: of contract 1.0.0, failed or rolled back.")
    if report.pending:
        _line(f"{count(report.pending, 'unit')} committed and without a number yet: their writes were compared.")
    for store in report.stores or ():
        _line(_said(store))
    _line(
        f"Verified to level {report.level}."
        if report.ok
        else f"{count(report.problems_total, 'problem')}: this ledger is not as its receipts say."
    )
    _line(f"Not proved: {report.not_proved} {ALWAYS_OPEN}")


def _line(sentence: str) -> None:
    for line in wrap(printable(sentence).split(), screen_width(), indent=""):
        click.echo(line)


def _print_finding(finding: Finding) -> None:
    about = [part for part in (finding.uow_id, finding.store, finding.record) if part is not None]
    click.echo(f"{finding.rule}: {printable(' '.join(about))}".rstrip(": "))
    for line in wrap(printable(finding.detail).split(), screen_width(), indent="  "):
        click.echo(line)


def _signed(report: Verification) -> str:
    if not report.signed_units:
        return "none of them signed"
    if report.signed_units == report.units:
        return "all of them signed"
    return f"the first {report.signed_units:,} of the log signed"


def _said(store: StoreCheck) -> str:
    """Return one sentence on one store."""
    if store.skipped is not None:
        return f"{store.store}: not compared. {store.skipped}"
    parts = [f"{store.matched:,} as their receipts say"]
    for number, words in (
        (store.gone, "gone as their receipts say"),
        (store.uncheckable, "whose receipts do not tell enough"),
        (store.unclaimed, "of which no receipt speaks"),
    ):
        if number:
            parts.append(f"{number:,} {words}")
    return f"{store.store}: {count(store.records, 'record')}; {', '.join(parts)}."
