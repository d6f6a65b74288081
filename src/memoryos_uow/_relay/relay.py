"""One relay at work: claims messages, hands them to the sink, and notes what came of it; see the package's promises."""

from __future__ import annotations

import inspect
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _ambient, _log
from memoryos_uow._backoff import delay_s
from memoryos_uow._messages import RelayReport
from memoryos_uow._relay import rows
from memoryos_uow._relay.arguments import coroutine_refused
from memoryos_uow.errors import ConflictError, LedgerError, MessageRejected, SinkError, SinkUnavailable, UnitOfWorkError

if TYPE_CHECKING:
    import threading

    from memoryos_uow._relay.arguments import Sink
    from memoryos_uow._relay.rows import Claimed
    from memoryos_uow._transactions import UnitTransactions
    from memoryos_uow.engines._contract import Engine, EngineTransaction

BATCH: Final = 100
"""Messages claimed at once."""
POLL_S: Final = 0.05
"""How often a relay without work asks whether somebody has committed: one small question, no lock."""
LOOK_EVERY: Final = 20
"""After so many times it looks in any case: a message may have become due, a relay may have died."""
NOTE_EVERY_S: Final = 1.0
"""How long a delivery may go unacknowledged while the sink works on the next ones."""
RETRY_FIRST_S: Final = 1.0
RETRY_LARGEST_S: Final = 300.0
"""How long a failed message is put off at most: full jitter, doubling with each attempt."""
PAUSE_FIRST_S: Final = 0.5
PAUSE_LARGEST_S: Final = 30.0
"""How long a relay rests at most whose sink is out of reach."""


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """What a relay was asked for, checked."""

    topics: str | None
    """A JSON list; None means all."""
    until_empty: bool
    stop: threading.Event
    attempts: int
    lease_s: float


class _Round(Enum):
    """What became of one look at the outbox."""

    WORKED = "there may be more"
    NOTHING = "nothing is due"
    OUT_OF_REACH = "the sink cannot be reached"


def run_relay(
    engine: Engine, transactions: UnitTransactions, origin: str | None, sink: Sink, options: RelayOptions
) -> RelayReport:
    """Deliver until there is nothing to do or `options.stop` is set; the arguments and errors are `Ledger.relay`'s."""
    return _Relay(engine, transactions, origin, sink, options).run()


class RelayDied(SinkError):  # noqa: N818 - recorded as the type of an error, beside OwnerDied
    """Why a message is parked with which several relays died, or hung for longer than their lease."""

    summary = "Relays that had this message did not come back."


class _Relay:
    """One call of `run_relay`."""

    def __init__(
        self,
        engine: Engine,
        transactions: UnitTransactions,
        origin: str | None,
        sink: Sink,
        options: RelayOptions,
    ) -> None:
        self._engine = engine
        self._transactions = transactions
        self._origin = origin
        self._sink = sink
        self._options = options
        self._taken: list[Claimed] = []  # by the sink, and not acknowledged in the ledger yet
        self._untried: list[Claimed] = []  # to be given back
        self._noted_ns = _ambient.monotonic_ns()
        self._leased_ms = 0  # when the lease on what is claimed began, by the clock of this machine
        self._pauses = 0  # in a row
        self._rest_s = POLL_S
        self._bell: object = None
        self._delivered = self._retried = self._parked = 0

    def run(self) -> RelayReport:
        stop, until_empty = self._options.stop, self._options.until_empty
        while not stop.is_set():
            try:
                outcome = self._round()
                if outcome is _Round.NOTHING and not until_empty:
                    self._wait()
                    continue
            except (LedgerError, ConflictError) as error:
                if until_empty or not error.retryable:
                    raise
                # It is busy, or its server restarts. What was handed over is acknowledged with the next round.
                stop.wait(PAUSE_FIRST_S)
                continue
            if outcome is _Round.WORKED:
                continue
            if until_empty:
                break
            stop.wait(self._pause_s)
        self._acknowledge()
        with self._engine.reader() as reader:
            left = rows.count(reader, self._options.topics)
        return RelayReport(self._delivered, self._retried, self._parked, left)

    # Claiming

    def _round(self) -> _Round:
        self._acknowledge()
        self._listen()
        begun = _ambient.monotonic_ns()
        with self._engine.reader() as reader:  # without the lock: most looks find nothing
            if not rows.claimable(reader, self._options.topics, limit=1):
                # Past very many messages that are held back a look takes long; it takes a tenth of the time at most.
                self._rest_s = max(POLL_S, 10 * (_ambient.monotonic_ns() - begun) / 1e9)
                return _Round.NOTHING
        claimed: list[Claimed] = []
        worn_out: list[Claimed] = []
        self._write(lambda tx: self._claim(tx, claimed, worn_out))
        for message in worn_out:
            self._note_parked(message, RelayDied.__name__)
        if not claimed:
            return _Round.WORKED if worn_out else _Round.NOTHING
        return self._deliver(claimed)

    def _claim(self, tx: EngineTransaction, claimed: list[Claimed], worn_out: list[Claimed]) -> None:
        rows.exclude_others(tx)
        found = rows.claimable(tx, self._options.topics, limit=BATCH)
        # One that a dead relay had comes alone: it may be what killed it.
        alone = next((number for number, one in enumerate(found) if one.lapsed), len(found))
        batch = found[: max(alone, 1)]
        self._leased_ms = _ambient.unix_ms()
        rows.claim(tx, batch, self._lease_ms)
        ours = [replace(one, epoch=one.epoch + 1) for one in batch]
        if batch and batch[0].lapsed:
            if ours[0].attempts + 1 >= self._options.attempts:
                error = RelayDied("Relays that had this message did not come back.")
                rows.failed(tx, ours[0], error, rest_ms=0, counts=True, parked=True)
                worn_out.append(ours[0])
                return
            rows.count_lapse(tx, ours[0])
        claimed.extend(ours)

    # Delivering

    def _deliver(self, batch: list[Claimed]) -> _Round:
        """Hand over `batch` in order; whatever happens, what was not tried is given back."""
        waiting = list(batch)
        try:
            self._engine.sync_log()  # a unit that others wrote without waiting for the disk must be durable first
            outcome = self._hand_over_all(waiting)
        except BaseException:
            self._untried += waiting
            with suppress(UnitOfWorkError):
                self._acknowledge()
            raise
        self._untried += waiting
        self._acknowledge()
        return outcome

    def _hand_over_all(self, waiting: list[Claimed]) -> _Round:
        """Hand over `waiting` from the front, until it is empty or the relay has to stop."""
        held_back: set[tuple[str, str] | None] = set()
        while waiting and not self._options.stop.is_set():
            self._keep(waiting)
            if not waiting:
                break
            message = waiting[0]
            if message.line in held_back:
                self._untried.append(waiting.pop(0))
                continue
            error = self._hand_over(message)
            del waiting[0]
            if error is None:
                self._taken.append(message)
                self._pauses = 0
                continue
            if message.line is not None:
                held_back.add(message.line)
            self._note_failure(message, error)
            if isinstance(error, SinkUnavailable):
                return _Round.OUT_OF_REACH
        return _Round.WORKED

    def _hand_over(self, claimed: Claimed) -> Exception | None:
        """Call the sink; return what it raised."""
        try:
            answer: Any = self._sink(claimed.message(self._origin))
        except Exception as error:  # noqa: BLE001 - whatever the application's sink raises, the message stays
            return error
        if inspect.iscoroutine(answer) or inspect.isgenerator(answer):
            answer.close()
            raise coroutine_refused()
        return None

    def _keep(self, waiting: list[Claimed]) -> None:
        """Acknowledge what has waited for long, and renew the lease on `waiting` before it is half over."""
        if (_ambient.unix_ms() - self._leased_ms) * 2 > self._lease_ms:
            self._acknowledge()
            self._leased_ms = _ambient.unix_ms()
            kept: list[Claimed] = []
            self._write(lambda tx: kept.extend(one for one in waiting if rows.renew(tx, one, self._lease_ms)))
            waiting[:] = kept  # what others took over meanwhile is theirs
        elif self._taken and (_ambient.monotonic_ns() - self._noted_ns) / 1e9 > NOTE_EVERY_S:
            self._acknowledge()

    # Noting

    def _acknowledge(self) -> None:
        """Remove from the outbox what the sink has taken, and give back what was not tried."""
        if not self._taken and not self._untried:
            return
        done: list[bool] = []

        def write(tx: EngineTransaction) -> None:
            done[:] = [rows.delivered(tx, one) for one in self._taken]
            rows.release(tx, self._untried)

        self._write(write)
        self._taken.clear()
        self._untried.clear()
        self._delivered += sum(done)
        self._noted_ns = _ambient.monotonic_ns()

    def _note_failure(self, message: Claimed, error: Exception) -> None:
        tried = message.attempts + 1 + message.lapsed
        counts = not isinstance(error, SinkUnavailable)
        parked = isinstance(error, MessageRejected) or (counts and tried >= self._options.attempts)
        if counts:
            delay = delay_s(tried - 1, _ambient.random_fraction(), first_s=RETRY_FIRST_S, largest_s=RETRY_LARGEST_S)
        else:
            self._pauses += 1
            # Once the relay has rested the others go first: this one may be all that the sink cannot bear.
            delay = 2 * self._pause_s
        rest_ms = int(delay * 1000)
        done: list[bool] = []
        self._write(
            lambda tx: done.append(rows.failed(tx, message, error, rest_ms=rest_ms, counts=counts, parked=parked))
        )
        if not done[0]:
            return  # another relay has it now
        if parked:
            self._note_parked(message, type(error).__name__)
        else:
            self._retried += 1

    def _note_parked(self, message: Claimed, reason: str) -> None:
        self._parked += 1
        _log.warn("uow.message_parked", uow_id=message.uow_id, seq=message.seq, reason=reason)

    def _write(self, write: Any) -> None:
        # Not waiting for the disk: what a power cut takes back of this is delivered once more.
        self._transactions.apart(write, wait_s=None)

    @property
    def _lease_ms(self) -> int:
        return int(self._options.lease_s * 1000)

    # Waiting

    @property
    def _pause_s(self) -> float:
        return delay_s(max(self._pauses - 1, 0), 1.0, first_s=PAUSE_FIRST_S, largest_s=PAUSE_LARGEST_S)

    def _listen(self) -> bool:
        """Return whether anybody has committed since the last call, as far as can be told."""
        with self._engine.reader() as reader:
            heard = rows.bell(reader)
        changed, self._bell = heard != self._bell, heard
        return changed

    def _wait(self) -> None:
        """Return when somebody has committed, when it is time to look again, or when the relay shall stop."""
        for _ in range(LOOK_EVERY):
            if self._options.stop.wait(self._rest_s) or self._listen():
                return
