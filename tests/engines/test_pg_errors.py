"""What PostgreSQL's errors are called here, by their SQLSTATE."""

from __future__ import annotations

import traceback
from typing import Any

import psycopg
import pytest

from memoryos_uow.engines._pg_errors import is_lost, refused_connection, translate, without_values
from memoryos_uow.errors import (
    ConflictError,
    LedgerBusy,
    LedgerCorrupt,
    LedgerError,
    StoreError,
    UnitOfWorkError,
    UsageError,
)
from tests.engines.pg_engines import engine_at


def made(state: str, words: str = "in the server's words") -> psycopg.Error:
    """An error as psycopg would raise it for this SQLSTATE."""
    try:
        kind: Any = psycopg.errors.lookup(state)
    except KeyError:
        kind = type("Other", (psycopg.DatabaseError,), {"sqlstate": state})
    error: psycopg.Error = kind(words)
    return error


@pytest.mark.parametrize(
    ("state", "kind", "retryable"),
    [
        ("40001", ConflictError, True),
        ("40P01", ConflictError, True),
        ("26000", ConflictError, True),
        ("55P03", LedgerBusy, True),
        ("57014", LedgerBusy, True),
        ("53300", LedgerBusy, True),
        ("08006", LedgerError, True),
        ("57P01", LedgerError, True),
        ("23505", StoreError, False),
        ("25P02", StoreError, False),
        ("25006", LedgerError, False),
        ("42501", LedgerError, False),
        ("53100", LedgerError, False),
        ("XX001", LedgerCorrupt, False),
        ("22012", UsageError, False),
        ("42601", UsageError, False),
        ("0A000", UsageError, False),
        ("F0000", LedgerError, False),
    ],
)
def test_what_an_error_means(state: str, kind: type[UnitOfWorkError], *, retryable: bool) -> None:
    """Its kind, and whether the same again may help."""
    error = translate(made(state), "postgresql://db/memory")
    assert type(error) is kind
    assert error.retryable is retryable
    assert error.hint


def test_a_plan_that_no_longer_fits() -> None:
    """Somebody has altered a table: the same again is planned anew."""

    class Altered(psycopg.errors.FeatureNotSupported):
        """With the server's sentence."""

        @property
        def diag(self) -> Any:
            """Diagnostics of the server."""
            return type("Diag", (), {"message_primary": "cached plan must not change result type"})

    assert isinstance(translate(Altered("x"), "place"), ConflictError)


def test_what_means_that_the_connection_is_gone() -> None:
    """Whatever came without a SQLSTATE from where connections live; errors of Python's own are none."""
    assert is_lost(psycopg.OperationalError("server closed the connection"))
    assert is_lost(OSError("broken pipe"))
    assert not is_lost(psycopg.DataError("cannot be adapted"))
    assert not is_lost(made("40001"))
    assert isinstance(translate(OSError(), "place"), LedgerError)
    assert isinstance(translate(psycopg.DataError(), "place"), UsageError)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ('password authentication failed for user "me"', "user or the password"),
        ("fe_sendauth: no password supplied", "user or the password"),
        ('database "nowhere" does not exist', "no database"),
        ("FATAL: sorry, too many clients already", "takes no connection"),
        ("FATAL: the database system is starting up", "takes no connection"),
        ("could not translate host name", "cannot be reached"),
    ],
)
def test_why_a_connection_is_refused(words: str, said: str) -> None:
    """It tells it in words only; none of them is passed on."""
    error = refused_connection(psycopg.OperationalError(words), "place")
    assert said in str(error)
    assert words not in str(error)


def test_values_reach_no_error_and_no_traceback(pg_url: str) -> None:
    """The server quotes them in its details, and in data errors even in its main sentence."""
    with engine_at(pg_url) as engine:
        for sql, values in (
            ("INSERT INTO t(x) VALUES (?), (?)", (424242, 424242)),
            ("INSERT INTO t(x, y) VALUES (NULL, ?)", (424242,)),
            ("SELECT CAST(? AS BIGINT)", ("x424242",)),
            ("SELECT CAST(CAST(? AS TEXT) AS JSON)", ('{"424242"',)),
        ):
            tx = engine.begin()
            with pytest.raises(UnitOfWorkError) as caught:
                tx.execute(sql, values)
            tx.rollback()
            assert "424242" not in "".join(traceback.format_exception(caught.value))
            assert caught.value.__cause__ is not None


def test_an_error_of_pythons_own_is_chained_as_it_is() -> None:
    """It has no details of a server."""
    error = OverflowError("x")
    assert without_values(error) is error
