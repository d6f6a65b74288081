"""`expect=`: a write goes through only over what the caller believes is there, compared where nothing can intervene."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest

from memoryos_uow import MISSING, ConflictError, Ledger, RecordMissing, UsageError
from memoryos_uow.stores import FileStore, SQLiteFileStore
from tests.both import both
from tests.units import MARKER, SPACE, OwnError, four_stores, statuses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memoryos_uow import UnitOfWork
    from memoryos_uow._handles import UnitStore

pytestmark = both

HOME: Final[dict[str, Any]] = {"space_id": SPACE, "band": "GREEN"}
VALUES: Final[dict[str, tuple[Any, Any]]] = {
    "notes": ({"text": "old"}, {"text": "new"}),
    "orders": ({"n": 1, "what": "old"}, {"n": 2, "what": "new"}),
    "embeddings": ([0.1, 0.2], [0.3, 0.4]),
    "photos": (b"old, and long enough for a file", b"new, and long enough for a file"),
    "letters": (b"old", b"new"),
    "archive": ({"text": "old"}, {"text": "new"}),
}


@pytest.fixture
def every(tmp_path: Path) -> Any:
    """A ledger with a store of every kind, and an old record in each."""
    stores = [*four_stores(), FileStore("letters", "letters"), SQLiteFileStore("archive", "archive.db")]
    with Ledger.open(tmp_path / "memory.db", stores=stores) as ledger:
        with ledger.unit(**HOME) as uow:
            for store, (old, _) in VALUES.items():
                uow[store].create("k", old)
        yield ledger


@pytest.mark.parametrize("store", VALUES)
@pytest.mark.parametrize("verb", ["update", "upsert", "delete"])
def test_over_what_is_expected(every: Ledger, store: str, verb: str) -> None:
    """What `get` returned is what is there, in a store of any kind; anything else is a conflict and changes nothing."""
    old, new = every[store].get("k", space_id=SPACE), VALUES[store][1]
    arguments = ("k",) if verb == "delete" else ("k", new)

    def act(expect: object) -> None:
        with every.unit(**HOME) as uow:
            getattr(uow[store], verb)(*arguments, expect=expect)

    for other in (new, MISSING, None):
        with pytest.raises(ConflictError, match="not what this unit expected") as caught:
            act(other)
        assert (caught.value.retryable, caught.value.store, bool(caught.value.hint)) == (False, store, True)
        assert every[store].get("k", space_id=SPACE) == old
    act(old)
    assert every[store].get("k", space_id=SPACE) != old


@pytest.mark.parametrize("store", VALUES)
def test_expecting_nothing(every: Ledger, store: str) -> None:
    """MISSING says that there must be no record: upsert then creates one, and update has nothing to write over."""
    with every.unit(**HOME) as uow:
        uow[store].upsert("new", VALUES[store][1], expect=MISSING)
    with pytest.raises(ConflictError), every.unit(**HOME) as uow:
        uow[store].upsert("new", VALUES[store][0], expect=MISSING)
    with pytest.raises(RecordMissing), every.unit(**HOME) as uow:
        uow[store].update("newer", VALUES[store][0], expect=MISSING)


@pytest.mark.parametrize("store", VALUES)
def test_own_writes_count(every: Ledger, store: str) -> None:
    """Inside a unit the expectation is held against what the unit itself has written, applied or waiting."""
    _, new = VALUES[store]
    with every.unit(**HOME) as uow:
        uow[store].upsert("own", new, expect=MISSING)
        written = uow[store].get("own")
        uow[store].upsert("own", new, expect=written)
        with pytest.raises(ConflictError), uow.savepoint():
            uow[store].upsert("own", new, expect=MISSING)
            uow.sql("SELECT 1")
        uow[store].delete("own", expect=written)
        uow[store].upsert("own", new, expect=MISSING)
    assert every[store].get("own", space_id=SPACE) == written


def test_in_a_table_the_named_columns_are_compared(every: Ledger) -> None:
    """Others may have changed; a column that does not exist is not as expected."""

    def act(expect: dict[str, object]) -> None:
        with every.unit(**HOME) as uow:
            uow["orders"].update("k", {"n": 5}, expect=expect)

    act({"what": "old"})
    act({"n": 5, "what": "old"})
    different: list[dict[str, object]] = [{"n": 1}, {"no_column": 1}, {"n": 5, "what": "new"}]
    for wrong in different:
        with pytest.raises(ConflictError):
            act(wrong)


def test_writes_before_an_expectation_are_seen_by_it(ledger: Ledger) -> None:
    """A chain of writes in one unit, whose every link expects what the one before wrote."""
    with ledger.unit(**HOME) as uow:
        uow["notes"].create("a", 0)
        for number in range(5):
            uow["notes"].update("a", number + 1, expect=number)
            uow["notes"].upsert(f"b{number}", number, expect=MISSING)
    assert ledger["notes"].get("a", space_id=SPACE) == 5


def test_an_expectation_in_a_chunk_that_left_memory(tmp_path: Path) -> None:
    """Where writes go to the transaction early, they are compared with what is there then."""
    from memoryos_uow import Limits

    with Ledger.open(tmp_path / "memory.db", limits=Limits(waiting_writes=2)) as ledger:
        with ledger.unit(**HOME) as uow:
            for number in range(7):
                uow["notes"].upsert("a", number, expect=number - 1 if number else MISSING)
        assert ledger["notes"].get("a", space_id=SPACE) == 6
        with pytest.raises(ConflictError), ledger.unit(**HOME) as uow:
            uow["notes"].create_many({"b": 1, "c": 1, "d": 1})
            uow["notes"].update("a", 7, expect=5)
            uow["notes"].create("e", 1)
        assert list(ledger["notes"].keys(space_id=SPACE)) == ["a"]


def test_it_is_compared_under_the_lock(ledger: Ledger) -> None:
    """What another unit commits between the call and the end of the block counts."""
    with ledger.unit(**HOME) as uow:
        uow["notes"].create("a", 1)
    with pytest.raises(ConflictError) as caught, ledger.unit(**HOME) as uow:
        uow["notes"].update("a", 3, expect=1)
        with ledger.unit(**HOME, nested="independent") as other:
            other["notes"].update("a", 2)
    assert not caught.value.retryable
    assert ledger["notes"].get("a", space_id=SPACE) == 2


def test_one_of_many_wins(ledger: Ledger) -> None:
    """Eight threads expect the same: one of them writes."""
    with ledger.unit(**HOME) as uow:
        uow["notes"].create("a", "free")
    barrier, won = threading.Barrier(8), list[int]()

    def take(number: int) -> None:
        barrier.wait()
        try:
            with ledger.unit(**HOME) as uow:
                uow["notes"].update("a", number, expect="free")
        except ConflictError:
            return
        won.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ledger["notes"].get("a", space_id=SPACE)] == won
    assert statuses(ledger).count("committed") == 2


def test_run_does_not_repeat_what_would_fail_again(ledger: Ledger) -> None:
    """The error says so."""
    calls: list[int] = []

    def act(uow: UnitOfWork) -> None:
        calls.append(1)
        uow["notes"].update("a", 3, expect=1)

    with pytest.raises(ConflictError):
        ledger.run(act, **HOME)
    assert calls == [1]


def test_what_cannot_be_compared(every: Ledger) -> None:
    """An array compares element by element: it is said that this is no comparison, without showing any value."""
    with pytest.raises(UsageError, match="cannot be compared") as caught, every.unit(**HOME) as uow:
        uow["embeddings"].update("k", [1, 2], expect=np.array([0.1, 0.2]))
    assert caught.value.__context__ is None or MARKER not in str(caught.value.__context__)
    assert caught.value.hint


@pytest.mark.parametrize(
    "wrong",
    [lambda notes: notes.create("a", 1, expect=1), lambda notes: notes.update("a", 1, 1)],
    ids=["create", "order"],
)
def test_expect_is_named_and_not_for_create(ledger: Ledger, wrong: Callable[[UnitStore], object]) -> None:
    """`create` expects nothing by itself."""
    with pytest.raises(TypeError), ledger.unit(**HOME) as uow:
        wrong(uow["notes"])


def test_no_error_shows_a_value_or_a_hidden_key(ledger: Ledger) -> None:
    """Keys are named for band GREEN only, and values never."""
    for band, named in (("GREEN", True), ("AMBER", False)):
        with pytest.raises(ConflictError) as caught, ledger.unit(space_id=SPACE, band=band) as uow:
            uow["notes"].upsert("the-key", f"{MARKER} new", expect=f"{MARKER} old")
        assert MARKER not in str(caught.value)
        assert ("the-key" in str(caught.value)) == named
    with pytest.raises(OwnError), ledger.unit(**HOME) as uow:
        uow["notes"].upsert("a", 1, expect=MARKER)
        assert MARKER not in repr(uow._state.buffer.writes if uow._state else "")
        raise OwnError
