"""The sinks: CloudEvents over HTTP and as lines, and what each answer means."""

from __future__ import annotations

import io
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Message, MessageRejected, RelayReport, SinkError, SinkUnavailable, UsageError
from memoryos_uow.sinks import HttpSink, NdjsonSink
from tests.relay.kit import publish
from tests.relay.server import receiver
from tests.units import MARKER

if TYPE_CHECKING:
    from memoryos_uow import Ledger

MESSAGE = Message(
    uow_id="01a20569-7104-7000-ac0d-9df1b2981f81",
    seq=2,
    attempt=1,
    space_id="shared:haus",
    band="AMBER",
    topic="note.updated",
    key="ключ",
    payload_json='{"id":"n1","big":1e22,"x":12345678901234567890,"text":"ä\U0001f95b"}',
    created_ts="2026-11-22T19:20:31.110000Z",
    origin="example.com/house hold",
)


def test_a_message_is_a_cloud_event() -> None:
    """All required attributes are there, in ASCII on one line, and the payload is digit by digit what was stored."""
    text = MESSAGE.cloud_event()
    assert text.isascii()
    assert "\n" not in text
    assert '"big":1e22,"x":12345678901234567890' in text
    assert json.loads(text) == {
        "specversion": "1.0",
        "id": "01a20569-7104-7000-ac0d-9df1b2981f81:2",
        "source": "example.com/house%20hold",
        "type": "note.updated",
        "time": "2026-11-22T19:20:31.110000Z",
        "datacontenttype": "application/json",
        "uowspace": "shared:haus",
        "uowband": "AMBER",
        "partitionkey": "ключ",
        "data": MESSAGE.payload,
    }


# HTTP


def test_events_are_posted_in_structured_mode_over_one_connection() -> None:
    """Path, query and headers are as told, the content type is that of CloudEvents, and the connection is kept."""
    with receiver() as there:
        sink = HttpSink(there.url, headers={"Authorization": "Bearer x", "X-A": ""})
        sink(MESSAGE)
        sink(MESSAGE)
        sink.close()
        sink.close()
    assert there.connections == 1
    assert there.events == [json.loads(MESSAGE.cloud_event())] * 2
    path, headers = there.requests[0]
    assert path == "/events?to=me"
    assert headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    assert headers["Authorization"] == "Bearer x"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (200, None),
        (299, None),
        (301, SinkError),
        (400, MessageRejected),
        (401, SinkUnavailable),
        (404, SinkUnavailable),
        (409, MessageRejected),
        (422, MessageRejected),
        (429, SinkUnavailable),
        (500, SinkError),
        (501, SinkError),
        (503, SinkUnavailable),
    ],
)
def test_each_status_has_its_meaning(status: int, error: type[SinkError] | None) -> None:
    """2xx took it; what says nothing of the message is an outage; other 4xx reject it; the rest failed this time."""
    with receiver(lambda _event: status) as there:
        sink = HttpSink(there.url)
        if error is None:
            sink(MESSAGE)
        else:
            with pytest.raises(SinkError) as caught:
                sink(MESSAGE)
            assert type(caught.value) is error
            assert str(status) in str(caught.value)
            assert caught.value.retryable == (error is not MessageRejected)
        sink.close()
    assert len(there.events) == 1


def test_a_connection_that_was_closed_meanwhile_is_made_anew() -> None:
    """A receiver may close an idle connection; the next message does not fail for it."""
    with receiver() as there:
        there.close_after_each = True
        sink = HttpSink(there.url)
        for _ in range(3):
            sink(MESSAGE)
        sink.close()
    assert there.connections == len(there.events) == 3


def test_a_receiver_that_is_not_there_is_an_outage() -> None:
    """A refused connection, and a name that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/", "http://nowhere.invalid/", f"http://{'a' * 64}.invalid/"):
        with pytest.raises(SinkUnavailable, match="cannot be reached"):
            HttpSink(url)(MESSAGE)


def test_a_receiver_that_hangs_is_a_failed_delivery() -> None:
    """After the timeout, whichever message it was: another one may be answered."""
    end = threading.Event()

    def hang(_event: Any) -> int:
        end.wait(30)
        return 204

    with receiver(hang) as there:
        with pytest.raises(SinkError, match=r"within 0\.05 s") as caught:
            HttpSink(there.url, timeout=0.05)(MESSAGE)
        end.set()
    assert type(caught.value) is SinkError


def test_a_receiver_that_breaks_off_is_a_failed_delivery() -> None:
    """Also one that speaks something else than HTTP; on a new connection it is not tried twice."""
    for answer in (b"", b"garbage\r\n\r\n"):
        with socket.create_server(("127.0.0.1", 0)) as server:
            accepted: list[int] = []

            def serve(server: socket.socket = server, answer: bytes = answer, accepted: list[int] = accepted) -> None:
                connection, _ = server.accept()
                accepted.append(1)
                with connection:
                    connection.recv(65_536)
                    connection.sendall(answer)

            thread = threading.Thread(target=serve)
            thread.start()
            with pytest.raises(SinkError, match="broke off") as caught:
                HttpSink(f"http://127.0.0.1:{server.getsockname()[1]}/")(MESSAGE)
            thread.join()
        assert (type(caught.value), len(accepted)) == (SinkError, 1)


def test_https_checks_the_certificate() -> None:
    """A receiver without a trusted certificate, here one that speaks no TLS at all, is out of reach."""
    with receiver() as there, pytest.raises(SinkUnavailable):
        HttpSink(there.url.replace("http:", "https:"), timeout=5)(MESSAGE)
    assert there.events == []


@pytest.mark.parametrize(
    "options",
    [
        {"url": 7},
        {"url": ""},
        {"url": "ftp://example.com"},
        {"url": "http://"},
        {"url": "example.com/events"},
        {"url": "http://[::1"},
        {"url": "http://example.com:port/"},
        {"url": f"http://user:{MARKER}@example.com/"},
        {"url": "http://example.com/#f"},
        {"url": "http://example.com/a b"},
        {"url": "http://example.com/ä"},
        {"url": "http://example.com/\r\nX: y"},
        {"headers": [("a", "b")]},
        {"headers": {"a": f"{MARKER}\r\nb: c"}},
        {"headers": {"a b": MARKER}},
        {"headers": {"": MARKER}},
        {"headers": {"a": 7}},
        {"headers": {"a": "ä"}},
        {"timeout": 0},
        {"timeout": True},
        {"timeout": "10"},
        {"timeout": float("inf")},
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any]) -> None:
    """Each with a hint; secrets in them are not repeated."""
    with pytest.raises(UsageError) as caught:
        HttpSink(**{"url": "http://example.com/", **options})
    assert caught.value.hint
    assert MARKER not in str(caught.value)


def test_a_sink_shows_no_secrets() -> None:
    """Its repr has the host only."""
    sink = HttpSink(f"https://example.com/{MARKER}", headers={"Authorization": MARKER})
    assert repr(sink) == "<HttpSink https://example.com>"


def test_a_relay_delivers_over_http(ledger: Ledger) -> None:
    """From publish to the receiver and out of the outbox; a rejected event is parked, the others arrive."""
    publish(ledger, "a", "bad", "b")
    with receiver(lambda event: 422 if event["type"] == "bad" else 202) as there:
        sink = HttpSink(there.url)
        assert ledger.relay(sink, until_empty=True) == RelayReport(delivered=2, parked=1, left=1)
        sink.close()
    assert [event["type"] for event in there.events] == ["a", "bad", "b"]
    assert there.events[0]["source"] == ledger.origin


# Lines


def test_events_are_written_as_lines_and_flushed() -> None:
    """One line each, at once."""

    class Stream(io.StringIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    stream = Stream()
    sink = NdjsonSink(stream)
    sink(MESSAGE)
    sink(MESSAGE)
    assert stream.getvalue() == f"{MESSAGE.cloud_event()}\n" * 2
    assert stream.flushed == 2


def test_a_stream_that_cannot_be_written_is_an_outage() -> None:
    """A closed one, for example: nothing is parked for it."""
    stream = io.StringIO()
    stream.close()
    with pytest.raises(SinkUnavailable):
        NdjsonSink(stream)(MESSAGE)
    with pytest.raises(UsageError):
        NdjsonSink("stdout")  # type: ignore[arg-type]
