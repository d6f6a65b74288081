"""Everything that a page shows, gathered before a word of it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from memoryos_uow.statistics import GroupBy, Statistics, StatisticsGroup
    from memoryos_uow.verification import Verification


class InDoubt(NamedTuple):
    """A unit that is not settled in every store."""

    uow_id: str
    decided: bool
    """Whether it is committed, and a store has still to publish its part; otherwise nothing is decided yet."""


class Storage(NamedTuple):
    """How much of the file something takes."""

    name: str
    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """What is told of one ledger."""

    name: str
    """The file's name, without its directory; or the database's."""
    origin: str | None
    made_ts: str
    contract_version: str
    layouts: tuple[str, ...]
    """The schema files that were applied."""
    since: str | None
    until: str | None
    statistics: Statistics
    over_time: tuple[StatisticsGroup, ...]
    """One for each hour, day or month, also where there were no units; the newest, if there are too many."""
    step: GroupBy
    bands: tuple[StatisticsGroup, ...]
    stores: tuple[StatisticsGroup, ...]
    spaces: tuple[StatisticsGroup, ...]
    in_doubt: tuple[InDoubt, ...]
    """The first of them."""
    violations: dict[str, int] | None
    """By rule how many rows break it; None where there is nothing to validate."""
    verification: Verification | None
    """None if nobody asked for it."""
    not_verified: str | None
    """Why not, as a sentence."""
    storage: tuple[Storage, ...]
    """Largest first."""
    file_bytes: int
    """Of the file, or of the whole database."""
    log_bytes: int | None
    """Of the write-ahead log beside the file; None for a database."""
