"""What an application wants done once a unit has ended: functions of its own, called in this process.

Promise: each is called once, in the order in which they were registered, with no lock of the ledger held, after the end
that it waits for is durable. One that raises stops neither the others nor the caller: it is kept and reported. A
process that dies before calling them has not called them; what must not get lost belongs into the outbox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memoryos_uow import _log
from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


class Hooks:
    """The hooks of one unit."""

    __slots__ = ("after_commit", "after_rollback", "errors")

    def __init__(self) -> None:
        self.after_commit: list[Callable[[Any], object]] = []
        self.after_rollback: list[Callable[[Any], object]] = []
        self.errors: list[Exception] = []
        """What hooks raised."""

    def cut(self, length: int) -> None:
        """Forget what was to be done after a commit, but for the first `length`: a savepoint was undone."""
        del self.after_commit[length:]

    def take(self, *, committed: bool) -> list[Callable[[Any], object]]:
        """Return the hooks that are due now that the unit has ended; none of them is due a second time."""
        due = self.after_commit if committed else self.after_rollback
        self.after_commit, self.after_rollback = [], []
        return due

    def failed(self, uow_id: str, error: Exception) -> None:
        """Keep and report what a hook raised."""
        self.errors.append(error)
        _log.warn("uow.hook_failed", uow_id=uow_id, error_type=type(error).__name__)

    def run(self, uow_id: str, argument: object, *, committed: bool) -> None:
        """Call the hooks that are due with `argument`."""
        for hook in self.take(committed=committed):
            try:
                hook(argument)
            except Exception as error:  # noqa: BLE001 - an application's function may raise anything
                self.failed(uow_id, error)


def check_hook(hook: object) -> None:
    """Refuse what cannot be called with one argument and be done when it returns.

    Raises:
        UsageError: not callable, or a coroutine function.
    """
    check_callable(hook)
    if is_coroutine_function(hook):
        raise UsageError(
            "A hook of a unit that is not async is called and not awaited, so it cannot be a coroutine function.",
            hint="Nothing was written. Pass a plain function, or use AsyncUnitOfWork.",
        )


def check_callable(hook: object) -> None:
    """Refuse what cannot be called.

    Raises:
        UsageError: not callable.
    """
    if not callable(hook):
        raise UsageError(
            f"A hook is a function of one argument, not a {type(hook).__name__}.",
            hint="Nothing was written. For example uow.after_commit(lambda receipt: cache.clear()).",
        )


def is_coroutine_function(fn: object) -> bool:
    """Say whether calling `fn` gives something to await: a coroutine function, also behind partial or ``__call__``."""
    import inspect  # noqa: PLC0415 - only for those who pass functions

    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004
