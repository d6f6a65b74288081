"""The steps of `Ledger.open`: what is asked of the arguments, and how a file becomes a ledger that is ready.

Promise: everything that can be refused is refused here, with the file as it was.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from memoryos_uow import _migrations
from memoryos_uow._names import text_problem
from memoryos_uow._registry import StoreRegistry
from memoryos_uow.abc import Home
from memoryos_uow.errors import LedgerError, UsageError
from memoryos_uow.stores import DocumentStore
from memoryos_uow.stores._sql import SqlStatements

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from memoryos_uow._rows import LedgerRows
    from memoryos_uow.abc import Store
    from memoryos_uow.engines.sqlite import SQLiteEngine

ORIGIN_CHARACTERS_MAX: Final = 255


def check_path(path_or_url: str | os.PathLike[str]) -> Path:
    """Return the absolute path of the ledger's file.

    Raises:
        UsageError: not a path, or one that cannot be a ledger's.
    """
    if not isinstance(path_or_url, (str, os.PathLike)):
        raise UsageError(f"A ledger is opened by its path, not by a {type(path_or_url).__name__}.")
    text = os.fspath(path_or_url)
    if not isinstance(text, str) or not text or text_problem(text):
        raise UsageError("The ledger's path is empty, not text, or has characters that no file name can have.")
    if "://" in text:
        scheme = text.split("://", 1)[0]
        raise UsageError(
            f"This version has no ledgers at {scheme}:// addresses.", hint="Give the path of a SQLite file."
        )
    if text == ":memory:" or text.startswith("file:"):
        raise UsageError(
            "A ledger in memory would not survive the process.", hint="Give a path, in tests one in a temporary folder."
        )
    return Path(text).absolute()


def check_timeout(seconds: object) -> float:
    """Return `seconds`, how long to wait for other writers.

    Raises:
        UsageError: not a number from 0 up.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < float("inf"):
        raise UsageError("busy_timeout is a number of seconds, 0 or more.", hint="Nothing was opened.")
    return float(seconds)


def check_origin(origin: object) -> str | None:
    """Return `origin`, the ledger's name in its receipts.

    Raises:
        UsageError: not one word of at most 255 characters (C2SP checkpoints put it on a line of its own).
    """
    if origin is None:
        return None
    if (
        not isinstance(origin, str)
        or not 0 < len(origin) <= ORIGIN_CHARACTERS_MAX
        or text_problem(origin)
        or any(character.isspace() or character == "+" or not character.isprintable() for character in origin)
    ):
        raise UsageError(
            "An origin is one word of at most 255 characters, without spaces and plus signs.",
            hint='Nothing was opened. For example origin="example.com/household".',
        )
    return origin


def make_schema_ready(engine: SQLiteEngine, *, origin: str | None, migrate: bool) -> bool:
    """Bring the file to contract 1.1.0; return whether it stays at 1.0.0 because `migrate` is off.

    Raises:
        LedgerError: it cannot be migrated, is newer than this library, or may not be written.
    """
    with engine.setup_connection() as connection:
        schema = _migrations.inspect(connection)
        if schema.kind is _migrations.Kind.CURRENT:
            return False
        if not migrate and schema.kind is not _migrations.Kind.TOO_NEW:
            if schema.has_base_tables:
                return True
            raise LedgerError(
                f"{engine.path} holds no ledger, and migrate=False forbids to make one.",
                hint="Nothing was changed. Open it with migrate=True.",
            )
        if engine.read_only and schema.kind is not _migrations.Kind.TOO_NEW:
            raise LedgerError(
                f"{engine.path} would have to be migrated from {schema.version or 'nothing'} to 1.1.0,"
                " but may not be written.",
                hint="Nothing was changed. Make it writable, or read a 1.0.0 ledger with migrate=False.",
            )
        _migrations.migrate_up(connection, origin=origin, busy_timeout_s=engine.busy_timeout_s)
    return False


def refuse_triggers(engine: SQLiteEngine, rows: LedgerRows, allowed: Collection[str]) -> None:
    """Refuse a ledger whose tables have triggers that the application did not name: none is of our making.

    Raises:
        LedgerError: there is one.
    """
    with engine.reader() as reader:
        strange = [(name, table) for name, table in rows.triggers(reader) if name not in allowed]
    if strange:
        name, table = strange[0]
        raise LedgerError(
            f"The ledger's table {table} has a trigger {name!r} that this library did not make.",
            hint=f"Nothing was changed. If it is yours, open the ledger with allow_triggers=[{name!r}].",
        )


def open_stores(engine: SQLiteEngine, stores: Iterable[Store] | Literal["recorded"]) -> StoreRegistry:
    """Attach `stores`, or those that the ledger records, and set up what is missing in one transaction.

    Raises:
        UsageError: a store contradicts what is recorded of it, or another one.
        StoreError: a store cannot keep its promise here.
    """
    if isinstance(stores, str) and stores != "recorded":
        raise UsageError(
            'stores is a list of stores, or "recorded" for those that the ledger knows.', hint="Nothing was opened."
        )
    named = [] if isinstance(stores, str) else list(stores)
    make_unknown = None if named or isinstance(stores, str) else DocumentStore
    registry = StoreRegistry(Home(engine.path.parent, engine.read_only), make_unknown=make_unknown)
    registry.add(named)
    registry.adopt(SqlStatements())
    with engine.reader() as reader:
        if isinstance(stores, str):
            registry.add_recorded(reader)
        incomplete = registry.attach_all(reader)
    if incomplete and not engine.read_only:
        tx = engine.begin()
        try:
            registry.refresh(tx)
            tx.commit()
        finally:
            if tx.open:
                tx.rollback()
    return registry


def recorded_origin(engine: SQLiteEngine, rows: LedgerRows, wanted: str | None) -> str | None:
    """Return the ledger's origin as recorded; None in basic mode.

    Raises:
        UsageError: the caller wants another one, which would cut the ledger off from its own receipts.
    """
    if rows.basic:
        return None
    with engine.reader() as reader:
        origin: str = reader.rows("SELECT origin FROM uow_identity")[0][0]
    if wanted is not None and wanted != origin:
        raise UsageError(
            f"This ledger's origin is {origin!r}, not {wanted!r}; its receipts carry it, so it cannot change.",
            hint="Nothing was changed. Leave origin out.",
        )
    return origin
