"""Statistics of a ledger in a database are those of a file with the same units."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memoryos_uow import Ledger
from memoryos_uow.stores import DocumentStore
from tests.postgres.numbers import opened, paused, put, rows
from tests.statistics.rows import Unit, make
from tests.statistics.rows import put as put_in_file
from tests.statistics.test_ask import BY, edges, units

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DIGEST = bytes(32)
EXAMPLES = int(os.environ.get("MEMORYOS_UOW_STATISTICS_EXAMPLES", "3"))
_names = itertools.count()


def put_in_database(url: str, given_units: Iterable[Unit]) -> None:
    """Put units into the database, row by row, in the place of all that are there."""
    writes = itertools.count(1)
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE unit_of_work, uow_writes, uow_ledger")
        for number, unit in enumerate(given_units, 1):
            stores = unit.stores if unit.committed else ()
            uow_id = f"unit-{number}"
            connection.execute(
                "INSERT INTO unit_of_work (uow_id, status, created_ts, band, space_id, actor_id, store_count,"
                " total_bytes_written, retry_count, error_type, failed_store)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    uow_id,
                    unit.status,
                    unit.created,
                    unit.band,
                    unit.space,
                    unit.actor,
                    len(stores),
                    sum(n_bytes for _, _, n_bytes in stores),
                    unit.retries,
                    unit.error,
                    unit.failed_store,
                ),
            )
            ids = [
                (next(writes), uow_id, name, unit.created, 0 if part else n_bytes)
                for name, count, n_bytes in stores
                for part in range(count)
            ]
            with connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO uow_writes (id, uow_id, store_name, ts, bytes_written) VALUES (%s, %s, %s, %s, %s)",
                    ids,
                )
            if unit.committed:
                commit_us = None if unit.us is None else unit.us // 2
                connection.execute(
                    "INSERT INTO uow_ledger (commit_seq, unit, space_seq, context, writes_root, write_count,"
                    " first_write, execution_us, commit_us, nodes) VALUES (%s, %s, 1, %s, %s, %s, %s, %s, %s, %s)",
                    (number, uow_id, DIGEST, DIGEST, len(ids), ids[0][0] if ids else None, unit.us, commit_us, DIGEST),
                )


def told(ledger: Ledger, **question: Any) -> dict[str, Any]:
    """The answer; of units that took equally long the order differs."""
    answer = ledger.stats(**question).as_dict()
    answer["slowest"] = [one["execution_us"] for one in answer["slowest"]]
    return answer


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(units(), max_size=12), st.data())
def test_the_same_units_have_the_same_statistics(
    pg_url: str, tmp_path: Path, some: list[Unit], data: st.DataObject
) -> None:
    """Every question: bands, spaces, times, and all groups."""
    odd = [
        Unit(created="2026-12-01 00:30:00+01:00", space="alice"),
        Unit(created="yesterday", band=None, space=None, stores=(("notes", 1, 1), ("photos", 2, 3))),
    ]
    path = make(tmp_path / f"{next(_names)}.db")
    with opened(pg_url) as database, Ledger.open(path, stores=[DocumentStore("notes")]) as file:
        put_in_file(path, [*some, *odd])
        put_in_database(pg_url, [*some, *odd])
        for by in (None, *BY):
            assert told(database, by=by) == told(file, by=by)
            question: dict[str, Any] = {
                "by": by,
                "band": data.draw(st.sampled_from([None, "GREEN", "RED"])),
                "space_id": data.draw(st.sampled_from([None, "alice", "=", "nobody"])),
                "since": data.draw(edges),
                "until": data.draw(edges),
            }
            assert told(database, **question) == told(file, **question), question


def test_percentiles_are_the_nearest_rank(pg_url: str, tmp_path: Path) -> None:
    """Exactly, for every number of units up to a hundred."""
    path = make(tmp_path / "memory.db")
    some = [Unit(us=7 * number % 101) for number in range(100)]
    with opened(pg_url) as database, Ledger.open(path) as file:
        put_in_file(path, some)
        put_in_database(pg_url, some)
        assert told(database) == told(file)


def test_units_without_a_number_are_counted(pg_url: str) -> None:
    """With their writes and bytes; how long they took is known later."""
    with opened(pg_url) as ledger:
        with paused(ledger):
            put(ledger, "a")
            found = ledger.stats(by="store")
            assert (found.total.committed, found.total.writes, found.total.execution.count) == (1, 1, 0)
            assert [(group.name, group.writes, group.bytes > 0) for group in found.groups] == [("notes", 1, True)]
        assert ledger.stats().total.execution.count == 1
        assert rows(pg_url, "SELECT count(*) FROM uow_coordination") == [(0,)]
