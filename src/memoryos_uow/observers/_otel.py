"""Spans through the OpenTelemetry API, where the application has set up an SDK; and who has set up what.

Promise: nothing is imported, configured or recorded unless it has. Times are those of the unit, not of this call, which
comes later. Semantic conventions: ``error.type`` is stable and absent on success.
"""

from __future__ import annotations

import sys
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from memoryos_uow._version import __version__
from memoryos_uow.observers import _names as names
from memoryos_uow.observers._facts import UnitRecovered

if TYPE_CHECKING:
    from memoryos_uow.observers._facts import UnitEnded

_NO_PROVIDERS: Final = frozenset(
    {"ProxyTracerProvider", "NoOpTracerProvider", "_ProxyMeterProvider", "NoOpMeterProvider"}
)
_SUPPRESSED: Final = "suppress_instrumentation"
_SPAN_OF: Final = {"committed": names.SPAN_COMMIT}


class Providers(NamedTuple):
    """What the application has set up; None is what it has not."""

    tracers: Any
    meters: Any


NOBODY: Final = Providers(None, None)


def current_context() -> Any:
    """Return the caller's context as OpenTelemetry keeps it, None where that is not loaded."""
    context = sys.modules.get("opentelemetry.context")
    return None if context is None else context.get_current()


def providers(context: Any) -> Providers:
    """Return the tracer provider and the meter provider that the application has set up.

    It is `NOBODY` where there are none, and where the application has switched instrumentation off in this `context`,
    as exporters do for their own work.
    """
    global _newest  # noqa: PLW0603 - it saves every unit the look at what they are
    if context is None or context.get(_SUPPRESSED):
        return NOBODY
    modules = sys.modules
    trace, metrics = modules.get("opentelemetry.trace"), modules.get("opentelemetry.metrics")
    tracers = None if trace is None else trace.get_tracer_provider()
    meters = None if metrics is None else metrics.get_meter_provider()
    found, wanted = _newest
    if found.tracers is not tracers or found.meters is not meters:
        found = Providers(tracers, meters)
        wanted = Providers(*(None if type(one).__name__ in _NO_PROVIDERS else one for one in found))
        _newest = found, NOBODY if wanted == NOBODY else wanted
    return _newest[1]


_newest: tuple[Providers, Providers] = (NOBODY, NOBODY)
"""The providers that were found last, and those of them that want to be told anything."""


def current_traceparent() -> str | None:
    """Return the W3C ``traceparent`` of the span that is current in the caller's context, None if there is none."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def emit_span(fact: UnitEnded | UnitRecovered, provider: Any, context: Any, spans: list[Any]) -> None:
    """Record the unit's span, below the one in `context`, and add it to `spans`, or None if it cannot be made."""
    start = _nanoseconds(fact.started_ts)
    if isinstance(fact, UnitRecovered):
        name, links = names.SPAN_RECOVER, _links(fact.traceparent)
        end = start + fact.duration_us * 1000
    else:
        name, links = _SPAN_OF.get(fact.outcome, names.SPAN_ROLLBACK), None
        end = start + fact.duration_us * 1000 if fact.shows_timings else start
    place = len(spans)
    spans.append(None)
    span = _tracer(provider).start_span(name, context, attributes=fact.attributes(), links=links, start_time=start)
    if fact.outcome in ("failed", "in_doubt"):
        trace = sys.modules["opentelemetry.trace"]
        span.set_status(trace.Status(trace.StatusCode.ERROR))
    if not isinstance(fact, UnitRecovered) and fact.calls and fact.shows_timings:
        _emit_calls(fact, start, _tracer(provider), span, context)
    span.end(end)
    spans[place] = span


def _emit_calls(fact: UnitEnded, start: int, tracer: Any, span: Any, context: Any) -> None:
    """Record the calls to servers of the unit's stores, below its own span."""
    trace = sys.modules["opentelemetry.trace"]
    below = trace.set_span_in_context(span, context)
    for call in fact.calls:
        began = start + call.offset_us * 1000
        made = tracer.start_span(
            call.operation,
            below,
            kind=trace.SpanKind.CLIENT,
            attributes=call.attributes(fact.band),
            start_time=began,
        )
        if call.error_type is not None:
            made.set_status(trace.Status(trace.StatusCode.ERROR))
        made.end(began + call.duration_us * 1000)


def make_current(span: Any, context: Any) -> None:
    """Make `span` the current one, from here to the end of the context variables' context that runs."""
    modules = sys.modules
    modules["opentelemetry.context"].attach(modules["opentelemetry.trace"].set_span_in_context(span, context))


def _nanoseconds(text: str) -> int:
    return _seconds(text[:19]) * 1_000_000_000 + int(text[20:26]) * 1000


@lru_cache(maxsize=64)
def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}Z").timestamp())


def _links(traceparent: str | None) -> list[Any]:
    """Return a link to the unit's own trace; the flags are passed on whatever they are."""
    if traceparent is None:
        return []
    from opentelemetry import trace  # noqa: PLC0415 - loaded by the application already

    try:
        _, trace_id, span_id, flags = traceparent.split("-")
        context = trace.SpanContext(
            int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(int(flags, 16))
        )
    except ValueError:  # written by something else
        return []
    return [trace.Link(context)] if context.is_valid else []


_tracers: dict[int, tuple[Any, Any]] = {}
"""By identity of the provider, which is kept along, so that no other one gets it: the provider and its tracer."""


def _tracer(provider: Any) -> Any:
    found = _tracers.get(id(provider))
    if found is None:
        found = _tracers[id(provider)] = (provider, provider.get_tracer(names.SCOPE, __version__))
    return found[1]
