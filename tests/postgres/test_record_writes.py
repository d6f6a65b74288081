"""Records on PostgreSQL: few statements for many writes, and no record ever overwritten by an older unit."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import Ledger, RecordExists, RecordMissing, UsageError
from memoryos_uow.errors import ConflictError
from memoryos_uow.stores import BlobStore, DocumentStore, VectorStore
from tests.both import change, rows
from tests.postgres_proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME: dict[str, Any] = {"space_id": "s", "band": "GREEN"}
AHEAD = "UPDATE uow_documents SET version = version + 60000000"


@pytest.fixture
def ledger(pg_emptied_url: str) -> Iterator[Ledger]:
    """A ledger with a store of each kind whose records are rows."""
    with Ledger.open(pg_emptied_url, stores=stores()) as opened:
        yield opened


def stores() -> list[Any]:
    """Documents, vectors and blobs, all of them rows."""
    return [DocumentStore("notes", search=["text"]), VectorStore("vectors", dimensions=2), BlobStore("blobs")]


VALUES: dict[str, Any] = {"notes": {"text": "milk"}, "vectors": [1.0, 2.0], "blobs": b"bytes"}


@pytest.mark.parametrize("store", list(VALUES))
def test_the_number_of_writes_costs_no_round_trips(pg_server: Any, pg_emptied_url: str, store: str) -> None:
    """Each verb takes as many for a thousand records as for one; what was read is compared all at once."""
    proxy = Proxy(pg_server.port)
    verbs = ("create", "update", "upsert", "delete")
    with Ledger.open(proxy.url(pg_emptied_url), stores=stores()) as ledger:

        def unit(verb: str, number: int, *, reading: bool = False) -> int:
            with ledger.unit(**HOME) as uow:
                if reading:
                    before = proxy.trips
                    assert len(uow[store].get_many(f"k{n}" for n in range(number))) == number
                    assert proxy.trips - before <= 4
                for n in range(number):
                    uow[store].delete(f"k{n}") if verb == "delete" else getattr(uow[store], verb)(
                        f"k{n}", VALUES[store]
                    )
                begun = proxy.trips
            ended = proxy.trips
            assert uow.receipt is not None
            uow.receipt.wait(10)
            return ended - begun

        unit("create", 1)  # what is done once: blocks of numbers
        unit("delete", 1)
        few = [unit(verb, 1, reading=verb == "update") for verb in verbs]
        many = [unit(verb, 1_000, reading=verb == "update") for verb in verbs]
        assert max(*few, *many) <= 8  # the thread that numbers units may have come in between
    proxy.close()


def test_an_older_unit_never_overwrites_a_newer_record(ledger: Ledger, pg_emptied_url: str) -> None:
    """It conflicts, whichever verb; what it has met is remembered, and the next attempt is newer."""
    for verb, value in (("update", 1), ("upsert", 2), ("delete", None)):
        with ledger.unit(**HOME) as uow:
            uow["notes"].upsert("k", 0)
        change(pg_emptied_url, AHEAD)
        arguments = () if value is None else (value,)
        with pytest.raises(ConflictError) as caught, ledger.unit(**HOME) as uow:
            getattr(uow["notes"], verb)("k", *arguments)
        assert caught.value.retryable
        with ledger.unit(**HOME) as uow:
            getattr(uow["notes"], verb)("k", *arguments)
        assert ledger["notes"].get("k", space_id="s") == value


def test_what_was_read_can_be_overwritten(ledger: Ledger, pg_emptied_url: str) -> None:
    """Reading teaches the version, so that a unit that has read does not conflict for it."""
    with ledger.unit(**HOME) as uow:
        uow["notes"].create("k", 0)
    change(pg_emptied_url, AHEAD)
    with ledger.unit(**HOME) as uow:
        uow["notes"].update("k", uow["notes"].get("k") + 1)
    assert ledger["notes"].get("k", space_id="s") == 1
    versions = [version for (version,) in rows(pg_emptied_url, "SELECT version FROM uow_documents")]
    change(pg_emptied_url, AHEAD)
    with ledger.unit(**HOME) as uow:
        uow["notes"].get("k")
        uow["notes"].delete("k")
    assert versions


def test_writes_of_one_record_in_a_row(ledger: Ledger) -> None:
    """The last one counts, flushed in between or not; every one is in the receipt."""
    with ledger.unit(**HOME) as uow:
        for number in range(5):
            uow["notes"].upsert("k", number)
        uow.sql("SELECT 1")
        for number in range(5, 9):
            uow["notes"].update("k", number)
        uow["notes"].delete("k")
        uow["notes"].create("k", 9)
    assert ledger["notes"].get("k", space_id="s") == 9
    assert len(ledger.get(uow.uow_id).writes) == 11
    assert ledger.verify().ok


@pytest.mark.parametrize(
    ("verb", "keys", "error", "named"),
    [
        ("create", ["a", "there", "b"], RecordExists, "'there'"),
        ("update", ["there", "x", "y"], RecordMissing, "'x'"),
        ("delete", ["there", "x", "y"], RecordMissing, "'x'"),
    ],
)
def test_the_first_write_that_cannot_be_is_named(
    ledger: Ledger, verb: str, keys: list[str], error: type[Exception], named: str
) -> None:
    """As if they had been carried out one by one; nothing of the unit is left."""
    with ledger.unit(**HOME) as uow:
        uow["notes"].create("there", 0)
    with pytest.raises(error, match=named), ledger.unit(**HOME) as uow:
        for key in keys:
            getattr(uow["notes"], verb)(key, *(() if verb == "delete" else (1,)))
    assert list(ledger["notes"].keys(space_id="s")) == ["there"]
    assert ledger["notes"].get("there", space_id="s") == 0


def test_threads_make_a_store_at_the_same_time(pg_emptied_url: str) -> None:
    """Of a ledger in which any name is a store: whoever writes first makes it, and nobody conflicts for that."""
    problems: list[BaseException] = []
    with Ledger.open(pg_emptied_url) as ledger:
        together = threading.Barrier(6)

        def write(number: int) -> None:
            together.wait(10)
            try:
                with ledger.unit(**HOME) as uow:
                    uow["brand_new"].create(f"k{number}", number)
            except BaseException as error:  # noqa: BLE001 - shown by the test
                problems.append(error)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert problems == []
        assert len(list(ledger["brand_new"].keys(space_id="s"))) == 6
    assert rows(pg_emptied_url, "SELECT name FROM uow_stores") == [("brand_new",)]


def test_two_units_that_change_one_record(ledger: Ledger) -> None:
    """The first one to write wins; ledger.run does the other one again, and no change is lost."""
    with ledger.unit(**HOME) as uow:
        uow["notes"].create("k", 0)

    def add(uow: Any) -> None:
        uow["notes"].update("k", uow["notes"].get("k") + 1)

    def often() -> None:
        for _ in range(10):
            ledger.run(add, **HOME, attempts=1_000)

    threads = [threading.Thread(target=often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert ledger["notes"].get("k", space_id="s") == 40


def test_libraries_for_sqlite_are_refused(ledger: Ledger) -> None:
    """sqlite-utils and this library's SQLAlchemy engine need a file; the unit goes on."""
    sqlalchemy = pytest.importorskip("memoryos_uow.integrations.sqlalchemy")
    with ledger.unit(**HOME) as uow:
        uow["notes"].create("k", 1)
        with pytest.raises(UsageError, match="sqlite-utils takes part in units of a ledger in a file"):
            uow.db  # noqa: B018 - asking is refused
        with pytest.raises(UsageError, match="SQLAlchemy"):
            sqlalchemy.engine(uow)
    assert ledger["notes"].get("k", space_id="s") == 1


def test_many_are_read_with_the_units_own_writes(ledger: Ledger) -> None:
    """Waiting writes over what is committed; what is absent is left out; a later change of them conflicts."""
    with ledger.unit(**HOME) as uow:
        uow["notes"].create_many([("a", 1), ("b", 2), ("c", 3)])
    with pytest.raises(ConflictError), ledger.unit(**HOME) as uow:
        uow["notes"].upsert("b", 20)
        uow["notes"].delete("c")
        assert uow["notes"].get_many(["a", "b", "c", "d", "a"]) == {"a": 1, "b": 20}
        with ledger.unit(**HOME, nested="independent") as other:
            other["notes"].update("a", 10)
        uow["notes"].update("a", 11)
