"""Verification of a ledger in a database names whatever somebody with SQL has done to it: each kind of damage once."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from click.testing import CliRunner

from memoryos_uow.cli._program import program
from memoryos_uow.signing import KeyFileSigner, write_new_key
from memoryos_uow.stores import BlobStore, DocumentStore, FileStore, SQLiteFileStore, TableStore, VectorStore
from memoryos_uow.verification import VerificationLevel
from tests.postgres.numbers import ORIGIN, opened, paused, put, receipt, rows, sequencer
from tests.postgres_server import Databases
from tests.units import OwnError, throw
from tests.verification.kit import write_everything

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memoryos_uow.abc import Store
    from memoryos_uow.verification import Verification

KEY: Final = b"k" * 32
_names = itertools.count()


@pytest.fixture(scope="module")
def made(pg_server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A signed ledger with units of every band and end; never to be changed."""
    directory = tmp_path_factory.mktemp("signed")
    write_new_key(directory / "key.pem")
    databases = Databases(pg_server_url)
    url = databases.new()
    with opened(url, signer=directory / "key.pem", content_key=KEY) as ledger:
        for number in range(3):
            put(ledger, f"n{number}", space_id="alice")
        with ledger.unit(space_id="bob", band="AMBER", actor_id="bob") as uow:
            uow["notes"].create("b1", {})
            uow["notes"].create("b2", {})
        put(ledger, "r1", space_id="bob", band="RED")
        put(ledger, "k1", space_id="bob", band="BLACK")
        with suppress(OwnError), ledger.unit(space_id="alice", band="GREEN") as uow:
            uow["notes"].create("n9", {})
            throw(OwnError("on purpose"))
        with ledger.unit(space_id="alice", band="GREEN") as uow:
            uow["notes"].delete("n2")
        (directory / "checkpoint").write_text(ledger.checkpoint(), encoding="utf-8")
    yield url, directory
    databases.drop_all()


@pytest.fixture
def copied(made: tuple[str, Path], pg_server_url: str) -> Iterator[str]:
    """The URL of a copy of that ledger's database, to be damaged."""
    template = made[0].partition("@/")[2].partition("?")[0]
    name = f"{template}_{next(_names)}"
    with psycopg.connect(pg_server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        yield made[0].replace(template, name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def verified(url: str, **options: Any) -> Verification:
    """What verification says, of a ledger that is opened without recovering anything."""
    with opened(url, stores="recorded", origin=None, recover=False, content_key=KEY) as ledger:
        return ledger.verify(**options)


def execute(url: str, *statements: str) -> None:
    """Do what somebody with all rights can do; no constraint refuses."""
    with psycopg.connect(url) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in statements:
            assert connection.execute(statement.encode()).rowcount != 0, f"changed nothing: {statement}"


_SECOND: Final = "(SELECT unit FROM uow_ledger WHERE commit_seq = 2)"
_FIRST_WRITE: Final = "(SELECT first_write FROM uow_ledger WHERE commit_seq = 2)"

DAMAGES: Final = {
    "a write says another size": ({"writes"}, f"UPDATE uow_writes SET bytes_written = 1 WHERE id = {_FIRST_WRITE}"),
    "a write is gone": ({"write_missing"}, f"DELETE FROM uow_writes WHERE id = {_FIRST_WRITE}"),
    "a write is another unit's": (
        {"write_owner", "write_stray"},
        f"UPDATE uow_writes SET uow_id = (SELECT unit FROM uow_ledger WHERE commit_seq = 1) WHERE id = {_FIRST_WRITE}",
    ),
    "a write of nobody": (
        {"write_stray"},
        f"INSERT INTO uow_writes (id, uow_id, store_name, ts) VALUES (99, {_SECOND}, 'notes', 't')",
    ),
    "a range is another one": (
        {"write_missing", "write_stray"},
        "UPDATE uow_ledger SET first_write = 70 WHERE commit_seq = 2",
    ),
    "a nonce is gone": ({"writes"}, "DELETE FROM uow_nonces WHERE write_id = (SELECT min(write_id) FROM uow_nonces)"),
    "a nonce of nobody": ({"nonce"}, "INSERT INTO uow_nonces VALUES (99, 'x')"),
    "another time": ({"receipt"}, f"UPDATE unit_of_work SET committed_ts = created_ts WHERE uow_id = {_SECOND}"),
    "another status": ({"status"}, f"UPDATE unit_of_work SET status = 'failed' WHERE uow_id = {_SECOND}"),
    "another actor": ({"context"}, f"UPDATE unit_of_work SET actor_id = 'eve' WHERE uow_id = {_SECOND}"),
    "another hash": (
        {"receipt", "chain"},
        f"UPDATE unit_of_work SET receipt_hash = repeat('a', 64) WHERE uow_id = {_SECOND}",
    ),
    "a unit is gone": ({"unit_missing"}, f"DELETE FROM unit_of_work WHERE uow_id = {_SECOND}"),
    "the log has a gap": ({"order"}, "DELETE FROM uow_ledger WHERE commit_seq = 2"),
    "the log begins later": ({"log", "unlogged"}, "DELETE FROM uow_ledger WHERE commit_seq = 1"),
    "the log ends earlier": (
        {"unlogged", "checkpoint"},
        "DELETE FROM uow_ledger WHERE commit_seq = (SELECT max(commit_seq) FROM uow_ledger)",
    ),
    "two units change places": (
        {"log", "chain"},
        "UPDATE uow_ledger SET commit_seq = -commit_seq WHERE commit_seq IN (1, 2)",
        "UPDATE uow_ledger SET commit_seq = 3 + commit_seq WHERE commit_seq IN (-1, -2)",
    ),
    "a node is another": ({"log"}, "UPDATE uow_ledger SET nodes = sha256(nodes) WHERE commit_seq = 3"),
    "a link is another": ({"chain", "receipt"}, "UPDATE uow_ledger SET prev = sha256(prev) WHERE commit_seq = 2"),
    "the end of a space is another": ({"head"}, "UPDATE uow_spaces SET space_seq = 7 WHERE space_id = 'bob'"),
    "the end of a space is gone": ({"head"}, "DELETE FROM uow_spaces WHERE space_id = 'bob'"),
    "the ledger is another's": ({"receipt", "signature"}, "UPDATE uow_identity SET origin = 'example.com/eve'"),
    "a signature is gone": ({"unsigned"}, f"UPDATE unit_of_work SET receipt_signature = NULL WHERE uow_id = {_SECOND}"),
    "the key is gone": ({"signature"}, "DELETE FROM uow_keys"),
    "a receipt outside the log": (
        {"unlogged"},
        "UPDATE unit_of_work SET receipt_hash = repeat('b', 64) WHERE status = 'failed'",
    ),
    "a time is none": ({"form"}, f"UPDATE unit_of_work SET retry_count = -1 WHERE uow_id = {_SECOND}"),
    "an erasure of nobody": ({"erasure"}, "INSERT INTO uow_sealed VALUES (1, 'x', 'nobody')"),
    "a record is another": ({"changed"}, "UPDATE uow_documents SET value = '{}' WHERE key = 'n1'"),
    "a record is gone": ({"missing"}, "DELETE FROM uow_documents WHERE key = 'r1'"),
    "a record is back": (
        {"back"},
        "INSERT INTO uow_documents (store, space_id, key, version, value) VALUES ('notes', 'alice', 'n2', 1, '{}')",
    ),
    "a record of nobody": (
        {"unclaimed"},
        "INSERT INTO uow_documents (store, space_id, key, version, value) VALUES ('notes', 'alice', 'x', 1, '{}')",
    ),
}


def test_a_sound_ledger_has_no_problem(made: tuple[str, Path]) -> None:
    """It is signed, and anchored where a checkpoint was kept; what was not looked at is said."""
    url, directory = made
    report = verified(url)
    assert (report.problems, report.level) == ((), VerificationLevel.SIGNED)
    assert (report.units, report.writes, report.spaces, report.pending, report.without_receipt) == (7, 8, 2, 0, 1)
    assert report.stores is not None
    assert (report.stores[0].matched, report.stores[0].gone) == (6, 1)
    assert not report.files_checked
    assert "pg_amcheck" in report.not_proved
    vkey = KeyFileSigner(directory / "key.pem", name=ORIGIN).vkey
    kept = (directory / "checkpoint").read_text(encoding="utf-8")
    assert verified(url, checkpoint=kept, vkey=vkey).level is VerificationLevel.ANCHORED
    alone = verified(url, space_id="bob", gone=["b1"])
    assert (alone.units, alone.rules) == (3, {"back": 1})


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_kind_of_damage_is_found(copied: str, made: tuple[str, Path], damage: str) -> None:
    """By its rule, and nothing that holds is accused of it without reason."""
    rules, *statements = DAMAGES[damage]
    execute(copied, *map(str, statements))
    kept = (made[1] / "checkpoint").read_text(encoding="utf-8") if "checkpoint" in rules else None
    found = verified(copied, checkpoint=kept)
    assert found.level is VerificationLevel.NONE
    assert set(rules) <= set(found.rules), found


def test_units_that_have_no_number_yet_are_counted_and_checked(pg_url: str) -> None:
    """What they wrote is what the stores hold, and a change of it is found before there is a receipt."""
    with opened(pg_url) as ledger, paused(ledger):
        put(ledger, "a")
        sequencer(ledger).number_all()
        put(ledger, "a")
        uow = put(ledger, "b", band="AMBER")
        report = verified(pg_url)
        assert (report.problems, report.units, report.pending) == ((), 1, 2)
        assert report.as_dict()["pending"] == 2
        assert verified(pg_url, space_id="other").pending == 2
        rows(pg_url, "UPDATE uow_writes SET bytes_written = 7 WHERE uow_id = %s", uow.uow_id)
        rows(pg_url, "UPDATE unit_of_work SET receipt_hash = repeat('a', 64) WHERE uow_id = %s", uow.uow_id)
        assert verified(pg_url).rules == {"writes": 1, "totals": 1, "unlogged": 1, "changed": 1}


def test_many_spaces_and_a_broken_walk_are_asked_by_sql(copied: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The histories of spaces, where they are not followed along the walk."""
    monkeypatch.setattr("memoryos_uow._verification.chains.SPACES_MAX", 0)
    assert verified(copied).rules == {}
    execute(
        copied,
        "UPDATE uow_ledger SET prev = NULL WHERE commit_seq = 2",
        "INSERT INTO uow_spaces VALUES ('eve', 1, 'x')",
        "UPDATE uow_spaces SET head = sha256(head) WHERE space_id = 'bob'",
    )
    assert verified(copied, space_id="bob").rules == {"head": 1, "log": 1}
    assert {"chain": 1, "head": 2}.items() <= dict(verified(copied).rules).items()


def test_a_record_outside_that_is_written_meanwhile_is_no_problem(
    pg_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies outside is read after the snapshot: a unit that has written it since then is newer."""
    stores = [DocumentStore("notes"), FileStore("files", tmp_path / "files")]
    with opened(pg_url, stores=stores) as ledger:
        for key in ("a", "b"):
            with ledger.unit(space_id="s", band="GREEN") as uow:
                uow["files"].create(key, b"old")
        from memoryos_uow._verification.live import LiveCheck

        def write(then: Callable[..., Any]) -> Callable[..., Any]:
            def first(*arguments: Any, **options: Any) -> Any:
                with ledger.unit(space_id="s", band="GREEN") as uow:
                    uow["files"].update("a", b"new")
                receipt(uow).wait()
                return then(*arguments, **options)

            return first

        monkeypatch.setattr(LiveCheck, "run", write(LiveCheck.run))
        assert ledger.verify().rules == {}
        monkeypatch.undo()
        (old,) = (file for file in tmp_path.rglob("*") if file.is_file() and file.read_bytes() == b"old")
        old.write_bytes(b"another")
        assert ledger.verify().rules == {"changed": 1}


def test_the_command_counts_them_too(pg_url: str) -> None:
    """As a line of its own, and nothing is a problem."""
    with opened(pg_url) as ledger, paused(ledger):
        put(ledger, "a")
        done = CliRunner().invoke(program, ["verify", pg_url])
    assert done.exit_code == 0, done.output
    assert "1 unit committed and without a number yet" in " ".join(done.output.split())


def test_every_kind_of_store_is_compared(pg_url: str, tmp_path: Path) -> None:
    """What each holds is what its receipts say, inside the database and beside it; and what is not is named."""
    stores: list[Store] = [
        DocumentStore("notes", search=["text"]),
        TableStore("orders", key="id", columns={"id": "TEXT", "space_id": "TEXT", "n": "INTEGER"}),
        VectorStore("embeddings", dimensions=2),
        BlobStore("photos", tmp_path / "photos", inline_below=16),
        SQLiteFileStore("archive", tmp_path / "archive.db"),
        FileStore("files", tmp_path / "files"),
    ]
    with opened(pg_url, stores=stores, content_key=KEY) as ledger:
        write_everything(ledger)
        ledger.recover()
        report = ledger.verify()
        assert (report.problems, report.pending) == ((), 0)
        assert report.stores is not None
        assert {store.store for store in report.stores if store.matched} == {store.name for store in stores}
        assert not [store for store in report.stores if store.skipped]
    assert verified(pg_url).rules == {}
    execute(
        pg_url,
        "UPDATE orders SET n = 2",
        "UPDATE uow_vectors SET value = decode('0000000000000000', 'hex')",
        "DELETE FROM uow_blobs WHERE key = 'small'",
    )
    assert verified(pg_url).rules == {"changed": 2, "missing": 1}
