"""Moments as users give them and as the ledger keeps them: RFC 3339 UTC text with six decimals and ``Z``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from memoryos_uow.errors import UsageError

_A_TIME: Final = "For example 2026-11-22T19:20:31Z, or datetime.now(UTC)."


def check_time(since: str | datetime | None, name: str = "since") -> str | None:
    """Return the time `since` in the form in which the ledger keeps times, so that texts compare as times do.

    Raises:
        UsageError: not a time, or one without a zone; `name` is the argument's.
    """
    if since is None:
        return None
    try:
        moment = since if isinstance(since, datetime) else datetime.fromisoformat(since)
    except (TypeError, ValueError):
        raise UsageError(f"{name} is not a time.", hint=_A_TIME) from None
    if moment.tzinfo is None:
        raise UsageError(f"{name} needs a time zone.", hint=_A_TIME)
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise UsageError(f"{name} is before the year 1 or after 9999 in UTC.", hint="Leave it out.") from None
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
