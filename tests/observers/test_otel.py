"""Links to the traces of units, and who counts as a receiver."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from memoryos_uow import Band
from memoryos_uow.observers import UnitRecovered, _metrics, _otel
from memoryos_uow.observers import _names as names
from tests.units import environment

if TYPE_CHECKING:
    from tests.watching import Seen

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


def link_of(seen: Seen, traceparent: str | None) -> Any:
    """The link of the span of a recovery of a unit with this traceparent, None if it has none."""
    fact = UnitRecovered(
        uow_id="u",
        band=Band.GREEN,
        outcome="rolled_back",
        started_ts="2026-11-22T19:20:31.110000Z",
        duration_us=7,
        traceparent=traceparent,
    )
    _otel.emit_span(fact, seen.tracers, None, [])
    (span,) = seen.spans()
    assert (span.start_time, span.end_time) == (1_795_375_231_110_000_000, 1_795_375_231_110_007_000)
    return span.links[0].context if span.links else None


@pytest.mark.parametrize("flags", ["00", "01", "03", "ff"])
def test_a_recovery_links_to_the_trace_of_the_unit(seen: Seen, flags: str) -> None:
    """Trace, span and all flags are those that were stored, also flags of later versions."""
    context = link_of(seen, f"00-{TRACE}-{SPAN}-{flags}")
    assert (context.trace_id, context.span_id) == (int(TRACE, 16), int(SPAN, 16))
    assert (context.trace_flags, context.is_remote) == (int(flags, 16), True)


@pytest.mark.parametrize("text", [None, "", "nonsense", "00-xyz-1-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}"])
def test_what_is_no_traceparent_gives_no_link(seen: Seen, text: str | None) -> None:
    """The span is made all the same."""
    assert link_of(seen, text) is None


@pytest.mark.parametrize("loaded", ["", "import opentelemetry.trace, opentelemetry.metrics"])
def test_the_api_alone_is_nobody(loaded: str) -> None:
    """Without an SDK nobody listens, whether or not something has loaded the API."""
    shown = "print(*_otel.providers(_otel.current_context()), _otel.current_traceparent())"
    code = f"{loaded}\nfrom memoryos_uow.observers import _otel\n{shown}"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "None None None\n"


def test_every_provider_has_one_tracer_and_one_set_of_instruments(seen: Seen) -> None:
    """They are made once and kept with their provider."""
    other = TracerProvider(shutdown_on_exit=False)
    assert _otel._tracer(seen.tracers) is _otel._tracer(seen.tracers)
    assert _otel._tracer(other) is not _otel._tracer(seen.tracers)
    _, meters = _otel.providers(_otel.current_context())
    made = _metrics.instruments(meters)
    assert made is _metrics.instruments(meters)
    kinds = {"histogram", "counter", "updowncounter"}
    assert made._made.keys() == {signal.name for signal in names.SIGNALS if signal.kind in kinds}
