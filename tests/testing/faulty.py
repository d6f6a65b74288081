"""Stores with one seeded mistake each, and the obligation that it breaks."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memoryos_uow._canonical import sha256_hex
from memoryos_uow._records import Content, Found
from memoryos_uow.abc import Capability, Fate
from memoryos_uow.errors import StoreError, StoreUnavailable
from memoryos_uow.stores import BlobStore, DocumentStore, FileStore, SQLiteFileStore
from memoryos_uow.stores._outside import Value
from memoryos_uow.stores._strict_json import to_json
from tests.deciding import DecidingFile

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from memoryos_uow._limits import Limits
    from memoryos_uow._records import Held
    from memoryos_uow.abc import Home, Reader, Redo, Store, Transaction, UnitFacts, Write
    from memoryos_uow.stores._outside import Head

DOCUMENTS: list[Any] = [{"n": 1}, {"n": 2, "t": "two"}, {"n": 3}]
BYTES: list[Any] = [b"small", b"large " * 300, b"other " * 300]
NO_DOCUMENTS: list[Any] = [object(), float("nan"), {"a": b"bytes"}]


def stored_document(directory: Path, space: str, key: str) -> bytes | None:
    """What a stranger finds in the second file."""
    with closing(sqlite3.connect(directory / "archive.db")) as connection:
        query = "SELECT value FROM uow_records WHERE space_id = ? AND key = ?"
        found = connection.execute(query, (space, key)).fetchone()
    return found[0].encode() if found and found[0] is not None else None


def stored_file(directory: Path, space: str, key: str) -> bytes | None:
    """What a stranger finds among the files."""
    path = directory / "files" / space.replace(":", "%3A") / key
    return path.read_bytes() if path.exists() else None


class Documents(DocumentStore):
    def __init__(self) -> None:
        super().__init__("subject")


class Archive(SQLiteFileStore):
    def __init__(self) -> None:
        super().__init__("subject", "archive.db")


class Files(FileStore):
    def __init__(self) -> None:
        super().__init__("subject", "files")


class Blobs(BlobStore):
    def __init__(self) -> None:
        super().__init__("subject", "blobs", inline_below=100)

    def paths(self, tokens: Collection[str]) -> list[Path]:
        return [self._root / token for token in tokens]


class ClaimsTooMuch(Documents):
    """12: says that it publishes, and cannot."""

    capability = Capability.REDO


class AttachMakes(Blobs):
    """1: makes its directory when it should only look."""

    def attach(self, home: Home, reader: Reader, recorded: Mapping[str, Any] | None) -> bool:
        Path(home.absolute("made.txt")).write_text("too early")
        return super().attach(home, reader, recorded)


class SetsUpOnce(Blobs):
    """2: cannot be set up again after a transaction that was rolled back."""

    def setup(self, tx: Transaction, recorded: Mapping[str, Any] | None) -> Mapping[str, Any]:
        if self._root.exists():
            raise StoreError("It is there already.")
        return super().setup(tx, recorded)


class LetsThrough(Documents):
    """3: takes values that `apply` cannot write."""

    def encode(self, *arguments: Any) -> Any:
        try:
            return super().encode(*arguments)
        except Exception:  # noqa: BLE001 - that is the mistake
            return object(), None


class MeasuresWrongly(Archive):
    """3: the checksum is not that of the bytes that are stored."""

    def _encode(self, value: object, limits: Limits) -> tuple[Value, Content]:
        _, stored = to_json(value, bytes_max=limits.document_bytes, store=self._name)
        return Value.of(stored), Content(len(stored), sha256_hex(stored + b"\n"))


class KeepsNoCopy(Blobs):
    """3: what the caller does to the value after the call changes what will be written."""

    def _encode(self, value: Any, limits: Limits) -> tuple[Any, Content]:
        blob, content = super()._encode(value, limits)
        return blob._replace(data=value), content


class PlansNothing(Files):
    """4: makes files that the ledger was not told of."""

    def plan(self, unit: UnitFacts, writes: Sequence[Write]) -> list[str]:
        super().prepare(unit, writes)
        return super().plan(unit, writes)


class DoesNotSync(Blobs):
    """5: acknowledges files that a power cut would take."""

    def prepare(self, unit: UnitFacts, writes: Sequence[Write]) -> None:
        for path in self.paths(self.plan(unit, writes)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._large(writes)[path.name])


class SyncsNoDirectory(Blobs):
    """5: acknowledges files whose names a power cut would take."""

    def prepare(self, unit: UnitFacts, writes: Sequence[Write]) -> None:
        for path in self.paths(self.plan(unit, writes)):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(self._large(writes)[path.name])
                file.flush()
                os.fsync(file.fileno())


class PreparesInMemory(Files):
    """5: keeps in memory what should be on the disk."""

    def prepare(self, unit: UnitFacts, writes: Sequence[Write]) -> None:
        self._kept = [*getattr(self, "_kept", []), (unit, writes)]

    def publish(self, reader: Reader, entries: Sequence[Redo]) -> None:
        for unit, writes in getattr(self, "_kept", []):
            super().prepare(unit, writes)
        super().publish(reader, entries)

    def _waiting(self, uow_id: str, payload: bytes, head: Head) -> bytes | None:
        for _, writes in getattr(self, "_kept", []):
            for write in writes:
                if write.payload is not None and write.payload.digest == head.digest:
                    return bytes(write.payload.content)
        return super()._waiting(uow_id, payload, head)


class ShowsTooEarly(Files):
    """5: what is prepared can be seen under its name."""

    def prepare(self, unit: UnitFacts, writes: Sequence[Write]) -> None:
        super().prepare(unit, writes)
        for write in writes:
            path = self._root / unit.space_id.replace(":", "%3A") / str(write.key)
            path.parent.mkdir(exist_ok=True)
            if write.payload and not path.exists():
                path.write_bytes(write.payload.content)

    def _refuse_in_the_way(self, tx: Transaction, space_id: str, key: str) -> None:
        """It would find what was shown too early."""


class CannotUndo(Documents):
    """6: keeps in memory what was applied, whatever becomes of the transaction."""

    _seen: dict[tuple[str, str], Any]

    def apply(self, tx: Transaction, unit: UnitFacts, commit_seq: int, writes: Sequence[Write]) -> None:
        super().apply(tx, unit, commit_seq, writes)
        self._seen = getattr(self, "_seen", {})
        self._seen.update({(unit.space_id, str(write.key)): self.overlay(write) for write in writes})

    def read(self, reader: Reader, space_id: str, key: str) -> Found | None:
        found = super().read(reader, space_id, key)
        return found and Found(getattr(self, "_seen", {}).get((space_id, key), found.value), found.version)


class OverwritesSilently(Documents):
    """6: a create of a key that is taken replaces the record."""

    def _create(self, tx: Transaction, unit: UnitFacts, commit_seq: int, run: list[Write]) -> None:
        tx.execute_many(self._sql.upsert, self._new_rows(unit, commit_seq, run))


class GoesBackwards(Archive):
    """7: a late publisher puts an older value over a newer one."""

    def publish(self, reader: Reader, entries: Sequence[Redo]) -> None:
        super().publish(reader, [])
        with closing(sqlite3.connect(self._file.path)) as connection, connection:
            for entry in entries:
                connection.execute(
                    "INSERT OR REPLACE INTO uow_records (space_id, key, version, value) VALUES (?, ?, ?, ?)",
                    (entry.space_id, entry.key, entry.commit_seq, entry.payload.decode() or None),
                )


class PublishesOnce(Files):
    """7: cannot find what it has published before."""

    def publish(self, reader: Reader, entries: Sequence[Redo]) -> None:
        for entry in entries:
            if entry.payload and not (self._stage.of(entry.uow_id) / entry.payload.decode()).exists():
                raise StoreUnavailable("It is not there any more.")
        super().publish(reader, entries)


class AbandonsTooMuch(Blobs):
    """8: removes bytes that another unit's decision refers to."""

    def abandon(self, uow_id: str, tokens: Sequence[str]) -> None:
        for path in self.paths(tokens):
            path.unlink(missing_ok=True)


class AbandonsOnce(Files):
    """8: fails when there is nothing to abandon."""

    def abandon(self, uow_id: str, tokens: Sequence[str]) -> None:
        if not self._stage.of(uow_id).exists():
            raise StoreError("Nothing is there.")
        super().abandon(uow_id, tokens)


class SweepsPlanned(Blobs):
    """9: removes what a unit at work has planned."""

    def sweep(self, tx: Transaction, planned: Collection[str]) -> int:
        return super().sweep(tx, ())


class NeverSweeps(Blobs):
    """8: leaves for ever what nobody refers to."""

    def sweep(self, tx: Transaction, planned: Collection[str]) -> int:
        return 0


class LagsBehind(Archive):
    """10: shows what was decided only once it is published."""

    def read(self, reader: Reader, space_id: str, key: str) -> Found | None:
        head = self.head(reader, space_id, key)
        content = self._published(space_id, key, head) if head else None
        return Found(self._decode(content), head.version) if head and content is not None else None


class MixesSpaces(Documents):
    """10: keys of one space show up in another."""

    def keys(self, reader: Reader, space_id: str) -> Iterator[str]:
        for (key,) in reader.stream("SELECT DISTINCT key FROM uow_documents WHERE store = 'subject' ORDER BY key"):
            yield key


class ForeseesWrongly(Documents):
    """10: the overlay is the value itself, not a fresh copy."""

    def overlay(self, write: Write) -> Any:
        before, value = self.__dict__.get("_shown", (None, None))
        if before is not write:
            value = super().overlay(write)
            self.__dict__["_shown"] = write, value
        return value


class ClosesOnce(Documents):
    """11: fails when it is closed twice."""

    def close(self) -> None:
        if self.__dict__.setdefault("_closed", False):
            raise StoreError("It is closed already.")
        self.__dict__["_closed"] = True


class TellsOneSpace(Documents):
    """13: tells of the records of one space only."""

    def contents(self, reader: Reader) -> Iterator[Held]:
        for held in super().contents(reader):
            if held.space_id == "check:one":
                yield held


class ErasesWhatIsNewer(Archive):
    """14: removes what was written since as well."""

    def erase_outside(self, space_id: str, key: str, version: int) -> None:
        super().erase_outside(space_id, key, version + 1_000_000)


class Decides(DecidingFile):
    def __init__(self) -> None:
        super().__init__("subject")


class GuessesItsFate(Decides):
    """15: takes what it does not know for what will not be."""

    def fate(self, uow_id: str) -> Fate:
        with closing(self._connect()) as connection:
            found = connection.execute("SELECT committed FROM marker WHERE uow_id = ?", (uow_id,)).fetchone()
        return Fate.COMMITTED if found else Fate.ABORTED


class DecidesWithoutAMark(Decides):
    """15: commits, and cannot tell later."""

    def decide(self, uow_id: str) -> None:
        self.held[uow_id].execute("DELETE FROM marker")
        super().decide(uow_id)


class SavesTooLittle(Documents):
    """16: what it loads is not what it saved."""

    def load(self, saved: bytes) -> str:
        return '{"n": 0}'


FAULTY: dict[type[Store], int] = {
    ClaimsTooMuch: 12,
    AttachMakes: 1,
    SetsUpOnce: 2,
    LetsThrough: 3,
    MeasuresWrongly: 3,
    KeepsNoCopy: 3,
    PlansNothing: 4,
    DoesNotSync: 5,
    SyncsNoDirectory: 5,
    PreparesInMemory: 5,
    ShowsTooEarly: 5,
    CannotUndo: 6,
    OverwritesSilently: 6,
    GoesBackwards: 7,
    PublishesOnce: 7,
    AbandonsTooMuch: 8,
    AbandonsOnce: 8,
    NeverSweeps: 8,
    SweepsPlanned: 9,
    LagsBehind: 10,
    MixesSpaces: 10,
    ForeseesWrongly: 10,
    ClosesOnce: 11,
    TellsOneSpace: 13,
    ErasesWhatIsNewer: 14,
    GuessesItsFate: 15,
    DecidesWithoutAMark: 15,
    SavesTooLittle: 16,
}
"""Each faulty store with the number of the obligation that it breaks first."""
