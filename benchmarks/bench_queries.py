"""What is asked of a ledger that has been in use for long, with and without the specification's five indexes.

`python -m benchmarks.bench_queries` prints the times at 100,000 units; `--units N` asks for another number.
"""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import pytest

from benchmarks._command import options, section, workplace
from benchmarks._filled import INDEXES, QUIET_ACTOR, QUIET_SPACE, fill, time_of
from benchmarks._ratios import Contender, race, table
from benchmarks._work import unit_id_of
from benchmarks.counts import statements_heard
from memoryos_uow import Ledger
from memoryos_uow.stores import DocumentStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture


class Filled:
    """A ledger of many units, open, and the questions put to it; every answer is a list of rows."""

    def __init__(self, path: Path, units: int, *, indexed: bool) -> None:
        self.units = units
        fill(path, units)
        self.ledger = Ledger.open(path, stores=[DocumentStore("notes")])
        self.connection = sqlite3.connect(path, isolation_level=None)
        if not indexed:  # after opening: an opening puts them back
            for name in INDEXES:
                self.connection.execute(f"DROP INDEX {name}")

    def space(self) -> object:
        return self.ledger.units(space_id="space:0003", limit=50)

    def actor(self) -> object:
        return self.ledger.units(actor_id="actor:0010", limit=50)

    def quiet_space(self) -> object:
        return self.ledger.units(space_id=QUIET_SPACE, limit=50)

    def quiet_actor(self) -> object:
        return self.ledger.units(actor_id=QUIET_ACTOR, limit=50)

    def band_green(self) -> object:
        return self.ledger.units(band="GREEN", limit=50)

    def band_black(self) -> object:
        return self.ledger.units(band="BLACK", limit=50)

    def failed_last_hour(self) -> object:
        return self.ledger.units(status="failed", since=time_of(self.units - 3600), limit=50)

    def failed(self) -> object:
        return self.ledger.units(status="failed", limit=50)

    def committed(self) -> object:
        return self.ledger.units(status="committed", limit=50)

    def correlation(self) -> object:
        return self.ledger.units(correlation_id=f"req-{self.units // 6:08d}", limit=50)

    def newest(self) -> object:
        return self.ledger.units(limit=50)

    def one_unit(self) -> object:
        return self.ledger.get(unit_id_of(self.units // 2)).writes

    def its_writes_by_plain_sql(self) -> object:
        return self.connection.execute(
            "SELECT * FROM uow_writes WHERE uow_id = ? ORDER BY id", (unit_id_of(self.units // 2),)
        ).fetchall()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        self.ledger.close()


QUESTIONS: Final[dict[str, Callable[[Filled], object]]] = {
    "newest 50 of a space": Filled.space,
    "newest 50 of an actor": Filled.actor,
    "newest 50 of a space gone quiet": Filled.quiet_space,
    "newest 50 of an actor gone quiet": Filled.quiet_actor,
    "newest 50 GREEN": Filled.band_green,
    "newest 50 BLACK (1 in 200)": Filled.band_black,
    "newest 50 failed": Filled.failed,
    "failed in the last hour": Filled.failed_last_hour,
    "newest 50 committed": Filled.committed,
    "one correlation id": Filled.correlation,
    "newest 50 of all": Filled.newest,
    "`ledger.get`: one unit with its writes": Filled.one_unit,
    "the writes of one unit, by plain SQL": Filled.its_writes_by_plain_sql,
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """A ledger of 600 units with its indexes."""
    with Filled(tmp_path_factory.mktemp("filled") / "ledger.db", 600, indexed=True) as opened:
        yield opened


@pytest.mark.parametrize("question", QUESTIONS)
def test_question(benchmark: BenchmarkFixture, filled: Filled, question: str) -> None:
    """Every question finds something."""
    assert benchmark(lambda: QUESTIONS[question](filled))


INDEX_OF: Final = {
    "newest 50 of a space": "idx_uow_space_id",
    "newest 50 of an actor": "idx_uow_actor_id",
    "newest 50 of a space gone quiet": "idx_uow_space_id",
    "newest 50 of an actor gone quiet": "idx_uow_actor_id",
    "newest 50 GREEN": "idx_uow_band",
    "newest 50 BLACK (1 in 200)": "idx_uow_band",
    "newest 50 failed": "idx_uow_status_created",
    "failed in the last hour": "idx_uow_status_created",
    "newest 50 committed": "idx_uow_status_created",
    "one correlation id": "idx_uow_correlation_id",
    "newest 50 of all": "",  # from the last row backwards
    "`ledger.get`: one unit with its writes": "sqlite_autoindex_unit_of_work_1",
}
"""The index by which SQLite has to find the units; their writes lie side by side, from a row that the ledger knows."""


@pytest.mark.parametrize("question", [name for name in QUESTIONS if "plain SQL" not in name])
def test_every_question_is_answered_by_an_index_without_sorting(tmp_path: Path, question: str) -> None:
    """What is asked of a ledger is found in order, by an index or from the newest on: quick however large it is."""
    with statements_heard() as heard, Filled(tmp_path / "ledger.db", 50, indexed=True) as filled:
        heard.clear()
        QUESTIONS[question](filled)
        asked = [sql for sql in heard if sql.startswith("SELECT")]
        plans = [[str(row[3]) for row in filled.connection.execute(f"EXPLAIN QUERY PLAN {sql}")] for sql in asked]
    index = INDEX_OF[question]
    assert plans[0][0].startswith(f"SEARCH u USING INDEX {index} " if index else "SCAN u"), plans[0]
    for plan in plans:
        assert not [step for step in plan if "TEMP B-TREE" in step], plan
        assert not [step for step in plan if step.startswith("SCAN") and (index or step != "SCAN u")], plan


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one row per question."""
    given = options(__doc__, arguments, units=100_000, rounds=15, seed=1)
    with workplace(f"Questions to a ledger of {given.units:,} units") as folder, ExitStack() as stack:
        ledgers = [
            stack.enter_context(Filled(folder / f"{indexed}.db", given.units, indexed=indexed))
            for indexed in (True, False)
        ]
        rows = []
        for name, question in QUESTIONS.items():
            contenders = [
                Contender(which, partial(question, ledger))
                for which, ledger in zip(("with", "without"), ledgers, strict=True)
            ]
            quick, slow = race(contenders, rounds=given.rounds, seed=given.seed)
            rows.append((name, f"{quick.median_us:,.0f}", f"{slow.median_us:,.0f}", f"{slow.ratio:.1f}"))
        section("Median time", table(("", "with the indexes, us", "without, us", "x"), rows))


if __name__ == "__main__":
    main()
