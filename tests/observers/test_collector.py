"""Over the wire: units of a real program arrive at a collector, by both protocols; what the how-to page says works."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow.observers import _names as names
from tests.docs.pages import DOCS
from tests.leftovers import begun
from tests.observers.collector import collector, free_ports, own_paths, receiver, wait_until_listening
from tests.test_telling import dies_in_a_trace
from tests.units import environment, python
from tests.watching import WAIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.observers.collector import Received

PAGE: Final = DOCS / "how-to" / "export-to-a-collector.md"

PROGRAM: Final = """
import sys
from importlib import import_module
from pathlib import Path
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from memoryos_uow import RecordExists
from tests.leftovers import open_ledger, write

exporters = "opentelemetry.exporter.otlp.proto." + sys.argv[2]
tracers = TracerProvider()
tracers.add_span_processor(BatchSpanProcessor(import_module(exporters + ".trace_exporter").OTLPSpanExporter()))
trace.set_tracer_provider(tracers)
reader = PeriodicExportingMetricReader(import_module(exporters + ".metric_exporter").OTLPMetricExporter())
metrics.set_meter_provider(MeterProvider([reader]))

with open_ledger(Path(sys.argv[1])) as ledger:  # finishes what the killed process left
    with tracers.get_tracer("app").start_as_current_span("request"):
        write(ledger, 3)
    try:
        with ledger.unit(space_id="s", band="RED") as uow:
            uow["notes"].create("k", {"n": 1})
            uow["notes"].create("k", {"n": 1})
    except RecordExists:
        pass
"""


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, int], Received]]:
    """A collector's ports, and what comes out at its other end."""
    with receiver() as (address, received), collector(tmp_path_factory.mktemp("rotel"), address) as ports:
        yield ports, received


def attributes(one: Any) -> dict[str, Any]:
    """The attributes of a span or a data point."""
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in one.attributes}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_units_arrive_with_all_that_is_promised(
    tmp_path: Path, wire: tuple[dict[str, int], Received], protocol: str
) -> None:
    """A program recovers a killed process's unit, commits one and fails with one: spans, link and metrics arrive."""
    ports, received = wire
    received.spans.clear()
    received.metrics.clear()
    place = begun(tmp_path / "ledger")
    trace_id = dies_in_a_trace(place, "PUBLISH")
    endpoint = f"http://127.0.0.1:{ports[protocol]}"
    done = subprocess.run(
        python(PROGRAM, place, protocol),
        env=environment(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_EXPORTER_OTLP_INSECURE="true"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    received.wait_for(lambda it: len(it.spans) == 4 and names.RECOVERIES in it.metrics)
    spans = {span.name: span for span in received.spans}
    assert spans.keys() == {names.SPAN_RECOVER, names.SPAN_COMMIT, names.SPAN_ROLLBACK, "request"}

    recover, commit, rollback = (spans[name] for name in (names.SPAN_RECOVER, names.SPAN_COMMIT, names.SPAN_ROLLBACK))
    assert [link.trace_id.hex() for link in recover.links] == [trace_id]
    assert recover.trace_id.hex() != trace_id
    assert attributes(recover)[names.OUTCOME] == "rolled_forward"
    assert (commit.parent_span_id, commit.trace_id) == (spans["request"].span_id, spans["request"].trace_id)
    assert (attributes(commit)[names.STORES], attributes(commit)[names.WRITES]) == (4, 4)
    assert commit.kind == commit.SPAN_KIND_INTERNAL
    assert attributes(rollback).keys() == {names.ID, names.BAND, names.OUTCOME, names.ERROR_TYPE}
    assert attributes(rollback)[names.ERROR_TYPE] == "RecordExists"
    assert (rollback.status.code, rollback.status.message) == (rollback.status.STATUS_CODE_ERROR, "")

    metrics = received.metrics
    wanted = {signal.name: signal.unit for signal in names.SIGNALS if signal.kind in ("histogram", "counter")}
    assert {name: metrics[name].unit for name in metrics} == {
        name: unit for name, unit in wanted.items() if name != names.RETRIES_TOTAL
    }
    points = {attributes(point)[names.OUTCOME]: point for point in metrics[names.DURATION].histogram.data_points}
    assert points.keys() == {"committed", "failed"}
    nanoseconds = commit.end_time_unix_nano - commit.start_time_unix_nano
    assert points["committed"].sum == pytest.approx(nanoseconds / 1e9)
    assert list(points["committed"].explicit_bounds)[:3] == [0.0005, 0.001, 0.0025]
    assert sum(point.as_int for point in metrics[names.UNITS].sum.data_points) == 2
    assert metrics[names.UNITS].sum.is_monotonic


def blocks() -> list[str]:
    """What the page has its reader type."""
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_page_works_as_written(tmp_path: Path) -> None:
    """The page's program, sent to the page's collector by the page's commands, is printed there."""
    _, write, run, _, collect = blocks()
    grpc, http = free_ports(2)

    def shell(text: str) -> dict[str, Any]:
        text = text.replace("4317", str(grpc)).replace("4318", str(http))
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # noqa: PTH120
        return {"args": ["sh", "-c", text], "cwd": tmp_path, "env": environment(PATH=path, **own_paths(tmp_path))}

    process = subprocess.Popen(
        **shell(collect), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    too_late = threading.Timer(WAIT_S, os.killpg, (process.pid, signal.SIGTERM))
    too_late.start()
    try:
        assert process.stdout is not None
        assert "Starting Rotel" in process.stdout.readline()
        wait_until_listening(http, process, tmp_path / "rotel.log")
        for command in (write, run):
            done = subprocess.run(**shell(command), capture_output=True, text=True, check=False)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        wanted = {"add a note", names.SPAN_COMMIT, names.DURATION, names.UNITS}
        for line in process.stdout:
            wanted -= {name for name in wanted if line.rstrip().endswith(name)}
            if not wanted:
                break
        assert not wanted
    finally:
        too_late.cancel()
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate()
