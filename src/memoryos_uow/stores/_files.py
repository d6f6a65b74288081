"""Named files in a tree, written with everything else of a unit: all of it or nothing.

Layout of the root: one directory per space (its id percent-encoded), below it the files under their keys; and ``.uow/``
with ``stage/<unit>/<SHA-256>`` for content that is durable and not decided or not published yet.

How: `prepare` makes the new contents durable in the stage. The decision writes heads into the ledger. `publish` renames
from the stage to the names, under a lock file, and only what the ledger still calls the newest: so it does no harm to
repeat it, to do it late, or to do it in another process while a former owner wakes up.

Promise: under its name a file is either wholly the old or wholly the new one, at any moment and after any crash. Across
several names the change becomes visible one by one, all of it in the end.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import quote, unquote
from weakref import WeakKeyDictionary

from memoryos_uow._canonical import sha256_hex
from memoryos_uow._durable import make_durable
from memoryos_uow._names import Operation, text_problem
from memoryos_uow.abc import Capability
from memoryos_uow.errors import StoreError
from memoryos_uow.stores._blob_keys import key_problem
from memoryos_uow.stores._claims import HOME, claim_of, is_others, ledger_id, stake
from memoryos_uow.stores._directory import Directory
from memoryos_uow.stores._durable_files import make_root, root_problem
from memoryos_uow.stores._os_errors import translated
from memoryos_uow.stores._outside import HeadStore, Value
from memoryos_uow.stores._stage import CAN_LOCK, HIDDEN, Stage, one_segment

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from memoryos_uow._limits import Limits
    from memoryos_uow._records import Content
    from memoryos_uow.abc import Home, Reader, Redo, Transaction, UnitFacts, Write
    from memoryos_uow.stores._outside import Head

_STRANGE: Final = "Something that this store did not write has that name, or stands in its way."
_BELOW: Final = "SELECT key FROM uow_heads WHERE store = ? AND space_id = ? AND key >= ? AND key < ? LIMIT 1"


class FileStore(HeadStore):
    """Files by name below a directory; the value may be bytes, bytearray or memoryview, and `get` returns bytes.

    Keys are relative paths such as ``2026/report.txt``. The directory is made if missing; a relative one starts at the
    ledger's. Its files may be read by anybody and should be written by nobody else: a file that this store did not
    write is never overwritten by `create`, and one that was changed behind its back is noticed when read.

    Raises:
        UsageError: a bad store name or directory.
        StoreError: when the ledger is opened: the directory is a link, open to everybody, or cannot be locked.
    """

    kind: ClassVar[str] = "files"
    capability = Capability.STAGED

    def __init__(self, name: str, directory: str | os.PathLike[str]) -> None:
        super().__init__(name)
        given = os.fspath(directory) if isinstance(directory, (str, os.PathLike)) else ""
        if not isinstance(given, str) or not given or "\0" in given:
            raise self._refusal("The directory of a file store must be a path.", 'Pass one such as "files/".')
        self._given = Path(given)
        self._root = self._given
        # Files whose heads a transaction has removed so far: they are there until that is published.
        self._removed: WeakKeyDictionary[Transaction, set[tuple[str, str]]] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"FileStore({self._name!r}, {str(self._given)!r})"

    # Getting ready

    def attach(self, home: Home, reader: Reader, recorded: Mapping[str, Any] | None) -> bool:
        """Find the directory; return whether it is still to be made and recorded.

        Raises:
            UsageError: the ledger has recorded another directory.
            StoreError: the directory cannot keep this store's promise.
        """
        if not CAN_LOCK:  # pragma: no cover - Windows
            raise StoreError("A file store needs file locks, which this system lacks.", store=self._name)
        self._root = Path(home.absolute(self._given))
        if recorded is None:
            return True
        if home.absolute(recorded["directory"]) != str(self._root):
            raise self._refusal(
                f"The files of the store {self._name!r} lie in {recorded['directory']!r}, not in {str(self._given)!r}.",
                "Open it with that directory, or use another name for the new files.",
            )
        self._refuse_bad_root()
        if "claim" in recorded:
            with self._translated("look at"):
                self._refuse_others(strange=is_others(self._root, recorded["claim"]))
        return False

    def _refuse_bad_root(self) -> None:
        with self._translated("look at"):
            problem = root_problem(self._root) if os.path.lexists(self._root) else "is missing"
        if problem:
            raise StoreError(
                f"The directory {self._root} of the store {self._name!r} {problem}.",
                hint="Nothing was written. It must be a directory that only its owner may write.",
                store=self._name,
            )

    def _refuse_others(self, *, strange: bool) -> None:
        if strange:
            raise StoreError(
                f"The directory {self._root} of the store {self._name!r} belongs to another ledger or store.",
                hint="Nothing was written. Give every store a directory of its own.",
                store=self._name,
            )

    def setup(self, tx: Transaction, recorded: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Make the directory and claim it; return ``{"directory": ..., "claim": ...}``, the first as it was given.

        Raises:
            StoreError: it cannot be made, or is another store's.
        """
        claim = (recorded or {}).get("claim") or claim_of(ledger_id(tx), self._name)
        with self._translated("make"):
            make_root(self._root)
        self._refuse_bad_root()
        with self._translated("make"):
            self._refuse_others(strange=not stake(self._root, claim))
            make_root(self._stage.hidden)
        return {"directory": self._given.as_posix(), "claim": claim}

    @property
    def _stage(self) -> Stage:
        return Stage(self._root, self._name)

    def _translated(self, what: str) -> Any:
        return translated(self._name, f"{what} its directory")

    # Values

    def _check_key(self, key: str) -> None:
        super()._check_key(key)
        problem = key_problem(key)
        if problem:
            raise self._refusal(f"The name of a file {problem}.", "Use a relative path such as 2026/report.txt.")

    def _encode(self, value: object, limits: Limits) -> tuple[Value, Content]:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise self._refusal(
                f"A file's content must be bytes, not {type(value).__name__}.", "Encode a string with .encode()."
            )
        content = bytes(value)
        if len(content) > limits.blob_bytes:
            raise self._refusal(
                f"The content is {len(content):,} bytes long; the limit is {limits.blob_bytes:,}.",
                "Open the ledger with other limits.",
            )
        encoded = Value.of(content)
        return encoded, encoded.measured()

    def _decode(self, content: bytes) -> bytes:
        return content

    # Before the decision

    def plan(self, unit: UnitFacts, writes: Sequence[Write]) -> list[str]:
        """Return the names that the contents will have in the stage."""
        return sorted({_staged_name(write) for write in writes if write.payload is not None})

    def prepare(self, unit: UnitFacts, writes: Sequence[Write]) -> None:
        """Stage the contents of `writes`; durable on return, invisible under their names.

        Raises:
            StoreError: they cannot be written.
        """
        contents = {_staged_name(write): write.payload.content for write in writes if write.payload is not None}
        with self._translated("write below"):
            self._stage.write(unit.uow_id, contents)

    def apply(self, tx: Transaction, unit: UnitFacts, commit_seq: int, writes: Sequence[Write]) -> None:
        """Write the heads of `writes`, after everything was refused that `publish` could stumble over.

        Raises:
            RecordExists: a create found its key taken.
            RecordMissing: an update or delete did not find its key.
            StoreError: a name is a directory of other files, or a file that this store did not write has it.
        """
        removed = self._removed.setdefault(tx, set())
        for write in writes:
            key = str(write.key)
            if write.operation is Operation.DELETE:
                removed.add((unit.space_id, key))
            else:
                self._refuse_in_the_way(tx, unit.space_id, key)
            super().apply(tx, unit, commit_seq, [write])  # one by one: each may stand in the way of the next

    def _refuse_in_the_way(self, tx: Transaction, space_id: str, key: str) -> None:
        parts = key.split("/")
        above = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
        below = tx.rows(_BELOW, (self._name, space_id, f"{key}/", f"{key}0"))  # "0" comes right after "/"
        if below or any(self.head(tx, space_id, name) for name in above):
            raise self._in_the_way("A name cannot be a file and a directory at once.")
        *folders, name = _segments(space_id, key)
        path = self._root
        with self._translated("look at"):
            for depth, segment in enumerate(folders):
                path /= segment
                if not os.path.lexists(path):
                    return
                # A link to a directory is none of ours either: nothing is ever written through one.
                if path.is_symlink() or not (path.is_dir() or self._is_ours(tx, space_id, "/".join(parts[:depth]))):
                    raise self._in_the_way(_STRANGE)
            if self.head(tx, space_id, key) is None and self._is_strange(tx, space_id, path / name, key):
                raise self._in_the_way(_STRANGE)

    def _is_strange(self, tx: Transaction, space_id: str, path: Path, key: str) -> bool:
        """Say whether something at `path` would still be there when `key` gets its name."""
        if path.is_symlink() or not path.is_dir():
            return os.path.lexists(path) and not self._is_ours(tx, space_id, key)
        below = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
        return any(not self._is_ours(tx, space_id, f"{key}/{one.relative_to(path).as_posix()}") for one in below)

    def _is_ours(self, tx: Transaction, space_id: str, key: str) -> bool:
        """Say whether a file without a head is one whose removal is decided, or is being decided in this unit."""
        waiting = "SELECT 1 FROM uow_redo WHERE store = ? AND space_id = ? AND key = ?"
        return (space_id, key) in self._removed.get(tx, ()) or bool(tx.rows(waiting, (self._name, space_id, key)))

    def _in_the_way(self, message: str) -> StoreError:
        return StoreError(message, hint="Nothing of the unit was written. Choose another name.", store=self._name)

    # After the decision

    def redo(self, unit: UnitFacts, write: Write) -> bytes:
        """Return the name of the content in the stage; nothing for a delete."""
        return _staged_name(write).encode() if write.payload is not None else b""

    def publish(self, reader: Reader, entries: Sequence[Redo]) -> None:
        """Give staged contents their names; durable on return, and harmless if repeated.

        Raises:
            StoreUnavailable: the directory cannot be written at the moment.
            StoreError: a staged content is lost.
        """
        newest = {(entry.space_id, entry.key): entry for entry in entries}
        with self._translated("write below"), self._stage.locked(), Directory.root(self._root) as root:
            heads = {record: self.head(reader, *record) for record in newest}
            if any(head is None or head.version != newest[record].commit_seq for record, head in heads.items()):
                # It may be a newer unit that asks for a removal, or to which these give way: a power cut must not take
                # that one back any more.
                make_durable(reader)
            # Removals first: a name may have been a directory of what is removed, or the other way round.
            for record in (record for record, head in heads.items() if head is None):
                *folders, name = _segments(*record)
                self._remove(root, folders, name)
            named = {r: head for r, head in heads.items() if head is not None and head.version == newest[r].commit_seq}
            self._make_ways(root, {tuple(_way(record)) for record in named})
            for record, head in named.items():
                self._give_name(root, *_segments(*record), entry=newest[record], head=head)
            _sync(root, {tuple(folders[:depth]) for folders in map(_way, newest) for depth in range(len(folders) + 1)})
        for uow_id in {entry.uow_id for entry in entries}:
            self._stage.clear(uow_id)

    @staticmethod
    def _make_ways(root: Directory, ways: Collection[tuple[str, ...]]) -> None:
        """Make the directories for new names, durably: a name in one that a power cut takes away is lost with it."""
        for way in ways:
            with root.descend(way, make=True):
                pass
        _sync(root, {way[:depth] for way in ways for depth in range(len(way))})

    def _give_name(self, root: Directory, *way: str, entry: Redo, head: Head) -> None:
        *folders, name = way
        with root.descend(folders) as folder:
            folder.remove_empty(name)
            try:
                with Directory.root(self._stage.of(entry.uow_id)) as stage:
                    stage.move(entry.payload.decode(), folder, name)
            except FileNotFoundError:
                # Done before, by whoever was at it and died, or is at it still.
                if not any(True for _ in folder.read(name, head.size)) and head.size:
                    raise StoreError(
                        f"A file of the store {self._name!r} was removed before it could be published.",
                        hint="Restore the directory from a copy.",
                        store=self._name,
                    ) from None

    @staticmethod
    def _remove(root: Directory, folders: list[str], name: str) -> None:
        """Remove a file, and the directories above it that it leaves empty."""
        with suppress(FileNotFoundError, NotADirectoryError):
            with root.descend(folders) as folder, suppress(IsADirectoryError):  # that is a newer unit's
                folder.unlink(name)
            for depth in range(len(folders) - 1, 0, -1):
                with root.descend(folders[:depth]) as folder:
                    folder.remove_empty(folders[depth])

    # What is left in the stage

    def abandon(self, uow_id: str, tokens: Sequence[str]) -> None:
        """Remove what was staged for a unit that was not decided."""
        self._stage.clear(uow_id)

    def sweep(self, tx: Transaction, planned: Collection[str]) -> int:
        """Remove what was staged for units that are not at work any more; return how many pieces that were."""
        with self._translated("sweep"):
            return self._stage.sweep(planned)

    # Reading

    def _waiting(self, uow_id: str, payload: bytes, head: Head) -> bytes | None:
        with self._translated("read"), suppress(FileNotFoundError), Directory.root(self._stage.of(uow_id)) as stage:
            return b"".join(stage.read(payload.decode(), head.size))
        return None

    def _stored(self, reader: Reader, space_id: str, columns: Sequence[Any]) -> bytes | str | None:
        try:
            return super()._stored(reader, space_id, columns)
        except StoreError:
            return "its file cannot be read"

    def _strangers(self, reader: Reader) -> Iterator[tuple[str, str]]:
        spaces = {_segments(space_id, "")[0]: space_id for space_id in self._spaces(reader)}
        with self._translated("read"):
            for directory, folders, names in os.walk(self._root, onerror=_raise):
                parts = Path(directory).relative_to(self._root).parts
                if not parts:
                    folders[:] = sorted(set(folders) - {HIDDEN, HOME})
                links = [name for name in folders if Path(directory, name).is_symlink()]
                for name in (*names, *links) if parts else ():
                    space_id, key = spaces.get(parts[0], unquote(parts[0])), "/".join((*parts[1:], name))
                    if not self._is_known(reader, space_id, key):
                        yield space_id, key

    def _spaces(self, reader: Reader) -> list[str]:
        found = reader.rows("SELECT DISTINCT space_id FROM uow_heads WHERE store = ?", (self._name,))
        return [space_id for (space_id,) in found if isinstance(space_id, str) and text_problem(space_id) is None]

    def _published(self, space_id: str, key: str, head: Head) -> bytes | None:
        *folders, name = _segments(space_id, key)
        with (
            self._translated("read"),
            suppress(FileNotFoundError),
            Directory.root(self._root) as root,
            root.descend(folders) as folder,
        ):
            return b"".join(folder.read(name, head.size))
        return None


def _staged_name(write: Write) -> str:
    """Return the name of a content in the stage: one per key, so that each can be renamed away."""
    return sha256_hex(f"{write.payload.digest} {write.key}".encode())


def _segments(space_id: str, key: str) -> list[str]:
    """Return the way from the root to a file."""
    return [one_segment(quote(space_id, safe="")), *key.split("/")]


def _raise(error: OSError) -> None:
    raise error


def _sync(root: Directory, ways: Collection[tuple[str, ...]]) -> None:
    """Make the names in these directories durable, those in the deepest first; one that is gone has none."""
    for way in sorted(ways, key=len, reverse=True):
        with suppress(FileNotFoundError, NotADirectoryError), root.descend(way) as folder:
            folder.sync()


def _way(record: tuple[str, str]) -> list[str]:
    """Return the directories from the root down to a record's file."""
    return _segments(*record)[:-1]
