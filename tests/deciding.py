"""A store whose own commit decides, without a server: documents in a second SQLite file, in a transaction held open."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memoryos_uow.abc import Capability, Fate
from memoryos_uow.errors import ConflictError, InDoubtError, StoreError, StoreUnavailable
from memoryos_uow.stores._outside import HeadStore, Value
from memoryos_uow.stores._strict_json import to_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from memoryos_uow._limits import Limits
    from memoryos_uow._records import Content
    from memoryos_uow.abc import Home, Reader, Transaction, UnitFacts, Write
    from memoryos_uow.stores._outside import Head

TABLES = """
CREATE TABLE IF NOT EXISTS marker (uow_id TEXT PRIMARY KEY, committed INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS records (space_id TEXT, key TEXT, value TEXT, PRIMARY KEY (space_id, key));
"""


class DecidingFile(HeadStore):
    """JSON documents in a file of its own.

    With `before_commit` its commit raises that instead, with `after_commit` after it; while it `is_silent` its file is
    out of reach.
    """

    kind = "deciding file"
    capability = Capability.LAST_RESOURCE
    prepares = False

    def __init__(self, name: str = "decides") -> None:
        super().__init__(name)
        self.path = Path()
        self.held: dict[str, sqlite3.Connection] = {}
        self.before_commit: Exception | None = None
        self.after_commit: Exception | None = None
        self.is_silent = False

    def attach(self, home: Home, reader: Reader, recorded: Mapping[str, Any] | None) -> bool:
        self.path = Path(home.absolute(f"{self.name}.db"))
        return recorded is None

    def setup(self, tx: Transaction, recorded: Mapping[str, Any] | None) -> Mapping[str, Any]:
        from memoryos_uow import _schema

        with closing(self._connect()) as connection:
            connection.executescript(TABLES)
        for statement in _schema.statements("saved.sql"):
            tx.execute(statement)
        return {"saves": True}

    def _connect(self) -> sqlite3.Connection:
        if self.is_silent:
            raise StoreUnavailable("The file is out of reach.", store=self.name)
        return sqlite3.connect(self.path, timeout=0.2, isolation_level=None, check_same_thread=False)

    def _encode(self, value: object, limits: Limits) -> tuple[Value, Content]:
        encoded = Value.of(to_json(value, bytes_max=limits.document_bytes, store=self.name)[1])
        return encoded, encoded.measured()

    def _decode(self, content: bytes) -> Any:
        return json.loads(content)

    # Its part in a unit

    def plan(self, unit: UnitFacts, writes: Sequence[Write]) -> list[str]:
        return [f"held:{unit.uow_id}"]

    def hold(self, unit: UnitFacts, writes: Sequence[Write]) -> None:
        self._let_go(unit.uow_id)
        connection = self._connect()
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO marker VALUES (?, 1)", (unit.uow_id,))
            for write in writes:
                record = (unit.space_id, write.key)
                if write.payload is None:
                    connection.execute("DELETE FROM records WHERE space_id = ? AND key = ?", record)
                else:
                    text = write.payload.content.decode()
                    connection.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (*record, text))
        except sqlite3.IntegrityError as error:
            connection.close()
            raise ConflictError("Recovery took this unit over.", store=self.name) from error
        except sqlite3.OperationalError as error:
            connection.close()
            raise StoreUnavailable("Somebody else is writing.", store=self.name) from error
        self.held[unit.uow_id] = connection

    def decide(self, uow_id: str) -> None:
        connection = self.held.pop(uow_id)
        if self.before_commit is not None:
            connection.close()
            raise self.before_commit
        connection.execute("COMMIT")
        connection.close()
        if self.after_commit is not None:
            raise self.after_commit

    def fate(self, uow_id: str) -> Fate:
        with closing(self._connect()) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                raise StoreUnavailable("Somebody is writing still.", store=self.name) from error
            connection.execute("INSERT OR IGNORE INTO marker VALUES (?, 0)", (uow_id,))
            [committed] = connection.execute("SELECT committed FROM marker WHERE uow_id = ?", (uow_id,)).fetchone()
            connection.execute("COMMIT")
        return Fate.COMMITTED if committed else Fate.ABORTED

    def abandon(self, uow_id: str, tokens: Sequence[str]) -> None:
        if not self._let_go(uow_id) and self.fate(uow_id) is Fate.COMMITTED:
            raise StoreError("It is decided.", store=self.name)

    def _let_go(self, uow_id: str) -> bool:
        connection = self.held.pop(uow_id, None)
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            connection.close()
        return connection is not None

    def sweep(self, tx: Transaction, planned: Collection[str]) -> int:
        return 0

    def close(self) -> None:
        for uow_id in list(self.held):
            self._let_go(uow_id)

    # Reading

    def _waiting(self, uow_id: str, payload: bytes, head: Head) -> bytes | None:
        return payload

    def _published(self, space_id: str, key: str, head: Head) -> bytes | None:
        with closing(self._connect()) as connection:
            query = "SELECT value FROM records WHERE space_id = ? AND key = ?"
            found = connection.execute(query, (space_id, key)).fetchone()
        return found[0].encode() if found else None

    def _strangers(self, reader: Reader) -> Iterator[tuple[str, str]]:
        return iter(())


def lost() -> InDoubtError:
    """What a store says whose answer was lost."""
    return InDoubtError("The answer was lost.")
