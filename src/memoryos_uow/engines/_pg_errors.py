"""PostgreSQL's errors in this library's words.

Promise: every exception that psycopg can raise becomes one of ours with a hint, the original chained; the texts name
conditions, tables and constraints, never the value of a parameter nor a stored one, and never a password. What an error
means follows from its SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html), not from its words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from memoryos_uow.errors import ConflictError, LedgerBusy, LedgerCorrupt, LedgerError, StoreError, UsageError

if TYPE_CHECKING:
    from memoryos_uow.errors import UnitOfWorkError

_NOTHING_WRITTEN: Final = "Nothing of the unit was written."

SERIALIZATION: Final = ("40001", "40P01")
"""Another transaction was faster; the same again may succeed."""
_WAITED: Final = ("55P03", "57014", "53300", "57P03")  # lock and statement time-outs, too many connections, starting up
_LOST: Final = ("57P01", "57P02", "57P05", "25P03")  # closed by the server
_READ_ONLY: Final = "25006"
_ABORTED: Final = "25P02"
_PRIVILEGE: Final = "42501"
_PASSWORD: Final = ("28P01", "28000")
_NO_DATABASE: Final = "3D000"
_NO_STATEMENT: Final = "26000"
_UNSUPPORTED: Final = "0A000"


def state_of(error: BaseException) -> str:
    """Return the SQLSTATE of `error`; empty if it did not come from the server."""
    return getattr(error, "sqlstate", None) or ""


def is_lost(error: BaseException) -> bool:
    """Say whether `error` means that the connection is gone, so that what became of the statement is not known."""
    state = state_of(error)
    if state:
        severity = getattr(getattr(error, "diag", None), "severity_nonlocalized", None)
        return state[:2] == "08" or state in _LOST or severity in _ENDS_CONNECTION
    return isinstance(error, OSError) or type(error).__name__ in _OF_CONNECTIONS


_ENDS_CONNECTION: Final = ("FATAL", "PANIC")
_OF_CONNECTIONS: Final = ("OperationalError", "ConnectionTimeout", "InterfaceError", "PipelineAborted")


def of_moved_server(error: BaseException) -> bool:
    """Say whether `error` means that the server is a replica by now, or was told not to take writes."""
    return state_of(error) == _READ_ONLY


def translate(error: BaseException, place: str, *, with_values: bool = False) -> UnitOfWorkError:
    """Return the error of ours that says what `error`, raised by psycopg for the ledger at `place`, means.

    `with_values`: a statement with bound parameters ran, so that the server's own words may quote one.
    """
    state = state_of(error)
    if state in SERIALIZATION:
        return ConflictError(
            "Another unit changed the same records at the same time.",
            hint="Nothing was written. Run the whole block again; ledger.run does that by itself.",
        )
    if state in _WAITED:
        return LedgerBusy(
            f"Other units kept {place} busy.",
            hint="Nothing was written. Run the unit again, or allow more busy_timeout.",
        )
    if is_lost(error):
        return unreachable(place)
    if state[:2] == "23":
        return StoreError(f"A constraint refused the write: {_words(error)}.", hint=_NOTHING_WRITTEN)
    return _translate_rest(error, state, place, with_values=with_values)


def _translate_rest(  # noqa: PLR0911 - a table of cases
    error: BaseException, state: str, place: str, *, with_values: bool
) -> UnitOfWorkError:
    if state == _ABORTED:
        return StoreError(
            "An earlier statement of this unit failed, and PostgreSQL has undone the whole unit.",
            hint=f"{_NOTHING_WRITTEN} End the block, and run it again without that statement.",
        )
    if state == _READ_ONLY:
        return LedgerError(
            f"{place} can only be read: it is a replica, or set to read-only.",
            hint=f"{_NOTHING_WRITTEN} Open the primary server.",
        )
    if state == _PRIVILEGE:
        return LedgerError(
            f"The role lacks a privilege in {place}: {_words(error)}.",
            hint=f"{_NOTHING_WRITTEN} Have the owner grant it.",
        )
    if state == _NO_STATEMENT or (state == _UNSUPPORTED and "cached plan" in _words(error)):
        return ConflictError(
            "A statement that was prepared before fits no more: a table was changed, or a pooler lent another session.",
            hint="Nothing was written. Run the whole block again; behind a pooler put uow_pooler=transaction into the"
            " ledger's address.",
        )
    if state[:2] in ("XX", "58"):
        return LedgerCorrupt(f"The server of {place} reports an internal error ({state}).", hint="See its log.")
    if state[:2] in ("53", "54"):
        return LedgerError(
            f"The server of {place} is out of a resource: {_words(error)}.", hint=f"{_NOTHING_WRITTEN} See its log."
        )
    if state[:2] in ("22", "21", "42", "0A", "26", "34", "2F", "P0", "38", "39", "HV") or not state:
        # Data errors quote the value, and so may what psycopg itself could not adapt.
        why = "" if with_values or state[:2] == "22" or not state else f": {_words(error)}"
        return UsageError(
            f"PostgreSQL refused the statement ({state or type(error).__name__}){why}.", hint=_NOTHING_WRITTEN
        )
    return LedgerError(f"The server of {place} reports {state}.", hint=f"{_NOTHING_WRITTEN} See its log.")


def without_values(error: BaseException) -> BaseException:
    """Return what may be chained to an error of ours: the server's details hold values of rows, psycopg's words too."""
    state = state_of(error)
    if not state:
        return error
    return type(error)(state if state[:2] == "22" else f"{_words(error)} ({state})")


def unreachable(place: str) -> LedgerError:
    """Return what is to be said where the server does not answer, or no more."""
    lost = LedgerError(
        f"The connection to {place} is gone, or the server cannot be reached.",
        hint="Nothing was written that is not committed. Run the unit again once the server answers.",
    )
    lost.retryable = True
    return lost


def refused_connection(error: BaseException, place: str) -> LedgerError:
    """Return what is to be said where a connection could not even be opened; libpq's own words may hold the address."""
    state = state_of(error)
    words = str(error)
    if state in _PASSWORD or "authentication failed" in words or "no password supplied" in words:
        return LedgerError(
            f"{place} refused the user or the password.",
            hint="Nothing was opened. Check both; libpq also reads $PGPASSWORD and ~/.pgpass.",
        )
    if state == _NO_DATABASE or ("database" in words and "does not exist" in words):
        return LedgerError(f"The server has no database for {place}.", hint="Create it first: createdb.")
    if any(reason in words for reason in _FOR_NOW):
        return LedgerBusy(f"{place} takes no connection at the moment.", hint="Try again.")
    return unreachable(place)


# Refusals to connect have no SQLSTATE that libpq would tell.
_FOR_NOW: Final = ("too many clients", "too many connections", "remaining connection slots", "starting up")


def _words(error: BaseException) -> str:
    """Return the server's main sentence, which holds names but no values of rows."""
    diagnosis: Any = getattr(error, "diag", None)
    return str(getattr(diagnosis, "message_primary", None) or type(error).__name__).rstrip(".")
