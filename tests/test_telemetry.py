"""What applications see of telemetry: silence by default, nothing lost at exit or in a fork, a structlog processor."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace

from memoryos_uow import telemetry
from tests.units import environment, python, run

if TYPE_CHECKING:
    from pathlib import Path

UNITS = """
import sys
from memoryos_uow import Ledger, UnitOfWorkError
from memoryos_uow.stores import DocumentStore


def units(**options):
    with Ledger.open(sys.argv[1], stores=[DocumentStore("notes")], durability="normal", **options) as ledger:
        for number in range(3):
            with ledger.unit(space_id="s", band="GREEN") as uow:
                uow["notes"].create(str(number), number)
        try:
            with ledger.unit(space_id="s", band="GREEN") as uow:
                uow["notes"].create("0", 0)
        except UnitOfWorkError:
            pass
        with ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].create("4", 4)
            uow.rollback()
"""

SDK = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult, BatchSpanProcessor


class Print(SpanExporter):
    def export(self, spans):
        for span in spans:
            print(span.name, flush=True)
        return SpanExportResult.SUCCESS


def set_up():
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Print()))
    trace.set_tracer_provider(provider)
"""


@pytest.mark.parametrize("mode", ["background", "inline"])
def test_silent_without_a_receiver(tmp_path: Path, mode: str) -> None:
    """Nothing is printed, nothing imported and no thread started where nobody has asked for anything."""
    end = """
import threading
assert [thread.name for thread in threading.enumerate()] == ["MainThread"], threading.enumerate()
assert not {"opentelemetry", "structlog", "logging"} & sys.modules.keys()
"""
    code = f"{UNITS}\nbefore = set(sys.modules)\nunits(telemetry={mode!r})\n{end}"
    done = subprocess.run(
        python(code, tmp_path / "memory.db"), env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("order", ["the SDK first", "the library first", "in between"])
def test_nothing_is_lost_at_exit(tmp_path: Path, order: str) -> None:
    """Whenever the SDK was set up, the exit hands over what waits before the SDK shuts itself down."""
    codes = {
        "the SDK first": [SDK, "set_up()", UNITS, "units()"],
        "the library first": [UNITS, "import memoryos_uow.telemetry", SDK, "set_up()", "units()"],
        "in between": [
            UNITS,
            "import structlog\nstructlog.configure(processors=[lambda *_: ''], logger_factory=lambda *_: Quiet())",
            "class Quiet:\n    def info(self, *_): pass\n    warning = info",
            f"{SDK}\nset_up_late = set_up",
            "with Ledger.open(sys.argv[1], stores=[DocumentStore('notes')]) as ledger:",
            "    with ledger.unit(space_id='early', band='GREEN') as uow:",
            "        uow['notes'].create('k', 1)",
            "from memoryos_uow import telemetry\nassert telemetry.flush(30)",
            "set_up_late()",
            "units()",
        ],
    }
    printed = run("\n".join(codes[order]), tmp_path / "memory.db").splitlines()
    assert printed == ["uow commit"] * 3 + ["uow rollback"] * 2


def test_exit_does_not_wait_for_a_receiver_that_never_answers(tmp_path: Path) -> None:
    """An exporter that blocks for ever delays the exit by a bounded time; the units are in the ledger."""
    block = """
from opentelemetry.sdk.trace import SpanProcessor
import threading
class Block(SpanProcessor):
    def on_end(self, span):
        threading.Event().wait()
provider = TracerProvider()
provider.add_span_processor(Block())
trace.set_tracer_provider(provider)
units()
print("done", flush=True)
"""
    process = subprocess.run(
        python(f"{UNITS}\n{SDK}\n{block}", tmp_path / "memory.db"),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "done\n", "")


def test_a_forked_child_tells_of_its_own_units(tmp_path: Path) -> None:
    """Parent and child each tell of their own units, once."""
    code = """
import os
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from memoryos_uow import telemetry
provider = TracerProvider()
class Say(Print):
    def export(self, spans):
        for span in spans:
            os.write(1, f"{os.getpid() == parent} {span.name}\\n".encode())
        return SpanExportResult.SUCCESS
provider.add_span_processor(SimpleSpanProcessor(Say()))
trace.set_tracer_provider(provider)
parent = os.getpid()
units()
if os.fork() == 0:
    sys.argv[1] += "2"
    units()
    assert telemetry.flush(30)
    os._exit(0)
assert os.wait()[1] == 0
assert telemetry.flush(30)
"""
    printed = run(f"{UNITS}\n{SDK}\n{code}", tmp_path / "memory.db").splitlines()
    names = ["uow commit"] * 3 + ["uow rollback"] * 2
    assert sorted(printed) == sorted(f"{parent} {name}" for parent in (True, False) for name in names)


def test_trace_ids_are_those_of_the_current_span() -> None:
    """The processor adds both ids in hex inside a span, and leaves events outside alone."""
    context = trace.SpanContext(trace_id=0xABC, span_id=0xDEF, is_remote=False)
    event: dict[str, Any] = {"event": "hello"}
    with trace.use_span(trace.NonRecordingSpan(context)):
        telemetry.add_trace_ids(None, "info", event)
    assert event == {"event": "hello", "trace_id": f"{0xABC:032x}", "span_id": f"{0xDEF:016x}"}
    assert telemetry.add_trace_ids(None, "info", {"event": "hello"}) == {"event": "hello"}


def test_trace_ids_without_opentelemetry() -> None:
    """The processor neither needs nor loads it."""
    code = """
import sys
from memoryos_uow import telemetry
print(telemetry.add_trace_ids(None, "info", {"a": 1}), "opentelemetry" in sys.modules)
print(telemetry.flush(), telemetry.dropped(), telemetry.failed())
"""
    assert run(code) == "{'a': 1} False\nTrue 0 0\n"
