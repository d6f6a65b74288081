"""A ledger is copied to a database whole, or is not there: every row, receipt and store, whoever is killed when."""

from __future__ import annotations

import base64
import json
import signal
import sqlite3
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from memoryos_uow import (
    Band,
    ConflictError,
    Ledger,
    LedgerBusy,
    LedgerError,
    UsageError,
    _copying,
    _schema,
    _unfinished_copy,
)
from memoryos_uow._copying import run as copy_run
from memoryos_uow._copying.source import held
from memoryos_uow._copying.target import Target
from memoryos_uow.engines import sqlite as sqlite_engine
from memoryos_uow.stores import BlobStore, DocumentStore, SQLiteFileStore, TableStore, VectorStore
from tests.cli.tools import invoke
from tests.units import environment, python, rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memoryos_uow._copying.report import CopyProgress
    from memoryos_uow.abc import Store

_CHILD = """
    import os, signal, sys
    from memoryos_uow import Ledger
    from memoryos_uow._copying import run, target
    from memoryos_uow._copying.target import _migrations_postgres as migrations

    source, url, at = sys.argv[1], sys.argv[2], int(sys.argv[3])
    run.CHUNK_ROWS = 5
    steps = 0

    def step(*_):
        global steps
        steps += 1
        if steps == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(owner, name):
        original = getattr(owner, name)
        def call(*arguments, **options):
            step()
            done = original(*arguments, **options)
            step()
            return done
        setattr(owner, name, call)

    watched(migrations, "migrate_up")
    for name in ("_prepare", "write", "set_up_stores", "finish"):
        watched(target.Target, name)
    Ledger.copy(source, url)
"""


def stores(folder: Path) -> list[Store]:
    """What the ledgers of these tests have: stores inside, and two that keep bytes outside."""
    return [
        DocumentStore("notes"),
        VectorStore("vectors", dimensions=2),
        BlobStore("photos", folder / "photos", inline_below=16),
        SQLiteFileStore("archive", folder / "archive.db"),
    ]


def fill(folder: Path, *, units: int = 8, **options: Any) -> Path:
    """Make a ledger with units of every band, a failed one, messages, an answer and an erased record."""
    path = folder / "memory.db"
    with Ledger.open(path, stores=stores(folder), **options) as ledger:
        for number in range(units):
            with ledger.unit(space_id=f"s{number % 2}", band=list(Band)[number % 4], actor_id="ann") as uow:
                uow["notes"].create(f"n{number}", {"text": f'"milk"\\ {number} \u00e9\u2028', "n": number})
                uow["vectors"].create(f"v{number}", [number, 0.25])
                uow["photos"].create(f"p{number}", bytes([number]) * (10 + 2 * number))
                uow["archive"].create(f"a{number}", {"n": number})
                uow.publish("topic", {"n": number}, key="k")
        with suppress(ValueError), ledger.unit(space_id="s0", band="GREEN") as uow:
            uow["notes"].create("never", {})
            raise ValueError("of the application's")
        ledger.run(lambda uow: 7, space_id="s0", band="GREEN", idempotency_key="once")
        ledger.erase(space_id="s0", store="notes", key="n0")
    return path


def facts(place: Path | str, folder: Path) -> dict[str, Any]:
    """All that the library tells of a ledger, wherever it is."""
    with Ledger.open(place, stores=stores(folder)) as ledger:
        units = ledger.units(limit=1000)
        found: dict[str, Any] = {unit.uow_id: ledger.get(unit.uow_id).as_dict() for unit in units}
        committed = [unit.uow_id for unit in units if unit.receipt_hash is not None]
        found["receipts"] = {uow_id: ledger.receipt(uow_id).canonical() for uow_id in committed}
        found["proofs"] = {uow_id: ledger.receipt(uow_id).proof() for uow_id in committed}
        found["head"] = ledger.checkpoint()
        found["origin"] = ledger.origin
        for store, key in (("notes", "n{}"), ("vectors", "v{}"), ("photos", "p{}"), ("archive", "a{}")):
            for number in range(len(units)):
                found[f"{store} {number}"] = ledger[store].get(key.format(number), space_id=f"s{number % 2}")
        assert ledger.verify().problems == ()
    return found


def asked(url: str, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """What a stranger with plain psycopg reads or does."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


def plain(found: dict[str, Any]) -> dict[str, Any]:
    """The facts in a form that compares: vectors as lists."""
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in found.items()}


# What a copy is


def test_a_copy_is_the_same_ledger(tmp_path: Path, durable_url: str) -> None:
    """Units, receipts, proofs, head and records are the same on both sides, and the source is as it was."""
    path = fill(tmp_path, origin="example.com/tests")
    before = plain(facts(path, tmp_path))
    report = Ledger.copy(path, durable_url)
    assert plain(facts(durable_url, tmp_path)) == before
    assert plain(facts(path, tmp_path)) == before
    assert (report.origin, report.already, report.left_out) == ("example.com/tests", False, ())
    assert report.units == len(rows(path, "SELECT 1 FROM unit_of_work")) == report.tables["unit_of_work"]
    assert report.records == 7 + 8 + 8 + 8
    assert before["head"].split()[2] == base64.b64encode(bytes.fromhex(report.root)).decode()


def test_it_goes_on_where_the_source_ended(tmp_path: Path, durable_url: str) -> None:
    """Histories and numbers of writes go on behind the last ones; an answer is still given; new records win."""
    path = fill(tmp_path)
    [(last_write, last_unit)] = rows(path, "SELECT max(id), (SELECT max(commit_seq) FROM uow_ledger) FROM uow_writes")
    Ledger.copy(path, durable_url)
    with Ledger.open(durable_url, stores=stores(tmp_path)) as ledger:
        assert ledger.run(lambda uow: 8, space_id="s0", band="GREEN", idempotency_key="once").value == 7
        with ledger.unit(space_id="s1", band="GREEN") as uow:
            uow["notes"].update("n1", {"text": "new"})
            uow["archive"].update("a1", {"n": "new"})
            uow["photos"].update("p7", b"new")
        assert uow.receipt is not None
        assert uow.receipt.space_seq == 5
        assert ledger["archive"].get("a1", space_id="s1") == {"n": "new"}
        assert ledger["photos"].get("p7", space_id="s1") == b"new"
        assert ledger.verify().problems == ()
    [(first, seq)] = asked(durable_url, "SELECT first_write, commit_seq FROM uow_ledger WHERE unit = %s", uow.uow_id)
    assert first > last_write
    assert seq == last_unit + 1


def test_one_program_and_two_addresses(tmp_path: Path, durable_url: str) -> None:
    """After the copy the application changes one address, and nothing else."""

    def program(address: Path | str) -> list[Any]:
        with Ledger.open(address, stores=stores(tmp_path)) as ledger:
            done = ledger.run(lambda uow: uow["notes"].upsert("seen", {"by": "program"}), space_id="s1", band="GREEN")
            assert done.receipt is not None
            return [
                done.receipt.space_seq,
                ledger["notes"].get("seen", space_id="s1"),
                ledger["notes"].get("n3", space_id="s1"),
                [unit.status for unit in ledger.units(limit=5)],
                ledger.verify().ok,
            ]

    path = fill(tmp_path)
    Ledger.copy(path, durable_url)
    assert program(durable_url) == program(path)


def test_a_signed_ledger_goes_on_with_its_signer(tmp_path: Path, durable_url: str) -> None:
    """Signatures stay, and the same key signs what comes next."""
    pytest.importorskip("cryptography")
    from tests.signers import key_file

    key = key_file(tmp_path)
    path = fill(tmp_path, origin="example.com/tests", signer=key)
    Ledger.copy(path, durable_url)
    with Ledger.open(durable_url, stores=stores(tmp_path), signer=key) as ledger:
        with ledger.unit(space_id="s1", band="GREEN") as uow:
            uow["notes"].create("signed", {})
        verified = ledger.verify()
        assert (verified.problems, verified.level, verified.signed_units) == ((), "signed", verified.units)


def test_messages_wait_in_their_order(tmp_path: Path, durable_url: str) -> None:
    """What no relay has delivered is there, before all that is published later, and in nobody's hands."""
    path = fill(tmp_path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE uow_outbox SET owner = 'gone', epoch = 3, lease_until_ms = 1 WHERE id = 1")
    Ledger.copy(path, durable_url)
    found = asked(durable_url, "SELECT id, owner, epoch, lease_until_ms FROM uow_outbox ORDER BY stamp, id")
    assert found == [(1, None, 3, 0), *((number, None, 0, 0) for number in range(2, 9))]


def test_tables_of_the_application_come_along(tmp_path: Path, durable_url: str) -> None:
    """A table on which a store works is made and filled; one that is there already is used if it is empty and fits."""
    path = tmp_path / "memory.db"
    columns = {"id": "TEXT", "n": "INTEGER NOT NULL", "share": "REAL", "raw": "BLOB", "any": "NUMERIC"}

    def two() -> list[Store]:
        return [
            TableStore("orders", key="id", columns=columns),
            TableStore("plain", key="id", space_column=None, table="Mixed_Case"),
        ]

    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "CREATE TABLE Mixed_Case (id INT PRIMARY KEY, note VARCHAR(9) DEFAULT 'it''s', at TEXT DEFAULT (date()))"
        )
        connection.execute("CREATE TABLE mine (x)")
    values = {"n": 2**40, "share": 0.1, "raw": b"\x00\xff", "any": 5}
    with Ledger.open(path, stores=two()) as ledger, ledger.unit(space_id="s", band="GREEN") as uow:
        uow["orders"].create("o1", values)
        uow["plain"].create("7", {"note": None, "at": "now"})
    asked(durable_url, 'CREATE TABLE "Mixed_Case" (id BIGINT PRIMARY KEY, note TEXT, at TEXT)')
    report = Ledger.copy(path, durable_url)
    assert (report.records, report.left_out) == (2, ("mine",))
    with Ledger.open(durable_url, stores=two()) as ledger:
        assert ledger["orders"].get("o1", space_id="s") == {"id": "o1", "space_id": "s", **values}
        assert ledger["plain"].get("7", space_id="s") == {"id": 7, "note": None, "at": "now"}
        with ledger.unit(space_id="s", band="GREEN") as uow:
            uow["orders"].update("o1", {"n": 1})
        assert ledger.verify().problems == ()


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("id TEXT PRIMARY KEY, twice AS (id || id)", "", "the computed column 'twice'"),
        ("id TEXT PRIMARY KEY, n INTEGER", "CREATE TABLE t (id TEXT PRIMARY KEY)", "'n' is in one only"),
        ("id TEXT PRIMARY KEY", "CREATE TABLE t (id TEXT PRIMARY KEY, m TEXT)", "'m' is in one only"),
        (
            "id TEXT PRIMARY KEY",
            "CREATE TABLE t (id TEXT PRIMARY KEY); INSERT INTO t VALUES ('there')",
            "already, with rows in it",
        ),
        ("id TEXT PRIMARY KEY, n INTEGER", "", "holds a value that PostgreSQL cannot keep"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    tmp_path: Path, durable_url: str, source: str, target: str, words: str
) -> None:
    """With its name, and not what is in it; the copy goes on once that is mended."""
    path = tmp_path / "memory.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE t ({source})")
        if words.startswith("holds"):
            connection.execute("INSERT INTO t VALUES ('k', 'pAYl0ad')")
    Ledger.open(path, stores=[TableStore("t", key="id", space_column=None)]).close()
    for statement in filter(None, target.split("; ")):
        asked(durable_url, statement)
    with pytest.raises(UsageError) as refused:
        Ledger.copy(path, durable_url)
    assert words in str(refused.value)
    assert "pAYl0ad" not in str(refused.value)
    if words.startswith("holds"):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE t SET n = 1")
        Ledger.copy(path, durable_url)
        assert asked(durable_url, "SELECT * FROM t") == [("k", 1)]


def test_search_works_at_once(tmp_path: Path, durable_url: str) -> None:
    """What stores need beside their rows is made by the copy."""
    path = tmp_path / "memory.db"
    notes = DocumentStore("notes", search=["text"])
    with Ledger.open(path, stores=[notes]) as ledger, ledger.unit(space_id="s", band="GREEN") as uow:
        uow["notes"].create("n1", {"text": "the boiler was serviced"})
    Ledger.copy(path, durable_url)
    with Ledger.open(durable_url, stores="recorded") as ledger:
        assert [hit.key for hit in ledger["notes"].search("boiler", space_id="s")] == ["n1"]
        assert ledger.verify().problems == ()


# Killed, and run again


def test_killed_anywhere_it_goes_on(tmp_path: Path, durable_url: str) -> None:
    """A copy that is killed at step after step is whole in the end, and until then nothing can open it."""
    path = fill(tmp_path, units=4)
    before = plain(facts(path, tmp_path))

    def child(at: int) -> subprocess.CompletedProcess[str]:
        command = python(_CHILD, str(path), durable_url, str(at))
        return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)

    # Of each run: marked and no more, migrated, prepared, a few rows, more rows, all of it but the end.
    for at in (1, 2, 4, 8, 15, 25):
        died = child(at)
        assert died.returncode == -signal.SIGKILL, (at, died.stderr)
        with pytest.raises(LedgerError, match="unfinished copy"):
            Ledger.open(durable_url)
    done = child(0)
    assert done.returncode == 0, done.stderr
    assert plain(facts(durable_url, tmp_path)) == before


def test_a_second_run_writes_nothing_twice(tmp_path: Path, durable_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is not written again; a whole copy is said to be one, until one of the two has gone on."""
    path = fill(tmp_path)
    monkeypatch.setattr(copy_run, "CHUNK_ROWS", 3)
    written = _count_writes(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        Ledger.copy(path, durable_url, progress=_interrupt_at(10))
    assert len(written) > 2
    report = Ledger.copy(path, durable_url)
    assert report.already is False
    assert sum(len(chunk) for _, chunk in written) == sum(report.tables.values())
    again = Ledger.copy(path, durable_url)
    assert again.already is True
    with Ledger.open(durable_url, stores=stores(tmp_path)) as ledger, ledger.unit(space_id="x", band="GREEN") as uow:
        uow["notes"].create("later", {})
    with pytest.raises(UsageError, match="gone on since"):
        Ledger.copy(path, durable_url)


def test_a_source_that_changed_is_copied_anew(
    tmp_path: Path, durable_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of one state and half of another is never taken for a ledger."""
    path = fill(tmp_path)
    monkeypatch.setattr(copy_run, "CHUNK_ROWS", 3)
    with pytest.raises(KeyboardInterrupt):
        Ledger.copy(path, durable_url, progress=_interrupt_when("copying uow_stores"))
    with Ledger.open(path, stores=stores(tmp_path)) as ledger, ledger.unit(space_id="s1", band="GREEN") as uow:
        uow["notes"].delete("n1")
    [(begun,)] = asked(durable_url, "SELECT count(*) FROM uow_documents")
    assert begun
    Ledger.copy(path, durable_url)
    assert plain(facts(durable_url, tmp_path)) == plain(facts(path, tmp_path))


def test_a_row_that_differs_is_found(tmp_path: Path, durable_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happened to the target between two runs: the copy is refused, and the next one begins anew."""
    path = fill(tmp_path)
    monkeypatch.setattr(copy_run, "_TOLD_EVERY", 10)
    original = Target.set_up_stores

    def meddle(self: Target) -> None:
        original(self)
        asked(durable_url, "UPDATE uow_documents SET version = version + 1 WHERE key = 'n5'")

    monkeypatch.setattr(Target, "set_up_stores", meddle)
    with pytest.raises(LedgerError, match=r"in row . of uow_documents is not what the source holds"):
        Ledger.copy(path, durable_url)
    monkeypatch.setattr(Target, "set_up_stores", original)
    Ledger.copy(path, durable_url)
    assert plain(facts(durable_url, tmp_path)) == plain(facts(path, tmp_path))


def test_a_damaged_source_makes_no_ledger(tmp_path: Path, durable_url: str) -> None:
    """Receipts that do not hold in the source do not hold in the copy, which says so and cannot be opened."""
    path = fill(tmp_path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE uow_writes SET bytes_written = 99 WHERE id = 2")
    with pytest.raises(LedgerError, match="receipts do not hold"):
        Ledger.copy(path, durable_url)
    with pytest.raises(LedgerError, match="unfinished copy"):
        Ledger.open(durable_url)


def test_two_that_copy_at_once_are_told(tmp_path: Path, durable_url: str) -> None:
    """Rows come behind the last ones that are there, or not at all."""
    path = fill(tmp_path)
    target = Target.open(durable_url, busy_timeout_s=5)
    with held(path, busy_timeout_s=5) as source:
        assert target.begin(source)
        part = source.parts[0]
        chunk = list(source.rows(part, None))
        target.write(part, chunk[:2], after=None, begun=0)
        with pytest.raises(ConflictError, match="Another process copies"):
            target.write(part, chunk[:2], after=None, begun=0)
        assert target.progress()["unit_of_work"] == ([chunk[1][0]], 2)
    target.close()


def test_nobody_writes_to_the_source_meanwhile(tmp_path: Path, durable_url: str) -> None:
    """A unit on the source waits, and is refused when that takes too long."""
    path = fill(tmp_path)

    def write(at: CopyProgress) -> None:
        if at.step == "copying uow_writes":
            with (
                Ledger.open(path, stores=stores(tmp_path), busy_timeout=0, recover=False) as ledger,
                pytest.raises(LedgerBusy),
                ledger.unit(space_id="s0", band="GREEN") as uow,
            ):
                uow["notes"].create("late", {})

    child = _in_a_thread(write)
    Ledger.copy(path, durable_url, progress=child)
    assert plain(facts(durable_url, tmp_path)) == plain(facts(path, tmp_path))


# What is refused


def test_what_cannot_be_copied_is_refused(tmp_path: Path, durable_url: str) -> None:
    """The wrong way round, no file, no address, contract 1.0.0, something unsettled: a sentence, and nothing made."""
    path = fill(tmp_path)
    old = tmp_path / "old.db"
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(_schema.text(_schema.BASE))
    unsettled = tmp_path / "unsettled.db"
    Ledger.open(unsettled).close()
    with closing(sqlite3.connect(unsettled)) as connection, connection:
        connection.execute(
            "INSERT INTO uow_redo (commit_seq, seq, uow_id, store, space_id, key, operation, payload)"
            " VALUES (1, 0, 'u', 'gone', 's', 'k', 'create', x'00')"
        )
    for source, target, words in (
        (durable_url, durable_url, "this is an address"),
        (path, "other.db", "copied to the address"),
        (path, str(path), "copied to the address"),
        (tmp_path / "none.db", durable_url, "no file"),
        (old, durable_url, "keeps contract 1.0.0"),
        (unsettled, durable_url, "1 writes that a store outside"),
    ):
        with pytest.raises((UsageError, LedgerError), match=words):
            Ledger.copy(source, target)
    assert asked(durable_url, "SELECT count(*) FROM pg_class WHERE relname LIKE 'uow%%' OR relname LIKE 'unit%%'") == [
        (0,)
    ]


def test_a_target_that_holds_something_is_left_alone(tmp_path: Path, durable_url: str) -> None:
    """Another ledger, and an unfinished copy of another one, are refused and stay as they are."""
    path, other = fill(tmp_path), tmp_path / "other"
    other.mkdir()
    fill(other, units=2)
    with pytest.raises(KeyboardInterrupt):
        Ledger.copy(other / "memory.db", durable_url, progress=_interrupt_at(10))
    with pytest.raises(UsageError, match="unfinished copy of another ledger"):
        Ledger.copy(path, durable_url)
    Ledger.copy(other / "memory.db", durable_url)
    with pytest.raises(UsageError, match="holds a ledger already"):
        Ledger.copy(path, durable_url)
    assert plain(facts(durable_url, other)) == plain(facts(other / "memory.db", other))


def test_a_ledger_that_may_only_be_read_is_copied(
    tmp_path: Path, durable_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file on a medium that cannot be written is a source like another one."""
    path = fill(tmp_path)
    before = plain(facts(path, tmp_path))
    with monkeypatch.context() as patched:  # root may write everywhere, so rights would not do
        patched.setattr(sqlite_engine, "is_writable", lambda _: False)
        Ledger.copy(path, durable_url)
    assert plain(facts(durable_url, tmp_path)) == before


def test_a_ledger_without_stores_may_be_made_ready_or_is_refused(
    tmp_path: Path, durable_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was migrated and never opened gets what it lacks, unless it may not be written."""
    path = tmp_path / "memory.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_schema.text(_schema.BASE))
    assert invoke("migrate", path).exit_code == 0
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_engine, "is_writable", lambda _: False)
        with pytest.raises(LedgerError, match="never opened with stores"):
            Ledger.copy(path, durable_url)
    assert Ledger.copy(path, durable_url).units == 0


# The command


def test_the_command_copies_and_says_so(tmp_path: Path, durable_url: str) -> None:
    """Counts and root on stdout, JSON on request, and what was left out as a note; never a password."""
    path = fill(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    done = invoke("copy", path, durable_url)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Copied: 11 units, ")
    assert "Not copied, because no store works on them: mine." in done.stderr
    again = invoke("copy", path, durable_url, "--json")
    told = json.loads(again.stdout)
    assert told["already"] is True
    assert told["root"] in done.stdout
    refused = invoke("copy", path, "postgresql://ann:s3cret@127.0.0.1:1/none", "--busy-timeout", "0")
    assert refused.exit_code == 1
    assert "s3cret" not in refused.output


def test_commands_refuse_an_unfinished_copy(tmp_path: Path, durable_url: str) -> None:
    """Looking at half of a ledger would show half of a truth."""
    with pytest.raises(KeyboardInterrupt):
        Ledger.copy(fill(tmp_path, units=2), durable_url, progress=_interrupt_at(8))
    for command in (("list",), ("validate",), ("recover",)):
        done = invoke(*command, durable_url)
        assert done.exit_code == 1
        assert "unfinished copy of a ledger" in done.stderr
    assert _unfinished_copy.MARKER == "uow_copying"


def test_progress_is_told_with_numbers(tmp_path: Path, durable_url: str) -> None:
    """Steps come with the rows that are there and the rows there will be."""
    told: list[CopyProgress] = []
    _copying.copy_ledger(fill(tmp_path), durable_url, progress=told.append)
    copied = [at for at in told if at.step.startswith("copying")]
    assert copied[0].rows == 0
    assert copied[-1].rows == copied[-1].rows_total > 50
    assert [at.rows for at in copied] == sorted(at.rows for at in copied)


def _count_writes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[Any]]]:
    written: list[tuple[str, list[Any]]] = []
    original = Target.write

    def write(self: Target, part: Any, chunk: Any, **options: Any) -> list[Any]:
        done = original(self, part, chunk, **options)
        written.append((part.table, list(chunk)))
        return done

    monkeypatch.setattr(Target, "write", write)
    return written


def _interrupt_at(step: int) -> Callable[[CopyProgress], None]:
    left = step

    def tell(_: CopyProgress) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    return tell


def _interrupt_when(step: str) -> Callable[[CopyProgress], None]:
    def tell(at: CopyProgress) -> None:
        if at.step == step:
            raise KeyboardInterrupt

    return tell


def _in_a_thread(call: Callable[[CopyProgress], None]) -> Callable[[CopyProgress], None]:
    """Call from another thread: this one has the lock."""

    def tell(at: CopyProgress) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(call, at).result()

    return tell
