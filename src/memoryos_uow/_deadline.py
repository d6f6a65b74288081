"""A unit's deadline: the moment after which it may not commit any more.

Promise: reads the monotonic clock and nothing else; whoever waits asks for what is left and waits no longer than that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from memoryos_uow import _ambient
from memoryos_uow.errors import UnitTimeout, UsageError


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock, and the seconds that were allowed until then."""

    at_ns: int
    allowed_s: float

    @classmethod
    def after(cls, allowed_s: float) -> Self:
        """Return the moment `allowed_s` seconds from now."""
        return cls(_ambient.monotonic_ns() + round(allowed_s * 1e9), allowed_s)

    def left_s(self) -> float:
        """Return the seconds that are left: 0 once it has passed."""
        return max(0.0, (self.at_ns - _ambient.monotonic_ns()) / 1e9)

    def error(self, uow_id: str | None = None) -> UnitTimeout:
        """Return what a unit ends with that is past its deadline."""
        return UnitTimeout(
            f"The unit's deadline of {self.allowed_s:.3g} s has passed.",
            hint="Nothing was written. Run it again with more time, or with less to do.",
            uow_id=uow_id,
        )

    def refuse_if_passed(self, uow_id: str | None = None) -> None:
        """Raise UnitTimeout if it has passed."""
        if _ambient.monotonic_ns() >= self.at_ns:
            raise self.error(uow_id)


def check_timeout(timeout: object) -> float | None:
    """Return `timeout`, seconds, or None for no deadline.

    Raises:
        UsageError: not a positive, finite number.
    """
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < math.inf:
        raise UsageError(
            "The timeout is a positive number of seconds, or None.",
            hint="Nothing was written. For example timeout=5.0.",
        )
    return float(timeout)
