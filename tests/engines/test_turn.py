"""The turn among threads: handed over in the order in which it was asked for, and never lost."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from memoryos_uow.engines._turn import Turn
from tests.gathering import until


def waiting(turn: Turn, number: int, order: list[int]) -> threading.Thread:
    """A thread that waits for the turn, notes its number when it gets it, and gives it back."""

    def wait() -> None:
        assert turn.acquire()
        order.append(number)
        turn.release()

    thread = threading.Thread(target=wait)
    before = len(turn._waiting)
    thread.start()
    until(lambda: len(turn._waiting) == before + 1)
    return thread


def test_first_come_first_served() -> None:
    """Eight threads that wait get the turn in the order in which they came."""
    turn, order = Turn(), list[int]()
    assert turn.acquire()
    threads = [waiting(turn, number, order) for number in range(8)]
    turn.release()
    for thread in threads:
        thread.join()
    assert order == list(range(8))
    assert turn.acquire(blocking=False)


def test_nobody_overtakes() -> None:
    """Who releases the turn and asks for it again at once comes after those who waited."""
    turn, order = Turn(), list[int]()
    assert turn.acquire()
    threads = [waiting(turn, number, order) for number in range(2)]
    turn.release()
    assert not turn.acquire(blocking=False) or order == [0, 1]
    for thread in threads:
        thread.join()
    assert order == [0, 1]


def test_patience_ends() -> None:
    """A wait that is over in vain leaves nothing behind in the queue."""
    turn, order = Turn(), list[int]()
    assert turn.acquire()
    assert not turn.acquire(blocking=False)
    assert not turn.acquire(timeout=0.001)
    assert not turn._waiting
    thread = waiting(turn, 1, order)
    turn.release()
    thread.join()
    assert order == [1]


class Late:
    """A lock whose wait ends in vain, or is interrupted, in the very moment in which it is handed over."""

    def __init__(self, turn: Turn, error: type[BaseException] | None, *, in_time: bool) -> None:
        self.turn = turn
        self.error = error
        self.in_time = in_time

    def acquire(self, *_: object, **options: Any) -> bool:
        if options:
            if self.in_time:
                self.turn.release()  # what the holder does at this moment
            if self.error is not None:
                raise self.error
        return False

    def release(self) -> None:
        pass


@pytest.mark.parametrize("in_time", [True, False])
def test_handed_over_at_the_last_moment(monkeypatch: pytest.MonkeyPatch, in_time: bool) -> None:
    """A wait that runs out in the moment of the hand-over has the turn; one before it does not."""
    turn = Turn()
    assert turn.acquire()
    with monkeypatch.context() as patched:
        patched.setattr(threading, "Lock", lambda: Late(turn, None, in_time=in_time))
        assert turn.acquire(timeout=1) is in_time
    turn.release()
    assert turn.acquire(blocking=False)


@pytest.mark.parametrize("in_time", [True, False])
def test_interrupted_at_the_last_moment(monkeypatch: pytest.MonkeyPatch, in_time: bool) -> None:
    """An interrupted wait gives the turn on if it was handed over already, and leaves the queue otherwise."""
    turn = Turn()
    assert turn.acquire()
    with monkeypatch.context() as patched:
        patched.setattr(threading, "Lock", lambda: Late(turn, KeyboardInterrupt, in_time=in_time))
        with pytest.raises(KeyboardInterrupt):
            turn.acquire(timeout=1)
    assert not turn._waiting
    if not in_time:
        turn.release()
    assert turn.acquire(blocking=False)
