"""Plain SQL of the application's in units of a ledger on PostgreSQL."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger
from memoryos_uow.errors import ConflictError, StoreError, UsageError
from tests.both import rows
from tests.postgres_proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME: dict[str, Any] = {"space_id": "s", "band": "GREEN"}
SECRET = "canary5f1d"


@pytest.fixture
def ledger(pg_emptied_url: str) -> Iterator[Ledger]:
    """A ledger with a table of the application's."""
    with Ledger.open(pg_emptied_url) as opened:
        with opened.unit(**HOME) as uow:
            uow.sql("CREATE TABLE t (a INT PRIMARY KEY, b TEXT, c JSONB, d BYTEA, e BOOLEAN, f FLOAT8)")
        yield opened


def operations(ledger: Ledger, uow: Any) -> list[str | None]:
    """How a unit's statements are recorded."""
    return [write.operation_type for write in ledger.get(uow.uow_id).writes]


def test_statements_of_every_sort(ledger: Ledger, pg_emptied_url: str) -> None:
    """Writes wait or answer, reads see them, all is recorded and commits together."""
    with ledger.unit(**HOME) as uow:
        uow.sql("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", (1, "50% off?", '{"x": [1]}', b"\0\xff", True, 0.1))
        uow.sql(
            "INSERT INTO t (a, b) VALUES (:a, :b) ON CONFLICT (a) DO UPDATE SET b = excluded.b", {"a": 2, "b": None}
        )
        assert uow.sql("SELECT b, c->'x'->>0, d, e, f, b LIKE '50%' FROM t WHERE a % 2 = ?", (1,)) == [
            ("50% off?", "1", b"\0\xff", True, 0.1, True)
        ]
        assert uow.sql("UPDATE t SET b = 'new' WHERE a = ? RETURNING b", (2,)) == [("new",)]
        uow["notes"].create("n", 1)
        assert uow.sql("WITH gone AS (DELETE FROM t WHERE a = 1 RETURNING a) SELECT a FROM gone") == [(1,)]
        assert rows(pg_emptied_url, "SELECT * FROM t") == []
    assert rows(pg_emptied_url, "SELECT a, b FROM t") == [(2, "new")]
    assert operations(ledger, uow) == ["create", "upsert", "update", "create", "delete"]
    assert ledger.verify().ok


def test_own_tables_and_rollback(ledger: Ledger, pg_emptied_url: str) -> None:
    """A table made in the unit can be used in it; with the unit it goes, or with a savepoint."""
    with ledger.unit(**HOME) as uow:
        uow.sql("CREATE TABLE made (x INT)")
        uow.sql("INSERT INTO made VALUES (?)", (1,))
        with pytest.raises(ValueError, match="mine"), uow.savepoint():
            uow.sql("INSERT INTO made VALUES (2)")
            uow.sql("SELECT 1")
            raise ValueError("mine")
        assert uow.sql("SELECT x FROM made") == [(1,)]
    assert rows(pg_emptied_url, "SELECT x FROM made") == [(1,)]
    with pytest.raises(ValueError, match="mine"), ledger.unit(**HOME) as uow:
        uow.sql("DROP TABLE made")
        raise ValueError("mine")
    assert rows(pg_emptied_url, "SELECT x FROM made") == [(1,)]


def test_a_mistake_does_not_end_the_unit(ledger: Ledger) -> None:
    """What is refused when called leaves the unit as it was, also inside its open transaction."""
    with ledger.unit(**HOME) as uow:
        uow.sql("INSERT INTO t (a) VALUES (1)")
        uow.sql("SELECT 1")
        for wrong, error in (("SELECT nonsense", UsageError), ("COMMIT", UsageError)):
            with pytest.raises(error):
                uow.sql(wrong)
        with pytest.raises(StoreError, match="t_pkey") as caught:
            uow.sql("INSERT INTO t (a, b) VALUES (1, ?) RETURNING a", (SECRET,))
        assert SECRET not in str(caught.value)
        with pytest.raises(UsageError, match="22P02") as wrong_value:
            uow.sql("SELECT CAST(? AS INT)", (SECRET,))
        assert SECRET not in str(wrong_value.value)
        uow.sql("INSERT INTO t (a) VALUES (2)")
    assert operations(ledger, uow) == ["create", "create"]


def test_a_constraint_at_the_commit(ledger: Ledger, pg_emptied_url: str) -> None:
    """A statement that waited and is refused then undoes the unit; a deferred constraint does too."""
    with pytest.raises(StoreError, match="t_pkey"), ledger.unit(**HOME) as uow:
        uow.sql("INSERT INTO t (a) VALUES (1)")
        uow.sql("INSERT INTO t (a) VALUES (1)")
    with ledger.unit(**HOME) as uow:
        uow.sql("CREATE TABLE child (a INT REFERENCES t DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(StoreError, match="foreign key"), ledger.unit(**HOME) as uow:
        uow.sql("INSERT INTO child VALUES (9)")
        uow["notes"].create("n", 1)
    assert ledger["notes"].get("n", space_id="s") is None
    assert rows(pg_emptied_url, "SELECT count(*) FROM t") == [(0,)]


def test_many_statements_take_few_round_trips(pg_server: Any, pg_emptied_url: str, ledger: Ledger) -> None:
    """Those that wait go together; what they are was asked once."""
    del ledger
    proxy = Proxy(pg_server.port)
    with Ledger.open(proxy.url(pg_emptied_url)) as through:
        keys = itertools.count()

        def unit(number: int) -> int:
            begun = proxy.trips
            with through.unit(**HOME) as uow:
                for _ in range(number):
                    uow.sql("INSERT INTO t (a, b) VALUES (?, ?)", (next(keys), "x"))
            assert uow.receipt is not None
            uow.receipt.wait(10)
            return proxy.trips - begun

        unit(1)
        assert unit(400) <= unit(1) + 8
    proxy.close()


def test_units_that_meet_in_a_table(ledger: Ledger) -> None:
    """The second one to change a row conflicts, and may be run again."""
    with ledger.unit(**HOME) as uow:
        uow.sql("INSERT INTO t (a, f) VALUES (1, 0)")
    with pytest.raises(ConflictError) as caught, ledger.unit(**HOME) as slow:
        slow.sql("SELECT f FROM t")
        with ledger.unit(**HOME, nested="independent") as quick:
            quick.sql("UPDATE t SET f = f + 1")
        slow.sql("UPDATE t SET f = f + 1")
        slow.sql("SELECT 1")
    assert caught.value.retryable
