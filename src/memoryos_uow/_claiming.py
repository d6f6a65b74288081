"""One key, one commit: who may work under an idempotency key, who waits, and who is given the answer.

Whoever begins a unit under a key claims the key first, in a short transaction that does not wait for the disk. Others
wait until the claim has become an answer, or is free again because the unit failed or its process died.

Promises

1.  The body runs under a claim only, and the unit commits only with its claim (`_idempotency.settle`), so under one key
    one unit is committed at most, whatever happens to clocks and processes.
2.  Two bodies under one key run at the same time only if the first one's process could not be seen for longer than its
    lease; then one of the two does not commit.
3.  A unit that fails frees its key, also where the ledger is busy just then: the claim goes with a later one of this
    process, and is nobody's as soon as the process ends.
4.  Nobody waits for himself.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _ambient, _idempotency, _owner
from memoryos_uow._backoff import delay_s
from memoryos_uow._ownership import Owner
from memoryos_uow._rebuilding import receipt_of
from memoryos_uow.errors import DuplicateUnit, LedgerBusy, UnitOfWorkError, UsageError

if TYPE_CHECKING:
    from memoryos_uow._deadline import Deadline
    from memoryos_uow._idempotency import Claim, KeyRow
    from memoryos_uow._limits import Limits
    from memoryos_uow._receipt_log import ReceiptLog
    from memoryos_uow._rows import LedgerRows
    from memoryos_uow._sequencer import Sequencer
    from memoryos_uow._transactions import UnitTransactions
    from memoryos_uow.engines._contract import Engine, EngineTransaction
    from memoryos_uow.receipts import Receipt

_SWEEP_STEP: Final = 1_000

_at_work: Final[dict[str, Owner]] = {}
"""Claims that somebody in this process is at, by token. A forked child is at none of them."""
if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows, which does not fork
    os.register_at_fork(after_in_child=_at_work.clear)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was committed under the key before."""

    value: Any = field(repr=False)
    receipt: Receipt | None
    uow_id: str

    def as_error(self) -> DuplicateUnit:
        """Return what a block ends with that would do it again."""
        return DuplicateUnit(
            "A unit with this idempotency key is committed already in this space.",
            hint="Nothing was written. Its receipt is error.receipt; ledger.run returns its result.",
            uow_id=self.uow_id,
            receipt=self.receipt,
        )


class Turn(Enum):
    """Whose turn it is under a key that has no answer yet."""

    OURS = "claimed by whoever asked"
    THEIRS = "claimed by somebody else"


class Waiting:
    """The patience of one who waits for a key: its own deadline, else the ledger's busy timeout."""

    def __init__(self, allowed_s: float, deadline: Deadline | None) -> None:
        self._deadline = deadline
        self._allowed_s = allowed_s
        self._begun = _ambient.monotonic_ns()
        self._looks = 0

    def pause_s(self) -> float:
        """Return how long to wait before the next look.

        Raises:
            UnitTimeout: the deadline has passed.
            LedgerBusy: there is none, and the busy timeout has passed.
        """
        if self._deadline is not None:
            self._deadline.refuse_if_passed()
            left_s = self._deadline.left_s()
        else:
            left_s = self._allowed_s - (_ambient.monotonic_ns() - self._begun) / 1e9
            if left_s <= 0:
                raise LedgerBusy(
                    f"Another unit has been at work under this idempotency key for {self._allowed_s:.3g} s.",
                    hint="Nothing was written. Run it again, or allow it more time with timeout=.",
                )
        self._looks += 1
        return min(left_s, delay_s(self._looks, _ambient.random_fraction()))


class Claiming:
    """The idempotency keys of one ledger, as this process sees them."""

    def __init__(
        self,
        engine: Engine,
        rows: LedgerRows,
        transactions: UnitTransactions,
        limits: Limits,
        *,
        log: ReceiptLog | None,
    ) -> None:
        self._engine = engine
        self._log = log
        self.sequencer: Sequencer | None = None
        """Who numbers units after their commits, where that is not done inside them."""
        self._limits = limits
        self._rows = rows
        self._transactions = transactions
        self._unreleased: list[Claim] = []

    def new_claim(self, space_id: str, key: str, *, arguments: str | None = None) -> Claim:
        """Return a claim, not made yet; `arguments` is the digest of what is asked for."""
        return _idempotency.Claim(space_id, key, arguments, self._limits.idempotency_s, _ambient.random_hex())

    def take(self, mine: Claim, deadline: Deadline | None) -> Answer | None:
        """Wait until the key is ours, and return None; or until there is an answer, and return that.

        Raises:
            DuplicateUnit: there was an answer, which an erasure has taken.
            UsageError: the key was used with other arguments, or this very task is at work under it.
            UnitTimeout, LedgerBusy: it took too long.
        """
        waiting = Waiting(self._engine.busy_timeout_s, deadline)
        while True:
            answer = self.ask(mine, deadline)
            if isinstance(answer, Answer):
                return answer
            if answer is Turn.OURS:
                return None
            _ambient.sleep(waiting.pause_s())

    def ask(self, mine: Claim, deadline: Deadline | None) -> Answer | Turn:
        """Return the key's answer if there is one; else claim it, if nobody else is at it. Waits for the lock only.

        Raises:
            DuplicateUnit: there was an answer, which an erasure has taken.
            UsageError, UnitTimeout, LedgerBusy: as `take`.
        """
        if self._rows.basic:
            raise UsageError("A ledger of contract 1.0.0 keeps no idempotency keys.", hint="Open it with migrate=True.")
        self._engine.refuse_misuse()
        with self._engine.reader() as reader:
            row = _idempotency.look(reader, mine.space_id, mine.key)
        if row is None or self._is_free(row):
            row = self._claim(mine, deadline)
        return Turn.OURS if row is None else self._answer(mine, row)

    def _claim(self, mine: Claim, deadline: Deadline | None) -> KeyRow | None:
        """Claim the key if it is still free under the lock, else return what is there."""
        there: list[KeyRow] = []
        late = list(self._unreleased)

        def write(tx: EngineTransaction) -> None:
            for claim in late:
                _idempotency.release(tx, claim)
            _idempotency.sweep(tx)
            claimed = False
            while not claimed and not there:
                row = _idempotency.look(tx, mine.space_id, mine.key)
                if row is None or self._is_free(row):
                    claimed = _idempotency.claim(tx, mine, row)
                else:
                    there.append(row)

        mine.lost = False
        _at_work[mine.token] = Owner.of_this_moment()  # first: other threads take what nobody is at
        try:
            self._transactions.apart(write, wait_s=None if deadline is None else deadline.left_s())
        except LedgerBusy as busy:
            del _at_work[mine.token]
            if deadline is not None:
                raise deadline.error() from busy
            raise
        except BaseException:
            self.let_go(mine)  # its commit may have returned
            raise
        for claim in late:
            with suppress(ValueError):  # another thread was at the same
                self._unreleased.remove(claim)
        if there:
            del _at_work[mine.token]
            return there[0]
        return None

    def _is_free(self, row: KeyRow) -> bool:
        # What this process claimed and is not at any more came to nothing, and its release was lost.
        return row.is_free or (row.claim is not None and row.owner == _owner.own_name() and row.claim not in _at_work)

    def _answer(self, mine: Claim, row: KeyRow) -> Answer | Turn:
        if row.arguments is not None and mine.arguments is not None and row.arguments != mine.arguments:
            raise UsageError(
                "This idempotency key was used with other arguments in this space.",
                hint="Nothing was written. Use a new key for every new request.",
                uow_id=row.uow_id,
            )
        if row.claim is not None:
            if _at_work.get(row.claim) == Owner.of_this_moment():
                raise UsageError(
                    "This task is at work under this idempotency key already, and would wait for itself.",
                    hint="Nothing was written. Use another key for the inner unit.",
                )
            return Turn.THEIRS
        uow_id = row.uow_id or ""
        if row.result == _idempotency.ERASED:
            raise DuplicateUnit(
                "The unit with this idempotency key is committed; its result was erased with a record that it wrote.",
                hint="Nothing was written, and nothing is run again. Its receipt is error.receipt.",
                uow_id=uow_id,
                receipt=self._receipt(uow_id),
            )
        return Answer(None if row.result is None else json.loads(row.result), self._receipt(uow_id), uow_id)

    def _receipt(self, uow_id: str) -> Receipt | None:
        with self._engine.reader() as reader:
            return receipt_of(reader, self._rows, uow_id, log=self._log, sequencer=self.sequencer)

    def let_go(self, mine: Claim, *, used: bool = False) -> None:
        """Free the key, unless a unit was committed with the claim: then it is `used`."""
        if _at_work.pop(mine.token, None) is None or used:
            return
        try:
            self._transactions.apart(lambda tx: _idempotency.release(tx, mine))
        except UnitOfWorkError:
            self._unreleased.append(mine)  # goes with the next claim; until then it counts as free in this process

    def sweep(self) -> int:
        """Remove every expired key, in steps that hold the lock for a moment only; return how many there were."""
        if self._rows.basic:
            return 0
        removed: list[int] = []
        while not removed or removed[-1]:
            self._transactions.apart(lambda tx: removed.append(_idempotency.sweep(tx, _SWEEP_STEP)), wait_s=None)
        return sum(removed)
