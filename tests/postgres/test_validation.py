"""The five contract validations on PostgreSQL: what they find, what they let pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoryos_uow import _migrations_postgres, _schema
from memoryos_uow._records import Violation
from memoryos_uow._validation import validate
from memoryos_uow.abc import Dialect
from memoryos_uow.engines._pg_sql import own
from tests.postgres_schemas import FILES, PLACE, connect, make_1_0_0, new_schema, run
from tests.test_validation import HASH, NO_VERSIONS, VERSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memoryos_uow.abc import Parameters


class PlainReader:
    """A `Reader` over a bare connection; statements are translated as the engine does."""

    dialect = Dialect.POSTGRESQL

    def __init__(self, conn: Any) -> None:
        self._conn = conn

    def rows(self, sql: str, parameters: Parameters = (), /) -> list[tuple[Any, ...]]:
        assert not parameters
        rows: list[tuple[Any, ...]] = self._conn.execute(own(sql).text.encode()).fetchall()
        return rows

    def stream(self, sql: str, parameters: Parameters = (), /) -> Iterator[tuple[Any, ...]]:
        yield from self.rows(sql, parameters)


@pytest.fixture(scope="module")
def database(shared_database: str) -> Iterator[Any]:
    """A connection to a current ledger that takes any band, in which nothing stays."""
    with connect(new_schema(shared_database)) as connection:
        make_1_0_0(connection)
        _migrations_postgres.migrate_up(connection, place=PLACE)
        run(connection, "ALTER TABLE unit_of_work DROP CONSTRAINT unit_of_work_band_check")
        yield connection


@pytest.fixture
def conn(database: Any) -> Iterator[Any]:
    """The same for one test."""
    with database.transaction(force_rollback=True):
        yield database


def add(conn: Any, uow_id: str, **columns: object) -> None:
    """Write one unit with these columns, right in everything else."""
    values = {"uow_id": uow_id, "status": "pending", "created_ts": "t"} | columns
    marks = ", ".join(["%s"] * len(values))
    conn.execute(f"INSERT INTO unit_of_work ({', '.join(values)}) VALUES ({marks})".encode(), list(values.values()))


def found(conn: Any) -> list[Violation]:
    """Return what validating finds."""
    return validate(PlainReader(conn))


def test_a_sound_ledger_has_nothing_to_report(conn: Any) -> None:
    """Migrated rows of 1.0.0, and rows of every status and band as the library writes them, pass."""
    add(conn, "c", status="committed", band="GREEN", receipt_hash=HASH, total_execution_time_ms=12, commit_time_ms=0)
    add(conn, "f", status="failed", band="BLACK", error_type="StoreError", error_message=None)
    add(conn, "r", status="rolled_back", band="RED", total_execution_time_ms=None, commit_time_ms=None)
    assert found(conn) == []


@pytest.mark.parametrize(
    ("columns", "violation"),
    [
        (
            {"commit_time_ms": -5},
            ("metrics", "commit_time_ms is -5, but a time in milliseconds is a number from 0 up."),
        ),
        (
            {"total_execution_time_ms": -1},
            ("metrics", "total_execution_time_ms is -1, but a time in milliseconds is a number from 0 up."),
        ),
        ({"status": "failed"}, ("error", "error_type is NULL, but a failed unit names its error.")),
        ({"status": "failed", "error_type": ""}, ("error", "error_type is '', but a failed unit names its error.")),
        (
            {"receipt_hash": "abc"},
            ("receipt", "receipt_hash is 'abc', but a receipt hash is a SHA-256, 64 hexadecimal digits."),
        ),
        ({"band": "PINK"}, ("band", "band is 'PINK', but a band is GREEN, AMBER, RED or BLACK.")),
        (
            {"contract_version": "1.1"},
            ("version", "contract_version is '1.1', but a contract version follows semantic versioning."),
        ),
        (
            {"contract_version": None},
            ("version", "contract_version is NULL, but a contract version follows semantic versioning."),
        ),
    ],
)
def test_a_violation_names_rule_unit_column_and_value(
    conn: Any, columns: dict[str, Any], violation: tuple[str, str]
) -> None:
    """Each rule says which unit, which column with what in it, and what should be there."""
    add(conn, "sound")
    add(conn, "broken", **columns)
    rule, detail = violation
    assert found(conn) == [Violation(rule, "broken", f"Row broken: {detail}")]


@pytest.mark.parametrize(
    "value",
    [*["", HASH[:-1], HASH + "0", "g" * 64, HASH[:-1] + " ", HASH[:-1] + "\n", HASH + "\n"], "é" * 64, "\u0660" * 64],
)
def test_what_only_looks_like_a_receipt_hash_is_found(conn: Any, value: str) -> None:
    """Right length alone, which is all the specification's query asks for, is not enough."""
    add(conn, "u", receipt_hash=value)
    add(conn, "v", receipt_hash=HASH.upper())
    assert [violation.uow_id for violation in found(conn)] == ["u"]


def test_a_long_value_is_cut(conn: Any) -> None:
    """A report stays readable: 80 characters of a value are shown."""
    add(conn, "u", band="x" * 1000)
    (violation,) = found(conn)
    assert f"'{'x' * 80}'" in violation.detail
    assert len(violation.detail) < 200


def test_versions_are_judged_as_semver_org_judges_them(conn: Any) -> None:
    """SQL agrees with the examples of the standard, on both sides, and with hostile values."""
    hostile = ["", " 1.1.0", "1.1.0\n", "\n1.1.0", '1"1.1', "1\\u002e1.0", "\u0661.\u0661.\u0660"]
    for number, value in enumerate([*VERSIONS, *NO_VERSIONS, *hostile]):
        add(conn, f"{number}", contract_version=value)
    expected = range(len(VERSIONS), len(VERSIONS) + len(NO_VERSIONS) + len(hostile))
    assert {violation.uow_id for violation in found(conn)} == {str(number) for number in expected}


versions = st.one_of(
    st.from_regex(_schema._SEMVER, fullmatch=True),
    st.text("0123456789.-+aZé\"\\'", max_size=14),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=14),
)


@settings(max_examples=10)
@given(st.lists(versions, min_size=10, max_size=30))
def test_sql_and_python_judge_versions_alike(database: Any, several: list[str]) -> None:
    """The query and the official pattern agree on any text."""
    with database.transaction(force_rollback=True):
        for number, version in enumerate(several):
            add(database, str(number), contract_version=version)
        judged = {violation.uow_id for violation in found(database)}
    assert judged == {str(number) for number, one in enumerate(several) if not _schema._SEMVER.fullmatch(one)}


def test_a_soft_downgrade_breaks_no_rule(conn: Any) -> None:
    """What the specification's DOWN leaves behind is valid, but for failed units that lost their error."""
    add(conn, "committed", status="committed", receipt_hash=HASH, band="RED")
    run(conn, _schema.text(FILES.down))
    assert found(conn) == []
