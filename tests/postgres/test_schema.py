"""The schema files for PostgreSQL: what they make, and what they promise to strangers."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memoryos_uow import _canonical, _schema
from memoryos_uow._migrations_postgres import shape
from memoryos_uow.receipts import Receipt
from tests.postgres_schemas import FILES, connect, new_schema, relations, run

if TYPE_CHECKING:
    from collections.abc import Iterator

ONLY_HERE: Final = {"uow_blocks", "uow_durability", "uow_pending", "uow_sequencer"}
"""Tables that only many machines at once need. More indexes differ: `docs/reference/schema-on-postgresql.md`."""


@pytest.fixture(scope="module")
def conn(shared_database: str) -> Iterator[Any]:
    """A connection to a schema in which every file has been run."""
    with connect(new_schema(shared_database)) as connection:
        for name in (FILES.base, FILES.up, FILES.ledger, FILES.stores):
            run(connection, _schema.text(name))
        yield connection


# --- the same as on SQLite -------------------------------------------------------------------------------------------


def named(kind: str, *names: str) -> set[str]:
    """Return what the files create of one kind."""
    return {made.name for name in names for made in _schema.created(name) if made.kind == kind}


NOT_HERE: Final = {"uow_redo_by_unit"}
"""Where the table's own key does for it."""


@pytest.mark.parametrize("kind", ["table", "view", "index"])
def test_the_names_are_those_of_sqlite(kind: str) -> None:
    """Tables, views and indexes have the names that they have on SQLite; tables that are only here are listed above."""
    theirs = named(kind, _schema.BASE, _schema.UP, _schema.LEDGER, _schema.STORES)
    ours = named(kind, FILES.base, FILES.up, FILES.ledger, FILES.stores)
    assert kind == "index" or ours - theirs <= ONLY_HERE
    assert all(name.startswith("uow_") for name in ours - theirs)
    assert theirs - ours <= NOT_HERE


def test_the_contract_s_columns_are_those_of_sqlite() -> None:
    """Both tables have the columns of the specification, in its order, with its defaults."""
    sqlite = [(one.table, one.column) for one in _schema.added_columns(_schema.UP)]
    assert [(one.table, one.column) for one in _schema.added_columns(FILES.up)] == sqlite
    defaults = {
        name: [re.findall(r"(\w+) (?:INTEGER|BIGINT|TEXT)[^;]*?DEFAULT ([^ ;\n]+)", _schema.text(name))]
        for name in (_schema.UP, FILES.up)
    }
    assert defaults[_schema.UP] == defaults[FILES.up]


def test_the_backward_script_is_that_of_sqlite() -> None:
    """Going down softly empties the same columns."""
    bodies = [text.partition("\n\n")[2] for text in (_schema.text(_schema.DOWN), _schema.text(FILES.down))]
    assert bodies[0] == bodies[1]


def test_the_contract_s_indexes_are_there(conn: Any) -> None:
    """The five indexes of the specification, each on its columns."""
    found = shape.found(conn).indexes
    assert {name: found[name].columns for name in named("index", FILES.up)} == {
        "idx_uow_space_id": "space_id",
        "idx_uow_actor_id": "actor_id",
        "idx_uow_band": "band",
        "idx_uow_status_created": "status, created_ts",
        "idx_uow_correlation_id": "correlation_id",
    }


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO unit_of_work (uow_id, status, created_ts, band) VALUES ('u', 'pending', 't', 'PINK')",
        "INSERT INTO uow_writes (id, uow_id, store_name, ts, operation_type) VALUES (1, 'u', 's', 't', 'append')",
        "INSERT INTO uow_identity VALUES (2, '', '', '')",
        "INSERT INTO uow_sequencer VALUES (2, 0, NULL, 0)",
        "INSERT INTO uow_content_key VALUES (2, '', '')",
        "INSERT INTO uow_forgotten VALUES (1, 'all', NULL, '')",
        "INSERT INTO uow_coordination VALUES ('u', 'done', 1, '', 0, '', '')",
    ],
)
def test_the_checks_refuse_what_the_contract_does_not_know(conn: Any, statement: str) -> None:
    """What a CHECK refuses on SQLite one refuses here, whoever writes it."""
    with pytest.raises(psycopg.errors.CheckViolation):
        run(conn, statement)


@pytest.mark.parametrize("name", FILES)
def test_the_files_run_again_and_whole(conn: Any, name: str) -> None:
    """Each file is a script for psql, and does no harm a second time."""
    before = relations(conn)
    with conn.transaction(force_rollback=True):
        run(conn, _schema.text(name))
        assert name == FILES.down or relations(conn) == before


def test_only_portable_sql_is_used() -> None:
    """No sequences, functions, triggers, temporary tables, advisory locks or notifications."""
    forbidden = (
        r"\b((BIG|SMALL)?SERIAL|AS IDENTITY|SEQUENCE|FUNCTION|PROCEDURE|DO|TRIGGER|TEMP|TEMPORARY|UNLOGGED|NOTIFY"
        r"|LISTEN|EXTENSION|\w*advisory\w*)\b|\$\$"
    )
    for name in FILES:
        code = re.sub(r"--.*|'[^']*'", "", _schema.text(name))
        assert re.search(forbidden, code, re.IGNORECASE) is None, name


MANY_UNITS: Final = """
INSERT INTO unit_of_work (uow_id, status, created_ts, space_id, actor_id, band, correlation_id)
SELECT lpad(n::text, 36, '0'), CASE WHEN n % 100 = 0 THEN 'failed' ELSE 'committed' END, (2020 + n / 500)::text,
  CASE WHEN n % 100 = 1 THEN 'x' ELSE 's' || n % 7 END, CASE WHEN n % 100 = 2 THEN 'x' ELSE 'a' || n % 7 END,
  CASE WHEN n % 100 = 3 THEN 'RED' ELSE 'GREEN' END, CASE WHEN n % 1000 = 4 THEN 'x' ELSE 'c' || n END
FROM generate_series(1, 5000) AS n
"""


@pytest.mark.parametrize(
    ("where", "index"),
    [
        ("space_id = 'x' ORDER BY uow_id DESC", "uow_units_by_space"),
        ("actor_id = 'x' ORDER BY uow_id DESC", "uow_units_by_actor"),
        ("band = 'RED' ORDER BY uow_id DESC", "uow_units_by_band"),
        ("status = 'failed' AND created_ts > '2025' ORDER BY created_ts DESC, uow_id DESC", "idx_uow_status_created"),
        ("correlation_id = 'x' ORDER BY uow_id DESC", "idx_uow_correlation_id"),
    ],
)
def test_the_indexes_serve_the_queries_they_are_for(conn: Any, where: str, index: str) -> None:
    """Among thousands of units the newest of each kind come from an index, and only few of them are sorted."""
    with conn.transaction(force_rollback=True):
        run(conn, MANY_UNITS)
        run(conn, "ANALYZE unit_of_work")
        if "correlation" not in index:  # one correlation has few units: those may be sorted
            run(conn, "SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off")
        plan = "\n".join(row[0] for row in conn.execute(f"EXPLAIN SELECT * FROM unit_of_work WHERE {where} LIMIT 50"))
    assert f" {index} " in plan


# --- the receipts view -----------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
hexes = st.binary(min_size=32, max_size=32).map(bytes.hex)
numbers = st.integers(0, 2**53 - 1)


@given(
    st.builds(
        Receipt,
        band=st.sampled_from(["GREEN", "AMBER", "RED", "BLACK"]),
        committed_ts=texts,
        context=hexes.map("sha256:{}".format),
        contract_version=texts,
        created_ts=texts,
        nonce=st.none() | hexes,
        origin=texts,
        outcome=st.just("committed"),
        prev=st.none() | hexes,
        space_id=texts,
        space_seq=numbers,
        store_count=numbers,
        total_bytes_written=numbers,
        type=st.just("memoryos-uow/receipt/1"),
        uow_id=texts,
        write_count=numbers,
        writes_root=hexes,
    )
)
def test_the_view_gives_back_the_exact_bytes_of_a_receipt(conn: Any, receipt: Receipt) -> None:
    """What PostgreSQL puts together is byte for byte what was hashed, whatever characters the names have."""
    with conn.transaction(force_rollback=True):
        insert(conn, receipt)
        [(uow_id, text)] = conn.execute("SELECT uow_id, receipt FROM uow_receipts").fetchall()
    assert uow_id == receipt.uow_id
    assert text.encode() == receipt.canonical()


UNIT: Final = Receipt(
    band="GREEN",
    committed_ts="t",
    context=f"sha256:{'00' * 32}",
    contract_version="1.1.0",
    created_ts="t",
    nonce=None,
    origin="o",
    outcome="committed",
    prev=None,
    space_id="s",
    space_seq=1,
    store_count=1,
    total_bytes_written=1,
    type="memoryos-uow/receipt/1",
    uow_id="u",
    write_count=1,
    writes_root="00" * 32,
)


def insert(conn: Any, receipt: Receipt) -> None:
    """Write the rows that the receipt is made of."""
    values = asdict(receipt) | {
        name: None if value is None else bytes.fromhex(value.removeprefix("sha256:"))
        for name, value in asdict(receipt).items()
        if name in ("prev", "context", "nonce", "writes_root")
    }
    conn.execute("INSERT INTO uow_identity VALUES (1, 'id', %(origin)s, 't')", values)
    conn.execute(
        "INSERT INTO unit_of_work (uow_id, status, created_ts, committed_ts, store_count, total_bytes_written,"
        " space_id, band, contract_version) VALUES (%(uow_id)s, 'committed', %(created_ts)s, %(committed_ts)s,"
        " %(store_count)s, %(total_bytes_written)s, %(space_id)s, %(band)s, %(contract_version)s)",
        values,
    )
    conn.execute(
        "INSERT INTO uow_ledger (commit_seq, unit, space_seq, prev, context, nonce, writes_root, write_count, nodes)"
        " VALUES (1, %(uow_id)s, %(space_seq)s, %(prev)s, %(context)s, %(nonce)s, %(writes_root)s, %(write_count)s,"
        " '')",
        values,
    )


def test_every_character_is_escaped_as_rfc_8785_says(conn: Any) -> None:
    """Each of the 1,112,063 characters that a name may have comes out of the view's expression as in canonical JSON."""
    everything = "".join(chr(point) for point in range(1, sys.maxunicode + 1) if not 0xD800 <= point <= 0xDFFF)
    for begin in range(0, len(everything), 100_000):
        part = everything[begin : begin + 100_000]
        written = conn.execute("SELECT to_json(%s::text)::text", (part,)).fetchone()[0]
        assert written.encode() == _canonical.canonical(part)


def test_of_a_forgotten_unit_there_is_no_receipt(conn: Any) -> None:
    """Where an erasure took a unit's id and times, the view has no row for it."""
    with conn.transaction(force_rollback=True):
        insert(conn, UNIT)
        run(conn, "INSERT INTO uow_forgotten VALUES (1, 'context', NULL, 't')")
        assert conn.execute("SELECT count(*) FROM uow_receipts").fetchone() == (1,)
        run(conn, "INSERT INTO uow_forgotten VALUES (1, 'unit', '', 't')")
        assert conn.execute("SELECT count(*) FROM uow_receipts").fetchone() == (0,)


# --- documents -------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    st.dictionaries(texts, st.none() | st.booleans() | st.integers() | texts | st.lists(texts, max_size=3), max_size=5)
)
def test_a_document_can_be_queried_as_json(conn: Any, value: object) -> None:
    """The generated column holds the same document as the exact bytes beside it."""
    text = json.dumps(value, ensure_ascii=False)
    row = "INSERT INTO uow_documents (store, space_id, key, version, value) VALUES ('s', 's', 'k', 1, %s)"
    with conn.transaction(force_rollback=True):
        conn.execute(row, (text,))
        kept, data = conn.execute("SELECT value, data FROM uow_documents").fetchone()
    assert kept == text
    assert data == value
