"""Whether a unit that failed is run again, and how long to wait before that: for `Ledger.run`, sync and async alike.

Promise: pure; whoever asks brings the clock, the randomness and the sleep. Only what is called ``retryable`` is tried
again. A unit of which nobody knows whether it is committed is tried again only under an idempotency key, which tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from memoryos_uow._backoff import delay_s
from memoryos_uow.errors import ConflictError, UnitOfWorkError, UnitTimeout, UsageError

ATTEMPTS: Final = 5
CONFLICT_FIRST_S: Final = 0.002
"""Least upper bound of the first pause after a conflict."""
CONFLICT_FACTOR: Final = 2.0
"""Else the bound is so many times what the attempt took: whoever comes back sooner meets the same others again."""
OUTAGE_FIRST_S: Final = 0.050
"""Upper bound of the first pause after anything else: a lock that others keep, a store out of reach."""
LARGEST_S: Final = 2.0


@dataclass(slots=True)
class Retrying:
    """The attempts at one piece of work: at most `attempts`, the first one included."""

    attempts: int
    has_key: bool
    failed: int = 0
    """How many have failed so far."""

    def pause_s(self, error: BaseException, fraction: float, *, took_s: float = 0.0) -> float | None:
        """Count an attempt that ended with `error`; return how long to wait before the next, None for no more.

        `fraction` is a random number in [0, 1), `took_s` how long the attempt took.
        """
        self.failed += 1
        if self.failed >= self.attempts or not may_help(error, has_key=self.has_key):
            return None
        conflict = isinstance(error, ConflictError)
        first_s = max(CONFLICT_FIRST_S, CONFLICT_FACTOR * took_s) if conflict else OUTAGE_FIRST_S
        return delay_s(self.failed - 1, fraction, first_s=first_s, largest_s=LARGEST_S)


def may_help(error: BaseException, *, has_key: bool) -> bool:
    """Say whether running the same unit again may end better."""
    if not isinstance(error, UnitOfWorkError) or isinstance(error, UnitTimeout):
        return False  # the deadline is one for all attempts
    return has_key if error.in_doubt else error.retryable


def check_attempts(attempts: object) -> int:
    """Return `attempts`.

    Raises:
        UsageError: not a positive integer.
    """
    if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
        raise UsageError(
            "The number of attempts is a positive integer.", hint="Nothing was written. For example attempts=5."
        )
    return attempts
