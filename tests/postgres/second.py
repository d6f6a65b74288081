"""Units over a ledger in SQLite and databases of PostgreSQL beside it: killed at each step, then looked at."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import psycopg

from memoryos_uow import Ledger
from memoryos_uow._names import Durability
from memoryos_uow._open_ledger import OpenLedger
from memoryos_uow.engines._transaction import SQLiteTransaction
from memoryos_uow.stores import BlobStore, DocumentStore, PostgresStore, SQLiteFileStore
from memoryos_uow.testing._forks import fork, kill_own_process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memoryos_uow.abc import Store
    from memoryos_uow.testing._forks import Child

SPACE: Final = "second:store"
TIMEOUT_S: Final = 2.0
EVERY_STEP: Final = "MEMORYOS_UOW_EVERY_STEP"
"""Environment variable: if set, every step is tried, and not only some."""


@dataclass
class World:
    """A ledger with stores of several kinds; every unit leaves its number in each of them."""

    directory: Path
    urls: dict[str, str]
    """By store, its database's address."""
    two_phase: bool = False
    ledger_url: str | None = None
    """The ledger's own database; None: it is a SQLite file."""
    others: bool = True
    """Units write to stores beside the ledger that are not PostgreSQL, too."""
    last: int = 0

    def stores(self) -> list[Store]:
        """Make the stores."""
        made: list[Store] = [
            PostgresStore(name, url, two_phase=self.two_phase, timeout=TIMEOUT_S) for name, url in self.urls.items()
        ]
        if self.others:
            made += [SQLiteFileStore("archive", "archive.db"), BlobStore("photos", "photos", inline_below=10)]
        return [DocumentStore("notes", search=["text"]), *made]

    def open(self) -> Ledger:
        """Open the ledger, and so recover."""
        if self.ledger_url is not None:  # on a server that does not sync
            return Ledger.open(self.ledger_url, stores=self.stores(), busy_timeout=5.0, durability="normal")
        return Ledger.open(self.directory / "memory.db", stores=self.stores(), busy_timeout=5.0)

    def begin(self) -> World:
        """Write the first unit."""
        self.write(1)
        self.last = 1
        return self

    def write(self, number: int, ledger: Ledger | None = None) -> None:
        """Leave `number` in every store, in one unit; each kind of write is among them."""
        if ledger is None:
            with self.open() as opened:
                self.write(number, opened)
            return

        def unit(uow: Any) -> None:
            uow["notes"].upsert("n", {"text": f"unit {number}", "is": number})
            for name in self.urls:
                uow[name].get("n")  # so that the number of steps does not depend on the number
                if number % 2:
                    uow[name].create("odd", {"is": number})
                else:
                    uow[name].delete("odd")
                uow[name].upsert("n", {"is": number})
            if self.others:
                uow["archive"].upsert("n", {"is": number})
                uow["photos"].upsert("n", b"photo of unit %d" % number)
            uow.publish("written", {"is": number})

        ledger.run(unit, space_id=SPACE, band="GREEN", idempotency_key=f"unit {number}", attempts=1)

    def numbers(self, ledger: Ledger) -> set[int]:
        """What the stores say: one number, if all is well."""
        found = [ledger[name].get("n", space_id=SPACE)["is"] for name in ("notes", *self.urls)]
        for name in self.urls:
            odd = ledger[name].get("odd", space_id=SPACE)
            found.append(odd["is"] if odd is not None else max(found) - max(found) % 2)
        if self.others:
            found.append(ledger["archive"].get("n", space_id=SPACE)["is"])
            found.append(int(ledger["photos"].get("n", space_id=SPACE).split()[-1]))
        return set(found)

    def judge(self, allowed: set[int]) -> int:
        """Recover; demand that all stores agree on a number among `allowed`, and nothing is left over or in doubt."""
        with self.open() as ledger:
            report = ledger.recover()
            assert not report.in_doubt
            found = self.numbers(ledger)
            assert len(found) == 1, f"half of a unit: {found}"
            (number,) = found
            assert number in allowed, f"{number} is there, not {allowed}"
            engine = ledger._opened.engine
            with engine.reader() as reader:
                for table in ("uow_coordination", "uow_prepared", "uow_saved", "uow_redo"):
                    assert reader.rows(f"SELECT count(*) FROM {table}") == [(0,)], table
            assert self.prepared() == []
            self.last = number
        return number

    def settle(self, allowed: set[int]) -> int:
        """Judge, and demand that the next unit works and that what is there has its receipts."""
        number = self.judge(allowed)
        self.write(number + 1)
        self.last = number + 1
        with self.open() as ledger:
            assert self.numbers(ledger) == {number + 1}
            assert ledger.verify().ok
        return number

    def prepared(self) -> list[str]:
        """Transactions that are prepared in the databases."""
        found = []
        for url in self.urls.values():
            with psycopg.connect(url) as connection:
                rows = connection.execute("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
                found += [gid for (gid,) in rows.fetchall()]
        return found

    def marks(self, name: str = "orders") -> dict[str, bool]:
        """The markers in a store's database, by unit."""
        with closing(psycopg.connect(self.urls[name])) as connection:
            return dict(connection.execute("SELECT uow_id, committed FROM uow_marker").fetchall())


@dataclass
class Steps:
    """Counts the steps that a process takes: each statement to a server, and each commit of the ledger."""

    act: Callable[[], object] | None = None
    at: int = -1
    seen: list[str] = field(default_factory=list)

    def step(self, name: str) -> None:
        """Take a step; at the chosen one, do what is to be done."""
        self.seen.append(name)
        if self.act is not None and len(self.seen) - 1 == self.at:
            self.act()

    def watch(self) -> None:
        """Watch this process from now on: for children, which end afterwards."""
        steps, execute, commit = self, psycopg.Connection.execute, SQLiteTransaction.commit

        def executing(connection: Any, query: Any, *arguments: Any, **options: Any) -> Any:
            name = " ".join(str(query).split()[:2])
            steps.step(f"before {name}")
            answer = execute(connection, query, *arguments, **options)
            steps.step(f"after {name}")
            return answer

        def committing(tx: SQLiteTransaction) -> None:
            steps.step("before the ledger's commit")
            commit(tx)
            steps.step("after the ledger's commit")

        psycopg.Connection.execute = executing  # type: ignore[method-assign,assignment]
        SQLiteTransaction.commit = committing  # type: ignore[method-assign,assignment]


def decisive(steps: list[str]) -> int:
    """Return the number of the first step after which the unit is decided."""
    if "before PREPARE TRANSACTION" in steps:
        last = max(number for number, name in enumerate(steps) if name == "after PREPARE TRANSACTION")
        return steps.index("after the ledger's commit", last)
    return steps.index("after COMMIT", steps.index("after WITH marked"))


def chosen(steps: list[str], decided: int, *, begin: int = 0) -> list[int]:
    """Return the numbers of the steps to disturb: those around the decision and some of the others, or all if asked."""
    if os.environ.get(EVERY_STEP):
        return list(range(begin, len(steps)))
    near = range(decided - 2, decided + 3)
    return [at for at in range(begin, len(steps)) if at in near or (at - begin) % 7 == 3]


def crowd(world: World, place: Path, *, processes: int) -> None:
    """Kill a process at each step of a unit on records of its own; many recover; every unit is whole or nowhere."""

    def write(key: str) -> None:
        # Without recovering: nobody is to do that before all have died.
        opened = OpenLedger.open(
            world.directory / "memory.db",
            stores=world.stores(),
            durability=Durability.FULL,
            origin=None,
            migrate=True,
            busy_timeout=5.0,
            limits=None,
            allow_triggers=(),
            recover=False,
        )
        with Ledger(opened) as ledger, ledger.unit(space_id=SPACE, band="GREEN") as uow:
            for name in ("notes", *world.urls):
                uow[name].create(key, {"is": key})

    steps = steps_of(lambda: write("model"), place / "steps")
    numbers = chosen(steps, decisive(steps))
    keys = [f"k{at}" for at in numbers]
    for at, key in zip(numbers, keys, strict=True):
        ended, said = in_child(partial(write, key), act=kill_own_process, at=at).wait()
        assert ended == signal.SIGKILL, said
    children = [fork(lambda: world.open().close()) for _ in range(processes)]
    for child in children:
        ended, said = child.wait()
        assert (ended, said) == (None, "")
    with world.open() as ledger:
        ledger.recover()
    world.judge({world.last})
    with world.open() as ledger:
        for at, key in zip(numbers, keys, strict=True):
            there = [ledger[name].get(key, space_id=SPACE) is not None for name in ("notes", *world.urls)]
            assert there == [at >= decisive(steps)] * len(there), steps[at]
        assert ledger.verify().ok


def in_child(do: Callable[[], object], *, act: Callable[[], object] | None = None, at: int = -1) -> Child:
    """Run `do` in a forked child that acts at step number `at`."""

    def run() -> None:
        Steps(act, at).watch()
        do()

    return fork(run)


def steps_of(do: Callable[[], object], place: Path) -> list[str]:
    """Return the names of the steps that `do` takes when left alone, in a child."""

    def run() -> None:
        steps = Steps()
        steps.watch()
        do()
        place.write_text("\n".join(steps.seen))

    _, said = fork(run).wait()
    assert not said, said
    return place.read_text().splitlines()
