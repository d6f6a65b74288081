"""``memoryos-uow relay``: deliver what units have published."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from memoryos_uow._terminal import count
from memoryos_uow.cli._arguments import busy_timeout_option, json_option, ledger_argument
from memoryos_uow.cli._command import Command
from memoryos_uow.cli._output import note, print_json
from memoryos_uow.ledger import Ledger
from memoryos_uow.sinks import HttpSink, NdjsonSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memoryos_uow._messages import Message, RelayReport
    from memoryos_uow.cli._arguments import LedgerPlace

AUTHORIZATION: Final = "MEMORYOS_UOW_RELAY_AUTHORIZATION"
_STDOUT: Final = "-"


def _headers(_context: click.Context, _parameter: click.Parameter, lines: tuple[str, ...]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            # Not repeated here: it may be a secret.
            raise click.BadParameter("A header is a name, a colon and a value.")
        headers[name.strip()] = value.strip()
    return headers


@click.command(
    cls=Command,
    short_help="Deliver what units have published.",
    examples=(
        "memoryos-uow relay memory.db --to https://example.com/events",
        "memoryos-uow relay memory.db --to - --once | jq .type",
    ),
)
@ledger_argument
@click.option(
    "--to", "target", required=True, metavar="URL", help="Where to: an http(s) address, or - for lines on stdout."
)
@click.option("--topic", "topics", multiple=True, metavar="TOPIC", help="Only this topic; may be given several times.")
@click.option("--once", is_flag=True, help="End when nothing is due, or the receiver is out of reach.")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME:VALUE",
    callback=_headers,
    help="One more HTTP header; may be given several times.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, max=3_600, min_open=True),
    default=10,
    metavar="SECONDS",
    help="How long the receiver may take to answer; default 10.",
)
@click.option(
    "--attempts",
    type=click.IntRange(min=1, max=1_000),
    default=10,
    metavar="N",
    help="How many failed deliveries park a message; default 10.",
)
@json_option
@busy_timeout_option
def relay(
    ledger: LedgerPlace,
    *,
    target: str,
    topics: tuple[str, ...],
    once: bool,
    headers: dict[str, str],
    timeout: float,
    attempts: int,
    as_json: bool,
    busy_timeout: float,
) -> None:
    """Deliver the messages that units of LEDGER have published, as CloudEvents 1.0 in JSON.

    At least once each, in order per key; a receiver tells repetitions by the event's id. Several relays share the work.
    Runs until it is interrupted (Ctrl-C, SIGTERM). An Authorization header is best given by the environment variable
    MEMORYOS_UOW_RELAY_AUTHORIZATION: arguments can be seen by every user of the machine. The exit code is 1 if
    messages were parked, or with --once some were left.
    """
    stop = threading.Event()
    lost: list[BrokenPipeError] = []
    with (
        _to_stdout(stop, lost) if target == _STDOUT else _to_url(target, headers, timeout) as sink,
        Ledger.open(ledger.given, stores="recorded", migrate=False, busy_timeout=busy_timeout, recover=False) as opened,
        _stopped_by_signals(stop),
    ):
        report = opened.relay(sink, topics=topics or None, until_empty=once, stop=stop, attempts=attempts)
    if lost:
        raise lost[0]
    _print(report, as_json=as_json, to_stderr=target == _STDOUT)
    if report.parked or (once and report.left):
        click.get_current_context().exit(1)


@contextmanager
def _to_url(url: str, headers: dict[str, str], timeout: float) -> Iterator[HttpSink]:
    """Lend a sink that posts to `url`."""
    authorization = os.environ.get(AUTHORIZATION)
    more = {"Authorization": authorization} if authorization else {}
    with closing(HttpSink(url, headers={**more, **headers}, timeout=timeout)) as sink:
        yield sink


@contextmanager
def _to_stdout(stop: threading.Event, lost: list[BrokenPipeError]) -> Iterator[Callable[[Message], None]]:
    """Lend a sink that ends the relay when nobody reads stdout any more."""
    write = NdjsonSink(sys.stdout)

    def deliver(message: Message) -> None:
        try:
            write(message)
        except Exception as error:
            if isinstance(error.__cause__, BrokenPipeError):
                lost.append(error.__cause__)
            stop.set()
            raise

    yield deliver


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM end the relay after the message that it is delivering; a second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # nobody can send a signal to a thread
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {int(number): signal.getsignal(number) for number in signals}

    def end(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, before[number])

    for number in signals:
        signal.signal(number, end)
    try:
        yield
    finally:
        for stopped, handler in before.items():
            signal.signal(stopped, handler)


def _print(report: RelayReport, *, as_json: bool, to_stderr: bool) -> None:
    told = f"{count(report.delivered, 'message')} delivered, {report.retried:,} put off, {report.parked:,} parked"
    if to_stderr:
        note(f"{told}, {report.left:,} left.")
    elif as_json:
        print_json(asdict(report))
    else:
        click.echo(f"{told}, {report.left:,} left.")
