"""What the tests of recovery share: a ledger with four stores, and units that die or stop at a chosen step."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import Ledger
from memoryos_uow._ambient import now_text
from memoryos_uow._canonical import sha256_hex
from memoryos_uow.stores import BlobStore, DocumentStore, FileStore, SQLiteFileStore
from memoryos_uow.testing._forks import fork, kill_own_process
from tests.units import SPACE, rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memoryos_uow.abc import Store
    from memoryos_uow.testing._forks import Child

OUTSIDE: Final = ("photos", "archive", "files")
NOBODY: Final = json.dumps(["another boot", "pid:[1]", 1, 1])
"""An owner that cannot be seen from here."""


def stores() -> list[Store]:
    """Documents in the ledger's file, and one store of each capability outside."""
    return [
        DocumentStore("notes"),
        BlobStore("photos", "photos", inline_below=16),
        SQLiteFileStore("archive", "archive.db"),
        FileStore("files", "files"),
    ]


def open_ledger(directory: Path, **options: Any) -> Ledger:
    """Open the ledger in `directory` with all four stores."""
    return Ledger.open(directory / "memory.db", **{"stores": stores(), "durability": "normal", **options})


def write(ledger: Ledger, number: int) -> str:
    """Write version `number` of one record into every store, in one unit; return the unit's id."""
    with ledger.unit(space_id=SPACE, band="GREEN", correlation_id=str(number)) as uow:
        uow["notes"].upsert("k", {"n": number})
        uow["photos"].upsert("k", f"{number}".encode() * 100)
        uow["archive"].upsert("k", {"n": number})
        uow["files"].upsert("k", f"{number}".encode())
    return uow.uow_id


def versions(ledger: Ledger) -> set[int | None]:
    """Return the version that each store holds: one element if they agree."""
    found: set[int | None] = set()
    for name in ("notes", "archive"):
        document = ledger[name].get("k", space_id=SPACE)
        found.add(document["n"] if document else None)
    photo, file = (ledger[name].get("k", space_id=SPACE) for name in ("photos", "files"))
    found.add(int(photo[: len(photo) // 100]) if photo else None)
    found.add(int(file) if file else None)
    return found


def begun(directory: Path) -> Path:
    """Make a ledger with version 1 in every store."""
    directory.mkdir(exist_ok=True)
    with open_ledger(directory) as ledger:
        write(ledger, 1)
    return directory


def unsettled(directory: Path) -> list[tuple[Any, ...]]:
    """Return id, state, epoch and owner of every unit that is not settled."""
    return rows(directory / "memory.db", "SELECT uow_id, state, epoch, owner FROM uow_coordination ORDER BY uow_id")


def change(directory: Path, sql: str, *parameters: object) -> None:
    """Change the file behind the library's back."""
    with closing(sqlite3.connect(directory / "memory.db")) as connection, connection:
        connection.execute(sql, parameters)


def at_effect(ledger: Ledger, number: int, act: Callable[[], object], *, after: bool) -> list[str]:
    """Have the coordinator do `act` before, or after, its effect `number` (from 0); return the effects as they come."""
    coordinator = ledger._opened.coordinator
    seen: list[str] = []

    def wrapped(name: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def effect(unit: Any) -> Any:
            turn = len(seen) == number
            seen.append(name)
            if turn and not after:
                act()
            answer = do(unit)
            if turn and after:
                act()
            return answer

        return effect

    coordinator._do = {effect: wrapped(effect.name, do) for effect, do in coordinator._do.items()}
    return seen


EFFECTS: Final = ("RECORD_INTENT", "PREPARE", "DECIDE", "ANNOUNCE", "PUBLISH", "FORGET")


def dies(directory: Path, effect: str, *, after: bool, number: int = 2) -> None:
    """Let a process write version `number` and kill itself before, or after, `effect`."""

    def work() -> None:
        with open_ledger(directory) as ledger:
            at_effect(ledger, EFFECTS.index(effect), kill_own_process, after=after)
            write(ledger, number)

    ended, said = fork(work).wait()
    assert (ended, said) == (signal.SIGKILL, "")


def stops(directory: Path, effect: str, *, number: int = 2) -> Child:
    """Let a process write version `number` and stop before `effect`; what goes wrong afterwards is what it says."""

    def work() -> None:
        with open_ledger(directory) as ledger:
            at_effect(ledger, EFFECTS.index(effect), lambda: os.kill(os.getpid(), signal.SIGSTOP), after=False)
            write(ledger, number)

    child = fork(work)
    assert child.wait_until_stopped()
    return child


def leave(directory: Path, count: int, *, decided: bool, store: str = "archive", owner: str = NOBODY) -> None:
    """Put `count` units into the ledger whose process is gone, each with one record `r<number>` in `store`."""
    own = {"envelope_id": None, "created_ts": now_text(), "space_id": SPACE, "actor_id": None, "device_id": None}
    unit = json.dumps({**own, "correlation_id": None, "band": "GREEN"})
    with closing(sqlite3.connect(directory / "memory.db")) as connection, connection:
        last = connection.execute("SELECT coalesce(max(commit_seq), 0) FROM uow_ledger").fetchone()[0]
        ids = [f"00000000-0000-7000-8000-{number:012x}" for number in range(count)]
        state = "committed" if decided else "preparing"
        connection.executemany(
            "INSERT INTO uow_coordination VALUES (?, ?, 1, ?, 0, ?, '{}')",
            ((uow_id, state, owner, unit) for uow_id in ids),
        )
        if decided:
            _decide(connection, ids, last, store)


def _decide(connection: sqlite3.Connection, ids: list[str], last: int, store: str) -> None:
    text = '{"n":1}'
    digest = sha256_hex(text.encode())
    numbered = list(enumerate(ids))
    connection.executemany(
        "INSERT INTO unit_of_work (uow_id, status, created_ts, space_id, band) VALUES (?, 'committed', ?, ?, 'GREEN')",
        ((uow_id, now_text(), SPACE) for uow_id in ids),
    )
    connection.executemany(
        "INSERT INTO uow_ledger (commit_seq, unit, space_seq, context, writes_root, write_count, nodes)"
        " SELECT ?, rowid, ?, x'', x'', 1, x'' FROM unit_of_work WHERE uow_id = ?",
        ((last + 1 + n, last + 1 + n, uow_id) for n, uow_id in numbered),
    )
    connection.executemany(
        "INSERT INTO uow_heads (store, space_id, key, version, digest, size) VALUES (?, ?, ?, ?, ?, ?)",
        ((store, SPACE, f"r{n}", last + 1 + n, digest, len(text)) for n, _ in numbered),
    )
    connection.executemany(
        "INSERT INTO uow_redo (commit_seq, seq, uow_id, store, space_id, key, operation, payload)"
        " VALUES (?, 0, ?, ?, ?, ?, 'create', ?)",
        ((last + 1 + n, uow_id, store, SPACE, f"r{n}", text.encode()) for n, uow_id in numbered),
    )
