"""Group commit: units of several threads that end at the same time share one transaction and wait once for the disk.

Whoever comes first leads: it takes the write lock, writes its own unit, then those of threads that wait by then, and
commits them all. Threads that come meanwhile wait for the next leader, the first of them. Nobody waits for company:
a unit that is alone costs what it would without all this, statement for statement.

Promises

1.  A caller is told that its unit is committed only after the commit that holds it has returned.
2.  No unit is harmed by its neighbours. Each one but the leader's own lies behind a savepoint; whatever goes wrong with
    it undoes it alone, and what goes wrong with the whole transaction undoes all. Whoever was undone for either reason
    then tries again in its own thread, in a transaction of its own, and meets there only what is its own fault.
3.  What is raised in the leader's thread from outside (KeyboardInterrupt and its like) reaches nobody else. The main
    thread, where signal handlers run and may raise anything, leads nobody but itself.
4.  A later unit of a batch sees what the earlier ones wrote, as if they had committed one after the other.
5.  A waiting thread may be interrupted, or run out of patience, as long as no leader has begun with its unit.

A batch ends after `UNITS_MAX` units or `BATCH_NS`, so that no thread waits long for those behind it.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from memoryos_uow import _ambient
from memoryos_uow.errors import LedgerBusy, LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow._deciding import Deciding, Decision
    from memoryos_uow._transactions import UnitTransactions
    from memoryos_uow.engines._contract import Engine, EngineTransaction

UNITS_MAX: Final = 64
BATCH_NS: Final = 8_000_000
WRITES_MAX: Final = 256
"""A unit with more writes than this follows nobody: it waits until it leads."""

_MEMBER: Final = "uow_member"


class _Attempt:
    """One thread's attempt to have its unit committed: as a leader with members, or as a member."""

    __slots__ = ("decision", "members", "over", "reads", "signal", "taken")

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.reads = decision.unit.reads.copy()  # writing a unit uses them up
        self.members: list[_Attempt] = []
        self.taken = False  # a leader has begun with it
        self.over = False  # that leader is through
        self.signal = threading.Lock()
        self.signal.acquire()

    def wake(self) -> None:
        """End the wait; may be called twice."""
        if self.signal.locked():
            self.signal.release()


class GroupCommit:
    """Commits the units of one ledger."""

    def __init__(
        self, engine: Engine, transactions: UnitTransactions, deciding: Deciding, elsewhere: Callable[[Decision], None]
    ) -> None:
        self._engine = engine
        self._elsewhere = elsewhere  # has another store commit a unit that it decides
        self._transactions = transactions
        self._deciding = deciding
        self._mutex = threading.Lock()
        self._leader: _Attempt | None = None
        self._waiting: deque[_Attempt] = deque()  # its first may be the leader that has not noticed yet

    def commit(self, decision: Decision) -> None:
        """Write the unit and commit it, together with others where some wait. On return the decision stands.

        Raises:
            UnitOfWorkError: it could not be; `decision` says whether its transaction may have been committed.
        """
        # A unit that holds the lock cannot join others; nor can one whose thread does: its leader might wait for it.
        # One that another store decides has to be alone with that.
        if (
            decision.unit.tx is not None
            or not self._engine.excludes_others
            or self._engine.held_by_this_thread
            or decision.unit.last is not None
        ):
            self._commit_alone(decision)
            return
        self._engine.refuse_misuse()
        attempt = _Attempt(decision)
        try:
            done = self._lead(attempt) if self._takes_the_lead(attempt) else self._follow(attempt)
        finally:
            self._leave(attempt)
        if not done:
            self._commit_alone(decision)

    def _commit_alone(self, decision: Decision) -> None:
        self._deciding.write(decision)
        self._commit([decision])

    def _commit(self, batch: list[Decision]) -> None:
        """Make all of `batch`, which lies in one transaction, durable."""
        self._deciding.seal(batch)
        tx = batch[0].tx
        assert tx is not None  # noqa: S101 - each was written into it
        for decision in batch:
            decision.unit.refuse_late()
        if batch[0].unit.last is not None:
            self._elsewhere(batch[0])
        tx.commit()

    def _takes_the_lead(self, attempt: _Attempt) -> bool:
        with self._mutex:
            if self._leader is None:
                self._leader = attempt
                return True
            self._waiting.append(attempt)
        return False

    # Leading

    def _lead(self, attempt: _Attempt) -> bool:
        """Commit the caller's unit and those who wait; return False if all was undone because of one of them."""
        own, members = attempt.decision, attempt.members
        try:
            self._deciding.write(own)
            if self._waiting and threading.current_thread() is not threading.main_thread():
                self._take_along(attempt)
            self._commit([own, *(member.decision for member in members if member.decision.is_written)])
        except Exception:
            if not members or own.stands or own.answer_lost:
                raise
            self._transactions.undo(own.unit)
            own.forget(attempt.reads)
            return False
        return True

    def _take_along(self, leader: _Attempt) -> None:
        tx = leader.decision.tx
        assert tx is not None  # noqa: S101 - it was written into it
        until = _ambient.monotonic_ns() + BATCH_NS
        while len(leader.members) < UNITS_MAX - 1 and _ambient.monotonic_ns() < until:
            member = self._next_member(leader)
            if member is None:
                return
            self._include(member.decision, tx)

    def _next_member(self, leader: _Attempt) -> _Attempt | None:
        with self._mutex:
            if not self._waiting or len(self._waiting[0].decision.unit.buffer.writes) > WRITES_MAX:
                return None
            member = self._waiting[0]
            leader.members.append(member)
            member.taken = True
            self._waiting.popleft()
        return member

    def _include(self, decision: Decision, tx: EngineTransaction) -> None:
        """Write a waiting unit behind a savepoint; if that fails, its own thread will find out why by itself."""
        tx.savepoint(_MEMBER)
        try:
            self._transactions.join(decision.unit, tx)
            self._deciding.write(decision)
        except Exception:
            self._transactions.take_back(tx, _MEMBER)
            if not tx.open:
                raise  # SQLite has undone everything, the leader's unit too
        else:
            tx.release(_MEMBER)

    # Following

    def _follow(self, attempt: _Attempt) -> bool:
        """Wait until somebody has committed the unit, or lead; return False if it has to be tried again, alone."""
        decision = attempt.decision
        decision.unit.retry_count += 1
        rest_s = self._await(attempt)
        if not attempt.taken:
            with self._mutex:
                self._waiting.remove(attempt)
            decision.unit.wait_s = rest_s
            return self._lead(attempt)
        if decision.answer_lost:
            raise LedgerError("The disk failed during the commit.", hint="Check the disk, then run the unit again.")
        return decision.stands

    def _await(self, attempt: _Attempt) -> float:
        """Wait until the attempt leads or is over; return how long it might still wait.

        Raises:
            LedgerBusy: no leader had begun with it in time.
        """
        unit = attempt.decision.unit
        wait_s = self._transactions.patience_s(unit)
        begun = _ambient.monotonic_ns()
        while True:
            rest_s = max(0.0, wait_s - (_ambient.monotonic_ns() - begun) / 1e9)
            if attempt.over or self._leader is attempt:
                return rest_s
            if rest_s == 0 and self._withdraw(attempt):
                unit.refuse_late()
                raise LedgerBusy(
                    f"Other units of this process kept {self._engine.place} locked for {wait_s:.3g} s.",
                    hint="Nothing was written. Run the unit again, or allow more busy_timeout.",
                )
            attempt.signal.acquire(timeout=-1 if attempt.taken else min(rest_s, threading.TIMEOUT_MAX))

    def _withdraw(self, attempt: _Attempt) -> bool:
        """Leave the queue; return False if it is too late: a leader has begun with the unit, or it leads."""
        with self._mutex:
            if attempt.taken or self._leader is attempt:
                return False
            self._waiting.remove(attempt)
        return True

    # Whatever happens

    def _leave(self, attempt: _Attempt) -> None:
        """Leave nothing behind in the queue, and nobody waiting; learn what became of the unit if it was taken.

        An interrupt may come at any moment: the fact counts first, and then the exception goes on.
        """
        raised: BaseException | None = None
        while True:
            try:
                self._hand_on(attempt)
                while attempt.taken and not attempt.over:
                    attempt.signal.acquire()
                break
            except BaseException as error:  # noqa: BLE001 - it is raised below
                raised = error
        if attempt.taken and not attempt.decision.stands and not attempt.decision.answer_lost:
            attempt.decision.forget(attempt.reads)
        if raised is not None:
            raise raised

    def _hand_on(self, attempt: _Attempt) -> None:
        with self._mutex:
            if attempt in self._waiting:
                self._waiting.remove(attempt)
            if self._leader is attempt:
                self._leader = self._waiting[0] if self._waiting else None
            if self._waiting and self._leader is self._waiting[0]:
                self._waiting[0].wake()
        for member in attempt.members:
            member.over = True
            member.wake()
