"""What the tests of telemetry share: an OpenTelemetry SDK and a configured structlog, set up and taken away again."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import opentelemetry.metrics._internal
import opentelemetry.trace
import pytest
import structlog
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from memoryos_uow import telemetry
from memoryos_uow.telemetry import add_trace_ids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

WAIT_S = 30.0
"""How long a test waits for what is certain to come: only a failing test waits that long."""


@dataclass
class Seen:
    """What has come out so far."""

    tracers: TracerProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    log: structlog.testing.LogCapture

    def spans(self) -> list[ReadableSpan]:
        """The spans of units, in order; the application's own are left out."""
        assert telemetry.flush(WAIT_S)
        return [span for span in self.exporter.get_finished_spans() if span.name.startswith("uow ")]

    def events(self) -> list[dict[str, Any]]:
        """The log events."""
        assert telemetry.flush(WAIT_S)
        return [cast("dict[str, Any]", entry) for entry in self.log.entries]

    def metrics(self) -> dict[str, list[Any]]:
        """The data points of each metric."""
        assert telemetry.flush(WAIT_S)
        data = self.reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def total(self, name: str, **attributes: object) -> float:
        """The sum of a counter's points whose attributes, dots as underscores, include these."""
        return sum(
            float(point.value)
            for point in self.metrics().get(name, ())
            if attributes.items() <= {key.replace(".", "_"): value for key, value in point.attributes.items()}.items()
        )


@contextmanager
def sdk(*processors: SpanProcessor) -> Iterator[tuple[TracerProvider, InMemorySpanExporter, InMemoryMetricReader]]:
    """Set up an SDK, with these span processors before its own; take it away at the end."""
    tracers, exporter, reader = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter(), InMemoryMetricReader()
    for processor in (*processors, SimpleSpanProcessor(exporter)):
        tracers.add_span_processor(processor)
    meters = MeterProvider([reader], shutdown_on_exit=False)
    assert telemetry.flush(WAIT_S)
    with pytest.MonkeyPatch.context() as patched:
        # They can be set only once through the API.
        patched.setattr(opentelemetry.trace, "_TRACER_PROVIDER", tracers)
        patched.setattr(opentelemetry.metrics._internal, "_METER_PROVIDER", meters)
        try:
            yield tracers, exporter, reader
        finally:
            assert telemetry.flush(WAIT_S)
            tracers.shutdown()
            meters.shutdown()


@contextmanager
def watching(*processors: SpanProcessor) -> Iterator[Seen]:
    """Set up an SDK and structlog; take both away at the end."""
    log = structlog.testing.LogCapture()
    with sdk(*processors) as (tracers, exporter, reader):
        structlog.configure(processors=[structlog.contextvars.merge_contextvars, add_trace_ids, log])
        try:
            yield Seen(tracers, exporter, reader, log)
        finally:
            assert telemetry.flush(WAIT_S)
            structlog.reset_defaults()
