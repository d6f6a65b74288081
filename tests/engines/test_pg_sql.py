"""From the SQL that the library writes to what PostgreSQL understands."""

from __future__ import annotations

from typing import Any

import pytest

from memoryos_uow.engines._pg_sql import foreign, own


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SELECT a FROM t WHERE b = ?", "SELECT a FROM t WHERE b = %s"),
        ("SELECT ?1, ?2, ?1", "SELECT %(p1)s, %(p2)s, %(p1)s"),
        ("SELECT :now, 'a:b', x::text", "SELECT %(now)s, 'a:b', x::text"),
        ("SELECT a % 2, '%?' FROM t -- why?", "SELECT a %% 2, '%%?' FROM t -- why?"),
        ("SELECT u.rowid FROM unit_of_work AS u", "SELECT u.uow_id FROM unit_of_work AS u"),
        ("WHERE a IS ? AND b IS NOT ?", "WHERE a IS NOT DISTINCT FROM %s AND b IS DISTINCT FROM %s"),
        ("WHERE a IS NULL AND b IS NOT NULL", "WHERE a IS NULL AND b IS NOT NULL"),
        ("INSERT OR IGNORE INTO t VALUES (?)", "INSERT INTO t VALUES (%s) ON CONFLICT DO NOTHING"),
        ("SELECT lower(hex(l.prev))", "SELECT encode(l.prev, 'hex')"),
        ("WHERE +store = ?", "WHERE store = %s"),
        ("SELECT CAST(a AS BLOB)", "SELECT CAST(a AS BYTEA)"),
    ],
)
def test_what_is_said_differently(sql: str, text: str) -> None:
    """Outside quotes and comments; percent signs are doubled everywhere."""
    assert own(sql).text == text


def test_parameters_are_bound_as_the_marks_want_them() -> None:
    """By place, by number, by name; whatever can be gone through will do."""
    assert own("SELECT ?").bind((1,)) == (1,)
    assert own("SELECT ?").bind(iter([1])) == (1,)  # type: ignore[arg-type]
    assert own("SELECT ?1").bind((1,)) == {"p1": 1}
    names: dict[str, Any] = {"a": 1}
    assert own("SELECT :a").bind(names) is names


def test_whose_row_an_insert_is() -> None:
    """It says which key comes back."""
    assert own("INSERT INTO unit_of_work (uow_id) VALUES (?)").table == "unit_of_work"
    assert own("SELECT 1").table is None


def test_of_the_applications_sql_only_marks_are_rewritten() -> None:
    """Everything else is its own affair."""
    assert foreign("SELECT rowid, a % 2 FROM t WHERE b IS ?").text == "SELECT rowid, a %% 2 FROM t WHERE b IS %s"
