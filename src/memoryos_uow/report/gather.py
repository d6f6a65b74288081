"""Asks a ledger for everything that a page shows.

Promise: all statistics are of the same units, even while others write. Nothing that a band withholds is asked for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow import _ambient, _validation
from memoryos_uow._names import Dialect
from memoryos_uow._statistics import Question, several
from memoryos_uow.report.facts import InDoubt, ReportFacts, Storage
from memoryos_uow.statistics import GroupBy, StatisticsGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memoryos_uow.abc import Reader
    from memoryos_uow.verification import Verification

STEPS_MAX: Final = 200
"""How many stretches of time a chart has at most."""

_HOURS_MAX: Final = 8 * 24
_IN_DOUBT_SHOWN: Final = 20
_PAGES_LOOKED_AT_MAX: Final = 600_000
"""A larger file is not looked through page by page: that would take longer than everything else."""

_OTHERS: Final = "the application's own tables"
_FREE: Final = "free pages"

# Each with its indexes and what is stored out of line.
_RELATIONS: Final = r"""
SELECT CASE WHEN c.relname = 'unit_of_work' OR c.relname LIKE 'uow\_%' THEN CAST(c.relname AS TEXT) ELSE ? END,
  CAST(sum(pg_total_relation_size(c.oid)) AS BIGINT)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'm') GROUP BY 1 ORDER BY 2 DESC, 1
"""


def gather_facts(
    reader: Reader,
    path: Path | None,
    *,
    basic: bool,
    since: str | None = None,
    until: str | None = None,
    verify: Callable[[], Verification] | None = None,
    not_verified: str | None = None,
    progress: Callable[[str], None],
) -> ReportFacts:
    """Return what is to be told of the ledger at `path`, of which `reader` reads the rows; None: in a database."""
    known = (GroupBy.HOUR,) if basic else (GroupBy.HOUR, GroupBy.BAND, GroupBy.STORE, GroupBy.SPACE)
    questions = [Question(since=since, until=until, by=by) for by in (None, *known)]
    total, hours, *others = several(reader, path, questions, basic=basic, progress=progress)
    bands, stores, spaces = (other.groups for other in others) if others else ((), (), ())
    progress("validating")
    violations = None if basic else dict(Counter(one.rule for one in _validation.validate(reader)))
    progress("looking at the file")
    storage = _storage(reader)
    step = _step(total.first_ts, total.last_ts)
    if step is not GroupBy.HOUR:
        question = Question(since=since, until=until, by=step)
        hours = several(reader, path, [question], basic=basic)[0]
    place = _place_in_database(reader) if path is None else _place_of_file(path)
    return ReportFacts(
        name=place.name,
        origin=None if basic else reader.rows("SELECT origin FROM uow_identity")[0][0],
        made_ts=_ambient.now_text(),
        contract_version="1.0.0" if basic else "1.1.0",
        layouts=()
        if basic
        else tuple(row[0] for row in reader.rows("SELECT version FROM uow_schema ORDER BY version")),
        since=since,
        until=until,
        statistics=total,
        over_time=_without_gaps(hours.groups, step),
        step=step,
        bands=bands,
        stores=stores,
        spaces=spaces,
        in_doubt=() if basic else _in_doubt(reader),
        violations=violations,
        verification=None if verify is None else verify(),
        not_verified=not_verified,
        storage=storage,
        file_bytes=place.n_bytes,
        log_bytes=place.log_bytes,
    )


def _in_doubt(reader: Reader) -> tuple[InDoubt, ...]:
    found = reader.rows("SELECT uow_id, state = 'committed' FROM uow_coordination LIMIT ?", (_IN_DOUBT_SHOWN,))
    return tuple(InDoubt(uow_id, bool(decided)) for uow_id, decided in found)


# Time


def _step(first: str | None, last: str | None) -> GroupBy:
    """Return how long the steps of a chart are: so that it has enough of them, and not too many."""
    if first is None or last is None:
        return GroupBy.HOUR
    span = _moment(last) - _moment(first)
    if span < timedelta(hours=_HOURS_MAX):
        return GroupBy.HOUR
    return GroupBy.DAY if span < timedelta(days=STEPS_MAX) else GroupBy.MONTH


def _moment(text: str) -> datetime:
    """Return when a month, day or hour begins."""
    begin = {7: f"{text}-01", 10: text, 13: f"{text}:00"}[len(text)]
    return datetime.fromisoformat(begin).replace(tzinfo=UTC)


def _without_gaps(groups: tuple[StatisticsGroup, ...], step: GroupBy) -> tuple[StatisticsGroup, ...]:
    """Return the groups with empty ones between them, so that steps of the chart are equally long."""
    there = {group.name: group for group in groups if group.name is not None}
    if not there:
        return ()
    names = list(_names(min(there), max(there), step))[-STEPS_MAX:]
    return tuple(there.get(name) or StatisticsGroup(name) for name in names)


def _names(first: str, last: str, step: GroupBy) -> Iterator[str]:
    """Yield every hour, day or month from the first to the last."""
    moment, end = _moment(first), _moment(last)
    if step is GroupBy.MONTH:
        for months in range(12 * (end.year - moment.year) + end.month - moment.month + 1):
            years, month = divmod(moment.month - 1 + months, 12)
            yield f"{moment.year + years:04}-{month + 1:02}"
        return
    length = timedelta(hours=1) if step is GroupBy.HOUR else timedelta(days=1)
    steps = (end - moment) // length
    for number in range(max(0, steps + 1 - STEPS_MAX), steps + 1):
        yield (moment + number * length).isoformat()[: 13 if step is GroupBy.HOUR else 10]


# Storage


class _Place(NamedTuple):
    """Where the ledger is, and how much room it takes."""

    name: str
    n_bytes: int
    log_bytes: int | None


def _place_of_file(path: Path) -> _Place:
    log = path.with_name(f"{path.name}-wal")
    return _Place(path.name, path.stat().st_size, log.stat().st_size if log.exists() else 0)


def _place_in_database(reader: Reader) -> _Place:
    name, n_bytes = reader.rows("SELECT current_database(), pg_database_size(current_database())")[0]
    return _Place(name, n_bytes, None)


def _storage(reader: Reader) -> tuple[Storage, ...]:
    """Return what takes how much of the file: by table with its indexes, or as a whole where SQLite cannot tell."""
    if reader.dialect is Dialect.POSTGRESQL:
        return tuple(Storage(name, n_bytes) for name, n_bytes in reader.rows(_RELATIONS, (_OTHERS,)))
    (pages,), (page_size,), (free,) = (
        reader.rows(f"PRAGMA {name}")[0] for name in ("page_count", "page_size", "freelist_count")
    )
    spare = [Storage(_FREE, free * page_size)] if free else []
    options = {row[0] for row in reader.rows("PRAGMA compile_options")}
    if "ENABLE_DBSTAT_VTAB" not in options or pages > _PAGES_LOOKED_AT_MAX:
        return (Storage("tables and indexes", (pages - free) * page_size), *spare)
    tables = dict(reader.rows("SELECT name, tbl_name FROM sqlite_schema"))
    taken: defaultdict[str, int] = defaultdict(int)
    for name, n_bytes in reader.rows("SELECT name, pgsize FROM dbstat WHERE aggregate = TRUE"):
        table = tables.get(name, name)
        ours = table == "unit_of_work" or table.startswith("uow_")
        taken[table if ours else _OTHERS if name != "sqlite_schema" else name] += n_bytes
    ordered = sorted(taken.items(), key=lambda item: (-item[1], item[0]))
    return (*(Storage(name, n_bytes) for name, n_bytes in ordered), *spare)
