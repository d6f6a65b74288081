"""What must hold, wherever a program died. Each oracle gets the world and what the program had acknowledged.

The steps of `_judge`:

1.  A stranger looks with plain SQL at a copy: in the ledger's own file the stores and the rows of units agree already.
2.  The ledger opens. Every receipt is the hash of what the rows say, the space's chain is whole, the contract's
    validations are content, nothing is left in doubt.
3.  Committed is everything that was acknowledged, and nothing that was refused.
4.  Every store holds exactly what the committed units left, and its search finds exactly that.
5.  The next unit works in all stores.
6.  The ledger opens once more, finds nothing to recover, and the file is sound.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from contextlib import closing, suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from memoryos_uow._records import RecoveryReport
from tests import schema_files
from tests.crash.programs import OLD_UNITS, open_ledger, store_names
from tests.crash.steps import SPACE, STEPS, WITHOUT_START, expected, value, vector_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from memoryos_uow import Ledger

with suppress(ImportError):
    import numpy as np  # noqa: F401 - the vector search wants it; here it is imported once, not by each child


# One oracle per program


def create(world: Path, acknowledged: Sequence[str]) -> None:
    """The world of `programs.create` is whole."""
    _judge(world, acknowledged, "create")


def update(world: Path, acknowledged: Sequence[str]) -> None:
    """The world of `programs.update` is whole."""
    _judge(world, acknowledged, "update")


def delete(world: Path, acknowledged: Sequence[str]) -> None:
    """The world of `programs.delete` is whole."""
    _judge(world, acknowledged, "delete")


def mixed(world: Path, acknowledged: Sequence[str]) -> None:
    """The world of `programs.mixed` is whole."""
    _judge(world, acknowledged, "mixed")


def rollback(world: Path, acknowledged: Sequence[str]) -> None:
    """The world of `programs.rollback` is whole."""
    _judge(world, acknowledged, "rollback")


def failing(world: Path, acknowledged: Sequence[str]) -> None:
    """The world of `programs.failing` is whole."""
    _judge(world, acknowledged, "failing")


def reopen(world: Path, acknowledged: Sequence[str]) -> None:
    """The world of `programs.reopen` is whole."""
    _judge(world, acknowledged, "reopen")


def first_open(world: Path, acknowledged: Sequence[str]) -> None:
    """The world of `programs.first_open` is whole."""
    _judge(world, acknowledged, "first_open")


def migrate(world: Path, acknowledged: Sequence[str]) -> None:
    """The rows of 1.0.0 are all there, whether migrated or not, and then the rest is whole too."""
    assert _old_rows(world) == _old_rows_made(world), "a row of 1.0.0 is missing or changed"
    _judge(world, acknowledged, "first_open")
    assert _old_rows(world) == _old_rows_made(world), "opening changed a row of 1.0.0"


def _old_rows(world: Path) -> list[Any]:
    with closing(sqlite3.connect(_copy(world) / "memory.db")) as conn:
        return [row for row in schema_files.rows_1_0_0(conn) if str(row[1]).startswith("u") and len(str(row[1])) < 8]


def _old_rows_made(world: Path) -> list[Any]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        schema_files.run_script(conn, "1.0.0.sql")
        schema_files.fill_1_0_0(conn, OLD_UNITS)
        return schema_files.rows_1_0_0(conn)


# The judgement


def _judge(world: Path, acknowledged: Sequence[str], name: str) -> None:
    _look_as_a_stranger(world, name)
    with open_ledger(world) as ledger:
        committed = _check_units(ledger)
        _check_acknowledged(acknowledged, committed, name, lossy=(world / "normal").exists())
        _check_contents(ledger, world, expected(name, committed))
        _next_unit(ledger, world)
    with open_ledger(world) as ledger:
        report = ledger.recover()
        assert report == RecoveryReport(), "the second recovery found something"
        _check_contents(ledger, world, expected(name, committed), more=("next",))
        assert len(_check_units(ledger)) == len(committed) + 1
    _check_file(world)


def _copy(world: Path) -> Path:
    place = world.with_name("stranger")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(world, place)
    return place


def _look_as_a_stranger(world: Path, name: str) -> None:
    """Step 1. Before anything of ours has run: no table yet is as good as an empty one."""
    with closing(sqlite3.connect(_copy(world) / "memory.db")) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = {row[0] for row in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if not {"uow_ledger", "uow_stores", "orders"} <= tables:
            return
        committed = _numbers(conn.execute("SELECT correlation_id FROM unit_of_work WHERE status = 'committed'"))
        want = expected(name, committed)
        assert {key: version for key, version in _orders(conn).items() if version is not None} == want, "orders"
        for store, found in _records(conn, world).items():
            assert found == {key: _stored(store, key, version) for key, version in want.items()}, store


def _numbers(rows: Any) -> set[int]:
    return {int(number) for (number,) in rows if number is not None and number.isdigit()}


def _orders(conn: sqlite3.Connection) -> dict[str, int]:
    return dict(conn.execute("SELECT id, n FROM orders").fetchall())


def _records(conn: sqlite3.Connection, world: Path) -> dict[str, dict[str, Any]]:
    notes = dict(conn.execute("SELECT key, json_extract(value, '$.text') FROM uow_documents").fetchall())
    vectors = dict(conn.execute("SELECT key, value FROM uow_vectors").fetchall())
    folder = world / "photos" / hashlib.sha256(SPACE.encode()).hexdigest()[:16]
    blobs = {
        key: data if data is not None else (folder / digest[:2] / digest).read_bytes()
        for key, digest, data in conn.execute("SELECT key, digest, data FROM uow_blobs")
    }
    return {"notes": notes, "embeddings": vectors, "photos": blobs}


def _stored(store: str, key: str, version: int) -> Any:
    if store == "embeddings":
        return vector_bytes(version)
    return value(store, key, version)["text"] if store == "notes" else value(store, key, version)


def _check_units(ledger: Ledger) -> set[int]:
    """Step 2; return the numbers of the committed units."""
    units = [unit for unit in ledger.units(limit=1_000) if unit.contract_version and unit.space_id]
    assert {unit.status for unit in units} <= {"committed", "failed", "rolled_back"}
    committed = [unit for unit in units if unit.status == "committed"]
    receipts = sorted((ledger.receipt(unit.uow_id) for unit in committed), key=lambda receipt: receipt.space_seq or 0)
    hashes = {unit.uow_id: unit.receipt_hash for unit in committed}
    assert all(receipt.hash == hashes[receipt.uow_id] for receipt in receipts), "a receipt is not its hash"
    assert [receipt.space_seq for receipt in receipts] == list(range(1, len(receipts) + 1))
    assert all(later.prev == earlier.hash for earlier, later in pairwise(receipts)), "the chain is broken"
    assert ledger.validate() == []
    return _numbers((unit.correlation_id,) for unit in committed)


def _check_acknowledged(acknowledged: Sequence[str], committed: set[int], name: str, *, lossy: bool) -> None:
    """Step 3. Under relaxed durability a power cut may take the last units, but then from the end only."""
    told = {"committed": set[int](), "refused": set[int]()}
    for text in acknowledged:
        how, number = text.split()
        if number.isdigit():
            told[how].add(int(number))
    assert not told["refused"] & committed, f"refused, and yet there: {told['refused'] & committed}"
    start = set() if name in WITHOUT_START else {0}
    lost = (told["committed"] | start) - committed
    meant = [
        number for number, step in enumerate(STEPS[name], 1) if step.end == "commit" and number not in told["refused"]
    ]
    if lossy:
        assert committed - start == set(meant[: len(committed - start)]), f"not a beginning: {committed}"
    else:
        assert not lost, f"acknowledged and lost: {lost}"
    assert committed <= start | {number for number, step in enumerate(STEPS[name], 1) if step.end == "commit"}


def _check_contents(ledger: Ledger, world: Path, want: dict[str, int], more: tuple[str, ...] = ()) -> None:
    """Step 4."""
    for store in store_names(world):
        handle = ledger[store]
        assert sorted(handle.keys(space_id=SPACE)) == sorted((*want, *more)), f"keys of {store}"
        for key, version in want.items():
            found = handle.get(key, space_id=SPACE)
            wanted = value(store, key, version)
            if isinstance(wanted, dict):
                assert found.items() >= wanted.items(), f"{key} in {store}"
            else:
                assert found == wanted, f"{key} in {store}"
    for version in set(want.values()):
        hits = ledger["notes"].search(f"word{version}", 50, space_id=SPACE)
        assert {hit.key for hit in hits} - set(more) == {key for key in want if want[key] == version}, "full text"
    hits = ledger["embeddings"].search([1.0, 0, 0, 0], 50, space_id=SPACE)
    assert {hit.key for hit in hits} == {*want, *more}, "vector search"


def _next_unit(ledger: Ledger, world: Path) -> None:
    """Step 5."""
    with ledger.unit(space_id=SPACE, band="GREEN", correlation_id="99") as uow:
        for store in store_names(world):
            uow[store].create("next", value(store, "next", 7))


def _check_file(world: Path) -> None:
    """Step 6."""
    with closing(sqlite3.connect(world / "memory.db")) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
        assert conn.execute("SELECT count(*) FROM uow_coordination").fetchone() == (0,)
        assert conn.execute("SELECT count(*) FROM uow_redo").fetchone() == (0,)
        (index,) = conn.execute(
            "SELECT name FROM sqlite_schema WHERE name LIKE 'uow@_%' ESCAPE '@' AND sql LIKE '%fts5%'"
        ).fetchone()
        conn.execute(f"INSERT INTO {index} ({index}) VALUES ('integrity-check')")
