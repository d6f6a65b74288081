"""The work that is compared: one unit that writes three documents, through the library and by hand.

By hand means what somebody who needs no ledger would write with `sqlite3`: the same three rows in a table of the same
layout, one transaction. By hand with the ledger's rows means all that the library writes as well, from values that
were computed beforehand: the difference to the floor is what the rows cost, the difference from there to the library
is what is computed.
"""

from __future__ import annotations

import json
import sqlite3
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from benchmarks._ratios import Contender, race
from memoryos_uow import Ledger, UnitRecord, WriteRecord, _schema
from memoryos_uow.stores import DocumentStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from benchmarks._ratios import Result

Durability = Literal["full", "normal"]

WRITES: Final = 3
SPACE: Final = "shared:household"
CONTEXT: Final[dict[str, Any]] = {
    "space_id": SPACE,
    "band": "GREEN",
    "actor_id": "actor:0042",
    "device_id": "device:0007",
}
TIME: Final = "2026-11-22T19:20:31.110000Z"
HEX: Final = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
DIGEST: Final = bytes.fromhex(HEX)
TEXT: Final = "The boiler was serviced in spring; the next service is due before the first frost of the year."


def documents(number: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield key and value of the three documents of unit `number`, about 150 bytes of JSON each."""
    for part in range(WRITES):
        yield f"note-{number:08d}-{part}", {"text": TEXT, "tags": ["boiler", "house"], "unit": number, "part": part}


def connect(path: Path, durability: Durability, *, timeout_s: float = 5.0) -> sqlite3.Connection:
    """Return a connection as somebody would make it by hand: write-ahead log, no implicit transactions."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=timeout_s, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {durability}")
    return connection


class Work(ABC):
    """Something done to the database at `path` as often as it is called."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0

    @abstractmethod
    def __call__(self) -> None:
        """Do it once more."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the database."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ByLibrary(Work):
    """A unit of work with every context column filled in."""

    def __init__(self, path: Path, durability: Durability) -> None:
        super().__init__(path)
        self.ledger = Ledger.open(path, stores=[DocumentStore("notes")], durability=durability)

    def __call__(self) -> None:
        self.number += 1
        with self.ledger.unit(**CONTEXT, correlation_id=f"req-{self.number:08d}") as uow:
            notes = uow["notes"]
            for key, value in documents(self.number):
                notes.create(key, value)

    def close(self) -> None:
        self.ledger.close()


class ByHand(Work):
    """The floor: the same three rows and nothing else."""

    INSERT: Final = "INSERT INTO uow_documents (store, space_id, key, version, value) VALUES ('notes', ?, ?, ?, ?)"

    def __init__(self, path: Path, durability: Durability) -> None:
        super().__init__(path)
        self.connection = connect(path, durability)
        self._make_tables()
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _make_tables(self) -> None:
        self.connection.executescript(_schema.text(_schema.STORES))

    def __call__(self) -> None:
        self.number += 1
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            self._write()
            execute("COMMIT")
        except BaseException:
            execute("ROLLBACK")
            raise

    def _write(self) -> None:
        self.connection.executemany(self.INSERT, self.rows(self.number))

    @staticmethod
    def rows(number: int, writer: str = "") -> Iterator[tuple[object, ...]]:
        """Yield the rows of unit `number`; the keys of each `writer` are its own."""
        for key, value in documents(number):
            yield SPACE, writer + key, number, json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def close(self) -> None:
        self.connection.close()


class ByHandWithLedger(ByHand):
    """The floor and every row that the library writes about a unit, from constants; nothing is hashed or checked."""

    def _make_tables(self) -> None:
        Ledger.open(self.path, stores=[DocumentStore("notes")]).close()
        self.connection.execute("PRAGMA foreign_keys = ON")

    def _write(self) -> None:
        execute, number = self.connection.execute, self.number
        unit_id, first = unit_id_of(number), WRITES * number
        execute(
            "UPDATE unit_of_work SET total_execution_time_ms = 1, commit_time_ms = 1 WHERE uow_id = ?",
            (unit_id_of(number - 1),),
        )
        execute("UPDATE uow_ledger SET execution_us = 512, commit_us = 400 WHERE commit_seq = ?", (number - 1,))
        super()._write()
        execute(INSERT_UNIT, unit_row(number))
        self.connection.executemany(INSERT_WRITE, (write_row(first + part, unit_id, number) for part in range(WRITES)))
        execute(INSERT_ENTRY, entry_row(number))
        execute(
            "INSERT INTO uow_spaces (space_id, space_seq, head) VALUES (?, ?, ?)"
            " ON CONFLICT (space_id) DO UPDATE SET space_seq = excluded.space_seq, head = excluded.head",
            (SPACE, number, DIGEST),
        )


# Rows as the library writes them


def unit_id_of(number: int) -> str:
    """Return a unit id of the library's form, in the order of the numbers."""
    return f"019a{number >> 16 & 0xFFFF:04x}-{number & 0xFFFF:04x}-7000-8000-{number:012x}"


def _insert(table: str, columns: list[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


_OURS: Final = ("writes", "commit_seq", "execution_us", "commit_us")
INSERT_UNIT: Final = _insert("unit_of_work", [f.name for f in fields(UnitRecord) if f.name not in _OURS])
INSERT_WRITE: Final = _insert("uow_writes", [f.name for f in fields(WriteRecord)])
INSERT_ENTRY: Final = _insert(
    "uow_ledger",
    [
        "commit_seq",
        "unit",
        "space_seq",
        "prev",
        "context",
        "context_nonce",
        "nonce",
        "writes_root",
        "write_count",
        "first_write",
        "nodes",
    ],
)


def unit_row(number: int, **changed: Any) -> list[Any]:
    """Return the row of unit `number` in ``unit_of_work``, every field of a committed unit filled in."""
    record = UnitRecord(
        uow_id=unit_id_of(number),
        envelope_id=None,
        status="committed",
        created_ts=TIME,
        committed_ts=TIME,
        total_execution_time_ms=1,
        commit_time_ms=None,
        store_count=1,
        total_bytes_written=450,
        retry_count=0,
        recovery_attempted=0,
        receipt_hash=HEX,
        correlation_id=f"req-{number:08d}",
        contract_version="1.1.0",
        **CONTEXT,
    )
    return [changed.get(f.name, getattr(record, f.name)) for f in fields(record) if f.name not in _OURS]


def write_row(row_id: int, unit_id: str, number: int) -> tuple[Any, ...]:
    """Return a row of ``uow_writes``."""
    return row_id, unit_id, "notes", f"note-{number:08d}-{row_id % WRITES}", TIME, "create", 150, f"sha256:{HEX}"


def entry_row(number: int) -> tuple[Any, ...]:
    """Return the row of unit `number` in the receipt log."""
    nodes = DIGEST * (number & -number).bit_length()
    return number, number, number, DIGEST, DIGEST, DIGEST[:16], None, DIGEST, WRITES, WRITES * number, nodes


def wal_bytes(path: Path) -> int:
    """Return the size of the write-ahead log of a database."""
    log = path.with_name(f"{path.name}-wal")
    return log.stat().st_size if log.exists() else 0


def grow_log(work: Work, *, at_most: int) -> int:
    """Do `work` until its write-ahead log has stopped growing, `at_most` times; return how often.

    A log that grows makes the file system find room for it, which costs more per fsync than writing over it.
    """
    size, unchanged = 0, 0
    for done in range(1, at_most + 1):
        work()
        before, size = size, wal_bytes(work.path)
        unchanged = unchanged + 1 if size == before else 0
        if unchanged >= 1000:
            return done
    return at_most


def race_on_files(
    kinds: Mapping[str, Callable[[Path], Work]], folder: Path, *, name: str, rounds: int, warmup: int, seed: int
) -> list[Result]:
    """Race works by their names, each on a file of its own in `folder`, once their logs have grown."""
    with ExitStack() as stack:
        contenders = []
        for number, (called, kind) in enumerate(kinds.items()):
            work = stack.enter_context(kind(folder / f"{name}-{number}.db"))
            grow_log(work, at_most=warmup)
            contenders.append(Contender(called, work))
        return race(contenders, rounds=rounds, seed=seed)
