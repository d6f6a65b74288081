"""Calls to the servers of stores, as those who watch see them: one CLIENT span each, below the unit's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from memoryos_uow import Ledger, StoreError, telemetry
from memoryos_uow.stores import DocumentStore, SQLiteFileStore
from tests.deciding import DecidingFile
from tests.units import SPACE
from tests.watching import WAIT_S

if TYPE_CHECKING:
    from pathlib import Path

    from tests.watching import Seen


class Remote(DecidingFile):
    """Says that a server is behind it."""

    remote = "postgresql"


class RemoteArchive(SQLiteFileStore):
    """The same, for one that publishes."""

    remote = "postgresql"


def calls(seen: Seen) -> list[Any]:
    """The spans that are not the units'."""
    assert telemetry.flush(WAIT_S)
    return [span for span in seen.exporter.get_finished_spans() if not span.name.startswith("uow ")]


def write(ledger: Ledger, band: str) -> None:
    """One unit over all stores."""
    with ledger.unit(space_id=SPACE, band=band) as uow:
        for name in ("decides", "archive", "notes"):
            uow[name].upsert("k", 1)


@pytest.mark.parametrize(("band", "named"), [("GREEN", True), ("AMBER", True), ("RED", False)])
def test_each_call_has_a_span(seen: Seen, tmp_path: Path, band: str, *, named: bool) -> None:
    """Its name, kind and times are the call's; which store it was is said as far as the band lets out."""
    stores = [Remote(), RemoteArchive("archive", "archive.db"), DocumentStore("notes")]
    with Ledger.open(tmp_path / "memory.db", stores=stores) as ledger:
        write(ledger, band)
    [unit] = seen.spans()
    found = calls(seen)
    assert [span.name for span in found] == ["INSERT", "COMMIT", "COMMIT PREPARED"]
    for span in found:
        assert span.kind is SpanKind.CLIENT
        assert span.parent.span_id == unit.context.span_id
        assert unit.start_time <= span.start_time <= span.end_time <= unit.end_time
        assert span.attributes["db.system.name"] == "postgresql"
        assert span.attributes["db.operation.name"] == span.name
        assert ("memoryos.uow.store" in span.attributes) is named


def test_a_black_unit_shows_no_times(seen: Seen, tmp_path: Path) -> None:
    """Not those of its calls either."""
    with (
        Ledger.open(tmp_path / "memory.db", stores=[Remote()]) as ledger,
        ledger.unit(space_id=SPACE, band="BLACK") as uow,
    ):
        uow["decides"].upsert("k", 1)
    assert [span.name for span in seen.spans()] == ["uow commit"]
    assert calls(seen) == []


def test_a_call_that_fails_says_so(seen: Seen, tmp_path: Path) -> None:
    """With the class of the error, and nothing of its text."""
    decider = Remote()
    decider.before_commit = StoreError("with a value in it")
    with (
        Ledger.open(tmp_path / "memory.db", stores=[decider]) as ledger,
        pytest.raises(StoreError),
        ledger.unit(space_id=SPACE, band="GREEN") as uow,
    ):
        uow["decides"].upsert("k", 1)
    [_, commit] = calls(seen)
    assert (commit.attributes["error.type"], commit.status.status_code) == ("StoreError", StatusCode.ERROR)
    assert commit.status.description is None


def test_stores_without_a_server_have_none(seen: Seen, tmp_path: Path) -> None:
    """A second file is no server."""
    stores = [DecidingFile(), SQLiteFileStore("archive", "archive.db"), DocumentStore("notes")]
    with Ledger.open(tmp_path / "memory.db", stores=stores) as ledger:
        write(ledger, "GREEN")
    assert (len(seen.spans()), calls(seen)) == (1, [])
