"""``ledger.outbox``: what waits in the outbox, and what an operator may do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from memoryos_uow import _log
from memoryos_uow._relay import rows
from memoryos_uow._relay.arguments import check_message_ids, check_number, check_topics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from memoryos_uow._messages import OutboxEntry
    from memoryos_uow._transactions import UnitTransactions
    from memoryos_uow.engines._contract import Engine, EngineTransaction

_LIMIT_MAX = 1_000_000


class Outbox:
    """The outbox of one ledger, for looking and for repair; `Ledger.relay` delivers."""

    def __init__(self, engine: Engine, transactions: UnitTransactions) -> None:
        """Work on an open ledger; users take `Ledger.outbox`."""
        self._engine = engine
        self._transactions = transactions

    def messages(
        self, *, topics: Iterable[str] | None = None, parked: bool = False, limit: int = 50
    ) -> list[OutboxEntry]:
        """Return the oldest messages that are not delivered yet, oldest first; with `parked` only parked ones.

        Raises:
            UsageError: an argument is wrong.
        """
        names = check_topics(topics)
        check_number(limit, "limit", whole=True, least=0, most=_LIMIT_MAX)
        with self._engine.reader() as reader:
            return rows.listed(reader, names, parked_only=bool(parked), limit=limit)

    def retry(self, messages: Iterable[str] | Literal["parked"]) -> int:
        """Have parked and put-off messages delivered again, as if never tried; return how many they were.

        `messages` are ids (`OutboxEntry.message_id`), or ``"parked"`` for all that are parked. One that was delivered
        meanwhile, or is being delivered, is left alone.

        Raises:
            UsageError: an id is none.
            LedgerError: the ledger cannot be written.
        """
        ids = check_message_ids(messages)
        return self._change(lambda tx: rows.retry(tx, ids))

    def drop(self, messages: Iterable[str] | Literal["parked"]) -> int:
        """Remove messages from the outbox undelivered, for ever; return how many they were.

        `messages` are ids, or ``"parked"`` for all that are parked. What waited behind one of the same key goes on.
        The receipts of their units still say that they were published. One that a relay is delivering at this moment
        may still arrive.

        Raises:
            UsageError: an id is none.
            LedgerError: the ledger cannot be written.
        """
        ids = check_message_ids(messages)
        dropped = self._change(lambda tx: rows.drop(tx, ids))
        if dropped:
            _log.warn("uow.messages_dropped", messages=dropped)
        return dropped

    def _change(self, change: Callable[[EngineTransaction], int]) -> int:
        changed: list[int] = []
        self._transactions.apart(lambda tx: changed.append(change(tx)), wait_s=None, relaxed=False)
        return changed[0]
