"""`Ledger.run`: the whole body again where that may help, and nothing written twice or half."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import ConflictError, Ledger, RecordExists, UnitTimeout, UsageError, _ambient
from tests.both import address_of, both
from tests.naming import plain_repr
from tests.test_deadline import Clock
from tests.units import MARKER, SPACE, OwnError, locked, start, statuses, throw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from memoryos_uow import UnitOfWork

pytestmark = both

HOME: Final[dict[str, Any]] = {"space_id": SPACE, "band": "GREEN"}


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the library would have slept."""
    asked: list[float] = []
    monkeypatch.setattr(_ambient, "sleep", asked.append)
    monkeypatch.setattr(_ambient, "random_fraction", lambda: 0.5)
    return asked


def disturbed(ledger: Ledger, times: int) -> Callable[..., int]:
    """A function that reads and writes a counter, disturbed by another unit the first few times."""
    calls: list[int] = []

    def add(uow: UnitOfWork, amount: int, *, note: str = "") -> int:
        before: int = uow["counters"].get("n", 0)
        if len(calls) < times:
            with ledger.unit(**HOME, nested="independent") as other:
                other["counters"].upsert("n", before + 100)
        calls.append(before)
        uow["counters"].upsert("n", before + amount)
        return before + amount

    return add


def test_a_function_is_run_as_one_unit(ledger: Ledger) -> None:
    """What it returns comes back with the receipt of its unit."""
    outcome = ledger.run(disturbed(ledger, 0), **HOME, args=(5,), kwargs={"note": "x"}, actor_id="alice")
    assert (outcome.value, outcome.replayed) == (5, False)
    assert outcome.receipt is not None
    assert outcome.receipt == ledger.receipt(outcome.receipt.uow_id)
    assert ledger.get(outcome.receipt.uow_id).actor_id == "alice"


def test_a_conflict_runs_the_whole_body_again(
    ledger: Ledger, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads anew; every attempt leaves its row, all are found together, and the last one counts the others."""
    Clock(monkeypatch)
    outcome = ledger.run(disturbed(ledger, 2), **HOME, args=(5,))
    assert outcome.value == 205
    assert ledger["counters"].get("n", space_id=SPACE) == 205
    assert pauses == [0.001, 0.002]
    assert outcome.receipt is not None
    committed = ledger.get(outcome.receipt.uow_id)
    attempts = ledger.units(correlation_id=committed.correlation_id)
    assert [(one.status, one.error_type, one.retry_count) for one in attempts] == [
        ("committed", None, 2),
        ("failed", "ConflictError", 1),
        ("failed", "ConflictError", 0),
    ]


def test_a_correlation_id_of_the_callers_own_is_kept(ledger: Ledger, pauses: list[float]) -> None:
    """All attempts carry it."""
    ledger.run(disturbed(ledger, 1), **HOME, args=(5,), correlation_id="req-42")
    assert len(ledger.units(correlation_id="req-42")) == 2


def test_attempts_are_bounded(ledger: Ledger, pauses: list[float]) -> None:
    """The last attempt's error is raised, and says how many there were; what others wrote meanwhile stays."""
    with pytest.raises(ConflictError) as caught:
        ledger.run(disturbed(ledger, 9), **HOME, args=(5,), attempts=3)
    assert len(pauses) == 2
    assert caught.value.__notes__ == ["This was attempt 3 of 3."]
    assert ledger["counters"].get("n", space_id=SPACE) == 300
    assert statuses(ledger).count("failed") == 3


def test_a_busy_ledger_is_tried_again(tmp_path: Any, pauses: list[float]) -> None:
    """A lock that others hold for too long is one of the things that may pass."""
    with Ledger.open(tmp_path / "memory.db", busy_timeout=0) as ledger:
        ledger.run(disturbed(ledger, 0), **HOME, args=(1,))
        holding = locked(ledger.path)
        holding.__enter__()

        def add(uow: UnitOfWork) -> None:
            uow["counters"].upsert("n", len(pauses))

        def free(_: float) -> None:
            pauses.append(0)
            if len(pauses) == 2:
                holding.__exit__(None, None, None)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_ambient, "sleep", free)
            ledger.run(add, **HOME)
        assert ledger["counters"].get("n", space_id=SPACE) >= 2


@pytest.mark.parametrize(
    "error", [OwnError("x"), ValueError("x"), RecordExists("x"), UsageError("x"), KeyboardInterrupt()], ids=plain_repr
)
def test_what_cannot_be_cured_is_raised_at_once(ledger: Ledger, pauses: list[float], error: BaseException) -> None:
    """The caller's own exceptions and refusals arrive unchanged after one attempt."""
    calls: list[int] = []

    def fail(uow: UnitOfWork) -> None:
        calls.append(1)
        uow["notes"].create("n1", 1)
        throw(error)

    with pytest.raises(type(error)) as caught:
        ledger.run(fail, **HOME, idempotency_key="k")
    assert (caught.value, len(calls), pauses) == (error, 1, [])
    assert not hasattr(error, "__notes__")
    assert ledger.run(lambda uow: uow["notes"].create("n1", 1), **HOME, idempotency_key="k").replayed is False


def test_a_pause_that_would_end_after_the_deadline(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one deadline for all attempts; the error names the one before."""
    clock = Clock(monkeypatch)
    monkeypatch.setattr(_ambient, "sleep", clock.go_on)
    monkeypatch.setattr(_ambient, "random_fraction", lambda: 0.5)
    with pytest.raises(UnitTimeout, match="passed before attempt 3") as caught:
        ledger.run(disturbed(ledger, 99), **HOME, args=(1,), attempts=99, timeout=0.0025)
    assert isinstance(caught.value.__cause__, ConflictError)
    assert "ConflictError" in str(caught.value)


def test_an_attempt_that_is_late_is_the_last(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit past the deadline of the whole is not run again."""
    clock = Clock(monkeypatch)
    calls: list[int] = []

    def slow(uow: UnitOfWork) -> None:
        calls.append(1)
        uow["notes"].create("n1", 1)
        clock.go_on(2)

    with pytest.raises(UnitTimeout):
        ledger.run(slow, **HOME, timeout=1)
    assert calls == [1]
    assert ledger["notes"].get("n1", space_id=SPACE) is None


def test_a_function_that_rolls_back(ledger: Ledger) -> None:
    """It is no failure: the value comes back without a receipt."""

    def think_again(uow: UnitOfWork) -> str:
        uow["notes"].create("n1", 1)
        uow.rollback()
        return "no"

    outcome = ledger.run(think_again, **HOME)
    assert (outcome.value, outcome.receipt, outcome.replayed) == ("no", None, False)


def test_hooks_run_for_every_attempt(ledger: Ledger, pauses: list[float]) -> None:
    """A failed attempt's hooks see its error, the committed one's the receipt."""
    seen: list[str] = []
    add = disturbed(ledger, 1)

    def hooked(uow: UnitOfWork) -> None:
        uow.after_commit(lambda receipt: seen.append(type(receipt).__name__))
        uow.after_rollback(lambda error: seen.append(type(error).__name__))
        add(uow, 1)

    ledger.run(hooked, **HOME)
    assert seen == ["ConflictError", "Receipt"]


def test_a_unit_that_is_committed_is_never_run_again(ledger: Ledger) -> None:
    """An error of the right sort that comes after the decision is raised, and nothing is done twice."""

    def interrupted(uow: UnitOfWork) -> None:
        uow["notes"].create("n1", 1)
        uow._wind_up = lambda: throw(ConflictError("late"))  # type: ignore[method-assign]

    with pytest.raises(ConflictError, match="late"):
        ledger.run(interrupted, **HOME)
    assert statuses(ledger) == ["committed"]


# Bad input


async def coroutine_function(uow: UnitOfWork) -> None:
    """Nobody would await it."""


def generator_function(uow: UnitOfWork) -> Iterator[int]:
    """Its body would run later."""
    uow["notes"].create("n1", 1)
    yield 1


async def async_generator_function(uow: UnitOfWork) -> AsyncIterator[int]:
    """Its body would run later."""
    yield 1


class AwaitedWhenCalled:
    """An object that is called, and then to be awaited."""

    async def __call__(self, uow: UnitOfWork) -> None:
        """Nobody would await it."""


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (None, "is a function"),
        ("f", "is a function"),
        (coroutine_function, "coroutine function"),
        (partial(coroutine_function), "coroutine function"),
        (AwaitedWhenCalled(), "coroutine function"),
        (generator_function, "generator"),
        (async_generator_function, "generator"),
        (lambda uow: (coroutine_function(uow), 1)[0], "to await"),
        (lambda uow: (generator_function(uow), 1)[0], "generator"),
        (lambda uow: (async_generator_function(uow), 1)[0], "generator"),
    ],
    ids=[
        "None",
        "str",
        "coroutine",
        "partial",
        "object",
        "generator",
        "async generator",
        "->coroutine",
        "->gen",
        "->agen",
    ],
)
def test_what_cannot_be_run(ledger: Ledger, fn: Any, says: str) -> None:
    """Whatever would go on after the unit's end is refused with a hint, and nothing of it is written."""
    with pytest.raises(UsageError, match=says) as caught:
        ledger.run(fn, **HOME)
    assert caught.value.hint
    assert "committed" not in statuses(ledger)


@pytest.mark.parametrize(
    "wrong",
    [
        {"args": "ab"},
        {"args": 1},
        {"kwargs": [("a", 1)]},
        {"kwargs": {1: 1}},
        {"attempts": 0},
        {"timeout": 0},
        {"idempotency_key": ""},
        {"idempotency_key": "k" * 256},
        {"band": "PURPLE"},
        {"space_id": ""},
    ],
    ids=plain_repr,
)
def test_wrong_options(ledger: Ledger, wrong: dict[str, Any]) -> None:
    """Every wrong option is refused before the function is called."""
    with pytest.raises(UsageError) as caught:
        ledger.run(lambda *_, **__: throw(OwnError()), **{**HOME, **wrong})
    assert caught.value.hint


@pytest.mark.parametrize("args", [({1, 2},), (object(),), (b"x",), ({"a": (1,)},), (float("nan"),)], ids=plain_repr)
def test_arguments_that_cannot_be_compared(ledger: Ledger, args: tuple[Any, ...]) -> None:
    """Under a key they must be JSON, or be told apart by arguments=; without a key anything goes."""
    with pytest.raises(UsageError, match="JSON") as caught:
        ledger.run(lambda uow, _: 1, **HOME, args=args, idempotency_key="k")
    assert "arguments=" in str(caught.value)
    assert ledger.run(lambda uow, _: 1, **HOME, args=args).value == 1
    assert ledger.run(lambda uow, _: 1, **HOME, args=args, idempotency_key="k", arguments={"n": 1}).value == 1


@pytest.mark.parametrize("result", [{1, 2}, object(), b"x", (1, 2), float("nan"), {1: 1}, "x" * (1 << 20)], ids=type)
def test_results_that_cannot_be_kept(ledger: Ledger, result: Any) -> None:
    """Under a key the result must come back as it was: or else nothing is written and the key stays free."""

    def write(uow: UnitOfWork) -> Any:
        uow["notes"].create("n1", 1)
        return result

    with pytest.raises(UsageError, match="result") as caught:
        ledger.run(write, **HOME, idempotency_key="k")
    assert caught.value.hint
    assert ledger["notes"].get("n1", space_id=SPACE) is None
    assert ledger.run(lambda uow: 1, **HOME, idempotency_key="k").replayed is False
    assert ledger.run(write, **HOME).value is result


def test_an_outcome_shows_no_payload(ledger: Ledger) -> None:
    """Its repr leaves out what the function returned."""
    assert MARKER not in repr(ledger.run(lambda _: MARKER, **HOME))


def test_run_inside_a_unit_is_refused(ledger: Ledger) -> None:
    """It would not be part of that unit; the outer one goes on."""
    with ledger.unit(**HOME) as uow:
        with pytest.raises(UsageError, match="open already"):
            ledger.run(lambda inner: inner["notes"].create("n1", 1), **HOME, idempotency_key="k")
        uow["notes"].create("n2", 2)
    assert ledger.run(lambda inner: inner["notes"].create("n1", 1), **HOME, idempotency_key="k").replayed is False


# Concurrent read-modify-writes

ADD: Final = """
    import sys
    from memoryos_uow import Ledger

    def add(uow):
        uow["counters"].upsert("n", uow["counters"].get("n", 0) + 1)

    with Ledger.open(sys.argv[1], durability="normal") as ledger:
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(int(sys.argv[2])):
            ledger.run(add, space_id="shared:household", band="GREEN", attempts=10_000)
"""


def test_a_thousand_concurrent_updates_lose_none(ledger: Ledger) -> None:
    """Four processes add 250 times each to one record: it ends at 1,000, and every commit added exactly one."""
    with ledger.unit(**HOME) as uow:
        uow["counters"].create("n", 0)
    workers = [start(ADD, address_of(ledger), 250) for _ in range(4)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        _, errors = worker.communicate()
        assert worker.returncode == 0, errors
    assert ledger["counters"].get("n", space_id=SPACE) == 1000
    assert len(ledger.units(status="committed", limit=10_000)) == 1001


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    """Units of threads that commit together read what the others wrote, or try again."""
    barrier = threading.Barrier(4)

    def add(uow: UnitOfWork) -> None:
        uow["counters"].upsert("n", uow["counters"].get("n", 0) + 1)

    def work(_: int) -> None:
        barrier.wait()
        for _ in range(10):
            ledger.run(add, **HOME, attempts=10_000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert ledger["counters"].get("n", space_id=SPACE) == 40


def test_a_closed_ledger_runs_nothing(ledger: Ledger) -> None:
    """Neither with a key nor without one."""
    ledger.close()
    both: list[dict[str, Any]] = [{}, {"idempotency_key": "k"}]
    for options in both:
        with pytest.raises(UsageError, match="closed"):
            ledger.run(lambda _: 1, **HOME, **options)
