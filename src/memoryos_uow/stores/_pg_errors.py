"""What PostgreSQL says to a store, in this library's words.

Promise: every exception of psycopg's becomes a `StoreError` with a hint; no text names a value that was stored or
bound, nor a password. What an error means follows from its SQLSTATE
(https://www.postgresql.org/docs/current/errcodes-appendix.html).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from memoryos_uow.errors import ConflictError, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from memoryos_uow.errors import UnitOfWorkError

NO_SUCH_GID: Final = "42704"
BUSY_GID: Final = "55000"
LOCK_TIMEOUT: Final = "55P03"
MARKER: Final = "uow_marker_pkey"

_CONFLICTS: Final = ("40001", "40P01")
_PASSWORD: Final = ("28P01", "28000")
_NOTHING: Final = "Nothing of the unit was written."
_LOCKED: Final = (
    StoreUnavailable,
    "Somebody else kept records in {place} locked for too long.",
    "Run the unit again; if a unit is in doubt, `memoryos-uow recover` settles it.",
)
_KNOWN: Final[Mapping[str, tuple[type[StoreError], str, str]]] = {
    LOCK_TIMEOUT: _LOCKED,
    "57014": _LOCKED,
    "25006": (
        StoreUnavailable,
        "{place} can only be read: it is a replica, or set to read-only.",
        "Open the primary server.",
    ),
    "42710": (
        StoreError,
        "Somebody else has prepared a transaction in {place} under this unit's name.",
        "See pg_prepared_xacts: who owns it has to finish it.",
    ),
    "42501": (StoreError, "The role lacks a privilege in {place}.", "Have the owner of the tables grant it."),
    "0A000": (
        StoreError,
        "The server of {place} cannot do this here.",
        "A prepared transaction belongs to the database and the role that prepared it; see pg_prepared_xacts.",
    ),
    "08P01": (
        StoreError,
        "{place} does not let transactions be begun.",
        "A pooler has to lend its connections for whole transactions: pool_mode = transaction, or session.",
    ),
}


def state_of(error: BaseException) -> str:
    """Return the SQLSTATE of `error`; empty if it did not come from the server."""
    return getattr(error, "sqlstate", None) or ""


def is_lost(error: BaseException) -> bool:
    """Say whether the connection is gone, so that what became of the statement is not known."""
    return not state_of(error) or state_of(error)[:2] in ("08", "57")


def hit_tombstone(error: BaseException) -> bool:
    """Say whether the unit's marker could not be written because one is there."""
    diagnosis: Any = getattr(error, "diag", None)
    return state_of(error) == "23505" and getattr(diagnosis, "constraint_name", None) == MARKER


def translate(error: BaseException, place: str, store: str) -> UnitOfWorkError:
    """Return the error of ours that says what `error` means for the store called `store`."""
    state = state_of(error)
    if hit_tombstone(error):
        return ConflictError(
            "Recovery took this unit over, because its process had not been heard of for too long.",
            hint="Nothing was written. Run the whole block again.",
            store=store,
        )
    if state in _CONFLICTS:
        return ConflictError(
            f"Somebody else changed the same records in {place} at the same time.",
            hint="Nothing was written. Run the whole block again.",
            store=store,
        )
    if state in _KNOWN:
        kind, problem, hint = _KNOWN[state]
        return kind(problem.format(place=place), hint=f"{_NOTHING} {hint}", store=store)
    if not state or state[:2] in ("08", "53", "57"):
        return _unreachable(error, place, store)
    words = f": {_words(error)}" if state[:2] not in ("22", "23") else ""
    constraint = getattr(getattr(error, "diag", None), "constraint_name", None)
    broken = f", constraint {constraint}" if constraint else ""
    return StoreError(f"{place} refused ({state}{broken}){words}.", hint=_NOTHING, store=store)


def _unreachable(error: BaseException, place: str, store: str) -> StoreUnavailable:
    text = str(error)
    if state_of(error) in _PASSWORD or "authentication failed" in text or "no password supplied" in text:
        problem, hint = "refused the user or the password", "Check both; libpq also reads $PGPASSWORD and ~/.pgpass."
    elif "does not exist" in text and "database" in text:
        problem, hint = "is no database of that server", "Create it first: createdb."
    else:
        problem, hint = "cannot be reached, or does not answer", "Try again once it does; nothing decided is lost."
    return StoreUnavailable(f"{place} {problem}.", hint=hint, store=store)


def _words(error: BaseException) -> str:
    """Return the server's main sentence, which names tables and privileges but no values."""
    diagnosis: Any = getattr(error, "diag", None)
    return str(getattr(diagnosis, "message_primary", None) or type(error).__name__).rstrip(".")
