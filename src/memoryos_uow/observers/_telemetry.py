"""Who is told about units, and from which thread.

Promise: where nobody listens a unit costs a look at what is loaded; where somebody does, what is told is put into a
queue together with the caller's context: spans have the caller's span as parent, log events the fields bound there.
Receivers do not depend on each other: one that raises keeps nothing from the rest. Of a unit that a receiver makes
nobody is told, or telling would never end.
"""

from __future__ import annotations

import os
from contextvars import ContextVar, copy_context
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _log
from memoryos_uow.observers import _metrics, _otel, _structlog
from memoryos_uow.observers._worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow.observers._facts import Facts, Note, UnitEnded, UnitRecovered
    from memoryos_uow.observers._otel import Providers


class TelemetryMode(StrEnum):
    """From which thread receivers are told."""

    BACKGROUND = "background"
    """One of its own, off the units' path; what finds its queue full is dropped and counted."""
    INLINE = "inline"
    """The unit's own, before its block is left: for tests."""
    OFF = "off"
    """None: receivers are told nothing."""


_is_telling: Final[ContextVar[bool]] = ContextVar("memoryos_uow_is_telling", default=False)


class _Told:
    """What is told at once, to whom, and in whose context."""

    __slots__ = ("bound", "facts", "logs", "note", "providers", "spans", "trace_context")

    def __init__(self, note: Note, providers: Providers, trace_context: Any, *, logs: bool) -> None:
        self.note = note
        self.providers = providers
        self.trace_context = trace_context
        """OpenTelemetry's, with the caller's span in it."""
        self.logs = logs
        self.bound = copy_context() if logs else None
        """With what the caller has bound to its log events."""
        self.facts: Facts = ()
        self.spans: list[Any] = []
        """Of the facts, in their order; None where making it failed."""


class _Batch:
    """The stages in which things are told, and what they keep from one to the next until all of a batch is told.

    Metrics come first, outside the unit's own span: an exemplar leads to the trace of who waited for the unit.
    """

    def __init__(self) -> None:
        self.stages = (self.measure, self.trace, self.log)
        self._owed: Final = _metrics.nothing_owed()
        self._logger: Any = None

    def measure(self, told: _Told) -> None:
        """Tell the meters; what is only counted they are told at the end."""
        _is_telling.set(True)
        told.facts = told.note.facts()
        if told.providers.meters is not None:
            made = _metrics.instruments(told.providers.meters)
            _each(told.facts, made.record, self._owed, told.trace_context)

    def trace(self, told: _Told) -> None:
        """Tell the tracers."""
        if told.providers.tracers is not None:
            _each(told.facts, _otel.emit_span, told.providers.tracers, told.trace_context, told.spans)

    def log(self, told: _Told) -> None:
        """Tell the logger, inside each unit's span."""
        if told.bound is not None:
            if self._logger is None:
                self._logger = _structlog.logger()
            told.bound.run(_log_events, told, self._logger)

    def end(self) -> None:
        """Tell what is owed, and look anew the next time."""
        self._logger = None
        _metrics.settle(self._owed)

    def forget(self) -> None:
        """Owe nothing, in a forked child: what its parent owes the parent will pay."""
        self._owed.clear()


def _log_events(told: _Told, logger: Any) -> None:
    """Log the event of each fact; runs in the copy of the caller's context, which is not used any more."""
    _is_telling.set(True)
    spans = iter(told.spans)

    def log(fact: UnitEnded | UnitRecovered) -> None:
        span = next(spans, None)
        if span is not None:
            _otel.make_current(span, told.trace_context)
        _structlog.emit(fact, logger)

    _each(told.facts, log)


def _each(facts: Facts, tell: Callable[..., object], *arguments: object) -> None:
    """Call `tell` with each fact; what it raises is raised in the end."""
    error: Exception | None = None
    for fact in facts:
        try:
            tell(fact, *arguments)
        except Exception as caught:  # noqa: BLE001 - receivers of the application's may raise anything
            error = error or caught
    if error is not None:
        raise error


_batch: Final = _Batch()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_batch.forget)

worker = Worker(_batch.stages, at_rest=_batch.end)
"""One queue and one thread for all ledgers of the process."""


class _Exit:
    """Keeps the worker's flush ahead of the shutdown of each SDK that the application sets up."""

    providers: Providers = _otel.NOBODY

    def watch(self, providers: Providers) -> None:
        if providers is not self.providers:
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
        return _structlog.is_wanted() or _otel.providers(_otel.current_context()) is not _otel.NOBODY

    def traceparent(self) -> str | None:
        """Return the W3C ``traceparent`` of the caller's span, to be stored with a unit that may need recovery."""
        try:
            return None if self._mode is TelemetryMode.OFF else _otel.current_traceparent()
        except Exception:  # noqa: BLE001 - a span of the application's own making never fails a unit
            return None

    def tell(self, take: Callable[[], Note]) -> None:
        """Tell whoever listens what `take` notes; it is called only if somebody does. Never raises."""
        try:
            if self._mode is TelemetryMode.OFF or _is_telling.get():
                return
            trace_context = _otel.current_context()
            providers, logs = _otel.providers(trace_context), _structlog.is_wanted()
            if providers is _otel.NOBODY and not logs:
                return
            told = _Told(take(), providers, trace_context, logs=logs)
            if self._mode is TelemetryMode.INLINE:
                copy_context().run(_tell_inline, told)
            else:
                _exit.watch(providers)
                worker.put(told, units=told.note.units)
        except Exception as error:  # noqa: BLE001 - a unit never fails because of who watches it
            _log.warn("uow.telemetry_failed", error_type=type(error).__name__)


def _tell_inline(told: _Told) -> None:
    batch = _Batch()
    error: Exception | None = None
    for stage in (*batch.stages, lambda _: batch.end()):
        try:
            stage(told)
        except Exception as caught:  # noqa: BLE001 - the other receivers are told all the same
            error = error or caught
    if error is not None:
        raise error
