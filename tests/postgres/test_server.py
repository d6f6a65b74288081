"""The PostgreSQL servers that tests use: durable when asked, killed, promoted, and gone when their owner is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.processes import environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.postgres_server import Databases, Server


def test_each_test_has_databases_of_its_own(pg_databases: Databases) -> None:
    """Two databases are two; dropping them ends what is still open or prepared in them."""
    one, other = pg_databases.new(), pg_databases.new()
    with psycopg.connect(one) as connection:
        connection.execute("CREATE TABLE t(x int)")
        connection.execute("PREPARE TRANSACTION 'left over'")
        with psycopg.connect(other) as elsewhere:
            assert elsewhere.execute("SELECT to_regclass('t')").fetchone() == (None,)
        pg_databases.drop_all()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(one)


def test_what_was_committed_outlives_a_kill(pg_start: Callable[..., Server]) -> None:
    """A durable server that is killed has its commits and prepared transactions when it is started again."""
    server = pg_start(durable=True)
    server.rows("CREATE TABLE t(x int)")
    with psycopg.connect(server.url()) as connection:
        connection.execute("INSERT INTO t VALUES (1)")
        connection.execute("PREPARE TRANSACTION 'kept'")
        server.kill9()
    with pytest.raises(psycopg.OperationalError):
        server.connect()
    server.restart()
    server.rows("COMMIT PREPARED 'kept'")
    assert server.rows("SELECT x FROM t") == [(1,)]
    server.stop()


def test_a_synchronous_replica_has_every_commit_and_can_be_promoted(pg_start: Callable[..., Server]) -> None:
    """What a killed primary had acknowledged is on its synchronous replica, which then takes writes."""
    primary = pg_start()
    replica = primary.replica(synchronous=True)
    primary.rows("CREATE TABLE t AS SELECT 1 AS x")
    primary.kill9()
    replica.promote()
    replica.rows("INSERT INTO t VALUES (2)")
    assert replica.rows("SELECT x FROM t ORDER BY x") == [(1,), (2,)]
    replica.stop()


def test_a_role_named_locked_needs_its_password(pg_server: Server) -> None:
    """Over TCP the role `locked` is asked for its password, everybody else is not."""
    pg_server.rows("CREATE ROLE locked LOGIN PASSWORD 'open sesame'")
    psycopg.connect(pg_server.url(user="locked", password="open sesame")).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(pg_server.url(user="locked", password="wrong"))
    pg_server.rows("DROP ROLE locked")


def test_no_server_outlives_its_owner(pg_start: Callable[..., Server]) -> None:
    """When the process that started a server is killed, the server ends and its folder is removed."""
    code = (
        "import os, signal; from tests.postgres_server import start_server; server = start_server()\n"
        "print(server.directory.parent, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment())
    folder = Path(child.stdout.strip())
    # Its standard error is the warden's and the server's too: that it was read to its end says they are gone.
    assert folder.name.startswith("mu-pg-"), child.stderr
    assert not folder.exists()
