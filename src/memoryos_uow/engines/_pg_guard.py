"""Finds out what a SQL statement of the caller's would do on PostgreSQL, before it does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from memoryos_uow._names import Operation
from memoryos_uow.engines._sql_guard import Statement
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WRITES: Final = {"INSERT": Operation.CREATE, "UPDATE": Operation.UPDATE, "DELETE": Operation.DELETE}
_READS: Final = ("SELECT", "VALUES", "WITH", "TABLE")


class PostgresGuard:
    """Classifies statements of the application's by their first word."""

    def classify(
        self,
        sql: str,
        parameters: Sequence[object] | Mapping[str, object],
        *,
        inside: Any = None,  # noqa: ARG002
    ) -> Statement:
        """Return what `sql` would do.

        Raises:
            UsageError: it has no place in a unit of work.
        """
        word = sql.split(None, 1)[0].upper() if sql.split() else ""
        if word in _WRITES:
            return Statement(returns_rows=" RETURNING " in sql.upper(), changes_schema=False, operation=_WRITES[word])
        if word in _READS:
            return Statement(returns_rows=True, changes_schema=False, operation=None)
        raise UsageError(f"A statement that begins with {word!r} has no place in a unit.", hint="Nothing was written.")
