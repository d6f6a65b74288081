"""The commands on a ledger in a PostgreSQL database: the same as on a file, and never a password."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from memoryos_uow import Ledger, UnitOfWork, _default, _schema, default_ledger
from memoryos_uow.stores import DocumentStore
from tests.cli.tools import SPACE, invoke, make_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres_server import Server

PASSWORD = "s3cret-w0rd"


@pytest.fixture(scope="module")
def filled(durable_server_url: str) -> Iterator[str]:
    """The address of a ledger with units of every band and outcome, which no test changes; it holds a password."""
    from tests.postgres_server import Databases

    databases = Databases(durable_server_url)
    url = databases.new()
    make_ledger(url)
    yield url.replace("postgres@", f"postgres:{PASSWORD}@")
    databases.drop_all()


def told(*arguments: str | Path, code: int = 0) -> str:
    """What a command prints on stdout; nothing of it holds the password."""
    done = invoke(*arguments)
    assert done.exit_code == code, done.output
    assert PASSWORD not in done.output
    return done.stdout


def parsed(*arguments: str | Path, code: int = 0) -> Any:
    """The JSON that a command prints."""
    return json.loads(told(*arguments, "--json", code=code))


# Looking


def test_list_and_show(filled: str) -> None:
    """Units by filter; one of them by the end of its id, with its writes and as its band allows."""
    assert len(parsed("list", filled)) == 9
    assert {unit["status"] for unit in parsed("list", filled, "--failed", "--band", "GREEN")} == {"failed"}
    assert len(parsed("list", filled, "--limit", "0")) == 9
    assert len(parsed("list", filled, "--limit", "3")) == 3
    [green] = parsed("list", filled, "--status", "committed", "--band", "GREEN")
    for part in (green["uow_id"], green["uow_id"][-12:], green["uow_id"][:35]):
        assert parsed("show", filled, part)["writes"][0]["store_name"] == "notes"
    assert "stands for more than one unit" in invoke("show", filled, green["uow_id"][:6]).stderr
    assert "has no unit" in invoke("show", filled, "zzzz").stderr
    failed = parsed("list", filled, "--failed", "--band", "GREEN")[0]
    assert "What to do" in told("show", filled, failed["uow_id"])


def test_the_environment_names_a_database(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it names a file, for commands."""
    done = invoke("list", "--nl", env={"MEMORYOS_UOW_LEDGER": filled})
    assert done.stdout.count("\n") == 9
    unit = json.loads(done.stdout.splitlines()[0])["uow_id"]
    assert unit in invoke("show", unit, env={"MEMORYOS_UOW_LEDGER": filled}).stdout


def test_units_find_the_default_ledger_at_an_address(durable_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment variable may name a database for programs, too."""
    monkeypatch.setenv("MEMORYOS_UOW_LEDGER", durable_url)
    with UnitOfWork(space_id="s", band="GREEN") as uow:
        uow["notes"].create("n1", {"text": "milk"})
    with default_ledger() as ledger:
        assert ledger.get(uow.uow_id).status == "committed"
    _default._open.clear()


def test_validate_and_verify(filled: str) -> None:
    """All is well, level hashed; a row that was changed is found, and the exit code is 1."""
    assert "all hold" in told("validate", filled)
    report = parsed("verify", filled)
    assert (report["level"], report["problems"], report["units"]) == ("hashed", [], 4)
    assert parsed("verify", filled, "--no-live", "--space", SPACE)["stores"] in (None, [])


def test_a_changed_row_is_found(durable_url: str) -> None:
    """Verification of a database names what does not hold."""
    make_ledger(durable_url)
    with psycopg.connect(durable_url, autocommit=True) as connection:
        connection.execute("UPDATE uow_writes SET bytes_written = 9999 WHERE operation_type = 'create'")
    assert parsed("verify", durable_url, code=1)["problems"]


def test_recover_checkpoint_prove_and_export(filled: str, tmp_path: Path) -> None:
    """What is for others to check is checked without the database."""
    assert parsed("recover", filled) == {"ok": True, "rolled_forward": [], "rolled_back": [], "in_doubt": []}
    head = tmp_path / "head.txt"
    told("checkpoint", filled, "-o", head)
    assert head.read_text().splitlines()[1] == "4"
    assert parsed("verify", filled, "--checkpoint", head)["problems"] == []
    [green] = parsed("list", filled, "--status", "committed", "--band", "GREEN")
    proof, entry = tmp_path / "n1.tlog-proof", tmp_path / "n1.json"
    told("prove", filled, green["uow_id"], "--write", "0", "-o", proof, "--entry", entry)
    assert invoke("check-proof", proof, "--entry", entry).exit_code == 0
    history = tmp_path / "history.ndjson"
    told("export", filled, "--space", SPACE, "-o", history)
    assert parsed("check-export", history)["receipts"] == 4


def test_stats_and_report(filled: str, tmp_path: Path) -> None:
    """What is counted, and the page about it."""
    counted = parsed("stats", filled, "--by", "band")
    assert (counted["total"]["committed"], counted["total"]["failed"]) == (4, 4)
    assert sorted(group["name"] for group in counted["groups"]) == ["AMBER", "BLACK", "GREEN", "RED"]
    page = tmp_path / "page.html"
    told("report", filled, "-o", page, "--live")
    content = page.read_text()
    assert "9" in content
    assert PASSWORD not in content


def test_watch(durable_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each unit is counted in one look, however it ended, and of a failure no more is told than its band allows."""
    make_ledger(durable_url)
    looks = 0

    def write_meanwhile(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            make_more(durable_url)

    monkeypatch.setattr("memoryos_uow._ambient.sleep", write_meanwhile)
    lines = [json.loads(line) for line in told("watch", durable_url, "--nl", "--count", "3").splitlines()]
    assert [(one["units"], one["failed"], one["rolled_back"]) for one in lines] == [(0, 0, 0), (3, 1, 1), (0, 0, 0)]
    assert [one["error_type"] for one in lines[1]["failures"]] == ["ValueError"]
    assert lines[1]["p50_us"] is not None


def make_more(url: str) -> None:
    """One unit of each outcome."""
    with Ledger.open(url, stores=[DocumentStore("notes")]) as ledger:
        with ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].upsert("more", {})
        with suppress(ValueError), ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].upsert("never", {})
            raise ValueError
        with ledger.unit(space_id="s", band="GREEN") as uow:
            uow["notes"].upsert("never", {})
            uow.rollback()


def test_outbox_and_relay(durable_url: str) -> None:
    """What was published is listed, dropped, and delivered in order."""
    with Ledger.open(durable_url, stores=[DocumentStore("notes")]) as ledger:
        for number in range(3):
            with ledger.unit(space_id="s", band="GREEN") as uow:
                uow.publish("topic", {"n": number}, key="k")
    waiting = parsed("outbox", "list", durable_url)
    assert [entry["state"] for entry in waiting] == ["waiting"] * 3
    assert len(parsed("outbox", "list", durable_url, "--limit", "0")) == 3
    assert parsed("outbox", "drop", durable_url, "--message", waiting[0]["message_id"]) == {"dropped": 1}
    events = [json.loads(line) for line in told("relay", durable_url, "--to", "-", "--once").splitlines()]
    assert [event["data"]["n"] for event in events] == [1, 2]
    assert parsed("outbox", "list", durable_url) == []


# Changing


def test_erase(durable_url: str) -> None:
    """A record and what receipts say of it; all of them hold afterwards."""
    stores = [DocumentStore("notes")]
    with Ledger.open(durable_url, stores=stores) as ledger, ledger.unit(space_id="s", band="GREEN") as uow:
        uow["notes"].create("n1", {"text": "milk"})
    done = parsed("erase", durable_url, "--space", "s", "--store", "notes", "--key", "n1")
    assert (done["complete"], done["sealed"]) == (True, 1)
    assert parsed("verify", durable_url)["problems"] == []


def test_keys(durable_url: str, tmp_path: Path) -> None:
    """A key takes over from another, and the commands say which signs."""
    pytest.importorskip("cryptography")
    first, second = tmp_path / "1.pem", tmp_path / "2.pem"
    for path in (first, second):
        told("keys", "new", path)
    with Ledger.open(durable_url, signer=first) as ledger, ledger.unit(space_id="s", band="GREEN") as uow:
        uow["notes"].create("n1", {})
    told("keys", "rotate", durable_url, "--old", first, "--new", second)
    old, new = parsed("keys", "show", durable_url)
    assert (old["until_seq"], new["until_seq"]) == (1, None)
    told("keys", "revoke", durable_url, old["vkey"])
    told("keys", "retire", durable_url, "--old", second)
    assert parsed("verify", durable_url)["problems"] == []


def test_migrate(durable_url: str) -> None:
    """Up from 1.0.0, and down again with the backup in tables; a database without a ledger is none."""
    assert "holds no ledger" in invoke("migrate", durable_url).stderr
    with psycopg.connect(durable_url, autocommit=True) as connection:
        connection.execute(_schema.text("postgres/1.0.0.sql").encode())
        connection.execute("INSERT INTO unit_of_work VALUES ('u1', NULL, 'committed', '2026-11-22', '2026-11-22')")
    assert "is a ledger of 1.0.0" in invoke("list", durable_url).stderr
    up = parsed("migrate", durable_url)
    assert (up["from"], up["to"], up["changed"], up["backup"]) == ("1.0.0", "1.1.0", True, None)
    assert "nothing to do" in told("migrate", durable_url)
    assert [unit["uow_id"] for unit in parsed("list", durable_url)] == ["u1"]
    assert "--backup cannot be given" in invoke("migrate", durable_url, "--to", "1.0.0", "--backup", "x").stderr
    down = parsed("migrate", durable_url, "--to", "1.0.0")
    assert down["to"] == "1.0.0"
    assert all(re.fullmatch(r"uow_backup_\d+_\w+", table) for table in down["backup"])
    told("migrate", durable_url)
    assert "is kept in these tables: uow_backup_" in told("migrate", durable_url, "--to", "1.0.0")


# What goes wrong


def test_exit_codes(durable_url: str, pg_databases: Any) -> None:
    """A server that is down 1, no ledger 1, a later schema 4; one sentence each, and no password."""
    down = invoke("list", f"postgresql://ann:{PASSWORD}@127.0.0.1:1/memory", "--busy-timeout", "0")
    assert (down.exit_code, down.stdout) == (1, "")
    assert "127.0.0.1:1/memory" in down.stderr
    assert PASSWORD not in down.stderr
    assert "holds no ledger" in invoke("list", durable_url).stderr
    Ledger.open(durable_url).close()
    with psycopg.connect(durable_url, autocommit=True) as connection:
        connection.execute("INSERT INTO uow_schema VALUES ('9.0.0', '2030-01-01', 'x')")
    for command in ("list", "validate", "recover", "migrate", "verify"):
        assert invoke(command, durable_url).exit_code == 4


def test_a_locked_ledger_is_busy(durable_url: str) -> None:
    """Who waits for too long is told so, with exit code 3."""
    make_ledger(durable_url)
    with psycopg.connect(durable_url) as connection:
        connection.execute("LOCK TABLE unit_of_work IN ACCESS EXCLUSIVE MODE")
        done = invoke("list", durable_url, "--busy-timeout", "0")
    assert done.exit_code == 3, done.output


def test_a_replica_can_be_looked_at(pg_start: Any) -> None:
    """Looking needs no right to write."""
    server: Server = pg_start(durable=True)
    make_ledger(server.url())
    replica = server.replica(synchronous=True)
    assert len(parsed("list", replica.url())) == 9
    assert "all hold" in told("validate", replica.url())
    assert parsed("verify", replica.url())["problems"] == []
    done = invoke("erase", replica.url(), "--space", SPACE, "--store", "notes", "--key", "x")
    assert done.exit_code == 1
    assert "can only be read" in done.stderr
    replica.stop()
    server.stop()


@pytest.mark.parametrize(
    "arguments",
    [
        ("postgresql://ann:{}@host/db",),
        ("list", "memory.db", "postgresql://ann:{}@host/db"),
        ("list", "--limit", "postgresql://ann:{}@host/db"),
        ("list", "mysql://ann:{}@host/db"),
        ("list", "postgresql://ann:{}@host:nonsense/db"),
        ("copy", "postgresql://ann:{}@host/db", "postgresql://ann:{}@host/db"),
        ("copy", "memory.db", "x", "postgres://ann:{}@host/db?password={}"),
    ],
)
def test_an_address_in_the_wrong_place_shows_no_password(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with a command, what it repeats of its arguments is not the password."""
    monkeypatch.chdir(tmp_path)
    Ledger.open("memory.db").close()
    done = invoke(*(argument.replace("{}", PASSWORD) for argument in arguments))
    assert done.exit_code in (1, 2)
    assert PASSWORD not in done.output
