"""The SQL guard against arbitrary text: no foreign exception, no change, and nothing accepted that does harm."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memoryos_uow import Durability
from memoryos_uow.engines._sql_guard import SqlGuard
from memoryos_uow.engines.sqlite import SQLiteEngine
from memoryos_uow.errors import UsageError
from tests.engines import guarded

if TYPE_CHECKING:
    from collections.abc import Iterator

STORABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
WORDS = [
    "SELECT",
    "INSERT",
    "INTO",
    "VALUES",
    "(1)",
    "(1,2)",
    "UPDATE",
    "SET",
    "DELETE",
    "FROM",
    "REPLACE",
    "OR",
    "ROLLBACK",
    "ABORT",
    "WITH",
    "AS",
    "RETURNING",
    "*",
    "ON",
    "CONFLICT",
    "DO",
    "NOTHING",
    "app",
    "bare",
    "x=1",
    "a=1",
    "spied",
    "seen",
    "unit_of_work",
    "uow_writes",
    "[unit_of_work]",
    "uow_new",
    "temp.",
    "main.",
    "temp",
    "CREATE",
    "TABLE",
    "TRIGGER",
    "VIEW",
    "INDEX",
    "VIRTUAL",
    "USING",
    "fts5(a)",
    "AFTER",
    "BEGIN",
    "END",
    "DROP",
    "ALTER",
    "RENAME",
    "TO",
    "ADD",
    "COLUMN",
    "IF",
    "EXISTS",
    "NOT",
    "EXPLAIN",
    "QUERY",
    "PLAN",
    "PRAGMA",
    "user_version",
    "=7",
    "VACUUM",
    "ATTACH",
    "'f'",
    "DETACH",
    "SAVEPOINT",
    "s",
    "RELEASE",
    "COMMIT",
    "ANALYZE",
    "REINDEX",
    ";",
    "--",
    "/*",
    "*/",
    "'",
    "(",
    ")",
    ",",
]
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SQLiteEngine]:
    """An engine on the guarded file."""
    path = tmp_path_factory.mktemp("guard") / "memory.db"
    guarded.make(path)
    opened = SQLiteEngine.open(path, durability=Durability.NORMAL, busy_timeout_s=60)
    yield opened
    opened.close()


def check(engine: SQLiteEngine, sql: str) -> None:
    """Ask about a text; if it is accepted, run it on a copy and see that it stays within what a unit may do."""
    before = guarded.content(engine.path)
    try:
        statement = SqlGuard(engine).classify(sql, ())
    except UsageError:
        statement = None
    assert guarded.content(engine.path) == before
    if statement is None:
        return
    with closing(guarded.in_memory()) as copy:
        copy.execute("BEGIN")
        ours, changes = guarded.of_ours(copy), copy.total_changes
        try:
            copy.execute(sql).fetchall()
        except sqlite3.Error:
            assert not copy.in_transaction or guarded.of_ours(copy) == ours
            return
        assert guarded.of_ours(copy) == ours
        assert statement.operation is not None or copy.total_changes == changes


@settings(max_examples=150)
@given(sql=STORABLE)
@example(sql="QUERY PLAN SELECT 1")
@example(sql="\ufeffSELECT 1")
def test_any_text(engine: SQLiteEngine, sql: str) -> None:
    """Any text at all is answered or refused by a UsageError, and changes nothing."""
    check(engine, sql)


@settings(max_examples=400)
@given(sql=SENTENCES)
@example(sql="INSERT OR ROLLBACK INTO app VALUES (1,2)")
@example(sql="QUERY PLAN DELETE FROM bare")
def test_any_words_of_sql(engine: SQLiteEngine, sql: str) -> None:
    """Any words of SQL in any order are refused, or do no more than was said and nothing to the library's tables."""
    check(engine, sql)


VERBS = [
    *("INSERT INTO", "REPLACE INTO", "DELETE FROM", "UPDATE", "DROP TABLE", "DROP VIEW", "DROP INDEX", "DROP TRIGGER"),
    *("CREATE TABLE", "CREATE VIEW", "CREATE TEMP TABLE", "CREATE VIRTUAL TABLE", "ALTER TABLE", "SELECT * FROM"),
]
NAMES = [
    *("app", "bare", "spied", "seen", "spying", "words", "unit_of_work", '"UOW_writes"', "main.uow_writes"),
    *("uow_receipts", "uow", "uow_x", "other", "temp.other", "idx_uow_status", "bare_a", "trig_on_ours", "audits"),
]
REST = [
    *("", "VALUES (1)", "VALUES (1, 2)", "DEFAULT VALUES", "SET a = 1", "SET x = 1", "(a)", "AS SELECT 1", "WHERE 1"),
    *("RENAME TO uow_y", "RENAME TO unit_of_work", "RENAME TO fine", "ADD COLUMN uow_c", "USING fts5 (a)"),
    *("RETURNING *", "VALUES (1) RETURNING *", "RENAME TO uow"),
]
CLAUSES = st.tuples(st.sampled_from(VERBS), st.sampled_from(NAMES), st.sampled_from(REST)).map(" ".join)


@settings(max_examples=400)
@given(sql=CLAUSES)
def test_any_clauses_of_sql(engine: SQLiteEngine, sql: str) -> None:
    """Well-formed writes of every sort to every sort of name are refused, or leave the library's tables alone."""
    check(engine, sql)
