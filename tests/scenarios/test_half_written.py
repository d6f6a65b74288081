"""Writes that half happened elsewhere: each is a public issue of another project, and must not happen here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from memoryos_uow import RecordMissing, StoreError, UsageError
from tests.scenarios.kit import SPACE, agreed, embed, failing, found_in, killed_on_the_way, open_memory, remember, unit
from tests.testing.jsonl import newest
from tests.units import rows

if TYPE_CHECKING:
    from pathlib import Path

    from memoryos_uow import Ledger


def begun(directory: Path, texts: dict[str, str]) -> Path:
    """A memory that holds these texts."""
    directory.mkdir()
    with open_memory(directory) as ledger:
        with unit(ledger) as uow:
            for key, text in texts.items():
                remember(uow, key, text)
        ledger.recover()
    return directory


class ModelError(Exception):
    """The embedding model is down."""


# AS-1


def add_five(ledger: Ledger, *, fails_on: int | None) -> None:
    """Add five memories whose vectors come from a model."""
    with unit(ledger) as uow:
        for number in range(5):
            uow["facts"].create(f"m{number}", {"text": f"memory {number}"})
            if number == fails_on:
                raise ModelError
            uow["vectors"].create(f"m{number}", embed(f"memory {number}"))


def test_as1_mem0_5245_an_embedder_that_fails_on_one_item(tmp_path: Path) -> None:
    """AS-1, mem0ai/mem0#5245: no silent gap: nothing is written anywhere and the caller sees the error."""
    with open_memory(tmp_path) as ledger:
        with pytest.raises(ModelError):
            add_five(ledger, fails_on=2)
        for store in ("facts", "vectors"):
            assert list(ledger[store].keys(space_id=SPACE)) == []
        assert ledger.units()[0].error_type == "ModelError"
        with pytest.raises(UsageError, match="zero") as caught, unit(ledger) as uow:
            uow["facts"].create("m0", {"text": "memory"})
            uow["vectors"].create("m0", [0, 0, 0, 0])
        assert caught.value.store == "vectors"
        assert list(ledger["facts"].keys(space_id=SPACE)) == []


def test_as1_mem0_5245_killed(tmp_path: Path) -> None:
    """AS-1, mem0ai/mem0#5245: killed anywhere, either all five have text and vector or none has either."""
    start = begun(tmp_path / "start", {})

    def work(world: Path) -> None:
        with open_memory(world) as ledger:
            add_five(ledger, fails_on=None)

    for world in killed_on_the_way(start, work):
        with open_memory(world) as ledger:
            facts, vectors = (list(ledger[store].keys(space_id=SPACE)) for store in ("facts", "vectors"))
            assert facts == vectors
            assert len(facts) in (0, 5)


# AS-3


def consolidate(ledger: Ledger) -> None:
    """Replace three memories by their summary."""
    with unit(ledger) as uow:
        for number in range(3):
            uow["facts"].delete(f"m{number}")
            uow["vectors"].delete(f"m{number}")
            uow["archive"].delete(f"m{number}")
        uow["facts"].create("summary", {"text": "memory of all"})
        uow["vectors"].create("summary", embed("memory of all"))
        uow["archive"].create("summary", {"text": "memory of all"})


def consolidated(ledger: Ledger) -> bool:
    """Whether the summary has taken the place of the three, in all stores alike."""
    found = [list(ledger[store].keys(space_id=SPACE)) for store in ("facts", "vectors", "archive")]
    assert found[0] == found[1] == found[2]
    assert found[0] in (["m0", "m1", "m2"], ["summary"])
    return found[0] == ["summary"]


THREE = {f"m{number}": f"memory {number}" for number in range(3)}


@pytest.mark.parametrize(("store", "method"), [("vectors", "apply"), ("archive", "redo"), ("facts", "apply")])
def test_as3_heliox_os_323_a_store_that_fails_while_pruning(tmp_path: Path, store: str, method: str) -> None:
    """AS-3, VyomKulshrestha/Heliox-OS#323: the old state is intact in every store; healed, it is done exactly once."""
    with open_memory(begun(tmp_path / "start", THREE)) as ledger:
        with failing(ledger, store, method), pytest.raises(StoreError, match="is down"):
            consolidate(ledger)
        assert not consolidated(ledger)
        assert [agreed(ledger, key) for key in THREE] == list(THREE.values())
        consolidate(ledger)
        assert consolidated(ledger)
        with pytest.raises(RecordMissing):
            consolidate(ledger)
        assert consolidated(ledger)


def test_as3_heliox_os_323_a_store_that_fails_after_the_decision(tmp_path: Path) -> None:
    """AS-3, VyomKulshrestha/Heliox-OS#323: what was decided is rolled forward once the store is there again."""
    with open_memory(begun(tmp_path / "start", THREE)) as ledger:
        with failing(ledger, "archive", "publish"):
            consolidate(ledger)
            assert consolidated(ledger)
            assert len(ledger.recover().in_doubt) == 1
        assert len(ledger.recover().rolled_forward) == 1
        assert consolidated(ledger)


def test_as3_heliox_os_323_killed(tmp_path: Path) -> None:
    """AS-3, VyomKulshrestha/Heliox-OS#323: killed anywhere, all stores hold the three or all hold the summary."""
    start = begun(tmp_path / "start", THREE)

    def work(world: Path) -> None:
        with open_memory(world) as ledger:
            consolidate(ledger)

    seen = set()
    for world in killed_on_the_way(start, work):
        with open_memory(world) as ledger:
            seen.add(consolidated(ledger))
    assert seen == {False, True}


# AS-4 and AS-5


def test_as4_taosmd_102_as5_uteke_182_killed_between_log_and_index(tmp_path: Path) -> None:
    """AS-4, jaylfc/taosmd#102; AS-5, codecoradev/uteke#182, #1273: found by text and by meaning, or by neither."""
    start = begun(tmp_path / "start", {"m0": "memory 0"})

    def work(world: Path) -> None:
        with open_memory(world) as ledger:
            with unit(ledger) as uow:
                remember(uow, "m1", "memory 1")
            with unit(ledger) as uow:
                remember(uow, "m0", "memory 2")

    seen = set()
    for world in killed_on_the_way(start, work, kills=22):
        with open_memory(world) as ledger:
            assert ledger.recover().in_doubt == ()
            state = agreed(ledger, "m0"), agreed(ledger, "m1")
            seen.add(state)
            for key, text in zip(("m0", "m1"), state, strict=True):
                assert newest(world / "log.jsonl", SPACE, key) == (text.encode() if text else None)
    assert seen == {("memory 0", None), ("memory 0", "memory 1"), ("memory 2", "memory 1")}


def test_as4_taosmd_102_as5_uteke_182_refused_between_log_and_index(tmp_path: Path) -> None:
    """AS-4, jaylfc/taosmd#102; AS-5, codecoradev/uteke#182, #1273: an error in any store keeps it out of all."""
    with open_memory(begun(tmp_path / "start", {"m0": "memory 0"})) as ledger:
        for store in found_in(ledger, "m0"):
            with failing(ledger, store, "apply"), pytest.raises(StoreError), unit(ledger) as uow:
                remember(uow, "m0", "memory 1")
                remember(uow, "m1", "memory 1")
            assert (agreed(ledger, "m0"), agreed(ledger, "m1")) == ("memory 0", None)
            assert ledger.units(limit=1)[0].failed_store == store
        with unit(ledger) as uow:
            remember(uow, "m1", "memory 1")
        writes = ledger.get(uow.uow_id).writes
        assert {write.store_name for write in writes} == set(found_in(ledger, "m1"))
        assert all(write.checksum for write in writes)


# AS-6


@pytest.mark.parametrize("store", ["facts", "nodes", "archive"])
def test_as6_cli_agent_orchestrator_444_metadata_that_cannot_be_written(tmp_path: Path, store: str) -> None:
    """AS-6, awslabs/cli-agent-orchestrator#444: a page whose metadata fails does not exist, and is no success."""
    with open_memory(begun(tmp_path / "start", {"m0": "memory 0"})) as ledger:
        before = sorted(path for path in (tmp_path / "start" / "wiki").rglob("*") if path.is_file())
        with failing(ledger, store, "apply"), pytest.raises(StoreError), unit(ledger) as uow:
            uow["wiki"].create("new.md", b"a page")
            uow["wiki"].update("m0.md", b"another page")
            uow[store].upsert("new", {"label": "x"} if store == "nodes" else {"text": "x"})
        assert sorted(path for path in (tmp_path / "start" / "wiki").rglob("*") if path.is_file()) == before
        assert ledger["wiki"].get("m0.md", space_id=SPACE) == b"memory 0"


def test_as6_cli_agent_orchestrator_444_killed(tmp_path: Path) -> None:
    """AS-6, awslabs/cli-agent-orchestrator#444: killed anywhere, pages and their metadata agree, file by file."""
    start = begun(tmp_path / "start", {})

    def work(world: Path) -> None:
        with open_memory(world) as ledger, unit(ledger) as uow:
            for number in range(3):
                uow["wiki"].create(f"deep/{number}.md", b"a page")
                uow["facts"].create(f"deep/{number}.md", {"text": "memory"})

    for world in killed_on_the_way(start, work):
        with open_memory(world) as ledger:
            ledger.recover()
            pages = {path.name for path in (world / "wiki").rglob("*.md")}
            assert pages in (set(), {"0.md", "1.md", "2.md"})
            assert {key.removeprefix("deep/") for key in ledger["facts"].keys(space_id=SPACE)} == pages
            assert [path for path in (world / "wiki" / ".uow" / "stage").rglob("*") if path.is_file()] == []


# AS-8


def test_as8_cognee_rs_pr_160_a_batch_killed_at_item_700(tmp_path: Path) -> None:
    """AS-8, topoteretes/cognee-rs PR#160: no artefact without a unit's row; going on costs the undone items only."""
    start = begun(tmp_path / "start", {})
    paid = tmp_path / "paid"
    paid.touch()

    def model(number: int) -> str:
        with paid.open("a") as bill:
            bill.write(f"{number}\n")
        return f"memory {number}"

    def batch(world: Path) -> None:
        with open_memory(world) as ledger:
            done = set(ledger["facts"].keys(space_id=SPACE))
            for number in range(1_000):
                if f"m{number}" in done:
                    continue
                text = model(number)
                if number == 700 and not done:
                    kill()
                with unit(ledger) as uow:
                    uow["facts"].create(f"m{number}", {"text": text})
                    uow["vectors"].create(f"m{number}", embed(text))
                    uow["nodes"].create(f"m{number}", {"label": text})

    from memoryos_uow.testing._forks import fork, kill_own_process

    kill = kill_own_process
    assert fork(lambda: batch(start)).wait()[1] == ""
    assert len(rows(start / "memory.db", "SELECT 1 FROM uow_documents")) == 700
    assert rows(start / "memory.db", "SELECT count(*) FROM unit_of_work WHERE status = 'committed'") == [(700,)]
    written = "SELECT count(*) FROM uow_writes WHERE record_id NOT IN (SELECT key FROM uow_documents)"
    assert rows(start / "memory.db", written) == [(0,)]
    batch(start)
    bill = paid.read_text().split()
    assert len(bill) == 1_001  # item 700 was paid for and lost, nothing else
    with open_memory(start) as ledger:
        for store in ("facts", "vectors", "nodes"):
            assert len(list(ledger[store].keys(space_id=SPACE))) == 1_000


def test_the_log_is_json(tmp_path: Path) -> None:
    """The log that the scenarios use can be read by anybody, line by line."""
    begun(tmp_path / "start", THREE)
    lines = (tmp_path / "start" / "log.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["key"] for line in lines) == sorted(THREE)
