"""DocumentStore: JSON values come back as they were given, or are refused before anything is written."""

from __future__ import annotations

import enum
import hashlib
import json
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoryos_uow._limits import Limits
from memoryos_uow._names import Band, Operation
from memoryos_uow._records import Content
from memoryos_uow.abc import MISSING, Capability, Home, Store
from memoryos_uow.errors import RecordExists, RecordMissing, StoreError, UsageError
from memoryos_uow.stores import DocumentStore
from tests.both import both, sqlite_only

if TYPE_CHECKING:
    from tests.stores.driver import Driver, On

pytestmark = both

SECRET = "canary-5f1d"

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=25,
)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@pytest.fixture
def notes(driver: Driver) -> On:
    """A document store in a ledger of its own."""
    return driver.attached(DocumentStore("notes"))


def same(left: Any, right: Any) -> bool:
    """Compare as JSON users do: by type as well, and telling 0.0 from -0.0."""
    return repr(left) == repr(right)


def test_it_is_a_store() -> None:
    """The class keeps the whole contract of a store and says what it is."""
    store: Store = DocumentStore("notes")
    assert isinstance(store, Store)
    assert (store.name, store.kind, store.capability) == ("notes", "documents", Capability.SAME_TRANSACTION)
    assert repr(store) == "DocumentStore('notes')"
    assert repr(DocumentStore("notes", search=["text"])) == "DocumentStore('notes', search=['text'])"


@given(value=VALUES)
@settings(deadline=None)
def test_a_value_survives_encoding(value: object) -> None:
    """Whatever JSON can hold comes back equal, type by type, and a fresh copy each time."""
    store = DocumentStore("notes")
    payload, content = store.encode(Operation.CREATE, "k", value, Limits())
    stored = store._columns_of(payload)[0].encode()
    assert same(json.loads(stored), value)
    assert content == Content(len(stored), hashlib.sha256(stored).hexdigest())


@pytest.mark.parametrize("value", [{}, [], "", 0, -0.0, True, None, "\\u0000", {"b": 1, "a": [None, 1e308, 2**70]}])
def test_a_value_comes_back_from_the_ledger(notes: On, value: object) -> None:
    """A committed value is read as it was written, in its own order of keys."""
    notes.create("k", value)
    assert same(notes.get("k"), value)


def test_the_content_is_the_stored_text(notes: On) -> None:
    """Length and digest speak of the very bytes in the table: JSON without spaces, keys in order, UTF-8."""
    write = notes.create("k", {"z": "ü", "a": [1, 2.5]})
    text = '{"z":"ü","a":[1,2.5]}'
    assert notes.driver.rows("SELECT value FROM uow_documents") == [(text,)]
    assert write.content == Content(len(text.encode()), hashlib.sha256(text.encode()).hexdigest())


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {"a": (1,)},
        {1: "a"},
        {None: "a"},
        {True: "a"},
        {"a": {2.5: 1}},
        {1, 2},
        b"bytes",
        object(),
        Colour.RED,
        [Level.LOW],
        {Colour.RED: 1},
        OrderedDict(a=1),
        float("nan"),
        [float("inf")],
        {"a": -float("inf")},
        SECRET + "\0",
        {SECRET + "\0": 1},
        ["\\\0"],
        SECRET + "\ud800",
        {SECRET + "\udfff": 1},
        10**5000,
        1j,
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_what_would_come_back_different_is_refused(value: object) -> None:
    """A value that JSON does not give back as it was is refused when it is written, without being quoted."""
    with pytest.raises(UsageError) as caught:
        DocumentStore("notes").encode(Operation.CREATE, "k", value, Limits())
    assert "Nothing was written" in str(caught.value)
    assert caught.value.store == "notes"
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert not isinstance(caught.value.__context__, UnicodeError)


def nested(depth: int) -> list[Any]:
    """A list in a list, `depth` deep."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_depth_has_a_limit(notes: On) -> None:
    """200 levels are stored and read; 201 are refused, and so is a list that contains itself."""
    notes.create("deep", nested(200))
    assert notes.get("deep") == nested(200)
    endless: list[Any] = []
    endless.append({"again": endless})
    for value in (nested(201), nested(100_000), endless):
        with pytest.raises(UsageError, match="more than 200 levels"):
            notes.write("create", "k", value)


def test_a_nearly_exhausted_stack_is_a_typed_error() -> None:
    """Where the caller has used up Python's recursion limit, the document is refused with an error of ours."""
    outcome: list[BaseException] = []

    def sink() -> None:
        try:
            sink()
        except RecursionError:
            try:
                DocumentStore("notes").encode(Operation.CREATE, "k", nested(200), Limits())
            except UsageError as error:
                outcome.append(error)

    thread = threading.Thread(target=sink)
    thread.start()
    thread.join()
    assert "nested too deeply" in str(outcome[0])


def test_a_document_that_multiplies_is_refused_in_time() -> None:
    """A few lists that contain each other twice mean 2**60 values; the size limit stops them before the memory does."""
    bomb: list[Any] = []
    for _ in range(60):
        bomb = [bomb, bomb]
    with pytest.raises(UsageError, match="too long as JSON; the limit is 1,000 bytes"):
        DocumentStore("notes").encode(Operation.CREATE, "k", bomb, Limits(document_bytes=1_000))


def test_size_is_limited_in_bytes() -> None:
    """The limit counts UTF-8 bytes of JSON: at the limit a document passes, one byte more is refused."""
    store = DocumentStore("notes")
    store.encode(Operation.CREATE, "k", "ü" * 49, Limits(document_bytes=100))
    with pytest.raises(UsageError, match="is 101 bytes long as JSON; the limit is 100 bytes"):
        store.encode(Operation.CREATE, "k", "ü" * 49 + "x", Limits(document_bytes=100))


@pytest.mark.parametrize("key", ["", "k" * 1025, "a\0b", "\ud800", 5, None, b"k"])
def test_bad_keys_are_refused(key: Any) -> None:
    """A key that could not stand in a receipt is refused for every operation."""
    for operation in Operation:
        with pytest.raises(UsageError):
            DocumentStore("notes").encode(operation, key, {}, Limits())


def test_overlay_gives_what_the_write_leaves(notes: On) -> None:
    """Before the commit a write answers with a copy of its value that nobody else holds; a delete with MISSING."""
    value = {"a": [1]}
    write = notes.write("upsert", "k", value)
    value["a"].append(2)
    assert notes.store.overlay(write) == {"a": [1]}
    assert notes.store.overlay(write) is not notes.store.overlay(write)
    assert notes.store.overlay(notes.write("delete", "k")) is MISSING


# Verbs


def test_the_four_verbs(notes: On) -> None:
    """Create, update, upsert and delete leave what their names say, and the version is the commit sequence."""
    notes.create("a", 1)
    assert notes.version("a") == 1
    notes.update("a", 2)
    notes.upsert("a", 3)
    notes.upsert("b", 4)
    assert (notes.get("a"), notes.get("b")) == (3, 4)
    assert (notes.version("a"), notes.version("b"), notes.version("c")) == (3, 4, None)
    deleted = notes.delete("a")
    assert deleted.content is None
    assert (notes.get("a"), notes.found("a"), notes.version("a")) == (None, None, None)


def test_writes_take_effect_in_order(notes: On) -> None:
    """One unit may write a record again and again; the last write stands."""
    notes.commit(
        notes.write("create", "a", 1),
        notes.write("update", "a", 2),
        notes.write("update", "a", 3),
        notes.write("delete", "a"),
        notes.write("create", "a", 4),
        notes.write("create", "b", 5),
        notes.write("upsert", "b", 6),
        notes.write("upsert", "b", 7),
    )
    assert (notes.get("a"), notes.get("b")) == (4, 7)


def test_a_taken_key_is_named(notes: On) -> None:
    """Of many creates in a run the error names the one that failed, and nothing of the unit is left."""
    notes.create("c", "old")
    with pytest.raises(RecordExists, match="'c'") as caught:
        notes.commit(*(notes.write("create", key, 1) for key in "abcde"))
    assert caught.value.store == "notes"
    assert notes.keys() == ["c"]
    with pytest.raises(RecordExists, match="'x'"):
        notes.commit(notes.write("create", "x", 1), notes.write("create", "x", 2), notes.write("create", "y", 3))


@pytest.mark.parametrize("operation", ["update", "delete"])
def test_a_missing_key_is_named(notes: On, operation: str) -> None:
    """Of many updates or deletes the error names the first whose record is not there."""
    notes.create("a", 1)
    notes.create("d", 1)
    with pytest.raises(RecordMissing, match=f"no record 'b' in this space to {operation}"):
        notes.commit(*(notes.write(operation, key, 2) for key in "abcd"))
    assert (notes.get("a"), notes.keys()) == (1, ["a", "d"])


@pytest.mark.parametrize("band", [Band.AMBER, Band.RED, Band.BLACK])
def test_keys_stay_out_of_errors(notes: On, band: Band) -> None:
    """Above GREEN an error tells that a record was in the way, not which."""
    notes.create(SECRET, 1)
    for operation, key in (("create", SECRET), ("update", SECRET + "x"), ("delete", SECRET + "x")):
        with pytest.raises(StoreError) as caught:
            notes.banded(band).commit(notes.write(operation, key, 2))
        assert SECRET not in str(caught.value)


def test_spaces_and_stores_are_apart(notes: On) -> None:
    """The same key in another space or another store is another record."""
    other = notes.driver.attached(DocumentStore("more"))
    notes.create("k", "mine")
    notes.within("other").create("k", "theirs")
    other.create("k", "more")
    notes.within("other").delete("k")
    assert (notes.get("k"), notes.within("other").get("k"), other.get("k")) == ("mine", None, "more")


def test_keys_are_ordered_by_their_bytes(notes: On) -> None:
    """Keys come in the order of their UTF-8 bytes, those of the space only."""
    keys = ["b", "a", "B", "ä", "\N{GRINNING FACE}", "\uffee", "a b"]
    for key in keys:
        notes.create(key, 1)
    notes.within("other").create("c", 1)
    assert notes.keys() == sorted(keys, key=str.encode)


@sqlite_only("PostgreSQL keeps no document that is no JSON")
@pytest.mark.parametrize("stored", ["'{'", "x'ff'", "'" + "[" * 100_000 + "'"])
def test_a_tampered_record_is_a_typed_error(notes: On, stored: str) -> None:
    """What was changed from outside so that it is no JSON any more is refused, without being quoted."""
    notes.create("k", 1)
    notes.driver.sql(f"UPDATE uow_documents SET value = {stored}")
    with pytest.raises(StoreError, match="not as this library wrote it"):
        notes.get("k")


def test_without_fields_there_is_nothing_to_search(notes: On) -> None:
    """A store without full text says so, and how to get it."""
    with pytest.raises(UsageError, match=r'search=\["text"\]'):
        notes.search("milk")


# Configuration


@pytest.mark.parametrize(
    "search",
    ["text", b"text", 5, [5], [""], ["a\0"], ["\ud800"], ["a", "a"], [f"f{n}" for n in range(101)], [None]],
)
def test_bad_fields_are_refused(search: Any) -> None:
    """The fields to search are a list of different names, at most a hundred."""
    with pytest.raises(UsageError):
        DocumentStore("notes", search=search)


@pytest.mark.parametrize("name", ["", "sql", "uow_notes", "a-b", "ä", 5, "n" * 64])
def test_bad_store_names_are_refused(name: Any) -> None:
    """A store name follows the rule for store names."""
    with pytest.raises(UsageError):
        DocumentStore(name)


def test_attaching_again_needs_no_setup(driver: Driver) -> None:
    """What is recorded once is found again, also by a store that was told nothing."""
    assert driver.attach(DocumentStore("notes", search=["text"]))
    assert not driver.attach(DocumentStore("notes", search=["text"]))
    follower = DocumentStore("notes")
    assert not driver.attach(follower)
    assert repr(follower) == "DocumentStore('notes', search=['text'])"
    assert driver.recorded(follower) == {"search": ["text"]}


def test_two_processes_with_other_fields_settle(driver: Driver) -> None:
    """The one that opened last is followed; nobody rebuilds the index against the other for ever."""
    first, second = DocumentStore("notes", search=["a"]), DocumentStore("notes", search=["b"])
    driver.attach(first)
    assert not driver.attach(first)
    assert driver.attach(second)
    assert not driver.attach(first)
    assert repr(first) == "DocumentStore('notes', search=['b'])"
    assert not driver.attach(second)
    first.close()
    first.close()
    assert driver.attach(first)  # opened anew, it may say again what it wants


def test_a_read_only_ledger_cannot_get_another_index(driver: Driver) -> None:
    """Opened for reading only, a search over fields that are not indexed is refused, the recorded one works."""
    driver.attach(DocumentStore("notes", search=["a"]))
    home = Home(driver.directory, read_only=True)
    with driver.reader() as reader:
        assert not DocumentStore("notes").attach(home, reader, {"search": ["a"]})
        assert not DocumentStore("notes", search=["a"]).attach(home, reader, {"search": ["a"]})
        assert DocumentStore("notes").attach(home, reader, None)
        with pytest.raises(UsageError, match="reading only"):
            DocumentStore("notes", search=["b"]).attach(home, reader, {"search": ["a"]})
