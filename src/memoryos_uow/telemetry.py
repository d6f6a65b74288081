"""What applications need to see their units: a structlog processor, and how the background thread is doing.

Spans, metrics and log events are sent where the application has set up OpenTelemetry or structlog; nothing has to be
switched on here. docs/reference/telemetry.md lists their names.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from memoryos_uow.observers._telemetry import worker

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["add_trace_ids", "dropped", "failed", "flush"]


def add_trace_ids(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add ``trace_id`` and ``span_id`` of the current span to a log event: a structlog processor.

    For the library's own events the current span is the unit's own. Without OpenTelemetry, or outside any span, nothing
    is added.

    ```python
    import structlog
    from memoryos_uow.telemetry import add_trace_ids

    structlog.configure(processors=[add_trace_ids, structlog.processors.JSONRenderer()])
    structlog.get_logger().info("hello")
    structlog.reset_defaults()
    ```
    ```output
    {"event": "hello"}
    ```
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            event["trace_id"] = f"{context.trace_id:032x}"
            event["span_id"] = f"{context.span_id:016x}"
    return event


def flush(timeout: float = 1.0) -> bool:
    """Wait until everything about units that have ended was handed to their receivers; also done at exit.

    Returns:
        Whether that was so within `timeout` seconds. Receivers may still hold it: an SDK has a ``force_flush`` of its
        own.
    """
    return worker.flush(timeout)


def dropped() -> int:
    """Return how many units found the queue full since the process began, so that nobody was told of them.

    The units themselves are in the ledger all the same.
    """
    return worker.dropped


def failed() -> int:
    """Return how often a receiver raised since the process began; the first time is logged as a warning."""
    return worker.failed
