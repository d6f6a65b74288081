"""Decided units that stores outside show already and that a power cut could still take from them.

A `LazyPublisher` waits for the disk once for many units. Until then the ledger keeps what publishing them again would
need; nothing is lost, whatever happens to the store. Who reads through the library sees no difference.

Promise: a unit is settled only after every store that showed it has made it durable. A store that cannot do so costs no
unit anything: what it owes stays in the ledger, for recovery. No more than `UNITS_MAX` units or `BYTES_MAX` bytes wait,
and none for much longer than `IDLE_S`: a thread of its own, started at need, sees to that when no more units come.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from memoryos_uow import _log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memoryos_uow.abc import LazyPublisher

UNITS_MAX: Final = 64
BYTES_MAX: Final = 4 << 20
IDLE_S: Final = 5.0
"""Much less than the lease after which another process would take such units for abandoned ones."""


class Unsynced:
    """The waiting units of one ledger, by their ids. Its methods may be called from any thread."""

    def __init__(self, *, settled: Callable[[str], None], settle: Callable[[], None], at_work: set[str]) -> None:
        self._settled = settled
        self._settle = settle
        self._at_work = at_work
        self._mutex = threading.Lock()
        self._stores: dict[str, Sequence[LazyPublisher]] = {}
        self._bytes = 0
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        """Set to end the thread; each has one of its own."""
        _all.add(self)

    def __contains__(self, uow_id: str) -> bool:
        return uow_id in self._stores

    def add(self, uow_id: str, stores: Sequence[LazyPublisher], size: int) -> None:
        """Let the unit wait, for which `stores` have shown `size` bytes; if there are too many, sync them all."""
        with self._mutex:
            self._stores[uow_id] = stores
            self._bytes += size
            full = len(self._stores) >= UNITS_MAX or self._bytes >= BYTES_MAX
            if self._thread is None:
                self._start()
        if full:
            self.sync()

    def sync(self) -> None:
        """Have the stores make durable what they have shown; never fails."""
        if not self._stores:
            return
        with self._mutex:
            waiting, self._stores, self._bytes = self._stores, {}, 0
        by_name = {store.name: store for stores in waiting.values() for store in stores}
        failed = {name for name, store in by_name.items() if _fails(store)}
        for uow_id, stores in waiting.items():
            if failed.isdisjoint(store.name for store in stores):
                self._settled(uow_id)
            self._at_work.discard(uow_id)  # recovery may have it now

    # The thread

    def _start(self) -> None:
        self._over = threading.Event()
        thread = threading.Thread(target=self._run, args=(self._over,), name="memoryos-uow settler", daemon=True)
        with suppress(RuntimeError):  # no thread can be had: too many, or the interpreter is ending
            thread.start()
            self._thread = thread

    def _run(self, over: threading.Event) -> None:
        while not over.wait(IDLE_S):
            self._settle()
            with self._mutex:
                if not self._stores and not over.is_set():
                    self._thread = None
                    return

    def stop(self) -> None:
        """End the thread and wait for it; the next unit that has to wait starts another one."""
        with self._mutex:
            thread, self._thread = self._thread, None
            self._over.set()
        if thread is not None:
            thread.join()


def _fails(store: LazyPublisher) -> bool:
    """Have `store` make durable what it has shown; return whether it could not."""
    try:
        store.make_durable()
    except Exception as error:  # noqa: BLE001 - whatever a store raises, the others come next
        _log.warn("uow.sync_delayed", stores=[store.name], reason=type(error).__name__)
        return True
    return False


_all: weakref.WeakSet[Unsynced] = weakref.WeakSet()


def _before_fork() -> None:
    """Fork without such a thread: a child would have what it holds at the moment, and not the thread."""
    for one in list(_all):
        one.stop()


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows, which does not fork
    os.register_at_fork(before=_before_fork)
