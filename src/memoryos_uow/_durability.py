"""How durable the commits of a ledger are: what was asked for, and what the server it lives on gives.

Promise: what is recorded is what the server said when the ledger was opened; a row is added only when that has changed,
so the rows tell since when commits have been as durable as they are. A ledger in a file needs no record: the library
itself syncs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow import _ambient
from memoryos_uow._names import Durability

if TYPE_CHECKING:
    from memoryos_uow.engines._pg_connecting import ServerFacts
    from memoryos_uow.engines.postgres import PostgresEngine

_NEWEST: Final = (
    "SELECT fsync, full_page_writes, synchronous_commit, standbys FROM uow_durability ORDER BY since_ts DESC LIMIT 1"
)
_INSERT: Final = (
    "INSERT INTO uow_durability (since_ts, fsync, full_page_writes, synchronous_commit, standbys)"
    " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)


class CommitDurability(NamedTuple):
    """What a commit of a ledger that has returned can be trusted to survive."""

    asked: Durability
    """What the ledger was opened with."""
    survives_power_cut: bool
    """Whether the disk has it."""
    standbys: str = ""
    """PostgreSQL's ``synchronous_standby_names``: another machine has it too. Empty: none waits for it."""


def given(asked: Durability, facts: ServerFacts | None) -> CommitDurability:
    """Return what a ledger gives that was opened with `asked`; `facts` are those of its server, None of a file."""
    full = asked is Durability.FULL
    if facts is None:
        return CommitDurability(asked, survives_power_cut=full)
    return CommitDurability(asked, survives_power_cut=full and facts.fsync, standbys=facts.standbys if full else "")


def record(engine: PostgresEngine) -> None:
    """Write down what the server gives, if that has changed."""
    facts = engine.facts
    now = (_on(yes=facts.fsync), _on(yes=facts.full_page_writes), facts.synchronous_commit, facts.standbys)
    with engine.reader() as reader:
        newest = reader.rows(_NEWEST)
    if newest != [now] and not engine.read_only:
        tx = engine.begin()
        try:
            tx.execute(_INSERT, (_ambient.now_text(), *now))
            tx.commit()
        finally:
            tx.rollback()


def _on(*, yes: bool) -> str:
    return "on" if yes else "off"
