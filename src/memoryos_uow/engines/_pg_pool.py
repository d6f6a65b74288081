"""Connections of one process to one database, lent one by one.

Promises

- There are never more than so many, and whoever waits for one is served in the order of coming. Only a thread that has
  one already may get another one beyond that: it could otherwise wait for itself.
- A connection that died while nobody used it is thrown away when it is asked for, which costs one call and no round
  trip. One that is in a transaction, or in any state that is not known to be sound, never comes back.
- Nothing is shared over a fork: a child neither uses nor closes what its parent has open, and sends nothing on it.
- A loan that was lost, because a signal handler raised in the wrong moment, ends when nobody refers to it any more.
"""

from __future__ import annotations

import os
import select
import threading
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _ambient
from memoryos_uow.errors import LedgerBusy

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow.engines._pg_connecting import Connecting

_IDLE: Final = 0
_LOOKS_EACH_S: Final = 1.0
_READS_MAX: Final = 8

_of_parents: Final[list[Any]] = []
"""What came over a fork: kept for ever, so that nobody closes it."""


class Loan:
    """A place in the pool, and the connection on it."""

    __slots__ = ("__weakref__", "connection", "pid", "pool", "thread")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.connection: Any = None
        self.thread = threading.get_ident()
        self.pid = _ambient.process_id()

    @property
    def is_ours(self) -> bool:
        """Whether this process opened the connection."""
        return self.pid == _ambient.process_id()

    def renew(self) -> None:
        """Replace a connection that was lost by a new one.

        Raises:
            LedgerError: the server is out of reach.
        """
        connection, self.connection = self.connection, None
        self.pool.close_one(connection)
        self.connection = self.pool.connect()

    def give_back(self, *, sound: bool) -> None:
        """End the loan; `sound` says that the connection may serve others."""
        self.pool.take_back(self, sound=sound)

    def __del__(self) -> None:
        if self.connection is not None:
            self.pool.take_back(self, sound=False)


class Pool:
    """The connections of one engine."""

    def __init__(self, connecting: Connecting, loans_max: int) -> None:
        self.connect: Final[Callable[[], Any]] = connecting.connect
        self._place: Final = connecting.place
        self._errors: Final = connecting.errors
        self._loans_max: Final = loans_max
        self._mutex = threading.Lock()
        self._loans: weakref.WeakSet[Loan] = weakref.WeakSet()
        self._idle: list[Any] = []
        self._waiting: deque[threading.Event] = deque()
        self._closed = False
        _pools.add(self)

    def lend(self, wait_s: float) -> Loan:
        """Return a loan of a connection that is alive, as far as this machine knows.

        Raises:
            LedgerBusy: none was free within `wait_s` seconds.
            LedgerError: the server is out of reach.
        """
        begun = _ambient.monotonic_ns()
        loan = self._place_for_one(wait_s, begun)
        try:
            while (connection := self._newest_idle()) is not None:
                if self._is_alive(connection):
                    loan.connection = connection
                    return loan
                self.close_one(connection)
            loan.connection = self.connect()
        except BaseException:
            self.take_back(loan, sound=False)
            raise
        return loan

    def _place_for_one(self, wait_s: float, begun: int) -> Loan:
        turn = threading.Event()
        with self._mutex:
            if (not self._waiting and self._has_room()) or self._lends_to_this_thread():
                return self._new_loan()
            self._waiting.append(turn)
        try:
            while True:
                left_s = wait_s - (_ambient.monotonic_ns() - begun) / 1e9
                with self._mutex:
                    if self._waiting[0] is turn and self._has_room():
                        return self._new_loan()
                    turn.clear()
                if left_s <= 0:
                    raise LedgerBusy(
                        f"All {self._loans_max} connections of this process to {self._place} were in use for"
                        f" {wait_s:.3g} s.",
                        hint="Nothing was written. Run the unit again, or allow more with uow_connections= in the"
                        " ledger's address.",
                    )
                turn.wait(min(left_s, _LOOKS_EACH_S))  # a lost loan wakes nobody
        finally:
            with self._mutex:
                self._waiting.remove(turn)
                self._wake()

    def _has_room(self) -> bool:
        return len(self._loans) < self._loans_max

    def _lends_to_this_thread(self) -> bool:
        here = threading.get_ident()
        return any(loan.thread == here for loan in self._loans)

    def _new_loan(self) -> Loan:
        loan = Loan(self)
        self._loans.add(loan)
        return loan

    def _wake(self) -> None:
        if self._waiting and self._has_room():
            self._waiting[0].set()

    def _newest_idle(self) -> Any:
        with self._mutex:
            return self._idle.pop() if self._idle else None

    def _is_alive(self, connection: Any) -> bool:
        """Say whether an idle connection can be used: if the server closed it, there is something to be read."""
        if connection.closed:
            return False
        try:
            for _ in range(_READS_MAX):
                if not _readable(connection.fileno()):
                    return int(connection.info.transaction_status) == _IDLE
                connection.pgconn.consume_input()  # a notice, a changed setting, or the end
                connection.pgconn.is_busy()
        except self._errors:
            return False
        return False

    def take_back(self, loan: Loan, *, sound: bool) -> None:
        """Keep the connection of a loan for whoever comes next, or close it."""
        if not loan.is_ours:
            _of_parents.append(loan.connection)
            return
        connection, loan.connection = loan.connection, None
        keep = sound and connection is not None and not connection.closed
        if keep and int(connection.info.transaction_status) != _IDLE:
            keep = False
        with self._mutex:
            keep = keep and not self._closed
            if keep:
                self._idle.append(connection)
            self._loans.discard(loan)
            self._wake()
        if not keep:
            self.close_one(connection)

    def close_one(self, connection: Any) -> None:
        """Close a connection, whatever state it is in; the server then undoes what was not committed."""
        if connection is not None:
            with suppress(*self._errors):
                connection.close()

    def drop_idle(self) -> None:
        """Close what nobody uses at the moment: their server is not what it was."""
        with self._mutex:
            idle, self._idle = self._idle, []
        for connection in idle:
            self.close_one(connection)

    def close(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        with self._mutex:
            self._closed = True
        self.drop_idle()

    def forget(self) -> None:
        """In a forked child: keep the parent's connections from being closed."""
        _of_parents.extend([*self._idle, *(loan.connection for loan in self._loans)])
        self._idle = []


def _readable(descriptor: int) -> bool:
    if not hasattr(select, "poll"):  # pragma: no cover - Windows
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool.forget()


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork_in_child)
