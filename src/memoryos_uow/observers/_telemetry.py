"""Who is told about units, and from which thread.

Promise: where nobody listens a unit costs a look at what is loaded; where somebody does, what is told is put into a
queue together with the caller's context: spans have the caller's span as parent, log events the fields bound there.
"""

from __future__ import annotations

from contextvars import copy_context
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from memoryos_uow import _log
from memoryos_uow.observers import _otel, _structlog
from memoryos_uow.observers._worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow.observers._facts import UnitEnded, UnitRecovered


class TelemetryMode(StrEnum):
    """From which thread receivers are told."""

    BACKGROUND = "background"
    """One of its own, off the units' path; what finds its queue full is dropped and counted."""
    INLINE = "inline"
    """The unit's own, before its block is left: for tests."""
    OFF = "off"
    """None: receivers are told nothing."""


worker = Worker()
"""One queue and one thread for all ledgers of the process."""


class Telemetry:
    """What one ledger tells."""

    def __init__(self, mode: TelemetryMode) -> None:
        self._mode = mode

    def is_wanted(self) -> bool:
        """Say whether anybody listens now."""
        return self._mode is not TelemetryMode.OFF and (_structlog.is_wanted() or _otel.is_wanted())

    def traceparent(self) -> str | None:
        """Return the W3C ``traceparent`` of the caller's span, to be stored with a unit that may need recovery."""
        return None if self._mode is TelemetryMode.OFF else _otel.current_traceparent()

    def tell(self, make: Callable[[], UnitEnded | UnitRecovered]) -> None:
        """Tell whoever listens what `make` returns; it is called only if somebody does. Never raises."""
        try:
            if not self.is_wanted():
                return
            told = partial(_tell, make())
            if self._mode is TelemetryMode.INLINE:
                told()
            else:
                worker.put(partial(copy_context().run, told))
        except Exception as error:  # noqa: BLE001 - a unit never fails because of who watches it
            _log.warn("uow.telemetry_failed", error_type=type(error).__name__)


def _tell(fact: UnitEnded | UnitRecovered) -> None:
    with _otel.emit(fact):
        if _structlog.is_wanted():
            _structlog.emit(fact)
