"""A collector that is down, or never answers, harms no unit and holds up no queue: what it costs is the SDK's."""

from __future__ import annotations

import logging
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from memoryos_uow import Ledger, telemetry
from memoryos_uow.observers import _names as names
from memoryos_uow.stores import DocumentStore
from tests.watching import WAIT_S, watching

if TYPE_CHECKING:
    from pathlib import Path

exporters = pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")


@pytest.mark.parametrize("collector", ["down", "silent"])
def test_units_do_not_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture, collector: str) -> None:
    """Every unit commits and everybody else is told, while the exporter is given up on again and again."""
    caplog.set_level(logging.CRITICAL + 1)  # the SDK's own complaints
    before = telemetry.failed(), telemetry.dropped()
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        if collector == "silent":
            server.listen()  # connections are made, and nobody ever reads from them
        address = f"http://127.0.0.1:{server.getsockname()[1]}/v1/traces"
        exporter = exporters.OTLPSpanExporter(endpoint=address, timeout=0.2)
        processor = BatchSpanProcessor(exporter, schedule_delay_millis=10, max_export_batch_size=4)
        seen = stack.enter_context(watching(processor))
        ledger = stack.enter_context(
            Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("notes")], durability="normal")
        )
        for number in range(20):
            with ledger.unit(space_id="s", band="GREEN") as uow:
                uow["notes"].create(str(number), number)
        assert telemetry.flush(WAIT_S)
        assert len(ledger.units(status="committed")) == 20
        assert len(seen.spans()) == len(seen.events()) == seen.total(names.UNITS) == 20
    assert (telemetry.failed(), telemetry.dropped()) == before
