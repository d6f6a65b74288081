"""What the simulation is made of: a ledger, a disk and a second file that lose things as real ones do, and a clock.

The ledger is SQLite in WAL mode as seen from outside: one writer at a time, transactions that are there wholly or not
at all, and three degrees of being there. A commit is *visible* to others once it has returned. It is *sure* once the
log was synced; before that a power cut may take it back, but only together with all that came after it. And a commit
whose process died or whose sync failed in the middle may stand in the log as a *ghost*: nobody sees it, until either
somebody writes over it, or the log is read anew because nobody has the file open any more, or after a power cut.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from memoryos_uow._protocol import State

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from tests.simulation.process import Actor, Process

LEASE: Final = 60
"""How many steps of the clock an owner is left alone that cannot be seen to be dead."""

DOCS: Final = "docs"
BLOBS: Final = "blobs"
FILES: Final = "files"
ARCHIVE: Final = "archive"


class Fault(StrEnum):
    """Mistakes in the protocol, or in how it is carried out, that can be seeded: the model's, and some of the disk."""

    BYTES_AFTER_DECISION = "bytes_after_decision"
    EARLY_ACKNOWLEDGEMENT = "early_acknowledgement"
    NO_SEQUENCE_GUARD = "no_sequence_guard"
    NO_FENCE = "no_fence"
    NO_INTENT = "no_intent"
    NO_LOOK_AT_THE_HEAD = "no_look_at_the_head"
    LOST_ANSWER_IS_FAILURE = "lost_answer_is_failure"
    FORGOTTEN_BEFORE_PUBLISHED = "forgotten_before_published"
    STALE_TAKEOVER = "stale_takeover"
    NO_PUBLISHING_LOCK = "no_publishing_lock"
    PROOF_ONLY_LOOKS = "proof_only_looks"
    SWEEP_IGNORES_PLANS = "sweep_ignores_plans"
    ANY_ROW_IS_THE_DECISION = "any_row_is_the_decision"
    DECIDED_NEVER_RECOVERED = "decided_never_recovered"
    NOTHING_SWEPT = "nothing_swept"
    # Of the disk: what the model knows nothing of
    BYTES_NOT_SYNCED = "bytes_not_synced"
    NAMES_NOT_SYNCED = "names_not_synced"
    SECOND_FILE_NOT_SYNCED = "second_file_not_synced"
    FORGOTTEN_BEFORE_SYNCED = "forgotten_before_synced"
    DECISION_NOT_SYNCED = "decision_not_synced"
    PUBLISHED_BEFORE_SYNCED = "published_before_synced"
    HEADS_NOT_SYNCED = "heads_not_synced"
    SWEPT_BEFORE_SYNCED = "swept_before_synced"
    SWEPT_AT_ONCE = "swept_at_once"
    TAKEOVER_NOT_SYNCED = "takeover_not_synced"


class Violation(AssertionError):  # noqa: N818 - as in `memoryos_uow.testing`
    """A promise is broken."""


class Trouble(Exception):  # noqa: N818 - the root of the errors that the library would raise
    """What goes wrong in here as it may in the world."""


class Busy(Trouble):
    """Others kept the ledger locked."""


class Refused(Trouble):
    """A store refused, or recovery has taken the unit over."""


class Unavailable(Trouble):
    """A store outside cannot be reached."""


class CommitFailed(Trouble):
    """The ledger's commit failed."""

    def __init__(self, *, answer_lost: bool) -> None:
        super().__init__()
        self.answer_lost = answer_lost


class InDoubt(Trouble):
    """Nobody can tell now whether the unit is committed."""


class Entry(NamedTuple):
    """A row of ``uow_redo``."""

    commit_seq: int
    uow: int
    key: str
    content: str | None
    """None: a delete."""


class Row(NamedTuple):
    """A row of ``uow_coordination``."""

    decided: bool
    epoch: int
    owner: int
    lease_until: int
    plan: dict[str, list[str]]


@dataclass(slots=True)
class Tables:
    """What the ledger holds; a transaction works on a copy."""

    units: dict[int, int] = field(default_factory=dict)
    """By unit, the commit sequence; FAILED or ROLLED_BACK."""
    docs: dict[str, tuple[int, str]] = field(default_factory=dict)
    refs: dict[str, tuple[int, str]] = field(default_factory=dict)
    heads: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    rows: dict[int, Row] = field(default_factory=dict)
    redo: dict[tuple[int, str], list[Entry]] = field(default_factory=dict)
    last_seq: int = 0

    def copy(self) -> Tables:
        """Return a copy that can be changed."""
        return Tables(
            self.units.copy(),
            self.docs.copy(),
            self.refs.copy(),
            self.heads.copy(),
            self.rows.copy(),
            self.redo.copy(),
            self.last_seq,
        )

    def forget(self, uow: int) -> None:
        """Mirrors `memoryos_uow._coordination.forget`."""
        self.rows.pop(uow, None)
        self.redo.pop((uow, FILES), None)
        self.redo.pop((uow, ARCHIVE), None)

    def planned(self, store: str) -> set[str]:
        """Mirrors `memoryos_uow._coordination.planned`."""
        found: set[str] = set()
        for uow, row in self.rows.items():
            found.add(str(uow))
            found.update(row.plan.get(store, ()))
        return found


FAILED: Final = 0
ROLLED_BACK: Final = -1


class Ghost(NamedTuple):
    """A commit that stands in the log and is not visible."""

    tables: Tables
    written_over: bool
    """A later commit was put in its place, which a power cut may still undo."""


class Ledger:
    """The ledger's file."""

    def __init__(self) -> None:
        self.now = self.sure = Tables()
        self.loose: list[Tables] = []
        """The states since the last sync, oldest first; the last one is `now`."""
        self.ghost: Ghost | None = None
        self.lock: Actor | None = None

    def commit(self, tables: Tables, *, sync: bool) -> None:
        """Make `tables` visible, and sure with `sync`."""
        self.now = tables
        self.loose.append(tables)
        if self.ghost is not None:
            self.ghost = self.ghost._replace(written_over=True)
        if sync:
            self.sync()

    def sync(self) -> None:
        """Make everything visible sure. What was not written over stays in the log."""
        self.sure = self.now
        self.loose.clear()
        if self.ghost is not None and self.ghost.written_over:
            self.ghost = None

    def leave_ghost(self, tables: Tables) -> None:
        """Leave a commit in the log that nobody sees."""
        self.ghost = Ghost(tables, written_over=False)

    def goes_on(self) -> bool:
        """Mirrors `memoryos_uow._wal.goes_on_after`: say whether the log holds a commit that nobody sees."""
        return self.ghost is not None and not self.ghost.written_over

    def read_anew(self) -> bool:
        """Read the log as the first process does that opens the file; return whether it held a ghost."""
        if self.ghost is None or self.ghost.written_over:
            self.ghost = None
            return False
        self.now = self.ghost.tables
        self.loose.append(self.now)
        self.ghost = None
        return True

    def close(self) -> None:
        """Copy the log into the file and remove it, as the last process does that closes the ledger."""
        self.sync()
        self.ghost = None

    def cut(self, rng: random.Random) -> bool:
        """Lose what is not sure, but for some from its beginning; return whether a ghost is back."""
        back = self.ghost is not None and rng.random() < 0.5
        if back:
            assert self.ghost is not None
            self.now = self.ghost.tables
        else:
            kept = int(rng.random() * (len(self.loose) + 1))
            self.now = self.loose[kept - 1] if kept else self.sure
        self.sure = self.now
        self.loose.clear()
        self.ghost = None
        return back


class Change(NamedTuple):
    """One thing that was done to names: each leads to this content from now on, or to nothing."""

    names: tuple[tuple[str, str, str | None], ...]


class Disk:
    """Directories of files. Contents are synced before they get a name; names are sure once a directory is synced."""

    def __init__(self) -> None:
        self.now: dict[str, dict[str, str]] = {}
        self.sure: dict[str, dict[str, str]] = {}
        self.loose: list[Change] = []
        self.changed = False

    def names(self, directory: str) -> dict[str, str]:
        """Return what the directory holds now."""
        return self.now.setdefault(directory, {})

    def change(self, *names: tuple[str, str, str | None]) -> None:
        """Do one thing to one name, or to several at once."""
        _apply(self.now, names)
        self.loose.append(Change(names))
        self.changed = True

    def sync(self, directories: Iterable[str]) -> None:
        """Make the names in these directories sure, and whatever came before to the same names."""
        if not self.loose:
            return
        wanted = set(directories)
        touched: set[tuple[str, str]] = set()
        rest: list[Change] = []
        done: list[Change] = []
        for change in reversed(self.loose):
            if any(directory in wanted or (directory, name) in touched for directory, name, _ in change.names):
                touched.update((directory, name) for directory, name, _ in change.names)
                done.append(change)
            else:
                rest.append(change)
        for change in reversed(done):
            _apply(self.sure, change.names)
        self.loose = rest[::-1]

    def cut(self, rng: random.Random) -> None:
        """Lose what is not sure: all of it from some moment on, or any of it."""
        if self.loose:
            in_order = rng.random() < 0.5
            kept = int(rng.random() * (len(self.loose) + 1))
            for number, change in enumerate(self.loose):
                if number < kept if in_order else rng.random() < 0.5:
                    _apply(self.sure, change.names)
            self.loose.clear()
        self.now = {directory: names.copy() for directory, names in self.sure.items()}


def _apply(directories: dict[str, dict[str, str]], names: Iterable[tuple[str, str, str | None]]) -> None:
    for directory, name, content in names:
        if content is None:
            directories.setdefault(directory, {}).pop(name, None)
        else:
            directories.setdefault(directory, {})[name] = content


class SecondFile:
    """The records of the second SQLite file: version and content by key, the content None once deleted."""

    def __init__(self) -> None:
        self.now: dict[str, tuple[int, str | None]] = {}
        self.sure: dict[str, tuple[int, str | None]] = {}
        self._unsure: list[dict[str, tuple[int, str | None]]] = []

    def commit(self, rows: dict[str, tuple[int, str | None]]) -> None:
        """Make `rows` visible."""
        self.now = rows
        self._unsure.append(rows)

    def sync(self) -> None:
        """Make sure what is visible."""
        self.sure, self._unsure = self.now, []

    def cut(self, rng: random.Random) -> None:
        """Lose the newest of what is not sure, each transaction as a whole."""
        self.now = self.sure = rng.choice([self.sure, *self._unsure])
        self._unsure = []


@dataclass(slots=True)
class Unit:
    """One unit of work: what chance has in store for it, and how it stands."""

    uow: int
    writes: list[tuple[str, str, str | None]]
    """(store, key, content); None: a delete."""
    ending: str = "commit"
    """``commit``, ``rollback`` or ``raise``."""
    flushed_early: bool = False
    """The block has read with SQL, so the ledger's lock is held while bytes are made."""
    refused_by: str = ""
    """``prepare`` or ``apply``: where a store refuses."""
    answer: str = ""
    """What becomes of the commit: ``there``, ``gone`` or ``ghost``, without an answer; or it surely ``fails``; or its
    process ``dies`` in the middle."""
    proof_fails: bool = False
    state: State = State.ACTIVE
    tx: Tables | None = None
    carried: tuple[list[int], list[tuple[int, int]]] | None = None
    plan: dict[str, list[str]] = field(default_factory=dict)
    has_intent: bool = False
    owed: dict[str, list[Entry]] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    told: str = ""
    """What its caller has been told: ``committed``, ``failed`` or ``in doubt``."""


class World:
    """Everything there is in one run."""

    def __init__(self, fault: Fault | None, *, trace: bool) -> None:
        self.fault = fault
        self.trace: list[str] | None = [] if trace else None
        self.counts: Counter[str] = Counter()
        self.now = 0
        self.full = True
        """Whether a decision waits for the disk: ``durability="full"``."""
        self.sync_steps = 1
        """How many steps it takes to wait for the disk."""
        self.deaths_are_seen = True
        """Whether a process can see that another one is dead; else only its lease ends."""
        self.ledger = Ledger()
        self.disk = Disk()
        self.archive = SecondFile()
        self.publishing: Actor | None = None
        """Who holds the lock of the file store's publishers."""
        self.silent_until: dict[str, int] = {FILES: 0, ARCHIVE: 0}
        self.units: list[Unit] = []
        self.processes: list[Process] = []
        self.actors: list[Actor] = []
        self.shown: dict[tuple[str, str], int] = {}
        """By store and key, the newest version that was ever shown there."""
        self.changed = False
        self.eventful = False
        """Something rare has just happened, after which a power cut is worth trying."""

    def say(self, who: Actor | None, what: str) -> None:
        """Write into the trace; callers look first whether there is one, because this is the inner loop."""
        if self.trace is not None:
            name = f"{who.process.number}.{who.number}" if who is not None else "world"
            self.trace.append(f"{self.now:>6}  {name:<6} {what}")

    def break_promise(self, what: str) -> Violation:
        """Return the violation to raise."""
        self.say(None, f"VIOLATION {what}")
        return Violation(what)

    def is_silent(self, store: str) -> bool:
        """Say whether a store outside cannot be reached now."""
        if self.silent_until[store] > self.now:
            self.counts["silent_store"] += 1
            return True
        return False

    def show(self, store: str, entry: Entry) -> None:
        """A store shows what was decided: that it was, and that nothing newer was shown, is promised."""
        if self.ledger.now.units.get(entry.uow, FAILED) <= 0:
            raise self.break_promise(f"{store} shows unit {entry.uow}, which is not decided")
        if self.shown.get((store, entry.key), 0) > entry.commit_seq:
            raise self.break_promise(f"{store} goes back to unit {entry.uow} for {entry.key}")
        self.shown[store, entry.key] = entry.commit_seq
