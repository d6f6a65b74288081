"""The ledger's rows about idempotency keys: which unit was committed, its result, who is at it now.

A key's row is first a *claim*: somebody is at work under this key. The transaction that decides the unit turns it into
an *answer*. A claim of a process that is gone is free; so is an answer that has expired.

Promise: of all who work under one key at most one turns its claim into an answer, because the claim's token is compared
inside the deciding transaction. A row that is not an answer says nothing about any unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from memoryos_uow import _ambient, _owner

if TYPE_CHECKING:
    from collections.abc import Iterable

    from memoryos_uow.abc import Reader, Transaction

LEASE_S: Final = 60.0
"""How long a claim is left alone whose owner cannot be seen, neither alive nor dead."""

FORGOTTEN_AFTER_S: Final = 7 * 86_400
"""After this long even the claim of a living process is swept: whoever comes back to it finds that it was lost."""

SWEEP_STEP: Final = 20
"""How many expired rows one claim takes with it: it leaves at most one row, so they become fewer."""

_LOOK: Final = (
    "SELECT claim, owner, arguments, uow_id, result, expires_ms FROM uow_idempotency WHERE space_id = ? AND key = ?"
)
_CLAIM: Final = (
    "INSERT INTO uow_idempotency (space_id, key, claim, owner, arguments, uow_id, result, created_ts, expires_ms)"
    " VALUES (?, ?, ?, ?, ?, NULL, NULL, ?, ?)"
    " ON CONFLICT (space_id, key) DO UPDATE SET claim = excluded.claim, owner = excluded.owner,"
    " arguments = excluded.arguments, uow_id = NULL, result = NULL, created_ts = excluded.created_ts,"
    " expires_ms = excluded.expires_ms"
)
_SETTLE: Final = (
    "UPDATE uow_idempotency SET claim = NULL, owner = NULL, uow_id = ?, result = ?, expires_ms = ?"
    " WHERE space_id = ? AND key = ? AND claim = ?"
)
# What returned nothing tells nothing, and is given back as before.
_FORGET: Final = (
    "UPDATE uow_idempotency SET arguments = NULL, result = CASE WHEN result IS NULL THEN NULL ELSE ? END"
    " WHERE claim IS NULL AND uow_id IN (SELECT u.uow_id FROM uow_ledger AS l JOIN unit_of_work AS u"
    " ON u.rowid = l.unit WHERE l.commit_seq = ?)"
)
_SWEEP: Final = (
    "DELETE FROM uow_idempotency WHERE id IN (SELECT id FROM uow_idempotency"
    " WHERE expires_ms <= ?1 AND (claim IS NULL OR expires_ms <= ?2) ORDER BY expires_ms LIMIT ?3)"
)


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

    @property
    def is_answer(self) -> bool:
        """Whether a unit was committed under this key, and is remembered still."""
        return self.claim is None and self.expires_ms > _ambient.unix_ms()

    @property
    def is_free(self) -> bool:
        """Whether nobody is at work under this key and nobody was, as far as can be known."""
        if self.claim is None:
            return not self.is_answer
        owner = self.owner or ""
        return _owner.is_gone(owner) or (self.expires_ms <= _ambient.unix_ms() and not _owner.is_there(owner))


def look(reader: Reader, space_id: str, key: str) -> KeyRow | None:
    """Return the row of a key, or None."""
    found = reader.rows(_LOOK, (space_id, key))
    return KeyRow(*found[0]) if found else None


def claim(tx: Transaction, mine: Claim) -> None:
    """Write a claim over whatever is there: the caller has seen, in the same transaction, that the key is free."""
    until_ms = _ambient.unix_ms() + int(LEASE_S * 1000)
    owner = _owner.own_name()
    tx.execute(_CLAIM, (mine.space_id, mine.key, mine.token, owner, mine.arguments, _ambient.now_text(), until_ms))


def settle(tx: Transaction, mine: Claim, uow_id: str) -> bool:
    """Turn a claim into the answer that unit `uow_id` gives; return False if the key was taken over meanwhile."""
    expires_ms = _ambient.unix_ms() + int(mine.ttl_s * 1000)
    return tx.execute(_SETTLE, (uow_id, mine.result, expires_ms, mine.space_id, mine.key, mine.token)) == 1


def release(tx: Transaction, mine: Claim) -> None:
    """Remove a claim that came to nothing; an answer, or a claim of somebody else's, stays."""
    tx.execute(
        "DELETE FROM uow_idempotency WHERE space_id = ? AND key = ? AND claim = ?",
        (mine.space_id, mine.key, mine.token),
    )


def forget_results(tx: Transaction, commits: Iterable[int]) -> None:
    """Remove what was asked of these units, by commit_seq, and what they answered; that they answered stays."""
    tx.execute_many(_FORGET, [(ERASED, commit_seq) for commit_seq in commits])


def sweep(tx: Transaction, limit: int = SWEEP_STEP) -> int:
    """Remove at most `limit` expired answers and long forgotten claims; return how many there were."""
    now = _ambient.unix_ms()
    return tx.execute(_SWEEP, (now, now - FORGOTTEN_AFTER_S * 1000, limit))
