"""Tables of the application's own in a PostgreSQL database, as records of units."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger
from memoryos_uow.errors import ConflictError, RecordExists, StoreError, UsageError
from memoryos_uow.stores import TableStore
from memoryos_uow.stores._row_values import row_content
from tests.both import change, rows
from tests.stores.driver import Driver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stores.driver import On

SECRET = "canary5f1d"
HOME: dict[str, Any] = {"space_id": "s", "band": "GREEN"}


@pytest.fixture
def driver(pg_emptied_url: str, tmp_path: Path) -> Iterator[Driver]:
    """A driver on an empty database."""
    opened = Driver(tmp_path, url=pg_emptied_url)
    yield opened
    opened.close()


def own(driver: Driver, *ddl: str, **options: Any) -> On:
    """A store over a table that was made with plain SQL."""
    driver.sql(*ddl)
    return driver.attached(TableStore("t", **{"key": "id", **options}))


EVERY = """
CREATE TABLE t (
  id TEXT, space_id TEXT, flag BOOLEAN, small SMALLINT, large BIGINT, exact NUMERIC(10, 2), real4 REAL, real8 FLOAT8,
  data BYTEA, at TIMESTAMPTZ, at_local TIMESTAMP, day DATE, tag UUID, doc JSONB, list INT[], short VARCHAR(3),
  fixed CHAR(4),
  PRIMARY KEY (space_id, id)
)
"""


def test_every_type_comes_back_plain(driver: Driver) -> None:
    """What Python has no plain value for is text: times in UTC, whatever the session is set to."""
    on = own(driver, EVERY)
    uuid = "0197b0f0-0000-7000-8000-00000000abcd"
    on.create(
        "k",
        {
            "flag": True, "small": 1, "large": 2**60, "exact": 12.5, "real4": 1.5, "real8": 0.1, "data": b"\0\xff",
            "at": "2026-11-23 06:00:00+02", "at_local": "2026-11-23 06:00:00.5", "day": "2026-11-23", "tag": uuid,
            "doc": '{"b": 1, "a": [2]}', "list": "{1,2}", "short": "abc", "fixed": "ab",
        },
    )  # fmt: skip
    assert on.get("k") == {
        "id": "k", "space_id": on.space, "flag": True, "small": 1, "large": 2**60, "exact": "12.50", "real4": 1.5,
        "real8": 0.1, "data": b"\0\xff", "at": "2026-11-23T04:00:00.000000Z", "at_local": "2026-11-23T06:00:00.500000",
        "day": "2026-11-23", "tag": uuid, "doc": '{"a": [2], "b": 1}', "list": "{1,2}", "short": "abc", "fixed": "ab",
    }  # fmt: skip
    version = on.version("k")
    change(str(driver.url), "ALTER ROLE CURRENT_USER SET timezone = 'Asia/Tokyo'")
    try:
        again = Driver(driver.directory, url=driver.url)
        assert again.attached(TableStore("t", key="id")).version("k") == version
        again.close()
    finally:
        change(str(driver.url), "ALTER ROLE CURRENT_USER RESET timezone")
    on.update("k", {"real8": "NaN", "flag": 0, "large": 7.0})
    assert b'"real8":{"$real":"nan"}' in row_content(on.get("k"))
    assert (on.get("k")["flag"], on.get("k")["large"]) == (False, 7)


@pytest.mark.parametrize(
    "value", [{"flag": 2}, {"large": 1.5}, {"data": "text"}, {"exact": b"bytes"}, {"flag": "perhaps", "small": 1}]
)
def test_what_would_become_something_else_is_refused(driver: Driver, value: dict[str, Any]) -> None:
    """A value that a column's type would change is the caller's error, before anything is written."""
    on = own(driver, EVERY)
    with pytest.raises(UsageError):
        on.create("k", value)
    assert on.keys() == []


def test_errors_of_the_database_show_no_values(driver: Driver) -> None:
    """What a type, a constraint or a trigger refuses is told in words that quote nothing."""
    on = own(
        driver,
        "CREATE TABLE t (id TEXT PRIMARY KEY, space_id TEXT, n TEXT NOT NULL UNIQUE CHECK (n <> 'no'), x INT)",
        "CREATE OR REPLACE FUNCTION refusing() RETURNS TRIGGER LANGUAGE plpgsql AS"
        f" $$ BEGIN IF new.x = 13 THEN RAISE EXCEPTION '{SECRET}'; END IF;"
        " IF new.x = 14 THEN RETURN NULL; END IF; RETURN new; END $$",
        "CREATE TRIGGER refusing BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION refusing()",
    )
    on.create("k", {"n": SECRET})
    for value, error, words in (
        ({"n": SECRET}, StoreError, "duplicate key value violates unique constraint"),
        ({}, StoreError, 'null value in column "n"'),
        ({"n": "no"}, StoreError, "violates check constraint"),
        ({"n": "a", "x": SECRET}, UsageError, "22P02"),
        ({"n": "a", "x": 13}, StoreError, "A trigger of it refused the write"),
        ({"n": "a", "x": 14}, StoreError, "held the write back"),
    ):
        with pytest.raises(error, match=words) as caught:
            on.create("other", value)
        assert SECRET not in str(caught.value)
        assert caught.value.hint
    assert on.keys() == ["k"]


@pytest.mark.parametrize("sort", ["TEXT", "VARCHAR(40)", "INTEGER", "BIGINT", "UUID", 'TEXT COLLATE "und-x-icu"'])
def test_keys_of_every_type(driver: Driver, sort: str) -> None:
    """A key is the text that the column shows, byte for byte; another spelling is another key, which is not there."""
    if "icu" in sort and not driver.rows("SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu'"):
        pytest.skip("the server knows no ICU")
    on = own(driver, f"CREATE TABLE t (id {sort} PRIMARY KEY, space_id TEXT, n INT)")
    key = "0197b0f0-0000-7000-8000-00000000abcd" if sort == "UUID" else "17"
    on.create(key, {"n": 1})
    assert on.keys() == [key]
    on.upsert(key, {"n": 2})
    assert on.get(key)["n"] == 2
    for twin in (key.upper(), "017", "17.0", " 17", "x", "9" * 30):
        if twin != key:
            assert on.get(twin) is None
    if sort not in ("TEXT", "VARCHAR(40)", 'TEXT COLLATE "und-x-icu"'):
        with pytest.raises(StoreError, match="cannot hold this key"):
            on.create("x", {"n": 1})
    on.delete(key)
    assert on.keys() == []


@pytest.mark.parametrize(
    ("ddl", "message"),
    [
        (["CREATE TABLE t (id TEXT, space_id TEXT)"], "makes 'id' and 'space_id' unique"),
        (["CREATE TABLE t (id TEXT, space_id TEXT, n INT, PRIMARY KEY (id, space_id, n))"], "unique"),
        (["CREATE TABLE t (id TEXT, space_id TEXT)", "CREATE UNIQUE INDEX i ON t (id) WHERE id > 'a'"], "unique"),
        (["CREATE TABLE t (id TEXT, space_id TEXT)", "CREATE UNIQUE INDEX i ON t (lower(id))"], "unique"),
        (["CREATE TABLE t (id TEXT, space_id TEXT, UNIQUE (id) DEFERRABLE)"], "unique"),
        (["CREATE TABLE t (id TEXT PRIMARY KEY)"], "no column 'space_id'"),
        (["CREATE TABLE t (id DATE PRIMARY KEY, space_id TEXT)"], "of the type date"),
        (["CREATE TABLE t (space_id TEXT, id INT GENERATED ALWAYS AS IDENTITY UNIQUE)"], "no column 'id' to write to"),
        (["CREATE VIEW t AS SELECT 1 AS id, 2 AS space_id"], "'t' is a view"),
        ([], "has no table 't'"),
    ],
)
def test_tables_that_cannot_serve_are_refused(driver: Driver, ddl: list[str], message: str) -> None:
    """A table in which the key does not name one row is refused when the ledger is opened, with a way out."""
    driver.sql(*ddl)
    with pytest.raises(UsageError, match=message) as caught:
        driver.attach(TableStore("t", key="id"))
    assert caught.value.hint


@pytest.mark.parametrize(
    "ddl",
    [
        "CREATE TABLE t (id TEXT PRIMARY KEY, space_id TEXT)",
        "CREATE TABLE t (id TEXT, space_id TEXT, UNIQUE (space_id, id))",
        "CREATE TABLE t (id TEXT, space_id TEXT, n INT, UNIQUE (id) INCLUDE (n))",
        "CREATE TABLE t (id TEXT, space_id TEXT, PRIMARY KEY (space_id, id)) PARTITION BY LIST (space_id)",
    ],
)
def test_tables_that_serve(driver: Driver, ddl: str) -> None:
    """A primary key or unique index over the key, alone or with the space; also of a partitioned table."""
    on = own(driver, ddl, *(["CREATE TABLE t1 PARTITION OF t DEFAULT"] if "PARTITION" in ddl else []))
    on.create("5", {})
    assert on.keys() == ["5"]


def test_a_table_is_made_from_columns(driver: Driver) -> None:
    """With PostgreSQL's types; generated and unknown columns are refused by name."""
    columns = {"id": "TEXT", "n": "INTEGER NOT NULL", "r": "REAL", "b": "BLOB", "x": "NUMERIC"}
    on = driver.attached(TableStore("orders", key="id", columns=columns))
    on.create("k", {"n": 1, "r": 0.5, "b": b"x", "x": 2})
    assert on.get("k") == {"id": "k", "n": 1, "r": 0.5, "b": b"x", "x": 2.0, "space_id": on.space}
    made = driver.rows("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'orders'")
    types = {"id": "text", "n": "bigint", "r": "double precision", "b": "bytea", "x": "double precision"}
    assert dict(made) == {**types, "space_id": "text"}
    driver.sql("ALTER TABLE orders ADD COLUMN twice BIGINT GENERATED ALWAYS AS (n * 2) STORED")
    again = driver.attached(TableStore("orders", key="id"))
    with pytest.raises(UsageError, match="computes"):
        again.create("l", {"n": 1, "twice": 2})
    with pytest.raises(UsageError, match="without the columns"):
        driver.attach(TableStore("orders", key="id", columns={"id": "TEXT", "more": "TEXT"}))


def test_many_rows_take_few_statements(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of writes to different rows: what is there, the changes, what is left, however many they are."""
    on = own(driver, "CREATE TABLE t (id TEXT PRIMARY KEY, space_id TEXT, n INT)")
    for number in (3, 300):
        writes = [on.write("upsert", f"k{n}", {"n": n}) for n in range(number)]
        with driver.transaction() as tx:
            sent: list[int] = []
            there: Any = tx
            exchange = there._exchange

            def counted(*args: Any, _exchange: Any = exchange, _sent: list[int] = sent, **options: Any) -> Any:
                _sent.append(1)
                return _exchange(*args, **options)

            monkeypatch.setattr(tx, "_exchange", counted)
            facts = on.facts()
            on.store.apply(tx, facts, 1, writes)
            assert len(sent) <= 4
        assert writes[-1].content is not None
    assert len(on.keys()) == 300


def test_two_units_that_create_one_row(pg_emptied_url: str) -> None:
    """The second one conflicts, and finds the row when it is run again."""
    change(pg_emptied_url, "CREATE TABLE t (id TEXT PRIMARY KEY, space_id TEXT, n INT)")
    with Ledger.open(pg_emptied_url, stores=[TableStore("t", key="id")]) as ledger:
        begun, go_on = threading.Event(), threading.Event()
        problems: list[BaseException] = []

        def slowly() -> None:
            try:
                with ledger.unit(**HOME) as uow:
                    uow.sql("SELECT count(*) FROM t")
                    begun.set()
                    go_on.wait(10)
                    uow["t"].create("k", {"n": 2})
            except ConflictError as error:
                problems.append(error)

        thread = threading.Thread(target=slowly)
        thread.start()
        begun.wait(10)
        with ledger.unit(**HOME) as uow:
            uow["t"].create("k", {"n": 1})
        go_on.set()
        thread.join(10)
        assert [error.retryable for error in problems] == [True]  # type: ignore[attr-defined]
        with pytest.raises(RecordExists), ledger.unit(**HOME) as uow:
            uow["t"].create("k", {"n": 3})
    assert rows(pg_emptied_url, "SELECT id, n FROM t") == [("k", 1)]


def test_a_units_own_change_of_a_table_is_known_afterwards(pg_emptied_url: str) -> None:
    """A column added with uow.sql can be written by the next unit."""
    with Ledger.open(
        pg_emptied_url, stores=[TableStore("t", key="id", columns={"id": "TEXT"}, space_column=None)]
    ) as ledger:
        with ledger.unit(**HOME) as uow:
            uow.sql("ALTER TABLE t ADD COLUMN n INT")
        with ledger.unit(**HOME) as uow:
            uow.sql("SELECT 1")
            uow["t"].create("k", {"n": 1})
        assert ledger["t"].get("k", space_id="s") == {"id": "k", "n": 1}
