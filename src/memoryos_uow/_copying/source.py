"""The ledger that is copied: in order first, then held still, then read.

Promise: from `held` to its end nobody writes to the file, so all that is read is of one state.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from memoryos_uow import _catalog, _receipt_tree
from memoryos_uow._copying.own_tables import left_out, own_tables
from memoryos_uow._copying.tables import PARTS
from memoryos_uow._names import Durability, address_of
from memoryos_uow._open_ledger import OpenLedger
from memoryos_uow._opening import check_path
from memoryos_uow.errors import LedgerError, UsageError
from memoryos_uow.observers import TelemetryMode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from memoryos_uow._copying.own_tables import OwnTable
    from memoryos_uow._copying.tables import Part
    from memoryos_uow.abc import Reader

_OUTSIDE = {"blobs": "directory", "files": "directory", "sqlite file": "path"}
"""What the configuration of a store that keeps something outside calls the place, by kind."""


class Identity(NamedTuple):
    """Who the ledger is."""

    ledger_id: str
    origin: str
    created_ts: str


class Source:
    """A ledger that is held still."""

    def __init__(self, reader: Reader, path: Path) -> None:
        self.reader = reader
        self.identity = Identity(*reader.rows("SELECT ledger_id, origin, created_ts FROM uow_identity")[0])
        self.root: str = _receipt_tree.root(reader).hex()
        self.own: list[OwnTable] = own_tables(reader)
        self.left_out = left_out(reader, self.own)
        self.parts: tuple[Part, ...] = (*PARTS, *(table.part() for table in self.own))
        self.counts = {part.table: self._count(part) for part in self.parts}
        self._directory = path.parent

    def _count(self, part: Part) -> int:
        counted: int = self.reader.rows(f"SELECT count(*) FROM {part.source} WHERE {part.where}")[0][0]  # noqa: S608
        return counted

    def state(self) -> str:
        """Return what tells this state of the ledger from others, as far as that can be told without reading it all.

        Deliveries, answers and rows of the application's tables change without a unit: the comparison at the end finds
        what their numbers do not show.
        """
        tries = self.reader.rows("SELECT coalesce(sum(epoch), 0), coalesce(sum(attempts), 0) FROM uow_outbox")[0]
        answers = self.reader.rows("SELECT coalesce(sum(expires_ms), 0) FROM uow_idempotency WHERE claim IS NULL")[0]
        return json.dumps([self.identity.ledger_id, self.root, self.counts, *tries, *answers])

    def rows(self, part: Part, after: list[Any] | None) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a part in the order of its key, those behind `after` if there were some."""
        order = ", ".join(part.name(column) + (" COLLATE BINARY" if part.quote else "") for column in part.key)
        sql, values = part.select, []
        if after is not None:
            sql += f" AND ({order}) > ({', '.join('?' * len(after))})"
            values = after
        for row in self.reader.stream(f"{sql} ORDER BY {order}", values):
            yield self._stored(row) if part.table == "uow_stores" else row

    def _stored(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the record of a store with the place of what it keeps outside made absolute: it stays where it is."""
        name, kind, config, registered_ts = row
        settings = json.loads(config)
        place = _OUTSIDE.get(kind)
        if place in settings:
            settings[place] = os.path.abspath(self._directory / settings[place])  # noqa: PTH100 - resolve() follows links
        return name, kind, json.dumps(settings, sort_keys=True), registered_ts


@contextmanager
def held(path_or_url: str | os.PathLike[str], *, busy_timeout_s: float) -> Iterator[Source]:
    """Bring the ledger in order, then hold it still and lend it.

    Raises:
        UsageError: it is no file, or keeps contract 1.0.0.
        LedgerError: it holds what is not settled, was put back to an earlier state, or cannot be read.
        LedgerBusy: others kept it locked.
    """
    if address_of(path_or_url) is not None:
        raise UsageError(
            "What is copied is a ledger in a SQLite file, and this is an address.",
            hint="Nothing was copied. From one PostgreSQL to another, pg_dump and pg_restore copy a ledger as it is.",
        )
    path = check_path(path_or_url)
    if not path.exists():
        raise UsageError(f"There is no file {path}.", hint="Nothing was copied. Check the path.")
    opened = OpenLedger.open(
        path,
        stores="recorded",
        durability=Durability.FULL,
        origin=None,
        migrate=False,
        busy_timeout=busy_timeout_s,
        limits=None,
        allow_triggers=(),
        recover=False,
        telemetry=TelemetryMode.OFF,
    )
    try:
        _bring_in_order(opened)
        with _locked(opened) as reader:
            _refuse_unsettled(reader, path)
            yield Source(reader, path)
    finally:
        opened.close()


def _bring_in_order(opened: OpenLedger) -> None:
    if opened.rows.basic or opened.log is None:
        raise UsageError(
            f"{opened.engine.place} keeps contract 1.0.0.",
            hint="Nothing was copied. Bring it to 1.1.0 first: memoryos-uow migrate LEDGER.",
        )
    opened.log.refuse_put_back()
    if opened.engine.read_only:
        return
    opened.recovery.run()
    if opened.scrubbing.is_needed():
        opened.scrubbing.run(wait_s=opened.engine.busy_timeout_s)


@contextmanager
def _locked(opened: OpenLedger) -> Iterator[Reader]:
    """Lend a reader that sees one state: nobody else can write while it lasts."""
    if opened.engine.read_only:
        with opened.engine.reader() as reader:
            reader.connection.execute("BEGIN")  # nobody can write through this file; a snapshot all the same
            try:
                yield reader
            finally:
                reader.connection.execute("ROLLBACK")
        return
    tx = opened.engine.begin()
    try:
        yield tx
    finally:
        tx.rollback()


def _refuse_unsettled(reader: Reader, path: Path) -> None:
    """Refuse a ledger with something that only its file's own programs can finish.

    Raises:
        LedgerError: there is something.
    """
    if not _catalog.has_table(reader, "uow_outbox"):
        raise LedgerError(
            f"{path} was never opened with stores, and may not be written.",
            hint="Nothing was copied. Make it writable, or copy the file to where it is; then copy that.",
        )
    for table, what in (
        ("uow_coordination", "units that are at work, or in doubt because a store did not answer"),
        ("uow_redo", "writes that a store outside has still to publish"),
        ("uow_erasing", "erasures of which traces may be left"),
    ):
        count = reader.rows(f"SELECT count(*) FROM {table}")[0][0]  # noqa: S608 - a name from above
        if count:
            raise LedgerError(
                f"{path} has {count:,} {what}.",
                hint="Nothing was copied. Close the programs that use it, run `memoryos-uow recover`, then copy again.",
            )
