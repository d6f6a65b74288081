"""Blobs: bytes by key, small ones in the ledger's file, large ones as files named by their content.

Layout of the directory: ``<16 hex of SHA-256 of the space>/<first 2 hex of the digest>/<SHA-256 of the content>``,
``tmp/`` for files that are not whole yet, and ``.uow-home/``, which says whose it is. Spaces never share a file: else
the presence of a file would tell one space what another one holds, and erasing a space would need to count references.

Promise: a large blob is durable as a file before the decision and referred to by the decision, so a crash leaves at
most a file to which nothing refers, and so does overwriting and deleting. `Ledger.recover` sweeps such files; one that
a unit at work is about to refer to is never swept, nor anything that is not named like them. What is read has the size
and digest that were recorded.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from memoryos_uow._canonical import sha256_hex
from memoryos_uow._names import text_problem
from memoryos_uow._records import Content
from memoryos_uow.abc import Capability
from memoryos_uow.errors import StoreError
from memoryos_uow.stores._blob_keys import key_problem
from memoryos_uow.stores._claims import claim_of, is_others, ledger_id, stake
from memoryos_uow.stores._durable_files import NewFile, make_root, read_file, remove_files, root_problem, write_files
from memoryos_uow.stores._os_errors import translated
from memoryos_uow.stores._record_table import ODD_COLUMN, RecordStore

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from memoryos_uow._limits import Limits
    from memoryos_uow.abc import Home, Reader, Transaction, UnitFacts, Write

INLINE_BELOW_BYTES: Final = 65_536
"""Blobs of fewer bytes live in the ledger's file (design, section 4)."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FILE: Final = re.compile(r"[0-9a-f]{16}/[0-9a-f]{2}/[0-9a-f]{64}")


class _Blob(NamedTuple):
    digest: str
    data: bytes


class BlobStore(RecordStore):
    """Bytes by key; the value may be bytes, bytearray or memoryview, and `get` returns bytes.

    Blobs of fewer than `inline_below` bytes are rows of the ledger, others are files below `directory`, which is made
    if missing; a relative one starts at the ledger's directory, and a ledger in a database has none: there it must be
    absolute. Without a directory all blobs are rows. The directory is recorded in the ledger and
    stays, `inline_below` may change at any time. Keys are names such as ``2026/photo.jpg``: parts between slashes,
    none of them empty, ``.`` or ``..``; they never become paths here.

    Raises:
        UsageError: a bad store name, directory or number.
    """

    kind: ClassVar[str] = "blobs"
    capability = Capability.CONTENT_ADDRESSED
    _table = "uow_blobs"
    _columns = ("digest", "size", "data")

    def __init__(
        self,
        name: str,
        directory: str | os.PathLike[str] | None = None,
        *,
        inline_below: int = INLINE_BELOW_BYTES,
    ) -> None:
        super().__init__(name)
        given = directory if isinstance(directory, (str, os.PathLike)) else ""
        path = os.fspath(given)
        if directory is not None and (not isinstance(path, str) or not path or text_problem(path)):
            raise self._refusal(
                "The directory of a blob store must be a non-empty path.", 'Pass one such as "photos/".'
            )
        if not isinstance(inline_below, int) or isinstance(inline_below, bool) or inline_below < 0:
            raise self._refusal("inline_below must be a whole number of bytes, 0 or more.", "Correct the call.")
        self._directory = None if directory is None else Path(path)
        self._inline_below = inline_below
        self._home: Home | None = None
        self._root = self._directory or Path()

    def __repr__(self) -> str:
        if self._directory is None:
            return f"BlobStore({self._name!r})"
        return f"BlobStore({self._name!r}, {str(self._directory)!r}, inline_below={self._inline_below})"

    # Getting ready

    def attach(self, home: Home, reader: Reader, recorded: Mapping[str, Any] | None) -> bool:
        """Find the directory; return whether it is still to be made and recorded.

        Raises:
            UsageError: the ledger has recorded another directory.
            StoreError: the directory was there once and is missing, or it is a link, no directory, or open to
            everybody.
        """
        self._home = home
        self._compare(recorded)
        if self._directory is None:
            return recorded is None
        self._root = self._place(self._directory)
        with self._translated("look at"):
            present = os.path.lexists(self._root)
            problem = root_problem(self._root) if present else None
        if problem:
            raise self._bad_root(problem, "Choose a directory that only its owner may write.")
        if recorded is not None and not present:
            raise self._bad_root("is missing", "Put it back where it was: it holds the blobs of this ledger.")
        if recorded is not None and "claim" in recorded:
            with self._translated("look at"):
                self._refuse_others(strange=is_others(self._root, recorded["claim"]))
        return recorded is None

    def _place(self, directory: str | Path) -> Path:
        assert self._home is not None  # noqa: S101 - attached
        return Path(self._home.absolute(directory))

    def _compare(self, recorded: Mapping[str, Any] | None) -> None:
        if recorded is None:
            return
        before, now = (one and self._place(one) for one in (recorded["directory"], self._directory))
        if before != now:
            lie, not_in = (one or "the ledger alone" for one in (recorded["directory"], self._directory))
            raise self._refusal(
                f"The blobs of the store {self._name!r} of this ledger lie in {str(lie)!r}, not in {str(not_in)!r}.",
                "Open it with that directory, or use another name for the new blobs.",
            )

    def _refuse_others(self, *, strange: bool) -> None:
        if strange:
            raise self._bad_root(
                "belongs to another ledger or to another store of this one", "Give every store a directory of its own."
            )

    def _bad_root(self, problem: str, hint: str) -> StoreError:
        return StoreError(
            f"The directory {self._root} of the store {self._name!r} {problem}.",
            hint=f"Nothing was written. {hint}",
            store=self._name,
        )

    def setup(self, tx: Transaction, recorded: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Make the directory and claim it; return ``{"directory": ..., "claim": ...}``, the first as it was given.

        Raises:
            UsageError: another process recorded another directory in the meantime.
            StoreError: it cannot be made, or is another store's.
        """
        self._compare(recorded)
        if self._directory is None:
            return {"directory": None}
        claim = (recorded or {}).get("claim") or claim_of(ledger_id(tx), self._name)
        with self._translated("make"):
            make_root(self._root)
            problem = root_problem(self._root)
        if problem:
            raise self._bad_root(problem, "Choose a directory that only its owner may write.")
        with self._translated("make"):
            self._refuse_others(strange=not stake(self._root, claim))
        return {"directory": self._directory.as_posix(), "claim": claim}

    # Values

    def _check_key(self, key: str) -> None:
        super()._check_key(key)
        problem = key_problem(key)
        if problem:
            raise self._refusal(f"The key of a blob {problem}.", "Use a name such as 2026/photo.jpg.")

    def _encode(self, value: object, limits: Limits) -> tuple[_Blob, Content]:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise self._refusal(
                f"A blob must be bytes, not {type(value).__name__}.",
                "Encode a string with .encode(), read a file with .read_bytes().",
            )
        size = value.nbytes if isinstance(value, memoryview) else len(value)
        if size > limits.blob_bytes:
            raise self._refusal(
                f"The blob is {size:,} bytes long; the limit is {limits.blob_bytes:,}.",
                "Split it, or open the ledger with other limits.",
            )
        data = bytes(value)  # a copy of what the caller may change before the commit
        blob = _Blob(sha256_hex(data), data)
        return blob, Content(size, blob.digest)

    def _columns_of(self, payload: _Blob) -> tuple[str, int, bytes | None]:
        return payload.digest, len(payload.data), None if self._is_file(payload) else payload.data

    def _is_file(self, blob: _Blob) -> bool:
        return self._directory is not None and len(blob.data) >= self._inline_below

    def save(self, write: Write) -> bytes:
        """Return the bytes."""
        data: bytes = write.payload.data
        return data

    def load(self, saved: bytes) -> _Blob:
        """Return the bytes with their digest."""
        return _Blob(sha256_hex(saved), saved)

    def _overlay(self, payload: _Blob) -> bytes:
        return payload.data

    def _value(self, reader: Reader, space_id: str, columns: Sequence[Any]) -> bytes:
        digest, size, data = columns
        # A hostile ledger may hold anything here, and this becomes a path.
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest) or not isinstance(size, int):
            raise self._damaged()
        if data is None:
            data = self._from_file(space_id, digest, size)
        if not isinstance(data, bytes) or len(data) != size or sha256_hex(data) != digest:
            raise self._damaged()
        return data

    def _stored(self, reader: Reader, space_id: str, columns: Sequence[Any]) -> bytes | str | None:
        digest, size, data = columns
        if isinstance(data, bytes):
            return data
        if data is not None or not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            return ODD_COLUMN
        try:
            return read_file(self._root, _folders(space_id, digest), digest, size)
        except FileNotFoundError:
            return None
        except OSError:
            return "its file cannot be read"

    def _from_file(self, space_id: str, digest: str, size: int) -> bytes:
        with self._translated("read below"):
            try:
                return read_file(self._root, _folders(space_id, digest), digest, size)
            except FileNotFoundError:
                return b""

    def _damaged(self) -> StoreError:
        return StoreError(
            f"A blob of the store {self._name!r} was changed or is missing.",
            hint="Nothing was written. Restore its directory from a copy, or write the blob anew.",
            store=self._name,
        )

    # Files

    def plan(self, unit: UnitFacts, writes: Sequence[Write]) -> list[str]:
        """Return the paths, below the directory, of the files that the large blobs of `writes` will be."""
        return sorted("/".join((*_folders(unit.space_id, digest), digest)) for digest in self._large(writes))

    def _large(self, writes: Sequence[Write]) -> dict[str, bytes]:
        blobs = (write.payload for write in writes if write.payload is not None)
        return {blob.digest: blob.data for blob in blobs if self._is_file(blob)}

    def prepare(self, unit: UnitFacts, writes: Sequence[Write]) -> None:
        """Write the large blobs of `writes` as files; on return they are durable, and nothing refers to them yet.

        Raises:
            StoreUnavailable: at the moment there is no room, or no file can be opened.
            StoreError: the directory cannot be written.
        """
        large = self._large(writes).items()
        if large:  # small blobs need no directory, not even one that is in order
            with self._translated("write below"):
                write_files(
                    self._root, (NewFile(_folders(unit.space_id, digest), digest, data) for digest, data in large)
                )

    def abandon(self, uow_id: str, tokens: Sequence[str]) -> None:
        """Do nothing: another unit may have come to refer to the same content, which only a sweep can tell."""

    def sweep(self, tx: Transaction, planned: Collection[str]) -> int:
        """Remove files to which no blob refers and which no unit at work has planned; return how many."""
        if self._directory is None:
            return 0
        keep = {
            "/".join((*_folders(space_id, digest), digest))
            for space_id, digest in tx.stream(
                "SELECT DISTINCT space_id, digest FROM uow_blobs WHERE store = ? AND data IS NULL", (self._name,)
            )
        }
        keep.update(planned)
        with self._translated("sweep"):
            # A file in tmp/ belongs to a unit that is at work now, if there is one.
            return remove_files(self._root, keep, named=_FILE, temporary=not any("/" in token for token in planned))

    def _translated(self, what: str) -> AbstractContextManager[None]:
        return translated(self._name, f"{what} its directory")


def _folders(space_id: str, digest: str) -> tuple[str, str]:
    return sha256_hex(space_id.encode())[:16], digest[:2]
