"""Records: their shape, and how they become JSON."""

from __future__ import annotations

import dataclasses
import json

import jsonschema
import pytest

from memoryos_uow import Hit, UnitRecord, Violation, WriteRecord, _schema
from memoryos_uow._records import Content, Found, RecoveryReport

WRITE = WriteRecord(1, "u1", "notes", "n1", "2026-11-22T19:20:31.110000Z", "create", 5, f"sha256:{'a' * 64}")
UNIT = UnitRecord(
    uow_id="u1",
    envelope_id=None,
    status="committed",
    created_ts="2026-11-22T19:20:31.100000Z",
    committed_ts="2026-11-22T19:20:31.123456Z",
    band="GREEN",
    contract_version="1.1.0",
    total_execution_time_ms=1,
    commit_time_ms=0,
    store_count=1,
    total_bytes_written=5,
    retry_count=0,
    recovery_attempted=0,
    receipt_hash="b" * 64,
    space_id="shared:household",
    writes=(WRITE,),
    commit_seq=7,
    execution_us=900,
    commit_us=400,
)


def test_a_unit_is_one_row_of_the_contract() -> None:
    """The fields before `writes` are the 23 columns of the contract's table in its order."""
    columns = [field.name for field in dataclasses.fields(UnitRecord)]
    added = [column.column for column in _schema.added_columns() if column.table == "unit_of_work"]
    assert columns[: columns.index("writes")] == [*columns[:5], *added]


def test_as_dict_is_the_contract_and_nothing_else() -> None:
    """As a dict a unit has the contract's columns and its writes, and leaves out what the library keeps beside."""
    shown = UNIT.as_dict()
    assert list(shown) == [f.name for f in dataclasses.fields(UnitRecord) if not f.kw_only]
    assert shown["writes"] == [dataclasses.asdict(WRITE)]
    assert json.loads(json.dumps(shown)) == shown


def test_as_dict_validates_against_the_shipped_schema() -> None:
    """A unit's dict is valid by the JSON Schema that the library ships, and one with an unknown status is not."""
    validator = jsonschema.Draft202012Validator(_schema.unit_record_schema())
    validator.validate(UNIT.as_dict())
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(dataclasses.replace(UNIT, status="perhaps").as_dict())


def test_as_dict_hands_out_copies() -> None:
    """Whoever changes the dict does not change the record."""
    UNIT.as_dict()["writes"].clear()
    assert UNIT.writes == (WRITE,)


@pytest.mark.parametrize("record", [UNIT, WRITE, Violation("band", "u1", "It is blue."), RecoveryReport()], ids=repr)
def test_records_are_frozen(record: object) -> None:
    """A record cannot be changed after it was read."""
    assert dataclasses.is_dataclass(record)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, dataclasses.fields(record)[0].name, "other")


def test_small_answers_are_tuples() -> None:
    """Hits, contents and found records unpack, and hits sort by what they hold."""
    assert (*Hit("n1", 0.5), *Content(5, "ab"), *Found({"a": 1}, 3)) == ("n1", 0.5, 5, "ab", {"a": 1}, 3)


def test_recovery_reports_add_up() -> None:
    """Two reports of recovery make one that names the units of both."""
    one = RecoveryReport(rolled_forward=("a",), in_doubt=("b",))
    two = RecoveryReport(rolled_back=("c",), in_doubt=("d",))
    assert one + two == RecoveryReport(("a",), ("c",), ("b", "d"))
