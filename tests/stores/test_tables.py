"""TableStore: rows of the application's own tables, addressed exactly, whatever the table's types and triggers do."""

from __future__ import annotations

import enum
import hashlib
import json
import math
import string
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memoryos_uow._limits import Limits
from memoryos_uow._names import Band, Operation
from memoryos_uow.abc import ASK_THE_STORE, MISSING, Capability, Store
from memoryos_uow.errors import RecordExists, RecordMissing, StoreError, UsageError
from memoryos_uow.stores import TableStore
from memoryos_uow.stores._row_values import row_content
from tests.both import both, sqlite_only
from tests.stores.driver import SPACE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.stores.driver import Driver, On

pytestmark = both

SECRET = "canary-5f1d"
COLUMNS = {"id": "TEXT", "total": "INTEGER", "note": "TEXT", "weight": "REAL", "photo": "BLOB"}


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@pytest.fixture
def orders(driver: Driver) -> On:
    """A store that made its own table."""
    return driver.attached(TableStore("orders", key="id", columns=COLUMNS))


def own(driver: Driver, ddl: str, *more: str, key: str = "id", space_column: str | None = "space_id") -> On:
    """Return a store on a table ``t`` that the application made."""
    driver.sql(ddl, *more)
    return driver.attached(TableStore("t", key=key, space_column=space_column))


# Values


def test_it_is_a_store() -> None:
    """The class keeps the whole contract of a store and says what it is."""
    store: Store = TableStore("orders", key="id")
    assert isinstance(store, Store)
    assert (store.name, store.kind, store.capability) == ("orders", "rows", Capability.SAME_TRANSACTION)
    assert repr(store) == "TableStore('orders', key='id', table='orders', space_column='space_id')"
    store.close()
    store.close()


def test_a_row_comes_back(orders: On) -> None:
    """A row is read with all its columns, the key and the space filled in."""
    given = {"total": 5, "note": "ü", "weight": 0.1, "photo": b"\0\xff"}
    orders.create("o1", given)
    assert orders.get("o1") == {"id": "o1", **given, "space_id": SPACE}
    assert orders.get("o2") is None


BINARIES = st.binary() | st.binary().map(bytearray) | st.binary().map(lambda data: memoryview(data)[:])


@given(
    row=st.fixed_dictionaries(
        {
            "total": st.none() | st.integers(-(2**63), 2**63 - 1) | st.booleans(),
            "note": st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
            "weight": st.none() | st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: repr(x) != "-0.0"),
            "photo": st.none() | BINARIES,
        }
    ),
    key=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_columns_hold_survives(orders: On, row: dict[str, Any], key: str) -> None:
    """Whatever a column of the right type holds comes back equal, under exactly its key."""
    orders.upsert(key, row)
    assert orders.get(key) == {"id": key, **row, "space_id": SPACE}
    assert key in orders.keys()  # noqa: SIM118 - a method of ours
    orders.delete(key)


@pytest.mark.parametrize(
    "cell",
    [
        math.nan,
        math.inf,
        2**63,
        -(2**63) - 1,
        SECRET + "\0",
        SECRET + "\ud800",
        [SECRET],
        {SECRET: 1},
        object(),
        1j,
        Colour.RED,
        Level.LOW,
    ],
    ids=lambda cell: type(cell).__name__,
)
def test_what_no_column_holds_is_refused(orders: On, cell: object) -> None:
    """Values that SQLite would change or cannot hold are refused when written; the column is named, the value not."""
    with pytest.raises(UsageError, match="column 'note'") as caught:
        orders.write("create", "o1", {"note": cell})
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert not isinstance(caught.value.__context__, UnicodeError)


@pytest.mark.parametrize("value", [None, [("note", "x")], "note", 5, {"note"}])
def test_a_row_is_a_dict(orders: On, value: object) -> None:
    """Anything but a mapping of columns is refused."""
    with pytest.raises(UsageError, match="must be a dict"):
        orders.write("create", "o1", value)


@pytest.mark.parametrize("column", ["Note", "", SECRET, "note; DROP TABLE orders", 5, None, b"note", ("note",)])
def test_unknown_columns_are_refused(orders: On, column: Any) -> None:
    """A column that the table has not is refused, and the error lists those it has."""
    with pytest.raises(UsageError, match="id, total, note, weight, photo, space_id") as caught:
        orders.write("create", "o1", {column: 1})
    assert SECRET not in str(caught.value)


def test_key_and_space_may_be_given_if_they_agree(orders: On) -> None:
    """A row as it was read can be written back; another key or space in it is refused."""
    orders.create("o1", {"total": 1})
    row = orders.get("o1")
    orders.update("o1", {**row, "total": 2})
    assert orders.get("o1") == {**row, "total": 2}
    for key in ("o2", 1, None, b"o1"):
        with pytest.raises(UsageError, match="differs from the record's key"):
            orders.write("update", "o1", {"id": key})
    for space in ("other", None, 5):
        with pytest.raises(UsageError, match="differs from the unit's space"):
            orders.update("o1", {"space_id": space})
    assert orders.get("o1") == {**row, "total": 2}


def test_rows_have_a_size_limit(orders: On) -> None:
    """The limit counts the bytes of all values: at the limit a row passes, one more is refused."""
    store, row = orders.store, {"note": "ü" * 10, "photo": b"x" * 72, "total": 1}
    store.encode(Operation.CREATE, "k", row, Limits(row_bytes=100))
    with pytest.raises(UsageError, match="holds 101 bytes; the limit is 100"):
        store.encode(Operation.CREATE, "k", {**row, "photo": b"x" * 73}, Limits(row_bytes=100))


@pytest.mark.parametrize("key", ["", "k" * 1025, "a\0b", "\ud800", 5, None])
def test_bad_keys_are_refused(orders: On, key: Any) -> None:
    """A key that could not stand in a receipt is refused for every operation."""
    for operation in Operation:
        with pytest.raises(UsageError):
            orders.store.encode(operation, key, {}, Limits())


def test_later_changes_by_the_caller_do_not_count(orders: On) -> None:
    """What is committed is what was given when the write was made."""
    photo = bytearray(b"before")
    write = orders.write("create", "o1", {"photo": photo})
    photo[:] = b"after!"
    orders.commit(write)
    assert orders.get("o1")["photo"] == b"before"


def test_overlay_asks_the_table(orders: On) -> None:
    """Only the table knows its defaults and triggers, so nothing is guessed before the write is applied."""
    for operation in ("create", "update", "upsert"):
        assert orders.store.overlay(orders.write(operation, "o1", {"total": 1})) is ASK_THE_STORE
    assert orders.store.overlay(orders.write("delete", "o1")) is MISSING


# Verbs


def test_the_four_verbs(orders: On) -> None:
    """Create needs a free key, update and delete a taken one; update and upsert change only the columns given."""
    orders.create("a", {"total": 1, "note": "one"})
    orders.update("a", {"total": 2})
    orders.upsert("a", {"weight": 0.5})
    orders.upsert("b", {"note": "new"})
    row = {"id": "a", "total": 2, "note": "one", "weight": 0.5, "photo": None, "space_id": SPACE}
    assert orders.get("a") == row
    assert orders.get("b")["note"] == "new"
    orders.update("a", {})
    orders.upsert("a", {"id": "a", "space_id": SPACE})
    assert orders.get("a") == row
    orders.delete("a")
    assert orders.keys() == ["b"]


def test_what_is_in_the_way_is_named(orders: On) -> None:
    """A taken or missing key ends the unit, is named for GREEN and for no other band."""
    orders.create(SECRET, {})
    cases = (("create", SECRET, RecordExists), ("update", SECRET + "x", RecordMissing), ("delete", "y", RecordMissing))
    for operation, key, kind in cases:
        for band in Band:
            unit = orders.banded(band)
            with pytest.raises(kind) as caught:
                unit.commit(unit.write("create", "z", {}), unit.write(operation, key, {}))
            assert (repr(key) in str(caught.value)) is (band is Band.GREEN)
            assert caught.value.store == "orders"
    assert orders.keys() == [SECRET]


def test_spaces_are_apart(orders: On) -> None:
    """The same key in another space is another row."""
    other = orders.within("other")
    orders.create("k", {"note": "mine"})
    other.create("k", {"note": "theirs"})
    other.update("k", {"note": "changed"})
    assert (orders.get("k")["note"], other.get("k")["note"]) == ("mine", "changed")
    other.delete("k")
    assert (orders.keys(), other.keys()) == (["k"], [])


def test_without_a_space_column_all_share(driver: Driver) -> None:
    """With space_column=None every space sees and changes the same rows."""
    on = driver.attached(TableStore("rates", key="code", columns={"code": "TEXT", "rate": "REAL"}, space_column=None))
    on.create("EUR", {"rate": 1.0})
    on.within("other").update("EUR", {"rate": 2.0})
    assert on.get("EUR") == {"code": "EUR", "rate": 2.0}
    assert on.within("third").keys() == ["EUR"]
    with pytest.raises(UsageError):
        on.write("update", "EUR", {"space_id": SPACE})


def test_keys_are_ordered_by_their_bytes(orders: On) -> None:
    """Keys come in the order of their UTF-8 bytes, those of the space only."""
    keys = ["b", "a", "B", "ä", "\N{GRINNING FACE}", "\uffee", "a b"]
    for key in keys:
        orders.create(key, {})
    orders.within("other").create("c", {})
    assert orders.keys() == sorted(keys, key=str.encode)


def test_rows_cannot_be_searched(orders: On) -> None:
    """A search is refused with the way that works."""
    with pytest.raises(UsageError, match=r"uow\.sql"):
        orders.search("x")


# Content and version


def test_the_content_is_rows_1() -> None:
    """The bytes of the format are these, for good: receipts refer to them."""
    row = {"b": 1, "a": 'ü"\\\n', "c": None, "d": b"\x00\xff", "e": 1.0, "f": 1e16, "g": -math.inf, "h": 0.1, "i": ""}
    expected = (
        '{"a":"ü\\"\\\\\\n","b":1,"c":null,"d":{"$bytes":"00ff"},"e":1.0,"f":1e+16,"g":{"$real":"-inf"},"h":0.1,"i":""}'
    )
    assert row_content(row) == expected.encode()


@given(
    cells=st.lists(
        st.none()
        | st.integers(-5, 5)
        | st.sampled_from([0.0, 1.0, math.inf, "1", "inf", b"", b"1", '{"$bytes":"31"}']),
        min_size=2,
        max_size=2,
        unique_by=repr,
    )
)
def test_different_rows_have_different_contents(cells: list[object]) -> None:
    """No two values share their bytes: not 1 and 1.0, nor a text that looks like a blob."""
    left, right = ({"a": cell} for cell in cells)
    assert row_content(left) != row_content(right)


@sqlite_only("the table is made in SQLite's words; see tests/postgres/test_tables")
def test_the_content_is_the_row_as_it_is_afterwards(driver: Driver) -> None:
    """Defaults, affinities and triggers of the table are in the content, which is filled in by the commit."""
    on = own(
        driver,
        "CREATE TABLE t (id TEXT, space_id TEXT, n INTEGER, d TEXT DEFAULT 'x', seen INT DEFAULT 0,"
        " g TEXT AS (id || '!'), PRIMARY KEY (space_id, id))",
        "CREATE TRIGGER bump AFTER INSERT ON t BEGIN UPDATE t SET seen = seen + 1 WHERE id = new.id; END",
    )
    assert on.write("create", "k", {"n": "7"}).content is None
    write = on.create("k", {"n": "7"})
    row = {"id": "k", "space_id": SPACE, "n": 7, "d": "x", "seen": 1, "g": "k!"}
    content = json.dumps(row, sort_keys=True, separators=(",", ":")).encode()
    assert on.get("k") == row
    assert write.content is not None
    assert tuple(write.content) == (len(content), hashlib.sha256(content).hexdigest())
    assert on.version("k") == write.content.sha256
    assert on.delete("k").content is None
    assert on.version("k") is None


def test_changes_by_plain_sql_change_the_version(orders: On) -> None:
    """Whoever changes a row, its version changes; and it comes back with the old content."""
    orders.create("k", {"total": 1})
    before = orders.version("k")
    found = orders.found("k")
    assert found is not None
    assert found.version == before
    orders.driver.sql("UPDATE orders SET total = 2")
    assert orders.version("k") not in (before, None)
    orders.driver.sql("UPDATE orders SET total = 1")
    assert orders.version("k") == before


@sqlite_only("the table is made in SQLite's words; see tests/postgres/test_tables")
def test_infinities_made_by_others_are_read(driver: Driver) -> None:
    """An infinity that plain SQL put into a row does not stop the row from being read or versioned."""
    ddl = "CREATE TABLE t (id TEXT PRIMARY KEY, r REAL)"
    on = own(driver, ddl, "INSERT INTO t VALUES ('k', 9e999)", space_column=None)
    assert on.get("k") == {"id": "k", "r": math.inf}
    assert on.version("k")


# Exact addressing


@pytest.mark.parametrize(
    ("declared", "stored", "twin"),
    [
        ("INTEGER", "17", "017"),
        ("INTEGER", "17", "17.0"),
        ("TEXT COLLATE NOCASE", "abc", "ABC"),
        ("NUMERIC", "5", "5e0"),
    ],
)
@pytest.mark.parametrize("column", ["key", "space"])
@sqlite_only("the table is made in SQLite's words; see tests/postgres/test_tables")
def test_twins_do_not_meet(driver: Driver, declared: str, stored: str, twin: str, column: str) -> None:
    """A key or space that only the column's type or collation takes for another one is another one, or is refused."""
    types = ("TEXT", declared) if column == "space" else (declared, "TEXT")
    on = own(driver, "CREATE TABLE t (id {}, space_id {}, n, PRIMARY KEY (space_id, id))".format(*types))
    mine, theirs = (on.within(stored), on.within(twin)) if column == "space" else (on, on)
    key, other = ("k", "k") if column == "space" else (stored, twin)
    mine.create(key, {"n": 1})
    assert mine.get(key)["n"] == 1
    assert (theirs.get(other), theirs.version(other)) == (None, None)
    for operation in ("update", "delete"):
        with pytest.raises(RecordMissing):
            theirs.commit(theirs.write(operation, other, {"n": 2}))
    for operation in ("create", "upsert"):
        with pytest.raises(StoreError):
            theirs.commit(theirs.write(operation, other, {"n": 2}))
    assert mine.get(key)["n"] == 1
    assert mine.keys() == [key]


@sqlite_only("the table is made in SQLite's words; see tests/postgres/test_tables")
def test_a_key_that_a_column_would_change_is_refused(driver: Driver) -> None:
    """A new row whose key the column's type turns into another one is not written under that other one."""
    on = own(driver, "CREATE TABLE t (id INTEGER PRIMARY KEY, space_id TEXT)")
    with pytest.raises(StoreError, match="turned the key into something else"):
        on.create("017", {})
    with pytest.raises(UsageError):
        on.create("abc", {})
    assert driver.rows("SELECT count(*) FROM t") == [(0,)]
    on.create("17", {"id": 17})
    assert on.get("17") == {"id": 17, "space_id": SPACE}
    on.update("17", on.get("17"))


@sqlite_only("the table is made in SQLite's words; see tests/postgres/test_tables")
def test_rows_without_a_usable_key_are_passed_over(driver: Driver) -> None:
    """Rows of the application whose key is NULL, a blob or a float are not records; they do no harm."""
    on = own(
        driver,
        "CREATE TABLE t (id PRIMARY KEY, n)",
        "INSERT INTO t VALUES (NULL, 1), (x'61', 2), (1.5, 3), ('a', 4), (7, 5)",
        space_column=None,
    )
    assert on.keys() == ["7", "a"]
    assert on.get("a") == {"id": "a", "n": 4}
    assert (on.get("1.5"), on.get("7")) == (None, None)  # without a type, 7 and '7' differ to SQLite


@sqlite_only("the table is made in SQLite's words; see tests/postgres/test_tables")
def test_another_space_is_never_overwritten(driver: Driver) -> None:
    """Where the key alone is unique, a second space cannot have it, not even where the table says REPLACE."""
    on = own(driver, "CREATE TABLE t (id TEXT UNIQUE ON CONFLICT REPLACE, space_id TEXT, n)")
    on.create("k", {"n": 1})
    for operation in ("create", "upsert"):
        with pytest.raises(StoreError, match=r"UNIQUE constraint failed: t\.id"):
            on.within("other").commit(on.write(operation, "k", {"n": 2}))
    assert on.get("k")["n"] == 1


# What the table says no to


@pytest.mark.parametrize(
    ("columns", "value", "message"),
    [
        ("n TEXT NOT NULL", {}, r"NOT NULL constraint failed: t\.n"),
        ("n TEXT UNIQUE", {"n": SECRET}, r"UNIQUE constraint failed: t\.n"),
        ("n TEXT CONSTRAINT short CHECK (length(n) < 3)", {"n": SECRET}, "CHECK constraint failed: short"),
        ("n TEXT REFERENCES uow_stores (name)", {"n": SECRET}, "FOREIGN KEY constraint failed"),
        ("n TEXT NOT NULL ON CONFLICT ROLLBACK", {}, r"NOT NULL constraint failed: t\.n"),
    ],
)
@sqlite_only("the table is made in SQLite's words; see tests/postgres/test_tables")
def test_constraints_are_named_without_values(
    driver: Driver, columns: str, value: dict[str, Any], message: str
) -> None:
    """A constraint of the application's table ends the unit with an error that names the constraint only."""
    on = own(driver, f"CREATE TABLE t (id TEXT PRIMARY KEY, space_id TEXT, {columns})")
    if "UNIQUE" in columns:
        on.create("first", value)
    with pytest.raises(StoreError, match=message) as caught:
        on.create("k", value)
    assert SECRET not in str(caught.value)
    assert SECRET not in str(caught.value.__cause__)
    assert on.get("k") is None


@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        (f"BEFORE INSERT ON t BEGIN SELECT RAISE(ABORT, '{SECRET}'); END", "A trigger of it refused the write"),
        (f"BEFORE INSERT ON t BEGIN SELECT RAISE(FAIL, '{SECRET}'); END", "A trigger of it refused the write"),
        ("BEFORE INSERT ON t BEGIN SELECT RAISE(IGNORE); END", "A trigger of it held the write back"),
        ("AFTER INSERT ON t BEGIN DELETE FROM t; END", "turned the key into something else"),
        ("AFTER INSERT ON t BEGIN UPDATE t SET id = 'other'; END", "turned the key into something else"),
    ],
)
@sqlite_only("the table is made in SQLite's words; see tests/postgres/test_tables")
def test_triggers_that_interfere(driver: Driver, trigger: str, message: str) -> None:
    """A trigger of the application that refuses, drops or renames a row ends the unit; its words are not repeated."""
    on = own(driver, "CREATE TABLE t (id TEXT PRIMARY KEY, space_id TEXT)", f"CREATE TRIGGER x {trigger}")
    with pytest.raises(StoreError, match=message) as caught:
        on.create("k", {})
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert driver.rows("SELECT count(*) FROM t") == [(0,)]


@sqlite_only("the table is made in SQLite's words; see tests/postgres/test_tables")
def test_a_held_back_delete_is_noticed(driver: Driver) -> None:
    """A delete that a trigger swallows ends the unit instead of being reported as done."""
    on = own(driver, "CREATE TABLE t (id TEXT PRIMARY KEY, space_id TEXT)")
    on.create("k", {})
    driver.sql("CREATE TRIGGER keep BEFORE DELETE ON t BEGIN SELECT RAISE(IGNORE); END")
    with pytest.raises(StoreError, match="held the write back"):
        on.delete("k")


@sqlite_only("the table is made in SQLite's words; see tests/postgres/test_tables")
def test_strict_tables_name_the_column(driver: Driver) -> None:
    """A STRICT table refuses a value of the wrong type with the column's name."""
    if driver.rows("SELECT sqlite_version()")[0][0].split(".") < ["3", "37"]:
        pytest.skip("this SQLite has no STRICT tables")
    on = own(driver, "CREATE TABLE t (id TEXT PRIMARY KEY, space_id TEXT, n INTEGER) STRICT")
    with pytest.raises(StoreError, match=r"TEXT value in INTEGER column t\.n"):
        on.create("k", {"n": "abc"})


@sqlite_only("the table is made in SQLite's words; see tests/postgres/test_tables")
def test_generated_columns_are_read_only(driver: Driver) -> None:
    """A column that the table computes is read with the row and refused when written."""
    on = own(driver, "CREATE TABLE t (id TEXT PRIMARY KEY, space_id TEXT, n INT, twice INT AS (n * 2) STORED)")
    on.create("k", {"n": 4})
    assert on.get("k")["twice"] == 8
    with pytest.raises(UsageError, match="computes the column 'twice'"):
        on.write("update", "k", {"twice": 9})


# Which tables can serve


@pytest.mark.parametrize(
    "ddl",
    [
        "CREATE TABLE t (id TEXT PRIMARY KEY, space_id TEXT)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, space_id TEXT)",
        "CREATE TABLE t (id TEXT UNIQUE, space_id TEXT)",
        "CREATE TABLE t (id TEXT, space_id TEXT, PRIMARY KEY (id, space_id)) WITHOUT ROWID",
        "CREATE TABLE t (id TEXT, space_id TEXT, UNIQUE (space_id, id))",
        "CREATE TABLE T (n INT, id TEXT, space_id TEXT, UNIQUE (id, n), UNIQUE (space_id, id))",
    ],
)
@sqlite_only("the table is made in SQLite's words; see tests/postgres/test_tables")
def test_tables_with_a_unique_key_serve(driver: Driver, ddl: str) -> None:
    """A primary key or unique index over the key, alone or with the space, is what a table needs."""
    on = own(driver, ddl)
    on.create("5", {})
    assert on.keys() == ["5"]


@pytest.mark.parametrize(
    ("ddl", "message"),
    [
        (["CREATE TABLE t (id TEXT, space_id TEXT)"], "makes 'id' and 'space_id' unique"),
        (["CREATE TABLE t (id TEXT, space_id TEXT, n, PRIMARY KEY (id, space_id, n))"], "unique"),
        (["CREATE TABLE t (id TEXT, space_id TEXT PRIMARY KEY)"], "unique"),
        (["CREATE TABLE t (id TEXT, space_id TEXT)", "CREATE UNIQUE INDEX i ON t (id) WHERE id > 'a'"], "unique"),
        (["CREATE TABLE t (id TEXT, space_id TEXT)", "CREATE UNIQUE INDEX i ON t (lower(id))"], "unique"),
        (["CREATE TABLE t (id TEXT, space_id TEXT)", "CREATE INDEX i ON t (id)"], "unique"),
        (["CREATE TABLE t (id TEXT PRIMARY KEY)"], "no column 'space_id'"),
        (["CREATE TABLE t (space_id TEXT, ID TEXT PRIMARY KEY)"], "no column 'id'"),
        (["CREATE TABLE t (x, space_id TEXT, id TEXT AS (x) STORED UNIQUE)"], "no column 'id' to write to"),
        (["CREATE VIEW t AS SELECT 1 AS id, 2 AS space_id"], "'t' is a view"),
        (["CREATE VIRTUAL TABLE t USING fts5(id, space_id)"], "'t' is a virtual table"),
        ([], "has no table 't'"),
    ],
)
@sqlite_only("the table is made in SQLite's words; see tests/postgres/test_tables")
def test_tables_that_cannot_serve_are_refused(driver: Driver, ddl: list[str], message: str) -> None:
    """A table in which the key does not name one row is refused when the ledger is opened, with a way out."""
    driver.sql(*ddl)
    with pytest.raises(UsageError, match=message) as caught:
        driver.attach(TableStore("t", key="id"))
    assert caught.value.hint
    assert driver.rows("SELECT count(*) FROM uow_stores") == [(0,)]


@sqlite_only("the table is made in SQLite's words; see tests/postgres/test_tables")
def test_a_table_is_made_from_columns(driver: Driver) -> None:
    """A missing table is created with a primary key of space and key, and used as it is from then on."""
    store = TableStore("orders", key="id", columns={"id": "text", "n": "Integer not null"})
    assert driver.attach(store)
    ddl = (
        'CREATE TABLE "orders" ("id" TEXT NOT NULL, "n" INTEGER NOT NULL, "space_id" TEXT NOT NULL,'
        ' PRIMARY KEY ("space_id", "id"))'
    )
    assert driver.rows("SELECT sql FROM sqlite_schema WHERE name = 'orders'") == [(ddl,)]
    assert not driver.attach(TableStore("orders", key="id", columns={"id": "text", "n": "integer"}))
    assert not driver.attach(TableStore("orders", key="id"))
    with driver.transaction() as tx:
        assert store.setup(tx, None) == {"table": "orders", "key": "id", "space_column": "space_id"}


def test_a_table_that_vanishes_is_noticed(driver: Driver) -> None:
    """A table that is dropped between the two looks is refused at the second, if the store cannot make it."""
    driver.sql("CREATE TABLE t (id TEXT PRIMARY KEY, space_id TEXT)")
    store = TableStore("t", key="id")
    with driver.reader() as reader:
        assert store.attach(driver.home, reader, None)
    driver.sql("DROP TABLE t")
    with driver.transaction() as tx, pytest.raises(UsageError, match="no table 't'"):
        store.setup(tx, None)


def test_columns_are_known_before_the_table_is_made() -> None:
    """A store that will create its table checks rows against the declared columns from the start."""
    store = TableStore("orders", key="id", columns={"id": "TEXT", "n": "INTEGER"})
    store.encode(Operation.CREATE, "k", {"n": 1}, Limits())
    with pytest.raises(UsageError, match="id, n, space_id"):
        store.encode(Operation.CREATE, "k", {"m": 1}, Limits())


@sqlite_only("the table is made in SQLite's words; see tests/postgres/test_tables")
def test_declared_columns_must_be_there(driver: Driver) -> None:
    """An existing table without a declared column is refused; more columns than declared are welcome."""
    driver.sql("CREATE TABLE orders (id TEXT PRIMARY KEY, space_id TEXT, extra)")
    driver.attach(TableStore("orders", key="id", columns={"id": "TEXT"}))
    many = {f"c{number:02}": "TEXT" for number in range(25)}
    with pytest.raises(UsageError, match=r"without the columns c00.* and 5 more") as caught:
        driver.attach(TableStore("orders", key="id", columns={"id": "TEXT", **many}))
    assert "ALTER TABLE" in str(caught.value)


def test_new_columns_are_known_after_attaching_again(orders: On) -> None:
    """When the application adds a column, attaching again is all it takes."""
    orders.driver.sql("ALTER TABLE orders ADD COLUMN extra TEXT")
    orders.driver.attach(orders.store)
    orders.create("k", {"extra": "x"})
    assert orders.get("k")["extra"] == "x"


@sqlite_only("the table is made in SQLite's words; see tests/postgres/test_tables")
def test_odd_column_names_of_the_application_are_quoted(driver: Driver) -> None:
    """Columns that the application called strangely can be read and written."""
    odd = ["two words", 'quo"te', "größe", "select", "a;b--", "rowid"]
    names = ", ".join('"' + name.replace('"', '""') + '"' for name in odd)
    on = own(driver, f"CREATE TABLE t (id TEXT PRIMARY KEY, space_id TEXT, {names})")
    row = dict.fromkeys(odd, "x")
    on.create("k", row)
    assert on.get("k") == {"id": "k", "space_id": SPACE, **row}


def test_the_configuration_stays(driver: Driver) -> None:
    """Under a recorded name the table, key and space column are what they were; all else is refused."""
    driver.sql("CREATE TABLE t (id TEXT UNIQUE, other TEXT UNIQUE, space_id TEXT)", "CREATE TABLE u AS SELECT 1 AS id")
    driver.attach(TableStore("t", key="id"))
    for store in (
        TableStore("t", key="other"),
        TableStore("t", key="id", space_column=None),
        TableStore("t", key="id", table="u"),
    ):
        with pytest.raises(UsageError, match="another table, key or space column"):
            driver.attach(store)
        with driver.transaction() as tx, pytest.raises(UsageError):
            store.setup(tx, {"table": "t", "key": "id", "space_column": "space_id"})


@sqlite_only("the table is made in SQLite's words; see tests/postgres/test_tables")
def test_a_temporary_table_does_not_get_in_between(driver: Driver) -> None:
    """A temporary table of the same name on the connection is not mistaken for the application's table."""
    driver.sql("CREATE TABLE t (id TEXT PRIMARY KEY, space_id TEXT)", "CREATE TEMP TABLE t (id TEXT PRIMARY KEY, x)")
    on = driver.attached(TableStore("t", key="id"))
    on.create("k", {})
    assert driver.rows("SELECT id FROM main.t") == [("k",)]


# Hostile names


HOSTILE = [
    *("", " ", "a b", "a-b", "a.b", "main.t", "1a", "ä", "\u0430", "a\0", "a\n", "a\n;", "t;", "t--", "t/*", "*", "?"),
    *(":a", '"', "'", "`", "[", "]", "[t]", '"t"', "'t'", "`t`", 'x" ; DROP TABLE uow_stores; --', "x'); DROP TABLE t"),
    *(
        "a" * 64,
        "a" * 10_000,
        "\ud800",
        "t\u200b",
        "\u202et",
        "\uff54",
        "t\N{COMBINING ACUTE ACCENT}",
        "$t",
        "@t",
        "#t",
    ),
    *(f"t{mark}" for mark in string.punctuation if mark != "_"),
    *(f"{mark}t" for mark in string.punctuation if mark != "_"),
    *(f"a{mark}b" for mark in string.whitespace),
    *(f"t{chr(code)}" for code in range(32)),
    *(f"{chr(code)}" for code in range(0x80, 0xC0)),
    *(5, None, b"t", ("t",), ["t"], 1.5),
]
RESERVED = [
    "uow_stores",
    "UOW_STORES",
    "uow_",
    "unit_of_work",
    "Unit_Of_Work",
    "sqlite_schema",
    "SQLITE_x",
    "uow_writes",
]


def make_with(place: str, name: Any) -> TableStore:
    """A store in which `name` stands in one place."""
    arguments: dict[str, Any] = {"key": "id", "columns": {"id": "TEXT"}}
    if place == "column":
        arguments["columns"] = {"id": "TEXT", name: "TEXT"} if isinstance(name, str | bytes) else {name: "TEXT"}
    elif place == "type":
        arguments["columns"] = {"id": "TEXT", "n": name}
    else:
        arguments[place] = name
    return TableStore("t", **arguments)


def test_there_are_enough_hostile_names() -> None:
    """The list is no token: more than two hundred names, each refused in four places."""
    assert len({repr(name) for name in HOSTILE}) >= 200


@pytest.mark.parametrize("place", ["table", "key", "space_column", "column", "type"])
def test_hostile_names_are_refused(place: str) -> None:
    """A name that is no plain identifier is refused before it comes near SQL, without being repeated."""
    for name in HOSTILE:
        if (place in ("table", "space_column") and name is None) or (place == "column" and isinstance(name, list)):
            continue  # None means the default there, and a list cannot be a key of a dict
        with pytest.raises(UsageError) as caught:
            make_with(place, name)
        assert "DROP" not in str(caught.value)


@pytest.mark.parametrize("table", RESERVED)
def test_reserved_tables_are_refused(table: str) -> None:
    """The library's own tables and SQLite's cannot be written through a table store."""
    with pytest.raises(UsageError, match="belongs to this library or to SQLite"):
        TableStore("t", key="id", table=table)


@given(name=st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,62}", fullmatch=True, alphabet=st.characters(codec="ascii")))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_every_plain_name_works(driver: Driver, name: str) -> None:
    """Whatever passes the rule works as a table and column, keywords included."""
    if name.lower() in ("id", "space_id", "unit_of_work") or name.lower().startswith(("uow_", "sqlite_")):
        return
    driver.sql(f'DROP TABLE IF EXISTS "{name}"', "DELETE FROM uow_stores")
    on = driver.attached(TableStore("s", table=name, key="id", columns={"id": "TEXT", name: "TEXT"}))
    on.create("k", {name: "x"})
    assert on.get("k")[name] == "x"


@pytest.mark.parametrize(
    "declared",
    [
        *("", "INT", "VARCHAR(10)", "TEXT DEFAULT 5", "TEXT; DROP", "TEXT NOT NULL UNIQUE", "TEXT\n", "TEXT  NOT NULL"),
        *(5, None),
    ],
)
def test_other_declared_types_are_refused(declared: Any) -> None:
    """Tables are created with the five types of SQLite, and NOT NULL, only."""
    with pytest.raises(UsageError, match="declared type of the column 'n'"):
        TableStore("t", key="id", columns={"id": "TEXT", "n": declared})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "key column 'id' is not among"),
        ({"n": "TEXT"}, "key column 'id' is not among"),
        ({"id": "REAL"}, "must be TEXT or INTEGER"),
        ({"id": "BLOB"}, "must be TEXT or INTEGER"),
        ({"id": "TEXT", "space_id": "REAL"}, "must be TEXT or INTEGER"),
        ({"id": "TEXT", "ID": "TEXT"}, "differ in more than case"),
        ({"id": "TEXT", "SPACE_ID": "TEXT"}, "differ in more than case"),
        ({"id": "TEXT", **{f"c{number}": "TEXT" for number in range(1000)}}, "1,000 at most"),
    ],
)
def test_bad_sets_of_columns_are_refused(columns: dict[str, str], message: str) -> None:
    """The declared columns must make a table with a key."""
    with pytest.raises(UsageError, match=message):
        TableStore("t", key="id", columns=columns)


@pytest.mark.parametrize("columns", [5, "id", ["id"], [("id", "TEXT")]])
def test_columns_are_a_mapping(columns: Any) -> None:
    """Columns without types are refused."""
    with pytest.raises(UsageError, match="mapping"):
        TableStore("t", key="id", columns=columns)


def test_key_and_space_differ() -> None:
    """One column cannot be both."""
    with pytest.raises(UsageError, match="are the same"):
        TableStore("t", key="id", space_column="id")


def test_names_that_differ_in_case_from_the_key() -> None:
    """Key and space column may not differ in case only either: to SQLite they are one."""
    with pytest.raises(UsageError, match="are the same"):
        TableStore("t", key="id", space_column="ID")


def test_many_rows_in_one_unit(orders: On) -> None:
    """Writes of one unit take effect in order, each seeing those before it."""
    writes: Sequence[Any] = [
        orders.write("create", "a", {"total": 1}),
        orders.write("update", "a", {"total": 2}),
        orders.write("delete", "a"),
        orders.write("upsert", "a", {"total": 3}),
        *(orders.write("create", f"k{number}", {"total": number}) for number in range(50)),
    ]
    orders.commit(*writes)
    assert orders.get("a")["total"] == 3
    assert len(orders.keys()) == 51
    assert all(write.content for write in writes if write.operation is not Operation.DELETE)
