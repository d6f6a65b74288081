"""What the library asks of an engine: connections and transactions on one ledger, whatever holds it.

Promise: whoever is above the engines knows these three protocols and `Dialect`, never which engine it is. At the end
stands what is the same in all of them, whatever they run on.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from memoryos_uow import _ambient
from memoryos_uow.abc import Reader, Transaction
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from memoryos_uow._names import Dialect, Isolation
    from memoryos_uow.abc import Parameters


class Answer(NamedTuple):
    """What a cursor tells of a statement that has run (PEP 249)."""

    rows: Sequence[tuple[Any, ...]] = ()
    description: Any = None
    rowcount: int = -1
    lastrowid: int | None = None


class EngineReader(Reader, Protocol):
    """A reader that an engine lends."""

    @property
    def connection(self) -> Any:
        """The driver's own connection, as long as it is lent."""
        ...

    def answer(self, sql: str, parameters: Parameters = (), /) -> Answer:
        """Run one statement of the application's and return all that a cursor would tell of it."""
        ...


class EngineTransaction(EngineReader, Transaction, Protocol):
    """A unit's transaction: it ends exactly once, and ``decided`` says whether its commit is durable."""

    busy_waits: int
    """How often it had to wait before it could begin."""
    decided: bool
    """True once the commit is durable, whatever exception is on its way."""
    answer_lost: bool
    """True when the commit failed in such a way that it may stand all the same."""

    @property
    def open(self) -> bool:
        """Whether the transaction can still be used."""
        ...

    def later(self, sql: str, parameters: Parameters = (), /) -> None:
        """Run one statement whose answer nobody needs, at the latest before the commit; errors may come later too."""
        ...

    def savepoint(self, name: str) -> None:
        """Mark a point to return to."""
        ...

    def release(self, name: str) -> None:
        """Forget the savepoint; what came after it stays."""
        ...

    def rollback_to(self, name: str) -> None:
        """Undo what came after the savepoint, and forget it. Never fails: if need be the transaction is over."""
        ...

    def step(self) -> AbstractContextManager[None]:
        """Undo what the block did, if an exception leaves it."""
        ...

    def commit(self) -> None:
        """Make everything durable; on return the decision stands."""
        ...

    def rollback(self) -> None:
        """Undo everything. Never fails; does nothing in a transaction that is over."""
        ...


class Engine(Protocol):
    """Readers and transactions of one ledger. Threads may share it; processes may not."""

    busy_timeout_s: float

    @property
    def dialect(self) -> Dialect:
        """Whose SQL it understands."""
        ...

    @property
    def place(self) -> str:
        """How messages name the ledger: its path, or its address without user and password."""
        ...

    @property
    def directory(self) -> Path | None:
        """Where stores may keep files beside the ledger; None where there is no such place."""
        ...

    @property
    def excludes_others(self) -> bool:
        """Whether an open transaction holds the one lock that every writer needs."""
        ...

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written."""
        ...

    @property
    def syncs_commits(self) -> bool:
        """Whether a commit that has returned is durable."""
        ...

    @property
    def held_by_this_thread(self) -> bool:
        """Whether this thread holds the lock, so that it cannot begin another transaction."""
        ...

    @property
    def usable(self) -> bool:
        """Whether another transaction may follow."""
        ...

    def reader(self) -> AbstractContextManager[EngineReader]:
        """Lend a reader; each of its queries sees the newest committed state."""
        ...

    def begin(
        self, *, wait_s: float | None = None, relaxed: bool = False, isolation: Isolation | None = None
    ) -> EngineTransaction:
        """Open a transaction; `relaxed` commits without waiting for the disk, `isolation` is that of the unit."""
        ...

    def learn(self, version: object) -> None:
        """Have later units give greater versions than this one, where versions are stamps."""
        ...

    def sync_log(self) -> None:
        """Make every commit that can be read durable."""
        ...

    def refuse_misuse(self) -> None:
        """Raise UsageError if the ledger is closed, or this process was forked from the one that opened it."""
        ...

    def close(self, *, wait_s: float | None = None) -> None:
        """Close every connection; may be called twice."""
        ...


class OfOneProcess:
    """Belongs to the process that made it, until it is closed."""

    place: str
    """How messages name the ledger."""

    def __init__(self) -> None:
        self._pid = _ambient.process_id()
        self._closed = False

    @property
    def usable(self) -> bool:
        """Whether another transaction may follow: the ledger is open, and this process is the one that opened it."""
        return not self._closed and _ambient.process_id() == self._pid

    def refuse_misuse(self) -> None:
        """Raise UsageError if the ledger is closed, or this process was forked from the one that opened it."""
        if _ambient.process_id() != self._pid:
            raise UsageError(
                f"The ledger {self.place} was opened by another process; this one was forked from it.",
                hint="Nothing was written. Open the ledger again in the child process.",
            )
        if self._closed:
            raise UsageError(f"The ledger {self.place} is closed.", hint="Nothing was written. Open it again.")


class Stepping:
    """A transaction of which a part can be undone."""

    def savepoint(self, name: str) -> None:
        """Mark a point to return to; `name` is an identifier of ours."""
        raise NotImplementedError

    def release(self, name: str) -> None:
        """Forget the savepoint; what came after it stays."""
        raise NotImplementedError

    def rollback_to(self, name: str) -> None:
        """Undo what came after the savepoint, and forget it. Never fails: if need be the transaction is over."""
        raise NotImplementedError

    @contextmanager
    def step(self) -> Iterator[None]:
        """Undo what the block did, if an exception leaves it."""
        self.savepoint("uow_step")
        try:
            yield
        except BaseException:
            self.rollback_to("uow_step")
            raise
        self.release("uow_step")
