"""What the ledger says about a unit: every column of the specification, for every way a unit can end."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jsonschema
import pytest

from memoryos_uow import (
    Band,
    ConflictError,
    Ledger,
    RecordExists,
    RecordMissing,
    StoreError,
    UsageError,
    _ambient,
    _schema,
)
from memoryos_uow.errors import UnitOfWorkError
from memoryos_uow.stores import DocumentStore
from tests.units import MARKER, SPACE, OwnError, rows, statuses, throw

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from memoryos_uow import (
        UnitOfWork,
        UnitRecord,
    )
    from memoryos_uow.abc import Transaction, UnitFacts, Write

TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
SHA256: Final = re.compile(r"[0-9a-f]{64}")
BANDS: Final = [band.value for band in Band]


def sha256(content: bytes) -> str:
    """The checksum column's text for this content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def context() -> dict[str, Any]:
    """Every optional column that a caller can give."""
    return {"actor_id": "alice", "device_id": "phone", "correlation_id": "req-42", "envelope_id": "env-7"}


def failed(
    ledger: Ledger, error: BaseException | None, do: Callable[[UnitOfWork], object], **options: Any
) -> UnitRecord:
    """The record of a unit that does something, and then raises if there is something to raise."""
    uow = ledger.unit(**{"space_id": SPACE, "band": "GREEN", **options})
    with pytest.raises(type(error) if error else UnitOfWorkError), uow:
        do(uow)
        if error:
            raise error
    return ledger.get(uow.uow_id)


# Committed


def test_a_committed_unit_fills_every_column(wide: Ledger) -> None:
    """A committed unit has what the specification lists: times, counts, context, receipt, and no error."""
    with wide.unit(space_id=SPACE, band="GREEN", **context()) as uow:
        uow["notes"].create("n1", {"text": "milk"})
        uow["orders"].create("o1", {"n": 1})
    record = wide.get(uow.uow_id)
    assert uow.receipt is not None
    assert record.as_dict() == {
        "uow_id": uow.uow_id,
        "envelope_id": "env-7",
        "status": "committed",
        "created_ts": uow.receipt.created_ts,
        "committed_ts": uow.receipt.committed_ts,
        "total_execution_time_ms": record.total_execution_time_ms,
        "commit_time_ms": record.commit_time_ms,
        "store_count": 2,
        "total_bytes_written": sum(write.bytes_written or 0 for write in record.writes),
        "retry_count": 0,
        "error_type": None,
        "error_message": None,
        "failed_store": None,
        "error_ts": None,
        "recovery_attempted": 0,
        "receipt_hash": uow.receipt.hash,
        "receipt_signature": None,
        "space_id": SPACE,
        "actor_id": "alice",
        "device_id": "phone",
        "correlation_id": "req-42",
        "band": "GREEN",
        "contract_version": "1.1.0",
        "writes": record.as_dict()["writes"],
    }
    assert TIME.fullmatch(record.created_ts)
    assert TIME.fullmatch(record.committed_ts or "")
    assert record.created_ts <= (record.committed_ts or "")
    assert SHA256.fullmatch(record.receipt_hash or "")
    assert record.commit_seq == 1


def test_every_write_has_its_row(wide: Ledger) -> None:
    """Each write is a row, in order: store, key, operation, and length and digest of the bytes that the store keeps."""
    vector = struct.pack("<2f", 1.0, 0.5)
    with wide.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n1", {"text": "milk", "n": 1})
        uow["notes"].update("n1", {"b": 1, "a": "ä"})
        uow["embeddings"].upsert("v1", [1.0, 0.5])
        uow["photos"].create("small", b"tiny")
        uow["photos"].create("large", b"x" * 1000)
        uow["notes"].delete("n1")
        uow.sql("CREATE TABLE audit (what TEXT)")
        uow.sql("INSERT INTO audit VALUES (?)", ("seen",))
    statement = b'{"parameters":["seen"],"sql":"INSERT INTO audit VALUES (?)"}'
    table = b'{"parameters":[],"sql":"CREATE TABLE audit (what TEXT)"}'
    writes = wide.get(uow.uow_id).writes
    found = [(w.store_name, w.record_id, w.operation_type, w.bytes_written, w.checksum) for w in writes]
    assert found == [
        ("notes", "n1", "create", len(b'{"text":"milk","n":1}'), sha256(b'{"text":"milk","n":1}')),
        ("notes", "n1", "update", len('{"b":1,"a":"ä"}'.encode()), sha256('{"b":1,"a":"ä"}'.encode())),
        ("embeddings", "v1", "upsert", 8, sha256(vector)),
        ("photos", "small", "create", 4, sha256(b"tiny")),
        ("photos", "large", "create", 1000, sha256(b"x" * 1000)),
        ("notes", "n1", "delete", 0, None),
        ("sql", None, "create", len(table), sha256(table)),
        ("sql", None, "create", len(statement), sha256(statement)),
    ]
    assert all(TIME.fullmatch(write.ts) for write in writes)
    assert [w.ts for w in writes] == sorted(w.ts for w in writes)


def test_a_table_row_is_recorded_as_it_became(wide: Ledger) -> None:
    """The content of a table write is the row after it: columns that the table filled in count too."""
    with wide.unit(space_id=SPACE, band="GREEN") as uow:
        uow["orders"].create("o1", {"n": 1})
        uow["orders"].update("o1", {"what": "milk"})
    first, second = wide.get(uow.uow_id).writes
    assert (first.bytes_written or 0) < (second.bytes_written or 0)
    assert first.checksum != second.checksum


@pytest.mark.parametrize(
    ("band", "key", "checksum", "nonces"),
    [
        ("GREEN", "n1", True, False),
        ("AMBER", "n1", True, True),
        ("RED", "n1", False, True),
        ("BLACK", None, False, True),
    ],
)
def test_what_a_band_keeps_back(ledger: Ledger, band: str, key: str | None, checksum: bool, nonces: bool) -> None:
    """RED and BLACK leave no digest of guessable content, BLACK no record id, and all but GREEN carry random nonces."""
    with ledger.unit(space_id=SPACE, band=band) as uow:
        uow["notes"].create("n1", 1)
    with ledger.unit(space_id=SPACE, band=band) as uow:
        uow["notes"].create("n2", 1)
    (write,) = ledger.get(uow.uow_id).writes
    assert write.record_id == (key and "n2")
    assert (write.checksum is not None) is checksum
    assert write.bytes_written == 1
    found = [nonce for (nonce,) in rows(ledger.path, "SELECT lower(hex(nonce)) FROM uow_nonces")]
    assert len(set(found)) == (2 if nonces else 0)
    assert all(re.fullmatch(r"[0-9a-f]{32}", nonce) for nonce in found)
    assert uow.receipt is not None
    assert (uow.receipt.nonce is not None) is nonces


def test_the_wall_clock_may_go_back(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit is never committed before it was created, whatever the clock on the wall does meanwhile."""
    clock = iter(["2026-11-22T19:20:31.110000Z", *["1999-01-01T00:00:00.000000Z"] * 10])
    monkeypatch.setattr(_ambient, "now_text", lambda: next(clock))
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n1", 1)
    assert uow.receipt is not None
    assert uow.receipt.committed_ts == uow.receipt.created_ts == "2026-11-22T19:20:31.110000Z"


# Durations


@dataclass
class Clock:
    """A monotonic clock that stands still until it is moved."""

    ns: int = 1_000_000_000_000

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every duration."""
    standing = Clock()
    monkeypatch.setattr(_ambient, "monotonic_ns", standing)
    return standing


class SlowStore(DocumentStore):
    """Takes its time in the transaction."""

    def __init__(self, name: str, clock: Clock, apply_ns: int) -> None:
        super().__init__(name)
        self._clock, self._apply_ns = clock, apply_ns

    def apply(self, tx: Transaction, unit: UnitFacts, commit_seq: int, writes: Sequence[Write]) -> None:
        self._clock.ns += self._apply_ns
        super().apply(tx, unit, commit_seq, writes)


@pytest.mark.parametrize(
    ("block_ns", "commit_ns", "total_ms", "commit_ms"),
    [
        (0, 0, 0, 0),
        (499_999, 0, 0, 0),
        (0, 500_000, 1, 1),
        (1_000_000, 499_999, 1, 0),
        (1_000_000, 500_000, 2, 1),
        (0, 1_499_999, 1, 1),
        (2_000_000, 1_500_000, 4, 2),
    ],
)
def test_milliseconds_are_rounded_half_up(
    tmp_path: Path, clock: Clock, *, block_ns: int, commit_ns: int, total_ms: int, commit_ms: int
) -> None:
    """Durations are whole milliseconds rounded half up, with the microseconds beside them."""
    with Ledger.open(tmp_path / "memory.db", stores=[SlowStore("notes", clock, commit_ns)]) as ledger:
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow["notes"].create("n1", 1)
            clock.ns += block_ns
        record = ledger.get(uow.uow_id)
    assert (record.total_execution_time_ms, record.commit_time_ms) == (total_ms, commit_ms)
    assert (record.execution_us, record.commit_us) == ((block_ns + commit_ns) // 1000, commit_ns // 1000)


def test_a_failed_unit_says_how_long_it_took(ledger: Ledger, clock: Clock) -> None:
    """A failed unit's execution time is that of its block; it has spent none on a commit that never was."""

    def work(_: UnitOfWork) -> None:
        clock.ns += 7_000_000

    record = failed(ledger, OwnError(), work)
    assert (record.total_execution_time_ms, record.commit_time_ms) == (7, 0)


# Failed


@pytest.mark.parametrize(
    ("band", "message"), [("GREEN", f"secret {MARKER}"), ("AMBER", None), ("RED", None), ("BLACK", None)]
)
def test_a_foreign_error_by_band(ledger: Ledger, band: str, message: str | None) -> None:
    """Of the caller's own exception GREEN keeps the text, every other band the type alone."""
    record = failed(
        ledger, OwnError(f"secret {MARKER}"), lambda uow: uow["notes"].create("n1", 1), band=band, **context()
    )
    assert record.as_dict() == {
        "uow_id": record.uow_id,
        "envelope_id": "env-7",
        "status": "failed",
        "created_ts": record.created_ts,
        "committed_ts": None,
        "total_execution_time_ms": record.total_execution_time_ms,
        "commit_time_ms": 0,
        "store_count": 1,
        "total_bytes_written": 0,
        "retry_count": 0,
        "error_type": "OwnError",
        "error_message": message,
        "failed_store": None,
        "error_ts": record.error_ts,
        "recovery_attempted": 0,
        "receipt_hash": None,
        "receipt_signature": None,
        "space_id": SPACE,
        "actor_id": "alice",
        "device_id": "phone",
        "correlation_id": "req-42",
        "band": band,
        "contract_version": "1.1.0",
        "writes": [],
    }
    assert TIME.fullmatch(record.error_ts or "")


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize(
    ("error", "do"),
    [
        (RecordMissing, lambda uow: uow["notes"].update("nobody", {"x": MARKER})),
        (RecordExists, lambda uow: (uow["notes"].create("n1", 1), uow["notes"].create("n1", MARKER))),
        (UsageError, lambda uow: uow["notes"].create("n1", {"x": float("nan"), "y": MARKER})),
        (UsageError, lambda uow: uow["notes"].create(MARKER * 1000, 1)),
    ],
    ids=["at commit", "at once", "bad value", "bad key"],
)
def test_an_error_of_ours_by_band(
    ledger: Ledger, band: str, error: type[UnitOfWorkError], do: Callable[[UnitOfWork], object]
) -> None:
    """Of our errors GREEN keeps the sentence, AMBER the constant summary, RED and BLACK the type; the store is kept."""
    record = failed(ledger, None, do, band=band)
    assert record.error_type == error.__name__
    assert record.failed_store == "notes"
    if band == "GREEN":
        assert record.error_message
        assert record.error_message != error.summary
    else:
        assert record.error_message == (error.summary if band == "AMBER" else None)
    assert MARKER not in json.dumps(record.as_dict())


def test_a_conflict_names_its_store(ledger: Ledger) -> None:
    """A unit that lost a race is recorded as a conflict in the store where it lost it."""
    with ledger.unit(space_id=SPACE, band="GREEN") as first:
        first["notes"].create("n1", 1)

    def race(uow: UnitOfWork) -> None:
        uow["notes"].get("n1")
        with ledger.unit(space_id=SPACE, band="GREEN", nested="independent") as other:
            other["notes"].update("n1", 2)
        uow["notes"].update("n1", 3)

    record = failed(ledger, None, race)
    assert (record.error_type, record.failed_store) == (ConflictError.__name__, "notes")


class Broken(DocumentStore):
    """A store of somebody else's, with a defect."""

    def apply(self, tx: Transaction, unit: UnitFacts, commit_seq: int, writes: Sequence[Write]) -> None:
        raise KeyError(MARKER)


def test_a_foreign_error_in_a_store_names_the_store(tmp_path: Path) -> None:
    """What a store raises by mistake becomes a StoreError that names it, with the cause chained and not quoted."""
    with Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("notes"), Broken("bad")]) as ledger:
        uow = ledger.unit(space_id=SPACE, band="GREEN")
        with pytest.raises(StoreError) as caught, uow:
            uow["notes"].create("n1", 1)
            uow["bad"].create("b1", 1)
        record = ledger.get(uow.uow_id)
        assert ledger["notes"].get("n1", space_id=SPACE) is None
    assert (record.failed_store, record.error_type, record.store_count) == ("bad", "StoreError", 2)
    assert isinstance(caught.value.__cause__, KeyError)
    assert MARKER not in str(caught.value)
    assert caught.value.uow_id == uow.uow_id


def test_an_error_of_another_ledger_is_not_blamed_on_a_store_here(ledger: Ledger, tmp_path: Path) -> None:
    """The failed store is one of this ledger: an error that comes from a unit of another one names none."""
    with Ledger.open(tmp_path / "other.db") as other:
        uow = ledger.unit(space_id=SPACE, band="GREEN")
        inner = other.unit(space_id=SPACE, band="GREEN")
        with pytest.raises(RecordMissing), uow, inner:
            inner["theirs"].update("nobody", 1)
        assert other.get(inner.uow_id).failed_store == "theirs"
    assert (ledger.get(uow.uow_id).error_type, ledger.get(uow.uow_id).failed_store) == ("RecordMissing", None)


def test_a_text_that_cannot_be_stored_is_made_storable(ledger: Ledger) -> None:
    """An error's text is cut to 1,000 characters, and what UTF-8 or SQLite cannot hold is replaced."""
    long = failed(ledger, OwnError("x" * 5000), lambda _: None).error_message
    odd = failed(ledger, OwnError("a\0b\ud800c"), lambda _: None).error_message
    assert long == "x" * 999 + "…"
    assert odd == "a\N{REPLACEMENT CHARACTER}b?c"


def test_an_exception_that_cannot_be_shown_is_recorded_by_its_type(ledger: Ledger) -> None:
    """An exception whose own text fails reaches the caller all the same, and the record names its type."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    record = failed(ledger, MuteError(), lambda _: None)
    assert (record.status, record.error_message) == ("failed", None)
    assert (record.error_type or "").endswith("MuteError")


# Which units leave a row


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("end", ["well", "rollback", "failure"])
def test_which_units_leave_a_row(ledger: Ledger, end: str, writes: bool) -> None:
    """Units with writes and failed units leave a row; one that wrote nothing and did not fail leaves none."""
    uow = ledger.unit(space_id=SPACE, band="GREEN")
    try:
        with uow:
            uow["notes"].get("n1")
            if writes:
                uow["notes"].create("n1", 1)
            if end == "rollback":
                uow.rollback()
            if end == "failure":
                throw(OwnError())
    except OwnError:
        pass
    status = {"well": "committed", "rollback": "rolled_back", "failure": "failed"}[end]
    assert statuses(ledger) == ([status] if writes or end == "failure" else [])
    assert uow.status == status


def test_a_rolled_back_unit_fills_every_column(ledger: Ledger) -> None:
    """A unit that was rolled back has its context and counts, no error, no receipt, and no writes."""
    with ledger.unit(space_id=SPACE, band="RED", **context()) as uow:
        uow["notes"].create("n1", 1)
        uow["other"].create("n1", 1)
        uow.rollback()
    record = ledger.get(uow.uow_id)
    assert record.as_dict() == {
        "uow_id": uow.uow_id,
        "envelope_id": "env-7",
        "status": "rolled_back",
        "created_ts": record.created_ts,
        "committed_ts": None,
        "total_execution_time_ms": record.total_execution_time_ms,
        "commit_time_ms": 0,
        "store_count": 2,
        "total_bytes_written": 0,
        "retry_count": 0,
        "error_type": None,
        "error_message": None,
        "failed_store": None,
        "error_ts": None,
        "recovery_attempted": 0,
        "receipt_hash": None,
        "receipt_signature": None,
        "space_id": SPACE,
        "actor_id": "alice",
        "device_id": "phone",
        "correlation_id": "req-42",
        "band": "RED",
        "contract_version": "1.1.0",
        "writes": [],
    }


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("end", ["well", "rollback", "failure"])
def test_every_record_fits_the_schema(wide: Ledger, band: str, end: str) -> None:
    """A record of whatever outcome and band validates against the JSON Schema that is shipped, and breaks no rule."""
    uow = wide.unit(space_id=SPACE, band=band, **context())
    try:
        with uow:
            uow["notes"].create("n1", {"text": "milk"})
            uow["orders"].create("o1", {"n": 1})
            uow["embeddings"].create("v1", [1, 2])
            uow["photos"].create("p1", b"x" * 100)
            uow.sql("CREATE TABLE t (x)")
            if end == "rollback":
                uow.rollback()
            if end == "failure":
                throw(OwnError())
    except OwnError:
        pass
    schema = _schema.unit_record_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(wide.get(uow.uow_id).as_dict())))
    assert wide.validate() == []
