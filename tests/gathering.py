"""Makes threads commit together, for certain: all wait while the lock is held, and it is let go when all do."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from tests.units import SPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from memoryos_uow import Ledger, UnitOfWork
    from memoryos_uow._group_commit import GroupCommit

PATIENCE_S: Final = 30.0


def group_of(ledger: Ledger) -> GroupCommit:
    """The ledger's group commit."""
    return ledger._opened.coordinator._group


def until(holds: Callable[[], object]) -> None:
    """Let other threads run until something is so."""
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up, "it never came to that"
        time.sleep(0)


class Caller(threading.Thread):
    """A thread that runs one unit; what came of it is kept."""

    def __init__(self, ledger: Ledger, do: Callable[[UnitOfWork], object], **options: Any) -> None:
        super().__init__(daemon=True)
        self.unit = ledger.unit(**{"space_id": SPACE, "band": "GREEN", **options})
        self.raised: BaseException | None = None
        self.seen: str | None = None
        self.do = do

    def run(self) -> None:
        try:
            with self.unit:
                self.do(self.unit)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test wants to see it
            self.raised = error
        self.seen = self.unit.status.value

    @property
    def outcome(self) -> str | None:
        """The name of what the block raised; else how the unit ended."""
        return type(self.raised).__name__ if self.raised is not None else self.seen


@contextmanager
def held_up(ledger: Ledger) -> Iterator[None]:
    """Keep every thread from the ledger's lock inside the block."""
    turn = ledger._opened.file._turn
    assert turn.acquire(blocking=False)
    try:
        yield
    finally:
        turn.release()


def line_up(ledger: Ledger, callers: list[Caller]) -> None:
    """Start callers one by one, each when those before it wait: the first leads. To be called inside `held_up`."""
    group = group_of(ledger)
    for number, caller in enumerate(callers):
        caller.start()
        if number == 0:
            until(lambda: ledger._opened.file._turn._waiting)
        else:
            until(lambda number=number: len(group._waiting) == number)  # type: ignore[misc]


def together(ledger: Ledger, *callers: Caller) -> list[str | None]:
    """Have the callers' units commit in one batch, in this order; return how each one ended."""
    with held_up(ledger):
        line_up(ledger, list(callers))
    for caller in callers:
        caller.join(PATIENCE_S)
        assert not caller.is_alive()
    group = group_of(ledger)
    assert group._leader is None
    assert not group._waiting
    return [caller.outcome for caller in callers]
