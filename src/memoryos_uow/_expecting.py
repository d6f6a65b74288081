"""``expect=``: a write that goes through only if the record still is what the caller believes it to be.

Promise: the comparison is made where nothing can come in between, under the ledger's lock in the deciding transaction,
or at once against the unit's own write that waits. Values are compared as `get` returns them; in a table the columns
that the caller names.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _bands
from memoryos_uow.abc import ASK_THE_STORE, MISSING, Expectation
from memoryos_uow.errors import ConflictError, UsageError

if TYPE_CHECKING:
    from memoryos_uow._buffer import WriteBuffer
    from memoryos_uow.abc import Reader, Store, UnitFacts

ANYTHING: Final = Expectation.ANYTHING
_ROWS: Final = "rows"
"""The kind of stores whose values are columns."""


def check_at_once(store: Store, buffer: WriteBuffer, facts: UnitFacts, key: str, expect: object) -> object:
    """Compare with what the unit itself has written, if that can tell; return what is left to be compared later.

    Raises:
        ConflictError: the unit itself wrote something else.
    """
    waiting = buffer.newest(store.name, key, applied=store.capability is not store.capability.SAME_TRANSACTION)
    if waiting is None:
        return expect
    value = store.overlay(waiting)
    if value is ASK_THE_STORE:
        return expect
    _refuse_other(store, facts, key, value, expect)
    return ANYTHING


def check_stored(reader: Reader, store: Store, facts: UnitFacts, key: str, expect: object) -> None:
    """Compare with what is stored now.

    Raises:
        ConflictError: it is something else.
    """
    found = store.read(reader, facts.space_id, key)
    _refuse_other(store, facts, key, MISSING if found is None else found.value, expect)


def _refuse_other(store: Store, facts: UnitFacts, key: str, value: Any, expect: object) -> None:
    if _is_same(store, value, expect):
        return
    shown = _bands.shown_key(key, facts.band)
    error = ConflictError(
        f"Record {shown} in store {store.name!r} is not what this unit expected it to be.",
        hint="Nothing was written. Read it again and decide anew: the same call would fail again.",
        store=store.name,
    )
    error.retryable = False
    raise error


def _is_same(store: Store, value: Any, expect: Any) -> bool:
    if value is MISSING or expect is MISSING:
        return value is expect
    if store.kind == _ROWS and isinstance(value, dict) and isinstance(expect, dict):
        value = {column: value[column] for column in expect if column in value}
    # An array compares element by element, and its truth is an error: which may hold the value, so it is not chained.
    with suppress(Exception):
        return bool(value == expect)
    raise UsageError(
        f"What a record is expected to be cannot be compared with a {type(value).__name__}.",
        hint="Nothing was written. Pass what get() returned.",
        store=store.name,
    )
