"""The schema files: what they make, and how the code finds its way in them."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memoryos_uow import _schema
from memoryos_uow._records import UnitRecord, WriteRecord
from memoryos_uow.errors import MigrationError
from memoryos_uow.receipts import Receipt
from tests.schema_files import connect, contract_shape, fresh_shape, run_script

# What the specification prints: name, type, default of every column it adds to 1.0.0.
SPECIFIED_UNIT_COLUMNS: Final = """
total_execution_time_ms INTEGER 0, commit_time_ms INTEGER 0, store_count INTEGER 0, total_bytes_written INTEGER 0,
retry_count INTEGER 0, error_type TEXT, error_message TEXT, failed_store TEXT, error_ts TEXT,
recovery_attempted INTEGER 0, receipt_hash TEXT, receipt_signature TEXT, space_id TEXT, actor_id TEXT,
device_id TEXT, correlation_id TEXT, band TEXT, contract_version TEXT '1.1.0'
"""
SPECIFIED_WRITE_COLUMNS: Final = "operation_type TEXT 'create', bytes_written INTEGER 0, checksum TEXT"
SPECIFIED_INDEXES: Final = {
    "idx_uow_space_id": ["space_id"],
    "idx_uow_actor_id": ["actor_id"],
    "idx_uow_band": ["band"],
    "idx_uow_status_created": ["status", "created_ts"],
    "idx_uow_correlation_id": ["correlation_id"],
}


def columns_in_words(text: str) -> list[tuple[str, str, str | None]]:
    """Turn "name TYPE default, ..." into tuples."""
    words = (column.split() for column in text.replace("\n", " ").split(","))
    return [(name, kind, default[0] if default else None) for name, kind, *default in words]


# --- what the files make ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "base", "added"),
    [
        (
            "unit_of_work",
            "uow_id TEXT, envelope_id TEXT, status TEXT, created_ts TEXT, committed_ts TEXT",
            SPECIFIED_UNIT_COLUMNS,
        ),
        (
            "uow_writes",
            "id INTEGER, uow_id TEXT, store_name TEXT, record_id TEXT, ts TEXT",
            SPECIFIED_WRITE_COLUMNS,
        ),
    ],
)
def test_the_contract_tables_have_the_columns_that_the_specification_prints(table: str, base: str, added: str) -> None:
    """Names, types, defaults and order of the columns are the specification's."""
    info = fresh_shape(_schema.BASE, _schema.UP)[table]
    assert [(name, kind, default) for _, name, kind, _, default, _ in info] == (
        columns_in_words(base) + columns_in_words(added)
    )


def test_the_contract_tables_have_the_indexes_that_the_specification_prints() -> None:
    """Names and columns of the five indexes are the specification's, and there are no others."""
    indexes = fresh_shape(_schema.BASE, _schema.UP)["indexes of unit_of_work"]
    made = {name: columns for name, _, origin, _, columns in indexes if origin == "c"}
    assert made == SPECIFIED_INDEXES


@pytest.mark.parametrize(
    ("where", "index"),
    [
        ("space_id = 'x'", "idx_uow_space_id"),
        ("actor_id = 'x'", "idx_uow_actor_id"),
        ("band = 'RED'", "idx_uow_band"),
        ("status = 'failed' AND created_ts > '2025'", "idx_uow_status_created"),
        ("correlation_id = 'x'", "idx_uow_correlation_id"),
    ],
)
def test_the_indexes_serve_the_queries_they_are_for(where: str, index: str) -> None:
    """The query planner answers each of the specification's filters from its index."""
    with closing(connect(":memory:")) as conn:
        run_script(conn, _schema.BASE)
        run_script(conn, _schema.UP)
        plan = conn.execute(f"EXPLAIN QUERY PLAN SELECT * FROM unit_of_work WHERE {where}").fetchall()
    assert f"USING INDEX {index}" in plan[0][3]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO unit_of_work (uow_id, status, created_ts, band) VALUES ('u', 'pending', 't', 'PINK')",
        "INSERT INTO uow_writes (uow_id, store_name, ts, operation_type) VALUES ('u', 's', 't', 'append')",
    ],
)
def test_the_checks_refuse_what_the_contract_does_not_know(statement: str) -> None:
    """An unknown band or operation cannot be stored, whoever writes it."""
    with closing(connect(":memory:")) as conn:
        run_script(conn, _schema.BASE)
        run_script(conn, _schema.UP)
        with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
            conn.execute(statement)


def test_the_backward_script_only_gives_up_contents() -> None:
    """The specification's DOWN leaves the tables as they are and takes away the indexes."""
    with closing(connect(":memory:")) as conn:
        for name in (_schema.BASE, _schema.UP):
            run_script(conn, name)
        tables = conn.execute("SELECT sql FROM sqlite_schema WHERE type = 'table'").fetchall()
        conn.execute("INSERT INTO unit_of_work (uow_id, status, created_ts, band) VALUES ('u', 'pending', 't', 'RED')")
        run_script(conn, _schema.DOWN)
        assert conn.execute("SELECT sql FROM sqlite_schema WHERE type = 'table'").fetchall() == tables
        assert {index[2] for index in contract_shape(conn)["indexes of unit_of_work"]} == {"pk"}
        assert conn.execute("SELECT uow_id, band, store_count, contract_version FROM unit_of_work").fetchall() == [
            ("u", None, None, "1.0.0")
        ]


def test_released_files_stay_as_they_are() -> None:
    """Ledgers in the world record these checksums: a change of the schema is a new file, not a changed one."""
    released = [name for files in _schema.FILES.values() for name in (files.base, *files.layers.values())]
    assert {name: _schema.checksum(name) for name in released} == {
        "1.0.0.sql": "974e90777d1995e8426506e26d1f36e7874d1b440e6254a8c62379e7da4485b3",
        "1.1.0.up.sql": "62eac7af271ced0416dc40a7e22b0ec8dd0ecf154032fa87913359c6a74b2b62",
        "ledger.sql": "d82520688b0fbee04371926c15e0b290af8727c7e4537e3e8535246706bedf6f",
        "postgres/1.0.0.sql": "aab7c706418b0cd998c011f09234462fc667801d05888859eff1a81258ae0c7e",
        "postgres/1.1.0.up.sql": "71dbd80a5485c91cb39679d71ea077e78694a700cfcb5b5f494bedc2dab98b48",
        "postgres/ledger.sql": "f05bd85d57ff1e1be662473fafdef473fd1db1337ed792f845f64760531390c4",
    }


# --- the receipts view -----------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
hexes = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(
    st.builds(
        Receipt,
        band=st.sampled_from(["GREEN", "AMBER", "RED", "BLACK"]),
        committed_ts=texts,
        context=hexes.map("sha256:{}".format),
        contract_version=st.just("1.1.0"),
        created_ts=texts,
        nonce=st.none() | hexes,
        origin=texts,
        outcome=st.just("committed"),
        prev=st.none() | hexes,
        space_id=texts,
        space_seq=st.integers(1, 2**53 - 1),
        store_count=st.integers(0, 2**53 - 1),
        total_bytes_written=st.integers(0, 2**53 - 1),
        type=st.just("memoryos-uow/receipt/1"),
        uow_id=texts,
        write_count=st.integers(0, 2**53 - 1),
        writes_root=hexes,
    )
)
def test_the_view_gives_back_the_exact_bytes_of_a_receipt(receipt: Receipt) -> None:
    """What SQLite puts together is byte for byte what was hashed, whatever characters the names have."""
    with closing(connect(":memory:")) as conn:
        for name in (_schema.BASE, _schema.UP, _schema.LEDGER):
            run_script(conn, name)
        conn.execute("INSERT INTO uow_identity VALUES (1, 'id', ?, 't')", (receipt.origin,))
        conn.execute(
            "INSERT INTO unit_of_work (uow_id, status, created_ts, committed_ts, store_count, total_bytes_written,"
            " space_id, band) VALUES (?, 'committed', ?, ?, ?, ?, ?, ?)",
            (
                receipt.uow_id,
                receipt.created_ts,
                receipt.committed_ts,
                receipt.store_count,
                receipt.total_bytes_written,
                receipt.space_id,
                receipt.band,
            ),
        )
        conn.execute(
            "INSERT INTO uow_ledger (unit, space_seq, prev, context, nonce, writes_root, write_count, nodes)"
            " VALUES (1, ?, ?, ?, ?, ?, ?, x'')",
            (
                receipt.space_seq,
                receipt.prev and bytes.fromhex(receipt.prev),
                bytes.fromhex((receipt.context or "").removeprefix("sha256:")),
                receipt.nonce and bytes.fromhex(receipt.nonce),
                bytes.fromhex(receipt.writes_root),
                receipt.write_count,
            ),
        )
        rows = conn.execute("SELECT receipt FROM uow_receipts WHERE uow_id = ?", (receipt.uow_id,)).fetchall()
    assert [row[0].encode() for row in rows] == [receipt.canonical()]


# --- finding and splitting -------------------------------------------------------------------------------------------


def test_statements_end_where_sqlite_says() -> None:
    """Semicolons in strings, comments and trigger bodies do not end a statement; comments stay with theirs."""
    trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM a; DELETE FROM b; END;"
    script = f"-- one; two\nSELECT ';' AS a; /* x; */ SELECT 2;\n\n{trigger}\n"
    assert _schema.split(script) == ("-- one; two\nSELECT ';' AS a;", "/* x; */ SELECT 2;", trigger)


@pytest.mark.parametrize("name", [name for files in _schema.FILES.values() for name in files])
def test_a_file_is_the_sum_of_its_statements(name: str) -> None:
    """Nothing of a file is lost or said twice where it is split, whichever database it is for."""
    assert "".join(_schema.text(name).split()) == "".join("".join(_schema.statements(name)).split())
    assert len(_schema.statements(name)) > 1


@pytest.mark.parametrize("name", [_schema.BASE, _schema.UP, _schema.DOWN, _schema.LEDGER, _schema.STORES])
def test_the_statements_of_a_file_do_what_the_file_does(name: str) -> None:
    """Run one by one, the statements leave the same schema as the whole script."""
    made = []
    for run in (run_script, run_statements):
        with closing(connect(":memory:")) as conn:
            if name in (_schema.UP, _schema.DOWN):
                run_script(conn, _schema.BASE)
            if name == _schema.DOWN:
                run_script(conn, _schema.UP)
            run(conn, name)
            made.append(conn.execute("SELECT type, name, sql FROM sqlite_schema").fetchall())
    assert made[0] == made[1]
    assert made[0]


def run_statements(conn: sqlite3.Connection, name: str) -> None:
    """Run a schema file statement by statement."""
    for statement in _schema.statements(name):
        conn.execute(statement)


def test_a_cut_file_is_noticed() -> None:
    """A script that ends inside a statement is refused instead of being run in part."""
    with pytest.raises(MigrationError, match="ends inside a statement"):
        _schema.split("SELECT 1; SELECT 'a;")


def test_a_missing_file_is_a_typed_error() -> None:
    """An incomplete installation says so, and what to do."""
    with pytest.raises(MigrationError, match=re.escape("schema/9.9.9.sql")) as caught:
        _schema.text("9.9.9.sql")
    assert caught.value.hint == "No ledger was changed. Install the library again."


def test_checksums_are_those_of_the_files() -> None:
    """A recorded checksum is what sha256sum prints for the shipped file."""
    path = next(place for place in _schema._PLACES if place.is_dir()) / _schema.UP
    assert _schema.checksum(_schema.UP) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_schema_is_found_in_the_checkout_and_in_the_wheel() -> None:
    """The package looks beside itself first, as an installed wheel needs it, then at the top of the checkout."""
    package = Path(_schema.__file__).parent
    assert list(_schema._PLACES) == [package / "schema", package.parents[1] / "schema"]


@pytest.mark.parametrize(
    "version",
    ["1.1.0", "1.1.0+ledger.0", "1.1.0+ledger.1", "1.0.0", "1.0.99+ledger.7", "1.1.0-rc.1", "0.9.0-a.b+ledger.3"],
)
def test_older_and_equal_versions_are_known(version: str) -> None:
    """A schema of this version or an earlier one is never called too new."""
    assert not _schema.is_newer(version)


@pytest.mark.parametrize(
    "version",
    [
        *["1.1.0+ledger.2", "1.1.0+ledger.10", "1.1.1", "1.2.0-alpha", "1.10.0", "2.0.0", "10.0.0"],
        *["", "1.1", "v1.1.0", "1.1.0+ledger.01", "1.1.0+other", "1.1.0+ledger", "01.1.0", "1.1.0\n", "1.1.\u0660"],
    ],
)
def test_later_and_unknown_versions_are_too_new(version: str) -> None:
    """What is beyond this library, or not understood, is left to whoever wrote it."""
    assert _schema.is_newer(version)


def test_versions_compare_as_semantic_versioning_says() -> None:
    """The example of semver.org, section 11, comes out in its order."""
    order = "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0"
    keys = [_schema._precedence(version) or () for version in order.split()]
    assert all(() < left < right for left, right in pairwise(keys))


# --- the JSON Schema -------------------------------------------------------------------------------------------------

HASH: Final = "ab" * 32
TS: Final = "2026-11-22T19:20:31.110000Z"
WRITE: Final = WriteRecord(1, "u", "notes", "n1", TS, "create", 5, f"sha256:{HASH}")
COMMITTED: Final = UnitRecord(
    "u", None, "committed", TS, TS, 12, 3, 1, 5, 0,
    receipt_hash=HASH, space_id="s", band="GREEN", contract_version="1.1.0", recovery_attempted=0, writes=(WRITE,),
)  # fmt: skip
FAILED: Final = UnitRecord(
    "u", None, "failed", TS, None, 1, 0, 1, 0, 2, "ConflictError", "Another unit ...", "notes", TS, 0,
    space_id="s", band="AMBER", contract_version="1.1.0",
)  # fmt: skip
OLD_TIME: Final = "2025-09-13 10:00:00"


def schema_errors(record: dict[str, Any]) -> list[str]:
    """Return the paths at which `record` departs from the shipped schema."""
    validator = jsonschema.Draft202012Validator(_schema.unit_record_schema())
    return ["/".join(map(str, error.absolute_path)) for error in validator.iter_errors(record)]


def test_the_json_schema_is_valid_draft_2020_12() -> None:
    """The shipped schema is itself sound, and names every field of a record and of a write."""
    schema = _schema.unit_record_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    record = COMMITTED.as_dict()
    assert schema["properties"].keys() == set(schema["required"]) == record.keys()
    write = schema["$defs"]["write"]
    assert write["properties"].keys() == set(write["required"]) == record["writes"][0].keys()


@pytest.mark.parametrize(
    "record",
    [
        COMMITTED,
        FAILED,
        UnitRecord("u", None, "rolled_back", TS, None, 1, 0, 0, 0, 0, contract_version="1.1.0"),
        UnitRecord("u", "e", "pending", TS, None),
        UnitRecord("u", None, "committed", OLD_TIME, OLD_TIME, writes=(WriteRecord(1, "u", "s", None, OLD_TIME),)),
        UnitRecord("u", None, "committed", OLD_TIME, OLD_TIME, 0, 0, 0, 0, 0, contract_version="1.0.0"),
        UnitRecord("u", None, "failed", TS, None, error_type="UnitTimeout", band="BLACK"),
    ],
    ids=["committed", "failed", "rolled back", "pending", "1.0.0", "1.0.0 migrated", "failed without text"],
)
def test_the_json_schema_accepts_every_kind_of_record(record: UnitRecord) -> None:
    """Records of every status validate, also those whose ledger never knew or gave up 1.1.0."""
    assert schema_errors(record.as_dict()) == []


@pytest.mark.parametrize(
    ("defect", "change", "path"),
    [
        ("unknown field", {"payload": "x"}, ""),
        ("unknown status", {"status": "done"}, "status"),
        ("unknown band", {"band": "PINK"}, "band"),
        ("no id", {"uow_id": None}, "uow_id"),
        ("negative time", {"commit_time_ms": -1}, "commit_time_ms"),
        ("time that is no integer", {"total_execution_time_ms": 1.5}, "total_execution_time_ms"),
        ("receipt hash too short", {"receipt_hash": "ab" * 31}, "receipt_hash"),
        ("receipt hash that is not hexadecimal", {"receipt_hash": "xy" * 32}, "receipt_hash"),
        ("version with a leading zero", {"contract_version": "1.01.0"}, "contract_version"),
        ("version in words", {"contract_version": "latest"}, "contract_version"),
        ("committed without a time", {"committed_ts": None}, "committed_ts"),
        ("receipted time without decimals", {"committed_ts": "2026-11-22T19:20:31Z"}, "committed_ts"),
        ("no time at all", {"created_ts": "yesterday"}, "created_ts"),
        ("receipt without a space", {"space_id": None}, "space_id"),
        ("receipt of a failed unit", {"status": "failed", "error_type": "X", "committed_ts": None}, "status"),
        ("signature without a receipt", {"receipt_hash": None, "receipt_signature": "s"}, "receipt_signature"),
        ("text of no error", {"error_message": "x"}, "error_message"),
        ("recovery in words", {"recovery_attempted": "yes"}, "recovery_attempted"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_json_schema_refuses(defect: str, change: dict[str, Any], path: str) -> None:
    """A record with one named defect is refused at the defect's place."""
    assert path in schema_errors(COMMITTED.as_dict() | change), defect


def test_the_json_schema_refuses_a_failed_unit_without_its_error() -> None:
    """Error consistency holds for exported records too."""
    assert "error_type" in schema_errors(FAILED.as_dict() | {"error_type": None})


@pytest.mark.parametrize(
    ("defect", "change", "path"),
    [
        ("unknown field", {"value": "x"}, "writes/0"),
        ("unknown operation", {"operation_type": "append"}, "writes/0/operation_type"),
        ("digest without its algorithm", {"checksum": HASH}, "writes/0/checksum"),
        ("negative size", {"bytes_written": -1}, "writes/0/bytes_written"),
        ("delete with content", {"operation_type": "delete"}, "writes/0/checksum"),
        ("receipted write without an operation", {"operation_type": None}, "writes/0/operation_type"),
        ("no store", {"store_name": ""}, "writes/0/store_name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_json_schema_refuses_a_write(defect: str, change: dict[str, Any], path: str) -> None:
    """A write with one named defect is refused at the defect's place."""
    record = COMMITTED.as_dict()
    record["writes"] = [record["writes"][0] | change]
    assert path in schema_errors(record), defect
