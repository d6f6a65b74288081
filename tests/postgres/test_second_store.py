"""PostgresStore: documents in a database beside the ledger's, what it asks of that, and what it says if that fails."""

from __future__ import annotations

import io
import json
import logging
import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from memoryos_uow import ConflictError, Ledger, Status, StoreError, StoreUnavailable, UsageError, _schema
from memoryos_uow._names import Durability
from memoryos_uow._open_ledger import OpenLedger
from memoryos_uow.abc import Capability, Fate, LastResource, OutsideStore, Publisher
from memoryos_uow.stores import DocumentStore, PostgresStore, SQLiteFileStore
from memoryos_uow.stores._pg_address import read_address
from memoryos_uow.stores._pg_errors import translate
from memoryos_uow.testing._forks import fork, kill_own_process
from tests.units import SPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memoryos_uow import UnitOfWork
    from tests.postgres_server import Databases, Server

SECRET: Final = "hunter2-and-more"


def open_ledger(directory: Path, *stores: PostgresStore, **options: Any) -> Ledger:
    """A ledger with documents, a second file, and these."""
    kept = [DocumentStore("notes"), SQLiteFileStore("archive", "archive.db"), *stores]
    return Ledger.open(directory / "memory.db", stores=kept, **options)


def unit(ledger: Ledger, **options: Any) -> UnitOfWork:
    """A unit in the usual space."""
    return ledger.unit(**{"space_id": SPACE, "band": "GREEN", **options})


@pytest.fixture
def ledger(tmp_path: Path, pg_url: str) -> Iterator[Ledger]:
    """A ledger with ``orders`` in a database."""
    with open_ledger(tmp_path, PostgresStore("orders", pg_url, timeout=1.0)) as opened:
        yield opened


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """What a stranger reads in the database."""
    with closing(psycopg.connect(url)) as connection:
        return connection.execute(query.encode()).fetchall()


# --- what it is ------------------------------------------------------------------------------------------------------


def test_it_says_what_it_is() -> None:
    """By default it decides; it can prepare, too; and its description shows no password."""
    store = PostgresStore("orders", f"postgresql://me:{SECRET}@db.example:5433/shop?sslmode=require")
    assert isinstance(store, LastResource)
    assert isinstance(store, OutsideStore)
    assert isinstance(store, Publisher)
    assert (store.name, store.kind, store.capability) == ("orders", "postgresql", Capability.LAST_RESOURCE)
    assert repr(store) == "PostgresStore('orders', 'db.example:5433/shop')"
    assert SECRET not in repr(vars(store))
    assert PostgresStore("orders", "postgres:///shop", two_phase=True).capability is Capability.TWO_PHASE


@pytest.mark.parametrize(
    ("url", "place", "recorded"),
    [
        (f"postgresql://me:{SECRET}@a:1,b:2/shop", "a:1,b:2/shop", "postgresql://me@a:1,b:2/shop"),
        (f"postgresql:///shop?host=h&password={SECRET}&user=me", "h/shop", "postgresql:///shop?host=h&user=me"),
        (f"postgres://?dbname=shop&sslpassword={SECRET}", "localhost/shop", "postgresql://?dbname=shop"),
    ],
)
def test_secrets_stay_out_of_sight(url: str, place: str, recorded: str) -> None:
    """Wherever in the address a password stands, what is shown or recorded is without it."""
    address = read_address(url, "orders")
    assert (address.url, address.place, address.recorded) == (url, place, recorded)
    assert SECRET not in f"{address!r}{address.place}{address.recorded}"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"url": "shop"}, "address of the database cannot be read"),
        ({"url": "postgresql://host"}, "address of the database cannot be read"),
        ({"url": "postgresql://host/a/b"}, "address of the database cannot be read"),
        ({"url": "postgresql://[host/db"}, "address of the database cannot be read"),
        ({"url": b"postgresql://host/db"}, "address of the database cannot be read"),
        ({"url": "mysql://host/db"}, "address of the database cannot be read"),
        ({"timeout": 0}, "A timeout is a number of seconds above 0"),
        ({"timeout": float("inf")}, "A timeout is a number of seconds above 0"),
        ({"timeout": True}, "A timeout is a number of seconds above 0"),
        ({"two_phase": 1}, "two_phase is True or False"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], problem: str) -> None:
    """What cannot be meant is refused at once, in words that do not quote the address."""
    with pytest.raises(UsageError, match=problem):
        PostgresStore(**{"name": "orders", "url": "postgresql://host/db", **arguments})


def test_documents_are_kept_as_they_are(ledger: Ledger, pg_url: str) -> None:
    """The text is byte for byte the receipt's, beside it for queries as JSONB; a delete removes the row."""
    value = {"b": [1, 2.5, None, "ü\u2603"], "a": {"deep": True}}
    with unit(ledger) as uow:
        uow["orders"].create("o1", value)
        uow["orders"].create("gone", 1)
        assert uow["orders"].get("o1") == value
    with unit(ledger) as uow:
        uow["orders"].delete("gone")
        uow["orders"].delete("o1")
        uow["orders"].create("o1", value)
    [(text, deep, writer)] = rows(pg_url, "SELECT value, data -> 'a' ->> 'deep', uow_id FROM uow_records")
    assert (json.loads(text), deep, writer) == (value, "true", uow.uow_id)
    assert ledger["orders"].get("o1", space_id=SPACE) == value
    assert list(ledger["orders"].keys(space_id=SPACE)) == ["o1"]
    assert ledger.verify().ok


def test_ledgers_and_stores_share_a_database(tmp_path: Path, pg_url: str) -> None:
    """Two stores of one ledger, and another ledger with a store of the same name, do not meet."""
    for name, names in (("one", ("orders", "stock")), ("two", ("orders",))):
        (tmp_path / name).mkdir()
        with open_ledger(tmp_path / name, *(PostgresStore(store, pg_url) for store in names)) as ledger:
            with unit(ledger) as uow:
                for store in names:
                    uow[store].create("k", f"{name} {store}")
            assert uow.status is Status.COMMITTED
            assert [ledger[store].get("k", space_id=SPACE) for store in names] == [f"{name} {store}" for store in names]
            assert ledger.verify().ok


def test_opened_again_without_the_applications_code(ledger: Ledger, tmp_path: Path) -> None:
    """The ledger records the address without its password, which is enough where libpq finds that elsewhere."""
    with unit(ledger) as uow:
        uow["orders"].create("o1", 1)
    ledger.close()
    with closing(sqlite3.connect(tmp_path / "memory.db")) as connection:
        [(config,)] = connection.execute("SELECT config FROM uow_stores WHERE name = 'orders'").fetchall()
    assert json.loads(config)["url"].startswith("postgresql://postgres@")
    with Ledger.open(tmp_path / "memory.db", stores="recorded") as recorded:
        assert recorded["orders"].get("o1", space_id=SPACE) == 1


def test_nothing_stays_in_a_session(ledger: Ledger) -> None:
    """A pooler may lend the connection to somebody else between transactions: nothing of ours is left in it."""
    for number in range(9):
        with unit(ledger) as uow:
            uow["orders"].upsert("o", number)
            assert uow["orders"].get("o") == number
    database = ledger._opened.store("orders")._database  # type: ignore[attr-defined]
    assert database._connections.rows(
        "SELECT (SELECT count(*) FROM pg_prepared_statements), current_setting('lock_timeout'),"
        " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')",
        {},
    ) == [(0, "0", 0)]


def test_connections_are_not_shared_over_a_fork(ledger: Ledger) -> None:
    """A child that opens the ledger anew does not disturb the connections of its parent."""
    with unit(ledger) as uow:
        uow["orders"].create("o", 1)
    store: Any = ledger._opened.store("orders")

    def child() -> None:
        store.close()
        store.fate("somebody")

    assert fork(child).wait() == (None, "")
    with unit(ledger) as uow:
        uow["orders"].update("o", 2)
    assert ledger["orders"].get("o", space_id=SPACE) == 2


# --- how it takes part -----------------------------------------------------------------------------------------------


def test_two_databases_prepare(tmp_path: Path, pg_databases: Databases) -> None:
    """Where one unit writes to two that would decide, both prepare, and a table of the ledger's may take part."""
    stores = [PostgresStore(name, pg_databases.new()) for name in ("orders", "stock")]
    with open_ledger(tmp_path, *stores) as ledger:
        with unit(ledger) as uow:
            uow["orders"].create("k", 1)
            uow["stock"].create("k", 1)
            uow.sql("CREATE TABLE audit(what)")
        assert uow.status is Status.COMMITTED
        assert {ledger[name].get("k", space_id=SPACE) for name in ("orders", "stock")} == {1}


def test_it_prepares_where_it_cannot_decide(ledger: Ledger) -> None:
    """A unit that holds the ledger's lock is prepared, as the server can do that."""
    with unit(ledger) as uow:
        uow["orders"].create("k", 1)
        assert list(uow.sql("SELECT 1")) == [(1,)]
    assert (uow.status, ledger["orders"].get("k", space_id=SPACE)) == (Status.COMMITTED, 1)


def test_others_wait_for_locked_records(ledger: Ledger, pg_url: str) -> None:
    """Somebody else's lock ends the unit after the timeout, with an error that can be retried."""
    with unit(ledger) as uow:
        uow["orders"].create("k", 1)
    with psycopg.connect(pg_url) as other:
        other.execute("SELECT 1 FROM uow_records FOR UPDATE")
        with pytest.raises(StoreUnavailable, match="locked for too long") as caught, unit(ledger) as uow:
            uow["orders"].update("k", 2)
        assert (caught.value.retryable, uow.status) == (True, Status.FAILED)
    with unit(ledger) as uow:
        uow["orders"].update("k", 2)
    assert ledger["orders"].get("k", space_id=SPACE) == 2


def test_changed_behind_our_back(ledger: Ledger, pg_url: str) -> None:
    """What others change in the table is noticed when read, and named by verify."""
    with unit(ledger) as uow:
        uow["orders"].create("k", 1)
        uow["orders"].create("l", 1)
    with psycopg.connect(pg_url) as other:
        other.execute("UPDATE uow_records SET value = '2' WHERE key = 'k'")
        other.execute(
            "INSERT INTO uow_records SELECT ledger_id, store, space_id, 'strange', uow_id, value"
            " FROM uow_records LIMIT 1"
        )
    with pytest.raises(StoreError, match="not as this library wrote it"):
        ledger["orders"].get("k", space_id=SPACE)
    assert not ledger.verify().ok


def test_a_prepared_transaction_rolled_back_by_hand_is_told(tmp_path: Path, pg_url: str) -> None:
    """What an administrator rolls back after the decision leaves the unit in doubt: nobody guesses."""
    with open_ledger(tmp_path, PostgresStore("orders", pg_url, two_phase=True)) as ledger:
        database: Any = ledger._opened.store("orders")._database  # type: ignore[attr-defined]
        publish = database.commit_prepared

        def meddle(uow_id: str) -> None:
            with psycopg.connect(pg_url, autocommit=True) as other:
                other.execute(f"ROLLBACK PREPARED '{database.gid(uow_id)}'".encode())
            publish(uow_id)

        database.commit_prepared = meddle
        with unit(ledger) as uow:
            uow["orders"].create("k", 1)
        database.commit_prepared = publish
        assert (uow.status, uow.in_doubt) == (Status.COMMITTED, ("orders",))
        assert ledger.recover().in_doubt == (uow.uow_id,)


def test_a_name_that_somebody_else_has_prepared(ledger: Ledger, tmp_path: Path, pg_url: str) -> None:
    """A transaction that is prepared under the unit's name is not ours to finish, and the unit says so."""
    with psycopg.connect(pg_url) as stranger:
        stranger.execute("CREATE TABLE theirs(x int)")
        uow = unit(ledger)
        store: Any = ledger._opened.store("orders")
        stranger.execute(f"PREPARE TRANSACTION '{store._database.gid(uow.uow_id)}'".encode())
    store._two_phase = True
    ledger._opened._registry._last.clear()
    with pytest.raises(StoreError, match="Somebody else has prepared"), uow:
        uow["orders"].create("k", 1)
    assert uow.status is Status.FAILED


def test_a_sweep_leaves_others_alone(ledger: Ledger, pg_url: str) -> None:
    """Recovery rolls back what was prepared for units this ledger does not know, and nothing of anybody else's."""
    store: Any = ledger._opened.store("orders")
    names = {"mu1:another-ledger:orders:u1", "their own", store._database.gid("u1")[:-1].replace("orders", "orderz")}
    with psycopg.connect(pg_url) as stranger:
        for number, name in enumerate([*sorted(names), store._database.gid("lost")]):
            stranger.execute(f"CREATE TABLE t{number}(x int)".encode())
            stranger.execute(f"PREPARE TRANSACTION '{name}'".encode())
    assert ledger._opened.recovery.sweep() == 1
    assert {
        gid for (gid,) in rows(pg_url, "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
    } == names
    assert store.fate("lost") is Fate.ABORTED


def test_the_database_refuses_at_its_commit(ledger: Ledger, pg_url: str) -> None:
    """What a deferred trigger of the application's refuses is refused for sure: nothing of the unit is written."""
    with psycopg.connect(pg_url) as other:
        other.execute(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN IF new.value = '13' THEN RAISE EXCEPTION USING errcode = '23514'; END IF; RETURN NULL; END $$"
        )
        other.execute(
            "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON uow_records DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION no()"
        )
    with pytest.raises(StoreError, match=r"refused \(23514") as caught, unit(ledger) as uow:
        uow["orders"].create("k", 13)
        uow["notes"].create("n", 1)
    assert (uow.status, caught.value.store, caught.value.retryable) == (Status.FAILED, "orders", False)
    assert ledger["notes"].get("n", space_id=SPACE) is None
    with unit(ledger) as uow:
        uow["orders"].create("k", 12)
    assert ledger["orders"].get("k", space_id=SPACE) == 12


def test_two_that_lock_each_other_out(ledger: Ledger, pg_url: str) -> None:
    """A deadlock with somebody else's transaction is a conflict, or a lock waited for in vain: both can be retried."""
    with unit(ledger) as uow:
        uow["orders"].create("a", 1)
    database: Any = ledger._opened.store("orders")._database  # type: ignore[attr-defined]
    with psycopg.connect(pg_url) as other:
        other.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        other.execute("UPDATE uow_records SET uow_id = uow_id")
        with pytest.raises(StoreUnavailable), unit(ledger) as uow:
            uow["orders"].update("a", 2)
    error = psycopg.errors.DeadlockDetected()
    assert isinstance(translate(error, "somewhere", "orders"), ConflictError)
    assert database.prepared() == []


def test_records_that_are_decided_and_not_applied(tmp_path: Path, pg_url: str) -> None:
    """Between the database's commit and the ledger's rows, readers see what the database has decided."""
    store = PostgresStore("orders", pg_url)
    with open_ledger(tmp_path, store) as ledger, unit(ledger) as uow:
        uow["orders"].create("k", 1)
        uow["orders"].create("gone", 1)

    def die() -> None:
        dying = PostgresStore("orders", pg_url)
        decide = dying.decide

        def decided(uow_id: str) -> None:
            decide(uow_id)
            kill_own_process()

        dying.decide = decided  # type: ignore[method-assign]
        with open_ledger(tmp_path, dying) as dead, unit(dead) as uow:
            uow["orders"].update("k", 2)
            uow["orders"].delete("gone")
            uow["orders"].create("new", 2)

    fork(die).wait()
    opened = OpenLedger.open(
        tmp_path / "memory.db",
        stores=[DocumentStore("notes"), SQLiteFileStore("archive", "archive.db"), store],
        durability=Durability.FULL,
        origin=None,
        migrate=True,
        busy_timeout=5.0,
        limits=None,
        allow_triggers=(),
        recover=False,
    )
    with Ledger(opened) as ledger:
        read = [ledger["orders"].get(key, space_id=SPACE) for key in ("k", "gone", "new")]
        assert read == [2, None, None]  # which records there are, the ledger says when it has recovered
        assert len(ledger.recover().rolled_forward) == 1
        assert [ledger["orders"].get(key, space_id=SPACE) for key in ("k", "gone", "new")] == [2, None, 2]


def test_a_server_that_learns_to_prepare(tmp_path: Path, pg_start: Callable[..., Server]) -> None:
    """Restarted with other settings, a server is asked again by a store that is to prepare."""
    server = pg_start(max_prepared_transactions=0)
    open_ledger(tmp_path, PostgresStore("orders", server.url())).close()
    with pytest.raises(StoreError, match="max_prepared_transactions is 0"):
        open_ledger(tmp_path, PostgresStore("orders", server.url(), two_phase=True))
    server._settings["max_prepared_transactions"] = 4
    server.restart()
    with open_ledger(tmp_path, PostgresStore("orders", server.url(), two_phase=True)) as ledger, unit(ledger) as uow:
        uow["orders"].create("k", 1)
    assert uow.status is Status.COMMITTED
    server.stop()


# --- servers that cannot serve ---------------------------------------------------------------------------------------


def test_without_prepared_transactions(tmp_path: Path, pg_start: Callable[..., Server]) -> None:
    """On stock settings it decides; it refuses to be opened to prepare, and two such in one unit."""
    server = pg_start(max_prepared_transactions=0)
    with pytest.raises(StoreError, match="max_prepared_transactions is 0"):
        open_ledger(tmp_path, PostgresStore("orders", server.url(), two_phase=True))
    stores = [PostgresStore(name, server.url()) for name in ("orders", "stock")]
    with open_ledger(tmp_path, *stores) as ledger:
        with unit(ledger) as uow:
            uow["orders"].create("k", 1)
        with pytest.raises(UsageError, match="cannot prepare"), unit(ledger) as uow:
            uow["orders"].update("k", 2)
            uow["stock"].create("k", 1)
        with pytest.raises(UsageError, match="holds the ledger's lock"), unit(ledger) as uow:
            uow["orders"].update("k", 2)
            uow.sql("SELECT 1")
        with pytest.raises(ConflictError), unit(ledger) as uow:
            uow["orders"].get("k")
            with unit(ledger, nested="independent") as other:
                other["orders"].update("k", 3)
            uow["orders"].update("k", 4)
        assert ledger["orders"].get("k", space_id=SPACE) == 3
        assert ledger.recover().in_doubt == ()
        store: Any = ledger._opened.store("orders")
        store.abandon("nobody", [])
        assert ledger._opened.recovery.sweep() == 0
    server.stop()


def test_a_server_that_is_down(tmp_path: Path, pg_start: Callable[..., Server]) -> None:
    """First it is refused; known to the ledger, it prevents neither opening nor units of other stores."""
    server = pg_start()
    url = server.url()
    server.stop()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        open_ledger(tmp_path, PostgresStore("orders", url))
    server.start()
    with open_ledger(tmp_path, PostgresStore("orders", url)) as ledger, unit(ledger) as uow:
        uow["orders"].create("k", 1)
    server.stop()
    with open_ledger(tmp_path, PostgresStore("orders", url)) as ledger:
        with unit(ledger) as uow:
            uow["notes"].create("n", 1)
        with pytest.raises(StoreUnavailable, match="cannot be reached") as caught, unit(ledger) as uow:
            uow["orders"].update("k", 2)
            uow["notes"].update("n", 2)
        assert caught.value.retryable
        with pytest.raises(StoreUnavailable):
            ledger["orders"].get("k", space_id=SPACE)
        server.start()
        assert (ledger["orders"].get("k", space_id=SPACE), ledger["notes"].get("n", space_id=SPACE)) == (1, 1)
        server.restart()  # the idle connection died: nobody notices
        with unit(ledger) as uow:
            uow["orders"].update("k", 2)
        assert ledger["orders"].get("k", space_id=SPACE) == 2
    server.stop()


def test_a_replica_only_reads(tmp_path: Path, pg_start: Callable[..., Server]) -> None:
    """A replica, or a server set to read-only, is refused with advice."""
    server = pg_start(default_transaction_read_only="on")
    with pytest.raises(StoreUnavailable, match="can only be read"):
        open_ledger(tmp_path, PostgresStore("orders", server.url()))
    server.stop()


def test_wrong_password_missing_rights_and_databases(tmp_path: Path, pg_server: Server, pg_url: str) -> None:
    """Each is told in words of its own, and no password is in any of them, nor in logs or the ledger."""
    log = io.StringIO()
    logging.getLogger().addHandler(handler := logging.StreamHandler(log))
    pg_server.rows(f"CREATE ROLE locked LOGIN PASSWORD '{SECRET}'")
    name = pg_url.partition("@/")[2].partition("?")[0]
    said = []
    for url, problem in (
        (pg_server.url(name, user="locked", password=SECRET + "x"), "refused the user or the password"),
        (pg_server.url("nowhere", user="locked", password=SECRET), "is no database of that server"),
        (pg_server.url(name, user="locked", password=SECRET), "lacks a privilege"),
    ):
        with pytest.raises(StoreError, match=problem) as caught:
            open_ledger(tmp_path, PostgresStore("orders", url))
        said += [str(caught.value), repr(caught.value), str(caught.value.__cause__)]
    logging.getLogger().removeHandler(handler)
    pg_server.rows("DROP ROLE locked")
    assert not [text for text in [*said, log.getvalue()] if SECRET in text]
    assert SECRET.encode() not in (tmp_path / "memory.db").read_bytes()


def test_another_encoding_is_refused(tmp_path: Path, pg_server: Server) -> None:
    """Keys and texts need UTF-8."""
    pg_server.rows("CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII'")
    with pytest.raises(StoreError, match="kept in SQL_ASCII"):
        open_ledger(tmp_path, PostgresStore("orders", pg_server.url("ascii")))
    pg_server.rows("DROP DATABASE ascii WITH (FORCE)")


def test_another_database_is_not_taken_for_ours(tmp_path: Path, pg_databases: Databases) -> None:
    """With the address of a database in which the store never was, nothing seems to be lost: it is refused."""
    with open_ledger(tmp_path, PostgresStore("orders", pg_databases.new())) as ledger, unit(ledger) as uow:
        uow["orders"].create("k", 1)
    empty, others = pg_databases.new(), pg_databases.new()
    (tmp_path / "other").mkdir()
    open_ledger(tmp_path / "other", PostgresStore("orders", others)).close()
    for url in (empty, others):
        with open_ledger(tmp_path, PostgresStore("orders", url)) as ledger:
            with pytest.raises(StoreError, match="holds nothing of this store"):
                ledger["orders"].get("k", space_id=SPACE)
            with pytest.raises(StoreError, match="holds nothing of this store"), unit(ledger) as uow:
                uow["orders"].upsert("k", 2)


def test_without_psycopg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks the library is told how to install it, when the ledger is opened."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UsageError, match="needs psycopg"):
        open_ledger(tmp_path, PostgresStore("orders", "postgresql://host/db"))


def test_a_ledger_of_1_0_0_has_no_identity(tmp_path: Path, pg_url: str) -> None:
    """Without an id of its own a ledger cannot keep records apart from another one's."""
    with closing(sqlite3.connect(tmp_path / "memory.db")) as connection:
        connection.executescript(_schema.text(_schema.BASE))
    with pytest.raises(StoreError, match=r"contract 1\.0\.0"):
        open_ledger(tmp_path, PostgresStore("orders", pg_url), migrate=False)


def test_erasing_leaves_no_former_version(ledger: Ledger, pg_url: str) -> None:
    """An erased record is gone from the table, and its old row versions with it."""
    with unit(ledger) as uow:
        uow["orders"].create("k", "a secret")
    done = ledger.erase(space_id=SPACE, store="orders", key="k")
    assert done.complete
    assert rows(pg_url, "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'uow_records'") in (
        [(0,)],
        [(None,)],
    )
    assert rows(pg_url, "SELECT count(*) FROM uow_records") == [(0,)]
    assert ledger.verify().ok
