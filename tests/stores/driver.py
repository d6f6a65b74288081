"""Drives one store against the real engine, in the order of calls that `memoryos_uow.abc` lays down."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from memoryos_uow import _schema
from memoryos_uow._limits import Limits
from memoryos_uow._names import Band, Durability, Operation
from memoryos_uow.abc import Home, UnitFacts, Write
from memoryos_uow.engines.postgres import PostgresEngine
from memoryos_uow.engines.sqlite import SQLiteEngine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from memoryos_uow._records import Found, Hit
    from memoryos_uow.abc import Store
    from memoryos_uow.engines._transaction import SQLiteReader, SQLiteTransaction

TS = "2026-11-22T19:20:31.110000Z"
SPACE = "shared:household"


@dataclass
class Driver:
    """A ledger file with the stores' tables, and the stores that were attached to it."""

    directory: Path
    limits: Limits = field(default_factory=Limits)
    commit_seq: int = 0
    url: str | None = None

    def __post_init__(self) -> None:
        self.engine: Any
        if self.url is not None:
            self.engine = PostgresEngine.open(self.url, durability=Durability.NORMAL, busy_timeout_s=5.0)
            return
        self.engine = SQLiteEngine.open(self.directory / "memory.db", durability=Durability.NORMAL, busy_timeout_s=5.0)
        with self.transaction() as tx:
            for statement in _schema.statements("stores.sql"):
                tx.execute(statement)

    def close(self) -> None:
        self.engine.close()

    @property
    def home(self) -> Home:
        return Home(self.directory, read_only=False)

    @contextmanager
    def transaction(self) -> Iterator[SQLiteTransaction]:
        tx = self.engine.begin()
        try:
            yield tx
            tx.commit()
        finally:
            if tx.open:
                tx.rollback()

    @contextmanager
    def reader(self) -> Iterator[SQLiteReader]:
        with self.engine.reader() as reader:
            yield reader

    def sql(self, *statements: str) -> None:
        with self.transaction() as tx:
            for statement in statements:
                tx.execute(statement)

    def rows(self, sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        with self.reader() as reader:
            return reader.rows(sql, parameters)

    def spoil(self, table: str, literal: str) -> None:
        """Put a value, in SQLite's words, into each row of `table` from outside; skip what PostgreSQL never keeps."""
        if self.url:
            if not literal.startswith("x"):
                pytest.skip("PostgreSQL keeps no value of another type in a column")
            literal = re.sub(r"x'(\w*)'", r"CAST('\\x\1' AS BYTEA)", literal)
        self.sql(f"UPDATE {table} SET value = {literal}")

    # A store's life

    def recorded(self, store: Store) -> dict[str, Any] | None:
        rows = self.rows("SELECT config FROM uow_stores WHERE name = ?", (store.name,))
        return json.loads(rows[0][0]) if rows else None

    def attach(self, store: Store) -> bool:
        """Attach `store` and set it up if it says so; return what it said."""
        recorded = self.recorded(store)
        with self.reader() as reader:
            needed = store.attach(self.home, reader, recorded)
        if needed:
            with self.transaction() as tx:
                self.record(tx, store, store.setup(tx, recorded))
        return needed

    @staticmethod
    def record(tx: SQLiteTransaction, store: Store, config: Mapping[str, Any]) -> None:
        row = (store.name, store.kind, json.dumps(dict(config)), TS)
        tx.execute("DELETE FROM uow_stores WHERE name = ?", (store.name,))
        tx.execute("INSERT INTO uow_stores VALUES (?, ?, ?, ?)", row)

    def attached(self, store: Store) -> On:
        self.attach(store)
        return On(self, store)


@dataclass
class On:
    """One store in one space: every call is a unit of its own."""

    driver: Driver
    store: Store
    space: str = SPACE
    band: Band = Band.GREEN

    def within(self, space: str) -> On:
        return On(self.driver, self.store, space, self.band)

    def banded(self, band: Band) -> On:
        return On(self.driver, self.store, self.space, band)

    def write(self, operation: str, key: str, value: object = None) -> Write:
        """Encode one write, as the unit does when it is called."""
        verb = Operation(operation)
        payload, content = self.store.encode(verb, key, value, self.driver.limits)
        return Write(self.store.name, verb, key, payload, content, TS)

    def facts(self) -> UnitFacts:
        """What a store is told of the unit."""
        return UnitFacts("0197b0f0-0000-7000-8000-000000000000", self.space, self.band, self.driver.limits)

    def commit(self, *writes: Write) -> list[Write]:
        """Prepare and apply `writes` and commit them as one unit."""
        facts = self.facts()
        self.store.prepare(facts, writes)
        with self.driver.transaction() as tx:
            self.store.apply(tx, facts, self.driver.commit_seq + 1, writes)
        self.driver.commit_seq += 1
        return list(writes)

    def create(self, key: str, value: object) -> Write:
        return self.commit(self.write("create", key, value))[0]

    def update(self, key: str, value: object) -> Write:
        return self.commit(self.write("update", key, value))[0]

    def upsert(self, key: str, value: object) -> Write:
        return self.commit(self.write("upsert", key, value))[0]

    def delete(self, key: str) -> Write:
        return self.commit(self.write("delete", key))[0]

    def found(self, key: str) -> Found | None:
        with self.driver.reader() as reader:
            return self.store.read(reader, self.space, key)

    def get(self, key: str) -> Any:
        found = self.found(key)
        return found.value if found else None

    def version(self, key: str) -> object:
        with self.driver.reader() as reader:
            return self.store.version(reader, self.space, key)

    def keys(self) -> list[str]:
        with self.driver.reader() as reader:
            return list(self.store.keys(reader, self.space))

    def search(self, query: object, k: int = 10, **options: object) -> list[Hit]:
        with self.driver.reader() as reader:
            return self.store.search(reader, self.space, query, k, options)

    def hits(self, query: object, k: int = 10, **options: object) -> list[str]:
        return [hit.key for hit in self.search(query, k, **options)]
