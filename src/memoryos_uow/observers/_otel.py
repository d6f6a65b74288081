"""Spans and metrics through the OpenTelemetry API, where the application has set up an SDK.

Promise: nothing is imported, configured or recorded unless it has. Times are those of the unit, not of this call, which
comes later. Semantic conventions: ``error.type`` is stable and absent on success.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow._version import __version__
from memoryos_uow.observers import _names as names
from memoryos_uow.observers._facts import UnitEnded, UnitRecovered

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOBODY: Final = frozenset({"ProxyTracerProvider", "NoOpTracerProvider", "_ProxyMeterProvider", "NoOpMeterProvider"})
_SUPPRESSED: Final = "suppress_instrumentation"
_US_PER_S: Final = 1_000_000
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_BYTES: Final = (256, 1024, 4096, 16384, 65536, 262144, 1048576, 16777216)
_SPAN_OF: Final = {"committed": names.SPAN_COMMIT}


def providers() -> tuple[Any, Any]:
    """Return the tracer provider and the meter provider that the application has set up, None for one that it has not.

    Neither is given while the application has switched instrumentation off, as exporters do for their own work.
    """
    context = sys.modules.get("opentelemetry.context")
    if context is None or context.get_value(_SUPPRESSED):
        return None, None
    return (
        _provider("opentelemetry.trace", "get_tracer_provider"),
        _provider("opentelemetry.metrics", "get_meter_provider"),
    )


def _provider(module: str, function: str) -> Any:
    api = sys.modules.get(module)
    if api is None:
        return None
    provider = getattr(api, function)()
    return None if type(provider).__name__ in _NOBODY else provider


def current_traceparent() -> str | None:
    """Return the W3C ``traceparent`` of the span that is current in the caller's context, None if there is none."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


# Spans


def emit_span(fact: UnitEnded | UnitRecovered) -> Any:
    """Record the unit's span and return it, None if nobody wants one."""
    provider, _ = providers()
    if provider is None:
        return None
    from opentelemetry import trace  # noqa: PLC0415 - loaded by the application already

    start = _nanoseconds(fact.started_ts)
    recovered = isinstance(fact, UnitRecovered)
    span = _tracer(provider).start_span(
        names.SPAN_RECOVER if recovered else _SPAN_OF.get(fact.outcome, names.SPAN_ROLLBACK),
        kind=trace.SpanKind.INTERNAL,
        start_time=start,
        attributes=fact.attributes(),
        links=_links(fact.traceparent) if isinstance(fact, UnitRecovered) else None,
    )
    if fact.outcome in ("failed", "in_doubt"):
        span.set_status(trace.Status(trace.StatusCode.ERROR))
    hidden = isinstance(fact, UnitEnded) and not fact.shows_timings
    span.end(start if hidden else start + fact.duration_us * 1000)
    return span


@contextmanager
def current(span: Any) -> Iterator[None]:
    """Make `span`, unless it is None, the current one inside the block."""
    if span is None:
        yield
        return
    from opentelemetry import context, trace  # noqa: PLC0415

    token = context.attach(trace.set_span_in_context(span))
    try:
        yield
    finally:
        context.detach(token)


def _nanoseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def _links(traceparent: str | None) -> list[Any]:
    """Return a link to the unit's own trace; the flags are passed on whatever they are."""
    if traceparent is None:
        return []
    from opentelemetry import trace  # noqa: PLC0415

    try:
        _, trace_id, span_id, flags = traceparent.split("-")
        context = trace.SpanContext(
            int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(int(flags, 16))
        )
    except ValueError:  # written by something else
        return []
    return [trace.Link(context)] if context.is_valid else []


# Metrics


def emit_metrics(fact: UnitEnded | UnitRecovered) -> None:
    """Record what the unit adds to the metrics."""
    _, provider = providers()
    if provider is not None:
        _instruments(provider).record(fact)


class _Instruments:
    """The instruments of one meter provider."""

    def __init__(self, provider: Any) -> None:
        self.provider = provider  # held, so that its identity is not given to another
        meter = provider.get_meter(names.SCOPE, __version__)
        made: dict[str, Any] = {}
        for signal in names.SIGNALS:
            about = {"unit": signal.unit, "description": signal.meaning}
            if signal.kind == "histogram":
                bounds = _BYTES if signal.unit == "By" else _SECONDS
                made[signal.name] = meter.create_histogram(
                    signal.name, explicit_bucket_boundaries_advisory=bounds, **about
                )
            elif signal.kind == "counter":
                made[signal.name] = meter.create_counter(signal.name, **about)
            elif signal.kind == "updowncounter":
                made[signal.name] = meter.create_up_down_counter(signal.name, **about)
        self._made = made

    def record(self, fact: UnitEnded | UnitRecovered) -> None:
        """Record what `fact` adds to the metrics, as far as its band lets it."""
        attributes = {names.OUTCOME: fact.outcome, names.BAND: fact.band.value}
        if isinstance(fact, UnitRecovered):
            self._made[names.RECOVERIES].add(1, attributes)
            change = (fact.outcome == "in_doubt") - fact.was_in_doubt
            if change:
                self._made[names.IN_DOUBT].add(change)
            return
        if fact.error_type:
            attributes[names.ERROR_TYPE] = fact.error_type
        self._made[names.UNITS].add(1, attributes)
        if fact.in_doubt:
            self._made[names.IN_DOUBT].add(1)
        if fact.shows_timings:
            self._made[names.DURATION].record(fact.duration_us / _US_PER_S, attributes)
            if fact.commit_us is not None:
                self._made[names.COMMIT_DURATION].record(fact.commit_us / _US_PER_S, attributes)
        if fact.shows_sizes:
            if fact.outcome == "committed":
                self._made[names.BYTES].record(fact.bytes_written, attributes)
            if fact.retries_of_its_own:
                self._made[names.RETRIES_TOTAL].add(fact.retries_of_its_own, attributes)


_known: dict[int, _Instruments] = {}
_tracers: dict[int, tuple[Any, Any]] = {}
"""By identity of the provider, which is kept along, so that no other one gets it: the provider and its tracer."""


def _instruments(provider: Any) -> _Instruments:
    found = _known.get(id(provider))
    if found is None:
        found = _known[id(provider)] = _Instruments(provider)
    return found


def _tracer(provider: Any) -> Any:
    found = _tracers.get(id(provider))
    if found is None:
        found = _tracers[id(provider)] = (provider, provider.get_tracer(names.SCOPE, __version__))
    return found[1]
