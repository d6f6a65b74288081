"""A process that is killed in the middle of its work leaves whole units and nothing of others."""

from __future__ import annotations

import random
import signal
from typing import TYPE_CHECKING, Final

from memoryos_uow import Ledger
from tests.units import four_stores, rows, start

if TYPE_CHECKING:
    from pathlib import Path

KILLS: Final = 20
UNITS_MAX: Final = 8

WORKER: Final = """
    import itertools, sys
    from memoryos_uow import Ledger
    from tests.units import OwnError, four_stores
    ledger = Ledger.open(sys.argv[1], stores=four_stores())
    for number in itertools.count():
        name = f"{sys.argv[2]}-{number}"
        try:
            with ledger.unit(space_id="s", band="GREEN", correlation_id=name) as uow:
                uow["notes"].create(name, {"text": f"milk {name}"})
                if number % 3 == 1: uow.sql("SELECT 1")
                uow["orders"].create(name, {"n": number, "what": name})
                uow["photos"].create(name, name.encode() * 10)
                if number % 5 == 4: raise OwnError(name)
        except OwnError:
            continue
        print(name, flush=True)
"""


def kill_after(path: Path, life: int, lines: int, spin: int) -> set[str]:
    """Let a worker report some units, and kill it a little later; return the units that it reported."""
    worker = start(WORKER, path, life)
    assert worker.stdout is not None
    told = [worker.stdout.readline().strip() for _ in range(lines)]
    sum(range(spin))  # a little of our own work, so that the kill comes at different points of the worker's
    worker.send_signal(signal.SIGKILL)
    rest, _ = worker.communicate()
    assert worker.returncode == -signal.SIGKILL
    return {*told, *rest.split()}


def test_a_killed_process_leaves_whole_units(tmp_path: Path) -> None:
    """After each of twenty kills: what was reported is there, every unit is in all its stores or in none."""
    path, chance = tmp_path / "memory.db", random.Random(20261122)
    told: set[str] = set()
    for life in range(KILLS):
        told |= kill_after(path, life, chance.randrange(1, UNITS_MAX), chance.randrange(200_000))
        with Ledger.open(path, stores=four_stores()) as ledger:
            committed = {record.correlation_id for record in ledger.units(status="committed", limit=10_000)}
            assert told <= committed
            assert set(ledger["notes"].keys(space_id="s")) == committed
            assert set(ledger["orders"].keys(space_id="s")) == committed
            assert set(ledger["photos"].keys(space_id="s")) == committed
            newest = [name for name in committed if str(name).startswith(f"{life}-")]
            for name in map(str, newest):
                assert ledger["notes"].get(name, space_id="s") == {"text": f"milk {name}"}
                assert ledger["orders"].get(name, space_id="s")["what"] == name
                assert ledger["photos"].get(name, space_id="s") == name.encode() * 10
                assert [hit.key for hit in ledger["notes"].search(f'"milk {name}"', space_id="s", syntax=True)] == [
                    name
                ]
            assert ledger.validate() == []
            assert rows(path, "PRAGMA integrity_check") == [("ok",)]
            assert rows(path, "SELECT count(*) FROM uow_ledger") == [(len(committed),)]
            assert rows(path, "SELECT count(*) FROM uow_writes") == [(3 * len(committed),)]
            assert rows(path, "SELECT count(*) FROM uow_receipts") == [(len(committed),)]
            assert rows(path, "SELECT count(*), max(space_seq) FROM uow_ledger") == [(len(committed),) * 2]
