"""The simulated stores, one of each capability; what each may lose, and when it may be killed, is that of the real one.

Every ``yield`` is a moment at which others act, and at which the process may die.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.world import ARCHIVE, BLOBS, DOCS, FILES, Entry, Fault, Refused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Sequence

    from tests.simulation.process import Actor
    from tests.simulation.world import Tables, Unit, World

TEMPORARY = "tmp"
"""Where files lie that have no name yet, for either store."""


def stage_of(uow: int) -> str:
    """Return the directory of a unit in the stage of the file store."""
    return f"stage/{uow}"


class DocumentStore:
    """SAME_TRANSACTION. Mirrors `memoryos_uow.stores._documents.DocumentStore`: rows in the ledger's own transaction."""

    name = DOCS

    def __init__(self, world: World) -> None:
        self.world = world

    def apply(self, tx: Tables, commit_seq: int, key: str, content: str | None) -> None:
        """Write the row; refuse to delete what is not there."""
        if content is not None:
            tx.docs[key] = commit_seq, content
        elif tx.docs.pop(key, None) is None:
            raise Refused


class BlobStore:
    """CONTENT_ADDRESSED. Mirrors `memoryos_uow.stores._blobs.BlobStore`, all blobs being large."""

    name = BLOBS

    def __init__(self, world: World) -> None:
        self.world = world

    def plan(self, unit: Unit) -> list[str]:
        """Mirrors `memoryos_uow.stores._blobs.BlobStore.plan`."""
        return sorted({content for store, _, content in unit.writes if store == BLOBS and content is not None})

    def prepare(self, actor: Actor, unit: Unit) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow.stores._durable_files.write_files`."""
        disk = self.world.disk
        for digest in self.plan(unit):
            if digest in disk.names(BLOBS):
                self.world.counts["bytes_there_already"] += 1
                yield
                continue
            disk.change((TEMPORARY, f"{actor.name}/{digest}", digest))
            yield
            if unit.refused_by == "prepare":
                raise Refused
            disk.change((TEMPORARY, f"{actor.name}/{digest}", None), (BLOBS, digest, digest))
            yield
        if self.world.fault is not Fault.BYTES_NOT_SYNCED:
            disk.sync([BLOBS])
            yield

    def apply(self, tx: Tables, commit_seq: int, key: str, content: str | None) -> None:
        """Write the reference; refuse to delete what is not there."""
        if content is not None:
            tx.refs[key] = commit_seq, content
        elif tx.refs.pop(key, None) is None:
            raise Refused

    def abandon(self, actor: Actor, uow: int) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow.stores._blobs.BlobStore.abandon`: another unit may refer to the same content."""
        yield from ()

    def sweep(self, actor: Actor, tx: Tables, planned: Collection[str]) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow.stores._blobs.BlobStore.sweep`."""
        disk = self.world.disk
        keep = {digest for _, digest in tx.refs.values()}
        if self.world.fault is not Fault.SWEEP_IGNORES_PLANS:
            keep.update(planned)
        for digest in [digest for digest in disk.names(BLOBS) if digest not in keep]:
            disk.change((BLOBS, digest, None))
            self.world.counts["swept_bytes"] += 1
            if self.world.trace is not None:
                self.world.say(actor, f"sweeps the bytes {digest}")
            yield
        if not planned:
            yield from sweep_temporary(self.world)


class FileStore:
    """STAGED. Mirrors `memoryos_uow.stores._files.FileStore`."""

    name = FILES

    def __init__(self, world: World) -> None:
        self.world = world

    def plan(self, unit: Unit) -> list[str]:
        """Mirrors `memoryos_uow.stores._files.FileStore.plan`."""
        return sorted({content for store, _, content in unit.writes if store == FILES and content is not None})

    def prepare(self, actor: Actor, unit: Unit) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow.stores._files.FileStore.prepare`; in the stage each content is its own name."""
        disk, stage = self.world.disk, stage_of(unit.uow)
        for content in self.plan(unit):
            disk.change((TEMPORARY, f"{actor.name}/{content}", content))
            yield
            if unit.refused_by == "prepare":
                raise Refused
            disk.change((TEMPORARY, f"{actor.name}/{content}", None), (stage, content, content))
            yield
        if self.world.fault is not Fault.BYTES_NOT_SYNCED:
            disk.sync([stage])
            yield

    def apply(self, tx: Tables, commit_seq: int, key: str, content: str | None) -> None:
        """Mirrors `memoryos_uow.stores._files.FileStore.apply`: refuse what `publish` could stumble over."""
        if content is None:
            if tx.heads.pop((FILES, key), None) is None:
                raise Refused
            return
        tx.heads[FILES, key] = commit_seq, content

    def publish(self, actor: Actor, entries: Sequence[Entry]) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow.stores._files.FileStore.publish`."""
        world, disk = self.world, self.world.disk
        if world.is_silent(FILES):
            raise Unavailable
        locks = world.fault is not Fault.NO_PUBLISHING_LOCK
        if locks:
            yield from self._lock(actor)
        newest = {entry.key: entry for entry in entries}
        heads = {}
        for key in newest:
            heads[key] = world.ledger.now.heads.get((FILES, key))
            yield
        for key, entry in newest.items():
            head = heads[key]
            if head is None:
                if key in disk.names(FILES):
                    disk.change((FILES, key, None))
                    yield
            elif head[0] == entry.commit_seq or world.fault is Fault.NO_LOOK_AT_THE_HEAD:
                self._give_name(actor, entry)
                yield
            else:
                world.counts["superseded_publish"] += 1
        if world.fault is not Fault.NAMES_NOT_SYNCED:
            disk.sync([FILES])
            yield
        if locks:
            world.publishing = None
        for uow in {entry.uow: None for entry in entries}:
            yield from self._clear(uow)

    def _lock(self, actor: Actor) -> Generator[None, None, None]:
        patience = 200
        while self.world.publishing is not None:
            self.world.counts["waited_for_publisher"] += 1
            patience -= 1
            if patience < 0:
                raise Unavailable
            yield
        self.world.publishing = actor

    def _give_name(self, actor: Actor, entry: Entry) -> None:
        world, disk, stage = self.world, self.world.disk, stage_of(entry.uow)
        content = entry.content
        if content is not None and content in disk.names(stage):
            disk.change((stage, content, None), (FILES, entry.key, content))
            world.show(FILES, entry)
            if world.trace is not None:
                world.say(actor, f"gives {FILES}/{entry.key} to unit {entry.uow}")
        elif entry.key not in disk.names(FILES):
            raise world.break_promise(f"{FILES}/{entry.key} was removed before unit {entry.uow} could publish it")

    def _clear(self, uow: int) -> Generator[None, None, None]:
        stage = stage_of(uow)
        for content in list(self.world.disk.names(stage)):
            self.world.disk.change((stage, content, None))
            yield

    def abandon(self, actor: Actor, uow: int) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow.stores._files.FileStore.abandon`."""
        if self.world.is_silent(FILES):
            raise Unavailable
        yield from self._clear(uow)

    def sweep(self, actor: Actor, tx: Tables, planned: Collection[str]) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow.stores._files.FileStore.sweep`."""
        disk = self.world.disk
        for stage in [name for name in disk.now if name.startswith("stage/") and disk.now[name]]:
            if stage.removeprefix("stage/") not in planned or self.world.fault is Fault.SWEEP_IGNORES_PLANS:
                self.world.counts["swept_stage"] += 1
                if self.world.trace is not None:
                    self.world.say(actor, f"sweeps {stage}")
                yield from self._clear(int(stage.removeprefix("stage/")))
        if not planned:
            yield from sweep_temporary(self.world)


class SecondFileStore:
    """REDO. Mirrors `memoryos_uow.stores._sqlite_file.SQLiteFileStore`."""

    name = ARCHIVE

    def __init__(self, world: World) -> None:
        self.world = world

    def apply(self, tx: Tables, commit_seq: int, key: str, content: str | None) -> None:
        """Write the head; refuse to delete what is not there."""
        if content is not None:
            tx.heads[ARCHIVE, key] = commit_seq, content
        elif tx.heads.pop((ARCHIVE, key), None) is None:
            raise Refused

    def publish(self, actor: Actor, entries: Sequence[Entry]) -> Generator[None, None, None]:
        """Mirrors `memoryos_uow.stores._second_file.SecondFile.apply`: one transaction."""
        world = self.world
        if world.is_silent(ARCHIVE):
            raise Unavailable
        yield
        rows = world.archive.now.copy()
        for entry in entries:
            if entry.commit_seq >= rows.get(entry.key, (0, None))[0] or world.fault is Fault.NO_SEQUENCE_GUARD:
                rows[entry.key] = entry.commit_seq, entry.content
                world.show(ARCHIVE, entry)
            else:
                world.counts["superseded_redo"] += 1
        world.archive.commit(rows, sync=world.fault is not Fault.SECOND_FILE_NOT_SYNCED)
        if world.trace is not None:
            world.say(actor, f"{ARCHIVE} is at {rows}")
        yield


def sweep_temporary(world: World) -> Generator[None, None, None]:
    """Mirrors `memoryos_uow.stores._durable_files.remove_files`: no unit is at work, so these belong to nobody."""
    for name in list(world.disk.names(TEMPORARY)):
        world.disk.change((TEMPORARY, name, None))
        world.counts["swept_temporary"] += 1
        yield
