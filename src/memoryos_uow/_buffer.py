"""The writes of one unit, in the order they were made, until the decision.

Promise: order is kept, savepoints cut exactly, and the newest write of every record is found at once (the overlay).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memoryos_uow._limits import Limits
    from memoryos_uow.abc import Write


@dataclass(slots=True, eq=False)
class Mark:
    """A savepoint: how many writes came before it, and whether the open transaction knows it yet."""

    name: str
    writes: int
    in_transaction: bool = False


class WriteBuffer:
    """Writes made so far: the first `applied` of them lie in the open transaction, the others wait."""

    def __init__(self, limits: Limits) -> None:
        self.writes: list[Write] = []
        self.applied = 0
        self._limits = limits
        self._bytes = 0
        self._newest: dict[tuple[str, str], int] = {}

    def refuse_excess(self, write: Write) -> None:
        """Raise UsageError if with `write` the unit would have more writes or bytes than its limits allow."""
        size = write.content.bytes_written if write.content else 0
        if len(self.writes) >= self._limits.writes_per_unit:
            raise UsageError(
                f"A unit of work may hold {self._limits.writes_per_unit:,} writes at most.",
                hint="Nothing was written. Split it into several units, or open the ledger with other limits.",
            )
        if self._bytes + size > self._limits.bytes_per_unit:
            raise UsageError(
                f"A unit of work may write {self._limits.bytes_per_unit:,} bytes at most.",
                hint="Nothing was written. Split it into several units, or open the ledger with other limits.",
            )

    def add(self, write: Write) -> None:
        """Append `write`.

        Raises:
            UsageError: the unit would have more writes or bytes than its limits allow.
        """
        self.refuse_excess(write)
        if write.key is not None:
            self._newest[write.store, write.key] = len(self.writes)
        self.writes.append(write)
        self._bytes += write.content.bytes_written if write.content else 0

    def add_applied(self, write: Write) -> None:
        """Append `write`, which the open transaction holds already; nothing waits before it."""
        self.add(write)
        self.applied = len(self.writes)

    def newest(self, store: str, key: str, *, applied: bool = False) -> Write | None:
        """Return the newest write of a record that still waits, or with `applied` the newest of all, or None."""
        number = self._newest.get((store, key), -1)
        return self.writes[number] if number >= (0 if applied else self.applied) else None

    def has_waiting(self, store: str) -> bool:
        """Say whether any write to `store` still waits to be applied."""
        return any(write.store == store for write in self.writes[self.applied :])

    def waiting(self, up_to: int) -> Iterator[tuple[str, list[Write]]]:
        """Yield runs of consecutive writes of one store, from the first not yet applied up to number `up_to`."""
        for store, run in groupby(self.writes[self.applied : up_to], key=lambda write: write.store):
            yield store, list(run)

    def cut(self, mark: Mark) -> None:
        """Forget every write made after `mark`."""
        del self.writes[mark.writes :]
        self.applied = min(self.applied, mark.writes)
        self._bytes = sum(write.content.bytes_written for write in self.writes if write.content)
        self._newest = {(w.store, w.key): number for number, w in enumerate(self.writes) if w.key is not None}

    def by_store(self) -> dict[str, list[Write]]:
        """Return all writes grouped by store, stores in order of their first write."""
        grouped: dict[str, list[Write]] = {}
        for write in self.writes:
            grouped.setdefault(write.store, []).append(write)
        return grouped
