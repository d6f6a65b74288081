"""Who a unit of work belongs to: one process, thread and task.

Promise: nobody but its owner moves a unit on; what a child inherited (a fork, a thread, a task that copied the context)
is recognised as not its own.
"""

from __future__ import annotations

import sys
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from memoryos_uow import _ambient

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Owner(NamedTuple):
    """A process, a thread in it, and the asyncio task that runs there, if any."""

    process: int
    thread: int
    task: object

    @classmethod
    def of_this_moment(cls) -> Owner:
        """Return whoever runs now; in a thread that works for an async unit, the unit's owner."""
        principal = _principal.get()
        if principal is not None:
            return principal
        asyncio = sys.modules.get("asyncio")  # not imported means that no task can be running
        task = None
        if asyncio is not None and asyncio._get_running_loop() is not None:  # noqa: SLF001 - exported for such as this
            task = asyncio.current_task()
        # Asked at every call on a unit: the tuple is made directly, without the function that a NamedTuple has for it.
        return tuple.__new__(cls, (_ambient.process_id(), threading.get_ident(), task))


NOBODY = Owner(0, 0, None)

_principal: ContextVar[Owner | None] = ContextVar("memoryos_uow_principal", default=None)


def on_behalf_of(owner: Owner, call: Callable[..., T], *args: object) -> T:
    """Return what `call` returns, run in another thread for `owner`; the caller gives it a context of its own."""
    _principal.set(owner)
    return call(*args)
