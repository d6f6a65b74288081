"""Deletes that did not delete elsewhere: each is a public issue of another project, and must not happen here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from memoryos_uow import StoreError
from tests.scenarios.kit import SPACE, agreed, failing, forget, found_in, killed_on_the_way, open_memory, remember, unit
from tests.testing.jsonl import newest
from tests.units import rows

if TYPE_CHECKING:
    from pathlib import Path


def begun(directory: Path, *, spaces: tuple[str, ...] = (SPACE,)) -> Path:
    """A memory with two facts in each space."""
    directory.mkdir()
    with open_memory(directory) as ledger:
        for space in spaces:
            with unit(ledger, space) as uow:
                remember(uow, "kept", "memory that is kept")
                remember(uow, "gone", "memory to forget")
        ledger.recover()
    return directory


# AS-13 and AS-15


@pytest.mark.parametrize("store", ["vectors", "edges", "attachments", "archive", "wiki"])
def test_as13_mem0_3245_a_store_that_cannot_forget(tmp_path: Path, store: str) -> None:
    """AS-13, mem0ai/mem0#3245, #3040: while one store refuses, nothing is forgotten anywhere; afterwards everywhere."""
    with open_memory(begun(tmp_path / "start")) as ledger:
        with failing(ledger, store, "apply"), pytest.raises(StoreError) as caught, unit(ledger) as uow:
            forget(uow, "gone")
        assert caught.value.store == store
        assert agreed(ledger, "gone") == "memory to forget"
        with unit(ledger) as uow:
            forget(uow, "gone")
        assert agreed(ledger, "gone") is None
        deletes = ledger.get(uow.uow_id).writes
        assert {write.store_name for write in deletes} == set(found_in(ledger, "gone"))
        assert {(write.operation_type, write.bytes_written, write.checksum) for write in deletes} == {
            ("delete", 0, None)
        }
        assert ledger.receipt(uow.uow_id).write_count == 8


@pytest.mark.parametrize("store", ["archive", "wiki", "log"])
def test_as13_mem0_3245_a_store_that_is_down_after_the_decision(tmp_path: Path, store: str) -> None:
    """AS-13, mem0ai/mem0#3245: what is decided is forgotten for every reader at once, and outside once it is back."""
    place = begun(tmp_path / "start")
    with open_memory(place) as ledger:
        with failing(ledger, store, "publish"):
            with unit(ledger) as uow:
                forget(uow, "gone")
            assert uow.in_doubt == (store,)
            assert agreed(ledger, "gone") is None
        assert ledger.recover().rolled_forward == (uow.uow_id,)
        assert agreed(ledger, "gone") is None
    assert_gone_for_strangers(place)


def assert_gone_for_strangers(place: Path) -> None:
    """Nobody who looks at the files themselves finds the forgotten fact as a record."""
    assert rows(place / "archive.db", "SELECT value FROM uow_records WHERE key = 'gone'") == [(None,)]
    assert not (place / "wiki" / SPACE / "gone.md").exists()
    assert newest(place / "log.jsonl", SPACE, "gone") is None
    for table, column in (("uow_documents", "key"), ("uow_vectors", "key"), ("uow_blobs", "key"), ("nodes", "id")):
        assert rows(place / "memory.db", f"SELECT 1 FROM {table} WHERE {column} = 'gone'") == []


def test_as15_cognee_3526_memoria_10_forgotten_means_absent_everywhere(tmp_path: Path) -> None:
    """AS-15, topoteretes/cognee#3526, matrixorigin/memoria#10: no index brings the fact back, in or after the unit."""
    place = begun(tmp_path / "start")
    with open_memory(place) as ledger:
        with unit(ledger) as uow:
            forget(uow, "gone")
            assert [hit.key for hit in uow["facts"].search("forget")] == []
            assert [hit.key for hit in uow["vectors"].search([1, 1, 1, 1])] == ["kept"]
        assert ledger["facts"].search("forget", space_id=SPACE) == []
        assert agreed(ledger, "gone") is None
        assert agreed(ledger, "kept") == "memory that is kept"
        ledger.recover()
    assert_gone_for_strangers(place)
    assert [path.stat().st_size for path in (place / "attachments").rglob("*") if path.is_file()] == [19 * 30]


def test_as13_mem0_3245_as15_cognee_3526_killed(tmp_path: Path) -> None:
    """AS-13, mem0ai/mem0#3245; AS-15, topoteretes/cognee#3526: killed anywhere, it is there everywhere or nowhere."""
    start = begun(tmp_path / "start")

    def work(world: Path) -> None:
        with open_memory(world) as ledger, unit(ledger) as uow:
            forget(uow, "gone")

    seen = set()
    for world in killed_on_the_way(start, work, kills=18):
        with open_memory(world) as ledger:
            ledger.recover()
            seen.add(agreed(ledger, "gone"))
            assert agreed(ledger, "kept") == "memory that is kept"
        if seen == {"memory to forget", None}:
            assert_gone_for_strangers(world)
    assert seen == {"memory to forget", None}


# AS-16


def test_as16_cognee_2732_shared_content_survives_in_the_other_space(tmp_path: Path) -> None:
    """AS-16, topoteretes/cognee#2732, cognee-rs#164: one space deletes, the other's bytes stay equal."""
    place = begun(tmp_path / "start", spaces=("alfa", "beta"))

    def of_beta() -> list[object]:
        tables = [rows(place / "memory.db", f"SELECT * FROM {t} WHERE space_id = 'beta'") for t in TABLES]
        files = sorted((str(p), p.read_bytes()) for p in (place / "wiki" / "beta").rglob("*") if p.is_file())
        return [*tables, files, rows(place / "archive.db", "SELECT * FROM uow_records WHERE space_id = 'beta'")]

    with open_memory(place) as ledger:
        before, found = of_beta(), [found_in(ledger, key, "beta") for key in ("kept", "gone")]
        with unit(ledger, "alfa") as uow:
            forget(uow, "gone")
            forget(uow, "kept")
        ledger.recover()
        assert of_beta() == before
        assert [found_in(ledger, key, "beta") for key in ("kept", "gone")] == found
        assert agreed(ledger, "gone", "alfa") is None


TABLES = ("uow_documents", "uow_vectors", "uow_blobs", "uow_heads", "nodes", "edges")


# AS-17


def test_as17_mcp_memory_service_632_bulk_delete_leaves_no_orphan_edge(tmp_path: Path) -> None:
    """AS-17, doobidoo/mcp-memory-service#632: 979 memories go with all their edges, or, killed, none of either goes."""
    start = tmp_path / "start"
    start.mkdir()
    count = 979
    with open_memory(start) as ledger, unit(ledger) as uow:
        for number in range(count + 20):
            uow["nodes"].create(f"m{number}", {"label": "x"})
            uow["edges"].create(f"e{number}", {"source": f"m{number}", "target": f"m{(number + 1) % (count + 20)}"})
    orphaned = "source NOT IN (SELECT id FROM nodes) OR target NOT IN (SELECT id FROM nodes)"
    orphans = f"SELECT count(*) FROM edges WHERE {orphaned}"

    def work(world: Path) -> None:
        with open_memory(world) as ledger, unit(ledger) as uow:
            uow["nodes"].delete_many(f"m{number}" for number in range(count))
            uow.sql(f"DELETE FROM edges WHERE space_id = ? AND ({orphaned})", (SPACE,))

    seen = set()
    for world in killed_on_the_way(start, work, kills=10):
        with open_memory(world):
            assert rows(world / "memory.db", orphans) == [(0,)]
            seen.add(rows(world / "memory.db", "SELECT count(*) FROM nodes")[0][0])
    assert seen == {count + 20, 20}
    with open_memory(start) as ledger:
        with failing(ledger, "edges", "apply"), pytest.raises(StoreError), unit(ledger) as uow:
            uow["nodes"].delete_many(f"m{number}" for number in range(count))
            uow["edges"].delete_many(f"e{number}" for number in range(count))
        assert rows(start / "memory.db", "SELECT count(*) FROM nodes") == [(count + 20,)]


# AS-18


def test_as18_margince_663_no_object_without_a_row(tmp_path: Path) -> None:
    """AS-18, margince/margince#663, #1581: after a failed or killed unit no bytes lie about unreferenced."""
    start = begun(tmp_path / "start")

    def work(world: Path) -> None:
        with open_memory(world) as ledger, unit(ledger) as uow:
            uow["attachments"].create("scan", b"scan" * 1000)
            uow["wiki"].create("scan.md", b"scan")
            uow["facts"].create("scan", {"text": "memory of a scan"})

    def objects(world: Path) -> int:
        folders = (world / "attachments", world / "wiki")
        return sum(path.is_file() for folder in folders for path in folder.rglob("*") if path.name != "lock")

    before = objects(start)
    for world in killed_on_the_way(start, work):
        with open_memory(world) as ledger:
            ledger.recover()
            there = ledger["facts"].get("scan", space_id=SPACE) is not None
            assert objects(world) == before + (2 if there else 0)
            assert (ledger["attachments"].get("scan", space_id=SPACE) is not None) == there
    with open_memory(start) as ledger:
        with failing(ledger, "facts", "apply"), pytest.raises(StoreError), unit(ledger) as uow:
            uow["attachments"].create("scan", b"scan" * 1000)
            uow["facts"].create("scan", {"text": "memory"})
        ledger.recover()
        assert objects(start) == before


# AS-19


def test_as19_agenticos_1347_what_cannot_be_undone_waits_for_the_decision(tmp_path: Path) -> None:
    """AS-19, vstorm-co/agenticos#1347: a dropped table and removed files are back after a failure: they never went."""
    place = begun(tmp_path / "start")
    with open_memory(place) as ledger:
        with unit(ledger) as uow:
            uow.sql("CREATE TABLE legacy (x)")
            uow.sql("INSERT INTO legacy VALUES (1)")
        with pytest.raises(ZeroDivisionError), unit(ledger) as uow:
            uow.sql("DROP TABLE legacy")
            forget(uow, "gone")
            uow.sql("SELECT 1")
            assert (place / "wiki" / SPACE / "gone.md").exists()
            _ = 1 / 0
        assert rows(place / "memory.db", "SELECT x FROM legacy") == [(1,)]
        assert agreed(ledger, "gone") == "memory to forget"

    def work(world: Path) -> None:
        with open_memory(world) as ledger, unit(ledger) as uow:
            uow.sql("DROP TABLE legacy")
            forget(uow, "gone")

    for world in killed_on_the_way(place, work):
        with open_memory(world) as ledger:
            table = rows(world / "memory.db", "SELECT count(*) FROM sqlite_schema WHERE name = 'legacy'")[0][0]
            assert (agreed(ledger, "gone") is not None) == bool(table)
