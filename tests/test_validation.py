"""The five contract validations: what they find, what they let pass, and that a stranger can run them."""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoryos_uow import _schema
from memoryos_uow._migrations import migrate_up
from memoryos_uow._records import Violation
from memoryos_uow._validation import validate
from memoryos_uow.abc import Dialect
from tests.schema_files import connect, fill_1_0_0, run_script

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from memoryos_uow.abc import Parameters

HASH: Final = "0123456789abcdef" * 4


class PlainReader:
    """A `Reader` over a bare connection."""

    dialect = Dialect.SQLITE

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn

    def rows(self, sql: str, parameters: Parameters = (), /) -> list[tuple[Any, ...]]:
        return self._conn.execute(sql, cast("Any", parameters)).fetchall()

    def stream(self, sql: str, parameters: Parameters = (), /) -> Iterator[tuple[Any, ...]]:
        yield from self._conn.execute(sql, cast("Any", parameters))


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A current ledger that takes anything: its CHECKs are not enforced."""
    with closing(connect(tmp_path / "memory.db")) as connection:
        migrate_up(connection)
        connection.execute("PRAGMA ignore_check_constraints = ON")
        yield connection


def add(conn: sqlite3.Connection, uow_id: str | None, **columns: object) -> None:
    """Write one unit with these columns, right in everything else."""
    values = {"uow_id": uow_id, "status": "pending", "created_ts": "t"} | columns
    marks = ", ".join("?" * len(values))
    conn.execute(f"INSERT INTO unit_of_work ({', '.join(values)}) VALUES ({marks})", list(values.values()))


def broken_rules(conn: sqlite3.Connection) -> list[str]:
    """Return the rules that are broken, in order."""
    return [violation.rule for violation in validate(PlainReader(conn))]


def test_a_sound_ledger_has_nothing_to_report(conn: sqlite3.Connection) -> None:
    """Migrated rows of 1.0.0, and rows of every status and band as the library writes them, pass."""
    fill_1_0_0(conn, 3)
    add(conn, "c", status="committed", band="GREEN", receipt_hash=HASH, total_execution_time_ms=12, commit_time_ms=0)
    add(conn, "f", status="failed", band="BLACK", error_type="StoreError", error_message=None)
    add(conn, "r", status="rolled_back", band="RED", total_execution_time_ms=None, commit_time_ms=None)
    assert validate(PlainReader(conn)) == []


@pytest.mark.parametrize(
    ("columns", "violation"),
    [
        (
            {"commit_time_ms": -5},
            ("metrics", "commit_time_ms is -5, but a time in milliseconds is a number from 0 up."),
        ),
        (
            {"total_execution_time_ms": "soon"},
            ("metrics", "total_execution_time_ms is 'soon', but a time in milliseconds is a number from 0 up."),
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
def test_a_violation_names_rule_row_column_and_value(
    conn: sqlite3.Connection, columns: dict[str, Any], violation: tuple[str, str]
) -> None:
    """Each rule says which unit and row, which column with what in it, and what should be there."""
    add(conn, "sound")
    add(conn, "broken", **columns)
    rule, detail = violation
    assert validate(PlainReader(conn)) == [Violation(rule, "broken", f"Row 2: {detail}")]


def test_a_row_without_an_id_is_named_by_its_number(conn: sqlite3.Connection) -> None:
    """SQLite lets a text key be NULL: such a row is still found, and its number says which it is."""
    add(conn, None, band="PINK")
    assert validate(PlainReader(conn)) == [
        Violation("band", None, "Row 1: band is 'PINK', but a band is GREEN, AMBER, RED or BLACK.")
    ]


def test_every_rule_reports_every_row(conn: sqlite3.Connection) -> None:
    """Several rows, and several faults of one row, are all reported, rule by rule."""
    add(conn, "a", total_execution_time_ms=-1, commit_time_ms=-1, band="green", status="failed")
    add(conn, "b", contract_version="x", receipt_hash="", band="")
    found = [(violation.rule, violation.uow_id) for violation in validate(PlainReader(conn))]
    assert sorted(found) == [
        *[("band", "a"), ("band", "b"), ("error", "a"), ("metrics", "a"), ("metrics", "a")],
        *[("receipt", "b"), ("version", "b")],
    ]


def test_a_long_value_is_cut(conn: sqlite3.Connection) -> None:
    """A report stays readable: 80 characters of a value are shown."""
    add(conn, "u", band="x" * 1000)
    (violation,) = validate(PlainReader(conn))
    assert f"'{'x' * 80}'" in violation.detail
    assert len(violation.detail) < 200


@pytest.mark.parametrize(
    "value", [HASH, HASH.upper(), "0" * 64, None], ids=["lower case", "upper case", "zeros", "absent"]
)
def test_a_valid_receipt_hash_passes(conn: sqlite3.Connection, value: str | None) -> None:
    """64 hexadecimal digits in either case; a unit without a receipt has none."""
    add(conn, "u", receipt_hash=value)
    assert broken_rules(conn) == []


@pytest.mark.parametrize(
    "value",
    [
        *["", HASH[:-1], HASH + "0", "g" * 64, HASH[:-1] + " ", HASH[:-1] + "\n", HASH[:-1] + "\0", HASH + "\0"],
        *["é" * 64, "é" * 32, "\u0660" * 64, bytes(64), HASH.encode(), 0, 1.5],
    ],
    ids=repr,
)
def test_what_only_looks_like_a_receipt_hash_is_found(conn: sqlite3.Connection, value: object) -> None:
    """Right length alone, which is all the specification's query asks for, is not enough."""
    add(conn, "u", receipt_hash=value)
    assert broken_rules(conn) == ["receipt"]


# The examples that semver.org's own regular expression is tested with, and some more.
_VERSIONS: Final = """0.0.4 1.2.3 10.20.30 1.1.2-prerelease+meta 1.1.2+meta 1.1.2+meta-valid 1.0.0-alpha 1.0.0-beta
1.0.0-alpha.beta 1.0.0-alpha.beta.1 1.0.0-alpha.1 1.0.0-alpha0.valid 1.0.0-alpha.0valid
1.0.0-alpha-a.b-c-somethinglong+build.1-aef.1-its-okay 1.0.0-rc.1+build.1 2.0.0-rc.1+build.123 1.2.3-beta
10.2.3-DEV-SNAPSHOT 1.2.3-SNAPSHOT-123 1.0.0 2.0.0 1.1.7 2.0.0+build.1848 2.0.1-alpha.1227 1.0.0-alpha+beta
1.2.3----RC-SNAPSHOT.12.9.1--.12+788 1.2.3----R-S.12.9.1--.12+meta 1.2.3----RC-SNAPSHOT.12.9.1--.12
1.0.0+0.build.1-rc.10000aaa-kk-0.1 99999999999999999999999.999999999999999999.99999999999999999
1.0.0-0A.is.legal 1.1.0+ledger.1 1.0.0--"""
_NO_VERSIONS: Final = """1 1.2 1.2.3-0123 1.2.3-0123.0123 1.1.2+.123 +invalid -invalid -invalid+invalid
-invalid.01 alpha alpha.beta alpha.beta.1 alpha.1 alpha+beta alpha_beta alpha. alpha.. beta 1.0.0-alpha_beta
-alpha. 1.0.0-alpha.. 1.0.0-alpha..1 1.0.0-alpha...1 01.1.1 1.01.1 1.1.01 1.2.3.DEV 1.2-SNAPSHOT
1.2.31.2.3----RC-SNAPSHOT.12.09.1--..12+788 1.2-RC-SNAPSHOT -1.0.3-gamma+b7718 +justmeta 9.8.7+meta+meta
9.8.7-whatever+meta+meta 1.0.0- 1.0.0+ v1.1.0 1..0 .1.1 1.1.0. 1.1.0-+ 1.1.0-a+ 1.1.0.0"""
VERSIONS: Final = _VERSIONS.split()
NO_VERSIONS: Final = _NO_VERSIONS.split()


def test_versions_are_judged_as_semver_org_judges_them(conn: sqlite3.Connection) -> None:
    """Pure SQL agrees with the examples of the standard, on both sides, and with hostile values."""
    hostile = [
        "",
        " 1.1.0",
        "1.1.0\n",
        "1.1.0\0",
        "1.1.0-\0",
        "1.\0001.0",
        '1"1.1',
        "1\\u002e1.0",
        "\u0661.\u0661.\u0660",
        b"1.1.0",
        7,
    ]
    for number, value in enumerate([*VERSIONS, *NO_VERSIONS, *hostile]):
        add(conn, f"{number}", contract_version=value)
    found = {violation.uow_id for violation in validate(PlainReader(conn))}
    expected = range(len(VERSIONS), len(VERSIONS) + len(NO_VERSIONS) + len(hostile))
    assert found == {str(number) for number in expected}


@given(
    st.one_of(
        st.from_regex(_schema._SEMVER, fullmatch=True),
        st.text("0123456789.-+aZé\"\\'", max_size=14),
        st.text(max_size=14),
    ).filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text))
)
def test_sql_and_python_judge_versions_alike(version: str) -> None:
    """The query and the official pattern agree on any text."""
    with closing(connect(":memory:")) as conn:
        run_script(conn, _schema.BASE)
        run_script(conn, _schema.UP)
        add(conn, "u", contract_version=version)
        assert broken_rules(conn) == ([] if _schema._SEMVER.fullmatch(version) else ["version"])


def test_rows_of_a_column_without_its_check_are_found(tmp_path: Path) -> None:
    """A ledger migrated by hand without the CHECK holds what it should not: validation finds it."""
    with closing(connect(tmp_path / "memory.db")) as conn:
        run_script(conn, _schema.BASE)
        conn.execute("ALTER TABLE unit_of_work ADD COLUMN band TEXT")
        conn.execute("INSERT INTO unit_of_work (uow_id, status, created_ts, band) VALUES ('u', 'pending', 't', 'PINK')")
        migrate_up(conn)
        assert broken_rules(conn) == ["band"]


def test_a_soft_downgrade_breaks_no_rule(conn: sqlite3.Connection) -> None:
    """What the specification's DOWN leaves behind is valid, but for failed units that lost their error."""
    add(conn, "committed", status="committed", receipt_hash=HASH, band="RED")
    run_script(conn, _schema.DOWN)
    assert broken_rules(conn) == []


def test_a_stranger_can_run_the_script(conn: sqlite3.Connection, tmp_path: Path) -> None:
    """``sqlite3 memory.db < schema/validation.sql`` finds the same rows with nothing of ours installed."""
    shell = shutil.which("sqlite3")
    if shell is None:
        pytest.skip("the sqlite3 command line is not installed")
    add(conn, "sound", status="committed", receipt_hash=HASH)
    add(conn, "u0", commit_time_ms=-1)
    add(conn, "u1", status="failed")
    add(conn, "u2", receipt_hash="x")
    add(conn, "u3", band="PINK")
    add(conn, "u4", contract_version="1")
    output = subprocess.run(
        [shell, str(tmp_path / "memory.db")],
        input=_schema.text(_schema.VALIDATION),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.splitlines() == [
        "metrics|2|u0|commit_time_ms|-1",
        "error|3|u1|error_type|NULL",
        "receipt|4|u2|receipt_hash|'x'",
        "band|5|u3|band|'PINK'",
        "version|6|u4|contract_version|'1'",
    ]


def test_the_script_has_one_query_per_rule() -> None:
    """Five validations, five statements, each named and explained above its query."""
    statements = _schema.statements(_schema.VALIDATION)
    assert len(statements) == 5
    for number, statement in enumerate(statements, 1):
        assert re.search(rf"^-- {number}\. ", statement, re.MULTILINE)
