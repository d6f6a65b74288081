"""Who is told about units, and from which thread.

Promise: where nobody listens a unit costs a look at what is loaded; where somebody does, what is told is put into a
queue together with the caller's context: spans have the caller's span as parent, log events the fields bound there.
Receivers do not depend on each other: one that raises keeps nothing from the rest. Of a unit that a receiver makes
nobody is told, or telling would never end.
"""

from __future__ import annotations

from contextvars import ContextVar, copy_context
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _log
from memoryos_uow.observers import _otel, _structlog
from memoryos_uow.observers._worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memoryos_uow.observers._facts import UnitEnded, UnitRecovered

    Facts = Sequence[UnitEnded | UnitRecovered]


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

_is_telling: Final[ContextVar[bool]] = ContextVar("memoryos_uow_is_telling", default=False)


class _Exit:
    """Keeps the worker's flush ahead of the shutdown of each SDK that the application sets up."""

    providers: tuple[Any, Any] | None = None

    def watch(self, providers: tuple[Any, Any]) -> None:
        if providers != self.providers:
            self.providers = providers
            worker.come_first_at_exit()


_exit: Final = _Exit()


class Telemetry:
    """What one ledger tells."""

    def __init__(self, mode: TelemetryMode) -> None:
        self._mode = mode

    def is_wanted(self) -> bool:
        """Say whether anybody listens now."""
        if self._mode is TelemetryMode.OFF or _is_telling.get():
            return False
        return _structlog.is_wanted() or _otel.providers() != (None, None)

    def traceparent(self) -> str | None:
        """Return the W3C ``traceparent`` of the caller's span, to be stored with a unit that may need recovery."""
        try:
            return None if self._mode is TelemetryMode.OFF else _otel.current_traceparent()
        except Exception:  # noqa: BLE001 - a span of the application's own making never fails a unit
            return None

    def tell(self, make: Callable[[], Facts]) -> None:
        """Tell whoever listens what `make` returns; it is called only if somebody does. Never raises."""
        try:
            if not self.is_wanted():
                return
            facts = make()
            if self._mode is TelemetryMode.INLINE:
                _tell(facts)
            else:
                _exit.watch(_otel.providers())
                worker.put(partial(copy_context().run, _tell, facts), units=len(facts))
        except Exception as error:  # noqa: BLE001 - a unit never fails because of who watches it
            _log.warn("uow.telemetry_failed", error_type=type(error).__name__)


def _tell(facts: Facts) -> None:
    token = _is_telling.set(True)
    errors: list[Exception] = []
    try:
        for fact in facts:
            # Metrics first, in the caller's own context: an exemplar leads to the trace of who waited for the unit.
            _attempt(errors, _otel.emit_metrics, fact)
            span = _attempt(errors, _otel.emit_span, fact)
            if _structlog.is_wanted():
                with _otel.current(span):
                    _attempt(errors, _structlog.emit, fact)
    finally:
        _is_telling.reset(token)
    if errors:
        raise errors[0]


def _attempt(errors: list[Exception], emit: Callable[[UnitEnded | UnitRecovered], Any], fact: Any) -> Any:
    """Return what `emit` returns; what it raises is added to `errors`, so that the other receivers are told."""
    try:
        return emit(fact)
    except Exception as error:  # noqa: BLE001 - receivers of the application's may raise anything
        errors.append(error)
        return None
