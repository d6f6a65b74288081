"""The rows about unsettled units: one owner per epoch, and whoever is late finds its epoch gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from memoryos_uow import _ambient, _coordination
from memoryos_uow._names import Operation
from memoryos_uow.abc import Redo
from tests.leftovers import begun, open_ledger, unsettled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from memoryos_uow._coordination import Unsettled
    from memoryos_uow.engines.sqlite import SQLiteEngine

OWN = {"band": "GREEN", "space_id": "s", "created_ts": "2026-01-01T00:00:00.000000Z"}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SQLiteEngine]:
    """The engine of a ledger at rest."""
    with open_ledger(begun(tmp_path / "ledger")) as ledger:
        ledger.recover()
        yield ledger._opened.file


def intent(engine: SQLiteEngine, uow_id: str = "u1") -> Unsettled:
    """Record an intent, and return it as a recoverer finds it."""
    tx = engine.begin()
    _coordination.insert(tx, uow_id, decided=False, unit=OWN, plan={"photos": ["a/b/c"]})
    tx.commit()
    return found(engine, uow_id)


def found(engine: SQLiteEngine, uow_id: str = "u1") -> Unsettled:
    """Return a unit as it is now."""
    with engine.reader() as reader:
        return next(one for one in _coordination.unsettled(reader) if one.uow_id == uow_id)


def test_an_intent_says_all_that_recovery_needs(engine: SQLiteEngine) -> None:
    """The row holds the unit's own columns, what is made outside, its owner, and a lease that runs."""
    one = intent(engine)
    assert (one.uow_id, one.decided, one.epoch, dict(one.unit), dict(one.plan)) == (
        "u1",
        False,
        1,
        OWN,
        {"photos": ["a/b/c"]},
    )
    now = _ambient.unix_ms()
    assert not one.is_free(now)
    assert one.is_free(one.lease_until_ms)
    assert now < one.lease_until_ms <= now + _coordination.LEASE_S * 1000 + 1000


def test_of_two_recoverers_one_wins(engine: SQLiteEngine) -> None:
    """Both saw the same epoch; the second to ask for it is refused."""
    seen = intent(engine)
    tx = engine.begin()
    assert _coordination.take_over(tx, [seen])
    assert not _coordination.take_over(tx, [seen])
    tx.commit()
    again = found(engine)
    assert again.epoch == 2
    tx = engine.begin()
    assert _coordination.take_over(tx, [again])
    tx.rollback()
    assert found(engine).epoch == 2


def test_an_owner_that_was_taken_over_cannot_decide(engine: SQLiteEngine) -> None:
    """Its intent becomes a decision only while its own epoch stands; and only once."""
    seen = intent(engine)
    intent(engine, "u2")
    tx = engine.begin()
    assert _coordination.take_over(tx, [seen])
    assert not _coordination.decide(tx, "u1")
    assert _coordination.decide(tx, "u2")
    assert not _coordination.decide(tx, "u2")
    assert not _coordination.decide(tx, "never heard of")
    tx.commit()
    assert (found(engine).decided, found(engine, "u2").decided) == (False, True)


def test_what_is_planned_is_what_a_sweep_must_spare(engine: SQLiteEngine) -> None:
    """Ids of all units at work, and the tokens of the store that sweeps, not of others."""
    intent(engine)
    with engine.reader() as reader:
        assert _coordination.planned(reader, "photos") == {"u1", "a/b/c"}
        assert _coordination.planned(reader, "files") == {"u1"}


def test_redo_comes_back_in_commit_order(engine: SQLiteEngine) -> None:
    """By store, units in the order of their decisions, writes in the order of the unit; forgotten as a whole."""
    entries = [
        Redo(seq, number, f"u{seq}", "s", f"k{number}", Operation.UPSERT, b"%d" % number)
        for seq, number in ((12, 1), (11, 3), (12, 0), (11, 2))
    ]
    intent(engine, "u11")
    tx = engine.begin()
    _coordination.insert_redo(tx, "archive", entries)
    _coordination.insert_redo(tx, "files", entries[:1])
    tx.commit()
    with engine.reader() as reader:
        owing = _coordination.redo_of(reader, ["u12", "u11", "unknown"])
        assert [(one.commit_seq, one.seq) for one in owing["archive"]] == [(11, 2), (11, 3), (12, 0), (12, 1)]
        assert owing["files"] == [entries[0]]
        assert set(_coordination.redo_of(reader, ["u11"])) == {"archive"}
    tx = engine.begin()
    _coordination.forget(tx, ["u11", "unknown"])
    tx.commit()
    assert unsettled(engine.path.parent) == []
    with engine.reader() as reader:
        assert _coordination.redo_of(reader, ["u11"]) == {}
        assert len(_coordination.redo_of(reader, ["u12"])["archive"]) == 2


def test_units_are_listed_page_by_page(engine: SQLiteEngine) -> None:
    """From behind an id, in the order of ids, as many as asked for."""
    for number in (3, 1, 2):
        intent(engine, f"u{number}")
    with engine.reader() as reader:
        assert [one.uow_id for one in _coordination.unsettled(reader, limit=2)] == ["u1", "u2"]
        assert [one.uow_id for one in _coordination.unsettled(reader, after="u2", limit=2)] == ["u3"]
