"""Several statements in one round trip: in their order, with psycopg's values and errors, and nothing left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

psycopg = pytest.importorskip("psycopg")

from memoryos_uow.engines import _pg_wire  # noqa: E402 - only where there is a driver
from memoryos_uow.engines._pg_wire import Statement, array_text, exchange  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def connection(pg_url: str) -> Iterator[Any]:
    """A connection in which every statement commits by itself."""
    with psycopg.connect(pg_url, autocommit=True) as opened:
        yield opened


def rows(connection: Any, text: str, *values: Any) -> list[tuple[Any, ...]]:
    """What one statement answers."""
    return exchange(connection, [Statement(text, values)])[0].fetchall()


def prepared(connection: Any) -> int:
    """How many statements of ours the connection has prepared."""
    [(count,)] = connection.execute("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'uow%'").fetchall()
    return int(count)


def test_answers_come_in_order(connection: Any) -> None:
    """Rows, counts, the command's name and columns are each statement's own."""
    answers = exchange(
        connection,
        [
            Statement("BEGIN"),
            Statement("CREATE TABLE t (x BIGINT, y TEXT)"),
            Statement("INSERT INTO t VALUES (%s, %s), (%s, %s)", (1, "a", 2, None)),
            Statement("UPDATE t SET y = %(new)s WHERE x < %(below)s OR y = %(new)s", {"below": 2, "new": "b%"}),
            Statement("SELECT x, y AS why, '100%%' FROM t ORDER BY x"),
            Statement("COMMIT"),
        ],
    )
    assert [answer.rowcount for answer in answers] == [-1, -1, 2, 1, 2, -1]
    assert [answer.status for answer in answers] == [
        "BEGIN",
        "CREATE TABLE",
        "INSERT 0 2",
        "UPDATE 1",
        "SELECT 2",
        "COMMIT",
    ]
    assert answers[4].fetchall() == [(1, "b%", "100%"), (2, None, "100%")]
    assert [column[0] for column in answers[4].description or []] == ["x", "why", "?column?"]
    assert answers[0].description is None
    assert answers[0].fetchall() == []
    assert exchange(connection, []) == []


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ('it\'s \\ "quoted" \u00e9\U0001f600', "TEXT"),
        (2**62, "BIGINT"),
        (0.1, "FLOAT8"),
        (True, "BOOLEAN"),
        (b"\x00\xff'", "BYTEA"),
        (None, "TEXT"),
        ([1, None, -(2**40)], "BIGINT[]"),
        (['a"b\\c', None, "", "NULL", "{},", " \u00e9 "], "TEXT[]"),
        ([b"\x00\xff\\", None, b""], "BYTEA[]"),
        ([0.5, 1.5], "FLOAT8[]"),
        ([], "TEXT[]"),
        ([None], "TEXT[]"),
    ],
)
def test_a_value_comes_back_as_it_was(connection: Any, value: Any, kind: str) -> None:
    """Also when the statement is prepared by then."""
    for _ in range(3):
        assert rows(connection, f"SELECT CAST(%s AS {kind})", value) == [(value,)]
    assert prepared(connection) == 1


def test_arrays_of_other_things_are_left_to_psycopg() -> None:
    """Only texts, whole numbers and bytes are written here."""
    assert array_text([1.5]) is None
    assert array_text([True]) is None
    assert array_text(["a", 1]) is None
    assert array_text(["a", None]) == ('{"a",NULL}', 1009)


def test_the_first_error_is_raised_and_nothing_behind_it_is_done(connection: Any) -> None:
    """As psycopg would raise it; the connection serves on."""
    connection.execute("CREATE TABLE t (x BIGINT PRIMARY KEY)")
    with pytest.raises(psycopg.errors.UniqueViolation) as raised:
        exchange(
            connection, [Statement("INSERT INTO t VALUES (%s)", (1,)), *[Statement("INSERT INTO t VALUES (1)")] * 2]
        )
    assert raised.value.diag.constraint_name == "t_pkey"
    assert rows(connection, "SELECT count(*) FROM t") == [(0,)]
    with pytest.raises(psycopg.DataError):
        rows(connection, "SELECT %s", "a\0b")
    assert rows(connection, "SELECT 1") == [(1,)]
    assert connection.info.transaction_status == 0


def test_a_statement_is_prepared_when_it_comes_again(connection: Any) -> None:
    """Not the first time, not twice in one exchange, not where that is forbidden, and anew once it was forgotten."""
    twice = [Statement("SELECT CAST(%s AS TEXT)", (n,)) for n in "ab"]
    exchange(connection, twice[:1])
    assert prepared(connection) == 0
    assert [answer.fetchall() for answer in exchange(connection, twice)] == [[("a",)], [("b",)]]
    assert prepared(connection) == 1
    connection.execute("DEALLOCATE ALL")
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        exchange(connection, twice)
    assert [answer.fetchall() for answer in exchange(connection, twice)] == [[("a",)], [("b",)]]
    connection.prepare_threshold = None
    before = prepared(connection)
    for _ in range(3):
        rows(connection, "SELECT CAST(%s AS BIGINT)", 1)
    assert prepared(connection) == before


def test_only_so_many_are_prepared(connection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that is always another one fills nothing up, here or at the server."""
    monkeypatch.setattr(_pg_wire, "_PREPARED_MAX", 2)
    monkeypatch.setattr(_pg_wire, "_MET_MAX", 3)
    for number in range(5):
        for _ in range(3):
            assert rows(connection, f"SELECT CAST(%s AS BIGINT) + {number}", 1) == [(1 + number,)]
    assert prepared(connection) == 2


def test_very_many_statements_go_in_parts(connection: Any) -> None:
    """More than fit into buffers on the way, in both directions."""
    long = "x" * 10_000
    answers = exchange(connection, [Statement("SELECT CAST(%s AS TEXT)", (long,)) for _ in range(1_200)])
    assert len(answers) == 1_200
    assert answers[-1].fetchall() == [(long,)]


def test_a_lost_connection_is_said_to_be_lost(connection: Any, pg_url: str) -> None:
    """Not an answer, and not a wait for ever."""
    with psycopg.connect(pg_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError):
        exchange(connection, [Statement("SELECT 1"), Statement("SELECT 2")])
