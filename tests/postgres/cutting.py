"""A small TCP proxy in front of a server, which cuts a connection right before or right after a chosen message."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from types import TracebackType

_PIECE: Final = 65_536
_NEVER: Final = b"\0never said\0"


class Cutting:
    """Passes on what client and server say, until the client says `word` for the first time.

    Args:
        url: the address of the server, over TCP.
        word: bytes of the message at which to cut; later connections are served in full.
        before: cut before the message has reached the server; else after the server has answered it, so that only
            the answer is lost.
        then_silent: refuse every connection after the cut, until `heal`.
    """

    def __init__(self, url: str, word: bytes, *, before: bool = False, then_silent: bool = False) -> None:
        parts = urlsplit(url)
        host, port = _target(url)
        self._server = (host, port)
        self._word, self._before, self._then_silent = word, before, then_silent
        self.cuts = 0
        self._is_silent = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: Final = self._listening.getsockname()[1]
        user = parts.netloc.rpartition("@")[0] or "postgres"
        self.url: Final = urlunsplit(("postgresql", f"{user}@127.0.0.1:{self.port}", parts.path, "", ""))
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = [self._listening]

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join()

    def heal(self) -> None:
        """Let connections through again, and cut none."""
        self._word, self._is_silent = _NEVER, False

    def _run(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._sockets.append(client)
                if self._is_silent:
                    client.close()
                    continue
                server = socket.create_connection(self._server)
                self._sockets.append(server)
                cut = threading.Event()
                self._run(self._pass_on, client, server, cut)
                self._run(self._answer, server, client, cut)

    def _pass_on(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while said := client.recv(_PIECE):
                if self._word in said:
                    self._is_silent, self._word = self._then_silent, _NEVER
                    self.cuts += 1
                    if self._before:
                        break
                    cut.set()
                elif self._is_silent:
                    break
                server.sendall(said)
        _close(client, server)

    @staticmethod
    def _answer(server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
        with suppress(OSError):
            while said := server.recv(_PIECE):
                if cut.is_set():  # the server has done it, and nobody will know
                    break
                client.sendall(said)
        _close(client, server)


def _target(url: str) -> tuple[str, int]:
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(url)
    return str(parts["host"]), int(str(parts["port"]))


def _close(*both: socket.socket) -> None:
    for one in both:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
