"""A ledger-like file for the SQL guard: tables of an application, and tables with the library's names."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = """
CREATE TABLE app (id INTEGER PRIMARY KEY, x UNIQUE, y);
CREATE TABLE bare (a, b);
CREATE TABLE plain (a, b);
CREATE TABLE kid (parent REFERENCES app (id) ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE audited (a);
CREATE TABLE audit (what);
CREATE TABLE counted (a, n DEFAULT 0);
CREATE TABLE spied (a);
CREATE INDEX bare_a ON bare (a);
CREATE VIEW seen AS SELECT * FROM bare;
CREATE VIEW spying AS SELECT * FROM spied;
CREATE VIRTUAL TABLE words USING fts5 (w);
CREATE VIRTUAL TABLE older USING fts4 (w);
CREATE VIRTUAL TABLE boxes USING rtree (id, low, high);
CREATE TABLE unit_of_work (uow_id TEXT PRIMARY KEY, status TEXT);
CREATE TABLE uow_writes (id INTEGER PRIMARY KEY, uow_id TEXT REFERENCES unit_of_work (uow_id));
CREATE INDEX idx_uow_status ON unit_of_work (status);
CREATE VIEW uow_receipts AS SELECT uow_id FROM unit_of_work;
CREATE TRIGGER audits AFTER INSERT ON audited BEGIN INSERT INTO audit VALUES ('in'); UPDATE audit SET what = 'in2'; END;
CREATE TRIGGER audits_del AFTER DELETE ON audited BEGIN INSERT INTO audit VALUES ('out'); END;
CREATE TRIGGER counts AFTER INSERT ON counted BEGIN UPDATE counted SET n = n + 1; END;
CREATE TRIGGER spies AFTER INSERT ON spied BEGIN DELETE FROM uow_writes; END;
CREATE TRIGGER through INSTEAD OF INSERT ON seen BEGIN INSERT INTO bare VALUES (new.a, new.b); END;
CREATE TRIGGER spies_through INSTEAD OF DELETE ON spying BEGIN UPDATE unit_of_work SET status = 'x'; END;
CREATE TRIGGER trig_on_ours AFTER INSERT ON uow_writes BEGIN SELECT 1; END;
INSERT INTO app VALUES (1, 'one', NULL), (2, 'two', NULL);
INSERT INTO kid VALUES (1);
INSERT INTO unit_of_work VALUES ('u1', 'committed');
INSERT INTO uow_writes VALUES (1, 'u1');
"""


def make(path: Path) -> None:
    """Fill a new file with the schema, on a connection that has nothing to do with the library."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA)


def in_memory() -> sqlite3.Connection:
    """The same as a throw-away database with the settings of an engine's connection."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def content(path: Path) -> list[bytes]:
    """The bytes of the file and of its log, if there is one."""
    log = path.with_name(f"{path.name}-wal")
    return [path.read_bytes(), log.read_bytes() if log.exists() else b""]


def of_ours(connection: sqlite3.Connection) -> list[Any]:
    """Everything that a statement of the caller's may not change."""
    ours = "name LIKE 'uow!_%' ESCAPE '!' OR tbl_name LIKE 'uow!_%' ESCAPE '!' OR tbl_name = 'unit_of_work'"
    return [
        connection.execute(
            f"SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE {ours} ORDER BY name"
        ).fetchall(),
        connection.execute("SELECT name FROM sqlite_temp_schema").fetchall(),
        connection.execute("SELECT * FROM unit_of_work").fetchall(),
        connection.execute("SELECT * FROM uow_writes").fetchall(),
        connection.execute("PRAGMA database_list").fetchall(),
        connection.in_transaction,
    ]
