"""The closed sets of words (bands, states, operations) and the rules for open ones (store, space and record names).

Promise: a name that passes here can be stored, hashed, shown and quoted in SQL without further thought.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, TypeVar

from memoryos_uow.errors import UsageError

CONTRACT_VERSION: Final = "1.1.0"
"""Version of the storage contract (specification, header) whose tables this library keeps."""

MAX_NAME_BYTES: Final = 255
"""Longest space id, actor, device, correlation or envelope id, in UTF-8 bytes."""

MAX_KEY_BYTES: Final = 1024
"""Longest record key, in UTF-8 bytes."""

_STORE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}", re.ASCII)
SQL_STORE: Final = "sql"
"""Under which name ``uow.sql`` is recorded; no store of a user's may have it."""

OUTBOX_STORE: Final = "outbox"
"""Under which name ``uow.publish`` is recorded; no store of a user's may have it."""

_RESERVED_STORES: Final = frozenset({SQL_STORE, OUTBOX_STORE})


class Band(StrEnum):
    """How far a unit's data may travel (specification, ``band`` check): from everywhere to nowhere."""

    GREEN = "GREEN"
    AMBER = "AMBER"
    RED = "RED"
    BLACK = "BLACK"


class Status(StrEnum):
    """``unit_of_work.status``: what is durably known about a unit."""

    PENDING = "pending"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"


class Operation(StrEnum):
    """``uow_writes.operation_type`` (specification, ``operation_type`` check)."""

    CREATE = "create"
    UPDATE = "update"
    UPSERT = "upsert"
    DELETE = "delete"


class Isolation(StrEnum):
    """Which reads of a unit are checked at commit."""

    WRITES = "writes"
    """Records that were read and then written: no lost updates (the default)."""
    SERIALIZABLE = "serializable"
    """Every record that was read."""


class Dialect(StrEnum):
    """Whose SQL a reader or transaction understands beyond what all have in common."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class Durability(StrEnum):
    """What a commit waits for (SQLite, ``PRAGMA synchronous``, in WAL mode)."""

    FULL = "full"
    """fsync before the commit returns: survives a power cut."""
    NORMAL = "normal"
    """No fsync at commit: survives a killed process; a power cut may lose the last units, never half of one."""


_DATABASES: Final = ("postgresql://", "postgres://")


def address_of(path_or_url: object) -> str | None:
    """Return the address of the database that is meant to be a ledger; None where a file is meant."""
    return path_or_url if isinstance(path_or_url, str) and path_or_url.startswith(_DATABASES) else None


W = TypeVar("W", bound=StrEnum)


def plain(text: str) -> str:
    """Return the characters of `text` as a `str` proper: a subclass, an enum say, may print as something else."""
    return str.__str__(text)


def text_problem(text: str) -> str | None:
    """Say why `text` cannot stand in a receipt, or None: no U+0000, no lone surrogates (RFC 8785, section 3.2.2.2)."""
    if "\0" in text:
        return "contains U+0000"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "contains a lone surrogate, which UTF-8 cannot hold"
    return None


def check_identifier(value: object, what: str, *, max_bytes: int = MAX_NAME_BYTES) -> str:
    """Return `value` if it can serve as an id or key; `what` names it in the error.

    Raises:
        UsageError: not a string, empty, longer than `max_bytes` in UTF-8, or with U+0000 or a lone surrogate.
    """
    if type(value) is str and value and value.isascii() and "\0" not in value and len(value) <= max_bytes:
        return value  # nearly every one, at sight
    if not isinstance(value, str):
        msg = f"The {what} must be a string, not {type(value).__name__}."
        raise UsageError(msg, hint="Nothing was written. Convert it with str() where that is meant.")
    text = plain(value)
    if not text:
        msg = f"The {what} is empty."
        raise UsageError(msg, hint="Nothing was written. Give it at least one character.")
    problem = text_problem(text)
    if problem:
        msg = f"The {what} {problem}."
        raise UsageError(msg, hint="Nothing was written. Remove that character.")
    if len(text) > max_bytes // 4 and len(text.encode()) > max_bytes:
        msg = f"The {what} is {len(text.encode()):,} bytes long in UTF-8; the limit is {max_bytes:,}."
        raise UsageError(msg, hint="Nothing was written. Use a shorter one, for example a hash of it.")
    return text


def check_band(value: object) -> Band:
    """Return the band called `value`.

    Raises:
        UsageError: there is no such band.
    """
    return check_choice(value, Band, "band")


def check_choice(value: object, words: type[W], what: str) -> W:
    """Return the member of `words` whose value is `value`; `what` names the argument in the error.

    Raises:
        UsageError: there is none.
    """
    if isinstance(value, str):
        text = plain(value)
        for word in words.__members__.values():
            if text == word:
                return word
        shown = f"{plain(value)!r:.40}"
    else:
        shown = f"a {type(value).__name__}"
    known = ", ".join(repr(word.value) for word in words)
    raise UsageError(f"The {what} is one of {known}, not {shown}.", hint="Nothing was written.")


def check_store_name(value: object) -> str:
    """Return `value` if a store may be called that.

    Raises:
        UsageError: not an ASCII identifier of at most 63 characters, or a name this library keeps for itself.
    """
    if not isinstance(value, str) or not _STORE_NAME.fullmatch(plain(value)):
        shown = f"{plain(value)!r:.80}" if isinstance(value, str) else f"a {type(value).__name__}"
        msg = f"A store cannot be called {shown}."
        hint = "Use an ASCII letter or underscore, then letters, digits and underscores, 63 characters at most."
        raise UsageError(msg, hint=hint)
    name = plain(value)
    if name.lower().startswith("uow_") or name.lower() in _RESERVED_STORES:
        msg = f"The name {name!r} is kept for the library itself."
        raise UsageError(msg, hint="Choose a store name other than 'sql' and 'outbox' that does not begin with 'uow_'.")
    return name
