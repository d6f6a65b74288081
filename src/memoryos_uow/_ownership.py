"""Who a unit of work belongs to: one process, thread and task.

Promise: nobody but its owner moves a unit on; what a child inherited (a fork, a thread, a task that copied the context)
is recognised as not its own.
"""

from __future__ import annotations

import sys
import threading
from typing import NamedTuple

from memoryos_uow import _ambient


class Owner(NamedTuple):
    """A process, a thread in it, and the asyncio task that runs there, if any."""

    process: int
    thread: int
    task: object

    @classmethod
    def of_this_moment(cls) -> Owner:
        """Return whoever runs now."""
        asyncio = sys.modules.get("asyncio")  # not imported means that no task can be running
        task = None
        if asyncio is not None:
            try:
                task = asyncio.current_task()
            except RuntimeError:  # no event loop in this thread
                task = None
        return cls(_ambient.process_id(), threading.get_ident(), task)


NOBODY = Owner(0, 0, None)
