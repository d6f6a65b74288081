"""How a file becomes an open ledger, or is refused and left as it was."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import (
    Durability,
    Ledger,
    LedgerCorrupt,
    LedgerError,
    Limits,
    MigrationError,
    SchemaTooNew,
    StoreError,
    UsageError,
    _migrations,
    _opening,
)
from memoryos_uow.errors import UnitOfWorkError
from memoryos_uow.stores import BlobStore, DocumentStore, TableStore, VectorStore
from tests.naming import plain_repr
from tests.processes import let_everybody_reach
from tests.schema_files import connect, make_1_0_0, rows_1_0_0, run_script
from tests.units import SPACE, everything, four_stores, rows, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow import UnitOfWork


def put(ledger: Ledger, key: str = "n1") -> UnitOfWork:
    """A committed unit with one write."""
    with ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].upsert(key, key)
    return uow


# Arguments


@pytest.mark.parametrize(
    "wrong",
    [
        {"stores": DocumentStore("a")},
        {"stores": "a"},
        {"stores": b"a"},
        {"stores": 7},
        {"stores": ["a"]},
        {"stores": [DocumentStore]},
        {"stores": [object()]},
        {"stores": {"a": DocumentStore("a")}},
        {"stores": [DocumentStore("a"), VectorStore("a", dimensions=2)]},
        {"durability": "fast"},
        {"durability": None},
        {"durability": 2},
        {"origin": ""},
        {"origin": "two words"},
        {"origin": "a+b"},
        {"origin": "a\nb"},
        {"origin": "a\x7fb"},
        {"origin": "a\0b"},
        {"origin": "a\ud800"},
        {"origin": "x" * 256},
        {"origin": 7},
        {"busy_timeout": -1},
        {"busy_timeout": "5"},
        {"busy_timeout": float("inf")},
        {"busy_timeout": float("nan")},
        {"busy_timeout": True},
        {"busy_timeout": None},
        {"limits": 5},
        {"limits": {"writes_per_unit": 5}},
        {"allow_triggers": "audit"},
        {"allow_triggers": [7]},
        {"allow_triggers": None},
    ],
    ids=plain_repr,
)
def test_wrong_arguments_make_no_file(tmp_path: Path, wrong: dict[str, Any]) -> None:
    """Every wrong argument is refused, with a hint, before there is a file."""
    with pytest.raises(UsageError) as caught:
        Ledger.open(tmp_path / "memory.db", **wrong)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["", 7, None, b"memory.db", "a\0b", "a\ud800", ":memory:", "file:x", "mysql://x/y"])
def test_what_is_no_path(wrong: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be a ledger's path is refused, with a hint."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        Ledger.open(wrong)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "host=db user=me password=opensesame",
        "user = me password = opensesame",
        "postgresql:/me:opensesame@db/x",
        "POSTGRESQL://me:opensesame@db/x",
        "postgresql+psycopg://me:opensesame@db/x",
    ],
)
def test_what_looks_like_an_address(wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of that name is made, and the password that may stand in it is not repeated."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        Ledger.open(wrong)
    assert "opensesame" not in str(caught.value)
    assert "postgresql://user@host/database" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_names_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path may be a string or a path, relative, and with characters that are special in a URI."""
    monkeypatch.chdir(tmp_path)
    for name in ("plain.db", Path("path.db"), "100% #?&ä.db", "a b.db"):
        with Ledger.open(name) as ledger:
            assert ledger.path == tmp_path / name
            put(ledger)
        assert (tmp_path / name).is_file()
    monkeypatch.chdir("/")
    assert len(list(tmp_path.glob("*.db"))) == 4


@pytest.mark.parametrize("make", ["directory", "no directory", "text", "pipe"])
def test_places_where_no_ledger_can_be(tmp_path: Path, make: str) -> None:
    """A path where no ledger can be is refused in one sentence, and what is there is left alone."""
    path = tmp_path / "memory.db"
    if make == "directory":
        path.mkdir()
    elif make == "no directory":
        path = tmp_path / "missing" / "memory.db"
    elif make == "text":
        path.write_text("This is not a database, it only looks like one." * 100)
    else:
        os.mkfifo(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(LedgerError) as caught:
        Ledger.open(path)
    assert caught.value.hint
    assert isinstance(caught.value, LedgerCorrupt) is (make == "text")
    assert (path.read_bytes() if path.is_file() else None) == before


@pytest.mark.parametrize("durability", ["full", "normal", Durability.FULL, Durability.NORMAL])
def test_durability(tmp_path: Path, durability: Any) -> None:
    """Every commit is as durable as asked for, by the word or the enum."""
    with Ledger.open(tmp_path / "memory.db", durability=durability) as ledger:
        put(ledger)
        with ledger._opened.file.setup_connection() as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == ({"full": 2, "normal": 1}[durability],)


def test_limits(tmp_path: Path) -> None:
    """Units keep within the limits of their ledger."""
    limits = Limits(writes_per_unit=1, document_bytes=10)
    opened = Ledger.open(tmp_path / "memory.db", limits=limits)
    with opened as ledger, ledger.unit(space_id=SPACE, band="GREEN") as uow:
        with pytest.raises(UsageError, match="the limit is 10"):
            uow["notes"].create("n1", "x" * 10)
        uow["notes"].create("n1", "x")
        with pytest.raises(UsageError, match="1 writes at most"):
            uow["notes"].create("n2", "x")


# Origins


def test_an_origin_is_for_ever(tmp_path: Path) -> None:
    """A ledger's origin is fixed when it is made: another one is refused before anything is changed."""
    path = tmp_path / "memory.db"
    with Ledger.open(path, origin="example.com/a") as ledger:
        put(ledger)
    before = everything(path)
    with pytest.raises(UsageError, match="is 'example\\.com/a', not") as caught:
        Ledger.open(path, origin="example.com/b", stores=[DocumentStore("new")])
    assert caught.value.hint
    assert everything(path) == before
    for origin in ("example.com/a", None):
        with Ledger.open(path, origin=origin) as ledger:
            assert ledger.origin == "example.com/a"


# Stores


@pytest.mark.parametrize(
    "contrary",
    [
        lambda: DocumentStore("orders"),
        lambda: VectorStore("notes", dimensions=2),
        lambda: VectorStore("embeddings", dimensions=3),
        lambda: VectorStore("embeddings", dimensions=2, metric="l2"),
        lambda: BlobStore("photos", "elsewhere"),
        lambda: TableStore("orders", key="n", columns={"n": "INTEGER"}, space_column=None),
        lambda: TableStore("new", key="id"),
    ],
    ids=["kind", "other kind", "dimensions", "metric", "directory", "key", "no table"],
)
def test_stores_that_contradict_the_ledger(tmp_path: Path, contrary: Callable[[], Any]) -> None:
    """A store that is not what the ledger recorded under its name is refused, and nothing is changed."""
    path = tmp_path / "memory.db"
    with Ledger.open(path, stores=four_stores()):
        pass
    before = everything(path)
    with pytest.raises(UsageError) as caught:
        Ledger.open(path, stores=[contrary(), DocumentStore("newer")])
    assert caught.value.hint
    assert everything(path) == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["memory.db", "photos"]


def test_a_store_that_is_refused_stops_the_migration(tmp_path: Path) -> None:
    """A store that cannot work here is refused before the file is made a ledger, or migrated."""
    path = tmp_path / "memory.db"
    make_1_0_0(path)
    before = everything(path)
    with pytest.raises(UsageError, match="no table 'orders'"):
        Ledger.open(path, stores=[TableStore("orders", key="id")])
    assert everything(path) == before


def test_stores_the_ledger_records(tmp_path: Path) -> None:
    """Whoever has not the application's code opens a ledger with the stores that it records."""
    path = tmp_path / "memory.db"
    with Ledger.open(path, stores=four_stores()) as ledger, ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["orders"].create("o1", {"n": 1})
        uow["photos"].create("p1", b"x" * 100)
    with Ledger.open(path, stores="recorded") as ledger:
        assert ledger["orders"].get("o1", space_id=SPACE)["n"] == 1
        assert ledger["photos"].get("p1", space_id=SPACE) == b"x" * 100
        with pytest.raises(UsageError, match="no store called 'other'"):
            ledger["other"]


# Migration switched off


@pytest.mark.parametrize("there", [False, True])
def test_without_migrating_no_ledger_is_made(tmp_path: Path, there: bool) -> None:
    """With migrate=False a file that holds no ledger is refused, and one that does not exist is not made."""
    path = tmp_path / "memory.db"
    if there:
        with closing(connect(path)) as connection:
            connection.execute("CREATE TABLE mine (x)")
    with pytest.raises(LedgerError, match="holds no ledger") as caught:
        Ledger.open(path, migrate=False)
    assert caught.value.hint
    assert path.exists() is there
    if there:
        assert list(everything(path)) == ["mine", "(schema)"]


@pytest.mark.parametrize("migrate", [False, True])
def test_a_table_that_only_bears_the_name_is_refused(tmp_path: Path, migrate: bool) -> None:
    """Somebody's own table of a ledger's name is called that, with or without migrating, and left alone."""
    path = tmp_path / "memory.db"
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE unit_of_work (mine)")
    with pytest.raises(MigrationError, match="name of a ledger's that is none"):
        Ledger.open(path, migrate=migrate)
    assert everything(path)["unit_of_work"] == []
    assert list(everything(path)) == ["unit_of_work", "(schema)"]


@pytest.mark.parametrize("migrate", [False, True])
def test_a_newer_ledger_is_refused(tmp_path: Path, migrate: bool) -> None:
    """A ledger of a later version is called that, with or without migrating, and left alone."""
    path = tmp_path / "memory.db"
    Ledger.open(path).close()
    with closing(connect(path)) as connection, connection:
        connection.execute("INSERT INTO uow_schema VALUES ('2.0.0', '', '')")
    before = everything(path)
    with pytest.raises(SchemaTooNew):
        Ledger.open(path, migrate=migrate)
    assert everything(path) == before


@pytest.fixture
def basic(tmp_path: Path) -> Path:
    """A ledger of contract 1.0.0 with three units."""
    path = tmp_path / "memory.db"
    make_1_0_0(path)
    return path


def test_basic_mode(basic: Path) -> None:
    """On a 1.0.0 ledger left as it is units work, with the columns of 1.0.0 and receipts in memory."""
    with closing(connect(basic)) as connection:
        columns = connection.execute("SELECT name FROM pragma_table_info('unit_of_work')").fetchall()
    with Ledger.open(basic, stores=four_stores(), migrate=False) as ledger:
        assert (ledger.contract_version, ledger.origin, len(ledger.units())) == ("1.0.0", None, 3)
        with ledger.unit(space_id=SPACE, band="RED", actor_id="alice", envelope_id="env-7") as uow:
            uow["notes"].create("n1", {"text": "milk"})
            uow["orders"].create("o1", {"n": 1})
            uow["embeddings"].create("v1", [1, 2])
            uow["photos"].create("p1", b"x" * 100)
        record = ledger.get(uow.uow_id)
        assert (record.status, record.envelope_id) == ("committed", "env-7")
        assert record.band is record.receipt_hash is None
        assert [(w.store_name, w.operation_type) for w in record.writes] == [
            ("notes", None),
            ("orders", None),
            ("embeddings", None),
            ("photos", None),
        ]
        assert uow.receipt is not None
        assert (uow.receipt.space_seq, uow.receipt.prev, uow.receipt.origin) == (None, None, None)
        assert len(uow.receipt.hash) == 64
        with pytest.raises(UsageError, match="has no receipt"):
            ledger.receipt(uow.uow_id)
        with pytest.raises(UsageError, match="nothing to validate"):
            ledger.validate()
        with pytest.raises(UsageError, match="status only"):
            ledger.units(space_id=SPACE)
        assert [found.uow_id for found in ledger.units(status="committed", limit=1)] == [uow.uow_id]
        assert ledger["photos"].get("p1", space_id=SPACE) == b"x" * 100
    assert rows(basic, "SELECT name FROM pragma_table_info('unit_of_work')") == columns
    assert len(rows(basic, "SELECT * FROM uow_writes")) == 6 + 4


def test_basic_mode_ends(basic: Path) -> None:
    """In basic mode failed and rolled back units leave their rows, savepoints and lost-update protection work."""
    with Ledger.open(basic, migrate=False) as ledger:
        put(ledger)
        failing = ledger.unit(space_id=SPACE, band="GREEN")
        with pytest.raises(UnitOfWorkError, match="changed by another unit"), failing:
            failing["notes"].get("n1")
            with ledger.unit(space_id=SPACE, band="GREEN", nested="independent") as other:
                other["notes"].update("n1", 2)
            failing["notes"].update("n1", 3)
        with ledger.unit(space_id=SPACE, band="GREEN") as undone:
            undone["notes"].create("n2", 1)
            undone.rollback()
        assert [ledger.get(uow.uow_id).status for uow in (failing, other, undone)] == [
            "failed",
            "committed",
            "rolled_back",
        ]
        assert ledger["notes"].get("n1", space_id=SPACE) == 2


def test_migrating_after_basic_mode(basic: Path) -> None:
    """What was written in basic mode is there after the migration, and protected against lost updates as before."""
    with Ledger.open(basic, migrate=False) as ledger:
        first = put(ledger)
    with closing(connect(basic)) as connection:
        before = rows_1_0_0(connection)
    with Ledger.open(basic) as ledger:
        assert (ledger.contract_version, ledger.get(first.uow_id).status) == ("1.1.0", "committed")
        assert ledger.get(first.uow_id).contract_version == "1.1.0"
        assert [write.operation_type for write in ledger.get(first.uow_id).writes] == ["create"]
        late = ledger.unit(space_id=SPACE, band="GREEN")
        with pytest.raises(UnitOfWorkError, match="changed by another unit"), late:
            assert late["notes"].get("n1") == "n1"
            with ledger.unit(space_id=SPACE, band="GREEN", nested="independent") as other:
                other["notes"].update("n1", 2)
            late["notes"].update("n1", 3)
        assert ledger.validate() == []
    with closing(connect(basic)) as connection:
        after = rows_1_0_0(connection)
    assert set(before) <= set(after)


def test_a_current_ledger_needs_no_migration(ledger: Ledger) -> None:
    """migrate=False means nothing for a ledger of 1.1.0."""
    put(ledger)
    with Ledger.open(ledger.path, migrate=False) as again:
        assert again.contract_version == "1.1.0"
        assert put(again).receipt is not None


def test_a_newer_ledger_is_refused_before_its_stores(ledger: Ledger) -> None:
    """A ledger that a later version wrote is refused as such, whatever is asked for, and left alone."""
    ledger.close()
    with closing(connect(ledger.path)) as connection:
        connection.execute("INSERT INTO uow_schema VALUES ('9.0.0', 'x', 'x')")
        connection.execute("DROP TABLE uow_stores")
        connection.execute("CREATE TABLE uow_stores (other)")
    before = everything(ledger.path)
    for options in ({}, {"migrate": False}, {"stores": four_stores()}, {"stores": "recorded"}):
        with pytest.raises(SchemaTooNew):
            Ledger.open(ledger.path, **options)
    assert everything(ledger.path) == before


def test_a_strangers_table_is_refused(tmp_path: Path) -> None:
    """A file in which a table of another meaning has our name is refused and left alone."""
    path = tmp_path / "memory.db"
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE unit_of_work (hours INTEGER)")
    before = everything(path)
    for migrate in (True, False):
        with pytest.raises(LedgerError) as caught:
            Ledger.open(path, migrate=migrate)
        assert caught.value.hint
    assert everything(path) == before


# Triggers

AUDIT = "CREATE TRIGGER audit AFTER INSERT ON {table} BEGIN SELECT 1; END"


@pytest.mark.parametrize("table", ["unit_of_work", "uow_writes", "uow_ledger", "uow_documents", "UOW_SPACES"])
def test_a_trigger_on_a_table_of_ours(ledger: Ledger, table: str) -> None:
    """A trigger that somebody put on one of our tables is refused, unless the application names it."""
    put(ledger)
    ledger.close()
    with closing(connect(ledger.path)) as connection:
        connection.execute(AUDIT.format(table=table))
    before = everything(ledger.path)
    for allowed in ((), ["other"], ["audi"], {"AUDIT"}):
        with pytest.raises(LedgerError, match="a trigger 'audit'") as caught:
            Ledger.open(ledger.path, allow_triggers=allowed)
        assert "allow_triggers=['audit']" in str(caught.value)
    assert everything(ledger.path) == before
    with Ledger.open(ledger.path, allow_triggers=["audit"]) as again:
        put(again)


def test_a_trigger_is_refused_before_the_migration(basic: Path) -> None:
    """A trigger on a 1.0.0 ledger is found before the migration could set it off."""
    with closing(connect(basic)) as connection:
        connection.execute("CREATE TABLE seen (x)")
        connection.execute(
            "CREATE TRIGGER spy AFTER UPDATE ON unit_of_work BEGIN INSERT INTO seen VALUES (new.uow_id); END"
        )
    before = everything(basic)
    with pytest.raises(LedgerError, match="a trigger 'spy'"):
        Ledger.open(basic)
    assert everything(basic) == before


def test_triggers_on_other_tables_are_the_applications(tmp_path: Path) -> None:
    """A trigger on the application's own table is its own affair."""
    path = tmp_path / "memory.db"
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
        connection.execute("CREATE TRIGGER audit AFTER INSERT ON mine BEGIN SELECT 1; END")
    with Ledger.open(path) as ledger:
        put(ledger)


# Files that may not be written

READ_ONLY = """
    import os, sys
    from memoryos_uow import Ledger, LedgerError
    from memoryos_uow.stores import DocumentStore
    path = sys.argv[1]
    if os.getuid() == 0: os.setuid(65534)  # permissions mean nothing to root
    options = eval(sys.argv[2])
    try:
        ledger = Ledger.open(path, **options)
    except LedgerError as error:
        print("refused:", error)
        sys.exit()
    print(ledger.read_only, ledger["notes"].get("n1", space_id="shared:household"), len(ledger.units()))
    try:
        with ledger.unit(space_id="s", band="GREEN") as uow: uow["notes"].create("n2", 1)
    except LedgerError as error:
        print(uow.status, "|", error)
    ledger.close()
"""


@pytest.fixture
def guarded(ledger: Ledger, request: pytest.FixtureRequest) -> Path:
    """A ledger with one note, closed, that nobody may write and all may read."""
    put(ledger)
    ledger.close()
    _expose(ledger.path, 0o444)
    return ledger.path


def _expose(path: Path, mode: int) -> None:
    """Give the file its mode, and let everybody look into the directories above it."""
    path.chmod(mode)
    let_everybody_reach(path)


def test_a_file_that_may_only_be_read(guarded: Path) -> None:
    """A ledger that may not be written is read, and every write is refused in a clear sentence."""
    before = guarded.read_bytes()
    first, second = run(READ_ONLY, guarded, "{}").splitlines()
    assert first == "True n1 1"
    assert second.startswith("failed | ")
    assert "open for reading only" in second
    assert guarded.read_bytes() == before
    assert {file.name for file in guarded.parent.iterdir()} == {"memory.db", "memory.db-head"}


def test_a_read_only_file_that_would_have_to_be_migrated(basic: Path) -> None:
    """An old ledger that may not be written is refused with the way out, and read in basic mode."""
    with closing(connect(basic)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    _expose(basic, 0o444)
    assert "would have to be migrated from 1.0.0" in run(READ_ONLY, basic, "{}")
    with Ledger.open(basic, migrate=False) as ledger, ledger.unit(space_id=SPACE, band="GREEN") as uow:
        uow["notes"].create("n1", 1)
    (line, *_) = run(READ_ONLY, basic, "{'migrate': False}").splitlines()
    assert line == "True 1 4"


def test_stores_of_a_read_only_ledger_that_has_none(basic: Path) -> None:
    """Where there are no stores yet and none can be made, asking for one says so; the units can be read."""
    with closing(connect(basic)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    _expose(basic, 0o444)
    code = """
        import os, sys
        from memoryos_uow import Ledger, LedgerError
        if os.getuid() == 0: os.setuid(65534)
        with Ledger.open(sys.argv[1], migrate=False) as ledger:
            print(len(ledger.units()))
            try: ledger["notes"]
            except LedgerError as error: print(error)
    """
    units, refusal = run(code, basic).splitlines()
    assert units == "3"
    assert "has no stores yet" in refusal


def test_a_read_only_ledger_never_loses_what_it_cannot_record(guarded: Path) -> None:
    """A failure in a ledger that is read only reaches the caller; the lost record is a line in the log."""
    code = """
        import logging, os, sys
        from memoryos_uow import Ledger
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        if os.getuid() == 0: os.setuid(65534)
        with Ledger.open(sys.argv[1]) as ledger:
            try:
                with ledger.unit(space_id="s", band="GREEN") as uow: raise KeyError("mine")
            except KeyError as error:
                print(uow.status, error, ledger.units(status="failed"))
    """
    lost, said = run(code, guarded).splitlines()
    assert lost.startswith("uow.record_lost uow_id=")
    assert said == "failed 'mine' []"


# Steps


def test_opening_a_current_ledger_writes_nothing(ledger: Ledger) -> None:
    """Opening a ledger that is complete changes no row and no table."""
    put(ledger)
    ledger.close()
    before = everything(ledger.path)
    with Ledger.open(ledger.path) as again:
        assert again["notes"].get("n1", space_id=SPACE) == "n1"
    assert everything(ledger.path) == before


def test_a_database_of_the_applications_own(tmp_path: Path) -> None:
    """A ledger is made in the application's database without touching what is the application's."""
    path = tmp_path / "memory.db"
    with closing(connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE mine (x); INSERT INTO mine VALUES (1); CREATE VIEW seen AS SELECT x FROM mine;"
            "PRAGMA user_version = 7; PRAGMA application_id = 42;"
        )
    with Ledger.open(path) as ledger:
        put(ledger)
        with ledger.unit(space_id=SPACE, band="GREEN") as uow:
            uow.sql("INSERT INTO mine VALUES (?)", (2,))
    assert rows(path, "SELECT x FROM seen") == [(1,), (2,)]
    assert rows(path, "PRAGMA user_version") == [(7,)]
    assert rows(path, "PRAGMA application_id") == [(42,)]


def test_a_half_migrated_ledger_is_completed(tmp_path: Path) -> None:
    """A ledger in which somebody began the migration by hand is completed at opening."""
    path = tmp_path / "memory.db"
    make_1_0_0(path)
    with closing(connect(path)) as connection:
        run_script(connection, "1.1.0.up.sql")
        connection.execute("DROP INDEX idx_uow_band")
        connection.execute("ALTER TABLE uow_writes DROP COLUMN checksum")
    with Ledger.open(path) as ledger:
        assert (len(ledger.units()), put(ledger).status) == (3, "committed")


def test_checks_of_the_steps() -> None:
    """What the steps of opening accept is passed on as it is meant."""
    assert _opening.check_timeout(5) == 5.0
    assert _opening.check_timeout(0) == 0.0
    assert _opening.check_origin(None) is None
    assert _opening.check_triggers(("a", "b")) == {"a", "b"}
    assert _opening.check_limits(None) == Limits()
    assert _migrations.Kind.CURRENT.value == "current"


def test_a_refused_ledger_can_be_opened_right_after(tmp_path: Path) -> None:
    """A refusal lets go of the file: the next opening, and the next program, find it free."""
    path = tmp_path / "memory.db"
    with pytest.raises(StoreError):
        Ledger.open(path, stores=[BlobStore("photos", "/dev/null")])
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("ROLLBACK")
    with Ledger.open(path) as ledger:
        put(ledger)


def test_an_applications_file_is_no_ledger_unless_it_may_become_one(tmp_path: Path) -> None:
    """With migrate=False a database without a ledger is refused and left as it is."""
    path = tmp_path / "application.db"
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    with pytest.raises(LedgerError, match="holds no ledger, and migrate=False forbids to make one"):
        Ledger.open(path, migrate=False)
    assert rows(path, "SELECT name FROM sqlite_schema") == [("mine",)]
