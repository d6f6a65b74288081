"""A store that somebody else might write: an append-only file of JSON lines that other programs follow.

What a line says is decided in the ledger, where a table of the store's own holds the records; afterwards the line is
appended. A line carries the version and a number, so that one appended late, or twice, does no harm to whoever reads.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memoryos_uow import Operation, RecordExists, RecordMissing, StoreUnavailable, UsageError
from memoryos_uow.abc import MISSING, Capability, Content, Found

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from memoryos_uow import Hit, Limits
    from memoryos_uow.abc import Home, Reader, Redo, Transaction, UnitFacts, Write


class JsonLines:
    """Texts by key, and every change of them as a line of a file."""

    kind = "json lines"
    capability = Capability.REDO

    def __init__(self, name: str, path: str) -> None:
        self.name, self._given, self._path = name, path, Path(path)

    def attach(self, home: Home, reader: Reader, recorded: Mapping[str, Any] | None) -> bool:
        self._path = Path(home.absolute(self._given))
        if recorded is not None and recorded["path"] != self._given:
            raise UsageError(f"The lines of {self.name!r} are in {recorded['path']!r}.", store=self.name)
        return recorded is None

    def setup(self, tx: Transaction, recorded: Mapping[str, Any] | None) -> Mapping[str, Any]:
        tx.execute(
            "CREATE TABLE IF NOT EXISTS json_lines (store, space, key, version, value, UNIQUE (store, space, key))"
        )
        return {"path": self._given}

    def encode(self, operation: Operation, key: str, value: object, limits: Limits) -> tuple[Any, Content | None]:
        if operation is Operation.DELETE:
            return None, None
        if not isinstance(value, str):
            raise UsageError(f"A line holds a text, not a {type(value).__name__}.", store=self.name)
        return value, Content(len(value.encode()), hashlib.sha256(value.encode()).hexdigest())

    def overlay(self, write: Write) -> Any:
        return MISSING if write.operation is Operation.DELETE else write.payload

    def prepare(self, unit: UnitFacts, writes: Sequence[Write]) -> None:
        """Nothing is made before the decision."""

    def apply(self, tx: Transaction, unit: UnitFacts, commit_seq: int, writes: Sequence[Write]) -> None:
        for write in writes:
            there = self.read(tx, unit.space_id, str(write.key)) is not None
            if there and write.operation is Operation.CREATE:
                raise RecordExists(f"{self.name!r} has that key already.", store=self.name)
            if not there and write.operation in (Operation.UPDATE, Operation.DELETE):
                raise RecordMissing(f"{self.name!r} has no such key.", store=self.name)
            record = (self.name, unit.space_id, write.key)
            tx.execute("DELETE FROM json_lines WHERE (store, space, key) = (?, ?, ?)", record)
            if write.operation is not Operation.DELETE:
                tx.execute("INSERT INTO json_lines VALUES (?, ?, ?, ?, ?)", (*record, commit_seq, write.payload))

    def redo(self, unit: UnitFacts, write: Write) -> bytes:
        return json.dumps(write.payload).encode()

    def publish(self, reader: Reader, entries: Sequence[Redo]) -> None:
        try:
            with self._path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.seek(0)
                whole = file.read()
                file.truncate(whole.rfind(b"\n") + 1)  # a line of which a crash left a part is written again
                there = {line["id"] for line in map(json.loads, whole.splitlines(keepends=True)[: whole.count(b"\n")])}
                for entry in entries:
                    line = {
                        "id": f"{entry.commit_seq}.{entry.seq}",
                        "version": entry.commit_seq,
                        "space": entry.space_id,
                    }
                    line |= {"key": entry.key, "value": json.loads(entry.payload)}
                    if line["id"] not in there:
                        file.write(json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreUnavailable(f"{self.name!r} cannot be written: {error.strerror}.", store=self.name) from error

    def read(self, reader: Reader, space_id: str, key: str) -> Found | None:
        query = "SELECT value, version FROM json_lines WHERE (store, space, key) = (?, ?, ?)"
        rows = reader.rows(query, (self.name, space_id, key))
        return Found(*rows[0]) if rows else None

    def version(self, reader: Reader, space_id: str, key: str) -> object:
        found = self.read(reader, space_id, key)
        return found.version if found else None

    def keys(self, reader: Reader, space_id: str) -> Iterator[str]:
        query = "SELECT key FROM json_lines WHERE store = ? AND space = ? ORDER BY key"
        for (key,) in reader.stream(query, (self.name, space_id)):
            yield key

    def search(self, reader: Reader, space_id: str, query: object, k: int, options: Mapping[str, Any]) -> list[Hit]:
        raise UsageError(f"{self.name!r} cannot be searched.", store=self.name)

    def close(self) -> None:
        """Nothing is held."""


def recorded(name: str, config: Mapping[str, Any]) -> JsonLines:
    """The store that a ledger records; the entry point leads here."""
    return JsonLines(name, config["path"])


def newest(path: Path, space: str, key: str) -> bytes | None:
    """What whoever follows the file makes of a key: the line with the greatest version, the last of them."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    own = [line for line in lines if (line["space"], line["key"]) == (space, key)]
    own.sort(key=lambda line: [int(part) for part in line["id"].split(".")])
    value = own[-1]["value"] if own else None
    return None if value is None else str(value).encode()
