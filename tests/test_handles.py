"""The verbs of stores, on a unit and on the ledger."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import RecordExists, RecordMissing, UsageError
from tests.both import address_of, both
from tests.units import MARKER, SPACE, everything

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow import Ledger, UnitOfWork

pytestmark = both

VALUES: dict[str, Any] = {"notes": {"text": "milk"}, "orders": {"n": 1}, "embeddings": [1.0, 2.0], "photos": b"x" * 100}
OTHERS: dict[str, Any] = {"notes": {"text": "tea"}, "orders": {"n": 2}, "embeddings": [3.0, 4.0], "photos": b"y"}
STORES = list(VALUES)


def shown(store: str, value: Any) -> Any:
    """What reading gives of a value: a table shows its other columns too."""
    return {"id": "r", "space_id": SPACE, "n": None, "what": None, **value} if store == "orders" else value


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("flush", [False, True])
def test_every_verb_sees_the_units_own_writes(wide: Ledger, store: str, flush: bool) -> None:
    """Whatever was written is what get gives, at once, in every store, before and after the buffer was flushed."""
    value, other = VALUES[store], OTHERS[store]
    steps: list[tuple[Callable[[Any], None], Any]] = [
        (lambda s: s.create("r", value), value),
        (lambda s: s.update("r", other), other),
        (lambda s: s.delete("r"), None),
        (lambda s: s.upsert("r", value), value),
        (lambda s: s.upsert("r", other), other),
        (lambda s: s.delete("r"), None),
        (lambda s: s.create("r", other), other),
    ]
    with wide.unit(space_id=SPACE, band="GREEN") as uow:
        for step, expected in steps:
            step(uow[store])
            if flush:
                uow.sql("SELECT 1")
            found = uow[store].get("r", "absent")
            assert found == ("absent" if expected is None else shown(store, expected))
    assert wide[store].get("r", space_id=SPACE) == shown(store, other)
    operations = [write.operation_type for write in wide.get(uow.uow_id).writes]
    assert operations == ["create", "update", "delete", "upsert", "upsert", "delete", "create"]


@pytest.mark.parametrize("flush", [False, True])
def test_what_get_gives_is_a_copy(wide: Ledger, flush: bool) -> None:
    """Changing what get gave, or what was written, changes neither the buffer nor the store."""
    document, vector, blob = {"tags": ["a"]}, [1.0, 2.0], bytearray(b"abc")
    with wide.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n1", document)
        uow["embeddings"].create("v1", vector)
        uow["photos"].create("p1", blob)
        if flush:
            uow.sql("SELECT 1")
        document["tags"].append("changed")
        vector[0] = 99.0
        blob[0] = 0
        for _ in range(2):
            assert uow["notes"].get("n1") == {"tags": ["a"]}
            uow["notes"].get("n1")["tags"].append("changed")
            assert uow["embeddings"].get("v1") == [1.0, 2.0]
            uow["embeddings"].get("v1").clear()
            assert uow["photos"].get("p1") == b"abc"
    assert wide["notes"].get("n1", space_id=SPACE) == {"tags": ["a"]}
    assert wide["embeddings"].get("v1", space_id=SPACE) == [1.0, 2.0]
    assert wide["photos"].get("p1", space_id=SPACE) == b"abc"


def test_the_units_space_is_its_own(wide: Ledger) -> None:
    """A key in one space is another record than the same key in another space, in every store."""
    for space, values in (("a", VALUES), ("b", OTHERS)):
        with wide.unit(space_id=space, band="GREEN") as uow:
            for store, value in values.items():
                if store != "orders":
                    assert uow[store].get("r") is None
                    uow[store].create("r", value)
    with wide.unit(space_id="a", band="GREEN") as uow:
        for store in STORES:
            if store != "orders":
                uow[store].delete("r")
    for store in STORES:
        assert list(wide[store].keys(space_id="a")) == []
        if store != "orders":
            assert wide[store].get("r", space_id="b") == OTHERS[store]


def test_an_update_of_a_row_changes_the_given_columns(wide: Ledger) -> None:
    """An update of a row leaves the columns that it does not name, also within the unit."""
    with wide.unit(space_id=SPACE, band="GREEN") as uow:
        uow["orders"].create("r", {"n": 1, "what": "milk"})
        uow["orders"].update("r", {"n": 2})
        assert uow["orders"].get("r") == shown("orders", {"n": 2, "what": "milk"})


def test_what_the_buffer_rules_out_is_refused_at_once(ledger: Ledger) -> None:
    """A second create, and a change of what the unit deleted, are refused when called; the unit goes on."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        notes = uow["notes"]
        notes.create("n1", 1)
        with pytest.raises(RecordExists, match="written that record already") as exists:
            notes.create("n1", 2)
        notes.delete("n1")
        with pytest.raises(RecordMissing, match="deleted that record already"):
            notes.update("n1", 2)
        with pytest.raises(RecordMissing, match="deleted that record already") as missing:
            notes.delete("n1")
        assert exists.value.store == missing.value.store == "notes"
        assert exists.value.hint
        assert missing.value.hint
        notes.upsert("n1", 3)
    assert ledger["notes"].get("n1", space_id=SPACE) == 3
    assert len(ledger.get(uow.uow_id).writes) == 3


def test_many_at_once(ledger: Ledger) -> None:
    """The verbs for many take a mapping or pairs, in order, and give what exists."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        notes = uow["notes"]
        notes.create_many({"a": 1, "b": 2})
        notes.upsert_many([("b", 3), ("c", 4)])
        notes.update_many((key, 5) for key in "c")
        notes.delete_many(iter("a"))
        notes.create_many([])
        assert notes.get_many(["a", "b", "c", "d"]) == {"b": 3, "c": 5}
    assert [(w.record_id, w.operation_type) for w in ledger.get(uow.uow_id).writes] == [
        ("a", "create"),
        ("b", "create"),
        ("b", "upsert"),
        ("c", "upsert"),
        ("c", "update"),
        ("a", "delete"),
    ]


@pytest.mark.parametrize("items", [["ab"], [("a",)], [("a", 1, 2)], [["a", 1]], [7]])
def test_what_is_no_items(ledger: Ledger, items: Any) -> None:
    """What is neither a mapping nor pairs is refused with an example."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        for verb in (uow["notes"].create_many, uow["notes"].upsert_many, uow["notes"].update_many):
            with pytest.raises(UsageError, match="pairs of key and value") as caught:
                verb(items)
            assert caught.value.hint


@pytest.mark.parametrize("what", [7, None, "n1", b"n1"])
def test_what_is_no_collection(ledger: Ledger, what: Any) -> None:
    """What is no collection is refused by every verb for many; a string does not count as one of letters."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        notes = uow["notes"]
        for verb in (notes.create_many, notes.upsert_many, notes.update_many, notes.delete_many, notes.get_many):
            with pytest.raises(UsageError, match="collection") as caught:
                verb(what)
            assert caught.value.hint


@pytest.mark.parametrize("key", ["", 7, None, b"k", "k" * 1025, "ä" * 513, "a\0b", "a\ud800", MARKER * 200])
def test_keys_that_cannot_be(wide: Ledger, key: Any) -> None:
    """A key that cannot be is refused by every verb of every store, for reading too, and does not show up in full."""
    before = everything(address_of(wide))
    with wide.unit(space_id=SPACE, band="GREEN") as uow:
        for store, value in VALUES.items():
            handle = uow[store]
            uses = [partial(verb, key, value) for verb in (handle.create, handle.update, handle.upsert)]
            uses += [partial(handle.delete, key), partial(handle.get, key)]
            uses += [partial(wide[store].get, key, space_id=SPACE)]
            for use in uses:
                with pytest.raises(UsageError) as caught:
                    use()
                assert caught.value.hint
                assert MARKER not in str(caught.value)
    assert everything(address_of(wide)) == before


def test_the_longest_keys(wide: Ledger) -> None:
    """Keys of up to 1,024 bytes are kept as they are, whatever characters they have."""
    for key in ("k" * 255, "ä" * 120, "a'\";--", "%_\\", "\u202e", "e\u0301", "\x01"):
        with wide.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create(key, {"text": key})
            uow["embeddings"].create(key, [1, 2])
        assert wide["notes"].get(key, space_id=SPACE) == {"text": key}
        assert wide.get(uow.uow_id).writes[0].record_id == key
    with wide.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("ä" * 512, 1)


# Searching


def test_search_sees_own_writes(wide: Ledger) -> None:
    """A search inside a unit finds what the unit wrote and no more what it deleted; outside nobody does."""
    with wide.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("old", {"text": "milk"})
        uow["embeddings"].create("old", [1, 0])
    with wide.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("new", {"text": "milk and tea"})
        uow["notes"].delete("old")
        uow["embeddings"].upsert("new", [0, 1])
        assert [hit.key for hit in uow["notes"].search("milk")] == ["new"]
        assert [hit.key for hit in uow["embeddings"].search([0, 1], k=1)] == ["new"]
        assert [hit.key for hit in wide["notes"].search("milk", space_id=SPACE)] == ["old"]
        assert [hit.key for hit in wide["embeddings"].search([0, 1], k=1, space_id=SPACE)] == ["old"]
    assert [hit.key for hit in wide["notes"].search("milk", 5, space_id=SPACE, match="any")] == ["new"]


def test_a_search_without_own_writes_takes_no_lock(wide: Ledger) -> None:
    """Only a search that has own writes to look through takes the ledger's lock."""
    with wide.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n1", {"text": "milk"})
        uow["embeddings"].search([1, 0])
        assert uow._state is not None
        assert uow._state.tx is None
        uow["notes"].search("milk")
        assert uow._state.tx is not None
        assert uow["embeddings"].search([1, 0]) == []  # through the open transaction


@pytest.mark.parametrize("k", [0, -1, "1", 1.0, None, True])
def test_how_many_hits(wide: Ledger, k: Any) -> None:
    """The number of hits is a whole number from 1 up."""
    with wide.unit(space_id=SPACE, band="GREEN") as uow:
        for search in (
            partial(uow["notes"].search, "x", k),
            partial(uow["embeddings"].search, [1, 0], k=k),
            partial(wide["notes"].search, "x", k, space_id=SPACE),
        ):
            with pytest.raises(UsageError, match="number of hits") as caught:
                search()
            assert caught.value.hint


@pytest.mark.parametrize("store", ["orders", "photos", "plain"])
def test_stores_that_cannot_be_searched(ledger: Ledger, wide: Ledger, store: str) -> None:
    """A store without an index says so, and the unit goes on."""
    where = ledger if store == "plain" else wide
    with where.unit(space_id=SPACE, band="GREEN") as uow:
        with pytest.raises(UsageError) as caught:
            uow[store].search("x")
        assert caught.value.store == store
        assert caught.value.hint


# On the ledger


def test_reading_outside_a_unit(wide: Ledger) -> None:
    """The ledger's own handles read what is committed, in the space that is named."""
    with wide.unit(space_id=SPACE, band="GREEN") as uow:
        for store, value in VALUES.items():
            uow[store].create("r", value)
            uow[store].create("a", OTHERS[store])
    for store, value in VALUES.items():
        assert wide[store].get("r", space_id=SPACE) == shown(store, value)
        assert wide[store].get("nobody", "default", space_id=SPACE) == "default"
        assert wide[store].get("r", space_id="other") is None
        assert list(wide[store].keys(space_id=SPACE)) == ["a", "r"]
        assert list(wide[store].keys(space_id="other")) == []
    assert repr(wide["notes"]) == "<documents 'notes'>"


@pytest.mark.parametrize("space", ["", 7, None, "a\0", "x" * 256])
def test_spaces_that_cannot_be(ledger: Ledger, space: Any) -> None:
    """A space that cannot be is refused at the call."""
    for read in (
        lambda: ledger["notes"].get("n1", space_id=space),
        lambda: ledger["notes"].keys(space_id=space),
        lambda: ledger["notes"].search("x", space_id=space),
    ):
        with pytest.raises(UsageError, match="space_id"):
            read()


def test_keys_that_nobody_reads_to_the_end(ledger: Ledger) -> None:
    """Going through the keys may be broken off; the next reader sees the newest state."""

    def put(uow: UnitOfWork, names: str) -> None:
        for name in names:
            uow["notes"].create(name, 1)

    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        put(uow, "abc")
    keys = ledger["notes"].keys(space_id=SPACE)
    assert next(keys) == "a"
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        put(uow, "d")
    del keys
    assert "".join(ledger["notes"].keys(space_id=SPACE)) == "abcd"
