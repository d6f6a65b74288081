"""What the scenarios share: a memory made of several stores, a crash at many points, and stores that stop working."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import Ledger, StoreError
from memoryos_uow.stores import BlobStore, DocumentStore, FileStore, SQLiteFileStore, TableStore, VectorStore
from memoryos_uow.testing import fault_points
from memoryos_uow.testing._forks import fork
from memoryos_uow.testing._watched import watched
from tests.testing.jsonl import JsonLines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memoryos_uow import UnitOfWork
    from memoryos_uow._registry import StoreRegistry
    from memoryos_uow.abc import Store

SPACE: Final = "alice"
KILLS: Final = 14


def memory_stores() -> list[Store]:
    """Facts with full text, their vectors, a graph as two tables, attachments, an archive, a wiki and a log."""
    edge = {"id": "TEXT", "space_id": "TEXT", "source": "TEXT", "target": "TEXT"}
    return [
        DocumentStore("facts", search=["text"]),
        VectorStore("vectors", dimensions=4),
        TableStore("nodes", key="id", columns={"id": "TEXT", "space_id": "TEXT", "label": "TEXT"}),
        TableStore("edges", key="id", columns=edge),
        BlobStore("attachments", "attachments", inline_below=64),
        SQLiteFileStore("archive", "archive.db"),
        FileStore("wiki", "wiki"),
        JsonLines("log", "log.jsonl"),
    ]


def open_memory(directory: Path, **options: Any) -> Ledger:
    """Open the memory in `directory`."""
    return Ledger.open(directory / "memory.db", **{"stores": memory_stores(), "durability": "normal", **options})


def unit(ledger: Ledger, space: str = SPACE) -> UnitOfWork:
    """A unit in a space."""
    return ledger.unit(space_id=space, band="GREEN")


def embed(text: str) -> list[float]:
    """Stand for a model: four numbers that belong to a text."""
    return [byte / 255 + 0.01 for byte in hashlib.sha256(text.encode()).digest()[:4]]


def remember(uow: UnitOfWork, key: str, text: str) -> None:
    """Write one memory into every store: the fact, its vector, two nodes with an edge, and three sorts of files."""
    uow["facts"].upsert(key, {"text": text})
    uow["vectors"].upsert(key, embed(text))
    uow["nodes"].upsert(key, {"label": text})
    uow["edges"].upsert(f"{key}-owner", {"source": key, "target": "owner"})
    uow["attachments"].upsert(key, text.encode() * 30)
    uow["archive"].upsert(key, {"text": text})
    uow["wiki"].upsert(f"{key}.md", text.encode())
    uow["log"].upsert(key, text)


def forget(uow: UnitOfWork, key: str) -> None:
    """Delete one memory from every store."""
    for name in ("facts", "vectors", "nodes", "attachments", "archive", "log"):
        uow[name].delete(key)
    uow["edges"].delete(f"{key}-owner")
    uow["wiki"].delete(f"{key}.md")


def found_in(ledger: Ledger, key: str, space: str = SPACE) -> dict[str, str | None]:
    """What each store says of a memory, reduced to its text; a vector to the text that it was made from, or a dash."""
    fact, node, archived = (ledger[name].get(key, space_id=space) for name in ("facts", "nodes", "archive"))
    attachment = ledger["attachments"].get(key, space_id=space)
    page = ledger["wiki"].get(f"{key}.md", space_id=space)
    text = fact["text"] if fact else None
    vector = ledger["vectors"].get(key, space_id=space)
    edge = ledger["edges"].get(f"{key}-owner", space_id=space)
    return {
        "facts": text,
        "nodes": node["label"] if node else None,
        "edges": text if edge else None,
        "archive": archived["text"] if archived else None,
        "attachments": attachment[: len(attachment) // 30].decode() if attachment else None,
        "wiki": page.decode() if page is not None else None,
        "log": ledger["log"].get(key, space_id=space),
        "vectors": None if vector is None else (text if text and near(vector, embed(text)) else "-"),
    }


def near(one: list[float], other: list[float]) -> bool:
    """Whether two vectors are the same after rounding to float32."""
    return all(abs(a - b) < 1e-6 for a, b in zip(one, other, strict=True))


def agreed(ledger: Ledger, key: str, space: str = SPACE) -> str | None:
    """The text of a memory on which all stores and both searches agree, None if all of them say that it is gone."""
    found = found_in(ledger, key, space)
    (text,) = set(found.values())
    by_text = [hit.key for hit in ledger["facts"].search("memory", k=10_000, space_id=space)]
    by_meaning = [hit.key for hit in ledger["vectors"].search([1, 1, 1, 1], k=10_000, space_id=space)]
    assert (key in by_text) == (key in by_meaning) == (text is not None)
    return text


def killed_on_the_way(start: Path, work: Callable[[Path], object], *, kills: int = KILLS) -> Iterator[Path]:
    """Yield worlds that begin like `start` and in which `work` was killed: at about `kills` points, the last too."""
    world, count = start.with_name("world"), start.with_name("count")

    def run(die_at: int | None) -> Callable[[], None]:
        def act() -> None:
            with fault_points(die_at=die_at) as points:
                work(world)
            count.write_text(str(len(points.names)))

        return act

    def begin() -> None:
        shutil.rmtree(world, ignore_errors=True)
        shutil.copytree(start, world)

    begin()
    assert fork(run(None)).wait() == (None, "")
    total = int(count.read_text())
    for die_at in sorted({1 + number * (total - 1) // (kills - 1) for number in range(kills)}):
        begin()
        assert fork(run(die_at)).wait()[1] == ""
        yield world


@contextmanager
def failing(ledger: Ledger, store: str, method: str) -> Iterator[None]:
    """Let a method of a store of an open ledger fail."""
    registry = ledger._opened._registry

    def fail(called: str, when: str) -> None:
        if (called, when) == (method, "before"):
            raise StoreError(f"{store} is down.", store=store)

    working = registry._stores[store]
    put_in_place(registry, watched(working, fail))
    try:
        yield
    finally:
        put_in_place(registry, working)


def put_in_place(registry: StoreRegistry, store: Store) -> None:
    """Have a store take the place of another one of its name, of which the registry has remembered what it can do."""
    registry._stores[store.name] = store
    registry._sort(store)
