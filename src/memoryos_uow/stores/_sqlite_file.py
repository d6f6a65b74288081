"""Documents in a second SQLite file, written with everything else of a unit: all of it or nothing.

How: nothing is written to the file before the decision. The decision's transaction in the ledger holds the documents;
afterwards they are applied to the file, and recovery applies them if the process dies first. The file is never
attached: a transaction over attached files is not atomic in WAL mode (https://sqlite.org/lang_attach.html).

Promise: what was decided is seen through this library at once; the file itself has it before the with-block is left, or
when recovery can reach it. Whoever reads the file alone sees each unit whole. The file is synced once for many units:
after a power cut it may lack the newest ones until the ledger, which has them, is opened. But for that, no record ever
goes backwards.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from memoryos_uow.abc import Capability
from memoryos_uow.stores._claims import ledger_id
from memoryos_uow.stores._outside import DocumentHeads
from memoryos_uow.stores._second_file import SecondFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from memoryos_uow.abc import Home, Reader, Redo, Transaction, UnitFacts, Write
    from memoryos_uow.stores._outside import Head


class SQLiteFileStore(DocumentHeads):
    """JSON documents by key in a second SQLite file.

    The file is made if missing and belongs to this ledger from then on: its table ``uow_records`` may be read by
    anybody and written by nobody else. A relative `path` starts at the ledger's directory.

    Raises:
        UsageError: a bad name or path.
        StoreError: when the ledger is opened: the file is another ledger's, or cannot keep a write-ahead log.
    """

    kind: ClassVar[str] = "sqlite file"
    capability = Capability.REDO

    def __init__(self, name: str, path: str | os.PathLike[str]) -> None:
        super().__init__(name)
        given = os.fspath(path) if isinstance(path, (str, os.PathLike)) else ""
        if not isinstance(given, str) or not given or "\0" in given or given == ":memory:":
            raise self._refusal("The path of the second file must be that of a file.", 'Pass one such as "archive.db".')
        self._given = Path(given)
        self._file = SecondFile(self._given, name)

    def __repr__(self) -> str:
        return f"SQLiteFileStore({self._name!r}, {str(self._given)!r})"

    # Getting ready

    def attach(self, home: Home, reader: Reader, recorded: Mapping[str, Any] | None) -> bool:
        """Find the file; return whether it is still to be made and recorded.

        Raises:
            UsageError: the ledger has recorded another file.
            StoreError: the file was there once and is missing, or another one is in its place.
        """
        path = Path(home.absolute(self._given))
        if path != self._file.path:
            self._file.close()
            self._file = SecondFile(path, self._name)
        if recorded is None:
            return True
        if home.absolute(recorded["path"]) != str(path):
            raise self._refusal(
                f"The store {self._name!r} of this ledger lies in {recorded['path']!r}, not in {str(self._given)!r}.",
                "Open it with that file, or use another name for the new one.",
            )
        if not path.exists():
            raise self._file.refusal("is missing", "Put it back where it was: it holds documents of this ledger.")
        if "claim" in recorded:
            self._file.expect(recorded["claim"], read_only=home.read_only)
        return False

    def setup(self, tx: Transaction, recorded: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Make the file and its tables; return ``{"path": ..., "claim": ...}``, the first as it was given.

        Raises:
            StoreError: it is another ledger's, or cannot be made.
        """
        claim = (recorded or {}).get("claim") or ledger_id(tx)  # a ledger that went down and up again has a new id
        self._file.claim(claim)
        return {"path": self._given.as_posix(), "claim": claim}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    # After the decision

    def redo(self, unit: UnitFacts, write: Write) -> bytes:
        """Return the document's text, nothing for a delete."""
        return write.payload.content if write.payload is not None else b""

    def publish(self, reader: Reader, entries: Sequence[Redo]) -> None:
        """Apply `entries` to the file; durable on return, and harmless if repeated.

        Raises:
            StoreUnavailable: the file cannot be written at the moment.
        """
        self._file.apply(entries)
        self._file.sync()

    def show(self, reader: Reader, entries: Sequence[Redo]) -> None:
        """Apply `entries` to the file, where others see them; a power cut may take them back.

        Raises:
            StoreUnavailable: the file cannot be written at the moment.
        """
        self._file.apply(entries)

    def make_durable(self) -> None:
        """Sync what was shown.

        Raises:
            StoreUnavailable: the disk failed.
        """
        self._file.sync()

    # Erasing

    def erase_inside(self, tx: Transaction, space_id: str, key: str) -> None:
        """Do nothing: the ledger's file holds a head, which goes with the delete."""

    def erase_outside(self, space_id: str, key: str, version: int) -> None:
        """Remove the record's row, which a delete leaves with its key, from the file, its free pages and its log.

        Raises:
            StoreUnavailable: the file cannot be written at the moment, or somebody still reads an earlier state.
        """
        self._file.erase(space_id, key, version)

    def _waiting(self, uow_id: str, payload: bytes, head: Head) -> bytes:
        return payload

    def _newest_outside(self, space_id: str, keys: Sequence[str]) -> int:
        return self._file.newest(space_id, keys)

    def _strangers(self, reader: Reader) -> Iterator[tuple[str, str]]:
        for space_id, key in self._file.names():
            if not self._is_known(reader, space_id, key):
                yield space_id, key

    def _published(self, space_id: str, key: str, head: Head) -> bytes | None:
        found = self._file.row(space_id, key)
        return found[1].encode() if found and found[1] is not None else None
