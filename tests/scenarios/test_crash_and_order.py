"""Torn files, lost order and unkept settings: each is a public issue of another project, and must not happen here."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import ConflictError, Ledger, StoreError, UsageError
from memoryos_uow.abc import Capability
from memoryos_uow.stores import BlobStore, DocumentStore, FileStore, SQLiteFileStore, VectorStore
from memoryos_uow.testing._forks import fork
from tests.scenarios.kit import SPACE, agreed, embed, failing, killed_on_the_way, open_memory, remember, unit
from tests.units import rows

if TYPE_CHECKING:
    from pathlib import Path

    from memoryos_uow import UnitOfWork, UnitOfWorkError


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A memory with one fact."""
    place = tmp_path / "start"
    place.mkdir()
    with open_memory(place) as ledger:
        with unit(ledger) as uow:
            remember(uow, "m0", "memory 0")
        ledger.recover()
    return place


# AS-21


def test_as21_llama_index_19696_a_file_is_never_torn(start: Path) -> None:
    """AS-21, run-llama/llama_index#19696: the file is wholly the old or the new one, before recovery too."""
    old, new = (json.dumps({"doc": "x" * size}).encode() for size in (50_000, 90_000))
    with open_memory(start) as ledger:
        with unit(ledger) as uow:
            uow["wiki"].create("docstore.json", old)
        ledger.recover()

    def work(world: Path) -> None:
        with open_memory(world) as ledger, unit(ledger) as uow:
            uow["wiki"].update("docstore.json", new)

    seen = set()
    for world in killed_on_the_way(start, work, kills=18):
        content = (world / "wiki" / SPACE / "docstore.json").read_bytes()
        assert content in (old, new)
        seen.add(content)
        with open_memory(world) as ledger:
            assert ledger["wiki"].get("docstore.json", space_id=SPACE) in (old, new)
            ledger.recover()
            shown = (world / "wiki" / SPACE / "docstore.json").read_bytes()
            assert ledger["wiki"].get("docstore.json", space_id=SPACE) == shown
    assert seen == {old, new}


def test_as21_llama_index_19696_a_failing_write_leaves_the_old_file(start: Path) -> None:
    """AS-21, run-llama/llama_index#19696: an error while persisting keeps the file as it was."""
    with open_memory(start) as ledger:
        for method in ("prepare", "apply", "redo"):
            with failing(ledger, "wiki", method), pytest.raises(StoreError), unit(ledger) as uow:
                uow["wiki"].update("m0.md", b"new" * 1000)
            assert (start / "wiki" / SPACE / "m0.md").read_bytes() == b"memory 0"


# AS-23


def test_as23_decision_hub_338_every_gap_is_noticed(start: Path) -> None:
    """AS-23, pymc-labs/decision-hub#338: an object that is gone is no silent gap: reading it says so, 19 of 200."""
    with open_memory(start) as ledger:
        with unit(ledger) as uow:
            for number in range(200):
                uow["attachments"].create(f"v{number}", b"%d" % number * 100)
        files = sorted(path for path in (start / "attachments").rglob("*") if path.is_file())
        for path in files[::11]:
            path.unlink()
        gaps = [key for key in ledger["attachments"].keys(space_id=SPACE) if is_gap(ledger, key)]
        assert len(gaps) == len(files[::11]) == 19


def is_gap(ledger: Ledger, key: str) -> bool:
    """Whether reading an attachment says that it is not what was written."""
    try:
        ledger["attachments"].get(key, space_id=SPACE)
    except StoreError as error:
        return error.store == "attachments"
    return False


# AS-24


def test_as24_qmd_766_replaced_vectors_do_not_crowd_out_live_ones(start: Path) -> None:
    """AS-24, tobi/qmd PR#766, oceanbase/powercontext#1469: replaced five times, only live hits are found."""

    def work(world: Path) -> None:
        with open_memory(world) as ledger:
            for version in range(5):
                with unit(ledger) as uow:
                    for number in range(5):
                        if version:
                            uow["vectors"].delete(f"v{number}")
                        uow["vectors"].create(f"v{number}", embed(f"{number} {version}"))
                        uow["facts"].upsert(f"v{number}", {"text": f"memory {version}"})

    for world in killed_on_the_way(start, work):
        with open_memory(world) as ledger:
            live = set(ledger["facts"].keys(space_id=SPACE))
            hits = ledger["vectors"].search(embed("0 4"), k=100, space_id=SPACE)
            assert {hit.key for hit in hits} == live
            assert len(hits) == len(live) in (1, 6)
            assert rows(world / "memory.db", "SELECT count(*) FROM uow_vectors") == [(len(live),)]
            texts = {ledger["facts"].get(f"v{n}", space_id=SPACE)["text"] for n in range(5)} if len(live) > 1 else set()
            assert len(texts) <= 1


# AS-26


def run_steps(world: Path, effects: Path) -> None:
    """Run five steps, each with its effect and its checkpoint in one unit, from where the last checkpoint says."""
    with open_memory(world) as ledger:
        while True:
            with unit(ledger) as uow:
                checkpoint = uow["facts"].get("checkpoint") or {"next": 0}
                step = checkpoint["next"]
                if step == 5:
                    break
                uow["facts"].upsert("checkpoint", {"next": step + 1})
                uow["archive"].create(f"write-{step}", {"by": step})
                uow.sql("INSERT INTO effects VALUES (?)", (step,))
    effects.touch()


def test_as26_langgraph_8039_every_steps_effect_happens_once(start: Path) -> None:
    """AS-26, langchain-ai/langgraph#8039, #8234: killed anywhere, no step is done twice or left out."""
    with sqlite3.connect(start / "memory.db") as connection:
        connection.execute("CREATE TABLE effects (step)")
    connection.close()
    for world in killed_on_the_way(start, lambda world: run_steps(world, world / "done")):
        run_steps(world, world / "done")
        assert rows(world / "memory.db", "SELECT step FROM effects ORDER BY rowid") == [(n,) for n in range(5)]
        archived = rows(world / "archive.db", "SELECT count(*) FROM uow_records WHERE key LIKE 'write-%'")
        assert archived == [(5,)]


def test_as26_langgraph_8039_refused_between_checkpoint_and_writes(start: Path) -> None:
    """AS-26, langchain-ai/langgraph#8039: when the writes fail, the checkpoint has not moved on either."""
    with open_memory(start) as ledger:
        with failing(ledger, "archive", "apply"), pytest.raises(StoreError), unit(ledger) as uow:
            uow["facts"].upsert("checkpoint", {"next": 1})
            uow["archive"].create("write-0", {})
        assert ledger["facts"].get("checkpoint", space_id=SPACE) is None


# AS-27


def test_as27_langgraph_8810_a_stale_task_does_not_overwrite(start: Path) -> None:
    """AS-27, langchain-ai/langgraph#8810: a task that goes on from an old checkpoint gets a conflict."""
    with open_memory(start) as ledger:
        with pytest.raises(ConflictError) as caught, unit(ledger) as stale:
            fact = stale["facts"].get("m0")
            archived = stale["archive"].get("m0")
            with ledger.unit(space_id=SPACE, band="GREEN", nested="independent") as newer:
                remember(newer, "m0", "memory 1")
            stale["facts"].update("m0", fact)
            stale["archive"].update("m0", archived)
        assert caught.value.retryable
        assert agreed(ledger, "m0") == "memory 1"


def test_as27_langgraph_8810_in_another_process(start: Path) -> None:
    """AS-27, langchain-ai/langgraph#8810: the same when the newer checkpoint comes from another process."""

    def newer() -> None:
        with open_memory(start) as ledger, unit(ledger) as uow:
            remember(uow, "m0", "memory 1")

    with open_memory(start) as ledger:
        with pytest.raises(ConflictError), unit(ledger) as stale:
            page = stale["wiki"].get("m0.md")
            assert fork(newer).wait() == (None, "")
            stale["wiki"].update("m0.md", page)
        assert agreed(ledger, "m0") == "memory 1"


# AS-29


def session(ledger: Ledger, name: str) -> None:
    """Write one session: a few memories that belong together, in documents, vectors, archive and files."""
    with unit(ledger) as uow:
        for number in range(3):
            uow["facts"].create(f"{name}-{number}", {"text": f"memory {name}"})
            uow["vectors"].create(f"{name}-{number}", embed(name))
            uow["archive"].create(f"{name}-{number}", {"of": name})
        uow["wiki"].create(f"{name}.md", name.encode())


def test_as29_deer_flow_3353_threads_and_processes_on_one_file(start: Path) -> None:
    """AS-29, bytedance/deer-flow#3353, PraisonAI#1169, KiroCrew PR#799: no lock error, no half session."""

    def process(name: str) -> None:
        with open_memory(start) as ledger, ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(session, ledger, f"{name}{thread}-{n}") for thread in range(8) for n in range(3)]:
                done.result()

    children = [fork(lambda name=name: process(name)) for name in "ab"]  # type: ignore[misc]
    assert [child.wait() for child in children] == [(None, "")] * 2
    with open_memory(start) as ledger:
        ledger.recover()
        names = [f"{name}{thread}-{n}" for name in "ab" for thread in range(8) for n in range(3)]
        wanted = {"m0", *(f"{name}-{number}" for name in names for number in range(3))}
        for store in ("facts", "vectors", "archive"):
            assert set(ledger[store].keys(space_id=SPACE)) == wanted
        assert set(ledger["wiki"].keys(space_id=SPACE)) == {"m0.md", *(f"{name}.md" for name in names)}
        assert len(ledger.units(status="committed", limit=1000)) == 49
        assert ledger.validate() == []
    assert rows(start / "archive.db", "SELECT count(*) FROM uow_records") == [(len(wanted),)]


def test_as29_deer_flow_3353_killed_in_the_middle_of_others(start: Path) -> None:
    """AS-29, bytedance/deer-flow#3353: a process killed in its session leaves none of it and holds up nobody."""

    def work(world: Path) -> None:
        with open_memory(world) as ledger:
            session(ledger, "dies")

    for world in killed_on_the_way(start, work):
        with open_memory(world) as ledger:
            session(ledger, "lives")
            ledger.recover()
            assert size(ledger, "lives") == 3
            assert size(ledger, "dies") in (0, 3)


def size(ledger: Ledger, name: str) -> int:
    """How many memories of a session there are, in all stores alike; its page is there if they are."""
    stores = ("facts", "vectors", "archive")
    (found,) = {sum(key.startswith(name) for key in ledger[store].keys(space_id=SPACE)) for store in stores}
    assert (ledger["wiki"].get(f"{name}.md", space_id=SPACE) is not None) == (found > 0)
    return found


# AS-30


def test_as30_tortoise_orm_1861_savepoints_of_child_tasks(start: Path) -> None:
    """AS-30, tortoise/tortoise-orm#1861: a child task that uses its parent's unit is told so; own units work."""

    async def child(uow: UnitOfWork, ledger: Ledger, number: int) -> str:
        try:
            with uow.savepoint():
                uow["facts"].create(f"wrong{number}", {"text": "memory"})
        except UsageError as error:
            with ledger.unit(space_id=SPACE, band="GREEN") as own:
                await asyncio.sleep(0)
                with own.savepoint():
                    await asyncio.sleep(0)
                    own["facts"].create(f"right{number}", {"text": "memory"})
            return str(error)
        return "no error"

    async def parent(ledger: Ledger) -> list[str]:
        with unit(ledger) as uow:
            uow["facts"].create("parent", {"text": "memory"})
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(child(uow, ledger, number)) for number in range(4)]
            with uow.savepoint():
                uow["facts"].create("parent2", {"text": "memory"})
            return [task.result() for task in tasks]

    with open_memory(start) as ledger:
        assert all("another thread, task or process" in said for said in asyncio.run(parent(ledger)))
        keys = set(ledger["facts"].keys(space_id=SPACE))
        assert keys == {"m0", "parent", "parent2", *(f"right{number}" for number in range(4))}


# AS-34


def test_as34_seata_4997_what_comes_late_does_not_overwrite(start: Path) -> None:
    """AS-34, apache/incubator-seata#4997, #2186: an older unit, applied late, changes nothing, whatever it matches."""
    with open_memory(start) as ledger:
        with failing(ledger, "archive", "publish"), failing(ledger, "wiki", "publish"):
            ids = []
            for text in ("memory 1", "memory 0", "memory 2", "memory 0"):  # the old image comes back in between
                with unit(ledger) as uow:
                    remember(uow, "m0", text)
                ids.append(uow.uow_id)
        with unit(ledger) as uow:
            remember(uow, "m0", "memory 3")
        assert uow.in_doubt == ()
        assert sorted(ledger.recover().rolled_forward) == sorted(ids)
        assert agreed(ledger, "m0") == "memory 3"
    archived = rows(start / "archive.db", "SELECT value FROM uow_records WHERE key = 'm0'")
    assert json.loads(archived[0][0]) == {"text": "memory 3"}
    assert (start / "wiki" / SPACE / "m0.md").read_bytes() == b"memory 3"


# AS-35


class PromisesTooMuch(DocumentStore):
    """Says that it can be published to, and cannot."""

    capability = Capability.STAGED


def open_to_all(directory: Path) -> Path:
    """A directory that anybody may write."""
    directory.mkdir()
    directory.chmod(0o777)
    return directory


def test_as35_wolverine_2588_marten_814_a_store_that_cannot_give_what_is_asked(tmp_path: Path) -> None:
    """AS-35, JasperFx/wolverine#2588, JasperFx/marten#814: what cannot be kept is refused when the ledger is opened."""
    (tmp_path / "file").write_bytes(b"a file")
    shared = open_to_all(tmp_path / "shared")
    refused: list[tuple[Any, type[UnitOfWorkError]]] = [
        (PromisesTooMuch("x"), UsageError),
        (BlobStore("x", shared), StoreError),
        (FileStore("x", shared), StoreError),
        (BlobStore("x", tmp_path / "file"), StoreError),
        (FileStore("x", tmp_path / "file"), StoreError),
        (SQLiteFileStore("x", tmp_path / "file"), StoreError),
        (SQLiteFileStore("x", tmp_path / "no such directory" / "a.db"), StoreError),
    ]
    for store, error in refused:
        with pytest.raises(error) as caught:
            Ledger.open(tmp_path / "memory.db", stores=[store])
        assert caught.value.hint
        with Ledger.open(tmp_path / "memory.db", stores=[DocumentStore("notes")]) as ledger, unit(ledger) as uow:
            uow["notes"].upsert("k", 1)


def test_as35_wolverine_2588_an_existing_store_with_other_settings(tmp_path: Path) -> None:
    """AS-35, JasperFx/wolverine#2588: a setting that contradicts what is there is refused, not silently ignored."""
    Ledger.open(tmp_path / "memory.db", stores=[VectorStore("v", dimensions=4)]).close()
    for other in (VectorStore("v", dimensions=8), DocumentStore("v")):
        with pytest.raises(UsageError):
            Ledger.open(tmp_path / "memory.db", stores=[other])
    with pytest.raises(UsageError, match="durability"):
        Ledger.open(tmp_path / "memory.db", durability="eventually")  # type: ignore[arg-type]
