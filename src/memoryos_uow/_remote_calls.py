"""How long the servers of stores took, for those who watch: one span of kind CLIENT for each call in a unit's commit.

Promise: a store that talks to no server costs a unit nothing here, and whoever listens is told after the unit's end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from memoryos_uow import _ambient
from memoryos_uow.observers import RemoteCall
from memoryos_uow.observers import _names as names

if TYPE_CHECKING:
    from types import TracebackType

    from memoryos_uow._unit_state import UnitState
    from memoryos_uow.abc import Store

_OPERATIONS: Final = {
    "prepare": names.SPAN_PREPARE,
    "hold": names.SPAN_HOLD,
    "decide": names.SPAN_DECIDE,
    "publish": names.SPAN_PUBLISH,
}


class calling:  # noqa: N801 - called like a function, as `blaming` is
    """Note how long the block took, in which `method` of `store` is called for `unit`, if a server is behind it."""

    __slots__ = ("_began", "_method", "_store", "_unit", "problem")

    def __init__(self, unit: UnitState, store: Store, method: str) -> None:
        self._unit, self._store, self._method = unit, store, method
        self._began = 0
        self.problem: BaseException | None = None
        """What went wrong and was not raised."""

    def __enter__(self) -> Self:
        self._began = _ambient.monotonic_ns()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        system = getattr(self._store, "remote", None)
        if system is not None:
            unit, now = self._unit, _ambient.monotonic_ns()
            problem = error or self.problem
            unit.calls += (
                RemoteCall(
                    store=self._store.name,
                    system=system,
                    operation=_OPERATIONS[self._method],
                    offset_us=(self._began - unit.started_ns) // 1000,
                    duration_us=(now - self._began) // 1000,
                    error_type=None if problem is None else type(problem).__qualname__,
                ),
            )
