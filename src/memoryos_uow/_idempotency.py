"""The ledger's rows about idempotency keys: which unit was committed, its result, who is at it now.

A key's row is first a *claim*: somebody is at work under this key. The transaction that decides the unit turns it into
an *answer*. A claim of a process that is gone is free; so is an answer that has expired.

Promise: of all who work under one key at most one turns its claim into an answer, because the claim's token is compared
inside the deciding transaction. A row that is not an answer says nothing about any unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from memoryos_uow import _ambient, _leases, _owner
from memoryos_uow._names import Dialect

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memoryos_uow.abc import Reader, Transaction

LEASE_S: Final = 60.0
"""How long a claim is left alone whose owner cannot be seen, neither alive nor dead."""

FORGOTTEN_AFTER_S: Final = 7 * 86_400
"""After this long even the claim of a living process is swept: whoever comes back to it finds that it was lost."""

SWEEP_STEP: Final = 20
"""How many expired rows one claim takes with it: it leaves at most one row, so they become fewer."""

_LOOK: Final = {
    dialect: f"SELECT claim, owner, arguments, uow_id, result, expires_ms, {moment}"  # noqa: S608 - from `_leases`
    " FROM uow_idempotency WHERE space_id = ? AND key = ?"
    for dialect, moment in _leases.MOMENT.items()
}
# Only over the row that was seen: where there is no lock on all, another one may have come meanwhile.
_CLAIM: Final = {
    dialect: "INSERT INTO uow_idempotency"  # noqa: S608 - from `_leases`
    " (space_id, key, claim, owner, arguments, uow_id, result, created_ts, expires_ms)"
    f" VALUES (?, ?, ?, ?, ?, NULL, NULL, ?, {moment})"
    " ON CONFLICT (space_id, key) DO UPDATE SET claim = excluded.claim, owner = excluded.owner,"
    " arguments = excluded.arguments, uow_id = NULL, result = NULL, created_ts = excluded.created_ts,"
    " expires_ms = excluded.expires_ms"
    " WHERE uow_idempotency.claim IS ? AND uow_idempotency.uow_id IS ? AND uow_idempotency.expires_ms = ?"
    for dialect, moment in _leases.MOMENT.items()
}
_SETTLE: Final = {
    dialect: "UPDATE uow_idempotency SET claim = NULL, owner = NULL, uow_id = ?, result = ?,"  # noqa: S608
    f" expires_ms = {moment} WHERE space_id = ? AND key = ? AND claim = ?"
    for dialect, moment in _leases.MOMENT.items()
}
_PIN: Final = "UPDATE uow_idempotency SET owner = ?, expires_ms = ? WHERE space_id = ? AND key = ? AND claim = ?"
_PINNED: Final = "a unit in doubt"
"""As owner no process, so nobody finds it gone."""
_FOR_EVER_MS: Final = 253_402_300_799_000
"""The end of the year 9999."""
# What returned nothing tells nothing, and is given back as before.
_FORGET: Final = (
    "UPDATE uow_idempotency SET arguments = NULL, result = CASE WHEN result IS NULL THEN NULL ELSE ? END"
    " WHERE claim IS NULL AND uow_id IN (SELECT u.uow_id FROM uow_ledger AS l JOIN unit_of_work AS u"
    " ON u.rowid = l.unit WHERE l.commit_seq = ?)"
)
_SKIP: Final = {Dialect.SQLITE: "", Dialect.POSTGRESQL: " FOR UPDATE SKIP LOCKED"}
_SWEEP: Final = {
    dialect: "DELETE FROM uow_idempotency WHERE (space_id, key) IN (SELECT space_id, key FROM uow_idempotency"  # noqa: S608
    f" WHERE expires_ms <= {moment} AND (claim IS NULL OR expires_ms <= {moment})"
    f" ORDER BY expires_ms LIMIT ?{_SKIP[dialect]})"
    for dialect, moment in _leases.MOMENT.items()
}


ERASED: Final = "erased"
"""In the place of a result that was erased; no JSON text reads so."""


@dataclass(slots=True)
class Claim:
    """Who wants to work under which key, and with what the key's row will answer once the unit is committed."""

    space_id: str
    key: str
    arguments: str | None
    """Digest of what is asked for; None where that was not said."""
    ttl_s: float
    """How long the answer is kept."""
    token: str
    """Tells this claim from every other one on the same key."""
    result: str | None = None
    """JSON; None where nothing is returned."""
    lost: bool = False
    """Somebody else took the key over."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key's row as it was found."""

    claim: str | None
    """The token of who is at work; None: this is an answer."""
    owner: str | None
    arguments: str | None
    uow_id: str | None
    result: str | None
    expires_ms: int
    now_ms: int
    """The time by the ledger's clock when it was found."""

    @property
    def is_answer(self) -> bool:
        """Whether a unit was committed under this key, and is remembered still."""
        return self.claim is None and self.expires_ms > self.now_ms

    @property
    def is_free(self) -> bool:
        """Whether nobody is at work under this key and nobody was, as far as can be known."""
        if self.claim is None:
            return not self.is_answer
        owner = self.owner or ""
        return _owner.is_gone(owner) or (self.expires_ms <= self.now_ms and not _owner.is_there(owner))


def look(reader: Reader, space_id: str, key: str) -> KeyRow | None:
    """Return the row of a key, or None."""
    found = reader.rows(_LOOK[reader.dialect], (_leases.moment(reader), space_id, key))
    return KeyRow(*found[0]) if found else None


def claim(tx: Transaction, mine: Claim, seen: KeyRow | None) -> bool:
    """Claim a key in place of the free row that was `seen`, None for none; return False if that is not so any more."""
    until, owner = _leases.moment(tx, int(LEASE_S * 1000)), _owner.own_name()
    row = (mine.space_id, mine.key, mine.token, owner, mine.arguments, _ambient.now_text(), until)
    there = ("", "", -1) if seen is None else (seen.claim, seen.uow_id, seen.expires_ms)
    return tx.execute(_CLAIM[tx.dialect], (*row, *there)) == 1


def pin(tx: Transaction, mine: Claim) -> bool:
    """Keep a claim whoever dies: another store decides its unit. Return False if the key was taken over meanwhile."""
    return tx.execute(_PIN, (_PINNED, _FOR_EVER_MS, mine.space_id, mine.key, mine.token)) == 1


def unpin(tx: Transaction, mine: Claim) -> None:
    """Make a pinned claim one of this process again: its unit is known not to be committed."""
    until_ms = _ambient.unix_ms() + int(LEASE_S * 1000)
    tx.execute(_PIN, (_owner.own_name(), until_ms, mine.space_id, mine.key, mine.token))


def settle(tx: Transaction, mine: Claim, uow_id: str) -> bool:
    """Turn a claim into the answer that unit `uow_id` gives; return False if the key was taken over meanwhile."""
    expires = _leases.moment(tx, int(mine.ttl_s * 1000))
    settled = tx.execute(_SETTLE[tx.dialect], (uow_id, mine.result, expires, mine.space_id, mine.key, mine.token))
    return settled == 1


def release(tx: Transaction, mine: Claim, *, pinned: bool = False) -> None:
    """Remove a claim that came to nothing; an answer, or a claim of somebody else's, stays, and so does a pinned one.

    With `pinned` that goes, too: its unit is known not to be committed.
    """
    tx.execute(
        "DELETE FROM uow_idempotency WHERE space_id = ? AND key = ? AND claim = ? AND owner <> ?",
        (mine.space_id, mine.key, mine.token, "" if pinned else _PINNED),
    )


def forget_results(tx: Transaction, commits: Iterable[int]) -> None:
    """Remove what was asked of these units, by commit_seq, and what they answered; that they answered stays."""
    tx.execute_many(_FORGET, [(ERASED, commit_seq) for commit_seq in commits])


def sweep(tx: Transaction, limit: int = SWEEP_STEP) -> int:
    """Remove at most `limit` expired answers and long forgotten claims; return how many there were."""
    now, long_ago = _leases.moment(tx), _leases.moment(tx, -FORGOTTEN_AFTER_S * 1000)
    return tx.execute(_SWEEP[tx.dialect], (now, long_ago, limit))
