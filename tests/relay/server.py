"""A real HTTP receiver of events, in threads of the test, that answers as it is told."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Receiver:
    """What was received, and how to answer: `answer` gets the event and returns a status."""

    def __init__(self, answer: Callable[[dict[str, Any]], int]) -> None:
        self.answer = answer
        self.events: list[dict[str, Any]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self.close_after_each = False
        """Close the connection after an answer without having said so, as a receiver does that has waited too long."""
        self.url = ""

    @property
    def ids(self) -> list[str]:
        """The ids of the events, in order."""
        return [event["id"] for event in self.events]


@contextmanager
def receiver(answer: Callable[[dict[str, Any]], int] = lambda _event: 204) -> Iterator[Receiver]:
    """Run a receiver on a free port of this machine."""
    there = Receiver(answer)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            with lock:
                there.connections += 1

        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                there.requests.append((self.path, dict(self.headers)))
                there.events.append(event)
            status = there.answer(event)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            self.close_connection = there.close_after_each

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing: clients die here on purpose."""

    server = Server(("127.0.0.1", 0), Handler)
    there.url = f"http://127.0.0.1:{server.server_address[1]}/events?to=me"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield there
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
