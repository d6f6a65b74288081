"""Several processes of several threads on one ledger, killed at random: nothing is lost, nothing is half there.

The suite takes a few seconds; MEMORYOS_UOW_SOAK=600 takes ten minutes for each number of processes, and says how many
kills and units that were, and how many units came from each place, where a process that is killed has a successor.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

from memoryos_uow import Ledger
from tests.units import four_stores, rows, start

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

SOAK_S: Final = float(os.environ.get("MEMORYOS_UOW_SOAK", "2"))
STORES: Final = ("notes", "orders", "embeddings", "photos")

WORKER: Final = """
    import itertools, os, sys, threading
    report = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    from memoryos_uow import Ledger
    from tests.units import OwnError, four_stores
    ledger = Ledger.open(sys.argv[1], stores=four_stores())
    def work(thread):
        for number in itertools.count():
            name = f"{sys.argv[2]}-{thread}-{number}"
            try:
                with ledger.unit(space_id="s", band="GREEN", correlation_id=name) as uow:
                    uow["notes"].create(name, {"text": f"milk {name}"})
                    if number % 7 == 6: uow.sql("SELECT 1")
                    uow["orders"].create(name, {"n": number, "what": name})
                    uow["embeddings"].create(name, [1, number])
                    uow["photos"].create(name, name.encode() * (1 + number % 2 * 8))
                    if number % 5 == 4: raise OwnError(name)
            except OwnError:
                continue
            os.write(report, f"{name}\\n".encode())
    for thread in range(2): threading.Thread(target=work, args=(thread,)).start()
"""


class Worker:
    """A process at work on the ledger, whose reports go to a file."""

    def __init__(self, ledger: Path, number: int, place: int) -> None:
        self.place = place
        self.reports = ledger.with_name(f"reports-{number}")
        self.process: subprocess.Popen[str] = start(WORKER, ledger, number, self.reports)

    def kill(self) -> str:
        """Kill it, and return what it said of errors."""
        self.process.send_signal(signal.SIGKILL)
        return self.process.communicate()[1]

    def reported(self) -> set[str]:
        """The units that it reported as committed."""
        return set(self.reports.read_text(encoding="utf-8").splitlines()) if self.reports.exists() else set()


def judge(path: Path, reported: set[str]) -> int:
    """Check everything; return how many units were committed."""
    with Ledger.open(path, stores=four_stores()) as ledger:
        records = ledger.units(limit=10_000_000)
        committed = {str(record.correlation_id) for record in records if record.status == "committed"}
        assert reported <= committed, "a unit that was acknowledged is lost"
        for store in STORES:
            assert set(ledger[store].keys(space_id="s")) == committed, f"{store} holds half a unit"
        for record in records[:200]:
            if record.status == "committed":
                assert ledger.receipt(record.uow_id).hash == record.receipt_hash
        assert ledger.validate() == []
        assert ledger.recover().in_doubt == ()
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    numbers = [number for (number,) in rows(path, "SELECT space_seq FROM uow_ledger ORDER BY commit_seq")]
    assert numbers == list(range(1, len(numbers) + 1)), "the space's history has a gap"
    return len(committed)


@pytest.mark.parametrize("count", [2, 8])
def test_processes_that_are_killed_at_random(tmp_path: Path, count: int) -> None:
    """While some are killed and others take their place: no violation, and never "the ledger is busy" in time."""
    path, chance = tmp_path / "memory.db", random.Random(count)
    Ledger.open(path, stores=four_stores()).close()
    workers = [Worker(path, number, number) for number in range(count)]
    everybody, said, kills = list(workers), list[str](), 0
    over = time.monotonic() + SOAK_S
    try:
        # A busy machine may need all of the time to start them: at least one is killed at work.
        while (time.monotonic() < over or not kills) and all(worker.process.poll() is None for worker in workers):
            time.sleep(chance.uniform(0.05, 0.4))
            busy = [number for number, worker in enumerate(workers) if worker.reported()]
            if not busy:
                continue
            victim = chance.choice(busy)
            said.append(workers[victim].kill())
            kills += 1
            workers[victim] = Worker(path, count + kills, victim)
            everybody.append(workers[victim])
    finally:
        said += [worker.kill() for worker in workers]
    assert {*said} == {""}, next(filter(None, said))
    reported = set().union(*(worker.reported() for worker in everybody))
    committed = judge(path, reported)
    by_place = Counter({worker.place: 0 for worker in workers})
    for worker in everybody:
        by_place[worker.place] += len(worker.reported())
    told = (
        f"{kills + count} kills, {committed} units, {len(reported)} acknowledged, by place {sorted(by_place.values())}"
    )
    sys.stdout.write(f"{count} processes: {told}\n")
    assert committed > 0
