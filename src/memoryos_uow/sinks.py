"""Sinks for `Ledger.relay`: where messages of the outbox can go. Any function that takes a `Message` is one too.

```python
from memoryos_uow import Ledger

with Ledger.open("memory.db") as ledger:
    with ledger.unit(space_id="shared:household", band="GREEN") as uow:
        uow.publish("note.created", {"id": "n1"})
    report = ledger.relay(lambda message: print(message.topic, message.payload), until_empty=True)
print(report.delivered, report.left)
```
```output
note.created {'id': 'n1'}
1 0
```

A sink that returns has taken the message. Whatever it raises leaves the message in the outbox: `SinkUnavailable` says
that the receiver is out of reach (the relay rests, nothing is parked), `MessageRejected` that it will never take this
message (parked at once), and any other exception that this delivery failed (tried again, parked after some attempts).
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from memoryos_uow._messages import Message
from memoryos_uow.errors import MessageRejected, SinkError, SinkUnavailable, UsageError

if TYPE_CHECKING:
    import ssl
    from typing import TextIO

__all__ = ["HttpSink", "Message", "MessageRejected", "NdjsonSink", "SinkError", "SinkUnavailable"]

_CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
_SAY_NOTHING_OF_THE_MESSAGE: Final = frozenset({401, 403, 404, 405, 407, 408, 425, 429, 502, 503, 504})
"""Answers about the sender, the address or the moment: another message would have got the same one."""
_ANSWER_BYTES_MAX: Final = 65_536
_TIMEOUT_MAX_S: Final = 3_600.0
_OK, _REDIRECT, _CLIENT_ERROR, _SERVER_ERROR = 200, 300, 400, 500


class HttpSink:
    """Posts each message as a CloudEvent 1.0 (structured mode, JSON) to one address.

    A status of 2xx means taken. 4xx rejects the message, so that it is parked, except for 401, 403, 404, 405, 407, 408,
    425 and 429, which say nothing of the message; like these, 502, 503, 504 and a refused connection mean that the
    receiver is out of reach. Everything else, a timeout or 500 among it, is a failed delivery. Redirections are not
    followed, and proxies that the environment names are not used. The connection is kept open between messages. Threads
    may share a sink.

    Args:
        url: an ``http://`` or ``https://`` address, without user name and password.
        headers: more headers, such as ``{"Authorization": "Bearer ..."}``; they override ours.
        timeout: seconds that connecting, and each wait for an answer, may take; keep it well below the relay's lease.
        ssl_context: for a certificate authority or client certificate of your own.

    Raises:
        UsageError: an argument is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._secure, self._host, self._port, self._target = _check_url(url)
        self._headers = {"Content-Type": _CONTENT_TYPE, "User-Agent": "memoryos-uow", **_check_headers(headers)}
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= _TIMEOUT_MAX_S:
            raise UsageError("timeout is a number of seconds above 0, at most 3,600.", hint="Nothing was delivered.")
        self._timeout_s = float(timeout)
        self._ssl_context = ssl_context
        self._local = threading.local()

    def __repr__(self) -> str:
        return f"<HttpSink {'https' if self._secure else 'http'}://{self._host}>"

    def __call__(self, message: Message) -> None:
        """Deliver `message`.

        Raises:
            SinkError: it was not taken; `SinkUnavailable` and `MessageRejected` say more.
        """
        status = self._post(message.cloud_event().encode())
        if _OK <= status < _REDIRECT:
            return
        if status in _SAY_NOTHING_OF_THE_MESSAGE:
            raise SinkUnavailable(f"The receiver answered {status}, which says nothing of the message.")
        if _CLIENT_ERROR <= status < _SERVER_ERROR:
            raise MessageRejected(f"The receiver rejected the message with {status}.")
        raise SinkError(f"The receiver answered {status}.")

    def _post(self, body: bytes) -> int:
        kept: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if kept is not None:
            with suppress(ConnectionError, http.client.HTTPException):
                return self._exchange(kept, body)
            # Closed by the receiver since the last message, most likely: once more on a new one.
        try:
            return self._exchange(self._connected(), body)
        except (ConnectionError, http.client.HTTPException) as error:
            raise SinkError(f"The exchange with the receiver broke off ({type(error).__name__}).") from error

    def _connected(self) -> http.client.HTTPConnection:
        if self._secure:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout_s, context=self._ssl_context
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        try:
            connection.connect()
        except (OSError, UnicodeError) as error:
            connection.close()
            raise SinkUnavailable(f"The receiver cannot be reached ({type(error).__name__}).") from error
        self._local.connection = connection
        return connection

    def _exchange(self, connection: http.client.HTTPConnection, body: bytes) -> int:
        done = False
        try:
            connection.request("POST", self._target, body, self._headers)
            answer = connection.getresponse()
            answer.read(_ANSWER_BYTES_MAX)
            done = answer.isclosed() and not answer.will_close
        except TimeoutError as error:
            raise SinkError(f"The receiver did not answer within {self._timeout_s:g} s.") from error
        finally:
            if not done:
                self._forget(connection)
        return answer.status

    def _forget(self, connection: http.client.HTTPConnection) -> None:
        connection.close()
        self._local.connection = None

    def close(self) -> None:
        """Close this thread's connection; the next message opens a new one."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            self._forget(connection)


class NdjsonSink:
    """Writes each message as a CloudEvent 1.0 on one line of ASCII JSON to a text stream, and flushes it.

    Raises:
        UsageError: `stream` cannot be written to.
    """

    def __init__(self, stream: TextIO) -> None:
        if not callable(getattr(stream, "write", None)) or not callable(getattr(stream, "flush", None)):
            raise UsageError(
                f"An NdjsonSink writes to a text stream, not to a {type(stream).__name__}.",
                hint="Nothing was delivered. For example NdjsonSink(sys.stdout).",
            )
        self._stream = stream

    def __call__(self, message: Message) -> None:
        """Deliver `message`.

        Raises:
            SinkUnavailable: the stream cannot be written to.
        """
        try:
            self._stream.write(message.cloud_event() + "\n")
            self._stream.flush()
        except (OSError, ValueError) as error:
            raise SinkUnavailable(f"The stream cannot be written to ({type(error).__name__}).") from error


def _check_url(url: object) -> tuple[bool, str, int | None, str]:
    """Return whether it is secure, host, port, and the path with the query."""
    problem = None
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _bad_url("is no address") from None
    if parts.scheme not in ("http", "https") or not host:
        problem = "is no http:// or https:// address"
    elif parts.username is not None or parts.password is not None:
        problem = "holds a user name or password"
    elif parts.fragment:
        problem = "has a fragment"
    elif not isinstance(url, str) or not url.isascii() or any(c.isspace() or not c.isprintable() for c in url):
        problem = "has characters that must be percent-encoded"
    if problem or not host:
        raise _bad_url(problem or "is no address")
    target = parts.path or "/"
    return parts.scheme == "https", host, port, f"{target}?{parts.query}" if parts.query else target


def _bad_url(problem: str) -> UsageError:
    return UsageError(
        f"The receiver's URL {problem}.",
        hint='For example "https://example.com/events"; credentials go into headers={"Authorization": ...}.',
    )


def _check_headers(headers: object) -> dict[str, str]:
    if headers is None:
        return {}
    if not isinstance(headers, Mapping) or not all(_is_header(name, value) for name, value in headers.items()):
        raise UsageError(
            "headers is a dict of header names and values: visible ASCII, and no line feeds.",
            hint='Nothing was delivered. For example headers={"Authorization": "Bearer ..."}.',
        )
    return dict(headers)


def _is_header(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, str)
        and name.isascii()
        and bool(name)
        and all(character.isalnum() or character in "!#$%&'*+-.^_`|~" for character in name)
        and value.isascii()
        and value.replace("\t", "").isprintable()
    )
