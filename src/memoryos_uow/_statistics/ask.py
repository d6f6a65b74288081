"""Questions to what was added up, and to every unit's numbers where no tally has the answer.

Promise: both ways give the same numbers; which one is taken depends on the question alone. No criterion, one of space
and band, or times by themselves are answered from tallies, and only the hours in which a time begins or ends are looked
through; for a space together with a time, or with another grouping, the blocks of `columns` are.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memoryos_uow._names import Band
from memoryos_uow._statistics import database
from memoryos_uow._statistics.facts import NO_TIME, NONE, WITHHELD, key_of, microseconds
from memoryos_uow._statistics.look import LENGTHS, Asked, Groups, look_through, take_away
from memoryos_uow._statistics.side import forget, up_to_date
from memoryos_uow._statistics.tally import Tally, added
from memoryos_uow.statistics import GroupBy, SlowUnit, Statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from memoryos_uow._statistics.facts import CountedUnit
    from memoryos_uow._statistics.side import Tallies
    from memoryos_uow.abc import Reader
    from memoryos_uow.statistics import StatisticsGroup


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for; times in the form in which the ledger keeps them."""

    space_id: str | None = None
    band: Band | None = None
    since: str | None = None
    until: str | None = None
    by: GroupBy | None = None

    @property
    def has_time(self) -> bool:
        """Whether only units of some time are asked for."""
        return self.since is not None or self.until is not None

    def wants(self, one: CountedUnit) -> bool:
        """Say whether a unit is asked for."""
        return (
            (self.space_id is None or one.space == key_of(self.space_id))
            and (self.band is None or one.band == self.band)
            and (not self.has_time or one.created != NO_TIME)
            and (self.since is None or one.created >= self.since)
            and (self.until is None or one.created < self.until)
        )


def statistics(
    reader: Reader, path: Path | None, question: Question, *, basic: bool, progress: Callable[[str], None] | None = None
) -> Statistics:
    """Answer a question about the ledger at `path`, of which `reader` reads the rows; None: it is in a database."""
    return several(reader, path, [question], basic=basic, progress=progress)[0]


def several(
    reader: Reader,
    path: Path | None,
    questions: Sequence[Question],
    *,
    basic: bool,
    progress: Callable[[str], None] | None = None,
) -> list[Statistics]:
    """Answer several questions about the same units, whatever is committed meanwhile."""
    if path is None:
        return database.several(reader, questions)
    for in_memory in (False, True):
        try:
            with up_to_date(reader, path, basic=basic, in_memory=in_memory, progress=progress) as tallies:
                return [_answer(reader, tallies, question, basic=basic) for question in questions]
        except sqlite3.Error as error:  # of the file beside the ledger: the reader's own errors are ours
            if in_memory:
                raise
            if not isinstance(error, sqlite3.OperationalError):
                forget(path)  # damaged
    raise AssertionError  # answered or raised


def _answer(reader: Reader, tallies: Tallies, question: Question, *, basic: bool) -> Statistics:
    total, groups = _from_tallies(tallies, question) if _is_tallied(question) else (Tally(), Groups(Tally))
    _look_through(tallies, question, total, groups)
    named = [_named(key, tally, question.by) for key, tally in groups.items()]
    return Statistics(
        total.group(),
        question.by,
        tuple(sorted(named, key=_order(question.by))),
        total.failure_counts(),
        _slowest(reader, total, basic=basic),
        0 if basic else reader.rows("SELECT count(*) FROM uow_coordination")[0][0],
        total.first,
        total.last,
    )


def _is_tallied(question: Question) -> bool:
    """Say whether tallies have the answer, or all of it but what lies at the edges of a time."""
    if question.space_id is not None:
        return not question.has_time and question.by in (None, GroupBy.SPACE, GroupBy.BAND)
    return not question.has_time or question.by in (None, GroupBy.BAND, *LENGTHS)


def _from_tallies(tallies: Tallies, question: Question) -> tuple[Tally, Groups]:
    """Add up the tallies that make the answer."""
    by, band = question.by, None if question.band is None else question.band.value
    groups = Groups(Tally)
    if question.space_id is not None:
        sort, key = "space", key_of(question.space_id)
    elif question.has_time or by in LENGTHS:
        sort, key = "hour", None
    else:
        sort, key = ("band" if by is None else by.value), None
    inside = _whole_hours(question)
    parts = []
    for found, of_band, tally in tallies.get(sort, key=key, band=band):
        if sort == "hour" and not inside(found):
            continue
        parts.append(tally)
        if by is not None:
            groups[_group_key(by, found, of_band)].merge(tally)
    if sort != "band" and key is None and not question.has_time:  # a unit counts once in all, and in each of its stores
        parts = [tally for _, _, tally in tallies.get("band", band=band)]
    return added(parts), groups


def _group_key(by: GroupBy, key: str, band: str) -> str:
    if by is GroupBy.BAND:
        return band
    return key[: LENGTHS[by]] if by in LENGTHS else key


def _whole_hours(question: Question) -> Callable[[str], bool]:
    """Return what says whether an hour lies wholly within the time asked for."""
    since, until = question.since, question.until

    def inside(hour: str) -> bool:
        if not question.has_time:
            return True
        return (
            hour != NO_TIME
            and (since is None or f"{hour}:00:00.000000Z" >= since)
            and (until is None or f"{hour}:59:59.999999Z" < until)
        )

    return inside


def _look_through(tallies: Tallies, question: Question, total: Tally, groups: Groups) -> None:
    """Add to the answer the units that no tally has counted for it."""
    blocks = tallies.blocks
    since, until = (None if time is None else microseconds(time) for time in (question.since, question.until))
    asked = Asked(question.space_id, question.band, since, until, question.by)
    if not _is_tallied(question):
        if asked.is_most(blocks):  # all but the others: there are fewer of them
            whole, of_groups = _from_tallies(tallies, Question(band=question.band, by=question.by))
            take_away(blocks, asked, whole, of_groups)
            total.merge(whole)
            groups.update(of_groups)
        else:
            look_through(blocks, asked, total, groups)
    elif question.has_time:
        inside = _whole_hours(question)
        look_through(blocks, asked, total, groups, hours=lambda hour: not inside(hour))
    _count([one for one in tallies.loose if question.wants(one)], question, total, groups)


def _count(units: list[CountedUnit], question: Question, total: Tally, groups: Groups) -> None:
    """Add units to the answer."""
    if not units:
        return
    total.add(units)
    if question.by is None:
        return
    parts: defaultdict[str, list[CountedUnit]] = defaultdict(list)
    for one in units:
        for key in _keys(question.by, one):
            parts[key].append(one)
    for key, some in parts.items():
        groups[key].add(some, store=key if question.by is GroupBy.STORE else None)


def _keys(by: GroupBy, one: CountedUnit) -> Iterator[str]:
    if by is GroupBy.STORE:
        yield from (share.key for share in one.stores)
    elif by is GroupBy.SPACE:
        yield one.space
    elif by is GroupBy.ACTOR:
        yield one.actor
    elif by is GroupBy.BAND:
        yield one.band
    else:
        yield one.hour[: LENGTHS[by]]


def _named(key: str, tally: Tally, by: GroupBy | None) -> StatisticsGroup:
    if key in (NONE, NO_TIME):
        return tally.group()
    if key == WITHHELD:
        return tally.group(withheld=True)
    return tally.group(key[1:] if by in (GroupBy.SPACE, GroupBy.ACTOR, GroupBy.STORE) else key)


def _order(by: GroupBy | None) -> Callable[[StatisticsGroup], tuple[int, str, bool]]:
    if by in LENGTHS:
        return lambda group: (0, group.name or "", group.withheld)
    return lambda group: (-group.units, group.name or "", group.withheld)


def _slowest(reader: Reader, total: Tally, *, basic: bool) -> tuple[SlowUnit, ...]:
    """Return the slowest units, as their bands allow."""
    if basic:
        return ()
    found = []
    for us, row in total.slowest:
        for uow_id, band, space, created, commit_us in reader.rows(
            "SELECT u.uow_id, u.band, u.space_id, u.created_ts, l.commit_us FROM unit_of_work AS u"
            " JOIN uow_ledger AS l ON l.unit = u.rowid WHERE u.rowid = ?",
            (row,),
        ):
            shown = space if band in (Band.GREEN, Band.AMBER) else None
            found.append(SlowUnit(uow_id, band, shown, created, us, commit_us))
    return tuple(found)
