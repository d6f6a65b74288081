"""Units on a ledger in PostgreSQL whose connection dies: what the caller is told, and that it is true."""

from __future__ import annotations

import logging
import socket
import threading
import traceback
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from memoryos_uow import Ledger
from memoryos_uow.errors import InDoubtError, LedgerError
from memoryos_uow.stores import DocumentStore
from tests.both import rows
from tests.engines.pg_engines import port_of
from tests.postgres_proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres_proxy import Message
    from tests.postgres_server import Server

_RIGHT, _WRONG = "opensesame", "sesameopen"


@pytest.fixture
def proxy(pg_url: str) -> Iterator[Proxy]:
    """What stands between the ledger and its server."""
    made = Proxy(port_of(pg_url))
    yield made
    made.close()


@pytest.fixture
def ledger(pg_url: str, proxy: Proxy) -> Iterator[Ledger]:
    """A ledger with one unit, whose connections go through the proxy; its sequencer is at rest."""
    with Ledger.open(proxy.url(pg_url), stores=[DocumentStore("notes")], busy_timeout=20) as opened:
        put(opened, "first")
        yield opened


def put(ledger: Ledger, key: str) -> Any:
    """Write one document; return the unit."""
    with ledger.unit(space_id="s", band="GREEN") as uow:
        uow["notes"].create(key, {})
    assert uow.receipt is not None
    uow.receipt.wait(20)
    return uow


def keys(ledger: Ledger) -> list[str]:
    """What is there."""
    return sorted(ledger["notes"].keys(space_id="s"))


def decides(message: Message) -> bool:
    """Whether this is the commit of a unit: its row went before it on the same connection."""
    if b"INSERT INTO unit_of_work" in message.body or b"uow_pending" in message.body:
        deciding.add(message.link)
    return message.link in deciding and message.kind == b"S"


deciding: set[object] = set()


def test_a_lost_idle_connection_is_nobodys_business(ledger: Ledger, proxy: Proxy) -> None:
    """The next unit commits as if nothing had been."""
    for number in range(3):
        proxy.cut_all()
        assert put(ledger, f"k{number}").status == "committed"
    assert keys(ledger) == ["first", "k0", "k1", "k2"]


def test_a_connection_lost_in_the_middle(ledger: Ledger, proxy: Proxy) -> None:
    """Typed and worth another try, which `run` makes by itself; nothing of the first one is there."""
    attempts: list[int] = []

    def body(uow: Any) -> None:
        attempts.append(1)
        uow.sql("SELECT 1")
        if len(attempts) == 1:
            proxy.cut_all()
        uow["notes"].create("k", {"attempt": len(attempts)})

    assert ledger.run(body, space_id="s", band="GREEN").receipt is not None
    assert len(attempts) == 2
    assert ledger["notes"].get("k", space_id="s") == {"attempt": 2}


@pytest.mark.parametrize("arrives", [True, False])
def test_a_lost_answer_is_found_out(ledger: Ledger, proxy: Proxy, *, arrives: bool) -> None:
    """A commit that the server carried out is no error; one that never reached it is one, and nothing is there."""
    deciding.clear()

    def cut(message: Message) -> None:
        if arrives and decides(message):
            proxy.before = None
            message.link.deaf = True
        elif not arrives and b"INSERT INTO unit_of_work" in message.body:
            proxy.before = None
            message.forward = False
            message.link.cut()

    def end(link: Any, kind: bytes, _: bytes) -> None:
        if link.deaf and kind == b"Z":
            link.cut()

    proxy.before, proxy.hears = cut, end
    if arrives:
        uow = put(ledger, "k")
        assert uow.status == "committed"
        assert keys(ledger) == ["first", "k"]
        assert uow.receipt.hash == ledger.receipt(uow.uow_id).hash
        return
    with pytest.raises(LedgerError, match="is gone") as caught:
        put(ledger, "k")
    assert caught.value.retryable
    assert not caught.value.in_doubt
    assert keys(ledger) == ["first"]
    assert ledger.get(str(caught.value.uow_id)).status == "failed"


def held(proxy: Proxy, word: bytes) -> tuple[threading.Event, threading.Event]:
    """Hold the message in which `word` stands on its way, while its client sees the connection end.

    Returns: an event that says that it is held, and one that lets it go on to the server.
    """
    arrived, released = threading.Event(), threading.Event()
    seen: set[object] = set()
    kept: list[bytes] = []

    def hold(message: Message) -> None:
        if b"INSERT INTO unit_of_work" in message.body:
            seen.add(message.link)
        if message.link not in seen or (not kept and word not in message.body):
            return
        message.forward = False
        kept.append(message.kind + (len(message.body) + 4).to_bytes(4, "big") + message.body)
        if message.kind == b"S":  # the whole round trip is here
            proxy.before = None
            message.link.deaf = True
            message.link.client.shutdown(socket.SHUT_RDWR)
            arrived.set()
            released.wait(30)
            message.link.server.sendall(b"".join(kept))

    proxy.before = hold
    return arrived, released


def test_a_commit_that_is_still_on_its_way_is_waited_for(ledger: Ledger, proxy: Proxy, pg_url: str) -> None:
    """The row in its place has the same key, and waits; so the answer is final, whichever it is."""
    arrived, released = held(proxy, b"COMMIT")

    def let_go() -> None:
        arrived.wait(30)
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
        while not rows(pg_url, waiting)[0][0]:
            pass
        released.set()

    thread = threading.Thread(target=let_go)
    thread.start()
    uow = put(ledger, "k")
    thread.join()
    assert arrived.is_set()
    assert uow.status == "committed"
    assert "k" in keys(ledger)


def test_a_commit_that_comes_too_late_fails(ledger: Ledger, proxy: Proxy, pg_url: str) -> None:
    """It finds the row that was written in its place: what its caller was told stays true."""
    arrived, released = held(proxy, b"INSERT INTO unit_of_work")
    with pytest.raises(LedgerError) as caught:
        put(ledger, "k")
    assert arrived.is_set()
    released.set()
    alone = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE '%transaction%'"
    while rows(pg_url, alone)[0][0]:
        pass
    assert keys(ledger) == ["first"]
    assert ledger.get(str(caught.value.uow_id)).status == "failed"


def test_a_server_that_is_gone_leaves_doubt(pg_url: str, proxy: Proxy) -> None:
    """It is said so, with the unit's id; once the server answers, the ledger says what became of it."""
    deciding.clear()
    with Ledger.open(proxy.url(pg_url), stores=[DocumentStore("notes")], busy_timeout=0.2) as ledger:
        put(ledger, "first")
        home = proxy.server

        def vanish(message: Message) -> None:
            if decides(message):
                proxy.before, proxy.server = None, 1
                message.forward = False
                proxy.cut_all()

        proxy.before = vanish
        with pytest.raises(InDoubtError, match="connection was lost during the commit") as caught:
            put(ledger, "k")
        assert caught.value.in_doubt
        proxy.server = home
        # The server had it: what came too late was only the answer.
        while ledger.get(str(caught.value.uow_id)).status != "committed":
            pass
        assert keys(ledger) == ["first", "k"]
        assert put(ledger, "m").status == "committed"


def test_a_password_is_nowhere(pg_server: Server, pg_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not in what the ledger shows, nor in errors, tracebacks and logs of one that works and of one that does not."""
    name = pg_url.split("/")[3].split("?", maxsplit=1)[0]
    pg_server.rows("CREATE ROLE locked LOGIN SUPERUSER PASSWORD 'opensesame'")
    caplog.set_level(logging.DEBUG)
    proxy = Proxy(pg_server.port)
    shown = []
    try:
        with Ledger.open(
            proxy.url(pg_server.url(name, user="locked", password=_RIGHT)),
            stores=[DocumentStore("notes")],
            busy_timeout=0.1,
        ) as ledger:
            put(ledger, "k")
            shown += [repr(ledger), repr(ledger._opened.engine), ledger._opened.engine.place]
            proxy.server = 1
            proxy.cut_all()
            with pytest.raises(LedgerError) as caught:
                put(ledger, "m")
            shown += traceback.format_exception(caught.value)
            proxy.server = pg_server.port
        with pytest.raises(LedgerError) as caught:
            Ledger.open(proxy.url(pg_server.url(name, user="locked", password=_WRONG)))
        shown += traceback.format_exception(caught.value)
    finally:
        proxy.close()
        with psycopg.connect(pg_server.url(name), autocommit=True) as connection:
            connection.execute("REASSIGN OWNED BY locked TO postgres")
            connection.execute("DROP ROLE locked")
    assert "sesame" not in "".join([*shown, caplog.text])
