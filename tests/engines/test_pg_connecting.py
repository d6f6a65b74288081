"""Connections to a PostgreSQL server: what is asked of it, what is refused, and what holds for each connection."""

from __future__ import annotations

import shutil
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from memoryos_uow._names import Durability
from memoryos_uow.engines._pg_connecting import Connecting
from memoryos_uow.engines.postgres import PostgresEngine
from memoryos_uow.errors import LedgerBusy, LedgerError, UsageError
from tests.engines.pg_engines import behind_proxy, engine_at, insert, name_of, port_of, values
from tests.postgres_proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.postgres_proxy import Link
    from tests.postgres_server import Server

FULL, NORMAL = Durability.FULL, Durability.NORMAL


def opened(url: str, durability: Durability = FULL) -> PostgresEngine:
    """An engine, which the caller closes."""
    return PostgresEngine.open(url, durability=durability, busy_timeout_s=5)


def refused(url: str, durability: Durability = FULL) -> str:
    """What is said where a ledger cannot be opened; the error's own text and all that hangs on it."""
    with pytest.raises((LedgerError, UsageError)) as caught:
        opened(url, durability)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return str(caught.value)


def setting(engine: PostgresEngine, name: str, **options: Any) -> str:
    """What a setting is inside a transaction."""
    tx = engine.begin(**options)
    try:
        found: str = tx.rows("SELECT current_setting(?)", (name,))[0][0]
    finally:
        tx.rollback()
    return found


# Refusals


def test_a_server_that_is_down() -> None:
    """Said at once, with the place and without the password; worth another try."""
    with pytest.raises(LedgerError, match="cannot be reached") as caught:
        opened("postgresql://me:secret@127.0.0.1:1/db")
    assert caught.value.retryable
    assert "127.0.0.1:1/db" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_wrong_password(pg_server: Server) -> None:
    """Neither the right nor the wrong one is in what is said."""
    pg_server.rows("CREATE ROLE locked LOGIN PASSWORD 'open sesame'")
    try:
        said = refused(pg_server.url(user="locked", password="wrong one"))
        with engine_like(pg_server.url(user="locked", password="open sesame")) as engine:
            assert "sesame" not in repr(engine) + engine.place + repr(engine._connecting.address)
    finally:
        pg_server.rows("DROP ROLE locked")
    assert "refused the user or the password" in said
    assert "wrong one" not in said
    assert "sesame" not in said


@contextmanager
def engine_like(url: str) -> Iterator[PostgresEngine]:
    """Lend an engine on whatever is there."""
    engine = opened(url)
    try:
        yield engine
    finally:
        engine.close()


def test_no_such_database(pg_server: Server) -> None:
    """The hint says how to make one."""
    assert "createdb" in refused(pg_server.url("nowhere"))


def test_too_old_a_server(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions before 14 lack what is needed."""
    monkeypatch.setattr(psycopg.ConnectionInfo, "server_version", property(lambda _: 130_012))
    assert "PostgreSQL 13" in refused(pg_url)


def test_a_server_that_does_not_sync(pg_start: Callable[..., Server]) -> None:
    """With fsync off no commit is durable, so ``full`` is refused; ``normal`` promises less."""
    server = pg_start(fsync="off")
    assert "fsync = off" in refused(server.url())
    with engine_like_normal(server.url()) as engine:
        assert not engine.facts.fsync
    server.stop()


@contextmanager
def engine_like_normal(url: str) -> Iterator[PostgresEngine]:
    """The same at durability ``normal``."""
    engine = opened(url, NORMAL)
    try:
        yield engine
    finally:
        engine.close()


def test_a_server_that_takes_no_more(pg_server: Server, pg_url: str) -> None:
    """That passes: busy, and worth another try."""
    name = name_of(pg_url)
    pg_server.rows(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    pg_server.rows("CREATE ROLE crowd LOGIN")
    try:
        with pytest.raises(LedgerBusy, match="takes no connection"):
            opened(pg_server.url(name, user="crowd"))
    finally:
        pg_server.rows("DROP ROLE crowd")


def test_psycopg_is_missing(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint names the extra."""
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UsageError, match=r"memoryos-uow\[postgres\]"):
        opened(pg_url)


def test_a_replica_is_read(pg_start: Callable[..., Server]) -> None:
    """It cannot be written to, which is said before anything is tried."""
    primary = pg_start()
    with engine_at(primary.url()) as engine:
        insert(engine, 1)
        replica = primary.replica(synchronous=True)
        insert(engine, 2)
    with engine_like(replica.url()) as engine:
        assert engine.read_only
        assert values(engine) == [1, 2]
        engine.sync_log()
        with pytest.raises(LedgerError, match="it is a replica"):
            engine.begin()
    replica.stop()
    primary.stop()


def test_a_primary_that_was_told_to_take_no_writes(pg_url: str) -> None:
    """As after a failover behind the same address: connections that are there are given up, new ones are tried."""
    with engine_at(pg_url) as engine:
        insert(engine, 1)
        tx = engine.begin()
        tx.later("SET TRANSACTION READ ONLY")
        with pytest.raises(LedgerError, match="can only be read"):
            tx.execute("INSERT INTO t(x) VALUES (2)")
        tx.rollback()
        assert engine._pool._idle == []
        insert(engine, 3)
        assert values(engine) == [1, 3]


def test_a_connection_that_dies_while_it_is_set_up(pg_url: str) -> None:
    """Nothing is left of it."""
    with behind_proxy(pg_url) as (engine, proxy):
        proxy.cut_all()
        proxy.before = lambda message: message.link.cut() if b"synchronous_commit" in message.body else None
        with pytest.raises(LedgerError, match="is gone"):
            values(engine)
        proxy.before = None
        assert values(engine) == []


# Settings


def test_a_lax_default_is_overruled(pg_url: str) -> None:
    """Whatever database and role say: at ``full`` a commit waits for the disk, and for standbys."""
    name = name_of(pg_url)
    with psycopg.connect(pg_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off".encode())
    with engine_at(pg_url) as engine:
        assert engine.facts.synchronous_commit == "off"
        assert setting(engine, "synchronous_commit") == "on"
        assert setting(engine, "synchronous_commit", relaxed=True) == "off"
        assert engine.syncs_commits
    with psycopg.connect(pg_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = remote_apply".encode())
    with engine_at(pg_url) as engine:
        assert setting(engine, "synchronous_commit") == "remote_apply"
    with engine_at(pg_url, durability=NORMAL) as engine:
        assert not engine.syncs_commits
        engine.sync_log()


def test_the_server_notices_a_machine_that_vanished(pg_url: str) -> None:
    """It asks its client whether it is there, so that what that one has locked does not stay locked for hours."""
    with engine_at(pg_url) as engine:
        found = [setting(engine, f"tcp_keepalives_{name}") for name in ("idle", "interval", "count")]
    assert found == ["10", "5", "3"]


def test_waiting_is_bounded(pg_url: str) -> None:
    """By the ledger's time, or by less; none at all is the shortest that there is, for 0 would mean no bound."""
    with engine_at(pg_url, busy_timeout_s=7) as engine:
        assert setting(engine, "lock_timeout") == "7s"
        assert setting(engine, "lock_timeout", wait_s=2) == "2s"
        assert setting(engine, "lock_timeout", wait_s=0) == "1ms"
        assert setting(engine, "lock_timeout", wait_s=100) == "7s"
    with engine_at(pg_url, busy_timeout_s=1e9) as engine:
        assert setting(engine, "lock_timeout") == f"{2**31 - 1}ms"


# Poolers


@contextmanager
def pooled(url: str) -> Iterator[Proxy]:
    """Lend a proxy that looks like a pooler: sessions have other numbers than clients were told."""
    proxy = Proxy(port_of(url), pid=1)
    try:
        yield proxy
    finally:
        proxy.close()


@pytest.mark.parametrize("durability", [FULL, NORMAL])
def test_through_a_pooler_nothing_of_a_session_is_relied_upon(pg_url: str, durability: Durability) -> None:
    """Settings travel with each transaction, leave nothing behind, and no statement is prepared."""
    name = name_of(pg_url)
    with psycopg.connect(pg_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = local".encode())
    with pooled(pg_url) as proxy, engine_at(proxy.url(pg_url), durability=durability, busy_timeout_s=3) as engine:
        assert engine.facts.is_pooled
        assert setting(engine, "lock_timeout") == "3s"
        assert setting(engine, "synchronous_commit") == ("on" if durability is FULL else "off")
        assert setting(engine, "synchronous_commit", relaxed=True) == "off"
        for number in range(10):
            insert(engine, number)
        with engine.reader() as reader:
            assert reader.rows("SELECT current_setting('lock_timeout')") == [("0",)]
            assert reader.rows("SELECT count(*) FROM pg_prepared_statements") == [(0,)]
            assert reader.rows("SELECT current_setting('synchronous_commit')") == [("local",)]


def test_a_pooler_can_be_named_and_denied(pg_url: str) -> None:
    """Whoever knows better than what it looks like says so in the address."""
    mark = "&" if "?" in pg_url else "?"
    with engine_at(f"{pg_url}{mark}uow_pooler=transaction") as engine:
        assert engine.facts.is_pooled
        insert(engine, 1)
    with pooled(pg_url) as proxy, engine_at(f"{proxy.url(pg_url)}&uow_pooler=none") as engine:
        assert not engine.facts.is_pooled


def test_a_pooler_that_breaks_transactions_apart(pg_url: str) -> None:
    """It is refused when the ledger is opened: here one that ends the session as soon as a transaction is open."""
    with pooled(pg_url) as proxy:

        def end(link: Link, kind: bytes, body: bytes) -> None:
            if kind == b"Z" and body == b"T":
                link.deaf = True
                link.cut()

        proxy.hears = end
        assert "does not keep a transaction on one connection" in refused(proxy.url(pg_url))


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="PgBouncer is not installed")
def test_pgbouncer(pg_server: Server, pg_url: str, tmp_path: Path) -> None:
    """In transaction mode everything works, in statement mode the ledger is refused."""
    name = name_of(pg_url)
    with (
        pgbouncer(pg_server, tmp_path, "transaction") as port,
        engine_at(f"postgresql://postgres@127.0.0.1:{port}/{name}") as engine,
    ):
        assert engine.facts.is_pooled
        threads = [threading.Thread(target=insert, args=(engine, *range(n * 10, n * 10 + 10))) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert values(engine) == list(range(80))
    with pgbouncer(pg_server, tmp_path, "statement") as port:
        said = refused(f"postgresql://postgres@127.0.0.1:{port}/{name}")
    assert "does not keep a transaction" in said


@contextmanager
def pgbouncer(server: Server, place: Path, mode: str) -> Iterator[int]:
    """Run a real PgBouncer in front of a server, as whoever may run it; lend its port."""
    import os
    import socket
    import time

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    (place / "users.txt").write_text('"postgres" ""\n')
    settings = place / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nauth_type = any\nauth_file = {place / 'users.txt'}\npool_mode = {mode}\n"
        "unix_socket_dir =\ndefault_pool_size = 2\n"
    )
    for path in (place, *place.parents):
        if path.stat().st_uid == os.getuid() and path.parent != path:
            path.chmod(path.stat().st_mode | 0o055)
    as_nobody: dict[str, Any] = {"user": "nobody"} if os.geteuid() == 0 else {}
    process = subprocess.Popen(
        ["pgbouncer", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_nobody
    )
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.01)
        yield port
    finally:
        process.kill()
        process.wait()


def test_nothing_foreign_leaves_a_failed_connection(pg_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a signal handler raises while a connection is set up goes on as it is."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Connecting, "_settle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened(pg_url)
