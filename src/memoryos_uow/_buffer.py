"""The writes of one unit, in the order in which they were made: they wait here until the unit commits.

A unit of very many writes does not keep them all: once more wait than the limits say, they are applied to the unit's
transaction and described in the ledger's rows there, and leave memory (`let_go`). What is left of them is a `Streamed`:
their number, their bytes and the frontier of their tree hash. Writes to stores outside the ledger stay, because such a
store needs them again when the unit is decided.

Promise: pure bookkeeping, no store is called. Cutting back to a savepoint restores exactly what was buffered then, also
what has left memory since; the newest write of every record in memory is found at once (the overlay).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from memoryos_uow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from memoryos_uow._limits import Limits
    from memoryos_uow._merkle import Frontier
    from memoryos_uow.abc import Write


@dataclass(frozen=True, slots=True)
class Streamed:
    """What is known of a unit's first writes, whose rows lie in its transaction already."""

    count: int
    bytes_written: int
    stores: tuple[str, ...]
    """Their names, in order of first write."""
    frontier: Frontier
    """Of the writes' leaves: nobody appends to it any more, whoever goes on does so with a copy."""
    first_row: int
    """``uow_writes.id`` of the unit's first write."""


@dataclass(slots=True)
class _Before:
    """The buffer at a savepoint, kept from the moment in which writes made before it leave memory."""

    streamed: Streamed | None
    gone: int
    gone_bytes: int
    writes: list[Write]


@dataclass(slots=True, eq=False)
class Mark:
    """A savepoint: how many writes came before it, and whether the open transaction knows it yet."""

    name: str
    writes: int
    in_transaction: bool = False
    before: _Before | None = None
    hooks: int = 0
    """How many functions were to be called after a commit by then."""


class WriteBuffer:
    """Writes made so far, numbered from 0: the first `applied` of them lie in the open transaction, the others wait."""

    def __init__(self, limits: Limits) -> None:
        self.writes: list[Write] = []
        """Those in memory, in order; they are the last of the unit's, from number `count` - ``len(writes)`` on."""
        self.count = 0
        """How many writes were made in all."""
        self.applied = 0
        self.streamed: Streamed | None = None
        """What is left of those that are not in memory any more."""
        self._limits = limits
        self._bytes = 0
        self._newest: dict[tuple[str, str], int] = {}
        self._gone = 0
        self._gone_bytes = 0
        self._loose = 0  # in memory, and able to leave it
        self._loose_bytes = 0
        self._outside: dict[int, Write] = {}  # writes to stores outside the ledger: by number, they never leave
        self._outside_bytes = 0

    # Adding

    def refuse_excess(self, write: Write, *, outside: bool = False) -> None:
        """Raise UsageError if with `write` the unit would have more writes or bytes than its limits allow."""
        size = write.content.bytes_written if write.content else 0
        limits = self._limits
        if self.count >= limits.writes_per_unit:
            raise _too_many(f"A unit of work may hold {limits.writes_per_unit:,} writes at most.")
        if self._bytes + size > limits.bytes_per_unit:
            raise _too_many(f"A unit of work may write {limits.bytes_per_unit:,} bytes at most.")
        if outside and len(self._outside) >= limits.outside_writes_per_unit:
            raise _too_many(
                f"A unit of work may hold {limits.outside_writes_per_unit:,} writes at most to stores outside the"
                " ledger, because these wait in memory."
            )
        if outside and self._outside_bytes + size > limits.outside_bytes_per_unit:
            raise _too_many(
                f"A unit of work may write {limits.outside_bytes_per_unit:,} bytes at most to stores outside the"
                " ledger, because these wait in memory."
            )

    def add(self, write: Write, *, outside: bool = False) -> bool:
        """Append `write`; return whether so much waits now that it should go to the unit's transaction.

        Writes to a store `outside` the ledger stay in memory, so they do not count for that.

        Raises:
            UsageError: the unit would have more writes or bytes than its limits allow.
        """
        self.refuse_excess(write, outside=outside)
        if write.key is not None:
            self._newest[write.store, write.key] = self.count
        size = write.content.bytes_written if write.content else 0
        if outside:
            self._outside[self.count] = write
            self._outside_bytes += size
        else:
            self._loose += 1
            self._loose_bytes += size
        self.writes.append(write)
        self.count += 1
        self._bytes += size
        return self._loose >= self._limits.waiting_writes or self._loose_bytes >= self._limits.waiting_bytes

    def add_applied(self, write: Write) -> bool:
        """As `add`, for a write that the open transaction holds already; nothing waits before it."""
        full = self.add(write)
        self.applied = self.count
        return full

    # Looking

    @property
    def reaches_outside(self) -> bool:
        """Whether some write goes to a store outside the ledger."""
        return bool(self._outside)

    def newest(self, store: str, key: str, *, applied: bool = False) -> Write | None:
        """Return the newest write of a record that still waits, or with `applied` the newest in memory, or None."""
        number = self._newest.get((store, key), -1)
        if number < (0 if applied else self.applied):
            return None
        return self.writes[number - self._gone] if number >= self._gone else self._outside[number]

    def has_waiting(self, store: str) -> bool:
        """Say whether any write to `store` still waits to be applied."""
        return any(write.store == store for write in self.writes[self.applied - self._gone :])

    def waiting(self, up_to: int) -> Iterator[tuple[str, list[Write]]]:
        """Yield runs of consecutive writes of one store, from the first not yet applied up to number `up_to`."""
        runs = self.writes[self.applied - self._gone : up_to - self._gone]
        for store, run in groupby(runs, key=attrgetter("store")):
            yield store, list(run)

    def numbered(self) -> Iterator[tuple[int, Write]]:
        """Yield number and write for all that are in memory, in order."""
        for number, write in self._outside.items():
            if number < self._gone:
                yield number, write
        yield from enumerate(self.writes, self._gone)

    def by_store(self) -> dict[str, list[Write]]:
        """Return the writes in memory grouped by store, stores in order of their first write."""
        grouped: dict[str, list[Write]] = {}
        for _, write in self.numbered():
            grouped.setdefault(write.store, []).append(write)
        return grouped

    def stores(self) -> list[str]:
        """Return the names of the stores written to, in order of first write."""
        return list(dict.fromkeys([*(self.streamed.stores if self.streamed else ()), *[w.store for w in self.writes]]))

    # Letting go, and going back

    def let_go(self, streamed: Streamed, marks: Sequence[Mark]) -> None:
        """Forget every applied write but those to stores outside; `streamed` says what is left of them.

        Nothing may wait. `marks` are the open savepoints: each keeps what it needs for going back.
        """
        assert self.applied == self.count  # noqa: S101 - a defect of this library
        for mark in marks:
            if mark.before is None:
                kept = self.writes[: mark.writes - self._gone]
                mark.before = _Before(self.streamed, self._gone, self._gone_bytes, kept)
        self._gone_bytes += _size(self.writes)
        self._gone = self.count
        self.streamed = streamed
        self.writes = []
        self._loose = self._loose_bytes = 0
        self._newest = {record: number for record, number in self._newest.items() if number in self._outside}

    def cut(self, mark: Mark) -> None:
        """Forget every write made after `mark`."""
        if mark.before is None:
            del self.writes[mark.writes - self._gone :]
        else:
            self.streamed, self._gone = mark.before.streamed, mark.before.gone
            self._gone_bytes, self.writes = mark.before.gone_bytes, mark.before.writes
        self.count = mark.writes
        self.applied = min(self.applied, mark.writes)
        self._outside = {number: write for number, write in self._outside.items() if number < mark.writes}
        self._outside_bytes = _size(self._outside.values())
        self._bytes = self._gone_bytes + _size(self.writes)
        loose = [write for number, write in enumerate(self.writes, self._gone) if number not in self._outside]
        self._loose, self._loose_bytes = len(loose), _size(loose)
        self._newest = {(w.store, w.key): number for number, w in self.numbered() if w.key is not None}


def _size(writes: Iterable[Write]) -> int:
    return sum(write.content.bytes_written for write in writes if write.content)


def _too_many(sentence: str) -> UsageError:
    return UsageError(
        sentence, hint="Nothing was written. Split it into several units, or open the ledger with other limits."
    )
