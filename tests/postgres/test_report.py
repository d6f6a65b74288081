"""The page about a ledger in a database: the same as about a file, and what its tables take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memoryos_uow import report
from memoryos_uow.verification import VerificationLevel
from tests.postgres.numbers import opened, put, rows

if TYPE_CHECKING:
    from memoryos_uow._records import Violation


def test_a_page_is_gathered_and_written(pg_url: str) -> None:
    """Statistics, validation, verification and storage are of the database."""
    with opened(pg_url) as ledger:
        put(ledger, "a")
        put(ledger, "r", band="RED")
        ledger.checkpoint()
        rows(pg_url, "CREATE TABLE theirs AS SELECT 1 AS n")
        rows(pg_url, "UPDATE unit_of_work SET commit_time_ms = -1 WHERE band = 'RED'")
        told: list[str] = []
        with ledger._opened.engine.reader() as reader:
            facts = report.gather_facts(reader, None, basic=False, verify=ledger.verify, progress=told.append)
    assert facts.name.startswith("mu_test")
    assert facts.statistics.total.units == 2
    assert facts.violations == {"metrics": 1}
    assert [violation.rule for violation in _violations(pg_url)] == ["metrics"]
    assert facts.verification is not None
    assert facts.verification.level is VerificationLevel.NONE
    taken = {one.name: one.n_bytes for one in facts.storage}
    assert taken["unit_of_work"] > 0
    assert taken["the application's own tables"] > 0
    assert facts.log_bytes is None
    assert facts.file_bytes >= sum(taken.values())
    page = report.render(facts)
    assert "write-ahead log" not in page
    assert "database " in page


def _violations(url: str) -> list[Violation]:
    with opened(url) as ledger:
        return list(ledger.validate())
