"""Which units are new since the last look, for `watch`.

Promise: each unit is found once, and a look reads a few rows, however large the ledger is. In a file rows have numbers
that rise. In a database committed units are found by the receipt log, which has no gaps; those that failed or were
rolled back by the time at which they began, if that was in the last ten minutes.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from memoryos_uow import _ambient
from memoryos_uow._names import Dialect
from memoryos_uow._statistics import counted, newest_row
from memoryos_uow._statistics.facts import read_again

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memoryos_uow._statistics import CountedUnit
    from memoryos_uow.abc import Reader

AT_ONCE_MAX: Final = 100_000
"""A look that would find more begins behind them: they are counted, and their durations are not known."""

_BEGAN_WITHIN: Final = timedelta(minutes=10)
_LOGGED: Final = "SELECT unit FROM uow_ledger WHERE commit_seq > ? AND commit_seq <= ? ORDER BY commit_seq"
_ENDED_OTHERWISE: Final = (
    "SELECT uow_id FROM unit_of_work WHERE status = ? AND created_ts >= ? ORDER BY created_ts DESC LIMIT ?"
)


class Found(NamedTuple):
    """What a look has found."""

    units: int
    """How many are new."""
    fresh: list[CountedUnit]
    """They, the newest of very many."""
    again: list[CountedUnit]
    """Units of earlier looks as they are now."""


class Newcomers(Protocol):
    """Finds what is new."""

    def look(self, waiting: Sequence[CountedUnit]) -> Found:
        """Return what is new since the last look, and how units are that were not final then."""
        ...


def newcomers(reader: Reader, *, basic: bool) -> Newcomers:
    """Return who finds what is new from now on in the ledger of `reader`."""
    return _InDatabase(reader) if reader.dialect is Dialect.POSTGRESQL else _InFile(reader, basic=basic)


class _InFile:
    def __init__(self, reader: Reader, *, basic: bool) -> None:
        self._reader = reader
        self._basic = basic
        self._row = newest_row(reader)

    def look(self, waiting: Sequence[CountedUnit]) -> Found:
        newest = newest_row(self._reader)
        if newest < self._row:  # put back to an earlier state
            self._row, waiting = newest, ()
        begun, self._row = self._row, newest
        after = max(begun, newest - AT_ONCE_MAX)
        some = list(counted(self._reader, basic=self._basic, after=after, until=newest, again=waiting))
        return Found(
            newest - begun, [one for one in some if one.row > begun], [one for one in some if one.row <= begun]
        )


class _InDatabase:
    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._seq = self._newest()
        self._known = self._ended_otherwise()

    def look(self, waiting: Sequence[CountedUnit]) -> Found:
        newest, others = self._newest(), self._ended_otherwise()
        if newest < self._seq:  # put back to an earlier state
            self._seq, waiting = newest, ()
        begun, self._seq = self._seq, newest
        logged = self._reader.rows(_LOGGED, (max(begun, newest - AT_ONCE_MAX), newest))
        ids: list[Any] = [*(unit for (unit,) in logged), *(one for one in others if one not in self._known)]
        self._known = others
        fresh = list(read_again(self._reader, ids, basic=False))
        again = list(read_again(self._reader, [one.row for one in waiting], basic=False))
        return Found(newest - begun + len(ids) - len(logged), fresh, again)

    def _newest(self) -> int:
        newest: int = self._reader.rows("SELECT coalesce(max(commit_seq), 0) FROM uow_ledger")[0][0]
        return newest

    def _ended_otherwise(self) -> dict[str, None]:
        since = (datetime.fromtimestamp(_ambient.unix_ms() / 1000, UTC) - _BEGAN_WITHIN).isoformat()
        found: dict[str, None] = {}
        for status in ("failed", "rolled_back"):
            rows = self._reader.rows(_ENDED_OTHERWISE, (status, since, AT_ONCE_MAX))
            found |= dict.fromkeys(uow_id for (uow_id,) in rows)
        return found
