"""The record of a failure is true: its type, its text as the band allows, the store, the time, whether recovery tried.

One table over the ways in which a unit fails (`PATHS`), walked with every band; then every step at which a process can
die, and every method in which a store can raise.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import (
    Band,
    ConflictError,
    LedgerBusy,
    LedgerError,
    RecordExists,
    RecordMissing,
    StoreError,
    StoreUnavailable,
    UnitTimeout,
    UsageError,
)
from memoryos_uow import _ambient as ambient
from memoryos_uow._protocol import Effect, Event
from memoryos_uow.testing._watched import watched
from tests.leftovers import EFFECTS, begun, change, dies, open_ledger, stores, write
from tests.units import OwnError, locked, throw

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memoryos_uow import Ledger, UnitOfWork, UnitRecord

    Body = Callable[[Ledger, UnitOfWork], object]

SECRET: Final = "sEcReT"


def raises_after_a_write(_: Ledger, uow: UnitOfWork) -> None:
    """The block writes, then raises."""
    uow["notes"].upsert("k", 1)
    throw(OwnError(SECRET))


def conflict(ledger: Ledger, uow: UnitOfWork) -> None:
    """Somebody else changes what was read."""
    uow["notes"].get("k")
    with ledger.unit(space_id="s", band="GREEN", nested="independent") as other:
        other["notes"].upsert("k", 1)
    uow["notes"].upsert("k", 2)


PATHS: Final[dict[str, tuple[Body, type[BaseException], str | None]]] = {
    "own exception": (raises_after_a_write, OwnError, None),
    "before any write": (lambda _, uow: throw(OwnError(SECRET)), OwnError, None),
    "interrupted": (lambda _, uow: throw(KeyboardInterrupt(SECRET)), KeyboardInterrupt, None),
    "bad key": (lambda _, uow: uow["notes"].upsert("", 1), UsageError, "notes"),
    "bad value": (lambda _, uow: uow["notes"].upsert("k", {SECRET}), UsageError, "notes"),
    "taken": (lambda _, uow: uow["notes"].create("there", 1), RecordExists, "notes"),
    "taken outside": (lambda _, uow: uow["archive"].create("there", 1), RecordExists, "archive"),
    "missing": (lambda _, uow: uow["notes"].update(SECRET, 1), RecordMissing, "notes"),
    "missing file": (lambda _, uow: uow["files"].delete(SECRET), RecordMissing, "files"),
    "conflict": (conflict, ConflictError, "notes"),
    "expectation": (lambda _, uow: uow["notes"].upsert("there", 1, expect=SECRET), ConflictError, "notes"),
    "bad SQL": (lambda _, uow: uow.sql(f"SELECT * FROM {SECRET}"), UsageError, "sql"),
}


def failed(ledger: Ledger, band: str, body: Body, kind: type[BaseException], **options: Any) -> UnitRecord:
    """Run a unit that fails in this way; return its record."""
    uow = ledger.unit(space_id="s", band=band, **options)
    with pytest.raises(kind) as caught, uow:
        body(ledger, uow)
    assert type(caught.value) is kind
    record = ledger.get(uow.uow_id)
    assert_text(record, caught.value)
    return record


def assert_text(record: UnitRecord, error: BaseException) -> None:
    """The text is the error's own for GREEN, the class's sentence for AMBER, and nothing else."""
    wanted = {"GREEN": str(error), "AMBER": getattr(error, "summary", None)}.get(record.band or "")
    assert record.error_message == wanted
    if record.band != "GREEN":
        assert SECRET not in repr(record)


@pytest.mark.parametrize("name", PATHS)
def test_each_way_to_fail(tmp_path: Path, name: str) -> None:
    """Type, text, store and times are those of the failure, for every band; recovery had nothing to do with it."""
    body, kind, store = PATHS[name]
    with open_ledger(tmp_path) as ledger:
        with ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].create("there", 1)
            uow["archive"].create("there", 1)
        for band in Band:
            before = ambient.now_text()
            record = failed(ledger, band, body, kind)
            assert (record.status, record.error_type, record.failed_store) == ("failed", kind.__name__, store)
            assert (record.recovery_attempted, record.committed_ts, record.receipt_hash) == (0, None, None)
            assert before <= record.created_ts <= (record.error_ts or "") <= ambient.now_text()
        assert ledger.validate() == []


def test_busy_and_late(tmp_path: Path) -> None:
    """A held lock and a passed deadline are nobody's fault among the stores."""
    with open_ledger(tmp_path, busy_timeout=0) as ledger:
        uow = ledger.unit(space_id="s", band="GREEN")
        with pytest.raises(LedgerBusy), locked(ledger.path), uow:
            uow["notes"].upsert("k", 1)
        with pytest.raises(UnitTimeout), ledger.unit(space_id="s", band="GREEN", timeout=1e-9) as late:
            late["notes"].upsert("k", 1)
        write(ledger, 1)  # takes along the row that could not be written
        found = {record.error_type: record for record in ledger.units(status="failed")}
        assert found["LedgerBusy"].uow_id == uow.uow_id
        assert [found[name].failed_store for name in ("LedgerBusy", "UnitTimeout")] == [None, None]
        assert all(record.error_ts for record in found.values())


@pytest.mark.parametrize("raised", [OwnError, StoreUnavailable])
@pytest.mark.parametrize(
    ("name", "method"),
    [
        *(("notes", method) for method in ("encode", "apply", "read")),
        *(("files", method) for method in ("encode", "plan", "prepare", "apply", "redo", "version")),
        *(("archive", method) for method in ("encode", "redo", "version")),
        *(("photos", method) for method in ("plan", "prepare", "apply")),
    ],
)
def test_a_store_that_raises(tmp_path: Path, name: str, method: str, raised: type[Exception]) -> None:
    """Whatever it raises and wherever, the record names the store; what is foreign is recorded as a StoreError."""
    armed: list[str] = []

    def hook(called: str, when: str) -> None:
        if armed and (called, when) == (method, "before"):
            raise raised(SECRET)

    made = [watched(store, hook) if store.name == name else store for store in stores()]
    with open_ledger(tmp_path, stores=made) as ledger:
        write(ledger, 1)
        armed.append("now")
        uow = ledger.unit(space_id="shared:household", band="AMBER")
        with pytest.raises(StoreError) as caught, uow:
            uow[name].get("k")
            uow[name].upsert("k", b"x" * 100 if name in {"photos", "files"} else {"n": 2})
        record = ledger.get(uow.uow_id)
    wanted = "StoreError" if raised is OwnError else "StoreUnavailable"
    assert (type(caught.value).__name__, record.error_type, record.failed_store) == (wanted, wanted, name)
    assert (record.error_message, record.recovery_attempted) == (type(caught.value).summary, 0)


@pytest.mark.skipif(os.name != "posix", reason="processes are killed")
@pytest.mark.parametrize("band", ["AMBER", "RED"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("effect", EFFECTS[:3])
def test_a_process_that_died(tmp_path: Path, effect: str, after: bool, band: str) -> None:
    """Recovery records whom it has outlived; a decided unit has no error, only the note that recovery tried."""
    place = begun(tmp_path / "ledger")
    dies(place, effect, after=after)
    change(place, "UPDATE uow_coordination SET unit = json_set(unit, '$.band', ?)", band)
    with open_ledger(place) as ledger:
        found = ledger.units(correlation_id="2")
        if (effect, after) == ("RECORD_INTENT", False):
            assert found == []
            return
        (record,) = found
        assert record.recovery_attempted == 1
        assert record.failed_store is None
        if (effect, after) == ("DECIDE", True):
            assert (record.status, record.error_type, record.error_ts) == ("committed", None, None)
            return
        assert (record.status, record.error_type) == ("failed", "OwnerDied")
        assert record.error_ts is not None
        assert (record.error_message is not None) is (band in {"GREEN", "AMBER"})


@pytest.mark.parametrize("band", Band)
def test_a_silent_store(tmp_path: Path, band: str) -> None:
    """A committed unit whose store does not answer says which one and why, and keeps that; there is no text."""
    with open_ledger(tmp_path) as ledger:
        store: Any = ledger._opened.store("files")
        publish = store.publish
        store.publish = lambda *_: throw(OwnError(SECRET))
        with ledger.unit(space_id="s", band=band) as uow:
            uow["files"].upsert("k", b"x")
        for _ in range(2):
            record = ledger.get(uow.uow_id)
            assert (record.status, record.error_type, record.failed_store) == ("committed", "StoreUnavailable", "files")
            assert (record.error_message, record.recovery_attempted) == (None, 1)
            assert record.committed_ts is not None
            assert (record.error_ts or "") >= record.committed_ts
            store.publish = publish
            ledger.recover()


def test_a_lost_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the ledger proves that nothing of it is there, the row says failed, with what went wrong."""
    with open_ledger(tmp_path) as ledger:
        coordinator = ledger._opened.coordinator

        def lose(unit: Any) -> None:
            try:
                throw(LedgerError("The disk failed."))
            except LedgerError:
                coordinator._carry_out(unit, Event.ANSWER_LOST)
                raise

        monkeypatch.setitem(coordinator._do, Effect.DECIDE, lose)
        with pytest.raises(LedgerError), ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].upsert("k", 1)
        record = ledger.get(uow.uow_id)
    assert (record.status, record.error_type, record.failed_store) == ("failed", "LedgerError", None)
