"""The simulated stores, one of each capability; what each may lose, and when it may be killed, is that of the real one.

Every ``yield`` is a moment at which others act, and at which the process may die.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.world import ARCHIVE, BLOBS, DOCS, FILES, Fault, Refused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Sequence

    from tests.simulation.process import Actor
    from tests.simulation.world import Entry, Tables, Unit, World

TEMPORARY = "tmp"
"""Where files lie that have no name yet, for either store."""


def stage_of(uow: int) -> str:
    """Return the directory of a unit in the stage of the file store."""
    return f"stage/{uow}"


class DocumentStore:
    """SAME_TRANSACTION. Mirrors `memoryos_uow.stores._documents.DocumentStore`."""

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
            yield from place(actor, unit, (BLOBS, digest, digest))
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

    def orphans(self, tx: Tables, planned: Collection[str]) -> list[str]:
        """Return the bytes that belong to no unit. Mirrors `memoryos_uow.stores._blobs.BlobStore.sweep`."""
        keep = {digest for _, digest in tx.refs.values()}
        if self.world.fault is not Fault.SWEEP_IGNORES_PLANS:
            keep.update(planned)
        return [digest for digest in self.world.disk.names(BLOBS) if digest not in keep]

    def remove(self, actor: Actor, digest: str) -> Generator[None, None, None]:
        """Remove the bytes."""
        self.world.disk.change((BLOBS, digest, None))
        self.world.counts["swept_bytes"] += 1
        actor.say(f"sweeps the bytes {digest}")
        yield


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
            yield from place(actor, unit, (stage, content, content))
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
        world = self.world
        if world.is_silent(FILES):
            raise Unavailable
        locks = world.fault is not Fault.NO_PUBLISHING_LOCK
        if locks:
            yield from self._lock(actor)
        newest = {entry.key: entry for entry in entries}
        heads = {}
        for key in newest:
            heads[key] = world.ledger.now.heads.get((FILES, key), (0, ""))[0]
            yield
        # A newer unit, which asks for a removal or to which these give way, must not be taken back any more.
        gives_way = any(heads[key] != entry.commit_seq for key, entry in newest.items())
        if gives_way and world.fault is not Fault.HEADS_NOT_SYNCED:
            yield from actor.sync_log()
        for key, entry in newest.items():
            yield from self._show(actor, entry, heads[key])
        if world.fault is not Fault.NAMES_NOT_SYNCED:
            world.disk.sync([FILES])
            yield
        if locks:
            world.publishing = None
        for uow in {entry.uow: None for entry in entries}:
            yield from self._clear(uow)
        sure, now = world.ledger.sure.heads, world.ledger.now.heads
        if any(sure.get((FILES, key)) != now.get((FILES, key)) for key in newest):
            world.counts["published_beside_what_is_not_sure"] += 1
            world.eventful = True

    def _show(self, actor: Actor, entry: Entry, version: int) -> Generator[None, None, None]:
        """Do what the record's head asks for; a version of 0 means that there is no head."""
        world = self.world
        if version == entry.commit_seq or (version and world.fault is Fault.NO_LOOK_AT_THE_HEAD):
            self._give_name(actor, entry)
            yield
        elif version:
            world.counts["superseded_publish"] += 1
        elif entry.key in world.disk.names(FILES):
            world.disk.change((FILES, entry.key, None))
            yield

    def _lock(self, actor: Actor) -> Generator[None, None, None]:
        patience = 200
        while self.world.publishing is not None:
            self.world.counts["waited_for_publisher"] += 1
            patience -= 1
            if patience < 0:
                actor.waits = False
                raise Unavailable
            actor.waits = True
            yield
        actor.waits = False
        self.world.publishing = actor

    def _give_name(self, actor: Actor, entry: Entry) -> None:
        world, disk, stage = self.world, self.world.disk, stage_of(entry.uow)
        content = entry.content
        if content is not None and content in disk.names(stage):
            disk.change((stage, content, None), (FILES, entry.key, content))
            world.show(FILES, entry)
            actor.say(f"gives {FILES}/{entry.key} to unit {entry.uow}")
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

    def orphans(self, tx: Tables, planned: Collection[str]) -> list[str]:
        """Return of which units not at work something is staged. Mirrors `memoryos_uow.stores._stage.Stage.sweep`."""
        ignores = self.world.fault is Fault.SWEEP_IGNORES_PLANS
        staged = [name for name, names in self.world.disk.now.items() if names and name.startswith("stage/")]
        return [name for name in staged if ignores or name.removeprefix("stage/") not in planned]

    def remove(self, actor: Actor, stage: str) -> Generator[None, None, None]:
        """Remove what a unit has staged."""
        self.world.counts["swept_stage"] += 1
        actor.say(f"sweeps {stage}")
        yield from self._clear(int(stage.removeprefix("stage/")))


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
        """Mirrors `memoryos_uow.stores._sqlite_file.SQLiteFileStore.publish`."""
        yield from self.show(actor, entries)
        if self.world.fault is not Fault.SECOND_FILE_NOT_SYNCED:
            self.make_durable(actor)
            yield

    def make_durable(self, actor: Actor) -> None:
        """Mirrors `memoryos_uow.stores._second_file.SecondFile.sync`."""
        if self.world.is_silent(ARCHIVE):
            raise Unavailable
        self.world.archive.sync()
        actor.say(f"syncs {ARCHIVE}")

    def show(self, actor: Actor, entries: Sequence[Entry]) -> Generator[None, None, None]:
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
        world.archive.commit(rows)
        actor.say(f"{ARCHIVE} is at {rows}")
        yield


def place(actor: Actor, unit: Unit, name: tuple[str, str, str]) -> Generator[None, None, None]:
    """Mirrors `memoryos_uow.stores._durable_files._place`: written under another name, synced, and renamed."""
    disk, temporary = actor.world.disk, f"{actor.name}/{name[1]}"
    disk.change((TEMPORARY, temporary, name[2]))
    yield
    if unit.refused_by == "prepare" or temporary not in disk.names(TEMPORARY):
        raise Refused
    disk.change((TEMPORARY, temporary, None), name)
    yield


def sweep_temporary(world: World) -> Generator[None, None, None]:
    """Mirrors `memoryos_uow.stores._durable_files.remove_files`: no unit is at work, so these belong to nobody."""
    for name in list(world.disk.names(TEMPORARY)):
        world.disk.change((TEMPORARY, name, None))
        world.counts["swept_temporary"] += 1
        yield
