"""The database that becomes the ledger: empty at first, a copy under way, and then whole.

How: while the table ``uow_copying`` is there, the ledger is a copy under way (`_unfinished`). It has one row for each
part with the key of the last row written, and is changed in the same transaction as the rows: what is killed goes on
behind it, and two that copy at once are told so. The row called ``''`` says what is copied, and of which state.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from memoryos_uow import _catalog, _migrations_postgres, _opening, _receipt_tree
from memoryos_uow._copying import own_tables
from memoryos_uow._copying.tables import PARTS
from memoryos_uow._migrations import Kind
from memoryos_uow._names import Durability, address_of
from memoryos_uow._unfinished_copy import MARKER
from memoryos_uow.engines._pg_errors import translate
from memoryos_uow.engines.postgres import PostgresEngine
from memoryos_uow.errors import ConflictError, LedgerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from memoryos_uow._copying.source import Identity, Source
    from memoryos_uow._copying.tables import Part
    from memoryos_uow.abc import Reader
    from memoryos_uow.engines._contract import EngineTransaction

_MARK: Final = f"CREATE TABLE {MARKER} (name TEXT PRIMARY KEY, through TEXT, rows BIGINT NOT NULL)"
_STREAMS_FROM: Final = 2**62
_BLOCKS: Final = {"writes": "uow_writes", "outbox": "uow_outbox"}


class Target:
    """The database that is copied to."""

    def __init__(self, engine: PostgresEngine) -> None:
        self.engine = engine
        self.place = engine.place

    @classmethod
    def open(cls, address: object, *, busy_timeout_s: float) -> Target:
        """Connect to the database at `address`.

        Raises:
            UsageError: it is no address.
            LedgerError: the server is out of reach, or can only be read.
        """
        url = address_of(address)
        if url is None:
            raise UsageError(
                "A ledger is copied to the address of a PostgreSQL database.",
                hint='Nothing was copied. For example "postgresql://user@host/database". A file is copied as a file.',
            )
        engine = PostgresEngine.open(url, durability=Durability.FULL, busy_timeout_s=busy_timeout_s)
        if engine.read_only:
            engine.close()
            raise LedgerError(
                f"{engine.place} can only be read: it is a replica.",
                hint="Nothing was copied. Give the address of the primary server.",
            )
        return cls(engine)

    # Beginning

    def begin(self, source: Source) -> bool:
        """Get ready to be written to; return False if this is a whole copy already.

        Raises:
            UsageError: it holds another ledger, a copy of another one, or this one and it has gone on since.
        """
        with self.engine.reader() as reader:
            state = _migrations_postgres.inspect(reader.connection, place=self.place)
            _migrations_postgres.refuse_unfit(state, place=self.place)
            under_way = _catalog.has_table(reader, MARKER)
            if not under_way and state.kind is not Kind.NEW:
                self._refuse_other(reader, source, current=state.kind is Kind.CURRENT)
                return False
        if not under_way:
            self._in_one(lambda tx: self._mark(tx, source))
        else:
            self._refuse_other_copy(source.identity)
        with self.engine.reader() as reader:
            _migrations_postgres.migrate_up(
                reader.connection,
                place=self.place,
                origin=source.identity.origin,
                busy_timeout_s=self.engine.busy_timeout_s,
            )
        self._in_one(lambda tx: self._prepare(tx, source))
        return True

    def _refuse_other(self, reader: Reader, source: Source, *, current: bool) -> None:
        held = reader.rows("SELECT ledger_id FROM uow_identity") if current else []
        if held != [(source.identity.ledger_id,)]:
            raise UsageError(
                f"{self.place} holds a ledger already.",
                hint="Nothing was copied. Give the address of an empty database, or of a schema of its own"
                " (?options=-csearch_path%3Dname).",
            )
        if _receipt_tree.root(reader).hex() != source.root:
            raise UsageError(
                f"{self.place} is a copy of this ledger, and one of the two has gone on since.",
                hint="Nothing was copied. To copy anew, empty the database: units that only it has are lost then.",
            )

    @staticmethod
    def _mark(tx: EngineTransaction, source: Source) -> None:
        tx.execute(_MARK)
        tx.execute(f"INSERT INTO {MARKER} (name, through, rows) VALUES ('', ?, 0)", (source.state(),))  # noqa: S608

    def _refuse_other_copy(self, identity: Identity) -> None:
        with self.engine.reader() as reader:
            [(state,)] = reader.rows(f"SELECT through FROM {MARKER} WHERE name = ''")  # noqa: S608
        if json.loads(state)[0] != identity.ledger_id:
            raise UsageError(
                f"{self.place} holds an unfinished copy of another ledger.",
                hint="Nothing was copied. Finish that one, or give the address of an empty database.",
            )

    def _prepare(self, tx: EngineTransaction, source: Source) -> None:
        """Be the source's ledger, with its tables; where the source has changed since the last run, without rows."""
        begun = {name for (name,) in tx.rows(f"SELECT name FROM {MARKER} FOR UPDATE")}  # noqa: S608
        if tx.rows(f"SELECT through FROM {MARKER} WHERE name = ''") != [(source.state(),)]:  # noqa: S608
            tables = [part.table for part in PARTS] + [name for name in begun if name.startswith('"')]
            tx.execute(f"TRUNCATE {', '.join(tables)}")
            tx.execute(f"DELETE FROM {MARKER} WHERE name <> ''")  # noqa: S608
            tx.execute(f"UPDATE {MARKER} SET through = ? WHERE name = ''", (source.state(),))  # noqa: S608
        tx.execute("UPDATE uow_identity SET ledger_id = ?, origin = ?, created_ts = ?", source.identity)
        for table in source.own:
            own_tables.make(tx, table, begun=table.part().table in begun)
        for part in source.parts:
            tx.execute(
                f"INSERT INTO {MARKER} (name, rows) VALUES (?, 0) ON CONFLICT DO NOTHING",  # noqa: S608
                (part.table,),
            )

    # Rows

    def progress(self) -> dict[str, tuple[list[Any] | None, int]]:
        """Return by part the key of the last row that is here, and how many are."""
        with self.engine.reader() as reader:
            found = reader.rows(f"SELECT name, through, rows FROM {MARKER} WHERE name <> ''")  # noqa: S608
        return {name: (None if through is None else json.loads(through), rows) for name, through, rows in found}

    def write(self, part: Part, rows: Sequence[tuple[Any, ...]], *, after: list[Any] | None, begun: int) -> list[Any]:
        """Write rows that come behind the key `after`, `begun` rows of the part; return the key of the last one.

        Raises:
            ConflictError: another process copies at the same time.
            UsageError: a value cannot be stored here.
        """
        through = list(part.key_of(rows[-1]))
        columns = ", ".join(map(part.name, part.columns))

        def work(tx: EngineTransaction) -> None:
            moved = tx.execute(
                f"UPDATE {MARKER} SET through = ?, rows = rows + ? WHERE name = ? AND through IS ?",  # noqa: S608
                (json.dumps(through), len(rows), part.table, None if after is None else json.dumps(after)),
            )
            if moved != 1:
                raise ConflictError(
                    f"Another process copies to {self.place} as well.", hint="Nothing is lost. Let that one finish."
                )
            self._copy(
                tx, f"COPY {part.table} ({columns}) FROM STDIN", rows, where=f"{part.table} behind row {begun:,}"
            )

        self._in_one(work, relaxed=True)
        return through

    def _copy(self, tx: EngineTransaction, statement: str, rows: Sequence[tuple[Any, ...]], *, where: str) -> None:
        try:
            with tx.connection.cursor() as cursor, cursor.copy(statement) as copy:
                for row in rows:
                    copy.write_row(row)
        except Exception as error:
            state = getattr(error, "sqlstate", "")
            if state == "":  # none of the driver's
                raise
            if state is None or state[:2] == "22":
                # Not which record: its key is for nobody to see where its band says so.
                raise UsageError(
                    f"One of the {len(rows):,} rows of {where} holds a value that PostgreSQL cannot keep"
                    f" ({type(error).__name__}): the character U+0000 in a text, a number that is too large, or one"
                    " type where another is declared.",
                    hint="Change it in the source, then copy again: what was copied stays.",
                ) from error
            raise translate(error, self.place, with_values=True) from error

    def rows(self, part: Part) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a part in the order of its key, all of one state."""
        columns = ", ".join(map(part.name, part.columns))
        order = ", ".join(map(part.name, part.key))
        with self.engine.reader() as reader:
            yield from reader.stream(f"SELECT {columns} FROM {part.table} ORDER BY {order}")  # noqa: S608

    # The end

    def forget_progress(self, identity: Identity) -> None:
        """Have the next run begin anew."""
        of_no_state = json.dumps([identity.ledger_id])
        self._in_one(lambda tx: tx.execute(f"UPDATE {MARKER} SET through = ? WHERE name = ''", (of_no_state,)))  # noqa: S608

    def set_up_stores(self) -> None:
        """Make what the stores need beside their rows, such as indexes for searching."""
        registry = _opening.check_stores(_opening.RECORDED)
        try:
            if _opening.attach_stores(self.engine, registry, recorded=True):
                _opening.set_up_stores(self.engine, registry)
        finally:
            registry.close()

    def finish(self) -> None:
        """Be a ledger that can be opened: numbers go on behind those that are here."""

        def work(tx: EngineTransaction) -> None:
            for name, table in _BLOCKS.items():
                tx.execute(
                    "UPDATE uow_blocks SET next = greatest(next, (SELECT coalesce(max(id), 0) + 1"  # noqa: S608
                    f" FROM {table} WHERE id < {_STREAMS_FROM})) WHERE name = ?",
                    (name,),
                )
            tx.execute(f"DROP TABLE {MARKER}")

        self._in_one(work)

    def _in_one(self, work: Callable[[EngineTransaction], object], *, relaxed: bool = False) -> None:
        tx = self.engine.begin(relaxed=relaxed)
        try:
            work(tx)
            tx.commit()
        finally:
            tx.rollback()

    def close(self) -> None:
        """Close every connection."""
        self.engine.close()
