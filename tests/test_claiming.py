"""One key, one commit: across threads, processes, failures and deaths, the body runs once and all get its answer."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import pytest

from memoryos_uow import (
    AsyncLedger,
    DuplicateUnit,
    InDoubtError,
    Ledger,
    LedgerBusy,
    Limits,
    UnitTimeout,
    UsageError,
    _ambient,
    _claiming,
    _idempotency,
    _owner,
)
from memoryos_uow.errors import LedgerError
from tests.both import address_of, both, change, sqlite_only
from tests.processes import forked
from tests.test_deadline import Clock
from tests.units import MARKER, SPACE, OwnError, locked, rows, run, start, statuses

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from memoryos_uow import AsyncUnitOfWork, Outcome, UnitOfWork

pytestmark = both

HOME: Final[dict[str, Any]] = {"space_id": SPACE, "band": "GREEN"}
KEYS: Final = "SELECT key, claim IS NULL, uow_id IS NULL, result FROM uow_idempotency ORDER BY key"

WORKER: Final = """
    import os, sys
    from memoryos_uow import Ledger

    ledger = Ledger.open(sys.argv[1])
    what = sys.argv[2]

    def body(uow):
        print("in", flush=True)
        if what != "die after":
            sys.stdin.readline()
        if what == "fail":
            raise ValueError
        uow["notes"].create("n1", "theirs")
        if what == "die after":
            uow.after_commit(lambda receipt: os._exit(9))
        return {"by": "them"}

    try:
        ledger.run(body, space_id="shared:household", band="GREEN", idempotency_key="k")
    except ValueError:
        pass
    sys.stdin.readline()
"""


def write(uow: UnitOfWork, value: object = "ours") -> object:
    """A body that can be run once only."""
    uow["notes"].create("n1", value)
    return value


def once(ledger: Ledger, *args: object, **options: Any) -> Outcome[object]:
    """Run it under the key that all use here."""
    return ledger.run(write, **{**HOME, "idempotency_key": "k", **options}, args=args)


def note(ledger: Ledger) -> object:
    """What stands in the record now."""
    return ledger["notes"].get("n1", space_id=SPACE)


@pytest.fixture
def workers(ledger: Ledger) -> Iterator[list[subprocess.Popen[str]]]:
    """Second processes, ended with the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for worker in started:
        worker.kill()
        worker.communicate()


def at_work(ledger: Ledger, what: str, workers: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    """A second process that is in its body, under the key."""
    worker = start(WORKER, address_of(ledger), what)
    workers.append(worker)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "in\n"
    return worker


def tell(worker: subprocess.Popen[str]) -> None:
    """Let the worker go on."""
    assert worker.stdin is not None
    worker.stdin.write("go\n")
    worker.stdin.flush()


def end(worker: subprocess.Popen[str]) -> None:
    """Kill it, and see to it that it is dead."""
    worker.send_signal(signal.SIGKILL)
    worker.wait()


def when_we_wait(patch: pytest.MonkeyPatch, act: Any) -> list[float]:
    """Have `act` called the first time that the library is about to sleep."""
    sleep, slept = _ambient.sleep, list[float]()

    def first(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            act()
        sleep(seconds)

    patch.setattr(_ambient, "sleep", first)
    return slept


# One after the other


def test_the_second_time_nothing_runs(ledger: Ledger) -> None:
    """Result and receipt are those of the first time, type by type; the ledger has one unit."""
    value = {"a": [1, 2.5, None, True, "ü"]}
    first, second = once(ledger, value), once(ledger, value)
    assert (first.replayed, second.replayed) == (False, True)
    assert second.value == value
    assert second.receipt == first.receipt
    assert statuses(ledger) == ["committed"]


def test_nothing_is_a_result_too(ledger: Ledger) -> None:
    """A function that returns nothing is not called again either."""
    calls: list[int] = []
    for _ in range(2):
        assert ledger.run(lambda _: calls.append(1), **HOME, idempotency_key="k").value is None
    assert calls == [1]


def test_a_unit_with_a_key_leaves_a_row_even_without_writes(ledger: Ledger) -> None:
    """That the request was carried out is a fact to keep: with a receipt over no writes that verifies."""
    outcome = ledger.run(lambda _: "nothing to do", **HOME, idempotency_key="k")
    assert outcome.receipt is not None
    assert (outcome.receipt.write_count, outcome.receipt.store_count) == (0, 0)
    assert ledger.receipt(outcome.receipt.uow_id).hash == outcome.receipt.hash
    again = ledger.run(lambda _: "something else", **HOME, idempotency_key="k")
    assert (again.value, again.receipt, again.replayed) == ("nothing to do", outcome.receipt, True)
    assert ledger.validate() == []


def test_keys_live_inside_a_space(ledger: Ledger) -> None:
    """The same key in another space is another request."""
    assert [once(ledger, space_id=space).replayed for space in ("a", "b", "a")] == [False, False, True]


def test_a_new_process_is_given_the_answer_too(ledger: Ledger) -> None:
    """What another process has done is not done again."""
    first = once(ledger)
    told = run(
        """
        import sys
        from memoryos_uow import Ledger
        with Ledger.open(sys.argv[1]) as ledger:
            done = ledger.run(lambda uow: 1 / 0, space_id="shared:household", band="GREEN", idempotency_key="k")
            print(done.value, done.receipt.hash, done.replayed)
        """,
        address_of(ledger),
    )
    assert first.receipt is not None
    assert told == f"ours {first.receipt.hash} True\n"


def test_the_same_key_with_other_arguments_is_an_error(ledger: Ledger) -> None:
    """Neither the old answer nor a second unit: the caller is told. The order of names does not matter."""
    once(ledger, {"a": 1, "b": 2})
    assert once(ledger, {"b": 2, "a": 1}).replayed
    different: list[object] = [{"a": 1}, {"a": 1, "b": 2.0}, [], None]
    for other in different:
        with pytest.raises(UsageError, match="other arguments") as caught:
            once(ledger, other)
        assert caught.value.hint
        assert MARKER not in str(caught.value)
    assert statuses(ledger) == ["committed"]


def test_arguments_may_be_named_by_the_caller(ledger: Ledger) -> None:
    """What tells requests apart need not be what the function is called with."""
    assert not once(ledger, 1, arguments={"order": 7}).replayed
    assert once(ledger, 2, arguments={"order": 7}).replayed
    with pytest.raises(UsageError, match="other arguments"):
        once(ledger, 1, arguments={"order": 8})


# Failures


def test_a_failed_attempt_leaves_the_key_free(ledger: Ledger) -> None:
    """Also one that rolls itself back, and one whose result cannot be kept."""
    with pytest.raises(OwnError):
        ledger.run(fail, **HOME, idempotency_key="k")
    assert rows(address_of(ledger), KEYS) == []
    ledger.run(lambda uow: uow.rollback(), **HOME, idempotency_key="k")
    assert rows(address_of(ledger), KEYS) == []
    assert not once(ledger).replayed
    assert rows(address_of(ledger), KEYS) == [("k", 1, 0, '"ours"')]


def fail(uow: UnitOfWork) -> None:
    """Write, and then think better of it."""
    uow["notes"].create("n1", 1)
    raise OwnError


def test_a_key_is_held_over_all_attempts(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two attempts nobody else may begin."""
    seen: list[list[tuple[Any, ...]]] = []
    monkeypatch.setattr(_ambient, "sleep", lambda _: seen.append(rows(address_of(ledger), KEYS)))

    def disturbed(uow: UnitOfWork) -> None:
        uow["notes"].get("n1")
        if not seen:
            with ledger.unit(**HOME, nested="independent") as other:
                other["notes"].upsert("n1", 1)
        uow["notes"].upsert("n1", 2)

    assert not ledger.run(disturbed, **HOME, idempotency_key="k").replayed
    assert seen == [[("k", 0, 1, None)]]


@sqlite_only("there no unit holds a lock that others need")
def test_a_release_that_finds_the_ledger_busy(ledger: Ledger) -> None:
    """The key is free for this process at once, and its row goes with the next claim."""
    holding = locked(ledger.path)

    def fail_while_locked(_: UnitOfWork) -> None:
        holding.__enter__()
        raise OwnError

    with pytest.raises(OwnError):
        ledger.run(fail_while_locked, **HOME, idempotency_key="k")
    holding.__exit__(None, None, None)
    assert rows(address_of(ledger), KEYS) == [("k", 0, 1, None)]
    ledger.run(lambda _: 1, **HOME, idempotency_key="other")
    assert rows(address_of(ledger), KEYS) == [("other", 1, 0, "1")]


def test_a_key_whose_release_was_lost_is_free_in_its_process(ledger: Ledger) -> None:
    """A claim that nobody is at any more keeps nobody waiting."""
    once(ledger)
    change(address_of(ledger), "UPDATE uow_idempotency SET claim = 'lost', owner = ?", (_owner.own_name(),))
    assert not ledger.run(lambda _: 2, **HOME, idempotency_key="k").replayed


# Two at a time


def test_one_process_executes_and_the_other_is_given_its_answer(
    ledger: Ledger, workers: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes second waits until the first has committed, and does nothing itself."""
    worker = at_work(ledger, "write", workers)
    slept = when_we_wait(monkeypatch, lambda: tell(worker))
    outcome = once(ledger)
    assert slept
    assert (outcome.value, outcome.replayed, note(ledger)) == ({"by": "them"}, True, "theirs")
    assert statuses(ledger) == ["committed"]


def test_whoever_waits_goes_on_when_the_first_fails(
    ledger: Ledger, workers: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed one frees the key, and the one that waited executes."""
    worker = at_work(ledger, "fail", workers)
    when_we_wait(monkeypatch, lambda: tell(worker))
    outcome = once(ledger)
    assert (outcome.value, outcome.replayed, note(ledger)) == ("ours", False, "ours")


def test_whoever_waits_goes_on_when_the_first_dies(
    ledger: Ledger, workers: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed process holds no key, however long its lease."""
    worker = at_work(ledger, "write", workers)
    when_we_wait(monkeypatch, lambda: end(worker))
    outcome = once(ledger)
    assert (outcome.value, outcome.replayed, note(ledger)) == ("ours", False, "ours")
    assert rows(address_of(ledger), KEYS) == [("k", 1, 0, '"ours"')]


def test_a_death_between_commit_and_answer(ledger: Ledger, workers: list[subprocess.Popen[str]]) -> None:
    """The unit is committed, nobody was told: whoever asks again under the key is."""
    worker = at_work(ledger, "die after", workers)
    assert worker.wait() == 9
    outcome = once(ledger)
    assert (outcome.value, outcome.replayed, note(ledger)) == ({"by": "them"}, True, "theirs")
    assert outcome.receipt is not None
    assert outcome.receipt == ledger.receipt(outcome.receipt.uow_id)


def test_a_living_process_keeps_its_key_beyond_its_lease(ledger: Ledger, workers: list[subprocess.Popen[str]]) -> None:
    """Who can be seen to be alive is waited for; whoever waits does so until its own deadline."""
    at_work(ledger, "write", workers)
    change(address_of(ledger), "UPDATE uow_idempotency SET expires_ms = 1")
    with pytest.raises(UnitTimeout):
        once(ledger, timeout=0.02)
    with pytest.raises(UnitTimeout), ledger.unit(**HOME, idempotency_key="k", timeout=0.02):
        pytest.fail("the block began")


def test_without_a_deadline_the_busy_timeout_bounds_the_waiting(
    ledger: Ledger, workers: list[subprocess.Popen[str]]
) -> None:
    """The error says that it is the key which is busy, and that trying again may help."""
    at_work(ledger, "write", workers)
    with (
        Ledger.open(address_of(ledger), busy_timeout=0.02) as impatient,
        pytest.raises(LedgerBusy, match="idempotency key") as caught,
    ):
        once(impatient)
    assert caught.value.retryable


def test_an_owner_that_cannot_be_seen_is_left_alone_for_its_lease(ledger: Ledger) -> None:
    """On another machine's word: after the lease the key is free, before it is not."""
    now = _ambient.unix_ms()
    for expires_ms, free in ((now + 60_000, False), (now - 1, True)):
        row = _idempotency.KeyRow("t", '["elsewhere", "", 1, 1]', None, None, None, expires_ms, now)
        assert (row.is_free, row.is_answer) == (free, False)
    assert not _idempotency.KeyRow("t", _owner.own_name(), None, None, None, 1, now).is_free
    assert not _owner.is_there("not a name")
    assert not _owner.is_there('["elsewhere", "", 1, 1]')


def test_threads_of_one_process(ledger: Ledger) -> None:
    """Eight threads under one key: the body runs once, and all get its result."""
    calls: list[int] = []
    barrier = threading.Barrier(8)

    def body(uow: UnitOfWork) -> int:
        calls.append(1)
        uow["notes"].create("n1", 1)
        return len(calls)

    def work(_: int) -> Outcome[int]:
        barrier.wait()
        return ledger.run(body, **HOME, idempotency_key="k")

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(work, range(8)))
    assert calls == [1]
    assert {outcome.value for outcome in outcomes} == {1}
    assert [outcome.replayed for outcome in outcomes].count(False) == 1


def test_an_answer_that_comes_between_looking_and_claiming(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found under the lock counts, not what was seen before it."""
    first = once(ledger)
    look, looks = _idempotency.look, list[int]()

    def look_too_early(*args: Any) -> Any:
        looks.append(1)
        return None if len(looks) == 1 else look(*args)

    monkeypatch.setattr(_idempotency, "look", look_too_early)
    assert once(ledger).receipt == first.receipt
    assert len(looks) == 2
    assert _claiming._at_work == {}


def test_a_claim_that_finds_the_ledger_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for as every lock: until the deadline, else for the busy timeout; no claim is left."""
    monkeypatch.setattr(_ambient, "sleep", Clock(monkeypatch).go_on)
    with Ledger.open(tmp_path / "memory.db", busy_timeout=0) as ledger:
        once(ledger, idempotency_key="before")
        with locked(ledger.path):
            with pytest.raises(UnitTimeout) as caught:
                ledger.run(lambda _: 1, **HOME, idempotency_key="k", timeout=0.02)
            assert isinstance(caught.value.__cause__, LedgerBusy)
            with pytest.raises(LedgerBusy):
                ledger.run(lambda _: 1, **HOME, idempotency_key="k")
        assert _claiming._at_work == {}
        assert not ledger.run(lambda _: 1, **HOME, idempotency_key="k").replayed


def test_a_claim_that_is_interrupted_right_after_it_was_made(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given back."""
    transactions = ledger._opened.coordinator.transactions
    apart = transactions.apart

    def interrupted(*args: Any, **options: Any) -> None:
        monkeypatch.setattr(transactions, "apart", apart)
        apart(*args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(transactions, "apart", interrupted)
    with pytest.raises(KeyboardInterrupt):
        once(ledger)
    assert rows(address_of(ledger), KEYS) == []


def test_nobody_waits_for_himself(ledger: Ledger) -> None:
    """A unit inside one with the same key would wait for ever: it is told so."""

    def again(uow: UnitOfWork) -> None:
        uow["notes"].create("n1", 1)
        with pytest.raises(UsageError, match="wait for itself") as caught:
            once(ledger, nested="independent")
        assert caught.value.hint

    ledger.run(again, **HOME, idempotency_key="k")
    assert statuses(ledger) == ["committed"]


def test_a_key_that_was_taken_over(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever lost its key commits nothing, and is given the other's answer."""
    monkeypatch.setattr(_ambient, "sleep", lambda _: None)
    with ledger.unit(**HOME) as other:
        other["notes"].create("other", 1)

    def body(uow: UnitOfWork) -> str:
        uow["notes"].create("n1", "ours")
        change(
            address_of(ledger),
            "UPDATE uow_idempotency SET claim = NULL, owner = NULL, uow_id = ?, result = '7', expires_ms = ?",
            (other.uow_id, _ambient.unix_ms() + 60_000),
        )
        return "ours"

    outcome = ledger.run(body, **HOME, idempotency_key="k")
    assert (outcome.replayed, outcome.receipt) == (True, other.receipt)
    assert str(outcome.value) == "7"
    assert note(ledger) is None


@pytest.mark.parametrize("lands", [True, False], ids=["it came through", "it did not"])
@sqlite_only("the answer is lost in SQLite's way; see tests/postgres")
def test_an_outcome_in_doubt_is_looked_up_before_the_body_runs_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, lands: bool
) -> None:
    """A commit that came through after all is found under its key; one that did not is tried again."""
    lose_one_answer(ledger, monkeypatch, lands=lands)
    outcome = once(ledger)
    assert (outcome.value, outcome.replayed, note(ledger)) == ("ours", lands, "ours")
    assert statuses(ledger).count("committed") == 1


@pytest.mark.parametrize("lands", [True, False], ids=["it came through", "it did not"])
@sqlite_only("the answer is lost in SQLite's way; see tests/postgres")
def test_an_outcome_in_doubt_is_looked_up_by_a_coroutine_too(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, lands: bool
) -> None:
    """`AsyncLedger.run` does as `Ledger.run` does."""
    lose_one_answer(ledger, monkeypatch, lands=lands)

    async def body(uow: AsyncUnitOfWork) -> object:
        uow["notes"].create("n1", "ours")
        return "ours"

    outcome = asyncio.run(AsyncLedger(ledger).run(body, **HOME, idempotency_key="k"))
    assert (outcome.value, outcome.replayed, note(ledger)) == ("ours", lands, "ours")
    assert statuses(ledger).count("committed") == 1


@sqlite_only("the answer is lost in SQLite's way; see tests/postgres")
def test_without_a_key_an_outcome_in_doubt_is_the_callers_affair(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It might be done twice, so it is raised at once."""
    lose_one_answer(ledger, monkeypatch, lands=True)
    with pytest.raises(InDoubtError) as caught:
        ledger.run(write, **HOME)
    assert not caught.value.retryable
    assert statuses(ledger) == ["committed"]


def lose_one_answer(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, *, lands: bool) -> None:
    """Have the next decision's commit fail in such a way that nobody knows whether it came through."""
    from memoryos_uow.engines._transaction import SQLiteTransaction

    transactions = ledger._opened.coordinator.transactions
    commit, apart, left = SQLiteTransaction.commit, transactions.apart, ["answer", "proof"]
    apart_now: list[int] = []

    def lose(self: SQLiteTransaction) -> None:
        if apart_now or "answer" not in left:
            return commit(self)
        left.remove("answer")
        if lands:
            commit(self)
            self.decided = False
        else:
            self._end(sound=False)
        self.answer_lost = True
        raise LedgerError("The disk failed.")

    def fail_to_prove(*args: Any, **options: Any) -> None:
        if "answer" not in left and "proof" in left:
            left.remove("proof")
            raise LedgerError("The disk failed again.")
        apart_now.append(1)
        try:
            apart(*args, **options)
        finally:
            apart_now.pop()

    monkeypatch.setattr(SQLiteTransaction, "commit", lose)
    monkeypatch.setattr(transactions, "apart", fail_to_prove)
    monkeypatch.setattr(_ambient, "sleep", lambda _: None)


# The with-block


def test_a_block_under_a_used_key_never_begins(ledger: Ledger) -> None:
    """It raises DuplicateUnit with the receipt; there is no row of it, and the thread may begin another unit."""
    first = once(ledger)
    uow = ledger.unit(**HOME, idempotency_key="k")
    with pytest.raises(DuplicateUnit) as caught, uow:
        pytest.fail("the block began")
    assert first.receipt is not None
    assert (caught.value.receipt, caught.value.uow_id) == (first.receipt, first.receipt.uow_id)
    assert (caught.value.retryable, bool(caught.value.hint), uow.status) == (False, True, "failed")
    assert isinstance(uow.error, DuplicateUnit)
    assert statuses(ledger) == ["committed"]
    with pytest.raises(UsageError, match="begun before"), uow:
        pass
    with ledger.unit(**HOME) as other:
        other["notes"].create("other", 1)
    assert other.status == "committed"


def test_a_block_uses_up_its_key(ledger: Ledger) -> None:
    """What a block has done `run` does not do again; it returned nothing."""
    with ledger.unit(**HOME, idempotency_key="k") as uow:
        uow["notes"].create("n1", 1)
    outcome = once(ledger)
    assert (outcome.value, outcome.replayed, outcome.receipt) == (None, True, uow.receipt)


@pytest.mark.parametrize("end", ["exception", "rollback", "refused"])
def test_a_failed_block_frees_its_key(ledger: Ledger, end: str) -> None:
    """However it ends without a commit."""
    with pytest.raises((OwnError, LedgerError, UsageError)), ledger.unit(**HOME, idempotency_key="k") as uow:
        uow["notes"].create("n1", 1)
        if end == "rollback":
            uow.rollback()
            assert rows(address_of(ledger), KEYS) == []
        if end == "refused":
            uow["notes"].create("n2", object())
        raise OwnError
    assert rows(address_of(ledger), KEYS) == []
    assert not once(ledger).replayed


def test_a_forked_child_leaves_its_parents_key_alone(ledger: Ledger) -> None:
    """A child that leaves the block does not free what its parent is at work on."""

    def leave(uow: UnitOfWork) -> None:
        with pytest.raises(UsageError):
            uow.__exit__(None, None, None)

    with ledger.unit(**HOME, idempotency_key="k") as uow:
        uow["notes"].create("n1", 1)
        forked(lambda: leave(uow))
        assert rows(address_of(ledger), KEYS) == [("k", 0, 1, None)]
    assert rows(address_of(ledger), KEYS) == [("k", 1, 0, None)]


# How long keys are kept


@sqlite_only("keys expire by the database's clock there, which no test can turn")
def test_keys_expire(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """After seven days a key is free, not a moment earlier; other arguments do not matter then."""
    once(ledger, "first")
    now = _ambient.unix_ms()
    monkeypatch.setattr(_ambient, "unix_ms", lambda: now + 7 * 86_400_000 - 60_000)
    assert once(ledger, "first").replayed
    monkeypatch.setattr(_ambient, "unix_ms", lambda: now + 7 * 86_400_000 + 60_000)
    assert not ledger.run(lambda uow: "second", **HOME, idempotency_key="k").replayed


def test_how_long_keys_are_kept_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Limits.idempotency_s` holds for every key of the ledger."""
    with Ledger.open(tmp_path / "memory.db", limits=Limits(idempotency_s=10)) as ledger:
        once(ledger)
        now = _ambient.unix_ms()
        monkeypatch.setattr(_ambient, "unix_ms", lambda: now + 11_000)
        assert not ledger.run(lambda _: 1, **HOME, idempotency_key="k").replayed


def test_expired_keys_are_swept_in_small_steps(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each claim takes twenty along, the oldest first; recover takes the rest, and leaves what is remembered still."""
    change(
        address_of(ledger),
        "INSERT INTO uow_idempotency (space_id, key, created_ts, expires_ms) VALUES ('s', ?, '', ?)",
        *((f"{number:03}", number) for number in range(50)),
    )
    once(ledger)
    assert [key for key, *_ in rows(address_of(ledger), KEYS)] == [*(f"{number:03}" for number in range(20, 50)), "k"]
    monkeypatch.setattr(_claiming, "_SWEEP_STEP", 7)
    ledger.recover()
    assert [key for key, *_ in rows(address_of(ledger), KEYS)] == ["k"]


def test_a_long_forgotten_claim_is_swept(ledger: Ledger) -> None:
    """One of a dead process stays for a week, so that whoever comes back to it finds out; then it goes."""
    now = _ambient.unix_ms()
    change(
        address_of(ledger),
        "INSERT INTO uow_idempotency (space_id, key, claim, created_ts, expires_ms) VALUES ('s', ?, 't', '', ?)",
        ("old", now - 8 * 86_400_000),
        ("new", now - 6 * 86_400_000),
    )
    ledger.recover()
    assert [key for key, *_ in rows(address_of(ledger), KEYS)] == ["new"]


def test_a_ledger_of_1_0_0_keeps_no_keys(tmp_path: Path) -> None:
    """Basic mode says so instead of doing it twice."""
    with closing(sqlite3.connect(tmp_path / "memory.db")) as connection:
        connection.executescript(
            "CREATE TABLE unit_of_work (uow_id TEXT PRIMARY KEY, envelope_id TEXT, status TEXT NOT NULL,"
            " created_ts TEXT NOT NULL, committed_ts TEXT);"
            "CREATE TABLE uow_writes (id INTEGER PRIMARY KEY, uow_id TEXT NOT NULL REFERENCES unit_of_work(uow_id),"
            " store_name TEXT NOT NULL, record_id TEXT, ts TEXT NOT NULL);"
        )
    with Ledger.open(tmp_path / "memory.db", migrate=False) as ledger:
        with pytest.raises(UsageError, match=r"1\.0\.0"):
            once(ledger)
        with pytest.raises(UsageError, match=r"1\.0\.0"), ledger.unit(**HOME, idempotency_key="k"):
            pass
        assert ledger.recover().in_doubt == ()


@sqlite_only("statements are watched on SQLite's connection")
def test_a_key_costs_one_statement_in_the_decision(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """And without a key the table is not looked at."""
    from memoryos_uow.engines._transaction import SQLiteReader, SQLiteTransaction

    seen: list[str] = []
    rows_before, execute = SQLiteReader.rows, SQLiteTransaction.execute

    def noted_rows(self: SQLiteReader, sql: str, parameters: Any = ()) -> Any:
        seen.append(sql)
        return rows_before(self, sql, parameters)

    def noted(self: SQLiteTransaction, sql: str, parameters: Any = ()) -> int:
        seen.append(sql)
        return execute(self, sql, parameters)

    monkeypatch.setattr(SQLiteReader, "rows", noted_rows)
    monkeypatch.setattr(SQLiteTransaction, "execute", noted)
    with ledger.unit(**HOME) as uow:
        uow["notes"].create("n0", 1)
    assert [sql for sql in seen if "idempotency" in sql] == []
    with ledger.unit(**HOME, idempotency_key="k") as uow:
        uow["notes"].create("n1", 1)
        seen.clear()
    assert [sql.split()[0] for sql in seen if "idempotency" in sql] == ["UPDATE"]
