"""The ledger's rows about units that are not settled outside it: intents, decisions still to be published, owners.

Promise: a row appears before anything outside exists for it and goes only after every store has answered. Whoever acts
on a row of somebody else's first takes it over: one conditional UPDATE on the epoch decides who that is, and the former
owner, should it wake up, finds its epoch gone and changes nothing. Leases run by the ledger's clock (`_leases`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from memoryos_uow import _leases, _owner
from memoryos_uow._names import Dialect, Operation
from memoryos_uow.abc import Redo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from memoryos_uow.abc import Reader, Transaction

LEASE_S: Final = 60.0
"""How long an owner is left alone that cannot be seen to be dead."""
_LEASE_MS: Final = int(LEASE_S * 1000)

_NO_UNIT: Final = "-"

_INSERT: Final = {
    dialect: "INSERT INTO uow_coordination (uow_id, state, epoch, owner, lease_until_ms, unit, plan)"  # noqa: S608
    f" VALUES (?, ?, 1, ?, {moment}, ?, ?)"
    for dialect, moment in _leases.MOMENT.items()
}
_DECIDE: Final = {
    dialect: f"UPDATE uow_coordination SET state = ?, lease_until_ms = {moment}"  # noqa: S608 - from `_leases`
    " WHERE uow_id = ? AND epoch = ? AND state = 'preparing'"
    for dialect, moment in _leases.MOMENT.items()
}
_UNSETTLED: Final = (
    "SELECT uow_id, state, epoch, owner, lease_until_ms, unit, plan FROM uow_coordination"
    " WHERE uow_id > ? ORDER BY uow_id LIMIT ?"
)
_OWING: Final = "SELECT store, commit_seq, seq, uow_id, space_id, key, operation, payload FROM uow_redo"
_AS_IS: Final = "SELECT uow_id, epoch, state FROM uow_coordination WHERE uow_id BETWEEN ? AND ?"
_TAKE_OVER: Final = (
    "UPDATE uow_coordination SET epoch = epoch + 1, owner = ?, lease_until_ms = ? WHERE uow_id = ? AND epoch = ?"
    " AND state = ?"
)
# Many recoverers at once wait for nobody, and cannot lock each other out; what decides is that epoch and state are as
# they were, which is looked at once more under the lock.
_TAKE_OVER_AMONG_MANY: Final = f"""
UPDATE uow_coordination AS c SET epoch = c.epoch + 1, owner = ?, lease_until_ms = {_leases.MOMENT[Dialect.POSTGRESQL]}
FROM unnest(CAST(? AS TEXT[]), CAST(? AS BIGINT[]), CAST(? AS TEXT[])) AS f(uow_id, epoch, state)
WHERE c.uow_id = f.uow_id AND c.epoch = f.epoch AND c.state = f.state AND c.uow_id IN (
  SELECT uow_id FROM uow_coordination WHERE uow_id = ANY(CAST(? AS TEXT[])) FOR UPDATE SKIP LOCKED
)
RETURNING c.uow_id
"""  # noqa: S608 - from `_leases`
# Whoever records an intent, decides or forgets waits for this, and this for them; readers do not.
_SHUT_OUT: Final = "LOCK TABLE uow_coordination IN SHARE ROW EXCLUSIVE MODE"
_TAKE_PART: Final = "LOCK TABLE uow_coordination IN ROW EXCLUSIVE MODE"
_ALL: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Unsettled:
    """One row of ``uow_coordination``."""

    uow_id: str
    decided: bool
    epoch: int
    owner: str
    lease_until_ms: int
    unit_text: str
    plan_text: str

    @property
    def unit(self) -> Mapping[str, Any]:
        """The unit's own columns, as its row will have them."""
        return cast("Mapping[str, Any]", json.loads(self.unit_text))

    @property
    def plan(self) -> Mapping[str, Sequence[str]]:
        """By store, the tokens of what was or was to be made outside before the decision."""
        return cast("Mapping[str, Sequence[str]]", json.loads(self.plan_text))

    def is_free(self, now_ms: int) -> bool:
        """Say whether another process may take it over: its owner is gone, or has not been heard of for a lease.

        A lease that ends later than any taken now could was taken before the clock went back, and counts for nothing.
        """
        is_running = now_ms < self.lease_until_ms <= now_ms + 2 * _LEASE_MS
        return not is_running or _owner.is_gone(self.owner)


def insert(
    tx: Transaction, uow_id: str, *, decided: bool, unit: Mapping[str, Any], plan: Mapping[str, Sequence[str]]
) -> None:
    """Write the row of a unit that this process owns, at epoch 1."""
    tx.execute(
        _INSERT[tx.dialect],
        (
            uow_id,
            _state(decided=decided),
            _owner.own_name(),
            _leases.moment(tx, _LEASE_MS),
            json.dumps(unit, separators=(",", ":")),
            json.dumps(plan, separators=(",", ":")),
        ),
    )


def decide(tx: Transaction, uow_id: str, epoch: int = 1) -> bool:
    """Turn this process's intent into a decision; return whether the unit is still ours to decide."""
    return tx.execute(_DECIDE[tx.dialect], ("committed", _leases.moment(tx, _LEASE_MS), uow_id, epoch)) == 1


def keep(tx: Transaction, uow_id: str) -> bool:
    """Begin a new lease on this process's intent; return whether the unit is still ours."""
    return tx.execute(_DECIDE[tx.dialect], ("preparing", _leases.moment(tx, _LEASE_MS), uow_id, 1)) == 1


def take_over(tx: Transaction, found: Sequence[Unsettled]) -> list[Unsettled]:
    """Become the owner of units, in the order of their ids; return those that are still as they were found.

    Of the others somebody was faster, and that may be the owner: paused for a lease, it has woken up and decided since
    the look. Such a unit is not to be abandoned.
    """
    own, until = _owner.own_name(), _leases.moment(tx, _LEASE_MS)
    if tx.dialect is Dialect.POSTGRESQL:
        ids, epochs = [one.uow_id for one in found], [one.epoch for one in found]
        states = [_state(decided=one.decided) for one in found]
        ours = {uow_id for (uow_id,) in tx.rows(_TAKE_OVER_AMONG_MANY, (own, until, ids, epochs, states, ids))}
        return [one for one in found if one.uow_id in ours]
    span = (found[0].uow_id, found[-1].uow_id)
    now = {uow_id: as_is for uow_id, *as_is in tx.rows(_AS_IS, span)}
    taken = [one for one in found if now.get(one.uow_id) == [one.epoch, _state(decided=one.decided)]]
    tx.execute_many(_TAKE_OVER, ((own, until, one.uow_id, one.epoch, _state(decided=one.decided)) for one in taken))
    return taken


def shut_out(tx: Transaction) -> None:
    """Keep every unit from making anything outside until `tx` ends, and wait for those that are about to decide.

    On SQLite the lock that `tx` holds does so.
    """
    if tx.dialect is Dialect.POSTGRESQL:
        tx.execute(_SHUT_OUT)


def take_part(tx: Transaction) -> None:
    """Keep whoever calls `shut_out` waiting until `tx`, a unit's own, ends: it records no intent."""
    if tx.dialect is Dialect.POSTGRESQL:
        tx.execute(_TAKE_PART)


def write_over(tx: Transaction) -> None:
    """Have this transaction write something, so that it takes the place of a lost commit in the log."""
    insert(tx, _NO_UNIT, decided=False, unit={}, plan={})
    forget(tx, [_NO_UNIT])


def forget(tx: Transaction, uow_ids: Iterable[str]) -> None:
    """Remove everything that a recoverer would have needed of these units."""
    rows = [(uow_id,) for uow_id in uow_ids]
    tx.execute_many("DELETE FROM uow_redo WHERE uow_id = ?", rows)
    tx.execute_many("DELETE FROM uow_coordination WHERE uow_id = ?", rows)


def unsettled(reader: Reader, *, after: str = "", limit: int = _ALL) -> list[Unsettled]:
    """Return unsettled units in the order of their ids, from behind the id `after`."""
    rows = reader.rows(_UNSETTLED, (after, limit))
    return [
        Unsettled(uow_id, state == "committed", epoch, owner, lease, unit, plan)
        for uow_id, state, epoch, owner, lease, unit, plan in rows
    ]


def planned(reader: Reader, store: str) -> set[str]:
    """Return the ids of all units at work, and the tokens of what they make outside in `store`."""
    found: set[str] = set()
    for one in unsettled(reader):
        found.add(one.uow_id)
        found.update(one.plan.get(store, ()))
    return found


def insert_redo(tx: Transaction, store: str, entries: Iterable[Redo]) -> None:
    """Keep what `store` has to publish."""
    tx.execute_many(
        "INSERT INTO uow_redo (commit_seq, seq, uow_id, store, space_id, key, operation, payload)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        ((e.commit_seq, e.seq, e.uow_id, store, e.space_id, e.key, e.operation.value, e.payload) for e in entries),
    )


def redo_of(reader: Reader, uow_ids: Sequence[str]) -> dict[str, list[Redo]]:
    """Return what these units have still to publish, by store, in commit order."""
    marks = ", ".join("?" * len(uow_ids))
    found: dict[str, list[Redo]] = {}
    rows = reader.rows(f"{_OWING} WHERE uow_id IN ({marks}) ORDER BY commit_seq, seq", uow_ids)
    for store, commit_seq, seq, uow_id, space_id, key, operation, payload in rows:
        entry = Redo(commit_seq, seq, uow_id, space_id, key, Operation(operation), payload)
        found.setdefault(store, []).append(entry)
    return found


def _state(*, decided: bool) -> str:
    return "committed" if decided else "preparing"
