"""Statistics of a ledger in a PostgreSQL database, worked out by the database from the rows themselves.

Promise: the same numbers as for a ledger in a file with the same units. What a unit's band withholds is taken out first
(`_COUNTED`), before anything is added up. Nothing is kept beside the ledger: each answer reads every unit. Percentiles
are exact: ``percentile_disc`` is the nearest rank.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow._names import Band
from memoryos_uow._statistics.facts import NO_TIME, utc
from memoryos_uow.statistics import Durations, FailureCount, GroupBy, SlowUnit, Statistics, StatisticsGroup

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from memoryos_uow._statistics.ask import Question
    from memoryos_uow.abc import Reader

SLOWEST_MAX: Final = 10

_OURS: Final = "'^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9][.][0-9]{6}Z$'"
_ODD_TIMES: Final = f"SELECT DISTINCT created_ts FROM unit_of_work WHERE created_ts !~ {_OURS}"  # noqa: S608 - from above

# One row for each unit with what may be told of it; `told` says whether names, counts and bytes may.
_COUNTED: Final = """
WITH plain AS (
  SELECT u.uow_id, u.status, u.band, u.space_id, u.actor_id, u.error_type, u.failed_store, u.store_count,
    u.retry_count, u.total_bytes_written, l.execution_us, l.commit_us,
    coalesce(odd.utc, u.created_ts) AS created, coalesce(u.band IN ('GREEN', 'AMBER'), TRUE) AS told,
    coalesce(l.first_write, p.first_write) AS first_write, coalesce(l.write_count, p.write_count) AS write_count
  FROM unit_of_work AS u LEFT JOIN uow_ledger AS l ON l.unit = u.uow_id
  LEFT JOIN uow_pending AS p ON p.uow_id = u.uow_id
  LEFT JOIN unnest(CAST(:odd AS TEXT[]), CAST(:utc AS TEXT[])) AS odd(given, utc) ON odd.given = u.created_ts
), counted AS (
  SELECT uow_id, status, band, told, store_count, first_write, write_count, created,
    CASE created WHEN '?' THEN created ELSE substr(created, 1, 13) END AS hour,
    CASE WHEN told THEN space_id END AS space,
    CASE WHEN told AND band IS DISTINCT FROM 'AMBER' THEN actor_id END AS actor,
    NOT told OR (band = 'AMBER' AND actor_id IS NOT NULL) AS actor_withheld,
    CASE WHEN told THEN coalesce(write_count, 0) ELSE 0 END AS writes,
    CASE WHEN told THEN greatest(total_bytes_written, 0) ELSE 0 END AS n_bytes,
    CASE WHEN told AND status <> 'failed' THEN greatest(retry_count, 0) ELSE 0 END AS retries,
    CASE WHEN status = 'failed' THEN error_type END AS error_type,
    CASE WHEN status = 'failed' AND told THEN failed_store END AS failed_store,
    CASE WHEN (told OR band = 'RED') AND execution_us >= 0 THEN execution_us END AS execution,
    CASE WHEN (told OR band = 'RED') AND commit_us >= 0 THEN commit_us END AS commit
  FROM plain
), chosen AS (
  SELECT * FROM counted
  WHERE (CAST(:band AS TEXT) IS NULL OR band = CAST(:band AS TEXT))
    AND (CAST(:space AS TEXT) IS NULL OR space = CAST(:space AS TEXT))
    AND (CAST(:since AS TEXT) IS NULL OR (created <> '?' AND created >= CAST(:since AS TEXT)))
    AND (CAST(:until AS TEXT) IS NULL OR (created <> '?' AND created < CAST(:until AS TEXT)))
)
"""
# Of a unit with several stores its writes say how much went to each.
_BY_STORE: Final = """
, shares AS (
  SELECT c.*, s.name, FALSE AS withheld, s.its_writes, s.its_bytes FROM chosen AS c CROSS JOIN LATERAL (
    SELECT w.store_name AS name, count(*) AS its_writes, CAST(coalesce(sum(w.bytes_written), 0) AS BIGINT) AS its_bytes
    FROM uow_writes AS w WHERE w.id >= c.first_write AND w.id < c.first_write + c.write_count GROUP BY w.store_name
  ) AS s WHERE c.told AND c.store_count > 0 AND c.first_write IS NOT NULL
  UNION ALL SELECT c.*, c.failed_store, FALSE, 0, 0 FROM chosen AS c
    WHERE c.failed_store IS NOT NULL AND (c.first_write IS NULL OR coalesce(c.store_count, 0) = 0)
  UNION ALL SELECT c.*, NULL, TRUE, 0, 0 FROM chosen AS c WHERE NOT c.told
)
"""
_SUMS: Final = """
  count(*), count(*) FILTER (WHERE status = 'committed'), count(*) FILTER (WHERE status = 'failed'),
  count(*) FILTER (WHERE status = 'rolled_back'), count(*) FILTER (WHERE status = 'pending'),
  CAST(coalesce(sum(retries), 0) AS BIGINT), CAST(coalesce(sum({writes}), 0) AS BIGINT),
  CAST(coalesce(sum({n_bytes}), 0) AS BIGINT),
  count(execution), CAST(sum(execution) AS BIGINT), percentile_disc(0.5) WITHIN GROUP (ORDER BY execution),
  percentile_disc(0.95) WITHIN GROUP (ORDER BY execution), percentile_disc(0.99) WITHIN GROUP (ORDER BY execution),
  max(execution),
  count(commit), CAST(sum(commit) AS BIGINT), percentile_disc(0.5) WITHIN GROUP (ORDER BY commit),
  percentile_disc(0.95) WITHIN GROUP (ORDER BY commit), percentile_disc(0.99) WITHIN GROUP (ORDER BY commit),
  max(commit)
"""
_OF_UNITS: Final = _SUMS.format(writes="writes", n_bytes="n_bytes")
_TOTAL: Final = f"{_COUNTED} SELECT min(nullif(hour, '?')), max(nullif(hour, '?')), {_OF_UNITS} FROM chosen"  # noqa: S608
_FAILURES: Final = (
    f"{_COUNTED} SELECT error_type, failed_store, count(*) FROM chosen WHERE status = 'failed'"  # noqa: S608
    " GROUP BY error_type, failed_store"
)
_SLOWEST: Final = (
    f"{_COUNTED} SELECT c.uow_id, c.band, c.space, u.created_ts, c.execution, c.commit"  # noqa: S608
    " FROM chosen AS c JOIN unit_of_work AS u ON u.uow_id = c.uow_id WHERE c.execution IS NOT NULL"
    f" ORDER BY c.execution DESC, c.uow_id DESC LIMIT {SLOWEST_MAX}"
)
_HOUR: Final = "CASE hour WHEN '?' THEN NULL ELSE substr(hour, 1, {}) END, FALSE"
_KEYS: Final = {
    GroupBy.SPACE: "space, NOT told",
    GroupBy.ACTOR: "actor, actor_withheld",
    GroupBy.BAND: "band, FALSE",
    GroupBy.HOUR: _HOUR.format(13),
    GroupBy.DAY: _HOUR.format(10),
    GroupBy.MONTH: _HOUR.format(7),
}
_GROUPED: Final = {
    by: f"{_COUNTED} SELECT {keys}, {_OF_UNITS} FROM chosen GROUP BY 1, 2"  # noqa: S608 - from above
    for by, keys in _KEYS.items()
} | {
    GroupBy.STORE: (
        f"{_COUNTED}{_BY_STORE} SELECT name, withheld, {_SUMS.format(writes='its_writes', n_bytes='its_bytes')}"  # noqa: S608
        " FROM shares GROUP BY 1, 2"
    )
}


def several(reader: Reader, questions: Sequence[Question]) -> list[Statistics]:
    """Answer several questions about the same units, whatever is committed meanwhile."""
    with closing(_held(reader)) as held:  # as long as it is not read to its end, all see the same
        next(held)
        odd = {str(text): utc(text) or NO_TIME for (text,) in reader.rows(_ODD_TIMES)}
        return [_answer(reader, question, odd) for question in questions]


def _held(reader: Reader) -> Generator[tuple[Any, ...]]:
    yield from reader.stream("SELECT 1")


def _answer(reader: Reader, question: Question, odd: dict[str, str]) -> Statistics:
    asked = {
        "odd": list(odd),
        "utc": list(odd.values()),
        "band": None if question.band is None else question.band.value,
        "space": question.space_id,
        "since": question.since,
        "until": question.until,
    }
    first, last, *sums = reader.rows(_TOTAL, asked)[0]
    grouped = [] if question.by is None else reader.rows(_GROUPED[question.by], asked)
    failures = [FailureCount(*row) for row in reader.rows(_FAILURES, asked)]
    return Statistics(
        _group(None, withheld=False, sums=sums),
        question.by,
        tuple(_ordered((_group(name, withheld=hides, sums=rest) for name, hides, *rest in grouped), question.by)),
        tuple(sorted(failures, key=lambda one: (-one.units, one.error_type or "", one.failed_store or ""))),
        tuple(_slow(*row) for row in reader.rows(_SLOWEST, asked)),
        reader.rows("SELECT count(*) FROM uow_coordination")[0][0],
        first,
        last,
    )


def _group(name: str | None, *, withheld: bool, sums: Sequence[Any]) -> StatisticsGroup:
    units, committed, failed, rolled_back, pending, retries, writes, n_bytes, *times = sums
    return StatisticsGroup(
        name,
        withheld,
        units=units,
        committed=committed,
        failed=failed,
        rolled_back=rolled_back,
        pending=pending,
        retries=retries,
        writes=writes,
        bytes=n_bytes,
        execution=_durations(*times[:6]),
        commit=_durations(*times[6:]),
    )


def _durations(count: int, total: int | None, *ranks: int) -> Durations:
    return Durations() if total is None else Durations(count, total / count, *ranks)


def _ordered(groups: Iterable[StatisticsGroup], by: GroupBy | None) -> list[StatisticsGroup]:
    in_time = by in (GroupBy.HOUR, GroupBy.DAY, GroupBy.MONTH)
    return sorted(groups, key=lambda group: (0 if in_time else -group.units, group.name or "", group.withheld))


def _slow(  # noqa: PLR0917 - the columns of a row
    uow_id: str, band: str | None, space: str | None, created: str, execution_us: int, commit_us: int | None
) -> SlowUnit:
    return SlowUnit(uow_id, band, space if band in (Band.GREEN, Band.AMBER) else None, created, execution_us, commit_us)
