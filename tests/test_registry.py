"""The stores of a ledger: which there are, what is recorded of them, and when they are made ready."""

from __future__ import annotations

import json
import shutil
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import Ledger, StoreError, UsageError
from memoryos_uow.abc import Capability
from memoryos_uow.stores import BlobStore, DocumentStore, FileStore, SQLiteFileStore, TableStore
from tests.units import SPACE, OwnError, everything, four_stores, rows, run, start, throw

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from memoryos_uow import UnitOfWork
    from memoryos_uow.abc import Home, Reader, Transaction


def put(ledger: Ledger, key: str, value: Any = 1, store: str = "notes") -> UnitOfWork:
    """A committed unit with one write."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow[store].upsert(key, value)
    return uow


def recorded(path: Path) -> dict[str, tuple[str, Any]]:
    """What the ledger has recorded of its stores."""
    return {
        name: (kind, json.loads(config))
        for name, kind, config in rows(path, "SELECT name, kind, config FROM uow_stores")
    }


# Names and kinds


def test_what_is_recorded_of_stores(wide: Ledger) -> None:
    """A ledger records each store's kind and configuration when it is first opened with it."""
    found = recorded(wide.path)
    assert len(found["photos"][1].pop("claim")) == 64  # by which the directory knows its ledger
    assert found == {
        "notes": ("documents", {"search": ["text"]}),
        "orders": ("rows", {"table": "orders", "key": "id", "space_column": "space_id"}),
        "embeddings": ("vectors", {"dimensions": 2, "metric": "cosine"}),
        "photos": ("blobs", {"directory": "photos"}),
    }


def test_document_stores_need_no_registration(ledger: Ledger) -> None:
    """Without stores given, a name becomes a document store when something is written to it, not when it is read."""
    assert ledger["notes"].get("n1", space_id=SPACE) is None
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        assert uow["others"].get("n1") is None
    assert recorded(ledger.path) == {}
    put(ledger, "n1")
    assert recorded(ledger.path) == {"notes": ("documents", {"search": []})}


def test_a_name_that_holds_something_else(wide: Ledger) -> None:
    """A name that holds rows is not a document store, although no stores were given this time."""
    wide.close()
    with Ledger.open(wide.path) as ledger:
        for use in (lambda: ledger["orders"], lambda: put(ledger, "o1", store="photos")):
            with pytest.raises(UsageError, match=r"holds (rows|blobs), not documents") as caught:
                use()
            assert caught.value.hint
        put(ledger, "n1", {"text": "milk"})
        assert [hit.key for hit in ledger["notes"].search("milk", space_id=SPACE)] == ["n1"]


def test_two_stores_on_one_table(tmp_path: Path) -> None:
    """Each name is its own store: two document stores keep their keys apart."""
    with Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("a"), DocumentStore("A")]) as ledger:
        put(ledger, "n1", 1, "a")
        put(ledger, "n1", 2, "A")
        assert (ledger["a"].get("n1", space_id=SPACE), ledger["A"].get("n1", space_id=SPACE)) == (1, 2)


# Stores of somebody else's


class Promising(DocumentStore):
    """Claims to make bytes outside the ledger, and has no method for it."""

    capability = Capability.CONTENT_ADDRESSED


class Half:
    """Has a name and a kind, and nothing else of a store."""

    name = "half"
    kind = "half"


@pytest.mark.parametrize("store", [Promising("notes"), Half(), DocumentStore, "notes", None])
def test_what_is_no_store(tmp_path: Path, store: Any) -> None:
    """What lacks a store's methods, or those that its capability promises, is refused before there is a file."""
    with pytest.raises(UsageError) as caught:
        Ledger.open(tmp_path / "memory.db", stores=[store])
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


class Odd(DocumentStore):
    """Is called like nothing that can be called so."""

    @property
    def name(self) -> str:
        return "uow_documents"


def test_a_store_with_a_name_of_ours(tmp_path: Path) -> None:
    """A store cannot take a name that the library keeps for itself."""
    with pytest.raises(UsageError, match="kept for the library"):
        Ledger.open(tmp_path / "memory.db", stores=[Odd("notes")])


class Unready(DocumentStore):
    """Cannot be set up."""

    def attach(self, home: Home, reader: Reader, recorded: Mapping[str, Any] | None) -> bool:
        super().attach(home, reader, recorded)
        return True

    def setup(self, tx: Transaction, recorded: Mapping[str, Any] | None) -> Mapping[str, Any]:
        raise StoreError("No room for this store.", hint="Make some.", store=self.name)


def test_a_store_that_cannot_be_set_up(tmp_path: Path) -> None:
    """A store that cannot be made ready is refused at opening, loudly, and the others are not half made."""
    with pytest.raises(StoreError, match="No room"):
        Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("good"), Unready("bad")])
    with Ledger.open(tmp_path / "memory.db") as ledger:
        assert everything(ledger.path).get("uow_stores", []) == []
        put(ledger, "n1")


# What other processes do meanwhile

OTHER: Final = """
    import sys
    from memoryos_uow import Ledger
    from memoryos_uow.stores import DocumentStore, TableStore
    stores = eval(sys.argv[2])
    with Ledger.open(sys.argv[1], stores=stores) as ledger:
        with ledger.unit(space_id="shared:household", band="GREEN") as uow:
            exec(sys.argv[3])
"""


def elsewhere(ledger: Ledger, stores: str, work: str) -> None:
    """Let a second process open the ledger with some stores and do some work in a unit."""
    run(OTHER, ledger.path, stores, work)


def test_a_store_that_another_process_made(ledger: Ledger) -> None:
    """A store that another process made while this one ran is taken as it was made there."""
    put(ledger, "n1")
    elsewhere(ledger, "[DocumentStore('fresh', search=['text'])]", "uow['fresh'].create('f1', {'text': 'milk'})")
    assert [hit.key for hit in ledger["fresh"].search("milk", space_id=SPACE)] == ["f1"]
    put(ledger, "f2", {"text": "more milk"}, "fresh")
    assert {hit.key for hit in ledger["fresh"].search("milk", space_id=SPACE)} == {"f1", "f2"}


def test_a_search_that_another_process_added(ledger: Ledger) -> None:
    """When another process gives a store an index, this one keeps it in step from its next unit on."""
    put(ledger, "n1", {"text": "milk"})
    elsewhere(ledger, "[DocumentStore('notes', search=['text'])]", "uow['notes'].create('n2', {'text': 'milk'})")
    put(ledger, "n3", {"text": "milk"})
    assert {hit.key for hit in ledger["notes"].search("milk", space_id=SPACE)} == {"n1", "n2", "n3"}


def test_a_table_that_another_process_changed(tmp_path: Path) -> None:
    """A column that another process added is there from this process's next unit on."""
    orders = TableStore("orders", key="id", columns={"id": "TEXT"}, space_column=None)
    with Ledger.open(tmp_path / "memory.db", stores=[orders]) as ledger:
        put(ledger, "o1", {}, "orders")
        elsewhere(ledger, "()", "uow.sql('ALTER TABLE orders ADD COLUMN n INTEGER DEFAULT 7')")
        put(ledger, "o2", {}, "orders")
        put(ledger, "o3", {"n": 8}, "orders")
        assert [ledger["orders"].get(f"o{n}", space_id=SPACE)["n"] for n in (1, 2, 3)] == [7, 7, 8]


def test_a_kind_that_another_process_chose(ledger: Ledger) -> None:
    """A name that another process made into rows is refused here as documents; the unit with it fails as a whole."""
    put(ledger, "n1")
    elsewhere(
        ledger,
        "[TableStore('orders', key='id', columns={'id': 'TEXT'}, space_column=None)]",
        "uow['orders'].create('o1', {})",
    )
    with pytest.raises(UsageError, match="holds rows, not documents"):
        put(ledger, "o2", 1, "orders")


def test_a_kind_that_another_process_chose_during_a_unit(ledger: Ledger) -> None:
    """The same is found at commit, when the other process came between the write and the block's end."""
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    with pytest.raises(UsageError, match="holds rows, not documents"), uow:
        uow["notes"].create("n1", 1)
        uow["orders"].create("o1", 1)
        elsewhere(
            ledger,
            "[TableStore('orders', key='id', columns={'id': 'TEXT'}, space_column=None)]",
            "uow['orders'].create('o2', {})",
        )
    assert ledger["notes"].get("n1", space_id=SPACE) is None
    assert rows(ledger.path, "SELECT id FROM orders") == [("o2",)]


OPENER: Final = """
    import sys
    from memoryos_uow import Ledger
    from tests.units import four_stores
    sys.stdin.readline()
    with Ledger.open(sys.argv[1], stores=four_stores()) as ledger:
        with ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].create(sys.argv[2], {"text": "milk"})
            uow["photos"].create(sys.argv[2], b"x" * 100)
        print(uow.status)
"""


def test_processes_that_open_a_new_ledger_at_once(tmp_path: Path) -> None:
    """Four processes that make one ledger with its stores at the same moment all get it, made once."""
    path = tmp_path / "memory.db"
    children = [start(OPENER, path, f"n{number}") for number in range(4)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [child.communicate() for child in children]
    assert [out for out, _ in said] == ["committed\n"] * 4, said
    assert len(recorded(path)) == 4
    with Ledger.open(path, stores=four_stores()) as ledger:
        assert len(ledger["notes"].search("milk", space_id="s")) == 4
        assert len(ledger.units()) == 4
        assert ledger.validate() == []


# Threads


def test_stores_that_appear_while_others_commit(ledger: Ledger) -> None:
    """Threads may write to names that nobody used before, while others fail, commit and change the schema."""
    problems: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(10):
                put(ledger, "n1", number, f"store_{thread}_{number}")
                try:
                    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
                        uow[f"failed_{thread}_{number}"].create("n1", 1)
                        uow.sql(f"CREATE TABLE t_{thread}_{number} (x)")
                        throw(OwnError())
                except OwnError:
                    pass
        except BaseException as error:  # noqa: BLE001 - a thread's exception would be lost
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert sorted(recorded(ledger.path)) == sorted(f"store_{thread}_{n}" for thread in range(4) for n in range(10))
    assert rows(ledger.path, "SELECT count(*) FROM uow_documents") == [(40,)]


class Fragile(DocumentStore):
    """A store whose set-up can be seen."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.set_up = 0

    def setup(self, tx: Transaction, recorded: Mapping[str, Any] | None) -> Mapping[str, Any]:
        self.set_up += 1
        return super().setup(tx, recorded)


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[tuple[Ledger, Fragile]]:
    """A ledger whose record of its store was lost."""
    store = Fragile("notes")
    with Ledger.open(tmp_path / "memory.db", stores=[store]) as ledger:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow.sql("CREATE TABLE t (x)")
        with ledger._opened.file.setup_connection() as connection:
            connection.execute("DELETE FROM uow_stores")
            connection.execute("CREATE TABLE u (x)")  # so that every process looks again
        store.set_up = 0
        yield ledger, store


def test_a_store_made_ready_in_a_transaction_that_was_undone(fragile: tuple[Ledger, Fragile]) -> None:
    """What was set up in a transaction that was rolled back is set up again in the next one, and then no more."""
    ledger, store = fragile
    with pytest.raises(OwnError), ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n1", 1)
        uow.sql("SELECT 1")
        throw(OwnError())
    assert (store.set_up, recorded(ledger.path)) == (1, {})
    put(ledger, "n2")
    assert (store.set_up, list(recorded(ledger.path))) == (2, ["notes"])
    put(ledger, "n3")
    assert store.set_up == 2


def test_a_store_made_ready_in_a_commit_that_failed(
    fragile: tuple[Ledger, Fragile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same holds when the commit itself fails."""
    ledger, store = fragile

    def fail(*_: object) -> None:
        raise OwnError

    monkeypatch.setattr(ledger._opened.rows, "insert_committed", fail)
    with pytest.raises(OwnError):
        put(ledger, "n1")
    monkeypatch.undo()
    put(ledger, "n2")
    assert (store.set_up, list(recorded(ledger.path))) == (2, ["notes"])


def test_a_store_that_is_out_of_order_stops_its_own_units_only(wide: Ledger) -> None:
    """When a store's directory is gone, units that write to it fail and say why; all others go on."""
    put(wide, "p1", b"x" * 100, "photos")
    shutil.rmtree(wide.path.parent / "photos")
    elsewhere(wide, "[DocumentStore('notes')]", "uow.sql('CREATE TABLE t (x)')")
    put(wide, "n1", {"text": "milk"})
    with pytest.raises(StoreError, match="is missing") as caught:
        put(wide, "p2", b"small", "photos")
    assert caught.value.store == "photos"
    put(wide, "n2", {"text": "tea"})


def test_what_stores_have_to_do_outside(tmp_path: Path) -> None:
    """Which stores make bytes before the decision and which have something to do after it, by their capability."""
    stores = [
        DocumentStore("notes"),
        BlobStore("photos", "photos"),
        FileStore("files", "files"),
        SQLiteFileStore("archive", "a.db"),
    ]
    with Ledger.open(tmp_path / "memory.db", stores=stores) as ledger:
        registry = ledger._opened.coordinator._registry
        for _ in range(2):  # found out once, then remembered
            assert [registry.outside(name) is not None for name in ("notes", "photos", "files", "archive")] == [
                False,
                True,
                True,
                False,
            ]
            assert [registry.publisher(name) is not None for name in ("notes", "photos", "files", "archive")] == [
                False,
                False,
                True,
                True,
            ]
