"""What telemetry adds to one unit of three documents where somebody listens: spans, metrics and log events.

`python -m benchmarks telemetry` prints it. With and without are run in turn in the same process, block by block, as
fast as they go; an OpenTelemetry SDK and structlog are set up all the time. Their exporters drop what they get: what
the network costs is not the library's. A block's mean has in it all that the background thread does of the block, also
after its last unit; a block's median shows what a unit feels of it.
"""

from __future__ import annotations

import random
from contextlib import ExitStack, contextmanager
from statistics import fmean, median, quantiles
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import opentelemetry.metrics._internal
import opentelemetry.trace
import structlog
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from benchmarks._command import options, section, workplace
from benchmarks._ratios import table
from benchmarks._work import ByLibrary
from memoryos_uow import Ledger, telemetry
from memoryos_uow.stores import DocumentStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from benchmarks._work import Durability

MODES: Final = ("off", "background")
FLUSH_S: Final = 60.0


class DropSpans(SpanExporter):
    """An exporter for which nothing is too much."""

    def __init__(self) -> None:
        self.count = 0

    def export(self, spans: Sequence[object]) -> SpanExportResult:
        """Count them."""
        self.count += len(spans)
        return SpanExportResult.SUCCESS


class DropLines:
    """A logger that writes nothing."""

    def __init__(self, *_: object) -> None:
        self.count = 0

    def info(self, _line: str) -> None:
        """Count it."""
        self.count += 1

    warning = info


@contextmanager
def listeners() -> Iterator[tuple[DropSpans, DropLines]]:
    """Set up an SDK with a batching processor, metrics, and structlog that renders JSON."""
    spans, lines = DropSpans(), DropLines()
    tracers, meters = TracerProvider(shutdown_on_exit=False), MeterProvider([InMemoryMetricReader()])
    tracers.add_span_processor(BatchSpanProcessor(spans))
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        telemetry.add_trace_ids,
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(processors=processors, logger_factory=lambda *_: lines)
    with (
        patch.object(opentelemetry.trace, "_TRACER_PROVIDER", tracers),
        patch.object(opentelemetry.metrics._internal, "_METER_PROVIDER", meters),
    ):
        try:
            yield spans, lines
        finally:
            telemetry.flush(FLUSH_S)
            structlog.reset_defaults()
            tracers.shutdown()
            meters.shutdown()


class Telling(ByLibrary):
    """The unit on a ledger with telemetry on or off."""

    def __init__(self, path: Path, durability: Durability, mode: str) -> None:
        super().__init__(path, durability)
        self.ledger.close()
        stores = [DocumentStore("notes")]
        self.ledger = Ledger.open(path, stores=stores, durability=durability, telemetry=mode)  # type: ignore[arg-type]


def block(work: ByLibrary, units: int) -> tuple[list[float], float]:
    """Run `units` units; return the time of each, and of all with what comes after them, in microseconds."""
    times: list[float] = []
    begun = now = perf_counter_ns()
    for _ in range(units):
        work()
        last, now = now, perf_counter_ns()
        times.append((now - last) / 1000)
    telemetry.flush(FLUSH_S)
    return times, (perf_counter_ns() - begun) / 1000


def compare(folder: Path, durability: Durability, *, rounds: int, units: int, warmup: int, seed: int) -> str:
    """Return the table for one durability."""
    order = random.Random(seed)
    seen: dict[str, list[tuple[float, float, float]]] = {mode: [] for mode in MODES}
    with ExitStack() as stack:
        stack.enter_context(listeners())
        works = {
            mode: stack.enter_context(Telling(folder / f"{durability}-{mode}.db", durability, mode)) for mode in MODES
        }
        for work in works.values():
            block(work, warmup)
        for _ in range(rounds):
            for mode in order.sample(MODES, len(MODES)):
                times, whole = block(works[mode], units)
                seen[mode].append((median(times), whole / units, quantiles(times, n=100, method="inclusive")[98]))
    dropped = telemetry.dropped()
    floor = seen["off"]
    rows = [
        (
            {"off": "off", "background": "spans, metrics and events"}[mode],
            *(f"{fmean(figures[n] for figures in seen[mode]):,.0f}" for n in range(3)),
            *(f"{median(a[n] / b[n] for a, b in zip(seen[mode], floor, strict=True)):.2f}" for n in range(2)),
        )
        for mode in MODES
    ]
    shown = table(("telemetry", "median us", "mean us", "p99 us", "x median", "x mean"), rows)
    return f"{shown}\n\nUnits of which nobody was told because the queue was full: {dropped:,}."


def test_the_comparison_runs(tmp_path: Path) -> None:
    """Both contenders commit their units, and everybody is told of those of one of them."""
    with listeners() as (spans, lines):
        for mode in MODES:
            with Telling(tmp_path / f"{mode}.db", "normal", mode) as work:
                block(work, 3)
                assert len(work.ledger.units(limit=10)) == 3
        opentelemetry.trace.get_tracer_provider().force_flush()  # type: ignore[attr-defined]
    assert (spans.count, lines.count) == (3, 3)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    given = options(__doc__, arguments, rounds=20, units=300, warmup=600, seed=1)
    with workplace("Telemetry") as folder:
        for durability in ("full", "normal"):
            text = compare(
                folder, durability, rounds=given.rounds, units=given.units, warmup=given.warmup, seed=given.seed
            )
            section(f'durability="{durability}"', text)


if __name__ == "__main__":
    main()
