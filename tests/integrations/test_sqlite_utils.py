"""`uow.db`: sqlite-utils inside a unit, and the connection below it."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger, Limits, UsageError
from memoryos_uow.integrations._connection import UnitConnection
from tests.units import SPACE, OwnError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memoryos_uow import UnitOfWork


def operations(ledger: Ledger, uow: UnitOfWork) -> list[tuple[str, str | None]]:
    """Store and operation of each write of the unit."""
    return [(write.store_name, write.operation_type) for write in ledger.get(uow.uow_id).writes]


def test_tables_are_made_and_filled_with_the_unit(ledger: Ledger) -> None:
    """What sqlite-utils writes is the unit's, statement by statement, in the receipt; nothing else is."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n1", 1)
        dogs: Any = uow.db["dogs"]
        dogs.insert_all([{"id": 1, "name": "Cleo"}, {"id": 2, "name": "Pan"}], pk="id")
        dogs.upsert({"id": 2, "name": "Pancakes"}, pk="id")
        dogs.insert({"id": 3, "age": 4}, pk="id", alter=True)
        dogs.update(3, {"name": "Rex"})
        dogs.delete(1)
        dogs.create_index(["name"])
        assert [row["name"] for row in dogs.rows_where(order_by="id")] == ["Pancakes", "Rex"]
        assert list(uow.db.query("SELECT count(*) AS n FROM dogs")) == [{"n": 2}]
        assert dogs.columns_dict == {"id": int, "name": str, "age": int}
        assert [index.columns for index in dogs.indexes] == [["name"]]
        assert uow.db.supports_strict
    assert operations(ledger, uow) == [
        ("notes", "create"),
        *(("sql", name) for name in ("create", "create", "upsert", "update", "create", "update", "delete", "create")),
    ]
    assert uow.receipt == ledger.receipt(uow.uow_id)
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        assert uow.sql("SELECT id, name FROM dogs ORDER BY id") == [(2, "Pancakes"), (3, "Rex")]


def test_an_exception_undoes_it(ledger: Ledger) -> None:
    """Tables and rows go with the unit."""
    with pytest.raises(OwnError), ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow.db.table("dogs").insert({"id": 1})
        raise OwnError
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        assert "dogs" not in uow.db.table_names()


def test_its_errors_are_those_of_sqlite(ledger: Ledger) -> None:
    """A statement that fails raises what code around sqlite-utils expects, leaves nothing, and the unit goes on."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        dogs: Any = uow.db["dogs"]
        dogs.insert({"id": 1}, pk="id")
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            dogs.insert_all([{"id": 2}, {"id": 1}])
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            uow.db.execute("SELECT * FROM cats")
        assert dogs.count == 1
    assert operations(ledger, uow) == [("sql", "create"), ("sql", "create")]


def test_atomic_blocks_undo_their_writes(ledger: Ledger) -> None:
    """`db.atomic()` is a savepoint of the unit: what it undoes is not in the receipt either; blocks may be nested."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        db = uow.db
        db.execute("CREATE TABLE t (x)")
        with pytest.raises(OwnError), db.atomic():
            db.execute("INSERT INTO t VALUES (1)")
            with db.atomic():
                db.execute("INSERT INTO t VALUES (2)")
            raise OwnError
        with db.atomic():
            db.execute("INSERT INTO t VALUES (3)")
            with pytest.raises(OwnError), db.atomic():
                uow["notes"].create("undone", 1)
                db.execute("INSERT INTO t VALUES (4)")
                raise OwnError
        assert [row[0] for row in db.execute("SELECT x FROM t")] == [3]
    assert operations(ledger, uow) == [("sql", "create"), ("sql", "create")]
    assert ledger["notes"].get("undone", space_id=SPACE) is None


REFUSED: dict[str, Callable[[Any], object]] = {
    "commit": lambda db: db.commit(),
    "rollback": lambda db: db.rollback(),
    "begin": lambda db: db.begin(),
    "close": lambda db: db.close(),
    "attach": lambda db: db.attach("other", "other.db"),
    "vacuum": lambda db: db.vacuum(),
    "WAL off": lambda db: db.execute("PRAGMA journal_mode = DELETE"),
    "a setting behind a question": lambda db: db.execute("PRAGMA foreign_keys(0)"),
    "our tables": lambda db: db["unit_of_work"].insert({"uow_id": "x"}),
    "a function": lambda db: db.register_function(len),
    "connection.commit": lambda db: db.conn.commit(),
    "connection.rollback": lambda db: db.conn.rollback(),
    "connection.script": lambda db: db.conn.executescript("SELECT 1"),
    "cursor.script": lambda db: db.conn.cursor().executescript("SELECT 1"),
    "extensions": lambda db: db.conn.enable_load_extension(True),
    "an extension": lambda db: db.conn.load_extension("x"),
    "an aggregate": lambda db: db.conn.create_aggregate("a", 1, object),
    "no text": lambda db: db.conn.execute(b"SELECT 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_end_or_outlive_the_unit_is_refused(ledger: Ledger, name: str) -> None:
    """With a reason and a hint; nothing is lost, and the unit goes on."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow.db.table("dogs").insert({"id": 1})
        with pytest.raises(UsageError) as refused:
            REFUSED[name](uow.db)
        assert refused.value.hint
        uow.db.table("dogs").insert({"id": 2})
    assert uow.status == "committed"
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        assert uow.sql("SELECT count(*) FROM dogs") == [(2,)]


def test_it_ends_with_the_unit(ledger: Ledger) -> None:
    """A database kept for later writes nowhere any more."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        db = uow.db
        db.execute("CREATE TABLE t (x)")
    for late in (lambda: db.execute("INSERT INTO t VALUES (1)"), lambda: uow.db):
        with pytest.raises(UsageError, match="over"):
            late()


def test_the_cursor_is_one_of_pep_249(ledger: Ledger) -> None:
    """Rows one by one, some, or all; how many changed; the row's id; and savepoints by their SQL."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        connection = UnitConnection(uow)
        assert uow.uow_id in repr(connection)
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
        cursor = connection.executemany("INSERT INTO t (x) VALUES (?)", [(n,) for n in range(5)])
        assert (cursor.rowcount, cursor.lastrowid, cursor.description) == (5, 5, None)
        cursor.execute("SELECT x FROM t ORDER BY x")
        assert cursor.description[0][0] == "x"
        assert (cursor.fetchone(), cursor.fetchmany(), cursor.fetchmany(2)) == ((0,), [(1,)], [(2,), (3,)])
        assert (list(cursor), cursor.fetchone()) == ([(4,)], None)
        cursor.execute("SELECT x FROM t WHERE x > :x", {"x": 2}).close()
        assert cursor.fetchall() == []
        connection.execute("SAVEPOINT one")
        connection.execute('savepoint "two";')
        connection.execute("DELETE FROM t")
        connection.execute("ROLLBACK TRANSACTION TO two")
        assert connection.execute("DELETE FROM t WHERE x = 0").rowcount == 1
        connection.execute("ROLLBACK TO SAVEPOINT ONE")  # names do not depend on case, and the savepoint stays
        connection.execute("DELETE FROM t WHERE x > 2")
        connection.execute("RELEASE one")
        with pytest.raises(sqlite3.OperationalError, match="no such savepoint"):
            connection.execute("RELEASE SAVEPOINT two")
        assert connection.execute("SELECT count(*) FROM t").fetchall() == [(3,)]
    assert len(ledger.get(uow.uow_id).writes) == 7


def test_many_statements_stream(tmp_path: Path) -> None:
    """Statements of `uow.db` leave memory as other writes do."""
    with (
        Ledger.open(tmp_path / "memory.db", limits=Limits(waiting_writes=10)) as ledger,
        ledger.unit(space_id=SPACE, band="GREEN") as uow,
    ):
        db = uow.db
        db.execute("CREATE TABLE t (x)")
        for number in range(35):
            db.execute("INSERT INTO t VALUES (?)", (number,))
            assert uow._state is not None
            assert len(uow._state.buffer.writes) < 10
    assert uow.receipt is not None
    assert uow.receipt.write_count == 36
