"""How long to wait before trying again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memoryos_uow._backoff import FIRST_S, LARGEST_S, delay_s

FRACTIONS = st.floats(0, 1, exclude_max=True)


@given(st.integers(0, 10**9), FRACTIONS)
def test_delay_is_bounded_and_jittered_fully(attempt: int, fraction: float) -> None:
    """Every delay lies between nothing and the bound of its attempt, which doubles until the largest is reached."""
    bound = min(LARGEST_S, FIRST_S * 2 ** min(attempt, 64))
    assert delay_s(attempt, fraction) == fraction * bound
    assert 0 <= delay_s(attempt, fraction) < LARGEST_S


def test_bounds_double_from_the_first() -> None:
    """With the greatest jitter the first delays are first_s, 2, 4 and 8 times it, then largest_s for ever."""
    assert [delay_s(n, 1, first_s=1, largest_s=10) for n in range(6)] == [1, 2, 4, 8, 10, 10]
    assert delay_s(10**12, 0) == 0
