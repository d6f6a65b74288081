"""Canaries: marks in everything that a caller gives, searched for wherever something leaves the stores.

A mark stands in payloads, keys, actors and all the rest, for each band another one. Each way of ending a unit (`PATHS`)
is walked with all four bands; then each place where something could come out (`SURFACES`) is read, and every mark found
there has to be one that `MAY_SHOW` allows. A new way, a new place or a new thing to mark is one line.
"""

from __future__ import annotations

import gc
import io
import logging
import os
import re
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest
import structlog
from click.testing import CliRunner

from memoryos_uow import Band, Ledger, UnitOfWorkError, telemetry
from memoryos_uow.cli._program import program
from memoryos_uow.errors import LedgerBusy
from memoryos_uow.stores import BlobStore, DocumentStore, FileStore, SQLiteFileStore, TableStore, VectorStore
from memoryos_uow.testing._forks import fork, kill_own_process
from tests.leftovers import at_effect
from tests.memory_dir import memory_dir
from tests.units import locked
from tests.watching import WAIT_S, sdk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from memoryos_uow import UnitOfWork
    from memoryos_uow.abc import Store

KEY: Final = b"a content key of thirty-two bytes"[:32]

GREEN: Final = frozenset({"GREEN"})
NOT_BLACK: Final = frozenset({"GREEN", "AMBER", "RED"})
GREEN_AMBER: Final = frozenset({"GREEN", "AMBER"})
ALL: Final = frozenset(Band)
KINDS: Final = (
    *("payload", "key", "parameter", "actor", "device", "correlation", "envelope"),
    *("topic", "messagekey", "message", "error", "column"),
)
_MARK: Final = re.compile(f"cAnArY({'|'.join(KINDS)})X({'|'.join(Band)})X", re.IGNORECASE)
CONTEXT: Final = ("actor", "device", "correlation", "envelope")


def mark(kind: str, band: str) -> str:
    """The mark of this kind for a unit of this band."""
    assert kind in KINDS
    return f"cAnArY{kind}X{band}X"


def marks(text: str) -> set[tuple[str, str]]:
    """Kind and band of every mark in a text, however its letters were changed."""
    return {(kind.lower(), band.upper()) for kind, band in _MARK.findall(text)}


# What may come out where: by surface, kind and bands; whatever is not here may not.
MAY_SHOW: Final[dict[str, dict[str, frozenset[Any]]]] = {
    "rows": {"key": NOT_BLACK, "error": GREEN, **dict.fromkeys(CONTEXT, ALL)},
    "receipts": {},
    "logs": {**dict.fromkeys(CONTEXT, GREEN_AMBER), "actor": GREEN, "key": GREEN},
    "spans": {},
    "raised": {"key": GREEN},
    "reprs": {},
    "commands": {
        **dict.fromkeys(CONTEXT, GREEN_AMBER),
        "actor": GREEN,
        "key": GREEN,
        "error": GREEN,
        "topic": GREEN_AMBER,
        "messagekey": GREEN,
    },
    "traces of failure": {"key": GREEN, "error": GREEN, **dict.fromkeys(CONTEXT, ALL)},
}


class OddError(Exception):
    """Somebody else's exception, with data in its text."""


class OddStore(DocumentStore):
    """A store of somebody else's, whose methods raise with data in the text."""

    raises_in: str | None = None

    def encode(self, *given: Any) -> Any:
        self._raise("encode", given)
        return super().encode(*given)

    def apply(self, *given: Any) -> None:
        self._raise("apply", given)
        super().apply(*given)

    def read(self, *given: Any) -> Any:
        self._raise("read", given)
        return super().read(*given)

    def _raise(self, method: str, given: Any) -> None:
        if self.raises_in == method:
            band = next(iter(marks(repr(vars_of(given)))), ("", "GREEN"))[1]
            raise OddError(mark("error", band), given)


def vars_of(given: Any) -> list[Any]:
    """The parts of arguments, with those of writes, whose repr shows nothing."""
    found = [*given]
    for one in given:
        found += [write.key for write in one if hasattr(write, "key")] if isinstance(one, list) else []
    return found


@dataclass
class Scene:
    """One ledger on which a path was walked with every band, and what the caller got to see."""

    directory: Path
    raised: list[BaseException] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    telemetry: Callable[[], Iterator[str]] = lambda: iter(())

    @property
    def path(self) -> Path:
        return self.directory / "memory.db"

    def open(self, **options: Any) -> Ledger:
        return Ledger.open(self.path, **{"stores": stores(), "content_key": KEY, "durability": "normal", **options})

    def unit(self, ledger: Ledger, band: str, body: Callable[[UnitOfWork, str], object]) -> None:
        """Run `body` in a unit with marks in all of its context; keep what it raises and shows."""
        context = {f"{kind}_id": mark(kind, band) for kind in CONTEXT}
        uow = ledger.unit(space_id="s", band=band, **context)
        try:
            with uow:
                try:
                    body(uow, band)
                finally:
                    self._show(uow, ledger)
        except Exception as error:  # noqa: BLE001 - whatever comes is looked at
            self.raised.append(error)
        self._show(uow, ledger)

    def _show(self, uow: UnitOfWork, ledger: Ledger) -> None:
        state = uow._state
        assert state is not None
        opened = ledger._opened
        things = [uow, ledger, opened, opened.content_key, *opened._registry, *state.buffer.writes]
        if state.state.value == "active":
            things += [uow[name] for name in ("notes", "orders")]
        self.shown += map(repr, things)


def stores() -> list[Store]:
    """One store of each kind, a table that refuses, and a store that raises."""
    columns = {"id": "TEXT", "space_id": "TEXT", "what": "TEXT"}
    return [
        DocumentStore("notes", search=["text"]),
        TableStore("orders", key="id", columns=columns),
        VectorStore("embeddings", dimensions=2),
        BlobStore("photos", "photos", inline_below=64),
        SQLiteFileStore("archive", "archive.db"),
        FileStore("files", "files"),
        OddStore("odd"),
    ]


VALUES: Final[dict[str, Callable[[str], Any]]] = {
    "notes": lambda payload: {"text": payload},
    "orders": lambda payload: {"what": payload},
    "embeddings": lambda _: [1.0, 2.0],
    "photos": lambda payload: payload.encode() * 9,
    "archive": lambda payload: {"text": payload},
    "files": lambda payload: payload.encode(),
    "odd": lambda payload: {"text": payload},
}


def write_everything(uow: UnitOfWork, band: str) -> None:
    """Write to every store, run SQL, publish a message."""
    for name, value in VALUES.items():
        uow[name].upsert(mark("key", band), value(mark("payload", band)))
    uow.sql("UPDATE orders SET what = what WHERE id = ?", (mark("parameter", band),))
    uow.publish(mark("topic", band), {"text": mark("message", band)}, key=mark("messagekey", band))


def calling(
    verb: str, store: str, value: Callable[[str], Any] | None = None, *, before: str = "", after: str = ""
) -> Callable[[UnitOfWork, str], None]:
    """A block that calls one verb of a store, with a marked key and, if there is one, a marked value."""

    def body(uow: UnitOfWork, band: str) -> None:
        values = [] if value is None else [value(mark("payload", band))]
        getattr(uow[store], verb)(before + mark("key", band) + after, *values)

    return body


# The ways in which a unit ends


def committed(scene: Scene) -> None:
    """All is well; then the record is changed, read, searched and deleted."""
    with scene.open() as ledger:
        for band in Band:
            scene.unit(ledger, band, write_everything)
            scene.unit(ledger, band, calling("delete", "notes"))


def erased(scene: Scene) -> None:
    """Everything was erased."""
    with scene.open() as ledger:
        for band in Band:
            scene.unit(ledger, band, write_everything)
            for name in VALUES:
                done = ledger.erase(space_id="s", store=name, key=mark("key", band), forget_unit_ids=True)
                scene.shown.append(repr(done))


def raised_by_caller(scene: Scene) -> None:
    """The block itself raises."""

    def body(uow: UnitOfWork, band: str) -> None:
        write_everything(uow, band)
        raise OddError(mark("error", band))

    each_band(scene, body)


def rolled_back(scene: Scene) -> None:
    """The block asks for nothing of it."""

    def body(uow: UnitOfWork, band: str) -> None:
        write_everything(uow, band)
        uow.rollback()

    each_band(scene, body)


def refused_value(scene: Scene) -> None:
    """A value that the store cannot keep."""
    bad: dict[str, Callable[[str], Any]] = {
        "notes": lambda payload: {payload: {1, 2}},
        "orders": lambda payload: {payload: payload},
        "embeddings": lambda payload: [payload, payload],
        "photos": lambda payload: payload,
        "archive": lambda payload: {payload: float("nan")},
        "files": lambda payload: [payload],
    }
    for name, value in bad.items():
        each_band(scene, calling("create", name, value))


def refused_key(scene: Scene) -> None:
    """A key that the store cannot keep."""
    for name, value in VALUES.items():
        for odd in ("\0", "\ud800", "x" * 2000):
            each_band(scene, calling("create", name, value, after=odd))
    for name in ("photos", "files"):
        each_band(scene, calling("create", name, VALUES[name], before="../"))


def refused_name(scene: Scene) -> None:
    """A message, a parameter or a column that cannot be."""
    each_band(scene, lambda uow, band: uow.publish(mark("topic", band) + "\n", {}))
    each_band(scene, lambda uow, band: uow.publish("t", {}, key=mark("messagekey", band) + "\n"))
    each_band(scene, lambda uow, band: uow.publish("t", {"t": {mark("message", band)}}))
    each_band(scene, lambda uow, band: uow.sql("SELECT ?", ({mark("parameter", band)},)))
    each_band(scene, lambda uow, band: uow.sql("SELECT :a", {mark("parameter", band): 1}))
    each_band(scene, lambda uow, band: uow.sql("SELECT json_extract('{}', ?)", (mark("parameter", band),)))
    each_band(scene, lambda uow, band: uow["orders"].create("k", {mark("column", band): 1}))
    each_band(scene, lambda uow, band: uow["notes"].search('"' + mark("parameter", band), syntax=True))


def exists_already(scene: Scene) -> None:
    """create() of a key that is taken."""
    with scene.open() as ledger:
        for band in Band:
            scene.unit(ledger, band, write_everything)
            for name, value in VALUES.items():
                scene.unit(ledger, band, calling("create", name, value))


def missing(scene: Scene) -> None:
    """update() and delete() of a key that is not there."""
    for name, value in VALUES.items():
        each_band(scene, calling("update", name, value))
        each_band(scene, calling("delete", name))


def conflict(scene: Scene) -> None:
    """Another unit changed what this one had read."""

    def body(uow: UnitOfWork, band: str) -> None:
        uow["notes"].get(mark("key", band))
        with ledger.unit(space_id="s", band=band, nested="independent") as other:
            other["notes"].upsert(mark("key", band), {"text": "x"})
        uow["notes"].upsert(mark("key", band), {"text": mark("payload", band)})

    with scene.open() as ledger:
        for band in Band:
            scene.unit(ledger, band, body)


def busy(scene: Scene) -> None:
    """Others hold the lock."""
    with scene.open(busy_timeout=0) as ledger:
        for band in Band:
            with locked(scene.path):
                scene.unit(ledger, band, write_everything)
            assert isinstance(scene.raised[-1], LedgerBusy)


def constraint(scene: Scene) -> None:
    """A constraint or a trigger of the application's refuses, the trigger in words with the row in them."""
    with scene.open() as ledger:
        with ledger.unit(space_id="s", band="GREEN") as uow:
            uow.sql("CREATE TABLE strict (id TEXT PRIMARY KEY, n TEXT CHECK (n = 'fine') UNIQUE)")
            refusing = "SELECT RAISE(ABORT, 'no') WHERE NEW.what = 'x'"
            uow.sql(f"CREATE TRIGGER refuses BEFORE INSERT ON orders BEGIN {refusing}; END")
        sql = "INSERT INTO strict VALUES (?, ?)"
        for band in Band:
            scene.unit(ledger, band, lambda uow, b: uow.sql(sql, (mark("parameter", b), mark("payload", b))))
            scene.unit(ledger, band, calling("create", "orders", lambda _: {"what": "x"}))


def disk_full(scene: Scene) -> None:
    """There is no more room for the ledger."""
    with scene.open() as ledger:
        with ledger._opened.file.setup_connection() as connection:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages + 1}")

        def body(uow: UnitOfWork, band: str) -> None:
            write_everything(uow, band)
            uow["notes"].upsert("large", {"text": mark("payload", band) * 1000})

        for band in Band:
            scene.unit(ledger, band, body)
            assert isinstance(scene.raised[-1], UnitOfWorkError)


def directory_gone(scene: Scene) -> None:
    """The directories of files cannot be written."""
    with scene.open() as ledger:
        for name in ("photos", "files"):
            (scene.directory / name).rename(scene.directory / f"{name}-away")
            (scene.directory / name).write_text("in the way")
        for band in Band:
            for name in ("photos", "files"):
                scene.unit(ledger, band, calling("create", name, VALUES[name]))
        for name in ("photos", "files"):
            (scene.directory / name).unlink()
            (scene.directory / f"{name}-away").rename(scene.directory / name)


def store_raises(scene: Scene) -> None:
    """A store of somebody else's raises, with data in the text."""

    def body(uow: UnitOfWork, band: str) -> None:
        uow["odd"].upsert(mark("key", band), {})
        uow["odd"].get(mark("key", band) + "x")

    with scene.open() as ledger:
        odd = ledger._opened.store("odd")
        assert isinstance(odd, OddStore)
        for method in ("encode", "apply", "read"):
            odd.raises_in = method
            for band in Band:
                scene.unit(ledger, band, body)
        odd.raises_in = None


def in_doubt(scene: Scene) -> None:
    """Stores outside do not answer after the decision; then they do."""
    with scene.open() as ledger:
        silent = [ledger._opened.store(name) for name in ("archive", "files")]
        for store in silent:
            for call in ("show", "publish"):  # by the unit's own process, and by recovery
                if hasattr(store, call):
                    setattr(store, call, lambda *given: _odd(given))
        for band in Band:
            scene.unit(ledger, band, write_everything)
        ledger.recover()
    with scene.open() as ledger:
        ledger.recover()


def _odd(given: Any) -> None:
    raise OddError(mark("error", "BLACK"), given)


def unexpected(scene: Scene) -> None:
    """The record is not what the unit expects it to be."""

    def body(uow: UnitOfWork, band: str) -> None:
        uow["notes"].upsert(mark("key", band), {}, expect={"text": mark("payload", band)})

    each_band(scene, body)
    with scene.open() as ledger:
        for band in Band:
            scene.unit(ledger, band, write_everything)
            scene.unit(ledger, band, lambda uow, b: uow["notes"].delete(mark("key", b), expect=mark("payload", b)))


def hook_raises(scene: Scene) -> None:
    """What was to be done after the unit fails."""

    def body(uow: UnitOfWork, band: str) -> None:
        uow["notes"].upsert(mark("key", band), {})
        uow.after_commit(lambda _: _odd(band))

    each_band(scene, body)


def run_as_function(scene: Scene) -> None:
    """`ledger.run` with marked arguments, results and key: done, again, failed, and with an odd result."""

    def work(uow: UnitOfWork, payload: str, fails: str) -> object:
        uow["notes"].upsert("k", {"text": payload})
        if fails == "raises":
            raise OddError(payload.replace("payload", "error"))
        return {payload} if fails == "returns" else payload

    with scene.open() as ledger:
        for band in Band:
            payload = mark("payload", band)
            for fails in ("", "", "raises", "returns"):
                options: dict[str, Any] = {
                    "space_id": "s",
                    "band": band,
                    "idempotency_key": mark("parameter", band) + fails,
                }
                try:
                    outcome = ledger.run(work, args=(payload, fails), arguments=[payload], attempts=1, **options)
                    scene.shown.append(repr(outcome))
                except Exception as error:  # noqa: BLE001 - whatever comes is looked at
                    scene.raised.append(error)
            scene.unit(ledger, band, lambda uow, b: uow["notes"].upsert("k", {"text": mark("payload", b)}))
            try:
                with ledger.unit(space_id="s", band=band, idempotency_key=mark("parameter", band)):
                    pass
            except UnitOfWorkError as error:
                scene.raised.append(error)


def relayed(scene: Scene) -> None:
    """Messages whose receiver raises, with the message in the text, until they are parked."""

    def sink(message: Any) -> None:
        text = repr((message.payload, message.key, message.topic))
        raise OddError(re.sub("cAnArY[a-z]+X", "cAnArYerrorX", text))  # of GREEN that is shown as it was raised

    with scene.open() as ledger:
        for band in Band:
            scene.unit(ledger, band, write_everything)
        scene.shown.append(repr(ledger.relay(sink, until_empty=True, attempts=1)))
        scene.shown += map(repr, [ledger.outbox])


def died(scene: Scene, effect: int) -> None:
    """The process is killed; another one recovers."""
    for band in Band:

        def work(band: str = band) -> None:
            with scene.open() as ledger:
                at_effect(ledger, effect, kill_own_process, after=False)
                scene.unit(ledger, band, write_everything)

        fork(work).wait()
    with scene.open() as ledger:
        ledger.recover()


def died_before_decision(scene: Scene) -> None:
    """Killed when bytes outside were made and nothing was decided."""
    died(scene, 2)


def died_after_decision(scene: Scene) -> None:
    """Killed when it was decided and nothing was published."""
    died(scene, 4)


def each_band(scene: Scene, body: Callable[[UnitOfWork, str], object]) -> None:
    """Run a unit of each band that ends as `body` has it end."""
    with scene.open() as ledger:
        for band in Band:
            scene.unit(ledger, band, body)


PATHS: Final = (
    *(committed, erased, raised_by_caller, rolled_back, refused_value, refused_key, refused_name, exists_already),
    *(missing, conflict, busy, constraint, disk_full, directory_gone, store_raises, in_doubt),
    *(unexpected, hook_raises, run_as_function, relayed, died_before_decision, died_after_decision),
)
NOTHING_WRITTEN: Final = frozenset(
    {
        *(raised_by_caller, rolled_back, refused_value, refused_key, missing, busy, store_raises),
        died_before_decision,
    }
)
"""After these no file may hold a mark at all, but for what the rows of failed units may say."""


# Where something could come out


_RECORDS: Final = re.compile(r"uow_(documents|vectors|blobs|heads|redo|outbox|fts_.*|coordination|idempotency)")


def rows(scene: Scene) -> Iterator[str]:
    """The ledger's own tables, without those in which stores keep what they were given."""
    with closing(sqlite3.connect(scene.path)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')")]
        for name in names:
            if (name.startswith("uow_") or name == "unit_of_work") and not _RECORDS.fullmatch(name):
                yield from map(repr, connection.execute(f'SELECT * FROM "{name}"'))


def receipts(scene: Scene) -> Iterator[str]:
    """The receipts as a stranger reads them."""
    with closing(sqlite3.connect(scene.path)) as connection:
        yield from (row[0] for row in connection.execute("SELECT receipt FROM uow_receipts"))


def logs(scene: Scene) -> Iterator[str]:
    """What structlog and logging were given."""
    assert telemetry.flush(WAIT_S)
    yield from scene.log


def spans(scene: Scene) -> Iterator[str]:
    """What an OpenTelemetry SDK was given: spans and metrics."""
    assert telemetry.flush(WAIT_S)
    yield from scene.telemetry()


def raised(scene: Scene) -> Iterator[str]:
    """What the caller caught: the library's own exceptions, and those of the library that they were made from."""
    for error in scene.raised:
        one: BaseException | None = error
        while one is not None:
            if isinstance(one, UnitOfWorkError):
                yield f"{one} {one!r} {one.args} {vars(one)}"
            one = one.__cause__


def reprs(scene: Scene) -> Iterator[str]:
    """How units, handles, stores and waiting writes show themselves."""
    yield from scene.shown


COMMANDS: Final = (
    *(("list",), ("list", "--json"), ("list", "--failed"), ("validate",), ("validate", "--json")),
    *(("verify",), ("verify", "--json"), ("outbox", "list"), ("outbox", "list", "--json")),
    *(("recover",), ("recover", "--json"), ("export", "--space", "s"), ("checkpoint",)),
)


def commands(scene: Scene) -> Iterator[str]:
    """What the command line prints, for people and for programs, with its errors."""
    with closing(sqlite3.connect(scene.path)) as connection:
        ids = [row[0] for row in connection.execute("SELECT uow_id FROM unit_of_work ORDER BY rowid DESC LIMIT 8")]
    known = set(program.load())
    shows = [("show", uow_id, *more) for uow_id in ids for more in ((), ("--json",))]
    shows += [("prove", uow_id) for uow_id in ids]
    for words in (*COMMANDS, *shows):
        if words[0] not in known:
            continue
        split = 2 if words[0] == "outbox" else 1
        arguments = [*words[:split], str(scene.path), *words[split:]]
        result = CliRunner().invoke(program, arguments, env={"COLUMNS": "500"}, prog_name="memoryos-uow")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        yield result.output


def traces_of_failure(scene: Scene) -> Iterator[str]:
    """Every byte of every file, after a path on which nothing may have been written."""
    for path in scene.directory.rglob("*"):
        yield str(path.relative_to(scene.directory))
        if path.is_file():
            yield path.read_bytes().decode("latin-1")


SURFACES: Final[dict[str, Callable[[Scene], Iterator[str]]]] = {
    "rows": rows,
    "receipts": receipts,
    "logs": logs,
    "spans": spans,
    "raised": raised,
    "reprs": reprs,
    "commands": commands,
}


@pytest.fixture
def log() -> Iterator[list[str]]:
    """Everything that the library says through structlog and through logging, as text."""
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(f"{record.getMessage()} {record.args} {record.exc_info}")

    def keep(_logger: object, _name: str, event: Any) -> str:
        said.append(repr(event))
        return ""

    handler = Keep(level=0)
    logger = logging.getLogger()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(0)
    structlog.configure(processors=[keep], logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    yield said
    structlog.reset_defaults()
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def told() -> Iterator[Callable[[], Iterator[str]]]:
    """Everything that the library tells an OpenTelemetry SDK, as text."""
    with sdk() as (_, exporter, reader):

        def read() -> Iterator[str]:
            yield from (span.to_json() for span in exporter.get_finished_spans())
            data = reader.get_metrics_data()
            yield data.to_json() if data else ""

        yield read


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.__name__)
def test_no_mark_comes_out_where_its_band_forbids_it(
    path: Callable[[Scene], None], tmp_path: Path, log: list[str], told: Callable[[], Iterator[str]]
) -> None:
    """On this way, with all four bands, no surface shows a mark beyond what the table allows."""
    with memory_dir(tmp_path / "world") as place:
        os.chmod(place, 0o700)  # noqa: PTH101 - of an existing directory
        scene = Scene(place, log=log, telemetry=told)
        path(scene)
        gc.collect()
        surfaces = dict(SURFACES)
        if path in NOTHING_WRITTEN:
            surfaces["traces of failure"] = traces_of_failure
        leaks = [
            (surface, kind, band)
            for surface, read in surfaces.items()
            for kind, band in sorted(set().union(*map(marks, read(scene))))
            if band not in MAY_SHOW[surface].get(kind, ())
        ]
        assert leaks == []


def test_the_marks_are_where_they_belong(tmp_path: Path, log: list[str]) -> None:
    """The search finds what it looks for: marks do stand in the stores, and come out where they may."""
    with memory_dir(tmp_path / "world") as place:
        scene = Scene(place, log=log)
        committed(scene)
        raised_by_caller(scene)
        exists_already(scene)
        in_files = set().union(*map(marks, traces_of_failure(scene)))
        assert {kind for kind, _ in in_files} >= set(KINDS) - {"column", "parameter"}
        assert ("key", "GREEN") in set().union(*map(marks, raised(scene)))
        assert ("actor", "GREEN") in set().union(*map(marks, commands(scene)))
        assert ("error", "GREEN") in set().union(*map(marks, rows(scene)))
        assert set().union(*map(marks, rows(scene))) >= {("key", band) for band in NOT_BLACK}
        with suppress(UnitOfWorkError), scene.open() as ledger:
            ledger._opened.coordinator.give_up()
