"""The order of commits that the ledger claims explains what every unit has read: a checker replays it.

Several processes run random units on few records, each at an isolation of its own, and report what each committed unit
read and wrote. Replayed in the order of ``commit_seq``, every read of a serializable unit must be what the records held
at that unit's place, and at the default every read of a record that the unit then wrote. A unit that wrote nothing has
no place; what a serializable one has read must have been true together at some moment.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import ConflictError, Ledger
from memoryos_uow.stores import DocumentStore
from tests.units import SPACE, rows, start

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


HOME: Final[dict[str, Any]] = {"space_id": SPACE, "band": "GREEN"}
WORKERS: Final = 4
UNITS: Final = 250

WORKER: Final = """
    import json, random, sys
    from memoryos_uow import Ledger

    path, number, units = sys.argv[1], sys.argv[2], int(sys.argv[3])
    chance = random.Random(int(number))
    lines = []

    def body(uow, isolation, name):
        report = {"id": uow.uow_id, "isolation": isolation, "reads": {}, "writes": {}}
        keys = chance.sample("abcdef", chance.randint(1, 4))
        for key in keys:
            report["reads"][key] = uow["notes"].get(key)
        for key in chance.sample("abcdef", chance.randint(0, 2)) + keys[: chance.randint(0, 2)]:
            if key in report["writes"]:
                continue
            if report["reads"].get(key) is not None and chance.random() < 0.2:
                uow["notes"].delete(key)
                report["writes"][key] = None
            else:
                uow["notes"].upsert(key, name)
                report["writes"][key] = name
        return report

    with Ledger.open(path, durability="normal") as ledger:
        print("ready", flush=True)
        sys.stdin.readline()
        for unit in range(units):
            isolation = chance.choice(["writes", "serializable"])
            done = ledger.run(body, space_id="shared:household", band="GREEN", isolation=isolation, attempts=1000,
                              args=(isolation, f"{number}-{unit}"))
            lines.append(done.value)
    print(json.dumps(lines), flush=True)
"""


@dataclass
class Observed:
    """What one committed unit has read and written; a value of None is no record."""

    id: str
    isolation: str
    reads: dict[str, Any]
    writes: dict[str, Any]


def anomalies(observed: Iterable[Observed], order: dict[str, int]) -> list[str]:
    """Replay the claimed order; return a sentence for every read that it does not explain."""
    found: list[str] = []
    state: dict[str, Any] = {}
    states = [dict(state)]
    units = list(observed)
    for unit in sorted((one for one in units if one.writes), key=lambda one: order[one.id]):
        for key, value in unit.reads.items():
            counts = unit.isolation == "serializable" or key in unit.writes
            if counts and state.get(key) != value:
                found.append(f"{unit.id} ({unit.isolation}) read {key}={value!r} where {state.get(key)!r} was")
        state.update(unit.writes)
        states.append(dict(state))
    for unit in units:
        if not unit.writes and unit.isolation == "serializable":
            held = any(all(one.get(key) == value for key, value in unit.reads.items()) for one in states)
            if not held:
                found.append(f"{unit.id} read {unit.reads} which never was")
    return found


def test_the_claimed_order_explains_every_read(ledger: Ledger) -> None:
    """Four processes, 1,000 random units on six records: no anomaly, and the replay ends in what the ledger holds."""
    observed = observe(ledger)
    order = {record.uow_id: record.commit_seq or 0 for record in ledger.units(status="committed", limit=10_000)}
    assert anomalies(observed, order) == []
    writers = sorted((one for one in observed if one.writes), key=lambda one: order[one.id])
    assert {one.id for one in writers} == order.keys()
    state: dict[str, Any] = {}
    for unit in writers:
        state.update(unit.writes)
    held = {key: ledger["notes"].get(key, space_id=SPACE) for key in "abcdef"}
    assert held == {key: state.get(key) for key in "abcdef"}
    # Without collisions nothing would have been tested.
    assert rows(ledger.path, "SELECT count(*) > 20 FROM unit_of_work WHERE error_type = 'ConflictError'") == [(1,)]


def observe(ledger: Ledger) -> list[Observed]:
    """Let the workers run against each other; return what their committed units report."""
    workers = [start(WORKER, ledger.path, number, UNITS) for number in range(WORKERS)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    observed: list[Observed] = []
    for worker in workers:
        out, err = worker.communicate()
        assert worker.returncode == 0, err
        observed.extend(Observed(**line) for line in json.loads(out))
    assert len(observed) == WORKERS * UNITS
    return observed


@pytest.mark.parametrize(
    ("units", "count"),
    [
        ([("1", "writes", {"a": None}, {"a": 1}), ("2", "writes", {"a": None}, {"a": 2})], 1),
        ([("1", "writes", {"a": None}, {"a": 1}), ("2", "writes", {"a": None}, {"b": 2})], 0),
        ([("1", "writes", {"a": None}, {"a": 1}), ("2", "serializable", {"a": None}, {"b": 2})], 1),
        ([("1", "writes", {}, {"a": 1, "b": 1}), ("2", "serializable", {"a": 1, "b": None}, {})], 1),
        (
            [
                ("1", "writes", {}, {"a": 1}),
                ("2", "serializable", {"a": 1}, {}),
                ("3", "writes", {"a": 1}, {"a": None}),
            ],
            0,
        ),
    ],
    ids=["lost update", "stale, not written", "write skew", "half seen", "fine"],
)
def test_the_checker_sees_what_it_is_for(units: list[tuple[Any, ...]], count: int) -> None:
    """Each classic anomaly is reported, and what is allowed is not."""
    assert len(anomalies([Observed(*unit) for unit in units], {unit[0]: int(unit[0]) for unit in units})) == count


# What a serializable unit has not found


def searching(path: Path) -> Ledger:
    """A ledger whose notes can be searched."""
    return Ledger.open(path / "memory.db", stores=[DocumentStore("notes", search=["text"])], busy_timeout=0)


def test_nobody_can_add_a_hit_behind_a_serializable_search(tmp_path: Path) -> None:
    """It holds the lock from its search on, so that what it decides on what it did not find stays true."""
    from memoryos_uow import LedgerBusy

    with searching(tmp_path) as ledger, Ledger.open(ledger.path, busy_timeout=0) as other:
        with ledger.unit(**HOME, isolation="serializable") as uow:
            assert uow["notes"].search("milk") == []
            with pytest.raises(LedgerBusy), other.unit(**HOME) as meanwhile:
                meanwhile["notes"].create("n1", {"text": "milk"})
            uow["notes"].create("n2", {"text": "milk"})
        assert [hit.key for hit in ledger["notes"].search("milk", space_id=SPACE)] == ["n2"]


def test_at_the_default_a_search_locks_nothing(tmp_path: Path) -> None:
    """What it found may change before the unit ends."""
    with searching(tmp_path) as ledger, ledger.unit(**HOME) as uow:
        assert uow["notes"].search("milk") == []
        with ledger.unit(**HOME, nested="independent") as other:
            other["notes"].create("n1", {"text": "milk"})
        uow["notes"].create("n2", {"text": "milk"})
    assert uow.status == "committed"


def test_a_serializable_search_compares_what_was_read_before(tmp_path: Path) -> None:
    """Taking the lock is the moment at which the reads before it are compared."""
    with (
        searching(tmp_path) as ledger,
        pytest.raises(ConflictError),
        ledger.unit(**HOME, isolation="serializable") as uow,
    ):
        assert uow["notes"].get("n1") is None
        with ledger.unit(**HOME, nested="independent") as other:
            other["notes"].create("n1", {"text": "milk"})
        uow["notes"].search("milk")
