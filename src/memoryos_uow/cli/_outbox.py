"""``memoryos-uow outbox``: look at what is published and not delivered, and repair it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

import click

from memoryos_uow._names import Band
from memoryos_uow._terminal import EMPTY, Column, count, printable, screen_width, table
from memoryos_uow.cli._arguments import busy_timeout_option, json_option, ledger_argument
from memoryos_uow.cli._command import Command, Group
from memoryos_uow.cli._output import note, print_json
from memoryos_uow.cli._reading import reading
from memoryos_uow.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow._messages import OutboxEntry
    from memoryos_uow.cli._arguments import LedgerPlace

_COLUMNS: Final = (
    Column("MESSAGE"),
    Column("CREATED"),
    Column("STATE"),
    Column("BAND"),
    Column("TOPIC", least=10),
    Column("KEY", least=10),
    Column("BYTES", right=True),
    Column("TRIES", right=True),
    Column("ERROR", least=10),
)
_HIDDEN_FOR_AMBER: Final = ("key",)
_HIDDEN_FOR_RED: Final = ("space_id", "topic", "key", "payload_bytes", "error_message")


@click.group(
    cls=Group,
    short_help="See, try again or drop what is not delivered.",
    examples=("memoryos-uow outbox list memory.db",),
)
def outbox() -> None:
    """See, try again or drop what units have published and no relay has delivered.

    Payloads are never shown, and of a message no more than the band of its unit allows.
    """


@outbox.command(
    "list",
    cls=Command,
    short_help="List undelivered messages.",
    examples=("memoryos-uow outbox list memory.db --parked", "memoryos-uow outbox list memory.db --json"),
)
@ledger_argument
@click.option("--topic", "topics", multiple=True, metavar="TOPIC", help="Only this topic; may be given several times.")
@click.option("--parked", is_flag=True, help="Only messages that are not tried any more.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=50, metavar="N", help="How many at most; default 50, 0 means all."
)
@json_option
@busy_timeout_option
def list_messages(
    ledger: LedgerPlace, *, topics: tuple[str, ...], parked: bool, limit: int, as_json: bool, busy_timeout: float
) -> None:
    """List the messages of LEDGER that are not delivered yet, oldest first.

    Waiting: due, or behind another message of its key. Delayed: put off after a failure. In flight: a relay has it.
    Parked: refused, or failed too often; not tried again, and holds back the later ones of its key.
    """
    with reading(ledger, busy_timeout_s=busy_timeout) as opened:
        found = opened.outbox(topics or None, parked_only=parked, limit=limit + 1 if limit else -1)
    entries = [_shown(entry) for entry in (found[:limit] if limit else found)]
    if as_json:
        print_json([asdict(entry) for entry in entries])
    elif entries:
        for line in table(_COLUMNS, [_cells(entry) for entry in entries], screen_width()):
            click.echo(line)
    if not found:
        note("No message matches." if topics or parked else "The outbox is empty.")
    elif len(found) > len(entries):
        note(f"There are more; these are the oldest {limit}. --limit 0 shows all.")


def _shown(entry: OutboxEntry) -> OutboxEntry:
    """Return `entry` without what its band keeps back; a band that is none of the four counts as BLACK."""
    if entry.band == Band.GREEN:
        return entry
    hidden = _HIDDEN_FOR_AMBER if entry.band == Band.AMBER else _HIDDEN_FOR_RED
    changes: dict[str, Any] = dict.fromkeys(hidden)
    return replace(entry, **changes)


def _cells(entry: OutboxEntry) -> list[str]:
    values = (
        entry.message_id,
        entry.created_ts,
        entry.state,
        entry.band,
        entry.topic,
        entry.key,
        entry.payload_bytes,
        entry.attempts,
        entry.error_type,
    )
    return [
        EMPTY if value is None else f"{value:,}" if isinstance(value, int) else printable(str(value))
        for value in values
    ]


def _which(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` the options that say which messages."""
    command = click.option("--parked", is_flag=True, help="All that are parked.")(command)
    return click.option(
        "--message",
        "messages",
        multiple=True,
        metavar="ID",
        help="The message with this id; may be given several times.",
    )(command)


def _change(ledger: LedgerPlace, messages: tuple[str, ...], *, parked: bool, busy_timeout: float, how: str) -> int:
    if parked == bool(messages):
        raise click.UsageError(
            "Say which messages: either --message ID, once or more, or --parked for all parked ones."
        )
    with Ledger.open(
        ledger.given, stores="recorded", migrate=False, busy_timeout=busy_timeout, recover=False
    ) as opened:
        changed: int = getattr(opened.outbox, how)("parked" if parked else messages)
    if changed < len(messages):
        note(f"{len(messages) - changed:,} of them are not there to {how}: delivered, being delivered, or never there.")
    return changed


@outbox.command(
    cls=Command,
    short_help="Have messages delivered again.",
    examples=("memoryos-uow outbox retry memory.db --parked",),
)
@ledger_argument
@_which
@json_option
@busy_timeout_option
def retry(ledger: LedgerPlace, *, messages: tuple[str, ...], parked: bool, as_json: bool, busy_timeout: float) -> None:
    """Have parked and put-off messages of LEDGER delivered again, as if never tried."""
    changed = _change(ledger, messages, parked=parked, busy_timeout=busy_timeout, how="retry")
    if as_json:
        print_json({"retried": changed})
    else:
        click.echo(f"{count(changed, 'message')} to be delivered again.")


@outbox.command(
    cls=Command,
    short_help="Remove messages undelivered.",
    examples=("memoryos-uow outbox drop memory.db --message 019ab1c2-7c1e-7000-8a5e-0242ac120002:0",),
)
@ledger_argument
@_which
@json_option
@busy_timeout_option
def drop(ledger: LedgerPlace, *, messages: tuple[str, ...], parked: bool, as_json: bool, busy_timeout: float) -> None:
    """Remove messages of LEDGER undelivered, for ever. Receipts still say that they were published."""
    changed = _change(ledger, messages, parked=parked, busy_timeout=busy_timeout, how="drop")
    if as_json:
        print_json({"dropped": changed})
    else:
        click.echo(f"{count(changed, 'message')} dropped.")
