"""Stamps: always greater than what was given or met, and near the database's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memoryos_uow import _ambient
from memoryos_uow.engines._pg_clock import SLOT_BITS, StampClock

if TYPE_CHECKING:
    import pytest


def ticks(clock: StampClock, n: int = 1) -> list[int]:
    """The microseconds of the next `n` stamps."""
    return [clock.next() >> SLOT_BITS for _ in range(n)]


def test_clocks_share_no_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even in one and the same microsecond: each has drawn a number that stands in all of its stamps."""
    monkeypatch.setattr(_ambient, "monotonic_ns", lambda: 0)
    drawn = iter(f"{number:032x}" for number in (0x5 << 96, 0x6 << 96))
    monkeypatch.setattr(_ambient, "random_hex", lambda: next(drawn))
    one, other = StampClock(), StampClock()
    stamps = [(one.next(), other.next()) for _ in range(3)]
    assert [(a >> SLOT_BITS) == (b >> SLOT_BITS) and a != b for a, b in stamps] == [True] * 3


def test_stamps_rise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no time passes at all."""
    monkeypatch.setattr(_ambient, "monotonic_ns", lambda: 0)
    clock = StampClock()
    clock.adjust(1_000, 0)
    assert ticks(clock, 3) == [1_000, 1_001, 1_002]
    clock.adjust(5, 0)  # a database whose clock is behind, after a failover
    assert ticks(clock) == [1_003]


def test_stamps_follow_the_databases_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted on by the monotonic clock: nobody's wall clock is looked at."""
    now = [0]
    monkeypatch.setattr(_ambient, "monotonic_ns", lambda: now[0])
    monkeypatch.setattr(_ambient, "unix_ms", lambda: 10**15)
    clock = StampClock()
    clock.adjust(7_000_000, 0)
    now[0] = 2_000_000
    assert ticks(clock) == [7_002_000]


def test_what_was_met_is_surpassed() -> None:
    """Of another machine's, which may be ahead; what is no stamp teaches nothing."""
    clock = StampClock()
    clock.learn(2**60)
    clock.learn(5)
    clock.learn(None)
    assert 2**60 < clock.next() < 2**60 + 2 * 2**SLOT_BITS
