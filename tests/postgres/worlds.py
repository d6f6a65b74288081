"""A ledger in PostgreSQL with stores outside it, a program that works on it, and the judge of what is left.

Unit `n` of the program writes the record ``k<n>`` and the record ``shared`` to three stores, one of them in the ledger,
two outside, and publishes a message. A world is judged by what the program was told: what it was told is committed is
there, what it was told is not is nowhere, and whatever else is there is there in every store.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psycopg

from memoryos_uow import Ledger
from memoryos_uow.errors import UnitOfWorkError
from memoryos_uow.stores import DocumentStore, FileStore, SQLiteFileStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memoryos_uow.abc import Store
    from memoryos_uow.unit import UnitOfWork

SPACE: Final = "s"
UNITS: Final = 4
_NAMES: Final = ("notes", "archive", "files")
_WITHIN_S: Final = 60


def stores(place: Path) -> list[Store]:
    """One store in the ledger, two outside."""
    return [
        DocumentStore("notes"),
        SQLiteFileStore("archive", place / "archive.db"),
        FileStore("files", place / "files"),
    ]


def open_world(url: str, place: Path) -> Ledger:
    """Open the ledger with its stores."""
    return Ledger.open(url, stores=stores(place), busy_timeout=20.0)


@dataclass
class Told:
    """What the program was told of its units, by number."""

    committed: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)


class UnwantedError(Exception):
    """What the third unit ends with."""


def run(ledger: Ledger, tell: Callable[[str, int], None], *, first: int = 1, units: int = UNITS) -> None:
    """Do the units, and tell of each what came of it; where that is in doubt, nothing."""
    for number in range(first, first + units):
        try:
            ledger.run(
                _write,
                args=(number,),
                space_id=SPACE,
                band="GREEN",
                attempts=100,
                correlation_id=str(number),
                idempotency_key=f"key {number}" if number % 2 else None,
            )
        except UnwantedError:
            tell("refused", number)
        except KeyboardInterrupt:
            continue
        except UnitOfWorkError as error:
            if not error.in_doubt:
                tell("refused", number)
        else:
            tell("committed", number)


def _write(uow: UnitOfWork, number: int) -> None:
    for name in _NAMES:
        value = {"n": number} if name != "files" else str(number).encode()
        uow[name].upsert(f"k{number}", value)
        uow[name].upsert("shared", value)
    uow.publish("done", {"n": number})
    if number % 4 == 3:
        raise UnwantedError


def judge(url: str, place: Path, told: Told, *, first: int = 1, units: int = UNITS) -> None:
    """Recover, look at everything, and do one more unit."""
    with open_world(url, place) as ledger:
        ledger.recover()
        wait_until_alone(url)
        ledger.recover()
        there = {number for number in range(first, first + units) if _is_there(ledger, number)}
        assert told.committed <= there, f"lost: {told.committed - there}"
        assert not told.refused & there, f"refused, yet there: {told.refused & there}"
        if there:
            shared = [_value(ledger, name, "shared") for name in _NAMES]
            assert shared == [max(there)] * 3, f"shared is {shared}, and {there} are there"
        _judge_rows(ledger, url, there)
        run(ledger, lambda what, number: _is("committed", what), first=1001, units=1)
        assert _is_there(ledger, 1001)
        assert ledger.recover().in_doubt == ()
        assert ledger.validate() == []


def _judge_rows(ledger: Ledger, url: str, there: set[int]) -> None:
    newest = next(iter(ledger.units(status="committed", limit=1)), None)
    if newest is not None and (receipt := ledger.receipt(newest.uow_id)) is not None:
        receipt.wait(_WITHIN_S)
    units = [unit for unit in ledger.units(limit=1000) if unit.correlation_id is not None]
    committed = [unit for unit in units if unit.status == "committed"]
    assert {int(str(unit.correlation_id)) for unit in committed} == there
    assert len(committed) == len(there), "a unit is there twice"
    with psycopg.connect(url) as connection:
        for count, table in ((0, "uow_coordination"), (0, "uow_redo"), (0, "uow_pending"), (len(there), "uow_outbox")):
            found = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
            assert found == (count,), f"{table} has {found} rows"
    verified = ledger.verify()
    assert verified.ok, verified.problems


def _is(wanted: str, what: str) -> None:
    assert wanted == what


def _value(ledger: Ledger, name: str, key: str) -> int | None:
    value = ledger[name].get(key, space_id=SPACE)
    if value is None:
        return None
    return int(value) if name == "files" else int(value["n"])


def _is_there(ledger: Ledger, number: int) -> bool:
    found = [_value(ledger, name, f"k{number}") for name in _NAMES]
    assert found in ([None] * 3, [number] * 3), f"half of unit {number}: {found}"
    return found[0] is not None


def wait_until_alone(url: str) -> None:
    """Wait until the server has noticed of every client but this process that it is gone."""
    with psycopg.connect(url, autocommit=True) as connection:
        end = time.monotonic() + _WITHIN_S
        while connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'"
            " AND pid <> pg_backend_pid()"
        ).fetchone() != (0,):
            assert time.monotonic() < end, "a transaction of nobody's is open"
            time.sleep(0.005)
