"""What is asked of the arguments of relays and of the outbox, before anything is claimed."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow._names import check_identifier
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow._messages import Message

    Sink = Callable[[Message], object]

PARKED: Final = "parked"


def check_sink(sink: object) -> Sink:
    """Return `sink` if it is a plain function of one message.

    Raises:
        UsageError: it cannot be called, or would have to be awaited.
    """
    if not callable(sink) or isinstance(sink, type):
        shown = sink.__name__ if isinstance(sink, type) else type(sink).__name__
        raise UsageError(
            f"A sink is a function that takes a message, not a {shown}.",
            hint="Nothing was delivered. Pass a function, or an HttpSink or NdjsonSink of memoryos_uow.sinks.",
        )
    called = sink if inspect.isroutine(sink) else getattr(sink, "__call__", None)  # noqa: B004 - to look inside it
    if inspect.iscoroutinefunction(called) or inspect.isgeneratorfunction(called):
        raise coroutine_refused()
    return sink


def coroutine_refused() -> UsageError:
    """Return what is wrong with a sink whose call does nothing yet."""
    return UsageError(
        "The sink is a coroutine or generator function: calling it delivers nothing.",
        hint="No message was lost. Pass a plain function; inside it asyncio.run_coroutine_threadsafe(...).result()"
        " waits for a coroutine of a loop in another thread.",
    )


def check_topics(topics: object) -> str | None:
    """Return `topics` as a JSON list, None for all.

    Raises:
        UsageError: not a collection of topics, or an empty one.
    """
    if topics is None:
        return None
    if not isinstance(topics, Iterable) or isinstance(topics, (str, bytes)):
        raise UsageError("topics is a list of topics.", hint='For example topics=["note.updated"].')
    names = sorted({check_identifier(topic, "topic") for topic in topics})
    if not names:
        raise UsageError("topics is empty, so no message would be delivered.", hint="Leave it out to mean all topics.")
    return json.dumps(names)


def check_stop(stop: object) -> threading.Event:
    """Return `stop`, or an event that nobody sets.

    Raises:
        UsageError: not a threading.Event.
    """
    if stop is None:
        return threading.Event()
    if not isinstance(stop, threading.Event):
        raise UsageError(f"stop is a threading.Event, not a {type(stop).__name__}.", hint="Nothing was delivered.")
    return stop


def check_number(value: Any, what: str, *, whole: bool, least: float, most: float) -> float:
    """Return `value` if it is a number between `least` and `most`.

    Raises:
        UsageError: it is not.
    """
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        sort = "a whole number" if whole else "a number"
        raise UsageError(f"{what} is {sort} from {least:g} to {most:g}.", hint="Nothing was delivered.")
    return value


def check_message_ids(messages: object) -> list[tuple[str, int]] | None:
    """Return unit ids and numbers of `messages`; None for ``"parked"``, which stands for all that are parked.

    Raises:
        UsageError: something else.
    """
    if messages == PARKED:
        return None
    if not isinstance(messages, Iterable) or isinstance(messages, (str, bytes)):
        raise UsageError(
            'Messages are a list of ids, or "parked" for all that are parked.',
            hint="Nothing was changed. ledger.outbox.messages() lists them with their ids.",
        )
    return [_parsed(one) for one in messages]


def _parsed(message_id: object) -> tuple[str, int]:
    uow_id, _, seq = str(message_id).rpartition(":")
    # Beyond 18 digits SQLite's integers end; int() takes other digits than 0 to 9 too.
    if not isinstance(message_id, str) or not uow_id or not (seq.isascii() and seq.isdigit()) or len(seq) > 18:  # noqa: PLR2004
        raise UsageError(
            "A message's id is its unit's id, a colon and its number.",
            hint="Nothing was changed. `memoryos-uow outbox list` shows the ids.",
        )
    return check_identifier(uow_id, "message id"), int(seq)
