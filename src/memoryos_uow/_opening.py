"""The steps of `Ledger.open`: what is asked of the arguments, and how a file becomes a ledger that is ready.

Promise: everything that can be refused is refused here, with the file as it was (but for its journal mode: a database
of the application's own is switched to a write-ahead log first).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from memoryos_uow import _catalog, _erasures, _linking, _migrations
from memoryos_uow._limits import Limits
from memoryos_uow._names import text_problem
from memoryos_uow._registry import StoreRegistry
from memoryos_uow._rows import LedgerRows
from memoryos_uow.abc import Home
from memoryos_uow.engines._sql_guard import SqlGuard
from memoryos_uow.engines.sqlite import SQLiteEngine
from memoryos_uow.errors import LedgerError, UsageError
from memoryos_uow.stores import DocumentStore
from memoryos_uow.stores._outbox import OutboxMessages
from memoryos_uow.stores._sql import SqlStatements

if TYPE_CHECKING:
    from collections.abc import Callable

    from memoryos_uow._band_keys import ContentKey
    from memoryos_uow._names import Durability
    from memoryos_uow._receipt_log import ReceiptLog
    from memoryos_uow.abc import Store
    from memoryos_uow.engines._contract import Engine

ORIGIN_CHARACTERS_MAX: Final = 255
RECORDED: Final = "recorded"
_LIKE_AN_ADDRESS: Final = re.compile(
    r"://|\bpassword\s*=|^\s*(?:host|user|dbname)\s*=|^\s*postgres(?:ql)?[:+]", re.IGNORECASE
)


def check_path(path_or_url: str | os.PathLike[str]) -> Path:
    """Return the absolute path of the ledger's file.

    Raises:
        UsageError: not a path, or one that cannot be a ledger's.
    """
    if not isinstance(path_or_url, (str, os.PathLike)):
        raise UsageError(
            f"A ledger is opened by its path, not by a {type(path_or_url).__name__}.", hint='For example "memory.db".'
        )
    text = os.fspath(path_or_url)
    if not isinstance(text, str) or not text or text_problem(text):
        raise UsageError(
            "The ledger's path is empty, not text, or has characters that no file name can have.",
            hint='For example "memory.db".',
        )
    if _LIKE_AN_ADDRESS.search(text):  # which is not repeated: there may be a password in it
        raise UsageError(
            "This is neither the path of a ledger's file nor the address of a PostgreSQL database.",
            hint='Nothing was opened. For example "memory.db", or "postgresql://user@host/database".',
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


def check_triggers(allowed: object) -> frozenset[str]:
    """Return the names of the triggers that the application allows.

    Raises:
        UsageError: not a collection of names.
    """
    if isinstance(allowed, Collection) and not isinstance(allowed, (str, bytes)):
        names = frozenset(name for name in allowed if isinstance(name, str))
        if len(names) == len(set(allowed)):
            return names
    raise UsageError(
        "allow_triggers is a list of trigger names.", hint='Nothing was opened. For example allow_triggers=["audit"].'
    )


def check_limits(limits: object) -> Limits:
    """Return `limits`, by default those of `Limits()`.

    Raises:
        UsageError: something else.
    """
    if limits is None:
        return Limits()
    if not isinstance(limits, Limits):
        raise UsageError(
            f"The limits are a Limits object, not a {type(limits).__name__}.",
            hint="Nothing was opened. For example limits=Limits(writes_per_unit=1_000_000).",
        )
    return limits


def check_stores(stores: Iterable[Store] | Literal["recorded"]) -> StoreRegistry:
    """Return `stores` by name; those that the ledger records come in with `attach_stores`.

    Raises:
        UsageError: not stores, or two of one name.
    """
    if stores == RECORDED:
        registry = StoreRegistry(make_unknown=None)
    elif isinstance(stores, Iterable) and not isinstance(stores, (str, bytes)):
        named = list(stores)
        registry = StoreRegistry(make_unknown=None if named else DocumentStore)
        registry.add(named)
    else:
        raise UsageError(
            'stores is a list of stores, or "recorded" for those that the ledger knows.',
            hint='Nothing was opened. For example stores=[DocumentStore("notes")].',
        )
    registry.adopt(SqlStatements())
    registry.adopt(OutboxMessages())
    return registry


def refuse_unfit(engine: SQLiteEngine, *, migrate: bool) -> None:
    """Refuse a file that is no ledger of 1.1.0 and cannot, or may not, become one.

    Raises:
        LedgerError: it cannot be migrated, is newer than this library, or may not be written.
    """
    kinds = _migrations.Kind
    with engine.setup_connection() as connection:
        schema = _migrations.inspect(connection)
        _migrations.refuse_unfit(connection, schema)
        if schema.kind is kinds.CURRENT:
            return
        if not migrate and not schema.has_base_tables:
            raise _no_ledger(engine.path)
        if migrate and engine.read_only:
            raise LedgerError(
                f"{engine.path} would have to be migrated from {schema.version or 'nothing'} to 1.1.0,"
                " but may not be written.",
                hint="Nothing was changed. Make it writable, or read a 1.0.0 ledger with migrate=False.",
            )


class FileSteps:
    """What opening asks of a ledger in a file; `_opening_postgres.DatabaseSteps` is the same for one in a database."""

    def __init__(
        self,
        path: Path,
        *,
        durability: Durability,
        busy_timeout_s: float,
        origin: str | None,
        migrate: bool,
        allowed: Collection[str],
    ) -> None:
        """Open the file; nothing in it is changed yet."""
        refuse_absent(path, migrate=migrate)
        self.path: Path | None = path
        self._migrate = migrate
        self._origin = origin
        self._allowed = allowed
        self.engine = SQLiteEngine.open(path, durability=durability, busy_timeout_s=busy_timeout_s)

    def refuse_unfit(self) -> None:
        """Refuse what cannot become, or stay, a ledger that units may write to."""
        refuse_unfit(self.engine, migrate=self._migrate)
        refuse_triggers(self.engine, self._allowed)

    def make_schema_ready(self) -> LedgerRows:
        """Bring the schema to contract 1.1.0; return what reads and writes the ledger's rows."""
        return LedgerRows(basic=make_schema_ready(self.engine, origin=self._origin, migrate=self._migrate))

    def settle(self, rows: LedgerRows) -> None:
        """Mend what moving the file may have changed."""
        link_log(self.engine, rows)

    def guard(self) -> SqlGuard:
        """Return what tells what statements of the application's would do."""
        return SqlGuard(self.engine)

    def sequencer(self, log: ReceiptLog | None, *, then: Callable[[], None]) -> None:
        """Return nobody: units get their numbers in their own transactions."""


def refuse_absent(path: Path, *, migrate: bool) -> None:
    """Refuse a file that does not exist and may not be made.

    Raises:
        LedgerError: there is none.
    """
    if not migrate and not path.exists():
        raise _no_ledger(path)


def _no_ledger(path: Path) -> LedgerError:
    return LedgerError(
        f"{path} holds no ledger, and migrate=False forbids to make one.",
        hint="Nothing was changed. Open it with migrate=True.",
    )


def make_schema_ready(engine: SQLiteEngine, *, origin: str | None, migrate: bool) -> bool:
    """Bring the file to contract 1.1.0; return whether it stays at 1.0.0 because `migrate` is off.

    Raises:
        LedgerError: it cannot be migrated.
    """
    with engine.setup_connection() as connection:
        if not migrate:
            schema = _migrations.inspect(connection)
            _migrations.refuse_unfit(connection, schema)  # another process may have changed it since the first look
            return schema.kind is not _migrations.Kind.CURRENT
        _migrations.migrate_up(connection, origin=origin, busy_timeout_s=engine.busy_timeout_s)
    return False


def refuse_triggers(engine: Engine, allowed: Collection[str]) -> None:
    """Refuse a ledger whose tables have triggers that the application did not name: none is of our making.

    Raises:
        LedgerError: there is one.
    """
    with engine.reader() as reader:
        strange = [hook for hook in _catalog.hooks(reader) if hook.name not in allowed]
    if strange:
        kind, name, table = strange[0]
        raise LedgerError(
            f"The ledger's table {table} has a {kind} {name!r} that this library did not make.",
            hint=f"Nothing was changed. If it is yours, open the ledger with allow_triggers=[{name!r}].",
        )


def attach_stores(engine: Engine, registry: StoreRegistry, *, recorded: bool) -> bool:
    """Attach the stores, `recorded` ones too; return whether something is missing that `set_up_stores` would make.

    Raises:
        UsageError: a store contradicts what is recorded of it.
        StoreError: a store cannot keep its promise here.
    """
    with engine.reader() as reader:
        if recorded:
            registry.add_recorded(reader)
        return registry.move_in(Home(engine.directory, engine.read_only), reader)


def set_up_stores(engine: Engine, registry: StoreRegistry) -> None:
    """Make what the stores miss, in one transaction."""
    # Stores outside mark their places as this ledger's at once. Who it is may have been written by a process that died
    # before it could sync that: a power cut would make it another ledger, which its own stores turn away.
    engine.sync_log()
    tx = engine.begin()
    try:
        if engine.excludes_others:
            registry.refresh(tx)
        else:
            registry.set_up_apart(tx)
        tx.commit()
    finally:
        tx.rollback()


def agree_on_content_key(engine: Engine, rows: LedgerRows, key: ContentKey | None) -> None:
    """Record the id of the ledger's first content key; refuse another one later.

    Raises:
        UsageError: the ledger's HMACs are under another key.
    """
    if key is None or rows.basic:
        return
    with engine.reader() as reader:
        recorded = _erasures.key_id(reader)
    if recorded is None and not engine.read_only:
        tx = engine.begin()
        try:
            _erasures.record_key_id(tx, key.id)
            recorded = _erasures.key_id(tx)  # another process may have been faster
            tx.commit()
        finally:
            tx.rollback()
    if recorded not in (None, key.id):
        raise UsageError(
            f"This ledger's content key has the id {recorded}; the one given has {key.id}.",
            hint="Nothing was changed. Open it with the key under which its RED and BLACK writes are.",
        )


def link_log(engine: SQLiteEngine, rows: LedgerRows) -> None:
    """Point the log's rows to their units again where a VACUUM or a dump has renumbered these."""
    if rows.basic:
        return
    with engine.reader() as reader:
        if engine.read_only or _linking.is_linked(reader) or not _linking.can_be_linked(reader):
            return
    tx = engine.begin()
    try:
        if _linking.relink(tx):
            tx.commit()
    finally:
        tx.rollback()


def recorded_origin(engine: Engine, rows: LedgerRows, wanted: str | None) -> str | None:
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
