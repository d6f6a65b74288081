"""Bad input: refused with a typed error and a hint before anything is written, with the unit still usable."""

from __future__ import annotations

import decimal
import json
import logging
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from memoryos_uow import Ledger, Limits, UsageError
from memoryos_uow._buffer import Mark
from memoryos_uow.stores import BlobStore, DocumentStore, TableStore, VectorStore
from tests.units import MARKER, SPACE, everything, four_stores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memoryos_uow import UnitOfWork

LIMITS: Final = Limits(
    writes_per_unit=50,
    bytes_per_unit=50_000,
    document_bytes=10_000,
    row_bytes=10_000,
    blob_bytes=10_000,
    vector_dimensions=2,
    sql_characters=1_000,
)


class Named(NamedTuple):
    """A value with a name for the test's report."""

    what: str
    value: Any


def deep(levels: int) -> Any:
    """A document of many nested lists."""
    value: Any = MARKER
    for _ in range(levels):
        value = [value]
    return value


def circular() -> Any:
    """A document that holds itself."""
    value: dict[str, Any] = {"text": MARKER}
    value["again"] = value
    return value


NAN, INFINITY = float("nan"), float("inf")

DOCUMENTS: Final = [
    Named("NaN", {"x": NAN, "y": MARKER}),
    Named("infinity", {"x": [1, -INFINITY], "y": MARKER}),
    Named("lone surrogate", {"x": f"{MARKER}\ud800"}),
    Named("lone surrogate in a key", {f"{MARKER}\udfff": 1}),
    Named("U+0000", {"x": f"{MARKER}\0"}),
    Named("U+0000 in a key", {f"{MARKER}\0": 1}),
    Named("bytes", {"x": MARKER.encode()}),
    Named("set", {"x": {MARKER}}),
    Named("datetime", {"x": datetime(2026, 11, 22, tzinfo=UTC), "y": MARKER}),
    Named("decimal", {"x": decimal.Decimal("1.5"), "y": MARKER}),
    Named("object", {"x": object(), "y": MARKER}),
    Named("class", {"x": int, "y": MARKER}),
    Named("function", lambda: MARKER),
    Named("number as key", {1: MARKER}),
    Named("null as key", {None: MARKER}),
    Named("too large", {"x": MARKER * 2_000}),
    Named("too deep", deep(20_000)),
    Named("circular", circular()),
]
ROWS: Final = [
    Named("no dict", [("n", MARKER)]),
    Named("string", MARKER),
    Named("none", None),
    Named("unknown column", {MARKER: 1}),
    Named("hostile column", {f"n = 1; DROP TABLE orders; -- {MARKER}": 1}),
    Named("number as column", {7: MARKER}),
    Named("list", {"what": [MARKER]}),
    Named("dict", {"what": {"x": MARKER}}),
    Named("NaN", {"n": NAN, "what": MARKER}),
    Named("infinity", {"n": INFINITY, "what": MARKER}),
    Named("beyond 64 bits", {"n": 2**63, "what": MARKER}),
    Named("lone surrogate", {"what": f"{MARKER}\ud800"}),
    Named("U+0000", {"what": f"{MARKER}\0"}),
    Named("object", {"what": object()}),
    Named("another key", {"id": MARKER}),
    Named("too large", {"what": MARKER * 2_000}),
]
VECTORS: Final = [
    Named("too short", [1.0]),
    Named("too long", [1.0, 2.0, 3.0]),
    Named("empty", []),
    Named("NaN", [NAN, 1.0]),
    Named("infinity", [INFINITY, 1.0]),
    Named("beyond float32", [1e39, 1.0]),
    Named("zero", [0.0, 0.0]),
    Named("strings", [MARKER, MARKER]),
    Named("string", MARKER[:2]),
    Named("bytes", MARKER[:2].encode()),
    Named("none", None),
    Named("booleans", [True, False]),
    Named("complex", [1j, 1.0]),
    Named("nested", [[1.0, 2.0]]),
    Named("set", {1.0, 2.0}),
    Named("huge integer", [10**400, 1]),
]
BLOBS: Final = [
    Named("string", MARKER),
    Named("none", None),
    Named("number", 7),
    Named("list of bytes", [MARKER.encode()]),
    Named("too large", MARKER.encode() * 2_000),
]
BLOB_KEYS: Final = [
    "../x", "a/../x", "/etc/passwd", "a//b", "a/", "./a", "a/./b", "..", ".", "a\\b", "..\\x", "C:x", "c:/x", "a\nb",
    "a\x7fb", "\uff0e\uff0e/x", "a" * 256, f"../{MARKER}",
]  # fmt: skip
SQL: Final = [
    Named("nothing", ""),
    Named("spaces", "  "),
    Named("comment", "-- nothing"),
    Named("no SQL", f"SELEC '{MARKER}'"),
    Named("two statements", "INSERT INTO orders (id) VALUES ('1'); DELETE FROM orders"),
    Named("no table", "SELECT * FROM nowhere"),
    Named("begin", "BEGIN"),
    Named("commit", "COMMIT"),
    Named("rollback", "ROLLBACK"),
    Named("end", "END TRANSACTION"),
    Named("savepoint", "SAVEPOINT x"),
    Named("release", "RELEASE uow_0"),
    Named("attach", "ATTACH ':memory:' AS x"),
    Named("detach", "DETACH main"),
    Named("pragma", "PRAGMA synchronous = OFF"),
    Named("reading pragma", "PRAGMA user_version"),
    Named("vacuum", "VACUUM"),
    Named("vacuum into", "VACUUM INTO 'copy.db'"),
    Named("temporary table", "CREATE TEMP TABLE x (y)"),
    Named("unit table", "DELETE FROM unit_of_work"),
    Named("write table", "UPDATE uow_writes SET checksum = NULL"),
    Named("document table", "INSERT INTO uow_documents (store) VALUES ('x')"),
    Named("upper case", 'DELETE FROM "UOW_LEDGER"'),
    Named("drop", "DROP TABLE uow_ledger"),
    Named("alter", "ALTER TABLE unit_of_work ADD COLUMN x"),
    Named("rename", "ALTER TABLE orders RENAME TO uow_orders"),
    Named("index", "CREATE INDEX mine ON unit_of_work (status)"),
    Named("trigger", "CREATE TRIGGER mine AFTER INSERT ON uow_writes BEGIN SELECT 1; END"),
    Named("name of ours", "CREATE TABLE uow_mine (x)"),
    Named("view of ours", "CREATE VIEW uow_mine AS SELECT 1"),
    Named("schema table", "DELETE FROM sqlite_schema"),
    Named("extension", "SELECT load_extension('x')"),
    Named("no text", b"SELECT 1"),
    Named("none", None),
    Named("U+0000", f"SELECT '{MARKER}\0'"),
    Named("lone surrogate", f"SELECT '{MARKER}\ud800'"),
    Named("too long", f"SELECT '{MARKER * 500}'"),
]
PARAMETERS: Final = [
    Named("too few", ("1",)),
    Named("too many", ("1", MARKER, "3")),
    Named("string", MARKER),
    Named("number", 7),
    Named("none", None),
    Named("set", {MARKER}),
    Named("NaN", ("1", NAN)),
    Named("infinity", ("1", INFINITY)),
    Named("beyond 64 bits", ("1", 2**63)),
    Named("list", ("1", [MARKER])),
    Named("object", ("1", object())),
    Named("lone surrogate", ("1", f"{MARKER}\ud800")),
    Named("U+0000", ("1", f"{MARKER}\0")),
    Named("names", {"id": MARKER}),
]


def every_call() -> Iterator[tuple[str, Callable[[UnitOfWork], object]]]:
    """Every bad call of a unit, with its name."""
    for store, values in (("notes", DOCUMENTS), ("orders", ROWS), ("embeddings", VECTORS), ("photos", BLOBS)):
        for verb in ("create", "update", "upsert"):
            for what, value in values:
                yield f"{store} {verb} {what}", partial(write, store, verb, "k", value)
    for key in BLOB_KEYS:
        yield f"photos {key[:12]!r}", partial(write, "photos", "create", key, MARKER.encode())
    for what, statement in SQL:
        yield f"sql {what}", partial(sql, statement, ())
    for what, parameters in PARAMETERS:
        yield f"parameters {what}", partial(sql, "INSERT INTO orders (id, what) VALUES (?, ?)", parameters)
    for what, query in (("number", 7), ("none", None), ("too long", MARKER * 5_000)):
        yield f"search for {what}", partial(search, "notes", query, {})
    yield "search syntax", partial(search, "notes", f'"{MARKER}', {"syntax": True})
    yield "search option", partial(search, "notes", "x", {MARKER: 1})
    for what, query in VECTORS:
        yield f"nearest to {what}", partial(search, "embeddings", query, {})


def write(store: str, verb: str, key: str, value: object, uow: UnitOfWork) -> None:
    """Call one of the verbs that write."""
    getattr(uow[store], verb)(key, value)


def sql(statement: Any, parameters: Any, uow: UnitOfWork) -> None:
    """Run a statement."""
    uow.sql(statement, parameters)


def search(store: str, query: object, options: dict[str, Any], uow: UnitOfWork) -> None:
    """Search a store."""
    uow[store].search(query, **options)


CALLS: Final = dict(every_call())


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """One ledger for all bad calls: none of them leaves anything, so none can disturb another."""
    path = tmp_path_factory.mktemp("bad") / "memory.db"
    with Ledger.open(path, stores=four_stores(), limits=LIMITS) as ledger:
        yield ledger


@pytest.fixture(scope="module")
def pristine(opened: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in that ledger's file before the first bad call."""
    return everything(opened.path)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_bad_call_in_a_unit(
    opened: Ledger,
    pristine: dict[str, list[tuple[Any, ...]]],
    caplog: pytest.LogCaptureFixture,
    call: Callable[[UnitOfWork], object],
) -> None:
    """A bad call is a UsageError with a hint; no payload is told, nothing is written, and the unit can go on."""
    with caplog.at_level(logging.DEBUG), opened.unit(space_id=SPACE, band="GREEN") as uow:
        with pytest.raises(UsageError) as caught:
            call(uow)
        assert caught.value.hint
        assert caught.value.uow_id == uow.uow_id
        assert not caught.value.retryable
        assert MARKER not in str(caught.value)
        assert MARKER not in caplog.text
        assert uow._state is not None
        assert uow._state.buffer.writes == []
        uow["notes"].create("fine", {"text": "milk"})
        assert uow["notes"].get("fine") == {"text": "milk"}
        uow["notes"].delete("fine")
        with uow.savepoint():
            uow["notes"].upsert("fine", 1)
        uow._state.buffer.cut(Mark("", 0))  # leaves nothing behind for the next call
    assert uow.status == "committed"
    assert everything(opened.path) == pristine
    assert sorted(file.name for file in opened.path.parent.iterdir() if "-" not in file.name) == ["memory.db", "photos"]


@pytest.mark.parametrize("store", ["notes", "orders", "embeddings", "photos"])
def test_a_unit_goes_on_after_a_bad_call(wide: Ledger, store: str) -> None:
    """What was written before and after a bad call that the caller caught is committed, and only that."""
    good: dict[str, Any] = {"notes": {"text": "milk"}, "orders": {"n": 1}, "embeddings": [1, 2], "photos": b"x"}
    with wide.unit(space_id=SPACE, band="GREEN") as uow:
        uow[store].create("before", good[store])
        with pytest.raises(UsageError):
            uow[store].create("bad", object())
        uow[store].create("after", good[store])
    assert list(wide[store].keys(space_id=SPACE)) == ["after", "before"]
    assert [write.record_id for write in wide.get(uow.uow_id).writes] == ["before", "after"]


def test_too_many_writes(tmp_path: Path) -> None:
    """The write that is one too many is refused; those before it are committed."""
    opened = Ledger.open(tmp_path / "memory.db", limits=LIMITS)
    with opened as ledger:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create_many({str(number): number for number in range(50)})
            for verb in (uow["notes"].create, uow["notes"].upsert):
                with pytest.raises(UsageError, match="50 writes at most") as caught:
                    verb("51", MARKER)
                assert caught.value.hint
        assert len(ledger.get(uow.uow_id).writes) == 50


def test_too_many_bytes(tmp_path: Path) -> None:
    """The write that makes the unit too large is refused; room that a savepoint gave back is room again."""
    opened = Ledger.open(tmp_path / "memory.db", limits=LIMITS)
    with opened as ledger:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            for key in "abcde":
                uow["notes"].create(key, "x" * 9_000)
            with pytest.raises(UsageError, match="50,000 bytes at most"), uow.savepoint():
                uow["notes"].create("f", "x" * 4_000)
                uow["notes"].create("g", "x" * 4_000)
            uow["notes"].create("h", "x" * 4_000)
        assert "".join(ledger["notes"].keys(space_id=SPACE)) == "abcdeh"


HOSTILE: Final = ["", "a b", "1a", "a-b", "a.b", "ä", "a;DROP TABLE x", 'a"b', "a'b", "a\0", "a" * 64, 7, None]
RESERVED: Final = ["uow_x", "UOW_X", "unit_of_work", "sqlite_x", "sqlite_schema"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(name: Any) -> None:
    """Names that could mean something to SQL are refused when a store is made, wherever they stand."""
    tries: list[Callable[[], object]] = [
        lambda: TableStore("t", key=name),
        lambda: TableStore("t", key="id", columns={"id": "TEXT", name: "TEXT"}),
        lambda: TableStore("t", key="id", columns={"id": name}),
        lambda: DocumentStore(name),
        lambda: VectorStore(name, dimensions=2),
        lambda: BlobStore(name, "x"),
        lambda: TableStore(name, key="id"),
    ]
    if name is not None:  # None has a meaning for these
        tries += [lambda: TableStore("t", key="id", table=name), lambda: TableStore("t", key="id", space_column=name)]
    refuse_all(tries)


@pytest.mark.parametrize("name", RESERVED)
def test_tables_that_are_not_the_applications(name: str) -> None:
    """A table of the library's own or of SQLite's is not one that the application can give away."""
    refuse_all([lambda: TableStore("t", key="id", table=name), lambda: TableStore(name, key="id")])


def refuse_all(tries: list[Callable[[], object]]) -> None:
    """Each of these raises UsageError with a hint."""
    for attempt in tries:
        with pytest.raises(UsageError) as caught:
            attempt()
        assert caught.value.hint


@pytest.mark.parametrize(
    "make",
    [
        lambda: VectorStore("v", dimensions=0),
        lambda: VectorStore("v", dimensions=-1),
        lambda: VectorStore("v", dimensions=2.0),  # type: ignore[arg-type]
        lambda: VectorStore("v", dimensions="2"),  # type: ignore[arg-type]
        lambda: VectorStore("v", dimensions=True),
        lambda: VectorStore("v", dimensions=2, metric="dot"),  # type: ignore[arg-type]
        lambda: BlobStore("b", ""),
        lambda: BlobStore("b", 7),  # type: ignore[arg-type]
        lambda: BlobStore("b", "a\0b"),
        lambda: BlobStore("b", "x", inline_below=-1),
        lambda: BlobStore("b", "x", inline_below=1.5),  # type: ignore[arg-type]
        lambda: DocumentStore("d", search="text"),
        lambda: DocumentStore("d", search=[""]),
        lambda: DocumentStore("d", search=[7]),  # type: ignore[list-item]
        lambda: DocumentStore("d", search=["a", "a"]),
        lambda: DocumentStore("d", search=7),  # type: ignore[arg-type]
        lambda: TableStore("t", key="id", columns={}),
        lambda: TableStore("t", key="id", columns=["id"]),  # type: ignore[arg-type]
        lambda: TableStore("t", key="id", columns={"other": "TEXT"}),
        lambda: TableStore("t", key="space_id"),
    ],
)
def test_stores_that_cannot_be(make: Callable[[], object]) -> None:
    """A store with arguments that cannot be is refused when it is made."""
    with pytest.raises(UsageError) as caught:
        make()
    assert caught.value.hint


def test_what_only_the_commit_can_find(wide: Ledger) -> None:
    """A row for another space is found when the row is written: the whole unit is refused."""
    before = everything(wide.path)
    uow = wide.unit(space_id=SPACE, band="GREEN")
    with pytest.raises(UsageError, match="differs from the unit's space") as caught, uow:
        uow["notes"].create("n1", {"text": "milk"})
        uow["orders"].create("o1", {"space_id": MARKER})
    assert caught.value.store == "orders"
    assert MARKER not in str(caught.value)
    after = everything(wide.path)
    assert [row[0] for row in after.pop("unit_of_work")] == [uow.uow_id]
    before.pop("unit_of_work")
    assert after == before
    assert MARKER not in json.dumps(wide.get(uow.uow_id).as_dict())
