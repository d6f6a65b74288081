"""A real collector, rotel, and a small receiver behind it that keeps what the collector passes on."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.watching import WAIT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

rotel: Any = pytest.importorskip("rotel", reason="rotel has no wheel for this interpreter or system")
AGENT: Final = Path(rotel.__file__).parent / "rotel-agent"
if subprocess.run([AGENT, "--version"], capture_output=True, check=False).returncode:
    pytest.skip(
        "rotel's program does not run with this interpreter: it needs libpython as a library", allow_module_level=True
    )


class Received:
    """What has arrived, decoded: spans and metrics of OTLP, those of this library only."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.resources: list[dict[str, str]] = []
        self._changed = threading.Condition()

    def add(self, path: str, body: bytes) -> None:
        """Take one request."""
        with self._changed:
            if path == "/v1/traces":
                for traces in ExportTraceServiceRequest.FromString(body).resource_spans:
                    self.resources.append({one.key: one.value.string_value for one in traces.resource.attributes})
                    self.spans += [span for scope in traces.scope_spans for span in scope.spans]
            else:
                for metrics in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for scope in metrics.scope_metrics:
                        self.metrics |= {metric.name: metric for metric in scope.metrics}
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[Received], object]) -> None:
        """Return once `condition` holds."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), WAIT_S), (self.spans, list(self.metrics))


@contextmanager
def receiver() -> Iterator[tuple[str, Received]]:
    """Listen for OTLP over HTTP; yield the address and what has arrived."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.add(self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def own_paths(directory: Path) -> dict[str, str]:
    """The environment that keeps a collector from the paths that all collectors share."""
    return {"ROTEL_PID_FILE": str(directory / "rotel.pid"), "ROTEL_LOG_FILE": str(directory / "rotel.log")}


@contextmanager
def collector(directory: Path, forward_to: str) -> Iterator[dict[str, int]]:
    """Run rotel, which passes on to `forward_to`; yield its port for each protocol."""
    grpc, http = free_ports(2)
    options = {
        "--otlp-grpc-endpoint": f"127.0.0.1:{grpc}",
        "--otlp-http-endpoint": f"127.0.0.1:{http}",
        "--exporter": "otlp",
        "--otlp-exporter-endpoint": forward_to,
        "--otlp-exporter-protocol": "http",
        "--batch-timeout": "20ms",
    }
    command = [str(AGENT), "start", *(word for option in options.items() for word in option)]
    log = directory / "rotel.out"
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **own_paths(directory)})
        try:
            for port in (grpc, http):
                wait_until_listening(port, process, log)
            yield {"grpc": grpc, "http": http}
        finally:
            process.terminate()
            process.wait(WAIT_S)


def wait_until_listening(port: int, process: subprocess.Popen[Any], log: Path) -> None:
    """Return once somebody accepts connections; fail at once if the process ends."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
        break
    pytest.fail(f"rotel does not listen: {log.read_text()}")
