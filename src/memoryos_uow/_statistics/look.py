"""Looking through the blocks of `columns` for the units of a question, or for all others.

Promise: only blocks in which such units can be are read. Where most of a ledger is asked for, the tallies of all of it
less the other units are the same answer, sooner: so no question has to add up more than half of a ledger's units.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache, partial
from operator import eq, itemgetter, ne
from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow._statistics.columns import NEVER, SHARE_COLUMNS, Counted
from memoryos_uow._statistics.facts import key_of
from memoryos_uow._statistics.tally import Tally
from memoryos_uow.statistics import GroupBy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from memoryos_uow._names import Band
    from memoryos_uow._statistics.columns import Blocks, Columns, Wanted

LENGTHS: Final = {GroupBy.HOUR: 13, GroupBy.DAY: 10, GroupBy.MONTH: 7}
"""How many characters of a time name the group."""

_US_PER_HOUR: Final = 3_600_000_000
_SUMMED: Final = ("outcome", "writes", "n_bytes", "retries", "execution", "commit")
_KEYS: Final = {GroupBy.STORE: "share_store"} | dict.fromkeys(LENGTHS, "hour")
"""The columns that groups are made by, where they are not called as the groups are."""
_SHARES: Final = {"writes": "share_writes", "n_bytes": "share_bytes"}
"""What of a unit's sums is its store's, where groups are made by store."""
_EXTREMES: Final = ("row", "hour", "execution")
_UNITS_AT_ONCE: Final = 100_000

Groups = defaultdict[str, Tally]


class Asked(NamedTuple):
    """Which units, by what: a question with its times in microseconds."""

    space_id: str | None
    band: Band | None
    since: int | None
    until: int | None
    by: GroupBy | None

    @property
    def has_time(self) -> bool:
        """Whether only units of some time are asked for."""
        return self.since is not None or self.until is not None

    def is_in_time(self, created: int) -> bool:
        """Say whether a unit of this moment is asked for."""
        return (
            created != NEVER
            and (self.since is None or created >= self.since)
            and (self.until is None or created < self.until)
        )

    def is_most(self, blocks: Blocks) -> bool:
        """Say whether these are more than half of all units, roughly."""
        share = 1.0
        if self.space_id is not None:
            share = blocks.share_of(key_of(self.space_id))
        if self.has_time:
            share *= blocks.part((self.since, self.until))
        return share > 0.5  # noqa: PLR2004 - half

    def wanted(self, blocks: Blocks) -> dict[str, Wanted]:
        """Return which numbers are asked for, by column; without times."""
        wanted: dict[str, Wanted] = {}
        if self.space_id is not None:
            wanted["space"] = partial(eq, blocks.code(key_of(self.space_id)))
        if self.band is not None:
            wanted["band"] = partial(eq, blocks.code(self.band.value))
        return wanted


def look_through(
    blocks: Blocks, asked: Asked, total: Tally, groups: Groups, *, hours: Callable[[str], bool] | None = None
) -> None:
    """Add the units that are asked for; with `hours` only those of some hours, at the edges of the time asked for."""
    gathered = _Gathered(blocks, asked.by, total, groups, extremes=True)
    wanted = asked.wanted(blocks)
    times: list[tuple[int | None, int | None]] = [(asked.since, asked.until)]
    if hours is not None:
        wanted["hour"] = lru_cache(None)(lambda code: hours(blocks.name(code)))
        times = list(_edges(asked))
    for number, is_inside in blocks.within(times).items():
        of_time: dict[str, Wanted] = {} if is_inside or not asked.has_time else {"created": asked.is_in_time}
        gathered.add(blocks.select(number, wanted | of_time, gathered.names))
    gathered.count()


def take_away(blocks: Blocks, asked: Asked, total: Tally, groups: Groups) -> None:
    """Take the units that are not asked for away from all of a band, which `total` and `groups` have added up."""
    others, of_groups = Tally(), Groups(Tally)
    gathered = _Gathered(blocks, asked.by, others, of_groups, extremes=False)
    total.forget_extremes()
    wanted, inside = asked.wanted(blocks), blocks.within([(asked.since, asked.until)])
    of_band = {name: is_wanted for name, is_wanted in wanted.items() if name == "band"}
    for number in blocks.all():
        is_inside = inside.get(number)
        of_time: dict[str, Wanted] = {} if is_inside or not asked.has_time else {"created": asked.is_in_time}
        if is_inside is not None:
            total.add_extremes(blocks.select(number, wanted | of_time, _EXTREMES), blocks.name)
            if asked.space_id is not None:
                other_spaces = {"space": partial(ne, blocks.code(key_of(asked.space_id)))}
                gathered.add(blocks.select(number, of_band | of_time | other_spaces, gathered.names))
        if of_time:  # some of the block's units, or all of them, are of another time
            of_other_time: dict[str, Wanted] = {"created": lambda created: not asked.is_in_time(created)}
            gathered.add(blocks.select(number, of_band | (of_other_time if number in inside else {}), gathered.names))
    gathered.count()
    total.subtract(others)
    for key, tally in of_groups.items():
        groups[key].subtract(tally)
    for key in [key for key, tally in groups.items() if not tally.statuses]:
        del groups[key]


def _edges(asked: Asked) -> Iterator[tuple[int | None, int | None]]:
    """Return the parts of hours in which the time asked for begins and ends."""
    since, until = asked.since, asked.until
    if since is not None:
        end = since // _US_PER_HOUR * _US_PER_HOUR + _US_PER_HOUR
        yield since, end if until is None else min(end, until)
    if until is not None:
        begin = until // _US_PER_HOUR * _US_PER_HOUR
        yield begin if since is None else max(begin, since), until


class _Gathered:
    """Units on their way into an answer, many at once: groups are cheaper to make of many units."""

    def __init__(self, blocks: Blocks, by: GroupBy | None, total: Tally, groups: Groups, *, extremes: bool) -> None:
        self._name = blocks.name
        self._by = by
        self._total = total
        self._groups = groups
        self._extremes = extremes
        self._key = None if by is None else _KEYS.get(by, by.value)
        self._kept = (*_SUMMED, *(SHARE_COLUMNS if by is GroupBy.STORE else () if self._key is None else (self._key,)))
        self._columns: dict[str, list[int]] = {name: [] for name in self._kept}
        self._all = Counted()
        self._by_code: defaultdict[int, Counted] = defaultdict(Counted)
        self.names = tuple(dict.fromkeys((*(("row", "hour") if extremes else ()), *self._kept)))
        """Of the columns that are needed."""

    def add(self, columns: Columns) -> None:
        """Add units of one block."""
        if self._extremes:
            self._total.add_extremes(columns, self._name)
        before = len(self._columns["outcome"])
        for name, column in self._columns.items():
            column.extend(map(before.__add__, columns[name]) if name == "share_of" else columns[name])
        if before + len(columns["outcome"]) >= _UNITS_AT_ONCE:
            self._count()

    def _count(self) -> None:
        columns: Columns = {**self._columns}
        self._columns = {name: [] for name in self._kept}
        self._all.add(columns)
        if self._key is not None:
            places: defaultdict[int, list[int]] = defaultdict(list)
            for place, code in enumerate(columns[self._key]):
                places[code].append(place)
            filled = {name: column for name, column in columns.items() if any(column)}  # retries are rare
            for code, of_code in places.items():
                self._by_code[code].add(_part(filled, of_code, by_store=self._by is GroupBy.STORE))

    def count(self) -> None:
        """Add what was gathered to the answer."""
        self._count()
        self._total.add_counted(self._all, self._name)
        for code, counted in self._by_code.items():
            key = self._name(code)
            self._groups[key[: LENGTHS[self._by]] if self._by in LENGTHS else key].add_counted(counted, self._name)


def _part(columns: Columns, places: list[int], *, by_store: bool) -> Columns:
    """Return the columns of one group; of `columns` those are missing that have nothing but 0."""
    units = _at(columns.get("share_of"), places) if by_store else places
    part: Columns = {name: _at(columns.get(name), units) for name in _SUMMED}
    if by_store:
        part |= {of: _at(columns.get(share), places) for of, share in _SHARES.items()}
    return part


def _at(column: Sequence[int] | None, places: Sequence[int]) -> Sequence[int]:
    """Return the numbers at some places of a column."""
    if column is None:
        return (0,) * len(places)
    return itemgetter(*places)(column) if len(places) > 1 else (column[places[0]],)
