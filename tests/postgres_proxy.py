"""A proxy between a client and a PostgreSQL server that sees each message, counts them, and cuts wherever it is told.

It understands as much of the protocol as it takes to tell messages apart
(https://www.postgresql.org/docs/current/protocol-message-formats.html); connections are not encrypted.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

_PLAIN: Final = {"sslmode": "disable", "gssencmode": "disable"}
_HEADER: Final = struct.Struct("!cI")
_KEY_DATA: Final = b"K"
_ROUND_TRIPS: Final = (b"Q", b"S")
"""What a client sends before it waits: a simple query, or the end of what it has pipelined."""


class Link:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.deaf = False
        """What the server says is thrown away from now on."""

    def cut(self) -> None:
        """End the connection on both sides, with a reset on the client's."""
        with contextlib.suppress(OSError):
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()


class Message:
    """One message from the client, before it is forwarded."""

    def __init__(self, link: Link, number: int, kind: bytes, body: bytes) -> None:
        self.link = link
        self.number = number
        self.kind = kind
        self.body = body
        self.forward = True
        """False: it is lost."""


class Proxy:
    """Forwards to a server at a port of 127.0.0.1, or wherever `server` is set to later."""

    def __init__(self, port: int, *, pid: int | None = None) -> None:
        """`pid`: what clients are told as the number of their session, as poolers do."""
        self.server = port
        self.messages = 0
        self.trips = 0
        self.sent: list[bytes] = []
        self.before: Callable[[Message], None] | None = None
        """Called with each message before it is forwarded."""
        self.after: Callable[[Message], None] | None = None
        """Called once it was forwarded."""
        self.hears: Callable[[Link, bytes, bytes], None] | None = None
        """Called with kind and body of each message from the server before it is forwarded."""
        self.links: list[Link] = []
        self._pid = pid
        self._mutex = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, url: str) -> str:
        """Return the address of the same database through this proxy."""
        parts = urlsplit(url)
        options = {name: value for name, value in parse_qsl(parts.query) if name not in ("host", "port")}
        login = f"{parts.username or 'postgres'}:{parts.password}" if parts.password else parts.username or "postgres"
        place = f"{login}@127.0.0.1:{self.port}"
        return urlunsplit(parts._replace(netloc=place, query=urlencode({**options, **_PLAIN})))

    def count(self, call: Callable[[], object]) -> int:
        """Return how many round trips `call` takes."""
        before = self.trips
        call()
        return self.trips - before

    def cut_all(self) -> None:
        """End every connection."""
        for link in list(self.links):
            link.cut()

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()

    # Its threads

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.server))
                except OSError:
                    client.close()
                    continue
                for side in (client, server):
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                link = Link(client, server)
                self.links.append(link)
                for work in (self._from_client, self._from_server):
                    threading.Thread(target=self._guarded, args=(work, link), daemon=True).start()

    @staticmethod
    def _guarded(work: Callable[[Link], None], link: Link) -> None:
        try:
            work(link)
        except OSError:
            pass
        finally:
            link.cut()

    def _from_client(self, link: Link) -> None:
        with link.client.makefile("rb") as stream:
            self._forward(link, stream)

    def _forward(self, link: Link, stream: BinaryIO) -> None:
        length = stream.read(4)
        link.server.sendall(length + stream.read(_length(length) - 4))
        while head := stream.read(5):
            kind, size = _HEADER.unpack(head)
            body = stream.read(size - 4)
            with self._mutex:
                self.messages += 1
                self.trips += kind in _ROUND_TRIPS
                message = Message(link, self.messages, kind, body)
            if self.before is not None:
                self.before(message)
            if message.forward:
                link.server.sendall(head + body)
            if self.after is not None:
                self.after(message)

    def _from_server(self, link: Link) -> None:
        with link.server.makefile("rb") as stream:
            self._answer(link, stream)

    def _answer(self, link: Link, stream: BinaryIO) -> None:
        while head := stream.read(5):
            kind, size = _HEADER.unpack(head)
            body = stream.read(size - 4)
            if kind == _KEY_DATA and self._pid is not None:
                body = struct.pack("!I", self._pid) + body[4:]
            if self.hears is not None:
                self.hears(link, kind, body)
            if not link.deaf:
                link.client.sendall(head + body)


def _length(raw: bytes) -> int:
    return int(struct.unpack("!I", raw)[0]) if len(raw) == 4 else 4
