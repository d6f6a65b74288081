"""What telemetry adds to one unit of three documents where somebody listens: spans, metrics and log events.

`python -m benchmarks telemetry` prints it. With and without are run in turn in the same process, block by block, as
fast as they go; an OpenTelemetry SDK and structlog are set up all the time. Their exporters drop what they get: what
the network costs is not the library's. A block's mean has in it all that the background thread does of the block, also
after its last unit; a block's median shows what a unit feels of it. "Made by hand" is the floor: telemetry is off, and
after a block's last unit as many spans, measurements and log lines are made from constants, in a plain loop.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from functools import partial
from pathlib import Path
from statistics import fmean, median, quantiles
from time import perf_counter_ns, process_time_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from unittest.mock import patch

import opentelemetry.metrics
import opentelemetry.metrics._internal
import opentelemetry.trace
import structlog
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import memoryos_uow
from benchmarks._command import options, section, workplace
from benchmarks._ratios import table
from benchmarks._work import ByLibrary
from memoryos_uow import Band, Ledger, telemetry
from memoryos_uow.observers import TelemetryMode, UnitEnded, _telemetry
from memoryos_uow.observers import _names as names
from memoryos_uow.observers._worker import Worker
from memoryos_uow.stores import DocumentStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from benchmarks._work import Durability

MODES: Final = ("off", "by hand", "background")
NAMES: Final = {"off": "off", "by hand": "the same, made by hand", "background": "spans, metrics and events"}
COLUMNS: Final = ("median us", "mean us", "p99 us", "processor us", "x median", "x mean", "x processor")
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
        self.by_hand = mode == "by hand"
        told = TelemetryMode.BACKGROUND if mode == "background" else TelemetryMode.OFF
        self.ledger = Ledger.open(path, stores=[DocumentStore("notes")], durability=durability, telemetry=told)


class Figures(NamedTuple):
    """What one block took, in microseconds for each unit."""

    median: float
    mean: float
    p99: float
    processor: float


def block(work: Telling, units: int) -> Figures:
    """Run `units` units and wait until everybody was told of them."""
    times: list[float] = []
    cpu = process_time_ns()
    begun = now = perf_counter_ns()
    for _ in range(units):
        work()
        last, now = now, perf_counter_ns()
        times.append((now - last) / 1000)
    if work.by_hand:
        tell_by_hand(units)
    telemetry.flush(FLUSH_S)
    whole, cpu = perf_counter_ns() - begun, process_time_ns() - cpu
    p99 = quantiles(times, n=100, method="inclusive")[98] if len(times) > 1 else times[0]
    return Figures(median(times), whole / units / 1000, p99, cpu / units / 1000)


FACT: Final = UnitEnded(
    uow_id="01a206ab-ecdc-7000-93d0-65f7962c5892",
    band=Band.GREEN,
    outcome="committed",
    started_ts="2026-11-22T19:20:31.110000Z",
    duration_us=350,
    commit_us=250,
    in_doubt=False,
    store_count=1,
    write_count=3,
    bytes_written=450,
    retry_count=0,
    retries_of_its_own=0,
    receipt_hash="7" * 64,
    ids={"space_id": "space", "actor_id": "actor", "device_id": None, "correlation_id": None, "envelope_id": None},
)
"""A unit of which everything is known before."""


def tell_by_hand(units: int) -> None:
    """Make as many spans, measurements and log lines as `units` units do, of constants, kind after kind."""
    tracer = opentelemetry.trace.get_tracer("by hand")
    meter = opentelemetry.metrics.get_meter("by hand")
    log = structlog.get_logger("by hand").bind()
    attributes, fields = FACT.attributes(), FACT.fields()
    series = {names.OUTCOME: FACT.outcome, names.BAND: FACT.band.value}
    histograms = [
        meter.create_histogram(name, explicit_bucket_boundaries_advisory=(0.001, 0.01, 0.1, 1.0))
        for name in ("first", "second", "third")
    ]
    for _ in range(units):
        for histogram in histograms:
            histogram.record(0.00035, series)
    meter.create_counter("units").add(units, series)
    for number in range(units):
        span = tracer.start_span(names.SPAN_COMMIT, attributes=attributes, start_time=number)
        span.end(number + 350_000)
    for _ in range(units):
        log.info(names.EVENT_COMMITTED, **fields)


class _Kept(Worker[Any]):
    """A worker whose thread does not run, so that another one can do its work."""

    def _start(self, units: int) -> None:
        """Leave it."""


def count_telling(folder: Path, units: int = 100) -> dict[str, float]:
    """Count the calls that telling of a unit takes: in its own thread, in the background, and of the receivers."""
    calls: Counter[str] = Counter()
    ours = str(Path(memoryos_uow.__file__).parent)

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            inside = frame.f_code.co_filename.startswith(ours)
            calls["library"] += inside
            calls["receivers"] += not inside and frame.f_back is not None and ours in frame.f_back.f_code.co_filename

    def counted(call: Callable[[], object], times: int) -> dict[str, float]:
        calls.clear()
        sys.setprofile(note)
        try:
            for _ in range(times):
                call()
        finally:
            sys.setprofile(None)
        return {name: count / units for name, count in calls.items()}

    worker = _Kept(_telemetry._batch.stages, at_rest=_telemetry._batch.end)
    with (
        listeners(),
        patch.object(_telemetry, "worker", worker),
        Telling(folder / "off.db", "normal", "off") as quiet,
        Telling(folder / "told.db", "normal", "background") as told,
    ):
        for work in (quiet, told):
            for _ in range(20):
                work()
        copy_context().run(worker._empty)
        beside = counted(quiet, units)["library"]
        own = counted(told, units)["library"]
        background = counted(partial(copy_context().run, worker._empty), 1)
    return {
        "calls_in_the_units_thread": own - beside,
        "calls_in_the_background": background["library"],
        "calls_of_receivers": background["receivers"],
    }


def compare(folder: Path, durability: Durability, *, rounds: int, units: int, warmup: int, seed: int) -> str:
    """Return the table for one durability."""
    order = random.Random(seed)
    seen: dict[str, list[Figures]] = {mode: [] for mode in MODES}
    with ExitStack() as stack:
        stack.enter_context(listeners())
        works = {
            mode: stack.enter_context(Telling(folder / f"{durability}-{mode}.db", durability, mode)) for mode in MODES
        }
        for work in works.values():
            block(work, warmup)
        for _ in range(rounds):
            for mode in order.sample(MODES, len(MODES)):
                seen[mode].append(block(works[mode], units))
    dropped = telemetry.dropped()
    floor = seen["off"]
    rows = [
        (
            NAMES[mode],
            *(f"{fmean(getattr(figures, name) for figures in seen[mode]):,.0f}" for name in Figures._fields),
            *(
                f"{median(getattr(a, name) / getattr(b, name) for a, b in zip(seen[mode], floor, strict=True)):.2f}"
                for name in ("median", "mean", "processor")
            ),
        )
        for mode in MODES
    ]
    shown = table(("telemetry", *COLUMNS), rows)
    return f"{shown}\n\nUnits of which nobody was told because the queue was full: {dropped:,}."


def test_the_comparison_runs(tmp_path: Path) -> None:
    """All contenders commit their units; of those of one of them everybody is told, and of one it is made up."""
    with listeners() as (spans, lines):
        for mode in MODES:
            with Telling(tmp_path / f"{mode}.db", "normal", mode) as work:
                block(work, 3)
                assert len(work.ledger.units(limit=10)) == 3
        opentelemetry.trace.get_tracer_provider().force_flush()  # type: ignore[attr-defined]
    assert (spans.count, lines.count) == (6, 6)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    given = options(__doc__, arguments, rounds=30, units=300, warmup=600, seed=1)
    with workplace("Telemetry") as folder:
        for durability in ("full", "normal"):
            text = compare(
                folder, durability, rounds=given.rounds, units=given.units, warmup=given.warmup, seed=given.seed
            )
            section(f'durability="{durability}"', text)


if __name__ == "__main__":
    main()
