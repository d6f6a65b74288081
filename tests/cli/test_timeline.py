"""The timeline that ``show`` draws: where each bar and each write stands, and that it always fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow._records import UnitRecord, WriteRecord
from memoryos_uow.cli._timeline import timeline
from tests.cli.tools import invoke, make_ledger, only_id

if TYPE_CHECKING:
    from pathlib import Path

BEGUN = "2026-11-22T19:20:31.000000Z"


def unit(*writes: tuple[str, str], **changes: Any) -> UnitRecord:
    """A unit of one millisecond, half of it commit, with writes at times."""
    values: dict[str, Any] = {"created_ts": BEGUN, "execution_us": 1_000, "commit_us": 500} | changes
    made = tuple(WriteRecord(n, "u", store, None, ts) for n, (store, ts) in enumerate(writes))
    return UnitRecord("u", None, "committed", committed_ts=None, writes=made, **values)


def at(us: int) -> str:
    """A time so many microseconds after the beginning."""
    return f"2026-11-22T19:20:31.{us:06}Z"


def test_block_writes_and_commit_stand_where_they_were() -> None:
    """The block takes the first half of the bar, the commit the second, and each write a point."""
    block, notes, photos, commit = timeline(unit(("notes", at(0)), ("photos", at(100)), ("photos", at(300))), None)
    assert block == f"block  |{'=' * 30}{' ' * 30}| 500 us"
    assert notes == f"notes  |*{' ' * 59}| at 0 us"
    assert photos == f"photos |{' ' * 6}*{' ' * 11}*{' ' * 41}| 2 written"
    assert commit == f"commit |{' ' * 30}{'=' * 30}| 500 us"


@pytest.mark.parametrize("ts", [at(999_999), "2026-11-22T19:20:30.000000Z", "2026-11-22T19:20:31", "noon"])
def test_clocks_that_disagree_break_nothing(ts: str) -> None:
    """A write before the beginning or behind the end is drawn at that end; one without a time is left out."""
    lines = timeline(unit(("notes", ts)), None)
    assert len({line.rindex("|") for line in lines}) == 1
    assert len(lines) == (2 if ts == "noon" else 3)


@pytest.mark.parametrize("changes", [{"execution_us": None}, {"commit_us": None}, {"created_ts": "noon"}])
def test_nothing_is_drawn_of_what_is_not_known(changes: dict[str, Any]) -> None:
    """Without durations or a beginning there is no timeline."""
    assert timeline(unit(("notes", at(1)), **changes), None) == []


@pytest.mark.parametrize("changes", [{"execution_us": 0, "commit_us": 0}, {"commit_us": 2_000}])
def test_odd_durations(changes: dict[str, Any]) -> None:
    """A unit of no duration, and a commit that took longer than the whole, are drawn all the same."""
    assert len(timeline(unit(("notes", at(0)), **changes), None)) == 3


@pytest.mark.parametrize("room", [20, 40, 60, 200])
def test_fits(room: int) -> None:
    """No line is wider than there is room, whatever the stores are called; control characters are escaped."""
    lines = timeline(unit(("a_very_long_name_of_a_store_indeed", at(1)), ("\x1b[2J", at(2))), room)
    assert max(map(len, lines)) <= room
    assert not any("\x1b" in line for line in lines)


def test_show_draws_what_the_band_allows(tmp_path: Path) -> None:
    """GREEN has a line for its store, RED only those of block and commit."""
    path = make_ledger(tmp_path / "memory.db")
    green, red = (
        invoke("show", path, only_id(path, [f"band={band}", "status=committed"])).stdout for band in ("GREEN", "RED")
    )
    assert "\n  notes  |" in green
    assert "\n  notes  |" not in red
    assert "\n  commit |" in red
