"""Gives units on PostgreSQL their numbers in the receipt log, after their commits: one process at a time.

Promise: the log is the same as on SQLite, without gaps, each unit once; a unit that could have seen what another one
wrote comes after it. Commits never wait for this: they leave a row in ``uow_pending``, and the process that committed
wakes a thread of its own. Whichever process has the lease numbers the units of all (`_numbering`); the others look
whether theirs have been. Units of a process that died are numbered by the next one that commits, or opens the ledger.

The thread waits a moment before each turn, so that units come together, unless somebody waits for a number; and it ends
when there has been nothing to do for a while.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Final

from memoryos_uow import _ambient, _log, _pending
from memoryos_uow._backoff import delay_s
from memoryos_uow._numbering import Numbering
from memoryos_uow._rows import digest_text
from memoryos_uow._rows_postgres import fill_in
from memoryos_uow.errors import LedgerBusy, LedgerRollback, UnitOfWorkError
from memoryos_uow.receipts import Numbered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from memoryos_uow._receipt_log import ReceiptLog
    from memoryos_uow._rows import Timing
    from memoryos_uow.engines._contract import Engine
    from memoryos_uow.receipts import Awaited

GATHER_S: Final = 0.01
"""How long units wait for others, so that one transaction and one signature are for many."""
SETTLE_S: Final = 1.0
"""How long a question about the ledger waits for units of this process."""
CLOSE_S: Final = 5.0
"""How long closing the ledger waits for that."""
_LONGEST_S: Final = 0.5
_IDLE_S: Final = 2.0
_ASKED_AT_ONCE: Final = 10_000

_NUMBERED: Final = (
    "SELECT u.uow_id, l.space_seq, l.prev, u.receipt_signature FROM unit_of_work AS u"
    " LEFT JOIN uow_ledger AS l ON l.unit = u.uow_id WHERE u.uow_id = ANY(CAST(? AS TEXT[]))"
)


class _Waiter:
    """What is known of a unit of which this process wants to know the number; call it to wait for that."""

    __slots__ = ("_wait", "error", "event", "numbered", "timing")

    def __init__(self, wait: Callable[[_Waiter, float | None], Numbered], timing: Timing | None) -> None:
        self._wait = wait
        self.event = threading.Event()
        self.numbered: Numbered | None = None
        self.error: UnitOfWorkError | None = None
        self.timing = timing

    def __call__(self, timeout: float | None) -> Numbered:
        """Wait until the unit has its number; the errors are those of `Sequencer`."""
        return self._wait(self, timeout)

    def end(self, numbered: Numbered | None, error: UnitOfWorkError | None = None) -> None:
        """Tell everybody who waits."""
        self.numbered, self.error = numbered, error
        self.event.set()


class Sequencer:
    """Has the units of one ledger numbered; threads may share it."""

    def __init__(self, engine: Engine, log: ReceiptLog, *, then: Callable[[], None]) -> None:
        """`then` is called in the thread after each turn."""
        self._engine = engine
        self._log = log
        self._then = then
        self._numbering = Numbering(engine, log)
        self._turning = threading.RLock()
        self._mutex = threading.Lock()
        self._waiting: dict[str, _Waiter] = {}
        self._wanted = threading.Event()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._trouble: UnitOfWorkError | None = None
        """Why the last turn failed."""

    # What others ask for

    def expect(self, uow_id: str, timing: Timing | None = None) -> Awaited:
        """Have a unit whose commit has returned numbered soon; return how to wait for that.

        `timing` is written with the number, or as soon as somebody else has given it.
        """
        with self._mutex:
            waiter = self._waiting.get(uow_id)
            if waiter is None:
                waiter = self._waiting[uow_id] = _Waiter(partial(self._wait, uow_id), timing)
            self._wake()
        return waiter

    def look(self) -> None:
        """Have numbered what others may have left."""
        with self._engine.reader() as reader:
            if not _pending.exist(reader):
                return
        with self._mutex:
            self._wake()

    def _wake(self) -> None:
        """Have a turn taken soon; the caller holds the mutex."""
        self._wanted.set()
        if self._thread is None and not self._closed:
            thread = threading.Thread(target=self._work, name="memoryos-uow sequencer", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # none can be had: too many, or the interpreter is ending; `_wait` and `close` do it
                return
            self._thread = thread

    def _wait(self, uow_id: str, waiter: _Waiter, timeout: float | None) -> Numbered:
        """Wait until the unit has its number.

        Raises:
            LedgerBusy: it has none after `timeout` seconds (default: the ledger's busy timeout).
            LedgerRollback: the unit is not in the ledger any more.
            UsageError: the ledger was closed before, or this process was forked.
        """
        if not waiter.event.is_set():
            self._engine.refuse_misuse()
            with self._mutex:
                self._waiting.setdefault(uow_id, waiter)
                self._hurry.set()
                self._wake()
                alone = self._thread is None
            if alone:
                self._try_turn()
            waiter.event.wait(_bounded(self._engine.busy_timeout_s if timeout is None else timeout))
        if waiter.error is not None:
            raise waiter.error
        if waiter.numbered is None:
            raise LedgerBusy(
                f"The unit {uow_id} is committed, and has no number in the receipt log yet.",
                hint="Nothing of the unit is missing. Ask for its receipt again: ledger.receipt(uow_id).",
                uow_id=uow_id,
            ) from self._trouble
        return waiter.numbered

    def settle(self, wait_s: float | None = None) -> bool:
        """Wait until everything is numbered that this process has committed; return whether it is.

        `wait_s`: for so many seconds at most, by default `SETTLE_S`.
        Does not wait as long as nothing can be numbered, for whatever reason.
        """
        if self._trouble is not None:
            return not self._waiting
        with self._mutex:
            waiters = list(self._waiting.values())
            if waiters:
                self._hurry.set()
                self._wake()
        end = _ambient.monotonic_ns() + int((SETTLE_S if wait_s is None else wait_s) * 1e9)
        for waiter in waiters:
            while not waiter.event.wait(max(0.0, min(_LONGEST_S, (end - _ambient.monotonic_ns()) / 1e9))):
                if self._trouble is not None or _ambient.monotonic_ns() >= end or self._thread is None:
                    return False
        return True

    def number_all(self) -> None:
        """Number what waits now, whoever committed it; what somebody else is at is left to that one.

        Raises:
            LedgerError: nothing can be numbered now.
        """
        self._turn()

    def pause(self) -> threading.RLock:
        """Return what keeps this process from numbering as long as it is held."""
        return self._turning

    # The thread

    def _work(self) -> None:
        attempt = 0
        while not self._closed:
            if not self._wanted.wait(_IDLE_S) and self._may_end():
                return
            self._wanted.clear()
            self._hurry.wait(GATHER_S if not attempt else delay_s(attempt, 1.0, first_s=GATHER_S, largest_s=_LONGEST_S))
            self._hurry.clear()
            if not self._closed:
                # Others may be at it; so looking again and again costs less and less.
                attempt = attempt + 1 if self._try_turn() else 0

    def _may_end(self) -> bool:
        with self._mutex:
            if self._wanted.is_set() or self._waiting:
                self._wanted.set()
                return False
            self._thread = None
        return True

    def _try_turn(self) -> bool:
        """Take a turn; return whether it has to be tried again, for units of this process that still wait."""
        try:
            left = self._turn()
        except UnitOfWorkError as error:
            if type(error) is not type(self._trouble):
                _log.warn("uow.numbering_delayed", reason=type(error).__name__, units=len(self._waiting))
            self._trouble = error
            left = bool(self._waiting)
        else:
            self._trouble = None
        if left:
            self._wanted.set()
        return left

    def _turn(self) -> bool:
        """Number what waits, unless others do, and learn what they have numbered; return whether units still wait."""
        with self._turning:
            try:
                self._numbering.run(self._timing_of, self._note)
            finally:  # what hinders this process does not hinder others
                with self._mutex:
                    left = list(self._waiting)
                for begin in range(0, len(left), _ASKED_AT_ONCE):
                    self._ask(left[begin : begin + _ASKED_AT_ONCE])
        self._then()
        return bool(self._waiting)

    def _timing_of(self, uow_id: str) -> Timing | None:
        waiter = self._waiting.get(uow_id)
        return None if waiter is None else waiter.timing

    def _note(self, numbered: Mapping[str, Numbered]) -> None:
        """Tell those who wait for these units."""
        for uow_id, one in numbered.items():
            with self._mutex:
                waiter = self._waiting.pop(uow_id, None)
                if not self._waiting:  # others may have signed for us; whether our signer does, the next unit will tell
                    self._log.hindrance = None
            if waiter is not None:
                waiter.end(one)

    def _ask(self, uow_ids: list[str]) -> None:
        """Look which of these others have numbered; write how long those took, which only this process knows."""
        with self._engine.reader() as reader:
            found = {row[0]: row[1:] for row in reader.rows(_NUMBERED, (uow_ids,))}
        numbered = {
            uow_id: Numbered(space_seq, digest_text(prev), signature)
            for uow_id, (space_seq, prev, signature) in found.items()
            if space_seq is not None
        }
        timings = [timing for timing in map(self._timing_of, numbered) if timing is not None]
        if timings:
            tx = self._engine.begin(relaxed=True)
            try:
                fill_in(tx, timings)
                tx.commit()
            finally:
                tx.rollback()
        self._note(numbered)
        for uow_id in uow_ids:
            if uow_id not in found:
                self._lose(uow_id)

    def _lose(self, uow_id: str) -> None:
        error = LedgerRollback(
            f"The unit {uow_id} was committed, and is not in the ledger any more: an older state was put back.",
            hint="Look what became of the database. Every unit since then may have to be done again.",
            uow_id=uow_id,
        )
        with self._mutex:
            self._waiting.pop(uow_id).end(None, error)  # only a turn takes units away, and this is in the middle of one

    # The end

    def close(self, within_s: float | None = None) -> None:
        """Number what this process has committed, if that can be done within so many seconds, and end the thread.

        `within_s` is `CLOSE_S` by default.
        """
        within_s = CLOSE_S if within_s is None else within_s
        end = _ambient.monotonic_ns() + int(within_s * 1e9)
        with self._mutex:
            self._closed = True
            thread, self._thread = self._thread, None
            self._hurry.set()
            self._wanted.set()
        if thread is not None:
            thread.join(within_s)
        if thread is None or not thread.is_alive():
            self._finish(end)
        if self._waiting:
            _log.warn("uow.numbering_left", units=len(self._waiting))

    def _finish(self, end: int) -> None:
        attempt, left_s = 0, 1.0
        while self._waiting and left_s > 0 and self._try_turn() and self._trouble is None:
            left_s = (end - _ambient.monotonic_ns()) / 1e9
            self._hurry.clear()
            self._hurry.wait(max(0.0, min(left_s, delay_s(attempt, 1.0, first_s=GATHER_S, largest_s=_LONGEST_S))))
            attempt += 1


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), threading.TIMEOUT_MAX)
