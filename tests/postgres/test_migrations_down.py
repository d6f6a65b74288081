"""Migrations on PostgreSQL down to 1.0.0: what stays, what is kept aside, and what stops them."""

from __future__ import annotations

from typing import Any, Final

import pytest

from memoryos_uow import Ledger, _ambient, _migrations_postgres, _schema
from memoryos_uow._migrations import Kind
from memoryos_uow._migrations_postgres import shape
from memoryos_uow.errors import LedgerBusy, MigrationError, SchemaTooNew
from memoryos_uow.stores import DocumentStore
from tests.postgres_schemas import FILES, PLACE, columns, connect, kind_of, make_1_0_0, relations, rows_1_0_0, run, up

BASE_RELATIONS: Final = {"unit_of_work", "unit_of_work_pkey", "uow_writes", "uow_writes_pkey"}
STORES: Final = {made.name for made in _schema.created(FILES.stores) if made.kind == "table"}

TRIGGER: Final = """
CREATE TRIGGER mine BEFORE UPDATE ON uow_ledger FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()
"""


@pytest.fixture
def lived_in(url: str, conn: Any) -> Any:
    """A connection to a ledger with units of 1.0.0 and two of its own."""
    make_1_0_0(conn)
    write_units(url)
    return conn


def write_units(url: str) -> None:
    """Open the ledger, and write two units."""
    with Ledger.open(url, stores=[DocumentStore("notes")], durability="normal") as ledger:
        for key in ("n1", "n2"):
            with ledger.unit(space_id="s", band="GREEN", actor_id="alice") as uow:
                uow["notes"].upsert(key, {"text": "milk"})
            assert uow.receipt is not None
            uow.receipt.wait(10)


def down(conn: Any, **options: Any) -> tuple[str, ...]:
    """Migrate down."""
    return _migrations_postgres.migrate_down(conn, place=PLACE, **options)


def refused(conn: Any, **options: Any) -> str:
    """Migrate down, which must be refused with nothing changed; return the message."""
    before = (relations(conn), columns(conn, "unit_of_work"))
    with pytest.raises(MigrationError) as caught:
        down(conn, **options)
    assert (relations(conn), columns(conn, "unit_of_work")) == before
    assert (caught.value.hint or "").startswith("Nothing was changed")
    return str(caught.value)


# --- in full ---------------------------------------------------------------------------------------------------------


def test_down_in_full_leaves_the_tables_of_1_0_0(lived_in: Any) -> None:
    """Columns, indexes and bookkeeping go; every row of 1.0.0, the records and the backup stay."""
    before = rows_1_0_0(lived_in)
    backups = down(lived_in)
    assert rows_1_0_0(lived_in) == before
    for table in _schema.CONTRACT_TABLES:
        assert columns(lived_in, table) == list(shape.base_columns(table))
    left = {name for name in relations(lived_in) if not name.startswith(("uow_backup_", *STORES))}
    assert left == BASE_RELATIONS
    assert kind_of(lived_in) is Kind.BASIC
    assert set(backups) == {name for name in relations(lived_in) if name.startswith("uow_backup_")}
    documents = "SELECT key, data->>'text' FROM uow_documents ORDER BY key"
    assert lived_in.execute(documents).fetchall() == [("n1", "milk"), ("n2", "milk")]


def test_the_backup_has_all_that_1_0_0_cannot_hold(lived_in: Any) -> None:
    """From the backup tables each receipt can be put together again, byte for byte."""
    before = lived_in.execute("SELECT uow_id, receipt FROM uow_receipts ORDER BY 1").fetchall()
    recorded = lived_in.execute("SELECT * FROM uow_schema ORDER BY 1").fetchall()
    assert len(before) == 2
    backups = {name.split("_", 3)[3]: name for name in down(lived_in)}
    assert lived_in.execute(f"SELECT * FROM {backups['uow_schema']} ORDER BY 1").fetchall() == recorded
    view = _schema.statements(FILES.ledger)[-1].replace("uow_receipts", "receipts_again")
    view = view.replace(
        "unit_of_work AS u", f"(SELECT * FROM unit_of_work JOIN {backups['unit_of_work']} USING (uow_id)) AS u"
    )
    for table in ("uow_ledger", "uow_identity"):
        view = view.replace(f"{table} AS", f"{backups[table]} AS")
    run(lived_in, view.partition("WHERE NOT EXISTS")[0])
    assert lived_in.execute("SELECT uow_id, receipt FROM receipts_again ORDER BY 1").fetchall() == before
    count = f"SELECT count(*), count(checksum) FROM {backups['uow_writes']}"
    assert lived_in.execute(count).fetchone() == (8, 2)


def test_up_again_is_a_new_history(url: str, lived_in: Any) -> None:
    """Afterwards the ledger can be used again: with a new name, new receipts, its records, and ids nobody has had."""
    identity = lived_in.execute("SELECT ledger_id FROM uow_identity").fetchall()
    highest = lived_in.execute("SELECT max(id) FROM uow_writes").fetchone()[0]
    down(lived_in)
    write_units(url)
    assert lived_in.execute("SELECT ledger_id FROM uow_identity").fetchall() != identity
    assert lived_in.execute("SELECT count(*), min(commit_seq), max(commit_seq) FROM uow_ledger").fetchone() == (2, 1, 2)
    assert lived_in.execute("SELECT count(*) FROM uow_writes WHERE id > %s", (highest,)).fetchone() == (2,)
    assert lived_in.execute("SELECT count(*) FROM uow_documents").fetchone() == (2,)
    assert len({name[:31] for name in (*down(lived_in), *relations(lived_in)) if "backup" in name}) == 2


def test_a_ledger_without_records_leaves_no_tables_for_them(conn: Any) -> None:
    """Empty tables of the stores go too: what remains is 1.0.0 and the backup of who the ledger was."""
    up(conn)
    backups = down(conn)
    assert relations(conn) == BASE_RELATIONS | set(backups)
    assert sorted(name.split("_", 3)[3] for name in backups) == ["uow_identity", "uow_schema"]


@pytest.mark.parametrize(
    "script",
    [
        "INSERT INTO uow_stores VALUES ('notes', 'documents', '{}', '')",
        "CREATE INDEX mine ON uow_documents(version)",
        "CREATE VIEW mine AS SELECT * FROM uow_blobs",
    ],
)
def test_tables_of_stores_stay_while_somebody_needs_them(conn: Any, script: str) -> None:
    """A row in one of them, or something the application built on one, keeps them all."""
    up(conn)
    run(conn, script)
    down(conn)
    assert relations(conn) >= STORES


def test_an_application_s_own_columns_and_views_stay(conn: Any) -> None:
    """What the application built on the tables of 1.0.0 survives both ways."""
    make_1_0_0(conn)
    run(
        conn,
        "ALTER TABLE unit_of_work ADD COLUMN note TEXT CHECK (note <> ''); CREATE INDEX my_notes ON unit_of_work(note);"
        "CREATE VIEW my_units AS SELECT uow_id, note FROM unit_of_work;"
        "CREATE TABLE mine (uow_id TEXT REFERENCES unit_of_work(uow_id))",
    )
    up(conn)
    down(conn)
    assert columns(conn, "unit_of_work")[-1] == "note"
    assert relations(conn) >= {"my_notes", "my_units", "mine"}


# --- softly ----------------------------------------------------------------------------------------------------------


def test_down_softly_gives_up_contents_only(lived_in: Any) -> None:
    """The specification's backward migration: fields to NULL, indexes away, tables and records as they were."""
    before, tables = rows_1_0_0(lived_in), relations(lived_in)
    assert down(lived_in, soft=True) == ()
    assert kind_of(lived_in) is Kind.SOFT
    assert rows_1_0_0(lived_in) == before
    assert tables - relations(lived_in) == {made.name for made in _schema.created(FILES.up)}
    emptied = lived_in.execute("SELECT DISTINCT contract_version, band, store_count, receipt_hash FROM unit_of_work")
    assert emptied.fetchall() == [("1.0.0", None, None, None)]
    assert lived_in.execute("SELECT DISTINCT operation_type, bytes_written, checksum FROM uow_writes").fetchall() == [
        (None, None, None)
    ]
    assert down(lived_in, soft=True) == ()


def test_up_after_a_soft_way_down_goes_on(url: str, lived_in: Any) -> None:
    """The log stays and goes on; ids of rows that were written in between are not given again."""
    down(lived_in, soft=True)
    run(lived_in, "INSERT INTO unit_of_work VALUES ('late', NULL, 'committed', '', '')")
    taken = lived_in.execute("SELECT next + 5 FROM uow_blocks WHERE name = 'writes'").fetchone()[0]
    lived_in.execute("INSERT INTO uow_writes (id, uow_id, store_name, ts) VALUES (%s, 'late', 'notes', '')", (taken,))
    write_units(url)
    assert lived_in.execute("SELECT count(*), max(commit_seq) FROM uow_ledger").fetchone() == (4, 4)
    assert lived_in.execute("SELECT count(*) FROM uow_writes WHERE id > %s", (taken,)).fetchone() == (2,)
    assert down(lived_in) != ()


def test_in_full_after_softly(lived_in: Any) -> None:
    """What was given up softly can be taken away in full."""
    down(lived_in, soft=True)
    assert down(lived_in) != ()
    assert kind_of(lived_in) is Kind.BASIC


def test_a_part_of_1_1_0_cannot_be_given_up_softly(conn: Any) -> None:
    """Where columns are missing, the specification's script could not run: it is refused before it begins."""
    make_1_0_0(conn)
    run(conn, _schema.statements(FILES.up)[0])
    assert "without unit_of_work.actor_id" in refused(conn, soft=True)
    assert down(conn) != ()
    assert kind_of(conn) is Kind.BASIC


# --- refused, or nothing to do ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("soft", [False, True])
def test_what_is_down_stays_as_it_is(conn: Any, soft: bool) -> None:
    """An empty schema and a ledger of 1.0.0 are left alone."""
    assert down(conn, soft=soft) == ()
    make_1_0_0(conn)
    before = relations(conn)
    assert down(conn, soft=soft) == ()
    assert relations(conn) == before


@pytest.mark.parametrize("soft", [False, True])
def test_whoever_waited_looks_again(url: str, conn: Any, soft: bool) -> None:
    """A migrator that finds the work done by another one leaves no trace."""
    up(conn)
    left: list[set[str]] = []

    def other_first(_: str) -> None:
        if not left:
            left.append(set())
            with connect(url) as other:
                down(other, soft=soft)
                left[0] = relations(other)

    assert down(conn, soft=soft, progress=other_first) == ()
    assert relations(conn) == left[0]


def test_a_ledger_that_disappears_meanwhile(url: str, conn: Any) -> None:
    """Where the tables are gone by the time it is this one's turn, nothing is made and nothing is said to be done."""
    up(conn)

    def drop(_: str) -> None:
        run(conn, f"DROP SCHEMA {schema} CASCADE; CREATE SCHEMA {schema}")

    schema = conn.execute("SELECT current_schema()").fetchone()[0]
    assert down(conn, progress=drop) == ()
    assert relations(conn) == set()


@pytest.mark.parametrize("soft", [False, True])
def test_a_newer_schema_is_refused(conn: Any, soft: bool) -> None:
    """What a later version wrote is left to it."""
    up(conn)
    run(conn, "INSERT INTO uow_schema VALUES ('2.0.0', '', '')")
    with pytest.raises(SchemaTooNew):
        down(conn, soft=soft)


@pytest.mark.parametrize(
    ("script", "words", "soft_too"),
    [
        (
            "INSERT INTO uow_pending VALUES ('u0', 1, '', '', '', '', 0, 1)",
            "1 committed units that have no number",
            True,
        ),
        ("INSERT INTO uow_coordination VALUES ('u', 'preparing', 1, '', 0, '', '')", "1 units that are at work", False),
        (
            "INSERT INTO uow_outbox VALUES (1, 1, 'u', 0, 's', 'GREEN', 't', NULL, '{}', '')",
            "1 messages in its outbox",
            False,
        ),
    ],
)
def test_unfinished_work_is_refused(conn: Any, script: str, words: str, soft_too: bool) -> None:
    """Rows that programs of 1.0.0 could not finish stop the way down, and the hint says how to finish them."""
    make_1_0_0(conn)
    up(conn)
    run(conn, script)
    assert words in refused(conn)
    if soft_too:
        assert words in refused(conn, soft=True)
    else:
        down(conn, soft=True)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("CREATE INDEX mine ON unit_of_work(device_id)", "index mine"),
        ("CREATE VIEW mine AS SELECT band FROM unit_of_work", "view mine"),
        ("ALTER TABLE unit_of_work ADD CONSTRAINT mine CHECK (band <> space_id)", "constraint mine"),
        ("CREATE INDEX mine ON uow_ledger(space_seq)", "index mine"),
        ("CREATE VIEW mine AS SELECT receipt FROM uow_receipts", "cannot drop view uow_receipts"),
        ("CREATE TABLE mine (seq BIGINT REFERENCES uow_ledger(commit_seq))", "constraint mine_seq_fkey"),
        (TRIGGER, "trigger mine"),
    ],
)
def test_what_the_application_built_on_1_1_0_is_refused(conn: Any, script: str, words: str) -> None:
    """PostgreSQL would drop some of these silently; here each is named, and nothing goes."""
    up(conn)
    run(conn, script)
    assert words in refused(conn)
    down(conn, soft=True)


def test_a_unit_in_the_middle_is_waited_for(url: str, conn: Any) -> None:
    """A transaction that has written a unit keeps the way down waiting; the way down then sees what it wrote."""
    up(conn)
    with connect(url) as other:
        other.execute("BEGIN")
        run(other, "INSERT INTO unit_of_work (uow_id, status, created_ts) VALUES ('u', 'committed', '')")
        run(other, "INSERT INTO uow_pending VALUES ('u', 1, '', '', '', '', 0, 1)")
        with pytest.raises(LedgerBusy):
            down(conn, busy_timeout_s=0.02)
        other.execute("COMMIT")
    assert "have no number" in refused(conn)


def test_progress_is_told(conn: Any) -> None:
    """Whoever watches hears what takes long."""
    up(conn)
    told: list[str] = []
    down(conn, progress=told.append)
    assert told == [
        "waiting for other migrators",
        "copying what 1.0.0 cannot hold",
        "removing columns and tables",
        "committing",
    ]


def test_backups_bear_the_time(conn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their names tell when, to the microsecond, and which table."""
    up(conn)
    monkeypatch.setattr(_ambient, "now_text", lambda: "2026-11-23T04:05:06.000007Z")
    assert down(conn) == (
        "uow_backup_20261123040506000007_uow_schema",
        "uow_backup_20261123040506000007_uow_identity",
    )
