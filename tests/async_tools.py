"""What the tests of the async face share: both event loops, and a task that is cancelled at its n-th await."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

T = TypeVar("T")

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment]  # no wheel for this platform

LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(
        getattr(uvloop, "new_event_loop", None),
        id="uvloop",
        marks=pytest.mark.skipif(uvloop is None, reason="uvloop has no wheel for this platform"),
    ),
]
"""Parameters for `run`."""


def run(loop: Callable[[], asyncio.AbstractEventLoop], main: Coroutine[Any, Any, T]) -> T:
    """Return what `main` returns on a new event loop."""
    with asyncio.Runner(loop_factory=loop, debug=False) as runner:
        return runner.run(main)


class CancelledAt:
    """Awaits a coroutine and cancels the task when it suspends for the n-th time; `steps` counts how often it did."""

    def __init__(self, work: Coroutine[Any, Any, Any], number: int) -> None:
        self._work = work
        self._number = number
        self.steps = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._work.__await__()
        raised: BaseException | None = None
        while True:
            try:
                waited_for = next(inner) if raised is None else inner.throw(raised)
            except StopIteration as end:
                return end.value
            self.steps += 1
            if self.steps == self._number:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                yield waited_for
            except BaseException as error:  # noqa: BLE001 - handed on
                raised = error
            else:
                raised = None


async def cancelled_at(work: Coroutine[Any, Any, Any], number: int) -> tuple[int, bool]:
    """Run `work` in a task that is cancelled at its n-th await; return how often it awaited, and if it ended so."""
    stepper = CancelledAt(work, number)

    async def main() -> None:
        await stepper

    task = asyncio.ensure_future(main())
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return stepper.steps, task.cancelled()
