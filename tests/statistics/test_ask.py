"""Statistics are what sorting and counting all rows would give, whichever way they are worked out."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoryos_uow import Ledger, UsageError
from memoryos_uow._statistics import columns, look
from tests.schema_files import make_1_0_0
from tests.statistics.rows import Unit, failures, group, groups, make, put

if TYPE_CHECKING:
    from collections.abc import Sequence

BY = ("space", "actor", "band", "store", "hour", "day", "month")
EXAMPLES = int(os.environ.get("MEMORYOS_UOW_STATISTICS_EXAMPLES", "30"))
BEGIN = datetime(2026, 11, 30, 22, tzinfo=UTC)

moments = st.integers(min_value=0, max_value=6 * 3_600_000_000).map(
    lambda us: (BEGIN + timedelta(microseconds=us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
)
edges = st.one_of(
    st.none(),
    moments,
    st.integers(min_value=0, max_value=6).map(lambda hours: (BEGIN + timedelta(hours=hours)).isoformat()),
)


@st.composite
def units(draw: st.DrawFn) -> Unit:
    """Any unit that the library could have recorded."""
    status = draw(st.sampled_from(["committed", "committed", "committed", "failed", "rolled_back"]))
    failed = status == "failed"
    names = draw(st.lists(st.sampled_from(["notes", "photos", "*"]), min_size=1, max_size=3, unique=True))
    return Unit(
        created=draw(moments),
        status=status,
        band=draw(st.sampled_from(["GREEN", "GREEN", "AMBER", "RED", "BLACK"])),
        space=draw(st.sampled_from(["alice", "bob", "-", "*", "=", "家族"])),
        actor=draw(st.sampled_from([None, "a1", "-", "*"])),
        stores=tuple((name, draw(st.integers(1, 3)), draw(st.integers(0, 99))) for name in names),
        retries=draw(st.integers(0, 2)),
        error=draw(st.sampled_from(["ValueError", "ConflictError"])) if failed else None,
        failed_store=draw(st.sampled_from([None, "notes", "photos"])) if failed else None,
        us=draw(st.one_of(st.integers(0, 20), st.integers(0, 10**10))),
    )


def asked(ledger: Ledger, **question: Any) -> dict[str, Any]:
    """What a ledger answers."""
    found = ledger.stats(**question)
    return {"total": found.total, "groups": list(found.groups), "failures": list(found.failures)}


def expected(units: Sequence[Unit], question: dict[str, Any]) -> dict[str, Any]:
    """The same by reading all units."""
    since, until = (
        datetime.fromisoformat(question[name]).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if question.get(name) else None
        for name in ("since", "until")
    )
    wanted = [
        unit
        for unit in units
        if (
            question.get("space_id") is None or (unit.space == question["space_id"] and unit.band in ("GREEN", "AMBER"))
        )
        and (question.get("band") is None or unit.band == question["band"])
        and (since is None or unit.created >= since)
        and (until is None or unit.created < until)
    ]
    by = question.get("by")
    return {"total": group(wanted), "groups": groups(wanted, by) if by else [], "failures": failures(wanted)}


questions = st.fixed_dictionaries(
    {
        "space_id": st.sampled_from([None, None, "alice", "*", "nobody"]),
        "band": st.sampled_from([None, None, "GREEN", "RED", "BLACK"]),
        "since": edges,
        "until": edges,
        "by": st.sampled_from([None, *BY]),
    }
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.lists(units(), max_size=12), min_size=1, max_size=3), st.lists(questions, min_size=4, max_size=8))
def test_answers_are_those_of_sorting_all_rows(batches: list[list[Unit]], asked_for: list[dict[str, Any]]) -> None:
    """Whatever units there are, added in however many steps, every question has the answer that all rows give."""
    with tempfile.TemporaryDirectory() as folder, Ledger.open(Path(folder) / "ledger.db", recover=False) as ledger:
        so_far: list[Unit] = []
        for batch in batches:
            put(ledger.path, batch)
            so_far += batch
            for question in asked_for:
                assert asked(ledger, **question) == expected(so_far, question), question


@pytest.mark.parametrize("by", BY)
def test_each_grouping_by_itself(tmp_path: Path, by: str) -> None:
    """Each grouping is right for units of every band, outcome and store, with and without a time."""
    path = make(tmp_path / "ledger.db")
    some = [
        Unit(created="2026-11-30T23:59:59.999999Z", us=7, actor="a1"),
        Unit(created="2026-12-01T00:00:00.000000Z", us=9, stores=(("notes", 2, 5), ("photos", 1, 70)), retries=2),
        Unit(created="2026-12-01T00:30:00.000000Z", us=1, band="AMBER", space="bob", actor="a1"),
        Unit(created="2026-12-01T01:00:00.000000Z", us=11, band="RED", actor="a2"),
        Unit(created="2026-12-01T01:00:00.000001Z", us=13, band="BLACK"),
        Unit(created="2026-12-01T02:00:00.000000Z", status="failed", error="ConflictError", failed_store="notes"),
        Unit(
            created="2026-12-01T02:00:00.000000Z", status="failed", error="KeyError", band="RED", failed_store="notes"
        ),
        Unit(created="2026-12-01T03:00:00.000000Z", status="rolled_back"),
    ]
    put(path, some)
    for since in (None, "2026-12-01T00:30:00Z", "2026-12-01T01:00:00.000001Z"):
        for until in (None, "2026-12-01T02:00:00Z", "2026-12-01T01:00:00.000001Z"):
            question = {"by": by, "since": since, "until": until}
            with Ledger.open(path) as ledger:
                assert asked(ledger, **question) == expected(some, question), question


@pytest.mark.parametrize("by", [None, *BY])
def test_few_units_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str | None) -> None:
    """Units that are looked through in many steps are added up to the same answer, as are those taken away."""
    monkeypatch.setattr(look, "_UNITS_AT_ONCE", 2)
    monkeypatch.setattr(columns, "_BLOCK_UNITS", 3)
    path = make(tmp_path / "ledger.db")
    some = [
        Unit(created=f"2026-12-01T0{number % 5}:{number:02}:00.000000Z", us=number, actor=f"a{number % 4}", space=space)
        for number in range(40)
        for space in (("alice", "bob") if number % 3 else ("alice",))
    ]
    put(path, some)
    with Ledger.open(path) as ledger:
        for space in ("alice", "bob", None):
            for since in (None, "2026-12-01T00:30:00Z", "2026-12-01T04:20:00Z"):
                question = {"space_id": space, "since": since, "by": by}
                assert asked(ledger, **question) == expected(some, question), question


def test_slowest_are_named_as_their_bands_allow(tmp_path: Path) -> None:
    """The ten slowest are listed, slowest first; a RED one without its space, a BLACK one not at all."""
    path = make(tmp_path / "ledger.db")
    put(path, [Unit(us=us) for us in range(20)] + [Unit(us=100, band="RED"), Unit(us=200, band="BLACK")])
    with Ledger.open(path) as ledger:
        slowest = ledger.stats().slowest
    assert [one.execution_us for one in slowest] == [100, *range(19, 10, -1)]
    assert (slowest[0].band, slowest[0].space_id, slowest[1].space_id) == ("RED", None, "alice")
    assert (slowest[1].uow_id, slowest[1].commit_us) == ("unit-20", 9)


def test_the_retries_of_a_run_are_counted_once(tmp_path: Path) -> None:
    """Of a run of three attempts two are failed units, and the third one says that it was retried twice."""

    def disturbed(uow: Any) -> None:
        number = uow["notes"].get("a", 0)
        if uow.retry_count < 2:
            with ledger.unit(space_id="alice", band="GREEN", nested="independent") as other:
                other["notes"].upsert("a", number + 10)
        uow["notes"].upsert("a", number + 1)

    with Ledger.open(tmp_path / "ledger.db") as ledger:
        ledger.run(disturbed, space_id="alice", band="GREEN")
        total = ledger.stats().total
    assert (total.failed, total.committed, total.retries) == (2, 3, 2)


def test_real_units_are_counted(tmp_path: Path) -> None:
    """Units that the library itself recorded are counted, with the durations that it measured, once each."""
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        for number in range(3):
            with ledger.unit(space_id="alice", band="GREEN") as uow:
                uow["notes"].create(f"n{number}", {"n": number})
            found = ledger.stats(by="store")
            assert (found.total.committed, found.total.execution.count) == (number + 1, number + 1)
            assert [(one.name, one.writes) for one in found.groups] == [("notes", number + 1)]
        found = ledger.stats()
        recorded = sorted(unit.execution_us or -1 for unit in ledger.units())
    assert (found.total.execution.p50_us, found.total.execution.max_us) == (recorded[1], recorded[2])


def test_an_empty_ledger_has_nothing_but_zeros(tmp_path: Path) -> None:
    """Without units every count is 0 and every duration unknown, and it is plain JSON."""
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        found = ledger.stats(by="space")
    assert (found.total, found.groups, found.first_ts) == (group([]), (), None)
    assert found.as_dict()["total"]["execution"]["p95_us"] is None


def test_a_ledger_of_1_0_0_has_counts_and_times(tmp_path: Path) -> None:
    """Of contract 1.0.0 units are counted by outcome and hour; the rest is not known."""
    make_1_0_0(tmp_path / "old.db", units=3)
    with Ledger.open(tmp_path / "old.db", migrate=False) as ledger:
        found = ledger.stats(by="hour", since="2025-09-13T09:59:59Z")
    assert (found.total.committed, found.total.execution.count) == (3, 0)
    assert [one.name for one in found.groups] == ["2025-09-13T10"]


def test_times_that_are_none_are_counted_without_one(tmp_path: Path) -> None:
    """A row whose time another program wrote badly counts, in a group without a name, and is in no stretch of time."""
    path = make(tmp_path / "ledger.db")
    put(path, [Unit(created="yesterday"), Unit(created="2026-11-22T19:20:31+01:00")])
    with Ledger.open(path) as ledger:
        assert [one.name for one in ledger.stats(by="hour").groups] == [None, "2026-11-22T18"]
        assert ledger.stats(since="2020-01-01T00:00:00Z").total.units == 1
        assert ledger.stats().last_ts == "2026-11-22T18"


@pytest.mark.parametrize(
    "question",
    [{"by": "colour"}, {"band": "PINK"}, {"since": "yesterday"}, {"until": "2026-11-22T00:00:00"}, {"space_id": ""}],
)
def test_refuses_wrong_questions(tmp_path: Path, question: dict[str, Any]) -> None:
    """What cannot be meant is refused, and nothing is read."""
    with Ledger.open(tmp_path / "ledger.db") as ledger, pytest.raises(UsageError):
        ledger.stats(**question)
