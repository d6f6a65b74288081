"""The queue and its thread: bounded, never in anybody's way, and alive whatever receivers do."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

import pytest

from memoryos_uow.observers import _worker
from memoryos_uow.observers._worker import Worker
from memoryos_uow.testing._forks import fork
from tests.watching import WAIT_S

if TYPE_CHECKING:
    from collections.abc import Callable

posix = pytest.mark.skipif(os.name != "posix", reason="processes are forked")


def working(capacity: int = _worker.CAPACITY) -> Worker[Callable[[], object]]:
    """A worker whose items are calls, with one stage, which makes them."""
    return Worker([lambda call: call()], capacity)


def blocked(worker: Worker[Callable[[], object]]) -> threading.Event:
    """Have the worker's thread wait until the event is set; return once it does."""
    reached, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        reached.set()
        go_on.wait(WAIT_S)

    worker.put(wait)
    with worker._changed:
        worker._flushing += 1  # do not gather
        worker._changed.notify_all()
    assert reached.wait(WAIT_S)
    with worker._changed:
        worker._flushing -= 1
    return go_on


def test_everything_runs_in_order_in_another_thread() -> None:
    """Calls run one after the other, none of them in the thread that put it."""
    worker, ran = working(), list[tuple[int, int]]()

    def call(number: int) -> Callable[[], None]:
        return lambda: ran.append((number, threading.get_ident()))

    for number in range(100):
        worker.put(call(number))
    assert worker.flush(WAIT_S)
    assert [number for number, _ in ran] == list(range(100))
    assert threading.get_ident() not in {thread for _, thread in ran}
    assert len({thread for _, thread in ran}) == 1


def test_a_batch_goes_through_stage_by_stage() -> None:
    """A batch is done together: the first stage for all, then the next; what ends the batch comes last."""
    did: list[str] = []
    stages = [lambda item, name=name: did.append(f"{name} {item}") for name in ("first", "second")]
    worker = Worker[str](stages, at_rest=lambda: did.append("rest"))
    with worker._changed:
        worker._waiting.extend("ab")
    worker._empty()
    assert did == ["first a", "first b", "second a", "second b", "rest"]


def test_a_stage_that_raises_keeps_nothing_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """Each failure is counted, also one at the end of a batch; every other stage and item has its turn."""
    did: list[str] = []

    def fail(*_: object) -> None:
        raise ValueError("secret")

    worker = Worker[str]([fail, did.append], at_rest=fail)
    worker.put("a")
    worker.put("b")
    with caplog.at_level(logging.WARNING, "memoryos_uow"):
        assert worker.flush(WAIT_S)
    assert did == ["a", "b"]
    assert worker.failed >= 3  # once for each item, and for each batch
    assert "secret" not in caplog.text


def test_a_full_queue_drops_counts_and_reports(caplog: pytest.LogCaptureFixture) -> None:
    """What finds the queue full is dropped at once and counted in units; one warning says how many."""
    worker, ran = working(10), list[int]()
    go_on = blocked(worker)
    for _ in range(10):
        worker.put(lambda: ran.append(1))
    worker.put(lambda: ran.append(2))
    worker.put(lambda: ran.append(2), units=7)
    assert worker.dropped == 8
    with caplog.at_level(logging.WARNING, "memoryos_uow"):
        go_on.set()
        assert worker.flush(WAIT_S)
    assert ran == [1] * 10
    assert [record.getMessage() for record in caplog.records] == ["uow.telemetry_dropped dropped=8"]


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit("secret"), KeyboardInterrupt()])
def test_what_raises_does_not_end_the_thread(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """The next call runs all the same; only the first failure is reported, by its type."""
    worker, ran = working(), list[int]()

    def fail() -> None:
        raise error

    with caplog.at_level(logging.WARNING, "memoryos_uow"):
        for _ in range(3):
            worker.put(fail)
        worker.put(lambda: ran.append(1))
        assert worker.flush(WAIT_S)
    assert (ran, worker.failed) == ([1], 3)
    assert [record.getMessage() for record in caplog.records] == [
        f"uow.telemetry_failed error_type={type(error).__name__}"
    ]


def test_flush_is_bounded_and_says_so() -> None:
    """A call that does not end makes flush say False after its time, and True once it has ended."""
    worker = working()
    assert worker.flush(0.0)  # nothing was ever put
    go_on = blocked(worker)
    assert not worker.flush(0.001)
    go_on.set()
    assert worker.flush(WAIT_S)


def test_a_receiver_that_flushes_is_refused() -> None:
    """It would wait for itself."""
    worker, answers = working(), list[bool]()
    worker.put(lambda: answers.append(worker.flush(WAIT_S)))
    assert worker.flush(WAIT_S)
    assert answers == [False]


def test_the_thread_is_woken_once_for_many() -> None:
    """While it gathers, what is put wakes nobody until a quarter of the queue is full."""
    worker = working(400)
    woken: list[int] = []
    go_on = blocked(worker)
    notify = worker._changed.notify_all

    def counted() -> None:
        woken.append(len(worker._waiting))
        notify()

    worker._changed.notify_all = counted  # type: ignore[method-assign]
    for _ in range(300):
        worker.put(lambda: None)
    assert woken == [1, 100]
    go_on.set()
    assert worker.flush(WAIT_S)


def test_a_quarter_of_the_queue_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With that much to do the thread begins without being asked to and without gathering on."""
    monkeypatch.setattr(_worker, "GATHER_S", WAIT_S * 100)
    worker, done = working(40), threading.Event()
    for _ in range(9):
        worker.put(lambda: None)
    worker.put(done.set)
    assert done.wait(WAIT_S)


def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the interpreter, or at its limit of threads, what is put is dropped and counted."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    worker, ran = working(), list[int]()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        worker.put(lambda: ran.append(1), units=2)
    assert (worker.dropped, worker.flush(0.0)) == (2, True)
    worker.put(lambda: ran.append(2))
    assert worker.flush(WAIT_S)
    assert ran == [2]


@posix
def test_a_forked_child_tells_on_and_repeats_nothing() -> None:
    """The child has a thread and counts of its own; what its parent had queued is the parent's."""
    reading, writing = os.pipe()
    worker = working(1)
    go_on = blocked(worker)
    worker.put(lambda: os.write(writing, b"parent "))
    worker.put(lambda: None)  # dropped

    def child() -> None:
        assert worker.dropped == 0
        worker.put(lambda: os.write(writing, b"child "))
        assert worker.flush(WAIT_S)

    assert fork(child).wait() == (None, "")
    go_on.set()
    assert worker.flush(WAIT_S)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "child parent "
