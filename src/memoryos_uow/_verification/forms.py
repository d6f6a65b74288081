"""Step 5: the form of what no receipt speaks of, because it may change after the decision: times, retries, errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from memoryos_uow._verification.rows import LoggedRow, UnloggedRow

STATUSES: Final = frozenset({"pending", "committed", "rolled_back", "failed"})
_NUMBERS: Final = ("total_execution_time_ms", "commit_time_ms", "retry_count")
_TEXTS: Final = ("envelope_id", "error_type", "error_message", "failed_store", "error_ts")


def form_problem(row: LoggedRow | UnloggedRow) -> str | None:
    """Say which column of a unit's row holds what this library never writes there, or None."""
    for value in (row.total_execution_time_ms, row.commit_time_ms, row.retry_count):
        if value is not None and (value.__class__ is not int or value < 0):
            return f"{_named(row, value, _NUMBERS)} is no whole number from 0 up"
    if row.recovery_attempted not in (0, 1, None) or isinstance(row.recovery_attempted, float):
        return "recovery_attempted is neither 0 nor 1"
    for value in (row.envelope_id, row.error_type, row.error_message, row.failed_store, row.error_ts):
        if value is not None and value.__class__ is not str:
            return f"{_named(row, value, _TEXTS)} is no text"
    return None


def _named(row: LoggedRow | UnloggedRow, value: object, columns: tuple[str, ...]) -> str:
    return next(column for column in columns if getattr(row, column) is value)


def timing_problem(row: LoggedRow) -> str | None:
    """Say which time does not agree with its microseconds, or None.

    Both are filled in together after the commit; until then, and for ever where the process died, both are empty.
    """
    for microseconds, milliseconds, name in (
        (row.execution_us, row.total_execution_time_ms, "total_execution_time_ms"),
        (row.commit_us, row.commit_time_ms, "commit_time_ms"),
    ):
        if microseconds is not None and not _agree(microseconds, milliseconds):
            return f"{name} and the microseconds kept beside it do not agree"
    if row.commit_us is None and row.commit_time_ms is not None:
        return "commit_time_ms is there without the microseconds kept beside it"
    return None


def _agree(microseconds: Any, milliseconds: Any) -> bool:
    if microseconds.__class__ is not int or milliseconds.__class__ is not int:
        return False
    return microseconds >= 0 and milliseconds == (microseconds + 500) // 1000
